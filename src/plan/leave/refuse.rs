//! What stands against a leave. Everything is looked at before anything is written.

use super::Leave;
use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{Observed, Seen},
    plan::{Refusal, ownership, rotate},
    spec::Mesh,
};

/// Every reason against the leave.
pub(super) fn refusals(mesh: &Mesh, observed: &Observed, how: &Leave) -> Vec<Refusal> {
    // One that is gone for good would hold the change of root for ever.
    if let Some(refusal) = rotate::under_way(observed).filter(|_| !how.dead) {
        return vec![refusal];
    }
    let one = |leaver: &ClusterName| {
        if !mesh.clusters.iter().any(|m| m.name == *leaver) {
            return vec![stranger(mesh, leaver)];
        }
        match observed.clusters.get(leaver) {
            None if how.dead => vec![],
            None => vec![stranger(mesh, leaver)],
            Some(seen) => match unbound(mesh, observed, leaver, seen) {
                Some(refusal) => vec![refusal],
                None => [
                    sidecars(leaver, seen, how),
                    balancer(mesh, leaver, seen, how),
                ]
                .into_iter()
                .flatten()
                .collect(),
            },
        }
    };
    let mut refusals: Vec<_> = how.leavers.iter().flat_map(one).collect();
    let peers = mesh.clusters.iter().map(|m| &m.name);
    let peers = peers.filter(|n| !how.leavers.contains(n) && observed.clusters.contains_key(*n));
    refusals.extend(peers.filter_map(|peer| {
        let reason = ownership::unbound(mesh, observed, peer)?;
        Some(Refusal::by(peer, reason, vec![Hint::join_again([peer])]))
    }));
    refusals.extend(secrets(mesh, observed, how));
    refusals.extend(left_alone(mesh, how));
    refusals
}

/// Members that stay and would be nobody's peer. Of a hub whose API server is gone for good, that cannot be helped.
fn left_alone(mesh: &Mesh, how: &Leave) -> Option<Refusal> {
    let rest = how.rest(mesh);
    if how.dead || rest.clusters.len() < 2 {
        return None;
    }
    let alone = rest.clusters.iter().map(|m| &m.name);
    let alone = alone.filter(|name| rest.peers_of(name).next().is_none());
    let alone: Vec<_> = alone.map(|name| name.as_str()).collect();
    let (leaver, first) = (how.leavers.first()?, rest.clusters.first()?);
    let names = mesh.clusters.iter().map(|m| m.name.as_str());
    let again = ["join"].into_iter().chain(names);
    let again = again.chain(["--hub", first.name.as_str()]);
    (!alone.is_empty()).then(|| {
        let reason = format!("is the only peer of {}", alone.join(", "));
        Refusal::by(leaver, reason, vec![Hint::meshlink(again)])
    })
}

/// A leaver that does not say itself that it is a member. Where nothing of Istio is there, nothing would be done.
fn unbound(mesh: &Mesh, observed: &Observed, leaver: &ClusterName, seen: &Seen) -> Option<Refusal> {
    let reason = ownership::unbound(mesh, observed, leaver)?;
    if let Some(claim) = &seen.claim {
        let hint = match claim.mesh == mesh.id.as_str() {
            true => Hint::meshlink(["ca", "status"]),
            false => Hint::other_mesh(["status", "--mesh", &claim.mesh]),
        };
        return Some(Refusal::by(leaver, reason, vec![hint]));
    }
    let (istio, gateway) = (mesh.istio.namespace.as_str(), &mesh.gateway);
    let mut found = vec![];
    let mut hints = vec![];
    for (release, r) in &seen.releases {
        found.push(format!("release {release}"));
        let at = r.namespace.as_str();
        hints.push(Hint::helm(leaver, ["-n", at, "uninstall", release]));
    }
    let parts = [
        (seen.istiod.present, format!("Deployment {istio}/istiod")),
        (seen.cacerts.is_some(), format!("Secret {istio}/cacerts")),
        (
            seen.gateway.present,
            format!("Service {}/{}", gateway.namespace, gateway.name),
        ),
    ];
    let parts = parts.into_iter().filter(|(there, _)| *there);
    found.extend(parts.map(|(_, part)| part));
    if found.is_empty() {
        return None;
    }
    hints.truncate(3);
    hints.push(Hint::note(
        "meshlink takes apart only what it made itself for a member of this mesh",
    ));
    let reason = format!("{reason}; there are {}", found.join(", "));
    Some(Refusal::by(leaver, reason, hints))
}

/// A remote secret of somebody else would go on opening a leaver, or opening a peer to it.
fn secrets(mesh: &Mesh, observed: &Observed, how: &Leave) -> Vec<Refusal> {
    let istio = mesh.istio.namespace.as_str();
    let leaves = |name: &str| how.leavers.iter().any(|l| l.as_str() == name);
    let mut refusals = vec![];
    let bound = observed.clusters.iter();
    let bound = bound.filter(|(at, _)| ownership::unbound(mesh, observed, at).is_none());
    for (at, seen) in bound {
        for (from, secret) in &seen.remote_secrets {
            let member = mesh.clusters.iter().any(|m| m.name.as_str() == from);
            let parts = member && (leaves(from) || leaves(at.as_str()));
            let Some(whose) = secret.foreign.as_ref().filter(|_| parts) else {
                continue;
            };
            let name = secret.name();
            let reason = format!(
                "opens {from} to its istiod by Secret {istio}/{name}, which is not meshlink's ({whose})"
            );
            let words = ["-n", istio, "delete", "secret", name];
            let hint = Hint::kubectl(at, words).remark("if nobody needs it");
            refusals.push(Refusal::by(at, reason, vec![hint]));
        }
    }
    refusals
}

fn stranger(mesh: &Mesh, leaver: &ClusterName) -> Refusal {
    let reason = format!("is not a member of mesh {}", mesh.id);
    Refusal::by(leaver, reason, vec![Hint::meshlink(["status"])])
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
