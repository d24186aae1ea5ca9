//! What istiod or the proxies would choke on in a Secret `cacerts`, said before they do.
//!
//! Behaviour followed: istiod's `security/pkg/pki/util/keycertbundle.go` and `bootstrap/istio_ca.go`,
//! Go's `crypto/x509` below them, and what Envoy verifies when leaves meet.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Algorithm, Cert, CertFacts, Error, Key,
    chain::{self, Broken, Unfit},
    pem,
};

/// Contents of a Secret `cacerts` by file name.
pub(crate) type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The `data` of a Secret, decoded.
pub(crate) fn secret_files(data: &Value) -> Result<Files, Error> {
    let entries = data.as_object().into_iter().flatten();
    let decode = |(name, value): (&String, &Value)| {
        let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
        let fail = || Error::ReadCertificate {
            reason: format!("in {name} is not base64"),
        };
        bytes
            .map(|bytes| (name.clone(), Zeroizing::new(bytes)))
            .ok_or_else(fail)
    };
    entries.map(decode).collect()
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It works, and somebody should know.
    Warning,
    /// istiod will not start or not reload, or proxies will not trust what it signs.
    Refused,
}

/// One problem of a Secret `cacerts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// Stable name, for programs.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What is wrong and what to do, for people.
    pub text: String,
}

/// The signing certificate, the chain, the roots, and what is wrong with them.
#[derive(Default)]
pub(crate) struct Examined {
    pub(crate) signer: Option<Cert>,
    pub(crate) chain: Vec<Cert>,
    pub(crate) roots: Vec<Cert>,
    pub(crate) problems: Vec<Problem>,
}

/// Everything that is wrong with a Secret `cacerts`, by its files; empty if all is well.
pub(crate) fn check_cacerts<N: AsRef<str>, T: AsRef<[u8]>>(
    files: impl IntoIterator<Item = (N, T)>,
    now: Timestamp,
) -> Vec<Problem> {
    examine(files, now).problems
}

pub(crate) fn examine<N: AsRef<str>, T: AsRef<[u8]>>(
    files: impl IntoIterator<Item = (N, T)>,
    now: Timestamp,
) -> Examined {
    let files: Vec<_> = files.into_iter().collect();
    let file = |name: &str| {
        files
            .iter()
            .find(|(have, _)| have.as_ref() == name)
            .map(|(_, bytes)| bytes.as_ref())
    };
    let mut found = Examined::default();
    let Some(names) = found.format(|name| file(name).is_some()) else {
        return found;
    };
    let [cert, key, chain, root] = names.map(|name| (name, file(name).unwrap_or_default()));
    found.signer = found.certs(cert).into_iter().next();
    found.roots = found.certs(root);
    // A root that signs by itself needs no chain, and then istiod takes an empty file.
    if !chain.1.trim_ascii().is_empty() || !found.signer_is_root() {
        found.chain = found.certs(chain);
    }
    found.key(key);
    found.way(now);
    found.order();
    if let Some(crl) = file("ca-crl.pem") {
        found.revocations(crl);
    }
    found.warnings(now);
    found
}

/// The names of certificate, key, chain and root in istiod's own format, and in that of Kubernetes.
const ISTIO: [&str; 4] = [
    "ca-cert.pem",
    "ca-key.pem",
    "cert-chain.pem",
    "root-cert.pem",
];
const TLS: [&str; 4] = ["tls.crt", "tls.key", "tls.crt", "ca.crt"];

impl Examined {
    fn say(&mut self, severity: Severity, code: &'static str, text: impl Into<String>) {
        self.problems.push(Problem {
            code,
            severity,
            text: text.into(),
        });
    }

    fn refuse(&mut self, code: &'static str, text: impl Into<String>) {
        self.say(Severity::Refused, code, text);
    }

    fn warn(&mut self, code: &'static str, text: impl Into<String>) {
        self.say(Severity::Warning, code, text);
    }

    /// Which of the two formats it is; istiod prefers the second where `tls.crt` exists.
    fn format(&mut self, has: impl Fn(&str) -> bool) -> Option<[&'static str; 4]> {
        let names = if has("tls.crt") { TLS } else { ISTIO };
        let mut missing: Vec<_> = names.into_iter().filter(|name| !has(name)).collect();
        missing.dedup();
        if names == ISTIO && missing.len() == names.len() {
            self.refuse("empty", "holds none of ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem: istiod would make a root of its own");
            return None;
        }
        if !missing.is_empty() {
            self.refuse(
                "partial",
                format!(
                    "lacks {}: istiod refuses to start with half a set",
                    missing.join(", ")
                ),
            );
            return None;
        }
        if names == TLS && has("ca-cert.pem") {
            self.warn(
                "two-formats",
                "holds tls.crt beside ca-cert.pem: istiod reads tls.crt and ignores the rest",
            );
        }
        Some(names)
    }

    fn certs(&mut self, (name, bytes): (&str, &[u8])) -> Vec<Cert> {
        Cert::from_pem(bytes).unwrap_or_else(|error| {
            self.refuse("unreadable", format!("{name}: {error}"));
            Vec::new()
        })
    }

    fn key(&mut self, (name, bytes): (&str, &[u8])) {
        let key = match Key::from_pem(bytes) {
            Ok(key) => key,
            Err(error) => return self.refuse("key-unreadable", format!("{name}: {error}")),
        };
        let Some(signer) = &self.signer else { return };
        if signer.public_key().as_deref() != Some(rcgen::PublicKeyData::der_bytes(&key)) {
            let subject = signer.facts().subject.clone();
            self.refuse(
                "key-mismatch",
                format!("{name} is not the key of {subject:?}"),
            );
        }
    }

