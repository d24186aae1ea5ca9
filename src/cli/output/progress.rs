//! A run as it happens: a moving line per cluster on a terminal, else a line per event.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::{
    Screen, filter,
    plain::{Lines, visible},
};
use crate::{
    engine::event::{Because, Event, Kind, Planned},
    mutex,
};

/// Shows events on standard error.
pub(crate) struct Progress {
    screen: Screen,
    lines: Lines,
    run: Mutex<Run>,
}

/// What is known of the run so far.
#[derive(Default)]
struct Run {
    started: Timestamp,
    /// The lane of each step.
    lanes: BTreeMap<String, String>,
    clusters: BTreeMap<String, Lane>,
    /// The last reason told for each step that waits, so that none is told twice.
    reasons: BTreeMap<String, String>,
    /// What was skipped, and is told at the end.
    skipped: Vec<Event>,
}

/// A cluster's moving line.
#[derive(Default)]
struct Lane {
    bar: Option<ProgressBar>,
    /// Steps under way and why they wait, oldest first.
    under_way: Vec<(String, String)>,
    done: usize,
    /// Failed or skipped.
    undone: usize,
    all: usize,
}

/// The lane of steps that belong to no cluster.
const MESH: &str = "mesh";

impl Progress {
    /// On this screen.
    pub(crate) fn new(screen: &Screen) -> Self {
        let lines = Lines {
            style: screen.err,
            is_live: screen.live.is_some(),
            verbose: screen.verbose > 0,
        };
        Self {
            screen: screen.clone(),
            lines,
            run: Mutex::default(),
        }
    }

    /// Shows one event.
    pub(crate) fn event(&self, event: &Event) {
        let mut run = mutex::lock(&self.run);
        if let Kind::RunStarted {
            steps, clusters, ..
        } = &event.kind
        {
            *run = Run::new(event.at, steps);
            self.raise(&mut run, clusters);
        }
        let is_news = run.update(&event.kind);
        let is_told = !self.screen.quiet && !run.keeps(event, self.lines.verbose);
        if is_news && is_told {
            self.say(event, run.started);
        }
        if matches!(event.kind, Kind::RunFinished { .. }) && !self.screen.quiet {
            run.skips()
                .iter()
                .for_each(|skip| self.say(skip, run.started));
        }
        run.redraw();
        if matches!(event.kind, Kind::RunFinished { .. }) {
            run.clear();
        }
    }

    fn say(&self, event: &Event, started: Timestamp) {
        for line in self.lines.of(event, started) {
            self.screen.complain(&line);
        }
    }

    /// Gives every cluster of the plan its moving line, in the mesh's order.
    fn raise(&self, run: &mut Run, clusters: &[String]) {
        let Some(live) = &self.screen.live else {
            return;
        };
        let names = clusters.iter().map(String::as_str).chain([MESH]);
        let names: Vec<_> = names
            .filter(|name| run.clusters.contains_key(*name))
            .collect();
        let width = names.iter().map(|name| visible(name)).max().unwrap_or(0);
        for name in names {
            let bar = live.add(ProgressBar::new_spinner());
            bar.set_style(self.spinner());
            bar.set_prefix(filter::line(&format!("{name:<width$}")));
            bar.enable_steady_tick(Duration::from_millis(100));
            if let Some(lane) = run.clusters.get_mut(name) {
                lane.bar = Some(bar);
            }
        }
    }

    fn spinner(&self) -> ProgressStyle {
        let ticks = self.screen.err.symbol("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ", "|/-\\ ");
        let prefix = if self.screen.err.color {
            "{prefix:.bold}"
        } else {
            "{prefix}"
        };
        ProgressStyle::with_template(&format!(
            "{{spinner}} {prefix}  {{wide_msg}} {{elapsed:>4}}"
        ))
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_chars(ticks)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.run
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Run {
    fn new(started: Timestamp, steps: &[Planned]) -> Self {
        let mut run = Self {
            started,
            ..Self::default()
        };
        for planned in steps {
            let lane = planned.cluster.as_deref().unwrap_or(MESH).to_owned();
            run.clusters.entry(lane.clone()).or_default().all += 1;
            run.lanes.insert(planned.step.clone(), lane);
        }
        run
    }

    /// Takes the event in; whether it says anything new.
    fn update(&mut self, kind: &Kind) -> bool {
        let Some(step) = kind.step() else {
            return true;
        };
        let lane = self
            .lanes
            .get(step)
            .and_then(|lane| self.clusters.get_mut(lane));
        if let Some(lane) = lane {
            lane.update(step, kind);
        }
        match kind {
            Kind::StepWaiting { reason, .. } | Kind::StepRetry { reason, .. } => {
                self.reasons
                    .insert(step.to_owned(), reason.clone())
                    .as_ref()
                    != Some(reason)
            }
            _ => true,
        }
    }

    /// Whether the event is kept, to be told with those that have the same cause.
    fn keeps(&mut self, event: &Event, verbose: bool) -> bool {
        let is_kept = !verbose && matches!(event.kind, Kind::StepSkipped { .. });
        if is_kept {
            self.skipped.push(event.clone());
        }
        is_kept
    }

    /// What was skipped: a line for each cause, whatever lies between a step and what it needs.
    fn skips(&mut self) -> Vec<Event> {
        let skipped = std::mem::take(&mut self.skipped);
        let needs: BTreeMap<&str, &Because> = skipped
            .iter()
            .filter_map(|event| match &event.kind {
                Kind::StepSkipped { step, because } => Some((step.as_str(), because)),
                _ => None,
            })
            .collect();
        let mut told: Vec<(Because, Event, usize)> = vec![];
        for event in &skipped {
            let Kind::StepSkipped { because, .. } = &event.kind else {
                continue;
            };
            let cause = root(&needs, because);
            match told.iter_mut().find(|(known, ..)| *known == cause) {
                Some((_, _, count)) => *count += 1,
                None => told.push((cause, event.clone(), 1)),
            }
        }
        let one = |(cause, mut event, number): (Because, Event, usize)| {
            if let Kind::StepSkipped { step, because } = &mut event.kind {
                *because = cause;
                if number > 1 {
                    *step = format!("{number} steps");
                }
            }
            event
        };
        told.into_iter().map(one).collect()
    }

    fn redraw(&self) {
        for lane in self.clusters.values() {
            if let Some(bar) = &lane.bar {
                bar.set_message(filter::line(&lane.text()));
            }
        }
        // Once the mesh's own steps are done, only the clusters are worth a line.
        let mesh = self.clusters.get(MESH).filter(|lane| lane.done == lane.all);
        if let Some(bar) = mesh.and_then(|lane| lane.bar.as_ref()) {
            bar.finish_and_clear();
        }
    }

    fn clear(&mut self) {
        for lane in self.clusters.values_mut() {
            if let Some(bar) = lane.bar.take() {
                bar.finish_and_clear();
            }
        }
    }
}

/// Why a step was skipped: behind other steps that were skipped, what these needed.
fn root<'a>(skipped: &BTreeMap<&str, &'a Because>, mut cause: &'a Because) -> Because {
    // No step needs itself; the bound is for a journal that says so.
    for _ in 0..skipped.len() {
        match cause {
            Because::Needs(step) => match skipped.get(step.as_str()) {
                Some(further) => cause = further,
                None => break,
            },
            _ => break,
        }
    }
    cause.clone()
}

impl Lane {
    fn update(&mut self, step: &str, kind: &Kind) {
        match kind {
            Kind::StepStarted { .. } => {
                self.under_way.push((step.into(), String::new()));
                if let Some(bar) = &self.bar {
                    bar.reset_elapsed();
                }
            }
            Kind::StepWaiting { reason, .. } | Kind::StepRetry { reason, .. } => {
                if let Some(found) = self.under_way.iter_mut().find(|(name, _)| name == step) {
                    found.1.clone_from(reason);
                }
            }
            _ => {
                self.under_way.retain(|(name, _)| name != step);
                match kind {
                    Kind::StepFinished { .. } => self.done += 1,
                    _ => self.undone += 1,
                }
            }
        }
    }

