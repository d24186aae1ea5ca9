//! `meshlink verify`.

use std::path::Path;

use jiff::Timestamp;

use crate::{
    cli::{
        Frame,
        args::Verify,
        error::{self, Exit, Failure, Kind},
        output::{
            junit::{self, About},
            matrix,
        },
        session::{Selection, Session},
    },
    hint::Hint,
    link::Change,
    report::{Report, RunOutcome},
    verify::Verdict,
};

/// Runs it: 0 if everything looked at holds and every pair is proved, else 4.
pub(crate) async fn run(args: Verify, frame: &Frame) -> Result<Exit, Failure> {
    let started = frame.now();
    let mut found = looked(&args, frame).await;
    match &mut found {
        Ok((verdict, report, _)) => {
            frame.hints.settle_verdict(verdict);
            frame.hints.settle_report(report);
        }
        Err(failure) => frame.hints.settle_failure(failure),
    }
    if let Some(path) = &args.junit {
        let mesh = frame.hints.mesh(&args.target);
        let about = About {
            mesh: &mesh,
            started,
            millis: frame
                .now()
                .duration_since(started)
                .as_millis()
                .try_into()
                .unwrap_or(0),
        };
        let text = match &found {
            Ok((verdict, ..)) => junit::render(verdict, &about),
            Err(failure) => junit::render_failure(failure, &about),
        };
        write(path, &text)?;
    }
    let (verdict, report, now) = found?;
    let verbose = frame.screen.verbose > 0;
    frame.screen.show(&verdict, |style| {
        matrix::render(&verdict, verbose, now, style)
    })?;
    if let Some(failure) = Failure::of_run(&report) {
        let text = error::render(&failure, frame.screen.err);
        frame.screen.complain(&text);
    }
    let proved = match verdict.unproved() {
        Some((from, to)) if verdict.holds() && !args.traffic => {
            let mut failure = unproved(from, to);
            frame.hints.settle_failure(&mut failure);
            let text = error::render(&failure, frame.screen.err);
            frame.screen.complain(&text);
            false
        }
        unproved => unproved.is_none(),
    };
    Ok(match report.outcome {
        RunOutcome::Interrupted | RunOutcome::Refused => report.outcome.into(),
        RunOutcome::Done | RunOutcome::NothingToDo if proved && verdict.holds() => Exit::Done,
        _ => Exit::NotInTime,
    })
}

/// Nothing is wrong, and nothing is proved.
fn unproved(from: &str, to: &str) -> Failure {
    let text = format!("{from} to {to}: no request was sent, and no earlier proof holds any more");
    Failure::from_causes(Kind::NotInTime, vec![text]).hint(Hint::meshlink(["verify", "--traffic"]))
}

/// Everything that was asked for: traffic first, which takes time, then what stands.
async fn looked(args: &Verify, frame: &Frame) -> Result<(Verdict, Report, Timestamp), Failure> {
    let target = args.target.clone().with(args.sources.clone());
    let mut session = Session::open(Selection::Some(&args.clusters), &target, frame).await?;
    let report = match args.traffic {
        true => session.apply(Change::Verify, args.changing, frame).await?,
        false => session.link.report(),
    };
    let link = &session.link;
    let reading = link.read().await?;
    let mut verdict = link.judge(&reading).await;
    verdict.take(report.proofs.values().cloned());
    if let Some(service) = &args.service {
        let (seen, checks) = link.verifier(&reading).service(service).await;
        verdict.checks.extend(checks);
        verdict.service = Some(seen);
    }
    let why = match args.traffic {
        true => "the proof did not get this far",
        false => "traffic was not tried: pass --traffic",
    };
    let verdict = verdict.with_untried(why);
    Ok((
        verdict.with_strangers(link.mesh(), &session.strangers),
        report,
        reading.observed.now,
    ))
}

/// Whole or not at all: who reads it must not find half of it.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    crate::file::write_whole(path, text.as_bytes()).map_err(|error| {
        let what = format!("cannot write {}", path.display());
        Failure::from_causes(Kind::Failed, vec![what, error.to_string()])
    })
}
