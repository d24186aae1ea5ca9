use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};

use super::*;
use crate::{
    pki::{
        Intermediate,
        tests::kit::{NOW, later, new_intermediate, run, time},
    },
    spec::KeyType,
};

/// Somebody who signs: a root, or an intermediate below one.
struct Company {
    cert: Cert,
    issuer: Issuer<'static, KeyPair>,
    key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (time(later(-1)), time(later(3000)));
    params
}

impl Company {
    fn root(name: &str) -> Self {
        Self::new(authority(name), None)
    }

    fn new(params: CertificateParams, above: Option<&Self>) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = match above {
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self {
            cert: Cert::from_der(cert.der()).unwrap(),
            key: key.serialize_pem(),
            issuer: Issuer::from_ca_cert_der(cert.der(), key).unwrap(),
        }
    }

    fn signs(&self, params: &CertificateParams, public: &Public) -> Cert {
        let made = params.signed_by(public, &self.issuer).unwrap();
        Cert::from_der(made.der()).unwrap()
    }
}

/// What is asked for, as a company's authority makes it.
fn good() -> CertificateParams {
    let mut params = authority("eks-1 of the mesh");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("istio-system.svc".into())],
        excluded_subtrees: vec![],
    });
    params.not_before = time(NOW);
    params.not_after = time(later(365));
    params
}

fn asked() -> (Key, NewIntermediate<'static>) {
    let new = NewIntermediate {
        is_exact: false,
        ..new_intermediate("eks-1", KeyType::P256)
    };
    (Key::generate(KeyType::P256).unwrap(), new)
}

fn judged(text: &str, request: &Request<'_>, root: &Cert) -> Result<Vec<Cert>, String> {
    read(text.as_bytes()).and_then(|given| accept(&given, request, root))
}

#[test]
fn what_was_asked_for_is_accepted_also_below_an_intermediate_of_the_company() {
    let root = Company::root("root");
    let below = Company::new(authority("below"), Some(&root));
    let (key, new) = asked();
    let request = Request::of(&key, &new, false).unwrap();
    let direct = root.signs(&good(), &request.public).to_pem();
    let accepted = judged(&direct, &request, &root.cert).unwrap();
    assert_eq!(accepted.len(), 1);
    let text = below.signs(&good(), &request.public).to_pem() + &below.cert.to_pem();
    for text in [text.clone(), text + &root.cert.to_pem()] {
        let accepted = judged(&text, &request, &root.cert).unwrap();
        assert_eq!(accepted.len(), 2, "the root is no part of it");
        let copy = Key::from_pem(key.to_pem().unwrap().as_bytes()).unwrap();
        let made = Intermediate::of(accepted, copy, std::slice::from_ref(&root.cert)).unwrap();
        let cacerts = made.cacerts().unwrap();
        assert_eq!(cacerts.cert_chain.matches("BEGIN").count(), 2);
        assert_eq!(cacerts.ca_cert.matches("BEGIN").count(), 1);
        let refused = crate::pki::check_cacerts(cacerts.files(), NOW);
        assert!(refused.is_empty(), "{refused:?}");
    }
}

