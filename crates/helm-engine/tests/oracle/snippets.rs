//! Single templates that no official chart holds: functions, YAML texts and mistakes, each judged by Helm.

use std::path::{Path, PathBuf};

use helm_engine::Error;
use serde_json::{Value, json};

use super::{
    cases::{Case, Dice},
    judge,
};

/// A template, and the values text it is rendered with.
struct Snippet {
    template: String,
    values: String,
}

/// Compares what is printed, or why it is refused; says what differs.
pub(crate) fn judge(oracle: &Path, work: &Path, seed: u64) -> Result<(usize, Vec<String>), String> {
    let snippets = all(seed);
    let charts = work.join("snippets");
    let cases = snippets.iter().enumerate();
    let cases: Vec<Case> = cases
        .map(|(at, snippet)| {
            Ok(Case {
                chart: chart(&charts.join(at.to_string()), &snippet.template)?,
                values: snippet.values.clone(),
                name: "x".to_owned(),
                namespace: "x".to_owned(),
                is_upgrade: false,
                kube_version: "v1.36.3".to_owned(),
            })
        })
        .collect::<std::io::Result<_>>()
        .map_err(|error| error.to_string())?;
    let mut differences = Vec::new();
    let mut all = snippets.iter();
    judge::both(oracle, &cases, |_, theirs, ours| {
        let Some(Snippet { template, values }) = all.next() else {
            return;
        };
        let said = match &ours {
            Ok(ours) if theirs.error.is_empty() && ours.notes == theirs.notes => return,
            // What is wrong with a YAML text is worded by whoever reads it.
            Ok(ours) if is_error(&ours.notes) && is_error(&theirs.notes) => return,
            Err(Error::Template(fault)) if theirs.error.contains(&fault.reason) => return,
            Err(Error::Values { .. }) if theirs.error.contains("yaml") => return,
            Ok(ours) => format!("{:?}", ours.notes),
            Err(error) => error.to_string(),
        };
        let theirs = if theirs.error.is_empty() {
            format!("{:?}", theirs.notes)
        } else {
            theirs.error
        };
        differences.push(format!(
            "{template:?} with {values:?}\n    ours  {said}\n    Helm  {theirs}"
        ));
    })?;
    Ok((snippets.len(), differences))
}

fn is_error(notes: &str) -> bool {
    notes.starts_with("{\"Error\":")
}

fn chart(folder: &Path, template: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder.join("templates"))?;
    let metadata = "apiVersion: v2\nname: snippet\nversion: 1.0.0\n";
    std::fs::write(folder.join("Chart.yaml"), metadata)?;
    std::fs::write(folder.join("templates/NOTES.txt"), template)?;
    Ok(folder.to_owned())
}

fn all(seed: u64) -> Vec<Snippet> {
    let mut dice = Dice::new(seed);
    let mut all = Vec::new();
    let mut add = |template: &str, values: String| {
        all.push(Snippet {
            template: template.to_owned(),
            values,
        });
    };
    for template in [BLOCKS, FUNCTIONS].concat() {
        add(template, ascii(&example()));
    }
    for text in NEXT_LINES {
        add("{{ toJson .Values }}", (*text).to_owned());
        let given = json!({ "text": text });
        add("{{ fromYaml .Values.text | toJson }}", ascii(&given));
        add(
            "{{ toYaml .Values.text }}|{{ dict .Values.text 1 | toYaml }}|{{ list .Values.text | toYaml }}",
            ascii(&given),
        );
        add("{{ toToml .Values }}{{ js .Values.text }}", ascii(&given));
    }
    for _ in 0..400 {
        let given = json!({ "v": dice.any(0), "w": dice.any(0) });
        add(
            "{{ toToml .Values }}|{{ toToml .Values.v }}|{{ js .Values.v .Values.w }}",
            ascii(&given),
        );
    }
    all
}

/// JSON in ASCII, but for YAML's escapes, so that no character is read as anything but itself.
fn ascii(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            // As YAML escapes it; JSON would use two.
            out.push_str(&format!("\\U{:08x}", u32::from(c)));
        }
    }
    out
}

fn example() -> Value {
    json!({
        "text": "a 'b' \"c\" <d> & = \\ \n\t\u{1}\u{7f}\u{85}\u{a0}\u{ad}é😀\u{2028}\u{e0001}",
        "n": 5, "f": 1.5, "big": 1e21, "small": 1e-7, "million": 1_000_000.0, "flag": true, "none": null,
        "map": {"b": 1.0, "a": {"x": "y", "deep": {"er": [1, "two"]}}, "": "empty", "a.b": 1, "é": 2, "\n": 3},
        "tables": [{"a": 1}, {"b": {"c": 2}}, {}], "mixed": [{"a": 1, "none": null}, 1, "x", [], {}], "nested": [[1, 2], [{"a": [{"b": 1}], "z": 1}]],
        "empty": {"list": [], "map": {}, "text": ""}, "holes": [1, null],
    })
}

