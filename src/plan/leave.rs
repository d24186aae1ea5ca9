//! What is to be taken away for a member to leave, in the order that drops no request.

use std::collections::BTreeSet;

use crate::{
    name::ClusterName,
    observe::{Observed, Seen, proof_digest},
    plan::{Plan, Refusal, Step, ownership, refresh},
    spec::Mesh,
};

mod notes;
mod ours;
mod refuse;

use ours::held;
pub(crate) use ours::{bystanders, refs};

/// How far a leave goes.
#[derive(Debug, Clone, Default)]
pub struct Leave {
    /// Who leaves.
    pub leavers: Vec<ClusterName>,
    /// Take istiod, `cacerts` and our namespaces away too.
    pub uninstall: bool,
    /// Take Istio's CRDs away, and with them every object of those kinds.
    pub crds: bool,
    /// The leavers' API servers are gone for good: nothing is asked of them.
    pub dead: bool,
    /// Let go of a load balancer that nobody removes, and leave it to the cloud.
    pub abandon: bool,
}

impl Leave {
    /// The mesh without those who leave.
    pub fn rest(&self, mesh: &Mesh) -> Mesh {
        mesh.without(|name| self.leavers.contains(name))
    }
}

/// The steps of a leave, or every reason against it at once.
pub(crate) fn leave(mesh: &Mesh, observed: &Observed, how: &Leave) -> Result<Plan, Vec<Refusal>> {
    let refusals = refuse::refusals(mesh, observed, how);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = Plan::default();
    let planner = LeavePlanner {
        mesh,
        observed,
        how,
    };
    for leaver in &how.leavers {
        for peer in planner.others(leaver) {
            planner.unlink(&mut plan, leaver, peer);
            planner.unlink(&mut plan, peer, leaver);
        }
        planner.stop_renewing(&mut plan, leaver);
        planner.close(&mut plan, leaver);
        planner.forget(&mut plan, leaver);
        if how.uninstall {
            planner.uninstall(&mut plan, leaver);
        }
    }
    planner.prove(&mut plan);
    let probes = observed.clusters.keys();
    let probes = probes.filter(|name| plan.holds(&Step::StartProbe((*name).clone())));
    let refusals = probes.filter_map(|name| ownership::probe_in_the_way(mesh, observed, name));
    let refusals: Vec<_> = refusals.collect();
    if !refusals.is_empty() {
        return Err(refusals);
    }
    planner.sweep(&mut plan);
    plan.notes.extend(planner.notes());
    dedup(&mut plan);
    Ok(plan.finished())
}

/// The steps by which members that are no peers any more let go of each other.
pub(super) fn part(mesh: &Mesh, observed: &Observed, plan: &mut Plan) {
    let planner = LeavePlanner {
        mesh,
        observed,
        how: &Leave::default(),
    };
    let reads = |at: &ClusterName, from: &ClusterName| {
        let secrets = planner.seen(at).map(|s| &s.remote_secrets);
        let readers = planner.seen(from).map(|s| &s.readers);
        secrets.is_some_and(|s| s.contains_key(from.as_str()))
            || readers.is_some_and(|r| r.contains_key(at.as_str()))
    };
    for at in observed.clusters.keys() {
        for from in planner.others(at) {
            let stays = mesh.are_peers(at, from) || !observed.clusters.contains_key(from);
            if !stays && reads(at, from) {
                planner.unlink(plan, from, at);
            }
        }
    }
}

/// Two leavers unlink from each other once, not twice.
fn dedup(plan: &mut Plan) {
    let mut placed = BTreeSet::new();
    plan.steps.retain(|p| placed.insert(p.step.clone()));
}

struct LeavePlanner<'a> {
    mesh: &'a Mesh,
    observed: &'a Observed,
    how: &'a Leave,
}

