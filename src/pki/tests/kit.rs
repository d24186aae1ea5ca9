//! A mesh named shop, on the first of January.

use std::{
    path::Path,
    process::{Command, Output},
    sync::LazyLock,
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyUsagePurpose, SanType};

use crate::{
    name::{ClusterName, MeshId},
    pki::{Cert, Intermediate, Key, NewIntermediate, NewRoot, Profile, Root},
    spec::KeyType,
};

pub(crate) const DAY: u64 = 24 * 3600;
pub(crate) const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

static MESH: LazyLock<MeshId> = LazyLock::new(|| "shop".parse().unwrap());
static ROOT: LazyLock<Profile> = LazyLock::new(|| Profile::root().unwrap());
static INTERMEDIATE: LazyLock<Profile> = LazyLock::new(|| Profile::intermediate().unwrap());

pub(crate) fn later(days: i64) -> Timestamp {
    Timestamp::from_second(NOW.as_second() + days * DAY.cast_signed()).unwrap()
}

pub(crate) fn new_root(key: KeyType) -> NewRoot<'static> {
    let lifetime = Duration::from_secs(3650 * DAY);
    NewRoot {
        mesh: &MESH,
        key,
        lifetime,
        embedded: false,
        profile: &ROOT,
        now: NOW,
    }
}

pub(crate) fn root() -> Root {
    Root::create(&new_root(KeyType::P256)).unwrap()
}

pub(crate) fn new_intermediate(cluster: &str, key: KeyType) -> NewIntermediate<'static> {
    let cluster: &'static ClusterName = Box::leak(Box::new(cluster.parse().unwrap()));
    NewIntermediate {
        mesh: &MESH,
        cluster,
        namespace: "istio-system",
        names: &[],
        key,
        lifetime: Duration::from_secs(365 * DAY),
        is_exact: true,
        trust_domain: "cluster.local",
        profile: &INTERMEDIATE,
        now: NOW,
    }
}

/// What istiod signs: a leaf with these names.
pub(crate) fn leaf(issuer: &Intermediate, names: &[SanType]) -> Cert {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.subject_alt_names = names.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.not_before = time(NOW);
    params.not_after = time(later(1));
    let key = Key::generate(KeyType::P256).unwrap();
    let der = issuer.cert().der().into();
    let issuer = Issuer::from_ca_cert_der(&der, issuer.key()).unwrap();
    Cert::from_der(params.signed_by(&key, &issuer).unwrap().der()).unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub(crate) fn time(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap()
}

/// Runs a program in a folder, or says that it is not here.
pub(crate) fn run(dir: &Path, program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).current_dir(dir).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}
