//! What runs: pods without a sidecar, and sidecars that were made with what no longer holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    super::{
        Found, Source,
        view::{At, View, lives, path, text, variable},
    },
    some,
};
use crate::{hint::Hint, probe};

fn label<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object["metadata"]["labels"][key].as_str()
}

fn has_proxy(pod: &Value) -> bool {
    let of = |key: &str| pod["spec"][key].as_array().into_iter().flatten();
    let mut all = of("containers").chain(of("initContainers"));
    all.any(|c| c["name"] == "istio-proxy")
}

/// Whether a pod is not to have a sidecar: it says so, or it is on the network of its node.
fn is_exempt(pod: &Value) -> bool {
    let annotation = pod["metadata"]["annotations"]["sidecar.istio.io/inject"].as_str();
    let said = label(pod, "sidecar.istio.io/inject").or(annotation);
    said == Some("false") || pod["spec"]["hostNetwork"] == true
}

/// The revision whose sidecars a namespace is to have; `default` by the old label.
fn revision(namespace: &Value) -> Option<&str> {
    match (
        label(namespace, "istio-injection"),
        label(namespace, "istio.io/rev"),
    ) {
        (Some("enabled"), _) => Some("default"),
        (Some(_), _) => None,
        (None, revision) => revision,
    }
}

/// The revisions and tags a member's injectors answer for.
fn revisions<'a>(at: &At<'a>) -> BTreeSet<&'a str> {
    let all = at.list(Source::MutatingWebhooks).iter();
    let all = all.flat_map(|c| [label(c, "istio.io/rev"), label(c, "istio.io/tag")]);
    all.flatten().collect()
}

/// Pods that have no sidecar in a namespace that wants one.
pub(in super::super) fn without_sidecar(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let spaces = at.list(Source::Namespaces).iter();
        let spaces = spaces.filter(|ns| revision(ns).is_some());
        let known = revisions(&at);
        // With no injector for it, that is what is wrong.
        let spaces = spaces.filter(|ns| revision(ns).is_some_and(|r| known.contains(r)));
        let spaces: BTreeSet<_> = spaces
            .filter_map(|ns| ns["metadata"]["name"].as_str())
            .collect();
        let mut bare: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for pod in at.list(Source::Pods) {
            let space = pod["metadata"]["namespace"].as_str().unwrap_or_default();
            if spaces.contains(space) && lives(pod) && !has_proxy(pod) && !is_exempt(pod) {
                bare.entry(space).or_default().push(path(pod));
            }
        }
        for (space, pods) in bare {
            let evidence = format!(
                "namespace {space} of {} wants sidecars, and {} of its pods {} none: {}",
                at.name,
                pods.len(),
                if pods.len() == 1 { "has" } else { "have" },
                some(&pods)
            );
            let fix = Hint::kubectl(at.name, ["-n", space, "rollout", "restart", "deploy"]);
            found.push(Found::of(at.name, evidence, fix));
        }
    }
    found
}

/// A namespace that wants the sidecars of a revision that is not there.
pub(in super::super) fn unknown_revision(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let known = revisions(&at);
        // Without any injector, that is what is wrong.
        if known.is_empty() {
            continue;
        }
        for namespace in at.list(Source::Namespaces) {
            let Some(wanted) = revision(namespace).filter(|r| !known.contains(r)) else {
                continue;
            };
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            let list: Vec<_> = known.iter().copied().collect();
            let evidence = format!(
                "namespace {name} of {} wants revision {wanted}, and there are injectors for {}",
                at.name,
                some(&list)
            );
            let new = format!("istio.io/rev={}", list.first().unwrap_or(&"default"));
            let fix = Hint::kubectl(at.name, ["label", "ns", name, &new, "--overwrite"])
                .remark("then restart what runs in it");
            found.push(Found::of(at.name, evidence, fix));
        }
    }
    found
}

/// A namespace with two labels that contradict each other.
pub(in super::super) fn labels_conflict(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        for namespace in at.list(Source::Namespaces) {
            let (old, new) = (
                label(namespace, "istio-injection"),
                label(namespace, "istio.io/rev"),
            );
            let (Some(old), Some(new)) = (old, new) else {
                continue;
            };
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            let evidence = format!(
                "namespace {name} of {} has the labels istio-injection={old} and istio.io/rev={new}",
                at.name
            );
            let fix = Hint::kubectl(at.name, ["label", "ns", name, "istio-injection-"]);
            found.push(Found::of(at.name, evidence, fix));
        }
    }
    found
}

/// What a proxy was born with, and where the injector says it now.
const BORN: [(&str, &str); 3] = [
    ("ISTIO_META_CLUSTER_ID", "/global/multiCluster/clusterName"),
    ("ISTIO_META_NETWORK", "/global/network"),
    ("ISTIO_META_MESH_ID", "/global/meshID"),
];

/// Proxies that still have the cluster, the network or the mesh that was true when their pods were made.
pub(in super::super) fn stale(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let Some(values) = at.injected() else {
            continue;
        };
        let wrong = |pod: &&Value| {
            BORN.iter().find_map(|(name, place)| {
                let (born, now) = (variable(pod, name)?, text(&values, place)?);
                (born != now).then(|| format!("{name} is {born}, and is {now} for new pods"))
            })
        };
        let pods = at.list(Source::Pods).iter();
        let pods = pods.filter(|pod| lives(pod) && has_proxy(pod));
        let users = pods.filter(|pod| pod["metadata"]["namespace"] != probe::NAMESPACE);
        let stale: Vec<_> = users
            .filter_map(|pod| Some((path(pod), wrong(&pod)?)))
            .collect();
        let Some((first, why)) = stale.first() else {
            continue;
        };
        let pods: Vec<_> = stale.iter().map(|(pod, _)| pod).collect();
        let evidence = format!(
            "{} {} in {} {} older than what the injector says: {}; in {first} {why}",
            pods.len(),
            if pods.len() == 1 { "proxy" } else { "proxies" },
            at.name,
            if pods.len() == 1 { "is" } else { "are" },
            some(&pods)
        );
        let (space, _) = first.split_once('/').unwrap_or_default();
        let fix = Hint::kubectl(at.name, ["-n", space, "rollout", "restart", "deploy"])
            .remark("each namespace in turn");
        found.push(Found::of(at.name, evidence, fix));
    }
    found
}
