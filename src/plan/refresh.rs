//! Istio versions that do not survive a change of their remote secrets.
//!
//! A step that changes or removes one in such a cluster is followed by a restart of its istiod, and
//! only then by the proof. An istiod that was left unrestarted, because a run died in between, is
//! known by a Secret that changed after it started.

use semver::Version;

use crate::{
    cluster::access::{self, Update},
    name::ClusterName,
    observe::Seen,
    plan::{Plan, Step},
};

/// What a version is known to do when a remote secret changes, as a reason; none for a sound one.
pub(super) fn fault<'v>(versions: impl IntoIterator<Item = &'v Version>) -> Option<String> {
    versions.into_iter().find_map(|v| match access::update(v) {
        Update::Broken(what) => Some(format!("istiod {v}: {what}")),
        Update::Clean | Update::Gap => None,
    })
}

/// A version that has no peer for a moment when a remote secret changes.
pub(super) fn gap<'v>(versions: impl IntoIterator<Item = &'v Version>) -> Option<&'v Version> {
    let mut versions = versions.into_iter();
    versions.find(|v| access::update(v) == Update::Gap)
}

/// What a person is told before.
pub(super) fn note(at: &ClusterName, why: &str) -> String {
    format!("{at} runs {why}; it is restarted once its remote secrets are changed")
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
