//! The certificates that Envoy holds, as its admin page shows them. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::pki::{Cert, Error};

/// The page that shows them; private keys are blotted out in it.
pub(crate) const SECRETS: &str = "/config_dump?resource=dynamic_active_secrets";

/// What a proxy shows its peers, and by what it judges them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// Its own certificate first, then those that lead towards a root.
    pub(crate) chain: Vec<Cert>,
    /// The roots it trusts.
    pub(crate) roots: Vec<Cert>,
}

/// Reads the page; what the proxy has not been given yet is empty.
pub(crate) fn read_certificates(body: &[u8]) -> Result<Certificates, Error> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let secrets = answer["configs"].as_array();
    let secret = |name: &str| {
        let mut all = secrets.into_iter().flatten();
        all.find(|secret| secret["name"] == name)
            .map(|secret| &secret["secret"])
    };
    let certs = |data: Option<&Value>| match data.and_then(bytes) {
        Some(pem) => Cert::from_pem(&pem),
        None => Ok(vec![]),
    };
    Ok(Certificates {
        chain: certs(secret("default").map(|s| &s["tls_certificate"]["certificate_chain"]))?,
        roots: certs(secret("ROOTCA").map(|s| &s["validation_context"]["trusted_ca"]))?,
    })
}

/// A data source of Envoy's, as far as it is inline.
fn bytes(source: &Value) -> Option<Vec<u8>> {
    let inline = source["inline_bytes"].as_str();
    let decoded = inline.and_then(|text| STANDARD.decode(text).ok());
    decoded.or_else(|| Some(source["inline_string"].as_str()?.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    use super::*;

    #[test]
    fn both_secrets_are_read_however_they_are_written() {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::default().self_signed(&key).unwrap();
        let pem = pem.pem();
        let page = json!({"configs": [
            {"name": "kubernetes://other", "secret": {}},
            {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": {"inline_string": pem}}}},
            {"name": "default", "secret": {"tls_certificate": {"certificate_chain":
                {"inline_bytes": STANDARD.encode(&pem)}}}},
        ]});
        let read = |page: &Value| read_certificates(page.to_string().as_bytes());
        let found = read(&page).unwrap();
        assert_eq!((found.chain.len(), &found.chain), (1, &found.roots));
        let none = read(&json!({"configs": []})).unwrap();
        assert_eq!(none, Certificates::default());
        let broken = json!({"configs": [{"name": "ROOTCA",
            "secret": {"validation_context": {"trusted_ca": {"inline_string": "no"}}}}]});
        assert!(read(&broken).is_err());
    }
}
