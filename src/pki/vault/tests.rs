mod processes;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    time::Duration,
};

use futures::FutureExt as _;

use super::*;
use crate::{
    pki::{NewIntermediate, Profile},
    spec::KeyType,
};

/// What is signed with a key that is here waits for nothing.
trait AtOnce: Future + Sized {
    fn at_once(self) -> Self::Output {
        self.now_or_never().unwrap()
    }
}

impl<F: Future> AtOnce for F {}

const DAY: u64 = 24 * 3600;

struct Kit {
    dir: tempfile::TempDir,
    root: Profile,
    intermediate: Profile,
    cluster: ClusterName,
}

impl Kit {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            root: Profile::root().unwrap(),
            intermediate: Profile::intermediate().unwrap(),
            cluster: "east".parse().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data/shop")
    }

    fn vault(&self) -> Vault {
        Vault::open(self.path()).unwrap()
    }

    fn create(&self, vault: &Vault, now: &str) -> Result<Root, Error> {
        vault.create_root(&self.new_root(now))
    }

    fn new_root(&self, now: &str) -> NewRoot<'_> {
        // Leaked once per test: the mesh id must outlive the request.
        let mesh = Box::leak(Box::new("shop".parse().unwrap()));
        NewRoot {
            mesh,
            key: KeyType::P256,
            lifetime: Duration::from_secs(3650 * DAY),
            embedded: false,
            profile: &self.root,
            now: now.parse().unwrap(),
        }
    }

    fn new_intermediate(&self, now: &str) -> NewIntermediate<'_> {
        let mesh = Box::leak(Box::new("shop".parse().unwrap()));
        NewIntermediate {
            mesh,
            cluster: &self.cluster,
            namespace: "istio-system",
            names: &[],
            key: KeyType::P256,
            lifetime: Duration::from_secs(365 * DAY),
            is_exact: true,
            trust_domain: "cluster.local",
            profile: &self.intermediate,
            now: now.parse().unwrap(),
        }
    }

    /// Every path in the vault with its permissions, and every file's bytes.
    fn all(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut open = vec![self.path()];
        while let Some(path) = open.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            let mode = meta.mode() & 0o7777;
            if meta.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                found.push((path, mode, Vec::new()));
            } else {
                found.push((path.clone(), mode, fs::read(&path).unwrap()));
            }
        }
        found.sort();
        found
    }
}

const NOW: &str = "2026-01-01T00:00:00Z";

#[test]
fn an_empty_vault_is_empty_and_stays_unmade() {
    let kit = Kit::new();
    let vault = kit.vault();
    assert!(vault.root().unwrap().is_none());
    assert!(vault.roots().unwrap().is_empty());
    assert!(vault.clusters().unwrap().is_empty());
    assert!(vault.intermediate(&kit.cluster).unwrap().is_none());
    assert!(!kit.path().exists());
    assert!(matches!(
        vault
            .issue_intermediate(&kit.new_intermediate(NOW))
            .at_once(),
        Err(Error::NoRoot { .. })
    ));
}

#[test]
fn what_is_made_is_read_back_and_for_our_eyes_only() {
    let kit = Kit::new();
    let vault = kit.vault();
    let root = kit.create(&vault, NOW).unwrap();
    let made = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
    drop(vault);

    let vault = kit.vault();
    assert_eq!(vault.root().unwrap().unwrap().facts(), root.facts());
    let read = vault.intermediate(&kit.cluster).unwrap().unwrap();
    assert_eq!(read.facts(), made.facts());
    assert_eq!(read.root().facts(), root.facts());
    assert_eq!(
        vault.clusters().unwrap(),
        std::slice::from_ref(&kit.cluster)
    );
    for (path, mode, bytes) in kit.all() {
        let want = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, want, "{}", path.display());
        assert!(path.is_dir() || !bytes.is_empty());
    }
}

