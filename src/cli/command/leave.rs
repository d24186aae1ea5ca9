//! `meshlink leave`.

use crate::{
    cli::{
        Frame,
        args::{self, Leaving},
        error::{Exit, Failure},
        session::{Selection, Session, typed},
    },
    link::Change,
    plan::leave::Leave,
    report::RunOutcome,
};

/// Runs it.
pub(crate) async fn run(args: args::Leave, frame: &Frame) -> Result<Exit, Failure> {
    let (mut session, leave) = open(&args.how, frame).await?;
    let report = session.apply(leave, args.changing, frame).await?;
    let next: &[&str] = match report.outcome {
        RunOutcome::NothingToDo => &[],
        _ => &["meshlink status"],
    };
    session.finish(frame, report, next)
}

/// The mesh, and the leave that was asked for.
pub(super) async fn open(how: &Leaving, frame: &Frame) -> Result<(Session, Change), Failure> {
    let selection = match how.dead {
        true => Selection::Dead(&how.clusters),
        false => Selection::Some(&how.clusters),
    };
    let session = Session::open(selection, &how.target, frame).await?;
    let leave = Leave {
        leavers: typed(session.link.mesh(), &how.clusters)?,
        uninstall: how.uninstall,
        crds: how.crds,
        dead: how.dead,
        abandon: how.abandon_load_balancer,
    };
    Ok((session, Change::Leave(leave)))
}
