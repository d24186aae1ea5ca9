//! Proof that each cluster reaches the others.
//!
//! A [`Verdict`] is a list of [`Check`]s, each naming the evidence it rests on. What was not tried
//! says so; nothing is inferred. "Synced" and "healthy" prove nothing alone: istiod says `synced`
//! of a peer whose token has expired, and Envoy calls a pod address of another network healthy.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    hint::Hint,
    name::{ClusterName, MeshId},
    spec::{Mesh, Peers},
};

mod expiry;
pub(crate) mod istiod;
mod istios;
mod mesh;
pub(crate) mod pair;
mod roots;
pub(crate) mod rotation;
pub(crate) mod service;
mod token;
pub(crate) mod traffic;

pub(crate) use mesh::{Depth, Verifier, verify};
pub(crate) use traffic::Asked;

/// What was found about one claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The claim's name: stable, documented, the same everywhere.
    pub id: Claim,
    /// The cluster it is about, or that looks.
    pub from: String,
    /// The peer it is about, where it is about a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What was found.
    pub outcome: Outcome,
    /// What was looked at, and what it said.
    pub evidence: String,
    /// What to do about it.
    #[serde(default)]
    pub hints: Vec<Hint>,
}

/// The claims a verdict is made of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// A cluster that was named is a member of the mesh.
    Member,
    /// The mesh has two members at least: one alone has no pair that could be proved.
    Peers,
    /// The member's API server answers, and could be read. Said only where that is not so.
    Reachable,
    /// The members' istiods publish one and the same root.
    SameRoot,
    /// A root that the member trusts is valid, and goes on for a while. This claim and the four below are said only where
    /// that is not so.
    RootValid,
    /// The intermediate in the member's `cacerts` is.
    IntermediateValid,
    /// What the member's istiod signs with is what is in `cacerts`.
    SigningValid,
    /// The token by which `from` reads `to` is valid, and not too old.
    TokenValid,
    /// The CA by which `from` knows `to`'s API server is valid.
    ApiCaValid,
    /// istiod is available.
    IstiodReady,
    /// No other control plane of Istio is in the cluster, and this one is the mesh's. Said only where that is not so.
    OneIstio,
    /// The gateway is available, has an address, and 15443 is opened by a `Gateway` object.
    GatewayReady,
    /// The members are on different networks.
    OwnNetwork,
    /// `from` holds a remote secret for `to` that is well-formed, current and works.
    Configured,
    /// Every istiod replica in `from` has synced with `to`.
    Synced,
    /// `from`'s istiod knows `to`'s gateway, by the addresses DNS and the Service give.
    GatewayKnown,
    /// The proxy in `from` holds exactly those addresses for `to`, and no pod address of `to`.
    Endpoints,
    /// `to` answered requests sent from `from`, through the proxies.
    Proved,
    /// Each address of `to`'s gateway carries traffic from `from` by itself.
    Addresses,
    /// `from` and `to` saw each other's certificates, and they are those of the probes.
    Identity,
    /// gRPC calls are answered, as requests are.
    Grpc,
    /// TCP connections that no proxy looks into are answered, as requests are.
    Tcp,
    /// `to`'s gateway passes Services on that have no address of their own.
    Headless,
    /// The cluster has the Service that was asked for.
    ServiceThere,
    /// It has the same ports as in the first cluster that has it.
    ServiceAlike,
    /// A proxy in `from` holds what is ready in `to`, by its gateway where that is another cluster.
    ServiceEndpoints,
}

/// What was found about a claim.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// True, by the evidence named.
    Ok,
    /// True, but something about it needs attention.
    Warning,
    /// Not tried.
    NotTried,
    /// False, by the evidence named.
    Failed,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The members, in the mesh's order.
    pub clusters: Vec<String>,
    /// Who of them is whose peer, where not every member is of every other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
    /// What was found, claim by claim.
    pub checks: Vec<Check>,
    /// When each pair was proved, `eks-1/eks-2`, where an earlier run did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub proved_at: BTreeMap<String, jiff::Timestamp>,
    /// What was asked and answered, way by way and address by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Asked>,
    /// What was seen of the Service that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<service::ServiceSeen>,
}

