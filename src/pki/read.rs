//! Certificates as facts: what stands in them, parsed once, plain to compare, print and serialise.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::{GeneralName, GeneralSubtree, ParsedExtension},
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
    revocation_list::CertificateRevocationList,
    x509::{SubjectPublicKeyInfo, X509Name},
};

use super::{Error, Life, pem, profile::EMBEDDED};
use crate::spec::KeyType;

/// A kind of key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// RSA, with its bits.
    Rsa(u32),
    /// Ed25519, which Envoy does not verify.
    Ed25519,
    /// Anything else, by object identifier.
    Other(String),
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.pad("P-256"),
            Self::P384 => f.pad("P-384"),
            Self::P521 => f.pad("P-521"),
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::Ed25519 => f.pad("Ed25519"),
            Self::Other(oid) => f.pad(oid),
        }
    }
}

impl From<KeyType> for Algorithm {
    fn from(kind: KeyType) -> Self {
        match kind {
            KeyType::P256 => Self::P256,
            KeyType::P384 => Self::P384,
            KeyType::Rsa4096 => Self::Rsa(4096),
        }
    }
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// What stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct CertFacts {
    /// Whom it is for.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Serial number in hex.
    pub serial: String,
    /// First second of its life.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub not_before: Timestamp,
    /// Last second of its life.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub not_after: Timestamp,
    /// SHA-256 of the public key (SubjectPublicKeyInfo), in hex: what texts show the first 12 digits of. It stays when the
    /// certificate is issued again with the same key.
    pub spki_sha256: String,
    /// SHA-256 of the whole certificate, in hex, as openssl x509 -fingerprint -sha256 shows it.
    pub sha256: String,
    /// Kind of its key.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub algorithm: Algorithm,
    /// Whether it may sign certificates at all.
    pub is_ca: bool,
    /// How many authorities may follow.
    pub path_length: Option<u32>,
    /// Key usages by name, none if the extension is absent.
    pub key_usage: Option<Vec<String>>,
    /// Extended key usages by name or object identifier, none if the extension is absent.
    pub extended_key_usage: Option<Vec<String>>,
    /// Name constraints, none if the extension is absent.
    pub name_constraints: Option<NameConstraints>,
    /// Subject key identifier in hex.
    pub subject_key_id: Option<String>,
    /// Authority key identifier in hex.
    pub authority_key_id: Option<String>,
    /// Object identifier of the signature.
    pub signature: String,
    /// Whether the subject says that it belongs to embedded clusters.
    pub embedded: bool,
}

/// What names a certificate's descendants may carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct NameConstraints {
    /// Whether those who do not understand it must refuse the certificate.
    pub critical: bool,
    /// Subtrees that are allowed, as `DNS:istio-system.svc`.
    pub permitted: Vec<String>,
    /// Subtrees that are not.
    pub excluded: Vec<String>,
}

impl CertFacts {
    /// Whether the extension is absent (which allows everything) or names this usage.
    pub(crate) fn may(&self, usage: &str) -> bool {
        self.key_usage
            .as_ref()
            .is_none_or(|list| list.iter().any(|have| have == usage))
    }

    /// Whether it is its own issuer by name.
    pub(crate) fn self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// From when until when it is valid.
    pub(crate) fn life(&self) -> Life {
        Life::new(self.not_before, self.not_after)
    }

    /// Whole days until it expires; negative once it has.
    pub(crate) fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_second() - now.as_second()).div_euclid(24 * 3600)
    }
}

/// The roots of a PEM bundle, each by its public key and once: what a root is known by, since it stays the same when the
/// root is issued again with the same key, and what is signed under it is trusted as before. A bundle that cannot be read
/// has none.
pub(crate) fn roots(pem: &[u8]) -> Vec<String> {
    let mut roots = vec![];
    for cert in Cert::from_pem(pem).unwrap_or_default() {
        let root = &cert.facts().spki_sha256;
        if !roots.contains(root) {
            roots.push(root.clone());
        }
    }
    roots
}

/// A fingerprint as people are shown it.
pub(crate) fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

/// A certificate and its facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cert {
    der: Vec<u8>,
    facts: CertFacts,
}

