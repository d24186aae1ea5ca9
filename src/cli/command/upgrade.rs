//! `meshlink upgrade`: one member after the other, each proved before the next is changed.

use std::{collections::BTreeMap, fmt::Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cli::{
        Frame,
        args::upgrade::{Upgrade, Upgrading},
        error::{self, Exit, Failure, hinted},
        output::{Style, json::Document, table::Table},
        session::{Selection, Session},
    },
    hint::Hint,
    link::Change,
    observe::Unreachable,
    plan::upgrade::{self, pending},
    report::RunOutcome,
};

/// `meshlink upgrade --status -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Shown {
    /// The mesh.
    mesh: String,
    /// Its members.
    members: Vec<Member>,
    /// Members that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<Unreachable>,
}

/// What one member runs.
#[derive(Debug, Serialize, JsonSchema)]
struct Member {
    /// The member.
    cluster: String,
    /// The versions of its istiods that run.
    control_plane: Vec<String>,
    /// Its proxies, by version and namespace: how many.
    proxies: BTreeMap<String, BTreeMap<String, usize>>,
    /// Commands that restart proxies of another version than the control plane's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<Hint>,
}

impl Document for Shown {
    const SCHEMA: &'static str = "upgrade-status";
}

/// Runs it.
pub(crate) async fn run(args: Upgrade, frame: &Frame) -> Result<Exit, Failure> {
    let (mut session, asked) = opened(&args.how, frame).await?;
    if session.tells_strangers(frame) {
        return Ok(Exit::NotInTime);
    }
    if args.status {
        return status(&session, frame).await;
    }
    let mut left = members(&session, &asked).await?.into_iter();
    // Where nobody is left, what stands is told.
    let mut member = left.next().unwrap_or_else(|| asked.member.clone());
    loop {
        let upgrade = upgrade::Upgrade {
            member,
            ..asked.clone()
        };
        let report = session
            .apply(Change::Upgrade(upgrade), args.changing, frame)
            .await?;
        let done = matches!(report.outcome, RunOutcome::Done | RunOutcome::NothingToDo);
        match left.next().filter(|_| done) {
            Some(next) => member = next,
            None => return session.finish(frame, report, &["meshlink upgrade --status"]),
        }
    }
}

/// The mesh, and the upgrade of the member that is next.
pub(super) async fn open(how: &Upgrading, frame: &Frame) -> Result<(Session, Change), Failure> {
    let (session, asked) = opened(how, frame).await?;
    let next = members(&session, &asked).await?.into_iter().next();
    let upgrade = upgrade::Upgrade {
        member: next.unwrap_or_else(|| asked.member.clone()),
        ..asked
    };
    Ok((session, Change::Upgrade(upgrade)))
}

/// The mesh, and what is asked of each of its members.
async fn opened(how: &Upgrading, frame: &Frame) -> Result<(Session, upgrade::Upgrade), Failure> {
    let target = how.target.clone().with(how.sources.clone());
    let session = Session::open(Selection::Some(&how.clusters), &target, frame).await?;
    let mesh = session.link.mesh();
    let Some(any) = mesh.clusters.first() else {
        return Err(Failure::usage("the mesh has no member"));
    };
    let asked = mesh.istio.version.parse().ok();
    let to = how.to.clone().or(asked);
    let upgrade = upgrade::Upgrade {
        member: any.name.clone(),
        to: to.unwrap_or_else(|| mesh.istio.known.default().clone()),
        back: how.back,
        accept_faults: how.accept_known_faults,
    };
    Ok((session, upgrade))
}

/// Who does not have the version yet, of those that were named if some were, and in their order.
async fn members(
    session: &Session,
    asked: &upgrade::Upgrade,
) -> Result<Vec<crate::name::ClusterName>, Failure> {
    let reading = session.link.read().await?;
    let left = pending(session.link.mesh(), &reading.observed, &asked.to);
    if session.named.is_empty() {
        return Ok(left);
    }
    let named = session.named.iter().filter(|name| left.contains(name));
    Ok(named.cloned().collect())
}

async fn status(session: &Session, frame: &Frame) -> Result<Exit, Failure> {
    let reading = session.link.read().await?;
    let (proxies, unreachable) = session.link.proxy_versions(&reading).await;
    let clusters = reading.observed.clusters.iter();
    let members = clusters.filter_map(|(name, seen)| {
        let proxies = proxies.get(name)?.clone();
        let control_plane: Vec<_> = seen
            .istiod
            .versions
            .iter()
            .map(ToString::to_string)
            .collect();
        let older = proxies.iter().filter(|(v, _)| !control_plane.contains(v));
        let places: std::collections::BTreeSet<_> = older.flat_map(|(_, n)| n.keys()).collect();
        let restart = |namespace: &&String| {
            Hint::kubectl(name, ["rollout", "restart", "deployment", "-n", namespace])
        };
        let mut hints: Vec<_> = places.iter().copied().map(|n| restart(&n)).collect();
        frame.hints.settle(&mut hints);
        Some(Member {
            cluster: name.to_string(),
            control_plane,
            hints,
            proxies,
        })
    });
    let shown = Shown {
        mesh: session.link.mesh().id.to_string(),
        members: members.collect(),
        unreachable,
    };
    frame.screen.show(&shown, |style| text(&shown, style))?;
    let mut all = shown.members.iter();
    let first = shown.members.first().map(|m| &m.control_plane);
    let same = all.all(|m| m.hints.is_empty() && Some(&m.control_plane) == first);
    Ok(match (shown.unreachable.is_empty(), same) {
        (false, _) => Exit::PartlyDone,
        (true, true) => Exit::Done,
        (true, false) => Exit::Ill,
    })
}

fn text(shown: &Shown, style: Style) -> String {
    let mut table = Table::new(["CLUSTER", "CONTROL PLANE", "PROXIES"]);
    for member in &shown.members {
        let proxies = member.proxies.iter();
        let proxies: Vec<_> = proxies
            .map(|(version, places)| format!("{} on {version}", places.values().sum::<usize>()))
            .collect();
        table.row([
            member.cluster.clone(),
            member.control_plane.join(", "),
            match proxies.is_empty() {
                true => "none".to_owned(),
                false => proxies.join(", "),
            },
        ]);
    }
    let mut text = table.render(style);
    for member in shown.members.iter().filter(|m| !m.hints.is_empty()) {
        let _ = writeln!(
            text,
            "\n{}: proxies get its control plane's version when their pods are made anew:",
            member.cluster
        );
        for hint in &member.hints {
            hinted(&mut text, style, "  ", hint);
        }
    }
    error::unread(&mut text, style, &shown.unreachable);
    text
}
