//! Reader accounts, their tokens, and the remote secrets made from them: what is missing, and what is too old. Pure.
//!
//! A token is replaced with an overlap, and every part of that can be told from what the clusters hold, so that a run
//! which died anywhere is gone on with: the next token beside the present one, the remote secret with the next one, every
//! istiod replica synced with it, and only then the present one deleted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Deletion, Note, Plan, Step,
    join::{changes, summary},
    refresh,
};
use crate::{
    cluster::{
        Kind, Ref,
        access::{self, ISTIO_SYSTEM, Tokens},
    },
    ends::{self, State},
    hint::Hint,
    name::ClusterName,
    observe::{Made, Observed, RENEWER, ReaderSeen, RemoteSecretSeen, Seen},
    pki::Life,
    spec::Mesh,
    versions::Versions,
};

/// How long a bound token is asked for, in seconds: EKS and AKS grant no more, whatever is asked.
pub(crate) const BOUND_LIFE: i64 = 24 * 3600;

/// What a member should hold for the peers that read it.
pub(crate) fn wanted(
    mesh: &Mesh,
    observed: &Observed,
    member: &ClusterName,
) -> BTreeMap<ClusterName, Vec<Value>> {
    let secrets = reads_secrets(mesh);
    let objects = |peer: &ClusterName| {
        let tokens = tokens(mesh, observed, (member, peer));
        access::objects(peer, secrets, tokens)
    };
    let peers = mesh.peers_of(member);
    peers.map(|peer| (peer.clone(), objects(peer))).collect()
}

/// Whether the istiods of this mesh must be able to read each other's Secrets.
pub(crate) fn reads_secrets(mesh: &Mesh) -> bool {
    // Where members keep what they have, they may have anything.
    let version = mesh.istio.version.parse();
    version.map_or(true, |version| Versions::reads_secrets(&version))
}

/// Where the account in `from` by which `to` reads it gets its tokens from: short ones only where something renews them.
pub(crate) fn tokens(
    mesh: &Mesh,
    observed: &Observed,
    (from, to): (&ClusterName, &ClusterName),
) -> Tokens {
    if mesh.renewer.is_some() && unrenewed(mesh, observed, (from, to)).is_none() {
        return Tokens::Bound;
    }
    let seen = observed.clusters.get(from);
    let reader = seen.and_then(|seen| seen.readers.get(to.as_str()));
    let newest = reader.and_then(ReaderSeen::newest);
    Tokens::Secret(newest.map_or(1, |token| token.number))
}

/// Why `to` reads `from` by a token that never ends, though the mesh asks for a renewer: a token with an end is only for
/// where a Job of the renewer was seen to come to a good end with what is there now, and where istiod survives it.
fn unrenewed(
    mesh: &Mesh,
    observed: &Observed,
    (from, to): (&ClusterName, &ClusterName),
) -> Option<Note> {
    let wanted = mesh.renewer.as_ref()?;
    let nothing = Seen::default();
    let seen = observed.clusters.get(to).unwrap_or(&nothing);
    let note = |why: String, hint| {
        let text = format!("{why}, so the tokens in its remote secrets have no end");
        Some(Note::with(text, vec![hint, Hint::meshlink(["join"])]))
    };
    let (known, running) = (&mesh.istio.known, &seen.istiod.versions);
    let fault = refresh::fault(known, running).or_else(|| refresh::gap(known, running));
    if let Some(fault) = fault {
        let better = format!("nothing is known against {}", known.default());
        return note(format!("{to} runs {fault}"), Hint::note(better));
    }
    let secret = seen.remote_secrets.get(from.as_str());
    // What ends already is gone on with unless it is known that nothing renews it.
    let ends = secret.is_some_and(RemoteSecretSeen::is_bound);
    let job = Hint::kubectl(
        to,
        [
            "-n",
            ISTIO_SYSTEM,
            "create",
            "job",
            "--from=cronjob/meshlink-renewer",
            "meshlink-renewer-now",
        ],
    );
    let job = job.remark("not to wait for the next half hour");
    let Some(renewer) = &seen.renewer else {
        let why = format!("the renewer in {to} has not run yet");
        return if ends { None } else { note(why, job) };
    };
    let name = format!("the renewer in {to}");
    let Some(at) = renewer.succeeded else {
        return note(format!("no Job of {name} has succeeded yet"), job);
    };
    if renewer.suspended {
        let go_on = r#"{"spec":{"suspend":false}}"#;
        let words = ["-n", ISTIO_SYSTEM, "patch", "cronjob", RENEWER, "-p", go_on];
        return note(format!("{name} is suspended"), Hint::kubectl(to, words));
    }
    let is_before = |written: Option<Timestamp>| written.is_none_or(|written| at <= written);
    let since = match secret {
        Some(_) if ends => return None,
        _ if renewer.image != wanted.image || is_before(renewer.written) => {
            "it was changed".to_owned()
        }
        Some(secret) if !is_before(secret.written) => return None,
        _ => format!("{to} reads {from} as it does now"),
    };
    note(format!("no Job of {name} has succeeded since {since}"), job)
}

