//! `meshlink verify`.

use std::{collections::BTreeSet, path::Path};

use crate::{
    cli::{
        Frame,
        args::Verify,
        error::{Exit, Failure},
        output::{
            junit::{self, About},
            matrix,
        },
        session::{Session, Whom},
        work::{self, Desk, Job},
    },
    cluster::preflight::Purpose,
    plan::{self, leave::Leave},
    report::{Report, RunOutcome},
    verify::{Depth, Verdict},
};

/// Runs it: 0 if everything looked at holds, else 4.
pub(crate) async fn run(args: Verify, frame: &Frame) -> Result<Exit, Failure> {
    let started = frame.now();
    let mut found = looked(&args, frame).await;
    match &mut found {
        Ok((verdict, report)) => {
            frame.hints.settle_verdict(verdict);
            frame.hints.settle_report(report);
        }
        Err(failure) => frame.hints.settle_failure(failure),
    }
    if let Some(path) = &args.junit {
        let about = |mesh| About {
            mesh,
            started,
            millis: frame
                .now()
                .duration_since(started)
                .as_millis()
                .try_into()
                .unwrap_or(0),
        };
        let text = match &found {
            Ok((verdict, report)) => junit::render(verdict, &about(&report.mesh)),
            Err(failure) => junit::render_failure(failure, &about("unknown")),
        };
        write(path, &text)?;
    }
    let (verdict, report) = found?;
    let verbose = frame.screen.verbose > 0;
    frame
        .screen
        .show(&verdict, |style| matrix::render(&verdict, verbose, style))?;
    if let Some(failure) = Failure::of_run(&report) {
        frame.screen.complain(&failure.render(frame.screen.err));
    }
    Ok(match report.outcome {
        RunOutcome::Interrupted | RunOutcome::Refused => report.outcome.into(),
        RunOutcome::Done | RunOutcome::NothingToDo if verdict.holds() => Exit::Done,
        _ => Exit::NotInTime,
    })
}

/// Everything that was asked for: traffic first, which takes time, then what stands.
async fn looked(args: &Verify, frame: &Frame) -> Result<(Verdict, Report), Failure> {
    let session = Session::open(Whom::Some(&args.clusters), &args.target, frame).await?;
    let report = match args.traffic {
        true => witnessed(args, &session, frame).await?,
        false => work::report(&session, frame),
    };
    let sight = work::observe(&session, &work::lens(&session)).await?;
    let mut verdict = work::judge(&session, &sight).await;
    for proof in report.proofs.values() {
        verdict.take(proof.clone());
    }
    if let Some(service) = &args.service {
        let (seen, checks) = work::desk(&session, &sight).service(service).await;
        verdict.checks.extend(checks);
        verdict.service = Some(seen);
    }
    let why = match args.traffic {
        true => "the proof did not come this far",
        false => "traffic was not asked for: --traffic",
    };
    Ok((verdict.with_untried(why), report))
}

/// Whole or not at all: who reads it must not find half of it.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    crate::file::write_whole(path, text.as_bytes()).map_err(|error| {
        let what = format!("cannot write {}", path.display());
        Failure::from_causes(Exit::Failed, vec![what, error.to_string()])
    })
}

/// Brings the witnesses, asks, and takes them away again.
async fn witnessed(args: &Verify, session: &Session, frame: &Frame) -> Result<Report, Failure> {
    work::check_rights(session, Purpose::Verify).await?;
    work::consent(session, frame, args.target.yes)?;
    let (sight, desired) = Desk::open(session, &[]).await?.survey().await?;
    let observed = sight.observed;
    let locked = work::lock(session, &observed, frame).await?;
    let job = Job {
        plan: plan::join::proof(&session.mesh),
        layout: session.layout(&observed),
        desired,
        leave: Leave::default(),
        left: BTreeSet::new(),
        depth: Depth::Every,
        timeout: args.target.timeout,
    };
    let report = work::execute(session, frame, job, &locked).await;
    locked.release(false).await;
    report
}
