//! Certificates for many clusters, side by side with what people do instead (`openssl`).
//!
//! Run with `cargo bench --bench pki --features measure`; the figures hold for this machine and this profile.
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

use meshlink::measure;

const CLUSTERS: usize = 200;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let measured = measure::certificates(CLUSTERS, dir.path()).unwrap();
    let ours = measured.issued;
    println!("{CLUSTERS} intermediates, key to PEM: {ours:.1?}");
    println!(
        "{CLUSTERS} intermediates into the vault, synced: {:.1?}; found there again: {:.1?}",
        measured.kept, measured.found
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
