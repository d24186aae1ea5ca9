//! The last run, out of its journal: when each step began, how long it took, and what came of it.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;

use super::{mark, markup::Text, moment};
use crate::{
    cli::output::plain::count,
    engine::event::{Event, Kind},
};

/// Of more steps than this, those of one kind are one bar, but for those that were not done.
const LONGEST: usize = 40;
/// More lines than this are not shown.
const MOST: usize = 200;
const WIDTH: f64 = 600.0;

/// A run, folded from its events.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    command: String,
    started: Timestamp,
    /// Whether it came to its end, and how.
    done: Option<bool>,
    millis: u64,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
struct Step {
    id: String,
    begun: u64,
    millis: u64,
    end: End,
    told: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    Skipped,
    /// No event says how it ended.
    Open,
}

impl End {
    fn class(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed => "failed",
            Self::Skipped => "not-tried",
            Self::Open => "warning",
        }
    }
}

impl Run {
    /// The last run of a journal.
    pub(super) fn last(events: &[Event]) -> Option<Self> {
        let begins = |e: &&Event| matches!(e.kind, Kind::RunStarted { .. });
        let first = events.iter().rev().find(begins)?;
        let Kind::RunStarted { command, .. } = &first.kind else {
            return None;
        };
        let mut run = Self {
            command: command.clone(),
            started: first.at,
            done: None,
            millis: 0,
            steps: vec![],
        };
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for event in events.iter().filter(|e| e.run == first.run) {
            let at = u64::try_from(event.at.as_millisecond() - first.at.as_millisecond());
            let at = at.unwrap_or_default();
            run.millis = run.millis.max(at);
            if let Kind::RunFinished { done, millis } = event.kind {
                run.done = Some(done);
                run.millis = run.millis.max(millis);
            }
            let Some(id) = event.kind.step() else {
                continue;
            };
            let place = *places.entry(id).or_insert_with(|| {
                run.steps.push(Step {
                    id: id.to_owned(),
                    begun: at,
                    millis: 0,
                    end: End::Open,
                    told: String::new(),
                });
                run.steps.len() - 1
            });
            if let Some(step) = run.steps.get_mut(place) {
                step.hears(&event.kind, at);
            }
        }
        Some(run)
    }
}

impl Step {
    fn hears(&mut self, kind: &Kind, at: u64) {
        let since = at.saturating_sub(self.begun);
        match kind {
            Kind::StepFinished {
                evidence, millis, ..
            } => {
                self.millis = *millis;
                self.end = End::Done;
                self.told = evidence.join("; ");
            }
            Kind::StepFailed { causes, .. } => {
                self.millis = since;
                self.end = End::Failed;
                self.told = causes.join(": ");
            }
            Kind::StepSkipped { because, .. } => {
                self.end = End::Skipped;
                self.told = format!("skipped: {because}");
            }
            _ => self.millis = self.millis.max(since),
        }
    }
}

/// The run as bars below each other.
pub(super) fn render(run: Option<&Run>) -> String {
    let Some(run) = run else {
        return "<p>No run of this mesh is recorded on this machine.</p>\n".into();
    };
    let (class, word) = match run.done {
        Some(true) => ("ok", "done"),
        Some(false) => ("failed", "not done"),
        None => ("warning", "did not come to its end"),
    };
    let mut text = format!(
        "<p>{}<code>{}</code>, begun at {}: {word} after {}, {}.</p>\n",
        mark(class),
        Text(&run.command),
        moment(run.started),
        time(run.millis),
        count(run.steps.len(), "step"),
    );
    let shown = shown(&run.steps);
    text += "<ol class=\"waterfall\">\n";
    for step in shown.iter().take(MOST) {
        bar(step, run.millis, &mut text);
    }
    text += "</ol>\n";
    if shown.len() > MOST {
        let more = count(shown.len() - MOST, "more step");
        let _ = writeln!(text, "<p class=\"small\">And {more}.</p>");
    }
    text
}

/// A line for each, or one for each kind and each that was not done, in the order they began in.
fn shown(steps: &[Step]) -> Vec<Step> {
    let mut shown = steps.to_vec();
    if steps.len() > LONGEST {
        let mut kinds: BTreeMap<&str, (usize, Step)> = BTreeMap::new();
        for step in steps.iter().filter(|s| s.end == End::Done) {
            let kind = step.id.split('/').next().unwrap_or_default();
            let (n, all) = kinds.entry(kind).or_insert_with(|| (0, step.clone()));
            let end = (all.begun + all.millis).max(step.begun + step.millis);
            all.begun = all.begun.min(step.begun);
            all.millis = end - all.begun;
            *n += 1;
        }
        shown.retain(|step| step.end != End::Done);
        shown.extend(kinds.into_iter().map(|(kind, (n, step))| Step {
            id: format!("{kind}: {}", count(n, "step")),
            told: String::new(),
            ..step
        }));
    }
    shown.sort_by_key(|s| (s.end == End::Skipped, s.begun));
    shown
}

fn bar(step: &Step, whole: u64, text: &mut String) {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a run")]
    let place = |millis: u64| millis as f64 / whole.max(1) as f64 * WIDTH;
    let (from, width) = (place(step.begun), place(step.millis).max(2.0));
    let class = step.end.class();
    let word = match step.end {
        End::Done => String::new(),
        End::Failed => format!("{}failed, ", mark(class)),
        End::Skipped => format!("{}skipped", mark(class)),
        End::Open => format!("{}no end, ", mark(class)),
    };
    let took = match step.end {
        End::Skipped => String::new(),
        _ => time(step.millis),
    };
    let drawn = match step.end {
        End::Skipped => format!(
            "<path class=\"skip\" d=\"M{:.1} 10h10\"/>",
            from.min(WIDTH - 12.0)
        ),
        _ => format!(
            "<rect class=\"bar\" x=\"{:.1}\" y=\"4\" width=\"{width:.1}\" height=\"12\" rx=\"2\"/>",
            from.min(WIDTH - width)
        ),
    };
    let told = match step.end {
        End::Failed => format!("<small>{}</small>", Text(&step.told)),
        _ => String::new(),
    };
    let _ = writeln!(
        text,
        "<li class=\"{class}\" title=\"{}\"><span class=\"what\"><code>{}</code>{told}</span>\
         <svg viewBox=\"0 0 600 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{drawn}</svg><span class=\"told\">{word}{took}</span></li>",
        Text(&step.told),
        Text(&step.id),
    );
}

fn time(millis: u64) -> String {
    match millis {
        ..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}
