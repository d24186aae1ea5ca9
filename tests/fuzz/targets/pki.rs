//! Certificates: DER, PEM, a whole Secret, and the profiles that certificates are made from.

#![no_main]

use helm_engine_fuzz::begin;
use meshlink::fuzzing;

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
        match kind {
            b'd' => fuzzing::certificate(rest),
            b'p' => fuzzing::pem_file(rest),
            b'k' => fuzzing::private_key(rest),
            b't' => fuzzing::profile(&String::from_utf8_lossy(rest)),
            _ => fuzzing::cacerts(rest),
        }
    }
);
