//! Side by side, in one run: base, istiod and a gateway rendered here, and by `helm template`.
//!
//! `cargo run --release -p helm-engine --example bench-render -- CHARTS HELM [ROUNDS]`: CHARTS is a folder with the charts `base`,
//! `istiod` and `gateway`, HELM the program to compare with. Prints the median of all rounds, the ratio, and the most
//! memory each used. A program of its own, because a timed test would only measure the machine it runs on.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use helm_engine::{Capabilities, Chart, Release, render};
use serde_json::json;

const RELEASES: [(&str, &str, &str); 3] = [
    ("istio-base", "base", "istio-system"),
    ("istiod", "istiod", "istio-system"),
    ("istio-eastwestgateway", "gateway", "istio-ingress"),
];

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // What is measured, as a process of its own, so that memory can be told apart.
        ["--once", charts] => ours(Path::new(charts)).map(drop),
        [charts, helm] => compare(Path::new(charts), helm, 9),
        [charts, helm, rounds] => compare(Path::new(charts), helm, rounds.parse()?),
        _ => Err("usage: bench-render CHARTS HELM [ROUNDS]".into()),
    }
}

fn ours(charts: &Path) -> Result<usize, Failure> {
    let mut size = 0;
    for (name, chart, namespace) in RELEASES {
        let chart = Chart::from_path(&charts.join(chart))?;
        let release = Release::install(name, namespace);
        size += render(&chart, &json!({}), &release, &Capabilities::default())?
            .text()
            .len();
    }
    Ok(size)
}

fn helm(charts: &Path, helm: &str) -> Result<usize, Failure> {
    let mut size = 0;
    for (name, chart, namespace) in RELEASES {
        let output = Command::new(helm)
            .args(["template", name])
            .arg(charts.join(chart))
            .args(["-n", namespace])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("{helm} template {name} failed").into());
        }
        size += output.stdout.len();
    }
    Ok(size)
}

fn compare(charts: &Path, program: &str, rounds: usize) -> Result<(), Failure> {
    let own = std::env::current_exe()?;
    // Once each before anything counts, so that files are in memory for both.
    let sizes = (ours(charts)?, helm(charts, program)?);
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        fast.push(timed(|| ours(charts))?);
        slow.push(timed(|| helm(charts, program))?);
    }
    let (fast, slow) = (median(fast), median(slow));
    say(&format!(
        "base + istiod + gateway, median of {rounds} rounds, charts read from disk each time"
    ));
    say(&format!(
        "  helm-engine    {fast:>10.1?}   {:>9} bytes",
        sizes.0
    ));
    say(&format!(
        "  helm template  {slow:>10.1?}   {:>9} bytes",
        sizes.1
    ));
    say(&format!(
        "  ratio          {:>9.1}x",
        slow.as_secs_f64() / fast.as_secs_f64()
    ));
    let memory = |command: &mut Command| {
        peak(command).map_or_else(
            || "unknown".to_owned(),
            |kilobytes| format!("{:.1} MB", kilobytes as f64 / 1024.0),
        )
    };
    say(&format!(
        "  peak memory    {} for all three, helm {} for base alone",
        memory(Command::new(own).arg("--once").arg(charts)),
        memory(
            Command::new(program)
                .args(["template", "x"])
                .arg(charts.join("base"))
        )
    ));
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<Duration, Failure> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The most memory a process held, in kB, as Linux counts it; looked at until it ends.
fn peak(command: &mut Command) -> Option<u64> {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = None;
    while child.try_wait().ok()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse()
                .ok()
        });
        most = most.max(line);
        std::thread::sleep(Duration::from_micros(200));
    }
    most
}

#[expect(clippy::print_stdout, reason = "a program's report")]
fn say(text: &str) {
    println!("{text}");
}
