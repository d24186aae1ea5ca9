//! What is missing for the members to be one mesh, proved.

use std::collections::BTreeSet;

use semver::Version;

use super::{
    Desired, ObjectChange, Plan, Refusal, Step, Wanted,
    desire::{Release, reference},
    leave,
    readers::ReaderPlanner,
    refresh,
    renew::{intermediates::Intermediates, pressing},
    signer, version,
};
use crate::{
    chart,
    cluster::{Ref, subset},
    ends::Signing,
    name::ClusterName,
    observe::{Observed, Seen, proof_digest},
    pki,
    spec::Mesh,
};

mod refuse;
mod release;

pub(crate) use release::is_remade;
use release::{istiod_version, needs_crds, pruned, release_missing, unpruned};

pub(crate) use refuse::is_loopback;

/// The steps of a join, or every reason against it at once.
pub(crate) fn join(
    mesh: &Mesh,
    desired: &Desired,
    observed: &Observed,
) -> Result<Plan, Vec<Refusal>> {
    let refusals = refuse::refusals(mesh, desired, observed);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = Plan::default();
    let planner = JoinPlanner {
        mesh,
        desired,
        observed,
    };
    planner.trust(&mut plan);
    for name in planner.names() {
        planner.install(&mut plan, name);
        planner.expose(&mut plan, name);
    }
    planner.link(&mut plan);
    planner.prove(&mut plan);
    let mut refusals = refuse::without_the_key(mesh, observed, &plan);
    refusals.extend(signer::refusal(observed, &plan));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = plan.finished();
    let pressing = pressing(observed, &Signing::new(), &plan);
    plan.notes.extend(pressing);
    plan.notes.extend(version::notes(mesh, observed));
    plan.notes.extend(signer::notes(mesh, observed, &plan));
    Ok(plan)
}

/// The steps of a proof alone, for a mesh that stands: brought, asked, taken away.
pub(crate) fn proof(mesh: &Mesh, observed: &Observed) -> Plan {
    let names: Vec<_> = reachable(mesh, observed).collect();
    let mut plan = Plan::default();
    let asked = "asked for";
    for from in &names {
        plan.add(Step::StartProbe((*from).clone()), vec![], asked);
        let mut proofs = vec![Step::StartProbe((*from).clone())];
        for to in names.iter().filter(|to| mesh.are_peers(from, to)) {
            let step = Step::Prove {
                from: (*from).clone(),
                to: (*to).clone(),
            };
            let needs = [from, to].map(|n| Step::StartProbe((*n).clone())).into();
            plan.add(step.clone(), needs, asked);
            proofs.push(step.clone());
            // The peers' questions are answered by the same probe.
            proofs.push(Step::Prove {
                from: (*to).clone(),
                to: (*from).clone(),
            });
        }
        plan.add(
            Step::StopProbe((*from).clone()),
            proofs,
            "the probe is always removed",
        );
    }
    plan.finished()
}

/// The members something can be done in.
fn reachable<'a>(
    mesh: &'a Mesh,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a ClusterName> + use<'a> {
    let names = mesh.clusters.iter().map(|m| &m.name);
    names.filter(|name| !observed.unreachable.contains_key(*name))
}

struct JoinPlanner<'a> {
    mesh: &'a Mesh,
    desired: &'a Desired,
    observed: &'a Observed,
}

impl<'a> JoinPlanner<'a> {
    fn names(&self) -> impl Iterator<Item = &'a ClusterName> + use<'a> {
        reachable(self.mesh, self.observed)
    }

