//! Helm's release records: as a Secret, as the JSON inside it, and as text that somebody else rendered.

#![no_main]

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use helm_engine::release::{Record, outdated};
use helm_engine_fuzz::begin;
use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(
    init: begin("release", |seeds| {
        let record = json!({"name": "r", "namespace": "n", "version": 1, "info": {"status": "deployed", "description": "d", "notes": "n"},
            "config": {"a": 1}, "manifest": "---\n# Source: a\nkind: A\nmetadata: {name: x}\n", "chart": {"metadata": {"name": "c", "version": "1.0.0"}}});
        seeds.add(format!("j{record}"));
        seeds.add(format!("s{}", secret(&record.to_string().into_bytes())));
        seeds.add("m---\nkind: A\nmetadata:\n  annotations: {helm.sh/hook: test, helm.sh/hook-weight: \"1\"}\n--- # x\nkind: B\n");
    }),
    |data: &[u8]| {
        let Some((kind, rest)) = data.split_first() else {
            return;
        };
        let secret = match kind {
            b's' => serde_json::from_slice(rest).unwrap_or_default(),
            b'm' => {
                let manifest = String::from_utf8_lossy(rest);
                secret(json!({"name": "r", "version": 1, "info": {}, "manifest": manifest}).to_string().as_bytes())
            }
            b'g' => json!({"metadata": {"name": "x"}, "data": {"release": STANDARD.encode(STANDARD.encode(rest))}}),
            _ => secret(rest),
        };
        let Ok(mut record) = Record::from_secret(&secret) else {
            return;
        };
        let _ = record.manifests();
        let written = record.to_secret(Some(1), None).expect("a record can be written");
        let again = Record::from_secret(&written).expect("what was written can be read");
        assert_eq!((&again.name, &again.manifest, again.status), (&record.name, &record.manifest, record.status));
        record.failed("fuzz");
        record.superseded();
        let both = [record, again];
        let _ = outdated(&both, 1);
    }
);

fn secret(record: &[u8]) -> Value {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(record).expect("a gzip");
    let packed = STANDARD.encode(encoder.finish().expect("a gzip"));
    json!({"metadata": {"name": "x", "namespace": "n", "labels": {"owner": "helm"}}, "data": {"release": STANDARD.encode(packed)}})
}
