//! What is to be done for one root to take the place of another, with no request lost: from how far each member has come
//! to the steps that are missing.
//!
//! | phase | `cacerts` of every member | goes on when |
//! | --- | --- | --- |
//! | prepared | signs under the old root; trusts both | everything trusts both: distributed |
//! | signing | signs under the new root; trusts both and a spare one | no proxy shows a certificate of the old: switched |
//! | retired | signs under the new root; trusts it alone | nothing trusts the old one |
//!
//! No member begins a phase before all have ended the one before. So whatever a proxy shows, every other one trusts it. A
//! member that cannot be read holds the phase; the others are brought no further than it may be.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Note, Plan, Refusal, Step};
use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{Observed, Seen, Succession, proof_digest},
    pki::{Root, short},
    spec::Mesh,
    verify::rotation::Stage,
};

mod refuse;

pub(crate) use refuse::is_restartable;

/// How long kubelets take at most to bring a changed ConfigMap into a pod that runs: their sync, every minute, and half
/// of it more, by which they keep apart.
pub(crate) const PROJECTED: Duration = Duration::from_secs(90);
/// For how long a root that has just taken another's place is not replaced again without being told so.
const RECENT: Duration = Duration::from_secs(24 * 3600);

/// How a root is rotated.
#[derive(Debug, Clone, Default)]
pub struct Rotate {
    /// Go back to the root the mesh is bound to.
    pub abort: bool,
    /// Make a new root even if the vault holds one that has not been used yet, or the root has just been changed.
    pub fresh: bool,
    /// Restart workloads whose proxies cannot follow a change of root. Without it, one such is a refusal.
    pub restart_workloads: bool,
    /// How long kubelets take at most to bring a changed ConfigMap into a pod that runs: as whoever began it has said, if it is
    /// not said anew, and else 90 s.
    pub projected: Option<Duration>,
    /// Begin it though the version of an istiod loses requests by it.
    pub accept_gap: bool,
    /// The new root, where somebody else has made it.
    pub(crate) given: Option<Arc<Root>>,
}

/// The steps of a rotation, or every reason against it at once.
pub(crate) fn rotate(
    mesh: &Mesh,
    observed: &Observed,
    how: &Rotate,
    now: Timestamp,
) -> Result<Plan, Vec<Refusal>> {
    let mut plan = Plan::default();
    if let Some(note) = nothing_to_do(mesh, observed, how, now) {
        plan.notes.push(note);
        let is_proved = |(name, seen): (&ClusterName, &Seen)| {
            let digest = proof_digest(mesh, name, seen);
            !seen.probe && seen.record.as_ref().is_some_and(|r| r.proof == digest)
        };
        // A run that ended after the change has left the proof to this one.
        if !how.abort && observed.unreachable.is_empty() && !observed.clusters.iter().all(is_proved)
        {
            prove(
                mesh,
                &mut plan,
                &observed.clusters.keys().collect::<Vec<_>>(),
            );
        }
        return Ok(plan.finished());
    }
    let refusals = refuse::refusals(mesh, observed, how, now);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let planner = RotatePlanner {
        mesh,
        observed,
        how,
        members: members(mesh, observed),
    };
    match how.abort {
        true => planner.back(&mut plan),
        false => planner.forth(&mut plan),
    }
    plan.notes.extend(planner.held());
    Ok(plan.finished())
}

/// A rotation that is refused because another change is asked for while it is under way.
pub(crate) fn under_way(observed: &Observed) -> Option<Refusal> {
    let change = observed.succession()?;
    let reason = format!(
        "the root of the mesh is being changed from {} to {}, and members neither come nor go meanwhile",
        short(&change.from),
        short(&change.to)
    );
    let go_on = Hint::meshlink(["rotate", "root"]).remark("finishes it");
    let back = Hint::meshlink(["rotate", "root", "--abort"]).remark("goes back to the old root");
    Some(Refusal {
        cluster: None,
        reason,
        hints: vec![go_on, back],
    })
}

/// Why there is nothing to do, where that is so.
fn nothing_to_do(mesh: &Mesh, observed: &Observed, how: &Rotate, now: Timestamp) -> Option<Note> {
    if observed.succession().is_some() {
        return None;
    }
    if how.abort {
        return Some(
            "the root of the mesh is not being changed"
                .to_owned()
                .into(),
        );
    }
    let root = observed.root(&mesh.id)?;
    let given = how.given.as_ref().map(|root| &root.facts().spki_sha256);
    let named = observed.vault.named.as_ref();
    if let Some(named) = named.filter(|named| named.root.spki_sha256 == root && !how.fresh) {
        let text = format!(
            "{} is the root of the mesh already, and {} signs under it",
            short(root),
            named.who
        );
        let hint = Hint::note("name another in trust.authority of the mesh file, and run it again");
        return Some(Note::with(text, vec![hint]));
    }
    if given.is_some_and(|given| given == root) {
        let text = format!("{} is the root of the mesh already", short(root));
        return Some(text.into());
    }
    let changed = observed.clusters.values().filter_map(|seen| seen.rotated);
    // Whoever names somebody else means another root.
    let is_asked = how.fresh || given.is_some() || named.is_some();
    let changed = changed.max().filter(|_| !is_asked)?;
    let age = u64::try_from(now.as_second() - changed.as_second()).unwrap_or(0);
    (age < RECENT.as_secs()).then(|| {
        let text = format!(
            "{} has been the root of the mesh since {changed:.0}",
            short(root)
        );
        let again = Hint::meshlink(["rotate", "root", "--to", "generate"]);
        Note::with(text, vec![again.remark("changes it once more")])
    })
}