impl Cert {
    /// Reads DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, Error> {
        let fail = |reason: String| Error::ReadCertificate { reason };
        let (rest, parsed) = X509Certificate::from_der(der)
            .map_err(|e| fail(format!("is not an X.509 certificate: {e}")))?;
        if !rest.is_empty() {
            return Err(fail("is followed by further bytes".into()));
        }
        strict(der, &parsed).map_err(|reason| fail(reason.into()))?;
        let facts = facts(der, &parsed).map_err(fail)?;
        Ok(Self {
            der: der.to_vec(),
            facts,
        })
    }

    /// Reads every certificate of a PEM text; other blocks are an error, as is a text without any.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Vec<Self>, Error> {
        let fail = |reason: String| Error::ReadCertificate { reason };
        let blocks = pem::blocks(text).map_err(|reason| fail(reason.into()))?;
        if blocks.is_empty() {
            return Err(fail("holds no certificate".into()));
        }
        let read = |block: &pem::Block| match block.label.as_str() {
            "CERTIFICATE" => Self::from_der(&block.der),
            other => Err(fail(format!(
                "holds a {other} block, where only certificates belong"
            ))),
        };
        blocks.iter().map(read).collect()
    }

    /// The certificate as PEM.
    pub(crate) fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der).as_str().into()
    }

    /// The certificate as DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// What stands in it.
    pub(crate) fn facts(&self) -> &CertFacts {
        &self.facts
    }

    /// The public key's own bytes, as keys give them.
    pub(crate) fn public_key(&self) -> Option<Vec<u8>> {
        let (_, parsed) = X509Certificate::from_der(&self.der).ok()?;
        Some(parsed.public_key().subject_public_key.data.to_vec())
    }

    /// Whether it made this revocation list: by name and by signature.
    pub(crate) fn signed_list(&self, der: &[u8]) -> bool {
        let (Ok((_, list)), Ok((_, cert))) = (
            CertificateRevocationList::from_der(der),
            X509Certificate::from_der(&self.der),
        ) else {
            return false;
        };
        list.issuer().as_raw() == cert.subject().as_raw()
            && list.verify_signature(cert.public_key()).is_ok()
    }

    /// Whether `issuer` made this certificate: by name and by signature.
    pub(crate) fn signed_by(&self, issuer: &Cert) -> bool {
        let (Ok((_, cert)), Ok((_, issuer))) = (
            X509Certificate::from_der(&self.der),
            X509Certificate::from_der(&issuer.der),
        ) else {
            return false;
        };
        cert.issuer().as_raw() == issuer.subject().as_raw()
            && cert.verify_signature(Some(issuer.public_key())).is_ok()
    }
}

