//! `meshlink renew`.

use crate::{
    cli::{
        Frame,
        args::{Renew, Renewed, Renewing},
        error::{Exit, Failure},
        session::{Selection, Session},
    },
    link::Change,
    plan::renew::{self, What},
    report::RunOutcome,
};

pub(super) mod within;

/// Runs it.
pub(crate) async fn run(args: Renew, frame: &Frame) -> Result<Exit, Failure> {
    if args.within.in_cluster {
        return within::run(args, frame).await;
    }
    let (mut session, change) = open(&args.how, frame).await?;
    if session.tells_strangers(frame) {
        return Ok(Exit::NotInTime);
    }
    let report = session.apply(change, args.changing, frame).await?;
    let next: &[&str] = match report.outcome {
        RunOutcome::NothingToDo => &["meshlink ca status"],
        _ => &["meshlink ca status", "meshlink verify --traffic"],
    };
    session.finish(frame, report, next)
}

/// The mesh, and the renewal that was asked for.
pub(super) async fn open(how: &Renewing, frame: &Frame) -> Result<(Session, Change), Failure> {
    let session = Session::open(Selection::Some(&how.clusters), &how.target, frame).await?;
    let mut renew = renew::Renew::of(what(how.what));
    renew.accept_gap = how.accept_gap;
    Ok((session, Change::Renew(renew)))
}

fn what(renewed: Renewed) -> What {
    match renewed {
        Renewed::Intermediates => What::Intermediates,
        Renewed::Tokens => What::Tokens,
        Renewed::ApiCas => What::ApiCas,
        Renewed::All => What::All,
    }
}
