//! What is there now: one reading of every member, taken side by side. Read-only.
//!
//! [`Observed`] is plain data without a secret in it: where a secret matters, its fingerprint stands for it. The plan is
//! made from it alone, so whatever a step depends on is read here. What has `serde(skip)` goes into no bundle.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cluster::Ref,
    hint::Hint,
    name::{ClusterName, MeshId},
    owner::Owner,
    pki::CertFacts,
    spec::{Mesh, Peers},
};

mod facts;
pub(crate) mod istios;
mod lens;
pub(crate) mod proxies;
mod replicas;
mod strangers;
mod unreachable;

pub(crate) use facts::{
    CLAIM, DIGEST_LABEL, MADE_LABEL, NEXT, PROJECTED, RECORD, RENEWER, REPLACES, REVISION_LABEL,
    ROOTS, VERSION_LABEL, authorities, cacerts, claim, held, istio_version, keepers, label_digest,
    published_roots, record, root_ca, succession, throw_aways,
};
pub(crate) use istios::IstioSeen;
pub(crate) use lens::{Lens, Tokens, Unseen};
#[cfg(test)]
pub(crate) use proxies::{Held as ProxyHeld, Leaf, Published};
pub(crate) use proxies::{PlaceSeen, Proxy, TrustSeen};
pub(crate) use replicas::{Ends, MONITORING, Replica, ends, ends_in};
pub(crate) use strangers::{PUBLISHED, is_election, is_stranger, strangers};
pub use unreachable::Unreachable;

/// Everything the plan is made from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Observed {
    /// The vault on this machine.
    #[serde(skip)]
    pub vault: VaultSeen,
    /// Each member that could be read, by name.
    pub clusters: BTreeMap<ClusterName, Seen>,
    /// Each member that could not be read, by name.
    pub unreachable: BTreeMap<ClusterName, Unreachable>,
    /// When it was read.
    pub now: Timestamp,
}

/// What the vault on this machine holds for the mesh.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct VaultSeen {
    /// The root of the mesh, by its public key: the one the members are bound to, if it is here.
    pub root: Option<String>,
    /// All roots, oldest first.
    pub roots: Vec<String>,
    /// The root that can take its place.
    pub next: Option<String>,
    /// What stands in the certificate of the mesh's root.
    pub certificate: Option<CertFacts>,
    /// The intermediate held for each member.
    pub intermediates: BTreeMap<ClusterName, CertFacts>,
    /// The root was made for embedded clusters.
    pub embedded: bool,
    /// The roots whose keys somebody else has, who is not named any more.
    pub elsewhere: Vec<String>,
    /// Who signs in the place of the vault, where the mesh file names somebody.
    pub named: Option<NamedSeen>,
}

/// Who signs in the place of the vault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedSeen {
    /// What it is, as the subject of a sentence.
    pub who: String,
    /// The root that all it signs leads to.
    pub root: CertFacts,
    /// Why it cannot be asked now, and what to do.
    pub silent: Option<(String, Vec<Hint>)>,
    /// The members that an intermediate is here for under that root.
    pub held: BTreeSet<ClusterName>,
    /// The members that a request is out for.
    pub requested: BTreeSet<ClusterName>,
}

