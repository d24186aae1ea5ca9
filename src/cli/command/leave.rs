//! `meshlink leave`.

use crate::{
    cli::{
        Frame, args,
        error::{Exit, Failure},
        session::{Selection, Session, typed},
    },
    link::Change,
    plan::leave::Leave,
    report::RunOutcome,
};

/// Runs it.
pub(crate) async fn run(args: args::Leave, frame: &Frame) -> Result<Exit, Failure> {
    let selection = match args.dead {
        true => Selection::Dead(&args.clusters),
        false => Selection::Some(&args.clusters),
    };
    let session = Session::open(selection, &args.target, frame).await?;
    let session = session.beside(&args.others);
    let leave = Leave {
        leavers: typed(session.link.mesh(), &args.clusters)?,
        uninstall: args.uninstall,
        crds: args.crds,
        dead: args.dead,
        abandon: args.abandon_load_balancer,
    };
    let report = session
        .apply(Change::Leave(leave), &args.target, frame)
        .await?;
    let next: &[&str] = match report.outcome {
        RunOutcome::NothingToDo => &[],
        _ => &["meshlink status"],
    };
    session.finish(frame, report, next)
}
