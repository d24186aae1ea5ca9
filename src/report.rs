//! What a run did, folded from its events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    engine::event::{Because, Event, Kind, Severity},
    hint::Hint,
    observe::Unreachable,
    plan::Note,
    verify::Verdict,
};

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The command.
    pub command: String,
    /// The mesh.
    pub mesh: String,
    /// `embedded` for the sandbox, else `real`.
    pub environment: String,
    /// When it began.
    #[schemars(with = "Option<String>")]
    pub started: Option<Timestamp>,
    /// How long it took.
    pub millis: u64,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Every step of the plan, in the plan's order.
    pub steps: Vec<StepReport>,
    /// What was proved, where the run came that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What its proofs found, by step: the last word of each.
    #[serde(skip)]
    pub proofs: BTreeMap<String, Verdict>,
    /// The Lease that was lost, which ended the run, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Vec<String>>,
    /// What a person should know though nothing was to be done about it.
    pub notes: Vec<Note>,
    /// The members nothing was done in, because they could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<Unreachable>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// There was nothing to do.
    NothingToDo,
    /// Everything was done.
    Done,
    /// Some clusters were done, others were not.
    PartlyDone,
    /// Something was not ready in time; running again is safe.
    NotInTime,
    /// Nothing more was done, to protect something that is not ours.
    Refused,
    /// The run was asked to stop.
    Interrupted,
    /// Something failed.
    #[default]
    Failed,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// The step's id.
    pub step: String,
    /// The cluster it belongs to.
    pub cluster: Option<String>,
    /// Every cluster it has to do with.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// What became of it.
    pub state: StepState,
    /// The evidence, or the causes of its failure.
    pub lines: Vec<String>,
    /// Why it was not tried, where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// What to do about its failure.
    #[serde(default)]
    pub hints: Vec<Hint>,
    /// How long it took.
    pub millis: u64,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Never begun.
    Waiting,
    /// Begun, and not heard of again.
    Started,
    /// Done, by the evidence named.
    Done,
    /// Failed.
    Failed,
    /// Begun, and given up because the run was asked to stop.
    Interrupted,
    /// Not tried: something it needs had failed, or the run was asked to stop.
    Skipped,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.steps.iter().filter(|s| s.state == StepState::Done);
        let outcome = match self.outcome {
            RunOutcome::NothingToDo => return f.write_str("nothing to do"),
            RunOutcome::Done => "done",
            RunOutcome::PartlyDone => "partly done",
            RunOutcome::NotInTime => "not ready in time",
            RunOutcome::Refused => "refused",
            RunOutcome::Interrupted => "interrupted",
            RunOutcome::Failed => "failed",
        };
        write!(
            f,
            "{outcome}: {} of {} steps",
            done.count(),
            self.steps.len()
        )?;
        for step in self.failed() {
            write!(f, "\n{}: {}", step.step, step.lines.join(": "))?;
        }
        Ok(())
    }
}

/// A report as it grows: events are folded as they come, and not kept.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    report: Report,
    /// Where each step stands in it.
    places: HashMap<String, usize>,
    severity: Option<Severity>,
    interrupted: bool,
}

impl Folding {
    /// The next event of the run.
    pub(crate) fn add(&mut self, event: &Event) {
        let report = &mut self.report;
        match &event.kind {
            Kind::RunStarted {
                command,
                mesh,
                steps,
                ..
            } => {
                report.started = Some(event.at);
                report.command.clone_from(command);
                report.mesh.clone_from(mesh);
                let places = steps.iter().enumerate();
                self.places = places.map(|(at, p)| (p.step.clone(), at)).collect();
                report.steps = steps.iter().map(StepReport::waiting).collect();
            }
            Kind::StepFailed { severity, .. } => {
                self.severity = self.severity.max(Some(*severity));
                report.step(&event.kind, &self.places);
            }
            Kind::StepJudged { step, verdict } => {
                report.proofs.insert(step.clone(), verdict.clone());
            }
            Kind::Interrupted { lost } => {
                self.interrupted = true;
                report.lost.clone_from(lost);
            }
            Kind::RunFinished { millis, .. } => report.millis = *millis,
            kind => report.step(kind, &self.places),
        }
    }

    /// The report, as far as it is known.
    pub(crate) fn finish(self) -> Report {
        let outcome = self.report.judge(self.severity, self.interrupted);
        Report {
            outcome,
            ..self.report
        }
    }
}

impl StepReport {
    fn waiting(planned: &crate::engine::event::Planned) -> Self {
        Self {
            step: planned.step.clone(),
            cluster: planned.cluster.clone(),
            clusters: planned.clusters.clone(),
            state: StepState::Waiting,
            lines: vec![],
            because: None,
            hints: vec![],
            millis: 0,
        }
    }
}