/// One cell of the matrix: what is known of `from` reaching `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The remote secret.
    pub configured: Outcome,
    /// istiod.
    pub synced: Outcome,
    /// The proxy.
    pub endpoints: Outcome,
    /// Traffic.
    pub proved: Outcome,
}

impl Claim {
    /// The name as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Peers => "peers",
            Self::Reachable => "reachable",
            Self::SameRoot => "same-root",
            Self::RootValid => "root-valid",
            Self::IntermediateValid => "intermediate-valid",
            Self::SigningValid => "signing-valid",
            Self::TokenValid => "token-valid",
            Self::ApiCaValid => "api-ca-valid",
            Self::IstiodReady => "istiod-ready",
            Self::OneIstio => "one-istio",
            Self::GatewayReady => "gateway-ready",
            Self::OwnNetwork => "own-network",
            Self::Configured => "configured",
            Self::Synced => "synced",
            Self::GatewayKnown => "gateway-known",
            Self::Endpoints => "endpoints",
            Self::Proved => "proved",
            Self::Addresses => "addresses",
            Self::Identity => "identity",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Headless => "headless",
            Self::ServiceThere => "service-there",
            Self::ServiceAlike => "service-alike",
            Self::ServiceEndpoints => "service-endpoints",
        }
    }

    /// What only traffic shows.
    pub const TRAFFIC: [Self; 6] = [
        Self::Proved,
        Self::Addresses,
        Self::Identity,
        Self::Grpc,
        Self::Tcp,
        Self::Headless,
    ];
}

/// How it is said that a cluster which was named is not a member.
pub(crate) fn no_member(name: &ClusterName, mesh: &MeshId, members: &[&str]) -> String {
    let members = match members {
        [] => "no members".to_owned(),
        members => members.join(", "),
    };
    format!("{name} is not a member of mesh {mesh}, which has {members}")
}

/// What one cluster is found to hold of another.
fn check(
    id: Claim,
    from: impl AsRef<str>,
    to: impl AsRef<str>,
    outcome: Outcome,
    evidence: String,
    hints: Vec<Hint>,
) -> Check {
    Check {
        id,
        from: from.as_ref().into(),
        to: Some(to.as_ref().into()),
        outcome,
        evidence,
        hints,
    }
}

/// What a check is about: claim, from, to.
type Place = (Claim, String, Option<String>);

impl Check {
    fn place(&self) -> Place {
        (self.id, self.from.clone(), self.to.clone())
    }

    /// `endpoints/eks-1/eks-2`.
    pub fn path(&self) -> String {
        let to = self
            .to
            .as_ref()
            .map(|to| format!("/{to}"))
            .unwrap_or_default();
        format!("{}/{}{to}", self.id.as_str(), self.from)
    }
}

