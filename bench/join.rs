//! What a join of embedded clusters, two if not said otherwise, costs: wall time, memory and requests of the tool alone.
//!
//!     cargo build --profile dist --bin meshlink --example bench-join
//!     target/dist/examples/bench-join target/dist/meshlink [--clusters 11] [--requests] [--waterfall]
//!     target/dist/examples/bench-join target/dist/meshlink --table 2,10,24,50
//!
//! The clusters run in this process and answer at once, so what is left is the tool. Their istiods read each other too;
//! what they ask is not counted: the tool is known by its user agent. `--requests` lists every verb and resource,
//! `--waterfall` draws when the steps of the join ran, and `--table` prints a line for each of these numbers of members,
//! and what of the processor time is due to a member and what to a pair.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and may stop at anything odd"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
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

/// What is to be measured.
struct Asked {
    program: PathBuf,
    sizes: Vec<usize>,
    table: bool,
    listed: bool,
    waterfall: bool,
}

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn main() {
    let mut args = std::env::args().skip(1);
    let program = args.next();
    let mut asked = Asked {
        program: program
            .unwrap_or_else(|| "target/debug/meshlink".into())
            .into(),
        sizes: vec![2],
        table: false,
        listed: false,
        waterfall: false,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--requests" => asked.listed = true,
            "--waterfall" => asked.waterfall = true,
            "--clusters" | "--table" => {
                asked.table = arg == "--table";
                let sizes = args.next().unwrap_or_default();
                asked.sizes = sizes.split(',').map(|n| n.parse().unwrap()).collect();
            }
            other => return println!("no such option: {other}"),
        }
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    println!("machine        {}", machine());
    println!(
        "program        {} ({:.1} MB)",
        asked.program.display(),
        size(&asked.program)
    );
    println!(
        "--version      {:.1} ms, median of 20",
        version(&asked.program)
    );
    if asked.table {
        table(&asked);
    } else {
        for clusters in &asked.sizes {
            let mut mesh = Mesh::new(*clusters);
            for what in mesh.commands() {
                mesh.measure(&what, &asked, true);
            }
        }
    }
}

/// Embedded clusters, and a home for the tool.
struct Mesh {
    names: Vec<String>,
    home: tempfile::TempDir,
    state: PathBuf,
    sandbox: Sandbox,
    _runtime: tokio::runtime::Runtime,
}

