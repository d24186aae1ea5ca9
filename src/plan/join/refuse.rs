//! What stands against a join. Everything is looked at before anything is written.

use std::collections::BTreeMap;

use semver::Version;

use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{CacertsSeen, Observed, Seen},
    pki,
    plan::{Desired, Plan, Refusal, Step, adopt, ownership, rotate},
    spec::{Mesh, OLDEST_ISTIO, OLDEST_KUBERNETES},
};

/// Every reason against the join.
pub(super) fn refusals(mesh: &Mesh, desired: &Desired, observed: &Observed) -> Vec<Refusal> {
    if let Some(refusal) = rotate::under_way(observed) {
        return vec![refusal];
    }
    let mut refusals = same_cluster_twice(observed);
    refusals.extend(too_large(mesh, observed));
    refusals.extend(mesh.clusters.iter().filter_map(|member| {
        let seen = observed.clusters.get(&member.name)?;
        let member = Member {
            mesh,
            name: &member.name,
            seen,
            observed,
        };
        member
            .claimed_by_another_mesh()
            .or_else(|| member.members_left_out())
            .or_else(|| member.peers_forgotten())
            .or_else(|| member.embedded_root())
            .or_else(|| member.root_is_another())
            .or_else(|| member.being_adopted())
            .or_else(|| member.foreign_root())
            .or_else(|| member.old_kubernetes())
            .or_else(|| member.other_istio())
            .or_else(|| member.foreign_istio())
            .or_else(|| member.old_istio())
            .or_else(|| member.runs_without_cacerts())
            .or_else(|| member.made_before())
            .or_else(|| member.loopback_server())
            .or_else(|| member.unexposed(desired))
    }));
    refusals.extend(mesh.clusters.iter().filter_map(|member| {
        let seen = observed.clusters.get(&member.name)?;
        let wanted = desired.clusters.get(&member.name)?;
        let elsewhere = seen.claim.as_ref();
        // One of another mesh is refused as a whole, and what it holds is that mesh's.
        if elsewhere.is_some_and(|c| c.mesh != mesh.id.as_str()) {
            return None;
        }
        ownership::refusal(mesh, &member.name, wanted, seen)
    }));
    refusals
}

/// The most members of which every one is every other's peer, unless that is asked for.
pub(crate) const FULL_MESH: usize = 32;

/// A mesh in which every istiod would hold what so many others do.
fn too_large(mesh: &Mesh, observed: &Observed) -> Option<Refusal> {
    let members = mesh.clusters.len();
    let mut seen = mesh.clusters.iter().map(|m| observed.clusters.get(&m.name));
    let joins = |seen: Option<&Seen>| seen.is_some_and(|s| s.claim.is_none());
    if mesh.peers.is_some() || members <= FULL_MESH || !seen.any(joins) {
        return None;
    }
    let reason = format!(
        "with {members} members that are all each other's peers, every istiod would hold {} other clusters, which may \
         take 180 MB for each",
        members - 1
    );
    let first = &mesh.clusters.first()?.name;
    let names = mesh.clusters.iter().map(|m| m.name.as_str());
    let words = ["join"].into_iter().chain(names);
    let hints = vec![
        Hint::meshlink(words.clone().chain(["--hub", first.as_str()])),
        Hint::meshlink(words.chain(["--full-mesh"])),
        Hint::note("groups of peers are written in a mesh file, under peers:"),
    ];
    Some(Refusal::by(first, reason, hints))
}

/// Every member whose root's key is not here, where a plan needs it. One that does not is anybody's to carry out.
pub(super) fn without_the_key(mesh: &Mesh, observed: &Observed, plan: &Plan) -> Vec<Refusal> {
    let needs = |step: &Step| {
        matches!(
            step,
            Step::CreateRoot
                | Step::ClaimRoot(_)
                | Step::IssueIntermediate(_)
                | Step::InstallCacerts(_)
                | Step::RenewCacerts(_)
        )
    };
    if !plan.steps.iter().any(|planned| needs(&planned.step)) {
        return vec![];
    }
    let members = mesh.clusters.iter();
    let members = members.filter_map(|m| {
        let (name, seen) = (&m.name, observed.clusters.get(&m.name)?);
        Member {
            mesh,
            name,
            seen,
            observed,
        }
        .key_not_here()
    });
    members.collect()
}

