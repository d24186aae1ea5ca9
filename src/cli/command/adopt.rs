//! `meshlink adopt`.

use crate::{
    cli::{
        Frame,
        args::adopt::{Adopt, Adopting, Manner},
        error::{Exit, Failure},
        session::{Selection, Session},
    },
    link::Change,
    name::ClusterName,
    plan::adopt,
    report::RunOutcome,
};

/// Runs it.
pub(crate) async fn run(args: Adopt, frame: &Frame) -> Result<Exit, Failure> {
    let (mut session, change) = open(&args.how, frame).await?;
    let report = session.apply(change, args.changing, frame).await?;
    let next: &[&str] = match report.outcome {
        RunOutcome::Done | RunOutcome::NothingToDo => &["meshlink status"],
        _ => &[],
    };
    session.finish(frame, report, next)
}

/// The clusters, and what is to be done to them.
pub(super) async fn open(asked: &Adopting, frame: &Frame) -> Result<(Session, Change), Failure> {
    let target = asked.target.clone().with(asked.sources.clone());
    let selection = match (asked.clusters.as_slice(), &target.file) {
        (names, Some(_)) => Selection::Some(names),
        (names, None) => Selection::All(names),
    };
    let session = Session::open(selection, &target, frame).await?;
    let members = match session.named.is_empty() {
        true => session
            .link
            .mesh()
            .clusters
            .iter()
            .map(|m| m.name.clone())
            .collect(),
        false => session.named.clone(),
    };
    Ok((session, Change::Adopt(how(members, &asked.manner))))
}

/// How these are adopted.
pub(super) fn how(members: Vec<ClusterName>, manner: &Manner) -> adopt::Adopt {
    adopt::Adopt {
        members,
        restart_workloads: manner.restart_workloads,
        projected: manner.projected_within,
        accept_gap: manner.accept_gap,
    }
}