/// One command: what it is called in what is printed, and its words.
struct What(&'static str, Vec<String>);

/// The commands, in their order.
const JOIN: &str = "join";
const AGAIN: &str = "join again";
const STATUS: &str = "status";
const VERIFY: &str = "verify";
const LEAVE: &str = "leave";

impl Mesh {
    fn new(clusters: usize) -> Self {
        let names: Vec<String> = (1..=clusters).map(|n| format!("eks-{n}")).collect();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let all = names.iter().map(String::as_str);
        let options = Options::named(all, state.join("meshlink-sandbox"));
        let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();
        Self {
            names,
            home,
            state,
            sandbox,
            _runtime: runtime,
        }
    }

    fn commands(&self) -> Vec<What> {
        let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let join = [words("join"), self.names.clone()].concat();
        vec![
            What(JOIN, join.clone()),
            What(AGAIN, join),
            What(STATUS, words("status")),
            What(VERIFY, words("verify --traffic")),
            What(LEAVE, words("leave eks-2 --uninstall --crds")),
        ]
    }

    /// What a command costs, and the most requests that any member had of it.
    fn measure(&mut self, What(what, words): &What, asked: &Asked, told: bool) -> (Cost, u64) {
        let names = &self.names;
        let before: Vec<_> = names.iter().map(|n| count(&self.sandbox, n)).collect();
        let cost = run(&asked.program, self.home.path(), &self.state, words);
        if told {
            println!(
                "{what:14} {:>7.0} ms, {:>4.0} ms of processor  peak {:>5.1} MB  {}",
                cost.wall.as_secs_f64() * 1000.0,
                cost.cpu.as_secs_f64() * 1000.0,
                cost.peak_kib as f64 / 1024.0,
                if cost.ok { "" } else { "FAILED" }
            );
        }
        let mut most = 0;
        for (name, before) in names.iter().zip(before) {
            let counts = count(&self.sandbox, name).since(&before);
            let all = counts.reads() + counts.writes() + counts.reviews() + counts.watches();
            most = most.max(all + counts.forwards());
            if told {
                self.tell(what, name, &counts, asked.listed);
            }
        }
        if *what == JOIN && asked.waterfall {
            waterfall(&self.state);
        }
        (cost, most)
    }

    fn tell(&self, what: &str, name: &str, counts: &Counts, listed: bool) {
        println!("               {name}: {}", requests(counts));
        if let Some(bound) = bound(what, &self.sandbox, name) {
            println!("               {:w$}  {bound}", "", w = name.len());
        }
        for (verb, resource, n) in counts.iter().filter(|_| listed) {
            println!(
                "               {:w$}  {n:4} {verb} {resource}",
                "",
                w = name.len()
            );
        }
    }
}

/// A line for each number of members.
fn table(asked: &Asked) {
    println!();
    println!(
        "| members | join | processor | peak | requests of one | again | requests of one | `status` | `verify --traffic` | `leave` of one |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut joins = vec![];
    for clusters in &asked.sizes {
        let mut mesh = Mesh::new(*clusters);
        let mut row = vec![];
        for what in mesh.commands() {
            let (cost, requests) = mesh.measure(&what, asked, false);
            let wall = match cost.ok {
                true => format!("{:.2} s", cost.wall.as_secs_f64()),
                false => "failed".to_owned(),
            };
            row.push(wall);
            if what.0 == JOIN {
                joins.push((*clusters as f64, cost.cpu.as_secs_f64()));
                row.push(format!("{:.2} s", cost.cpu.as_secs_f64()));
                row.push(format!("{:.0} MB", cost.peak_kib as f64 / 1024.0));
            }
            if [JOIN, AGAIN].contains(&what.0) {
                row.push(requests.to_string());
            }
        }
        println!("| {clusters} | {} |", row.join(" | "));
    }
    if let Some((member, pair)) = shares(&joins) {
        println!();
        println!(
            "of a join's processor time: {:.0} ms a member, {:.2} ms a pair",
            member * 1000.0,
            pair * 1000.0
        );
    }
}

/// By least squares, what a member and what a pair costs, where a join of n costs n of the one and n (n - 1) of the other.
fn shares(joins: &[(f64, f64)]) -> Option<(f64, f64)> {
    let (mut mm, mut mp, mut pp, mut mt, mut pt) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (members, time) in joins {
        // A large mesh must not outweigh all others.
        let (weight, pairs) = (1.0 / (members * members), members * (members - 1.0));
        mm += weight * members * members;
        mp += weight * members * pairs;
        pp += weight * pairs * pairs;
        mt += weight * members * time;
        pt += weight * pairs * time;
    }
    let det = mm * pp - mp * mp;
    (joins.len() > 1 && det.abs() > f64::EPSILON)
        .then(|| ((mt * pp - pt * mp) / det, (pt * mm - mt * mp) / det))
}

/// When the steps of each kind ran, by the journal of the run.
fn waterfall(state: &Path) {
    let mut kinds: BTreeMap<String, (u64, f64, f64, u64)> = BTreeMap::new();
    let Some(text) = journal(state) else {
        return println!("               no journal");
    };
    let events: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let at = |event: &serde_json::Value| -> Option<f64> {
        let at: jiff::Timestamp = event["at"].as_str()?.parse().ok()?;
        Some(at.as_microsecond() as f64 / 1e6)
    };
    let (Some(from), Some(to)) = (events.first().and_then(at), events.last().and_then(at)) else {
        return;
    };
    for event in events.iter().filter(|e| e["event"] == "step-finished") {
        let step = event["step"].as_str().unwrap_or_default();
        let verb = step.split('/').next().unwrap_or_default().to_owned();
        let millis = event["millis"].as_u64().unwrap_or_default();
        let end = at(event).unwrap_or(to) - from;
        let begin = (end - millis as f64 / 1000.0).max(0.0);
        let (steps, first, last, longest) = kinds.entry(verb).or_insert((0, begin, end, 0));
        *steps += 1;
        *first = first.min(begin);
        *last = last.max(end);
        *longest = millis.max(*longest);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));
    let whole = (to - from).max(0.001);
    for (verb, (steps, first, last, longest)) in kinds {
        let place = |t: f64| ((t / whole) * 40.0).floor().clamp(0.0, 39.0) as usize;
        let (begin, end) = (place(first), place(last));
        println!(
            "               {verb:18} {}{}{} {:>6.0} to {:>6.0} ms, {steps:4} steps, longest {longest} ms",
            " ".repeat(begin),
            "█".repeat(end - begin + 1),
            " ".repeat(39 - end),
            first * 1000.0,
            last * 1000.0
        );
    }
}

/// The newest journal below a folder.
fn journal(folder: &Path) -> Option<String> {
    let mut open = vec![folder.to_owned()];
    let mut found = vec![];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "jsonl") {
                found.push((entry.metadata().and_then(|m| m.modified()).ok()?, path));
            }
        }
    }
    found.sort();
    std::fs::read_to_string(found.pop()?.1).ok()
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

fn run(program: &Path, home: &Path, state: &Path, words: &[String]) -> Cost {
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