struct Member<'a> {
    mesh: &'a Mesh,
    name: &'a ClusterName,
    seen: &'a Seen,
    observed: &'a Observed,
}

impl Member<'_> {
    fn refuse(&self, reason: impl Into<String>, hint: Hint) -> Option<Refusal> {
        Some(Refusal::by(self.name, reason, vec![hint]))
    }

    fn claimed_by_another_mesh(&self) -> Option<Refusal> {
        let claim = self.seen.claim.as_ref()?;
        if claim.mesh == self.mesh.id.as_str() {
            return None;
        }
        let mut refusal = Refusal::of_another_mesh(self.name, &claim.mesh, &self.mesh.id);
        let namespace = &self.mesh.istio.namespace;
        refusal.reason += &format!(": ConfigMap meshlink-root in namespace {namespace} says so");
        Some(refusal)
    }

    /// A join that names fewer members than there are would forget the rest.
    fn members_left_out(&self) -> Option<Refusal> {
        let record = self.seen.record.as_ref()?;
        let named = |n: &ClusterName| self.mesh.clusters.iter().any(|m| m.name == *n);
        let left_out: Vec<_> = record.members.keys().filter(|n| !named(n)).collect();
        let first = left_out.first()?;
        let new = self.mesh.clusters.iter().map(|m| &m.name);
        let new = new.filter(|n| !record.members.contains_key(*n));
        let all = record.members.keys().chain(new);
        let names: Vec<_> = left_out.iter().map(|n| n.as_str()).collect();
        let reason = format!(
            "mesh {} also has {}, which this join does not name",
            self.mesh.id,
            names.join(", ")
        );
        let hints = vec![
            Hint::join(all),
            Hint::meshlink(["leave", first.as_str()]),
            Hint::note("if this is to be another mesh: join with --mesh ANOTHER-NAME"),
        ];
        Some(Refusal::by(self.name, reason, hints))
    }

    /// Links that were chosen are not made more by a run that says nothing of them.
    fn peers_forgotten(&self) -> Option<Refusal> {
        let peers = self.seen.record.as_ref()?.peers.as_ref()?;
        if self.mesh.peers.is_some() || peers.all {
            return None;
        }
        let reason = format!(
            "is a member of mesh {} in which not everybody is everybody's peer, and this join does not say who is",
            self.mesh.id
        );
        let names = self.mesh.clusters.iter().map(|m| m.name.as_str());
        let words = ["join"].into_iter().chain(names);
        let hint = match peers.hubs.first() {
            Some(_) => {
                let hubs = peers.hubs.iter().flat_map(|hub| ["--hub", hub.as_str()]);
                Hint::meshlink(words.chain(hubs))
            }
            None => {
                Hint::note("join with the mesh file that has the groups: meshlink join -f FILE")
            }
        };
        let all = Hint::note("to link every member with every other: --full-mesh");
        Some(Refusal::by(self.name, reason, vec![hint, all]))
    }

    /// What was made for trying things out was made without care for who could read it.
    fn embedded_root(&self) -> Option<Refusal> {
        if self.seen.embedded || !self.observed.vault.embedded {
            return None;
        }
        let reason = format!(
            "is a real cluster, but the root of mesh {} in the vault was made for embedded clusters",
            self.mesh.id
        );
        let own = "join with --mesh ANOTHER-NAME, which makes a root of its own";
        self.refuse(reason, Hint::note(own))
    }

    fn root_is_another(&self) -> Option<Refusal> {
        self.observed.vault.root.as_ref()?;
        self.root_not_here()
    }

    fn root_not_here(&self) -> Option<Refusal> {
        let claim = self.seen.claim.as_ref()?;
        if self.observed.vault.root.as_ref() == Some(&claim.root) {
            return None;
        }
        let here = match &self.observed.vault.root {
            None => "the vault on this machine has none for this mesh".to_owned(),
            Some(root) => format!("the vault on this machine holds {}", pki::short(root)),
        };
        let reason = format!("is bound to root {}, but {here}", pki::short(&claim.root));
        let hints = vec![
            Hint::note(
                "run meshlink where the mesh was made, or copy that machine's vault folder here",
            ),
            Hint::meshlink(["ca", "status"]),
        ];
        Some(Refusal::by(self.name, reason, hints))
    }

    /// Its root is on the way to the mesh's: what a join would write cuts whoever has not followed yet.
    fn being_adopted(&self) -> Option<Refusal> {
        adopt::is_under_way(self.seen).then(|| {
            let reason = "is being adopted, and its own root is not gone yet";
            Refusal::by(self.name, reason, vec![self.adopt().remark("finishes it")])
        })
    }

    fn adopt(&self) -> Hint {
        Hint::meshlink(["adopt", self.name.as_str()])
    }

    /// Their proxies would be sent to pods of other members by address, and be known by another name.
    fn made_before(&self) -> Option<Refusal> {
        let pods = &self.seen.elsewhere;
        let first: Vec<_> = pods.iter().take(8).map(String::as_str).collect();
        if first.is_empty() {
            return None;
        }
        let more = match pods.len() - first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let reason = format!(
            "runs pods whose proxies were made before it was a member, and take pods of other members to be near: {}{more}",
            first.join(", ")
        );
        let again = Hint::meshlink(["adopt", self.name.as_str(), "--restart-workloads"]);
        let again = again.remark("restarts exactly these, one namespace after the other");
        Some(Refusal::by(self.name, reason, vec![again]))
    }

    /// It is known, and somebody else signs under it, who is not named any more.
    fn key_not_here(&self) -> Option<Refusal> {
        let claim = self.seen.claim.as_ref();
        let root = claim.map(|claim| &claim.root);
        if !root.is_some_and(|root| self.observed.vault.elsewhere.contains(root)) {
            return self.root_not_here();
        }
        let reason = format!(
            "is bound to root {}, whose key somebody else has, who is not named in trust.authority",
            pki::short(root?)
        );
        let rotate = Hint::meshlink(["rotate", "root"]);
        let hints = vec![
            Hint::note("name in trust.authority of the mesh file who was named there before"),
            rotate.remark("lets a root of the one who is named now take its place"),
        ];
        Some(Refusal::by(self.name, reason, hints))
    }

    fn foreign_root(&self) -> Option<Refusal> {
        let CacertsSeen {
            roots,
            problems,
            ours,
            ..
        } = self.seen.cacerts.as_ref()?;
        if !problems.is_empty() && !ours {
            let reason = format!(
                "has a Secret cacerts that meshlink did not make and istiod would refuse: {}",
                problems.join("; ")
            );
            return self.refuse(reason, self.look_at_cacerts());
        }
        let vault = self.observed.vault.root.as_deref();
        let mesh = vault.or_else(|| self.observed.root(&self.mesh.id));
        // What somebody has put beside the mesh's root in a Secret of ours is taken out again.
        let is_ours = *ours && roots.iter().any(|root| Some(root.as_str()) == mesh);
        let root = roots.iter().find(|root| Some(root.as_str()) != mesh)?;
        if is_ours || !problems.is_empty() {
            return None;
        }
        let reason = format!(
            "has a Secret cacerts with root {}, which is not this mesh's: \
             replacing it would cut every workload that trusts it",
            pki::short(root)
        );
        let lead = self
            .adopt()
            .remark("leads from that root to the mesh's with no request lost");
        let hints = vec![lead, self.look_at_cacerts()];
        Some(Refusal::by(self.name, reason, hints))
    }

    /// Its keys by name and size, and its labels: what they hold is no sight for a terminal.
    fn look_at_cacerts(&self) -> Hint {
        let istio = self.mesh.istio.namespace.as_str();
        Hint::kubectl(self.name, ["-n", istio, "describe", "secret", "cacerts"])
    }

    /// Two control planes in one cluster write the same ConfigMaps, webhooks and roots.
    fn other_istio(&self) -> Option<Refusal> {
        let istio = self.mesh.istio.namespace.as_str();
        let others: Vec<_> = self.seen.other_istios(istio).collect();
        let first = others.first()?;
        let told: Vec<_> = others.iter().map(ToString::to_string).collect();
        let reason = format!(
            "already runs an Istio, and a join would put a second control plane beside it: {}",
            told.join(", and ")
        );
        let look = first
            .object
            .as_ref()
            .map(|object| object.describe(self.name));
        let only = Hint::note(format!(
            "a member has one control plane: Deployment {istio}/istiod, without a revision. Take the other away when nothing uses it any more"
        ));
        let hints = look.into_iter().chain([only]);
        Some(Refusal::by(self.name, reason, hints.collect()))
    }

    fn foreign_istio(&self) -> Option<Refusal> {
        let owner = self.seen.istiod.foreign.as_ref()?;
        let istio = self.mesh.istio.namespace.as_str();
        let is = self.seen.main_istio(istio);
        let is = is.map(|is| format!(": {is}")).unwrap_or_default();
        let reason = format!(
            "already runs an istiod that meshlink did not install: it is managed by {owner}{is}"
        );
        let words = ["-n", istio, "get", "deploy", "istiod", "--show-labels"];
        let hints = vec![self.adopt(), Hint::kubectl(self.name, words)];
        Some(Refusal::by(self.name, reason, hints))
    }

    /// What has never been tried is not tried on somebody's cluster.
    fn old_kubernetes(&self) -> Option<Refusal> {
        let version = self.seen.kubernetes.trim_start_matches('v');
        let oldest = Version::parse(OLDEST_KUBERNETES).ok()?;
        if Version::parse(version).ok()? >= oldest {
            return None;
        }
        let reason = format!(
            "runs Kubernetes {version}, which is not supported: {OLDEST_KUBERNETES} or newer is"
        );
        self.refuse(reason, Hint::kubectl(self.name, ["version"]))
    }

    /// Istio is not upgraded over several versions at once.
    fn old_istio(&self) -> Option<Refusal> {
        let oldest = Version::parse(OLDEST_ISTIO).ok()?;
        let old = self.seen.istiod.versions.iter().find(|v| **v < oldest)?;
        let reason = format!(
            "runs istiod {old}, which is not supported: {OLDEST_ISTIO} or newer is, and Istio is \
             upgraded one minor version at a time"
        );
        let istio = self.mesh.istio.namespace.as_str();
        self.refuse(reason, Hint::helm(self.name, ["-n", istio, "list"]))
    }

    /// A running istiod that signs with a root of its own: new `cacerts` would cut its workloads.
    fn runs_without_cacerts(&self) -> Option<Refusal> {
        let ours = self.seen.claim.is_some();
        if ours || !self.seen.istiod.present || self.seen.cacerts.is_some() {
            return None;
        }
        let istio = self.mesh.istio.namespace.as_str();
        let is = self.seen.main_istio(istio);
        let is = is.map(|is| format!(": {is}")).unwrap_or_default();
        let reason = format!(
            "runs an istiod that signs with a root of its own; joining would replace \
             that root, and every workload would have to be restarted at once{is}"
        );
        let lead = self
            .adopt()
            .remark("leads from that root to the mesh's with no request lost");
        let hint = Hint::helm(self.name, ["-n", istio, "uninstall", "istiod"]);
        let hints = vec![lead, hint.remark("if nothing uses it yet")];
        Some(Refusal::by(self.name, reason, hints))
    }

    /// What the mesh file asks of the load balancer is done or refused, never passed over.
    fn unexposed(&self, desired: &Desired) -> Option<Refusal> {
        let wanted = desired.clusters.get(self.name)?;
        let reason = wanted.unexposed.clone()?;
        Some(Refusal::by(self.name, reason, vec![]))
    }

    /// What `127.0.0.1` means differs from pod to pod.
    fn loopback_server(&self) -> Option<Refusal> {
        let member = self.mesh.clusters.iter().find(|m| m.name == *self.name)?;
        let (what, server) = match &member.peer_server {
            Some(server) => ("peerServer", server),
            None => ("API server address", &self.seen.server),
        };
        if self.seen.embedded || !is_loopback(server) {
            return None;
        }
        let reason = format!("has the {what} {server}, which its peers' istiods cannot use");
        let set = "set clusters[].peerServer in mesh.yaml to an address pods can reach";
        self.refuse(reason, Hint::note(set))
    }
}