/// Certificates as one PEM text.
pub(crate) fn bundle<'a>(certs: impl IntoIterator<Item = &'a Cert>) -> String {
    certs.into_iter().map(Cert::to_pem).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What Go refuses and the parser below lets pass.
fn strict(der: &[u8], cert: &X509Certificate<'_>) -> Result<(), &'static str> {
    let bits = [&cert.signature_value, &cert.public_key().subject_public_key];
    if bits.iter().any(|bits| bits.unused_bits != 0) {
        return Err("has a bit string with bits left over");
    }
    // RFC 5280, 4.1.1.2: byte for byte what is signed must name the algorithm outside, too.
    let inside = cert.tbs_certificate.as_ref();
    let outside = algorithm_after(der, inside.len()).unwrap_or_default();
    if outside.is_empty() || !inside.windows(outside.len()).any(|part| part == outside) {
        return Err("names one signature algorithm inside and another outside");
    }
    Ok(())
}

/// The bytes of the short sequence that follows the signed part, if a bit string follows it.
fn algorithm_after(der: &[u8], signed: usize) -> Option<&[u8]> {
    let (tag, length) = (*der.first()?, *der.get(1)?);
    let header = if length < 0x80 {
        2
    } else {
        2 + usize::from(length & 0x7f)
    };
    let rest = der.get(header + signed..)?;
    let length = usize::from(*rest.get(1)?) + 2;
    // The parser below takes sequences and bit strings of any class; these are the ones there are.
    let framed = (tag, *rest.get(length)?) == (0x30, 3);
    rest.get(..length).filter(|_| framed)
}

fn facts(der: &[u8], cert: &X509Certificate<'_>) -> Result<CertFacts, String> {
    let moment = |seconds| {
        Timestamp::from_second(seconds)
            .map_err(|_| "has a date that cannot be represented".to_owned())
    };
    let mut facts = CertFacts {
        subject: cert.subject().to_string(),
        issuer: cert.issuer().to_string(),
        serial: hex::encode(cert.raw_serial()),
        not_before: moment(cert.validity().not_before.timestamp())?,
        not_after: moment(cert.validity().not_after.timestamp())?,
        spki_sha256: sha256(cert.public_key().raw),
        sha256: sha256(der),
        algorithm: algorithm(cert.public_key()),
        is_ca: false,
        path_length: None,
        key_usage: None,
        extended_key_usage: None,
        name_constraints: None,
        subject_key_id: None,
        authority_key_id: None,
        signature: cert.signature_algorithm.algorithm.to_id_string(),
        embedded: is_embedded(cert.subject()),
    };
    // Twice the same extension is forbidden (RFC 5280, 4.2), and Go refuses it.
    cert.extensions_map()
        .map_err(|e| format!("has bad extensions: {e}"))?;
    for extension in cert.extensions() {
        note(&mut facts, extension.parsed_extension(), extension.critical)?;
    }
    Ok(facts)
}

fn note(
    facts: &mut CertFacts,
    extension: &ParsedExtension<'_>,
    critical: bool,
) -> Result<(), String> {
    match extension {
        ParsedExtension::BasicConstraints(it) => {
            facts.is_ca = it.ca;
            facts.path_length = it.path_len_constraint;
        }
        ParsedExtension::KeyUsage(it) => facts.key_usage = Some(usages(it)),
        ParsedExtension::ExtendedKeyUsage(it) => facts.extended_key_usage = Some(extended(it)),
        ParsedExtension::NameConstraints(it) => {
            let list = |trees: &Option<Vec<GeneralSubtree<'_>>>| {
                trees
                    .iter()
                    .flatten()
                    .map(|tree| name(&tree.base))
                    .collect()
            };
            facts.name_constraints = Some(NameConstraints {
                critical,
                permitted: list(&it.permitted_subtrees),
                excluded: list(&it.excluded_subtrees),
            });
        }
        ParsedExtension::SubjectKeyIdentifier(id) => facts.subject_key_id = Some(hex::encode(id.0)),
        ParsedExtension::AuthorityKeyIdentifier(it) => {
            facts.authority_key_id = it.key_identifier.as_ref().map(|id| hex::encode(id.0));
        }
        ParsedExtension::ParseError { error } => {
            return Err(format!("has an extension that cannot be read: {error}"));
        }
        _ => {}
    }
    Ok(())
}

fn is_embedded(subject: &X509Name<'_>) -> bool {
    subject
        .iter_organizational_unit()
        .any(|unit| unit.as_str() == Ok(EMBEDDED))
}

fn algorithm(key: &SubjectPublicKeyInfo<'_>) -> Algorithm {
    let oid = |text: &str| match text {
        "1.2.840.10045.3.1.7" => Algorithm::P256,
        "1.3.132.0.34" => Algorithm::P384,
        "1.3.132.0.35" => Algorithm::P521,
        "1.3.101.112" => Algorithm::Ed25519,
        other => Algorithm::Other(other.into()),
    };
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            Algorithm::Rsa(u32::try_from(rsa.key_size()).unwrap_or(u32::MAX))
        }
        Ok(PublicKey::EC(_)) => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok());
            curve.map_or(Algorithm::Other("unnamed curve".into()), |c| {
                oid(&c.to_id_string())
            })
        }
        _ => oid(&key.algorithm.algorithm.to_id_string()),
    }
}

fn usages(usage: &x509_parser::extensions::KeyUsage) -> Vec<String> {
    let all = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    all.into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| name.to_owned())
        .collect()
}

fn extended(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<String> {
    let named = [
        (usage.any, "any"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let named = named
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| name.to_owned());
    named
        .chain(usage.other.iter().map(|oid| oid.to_id_string()))
        .collect()
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(text) => format!("DNS:{text}"),
        GeneralName::URI(text) => format!("URI:{text}"),
        GeneralName::RFC822Name(text) => format!("email:{text}"),
        GeneralName::IPAddress(bytes) => format!("IP:{}", hex::encode(bytes)),
        GeneralName::DirectoryName(text) => format!("dir:{text}"),
        _ => "other".into(),
    }
}
