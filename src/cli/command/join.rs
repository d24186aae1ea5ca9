//! `meshlink join`.

use super::adopt;
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
    if args.adopt {
        let members = session.link.adoptable().await?;
        if !members.is_empty() {
            let change = Change::Adopt(adopt::how(members, &args.manner));
            let report = session.apply(change, args.changing, frame).await?;
            if !matches!(report.outcome, RunOutcome::Done | RunOutcome::NothingToDo) {
                return session.finish(frame, report, &[]);
            }
        }
    }
    let report = session.apply(Change::Join, args.changing, frame).await?;
    let next: &[&str] = match report.outcome {
        RunOutcome::NothingToDo => &["meshlink verify --traffic"],
        _ => &["meshlink status", "meshlink verify --traffic"],
    };
    session.finish(frame, report, next)
}
