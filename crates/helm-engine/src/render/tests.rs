//! Whole charts: what templates share, what they are refused, and that nothing makes them stop the program.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::File;

fn file(name: &str, text: &str) -> File {
    File {
        name: name.to_owned(),
        data: text.as_bytes().to_vec(),
    }
}

fn chart(files: &[(&str, &str)]) -> Chart {
    let head = file(
        "Chart.yaml",
        "name: app\nversion: 1.0.0\napiVersion: v2\nkubeVersion: '>=1.28-0'\n",
    );
    let files = std::iter::once(head).chain(files.iter().map(|(name, text)| file(name, text)));
    Chart::from_files(files.collect(), "test").unwrap()
}

const RELEASE: Release<'static> = Release {
    name: "rel",
    namespace: "ns",
    revision: 1,
    is_upgrade: false,
};

fn rendered(files: &[(&str, &str)], values: &Value) -> Result<Rendered, Error> {
    render(&chart(files), values, &RELEASE, &Capabilities::default())
}

fn fault(files: &[(&str, &str)]) -> Fault {
    match rendered(files, &json!({})) {
        Err(Error::Template(fault)) => *fault,
        other => panic!("{other:?}"),
    }
}

/// The way official charts nest their defaults: the last file by name runs first and changes what the others see.
#[test]
fn what_one_template_sets_the_next_one_reads() {
    let files = [
        (
            "values.yaml",
            "_defaults:\n  hub: official\n  env: {A: one}\n",
        ),
        (
            "templates/zzz.yaml",
            "{{- $defaults := .Values._defaults }}{{- $_ := unset .Values \"_defaults\" }}{{- $_ := set $ \"Values\" (mustMergeOverwrite $defaults $.Values) }}",
        ),
        (
            "templates/a.yaml",
            "kind: ConfigMap\nmetadata: {name: a}\ndata:\n  hub: {{ .Values.hub }}\n  {{- range $k, $v := .Values.env }}\n  {{ $k }}: {{ $v | quote }}\n  {{- end }}\n",
        ),
    ];
    let rendered = rendered(&files, &json!({"env": {"B": "two"}})).unwrap();
    assert_eq!(rendered.manifests.len(), 1);
    assert_eq!(
        rendered.manifests[0].object["data"],
        json!({"hub": "official", "A": "one", "B": "two"})
    );
    assert_eq!(rendered.manifests[0].source, "app/templates/a.yaml");
}

