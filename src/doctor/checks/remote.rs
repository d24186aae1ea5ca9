//! What members' istiods hold of each other: remote secrets, their accounts, and what came of them.

use super::{
    super::{
        Found, Level, Tried,
        view::{At, View, variable},
    },
    some,
};
use crate::{hint::Hint, observe::RemoteSecretSeen};

/// A pair, with the remote secret of the first for the second.
type Held<'a> = (At<'a>, At<'a>, &'a RemoteSecretSeen);

fn held<'a>(view: &View<'a>) -> impl Iterator<Item = Held<'a>> + use<'a> {
    view.pairs().filter_map(|(from, to)| {
        let secret = from.seen()?.remote_secrets.get(to.name.as_str())?;
        Some((from, to, secret))
    })
}

fn tried<'a>(view: &View<'a>) -> impl Iterator<Item = (Held<'a>, &'a Tried)> + use<'a> {
    held(view).filter_map(|held| {
        let (from, to, _) = held;
        Some((held, from.member()?.peers.get(to.name.as_str())?))
    })
}

fn again(from: &At<'_>, to: &At<'_>) -> Hint {
    Hint::join_again([from.name, to.name])
}

/// No remote secret.
pub(in super::super) fn missing(view: &View<'_>) -> Vec<Found> {
    let has = |from: &At<'_>, to: &At<'_>| {
        let seen = from.seen();
        seen.is_none_or(|seen| seen.remote_secrets.contains_key(to.name.as_str()))
    };
    view.pairs()
        .filter(|(from, to)| !has(from, to))
        .map(|(from, to)| {
            let evidence = format!(
                "no Secret of {} that is labelled istio/multiCluster=true has a key {}",
                from.name, to.name
            );
            Found::of(from.name, evidence, again(&from, &to)).with(to.name)
        })
        .collect()
}

/// Whether a server's address leads to whoever asks.
fn is_loopback(server: &str) -> bool {
    let Ok(uri) = server.parse::<http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|a| a.is_loopback() || a.is_unspecified())
}

/// An API server that no other cluster reaches under this address.
pub(in super::super) fn loopback(view: &View<'_>) -> Vec<Found> {
    // In one process, loopback means the same to everybody.
    let shared = |to: &At<'_>| to.seen().is_some_and(|seen| seen.embedded);
    held(view)
        .filter(|(_, to, secret)| is_loopback(&secret.server) && !shared(to))
        .map(|(from, to, secret)| {
            let evidence = format!("{} names the server {}", secret.secret, secret.server);
            Found::of(from.name, evidence, again(&from, &to)).with(to.name)
        })
        .collect()
}

/// A remote secret that istiod does not take.
pub(in super::super) fn malformed(view: &View<'_>) -> Vec<Found> {
    held(view)
        .filter(|(_, _, secret)| !secret.problems.is_empty() && !is_loopback(&secret.server))
        .map(|(from, to, secret)| {
            let evidence = format!("{}: {}", secret.secret, secret.problems.join("; "));
            Found::of(from.name, evidence, again(&from, &to)).with(to.name)
        })
        .collect()
}

/// A token that is not accepted, though it has not ended.
pub(in super::super) fn token_refused(view: &View<'_>) -> Vec<Found> {
    let now = view.reading.observed.now;
    tried(view)
        .filter(|(_, tried)| **tried == Tried::Unauthorized)
        .filter(|((_, _, secret), _)| secret.expires.is_none_or(|at| at > now))
        .map(|((from, to, secret), _)| {
            let evidence = format!(
                "{} answers 401 to the token in {}",
                secret.server, secret.secret
            );
            Found::of(from.name, evidence, again(&from, &to)).with(to.name)
        })
        .collect()
}

