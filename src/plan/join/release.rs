//! A release in the plan of a join: why it must be made anew, and what it loses by that.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{changes, summary};
use crate::{
    name::ClusterName,
    observe::{Held, ReleaseSeen, Seen, istio_version},
    plan::{
        Deletion, Note, ObjectChange,
        desire::{Release, is_crd},
    },
};

/// The version an istiod release will run.
pub(super) fn istiod_version(release: &Release) -> Option<semver::Version> {
    let mut deployments = release.objects().filter(|o| o["kind"] == "Deployment");
    deployments.find_map(|d| istio_version(&d["spec"]["template"]))
}

/// Why a release must be made, if it must: its record, then its objects.
pub(super) fn release_missing(
    release: &Release,
    seen: &Seen,
) -> Option<(String, Vec<ObjectChange>)> {
    let changes = changes(release.objects(), &release.namespace, seen);
    let why = match seen.releases.get(&release.name) {
        None => format!("release {} does not exist", release.name),
        Some(r) if !r.is_deployed() => format!("release {} is {}", release.name, r.status),
        Some(r) if r.version != release.chart.chart.metadata.version => {
            format!("release {} is of version {}", release.name, r.version)
        }
        Some(r) if !made_from(r, release) => {
            format!("release {} was made from other values", release.name)
        }
        Some(_) if !changes.is_empty() => summary(&changes),
        Some(_) => return None,
    };
    Some((why, changes))
}

/// Whether a release will be made anew from another chart or other values, so that it may lose objects.
pub(crate) fn is_remade(release: &Release, seen: &ReleaseSeen) -> bool {
    let version = &release.chart.chart.metadata.version;
    !seen.is_deployed() || seen.version != *version || !made_from(seen, release)
}

/// What the release no longer has and is its own by Helm's rule.
pub(super) fn pruned(release: &Release, seen: &Seen) -> Vec<Deletion> {
    let before = seen.releases.get(&release.name);
    let held = before.into_iter().flat_map(|r| &r.held);
    let gone = held.filter(|h| h.foreign.is_none() && !h.kept);
    gone.map(Deletion::from).collect()
}

/// What its records name and somebody else owns.
pub(super) fn unpruned(name: &ClusterName, release: &Release, seen: &Seen) -> Vec<Note> {
    let before = seen.releases.get(&release.name);
    let held = before.into_iter().flat_map(|r| &r.held);
    let one = |h: &Held| {
        let whose = h.foreign.as_ref()?;
        let (object, release) = (&h.reference, &release.name);
        Some(format!(
            "{object} stays in {name}: the records of release {release} name it, but it is {whose}"
        ))
    };
    held.filter_map(one).map(Note::from).collect()
}

/// Whether a release holds an object of a kind that another one brings.
pub(super) fn needs_crds(release: &Release, base: &Release) -> bool {
    let crds = base.objects().filter(|o| is_crd(o));
    let groups: BTreeSet<_> = crds.filter_map(|c| c["spec"]["group"].as_str()).collect();
    let group = |o: &Value| Some(o["apiVersion"].as_str()?.split_once('/')?.0.to_owned());
    release
        .objects()
        .filter_map(group)
        .any(|g| groups.contains(g.as_str()))
}

/// Whether a release's newest revision was made from the values it should be made from, whoever made it.
fn made_from(seen: &ReleaseSeen, release: &Release) -> bool {
    match &release.digest {
        Some(_) => seen.digest == release.digest,
        None => same(&seen.config, &release.values),
    }
}

/// Equal but for how numbers are written: Helm reads every one as a float.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
