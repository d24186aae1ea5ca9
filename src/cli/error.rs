//! How a command ends when it does not end well: what failed, why, and what to type next.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;

use super::output::{Style, wrap};
pub(crate) use crate::link::{Failure, Kind, Problem};
use crate::{hint::Hint, observe::Unreachable, plan::Note, report::RunOutcome};

/// How a command ended. The numbers are documented and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exit {
    /// Done, and proved where the command proves.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// A usage error.
    Usage = 2,
    /// The mesh file is not valid.
    InvalidMesh = 3,
    /// Not ready in time; running again is safe.
    NotInTime = 4,
    /// Refused, to protect something that is not ours.
    Refused = 5,
    /// Some clusters were done, others were not.
    PartlyDone = 6,
    /// `status`, `ca status`, `doctor`, `workloads`: something that was looked at is not well.
    Ill = 7,
    /// Another run is changing the mesh; nothing was changed.
    Busy = 8,
    /// `plan`: something would change.
    Drift = 10,
    /// Interrupted; running again is safe.
    Interrupted = 130,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::InvalidMesh,
        Self::NotInTime,
        Self::Refused,
        Self::PartlyDone,
        Self::Ill,
        Self::Busy,
        Self::Drift,
        Self::Interrupted,
    ];

    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// What the number means, as the manual says it.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, and proved where the command proves",
            Self::Failed => "failed, or the question was answered with no",
            Self::Usage => "usage error",
            Self::InvalidMesh => "the mesh file is not valid",
            Self::NotInTime => "not ready in time; running again is safe",
            Self::Refused => "refused, to protect something that is not ours",
            Self::PartlyDone => "partly done; the clusters that are not are named",
            Self::Ill => {
                "status, ca status, doctor, workloads: something that was looked at is not well"
            }
            Self::Busy => "another run is changing the mesh; --wait-lock waits for it",
            Self::Drift => "plan: something would change",
            Self::Interrupted => "interrupted; running again is safe",
        }
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Declined | Kind::Failed => Self::Failed,
            Kind::Usage => Self::Usage,
            Kind::InvalidMesh => Self::InvalidMesh,
            Kind::NotInTime => Self::NotInTime,
            Kind::Refused => Self::Refused,
            Kind::PartlyDone => Self::PartlyDone,
            Kind::Busy => Self::Busy,
            Kind::Interrupted => Self::Interrupted,
        }
    }
}

impl From<RunOutcome> for Exit {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::NothingToDo | RunOutcome::Done => Self::Done,
            RunOutcome::PartlyDone => Self::PartlyDone,
            RunOutcome::NotInTime => Self::NotInTime,
            RunOutcome::Refused => Self::Refused,
            RunOutcome::Interrupted => Self::Interrupted,
            RunOutcome::Failed => Self::Failed,
        }
    }
}

/// A failure as it is printed on standard error.
pub(crate) fn render(failure: &Failure, style: Style) -> String {
    let mut text = String::new();
    let problems = failure.errors.iter();
    let nexts = failure.errors.iter().skip(1).map(Some).chain([None]);
    for (problem, next) in problems.zip(nexts) {
        // What helps with the next one too is said there.
        let repeated = next.map_or(&[][..], |next| &next.hints);
        let hints = problem.hints.iter().filter(|h| !repeated.contains(h));
        one(problem, hints, style, &mut text);
    }
    text
}

fn one<'a>(
    problem: &Problem,
    hints: impl Iterator<Item = &'a Hint>,
    style: Style,
    text: &mut String,
) {
    let Some((first, causes)) = problem.causes.split_first() else {
        return;
    };
    labelled(text, style, &style.red("error:"), "error:", first);
    for (i, cause) in causes.iter().enumerate() {
        let label = match causes.len() {
            1 => "  caused by:".to_owned(),
            _ => format!("  caused by {}:", i + 1),
        };
        labelled(text, style, &label, &label, cause);
    }
    for hint in hints {
        hinted(text, style, "  ", hint);
    }
}

