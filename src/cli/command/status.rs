//! `meshlink status`.

use std::time::Duration;

use crate::{
    cli::{
        Frame,
        args::Status,
        error::{Exit, Failure},
        output::matrix,
        session::{Selection, Session},
    },
    cluster::wait::Deadline,
};

/// How often what cannot be watched is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs it: 0 if it could look. With `--wait`, until everything looked at holds.
pub(crate) async fn run(args: Status, frame: &Frame) -> Result<Exit, Failure> {
    let session = Session::open(Selection::Some(&args.clusters), &args.target, frame).await?;
    let deadline = Deadline::after(args.target.timeout);
    let verbose = frame.screen.verbose > 0;
    loop {
        let mut verdict = session.link.verdict(None).await?;
        let late = deadline.left() < AGAIN;
        if verdict.holds() || !args.wait || late {
            frame.hints.settle_verdict(&mut verdict);
            frame
                .screen
                .show(&verdict, |style| matrix::render(&verdict, verbose, style))?;
            return Ok(if args.wait && !verdict.holds() {
                Exit::NotInTime
            } else {
                Exit::Done
            });
        }
        if let Some(check) = verdict.failed().next() {
            frame
                .screen
                .say(&format!("waiting: {}: {}", check.path(), check.evidence));
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = frame.cancel.cancelled() => return Ok(Exit::Interrupted),
        }
    }
}