/// One member, as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Seen {
    /// UID of the kube-system namespace: what tells two clusters apart, whatever they are called.
    pub uid: String,
    /// The API server's version, `v1.36.3`.
    pub kubernetes: String,
    /// The same as the server writes it, with its vendor's suffix: `v1.33.4-gke.1000`.
    pub vendor: String,
    /// The address the API server was reached at.
    pub server: String,
    /// Whether it is one of the sandbox's.
    pub embedded: bool,
    /// The root this cluster is bound to.
    pub claim: Option<Claim>,
    /// When the cluster was bound to that root, if it was bound to another before.
    #[serde(skip)]
    pub rotated: Option<Timestamp>,
    /// The root that takes the place of that one.
    pub succession: Option<Succession>,
    /// How long kubelets take at most to bring a changed ConfigMap into a pod, as whoever began that has said.
    #[serde(skip)]
    pub projected: Option<Duration>,
    /// What meshlink wrote down at the end of a join.
    #[serde(skip)]
    pub record: Option<Record>,
    /// The Secret `cacerts`.
    pub cacerts: Option<CacertsSeen>,
    /// The roots istiod publishes, by their public keys; it is what istiod really runs with.
    pub published_roots: Vec<String>,
    /// Those of them that sign nothing and are to be gone again.
    pub throw_aways: Vec<String>,
    /// Helm releases in the control plane's and the gateway's namespaces, by name.
    #[serde(skip)]
    pub releases: BTreeMap<String, ReleaseSeen>,
    /// The control plane.
    pub istiod: IstiodSeen,
    /// Every control plane of Istio there is, that one too; none where whoever looks may not see them.
    pub istios: Vec<IstioSeen>,
    /// The east-west gateway.
    pub gateway: GatewaySeen,
    /// The authorities that the API server here is known by.
    #[serde(skip)]
    pub authorities: Vec<AuthoritySeen>,
    /// What takes the place of these, by what EKS says; only looked for where it matters.
    #[serde(skip)]
    pub successor: Option<SuccessorSeen>,
    /// Reader accounts here, by the peer that uses them.
    #[serde(skip)]
    pub readers: BTreeMap<String, ReaderSeen>,
    /// Remote secrets here, by the cluster they open.
    pub remote_secrets: BTreeMap<String, RemoteSecretSeen>,
    /// What renews here what it reads its peers with; only looked for where the mesh has such.
    #[serde(skip)]
    pub renewer: Option<RenewerSeen>,
    /// A probe is still here.
    #[serde(skip)]
    pub probe: bool,
    /// What its proxies hold; only looked for where it matters.
    #[serde(skip)]
    pub trust: Option<TrustSeen>,
    /// Istio's CRDs; only looked for where it matters.
    #[serde(skip)]
    pub crds: Vec<String>,
    /// Those of them that meshlink made.
    #[serde(skip)]
    pub own_crds: Vec<Held>,
    /// Pods whose proxies were told of another place than the member's; only looked for where it matters.
    #[serde(skip)]
    pub elsewhere: Vec<String>,
    /// Pods with a sidecar, as `namespace/name`; only looked for where it matters.
    #[serde(skip)]
    pub injected_pods: Vec<String>,
    /// The objects the plan wants, as they are now. Of a Secret without our label only what it is called and marked with.
    #[serde(skip)]
    pub live: BTreeMap<Ref, Value>,
    /// What is not ours in our namespaces, as `Secret istio-ingress/shop-tls`; only looked for where it matters.
    #[serde(skip)]
    pub strangers: BTreeMap<String, Vec<String>>,
}

impl Seen {
    /// For whom objects are made here.
    pub(crate) fn owner(&self, mesh: &MeshId, member: &ClusterName) -> Owner {
        Owner {
            mesh: mesh.clone(),
            member: member.clone(),
            cluster: self.uid.clone(),
        }
    }
}

/// ConfigMap `meshlink-root`: made once, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The mesh.
    pub mesh: String,
    /// The root's public-key hash.
    pub root: String,
}

impl Claim {
    /// Whether it says anything: a ConfigMap of its name that binds to nothing is no claim.
    pub(crate) fn binds(&self) -> bool {
        !self.mesh.is_empty() && !self.root.is_empty()
    }
}

/// ConfigMap `meshlink-root-next`: made before anything trusts the new root, deleted when nothing trusts one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Succession {
    /// The mesh.
    pub mesh: String,
    /// The root that goes, by its public key.
    pub from: String,
    /// The root that comes.
    pub to: String,
    /// The root without a key that is trusted for a while, so that every proxy asks for a new certificate.
    pub spare: String,
}

impl Succession {
    /// Whether a root has to do with it.
    pub(crate) fn names(&self, root: &str) -> bool {
        [&self.from, &self.to, &self.spare]
            .iter()
            .any(|r| *r == root)
    }
}

impl Observed {
    /// The change of root that is under way, as the members say.
    pub(crate) fn succession(&self) -> Option<&Succession> {
        let mut all = self.clusters.values();
        all.find_map(|seen| seen.succession.as_ref())
    }

    /// How long kubelets take at most, as whoever began the change of root has said.
    pub(crate) fn projected(&self) -> Option<Duration> {
        self.clusters.values().find_map(|seen| seen.projected)
    }

    /// The root of the mesh, as its members say: until the change is over in all of them, the old one.
    pub(crate) fn root(&self, mesh: &MeshId) -> Option<&str> {
        let claims = self.clusters.values().filter_map(|s| s.claim.as_ref());
        let mut claims = claims.filter(|claim| claim.mesh == mesh.as_str());
        match self.succession() {
            Some(succession) => Some(&succession.from),
            None => claims.next().map(|claim| claim.root.as_str()),
        }
    }
}

/// ConfigMap `meshlink`: what a finished join leaves for the next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The mesh.
    pub mesh: MeshId,
    /// Its members, with how to find each of them again.
    pub members: BTreeMap<ClusterName, String>,
    /// Who is whose peer; every member of every other where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
    /// How remote secrets are laid out; chosen when the mesh is made, never switched.
    pub layout: Layout,
    /// Digest of the facts the last proof covered.
    pub proof: String,
    /// When it was proved.
    pub proved_at: Timestamp,
}

