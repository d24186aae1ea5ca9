//! `meshlink workloads`.

use crate::{
    cli::{
        Frame,
        args::{
            Changing, Workloads as Args,
            workloads::{Injecting, Restarting, WorkloadsChange},
        },
        error::{Exit, Failure},
        output::{json::Document, workloads},
        session::{Selection, Session},
    },
    link::{Change, workloads::Which},
    plan::rollout::Rollout,
    workloads::Workloads,
};

impl Document for Workloads {
    const SCHEMA: &'static str = "workloads";
}

/// The mesh, and what is to be done to a namespace.
pub(super) async fn inject(how: &Injecting, frame: &Frame) -> Result<(Session, Change), Failure> {
    let session = Session::open(Selection::Some(&how.clusters), &how.target, frame).await?;
    let mut rollout = Rollout::default();
    rollout.namespace.clone_from(&how.namespace);
    rollout.members.clone_from(&session.named);
    (rollout.inject, rollout.undo) = (!how.undo, how.undo);
    Ok((session, Change::Rollout(rollout)))
}

/// The mesh, and what is to be rolled.
pub(super) async fn restart(how: &Restarting, frame: &Frame) -> Result<(Session, Change), Failure> {
    let session = Session::open(Selection::Some(&how.clusters), &how.target, frame).await?;
    let mut rollout = Rollout::default();
    rollout.namespace.clone_from(&how.namespace);
    rollout.members.clone_from(&session.named);
    rollout.service.clone_from(&how.service);
    rollout.all = how.all;
    Ok((session, Change::Rollout(rollout)))
}

async fn apply(
    (mut session, change): (Session, Change),
    changing: Changing,
    frame: &Frame,
) -> Result<Exit, Failure> {
    if session.tells_strangers(frame) {
        return Ok(Exit::NotInTime);
    }
    let next = match &change {
        Change::Rollout(how) => format!("meshlink workloads -n {}", how.namespace),
        _ => "meshlink workloads".into(),
    };
    let report = session.apply(change, changing, frame).await?;
    session.finish(frame, report, &[next.as_str()])
}

/// Runs it: 0 if every member and proxy could be looked at and nothing is wrong, 7 if something is, 6 if something could not be
/// looked at, 4 if something that was named is not there.
pub(crate) async fn run(args: Args, frame: &Frame) -> Result<Exit, Failure> {
    match args.change.as_deref() {
        Some(WorkloadsChange::Inject(args)) => {
            let begun = inject(&args.how, frame).await?;
            return apply(begun, args.changing, frame).await;
        }
        Some(WorkloadsChange::Restart(args)) => {
            let begun = restart(&args.how, frame).await?;
            return apply(begun, args.changing, frame).await;
        }
        None => {}
    }
    let selection = Selection::Some(&args.clusters);
    let session = Session::open(selection, &args.target, frame).await?;
    let strangers = session.tells_strangers(frame);
    let which = Which {
        members: session.named.clone(),
        namespaces: args.namespace,
        service: args.service,
        connect: args.connect,
    };
    let work = session.link.workloads(&which);
    let mut seen = tokio::select! {
        done = work => done?,
        () = frame.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    for member in &mut seen.unreachable {
        frame.hints.settle(&mut member.hints);
    }
    let settle = |mut hint| {
        frame.hints.settle(std::slice::from_mut(&mut hint));
        hint
    };
    let shown = workloads::Shown {
        all: args.all,
        verbose: frame.screen.verbose > 0,
        settle: &settle,
    };
    frame
        .screen
        .show(&seen, |style| workloads::render(&seen, &shown, style))?;
    Ok(match () {
        () if strangers || !seen.missing.is_empty() => Exit::NotInTime,
        () if seen.is_partial() => Exit::PartlyDone,
        () if seen.is_ill() => Exit::Ill,
        () => Exit::Done,
    })
}
