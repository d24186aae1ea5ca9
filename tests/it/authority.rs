//! Whoever signs in the place of the vault: joins, renewals and changes of root, from an empty home, judged by OpenSSL.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::kit::{Session, World, istio, may_be_missing};

/// A company's authority, in files that a test makes: a root, and an intermediate that it signs with.
struct Company {
    folder: PathBuf,
}

fn params(name: &str, path: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

impl Company {
    fn new(user: &Session, name: &str) -> Self {
        let folder = user.home().join(name);
        fs::create_dir(&folder).unwrap();
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = params(&format!("root of {name}"), 2);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(root, root_key);
        let below = params(&format!("issuing of {name}"), 1);
        let below = below.signed_by(&key, &issuer).unwrap().pem();
        let company = Self { folder };
        company.put("root.pem", &root_pem, 0o644);
        company.put("issuing.pem", &below, 0o644);
        company.put("issuing-key.pem", &key.serialize_pem(), 0o600);
        company
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A program that signs with OpenSSL, as a company's might.
    fn program(&self, more: &str) {
        let folder = self.folder.display();
        let script = format!(
            "#!/bin/sh\nset -eu\nnew=$(mktemp -d)\ntrap 'rm -rf \"$new\"' EXIT\ncat >\"$new/csr\"\n\
             openssl x509 -req -in \"$new/csr\" -CA {folder}/issuing.pem -CAkey {folder}/issuing-key.pem \
             -set_serial \"0x4$(openssl rand -hex 15)\" -days \"$1\" {more} -out \"$new/cert\" 2>\"$new/said\"\n\
             echo \"$2\" >>{folder}/signed\ncat \"$new/cert\" {folder}/issuing.pem\n"
        );
        self.put("sign", &script, 0o700);
    }

    fn exec(&self) -> String {
        format!(
            "exec: {{command: [\"{}\", \"{{days}}\", \"{{cluster}}\"], root: \"{}\"}}",
            self.at("sign"),
            self.at("root.pem")
        )
    }

    fn existing(&self) -> String {
        format!(
            "existing: {{certificate: \"{}\", key: \"{}\", root: \"{}\"}}",
            self.at("issuing.pem"),
            self.at("issuing-key.pem"),
            self.at("root.pem")
        )
    }

    /// For whom it has signed, in order.
    fn signed(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("signed")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A program signs with OpenSSL; without it, nothing can be tried.
fn has_openssl() -> bool {
    let is_there = Command::new("openssl").arg("version").output().is_ok();
    if !is_there {
        may_be_missing("openssl");
    }
    is_there
}

/// The mesh file of the first so many clusters.
fn mesh(user: &Session, authority: &str, more: &str, members: usize) {
    let names: Vec<_> = (1..=members)
        .map(|n| format!("{{name: eks-{n}}}"))
        .collect();
    let text = format!(
        "trust:\n  authority:\n    {authority}\n{more}clusters: [{}]\n",
        names.join(", ")
    );
    fs::write(user.here().join("mesh.yaml"), text).unwrap();
}

/// OpenSSL finds the way from what a member signs with to the company's root, which is all it trusts.
#[track_caller]
fn verifies(world: &World, member: &str, company: &Company) {
    let secret = world.get(member, &istio("secrets", "cacerts"));
    let file = |name: &str| {
        STANDARD
            .decode(secret["data"][name].as_str().unwrap())
            .unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["ca-cert.pem", "cert-chain.pem", "root-cert.pem"] {
        fs::write(folder.path().join(name), file(name)).unwrap();
    }
    let root = fs::read(company.folder.join("root.pem")).unwrap();
    assert_eq!(file("root-cert.pem"), root, "{member}");
    let verified = openssl(
        folder.path(),
        "verify -x509_strict -CAfile root-cert.pem -untrusted cert-chain.pem ca-cert.pem",
    );
    assert!(verified.0, "{member}: {}", verified.1);
    let shown = openssl(folder.path(), "x509 -in ca-cert.pem -noout -text").1;
    assert!(shown.contains("CA:TRUE, pathlen:0"), "{shown}");
    assert!(shown.contains("DNS:istio-system.svc"), "{shown}");
}

fn openssl(folder: &Path, args: &str) -> (bool, String) {
    let words = args.split_whitespace();
    let done = Command::new("openssl")
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Somebody else with an empty home, who has the mesh file and nothing more.
fn runner(world: &World, authority: &str, more: &str, members: usize) -> Session {
    let state = world.user.home().join(".local/state");
    let path = "/usr/local/bin:/usr/bin:/bin";
    let other = Session::new()
        .var("XDG_STATE_HOME", &state.display().to_string())
        .var("PATH", path);
    mesh(&other, authority, more, members);
    other
}

/// No line of any private key is in what was said.
#[track_caller]
fn tells_no_key(world: &World, company: &Company, said: &str) {
    let mut keys: Vec<_> = world
        .keys()
        .into_iter()
        .filter(|(name, _)| name.ends_with("key.pem"))
        .collect();
    let issuing = fs::read(company.folder.join("issuing-key.pem")).unwrap();
    keys.push(("issuing-key".into(), issuing));
    for (name, pem) in keys {
        let text = String::from_utf8(pem).unwrap();
        for line in text
            .lines()
            .filter(|line| line.len() > 30 && !line.starts_with('-'))
        {
            assert!(!said.contains(line), "{name} is told");
        }
    }
}

/// No member is bound to a root, and none has been given anything to sign with.
#[track_caller]
fn binds_nobody(world: &World) {
    for member in ["eks-1", "eks-2"] {
        let found = [("configmaps", "meshlink-root"), ("secrets", "cacerts")];
        let found = found.map(|(kind, name)| world.find(member, &istio(kind, name)));
        assert_eq!(found, [None, None], "{member}");
    }
}

#[test]
fn a_program_signs_for_joins_renewals_and_whoever_has_the_mesh_file() {
    if !has_openssl() {
        return;
    }
    let mut world = World::new(3);
    world.user = std::mem::replace(&mut world.user, Session::new()).var("PATH", "/usr/bin:/bin");
    let company = Company::new(&world.user, "company");
    company.program("-copy_extensions copy");
    mesh(&world.user, &company.exec(), "", 2);
    let planned = world.run("plan -f mesh.yaml").ends(10);
    planned.says("signs under root");
    let joined = world.run("join -f mesh.yaml -vvv").ends(0);
    let joined = joined.says("2 of 2 pairs proved");
    tells_no_key(
        &world,
        &company,
        &format!("{}{}{}", joined.stdout, joined.stderr, world.journal()),
    );
    let mut signed = company.signed();
    signed.sort();
    assert_eq!(signed, ["eks-1", "eks-2"]);
    for member in ["eks-1", "eks-2"] {
        verifies(&world, member, &company);
    }
    let held: Vec<_> = world.keys().into_keys().collect();
    let has_root_key = |name: &String| name.starts_with("roots/") && name.ends_with("key.pem");
    assert!(!held.iter().any(has_root_key), "{held:?}");
    world.run("join -f mesh.yaml").ends(0).says("nothing to do");
    world.run("renew").ends(0).says("nothing to do");
    let status = world.run("ca status").ends(0);
    status
        .says("are signed by program")
        .says("(exec), under root");
    let status = world.run("ca status -o json").ends(0).json();
    assert_eq!(status["authority"]["kind"], "exec");
    world.run("verify --traffic").ends(0);

    // From an empty home a member is added, and what is due is renewed.
    let other = runner(&world, &company.exec(), "", 3);
    other
        .run("join -f mesh.yaml --sandbox")
        .ends(0)
        .says("6 of 6 pairs proved");
    assert_eq!(company.signed()[2..], ["eks-3"]);
    verifies(&world, "eks-3", &company);
    let other = runner(&world, &company.exec(), "  key: P-384\n", 3);
    other.run("renew -f mesh.yaml --sandbox").ends(0);
    assert_eq!(company.signed().len(), 6);
    for member in ["eks-1", "eks-2", "eks-3"] {
        verifies(&world, member, &company);
    }
    other
        .run("renew -f mesh.yaml --sandbox")
        .ends(0)
        .says("nothing to do");
}

#[test]
fn what_a_program_gives_that_is_not_what_was_asked_for_binds_nobody() {
    if !has_openssl() {
        return;
    }
    let mut world = World::new(2);
    world.user = std::mem::replace(&mut world.user, Session::new()).var("PATH", "/usr/bin:/bin");
    let company = Company::new(&world.user, "company");
    let other = Company::new(&world.user, "other");
    mesh(&world.user, &company.exec(), "", 2);
    // Nothing is there to run.
    let refused = world.run("join -f mesh.yaml").ends(5);
    refused.says("is not there, not in PATH, or may not be run");
    world.run("ca status -f mesh.yaml").says("may not be run");
    for (more, why) in [
        ("", "is not an authority"),
        ("-copy_extensions copy -days 900", "is valid for 900 days"),
        ("-copy_extensions copy; exit 9 #", "failed (exit status: 9)"),
    ] {
        company.program(more);
        let failed = world.run("join -f mesh.yaml");
        assert_eq!(failed.code, Some(1), "{failed}");
        failed.says(why);
        binds_nobody(&world);
    }
    // Another root than the one that is expected.
    other.program("-copy_extensions copy");
    fs::copy(other.folder.join("sign"), company.folder.join("sign")).unwrap();
    let failed = world.run("join -f mesh.yaml");
    failed.says("does not lead to root");
    binds_nobody(&world);
}

#[test]
fn a_mesh_goes_from_one_authority_to_another_and_back() {
    if !has_openssl() {
        return;
    }
    let mut world = World::joined(2);
    world.user = std::mem::replace(&mut world.user, Session::new()).var("PATH", "/usr/bin:/bin");
    let rotate = "rotate root -f mesh.yaml --projected-within 0s";
    let company = Company::new(&world.user, "company");
    company.program("-copy_extensions copy");
    mesh(&world.user, &company.exec(), "", 2);
    // Until then, all goes on under the old root.
    world.run("join -f mesh.yaml").ends(0).says("nothing to do");
    let told = world.run("plan -f mesh.yaml").ends(0);
    told.says("lets that root take the place of the other");
    let told = world.run("ca status -f mesh.yaml").ends(0);
    told.says("The mesh is still under root");
    world
        .run(&format!("{rotate} --to generate"))
        .ends(5)
        .says("leave --to out");
    world.run(rotate).ends(0).says("2 of 2 pairs proved");
    for member in ["eks-1", "eks-2"] {
        verifies(&world, member, &company);
    }
    world
        .run(rotate)
        .ends(0)
        .says("is the root of the mesh already");
    world.run("join -f mesh.yaml").ends(0).says("nothing to do");

    let second = Company::new(&world.user, "second");
    mesh(&world.user, &second.existing(), "", 2);
    world.run(rotate).ends(0);
    for member in ["eks-1", "eks-2"] {
        verifies(&world, member, &second);
    }
    world
        .run("ca status -f mesh.yaml")
        .ends(0)
        .says("(existing), under root");
    world.run("verify --traffic").ends(0);

    mesh(&world.user, "vault", "", 2);
    let made = world.run(rotate).ends(0);
    made.says("2 of 2 pairs proved");
    world.run("ca status").ends(0).says("Root in the vault");
    world.run("join -f mesh.yaml").ends(0).says("nothing to do");
}

#[test]
fn an_authority_that_is_there_already_signs_and_a_wrong_one_is_refused_with_the_reason() {
    let world = World::new(2);
    let company = Company::new(&world.user, "company");
    let other = Company::new(&world.user, "other");
    let swapped = company
        .existing()
        .replace(&company.at("issuing-key.pem"), &other.at("issuing-key.pem"));
    mesh(&world.user, &swapped, "", 2);
    world
        .run("join -f mesh.yaml")
        .ends(5)
        .says("is not the key of");
    let alone = company
        .existing()
        .replace(&company.at("root.pem"), &other.at("root.pem"));
    mesh(&world.user, &alone, "", 2);
    world
        .run("join -f mesh.yaml")
        .ends(3)
        .says("leads to no root");
    binds_nobody(&world);
    company.put(
        "issuing-key.pem",
        &fs::read_to_string(company.at("issuing-key.pem")).unwrap(),
        0o644,
    );
    mesh(&world.user, &company.existing(), "", 2);
    world
        .run("join -f mesh.yaml")
        .ends(5)
        .says("open to everybody");
    company.put(
        "issuing-key.pem",
        &fs::read_to_string(company.at("issuing-key.pem")).unwrap(),
        0o600,
    );
    let joined = world.run("join -f mesh.yaml -vvv").ends(0);
    tells_no_key(
        &world,
        &company,
        &format!("{}{}{}", joined.stdout, joined.stderr, world.journal()),
    );
    if has_openssl() {
        verifies(&world, "eks-1", &company);
    }
    let other = runner(&world, &company.existing(), "  key: P-384\n", 2);
    other.run("renew -f mesh.yaml --sandbox").ends(0);
    other
        .run("join -f mesh.yaml --sandbox")
        .ends(0)
        .says("nothing to do");
}

/// Has a request signed by OpenSSL, as somebody does to whom it is carried.
fn sign(company: &Company, request: &Path, into: &Path, more: &str) {
    let args = format!(
        "x509 -req -in {} -CA issuing.pem -CAkey issuing-key.pem -set_serial 0x4{} -copy_extensions copy {more} -out new",
        request.display(),
        crate::kit::now().as_nanosecond()
    );
    let (is_done, said) = openssl(&company.folder, &args);
    assert!(is_done, "{said}");
    let text = |name: &str| fs::read_to_string(company.folder.join(name)).unwrap();
    fs::write(into, text("new") + &text("issuing.pem")).unwrap();
}

#[test]
fn requests_are_carried_to_somebody_out_of_reach_and_certificates_back() {
    if !has_openssl() {
        return;
    }
    let world = World::new(2);
    let company = Company::new(&world.user, "company");
    let other = Company::new(&world.user, "other");
    let offline = |company: &Company| format!("offline: {{root: \"{}\"}}", company.at("root.pem"));
    let here = world.user.here();
    mesh(&world.user, &offline(&company), "", 2);
    let waits = world.run("join -f mesh.yaml").ends(5);
    let waits = waits
        .says("eks-1 has no certificate")
        .says("meshlink ca csr");
    waits.says("meshlink ca import FILE");
    let wrote = world.run("ca csr -f mesh.yaml --out out").ends(0);
    wrote.says("meshlink ca import");
    let request = |name: &str| fs::read(here.join(format!("out/{name}.csr"))).unwrap();
    let first = request("eks-1");
    // Days later, it is the same request.
    world.run("ca csr -f mesh.yaml --out out").ends(0);
    assert_eq!(request("eks-1"), first);
    let waits = world.run("join -f mesh.yaml").ends(5);
    waits.says("eks-2 waits for the answer to its request");
    binds_nobody(&world);

    let signed = |company: &Company, name: &str, more: &str| {
        let request = here.join(format!("out/{name}.csr"));
        sign(company, &request, &here.join(name), more);
    };
    for (by, more, why) in [
        (&other, "-days 365", "does not lead to root"),
        (&company, "-days 999", "is valid for 999 days"),
    ] {
        signed(by, "eks-1", more);
        world.run("ca import eks-1 -f mesh.yaml").ends(5).says(why);
    }
    fs::copy(company.folder.join("root.pem"), here.join("stranger")).unwrap();
    let refused = world.run("ca import stranger -f mesh.yaml").ends(5);
    refused.says("answers no request");
    world
        .run("ca import none -f mesh.yaml")
        .ends(5)
        .says("cannot read none");
    signed(&company, "eks-1", "-days 365");
    let taken = world.run("ca import eks-1 -f mesh.yaml").ends(0);
    taken.says("eks-2 waits for the answer");
    let waits = world.run("join -f mesh.yaml").ends(5);
    assert!(!waits.to_string().contains("eks-1 waits"), "{waits}");
    signed(&company, "eks-2", "-days 365");
    let taken = world.run("ca import eks-1 eks-2 -f mesh.yaml -o json");
    assert_eq!(taken.ends(0).json()["waiting"], serde_json::json!([]));
    let joined = world.run("join -f mesh.yaml -vvv").ends(0);
    joined.says("2 of 2 pairs proved");
    for member in ["eks-1", "eks-2"] {
        verifies(&world, member, &company);
    }
    world.run("join -f mesh.yaml").ends(0).says("nothing to do");
    world
        .run("ca csr")
        .ends(0)
        .says("eks-1 has a certificate that serves");

    // A renewal waits in the same way.
    mesh(&world.user, &offline(&company), "  key: P-384\n", 2);
    let waits = world.run("renew -f mesh.yaml").ends(5);
    waits.says("eks-1 has no certificate that serves");
    world.run("ca csr -f mesh.yaml --out out").ends(0);
    for name in ["eks-1", "eks-2"] {
        signed(&company, name, "-days 365");
    }
    world.run("ca import eks-1 eks-2 -f mesh.yaml").ends(0);
    world.run("renew -f mesh.yaml").ends(0);
    verifies(&world, "eks-2", &company);

    // So does a change of root.
    mesh(&world.user, &offline(&other), "", 2);
    let rotate = "rotate root -f mesh.yaml --projected-within 0s";
    world
        .run(rotate)
        .ends(5)
        .says("which is to sign the intermediates");
    world.run("ca csr -f mesh.yaml --out out").ends(0);
    for name in ["eks-1", "eks-2"] {
        signed(&other, name, "-days 365");
    }
    world.run("ca import eks-1 eks-2 -f mesh.yaml").ends(0);
    world.run(rotate).ends(0).says("2 of 2 pairs proved");
    verifies(&world, "eks-1", &other);
}

#[test]
fn a_root_key_under_a_passphrase_signs_for_whoever_has_it() {
    let mut world = World::joined(2);
    let file = |name: &str, text: &str| fs::write(world.user.here().join(name), text).unwrap();
    file("pass", "correct horse battery\n");
    file("wrong", "correct horse battery!\n");
    file("pass-2", "another one");
    let path = |name: &str| world.user.here().join(name).display().to_string();
    let (pass, wrong, second) = (path("pass"), path("wrong"), path("pass-2"));
    let with = |file: &str, args: &str| {
        let args = format!("{args} --sandbox");
        world
            .user
            .start_with(&args, &[("MESHLINK_PASSPHRASE_FILE", file)])
            .end()
    };
    let key = || fs::read_to_string(world.vault().join("roots/1/key.pem")).unwrap();
    let plain = key();
    world
        .run("ca protect --new-passphrase-file pass")
        .ends(0)
        .says("1 root keys");
    assert!(
        key().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
        "it is not sealed"
    );
    let left = fs::read_dir(world.vault().join("roots/1")).unwrap().count();
    assert_eq!(left, 2, "something is left beside it");
    if has_openssl() {
        let args = format!(
            "pkey -in {} -passin file:{pass}",
            world.vault().join("roots/1/key.pem").display()
        );
        assert_eq!(openssl(&world.user.here(), &args), (true, plain.clone()));
    }
    // What only reads, and what signs nothing, needs none.
    world.run("ca status").ends(0);
    world.run("join eks-1 eks-2").ends(0).says("nothing to do");
    mesh(&world.user, "vault", "  key: P-384\n", 2);
    let before = world.inventory("eks-1");
    world.run("plan renew -f mesh.yaml").ends(10);
    world
        .run("renew -f mesh.yaml")
        .ends(5)
        .says("MESHLINK_PASSPHRASE_FILE");
    assert_eq!(world.inventory("eks-1"), before);
    let refused = with(&wrong, "renew -f mesh.yaml");
    assert_ne!(refused.code, Some(0), "{refused}");
    let refused = refused.says("is not opened by this passphrase");
    assert!(!refused.to_string().contains("correct horse"), "{refused}");
    let done = with(&pass, "renew -f mesh.yaml -vvv").ends(0);
    for said in [&done.stdout, &done.stderr, &world.journal()] {
        assert!(!said.contains("correct horse"), "the passphrase is told");
    }
    // A new root is never left open beside it.
    world.run("rotate root --projected-within 0s").ends(5);
    with(&pass, "rotate root --projected-within 0s").ends(0);
    let new = fs::read_to_string(world.vault().join("roots/2/key.pem")).unwrap();
    assert!(new.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    with(&pass, "ca protect --new-passphrase-file pass-2")
        .ends(0)
        .says("2 root keys");
    assert_ne!(with(&pass, "ca protect --remove").code, Some(0));
    with(&second, "ca protect --remove")
        .ends(0)
        .says("without a passphrase");
    assert_eq!(key(), plain);
    world.user = std::mem::replace(&mut world.user, Session::new());
}