/// Whether a token with an end is to be renewed: a third of its life is left, or less.
pub(crate) fn is_due(issued: Option<Timestamp>, expires: Timestamp, now: Timestamp) -> bool {
    let day = || expires.as_second() - BOUND_LIFE;
    let since = issued.or_else(|| Timestamp::from_second(day()).ok());
    let life = Life {
        since,
        until: expires,
    };
    life.state(now) >= State::Due
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

    /// Where `to` is to get the token from by which it reads `from`.
    fn tokens(&self, from: &ClusterName, to: &ClusterName) -> Tokens {
        tokens(self.mesh, self.observed, (from, to))
    }

    fn is_bound(&self, from: &ClusterName, to: &ClusterName) -> bool {
        self.tokens(from, to) == Tokens::Bound
    }

    /// Says where tokens do not end though the mesh has a renewer, and how to get there.
    pub(super) fn tell(&self, plan: &mut Plan) {
        let names = || self.mesh.clusters.iter().map(|m| &m.name);
        let read = |name: &&ClusterName| self.seen(name).is_some();
        for to in names().filter(read) {
            for from in self.mesh.peers_of(to).filter(read) {
                let note = unrenewed(self.mesh, self.observed, (from, to));
                let note = note.filter(|note| !plan.notes.contains(note));
                plan.notes.extend(note);
            }
        }
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

    /// What a renewal does about `to`'s reading of `from`: the token, the authorities, or both. What was not made by a join
    /// is left to one.
    pub(super) fn renew(
        &self,
        plan: &mut Plan,
        (from, to): (&ClusterName, &ClusterName),
        (tokens, authorities): (bool, bool),
    ) {
        let both = self.seen(from).zip(self.seen(to));
        let Some((there, seen)) = both else {
            return;
        };
        let reader = self.reader(from, to);
        let ready = reader.is_some_and(|reader| match self.is_bound(from, to) {
            true => reader.anchor.is_some(),
            false => reader.newest().is_some_and(|t| t.token.is_some()),
        });
        let secret = seen.remote_secrets.get(from.as_str());
        let Some(secret) = secret.filter(|s| ready && s.problems.is_empty() && s.foreign.is_none())
        else {
            return;
        };
        if tokens {
            self.next(plan, from, to);
        }
        let other = secret.other_authorities(&there.authorities);
        let other = other.filter(|_| authorities).map(str::to_owned);
        let token = || match plan.holds(&make(from, to)) {
            true => Some("the token it holds is replaced".to_owned()),
            false => self.other_token(secret, (from, to)),
        };
        if let Some(why) = other.or_else(|| token().filter(|_| tokens)) {
            plan.add(share(from, to), vec![make(from, to)], why);
        }
        if tokens || plan.holds(&share(from, to)) {
            self.retire(plan, from, to);
        }
    }

    /// Where the istiod that runs does not survive a changed remote secret, and where it lets go of a peer for a moment.
    pub(super) fn refresh(&self, plan: &mut Plan, name: &ClusterName) {
        let Some(seen) = self.seen(name).filter(|s| s.istiod.present) else {
            return;
        };
        if !refresh::changes_in_place(plan, name, seen) {
            return;
        }
        if let Some(why) = refresh::fault(&self.mesh.istio.known, &seen.istiod.versions) {
            let peers = self.mesh.clusters.iter().map(|m| &m.name);
            let needs = peers.map(|from| share(from, name)).collect();
            plan.notes.push(refresh::note(name, &why).into());
            plan.add(Step::RefreshIstiod(name.clone()), needs, why);
        } else if let Some(why) = refresh::gap(&self.mesh.istio.known, &seen.istiod.versions) {
            let text = format!("{name} runs {why}: its remote secrets are changed");
            plan.notes.push(text.into());
        }
    }

    fn grant(&self, plan: &mut Plan, cluster: &ClusterName, peer: &ClusterName) {
        let Some(seen) = self.seen(cluster) else {
            return;
        };
        let wanted = wanted(self.mesh, self.observed, cluster).remove(peer);
        let changes = changes(wanted.iter().flatten(), "", seen);
        let reader = self.reader(cluster, peer);
        let newest = reader.and_then(ReaderSeen::newest);
        let filled = self.is_bound(cluster, peer) || newest.is_some_and(|t| t.token.is_some());
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
        let Some(newest) = newest.filter(|_| !self.is_bound(cluster, peer)) else {
            return;
        };
        let is_old = newest.until.is_some_and(|until| until <= self.observed.now);
        if let Some(made) = newest.made.filter(|_| is_old && newest.token.is_some()) {
            let made = made.strftime("%Y-%m-%d");
            let why = format!("the token of {peer}'s account is of {made}, older than it may be");
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
        if let Some(why) = secret.other_authorities(&there.authorities) {
            return Some(why.into());
        }
        if plan.holds(&make(from, to)) {
            return Some("the token it holds is replaced".into());
        }
        self.other_token(secret, (from, to))
            .or_else(|| plan.holds(&grant(from, to)).then(other_token))
    }

    /// Why the token is not the one that a remote secret should hold.
    fn other_token(
        &self,
        secret: &RemoteSecretSeen,
        (from, to): (&ClusterName, &ClusterName),
    ) -> Option<String> {
        let reader = self.reader(from, to);
        if !self.is_bound(from, to) {
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
        let tokens = self.tokens(from, to);
        let keeps = match tokens {
            Tokens::Secret(number) if !plan.holds(&make(from, to)) => Some(number),
            _ => None,
        };
        let old = reader.tokens.iter().filter(|t| Some(t.number) != keeps);
        let mut stale: Vec<_> = old.map(|t| deletion(&t.secret)).collect();
        if tokens != Tokens::Bound {
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

/// Whether a plan renews a token or authorities.
pub(super) fn renews(plan: &Plan, row: &ends::Row) -> bool {
    let pair = || {
        let (to, from) = (row.members.first()?, row.peer.as_ref()?);
        Some(share(&from.parse().ok()?, &to.parse().ok()?))
    };
    matches!(row.what, ends::What::Token | ends::What::ApiCa)
        && pair().is_some_and(|step| plan.holds(&step))
}

/// Everything a renewer consists of, in the order to delete it.
pub(crate) fn renewer_names() -> [Ref; 4] {
    [
        &Kind::CRON_JOB,
        &Kind::ROLE_BINDING,
        &Kind::ROLE,
        &Kind::SERVICE_ACCOUNT,
    ]
    .map(|kind| Ref::namespaced(kind, ISTIO_SYSTEM, RENEWER))
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