impl Report {
    /// Folds the events of one run, in order.
    pub fn fold(events: &[Event]) -> Self {
        let mut folding = Folding::default();
        events.iter().for_each(|event| folding.add(event));
        folding.finish()
    }

    fn step(&mut self, kind: &Kind, places: &HashMap<String, usize>) {
        let at = kind.step().and_then(|step| places.get(step));
        let Some(found) = at.and_then(|at| self.steps.get_mut(*at)) else {
            return;
        };
        match kind {
            Kind::StepStarted { .. } => found.state = StepState::Started,
            Kind::StepFinished {
                evidence, millis, ..
            } => {
                found.state = StepState::Done;
                found.lines.clone_from(evidence);
                found.millis = *millis;
            }
            Kind::StepFailed {
                causes,
                hints,
                severity,
                ..
            } => {
                found.state = match severity {
                    Severity::Interrupted => StepState::Interrupted,
                    _ => StepState::Failed,
                };
                found.lines.clone_from(causes);
                found.hints.clone_from(hints);
            }
            Kind::StepSkipped { because, .. } => {
                found.state = StepState::Skipped;
                found.lines = vec![because.to_string()];
                found.because = Some(because.clone());
            }
            _ => {}
        }
    }

    fn judge(&self, severity: Option<Severity>, interrupted: bool) -> RunOutcome {
        let done = |s: &StepReport| s.state == StepState::Done;
        match severity {
            _ if self.lost.is_some() => RunOutcome::Failed,
            _ if interrupted => RunOutcome::Interrupted,
            None if self.steps.is_empty() => RunOutcome::NothingToDo,
            None if self.steps.iter().all(done) => RunOutcome::Done,
            _ if self.others_are_done() => RunOutcome::PartlyDone,
            Some(Severity::Refused) => RunOutcome::Refused,
            Some(Severity::NotInTime) => RunOutcome::NotInTime,
            _ => RunOutcome::Failed,
        }
    }

    /// Whether everything that does not touch an unfinished cluster is done; where clusters are
    /// linked, some of them are.
    fn others_are_done(&self) -> bool {
        let unfinished = self.unfinished();
        let touches = |s: &StepReport| s.clusters.iter().any(|c| unfinished.contains(&c.as_str()));
        let is_pair = |s: &&StepReport| s.clusters.len() > 1;
        let others: Vec<_> = self.steps.iter().filter(|s| !touches(s)).collect();
        let places: HashMap<_, _> = self.steps.iter().map(|s| (s.step.as_str(), s)).collect();
        // What sums up all pairs of a cluster waits for those with the unfinished.
        let sums_up = |s: &StepReport| {
            let Some(Because::Needs(id)) = &s.because else {
                return false;
            };
            let needed = places.get(id.as_str());
            needed.is_some_and(|needed| {
                touches(needed)
                    && needed
                        .clusters
                        .iter()
                        .any(|c| Some(c) == s.cluster.as_ref())
            })
        };
        let done = |s: &&StepReport| s.state == StepState::Done;
        let linked = others.iter().copied().any(|s| is_pair(&s) && done(&s));
        others.iter().any(|s| s.cluster.is_some() && done(s))
            && others.iter().all(|s| done(s) || sums_up(s))
            && (linked || !self.steps.iter().any(|s| is_pair(&s)))
    }

    /// Leaves out members that could not be read: what was done without them is not the whole of it.
    pub(crate) fn without(&mut self, unreachable: Vec<Unreachable>) {
        let whole = matches!(self.outcome, RunOutcome::Done | RunOutcome::NothingToDo);
        if whole && !unreachable.is_empty() {
            self.outcome = RunOutcome::PartlyDone;
        }
        self.unreachable = unreachable;
    }

    /// The clusters it is down to that not everything is done: the fewest that every step that
    /// failed by itself, or was not heard of again, has to do with.
    pub fn unfinished(&self) -> Vec<&str> {
        let undone = |s: &&StepReport| !matches!(s.state, StepState::Done | StepState::Skipped);
        let mut open: Vec<&StepReport> = self.steps.iter().filter(undone).collect();
        let mut names = BTreeSet::new();
        while !open.is_empty() {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for cluster in open.iter().flat_map(|s| &s.clusters) {
                *counts.entry(cluster).or_default() += 1;
            }
            let Some((worst, _)) = counts.into_iter().max_by_key(|(_, n)| *n) else {
                break;
            };
            names.insert(worst);
            open.retain(|s| !s.clusters.iter().any(|c| c == worst));
        }
        names.extend(self.unreachable.iter().map(|u| u.cluster.as_str()));
        names.into_iter().collect()
    }

