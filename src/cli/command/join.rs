//! `meshlink join`.

use crate::{
    cli::{
        Frame,
        args::Join,
        error::{Exit, Failure},
        session::{Selection, Session},
    },
    link::Change,
    report::RunOutcome,
};

/// Runs it.
pub(crate) async fn run(args: Join, frame: &Frame) -> Result<Exit, Failure> {
    let target = args.target.with(args.sources);
    let mut session = Session::open(Selection::All(&args.clusters), &target, frame).await?;
    session.link.environment.ignored_checks = args.ignore;
    let report = session.apply(Change::Join, args.changing, frame).await?;
    let next: &[&str] = match report.outcome {
        RunOutcome::NothingToDo => &["meshlink verify --traffic"],
        _ => &["meshlink status", "meshlink verify --traffic"],
    };
    session.finish(frame, report, next)
}
