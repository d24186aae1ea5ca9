//! What is to be done for a cluster that came with an Istio to become fit for a mesh, with no request lost: from how far it has
//! come to the steps that are missing. A join does the rest.
//!
//! | its root | `cacerts` | goes on when |
//! | --- | --- | --- |
//! | theirs | their signer; trusts theirs alone | the mesh's root is written beside it |
//! | both | their signer; trusts both | everything trusts both |
//! | signing | an intermediate of the mesh; trusts both and a throw-away root | no proxy shows a certificate of theirs |
//! | the mesh's | an intermediate of the mesh; trusts its root alone | nothing trusts theirs |
//!
//! Clusters that were one mesh before are adopted together: none begins a phase before all have ended the one before. The
//! claim comes last, so until then the cluster is no member, and a join of it is refused.

use std::{collections::BTreeMap, time::Duration};

use super::{Desired, Note, Plan, Refusal, Step, Wanted, join};
use crate::{
    cluster::{Kind, Ref, access},
    hint::Hint,
    name::ClusterName,
    observe::{CacertsSeen, Observed, PlaceSeen, Proxy, Seen},
    plan::ownership::foreign_to,
    spec::{Member, Mesh},
};

mod refuse;

/// How clusters are adopted.
#[derive(Debug, Clone, Default)]
pub struct Adopt {
    /// Which.
    pub members: Vec<ClusterName>,
    /// Restart the workloads whose proxies were made before. Without it, what waits for that is not begun.
    pub restart_workloads: bool,
    /// How long kubelets take at most to bring a changed ConfigMap into a pod that runs.
    pub projected: Option<Duration>,
    /// Begin it though the version of an istiod loses requests by a change of root.
    pub accept_gap: bool,
}

/// Something of somebody else's that a step hands over, and no other of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which.
    pub object: Ref,
    /// Its UID.
    pub uid: String,
    /// The release that holds it from then on, by name and namespace; meshlink itself without one.
    pub release: Option<(String, String)>,
}

impl serde::Serialize for Taken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.object)
    }
}

/// How far the root of an adopted cluster has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It signs under a root of its own and trusts no other.
    Theirs,
    /// It trusts the mesh's too.
    Both,
    /// It signs under the mesh's, and trusts others beside it.
    Signing,
    /// It signs under the mesh's and trusts no other.
    Mesh,
}

impl Stage {
    fn of(cacerts: Option<&CacertsSeen>, root: Option<&str>) -> Self {
        let Some((cacerts, root)) = cacerts.zip(root) else {
            return Self::Theirs;
        };
        let is_under = cacerts.under.as_deref() == Some(root);
        let holds = cacerts.roots.iter().any(|r| r == root);
        match (is_under, holds) {
            (true, _) if cacerts.roots.len() == 1 => Self::Mesh,
            (true, _) => Self::Signing,
            (false, true) => Self::Both,
            (false, false) => Self::Theirs,
        }
    }
}

/// Whether a cluster is on the way from its own root to a mesh's: what is then in its `cacerts` is no join's to change.
pub(crate) fn is_under_way(seen: &Seen) -> bool {
    let cacerts = seen.cacerts.as_ref();
    seen.claim.is_none() && cacerts.is_some_and(|c| c.ours && c.roots.len() > 1)
}

/// The members whose Istio is somebody else's, and that an adoption could make fit.
pub(crate) fn candidates(mesh: &Mesh, observed: &Observed) -> Vec<ClusterName> {
    let istio = mesh.istio.namespace.as_str();
    let is_one = |seen: &Seen| {
        let came = seen.main_istio(istio).is_some();
        let made = seen.release("istiod", "istiod");
        let made = made.is_some_and(|(_, r)| r.made_for == mesh.id.as_str());
        seen.claim.is_none() && came && !made
    };
    let members = mesh.clusters.iter().map(|m| &m.name);
    let found = members.filter(|name| observed.clusters.get(*name).is_some_and(is_one));
    found.cloned().collect()
}

