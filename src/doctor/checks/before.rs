//! What would keep a join from working, before anything is installed.

use semver::Version;
use serde_json::Value;

use super::{
    super::{
        Found, Level, Source,
        view::{View, lives, path},
    },
    some,
};
use crate::{aws::preflight, hint::Hint, spec::OLDEST_KUBERNETES};

/// Where pods can be put.
fn takes_pods(node: &Value) -> bool {
    let conditions = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let mut ready = conditions.filter(|c| c["type"] == "Ready");
    ready.any(|c| c["status"] == "True") && node["spec"]["unschedulable"] != true
}

/// No node that takes pods, or some that do not.
pub(in super::super) fn nodes(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let nodes = at.list(Source::Nodes);
        let bad = nodes.iter().filter(|node| !takes_pods(node));
        let bad: Vec<_> = bad.filter_map(|n| n["metadata"]["name"].as_str()).collect();
        let good = nodes.len() - bad.len();
        if good > 0 && bad.is_empty() {
            continue;
        }
        let level = if good == 0 {
            Level::Error
        } else {
            Level::Warning
        };
        let evidence = match nodes.is_empty() {
            true => format!("{} has no nodes", at.name),
            false => format!(
                "{} of {} nodes of {} take no pods: {}",
                bad.len(),
                nodes.len(),
                at.name,
                some(&bad)
            ),
        };
        let fix = match bad.first() {
            Some(node) => Hint::kubectl(at.name, ["describe", "node", node]),
            None => Hint::kubectl(at.name, ["get", "nodes", "-o", "wide"]),
        };
        found.push(Found::of(at.name, evidence, fix).at(level));
    }
    found
}

/// A Kubernetes that Istio does not support.
pub(in super::super) fn kubernetes(view: &View<'_>) -> Vec<Found> {
    let Ok(oldest) = Version::parse(OLDEST_KUBERNETES) else {
        return vec![];
    };
    let mut found = vec![];
    for (at, seen) in view.members().filter_map(|at| Some((at, at.seen()?))) {
        let version = Version::parse(seen.kubernetes.trim_start_matches('v'));
        if version.is_ok_and(|version| version < oldest) {
            let evidence = format!(
                "{} is Kubernetes {}, and {oldest} is the oldest that is supported",
                at.name, seen.kubernetes
            );
            found.push(Found::of(
                at.name,
                evidence,
                Hint::kubectl(at.name, ["version"]),
            ));
        }
    }
    found
}

/// Control planes besides the one that a member has.
pub(in super::super) fn other_istio(view: &View<'_>) -> Vec<Found> {
    let istio = view.mesh().istio.namespace.as_str();
    let mut found = vec![];
    for (at, seen) in view.members().filter_map(|at| Some((at, at.seen()?))) {
        let told: Vec<_> = seen.other_istios(istio).map(ToString::to_string).collect();
        if !told.is_empty() {
            let evidence = format!("{} has {}", at.name, told.join(", and "));
            let words = ["get", "deployments", "-A", "-l", "app=istiod"];
            found.push(Found::of(at.name, evidence, Hint::kubectl(at.name, words)));
        }
    }
    found
}

/// An Istio in a cluster that is in no mesh.
pub(in super::super) fn foreign_istio(view: &View<'_>) -> Vec<Found> {
    let istio = view.mesh().istio.namespace.as_str();
    let seen = view.members().filter_map(|at| Some((at, at.seen()?)));
    let seen = seen.filter(|(_, seen)| seen.claim.is_none());
    let seen = seen.filter_map(|(at, seen)| Some((at, seen.main_istio(istio)?)));
    seen.map(|(at, main)| {
        let evidence = format!("{} has {main}", at.name);
        let words = ["-n", istio, "describe", "deploy", "istiod"];
        Found::of(at.name, evidence, Hint::kubectl(at.name, words))
    })
    .collect()
}

/// Names do not resolve in a cluster whose name server does not run.
pub(in super::super) fn dns(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let pods = at.within(Source::Pods, "kube-system").filter(|p| lives(p));
        let servers = pods.filter(|p| p["metadata"]["labels"]["k8s-app"] == "kube-dns");
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions = conditions.filter(|c| c["type"] == "Ready");
            conditions.any(|c| c["status"] == "True")
        };
        let (up, down): (Vec<&Value>, Vec<&Value>) = servers.partition(ready);
        // Where a vendor runs it elsewhere, there are no pods of it.
        if up.is_empty() && !down.is_empty() {
            let names: Vec<_> = down.iter().map(|p| path(p)).collect();
            let evidence = format!(
                "no pod of the name server of {} is ready: {}",
                at.name,
                some(&names)
            );
            let words = [
                "-n",
                "kube-system",
                "describe",
                "pods",
                "-l",
                "k8s-app=kube-dns",
            ];
            found.push(Found::of(at.name, evidence, Hint::kubectl(at.name, words)));
        }
    }
    found
}

/// A namespace that is on its way out takes nothing in.
pub(in super::super) fn terminating(view: &View<'_>) -> Vec<Found> {
    let spaces = [&view.mesh().istio.namespace, &view.mesh().gateway.namespace];
    let mut found = vec![];
    for at in view.members() {
        for namespace in at.list(Source::Namespaces) {
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            let goes = !namespace["metadata"]["deletionTimestamp"].is_null();
            if goes && spaces.iter().any(|space| *space == name) {
                let evidence = format!("namespace {name} of {} is being deleted", at.name);
                let fix = Hint::kubectl(
                    at.name,
                    ["get", "ns", name, "-o", "jsonpath={.status.conditions}"],
                )
                .remark("what it waits for");
                found.push(Found::of(at.name, evidence, fix));
            }
        }
    }
    found
}

/// Rights that a join needs.
pub(in super::super) fn rights(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let missing = at.member().map(|m| m.rights.as_slice()).unwrap_or_default();
        let Some(first) = missing.first() else {
            continue;
        };
        let evidence = format!("in {} you may not {}", at.name, some(missing));
        let mut words = first.split_whitespace();
        let (verb, what) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        found.push(Found::of(
            at.name,
            evidence,
            Hint::kubectl(at.name, ["auth", "can-i", verb, what]),
        ));
    }
    found
}

/// What AWS says against it.
pub(in super::super) fn aws(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let all = view
            .reading
            .aws
            .iter()
            .filter(|f| f.cluster == at.name.as_str());
        for said in all.filter(|f| f.level != preflight::Level::Pass) {
            let level = match said.level {
                preflight::Level::Fail => Level::Error,
                _ => Level::Warning,
            };
            let fix = said.fix.first().cloned();
            let fix = fix.unwrap_or_else(|| Hint::meshlink(["aws", "policy"]));
            let evidence = format!("{} ({})", said.text, said.check);
            found.push(Found::of(at.name, evidence, fix).at(level));
        }
    }
    found
}