/// How remote secrets are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layout {
    /// One Secret per peer, as istioctl writes them.
    PerPeer,
    /// Many peers per Secret: N writes instead of N².
    Packed,
}

impl Layout {
    /// What a new mesh of this size gets.
    pub(crate) fn for_size(members: usize) -> Self {
        if members > 10 {
            Self::Packed
        } else {
            Self::PerPeer
        }
    }
}

/// The Secret `cacerts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CacertsSeen {
    /// The roots, by their public keys: one, unless somebody has put others beside it.
    pub roots: Vec<String>,
    /// What stands in these roots' certificates.
    #[serde(skip)]
    pub bundle: Vec<CertFacts>,
    /// The one of them that has signed the signing certificate.
    #[serde(skip)]
    pub under: Option<String>,
    /// The signing certificate.
    #[serde(skip)]
    pub signer: Option<CertFacts>,
    /// What istiod would refuse it for.
    pub problems: Vec<String>,
    /// Written by meshlink.
    pub ours: bool,
    /// The Secret's UID.
    pub uid: String,
    /// Who keeps writing it, where that is somebody who would undo what is changed in it.
    pub keeper: Option<String>,
}

/// The newest record of a Helm release.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReleaseSeen {
    /// Its namespace.
    pub namespace: String,
    /// Its revision.
    pub revision: u32,
    /// `deployed`, `pending-install`, …
    pub status: String,
    /// Chart version.
    pub version: String,
    /// Digest of the chart and values, where they are all meshlink's.
    pub digest: Option<String>,
    /// The values it was made with, where some of them are somebody else's.
    pub config: Value,
    /// The chart's name, where somebody else made it.
    pub chart: String,
    /// The mesh whose join made it; empty for one that somebody else made.
    pub made_for: String,
    /// What its records name and is there, last kinds first; only looked for where something of it may be deleted.
    pub held: Vec<Held>,
}

/// An object that a release's records name, as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Which.
    pub reference: Ref,
    /// Its UID.
    pub uid: String,
    /// Whose it is, where it is not the release's by Helm's own rule.
    pub foreign: Option<String>,
    /// It asks not to be deleted with its release.
    pub kept: bool,
}

impl ReleaseSeen {
    /// Whether the last run of whoever made it came to its end.
    pub(crate) fn is_deployed(&self) -> bool {
        self.status == "deployed"
    }
}

/// The control plane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IstiodSeen {
    /// Its Deployment exists.
    pub present: bool,
    /// Every wanted replica is available.
    pub available: bool,
    /// Who manages it, where that is not a Helm release.
    pub foreign: Option<String>,
    /// The values it was installed with, where its chart has written them down and no release of Helm's says so.
    #[serde(skip)]
    pub values: Option<Value>,
    /// Running replicas.
    pub pods: Vec<String>,
    /// The versions that run, by image tag, else by label.
    pub versions: BTreeSet<Version>,
    /// When the oldest running replica started.
    pub started: Option<Timestamp>,
}

/// The east-west gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GatewaySeen {
    /// Its Service exists.
    pub present: bool,
    /// Addresses in the Service's status: names or IPs.
    pub addresses: Vec<String>,
    /// A `Gateway` object opens 15443 on it.
    pub opened: bool,
    /// Every wanted replica is available.
    pub available: bool,
    /// Who holds the Service until its load balancer is gone.
    #[serde(skip)]
    pub keepers: Vec<Keeper>,
    /// The Service, and whose it is.
    #[serde(skip)]
    pub service: Option<Held>,
}

/// A finalizer of the gateway's Service, and who must take it off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keeper {
    /// The finalizer.
    pub finalizer: String,
    /// Whose it is.
    pub who: &'static str,
    /// Whether it runs; none where that cannot be seen from the cluster, or was not looked for.
    pub runs: Option<bool>,
}

/// A reader account.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReaderSeen {
    /// Its token Secrets, oldest first.
    pub tokens: Vec<TokenSeen>,
    /// The Secret that its bound tokens hang on.
    pub anchor: Option<Made>,
}

/// A token Secret of a reader account.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenSeen {
    /// Its number among those of the account.
    pub number: u32,
    /// The Secret.
    pub secret: Made,
    /// When the Secret was made.
    pub made: Option<Timestamp>,
    /// When it is to be replaced.
    pub until: Option<Timestamp>,
    /// Hash of the token, once there is one.
    pub token: Option<String>,
}

