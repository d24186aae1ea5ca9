//! What a run did, at its end.

use std::{fmt::Write, path::Path};

use jiff::Timestamp;

use super::{
    Style, matrix,
    plain::{count, duration},
};
use crate::{
    cli::{
        Frame,
        error::{self, Exit, Failure, noted},
    },
    report::{Report, RunOutcome, StepState},
};

/// What goes with a report.
#[derive(Debug, Clone, Default)]
pub(crate) struct After<'a> {
    /// Where the journal is, if there is one.
    pub(crate) journal: Option<&'a Path>,
    /// Commands to go on with.
    pub(crate) next: Vec<String>,
}

/// Shows what a run did and why it failed, if it did; the exit code is the run's.
pub(crate) fn finish(
    frame: &Frame,
    mut report: Report,
    after: &After<'_>,
) -> Result<Exit, Failure> {
    frame.hints.settle_report(&mut report);
    let report = &report;
    let verbose = frame.screen.verbose > 0;
    frame.screen.show(report, |style| {
        render(report, after, verbose, frame.now(), style)
    })?;
    if let Some(failure) = Failure::of_run(report) {
        let text = error::render(&failure, frame.screen.err);
        frame.screen.complain(&text);
    }
    Ok(report.outcome.into())
}

/// A report for people.
pub(crate) fn render(
    report: &Report,
    after: &After<'_>,
    verbose: bool,
    now: Timestamp,
    style: Style,
) -> String {
    let mut text = String::new();
    if let Some(verdict) = &report.verdict {
        text += &matrix::render(verdict, verbose, now, style);
        text.push('\n');
    }
    let _ = writeln!(text, "{}", headline(report, style));
    for note in &report.notes {
        noted(&mut text, style, note);
    }
    if let Some(journal) = after.journal.filter(|_| !report.steps.is_empty()) {
        let _ = writeln!(text, "journal: {}", journal.display());
    }
    for (i, next) in after.next.iter().enumerate() {
        let label = if i == 0 { "next:" } else { "     " };
        let _ = writeln!(text, "{label} {}", style.cyan(next));
    }
    text
}

fn headline(report: &Report, style: Style) -> String {
    let done = report
        .steps
        .iter()
        .filter(|step| step.state == StepState::Done)
        .count();
    let steps = format!(
        "{done} of {} in {}",
        count(report.steps.len(), "step"),
        duration(report.millis)
    );
    let who = || report.unfinished().join(", ");
    let text = match report.outcome {
        RunOutcome::NothingToDo => {
            return style.green("nothing to do: everything is as it should be");
        }
        RunOutcome::Done => {
            let steps = count(done, "step");
            return style.green(&format!("done: {steps} in {}", duration(report.millis)));
        }
        RunOutcome::PartlyDone => format!("partly done: {steps}; not finished: {}", who()),
        RunOutcome::NotInTime => format!("not ready in time: {steps}; not finished: {}", who()),
        RunOutcome::Refused => "refused, to protect what is not ours".to_owned(),
        RunOutcome::Interrupted => {
            format!("interrupted: {steps}; the same command goes on from here")
        }
        RunOutcome::Failed => format!("failed: {steps}"),
    };
    style.red(&text)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::cli::output::plain::tests::run;

    #[test]
    fn a_run_that_was_not_in_time() {
        let mut report = Report::fold(&run());
        report.notes.push("eks-1's intermediate is valid until 2027-01-02 and stays trusted until then, whatever is done".to_owned().into());
        let after = After {
            journal: Some(Path::new("/state/meshlink/journal.jsonl")),
            next: vec![
                "meshlink join eks-1 eks-2".into(),
                "meshlink status eks-1 eks-2".into(),
            ],
        };
        assert_snapshot!(render(&report, &after, false, Timestamp::UNIX_EPOCH, Style::plain()), @"
        not ready in time: 1 of 3 steps in 1m 2s; not finished: eks-2
        note: eks-1's intermediate is valid until 2027-01-02 and stays trusted until
              then, whatever is done
        journal: /state/meshlink/journal.jsonl
        next: meshlink join eks-1 eks-2
              meshlink status eks-1 eks-2
        ");
        assert_snapshot!(error::render(&Failure::of_run(&report).unwrap(), Style::plain()), @"error: await-nlb/eks-2: timed out after 60 s");
    }

    #[test]
    fn nothing_to_do_says_so_and_names_no_journal() {
        let report = Report {
            outcome: RunOutcome::NothingToDo,
            ..Report::default()
        };
        let after = After {
            journal: Some(Path::new("/never/written")),
            next: vec![],
        };
        assert_snapshot!(render(&report, &after, false, Timestamp::UNIX_EPOCH, Style::plain()), @"nothing to do: everything is as it should be");
    }
}