impl Verdict {
    /// Whether nothing failed.
    pub fn holds(&self) -> bool {
        self.failed().next().is_none()
    }

    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| c.outcome == Outcome::Failed)
    }

    /// Whether every pair was proved by traffic.
    pub fn is_proved(&self) -> bool {
        let matrix = self.matrix();
        !matrix.is_empty() && matrix.values().all(|cell| cell.proved == Outcome::Ok)
    }

    /// The first pair of which nothing was asked, not even its istiods; none means that every pair was looked at.
    pub(crate) fn unasked(&self) -> Option<(&str, &str)> {
        let matrix = self.matrix();
        let unasked = |cell: &Cell| {
            let stages = [cell.configured, cell.synced];
            stages.contains(&Outcome::NotTried)
        };
        let mut pairs = matrix.into_iter();
        pairs.find(|(_, cell)| unasked(cell)).map(|(pair, _)| pair)
    }

    /// The first pair that no request is known to have crossed.
    pub(crate) fn unproved(&self) -> Option<(&str, &str)> {
        let mut pairs = self.matrix().into_iter();
        pairs
            .find(|(_, cell)| cell.proved != Outcome::Ok)
            .map(|(pair, _)| pair)
    }

    /// With a failed claim for each cluster that was named and is not a member.
    #[must_use]
    pub(crate) fn with_strangers(mut self, mesh: &Mesh, strangers: &[ClusterName]) -> Self {
        let members = mesh.members();
        let one = |name: &ClusterName| Check {
            id: Claim::Member,
            from: name.to_string(),
            to: None,
            outcome: Outcome::Failed,
            evidence: no_member(name, &mesh.id, &members),
            hints: vec![Hint::join_again([name])],
        };
        self.checks.splice(..0, strangers.iter().map(one));
        self
    }

    /// Takes over what proofs have found, in the place of what was known of the same before.
    pub fn take(&mut self, proofs: impl IntoIterator<Item = Self>) {
        let shows = |check: &Check| {
            let of_proxy = check.id == Claim::SameRoot && check.outcome == Outcome::Failed;
            of_proxy || check.id == Claim::Endpoints || Claim::TRAFFIC.contains(&check.id)
        };
        let mut known: BTreeMap<Place, Vec<Check>> = BTreeMap::new();
        for check in std::mem::take(&mut self.checks) {
            known.entry(check.place()).or_default().push(check);
        }
        for proof in proofs {
            if let [from, to] = proof.clusters.as_slice() {
                self.proved_at.remove(&format!("{from}/{to}"));
            }
            for check in proof.checks.into_iter().filter(shows) {
                known.insert(check.place(), vec![check]);
            }
            self.traffic.extend(proof.traffic);
            if let [from, to] = proof.clusters.as_slice() {
                self.proved_at.remove(&format!("{from}/{to}"));
            }
        }
        self.checks = known.into_values().flatten().collect();
    }

    /// What the proofs of every ordered pair say together; none if one is missing. What several pairs say of the same is
    /// as bad as the worst of them.
    pub(crate) fn of_pairs<'v>(
        clusters: Vec<String>,
        peers: Option<Peers>,
        proofs: impl IntoIterator<Item = &'v Self>,
    ) -> Option<Self> {
        let (mut checks, mut traffic) = (BTreeMap::new(), vec![]);
        let mut proved = BTreeSet::new();
        for proof in proofs {
            if let [from, to] = proof.clusters.as_slice() {
                proved.insert((from.as_str(), to.as_str()));
            }
            for check in &proof.checks {
                let key = (check.id, &check.from, &check.to);
                let worst = checks.entry(key).or_insert(check);
                if check.outcome > worst.outcome {
                    *worst = check;
                }
            }
            traffic.extend(proof.traffic.iter().cloned());
        }
        let verdict = Self {
            clusters,
            peers,
            checks: checks.into_values().cloned().collect(),
            traffic,
            ..Self::default()
        };
        let all = verdict.matrix();
        let whole = !all.is_empty() && all.keys().all(|pair| proved.contains(pair));
        whole.then_some(verdict)
    }

    /// Whether something is wrong that was read, not asked: only another reading can show it right.
    pub(crate) fn rests_on_what_was_read(&self) -> bool {
        let read = [
            Claim::Reachable,
            Claim::SameRoot,
            Claim::IstiodReady,
            Claim::OneIstio,
            Claim::GatewayReady,
            Claim::OwnNetwork,
            Claim::Configured,
        ];
        // Where nobody said which gateways are known, the istiods that were read of could not be asked.
        let asked = self.checks.iter().any(|c| c.id == Claim::GatewayKnown);
        !asked || self.failed().any(|c| read.contains(&c.id))
    }

    /// What is known of each ordered pair.
    pub fn matrix(&self) -> BTreeMap<(&str, &str), Cell> {
        let pairs = self.clusters.iter().flat_map(|from| {
            let is_peer = move |to: &&String| {
                let peers = self.peers.as_ref();
                *to != from && peers.is_none_or(|peers| peers.link(from, to))
            };
            let others = self.clusters.iter().filter(is_peer);
            others.map(move |to| (from.as_str(), to.as_str()))
        });
        let mut matrix: BTreeMap<_, _> = pairs.map(|pair| (pair, Cell::NOTHING)).collect();
        for check in &self.checks {
            let pair = check.to.as_deref().map(|to| (check.from.as_str(), to));
            if let Some(cell) = pair.and_then(|pair| matrix.get_mut(&pair)) {
                cell.add(check);
            }
        }
        matrix
    }

    /// Says of every pair what of it was not tried, and why.
    pub(crate) fn with_untried(mut self, why: &str) -> Self {
        let known: BTreeSet<_> = self.checks.iter().map(Check::place).collect();
        let mut untried = vec![];
        for (from, to) in self.matrix().into_keys() {
            for id in [Claim::Endpoints].into_iter().chain(Claim::TRAFFIC) {
                let check = check(id, from, to, Outcome::NotTried, why.to_owned(), vec![]);
                if !known.contains(&check.place()) {
                    untried.push(check);
                }
            }
        }
        self.checks.extend(untried);
        self
    }
}