const BLOCKS: &[&str] = &[
    "a\n{{ end }}\nb",
    "{{ if 1 }}a{{ end }}\n{{- end -}} b",
    "{{ else }}",
    "a {{ else if 1 }} b {{ end }}",
    "{{ if 1 }} a",
    "{{ range list 1 }}{{ if . }}{{ end }} a",
    "{{ define \"x\" }} a",
    "{{ if 1 }}a{{ else }}b{{ else }}c{{ end }}",
    "{{ if 1 }}a{{ else }}b{{ else if 2 }}c{{ end }}",
    "{{ define \"x\" }}a{{ else }}b{{ end }}",
    "{{ block \"x\" . }}a{{ else }}b{{ end }}",
    "{{ range list 1 }}a{{ else if 1 }}b{{ end }}",
    "{{ range list }}a{{ else with 1 }}b{{ end }}",
    "{{ if 0 }}a{{ else with 1 }}b{{ end }}",
    "{{ with 0 }}a{{ else if 1 }}b{{ end }}",
    "{{ with 0 }}a{{ else with 1 }}b{{ . }}{{ else }}c{{ end }}",
    "{{ if 0 }}a{{ else if 0 }}b{{ else if 1 }}c{{ else }}d{{ end }}e",
    "{{ if 1 }}{{ define \"x\" }}a{{ end }}{{ end }}",
    "{{ define \"x\" }}{{ define \"y\" }}a{{ end }}{{ end }}",
    "{{ range list 1 2 }}{{ block \"x\" . }}{{ . }}{{ end }}{{ end }}",
    "{{ if 1 }}{{/* {{ end }} */}}{{ \"{{ end }}\" }}{{ end }}",
    "{{- if 1 -}} a {{- else -}} b {{- end -}} c",
    "{{ tpl \"{{ end }}\" . }}",
    "{{ tpl \"{{ if 1 }}\" . }}",
];

const FUNCTIONS: &[&str] = &[
    "{{ js }}",
    "{{ html \"<\" nil 1 2 }}{{ urlquery nil }}{{ html nil }}",
    "{{ js .Values.text }}",
    "{{ js .Values.n .Values.f \"<\" .Values.map.a nil }}",
    "{{ \"a\" | js \"b\" }}",
    "{{ toToml .Values.text }}",
    "{{ toToml .Values }}",
    "{{ .Values.holes | toToml }}",
    "{{ omit .Values \"holes\" | toToml }}",
    "{{ omit .Values \"holes\" | mustToToml }}",
    "{{ .Values.map | toToml }}",
    "{{ .Values.tables | toToml }}",
    "{{ .Values.tables | mustToToml }}",
    "{{ .Values.holes | mustToToml }}",
    "{{ .Values.mixed | toToml }}",
    "{{ .Values.nested | toToml }}",
    "{{ toToml .Values.n }}{{ toToml .Values.f }}{{ toToml .Values.flag }}",
    "{{ toToml .Values.none }}",
    "{{ toToml nil }}",
    "{{ toToml }}",
    "{{ dict \"a\" (dict \"none\" nil) \"b\" (list (dict \"none\" nil \"z\" 1 \"t\" (dict))) | toToml }}",
    "{{ dict \"l\" (list 1 (dict \"a\" nil \"z\" nil)) | toToml }}",
    "{{ dict \"l\" (list 1 (dict \"a\" 1 \"t\" (dict \"b\" 1) \"u\" (list (dict)))) | toToml }}",
    "{{ dict \"i\" 1 \"f\" 1.0 \"g\" 123456789.0 \"h\" 1e100 \"n\" -0.5 | toToml }}",
    "{{ dict \"d\" (mustToDuration \"90m\") \"t\" (toDate \"2006-01-02\" \"2017-12-31\") \"v\" (semver \"1.2.3-a\") | toToml }}",
    "{{ toDate \"2006-01-02\" \"2017-12-31\" | toToml }}{{ semver \"1.2.3\" | toToml }}",
    "{{ dict \"k\" .Capabilities.KubeVersion | toToml }}",
    "{{ dict \"k\" (list 1 .Capabilities.KubeVersion) | toToml }}",
    "{{ dict \"a\" (list list) \"b\" (list (list 1 (list nil))) | toToml }}",
    "{{ dict \"a\" (list list) \"b\" (list (list 1 (list))) | toToml }}",
    "{{ toToml (dict) }}|{{ toToml (list) }}|{{ toToml \"\" }}",
    "{{ toToml .Files }}",
    "{{ toToml .Release }}",
];

/// Texts with the character U+0085, which ends a line in YAML 1.1 and not in 1.2.
const NEXT_LINES: &[&str] = &[
    "a: \"x\u{85}y\"",
    "a: 'x\u{85}y'",
    "a:\n  b: \"x\u{85}y\"\n",
    "a:\n  b: 'x\u{85}  y'\n  c: 1\n",
    "a: \"x \u{85} \u{85} y\"",
    "a: \"\u{85}x\"",
    "a: \"x\u{85}\"",
    "a: '\u{85}\u{85}'",
    "a: \"x\\\u{85}y\"",
    "a: \"x\\Ny\"",
    "a: \"x\\\n  \u{85}y\"",
    "\"a\u{85}b\": 1",
    "{\"a\u{85}b\": 1}",
    "{a: \"x\u{85}y\"}",
    "{a: \"\u{85}x\", b: 'y\u{85}'}",
    "- \"x\u{85}y\"\n- 1",
    "a: x\u{85}y",
    "a: x\u{85}  y",
    "a: x\u{85}b: y",
    "a: |\n  x\u{85}  y\n",
    "a: |\n  x\u{85}y\n",
    "a: >\n  x\u{85}  y\n  z\n",
    "a: |-\n  x\u{85}\u{85}\n",
    "a: 1 # c\u{85}b: 2",
    "# c\u{85}b: 2",
    "a: \"x\u{2028}y\"",
    "{\"a\": \"x\u{2028}y\"}",
    "a: \"x\r\n\u{85}y\"",
    "a: \"x\ry\"",
    "\u{85}a: 1",
    "a: 1\u{85}",
    "a: \"é\u{85}é\"",
    "a: \"---\u{85}--- x\"",
    "a: \"x\u{85}... y\"",
];
