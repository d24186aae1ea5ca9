//! Mesh files: whatever is taken can be written, and what was written says the same.

#![no_main]

use helm_engine_fuzz::begin;
use meshlink::fuzzing;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src");

libfuzzer_sys::fuzz_target!(
    init: begin("spec", |seeds| {
        for path in ["spec", "spec.rs"] {
            seeds.quoted(format!("{SOURCES}/{path}"), |text| text.contains(':').then(|| text.into()));
        }
        seeds.add(fuzzing::example_mesh_file());
    }),
    |data: &[u8]| {
        if let Ok(text) = std::str::from_utf8(data) {
            fuzzing::mesh_file(text);
        }
    }
);