/// The steps of an adoption, or every reason against it at once.
pub(crate) fn adopt(
    mesh: &Mesh,
    desired: &Desired,
    observed: &Observed,
    how: &Adopt,
) -> Result<Plan, Vec<Refusal>> {
    let members: Vec<_> = mesh
        .clusters
        .iter()
        .filter(|m| how.members.contains(&m.name))
        .collect();
    let planner = Planner {
        mesh,
        desired,
        observed,
        how,
        members,
    };
    let refusals = planner.refusals();
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = Plan::default();
    planner.plan(&mut plan);
    Ok(plan.finished())
}

struct Planner<'a> {
    mesh: &'a Mesh,
    desired: &'a Desired,
    observed: &'a Observed,
    how: &'a Adopt,
    members: Vec<&'a Member>,
}

impl<'a> Planner<'a> {
    fn seen(&self, name: &ClusterName) -> Option<&'a Seen> {
        self.observed.clusters.get(name)
    }

    /// The root that they are led to; none where it is yet to be made.
    fn root(&self) -> Option<&'a str> {
        let vault = self.observed.vault.root.as_deref();
        vault.or_else(|| self.observed.root(&self.mesh.id))
    }

    fn stage(&self, name: &ClusterName) -> Stage {
        let cacerts = self.seen(name).and_then(|seen| seen.cacerts.as_ref());
        Stage::of(cacerts, self.root())
    }

    /// The step in every member.
    fn all(&self, step: fn(ClusterName) -> Step) -> Vec<Step> {
        let names = self.members.iter().map(|m| m.name.clone());
        names.map(step).collect()
    }

    fn plan(&self, plan: &mut Plan) {
        if self.root().is_none() {
            let why = "the vault has no root for this mesh";
            plan.add(Step::CreateRoot, vec![], why);
        }
        let mut stale = BTreeMap::new();
        for member in &self.members {
            self.install(plan, &member.name);
            let found = self.stale(member);
            if !found.is_empty() {
                stale.insert(&member.name, (*member, found));
            }
        }
        if self.how.restart_workloads {
            for (name, (member, found)) in &stale {
                let why = format!("made before it was to be a member: {}", list(found));
                let needs = vec![Step::AwaitIstiod(member.name.clone())];
                plan.add(Step::RestartWorkloads((*name).clone()), needs, why);
            }
        }
        let is_done = |m: &&Member| self.stage(&m.name) == Stage::Mesh;
        let waits = !stale.is_empty() && !self.how.restart_workloads;
        if waits {
            plan.notes.extend(self.restarts(&stale));
        }
        // What cannot follow a change of root would hold it for half a day.
        if self.members.iter().all(is_done) {
            self.claim(plan, vec![]);
        } else if !waits {
            self.replace_root(plan);
        }
    }

    /// What is handed over, the root beside theirs, and istiod as a member's has to be.
    fn install(&self, plan: &mut Plan, name: &ClusterName) {
        let (Some(wanted), Some(seen)) = (self.desired.clusters.get(name), self.seen(name)) else {
            return;
        };
        let taken = self.taken(name, wanted, seen);
        let hand = Step::HandOver(name.clone());
        if !taken.is_empty() {
            let why = "it is to be changed, and not by whoever made it any more";
            plan.add(hand.clone(), vec![Step::CreateRoot], why);
            plan.taking(taken);
        }
        let trust = Step::TrustRoot(name.clone());
        if self.stage(name) == Stage::Theirs {
            let why = match &seen.cacerts {
                Some(_) => "its cacerts do not hold the mesh's root",
                None => "it signs with a root of its own, in Secret istio-ca-secret",
            };
            let needs = vec![Step::CreateRoot, hand.clone()];
            plan.add(trust.clone(), needs, why);
        }
        let base = Step::InstallBase(name.clone());
        let needs = vec![hand.clone(), trust.clone(), Step::CreateRoot];
        join::bring(
            plan,
            (name, base.clone()),
            needs.clone(),
            &wanted.base,
            seen,
        );
        let needs = [needs, vec![base]].concat();
        let istiod = Step::InstallIstiod(name.clone());
        join::bring(plan, (name, istiod.clone()), needs, &wanted.istiod, seen);
        let is_new = seen.cacerts.is_none() && plan.holds(&trust);
        if is_new && !plan.holds(&istiod) {
            let why = "istiod runs without these cacerts";
            plan.add(Step::RestartIstiod(name.clone()), vec![trust], why);
        }
        let restart = Step::RestartIstiod(name.clone());
        if plan.holds(&istiod) || plan.holds(&restart) || !seen.istiod.available {
            let why = "istiod is changed";
            plan.add(Step::AwaitIstiod(name.clone()), vec![istiod, restart], why);
        }
    }

    fn replace_root(&self, plan: &mut Plan) {
        let mut before = self.all(Step::TrustRoot);
        before.extend(self.all(Step::AwaitIstiod));
        before.extend(self.all(Step::RestartWorkloads));
        let phases: [(Stage, fn(ClusterName) -> Step, &str); 3] = [
            (
                Stage::Both,
                Step::SpreadRoot,
                "not everything may trust the mesh's root yet",
            ),
            (
                Stage::Signing,
                Step::ReplaceSigner,
                "it signs under a root of its own",
            ),
            (
                Stage::Mesh,
                Step::DropRoot,
                "its own root may be trusted yet",
            ),
        ];
        for (stage, step, why) in phases {
            let mut all = vec![];
            for member in &self.members {
                // What has been written is yet to be seen everywhere.
                if self.stage(&member.name) <= stage && self.stage(&member.name) < Stage::Mesh {
                    plan.add(step(member.name.clone()), before.clone(), why);
                    all.push(step(member.name.clone()));
                }
            }
            before.extend(all);
        }
        self.claim(plan, before);
    }

    /// In the order of all claims.
    fn claim(&self, plan: &mut Plan, before: Vec<Step>) {
        let mut order: Vec<_> = self.members.iter().map(|m| &m.name).collect();
        order.sort_by_key(|name| self.seen(name).map(|seen| &seen.uid));
        let mut needs = before;
        needs.push(Step::CreateRoot);
        needs.extend(self.all(Step::AwaitIstiod));
        for name in order {
            if self.seen(name).is_some_and(|seen| seen.claim.is_none()) {
                let claim = Step::ClaimRoot(name.clone());
                plan.add(claim.clone(), needs.clone(), "not bound to a root yet");
                needs.push(claim);
            }
        }
    }

    /// What is not ours and is to be changed: by the releases, and under names of our own.
    fn taken(&self, name: &ClusterName, wanted: &Wanted, seen: &Seen) -> Vec<Taken> {
        let owner = seen.owner(&self.mesh.id, name);
        let one = |object: Ref, release: Option<(String, String)>| {
            let live = seen.live.get(&object)?;
            let whose = match &release {
                Some((name, space)) => foreign_to((name, space), live, &owner),
                None => owner.whose(live),
            };
            let uid = live["metadata"]["uid"].as_str()?.to_owned();
            whose.map(|_| Taken {
                object,
                uid,
                release,
            })
        };
        let mut all = vec![];
        for release in [&wanted.base, &wanted.istiod] {
            let refs = release.objects();
            let refs = refs.filter_map(|o| super::desire::reference(o, &release.namespace));
            let at = || Some((release.name.clone(), release.namespace.clone()));
            all.extend(refs.filter_map(|object| one(object, at())));
        }
        let peers = self.mesh.clusters.iter().map(|m| &m.name);
        let peers = peers.filter(|peer| *peer != name);
        all.extend(peers.filter_map(|peer| one(access::remote_name(peer), None)));
        if self.stage(name) != Stage::Mesh {
            let istio = self.mesh.istio.namespace.as_str();
            let theirs = seen.cacerts.as_ref().filter(|cacerts| !cacerts.ours);
            all.extend(theirs.map(|cacerts| Taken {
                object: Ref::namespaced(&Kind::SECRET, istio, "cacerts"),
                uid: cacerts.uid.clone(),
                release: None,
            }));
        }
        all
    }

    /// The proxies that were told of another place, or cannot follow a change of root that is to come.
    fn stale(&self, member: &Member) -> Vec<&'a Proxy> {
        let trust = self.seen(&member.name).and_then(|seen| seen.trust.as_ref());
        let proxies = trust.into_iter().flat_map(|trust| &trust.proxies);
        let follows = self.stage(&member.name) == Stage::Mesh;
        let is_stale = move |proxy: &&Proxy| is_stale(proxy, member, !follows);
        proxies.filter(is_stale).collect()
    }

    /// What is to be restarted, namespace by namespace, each with the reason and the command.
    fn restarts(&self, stale: &BTreeMap<&ClusterName, (&Member, Vec<&Proxy>)>) -> Vec<Note> {
        let mut notes = vec![];
        for (name, (member, proxies)) in stale {
            let mut spaces: BTreeMap<&str, Vec<&Proxy>> = BTreeMap::new();
            for proxy in proxies {
                spaces.entry(proxy.namespace()).or_default().push(proxy);
            }
            for (space, proxies) in spaces {
                let why: std::collections::BTreeSet<_> =
                    proxies.iter().map(|proxy| reason(proxy, member)).collect();
                let why: Vec<_> = why.into_iter().collect();
                let text = format!(
                    "{name}: restart what runs in namespace {space} before the join ({}): {}",
                    why.join("; "),
                    list(&proxies)
                );
                let words = ["-n", space, "rollout", "restart", "deployment"];
                notes.push(Note::with(text, vec![Hint::kubectl(name, words)]));
            }
        }
        let names = self.members.iter().map(|m| m.name.as_str());
        let words = ["adopt"].into_iter().chain(names);
        let all = Hint::meshlink(words.chain(["--restart-workloads"]));
        let text = "an adoption goes on when these have been restarted".to_owned();
        let remark = "restarts exactly these, one namespace after the other";
        notes.push(Note::with(text, vec![all.remark(remark)]));
        notes
    }
}

