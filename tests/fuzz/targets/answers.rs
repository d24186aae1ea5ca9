//! What clusters, proxies and clouds answer, as far as it is read without them: remote secrets, tokens, endpoints, names.

#![no_main]

use helm_engine_fuzz::begin;
use meshlink::fuzzing;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src");

libfuzzer_sys::fuzz_target!(
    init: begin("answers", |seeds| {
        for path in ["cluster/access", "probe", "name.rs", "aws/arn.rs"] {
            seeds.quoted(format!("{SOURCES}/{path}"), |text| Some(text.into()));
        }
        seeds.add("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'https://10.0.0.1'}}]\nusers: [{name: a, user: {token: a.b.c}}]\n");
    }),
    |data: &[u8]| {
        fuzzing::remote_secret(data);
        fuzzing::endpoints(data);
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        fuzzing::token(text);
        fuzzing::dial(text);
        fuzzing::cluster_name(text);
    }
);
