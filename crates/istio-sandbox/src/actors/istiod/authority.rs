//! istiod's signing certificate, and what Envoy makes of the certificates it signs.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// A certificate as bytes.
pub(crate) type Der = Vec<u8>;

/// How long a workload's certificate lives.
const LIFETIME: time::Duration = time::Duration::hours(24);
/// The keys of `cacerts`, all of which must be there or none.
const FILES: [&str; 4] = [
    "ca-cert.pem",
    "ca-key.pem",
    "cert-chain.pem",
    "root-cert.pem",
];

/// A certificate with the chain that a proxy presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) chain: Vec<Der>,
    /// When its agent asks for the next one, in seconds since 1970.
    pub(crate) renewal: i64,
}

/// What one istiod signs with.
pub(crate) struct Authority {
    /// The trust bundle exactly as it was given.
    pub(crate) roots_pem: String,
    pub(crate) roots: BTreeSet<Der>,
    /// The signing certificate, and after it those between it and a root.
    chain: Vec<Der>,
    issuer: Issuer<'static, KeyPair>,
    /// Whether it came from `cacerts`.
    pub(crate) plugged: bool,
}

/// What became of a changed `cacerts`.
pub(crate) enum Reload {
    Taken(Box<Authority>),
    /// Kept the old one; the words istiod logs.
    Refused(String),
}

impl Authority {
    /// From the Secret `cacerts`; refuses what istiod refuses, which is also what has ended by `now`.
    pub(crate) fn plugged(secret: &Value, now: i64) -> Result<Self, String> {
        let files: Vec<Option<String>> = FILES.iter().map(|f| file(secret, f)).collect();
        let [Some(cert), Some(key), Some(chain), Some(root)] = files.as_slice() else {
            let missing: Vec<&str> = FILES
                .iter()
                .zip(&files)
                .filter(|(_, f)| f.is_none())
                .map(|(n, _)| *n)
                .collect();
            return Err(format!(
                "incomplete signing CA bundle: missing {}",
                missing.join(", ")
            ));
        };
        Self::new((cert, key, chain, root), true, now)
    }

    /// From the Secret istiod keeps its own root in.
    pub(crate) fn own(secret: &Value, now: i64) -> Result<Self, String> {
        let cert = file(secret, "ca-cert.pem").ok_or("istio-ca-secret has no ca-cert.pem")?;
        let key = file(secret, "ca-key.pem").ok_or("istio-ca-secret has no ca-key.pem")?;
        Self::new((&cert, &key, "", &cert), false, now)
    }

    fn new(
        (cert, key, chain, roots_pem): (&str, &str, &str, &str),
        plugged: bool,
        now: i64,
    ) -> Result<Self, String> {
        let key =
            KeyPair::from_pem(key).map_err(|e| format!("failed to parse private key PEM: {e}"))?;
        let mut all = certificates(cert)?;
        all.truncate(1);
        let signer = all
            .first()
            .ok_or("ca-cert.pem holds no certificate")?
            .clone();
        let (_, parsed) =
            X509Certificate::from_der(&signer).map_err(|e| format!("ca-cert.pem: {e}"))?;
        if !parsed.is_ca() {
            return Err("certificate is not authorized to sign other certificates".into());
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("the cert does not match the key".into());
        }
        all.extend(certificates(chain)?.into_iter().filter(|c| *c != signer));
        let roots: BTreeSet<Der> = certificates(roots_pem)?.into_iter().collect();
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(signer), key)
            .map_err(|e| e.to_string())?;
        let new = Self {
            roots_pem: roots_pem.into(),
            roots,
            chain: all,
            issuer,
            plugged,
        };
        if !verifies(&new.chain, &new.roots, now) {
            return Err("cannot verify the cert with the provided root chain and cert pool".into());
        }
        Ok(new)
    }

    /// What istiod does when `cacerts` changes under it.
    pub(crate) fn reload(&self, secret: &Value, multiroot: bool, now: i64) -> Reload {
        let new = match Self::plugged(secret, now) {
            Ok(new) => new,
            Err(why) => {
                return Reload::Refused(format!("Failed to update new Plug-in CA certs: {why}"));
            }
        };
        if new.roots != self.roots && !multiroot {
            return Reload::Refused(
                "Multi root is disabled, updating new ROOT-CA not supported".into(),
            );
        }
        if !new.roots.is_subset(&self.roots) && !new.roots.is_superset(&self.roots) {
            return Reload::Refused("Updating new ROOT-CA not supported".into());
        }
        Reload::Taken(Box::new(new))
    }

    /// When the first of its roots ends, and when what it signs with ends, in seconds.
    pub(crate) fn ends(&self) -> (Option<i64>, Option<i64>) {
        let end = |der: &Der| {
            let (_, cert) = X509Certificate::from_der(der).ok()?;
            Some(cert.validity().not_after.timestamp())
        };
        let roots = certificates(&self.roots_pem).unwrap_or_default();
        let chain = self.chain.iter().filter_map(end).min();
        (roots.first().and_then(end), chain)
    }

    /// Whether clients with these roots accept istiod's own serving certificate.
    pub(crate) fn serves(&self, roots: &BTreeSet<Der>, now: i64) -> bool {
        verifies(&self.chain, roots, now)
    }

    /// A workload certificate for a SPIFFE identity. istiod signs also with what has ended since it started.
    pub(crate) fn issue(&self, identity: &str, at: i64) -> Result<Leaf, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = time::OffsetDateTime::from_unix_timestamp(at)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        params.not_before = now - time::Duration::minutes(2);
        params.not_after = now + LIFETIME;
        let leaf = params.signed_by(&KeyPair::generate()?, &self.issuer)?;
        let mut chain = vec![leaf.der().to_vec()];
        chain.extend(self.chain.iter().cloned());
        // An agent asks again when half of it is over.
        let renewal = at + LIFETIME.whole_seconds() / 2;
        Ok(Leaf { chain, renewal })
    }
}