#[test]
fn a_root_is_never_overwritten_and_further_ones_are_kept_apart() {
    let kit = Kit::new();
    let vault = kit.vault();
    let first = kit.create(&vault, NOW).unwrap();
    assert!(matches!(
        kit.create(&vault, NOW),
        Err(Error::RootExists { .. })
    ));
    assert_eq!(vault.root().unwrap().unwrap().facts(), first.facts());

    let old = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
    let second = vault.add_root(&kit.new_root(NOW), None).unwrap();
    assert_ne!(second.facts().subject, first.facts().subject);
    assert_eq!(vault.root().unwrap().unwrap().facts(), second.facts());
    let numbers: Vec<_> = vault
        .roots()
        .unwrap()
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, [1, 2]);
    // What signs under the old root is still found, with that root, until it is issued anew.
    assert_eq!(
        vault.intermediate(&kit.cluster).unwrap().unwrap().root(),
        first.cert()
    );
    let new = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
    assert_eq!(new.root(), second.cert());
    assert_ne!(new.facts(), old.facts());
    assert!(kit.path().join("clusters/east/1/key.pem").exists());
}

#[test]
fn the_root_is_the_one_that_the_members_are_bound_to() {
    let kit = Kit::new();
    let vault = kit.vault();
    let first = kit.create(&vault, NOW).unwrap();
    let old = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
    let key = first.facts().spki_sha256.clone();
    vault.follow(&key);
    assert!(vault.next_root().unwrap().is_none(), "there is no other");
    let second = vault.add_root(&kit.new_root(NOW), None).unwrap();
    let next = vault.next_root().unwrap().unwrap();
    assert_eq!(next.facts(), second.facts());
    let spare = vault.spare(&second.facts().spki_sha256).unwrap().unwrap();
    assert_ne!(&spare, second.cert());
    assert!(vault.spare(&key).unwrap().is_none());

    // While one takes the place of the other, both can be signed under, and neither hides the other.
    let new = vault
        .issue_under(&kit.new_intermediate(NOW), second.cert())
        .at_once()
        .unwrap();
    assert_eq!(new.root(), second.cert());
    assert_eq!(vault.root().unwrap().unwrap().facts(), first.facts());
    let held = vault.intermediate(&kit.cluster).unwrap().unwrap();
    assert_eq!(held.facts(), old.facts());
    let again = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
    assert_eq!(again.facts(), old.facts(), "nothing is made over and over");

    vault.follow(&second.facts().spki_sha256);
    let held = vault.intermediate(&kit.cluster).unwrap().unwrap();
    assert_eq!(held.facts(), new.facts());
    // A root that is not here is not followed: whoever asks is told which one is.
    vault.follow("00");
    assert_eq!(vault.root().unwrap().unwrap().facts(), second.facts());
}

#[test]
fn a_root_of_somebody_else_is_taken_up_as_it_is() {
    let (kit, other) = (Kit::new(), Kit::new());
    let vault = kit.vault();
    kit.create(&vault, NOW).unwrap();
    let given = other.create(&other.vault(), NOW).unwrap();
    let taken = vault.add_root(&kit.new_root(NOW), Some(&given)).unwrap();
    assert_eq!(taken.facts(), given.facts());
    let key = &given.facts().spki_sha256;
    assert_eq!(vault.root_of(key).unwrap().unwrap().facts(), given.facts());
}

#[test]
fn an_intermediate_is_reused_until_something_changes() {
    let kit = Kit::new();
    let vault = kit.vault();
    kit.create(&vault, NOW).unwrap();
    let issue = |new: &NewIntermediate<'_>| {
        vault
            .issue_intermediate(new)
            .at_once()
            .unwrap()
            .facts()
            .sha256
            .clone()
    };
    let first = issue(&kit.new_intermediate(NOW));
    let before = kit.all();
    assert_eq!(issue(&kit.new_intermediate("2026-07-01T00:00:00Z")), first);
    assert_eq!(kit.all(), before, "a second run changes no byte");

    let late = issue(&kit.new_intermediate("2026-12-15T00:00:00Z"));
    assert_ne!(
        late, first,
        "with less than a third of its life left it is made anew"
    );
    let wider = ["istiod.example.com".to_owned()];
    let asked = NewIntermediate {
        names: &wider,
        ..kit.new_intermediate("2026-12-15T00:00:00Z")
    };
    let named = issue(&asked);
    assert_ne!(named, late);
    assert_eq!(issue(&asked), named);
    let other = NewIntermediate {
        key: KeyType::P384,
        ..asked
    };
    assert_ne!(issue(&other), named);
}

