//! What certificates of the two profiles look like, for people to read under `certs/`.

use std::fmt::Write as _;

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::kit::{new_intermediate, root};
use crate::{pki::Cert, spec::KeyType};

/// A certificate as text, without what is another in each of them.
fn dump(cert: &Cert) -> String {
    let (_, parsed) = X509Certificate::from_der(cert.der()).unwrap();
    let facts = cert.facts();
    let life = facts.not_after.as_second() - facts.not_before.as_second();
    let (days, hours) = (life / (24 * 3600), life % (24 * 3600) / 3600);
    let mut text = String::new();
    let mut line = |text_of: String| writeln!(text, "{text_of}").unwrap();
    line(format!("version: {}", parsed.version()));
    line(format!(
        "serial number: {} random bytes",
        parsed.raw_serial().len()
    ));
    line(format!("subject: {}", untagged(&facts.subject)));
    line(format!("issuer: {}", untagged(&facts.issuer)));
    line(format!("life: {days} days and {hours} hours"));
    line(format!("key: {}", facts.algorithm));
    line(format!("signature: {}", facts.signature));
    for extension in parsed.extensions() {
        let critical = if extension.critical { ", critical" } else { "" };
        line(format!(
            "extension {}{critical}: {}",
            extension.oid,
            value(extension.oid.to_id_string().as_str(), cert)
        ));
    }
    text
}

fn untagged(name: &str) -> String {
    let (rest, tag) = name.rsplit_once(' ').unwrap();
    assert!(
        tag.len() == 12 && tag.bytes().all(|b| b.is_ascii_hexdigit()),
        "{name}"
    );
    format!("{rest} <tag>")
}

fn value(oid: &str, cert: &Cert) -> String {
    let facts = cert.facts();
    let id = |id: &Option<String>| format!("{} bytes", id.as_ref().unwrap().len() / 2);
    match oid {
        "2.5.29.14" => format!("subject key identifier, {}", id(&facts.subject_key_id)),
        "2.5.29.35" => format!("authority key identifier, {}", id(&facts.authority_key_id)),
        "2.5.29.15" => format!("key usage {}", facts.key_usage.as_ref().unwrap().join(" ")),
        "2.5.29.19" => format!(
            "basic constraints, authority {}, path length {}",
            facts.is_ca,
            facts.path_length.unwrap()
        ),
        "2.5.29.30" => format!(
            "name constraints, permitted {}",
            facts.name_constraints.as_ref().unwrap().permitted.join(" ")
        ),
        other => panic!("an extension nobody asked for: {other}"),
    }
}

#[test]
fn certificates_look_as_the_dumps_under_certs_say() {
    let root = root();
    let made = root
        .issue(&new_intermediate("east", KeyType::P256))
        .unwrap();
    insta::with_settings!({
        snapshot_path => "../../../certs",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("root", dump(root.cert()));
        insta::assert_snapshot!("intermediate", dump(made.cert()));
    });
}