/// The CA in a remote secret is not the API server's.
pub(in super::super) fn wrong_ca(view: &View<'_>) -> Vec<Found> {
    tried(view)
        .filter_map(|((from, to, secret), tried)| {
            let Tried::Tls(reason) = tried else {
                return None;
            };
            let evidence = format!(
                "{} is not known by the CA in {}: {reason}",
                secret.server, secret.secret
            );
            let fix = Hint::meshlink(["renew", "--what", "api-cas"]);
            Some(Found::of(from.name, evidence, fix).with(to.name))
        })
        .collect()
}

/// Whether every replica that could be asked says it has synced.
fn is_synced(from: &At<'_>, to: &At<'_>) -> bool {
    let replicas = from.member().map(|m| m.replicas.as_slice());
    replicas.unwrap_or_default().iter().all(|replica| {
        let mut known = replica.said.clusters.iter();
        known.any(|c| c.id == to.name.as_str() && c.status == "synced")
    })
}

/// Nothing answers where a remote secret leads. From here that may be so for another reason.
pub(in super::super) fn silent(view: &View<'_>) -> Vec<Found> {
    tried(view)
        .filter_map(|((from, to, secret), tried)| {
            let Tried::Silent(reason) = tried else {
                return None;
            };
            let evidence = format!(
                "{} in {} does not answer from here: {reason}",
                secret.server, secret.secret
            );
            let found = Found::of(from.name, evidence, again(&from, &to)).with(to.name);
            Some(match is_synced(&from, &to) {
                true => found.at(Level::Warning),
                false => found,
            })
        })
        .collect()
}

/// A remote secret that leads to another cluster than the one it is for.
pub(in super::super) fn other_cluster(view: &View<'_>) -> Vec<Found> {
    tried(view)
        .filter_map(|((from, to, secret), tried)| {
            let Tried::Opens { uid: Some(uid), .. } = tried else {
                return None;
            };
            let own = to.seen().map(|seen| seen.uid.as_str())?;
            (uid != own).then(|| {
                let evidence = format!(
                    "{} in {} is the cluster with UID {uid}, and {} is {own}",
                    secret.server, secret.secret, to.name
                );
                Found::of(from.name, evidence, again(&from, &to)).with(to.name)
            })
        })
        .collect()
}

/// An account that may not read what istiod reads.
pub(in super::super) fn lacks(view: &View<'_>) -> Vec<Found> {
    tried(view)
        .filter_map(|((from, to, _), tried)| {
            let Tried::Opens { lacks, .. } = tried else {
                return None;
            };
            (!lacks.is_empty()).then(|| {
                let evidence = format!(
                    "the account by which {} reads {} may not {}",
                    from.name,
                    to.name,
                    lacks.join(", ")
                );
                Found::of(from.name, evidence, again(&from, &to)).with(to.name)
            })
        })
        .collect()
}

/// An account that may do more than read.
pub(in super::super) fn writes(view: &View<'_>) -> Vec<Found> {
    tried(view)
        .filter_map(|((from, to, secret), tried)| {
            let Tried::Opens { writes, .. } = tried else {
                return None;
            };
            (!writes.is_empty()).then(|| {
                let evidence = format!(
                    "the account in {} may {} in {}",
                    secret.secret,
                    some(writes),
                    to.name
                );
                let fix = Hint::kubectl(
                    to.name,
                    [
                        "get",
                        "clusterrolebindings,rolebindings",
                        "-A",
                        "-o",
                        "wide",
                    ],
                )
                .grep(format!("meshlink-reader-{}", from.name))
                .remark("take it out of the bindings that are not named so");
                Found::of(from.name, evidence, fix).with(to.name)
            })
        })
        .collect()
}