#[test]
fn an_intermediate_that_ends_with_its_root_is_not_made_over_and_over() {
    let kit = Kit::new();
    let vault = kit.vault();
    let root = vault
        .create_root(&NewRoot {
            lifetime: Duration::from_secs(40 * DAY),
            ..kit.new_root(NOW)
        })
        .unwrap();
    let first = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
    assert_eq!(first.facts().not_after, root.facts().not_after);
    let again = vault
        .issue_intermediate(&kit.new_intermediate("2026-02-05T00:00:00Z"))
        .at_once()
        .unwrap();
    assert_eq!(again.facts(), first.facts());
    let late = vault
        .issue_intermediate(&kit.new_intermediate("2026-02-11T00:00:00Z"))
        .at_once();
    let Err(Error::Make {
        source: crate::pki::Error::RootNotValid { .. },
        ..
    }) = late
    else {
        panic!("{late:?}")
    };
}

#[test]
fn what_others_could_have_touched_is_refused() {
    let kit = Kit::new();
    kit.create(&kit.vault(), NOW).unwrap();
    for (path, mode) in [
        ("", 0o750),
        ("roots", 0o701),
        ("roots/1", 0o770),
        ("roots/1/key.pem", 0o640),
        ("roots/1/cert.pem", 0o602),
    ] {
        let full = if path.is_empty() {
            kit.path()
        } else {
            kit.path().join(path)
        };
        let was = fs::metadata(&full).unwrap().permissions();
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).unwrap();
        let found = Vault::open(kit.path()).and_then(|vault| vault.root());
        assert!(
            matches!(&found, Err(Error::Exposed { path, mode: m }) if *path == full && *m == mode),
            "{path}: {found:?}"
        );
        fs::set_permissions(&full, was).unwrap();
    }
    assert!(kit.vault().root().unwrap().is_some());
}

#[test]
fn links_are_refused() {
    for path in ["roots/1/key.pem", "roots/1", "roots", "lock"] {
        let kit = Kit::new();
        kit.create(&kit.vault(), NOW).unwrap();
        let real = kit.path().join(path);
        let away = kit.dir.path().join("away");
        fs::rename(&real, &away).unwrap();
        symlink(&away, &real).unwrap();
        let vault = kit.vault();
        let found = vault.root().and_then(|_| kit.create(&vault, NOW));
        assert!(
            matches!(&found, Err(Error::NotPlain { path, .. }) if *path == real),
            "{found:?}"
        );
    }
}

