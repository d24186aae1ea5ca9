//! Those who sign: the root of a mesh, and the intermediate of each cluster.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::{CertificateParams, Issuer, PublicKeyData, SerialNumber};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    Cert, CertFacts, Error, Key, Profile,
    chain::leads,
    pem,
    profile::Fill,
    read::{self, short},
};
use crate::{
    digest::sha256_hex,
    name::{ClusterName, MeshId},
    spec::{Authority, KeyType, Mesh},
};

/// A root with less than this left signs no more intermediates.
const LEAST_LEFT: i64 = 24 * 3600;

/// What a new root shall be.
#[derive(Debug, Clone)]
pub(crate) struct NewRoot<'a> {
    /// The mesh it will be the root of.
    pub mesh: &'a MeshId,
    /// Kind of its key.
    pub key: KeyType,
    /// How long it lives.
    pub lifetime: Duration,
    /// Whether it belongs to embedded clusters; its subject then says so for ever.
    pub embedded: bool,
    /// What it says.
    pub profile: &'a Profile,
    /// The time.
    pub now: Timestamp,
}

/// What a new intermediate shall be.
#[derive(Debug, Clone)]
pub(crate) struct NewIntermediate<'a> {
    /// The mesh.
    pub mesh: &'a MeshId,
    /// The cluster whose istiod will sign with it.
    pub cluster: &'a ClusterName,
    /// The namespace of that istiod.
    pub namespace: &'a str,
    /// Further DNS names that may stand in certificates of that cluster.
    pub names: &'a [String],
    /// Kind of its key.
    pub key: KeyType,
    /// How long it lives, if the root lives that long.
    pub lifetime: Duration,
    /// Who signs makes it live exactly so long; else that is the most.
    pub is_exact: bool,
    /// The trust domain of the identities that it is for.
    pub trust_domain: &'a str,
    /// What it says.
    pub profile: &'a Profile,
    /// The time.
    pub now: Timestamp,
}

impl<'a> NewIntermediate<'a> {
    /// As a mesh file asks for it.
    pub(crate) fn of(
        mesh: &'a Mesh,
        cluster: &'a ClusterName,
        profile: &'a Profile,
        now: Timestamp,
    ) -> Self {
        Self {
            mesh: &mesh.id,
            cluster,
            namespace: &mesh.istio.namespace,
            names: &mesh.trust.dns_names,
            key: mesh.trust.key,
            lifetime: mesh.trust.intermediate_lifetime,
            is_exact: mesh.trust.authority == Authority::Vault,
            trust_domain: mesh.trust_domain.as_str(),
            profile,
            now,
        }
    }

    /// The DNS names it will permit.
    pub(crate) fn permitted(&self) -> Vec<String> {
        self.profile.permitted(self.fill(""), self.names).collect()
    }

    /// What a certificate for this key says, without a serial number and dates.
    pub(super) fn params(&self, key: &impl PublicKeyData, embedded: bool) -> CertificateParams {
        let tag = tag(key);
        self.profile.params(self.fill(&tag), self.names, embedded)
    }

    fn fill<'f>(&'f self, tag: &'f str) -> Fill<'f> {
        let (mesh, cluster) = (self.mesh.as_str(), self.cluster.as_str());
        Fill {
            mesh,
            cluster,
            namespace: self.namespace,
            tag,
        }
    }
}

/// A root: certificate and key.
#[derive(Debug)]
pub(crate) struct Root {
    pair: Pair,
}

/// An intermediate: certificate, key, the certificates between it and its root, and that root.
#[derive(Debug)]
pub(crate) struct Intermediate {
    pair: Pair,
    between: Vec<Cert>,
    root: Cert,
}

#[derive(Debug)]
struct Pair {
    cert: Cert,
    key: Key,
}

impl Pair {
    /// Puts a certificate and its key together, and only those that belong together.
    fn of(cert: Cert, key: Key) -> Result<Self, Error> {
        let subject = cert.facts().subject.clone();
        if cert.public_key().as_deref() != Some(rcgen::PublicKeyData::der_bytes(&key)) {
            return Err(Error::Mismatch { subject });
        }
        if !cert.facts().is_ca {
            return Err(Error::NotAnAuthority { subject });
        }
        Ok(Self { cert, key })
    }
}

impl Root {
    /// Makes a root that nobody has seen before.
    pub(crate) fn create(new: &NewRoot<'_>) -> Result<Self, Error> {
        let key = Key::generate(new.key)?;
        let serial = serial()?;
        let tag = tag(&key);
        let fill = Fill {
            mesh: new.mesh.as_str(),
            tag: &tag,
            ..Fill::default()
        };
        let mut params = new.profile.params(fill, &[], new.embedded);
        let backdate = new.profile.backdate_seconds().unwrap_or_default();
        let now = new.now.as_second();
        date(&mut params, now - backdate, after(now, new.lifetime))?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let cert = params.self_signed(&key).map_err(|source| Error::Sign {
            subject: tag,
            source,
        })?;
        Ok(Self {
            pair: Pair::of(Cert::from_der(cert.der())?, key)?,
        })
    }