impl Cell {
    const NOTHING: Self = Self {
        configured: Outcome::NotTried,
        synced: Outcome::NotTried,
        endpoints: Outcome::NotTried,
        proved: Outcome::NotTried,
    };

    /// Each stage is as bad as the worst of what it rests on.
    fn add(&mut self, check: &Check) {
        let stage = match check.id {
            Claim::Configured | Claim::TokenValid | Claim::ApiCaValid => &mut self.configured,
            Claim::Synced | Claim::GatewayKnown => &mut self.synced,
            Claim::Endpoints => &mut self.endpoints,
            id if Claim::TRAFFIC.contains(&id) => &mut self.proved,
            _ => return,
        };
        // What was not tried beside what was says nothing.
        *stage = match (*stage, check.outcome) {
            (Outcome::NotTried, outcome) => outcome,
            (stage, Outcome::NotTried) => stage,
            (stage, outcome) => stage.max(outcome),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: Claim, outcome: Outcome) -> Check {
        let (from, to) = ("a".into(), Some("b".into()));
        Check {
            id,
            from,
            to,
            outcome,
            evidence: String::new(),
            hints: vec![],
        }
    }

    #[test]
    fn a_cell_shows_the_worst_of_what_it_rests_on_and_what_was_not_tried() {
        let verdict = Verdict {
            clusters: vec!["a".into(), "b".into()],
            checks: vec![
                check(Claim::Synced, Outcome::Ok),
                check(Claim::GatewayKnown, Outcome::Failed),
                check(Claim::Configured, Outcome::Ok),
            ],
            ..Verdict::default()
        };
        let matrix = verdict.matrix();
        assert_eq!(matrix.len(), 2);
        let cell = matrix[&("a", "b")];
        assert_eq!(cell.configured, Outcome::Ok);
        assert_eq!(cell.synced, Outcome::Failed);
        assert_eq!(cell.endpoints, Outcome::NotTried);
        assert_eq!(matrix[&("b", "a")].configured, Outcome::NotTried);
        assert!(!verdict.holds() && !verdict.is_proved());
    }

    fn proof(from: &str, to: &str, of_b: Outcome) -> Verdict {
        let ready = Check {
            to: None,
            from: "b".into(),
            ..check(Claim::GatewayReady, of_b)
        };
        let proved = Check {
            from: from.into(),
            to: Some(to.into()),
            ..check(Claim::Proved, Outcome::Ok)
        };
        Verdict {
            clusters: vec![from.into(), to.into()],
            checks: vec![proved, ready],
            ..Verdict::default()
        }
    }

    #[test]
    fn what_one_pair_found_bad_no_other_makes_good() {
        use Outcome::{Failed, Ok};
        let members = || vec!["a".to_owned(), "b".to_owned()];
        let both = |one, other| {
            let proofs = [proof("a", "b", one), proof("b", "a", other)];
            Verdict::of_pairs(members(), None, &proofs).unwrap()
        };
        let good = both(Ok, Ok);
        let paths: Vec<_> = good.checks.iter().map(Check::path).collect();
        assert_eq!(paths, ["gateway-ready/b", "proved/a/b", "proved/b/a"]);
        assert!(good.holds() && good.is_proved());
        for bad in [both(Failed, Ok), both(Ok, Failed)] {
            let failed: Vec<_> = bad.failed().map(Check::path).collect();
            assert_eq!(failed, ["gateway-ready/b"]);
        }
        // Nothing is said of a mesh of which a pair was not asked.
        assert_eq!(
            Verdict::of_pairs(members(), None, &[proof("a", "b", Ok)]),
            None
        );
        assert_eq!(Verdict::of_pairs(members(), None, &[]), None);
    }
}
