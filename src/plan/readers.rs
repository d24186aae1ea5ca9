//! Reader accounts, their tokens, and the remote secrets made from them: what is missing, and what is too old. Pure.
//!
//! A token is replaced with an overlap, and every part of that can be told from what the clusters hold, so that a run
//! which died anywhere is gone on with: the next token beside the present one, the remote secret with the next one, every
//! istiod replica synced with it, and only then the present one deleted.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    Deletion, Plan, Step, desire,
    join::{changes, summary},
};
use crate::{
    cluster::{
        Kind, Ref,
        access::{self, ISTIO_SYSTEM, Tokens},
    },
    name::ClusterName,
    observe::{AuthoritySeen, Made, Observed, ReaderSeen, RemoteSecretSeen, Seen},
    spec::Mesh,
};

/// How long a bound token is asked for, in seconds: EKS and AKS grant no more, whatever is asked.
pub(crate) const BOUND_LIFE: i64 = 24 * 3600;

/// What a member should hold for the peers that read it.
pub(crate) fn wanted(
    mesh: &Mesh,
    member: &ClusterName,
    seen: &Seen,
) -> BTreeMap<ClusterName, Vec<Value>> {
    let secrets = reads_secrets(mesh);
    let peers = mesh.clusters.iter().map(|m| &m.name);
    let peers = peers.filter(|peer| *peer != member);
    let objects = |peer: &ClusterName| {
        let tokens = tokens(mesh, seen, peer);
        access::objects(peer, seen.serves_gateway_api, secrets, tokens)
    };
    peers.map(|peer| (peer.clone(), objects(peer))).collect()
}

/// Whether the istiods of this mesh must be able to read each other's Secrets.
pub(crate) fn reads_secrets(mesh: &Mesh) -> bool {
    let version = mesh.istio.version.parse();
    version.map_or(true, |version| access::reads_secrets(&version))
}

/// Where the account of a peer gets its tokens from: short ones only where something renews them.
pub(crate) fn tokens(mesh: &Mesh, seen: &Seen, peer: &ClusterName) -> Tokens {
    match mesh.renewer {
        Some(_) => Tokens::Bound,
        None => {
            let newest = seen.readers.get(peer.as_str()).and_then(ReaderSeen::newest);
            Tokens::Secret(newest.map_or(1, |token| token.number))
        }
    }
}

/// Whether a token with an end is to be renewed: a third of its life is left.
pub(crate) fn is_due(issued: Option<Timestamp>, expires: Timestamp, now: Timestamp) -> bool {
    let life = match issued {
        Some(issued) => expires.as_second() - issued.as_second(),
        None => BOUND_LIFE,
    };
    expires.as_second() - now.as_second() <= life.max(0) / 3
}

/// How old a token Secret is, in whole days.
pub(crate) fn age(made: Timestamp, now: Timestamp) -> i64 {
    (now.as_second() - made.as_second()).div_euclid(24 * 3600)
}

/// Whether a token that does not end by itself is older than it may become.
pub(crate) fn is_old(mesh: &Mesh, made: Timestamp, now: Timestamp) -> bool {
    let most = SignedDuration::try_from(mesh.readers.max_age).unwrap_or(SignedDuration::MAX);
    now.duration_since(made) >= most
}

/// Whether two bundles hold the same authorities.
fn is_same(one: &[AuthoritySeen], other: &[AuthoritySeen]) -> bool {
    let holds = |all: &[AuthoritySeen], a: &AuthoritySeen| all.iter().any(|b| a.sha256 == b.sha256);
    one.iter().all(|a| holds(other, a)) && other.iter().all(|a| holds(one, a))
}

/// What is planned for reader accounts and remote secrets.
pub(super) struct ReaderPlanner<'a> {
    /// The mesh.
    pub(super) mesh: &'a Mesh,
    /// Its members as they are.
    pub(super) observed: &'a Observed,
}

