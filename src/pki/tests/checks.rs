//! Every way a Secret `cacerts` can be wrong, made, and named by its code.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
};

use super::kit::{NOW, later, new_intermediate, new_root, root, run, time};
use crate::{
    name::ClusterName,
    pki::{
        Cert, Key, Profile, Root, Severity, check::Files, check_cacerts, pem, profile::Fill,
        secret_files, status,
    },
    spec::KeyType,
};

type Set = BTreeMap<&'static str, String>;
type Params = CertificateParams;

/// A root and an intermediate as they should be, but for one change in each.
fn set(root: impl Fn(&mut Params), made: impl Fn(&mut Params)) -> Set {
    let fill = Fill {
        mesh: "shop",
        cluster: "east",
        namespace: "istio-system",
        tag: "1",
    };
    let params = |profile: Profile, change: &dyn Fn(&mut Params)| {
        let mut params = profile.params(fill, &[], false);
        (params.not_before, params.not_after) = (time(later(-1)), time(later(365)));
        change(&mut params);
        params
    };
    let (root_key, key) = (p256(), p256());
    let root = params(Profile::root().unwrap(), &root);
    let made = params(Profile::intermediate().unwrap(), &made);
    let made = made
        .signed_by(&key, &Issuer::from_params(&root, &root_key))
        .unwrap()
        .pem();
    let root = root.self_signed(&root_key).unwrap().pem();
    files(&made, &key.to_pem().unwrap(), &made, &root)
}

fn files(cert: &str, key: &str, chain: &str, root: &str) -> Set {
    let names = [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "root-cert.pem",
    ];
    names
        .into_iter()
        .zip([cert, key, chain, root].map(String::from))
        .collect()
}

fn p256() -> Key {
    Key::generate(KeyType::P256).unwrap()
}

fn good() -> Set {
    set(|_| {}, |_| {})
}

fn with(mut set: Set, name: &'static str, content: impl Into<String>) -> Set {
    set.insert(name, content.into());
    set
}

fn without(mut set: Set, name: &str) -> Set {
    set.remove(name);
    set
}

fn codes(set: &Set, severity: Severity) -> Vec<&'static str> {
    let problems = check_cacerts(set, NOW);
    problems
        .iter()
        .filter(|p| p.severity == severity)
        .map(|p| p.code)
        .collect()
}

#[test]
fn what_meshlink_makes_is_well() {
    assert_eq!(check_cacerts(&good(), NOW), []);
    for key in [KeyType::P256, KeyType::P384] {
        let root = Root::create(&new_root(key)).unwrap();
        let made = root.issue(&new_intermediate("east", key)).unwrap();
        assert_eq!(check_cacerts(made.cacerts().unwrap().files(), NOW), []);
    }
}

#[test]
fn all_that_istiod_or_proxies_would_choke_on_is_refused() {
    let nobody = |_: &mut Params| {};
    let ca = |length| IsCa::Ca(BasicConstraints::Constrained(length));
    let client = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = p256().to_pem().unwrap();
    let parameters = pem::encode("EC PARAMETERS", &[6, 0]);
    let edwards = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (code, set) in [
        ("empty", Set::new()),
        ("partial", without(good(), "ca-cert.pem")),
        ("partial", without(good(), "ca-key.pem")),
        ("partial", without(good(), "cert-chain.pem")),
        ("partial", without(good(), "root-cert.pem")),
        (
            "partial",
            with(good(), "tls.crt", good()["ca-cert.pem"].clone()),
        ),
        ("unreadable", with(good(), "cert-chain.pem", "nonsense")),
        ("unreadable", with(good(), "cert-chain.pem", "")),
        (
            "signer-not-in-chain",
            with(good(), "cert-chain.pem", good()["root-cert.pem"].clone()),
        ),
        ("crl", with(good(), "ca-crl.pem", "")),
        ("unreadable", with(good(), "cert-chain.pem", key.as_str())),
        (
            "key-unreadable",
            with(good(), "ca-key.pem", format!("{}{}", *parameters, *key)),
        ),
        (
            "key-unreadable",
            with(good(), "ca-key.pem", edwards.serialize_pem()),
        ),
        ("key-mismatch", with(good(), "ca-key.pem", key.as_str())),
        (
            "no-way-to-root",
            with(good(), "root-cert.pem", good()["root-cert.pem"].clone()),
        ),
        (
            "expired",
            set(nobody, |p| {
                p.not_after = time(later(0)) - time::Duration::SECOND
            }),
        ),
        ("expired", set(|p| p.not_after = time(later(-1)), nobody)),
        (
            "not-yet-valid",
            set(nobody, |p| p.not_before = time(later(1))),
        ),
        (
            "not-an-authority",
            set(nobody, |p| p.is_ca = IsCa::ExplicitNoCa),
        ),
        (
            "no-key-cert-sign",
            set(nobody, |p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
        ),
        (
            "extended-key-usage",
            set(nobody, |p| p.extended_key_usages = client.clone()),
        ),
        (
            "extended-key-usage",
            set(|p| p.extended_key_usages = client.clone(), nobody),
        ),
        ("path-length", set(|p| p.is_ca = ca(0), nobody)),
    ] {
        assert_eq!(
            codes(&set, Severity::Refused),
            [code],
            "{:?}",
            check_cacerts(&set, NOW)
        );
    }
}

#[test]
fn an_ed25519_authority_is_refused_because_proxies_do_not_verify_it() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = Profile::root().unwrap().params(Fill::default(), &[], false);
    (params.not_before, params.not_after) = (time(later(-1)), time(later(365)));
    let cert = params.self_signed(&key).unwrap().pem();
    let set = files(&cert, &key.serialize_pem(), &cert, &cert);
    assert_eq!(
        codes(&set, Severity::Refused),
        ["key-unreadable", "key-type"]
    );
}