#[test]
fn charts_inside_see_their_own_values() {
    let files = [
        ("values.yaml", "global: {g: 1}\nsub: {x: outer}\n"),
        (
            "templates/a.yaml",
            "kind: A\nmetadata: {name: '{{ .Subcharts.sub.Values.x }}'}\n",
        ),
        ("charts/sub/Chart.yaml", "name: sub\nversion: 0.1.0\n"),
        ("charts/sub/values.yaml", "x: inner\nz: 2\n"),
        (
            "charts/sub/templates/b.yaml",
            "kind: B\nmetadata: {name: '{{ .Values.x }}-{{ .Values.z }}-{{ .Values.global.g }}-{{ .Chart.Name }}'}\n",
        ),
        (
            "charts/lib/Chart.yaml",
            "name: lib\nversion: 0.1.0\ntype: library\n",
        ),
        (
            "charts/lib/templates/_l.tpl",
            "{{ define \"lib\" }}from lib{{ end }}",
        ),
        (
            "charts/lib/templates/never.yaml",
            "kind: {{ fail \"never\" }}",
        ),
        ("templates/NOTES.txt", "{{ include \"lib\" . }}"),
    ];
    let rendered = rendered(&files, &json!({})).unwrap();
    let names: Vec<_> = rendered
        .manifests
        .iter()
        .map(|manifest| manifest.object["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["outer", "outer-2-1-sub"]);
    assert_eq!(rendered.notes, "from lib");
}

#[test]
fn a_refusal_names_its_place_and_the_way_there() {
    let fault = fault(&[
        (
            "templates/_t.tpl",
            "{{ define \"inner\" }}\n  {{ fail (printf \"no %s\" \"way\") }}\n{{ end }}",
        ),
        ("templates/a.yaml", "a: 1\nb: {{ include \"inner\" . }}\n"),
    ]);
    assert!(fault.refused);
    assert_eq!(
        (
            fault.file.as_str(),
            fault.line,
            fault.column,
            fault.reason.as_str()
        ),
        ("app/templates/_t.tpl", 2, 6, "no way")
    );
    assert_eq!(fault.via, ["app/templates/a.yaml:2"]);
    assert_eq!(
        fault.to_string(),
        "chart app: app/templates/_t.tpl:2:6: no way, reached from app/templates/a.yaml:2"
    );
}

#[test]
fn a_failure_names_the_value_it_stumbled_over() {
    let fault = fault(&[("templates/a.yaml", "x: {{ .Values.a.b.c }}\n")]);
    assert_eq!(
        (fault.value.as_deref(), fault.line, fault.refused),
        (Some(".Values.a.b.c"), 1, false)
    );
    let fault = self::fault(&[("templates/a.yaml", "x: {{ .Values.n | trunc 3 }}\n")]);
    assert!(
        fault.reason.contains("error calling trunc") && fault.expression == "trunc 3",
        "{fault:?}"
    );
    let fault = self::fault(&[("templates/a.yaml", "\n{{ nosuch 1 }}")]);
    assert_eq!(
        (fault.line, fault.reason.as_str()),
        (2, "function \"nosuch\" not defined")
    );
}

#[test]
fn a_chart_for_another_kubernetes_is_refused() {
    let old = Capabilities {
        kube_version: "v1.20.0".into(),
        ..Capabilities::default()
    };
    let error = render(&chart(&[]), &json!({}), &RELEASE, &old)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("incompatible with Kubernetes v1.20.0"),
        "{error}"
    );
}

#[test]
fn a_key_that_is_there_twice_is_told() {
    let rendered = rendered(
        &[(
            "templates/a.yaml",
            "kind: A\nmetadata:\n  labels: {x: a, x: b}\n",
        )],
        &json!({}),
    )
    .unwrap();
    assert_eq!(rendered.manifests[0].object["metadata"]["labels"]["x"], "b");
    assert!(
        rendered.warnings[0].contains("a.yaml") && rendered.warnings[0].contains("\"x\""),
        "{:?}",
        rendered.warnings
    );
}

#[test]
fn lookup_asks_whoever_is_there() {
    let chart = chart(&[(
        "templates/NOTES.txt",
        "{{ (lookup \"v1\" \"Secret\" \"ns\" \"s\").data.k }}",
    )]);
    let lookup = |version: &str, kind: &str, namespace: &str, name: &str| {
        Ok(json!({"data": {"k": format!("{version} {kind} {namespace} {name}")}}))
    };
    let options = Options {
        lookup: Some(&lookup),
        ..Options::default()
    };
    let rendered = render_with(
        &chart,
        &json!({}),
        &RELEASE,
        &Capabilities::default(),
        &options,
    )
    .unwrap();
    assert_eq!(rendered.notes, "v1 Secret ns s");
    let refuse = |_: &str, _: &str, _: &str, _: &str| Err("forbidden".to_owned());
    let options = Options {
        lookup: Some(&refuse),
        ..Options::default()
    };
    assert!(
        render_with(
            &chart,
            &json!({}),
            &RELEASE,
            &Capabilities::default(),
            &options
        )
        .unwrap_err()
        .to_string()
        .contains("forbidden")
    );
}

/// Two lists that hold themselves twice, and again, forty times over.
fn doubled(then: &str) -> String {
    format!(
        "{{{{ $x := list 1 }}}}{{{{ $y := list 1 }}}}{{{{ range until 40 }}}}{{{{ $x = list $x $x }}}}{{{{ $y = list $y $y }}}}{{{{ end }}}}{{{{ {then} }}}}"
    )
}

/// Each would run for ever, or take all memory, or overrun the stack.
#[test]
fn endless_charts_come_to_an_end() {
    for template in [
        "{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}",
        "{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}",
        "{{ define \"x\" }}{{ tpl \"{{ include \\\"x\\\" . }}\" . }}{{ end }}{{ include \"x\" . }}",
        &format!(
            "{{{{ define \"x\" }}}}{{{{ {}include \"x\" .{} }}}}{{{{ end }}}}{{{{ include \"x\" . }}}}",
            "(".repeat(90),
            ")".repeat(90)
        ),
        "{{ range until 1000000 }}{{ range until 1000000 }}{{ end }}{{ end }}",
        "{{ $x := \"xxxxxxxxxxxxxxxx\" }}{{ range until 60 }}{{ $x = printf \"%s%s\" $x $x }}{{ end }}",
        "{{ $x := list 1 }}{{ range until 60 }}{{ $x = concat $x $x }}{{ end }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ toYaml $d }}{{ $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ mustToYaml $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ merge $d (deepCopy $d) }}",
        "{{ $x := list }}{{ range until 300000 }}{{ $x = list $x }}{{ end }}{{ $x }}",
        "{{ $x := list }}{{ $y := list }}{{ range until 100000 }}{{ $x = list $x }}{{ $y = list $y }}{{ end }}{{ deepEqual $x $y }}{{ fail \"end\" }}",
        "{{ regexMatch \"(a*)*(b*)*(c*)*\" (repeat 1000000 \"a\") }}{{ range until 1000 }}{{ regexMatch \"(a|a)*b\" (repeat 100000 \"a\") }}{{ end }}",
        "{{ printf \"%999999999d\" 1 }}",
        "{{ repeat 1000000000 \"x\" }}",
        "{{ \"x\" | indent 1000000000 }}",
        "{{ untilStep 0 1000000000 1 }}",
        // Values that hold themselves, met by what walks through them.
        "{{ $d := dict }}{{ $e := dict }}{{ $_ := set $d \"x\" $d }}{{ $_ := set $e \"x\" $e }}{{ deepEqual $d $e }}",
        "{{ $d := dict }}{{ $e := dict }}{{ $_ := set $d \"x\" $d }}{{ $_ := set $e \"x\" $e }}{{ has $d (list $e) }}",
        "{{ $d := dict }}{{ $_ := set $d \"x\" $d }}{{ printf \"%d\" $d }}",
        // Small values that would be large written out.
        &doubled("printf \"%v\" $x"),
        &doubled("printf \"%d\" $x"),
        &doubled("toYaml $x"),
        &doubled("toPrettyJson $x"),
        &doubled("deepCopy $x | len"),
        &doubled("deepEqual $x $y"),
        &doubled("without (list $x) $y | len"),
        &doubled("list $x $y | uniq | len"),
        "{{ $t := repeat 16000000 \"x\" }}{{ $l := list }}{{ range until 1000 }}{{ $l = append $l $t }}{{ end }}{{ join \"\" $l | len }}",
        "{{ $t := repeat 16000000 \"x\" }}{{ $l := list }}{{ range until 1000 }}{{ $l = append $l $t }}{{ end }}{{ toJson $l | len }}",
        "{{ join (repeat 16000000 \"x\") (until 1000000) | len }}",
        "{{ printf \"%.1000000d\" (until 1000000) | len }}",
        // Much work at the price of a step.
        "{{ range until 1000000 }}{{ range 1000000 }}{{ break }}{{ end }}{{ $.Values | len }}{{ range until 1000000 }}{{ break }}{{ end }}{{ end }}",
        "{{ $t := repeat 16000000 \"x\" }}{{ range until 1000000 }}{{ $_ := contains \"y\" $t }}{{ end }}",
        "{{ trimAll (repeat 16000000 \"yz\" | trunc 16000000) (repeat 16000000 \"x\") | len }}{{ fail \"end\" }}",
        "{{ $t := repeat 100000 \"a\" }}{{ range until 1000 }}{{ $_ := regexMatch \"(a{100}){10}b\" $t }}{{ end }}",
        "{{ regexFindAll \"a.*b|a\" (repeat 200000 \"a\") -1 | len }}",
        "{{ $l := splitList \"\" (repeat 16000000 \"x\") }}{{ $l = splitList \"\" (repeat 16000000 \"x\") }}{{ len $l }}",
        "{{ range until 1000000 }}{{ $_ := tpl (repeat 1000 \"{{ 1 }}\") $ }}{{ end }}",
        &format!("{{{{ fail \"end\" }}}}{}", "{{ $x := 1 }}".repeat(2_000)),
    ] {
        let error = rendered(&[("templates/NOTES.txt", template)], &json!({}));
        assert!(
            matches!(error, Err(Error::Template(_))),
            "{template}: {error:?}"
        );
    }
}

fn words() -> impl Strategy<Value = String> {
    let pieces = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        "/*",
        "*/",
        "if",
        "else",
        "else if",
        "end",
        "range",
        "with",
        "define \"x\"",
        "template \"x\"",
        "include \"x\"",
        "$x",
        ":=",
        "=",
        ".",
        ".Values",
        ".Values.a.b",
        "(",
        ")",
        "|",
        "\"",
        "`",
        "'",
        "\\",
        " ",
        "\n",
        "1",
        "-1",
        "1.5",
        "nil",
        "true",
        "toYaml",
        "fromYaml",
        "tpl",
        "dict",
        "list",
        "index",
        "printf \"%d\"",
        "set",
        "merge",
        "quote",
        "nindent 2",
        "until",
        "repeat",
        "substr",
        "trunc",
        "splitn",
        "slice",
        "regexFind",
        "semverCompare",
        "toDate",
        "dig",
        "é",
        "😀",
        "\u{85}",
        "a: ",
        "- ",
        "break",
        "continue",
        "block \"b\"",
        "and",
        "or",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40)
        .prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_template_stops_the_program(text in words()) {
        let result = rendered(&[("templates/a.yaml", &text)], &json!({"a": {"b": [1, "x", null]}}));
        let stopped = matches!(&result, Err(Error::Package { reason, .. }) if reason.contains("unexpectedly"));
        prop_assert!(!stopped, "{result:?}");
    }

    #[test]
    fn no_text_stops_the_reader(text in "[ -~\n\t:{}\\[\\]\"'|>&*!%@`#,?-]{0,80}") {
        let _ = crate::yaml::documents(&text);
        let _ = crate::values::set_path(&mut serde_json::Map::new(), &text);
    }

    #[test]
    fn what_is_written_is_read_back(text in "\\PC{0,60}", key in "[a-z0-9_.]{1,12}") {
        let value = json!({"k": {&key: [text.clone(), {"v": text}]}});
        let printed = crate::yaml::write(&value).unwrap();
        prop_assert_eq!(crate::yaml::document(&printed).unwrap(), value, "{}", printed);
    }

    #[test]
    fn no_archive_stops_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut archive = vec![0x1f, 0x8b, 8, 0];
        archive.extend(bytes);
        prop_assert!(Chart::from_archive(&archive).is_err());
    }
}
