//! What stands against an adoption. Everything is looked at before anything is written.

use semver::Version;

use super::{Planner, Stage};
use crate::{
    chart,
    hint::Hint,
    name::ClusterName,
    observe::{IstioSeen, Seen},
    pki,
    plan::{Refusal, refresh, rotate},
    spec::OLDEST_ISTIO,
    versions::About,
};

impl Planner<'_> {
    /// Every reason against it.
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        if let Some(refusal) = rotate::under_way(self.observed) {
            return vec![refusal];
        }
        if let Some(refusal) = self.without_the_key() {
            return vec![refusal];
        }
        let one = |name: &ClusterName| {
            let seen = self.seen(name)?;
            self.of_another_mesh(name, seen)
                .or_else(|| self.nothing_there(name, seen))
                .or_else(|| self.another_beside(name, seen))
                .or_else(|| self.kept_by_a_tool(name, seen))
                .or_else(|| self.too_old(name, seen))
                .or_else(|| self.other_trust_domain(name, seen))
                .or_else(|| self.values_unknown(name, seen))
                .or_else(|| self.of_another_release(name, seen))
                .or_else(|| self.cacerts_are_kept(name, seen))
                .or_else(|| self.cacerts_are_bad(name, seen))
                .or_else(|| self.loses_requests(name, seen))
                .or_else(|| self.cannot_be_restarted(name))
        };
        self.members.iter().filter_map(|m| one(&m.name)).collect()
    }

    /// Another root would be made for a mesh that has one.
    fn without_the_key(&self) -> Option<Refusal> {
        let claimed = self.observed.root(&self.mesh.id)?;
        if self.observed.vault.root.as_deref() == Some(claimed) {
            return None;
        }
        let reason = format!(
            "the vault on this machine does not hold {}, the root of mesh {}",
            pki::short(claimed),
            self.mesh.id
        );
        let copy = "run meshlink where the mesh was made, or copy that machine's vault folder here";
        Some(Refusal {
            cluster: None,
            reason,
            hints: vec![Hint::note(copy), Hint::meshlink(["ca", "status"])],
        })
    }

    fn istio(&self) -> &str {
        &self.mesh.istio.namespace
    }

    fn of_another_mesh(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let claim = seen.claim.as_ref()?;
        let is_another = claim.mesh != self.mesh.id.as_str();
        is_another.then(|| Refusal::of_another_mesh(name, &claim.mesh, &self.mesh.id))
    }

    fn nothing_there(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        if seen.istiod.present {
            return None;
        }
        let reason = format!(
            "has no Deployment {}/istiod: there is nothing to adopt",
            self.istio()
        );
        let beside = seen.other_istios(self.istio()).next();
        let hint = match beside.and_then(|other| other.object.as_ref()) {
            Some(object) => object.describe(name),
            None => Hint::join_again([name]).remark("installs one"),
        };
        Some(Refusal::by(name, reason, vec![hint]))
    }

    fn another_beside(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let other = seen.other_istios(self.istio()).next()?;
        let reason = format!("has another control plane of Istio beside it: {other}");
        let look = other.object.as_ref().map(|object| object.describe(name));
        Some(Refusal::by(name, reason, look.into_iter().collect()))
    }

    fn main<'s>(&self, seen: &'s Seen) -> Option<&'s IstioSeen> {
        seen.main_istio(self.istio())
    }

    /// What is changed here would be changed back.
    fn kept_by_a_tool(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let main = self.main(seen).filter(|main| main.is_kept)?;
        let reason = format!(
            "has an istiod that {} keeps as it says, and would change back: {main}",
            main.manager
        );
        let (mesh, network) = (
            &self.mesh.id,
            &self.members.iter().find(|m| m.name == *name)?.network,
        );
        let note = format!(
            "set there global.meshID={mesh}, global.network={network}, global.multiCluster.clusterName={name}, \
             env.ISTIO_MULTIROOT_MESH=true and meshConfig.defaultConfig.proxyMetadata.PROXY_CONFIG_XDS_AGENT=true, and \
             read docs/migration.md"
        );
        Some(Refusal::by(name, reason, vec![Hint::note(note)]))
    }

    fn too_old(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let oldest = Version::parse(OLDEST_ISTIO).ok()?;
        let old = seen.istiod.versions.iter().find(|v| **v < oldest)?;
        let reason =
            format!("runs istiod {old}, and {OLDEST_ISTIO} is the oldest that is supported");
        let hint =
            Hint::note("Istio is upgraded one minor version at a time, by whoever installed it");
        Some(Refusal::by(name, reason, vec![hint]))
    }

    /// Every identity and every policy that names one would be another.
    fn other_trust_domain(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let main = self.main(seen)?;
        let theirs = main
            .trust_domain
            .as_deref()
            .filter(|t| *t != self.mesh.trust_domain.as_str())?;
        let reason = format!(
            "has the trust domain {theirs}, and mesh {} has {}: every identity that its policies name would be another",
            self.mesh.id, self.mesh.trust_domain
        );
        let hint = Hint::note(format!(
            "trustDomain: {theirs} in mesh.yaml, if no cluster is a member yet"
        ));
        Some(Refusal::by(name, reason, vec![hint]))
    }

    /// What nobody knows would be lost.
    fn values_unknown(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        if seen.release("istiod", "istiod").is_some() || seen.istiod.values.is_some() {
            return None;
        }
        let istio = self.istio();
        let reason = format!(
            "has an istiod that no release of Helm holds, and no ConfigMap {istio}/values says what it was installed with"
        );
        let words = ["-n", istio, "get", "configmap", "values"];
        Some(Refusal::by(name, reason, vec![Hint::kubectl(name, words)]))
    }

    /// Two releases of Helm that hold one object undo each other's work.
    fn of_another_release(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let wanted = self.desired.clusters.get(name)?;
        for taken in self.taken(name, wanted, seen) {
            let Some(live) = seen.live.get(&taken.object) else {
                continue;
            };
            let held_by = live["metadata"]["annotations"]["meta.helm.sh/release-name"].as_str();
            let (release, space) = taken.release.clone().unwrap_or_default();
            let is_owned = chart::apply::is_owned(live, &release, &space);
            if let (Some(other), false) = (held_by, is_owned) {
                let object = &taken.object;
                let reason = format!(
                    "has {object} in Helm release {other}, and not in {release}, which would change it"
                );
                let words = ["-n", space.as_str(), "list", "--all"];
                return Some(Refusal::by(name, reason, vec![Hint::helm(name, words)]));
            }
        }
        None
    }

    fn cacerts_are_kept(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let keeper = seen.cacerts.as_ref()?.keeper.as_ref()?;
        if self.stage(name) == Stage::Mesh {
            return None;
        }
        let istio = self.istio();
        let reason = format!(
            "has a Secret {istio}/cacerts with another root than the mesh's, which {keeper} keeps writing"
        );
        let words = ["-n", istio, "describe", "secret", "cacerts"];
        let look = Hint::kubectl(name, words);
        let note = Hint::note("end that first, or have it sign under the root of the mesh");
        Some(Refusal::by(name, reason, vec![look, note]))
    }

    fn cacerts_are_bad(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let problems = &seen.cacerts.as_ref()?.problems;
        if problems.is_empty() {
            return None;
        }
        let istio = self.istio();
        let reason = format!(
            "has a Secret {istio}/cacerts that istiod would refuse at its next start: {}",
            problems.join("; ")
        );
        let words = ["-n", istio, "describe", "secret", "cacerts"];
        Some(Refusal::by(name, reason, vec![Hint::kubectl(name, words)]))
    }

    /// A version that drops requests when `cacerts` change.
    fn loses_requests(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        if self.how.accept_gap || self.stage(name) != Stage::Theirs {
            return None;
        }
        let again = ["adopt", name.as_str()];
        let member = (name, &seen.istiod.versions);
        refresh::refusal(&self.mesh.istio.known, member, About::Cacerts, &again)
    }

    /// Pods that no rollout makes anew.
    fn cannot_be_restarted(&self, name: &ClusterName) -> Option<Refusal> {
        let member = self.members.iter().find(|m| m.name == *name)?;
        let stale = self.stale(member);
        let alone = stale.iter().filter(|proxy| !rotate::is_restartable(proxy));
        let alone: Vec<_> = alone.copied().collect();
        let first = alone.first().filter(|_| self.how.restart_workloads)?;
        let reason = format!(
            "runs pods that have to be made anew, which no rollout does: {}",
            super::list(&alone)
        );
        let words = ["-n", first.namespace(), "delete", "pod", &first.pod.name];
        let hint = Hint::kubectl(name, words).remark("and whoever made it makes it anew");
        Some(Refusal::by(name, reason, vec![hint]))
    }
}
