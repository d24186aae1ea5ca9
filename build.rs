//! Tells the program which commit it was built from, where there is one to tell.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let version = env!("CARGO_PKG_VERSION");
    let long = commit().map_or_else(|| version.into(), |commit| format!("{version} ({commit})"));
    println!("cargo:rustc-env=MESHLINK_VERSION={long}");
}

/// The commit and its date; `None` for a package unpacked from an archive or into another repository.
fn commit() -> Option<String> {
    git(&["rev-parse", "--show-prefix"]).filter(String::is_empty)?;
    // Written at every commit and checkout; without it the version would be that of the first build.
    for name in ["logs/HEAD", "HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["log", "-1", "--format=%h %cs"]).filter(|commit| !commit.is_empty())
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
