//! What a join of embedded clusters, two if not said otherwise, costs: wall time, memory and requests of the tool alone.
//!
//!     cargo build --profile dist --bin meshlink --example bench-join
//!     target/dist/examples/bench-join target/dist/meshlink [--requests] [--clusters 11]
//!
//! The clusters run in this process and answer at once, so what is left is the tool. Their istiods read each other too;
//! what they ask is not counted: the tool is known by its user agent. `--requests` lists every verb and resource.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and may stop at anything odd"
)]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use meshlink::sandbox::{Options, Sandbox, api::Counts};

/// What one run of the command cost.
struct Cost {
    wall: Duration,
    /// Processor time, all threads.
    cpu: Duration,
    peak_kib: u64,
    ok: bool,
}

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn main() {
    let mut args = std::env::args().skip(1);
    let program = args
        .next()
        .unwrap_or_else(|| "target/debug/meshlink".into());
    let (mut listed, mut clusters) = (false, 2_usize);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--requests" => listed = true,
            "--clusters" => clusters = args.next().unwrap().parse().unwrap(),
            other => return println!("no such option: {other}"),
        }
    }
    let members: Vec<String> = (1..=clusters).map(|n| format!("eks-{n}")).collect();
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    let join = [&["join"], names.as_slice()].concat();
    let program = PathBuf::from(program);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let options = Options::named(names.clone(), state.join("meshlink-sandbox"));
    let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();

    println!("machine        {}", machine());
    println!(
        "program        {} ({:.1} MB)",
        program.display(),
        size(&program)
    );
    println!("--version      {:.1} ms, median of 20", version(&program));
    for (what, words) in [
        ("join", join.clone()),
        ("join again", join),
        ("status", vec!["status"]),
        ("verify", vec!["verify", "--traffic"]),
        ("leave", vec!["leave", "eks-2", "--uninstall", "--crds"]),
    ] {
        let before: Vec<_> = names.iter().map(|name| count(&sandbox, name)).collect();
        let cost = run(&program, home.path(), &state, &words);
        println!(
            "{what:14} {:>7.0} ms, {:>4.0} ms of processor  peak {:>5.1} MB  {}",
            cost.wall.as_secs_f64() * 1000.0,
            cost.cpu.as_secs_f64() * 1000.0,
            cost.peak_kib as f64 / 1024.0,
            if cost.ok { "" } else { "FAILED" }
        );
        for (name, before) in names.iter().zip(before) {
            let asked = count(&sandbox, name).since(&before);
            println!("               {name}: {}", requests(&asked));
            if let Some(bound) = bound(what, &sandbox, name) {
                println!("               {:w$}  {bound}", "", w = name.len());
            }
            for (verb, resource, n) in asked.iter().filter(|_| listed) {
                println!(
                    "               {:w$}  {n:4} {verb} {resource}",
                    "",
                    w = name.len()
                );
            }
        }
    }
}

fn requests(asked: &Counts) -> String {
    format!(
        "{} reads, {} writes, {} reviews, {} watches, {} forwards",
        asked.reads(),
        asked.writes(),
        asked.reviews(),
        asked.watches(),
        asked.forwards()
    )
}

/// What the requests of a command are to be measured against.
fn bound(what: &str, sandbox: &Sandbox, cluster: &str) -> Option<String> {
    let (objects, kinds) = held(sandbox, cluster);
    match what {
        "join" => Some(format!("bar: {objects} objects + 15 = {}", objects + 15)),
        "join again" => Some(format!(
            "bar: {kinds} kinds by namespace + 8 = {} reads, 0 writes",
            kinds + 8
        )),
        _ => None,
    }
}

/// The objects the tool has made in a cluster, and in how many lists they are found.
fn held(sandbox: &Sandbox, cluster: &str) -> (usize, usize) {
    let api = sandbox.api(cluster).unwrap();
    let counts = count(sandbox, cluster);
    let written = counts
        .iter()
        .filter(|(verb, ..)| ["create", "patch"].contains(verb));
    let resources: BTreeSet<&str> = written.map(|(_, resource, _)| resource).collect();
    let (mut objects, mut lists) = (0, BTreeSet::new());
    for resource in resources {
        for object in api.store().list(resource, None) {
            let fields = object["metadata"]["managedFields"].as_array();
            let ours = |f: &serde_json::Value| {
                f["manager"]
                    .as_str()
                    .is_some_and(|m| m == "helm" || m.starts_with("meshlink"))
            };
            if fields.into_iter().flatten().any(ours) {
                objects += 1;
                lists.insert((resource, object["metadata"]["namespace"].to_string()));
            }
        }
    }
    (objects, lists.len())
}

/// What the tool itself has asked so far.
fn count(sandbox: &Sandbox, cluster: &str) -> Counts {
    sandbox
        .api(cluster)
        .unwrap()
        .counters()
        .of_agent("meshlink/")
}

fn run(program: &Path, home: &Path, state: &Path, words: &[&str]) -> Cost {
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(words)
        .args(["--sandbox", "-q"])
        .env_clear()
        .env("HOME", home)
        .env("XDG_STATE_HOME", state)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let (mut peak_kib, mut used) = (0, Duration::ZERO);
    let ok = loop {
        peak_kib = peak_kib.max(peak(&child));
        used = used.max(cpu(&child));
        if let Some(status) = child.try_wait().unwrap() {
            break status.success();
        }
        // The kernel keeps the highest value; it only has to be read before the end.
        std::thread::sleep(Duration::from_millis(2));
    };
    Cost {
        wall: begun.elapsed(),
        cpu: used,
        peak_kib,
        ok,
    }
}

/// The most memory a process has held, as the kernel says it.
fn peak(child: &Child) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The time a process has run on a processor, in the kernel's hundredths of a second.
fn cpu(child: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // The 14th and 15th field, counted from the name's closing parenthesis.
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

fn version(program: &Path) -> f64 {
    let one = || {
        let begun = Instant::now();
        Command::new(program)
            .arg("--version")
            .env_clear()
            .output()
            .unwrap();
        begun.elapsed().as_secs_f64() * 1000.0
    };
    let mut all: Vec<f64> = (0..20).map(|_| one()).collect();
    all.sort_by(f64::total_cmp);
    all[10]
}

fn size(program: &Path) -> f64 {
    std::fs::metadata(program).map_or(0.0, |m| m.len() as f64 / 1e6)
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = info.lines().filter(|l| l.starts_with("processor")).count();
    format!(
        "{} × {cores}, load {}",
        model.map_or("unknown", |(_, name)| name),
        load.split_whitespace().next().unwrap_or("unknown")
    )
}