/// A root of istiod's own, as the Secret it keeps it in.
pub(crate) fn own_secret(namespace: &str, trust_domain: &str) -> Result<Value, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, trust_domain);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let cert = params.self_signed(&key)?;
    let data = json!({"ca-cert.pem": STANDARD.encode(cert.pem()), "ca-key.pem": STANDARD.encode(key.serialize_pem())});
    Ok(
        json!({"apiVersion": "v1", "kind": "Secret", "type": "istio.io/ca-root", "data": data,
        "metadata": {"name": "istio-ca-secret", "namespace": namespace}}),
    )
}

fn file(secret: &Value, name: &str) -> Option<String> {
    let text = secret["data"][name].as_str()?;
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

/// Every certificate of a PEM text.
pub(crate) fn certificates(pem: &str) -> Result<Vec<Der>, String> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes());
    found
        .map(|c| {
            c.map(|c| c.to_vec())
                .map_err(|e| format!("not a PEM certificate: {e}"))
        })
        .collect()
}

/// Whether the first certificate of a chain leads to one of the roots, as Envoy judges it at this time.
pub(crate) fn verifies(chain: &[Der], roots: &BTreeSet<Der>, now: i64) -> bool {
    let Some(mut current) = chain.first() else {
        return false;
    };
    if roots.contains(current) {
        return true;
    }
    // How many certificates of authorities are below the next one.
    let mut below = 0;
    loop {
        if roots.iter().any(|root| signed(current, root, (below, now))) {
            return true;
        }
        let Some(next) = chain
            .iter()
            .find(|c| *c != current && signed(current, c, (below, now)))
        else {
            return false;
        };
        if below > chain.len() {
            return false;
        }
        (current, below) = (next, below + 1);
    }
}

fn signed(child: &Der, parent: &Der, (below, now): (usize, i64)) -> bool {
    let (Ok((_, child)), Ok((_, parent))) = (
        X509Certificate::from_der(child),
        X509Certificate::from_der(parent),
    ) else {
        return false;
    };
    let room = parent.basic_constraints().ok().flatten().is_some_and(|c| {
        c.value.ca
            && c.value
                .path_len_constraint
                .is_none_or(|max| below <= max as usize)
    });
    let may_sign = parent
        .key_usage()
        .ok()
        .flatten()
        .is_none_or(|u| u.value.key_cert_sign());
    let is_valid = |cert: &X509Certificate<'_>| {
        let at = ASN1Time::from_timestamp(now);
        at.is_ok_and(|at| cert.validity().is_valid_at(at))
    };
    let in_time = is_valid(&child) && is_valid(&parent);
    let named = child.issuer().as_raw() == parent.subject().as_raw();
    named
        && room
        && may_sign
        && in_time
        && child.verify_signature(Some(parent.public_key())).is_ok()
}

#[cfg(test)]
mod tests {
    use rcgen::CertifiedIssuer;

    use super::*;

    const DAY: i64 = 24 * 3600;

    /// A `cacerts` whose intermediate ends after so many days since 1970, as does nothing else.
    fn cacerts(days: i64) -> Value {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.not_before = time::OffsetDateTime::UNIX_EPOCH;
            params
        };
        let root =
            CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
        let (key, mut params) = (KeyPair::generate().unwrap(), authority("intermediate"));
        params.not_after = time::OffsetDateTime::from_unix_timestamp(days * DAY).unwrap();
        let cert = params.signed_by(&key, &root).unwrap().pem();
        let files = [cert.clone(), key.serialize_pem(), cert, root.pem()];
        let data = FILES.iter().zip(files);
        let data = data.map(|(name, text)| ((*name).to_owned(), STANDARD.encode(text).into()));
        json!({"data": data.collect::<serde_json::Map<_, _>>()})
    }

    #[test]
    fn what_has_ended_is_not_started_with_and_signs_what_nobody_accepts() {
        let (ends, before) = (cacerts(100), 99 * DAY);
        let runs = Authority::plugged(&ends, before).unwrap();
        let accepted = |leaf: &Leaf, at| verifies(&leaf.chain, &runs.roots, at);
        let leaf = runs.issue("spiffe://x", before).unwrap();
        assert!(accepted(&leaf, before) && runs.serves(&runs.roots, before));
        // Its own day is over, and then that of the intermediate.
        assert!(!accepted(&leaf, before + DAY + 1));
        let after = 100 * DAY + 1;
        let late = runs.issue("spiffe://x", after).unwrap();
        assert!(!accepted(&late, after) && !runs.serves(&runs.roots, after));
        assert!(Authority::plugged(&ends, after).is_err());
        assert!(matches!(
            runs.reload(&ends, true, after),
            Reload::Refused(_)
        ));
    }

    #[test]
    fn another_intermediate_with_one_root_more_is_taken_also_after_the_end() {
        let ends = cacerts(100);
        let runs = Authority::plugged(&ends, 99 * DAY).unwrap();
        let (mut fresh, spare) = (cacerts(200), cacerts(300));
        let bundle = |secret: &Value| file(secret, "root-cert.pem").unwrap();
        let all = [&ends, &fresh, &spare].map(bundle).concat();
        fresh["data"]["root-cert.pem"] = STANDARD.encode(all).into();
        let Reload::Taken(new) = runs.reload(&fresh, true, 101 * DAY) else {
            panic!("a set that holds all of the old one is taken");
        };
        assert!(new.serves(&new.roots, 101 * DAY));
    }
}