/// Two names for one cluster: joining it with itself would look fine and mean nothing.
fn same_cluster_twice(observed: &Observed) -> Vec<Refusal> {
    let mut by_uid: BTreeMap<&str, Vec<&ClusterName>> = BTreeMap::new();
    for (name, seen) in observed.clusters.iter().filter(|(_, s)| !s.uid.is_empty()) {
        by_uid.entry(&seen.uid).or_default().push(name);
    }
    let twice = by_uid.into_values().filter(|names| names.len() > 1);
    twice
        .map(|names| {
            let list: Vec<_> = names.iter().map(ToString::to_string).collect();
            Refusal {
                cluster: None,
                reason: format!("{} are one and the same cluster", list.join(" and ")),
                hints: vec![Hint::command(["kubectl", "config", "get-contexts"])],
            }
        })
        .collect()
}

/// Whether an API server's address means another machine to whoever uses it.
pub(crate) fn is_loopback(server: &str) -> bool {
    let host = server.split("://").last().unwrap_or(server);
    let host = host.split('/').next().unwrap_or(host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.rsplit_once(':').map_or(host, |(h, _)| h),
    };
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_were_never_tried_are_refused() {
        let mesh = Mesh::named(&["a".into()]).unwrap();
        let seen = |kubernetes: &str, istiod: &[&str]| {
            let mut seen = Seen {
                kubernetes: kubernetes.into(),
                embedded: true,
                ..Seen::default()
            };
            seen.istiod.versions = istiod.iter().map(|v| v.parse().unwrap()).collect();
            let clusters = [("a".parse().unwrap(), seen)].into();
            let vault = crate::observe::VaultSeen::default();
            let observed = Observed {
                vault,
                clusters,
                ..Observed::default()
            };
            let found = refusals(&mesh, &Desired::default(), &observed);
            found.iter().map(ToString::to_string).collect::<String>()
        };
        assert_eq!(seen("v1.36.3", &["1.31.4"]), "");
        assert_eq!(seen("v1.28.0", &["1.24.0"]), "");
        let old = seen("v1.27.16", &[]);
        assert!(
            old.contains("runs Kubernetes 1.27.16") && old.contains("1.28.0 or newer"),
            "{old}"
        );
        let old = seen("v1.36.3", &["1.31.4", "1.20.8"]);
        assert!(
            old.contains("runs istiod 1.20.8") && old.contains("1.24.0 or newer"),
            "{old}"
        );
    }

    #[test]
    fn loopback_is_found_in_every_spelling() {
        for server in [
            "https://127.0.0.1:6443",
            "https://localhost",
            "https://[::1]:1/x",
            "https://127.1.2.3:1",
        ] {
            assert!(is_loopback(server), "{server}");
        }
        for server in [
            "https://198.18.0.1:6443",
            "https://x.eks.amazonaws.com",
            "https://[fd00::1]:6443",
        ] {
            assert!(!is_loopback(server), "{server}");
        }
    }
}
