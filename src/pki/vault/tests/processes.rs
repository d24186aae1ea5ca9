//! Writers at once, writers killed, writers on a full disk.

use super::*;

#[test]
fn of_many_writers_at_once_one_makes_the_root() {
    let kit = Kit::new();
    let start = std::sync::Barrier::new(8);
    let outcome = || {
        start.wait();
        let vault = kit.vault();
        let made = kit.create(&vault, NOW);
        // Held until all have tried, so that nobody comes after.
        start.wait();
        made
    };
    let made: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(outcome)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(
        made.iter().filter(|made| made.is_ok()).count(),
        1,
        "{made:?}"
    );
    let lost = |made: &&Result<Root, Error>| matches!(made, Err(Error::Busy { .. }));
    assert_eq!(made.iter().filter(lost).count(), 7, "{made:?}");
    assert_eq!(kit.vault().roots().unwrap().len(), 1);
}

/// Runs one of the tests below in a process of its own, in this folder.
fn within(dir: &Path, test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let name = format!("pki::vault::tests::processes::{test}");
    command
        .args(["--exact", &name, "--ignored", "--test-threads=1"])
        .current_dir(dir);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    command
}

fn fill(vault: &Vault, kit: &Kit) {
    if vault.root().unwrap().is_none() {
        kit.create(vault, NOW).unwrap();
    }
    for n in 0..20 {
        let cluster = format!("c-{n}").parse().unwrap();
        let new = NewIntermediate {
            cluster: &cluster,
            ..kit.new_intermediate(NOW)
        };
        vault.issue_intermediate(&new).at_once().unwrap();
    }
}

#[test]
#[ignore = "run by a_killed_writer_leaves_the_old_state_or_the_new_one, which kills it"]
fn a_writer_to_be_killed() {
    fill(&Vault::open("vault").unwrap(), &Kit::new());
}

#[test]
fn a_killed_writer_leaves_the_old_state_or_the_new_one() {
    let kit = Kit::new();
    let dir = kit.dir.path().join("vault");
    let mut seen: std::collections::BTreeMap<PathBuf, Vec<u8>> = Default::default();
    for round in 0..12 {
        let mut writer = within(kit.dir.path(), "a_writer_to_be_killed")
            .spawn()
            .unwrap();
        // Dies in the midst of its work, a little further on each time.
        while count(&dir) <= 6 * round && writer.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();

        let vault = Vault::open(&dir).unwrap();
        vault.root().unwrap();
        assert!(vault.roots().unwrap().len() <= 1);
        let clusters = vault.clusters().unwrap();
        // A folder of a cluster may be there before what belongs into it.
        clusters
            .iter()
            .for_each(|cluster| drop(vault.intermediate(cluster).unwrap()));
        for dir in [
            vec![dir.join("roots")],
            clusters.iter().map(|c| vault.cluster_dir(c)).collect(),
        ]
        .concat()
        {
            let path = dir.join("1/key.pem");
            let Ok(key) = fs::read(&path) else { continue };
            assert_eq!(
                *seen.entry(path).or_insert(key.clone()),
                key,
                "a key was replaced"
            );
        }
    }
    assert!(!seen.is_empty(), "nobody lived long enough to write a key");
    let vault = Vault::open(&dir).unwrap();
    fill(&vault, &kit);
    assert_eq!(vault.clusters().unwrap().len(), 20);
    for (path, key) in seen {
        assert_eq!(fs::read(path).unwrap(), key);
    }
    // The vault and its lock, two folders of folders, then root and clusters: number, key, certificate.
    assert_eq!(count(&dir), 4 + 3 + 20 * 4, "a scrap is left");
}

/// How many files and folders there are, this one counted.
fn count(path: &Path) -> usize {
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    usize::from(path.exists()) + below.map(|entry| count(&entry.path())).sum::<usize>()
}

#[test]
#[ignore = "run by a_full_disk_changes_nothing, on a disk of its own"]
fn a_writer_on_a_full_disk() {
    let kit = Kit::new();
    let vault = Vault::open("vault").unwrap();
    let fill = |name: &str| {
        let mut file = fs::File::create(name).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    };
    fill("filler");
    let full = kit.create(&vault, NOW);
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    assert!(vault.roots().unwrap().is_empty());

    fs::remove_file("filler").unwrap();
    let root = kit.create(&vault, NOW).unwrap();
    fill("filler");
    let full = vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once();
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    assert!(vault.intermediate(&kit.cluster).unwrap().is_none());
    assert_eq!(vault.root().unwrap().unwrap().facts(), root.facts());

    fs::remove_file("filler").unwrap();
    vault
        .issue_intermediate(&kit.new_intermediate(NOW))
        .at_once()
        .unwrap();
}

#[test]
fn a_full_disk_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = |then: &str| {
        let script = format!("mount -t tmpfs -o size=64k,mode=700 none . && cd \"$PWD\" && {then}");
        let mut command = std::process::Command::new("unshare");
        command
            .args(["-rm", "sh", "-c", &script, "sh"])
            .current_dir(dir.path());
        command
    };
    if !mounted("true")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        eprintln!("skipped: no disk of one's own can be mounted here");
        return;
    }
    let inner = within(dir.path(), "a_writer_on_a_full_disk");
    let mut outer = mounted("exec \"$@\"");
    let output = outer
        .arg(inner.get_program())
        .args(inner.get_args())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
