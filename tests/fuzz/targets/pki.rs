//! Certificates: DER, PEM, a whole Secret, and the profiles that certificates are made from.

#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use kit::begin;
use meshlink::pki::{Cert, Key, Profile, check_cacerts, secret_files};
use serde_json::json;

libfuzzer_sys::fuzz_target!(
    init: begin("pki", |seeds| {
        let key = rcgen::KeyPair::generate().expect("a key");
        for ca in [rcgen::IsCa::NoCa, rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1))] {
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters");
            params.is_ca = ca;
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
            params.name_constraints = Some(rcgen::NameConstraints {
                permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("svc".to_owned())],
                excluded_subtrees: vec![],
            });
            let cert = params.self_signed(&key).expect("a certificate");
            seeds.add([b"d".as_slice(), cert.der()].concat());
            seeds.add([b"p".as_slice(), cert.pem().as_bytes()].concat());
            seeds.add([b"c".as_slice(), cert.der()].concat());
        }
        seeds.add([b"k".as_slice(), &key.serialize_der()].concat());
        seeds.add(b"t[validity]\nbackdate = \"1h\"\n".as_slice());
    }),
    |data: &[u8]| {
        let Some((kind, rest)) = data.split_first() else {
            return;
        };
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        let pem = |label: &str| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(rest));
        match kind {
            b'd' => {
                if let Ok(cert) = Cert::from_der(rest) {
                    let _ = (cert.facts().days_left(now), serde_json::to_string(cert.facts()));
                    assert_eq!(Cert::from_pem(cert.to_pem().as_bytes()).expect("what was written"), [cert]);
                }
            }
            b'p' => {
                let _ = (Cert::from_pem(rest), Key::from_pem(rest));
            }
            b'k' => {
                let label = ["PRIVATE", "EC PRIVATE", "RSA PRIVATE"];
                for label in label.map(|kind| format!("{kind} KEY")) {
                    let _ = Key::from_pem(pem(&label).as_bytes()).map(|key| key.to_pem());
                }
            }
            b't' => {
                let _ = Profile::read("fuzz", &String::from_utf8_lossy(rest));
            }
            _ => {
                let cert = pem("CERTIFICATE");
                let files = [
                    ("ca-cert.pem", cert.as_str()),
                    ("cert-chain.pem", &cert),
                    ("root-cert.pem", &cert),
                    ("ca-key.pem", &pem("EC PRIVATE KEY")),
                    ("ca-crl.pem", &pem("X509 CRL")),
                ];
                let _ = check_cacerts(files, now);
                let _ = secret_files(&json!({"a": String::from_utf8_lossy(rest)}));
            }
        }
    }
);