/// An object of ours as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// An authority that an API server is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthoritySeen {
    /// SHA-256 of its certificate.
    pub sha256: String,
    /// What stands in it, where that can be read.
    pub certificate: Option<CertFacts>,
}

/// What takes the place of the authority that signs for an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SuccessorSeen {
    /// Its certificate.
    pub authorities: Vec<AuthoritySeen>,
    /// From when on it may sign without anybody's doing.
    pub first: Option<Timestamp>,
    /// From when on it does.
    pub last: Option<Timestamp>,
}

impl ReaderSeen {
    /// The token Secret that was made last.
    pub(crate) fn newest(&self) -> Option<&TokenSeen> {
        self.tokens.last()
    }

    /// The token Secret that holds the token of this hash.
    pub(crate) fn holding(&self, token: Option<&String>) -> Option<&TokenSeen> {
        self.tokens.iter().find(|t| t.token.as_ref() == token)
    }

    /// Whether it has the Secret of this UID, which a token is bound to.
    pub(crate) fn is_anchored(&self, uid: &str) -> bool {
        self.anchor.as_ref().is_some_and(|a| a.uid == uid)
    }
}

/// A remote secret's entry for one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RemoteSecretSeen {
    /// The Secret it is in.
    pub secret: String,
    /// API server address in it.
    pub server: String,
    /// The authorities in it.
    #[serde(skip)]
    pub authorities: Vec<AuthoritySeen>,
    /// Hash of the token in it.
    #[serde(skip)]
    pub token: Option<String>,
    /// The UID of the Secret that the token hangs on, if it is a bound one.
    #[serde(skip)]
    pub bound: Option<String>,
    /// When the token was issued, where it says so.
    #[serde(skip)]
    pub issued: Option<Timestamp>,
    /// When the Secret was last changed, if it was after it was made.
    #[serde(skip)]
    pub changed: Option<Timestamp>,
    /// When the token expires; none for one that never does.
    pub expires: Option<Timestamp>,
    /// When the Secret was last written.
    #[serde(skip)]
    pub written: Option<Timestamp>,
    /// The Secret's UID.
    #[serde(skip)]
    pub uid: String,
    /// Whose the Secret is, where it is not ours.
    #[serde(skip)]
    pub foreign: Option<String>,
    /// Hash of what the entry opens and for whom: what is renewed in it changes nothing.
    #[serde(skip)]
    pub digest: String,
    /// What istiod would refuse it for.
    pub problems: Vec<String>,
}

/// A member's renewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RenewerSeen {
    /// The image it runs from.
    pub image: String,
    /// When what it runs was last changed, or made.
    pub written: Option<Timestamp>,
    /// When a Job of it last came to a good end.
    pub succeeded: Option<Timestamp>,
    /// Somebody has told it to wait.
    pub suspended: bool,
}

impl RemoteSecretSeen {
    /// Whether its token ends unless it is renewed.
    pub(crate) fn is_bound(&self) -> bool {
        self.bound.is_some() && self.expires.is_some()
    }

    /// In what the authorities in it are not those by which the API server is known.
    pub(crate) fn other_authorities(&self, known: &[AuthoritySeen]) -> Option<&'static str> {
        let holds =
            |all: &[AuthoritySeen], a: &AuthoritySeen| all.iter().any(|b| a.sha256 == b.sha256);
        match () {
            () if known.iter().any(|a| !holds(&self.authorities, a)) => {
                Some("the API server's CA changed")
            }
            () if self.authorities.iter().any(|a| !holds(known, a)) => {
                Some("it holds a CA that the API server is not known by any more")
            }
            () => None,
        }
    }

    /// The Secret's name alone.
    pub(crate) fn name(&self) -> &str {
        self.secret
            .rsplit_once('/')
            .map_or(&self.secret, |(_, name)| name)
    }
}

/// Digest of what a proof in `cluster` covers: if any of it changes, the proof is void.
pub(crate) fn proof_digest(mesh: &Mesh, cluster: &ClusterName, seen: &Seen) -> String {
    let links: BTreeMap<_, _> = mesh
        .peers_of(cluster)
        .map(|peer| {
            let secret = seen.remote_secrets.get(peer.as_str());
            (peer.as_str(), secret.map(|s| s.digest.as_str()))
        })
        .collect();
    let releases: BTreeMap<_, _> = seen
        .releases
        .iter()
        .map(|(name, r)| (name.as_str(), r.revision))
        .collect();
    let roots = seen.cacerts.as_ref().map(|c| &c.roots);
    let facts = serde_json::json!({
        "mesh": mesh.id, "roots": roots, "links": links, "releases": releases,
    });
    crate::digest::sha256_hex(facts.to_string().as_bytes())
}
