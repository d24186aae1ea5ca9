//! Both sides' answers, compared.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use helm_engine::{Capabilities, Chart, Error, Release, Rendered, render, values};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::Case;

/// What Helm answers.
#[derive(Deserialize)]
pub(crate) struct Answer {
    manifest: String,
    pub(crate) notes: String,
    hooks: usize,
    #[serde(default)]
    pub(crate) error: String,
}

/// What came out of comparing all cases.
#[derive(Default)]
pub(crate) struct Report {
    cases: usize,
    rendered: usize,
    refused: usize,
    refusals_differ: usize,
    bytes_differ: usize,
    objects_differ: usize,
    verdicts_differ: usize,
    ours: Duration,
    theirs: Duration,
    differences: Vec<String>,
}

impl Report {
    /// All objects equal, the same verdicts and refusals, and nearly all text equal.
    pub(crate) fn passed(&self) -> bool {
        let equal_bytes = self.rendered - self.bytes_differ;
        self.rendered > 0
            && self.objects_differ + self.verdicts_differ + self.refusals_differ == 0
            && equal_bytes * 1000 >= self.rendered * 995
    }

    pub(crate) fn text(&self, show: usize) -> String {
        let mut out = format!(
            "oracle: {} value sets, {} rendered, {} refused by both\n  equal after parsing {} of {}, equal to the byte {} of {}\n  one side failed alone {}, refused with another message {}\n  time: ours {:.1?}, Helm's engine {:.1?}\n",
            self.cases,
            self.rendered,
            self.refused,
            self.rendered - self.objects_differ,
            self.rendered,
            self.rendered - self.bytes_differ,
            self.rendered,
            self.verdicts_differ,
            self.refusals_differ,
            self.ours,
            self.theirs,
        );
        for difference in self.differences.iter().take(show) {
            let _ = writeln!(out, "- {difference}");
        }
        if self.differences.len() > show {
            let _ = writeln!(
                out,
                "  and {} more (--show N)",
                self.differences.len() - show
            );
        }
        out
    }
}

/// Renders every case on both sides, and compares all that comes out.
pub(crate) fn judge(oracle: &Path, cases: &[Case]) -> Result<Report, String> {
    let mut report = Report::default();
    let (ours, theirs) = both(oracle, cases, |case, theirs, ours| {
        compare(&mut report, case, &theirs, ours);
    })?;
    (report.ours, report.theirs) = (ours, theirs);
    Ok(report)
}

/// Renders every case on both sides; answers how long each took.
pub(crate) fn both(
    oracle: &Path,
    cases: &[Case],
    look: impl FnMut(&Case, Answer, Result<Rendered, Error>),
) -> Result<(Duration, Duration), String> {
    let mut child = Command::new(oracle)
        .arg("render")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let result = ask_all(&mut child, cases, look);
    let _ = child.kill();
    let _ = child.wait();
    result
}

fn ask_all(
    child: &mut Child,
    cases: &[Case],
    mut look: impl FnMut(&Case, Answer, Result<Rendered, Error>),
) -> Result<(Duration, Duration), String> {
    let mut input = child.stdin.take().ok_or("no input")?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let mut charts: HashMap<&Path, Chart> = HashMap::new();
    let mut spent = (Duration::ZERO, Duration::ZERO);
    for case in cases {
        if !charts.contains_key(&*case.chart) {
            let chart = Chart::from_path(&case.chart).map_err(|error| error.to_string())?;
            charts.insert(&case.chart, chart);
        }
        let Some(chart) = charts.get(&*case.chart) else {
            continue;
        };
        let start = Instant::now();
        ask(&mut input, case)?;
        let line = lines
            .next()
            .ok_or("the oracle stopped")?
            .map_err(|error| error.to_string())?;
        let theirs: Answer = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        spent.1 += start.elapsed();
        let start = Instant::now();
        let ours = answer(chart, case);
        spent.0 += start.elapsed();
        look(case, theirs, ours);
    }
    Ok(spent)
}