impl<'a> ReaderPlanner<'a> {
    fn seen(&self, name: &ClusterName) -> Option<&'a Seen> {
        self.observed.clusters.get(name)
    }

    /// The account of `peer` in `cluster`, as it is.
    fn reader(&self, cluster: &ClusterName, peer: &ClusterName) -> Option<&'a ReaderSeen> {
        self.seen(cluster)?.readers.get(peer.as_str())
    }

    /// Everything about `to`'s reading of `from`.
    pub(super) fn pair(&self, plan: &mut Plan, from: &ClusterName, to: &ClusterName) {
        self.grant(plan, from, to);
        self.next(plan, from, to);
        self.share(plan, from, to);
        self.retire(plan, from, to);
    }

    fn grant(&self, plan: &mut Plan, cluster: &ClusterName, peer: &ClusterName) {
        let Some(seen) = self.seen(cluster) else {
            return;
        };
        let wanted = wanted(self.mesh, cluster, seen).remove(peer);
        let changes = changes(wanted.iter().flatten(), "", seen);
        let reader = self.reader(cluster, peer);
        let newest = reader.and_then(ReaderSeen::newest);
        let filled = self.mesh.renewer.is_some() || newest.is_some_and(|t| t.token.is_some());
        if changes.is_empty() && filled {
            return;
        }
        let why = if changes.is_empty() {
            "its token is missing".into()
        } else {
            summary(&changes)
        };
        let needs = vec![
            Step::PrepareNamespaces(cluster.clone()),
            Step::ClaimRoot(cluster.clone()),
        ];
        plan.add_with(grant(cluster, peer), needs, why, changes);
    }

    /// The next token Secret, beside one that is too old.
    fn next(&self, plan: &mut Plan, cluster: &ClusterName, peer: &ClusterName) {
        let newest = self.reader(cluster, peer).and_then(ReaderSeen::newest);
        let Some(newest) = newest.filter(|_| self.mesh.renewer.is_none()) else {
            return;
        };
        let (now, made) = (self.observed.now, newest.made.unwrap_or(Timestamp::MAX));
        if newest.token.is_some() && is_old(self.mesh, made, now) {
            let why = format!(
                "the token of {peer}'s account is {} days old",
                age(made, now)
            );
            plan.add(make(cluster, peer), vec![grant(cluster, peer)], why);
        }
    }

    fn share(&self, plan: &mut Plan, from: &ClusterName, to: &ClusterName) {
        let Some(why) = self.secret_missing(plan, from, to) else {
            return;
        };
        let reach = Step::Reach {
            from: to.clone(),
            to: from.clone(),
        };
        let needs = vec![
            grant(from, to),
            make(from, to),
            reach,
            Step::AwaitIstiod(to.clone()),
            Step::InstallRenewer(to.clone()),
        ];
        plan.add(share(from, to), needs, why);
    }

    /// Why `to`'s secret for `from` must be written, if it must.
    fn secret_missing(&self, plan: &Plan, from: &ClusterName, to: &ClusterName) -> Option<String> {
        let there = self.seen(from)?;
        let Some(secret) = self.seen(to)?.remote_secrets.get(from.as_str()) else {
            return Some("no remote secret".into());
        };
        if !secret.problems.is_empty() {
            return Some(secret.problems.join("; "));
        }
        let member = self.mesh.clusters.iter().find(|m| m.name == *from)?;
        let server = member.peer_server.as_deref().unwrap_or(&there.server);
        if secret.server != server {
            return Some("the API server's address changed".into());
        }
        if !is_same(&secret.authorities, &there.authorities) {
            return Some(self.other_authorities(secret, there));
        }
        if plan.holds(&make(from, to)) {
            return Some("the token it holds is replaced".into());
        }
        self.other_token(secret, self.reader(from, to))
            .or_else(|| plan.holds(&grant(from, to)).then(other_token))
    }

    /// In what the authorities differ that a remote secret holds.
    fn other_authorities(&self, secret: &RemoteSecretSeen, there: &Seen) -> String {
        let lacks = |a: &&AuthoritySeen| !secret.authorities.iter().any(|b| a.sha256 == b.sha256);
        match there.authorities.iter().filter(lacks).count() {
            0 => "it holds a CA that the API server is no longer known by".into(),
            _ => "the API server's CA changed".into(),
        }
    }

    /// Why the token is not the one that a remote secret should hold.
    fn other_token(
        &self,
        secret: &RemoteSecretSeen,
        reader: Option<&ReaderSeen>,
    ) -> Option<String> {
        if self.mesh.renewer.is_none() {
            let newest = reader.and_then(ReaderSeen::newest);
            let token = newest.and_then(|t| t.token.as_ref());
            return (secret.token.as_ref() != token).then(other_token);
        }
        let anchor = reader.and_then(|r| r.anchor.as_ref());
        let is_bound = anchor.is_some_and(|a| secret.bound.as_deref() == Some(&a.uid));
        match secret.expires.filter(|_| is_bound) {
            None => Some("it does not hold a token that ends and is renewed".into()),
            Some(until) => {
                let due = is_due(secret.issued, until, self.observed.now);
                due.then(|| format!("its token ends at {until}"))
            }
        }
    }

    /// What the account's tokens came from before, once no istiod uses it any more.
    fn retire(&self, plan: &mut Plan, from: &ClusterName, to: &ClusterName) {
        let changes_in_place = plan.holds(&share(from, to))
            && self
                .seen(to)
                .is_some_and(|s| s.remote_secrets.contains_key(from.as_str()));
        let stale = self.stale(plan, from, to);
        if stale.is_empty() && !changes_in_place {
            return;
        }
        let synced = Step::AwaitSynced {
            cluster: to.clone(),
            peer: from.clone(),
        };
        let needs = vec![
            share(from, to),
            Step::AwaitIstiod(to.clone()),
            Step::RefreshIstiod(to.clone()),
        ];
        let why = match changes_in_place {
            true => "its remote secret changes",
            false => "a token is to be deleted that it may use",
        };
        plan.add(synced.clone(), needs, why);
        if !stale.is_empty() {
            let step = Step::RetireToken {
                cluster: from.clone(),
                peer: to.clone(),
            };
            let what: Vec<_> = stale.iter().map(|d| d.object.name.as_str()).collect();
            let why = format!("{} is not used any more", what.join(", "));
            plan.add(step, vec![synced], why);
            plan.deleting(stale);
        }
    }

    /// What an account's tokens came from before.
    fn stale(&self, plan: &Plan, from: &ClusterName, to: &ClusterName) -> Vec<Deletion> {
        let Some((seen, reader)) = self.seen(from).zip(self.reader(from, to)) else {
            return vec![];
        };
        let keeps = match tokens(self.mesh, seen, to) {
            Tokens::Secret(number) if !plan.holds(&make(from, to)) => Some(number),
            _ => None,
        };
        let old = reader.tokens.iter().filter(|t| Some(t.number) != keeps);
        let mut stale: Vec<_> = old.map(|t| deletion(&t.secret)).collect();
        if self.mesh.renewer.is_none() {
            stale.extend(reader.anchor.as_ref().map(deletion));
            let owner = seen.owner(&self.mesh.id, from);
            let rights = access::renewal_names(to).into_iter();
            stale.extend(rights.filter_map(|object| {
                let live = seen.live.get(&object)?;
                let uid = live["metadata"]["uid"].as_str()?.to_owned();
                owner
                    .whose(live)
                    .is_none()
                    .then_some(Deletion { object, uid })
            }));
        }
        stale
    }

    /// The renewer of a member: there before the first token that needs it, gone after the last.
    pub(super) fn renewer(&self, plan: &mut Plan, name: &ClusterName, wanted: &[Value]) {
        let Some(seen) = self.seen(name) else {
            return;
        };
        if self.mesh.renewer.is_some() {
            let changes = changes(wanted.iter(), "", seen);
            if !changes.is_empty() {
                let step = Step::InstallRenewer(name.clone());
                let needs = vec![
                    Step::PrepareNamespaces(name.clone()),
                    Step::ClaimRoot(name.clone()),
                ];
                plan.add_with(step, needs, summary(&changes), changes);
            }
            return;
        }
        let gone = renewer_made(self.mesh, seen, name);
        if !gone.is_empty() {
            let peers = self.mesh.clusters.iter().map(|m| &m.name);
            let needs = peers.map(|peer| share(peer, name)).collect();
            let why = "the mesh has no renewer any more";
            plan.add(Step::RemoveRenewer(name.clone()), needs, why);
            plan.deleting(gone);
        }
    }
}