    fn peers(&self, of: &ClusterName) -> impl Iterator<Item = &'a ClusterName> {
        let mesh = self.mesh;
        let of = of.clone();
        self.names().filter(move |n| mesh.are_peers(&of, n))
    }

    /// A member as it is; observation gives every member an entry.
    fn seen(&self, name: &ClusterName) -> &'a Seen {
        static NOTHING: std::sync::LazyLock<Seen> = std::sync::LazyLock::new(Seen::default);
        self.observed.clusters.get(name).unwrap_or(&NOTHING)
    }

    /// Members in the order in which claims are made: the same for every run, whoever runs it.
    fn claim_order(&self) -> Vec<&'a ClusterName> {
        let mut names: Vec<_> = self.names().collect();
        names.sort_by_key(|n| &self.seen(n).uid);
        names
    }

    /// Namespaces, the one root, and a `cacerts` in every member.
    fn trust(&self, plan: &mut Plan) {
        let bound = |name| self.seen(name).claim.is_some();
        if self.observed.vault.root.is_none() && !self.names().all(bound) {
            plan.add(
                Step::CreateRoot,
                vec![],
                "the vault has no root for this mesh",
            );
        }
        for name in self.names() {
            let Some(wanted) = self.desired.clusters.get(name) else {
                continue;
            };
            let changes = changes(wanted.namespaces.iter(), "", self.seen(name));
            if !changes.is_empty() {
                let step = Step::PrepareNamespaces(name.clone());
                // A vault that cannot be written to is found out before anything else is written.
                let needs = [vec![Step::CreateRoot], self.signed_first()].concat();
                plan.add_with(step, needs, summary(&changes), changes);
            }
        }
        let order = self.claim_order();
        let signed = self.signed_first();
        for (i, name) in order.iter().copied().enumerate() {
            if self.seen(name).claim.is_none() {
                let mut needs = vec![Step::CreateRoot, Step::PrepareNamespaces(name.clone())];
                needs.extend(signed.iter().cloned());
                needs.extend(order[..i].iter().map(|n| Step::ClaimRoot((*n).clone())));
                plan.add(
                    Step::ClaimRoot(name.clone()),
                    needs,
                    "not bound to a root yet",
                );
            }
        }
        for name in self.names() {
            self.cacerts(plan, name);
        }
        self.renewals().plan(plan);
    }

    /// Whether somebody else signs as is to be is found out before anything is written and any member bound to their root.
    fn signed_first(&self) -> Vec<Step> {
        match self.observed.vault.named {
            Some(_) => self.names().cloned().map(Step::IssueIntermediate).collect(),
            None => vec![],
        }
    }

    /// What is renewed in place, in members that have a `cacerts` of ours already.
    fn renewals(&self) -> Intermediates<'a> {
        static UNASKED: Signing = Signing::new();
        Intermediates {
            mesh: self.mesh,
            observed: self.observed,
            signing: &UNASKED,
        }
    }

    fn cacerts(&self, plan: &mut Plan, name: &ClusterName) {
        let seen = self.seen(name);
        let claims = self.names().map(|n| Step::ClaimRoot(n.clone()));
        let why = match &seen.cacerts {
            None => "no cacerts".to_owned(),
            Some(_) if self.renewals().is_due(name) => return,
            Some(c) if !c.problems.is_empty() => c.problems.join("; "),
            Some(c) if c.ours && c.roots.len() > 1 => self.other_roots(&c.roots),
            Some(_) => return self.stale_istiod(plan, name),
        };
        let issue = Step::IssueIntermediate(name.clone());
        // One that is there, and that the next renewal would replace, is replaced at once.
        if self.observed.vault.root.is_none() || !self.renewals().is_issued(name) {
            plan.add(
                issue.clone(),
                vec![Step::CreateRoot],
                "the vault has no intermediate for it that is as the mesh asks for",
            );
        }
        let needs = claims
            .chain([issue, Step::PrepareNamespaces(name.clone())])
            .collect();
        plan.add(Step::InstallCacerts(name.clone()), needs, why);
        if seen.istiod.present {
            let needs = vec![
                Step::InstallCacerts(name.clone()),
                Step::InstallIstiod(name.clone()),
            ];
            plan.add(
                Step::RestartIstiod(name.clone()),
                needs,
                "istiod runs without these cacerts",
            );
        }
    }

    /// The root of the mesh: the one in the vault or, where that is elsewhere, the one its members are bound to.
    fn root(&self) -> Option<&str> {
        let vault = self.observed.vault.root.as_deref();
        vault.or_else(|| self.observed.root(&self.mesh.id))
    }

    fn other_roots(&self, roots: &[String]) -> String {
        let mesh = self.root();
        let others = roots.iter().filter(|root| Some(root.as_str()) != mesh);
        let others: Vec<_> = others.map(|root| pki::short(root)).collect();
        format!(
            "cacerts holds root {} beside the mesh's, and what it signs is trusted",
            others.join(", ")
        )
    }

    /// An istiod that started before its `cacerts` never loads them.
    fn stale_istiod(&self, plan: &mut Plan, name: &ClusterName) {
        let seen = self.seen(name);
        let held = seen.cacerts.iter().flat_map(|c| &c.roots);
        let held: BTreeSet<_> = held.collect();
        let published: BTreeSet<_> = seen.published_roots.iter().collect();
        if seen.istiod.present && !published.is_empty() && published != held {
            let needs = vec![Step::InstallIstiod(name.clone())];
            let why = "istiod publishes another root than cacerts holds: it started before them";
            plan.add(Step::RestartIstiod(name.clone()), needs, why);
        }
    }

    fn install(&self, plan: &mut Plan, name: &ClusterName) {
        let Some(wanted) = self.desired.clusters.get(name) else {
            return;
        };
        let seen = self.seen(name);
        let ready = |plan: &mut Plan, step: Step, needs: Vec<Step>, release: &Release| {
            bring(plan, (name, step), needs, release, seen);
        };
        let (c, base) = (name.clone(), Step::InstallBase(name.clone()));
        let ground = vec![
            Step::ClaimRoot(c.clone()),
            Step::PrepareNamespaces(c.clone()),
        ];
        ready(plan, base.clone(), ground.clone(), &wanted.base);
        // A new istiod takes longest to come up, and takes notice of CRDs that come meanwhile. One that is there
        // already is never to run ahead of its CRDs, nor may an object be applied before its own.
        let apart = !seen.istiod.present && !needs_crds(&wanted.istiod, &wanted.base);
        let cacerts = Step::InstallCacerts(c.clone());
        let needs = match apart {
            true => vec![cacerts],
            false => vec![cacerts, base.clone()],
        };
        ready(plan, Step::InstallIstiod(c.clone()), needs, &wanted.istiod);

        let disturbed = plan.holds(&Step::InstallIstiod(c.clone()))
            || plan.holds(&Step::RestartIstiod(c.clone()));
        if disturbed || !seen.istiod.available {
            let needs = vec![
                Step::InstallIstiod(c.clone()),
                Step::RestartIstiod(c.clone()),
                base,
            ];
            let why = if disturbed {
                "istiod is changed"
            } else {
                "istiod is not available"
            };
            plan.add(Step::AwaitIstiod(c.clone()), needs, why);
        }
        if !seen.gateway.present {
            let why = "no load balancer yet, and it takes longest";
            plan.add(Step::OpenGateway(c.clone()), ground, why);
        }
        let needs = vec![Step::AwaitIstiod(c.clone()), Step::OpenGateway(c.clone())];
        ready(plan, Step::InstallGateway(c), needs, &wanted.gateway);
    }

    fn expose(&self, plan: &mut Plan, name: &ClusterName) {
        let Some(Wanted { expose, .. }) = self.desired.clusters.get(name) else {
            return;
        };
        let seen = self.seen(name);
        let opened = Step::ExposeServices(name.clone());
        let changes = changes(expose.iter(), "", seen);
        if !changes.is_empty() {
            let needs = vec![
                Step::PrepareNamespaces(name.clone()),
                Step::AwaitIstiod(name.clone()),
                Step::InstallBase(name.clone()),
            ];
            plan.add_with(opened.clone(), needs, summary(&changes), changes);
        }
        let installed = Step::InstallGateway(name.clone());
        let disturbed = plan.holds(&opened) || plan.holds(&installed);
        if disturbed || !seen.gateway.available || seen.gateway.addresses.is_empty() {
            let why = match () {
                () if disturbed => "the gateway is changed",
                () if seen.gateway.addresses.is_empty() => "the load balancer has no address",
                () => "the gateway is not available",
            };
            plan.add(Step::AwaitNlb(name.clone()), vec![opened, installed], why);
        }
    }

    /// Reader accounts and remote secrets, for every ordered pair.
    fn link(&self, plan: &mut Plan) {
        let readers = ReaderPlanner {
            mesh: self.mesh,
            observed: self.observed,
        };
        for from in self.names() {
            let wanted = self
                .desired
                .clusters
                .get(from)
                .map(|w| w.renewer.as_slice());
            readers.renewer(plan, from, wanted.unwrap_or_default());
            for to in self.peers(from) {
                readers.pair(plan, from, to);
            }
        }
        leave::part(self.mesh, self.observed, plan);
        for name in self.names() {
            self.refresh(plan, name);
        }
        readers.tell(plan);
        let running = self.names().map(|name| (name, self.versions(plan, name)));
        let running: Vec<_> = running.collect();
        refresh::tell(&self.mesh.istio.known, running, plan);
    }

    /// What istiod will run in a member when the plan is done.
    fn versions(&self, plan: &Plan, name: &ClusterName) -> BTreeSet<Version> {
        let wanted = self.desired.clusters.get(name).map(|w| &w.istiod);
        let installed = plan.holds(&Step::InstallIstiod(name.clone()));
        match wanted.filter(|_| installed) {
            Some(istiod) => istiod_version(istiod).into_iter().collect(),
            None => self.seen(name).istiod.versions.clone(),
        }
    }

    /// Where the istiod that will run does not survive a changed remote secret.
    fn refresh(&self, plan: &mut Plan, name: &ClusterName) {
        let seen = self.seen(name);
        let installed = plan.holds(&Step::InstallIstiod(name.clone()));
        let fault = refresh::fault(&self.mesh.istio.known, &self.versions(plan, name));
        let restarted = installed || plan.holds(&Step::RestartIstiod(name.clone()));
        let due = refresh::changes_in_place(plan, name, seen)
            || seen.istiod.present && !restarted && refresh::is_overdue(seen);
        if let Some(why) = fault.filter(|_| due) {
            let shares = self.peers(name).map(|from| Step::ShareSecret {
                from: from.clone(),
                to: name.clone(),
            });
            let needs = shares.chain([Step::AwaitIstiod(name.clone())]).collect();
            plan.notes.push(refresh::note(name, &why).into());
            plan.add(Step::RefreshIstiod(name.clone()), needs, why);
        }
    }

    /// The probe, what it is asked, and what is written down; all of it only where due.
    fn prove(&self, plan: &mut Plan) {
        let due: BTreeSet<_> = self.names().filter(|n| self.unproved(plan, n)).collect();
        for name in self.names() {
            if !due.is_empty() {
                let needs = vec![Step::AwaitIstiod(name.clone())];
                plan.add(
                    Step::StartProbe(name.clone()),
                    needs,
                    "a proof needs a probe in each cluster",
                );
            }
        }
        let pairs: Vec<_> = due
            .iter()
            .flat_map(|from| self.peers(from).map(move |to| (*from, to)))
            .collect();
        for &(from, to) in &pairs {
            self.prove_pair(plan, from, to);
        }
        // What is written down speaks of every member.
        let recorded = due.iter().filter(|_| self.observed.unreachable.is_empty());
        for name in recorded {
            let needs = self
                .peers(name)
                .map(|to| Step::Prove {
                    from: (*name).clone(),
                    to: to.clone(),
                })
                .collect();
            plan.add(
                Step::RecordProof((*name).clone()),
                needs,
                "the proof is new",
            );
        }
        for name in self
            .names()
            .filter(|n| !due.is_empty() || self.seen(n).probe)
        {
            // It asks the others, and answers them.
            let mine = pairs
                .iter()
                .filter(|(from, to)| [*from, *to].contains(&name));
            let proofs = mine.map(|&(from, to)| Step::Prove {
                from: from.clone(),
                to: to.clone(),
            });
            let needs = proofs.chain([Step::StartProbe(name.clone())]).collect();
            plan.add(
                Step::StopProbe(name.clone()),
                needs,
                "the probe is always removed",
            );
        }
    }

    fn prove_pair(&self, plan: &mut Plan, from: &ClusterName, to: &ClusterName) {
        let reach = Step::Reach {
            from: from.clone(),
            to: to.clone(),
        };
        let needs = vec![Step::StartProbe(from.clone()), Step::AwaitNlb(to.clone())];
        plan.add(
            reach.clone(),
            needs,
            "the address must be reachable from where it is used",
        );
        let needs = vec![
            reach,
            Step::ShareSecret {
                from: to.clone(),
                to: from.clone(),
            },
            Step::StartProbe(from.clone()),
            Step::StartProbe(to.clone()),
            Step::AwaitNlb(to.clone()),
            Step::RefreshIstiod(from.clone()),
            Step::SettleCacerts(from.clone()),
            Step::SettleCacerts(to.clone()),
        ];
        let why = "not proved since the last change";
        plan.add(
            Step::Prove {
                from: from.clone(),
                to: to.clone(),
            },
            needs,
            why,
        );
    }

    /// Nothing is written down, it covers other facts, or something it rests on is in the plan.
    fn unproved(&self, plan: &Plan, name: &ClusterName) -> bool {
        let seen = self.seen(name);
        let members: BTreeSet<_> = self.names().collect();
        let digest = proof_digest(self.mesh, name, seen);
        let stands = seen.record.as_ref().is_some_and(|r| {
            r.proof == digest && r.members.keys().collect::<BTreeSet<_>>() == members
        });
        !stands || !plan.is_empty()
    }
}