    /// A certificate that may sign, root or not, and its key.
    pub(crate) fn of(cert: Cert, key: Key) -> Result<Self, Error> {
        Pair::of(cert, key).map(|pair| Self { pair })
    }

    /// Takes up a root that was made before.
    pub(crate) fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            pair: Pair::of(only(Cert::from_pem(cert)?)?, Key::from_pem(key)?)?,
        })
    }

    /// Takes up a root that somebody else has made: its certificate and its key, in one text.
    pub(crate) fn from_bundle(text: &[u8]) -> Result<Self, Error> {
        let fail = |reason: &str| Error::ReadCertificate {
            reason: reason.into(),
        };
        let (mut certs, mut keys) = (vec![], vec![]);
        for block in pem::blocks(text).map_err(fail)? {
            match block.label.as_str() {
                "CERTIFICATE" => certs.push(Cert::from_der(&block.der)?),
                label => keys.push(Key::from_pem(pem::encode(label, &block.der).as_bytes())?),
            }
        }
        let (Some(key), true) = (keys.pop(), keys.is_empty()) else {
            return Err(Error::ReadKey {
                reason: "of the root is to stand beside its certificate in one file, once".into(),
            });
        };
        let pair = Pair::of(only(certs)?, key)?;
        match pair.cert.signed_by(&pair.cert) {
            true => Ok(Self { pair }),
            false => Err(fail("is not that of a root: another has signed it")),
        }
    }

    /// The same root once more.
    pub(crate) fn copy(&self) -> Result<Self, Error> {
        Self::from_pem(
            self.cert().to_pem().as_bytes(),
            self.key().to_pem()?.as_bytes(),
        )
    }

    /// Makes an intermediate below this root, with a new key.
    pub(crate) fn issue(&self, new: &NewIntermediate<'_>) -> Result<Intermediate, Error> {
        let key = Key::generate(new.key)?;
        let cert = self.certify(&key, new, self.facts().embedded)?;
        Ok(Intermediate {
            pair: Pair::of(cert, key)?,
            between: vec![],
            root: self.pair.cert.clone(),
        })
    }

    /// Makes the certificate of an intermediate that has this key.
    pub(crate) fn certify(
        &self,
        public: &impl PublicKeyData,
        new: &NewIntermediate<'_>,
        embedded: bool,
    ) -> Result<Cert, Error> {
        let root = self.facts();
        let now = new.now.as_second();
        if root.not_after.as_second() - now < LEAST_LEFT || new.now < root.not_before {
            return Err(Error::RootNotValid {
                subject: root.subject.clone(),
                until: root.not_after,
            });
        }
        if let Some(name) = new.permitted().into_iter().find(|name| !is_dns(name)) {
            return Err(Error::Name { name });
        }
        let serial = serial()?;
        let mut params = new.params(public, embedded);
        let backdate = new.profile.backdate_seconds().unwrap_or_default();
        let from = (now - backdate).max(root.not_before.as_second());
        date(
            &mut params,
            from,
            after(now, new.lifetime).min(root.not_after.as_second()),
        )?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let fail = |source| Error::Sign {
            subject: new.cluster.to_string(),
            source,
        };
        let der = self.pair.cert.der().into();
        let issuer = Issuer::from_ca_cert_der(&der, &self.pair.key).map_err(fail)?;
        let cert = params.signed_by(public, &issuer).map_err(fail)?;
        Cert::from_der(cert.der())
    }

    /// The certificate.
    pub(crate) fn cert(&self) -> &Cert {
        &self.pair.cert
    }

    /// The key.
    pub(crate) fn key(&self) -> &Key {
        &self.pair.key
    }

    /// What stands in the certificate.
    pub(crate) fn facts(&self) -> &CertFacts {
        self.pair.cert.facts()
    }
}

impl Intermediate {
    /// Takes up an intermediate that was made before, and only if it leads to one of these roots. Its certificate comes
    /// first, then those between it and its root.
    pub(crate) fn from_pem(certs: &[u8], key: &[u8], roots: &[Cert]) -> Result<Self, Error> {
        Self::of(Cert::from_pem(certs)?, Key::from_pem(key)?, roots)
    }