impl<'a> LeavePlanner<'a> {
    fn others(&self, of: &ClusterName) -> impl Iterator<Item = &'a ClusterName> {
        self.mesh
            .clusters
            .iter()
            .map(|m| &m.name)
            .filter(move |n| *n != of)
    }

    /// Who stays, and says itself that it is a member.
    fn rest(&self) -> Vec<&'a ClusterName> {
        let all = self.mesh.clusters.iter().map(|m| &m.name);
        let stays = |n: &&ClusterName| {
            !self.how.leavers.contains(n) && self.observed.clusters.contains_key(*n)
        };
        all.filter(stays).collect()
    }

    /// The mesh of those.
    fn rest_mesh(&self) -> Mesh {
        let rest = self.rest();
        self.mesh.without(|name| !rest.contains(&name))
    }

    /// A member as it is; nothing is known of one that is dead.
    fn seen(&self, name: &ClusterName) -> Option<&'a Seen> {
        self.observed.clusters.get(name)
    }

    /// Whether `at` has it written down that `member` is one.
    fn knows(&self, at: &ClusterName, member: &ClusterName) -> bool {
        let record = self.seen(at).and_then(|s| s.record.as_ref());
        record.is_some_and(|r| r.members.contains_key(member))
    }

    /// Takes `from` out of `at`: the secret, the endpoints, then the account the secret used.
    /// Peers forget the leaver before the leaver forgets them, so that requests drain towards it last.
    fn unlink(&self, plan: &mut Plan, from: &ClusterName, at: &ClusterName) {
        let unshare = Step::UnshareSecret {
            from: from.clone(),
            to: at.clone(),
        };
        let gone = Step::AwaitUnlinked {
            cluster: at.clone(),
            leaver: from.clone(),
        };
        let reverse = Step::UnshareSecret {
            from: at.clone(),
            to: from.clone(),
        };
        let shared = self
            .seen(at)
            .is_some_and(|s| s.remote_secrets.contains_key(from.as_str()));
        if shared {
            // Of two that both stay, the one that is named first.
            let leaves = |name| self.how.leavers.contains(name);
            let first = leaves(from) || !leaves(at) && from < at;
            let needs = if first { vec![] } else { vec![reverse] };
            plan.add(
                unshare.clone(),
                needs,
                format!("{at}'s istiod reads {from}"),
            );
            plan.deleting(self.secret(from, at));
        }
        // An earlier, interrupted leave may have deleted the secret and never looked.
        let runs = self.seen(at).is_some_and(|s| s.istiod.present);
        let account = self
            .seen(from)
            .is_some_and(|s| s.readers.contains_key(at.as_str()));
        if runs && (shared || account || self.knows(at, from)) {
            let refresh = self.refresh(plan, at, &unshare);
            plan.add(
                gone.clone(),
                vec![unshare.clone(), refresh],
                "an istiod may keep endpoints of a deleted secret",
            );
        }
        if account {
            let step = Step::RevokeReader {
                cluster: from.clone(),
                peer: at.clone(),
            };
            plan.add(
                step,
                vec![unshare, gone],
                format!("{at} has an account in {from}"),
            );
            plan.deleting(self.account(from, at));
        }
    }

    /// Where a member's istiod may lose the peers it keeps when one is taken away.
    fn refresh(&self, plan: &mut Plan, at: &ClusterName, unshare: &Step) -> Step {
        let step = Step::RefreshIstiod(at.clone());
        let leaves = |n: &&ClusterName| self.how.leavers.contains(n);
        let keeps = !leaves(&at) && self.others(at).any(|n| !leaves(&n));
        let seen = self.seen(at).filter(|_| keeps);
        if let Some(why) =
            seen.and_then(|s| refresh::fault(&self.mesh.istio.known, &s.istiod.versions))
        {
            match plan.steps.iter_mut().find(|p| p.step == step) {
                Some(planned) => planned.needs.push(unshare.clone()),
                None => {
                    plan.notes.push(refresh::note(at, &why).into());
                    plan.add(step.clone(), vec![unshare.clone()], why);
                }
            }
        }
        step
    }

    /// What must be over before the leaver's own parts go.
    fn unlinked(&self, leaver: &ClusterName) -> Vec<Step> {
        let pair = |other: &ClusterName| {
            let (a, b) = (other.clone(), leaver.clone());
            [
                Step::AwaitUnlinked {
                    cluster: a.clone(),
                    leaver: b.clone(),
                },
                Step::AwaitUnlinked {
                    cluster: b.clone(),
                    leaver: a.clone(),
                },
                Step::RevokeReader {
                    cluster: a.clone(),
                    peer: b.clone(),
                },
                Step::RevokeReader {
                    cluster: b,
                    peer: a,
                },
            ]
        };
        self.others(leaver).flat_map(pair).collect()
    }

    fn stop_renewing(&self, plan: &mut Plan, leaver: &ClusterName) {
        let deletes = self.renewer(leaver);
        if !deletes.is_empty() {
            let step = Step::RemoveRenewer(leaver.clone());
            plan.add(step, self.unlinked(leaver), "it reads nobody any more");
            plan.deleting(deletes);
        }
    }

    fn close(&self, plan: &mut Plan, leaver: &ClusterName) {
        let Some(seen) = self.seen(leaver) else {
            return;
        };
        let deletes = self.gateway(leaver, seen);
        if !deletes.is_empty() || self.made(seen, &self.mesh.gateway.name) {
            let step = Step::CloseGateway(leaver.clone());
            plan.add(step, self.unlinked(leaver), "no peer may enter any more");
            plan.deleting(deletes);
        }
    }

    fn forget(&self, plan: &mut Plan, leaver: &ClusterName) {
        let before = self.how.leavers.iter().take_while(|other| *other != leaver);
        for member in &self.mesh.clusters {
            let cluster = &member.name;
            if cluster != leaver && self.how.leavers.contains(cluster) {
                // Its record goes as a whole.
                continue;
            }
            let recorded = self.seen(cluster).is_some_and(|s| s.record.is_some());
            if self.knows(cluster, leaver) || (recorded && cluster == leaver) {
                let step = Step::ForgetMember {
                    cluster: cluster.clone(),
                    leaver: leaver.clone(),
                };
                let mut needs = self.unlinked(leaver);
                needs.push(Step::CloseGateway(leaver.clone()));
                // One at a time writes a record, so that none writes back whom another has struck out.
                needs.extend(before.clone().map(|leaver| Step::ForgetMember {
                    cluster: cluster.clone(),
                    leaver: leaver.clone(),
                }));
                plan.add(step, needs, format!("{leaver} is recorded as a member"));
                plan.deleting(self.record(leaver).filter(|_| cluster == leaver));
            }
        }
    }

    /// What was proved with the leaver among them is proved again without it; but only what stood:
    /// to mend a mesh is not what a leave is for.
    fn prove(&self, plan: &mut Plan) {
        let rest = self.rest();
        let due = rest.iter().any(|name| self.unproved(name));
        if rest.len() < 2 || !due || !self.stands() {
            return;
        }
        let over = |name: &ClusterName| {
            let over = self.how.leavers.iter().flat_map(|leaver| {
                let (cluster, leaver) = (name.clone(), leaver.clone());
                let known = (cluster.clone(), leaver.clone());
                [
                    Step::AwaitUnlinked { cluster, leaver },
                    Step::ForgetMember {
                        cluster: known.0,
                        leaver: known.1,
                    },
                ]
            });
            over.collect::<Vec<_>>()
        };
        let why = "the others were last proved together with the leaver";
        let mut proofs = vec![];
        for from in rest.iter().copied() {
            plan.add(Step::StartProbe(from.clone()), vec![], why);
            let mut record = over(from);
            let peers = |to: &&ClusterName| self.mesh.are_peers(from, to);
            for to in rest.iter().copied().filter(peers) {
                let step = Step::Prove {
                    from: from.clone(),
                    to: to.clone(),
                };
                let mut needs = [over(from), over(to)].concat();
                needs.extend([from, to].map(|n| Step::StartProbe(n.clone())));
                plan.add(step.clone(), needs, why);
                record.push(step);
            }
            proofs.extend(record.clone());
            plan.add(Step::RecordProof(from.clone()), record, "the proof is new");
        }
        for name in rest {
            let needs = [proofs.clone(), vec![Step::StartProbe(name.clone())]].concat();
            let step = Step::StopProbe(name.clone());
            plan.add(step, needs, "the probe is always removed");
        }
    }

    /// The others were one mesh, proved, and are still linked.
    fn stands(&self) -> bool {
        let rest = self.rest();
        let linked = |a: &ClusterName, b: &ClusterName| {
            self.seen(a)
                .is_some_and(|s| s.remote_secrets.contains_key(b.as_str()))
        };
        rest.iter().all(|a| {
            let recorded = self.seen(a).is_some_and(|s| s.record.is_some());
            let mut peers = rest.iter().filter(|b| self.mesh.are_peers(a, b));
            recorded && peers.all(|b| linked(a, b))
        })
    }

    fn unproved(&self, name: &ClusterName) -> bool {
        let Some(seen) = self.seen(name) else {
            return false;
        };
        let digest = proof_digest(&self.rest_mesh(), name, seen);
        let leavers = &self.how.leavers;
        let record = seen.record.as_ref();
        record.is_some_and(|r| {
            r.proof != digest || r.members.keys().any(|member| leavers.contains(member))
        })
    }

    /// A probe that an interrupted run left anywhere goes too.
    fn sweep(&self, plan: &mut Plan) {
        for (name, seen) in &self.observed.clusters {
            let step = Step::StopProbe(name.clone());
            if seen.probe && !plan.holds(&step) {
                plan.add(step, vec![], "an earlier run left it");
            }
        }
    }

    fn uninstall(&self, plan: &mut Plan, leaver: &ClusterName) {
        let Some(seen) = self.seen(leaver) else {
            return;
        };
        let istiod = Step::UninstallIstiod(leaver.clone());
        let base = Step::UninstallBase(leaver.clone());
        let cacerts = Step::RemoveCacerts(leaver.clone());
        let mut before = self.unlinked(leaver);
        before.push(Step::CloseGateway(leaver.clone()));
        before.push(Step::ForgetMember {
            cluster: leaver.clone(),
            leaver: leaver.clone(),
        });
        let asked = "asked for by --uninstall";
        if self.made(seen, "istiod") {
            plan.add(istiod.clone(), before.clone(), asked);
            plan.deleting(held(seen, "istiod"));
        }
        before.push(istiod);
        let crds = self.crds(seen);
        if self.made(seen, "istio-base") || !crds.is_empty() {
            plan.add(base.clone(), before.clone(), asked);
            plan.deleting(held(seen, "istio-base").chain(crds));
        }
        let stays = self.istiod_stays(seen);
        let left =
            seen.cacerts.as_ref().is_some_and(|c| c.ours) || !seen.published_roots.is_empty();
        if left && seen.claim.is_some() && !stays {
            plan.add(cacerts.clone(), before.clone(), asked);
            plan.deleting(self.cacerts(leaver));
        }
        before.extend([base, cacerts]);
        let deletes = self.namespaces(leaver, seen);
        if !deletes.is_empty() {
            plan.add(Step::RemoveNamespaces(leaver.clone()), before, asked);
            plan.deleting(deletes);
        }
    }
}