#[test]
fn what_somebody_else_owns_is_refused() {
    if rustix::process::geteuid().as_raw() != 0 {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let kit = Kit::new();
    kit.create(&kit.vault(), NOW).unwrap();
    let key = kit.path().join("roots/1/key.pem");
    std::os::unix::fs::chown(&key, Some(1), None).unwrap();
    let found = kit.vault().root();
    assert!(
        matches!(found, Err(Error::Foreign { owner: 1, .. })),
        "{found:?}"
    );
}

#[test]
fn damage_is_named_and_never_healed_by_a_new_root() {
    for (damage, want) in [
        (("key.pem", None), "missing"),
        (("cert.pem", None), "missing"),
        (("key.pem", Some("")), "damaged"),
        (("cert.pem", Some("nonsense")), "damaged"),
    ] {
        let kit = Kit::new();
        kit.create(&kit.vault(), NOW).unwrap();
        let (file, content) = damage;
        let path = kit.path().join("roots/1").join(file);
        match content {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let vault = kit.vault();
        let error = vault.root().unwrap_err().to_string();
        assert!(error.contains(want), "{file}: {error}");
        assert!(matches!(
            kit.create(&vault, NOW),
            Err(Error::RootExists { .. })
        ));
    }
}

#[test]
fn a_key_of_another_root_is_damage() {
    let kit = Kit::new();
    let vault = kit.vault();
    kit.create(&vault, NOW).unwrap();
    vault.add_root(&kit.new_root(NOW), None).unwrap();
    let path = |number: u32| kit.path().join(format!("roots/{number}/key.pem"));
    fs::copy(path(1), path(2)).unwrap();
    let found = vault.root();
    let Err(Error::Damaged {
        source: crate::pki::Error::Mismatch { .. },
        ..
    }) = found
    else {
        panic!("{found:?}")
    };
}

#[test]
fn a_second_writer_is_told_who_is_first_and_readers_are_not_held_up() {
    let kit = Kit::new();
    let first = kit.vault();
    kit.create(&first, NOW).unwrap();
    let second = kit.vault();
    assert!(second.root().unwrap().is_some());
    let error = second
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap_err();
    let Error::Busy { holder, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        holder.contains(&format!("process {} on ", std::process::id())),
        "{holder}"
    );
    drop(first);
    second
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
}

#[test]
fn scraps_of_a_killed_writer_are_swept_and_never_read() {
    let kit = Kit::new();
    let roots = kit.path().join("roots");
    let scrap = roots.join(".new-77-1");
    fs::create_dir_all(&scrap).unwrap();
    for dir in [kit.path(), roots.clone(), scrap.clone()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(scrap.join(KEY), "half a k").unwrap();
    let vault = kit.vault();
    assert!(vault.root().unwrap().is_none());
    kit.create(&vault, NOW).unwrap();
    assert!(!scrap.exists());
    assert_eq!(fs::read_dir(&roots).unwrap().count(), 1);
}

#[test]
fn a_full_disk_is_called_by_its_name() {
    let error = files::write_error(Path::new("x"), std::io::ErrorKind::StorageFull.into());
    assert!(matches!(error, Error::Full { .. }));
}

#[test]
fn what_cannot_be_finished_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // The second file cannot be made: its folder does not exist.
    let put = files::put(dir.path(), "1", &[("a", b"1"), ("no/b", b"2")]);
    assert!(matches!(put, Err(Error::Write { .. })), "{put:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // A number that is taken is not replaced.
    files::put(dir.path(), "1", &[("a", b"1")]).unwrap();
    let again = files::put(dir.path(), "1", &[("a", b"2")]);
    assert!(matches!(again, Err(Error::Write { .. })), "{again:?}");
    assert_eq!(fs::read(dir.path().join("1/a")).unwrap(), b"1");
}

#[test]
fn no_error_and_no_debug_shows_a_byte_of_a_key() {
    let kit = Kit::new();
    let vault = kit.vault();
    let root = kit.create(&vault, NOW).unwrap();
    let made = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
    let key = kit.path().join("roots/1/key.pem");
    let secret = fs::read_to_string(&key).unwrap();
    let mut said = format!("{vault:?} {root:?} {made:?} {:#?}", made.cacerts().unwrap());
    // Cut, swapped and bent in every way a key file may be; each error told in full.
    let (half, turned) = (secret.len() / 2, secret.replace('A', "B"));
    let lines: Vec<_> = secret.lines().collect();
    for broken in [
        &secret[..half],
        &secret[half..],
        &turned,
        lines[1],
        &format!("{} {secret}", lines[1]),
    ] {
        fs::write(&key, broken).unwrap();
        if let Err(error) = kit.vault().root() {
            let mut next: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = next {
                said.push_str(&format!(" {error} {error:?}"));
                next = error.source();
            }
        }
    }
    assert!(said.contains("damaged"), "{said}");
    let body: String = lines[1..lines.len() - 1].concat();
    for start in 0..body.len() - 12 {
        assert!(!said.contains(&body[start..start + 12]), "{said}");
    }
}
