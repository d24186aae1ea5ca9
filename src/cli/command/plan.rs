//! `meshlink plan`.

use crate::cli::{
    Frame,
    args::Plan,
    error::{Exit, Failure},
    output::plan,
    session::{Session, Whom},
    work::Desk,
};

/// Runs it.
pub(crate) async fn run(args: Plan, frame: &Frame) -> Result<Exit, Failure> {
    let session = Session::open(Whom::All(&args.clusters), &args.target, frame).await?;
    let mut look = Desk::open(&session, &args.ignore).await?.look().await?;
    for note in &mut look.plan.notes {
        frame.hints.settle(&mut note.hints);
    }
    let verbose = frame.screen.verbose > 0;
    frame
        .screen
        .show(&look.plan, |style| plan::render(&look.plan, verbose, style))?;
    Ok(if look.plan.is_empty() {
        Exit::Done
    } else {
        Exit::Drift
    })
}