    /// The steps that failed.
    pub fn failed(&self) -> impl Iterator<Item = &StepReport> {
        self.steps.iter().filter(|s| s.state == StepState::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Planned;

    fn events(kinds: Vec<Kind>) -> Vec<Event> {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        kinds
            .into_iter()
            .map(|kind| Event {
                at,
                run: "r".into(),
                kind,
            })
            .collect()
    }

    fn started(steps: &[(&str, &str)]) -> Kind {
        let planned = |(step, cluster): &(&str, &str)| Planned {
            step: (*step).into(),
            cluster: Some((*cluster).into()),
            clusters: step.split('/').skip(1).map(Into::into).collect(),
            describe: String::new(),
        };
        Kind::RunStarted {
            command: "join a b".into(),
            mesh: "m".into(),
            clusters: vec!["a".into(), "b".into()],
            steps: steps.iter().map(planned).collect(),
        }
    }

    fn finished(step: &str) -> Kind {
        Kind::StepFinished {
            step: step.into(),
            evidence: vec!["seen".into()],
            millis: 3,
        }
    }

    fn failed(step: &str, severity: Severity) -> Kind {
        Kind::StepFailed {
            step: step.into(),
            causes: vec!["why".into()],
            hints: vec![],
            severity,
        }
    }

    #[test]
    fn outcomes() {
        let two = started(&[("x/a", "a"), ("x/b", "b")]);
        let cases = [
            (vec![started(&[])], RunOutcome::NothingToDo),
            (
                vec![two.clone(), finished("x/a"), finished("x/b")],
                RunOutcome::Done,
            ),
            (
                vec![
                    two.clone(),
                    finished("x/a"),
                    failed("x/b", Severity::Failed),
                ],
                RunOutcome::PartlyDone,
            ),
            (
                vec![
                    two.clone(),
                    failed("x/a", Severity::Refused),
                    failed("x/b", Severity::NotInTime),
                ],
                RunOutcome::Refused,
            ),
            (
                vec![two.clone(), failed("x/a", Severity::NotInTime)],
                RunOutcome::NotInTime,
            ),
            (
                vec![
                    two.clone(),
                    finished("x/a"),
                    Kind::Interrupted { lost: None },
                ],
                RunOutcome::Interrupted,
            ),
            (
                vec![
                    two.clone(),
                    finished("x/a"),
                    Kind::Interrupted {
                        lost: Some(vec!["taken over".into()]),
                    },
                ],
                RunOutcome::Failed,
            ),
            (vec![two], RunOutcome::Failed),
        ];
        for (kinds, want) in cases {
            assert_eq!(
                Report::fold(&events(kinds.clone())).outcome,
                want,
                "{kinds:?}"
            );
        }
    }

    fn skipped(step: &str, because: &str) -> Kind {
        Kind::StepSkipped {
            step: step.into(),
            because: Because::Needs(because.into()),
        }
    }

    #[test]
    fn one_that_dies_leaves_the_others_done() {
        let steps = started(&[
            ("x/a", "a"),
            ("x/b", "b"),
            ("x/c", "c"),
            ("prove/a/b", "a"),
            ("prove/a/c", "a"),
            ("record/a", "a"),
        ]);
        let done = ["x/a", "x/b", "prove/a/b"].map(finished);
        let died = vec![
            failed("x/c", Severity::Failed),
            skipped("prove/a/c", "x/c"),
            skipped("record/a", "prove/a/c"),
        ];
        let report = Report::fold(&events(
            [vec![steps.clone()], done.into(), died.clone()].concat(),
        ));
        assert_eq!(report.outcome, RunOutcome::PartlyDone);
        assert_eq!(report.unfinished(), ["c"]);
        // Without a pair of the others, or with one of them undone, nothing is partly done.
        let done = ["x/a", "x/b"].map(finished);
        let report = Report::fold(&events([vec![steps], done.into(), died].concat()));
        assert_eq!(report.outcome, RunOutcome::Failed);
    }

    #[test]
    fn the_last_word_of_a_proof_counts() {
        let judged = |of: &str| Kind::StepJudged {
            step: "prove/a/b".into(),
            verdict: Verdict {
                clusters: vec![of.into()],
                ..Verdict::default()
            },
        };
        let report = Report::fold(&events(vec![judged("first"), judged("second")]));
        let words: Vec<_> = report.proofs.values().map(|v| &v.clusters[0]).collect();
        assert_eq!(words, ["second"]);
    }

    #[test]
    fn the_unfinished_are_named_once() {
        let report = Report::fold(&events(vec![
            started(&[("x/a", "a"), ("x/b", "b"), ("y/b", "b")]),
            finished("x/a"),
        ]));
        assert_eq!(report.unfinished(), ["b"]);
    }
}