#[test]
fn what_works_and_should_be_known_is_a_warning() {
    let server = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let nobody = |_: &mut Params| {};
    let whole = good();
    let chain = format!("{}{}", whole["ca-cert.pem"], whole["root-cert.pem"]);
    for (code, set) in [
        (
            "no-crl-sign",
            set(nobody, |p| {
                p.key_usages = vec![KeyUsagePurpose::KeyCertSign]
            }),
        ),
        (
            "outlives-root",
            set(nobody, |p| p.not_after = time(later(366))),
        ),
        (
            "long-lived",
            set(
                |p| p.not_after = time(later(1000)),
                |p| p.not_after = time(later(1000)),
            ),
        ),
        (
            "expires-soon",
            set(nobody, |p| p.not_after = time(later(59))),
        ),
        ("root-in-chain", with(whole, "cert-chain.pem", chain)),
    ] {
        assert_eq!(codes(&set, Severity::Refused), [""; 0], "{code}");
        assert_eq!(codes(&set, Severity::Warning), [code]);
    }
    let fine = set(nobody, |p| p.extended_key_usages = server.clone());
    assert_eq!(check_cacerts(&fine, NOW), []);
    let days = |days: i64| set(nobody, |p| p.not_after = time(later(days)));
    assert!(check_cacerts(&days(29), NOW)[0].text.contains("within 30"));
    assert_eq!(check_cacerts(&days(60), NOW), []);
}

#[test]
fn a_root_that_signs_by_itself_needs_no_chain() {
    let root = root();
    let cert = root.cert().to_pem();
    let set = files(&cert, &root.key().to_pem().unwrap(), "", &cert);
    assert_eq!(codes(&set, Severity::Refused), [""; 0]);
}

#[test]
fn a_chain_out_of_order_is_known_by_name() {
    let (set, root) = (good(), root().cert().to_pem());
    let turned = format!("{root}{}", set["ca-cert.pem"]);
    let set = with(set, "cert-chain.pem", turned);
    assert_eq!(
        check_cacerts(&set, NOW)
            .iter()
            .map(|p| p.code)
            .collect::<Vec<_>>(),
        ["chain-order"]
    );
}

