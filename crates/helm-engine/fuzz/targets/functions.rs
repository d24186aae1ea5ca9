//! Functions of templates: a name on the first line, its arguments as JSON below.

#![no_main]

use helm_engine::Chart;
use helm_engine_fuzz::{begin, file, rendered};
use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(
    init: begin("functions", |seeds| {
        for arguments in ["[]", "[1]", "[\"a b\"]", "[[1,2,1]]", "[{\"a\":1}]", "[-9223372036854775808,3]",
            "[2,\"text\"]", "[\"^a+\",\"aab\",-1]", "[\"^1.2\",\"v1.2.3\"]", "[\"2006-01-02\",\"2024-02-29\"]",
            "[\"a\",\"b\",\"abc\"]", "[5,10,\"some longer text\"]", "[{\"a\":{\"b\":1}},{\"a\":{\"c\":2}}]", "[1.5,0,2]"] {
            seeds.quoted(concat!(env!("CARGO_MANIFEST_DIR"), "/../src/template/functions"), |name| {
                let plain = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric());
                plain.then(|| format!("{name}\n{arguments}").into_bytes())
            });
        }
    }),
    |data: &[u8]| {
        let Some((name, arguments)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else {
            return;
        };
        let Ok(Value::Array(arguments)) = serde_json::from_str(arguments) else {
            return;
        };
        if arguments.len() > 8 || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.') {
            return;
        }
        let given: String = (0..arguments.len()).map(|at| format!(" (index .Values.a {at})")).collect();
        let template = format!(
            "{{{{ $x := {name}{given} }}}}{{{{ $x }}}}{{{{ kindOf $x }}}}{{{{ toJson $x }}}}{{{{ list $x | toYaml }}}}{{{{ printf \"%v %q %d %5.3f\" $x $x $x $x }}}}"
        );
        let files = vec![
            file("Chart.yaml", "name: app\nversion: 1.0.0\n"),
            file("templates/NOTES.txt", &template),
        ];
        let Ok(chart) = Chart::from_files(files, "fuzz") else {
            return;
        };
        let _ = rendered(&chart, &json!({"a": arguments}));
    }
);