fn ask(input: &mut ChildStdin, case: &Case) -> Result<(), String> {
    let question = json!({"chart": case.chart, "values": case.values, "name": case.name, "namespace": case.namespace, "is_upgrade": case.is_upgrade, "kube_version": case.kube_version});
    writeln!(input, "{question}")
        .and_then(|()| input.flush())
        .map_err(|error| error.to_string())
}

fn answer(chart: &Chart, case: &Case) -> Result<Rendered, Error> {
    let user = values::parse(&case.values, "the case")?;
    let release = Release {
        name: &case.name,
        namespace: &case.namespace,
        revision: 1,
        is_upgrade: case.is_upgrade,
    };
    let capabilities = Capabilities {
        kube_version: case.kube_version.clone(),
        ..Capabilities::default()
    };
    render(chart, &Value::Object(user), &release, &capabilities)
}

fn compare(report: &mut Report, case: &Case, theirs: &Answer, ours: Result<Rendered, Error>) {
    report.cases += 1;
    let chart = case
        .chart
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut differ = |what: String| {
        report.differences.push(format!(
            "{chart} {} ({}{}): {what}",
            case.values,
            case.name,
            if case.is_upgrade { ", upgrade" } else { "" }
        ))
    };
    match ours {
        Ok(ours) if theirs.error.is_empty() => {
            report.rendered += 1;
            let text = ours.text();
            if text == theirs.manifest
                && ours.notes == theirs.notes
                && ours.hooks.len() == theirs.hooks
            {
                return;
            }
            report.bytes_differ += 1;
            differ(
                first_difference(&text, &theirs.manifest)
                    .or_else(|| first_difference(&ours.notes, &theirs.notes))
                    .unwrap_or_else(|| "number of hooks".to_owned()),
            );
            if !same_objects(&text, &theirs.manifest) {
                report.objects_differ += 1;
                differ("OBJECTS DIFFER".to_owned());
            }
        }
        Err(ours) if !theirs.error.is_empty() => {
            report.refused += 1;
            if let Error::Template(fault) = &ours
                && fault.refused
                && !theirs.error.ends_with(&fault.reason)
            {
                report.refusals_differ += 1;
                differ(format!(
                    "refused with {:?}, Helm with {:?}",
                    fault.reason, theirs.error
                ));
            } else if let Error::Template(fault) = &ours
                && !fault.refused
                && theirs.error.starts_with("execution error at")
            {
                report.refusals_differ += 1;
                differ(format!(
                    "failed with {ours}, Helm refused with {:?}",
                    theirs.error
                ));
            }
        }
        Ok(_) => {
            report.verdicts_differ += 1;
            differ(format!("rendered, but Helm fails with {:?}", theirs.error));
        }
        Err(ours) => {
            report.verdicts_differ += 1;
            differ(format!("failed with {ours}, but Helm renders it"));
        }
    }
}

fn first_difference(ours: &str, theirs: &str) -> Option<String> {
    if ours == theirs {
        return None;
    }
    let mut source = "";
    for (a, b) in ours
        .lines()
        .chain(std::iter::repeat("(end)"))
        .zip(theirs.lines().chain(["(end)"]))
    {
        if a.starts_with("# Source:") {
            source = a;
        }
        if a != b {
            return Some(format!("{source}: ours {a:?}, Helm's {b:?}"));
        }
    }
    Some("line ends or what follows".to_owned())
}

/// Compares what the texts mean, document by document.
fn same_objects(ours: &str, theirs: &str) -> bool {
    let documents = |text: &str| -> Option<Vec<Value>> {
        text.split("\n---\n")
            .map(|part| values::parse(part, "").map(Value::Object).ok())
            .collect()
    };
    matches!((documents(ours), documents(theirs)), (Some(ours), Some(theirs)) if ours == theirs)
}
