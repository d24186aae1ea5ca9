//! `meshlink leave`.

use std::collections::BTreeSet;

use crate::{
    cli::{
        Frame, args,
        error::{Exit, Failure},
        session::{self, Session, Whom},
        work::{self, Job},
    },
    cluster::preflight::Purpose,
    observe::{Observed, Tokens},
    plan::{self, Desired, Plan, leave::Leave},
    report::{Report, RunOutcome},
    verify::{self, Depth, Verdict},
};

/// Runs it.
pub(crate) async fn run(args: args::Leave, frame: &Frame) -> Result<Exit, Failure> {
    let whom = match args.dead {
        true => Whom::Dead(&args.clusters),
        false => Whom::Some(&args.clusters),
    };
    let mut session = Session::open(whom, &args.target, frame).await?;
    let how = Leave {
        leavers: session::typed(&session.mesh, &args.clusters)?,
        uninstall: args.uninstall,
        crds: args.crds,
        dead: args.dead,
        abandon: args.abandon_load_balancer,
    };
    let (observed, plan) = look(&session, &how).await?;
    if plan.is_empty() {
        let report = Report {
            notes: plan.notes,
            ..work::report(&session, frame)
        };
        session.forget(&how)?;
        return work::finish(&session, frame, &report, &[]);
    }
    work::check_rights(&session, Purpose::Leave).await?;
    work::consent(&session, frame, args.target.yes)?;
    let locked = work::lock(&session, &observed, frame).await?;
    // Somebody may have been at work between the first look and the Lease; and a namespace that was made for the Lease
    // is to go again.
    let looked = match locked.undisturbed() && !locked.made_namespace() {
        true => Ok((observed, plan)),
        false => look(&session, &how).await,
    };
    let report = match looked {
        Ok((observed, plan)) => {
            let job = Job {
                left: gateways(&session, &observed, &how).await,
                plan,
                desired: Desired::default(),
                layout: session.layout(&observed),
                leave: how.clone(),
                depth: Depth::Traffic,
                timeout: args.target.timeout,
            };
            work::execute(&session, frame, job, &locked).await
        }
        Err(failure) => Err(failure),
    };
    let gone = args.uninstall && report.as_ref().is_ok_and(|r| r.outcome == RunOutcome::Done);
    locked.release(gone).await;
    let mut report = report?;
    if report.outcome == RunOutcome::Done {
        session.forget(&how)?;
        report.verdict = rest(&mut session, &how, &report).await?;
    }
    work::finish(&session, frame, &report, &["meshlink status"])
}

async fn look(session: &Session, how: &Leave) -> Result<(Observed, Plan), Failure> {
    let lens = work::lens(session).with_leases();
    let mut observed = work::observe(session, &lens).await?.observed;
    let looked = async {
        if how.uninstall {
            lens.look_for_sidecars(&mut observed).await?;
        }
        lens.look_for_leftovers(&mut observed, &how.leavers).await
    };
    if let Err(unseen) = looked.await {
        return Err(session.unread(&unseen).await);
    }
    let plan = plan::leave::leave(&session.mesh, &observed, how).map_err(work::refused)?;
    Ok((observed, plan))
}

/// What stands among those who stay.
async fn rest(
    session: &mut Session,
    how: &Leave,
    report: &Report,
) -> Result<Option<Verdict>, Failure> {
    session.mesh = how.rest(&session.mesh);
    session
        .clusters
        .retain(|name, _| !how.leavers.contains(name));
    match session.clusters.len() {
        0 | 1 => Ok(None),
        _ => work::verdict(session, report).await.map(Some),
    }
}

/// Where the leavers' gateways answer now, as far as it can be known from here.
async fn gateways(session: &Session, observed: &Observed, how: &Leave) -> BTreeSet<String> {
    let desk = verify::Desk {
        mesh: &session.mesh,
        clusters: &session.clusters,
        observed,
        tokens: &Tokens::default(),
        resolver: &session.resolver,
        connect: &session.connect,
        now: session::clock()(),
    };
    let mut all = BTreeSet::new();
    for leaver in &how.leavers {
        all.extend(desk.expected(leaver).await.unwrap_or_default());
    }
    all
}
