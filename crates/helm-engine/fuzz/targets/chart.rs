//! Charts: a template, a file of helpers, default values, a schema and the chart's head, rendered whole.

#![no_main]

use helm_engine::{Chart, images, to_yaml};
use helm_engine_fuzz::{begin, file, joined, parts, rendered};
use serde_json::json;

libfuzzer_sys::fuzz_target!(
    init: begin("chart", |seeds| {
        seeds.quoted(concat!(env!("CARGO_MANIFEST_DIR"), "/../src"), |text| {
            text.contains("{{").then(|| joined(&[text, "{{ define \"x\" }}{{ .a }}{{ end }}", "a: {b: [1, x, null]}\n"]))
        });
        seeds.add(joined(&[
            "kind: Service\nmetadata:\n  name: {{ .Values.name | quote }}\n  annotations: {helm.sh/hook: test}\n",
            "{{ define \"name\" }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}",
            "name: a\nports: [80, 443]\n",
            "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\", \"pattern\": \"^a\"}}, \"required\": [\"name\"]}",
            "kubeVersion: '>=1.28-0'\ntype: application\n",
        ]));
    }),
    |data: &[u8]| {
        let Some([template, helpers, values, schema, head]) = parts::<5>(data) else {
            return;
        };
        let mut files = vec![
            file("Chart.yaml", &format!("name: app\nversion: 1.0.0\napiVersion: v2\n{head}")),
            file("values.yaml", values),
            file("templates/a.yaml", template),
            file("templates/_h.tpl", helpers),
            file("templates/NOTES.txt", "{{ .Values }}{{ .Files.Get \"README.md\" | len }}"),
            file("README.md", values),
        ];
        if !schema.is_empty() {
            files.push(file("values.schema.json", schema));
        }
        let Ok(chart) = Chart::from_files(files, "fuzz") else {
            return;
        };
        let Ok(rendered) = rendered(&chart, &json!({"set": {"n": 3, "l": [1, 2.5]}})) else {
            return;
        };
        let text = rendered.text();
        assert!(text.len() + rendered.notes.len() < 4 << 30);
        for manifest in &rendered.manifests {
            let _ = to_yaml(&manifest.object);
        }
        let _ = images(&rendered);
    }
);
