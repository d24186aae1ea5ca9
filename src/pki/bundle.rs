//! Bundles of authorities that somebody else has written: those an API server is to be known by.
//!
//! They are taken as they are, unlike the mesh's own certificates: one that could not be read in full is still one that
//! clients trust.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    pem,
    read::{Cert, CertFacts},
};
use crate::digest::sha256_hex;

/// One authority of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// SHA-256 of the certificate, in hex.
    pub sha256: String,
    /// What stands in it, where that can be read.
    pub facts: Option<CertFacts>,
    der: Vec<u8>,
}

/// The authorities of several bundles, each once, in their order, and without those that have ended; all of them, where
/// every one has. What is no PEM holds none.
pub(crate) fn anchors<'b>(
    bundles: impl IntoIterator<Item = &'b [u8]>,
    now: Timestamp,
) -> Vec<Anchor> {
    let blocks = bundles
        .into_iter()
        .flat_map(|text| pem::blocks(text).unwrap_or_default());
    let mut known = BTreeSet::new();
    let all: Vec<_> = blocks
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| Anchor {
            sha256: sha256_hex(&block.der),
            facts: Cert::from_der(&block.der).ok().map(|c| c.facts().clone()),
            der: block.der.to_vec(),
        })
        .filter(|anchor| known.insert(anchor.sha256.clone()))
        .collect();
    let valid = |anchor: &&Anchor| anchor.facts.as_ref().is_none_or(|f| f.not_after > now);
    match all.iter().any(|anchor| valid(&anchor)) {
        true => all.iter().filter(valid).cloned().collect(),
        false => all,
    }
}

/// A bundle as PEM.
pub(crate) fn pem_of(anchors: &[Anchor]) -> String {
    let one = |anchor: &Anchor| pem::encode("CERTIFICATE", &anchor.der).as_str().to_owned();
    anchors.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str, until: i32) -> String {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn each_once_and_no_longer_than_it_lives() {
        let now: Timestamp = "2026-11-30T00:00:00Z".parse().unwrap();
        let [old, new, gone] =
            [("a", 2028), ("a", 2036), ("a", 2025)].map(|(n, y)| authority(n, y));
        let names = |bundles: &[&str]| {
            let found = anchors(bundles.iter().map(|b| b.as_bytes()), now);
            let until = |a: &Anchor| {
                a.facts
                    .as_ref()
                    .unwrap()
                    .not_after
                    .strftime("%Y")
                    .to_string()
            };
            found.iter().map(until).collect::<Vec<_>>()
        };
        let both = format!("{old}{new}");
        assert_eq!(names(&[&old, &both]), ["2028", "2036"]);
        assert_eq!(names(&[&new, &both, &gone]), ["2036", "2028"]);
        assert_eq!(names(&[&gone]), ["2025"], "there is no other");
        assert!(names(&["", "no PEM"]).is_empty());
        let written = pem_of(&anchors([both.as_bytes()], now));
        assert_eq!(
            anchors([written.as_bytes()], now),
            anchors([both.as_bytes()], now)
        );
    }

    #[test]
    fn what_cannot_be_read_is_trusted_as_before() {
        let odd = pem::encode("CERTIFICATE", b"no certificate");
        let found = anchors([odd.as_bytes()], Timestamp::UNIX_EPOCH);
        assert_eq!((found.len(), &found[0].facts), (1, &None));
        assert_eq!(pem_of(&found), *odd);
    }
}
