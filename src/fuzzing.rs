//! What fuzz targets call: each function reads what somebody else wrote, and panics where a rule about it is broken.
//!
//! Compiled for fuzzing alone (`tests/fuzz`), so that nothing needs to be public for it.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    cluster::access,
    name::ClusterName,
    pki::{Cert, Key, Profile, check_cacerts, secret_files},
    probe,
    spec::Mesh,
};

/// A mesh file, and the same text as the names of members: whatever is taken can be written and says the same again.
pub fn mesh_file(text: &str) {
    let names: Vec<String> = text.lines().take(8).map(str::to_owned).collect();
    if let Ok(mesh) = Mesh::named(&names) {
        assert_eq!(again(&mesh), mesh);
    }
    match Mesh::read(text, "mesh.yaml".as_ref()) {
        Ok(mesh) => assert_eq!(again(&mesh), mesh),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

/// A mesh file to begin with.
pub fn example_mesh_file() -> String {
    let mesh = Mesh::named(&["east=eks-1".to_owned(), "west".to_owned()]);
    mesh.expect("two members").to_yaml().expect("a mesh file")
}

fn again(mesh: &Mesh) -> Mesh {
    let text = mesh.to_yaml().expect("a mesh can be written");
    Mesh::read(&text, "mesh.yaml".as_ref()).expect("what was written can be read")
}

/// A certificate in DER: what is taken can be written as PEM and read again.
pub fn certificate(der: &[u8]) {
    let Ok(cert) = Cert::from_der(der) else {
        return;
    };
    let _ = cert.facts().days_left(now());
    let _ = serde_json::to_string(cert.facts());
    let written = cert.to_pem();
    assert_eq!(
        Cert::from_pem(written.as_bytes()).expect("what was written"),
        [cert]
    );
}

/// Certificates or a key in PEM.
pub fn pem_file(text: &[u8]) {
    let _ = (Cert::from_pem(text), Key::from_pem(text));
}

/// A private key in DER, behind each label it may have in PEM.
pub fn private_key(der: &[u8]) {
    for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
        let _ = Key::from_pem(pem(label, der).as_bytes()).map(|key| key.to_pem());
    }
}

/// A certificate profile.
pub fn profile(text: &str) {
    let _ = Profile::read("fuzz", text);
}

/// A `cacerts` Secret whose every file holds the same bytes.
pub fn cacerts(der: &[u8]) {
    let cert = pem("CERTIFICATE", der);
    let files = [
        ("ca-cert.pem", cert.as_str()),
        ("cert-chain.pem", &cert),
        ("root-cert.pem", &cert),
        ("ca-key.pem", &pem("EC PRIVATE KEY", der)),
        ("ca-crl.pem", &pem("X509 CRL", der)),
    ];
    let _ = check_cacerts(files, now());
    let _ = secret_files(&json!({"a": String::from_utf8_lossy(der)}));
}

/// A remote secret's kubeconfig.
pub fn remote_secret(kubeconfig: &[u8]) {
    let packed = STANDARD.encode(kubeconfig);
    for fact in access::parse(&json!({"metadata": {"name": "s"}, "data": {"east": packed}})) {
        let _ = format!("{fact:?}");
    }
}

/// A token, and the claims of one.
pub fn token(text: &str) {
    let _ = access::token_facts(text);
    let _ = access::token_facts(&format!("a.{}.b", URL_SAFE_NO_PAD.encode(text)));
}

/// What a proxy says of its endpoints.
pub fn endpoints(answer: &[u8]) {
    let _ = probe::read_endpoints(answer, "east");
}

/// What a request through the proxies was answered: a status, a line below it the rest.
pub fn dial(answer: &str) {
    let (status, rest) = answer.split_once('\n').unwrap_or((answer, ""));
    let _ = probe::read_dial(status.parse().unwrap_or(200), rest);
}

/// A cluster's name: one that is taken is taken as it is.
pub fn cluster_name(text: &str) {
    if let Ok(name) = text.parse::<ClusterName>() {
        assert_eq!(name.as_str(), text);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}
