//! Who signs, until when, and who trusts whom: the data behind `meshlink ca status`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Cert, CertFacts, Problem, Severity, chain,
    check::{Examined, Files, examine},
    read::short,
};
use crate::name::ClusterName;

/// The certificates of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Status {
    /// The root in this machine's vault, if it is here.
    pub root: Option<CertFacts>,
    /// One row per cluster.
    pub clusters: Vec<Row>,
    /// For every pair of clusters, whether one trusts what the other signs.
    pub proofs: Vec<Proof>,
    /// Whether every cluster trusts what every cluster signs; none if there is nothing to compare.
    pub same_root: Option<bool>,
}

impl Status {
    /// Whether there is something to compare, every cluster trusts what every other signs and nothing else, and istiod
    /// would refuse none of it.
    pub(crate) fn is_well(&self) -> bool {
        let grave = |p: &Problem| p.severity == Severity::Refused || p.code == SECOND_ROOT;
        let grave = self.clusters.iter().flat_map(|r| &r.problems).any(grave);
        self.same_root == Some(true) && !grave
    }
}

impl Row {
    /// With a problem for each root that is not the mesh's, nor expected while that is changed.
    fn with_other_roots(mut self, mesh: Option<&str>, expected: &[String]) -> Self {
        let others = self
            .roots
            .iter()
            .filter(|r| Some(r.spki_sha256.as_str()) != mesh && !expected.contains(&r.spki_sha256));
        let problem = |other: &CertFacts| Problem {
            code: SECOND_ROOT,
            severity: Severity::Warning,
            text: format!(
                "trusts root {} ({}), which is not the mesh's: its workloads accept whatever that root signs",
                short(&other.spki_sha256),
                other.subject
            ),
        };
        let problems: Vec<_> = others.map(problem).collect();
        self.problems.extend(problems);
        self
    }

    /// For a cluster that was named and is not a member.
    pub(crate) fn of_stranger(cluster: &ClusterName, text: String) -> Self {
        Self {
            cluster: cluster.clone(),
            signer: None,
            roots: vec![],
            trusts_vault_root: None,
            days_left: None,
            problems: vec![Problem {
                code: "no-member",
                severity: Severity::Refused,
                text,
            }],
        }
    }
}

/// The certificates of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Row {
    /// The cluster.
    pub cluster: ClusterName,
    /// What its istiod signs with; none if there is no readable `cacerts`.
    pub signer: Option<CertFacts>,
    /// Whom it trusts.
    pub roots: Vec<CertFacts>,
    /// Whether it trusts the root in the vault; none if there is no root there.
    pub trusts_vault_root: Option<bool>,
    /// Days until the first certificate of its set expires.
    pub days_left: Option<i64>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Whether what one cluster signs is trusted in another, checked along the signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Proof {
    /// The cluster that signs.
    pub signer: ClusterName,
    /// The cluster that verifies.
    pub verifier: ClusterName,
    /// Whether it holds.
    pub holds: bool,
    /// The way from the signer to a root the verifier trusts, by fingerprints.
    pub way: Vec<String>,
    /// Why it does not hold.
    pub why: Option<String>,
}

/// A cluster trusts another root beside that of the mesh.
const SECOND_ROOT: &str = "second-root";

/// Lays out the certificates of a mesh: the root here, those that are trusted beside it while it is changed, and the Secret
/// `cacerts` of each cluster, if it has one.
pub(crate) fn status(
    root: Option<&CertFacts>,
    expected: &[String],
    clusters: &[(ClusterName, Option<Files>)],
    now: Timestamp,
) -> Status {
    let examined: Vec<_> = clusters
        .iter()
        .map(|(name, files)| (name, examine(files.iter().flatten(), now)))
        .collect();
    let proofs: Vec<_> = pairs(&examined).map(|(a, b)| prove(a, b, now)).collect();
    // Without the vault's, the root of the mesh is the first that a cluster has.
    let all = examined.iter().flat_map(|(_, found)| &found.roots);
    let first = all.map(|cert| cert.facts().spki_sha256.clone()).next();
    let mesh = root.map(|root| root.spki_sha256.clone()).or(first);
    Status {
        root: root.cloned(),
        same_root: (!proofs.is_empty()).then(|| proofs.iter().all(|proof| proof.holds)),
        proofs,
        clusters: examined
            .into_iter()
            .map(|(name, found)| row(name, found, root, now))
            .map(|row| row.with_other_roots(mesh.as_deref(), expected))
            .collect(),
    }
}

type Named<'a> = (&'a ClusterName, Examined);

fn pairs<'a>(all: &'a [Named<'a>]) -> impl Iterator<Item = (&'a Named<'a>, &'a Named<'a>)> {
    let others =
        move |a: &'a Named<'a>| all.iter().filter(move |b| b.0 != a.0).map(move |b| (a, b));
    all.iter().flat_map(others)
}

fn prove((signer, from): &Named<'_>, (verifier, to): &Named<'_>, now: Timestamp) -> Proof {
    let found = match (&from.signer, to.roots.is_empty()) {
        (Some(cert), false) => {
            chain::lead(cert, &from.chain, &to.roots, now).map_err(|broken| broken.to_string())
        }
        (None, _) => Err(format!("{signer} has no signing certificate")),
        (_, true) => Err(format!("{verifier} trusts no root")),
    };
    let fingerprint = |cert: &Cert| cert.facts().spki_sha256.clone();
    let (way, why) = match found {
        Ok(way) => (way.iter().map(fingerprint).collect(), None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let (signer, verifier) = ((*signer).clone(), (*verifier).clone());
    Proof {
        signer,
        verifier,
        holds: why.is_none(),
        way,
        why,
    }
}

fn row(cluster: &ClusterName, found: Examined, root: Option<&CertFacts>, now: Timestamp) -> Row {
    let facts = |cert: &Cert| cert.facts().clone();
    let all = found.signer.iter().chain(&found.chain).chain(&found.roots);
    Row {
        cluster: cluster.clone(),
        days_left: all.map(|cert| cert.facts().days_left(now)).min(),
        trusts_vault_root: root.map(|root| {
            found
                .roots
                .iter()
                .any(|cert| cert.facts().spki_sha256 == root.spki_sha256)
        }),
        signer: found.signer.as_ref().map(facts),
        roots: found.roots.iter().map(facts).collect(),
        problems: found.problems,
    }
}