    /// The signing certificate must lead to a root, and all on the way must be of use to Envoy.
    fn way(&mut self, now: Timestamp) {
        let Some(signer) = self.signer.clone() else {
            return;
        };
        match chain::lead(&signer, &self.chain, &self.roots, now) {
            Ok(way) => {
                for cert in &way {
                    self.proxies_verify(cert.facts());
                }
                self.outlives(&way);
            }
            Err(broken) => {
                self.proxies_verify(signer.facts());
                self.refuse(code(&broken), broken.to_string());
            }
        }
        for cert in self.chain.clone() {
            let facts = cert.facts();
            if now > facts.not_after && !self.problems.iter().any(|p| p.code == "expired") {
                self.refuse(
                    "expired",
                    format!(
                        "{:?} in the chain expired on {}",
                        facts.subject, facts.not_after
                    ),
                );
            }
        }
    }

    fn signer_is_root(&self) -> bool {
        self.signer
            .as_ref()
            .is_some_and(|signer| self.roots.contains(signer))
    }

    /// Proxies get their leaf, this chain and the roots: what is not in there, peers cannot know.
    fn order(&mut self) {
        let Some(signer) = self.signer.as_ref().filter(|_| !self.chain.is_empty()) else {
            return;
        };
        if self.signer_is_root() || self.chain.first() == Some(signer) {
            return;
        }
        let subject = signer.facts().subject.clone();
        if self.chain.contains(signer) {
            self.warn("chain-order", format!("the chain does not begin with {subject:?}: istiod takes lifetimes from the first certificate"));
        } else {
            self.refuse(
                "signer-not-in-chain",
                format!("the chain lacks {subject:?}, so peers cannot follow it to the root"),
            );
        }
    }

    /// istiod loads revocation lists only if every authority of the chain has signed one.
    fn revocations(&mut self, text: &[u8]) {
        let lists = match pem::blocks(text) {
            Ok(lists) => lists,
            Err(reason) => return self.refuse("crl", format!("ca-crl.pem {reason}")),
        };
        let unlisted = |cert: &&Cert| !lists.iter().any(|list| cert.signed_list(&list.der));
        let without: Vec<_> = self
            .chain
            .iter()
            .filter(unlisted)
            .map(|c| c.facts().subject.clone())
            .collect();
        for subject in without {
            self.refuse("crl", format!("ca-crl.pem holds no revocation list signed by {subject:?}, so istiod loads none and does not start"));
        }
    }

    fn proxies_verify(&mut self, facts: &CertFacts) {
        let subject = &facts.subject;
        match &facts.algorithm {
            Algorithm::P256 | Algorithm::P384 => {}
            Algorithm::Rsa(bits) if *bits >= 2048 => {}
            other => self.refuse("key-type", format!("{subject:?} has a key of type {other}, which Envoy does not verify: use P-256, P-384 or RSA")),
        }
        // sha1WithRSAEncryption, its older twin, ecdsa-with-SHA1 (RFC 3279).
        if ["1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10045.4.1"]
            .contains(&&*facts.signature)
        {
            self.refuse(
                "sha1",
                format!("{subject:?} is signed with SHA-1, which Go and Envoy refuse"),
            );
        }
    }

    fn outlives(&mut self, way: &[Cert]) {
        for (cert, issuer) in way.iter().zip(way.iter().skip(1)) {
            let (cert, issuer) = (cert.facts(), issuer.facts());
            if cert.not_after > issuer.not_after {
                self.warn(
                    "outlives-root",
                    format!(
                        "{:?} outlives its issuer {:?}, which ends on {}",
                        cert.subject, issuer.subject, issuer.not_after
                    ),
                );
            }
        }
    }

    fn warnings(&mut self, now: Timestamp) {
        if let Some(signer) = self.signer.clone() {
            let facts = signer.facts();
            self.soon(facts, now);
            if facts.not_after.as_second() - facts.not_before.as_second() > 2 * 366 * 24 * 3600 {
                self.warn(
                    "long-lived",
                    format!("{:?} is valid for more than two years", facts.subject),
                );
            }
            if !facts.may("cRLSign") {
                self.warn(
                    "no-crl-sign",
                    format!(
                        "{:?} may not sign revocation lists (key usage lacks cRLSign)",
                        facts.subject
                    ),
                );
            }
            if facts.algorithm == Algorithm::Rsa(2048) {
                self.warn(
                    "rsa-2048",
                    format!(
                        "{:?} has an RSA key of 2048 bits: use P-256, or RSA-4096",
                        facts.subject
                    ),
                );
            }
        }
        for root in self.roots.clone() {
            self.soon(root.facts(), now);
        }
        if self
            .chain
            .iter()
            .any(|cert| cert.facts().self_issued() && self.roots.contains(cert))
        {
            self.warn("root-in-chain", "the chain holds the root: istiod adds it anyway, so every handshake sends it twice");
        }
    }

    fn soon(&mut self, facts: &CertFacts, now: Timestamp) {
        let days = facts.days_left(now);
        let bound = match days {
            0..30 => 30,
            30..60 => 60,
            _ => return,
        };
        self.warn(
            "expires-soon",
            format!(
                "{:?} expires in {days} days, within {bound}: on {}",
                facts.subject, facts.not_after
            ),
        );
    }
}

fn code(broken: &Broken) -> &'static str {
    match broken {
        Broken::NoIssuer { .. } | Broken::Tangled => "no-way-to-root",
        Broken::Unfit { why, .. } => match why {
            Unfit::Expired(_) => "expired",
            Unfit::NotYetValid(_) => "not-yet-valid",
            Unfit::NotAnAuthority => "not-an-authority",
            Unfit::NoKeyCertSign => "no-key-cert-sign",
            Unfit::PathLength { .. } => "path-length",
            Unfit::ExtendedKeyUsage => "extended-key-usage",
        },
    }
}