/// A hint behind its label. A command stays on one line, so that it can be pasted.
pub(crate) fn hinted(out: &mut String, style: Style, indent: &str, hint: &Hint) {
    let label = format!("{indent}hint:");
    let painted = format!("{indent}{}", style.cyan("hint:"));
    match hint {
        Hint::Note(text) => labelled(out, style, &painted, &label, text),
        command => {
            let _ = writeln!(out, "{painted} {command}");
        }
    }
}

/// The members that could not be read, each with what could be done about it.
pub(crate) fn unread(out: &mut String, style: Style, members: &[Unreachable]) {
    for member in members {
        let _ = writeln!(out, "\n{} {}", style.red("!"), member.line());
        for hint in &member.hints {
            hinted(out, style, "  ", hint);
        }
    }
}

/// A note, and what could be done about it below.
pub(crate) fn noted(out: &mut String, style: Style, note: &Note) {
    labelled(out, style, "note:", "note:", &note.text);
    for hint in &note.hints {
        let _ = writeln!(out, "      {hint}");
    }
}

/// A label and a text that hangs beside it.
pub(crate) fn labelled(out: &mut String, style: Style, painted: &str, label: &str, text: &str) {
    let indent = label.chars().count() + 1;
    let width = style.width.saturating_sub(indent);
    let mut lines = text.lines().flat_map(|line| wrap(line, width));
    let _ = writeln!(out, "{painted} {}", lines.next().unwrap_or_default());
    for line in lines {
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Nested {
        text: &'static str,
        #[source]
        source: Option<Box<Nested>>,
    }

    fn nested(texts: &[&'static str]) -> Nested {
        let (text, rest) = texts.split_first().unwrap();
        let source = (!rest.is_empty()).then(|| Box::new(nested(rest)));
        Nested { text, source }
    }

    #[test]
    fn causes_are_numbered_if_many_and_said_once() {
        let error = nested(&[
            "eks-1: connect to https://10.0.0.1",
            "tls: refused",
            "refused",
            "by peer",
        ]);
        let failure = Failure::failed(&error)
            .hint(Hint::command(["meshlink", "status", "eks-1", "--with-an-argument-that-is-much-too-long-to-fit-beside-the-others"]))
            .hint(Hint::note("helm is written in prose here, and prose is wrapped where a line would be too long"))
            .and(Failure::from_causes(
                Kind::Refused,
                vec!["eks-2 is bound to another root, and a cluster can only ever be in one mesh at a time".into()],
            ));
        let text = render(&failure, Style::plain());
        insta::assert_snapshot!(text, @"
        error: eks-1: connect to https://10.0.0.1
          caused by 1: tls: refused
          caused by 2: by peer
          hint: meshlink status eks-1 --with-an-argument-that-is-much-too-long-to-fit-beside-the-others
          hint: helm is written in prose here, and prose is wrapped where a line would
                be too long
        error: eks-2 is bound to another root, and a cluster can only ever be in one
               mesh at a time
        ");
        assert_eq!(failure.kind, Kind::Refused);
    }

    #[test]
    fn the_numbers_never_change() {
        let table: Vec<_> = Exit::ALL.iter().map(|exit| (exit.code(), *exit)).collect();
        insta::assert_snapshot!(format!("{table:?}"), @"[(0, Done), (1, Failed), (2, Usage), (3, InvalidMesh), (4, NotInTime), (5, Refused), (6, PartlyDone), (7, Ill), (8, Busy), (10, Drift), (130, Interrupted)]");
    }

    #[test]
    fn every_outcome_of_a_run_has_its_number() {
        let code = |outcome| Exit::from(outcome).code();
        assert_eq!(code(RunOutcome::NothingToDo), 0);
        assert_eq!(code(RunOutcome::Done), 0);
        assert_eq!(code(RunOutcome::Failed), 1);
        assert_eq!(code(RunOutcome::NotInTime), 4);
        assert_eq!(code(RunOutcome::Refused), 5);
        assert_eq!(code(RunOutcome::PartlyDone), 6);
        assert_eq!(code(RunOutcome::Interrupted), 130);
    }
}