/// Everything a renewer consists of, in the order to delete it.
pub(crate) fn renewer_names() -> [Ref; 4] {
    [
        &Kind::CRON_JOB,
        &Kind::ROLE_BINDING,
        &Kind::ROLE,
        &Kind::SERVICE_ACCOUNT,
    ]
    .map(|kind| Ref::namespaced(kind, ISTIO_SYSTEM, desire::RENEWER))
}

/// The renewer that a member has, if it has one of ours.
pub(super) fn renewer_made(mesh: &Mesh, seen: &Seen, name: &ClusterName) -> Vec<Deletion> {
    let owner = seen.owner(&mesh.id, name);
    let ours = |object: Ref| {
        let live = seen.live.get(&object)?;
        let uid = live["metadata"]["uid"].as_str()?.to_owned();
        owner
            .whose(live)
            .is_none()
            .then_some(Deletion { object, uid })
    };
    renewer_names().into_iter().filter_map(ours).collect()
}

fn other_token() -> String {
    "it does not hold the reader account's token".into()
}

/// An object in the control plane's namespace that is deleted.
pub(super) fn deletion(made: &Made) -> Deletion {
    Deletion {
        object: Ref::namespaced(&Kind::SECRET, ISTIO_SYSTEM, made.name.as_str()),
        uid: made.uid.clone(),
    }
}

fn grant(cluster: &ClusterName, peer: &ClusterName) -> Step {
    Step::GrantReader {
        cluster: cluster.clone(),
        peer: peer.clone(),
    }
}

fn make(cluster: &ClusterName, peer: &ClusterName) -> Step {
    Step::MakeToken {
        cluster: cluster.clone(),
        peer: peer.clone(),
    }
}

fn share(from: &ClusterName, to: &ClusterName) -> Step {
    Step::ShareSecret {
        from: from.clone(),
        to: to.clone(),
    }
}
