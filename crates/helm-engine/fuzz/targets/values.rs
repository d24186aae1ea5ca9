//! Values: paths as on the command line, files laid over each other, and a chart's defaults below them.

#![no_main]

use helm_engine::{Chart, values};
use helm_engine_fuzz::{begin, file, joined, parts};
use serde_json::Map;

libfuzzer_sys::fuzz_target!(
    init: begin("values", |seeds| {
        seeds.quoted(concat!(env!("CARGO_MANIFEST_DIR"), "/../src/values"), |text| {
            Some(joined(&[text, "a: {b: 1}\nsub: {x: null}\n", "a: {b: null, c: [1]}\nglobal: {g: 1}\n", "x: {y: 1}\nglobal: {h: 2}\n"]))
        });
    }),
    |data: &[u8]| {
        let Some([paths, over, defaults, inner]) = parts::<4>(data) else {
            return;
        };
        let mut set = values::parse(over, "fuzz").unwrap_or_default();
        for path in paths.lines() {
            let _ = values::set_path(&mut set, path);
            let _ = values::set_string(&mut set, path);
            let _ = values::set_json(&mut set, path);
        }
        let files = vec![
            file("Chart.yaml", "name: app\nversion: 1.0.0\n"),
            file("values.yaml", defaults),
            file("charts/sub/Chart.yaml", "name: sub\nversion: 1.0.0\n"),
            file("charts/sub/values.yaml", inner),
        ];
        let Ok(chart) = Chart::from_files(files, "fuzz") else {
            return;
        };
        let _ = values::coalesce(&chart, &set);
        let mut both = chart.values.clone();
        values::overlay(&mut both, set);
        let _ = values::coalesce(&chart, &both);
        let _ = values::coalesce(&chart, &Map::new());
    }
);
