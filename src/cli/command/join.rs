//! `meshlink join`.

use std::collections::BTreeSet;

use crate::{
    cli::{
        Frame,
        args::Join,
        error::{Exit, Failure},
        session::{Session, Whom},
        work::{self, Desk, Job},
    },
    cluster::preflight::Purpose,
    plan::leave::Leave,
    report::RunOutcome,
    verify::Depth,
};

/// Runs it.
pub(crate) async fn run(args: Join, frame: &Frame) -> Result<Exit, Failure> {
    let session = Session::open(Whom::All(&args.clusters), &args.target, frame).await?;
    let desk = Desk::open(&session, &args.ignore).await?;
    let look = desk.look().await?;
    if look.plan.is_empty() {
        let mut report = work::report(&session, frame);
        session.remember(&session.mesh)?;
        session.pin(frame, &look.desired);
        report.verdict = Some(work::judge(&session, &look.sight).await);
        return work::finish(&session, frame, &report, &["meshlink verify --traffic"]);
    }
    work::check_rights(&session, Purpose::Join).await?;
    work::consent(&session, frame, args.target.yes)?;
    session.pin(frame, &look.desired);
    let lock = work::lock(&session, &look.sight.observed, frame).await?;
    // Written down before anything is done: a leave must find all members of a join that died.
    session.remember(&session.mesh)?;
    // Somebody may have been at work between the first look and the Lease.
    let look = match lock.undisturbed() {
        true => Ok(look),
        false => desk.look().await,
    };
    let report = match look {
        Ok(look) => {
            let job = Job {
                plan: look.plan,
                desired: look.desired,
                layout: session.layout(&look.sight.observed),
                leave: Leave::default(),
                left: BTreeSet::new(),
                depth: Depth::Traffic,
                timeout: args.target.timeout,
            };
            work::execute(&session, frame, job, &lock).await
        }
        Err(failure) => Err(failure),
    };
    lock.release(false).await;
    let mut report = report?;
    match work::verdict(&session, &report).await {
        Ok(verdict) => report.verdict = Some(verdict),
        // A cluster that died in the run cannot be looked at now; what was done stands all the same.
        Err(_) if report.outcome != RunOutcome::Done => {}
        Err(failure) => return Err(failure),
    }
    work::finish(
        &session,
        frame,
        &report,
        &["meshlink status", "meshlink verify --traffic"],
    )
}