/// How far each member that could be read has come; empty where that cannot be told.
type Members<'a> = BTreeMap<&'a ClusterName, (&'a Seen, Stage)>;

fn members<'a>(mesh: &'a Mesh, observed: &'a Observed) -> Members<'a> {
    let names = mesh.clusters.iter().map(|m| &m.name);
    let seen = names.filter_map(|name| Some((name, observed.clusters.get(name)?)));
    seen.filter_map(|(name, seen)| Some((name, (seen, stage(mesh, observed, seen)?))))
        .collect()
}

/// How far a member has come; none if its `cacerts` is nothing that a rotation writes.
fn stage(mesh: &Mesh, observed: &Observed, seen: &Seen) -> Option<Stage> {
    let cacerts = seen.cacerts.as_ref()?;
    if let Some(change) = observed.succession() {
        return Stage::of(cacerts, change);
    }
    let root = observed.root(&mesh.id)?;
    let none = Succession {
        mesh: String::new(),
        from: root.to_owned(),
        to: String::new(),
        spare: String::new(),
    };
    Stage::of(cacerts, &none)
}

struct RotatePlanner<'a> {
    mesh: &'a Mesh,
    observed: &'a Observed,
    how: &'a Rotate,
    members: Members<'a>,
}

impl<'a> RotatePlanner<'a> {
    fn names(&self) -> impl Iterator<Item = &'a ClusterName> {
        self.members.keys().copied()
    }

    fn stages(&self) -> impl Iterator<Item = Stage> {
        self.members.values().map(|(_, stage)| *stage)
    }

    /// Whether a member that cannot be read holds the others.
    fn is_held(&self) -> bool {
        !self.observed.unreachable.is_empty()
    }

    fn held(&self) -> Vec<Note> {
        let away = self.observed.unreachable.values();
        let again: &[&str] = match self.how.abort {
            true => &["rotate", "root", "--abort"],
            false => &["rotate", "root"],
        };
        let one = |away: &crate::observe::Unreachable| {
            let text = format!(
                "{} holds the change of root, and nothing is lost meanwhile: {}",
                away.cluster,
                away.line()
            );
            let mut hints = vec![Hint::meshlink(again.iter().copied()).remark("once it answers")];
            hints.extend(away.hints.clone());
            Note::with(text, hints)
        };
        away.map(one).collect()
    }

    /// Members in the order in which they are told of a change: the same for every run, whoever runs it.
    fn order(&self) -> Vec<&'a ClusterName> {
        let mut names: Vec<_> = self.names().collect();
        names.sort_by_key(|name| self.members.get(name).map(|(seen, _)| &seen.uid));
        names
    }

    /// The step in every member.
    fn all(&self, step: fn(ClusterName) -> Step) -> Vec<Step> {
        self.names().map(|name| step(name.clone())).collect()
    }

    fn forth(&self, plan: &mut Plan) {
        self.announce(plan);
        let furthest = self.stages().max();
        let mut before = self.all(Step::AnnounceRoot);
        if self.how.restart_workloads {
            self.restart(plan, &before);
            before.extend(self.all(Step::RestartWorkloads));
        }
        let phases: [(Stage, fn(ClusterName) -> Step); 3] = [
            (Stage::Both, Step::DistributeRoot),
            (Stage::Signing, Step::SwitchIssuer),
            (Stage::New, Step::RetireRoot),
        ];
        for (stage, step) in phases {
            // Where one member has come further, all have ended this phase, and the silent one may have begun the next.
            let is_over = stage < Stage::New && self.stages().all(|at| at > stage);
            if self.is_held() && furthest.is_some_and(|furthest| stage > furthest) {
                return;
            }
            if !is_over {
                self.phase(plan, stage, step, &before);
                before = self.all(step);
            }
        }
        if self.is_held() {
            return;
        }
        for name in self.names() {
            let to = self.observed.succession().map(|change| &change.to);
            let claim = self
                .members
                .get(name)
                .and_then(|(seen, _)| seen.claim.as_ref());
            if to.is_none() || claim.map(|claim| &claim.root) != to {
                let why = "it is bound to the old root";
                plan.add(Step::RebindRoot(name.clone()), before.clone(), why);
            }
        }
        before.extend(self.all(Step::RebindRoot));
        self.close(plan, &before);
        prove(self.mesh, plan, &self.names().collect::<Vec<_>>());
    }

    /// The new root, and everybody told of it before anything trusts it.
    fn announce(&self, plan: &mut Plan) {
        let change = self.observed.succession();
        let given = self
            .how
            .given
            .as_ref()
            .map(|root| &root.facts().spki_sha256);
        let next = self.observed.vault.next.as_ref();
        let usable = next.filter(|next| match given {
            Some(given) => given == *next,
            None => !self.how.fresh,
        });
        if change.is_none() && usable.is_none() {
            let why = match given {
                Some(given) => format!("root {} is not in the vault yet", short(given)),
                None => match &self.observed.vault.named {
                    Some(named) => format!("{} signs under it", named.who),
                    None => "the vault has no other root".to_owned(),
                },
            };
            plan.add(Step::CreateNextRoot, vec![], why);
        }
        let order = self.order();
        for (i, name) in order.iter().copied().enumerate() {
            let Some((seen, stage)) = self.members.get(name) else {
                continue;
            };
            if seen.succession.is_none() && *stage < Stage::New {
                let mut needs = vec![Step::CreateNextRoot];
                needs.extend(order[..i].iter().map(|n| Step::AnnounceRoot((*n).clone())));
                let why = "it has not been told of the new root";
                plan.add(Step::AnnounceRoot(name.clone()), needs, why);
            }
        }
    }

    fn restart(&self, plan: &mut Plan, before: &[Step]) {
        for (name, (seen, _)) in &self.members {
            let slow = refuse::slow(seen);
            if !slow.is_empty() {
                let step = Step::RestartWorkloads((*name).clone());
                let why = format!("cannot follow: {}", refuse::list(&slow));
                plan.add(step, before.to_vec(), why);
            }
        }
    }

    /// A phase in every member: what is not written yet is written, and what is everywhere is seen to be.
    fn phase(&self, plan: &mut Plan, stage: Stage, step: fn(ClusterName) -> Step, before: &[Step]) {
        for (name, (_, at)) in &self.members {
            let why = match at.cmp(&stage) {
                Ordering::Less => "not begun in it",
                Ordering::Equal => "begun, and to be seen everywhere in it",
                // It has ended this one.
                Ordering::Greater => continue,
            };
            plan.add(step((*name).clone()), before.to_vec(), why);
        }
    }

    fn back(&self, plan: &mut Plan) {
        let mut before = vec![];
        // A member that cannot be read may have begun to sign under the new root if another has been told of it.
        let is_signing = self.stages().any(|at| at == Stage::Signing);
        if is_signing || self.is_held() {
            for name in self.names() {
                let why = "proxies may show certificates of the new root";
                plan.add(Step::RestoreIssuer(name.clone()), vec![], why);
            }
            before = self.all(Step::RestoreIssuer);
        }
        if self.is_held() {
            return;
        }
        for name in self.names() {
            let why = "proxies may trust the new root";
            plan.add(Step::WithdrawRoot(name.clone()), before.clone(), why);
        }
        self.close(plan, &self.all(Step::WithdrawRoot));
    }

    fn close(&self, plan: &mut Plan, before: &[Step]) {
        for (name, (seen, _)) in &self.members {
            let told = Step::AnnounceRoot((*name).clone());
            if seen.succession.is_some() || plan.holds(&told) {
                let step = Step::CloseRotation((*name).clone());
                plan.add(step, before.to_vec(), "nothing is left of the change");
            }
        }
    }
}

/// What was proved before, was proved under the old root.
fn prove(mesh: &Mesh, plan: &mut Plan, names: &[&ClusterName]) {
    let closed: Vec<_> = names
        .iter()
        .map(|name| Step::CloseRotation((*name).clone()))
        .collect();
    let start = |name: &ClusterName| Step::StartProbe(name.clone());
    let pair = |from: &ClusterName, to: &ClusterName| Step::Prove {
        from: from.clone(),
        to: to.clone(),
    };
    let why = "not proved since the root was changed";
    for from in names {
        plan.add(start(from), closed.clone(), why);
        let peers: Vec<_> = names.iter().filter(|to| mesh.are_peers(from, to)).collect();
        for to in &peers {
            plan.add(pair(from, to), vec![start(from), start(to)], why);
        }
        let asked = peers.iter().map(|to| pair(from, to));
        let answered = peers.iter().map(|to| pair(to, from));
        let all: Vec<_> = asked.clone().chain(answered).chain([start(from)]).collect();
        plan.add(Step::RecordProof((*from).clone()), asked.collect(), why);
        plan.add(
            Step::StopProbe((*from).clone()),
            all,
            "the probe is always removed",
        );
    }
}

#[cfg(test)]
mod tests;
