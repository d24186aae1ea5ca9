//! What clusters, proxies and clouds answer, as far as it is read without them: remote secrets, tokens, endpoints, names.

#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kit::begin;
use meshlink::{cluster::access, name::ClusterName, probe};
use serde_json::json;

libfuzzer_sys::fuzz_target!(
    init: begin("answers", |seeds| {
        for folder in ["src/cluster/access", "src/probe", "src/name.rs", "src/aws/arn.rs"] {
            seeds.quoted(folder, |text| Some(text.into()));
        }
        seeds.add("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'https://10.0.0.1'}}]\nusers: [{name: a, user: {token: a.b.c}}]\n");
    }),
    |data: &[u8]| {
        let packed = STANDARD.encode(data);
        for fact in access::parse(&json!({"metadata": {"name": "s"}, "data": {"east": packed}})) {
            let _ = format!("{fact:?}");
        }
        let _ = probe::read_endpoints(data, "east");
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let _ = access::token_facts(text);
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let _ = access::token_facts(&format!("a.{claims}.b"));
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let _ = probe::read_dial(first.parse().unwrap_or(200), rest);
        if let Ok(name) = text.parse::<ClusterName>() {
            assert_eq!(name.as_str(), text);
        }
    }
);