/// Adds the step that brings a release of a member to what it should be, where it is not.
pub(super) fn bring(
    plan: &mut Plan,
    (name, step): (&ClusterName, Step),
    needs: Vec<Step>,
    release: &Release,
    seen: &Seen,
) {
    if let Some((why, changes)) = release_missing(release, seen) {
        plan.add_with(step, needs, why, changes);
        plan.deleting(pruned(release, seen));
        plan.notes.extend(unpruned(name, release, seen));
    }
}

/// The objects that are not as they should be.
pub(crate) fn changes<'v>(
    wanted: impl Iterator<Item = &'v serde_json::Value>,
    namespace: &str,
    seen: &Seen,
) -> Vec<ObjectChange> {
    let differs = |object: &serde_json::Value| {
        let reference: Ref = reference(object, namespace)?;
        let object_name = reference.to_string();
        let Some(live) = seen.live.get(&reference) else {
            return Some(ObjectChange {
                object: object_name,
                missing: true,
                fields: vec![],
            });
        };
        let mut object = object.clone();
        chart::apply::prepare(&mut object);
        chart::apply::strip_for_reapply(&mut object);
        let fields = subset::drift(&object, live);
        (!fields.is_empty()).then_some(ObjectChange {
            object: object_name,
            missing: false,
            fields,
        })
    };
    wanted.filter_map(differs).collect()
}

/// Objects that differ, in a few words.
pub(super) fn summary(changes: &[ObjectChange]) -> String {
    let first = changes.first().map_or("", |c| c.object.as_str());
    let (missing, all) = (changes.iter().filter(|c| c.missing).count(), changes.len());
    match (missing, all) {
        (1, 1) => format!("{first} is missing"),
        (0, 1) => format!("{first} differs"),
        (0, _) => format!("{all} objects differ, {first} first"),
        (_, _) if missing == all => format!("{all} objects are missing, {first} first"),
        _ => format!("{missing} objects are missing and {} differ", all - missing),
    }
}