#[test]
fn revocation_lists_must_come_from_every_authority_of_the_chain() {
    let root = root();
    let made = [1, 2].map(|_| {
        root.issue(&new_intermediate("east", KeyType::P256))
            .unwrap()
    });
    let list = |issuer: &Cert, key: &Key| {
        let der = issuer.der().into();
        let params = rcgen::CertificateRevocationListParams {
            this_update: time(NOW),
            next_update: time(later(7)),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_ca_cert_der(&der, key).unwrap();
        params.signed_by(&issuer).unwrap().pem().unwrap()
    };
    let cacerts = made[0].cacerts().unwrap();
    let set: Set = cacerts
        .files()
        .into_iter()
        .map(|(name, text)| (name, text.to_owned()))
        .collect();
    let own = with(
        set.clone(),
        "ca-crl.pem",
        list(made[0].cert(), made[0].key()),
    );
    assert_eq!(check_cacerts(&own, NOW), []);
    for (issuer, key) in [(root.cert(), root.key()), (made[1].cert(), made[1].key())] {
        let other = with(set.clone(), "ca-crl.pem", list(issuer, key));
        assert_eq!(codes(&other, Severity::Refused), ["crl"]);
    }
}

#[test]
fn the_kubernetes_tls_format_is_understood() {
    let whole = good();
    let mut tls = Set::from([
        ("tls.crt", whole["ca-cert.pem"].clone()),
        ("tls.key", whole["ca-key.pem"].clone()),
        ("ca.crt", whole["root-cert.pem"].clone()),
    ]);
    assert_eq!(check_cacerts(&tls, NOW), []);
    tls.extend(good());
    assert_eq!(codes(&tls, Severity::Warning), ["two-formats"]);
    tls.remove("ca.crt");
    assert_eq!(codes(&tls, Severity::Refused), ["partial"]);
}

#[test]
fn a_longer_chain_needs_every_link() {
    let top = root();
    let mut wide = Profile::root().unwrap().params(Fill::default(), &[], false);
    (wide.not_before, wide.not_after) = (time(later(-1)), time(later(365)));
    wide.distinguished_name
        .push(rcgen::DnType::CommonName, "middle");
    wide.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let middle_key = p256();
    let top_der = top.cert().der().into();
    let top_issuer = Issuer::from_ca_cert_der(&top_der, top.key()).unwrap();
    let middle = wide.signed_by(&middle_key, &top_issuer).unwrap().pem();
    let middle =
        Root::from_pem(middle.as_bytes(), middle_key.to_pem().unwrap().as_bytes()).unwrap();
    let low = middle
        .issue(&new_intermediate("east", KeyType::P256))
        .unwrap();
    let cert = low.cert().to_pem();
    let key = low.key().to_pem().unwrap();
    let trusted = |chain: &str, root: &Cert| {
        codes(
            &files(&cert, &key, chain, &root.to_pem()),
            Severity::Refused,
        )
    };
    assert_eq!(trusted(&cert, middle.cert()), [""; 0]);
    assert_eq!(trusted(&cert, top.cert()), ["no-way-to-root"]);
    // Whole, and then the root's own path length (one authority below it) forbids it.
    assert_eq!(
        trusted(&format!("{cert}{}", middle.cert().to_pem()), top.cert()),
        ["path-length"]
    );
}

#[test]
fn secrets_are_read_as_the_api_server_gives_them() {
    let made = root()
        .issue(&new_intermediate("east", KeyType::P256))
        .unwrap();
    let data = serde_json::to_value(
        made.cacerts()
            .unwrap()
            .secret_data()
            .iter()
            .map(|(k, v)| (*k, v.as_str()))
            .collect::<BTreeMap<_, _>>(),
    )
    .unwrap();
    let files = secret_files(&data).unwrap();
    assert_eq!(files.len(), 4);
    assert_eq!(check_cacerts(&files, NOW), []);
    assert!(secret_files(&serde_json::json!({"ca-cert.pem": "%%%"})).is_err());
}

#[test]
fn certificates_made_by_openssl_as_many_meshes_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let ssl = |line: &str| {
        let args: Vec<_> = line.split(' ').collect();
        let output = run(dir.path(), "openssl", &args)?;
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(())
    };
    std::fs::write(dir.path().join("ext"), "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign\n").unwrap();
    let made = [
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root -days 4000 -subj /O=Shop/CN=Root",
        "req -newkey rsa:2048 -nodes -keyout key -out request -subj /O=Shop/CN=Intermediate/L=east",
        "x509 -req -in request -CA root -CAkey root.key -CAcreateserial -out cert -days 3650 -extfile ext",
        "x509 -req -in request -CA root -CAkey root.key -CAcreateserial -out sha1 -days 3650 -extfile ext -sha1",
        "ecparam -name prime256v1 -genkey -out ec",
        "rsa -in key -out pkcs1 -traditional",
    ];
    if made.iter().try_for_each(|line| ssl(line)).is_none() {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let chain = format!("{}{}", read("cert"), read("root"));
    // Made by the machine's clock, so looked at a day after whatever that says.
    let now = Cert::from_pem(read("cert").as_bytes()).unwrap()[0]
        .facts()
        .not_before;
    let codes = |set: &Set| {
        check_cacerts(set, now)
            .iter()
            .map(|p| p.code)
            .collect::<Vec<_>>()
    };
    for key in ["key", "pkcs1"] {
        let set = files(&read("cert"), &read(key), &chain, &read("root"));
        assert_eq!(
            codes(&set),
            ["long-lived", "no-crl-sign", "rsa-2048", "root-in-chain"]
        );
    }
    let set = files(&read("cert"), &read("ec"), &chain, &read("root"));
    assert!(codes(&set).contains(&"key-unreadable"));
    let set = files(&read("sha1"), &read("key"), &read("sha1"), &read("root"));
    assert!(codes(&set).contains(&"sha1"));
}

fn as_files(set: impl IntoIterator<Item = (&'static str, impl AsRef<str>)>) -> Option<Files> {
    let bytes = |text: &str| text.as_bytes().to_vec().into();
    Some(
        set.into_iter()
            .map(|(name, text)| (name.into(), bytes(text.as_ref())))
            .collect(),
    )
}

#[test]
fn status_proves_who_trusts_whom() {
    let (ours, theirs) = (root(), root());
    let [east, west, north]: [ClusterName; 3] =
        ["east", "west", "north"].map(|n| n.parse().unwrap());
    let cacerts = |root: &Root, name: &str| {
        let made = root.issue(&new_intermediate(name, KeyType::P256)).unwrap();
        as_files(made.cacerts().unwrap().files())
    };
    let same = [
        (east.clone(), cacerts(&ours, "east")),
        (west.clone(), cacerts(&ours, "west")),
    ];
    let found = status(Some(ours.facts()), &[], &same, NOW);
    assert_eq!(found.same_root, Some(true));
    assert_eq!(found.proofs.len(), 2);
    assert_eq!(found.proofs[0].way.len(), 2);
    assert_eq!(found.proofs[0].way[1], ours.facts().spki_sha256);
    assert_eq!(found.clusters[0].trusts_vault_root, Some(true));
    assert_eq!(found.clusters[0].days_left, Some(365));

    let mixed = [
        same[0].clone(),
        (west, cacerts(&theirs, "west")),
        (north, None),
    ];
    let found = status(Some(ours.facts()), &[], &mixed, NOW);
    assert_eq!(found.same_root, Some(false));
    assert!(
        found
            .proofs
            .iter()
            .all(|proof| !proof.holds && proof.why.is_some())
    );
    assert_eq!(found.clusters[1].trusts_vault_root, Some(false));
    assert_eq!(found.clusters[2].problems[0].code, "empty");
    let text = serde_json::to_string(&found).unwrap();
    assert!(text.contains("\"same_root\":false") && !text.contains("PRIVATE"));

    assert_eq!(status(None, &[], &[(east, None)], NOW).same_root, None);
}

#[test]
fn while_roots_change_clusters_of_both_trust_one_another() {
    let (old, new) = (root(), root());
    let set = |root: &Root, name: &str| {
        let made = root.issue(&new_intermediate(name, KeyType::P256)).unwrap();
        as_files(
            made.cacerts_trusting([old.cert(), new.cert()])
                .unwrap()
                .files(),
        )
    };
    let clusters = [
        ("east".parse().unwrap(), set(&old, "east")),
        ("west".parse().unwrap(), set(&new, "west")),
    ];
    let found = status(None, &[], &clusters, NOW);
    assert_eq!(found.same_root, Some(true));
    assert_eq!(found.clusters[0].roots.len(), 2);
}

proptest! {
    #[test]
    fn no_text_makes_the_check_panic(cert in ".{0,200}", key in ".{0,200}", root in ".{0,200}") {
        check_cacerts(files(&cert, &key, &cert, &root), NOW);
    }

    #[test]
    fn no_certificate_makes_the_reader_panic(der in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Cert::from_der(&der);
        let _ = Key::from_pem(pem::encode(&["PRIVATE", "KEY"].join(" "), &der).as_bytes());
    }
}

#[test]
fn every_flipped_bit_of_a_certificate_costs_its_signature() {
    let root = root();
    for bit in 0..root.cert().der().len() * 8 {
        let mut der = root.cert().der().to_vec();
        der[bit / 8] ^= 1 << (bit % 8);
        let Ok(cert) = Cert::from_der(&der) else {
            continue;
        };
        assert!(
            !cert.signed_by(root.cert()),
            "bit {} of byte {}",
            bit % 8,
            bit / 8
        );
    }
}

#[test]
fn bundles_beyond_all_measure_are_refused_quickly() {
    let one = root().cert().to_pem();
    assert!(Cert::from_pem(one.repeat(64).as_bytes()).is_ok());
    assert!(Cert::from_pem(one.repeat(65).as_bytes()).is_err());
    // All of one name, none of which signed another: the search gives up.
    let fill = Fill::default();
    let same = |_| {
        let mut params = Profile::root().unwrap().params(fill, &[], false);
        (params.not_before, params.not_after) = (time(later(-1)), time(later(365)));
        params.self_signed(&p256()).unwrap().pem()
    };
    let many: String = (0..60).map(same).collect();
    let key = p256();
    let set = files(&many, &key.to_pem().unwrap(), &many, &one);
    assert!(codes(&set, Severity::Refused).contains(&"no-way-to-root"));
}