/// A remote secret for the cluster it is in.
pub(in super::super) fn own_secret(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (at, seen) in view.members().filter_map(|at| Some((at, at.seen()?))) {
        let id = at.istiods().find_map(|pod| variable(pod, "CLUSTER_ID"));
        // Of one that calls itself as another member is called, that is what is wrong.
        let members = view.mesh().members();
        let id = id.filter(|id| *id == at.name.as_str() || !members.contains(id));
        let Some((id, secret)) = id.and_then(|id| Some((id, seen.remote_secrets.get(id)?))) else {
            continue;
        };
        let evidence = format!(
            "{} has the key {id}, which is istiod's own CLUSTER_ID",
            secret.secret
        );
        let fix = take_out(view, &at, secret, id);
        found.push(Found::of(at.name, evidence, fix));
    }
    found
}

/// Takes one cluster out of a remote secret, and leaves the others in it.
fn take_out(view: &View<'_>, at: &At<'_>, secret: &RemoteSecretSeen, id: &str) -> Hint {
    let istio = view.mesh().istio.namespace.as_str();
    let patch = serde_json::json!({"data": {id: null}}).to_string();
    let words = [
        "-n",
        istio,
        "patch",
        "secret",
        secret.name(),
        "--type",
        "merge",
        "-p",
        &patch,
    ];
    Hint::kubectl(at.name, words)
}

/// A remote secret for a cluster that is no member.
pub(in super::super) fn stranger(view: &View<'_>) -> Vec<Found> {
    let members = view.mesh().members();
    let mut found = vec![];
    for (at, seen) in view.members().filter_map(|at| Some((at, at.seen()?))) {
        let own = at.istiods().find_map(|pod| variable(pod, "CLUSTER_ID"));
        let others = seen.remote_secrets.iter();
        let others = others.filter(|(id, _)| !members.contains(&id.as_str()) && own != Some(id));
        for (id, secret) in others {
            let evidence = format!(
                "{} has {id} at {}, and the members are {}",
                secret.secret,
                secret.server,
                members.join(", ")
            );
            found.push(Found::of(
                at.name,
                evidence,
                take_out(view, &at, secret, id),
            ));
        }
    }
    found
}

/// An istiod that has not synced with a peer.
pub(in super::super) fn not_synced(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (from, to, secret) in held(view) {
        let replicas = from.member().map(|m| m.replicas.as_slice());
        let behind = replicas.unwrap_or_default().iter().filter_map(|replica| {
            let said = &replica.said;
            let known = said.clusters.iter().find(|c| c.id == to.name.as_str());
            match known {
                Some(known) if known.status == "synced" => None,
                Some(known) => Some(format!("{} says {}", said.pod, known.status)),
                None => Some(format!("{} does not know {}", said.pod, to.name)),
            }
        });
        let behind: Vec<_> = behind.collect();
        if !behind.is_empty() {
            let evidence = format!("{}; it is in {}", behind.join("; "), secret.secret);
            let istio = view.mesh().istio.namespace.as_str();
            let fix =
                Hint::kubectl(from.name, ["-n", istio, "logs", "deploy/istiod"]).grep(to.name);
            found.push(Found::of(from.name, evidence, fix).with(to.name));
        }
    }
    found
}

/// An istiod that hands out endpoints of a cluster it has no remote secret for.
pub(in super::super) fn orphans(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let replicas = at.member().map(|m| m.replicas.as_slice());
        for replica in replicas.unwrap_or_default() {
            let knows = |id: &String| replica.said.clusters.iter().any(|c| c.id == *id);
            let strangers: Vec<_> = replica.holds.iter().filter(|id| !knows(id)).collect();
            // One that was not told who it knows is not judged by it.
            if strangers.is_empty() || replica.said.clusters.is_empty() {
                continue;
            }
            let evidence = format!(
                "{} of {} holds endpoints of {}, and knows no such cluster",
                replica.said.pod,
                at.name,
                some(&strangers)
            );
            let istio = view.mesh().istio.namespace.as_str();
            let words = ["-n", istio, "rollout", "restart", "deploy/istiod"];
            found.push(Found::of(at.name, evidence, Hint::kubectl(at.name, words)));
        }
    }
    found
}