    /// What the cluster is busy with: the step begun last, and why it waits.
    fn text(&self) -> String {
        let done = format!("{}/{}", self.done, self.all);
        let Some((step, reason)) = self.under_way.last() else {
            let word = match self.all - self.done.min(self.all) {
                0 => "done",
                left if left == self.undone => "stopped",
                _ => "waits for the others",
            };
            return format!("{done}  {word}");
        };
        let more = match self.under_way.len() {
            1 => String::new(),
            n => format!(" (+{})", n - 1),
        };
        format!("{done}  {step}{more}  {reason}")
            .trim_end()
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::plain::tests::run as events;

    #[test]
    fn a_lane_shows_its_step_and_why_it_waits() {
        let events = events();
        let Kind::RunStarted { steps, .. } = &events[0].kind else {
            panic!("a run begins");
        };
        let mut run = Run::new(events[0].at, steps);
        let texts = events[1..].iter().map(|event| {
            run.update(&event.kind);
            run.clusters
                .iter()
                .map(|(name, lane)| format!("{name} {}", lane.text()))
                .collect::<Vec<_>>()
                .join(" | ")
        });
        insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n"), @"
        eks-1 0/2  install-istiod/eks-1 | eks-2 0/1  waits for the others
        eks-1 0/2  install-istiod/eks-1 | eks-2 0/1  await-nlb/eks-2
        eks-1 0/2  install-istiod/eks-1 | eks-2 0/1  await-nlb/eks-2  target 10.0.0.4 is initial: Elb.RegistrationInProgress
        eks-1 0/2  install-istiod/eks-1  the webhook does not answer yet | eks-2 0/1  await-nlb/eks-2  target 10.0.0.4 is initial: Elb.RegistrationInProgress
        eks-1 1/2  waits for the others | eks-2 0/1  await-nlb/eks-2  target 10.0.0.4 is initial: Elb.RegistrationInProgress
        eks-1 1/2  waits for the others | eks-2 0/1  stopped
        eks-1 1/2  stopped | eks-2 0/1  stopped
        eks-1 1/2  stopped | eks-2 0/1  stopped
        ");
    }

    #[test]
    fn a_reason_is_told_once() {
        let mut run = Run::default();
        let wait = |reason: &str| Kind::StepWaiting {
            step: "s".into(),
            reason: reason.into(),
        };
        let news = ["a", "a", "b", "a"].map(|reason| run.update(&wait(reason)));
        assert_eq!(news, [true, false, true, true]);
    }

    #[test]
    fn what_was_skipped_for_one_cause_is_one_line() {
        let skipped = |step: &str, because| Event {
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            run: "r".into(),
            kind: Kind::StepSkipped {
                step: step.into(),
                because,
            },
        };
        let needs = |step: &str| Because::Needs(step.into());
        let mut run = Run {
            skipped: vec![
                skipped("claim-root/b", needs("claim-root/a")),
                skipped("issue-intermediate/b", needs("claim-root/b")),
                skipped("stop-probe/b", Because::Interrupted),
            ],
            ..Run::default()
        };
        let told: Vec<_> = run
            .skips()
            .into_iter()
            .map(|event| event.to_string())
            .collect();
        assert_eq!(
            told,
            [
                "2 steps: skipped: needs claim-root/a",
                "stop-probe/b: skipped: interrupted"
            ]
        );
        assert!(run.skips().is_empty());
    }
}
