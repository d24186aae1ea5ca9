//! YAML: what is written reads back as itself.

#![no_main]

use helm_engine::{Chart, to_yaml, values};
use helm_engine_fuzz::{begin, file};
use serde_json::Value;

libfuzzer_sys::fuzz_target!(
    init: begin("yaml", |seeds| {
        seeds.quoted(concat!(env!("CARGO_MANIFEST_DIR"), "/../src"), |text| (text.contains(':') || text.contains("- ")).then(|| text.into()));
    }),
    |data: &[u8]| {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let read = document(text);
        let _ = values::parse(text, "fuzz");
        let Some(value) = read.filter(|value| !value.is_null()) else {
            return;
        };
        let written = to_yaml(&value).expect("what was read can be written");
        assert_eq!(document(&written).as_ref(), Some(&value), "{written}");
    }
);

/// What a chart's lock holds: the first document of its text.
fn document(text: &str) -> Option<Value> {
    let files = vec![
        file("Chart.yaml", "name: app\nversion: 1.0.0\n"),
        file("Chart.lock", text),
    ];
    Chart::from_files(files, "fuzz").ok()?.lock
}
