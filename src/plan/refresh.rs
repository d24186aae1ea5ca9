//! Istio versions that do not survive a change of their remote secrets.
//!
//! A step that changes or removes one in such a cluster is followed by a restart of its istiod, and
//! only then by the proof. An istiod that was left unrestarted, because a run died in between, is
//! known by a Secret that changed after it started.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use crate::{
    hint::Hint,
    name::ClusterName,
    observe::Seen,
    plan::{Plan, Refusal, Step},
    versions::{About, Effect, Versions},
};

/// Why one of these must be restarted when a remote secret changes; none if none must be.
pub(super) fn fault<'v>(
    known: &Versions,
    running: impl IntoIterator<Item = &'v Version>,
) -> Option<String> {
    let one = |v: &Version| {
        known
            .restarts(v)
            .map(|fault| format!("istiod {v}: {fault}"))
    };
    running.into_iter().find_map(one)
}

/// Why a peer's endpoints are away for a moment when a remote secret changes; none if they stay.
pub(super) fn gap<'v>(
    known: &Versions,
    running: impl IntoIterator<Item = &'v Version>,
) -> Option<String> {
    let one = |v: &Version| {
        let mut losses = known.losses(v, About::RemoteSecrets);
        let fault = losses.find(|f| f.effect == Effect::Gap)?;
        Some(format!("istiod {v}: {fault}"))
    };
    running.into_iter().find_map(one)
}

/// Why requests would be lost in a member by a change of this kind, where that is not accepted; each with its ways on.
pub(super) fn refusal<'v>(
    known: &Versions,
    (member, running): (&ClusterName, impl IntoIterator<Item = &'v Version>),
    about: About,
    again: &[&str],
) -> Option<Refusal> {
    let one = |v: &Version| Some((v.clone(), known.losses(v, about).next()?.to_string()));
    let (version, fault) = running.into_iter().find_map(one)?;
    let what = match about {
        About::RemoteSecrets => "its remote secrets are changed",
        About::Cacerts => "its cacerts is changed",
    };
    let reason = format!("requests may be lost when {what}: istiod {version}: {fault}");
    let version = known.default().to_string();
    let better =
        Hint::meshlink(["upgrade", "--to", &version]).remark("nothing is known against it");
    let all = again.iter().copied().chain(["--accept-gap"]);
    let accept = Hint::meshlink(all).remark("goes on all the same");
    Some(Refusal::by(member, reason, vec![better, accept]))
}

/// What a person is told before.
pub(super) fn note(at: &ClusterName, why: &str) -> String {
    format!("{at} runs {why}; it is restarted once its remote secrets are changed")
}

/// Says what is known to be wrong with the versions that will run and cannot be helped by a restart.
pub(super) fn tell(
    known: &Versions,
    running: Vec<(&ClusterName, BTreeSet<Version>)>,
    plan: &mut Plan,
) {
    let mut members: BTreeMap<Version, Vec<&str>> = BTreeMap::new();
    for (name, versions) in running {
        for version in versions {
            members.entry(version).or_default().push(name.as_str());
        }
    }
    for (version, names) in &members {
        for fault in known.faults(version).filter(|f| f.effect == Effect::Say) {
            let (names, better) = (names.join(", "), known.default());
            let text =
                format!("{names}: istiod {version}: {fault}; nothing is known against {better}");
            plan.notes.push(text.into());
        }
    }
    for fault in known.mixed(members.keys()) {
        plan.notes.push(fault.to_string().into());
    }
}

/// Whether the plan changes a remote secret of `at` that is there already.
pub(super) fn changes_in_place(plan: &Plan, at: &ClusterName, seen: &Seen) -> bool {
    plan.steps.iter().any(|planned| match &planned.step {
        Step::ShareSecret { from, to } => {
            to == at && seen.remote_secrets.contains_key(from.as_str())
        }
        _ => false,
    })
}

/// Whether a remote secret changed after the istiod that runs had started.
pub(super) fn is_overdue(seen: &Seen) -> bool {
    let changed = seen.remote_secrets.values().filter_map(|s| s.changed).max();
    changed
        .zip(seen.istiod.started)
        .is_some_and(|(changed, started)| changed > started)
}