/// Each differs from what is accepted in one thing.
#[test]
fn evil_twins_are_refused_with_the_reason() {
    let (root, other) = (Company::root("root"), Company::root("root"));
    let (key, new) = asked();
    let request = Request::of(&key, &new, false).unwrap();
    let (of_another, _) = asked();
    let of_another = Request::of(&of_another, &new, false).unwrap().public;
    let refusal = |text: &str| judged(text, &request, &root.cert).unwrap_err();
    let changed = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = good();
        change(&mut params);
        refusal(&root.signs(&params, &request.public).to_pem())
    };
    let permits = |params: &mut CertificateParams, names: &[&str]| {
        let names = names.iter().map(|n| GeneralSubtree::DnsName((*n).into()));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.collect(),
            excluded_subtrees: vec![],
        });
    };
    for (said, want) in [
        (
            changed(&|p| p.is_ca = IsCa::ExplicitNoCa),
            "is not an authority",
        ),
        (
            changed(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "has no path length",
        ),
        (
            changed(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
            "allows 1 further",
        ),
        (
            changed(&|p| p.name_constraints = None),
            "DNS names any, and istio-system.svc",
        ),
        (
            changed(&|p| permits(p, &["svc"])),
            "DNS names svc, and istio-system.svc",
        ),
        (
            changed(&|p| permits(p, &["istio-system.svc", "example.com"])),
            "DNS names example.com, istio-system.svc",
        ),
        (
            changed(&|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "lacks keyCertSign",
        ),
        (
            changed(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "without serverAuth",
        ),
        (
            changed(&|p| p.not_after = time(later(400))),
            "is valid for 400 days",
        ),
        (
            changed(&|p| p.not_after = time(later(1))),
            "in less than two days",
        ),
        (
            changed(&|p| {
                p.not_before = time(later(-9));
                p.not_after = time(later(-1));
            }),
            "expired on",
        ),
        (
            changed(&|p| p.not_before = time(later(2))),
            "is not valid before",
        ),
        (
            refusal(&other.signs(&good(), &request.public).to_pem()),
            "does not lead to root",
        ),
        (
            refusal(&root.signs(&good(), &of_another).to_pem()),
            "is for another key",
        ),
        (
            refusal(&(root.cert.to_pem() + &root.signs(&good(), &request.public).to_pem())),
            "is not the first",
        ),
        (refusal(&root.cert.to_pem()), "is for another key"),
        (refusal(""), "holds no certificate"),
        (refusal(&root.key), "only certificates belong"),
        (refusal(&"x".repeat(600 * 1024)), "512 KiB"),
    ] {
        assert!(said.contains(want), "{want}: {said}");
        assert!(!said.contains("PRIVATE KEY-"), "{said}");
    }
    // One bit of the signature.
    let mut bytes = root.signs(&good(), &request.public).der().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let tampered = crate::pki::pem::encode("CERTIFICATE", &bytes);
    assert!(refusal(&tampered).contains("does not lead to root"));
}

#[test]
fn the_constraints_of_those_above_count_too() {
    let (key, new) = asked();
    let request = Request::of(&key, &new, false).unwrap();
    let root = Company::root("root");
    let under = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        let mut params = authority("below");
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted,
            excluded_subtrees: excluded,
        });
        let below = Company::new(params, Some(&root));
        let text = below.signs(&good(), &request.public).to_pem() + &below.cert.to_pem();
        judged(&text, &request, &root.cert)
    };
    let dns = |name: &str| vec![GeneralSubtree::DnsName(name.into())];
    assert!(under(dns("svc"), vec![]).is_ok());
    let out = under(dns("example.com"), vec![]).unwrap_err();
    assert!(out.contains("shut out DNS:istio-system.svc"), "{out}");
    let out = under(vec![], dns("svc")).unwrap_err();
    assert!(out.contains("shut out DNS:istio-system.svc"), "{out}");
}

#[test]
fn openssl_reads_the_request_and_what_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let (key, new) = asked();
    let request = Request::of(&key, &new, false).unwrap();
    fs::write(dir.path().join("csr"), &request.pem).unwrap();
    let args = ["req", "-in", "csr", "-noout", "-verify", "-text"];
    let Some(output) = run(dir.path(), "openssl", &args) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    for want in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "DNS:istio-system.svc",
        "X509v3 Basic Constraints: critical",
    ] {
        assert!(said.contains(want), "{want}: {said}");
    }
}