    /// From its certificate and those between it and its root, and its key.
    pub(crate) fn of(certs: Vec<Cert>, key: Key, roots: &[Cert]) -> Result<Self, Error> {
        let mut certs = certs.into_iter();
        let cert = certs.next().ok_or_else(|| Error::ReadCertificate {
            reason: "holds no certificate".into(),
        })?;
        let pair = Pair::of(cert, key)?;
        let between: Vec<_> = certs.collect();
        let found = roots.iter().find(|root| leads(&pair.cert, &between, root));
        match found {
            Some(root) => Ok(Self {
                root: root.clone(),
                between,
                pair,
            }),
            None => Err(Error::OtherRoot {
                subject: pair.cert.facts().subject.clone(),
            }),
        }
    }

    /// The certificate.
    pub(crate) fn cert(&self) -> &Cert {
        &self.pair.cert
    }

    /// Its certificate and those between it and its root, as PEM.
    pub(crate) fn chain(&self) -> String {
        self.pair.cert.to_pem() + &read::bundle(&self.between)
    }

    /// The root it leads to.
    pub(crate) fn root(&self) -> &Cert {
        &self.root
    }

    /// The key.
    pub(crate) fn key(&self) -> &Key {
        &self.pair.key
    }

    /// What stands in the certificate.
    pub(crate) fn facts(&self) -> &CertFacts {
        self.pair.cert.facts()
    }

    /// What its istiod is to be given, trusting its own root.
    pub(crate) fn cacerts(&self) -> Result<Cacerts, Error> {
        self.cacerts_trusting([&self.root])
    }

    /// What its istiod is to be given, trusting these roots: more than one while roots change.
    pub(crate) fn cacerts_trusting<'a>(
        &self,
        roots: impl IntoIterator<Item = &'a Cert>,
    ) -> Result<Cacerts, Error> {
        Ok(Cacerts {
            ca_key: self.pair.key.to_pem()?,
            // Without the root: istiod appends its roots itself, and would send it twice.
            cert_chain: self.chain(),
            ca_cert: self.pair.cert.to_pem(),
            root_cert: read::bundle(roots),
        })
    }
}

/// The contents of the Secret `cacerts`, in the names istiod reads.
pub(crate) struct Cacerts {
    /// `ca-cert.pem`: what istiod signs with.
    pub ca_cert: String,
    /// `ca-key.pem`: its key.
    pub ca_key: Zeroizing<String>,
    /// `cert-chain.pem`: from the signing certificate upwards, without the root.
    pub cert_chain: String,
    /// `root-cert.pem`: whom to trust.
    pub root_cert: String,
}

impl Cacerts {
    /// The files by name, as they are.
    pub(crate) fn files(&self) -> [(&'static str, &str); 4] {
        [
            ("ca-cert.pem", &self.ca_cert),
            ("ca-key.pem", &self.ca_key),
            ("cert-chain.pem", &self.cert_chain),
            ("root-cert.pem", &self.root_cert),
        ]
    }

    /// The `data` of the Secret: base64 by name. Holds the key; not for logs.
    pub(crate) fn secret_data(&self) -> BTreeMap<&'static str, Zeroizing<String>> {
        let encode = |text: &str| Zeroizing::new(STANDARD.encode(text));
        self.files()
            .into_iter()
            .map(|(name, text)| (name, encode(text)))
            .collect()
    }
}

impl Cacerts {
    /// The same as JSON.
    pub(crate) fn data(&self) -> serde_json::Map<String, serde_json::Value> {
        let data = self.secret_data();
        let data = data.iter();
        data.map(|(file, text)| ((*file).to_owned(), text.as_str().into()))
            .collect()
    }
}

impl std::fmt::Debug for Cacerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cacerts(..)")
    }
}

fn only(mut certs: Vec<Cert>) -> Result<Cert, Error> {
    match (certs.pop(), certs.is_empty()) {
        (Some(cert), true) => Ok(cert),
        _ => Err(Error::ReadCertificate {
            reason: "holds more than one certificate".into(),
        }),
    }
}

/// Names of the letters, digits and dashes DNS is made of; others have no place in a constraint.
fn is_dns(name: &str) -> bool {
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// 128 random bits as text: no two runs have the same.
pub(crate) fn random_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::Generate {
        algorithm: "random id".into(),
    })?;
    Ok(hex::encode(bytes))
}

/// 126 random bits: positive, and of the same length for everybody.
fn serial() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::Generate {
        algorithm: "serial number".into(),
    })?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes)
}

/// What a certificate is told from others of its kind by: the beginning of its key's fingerprint, as texts show it.
fn tag(key: &impl PublicKeyData) -> String {
    let fingerprint = sha256_hex(&key.subject_public_key_info());
    short(&fingerprint).to_owned()
}

fn after(now: i64, lifetime: Duration) -> i64 {
    now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

fn date(params: &mut CertificateParams, from: i64, until: i64) -> Result<(), Error> {
    let moment = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Lifetime { seconds: until })
    };
    params.not_before = moment(from)?;
    params.not_after = moment(until)?;
    Ok(())
}
