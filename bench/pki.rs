//! Certificates for many clusters, side by side with what people do instead (`openssl`).
//!
//! Run with `cargo bench --bench pki`; the figures hold for this machine and this profile.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and may stop at anything odd"
)]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use meshlink::{
    name::{ClusterName, MeshId},
    pki::{NewIntermediate, NewRoot, Profile, Root, Vault},
    spec::KeyType,
};

const CLUSTERS: usize = 200;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn main() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mesh: MeshId = "bench".parse().unwrap();
    let (root, intermediate) = (Profile::root().unwrap(), Profile::intermediate().unwrap());
    let key = KeyType::P256;
    let new = NewRoot {
        mesh: &mesh,
        key,
        lifetime: 10 * YEAR,
        embedded: false,
        profile: &root,
        now,
    };
    let names: Vec<ClusterName> = (0..CLUSTERS)
        .map(|n| format!("c-{n}").parse().unwrap())
        .collect();
    let each = |cluster| NewIntermediate {
        mesh: &mesh,
        cluster,
        namespace: "istio-system",
        names: &[],
        key,
        lifetime: YEAR,
        profile: &intermediate,
        now,
    };

    let root = Root::create(&new).unwrap();
    let ours = took(|| {
        for name in &names {
            root.issue(&each(name)).unwrap().cacerts().unwrap();
        }
    });
    println!("{CLUSTERS} intermediates, key to PEM: {ours:.1?}");

    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path().join("vault")).unwrap();
    vault.create_root(&new).unwrap();
    let first = took(|| {
        names
            .iter()
            .for_each(|name| drop(vault.issue_intermediate(&each(name)).unwrap()))
    });
    let again = took(|| {
        names
            .iter()
            .for_each(|name| drop(vault.issue_intermediate(&each(name)).unwrap()))
    });
    println!(
        "{CLUSTERS} intermediates into the vault, synced: {first:.1?}; found there again: {again:.1?}"
    );

    for key in ["rsa:4096", "ec -pkeyopt ec_paramgen_curve:P-256"] {
        let Some(theirs) = openssl(dir.path(), key) else {
            println!("openssl is not here: nothing to compare with");
            return;
        };
        let one = ours / CLUSTERS as u32;
        let ratio = theirs.as_secs_f64() / one.as_secs_f64();
        println!(
            "one intermediate: openssl ({key}) {theirs:.1?}, meshlink {one:.1?}, ratio {ratio:.0}"
        );
    }
}

fn took(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// One intermediate by hand: a request with its key, signed by a root that is there.
fn openssl(dir: &Path, key: &str) -> Option<Duration> {
    let run = |line: &str| {
        let output = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(dir)
            .output()
            .ok()?;
        output.status.success().then_some(())
    };
    run(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root -days 3650 -subj /CN=Root",
    )?;
    let start = Instant::now();
    run(&format!(
        "req -newkey {key} -nodes -keyout key -out request -subj /CN=Intermediate"
    ))?;
    run("x509 -req -in request -CA root -CAkey root.key -CAcreateserial -out cert -days 365")?;
    Some(start.elapsed())
}