/// Whether a proxy's pod has to be made anew for its cluster to be this member.
pub(crate) fn is_stale(proxy: &Proxy, member: &Member, root_changes: bool) -> bool {
    let here = PlaceSeen {
        cluster: member.name.to_string(),
        network: member.network.to_string(),
    };
    proxy.place != here || root_changes && !proxy.follows
}

fn reason(proxy: &Proxy, member: &Member) -> String {
    let mut all = vec![];
    if proxy.place.cluster != member.name.as_str() {
        all.push(format!("they call the cluster {}", proxy.place.cluster));
    }
    match proxy.place.network.as_str() {
        network if network == member.network.as_str() => {}
        "" => all.push(
            "they are on no network, so that pods of other members are taken to be near".into(),
        ),
        network => all.push(format!("they are on network {network}")),
    }
    if !proxy.follows {
        all.push("they cannot follow a change of root".into());
    }
    all.join(", ")
}

/// Pods by name, as many as can be read at a glance.
fn list(proxies: &[&Proxy]) -> String {
    const SHOWN: usize = 8;
    let names = proxies.iter().take(SHOWN).map(|proxy| proxy.name());
    let names = names.collect::<Vec<_>>().join(", ");
    match proxies.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{names} and {more} more"),
        None => names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_root_has_come_is_told_by_the_secret_alone() {
        let stage = |under: &str, roots: &[&str]| {
            let cacerts = CacertsSeen {
                roots: roots.iter().map(|r| (*r).to_owned()).collect(),
                under: Some(under.to_owned()),
                ..CacertsSeen::default()
            };
            Stage::of(Some(&cacerts), Some("mesh"))
        };
        assert_eq!(stage("theirs", &["theirs"]), Stage::Theirs);
        assert_eq!(stage("theirs", &["theirs", "mesh"]), Stage::Both);
        assert_eq!(stage("mesh", &["theirs", "mesh", "spare"]), Stage::Signing);
        assert_eq!(stage("mesh", &["mesh"]), Stage::Mesh);
        assert_eq!(Stage::of(None, Some("mesh")), Stage::Theirs);
    }

    #[test]
    fn until_the_root_is_the_meshs_a_join_keeps_away() {
        let seen = |ours: bool, roots: usize| Seen {
            cacerts: Some(CacertsSeen {
                ours,
                roots: vec![String::new(); roots],
                ..CacertsSeen::default()
            }),
            ..Seen::default()
        };
        assert!(is_under_way(&seen(true, 2)));
        assert!(!is_under_way(&seen(true, 1)) && !is_under_way(&seen(false, 2)));
        assert!(!is_under_way(&Seen::default()));
    }
}
