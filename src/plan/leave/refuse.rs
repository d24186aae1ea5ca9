//! What stands against a leave. Everything is looked at before anything is written.

use super::Leave;
use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{Observed, Seen},
    plan::Refusal,
    spec::Mesh,
};

/// Every reason against the leave.
pub(super) fn refusals(mesh: &Mesh, observed: &Observed, how: &Leave) -> Vec<Refusal> {
    let one = |leaver: &ClusterName| {
        if !mesh.clusters.iter().any(|m| m.name == *leaver) {
            return vec![stranger(mesh, leaver)];
        }
        match observed.clusters.get(leaver) {
            None if how.dead => vec![],
            None => vec![stranger(mesh, leaver)],
            Some(seen) if elsewhere(mesh, seen) => {
                let reason = format!("belongs to another mesh than {}", mesh.id);
                vec![Refusal::by(
                    leaver,
                    reason,
                    vec![Hint::meshlink(["status"])],
                )]
            }
            Some(seen) => [
                sidecars(leaver, seen, how),
                balancer(mesh, leaver, seen, how),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    };
    how.leavers.iter().flat_map(one).collect()
}

fn stranger(mesh: &Mesh, leaver: &ClusterName) -> Refusal {
    let reason = format!("is not a member of mesh {}", mesh.id);
    Refusal::by(leaver, reason, vec![Hint::meshlink(["status"])])
}

fn elsewhere(mesh: &Mesh, seen: &Seen) -> bool {
    let claim = seen.claim.as_ref();
    claim.is_some_and(|c| c.mesh != mesh.id.as_str())
}

/// Pods whose requests pass a sidecar would be cut off without their istiod.
fn sidecars(leaver: &ClusterName, seen: &Seen, how: &Leave) -> Option<Refusal> {
    let pods = &seen.injected_pods;
    if !how.uninstall || pods.is_empty() {
        return None;
    }
    let first: Vec<_> = pods.iter().take(3).map(String::as_str).collect();
    let (plural, more) = (
        if pods.len() == 1 { "" } else { "s" },
        if pods.len() > 3 { ", …" } else { "" },
    );
    let reason = format!(
        "still runs {} pod{plural} with a sidecar ({}{more}), which would be cut off by --uninstall",
        pods.len(),
        first.join(", "),
    );
    let hints = vec![
        Hint::meshlink(["leave", leaver.as_str()])
            .remark("leaves istiod and the sidecars in place"),
    ]
    .into_iter()
    .chain(take_out(leaver, pods))
    .collect();
    Some(Refusal::by(leaver, reason, hints))
}

/// What takes the sidecars out: of our own sample, or of whatever runs in a namespace.
fn take_out(leaver: &ClusterName, pods: &[String]) -> Option<Hint> {
    let (namespace, pod) = pods.first()?.split_once('/')?;
    let sample = pod.starts_with("helloworld-v") || pod.starts_with("sleep-");
    if sample {
        let down = Hint::meshlink(["sample", "down", "--namespace", namespace]);
        return Some(down.remark("if these are the sample apps"));
    }
    let words = ["label", "namespace", namespace, "istio-injection-"];
    Some(Hint::kubectl(leaver, words).remark("then restart its pods"))
}

/// Without the one who removes it, the load balancer would stay and the Service would hang.
fn balancer(mesh: &Mesh, leaver: &ClusterName, seen: &Seen, how: &Leave) -> Option<Refusal> {
    let keepers = &seen.gateway.keepers;
    let gone = keepers.iter().find(|k| k.runs == Some(false))?;
    if how.abandon {
        return None;
    }
    let reason = format!(
        "has a load balancer that {} must remove, and none of it runs: Service {}/{} would hang on {}",
        gone.who, mesh.gateway.namespace, mesh.gateway.name, gone.finalizer
    );
    let controller = "app.kubernetes.io/name=aws-load-balancer-controller";
    let hints = vec![
        Hint::kubectl(leaver, ["get", "deployments", "-A", "-l", controller]),
        Hint::meshlink(["leave", leaver.as_str(), "--abandon-load-balancer"])
            .remark("what AWS has of it stays there"),
    ];
    Some(Refusal::by(leaver, reason, hints))
}