/// A file that only its owner may read, or everybody.
fn file(dir: &tempfile::TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

async fn signed(by: &dyn Authority) -> Result<Vec<Cert>, String> {
    let (key, new) = asked();
    let request = Request::of(&key, &new, false).unwrap();
    let given = by.sign(&request).await.map_err(|e| e.to_string())?;
    judged(&String::from_utf8(given).unwrap(), &request, by.root())
}

#[tokio::test]
async fn an_authority_in_files_signs_and_what_cannot_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let root = Company::root("root");
    let below = Company::new(authority("below"), Some(&root));
    let mut small = authority("small");
    small.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let small = Company::new(small, Some(&root));
    let put = |name: &str, text: &str| file(&dir, name, text, 0o600);
    let (root_pem, root_key) = (put("root", &root.cert.to_pem()), put("root-key", &root.key));
    let alone = put("below", &below.cert.to_pem());
    let key = put("below-key", &below.key);
    let read = |cert: &PathBuf, key: &PathBuf, others: &[&PathBuf], now: Timestamp| {
        let others: Vec<_> = others.iter().map(|path| path.as_path()).collect();
        Existing::read(cert, key, &others, now)
    };
    let by_root = read(&root_pem, &root_key, &[], NOW).unwrap();
    assert_eq!(signed(&by_root).await.unwrap().len(), 1);
    let by_below = read(&alone, &key, &[&root_pem], NOW).unwrap();
    assert_eq!(signed(&by_below).await.unwrap().len(), 2);
    assert_eq!(by_below.root(), &root.cert);
    assert_eq!(by_below.silent(), None);
    let small = put("small", &small.cert.to_pem());
    for (found, want) in [
        (read(&alone, &key, &[], NOW), "leads to no root"),
        (
            read(&small, &key, &[&root_pem], NOW),
            "allows no further intermediate",
        ),
        (read(&root_pem, &root_key, &[], later(4000)), "expired on"),
        (
            read(&dir.path().join("none"), &key, &[], NOW),
            "cannot read",
        ),
        (read(&key, &key, &[], NOW), "only certificates belong"),
    ] {
        let said = found.map(drop).unwrap_err();
        assert!(said.contains(want), "{want}: {said}");
    }
    let swapped = read(&alone, &root_key, &[&root_pem], NOW).unwrap();
    assert!(swapped.silent().unwrap().contains("is not the key of"));
    let open = file(&dir, "open", &below.key, 0o644);
    let open = read(&alone, &open, &[&root_pem], NOW).unwrap();
    assert!(open.silent().unwrap().contains("open to everybody"));
}

#[tokio::test]
async fn a_program_is_bounded_and_told_nothing_but_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let root = Company::root("root");
    let program = |script: &str, seconds: u64| {
        let path = file(&dir, "sign", &format!("#!/bin/sh\n{script}\n"), 0o700);
        let variables = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let words = [path.display().to_string(), "{cluster}/{mesh}/{days}".into()];
        let limit = std::time::Duration::from_secs(seconds);
        Program::new(words.into(), variables.into(), limit, root.cert.clone())
    };
    for (script, seconds, want) in [
        (
            "cat >/dev/null; echo no such role >&2; exit 3",
            60,
            "no such role",
        ),
        ("exec cat", 60, "where only certificates belong"),
        ("echo $1 >&2; exit 1", 60, "eks-1/shop/365"),
        ("env | sort >&2; exit 1", 60, "PWD="),
        ("exec sleep 60", 1, "did not end within 1 s"),
        ("exec cat /dev/zero", 60, "more than 512 KiB"),
    ] {
        let said = signed(&program(script, seconds)).await.unwrap_err();
        assert!(said.contains(want), "{script}: {said}");
        assert!(!said.contains("HOME"), "{script}: {said}");
    }
    assert_eq!(program("true", 60).silent(), None);
    let none = Program::new(
        vec!["no-such-program".into()],
        [("PATH".to_owned(), "/usr/bin".to_owned())].into(),
        std::time::Duration::from_secs(60),
        root.cert.clone(),
    );
    assert!(none.silent().unwrap().contains("not in PATH"));
    assert!(signed(&none).await.unwrap_err().contains("not in PATH"));
}
