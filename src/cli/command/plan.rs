//! `meshlink plan`.

use super::{adopt, leave, renew, rotate, upgrade, workloads};
use crate::{
    cli::{
        Frame,
        args::{Plan, PlanChange, workloads::WorkloadsPlan},
        error::{Exit, Failure},
        output::plan,
        session::{Selection, Session},
    },
    link::Change,
};

/// Runs it.
pub(crate) async fn run(args: Plan, frame: &Frame) -> Result<Exit, Failure> {
    let (mut session, change) = match args.change.as_deref() {
        Some(PlanChange::Adopt(how)) => adopt::open(how, frame).await?,
        Some(PlanChange::Leave(how)) => leave::open(how, frame).await?,
        Some(PlanChange::Renew(how)) => renew::open(how, frame).await?,
        Some(PlanChange::Upgrade(how)) => upgrade::open(how, frame).await?,
        Some(PlanChange::Rotate(how)) => rotate::open(how, frame).await?,
        Some(PlanChange::Workloads(WorkloadsPlan::Inject(how))) => {
            workloads::inject(how, frame).await?
        }
        Some(PlanChange::Workloads(WorkloadsPlan::Restart(how))) => {
            workloads::restart(how, frame).await?
        }
        None => {
            let target = args.target.with(args.sources);
            let selection = Selection::All(&args.clusters);
            (
                Session::open(selection, &target, frame).await?,
                Change::Join,
            )
        }
    };
    session.link.environment.ignored_checks = args.ignore;
    let planned = session.link.plan(change).await?;
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
