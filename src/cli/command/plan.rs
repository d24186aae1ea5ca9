//! `meshlink plan`.

use crate::{
    cli::{
        Frame,
        args::Plan,
        error::{Exit, Failure},
        output::plan,
        session::{Selection, Session},
    },
    link::Change,
};

/// Runs it.
pub(crate) async fn run(args: Plan, frame: &Frame) -> Result<Exit, Failure> {
    let mut session = Session::open(Selection::All(&args.clusters), &args.target, frame).await?;
    session.link.environment.ignored_checks = args.ignore;
    let planned = session.link.plan(Change::Join).await?;
    let mut plan = planned.plan().clone();
    for note in &mut plan.notes {
        frame.hints.settle(&mut note.hints);
    }
    let verbose = frame.screen.verbose > 0;
    frame
        .screen
        .show(&plan, |style| plan::render(&plan, verbose, style))?;
    Ok(match plan.is_empty() {
        false => Exit::Drift,
        true if planned.unreachable().next().is_some() => Exit::PartlyDone,
        true => Exit::Done,
    })
}
