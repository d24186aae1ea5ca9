//! What runs in the members, pod by pod: whether it has a proxy or why not, what that proxy was born with, what it holds, and
//! whether it must be restarted.
//!
//! Each member is read by itself, every list and every proxy with a deadline; what could not be read is named, and never
//! counts as well. What is to be said of a pod is pure ([`judge`]): injection is decided as the API server and istiod decide it,
//! by the webhooks' selectors first and by the injector's own rules then.
//!
//! | part | what it is |
//! | --- | --- |
//! | `injection` | whether a pod would be given a proxy, of which revision, and why not |
//! | `judge` | what is to be said of one pod |
//! | `held` | what a proxy holds of a Service, by Envoy's admin page |
//! | `ingress` | gateways: what they listen for, where, and whether that answers |
//! | `read` | what is read of a member |

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{observe::Unreachable, verify::service::Name};

mod held;
mod ingress;
pub(crate) mod injection;
pub(crate) mod judge;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use ingress::{Address, Gateway, Listener, connect};
pub(crate) use read::{Looking, look};

/// What runs in the members.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Workloads {
    /// The Service that proxies were asked about, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// The members that could be read, in the mesh's order.
    pub clusters: Vec<Member>,
    /// Those that could not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<Unreachable>,
    /// The namespaces and Services that were named and are in no member.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// What runs in one member.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub(crate) struct Member {
    /// Its name.
    pub cluster: String,
    /// Its istiods, by revision.
    pub istiods: Vec<Istiod>,
    /// The pods that run or are about to.
    pub pods: Vec<Pod>,
    /// What listens for those outside.
    pub gateways: Vec<Gateway>,
    /// What could not be read of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
    /// The named namespaces that it has.
    #[serde(skip)]
    pub namespaces: Vec<String>,
    /// It has the named Service.
    #[serde(skip)]
    pub has_service: bool,
}

/// The istiods of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Istiod {
    /// Their revision.
    pub revision: String,
    /// Their versions: more than one while they are upgraded.
    pub versions: Vec<String>,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Unread {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What made it, such as `Deployment shop/cart`; none where nothing makes it anew.
    pub workload: Option<String>,
    /// Its address.
    pub address: Option<String>,
    /// How it is in the mesh.
    pub state: State,
    /// Why it is so, where that is not plain.
    pub why: Vec<Cause>,
    /// Its proxy.
    pub proxy: Option<Proxy>,
    /// What its proxy shows its peers.
    pub certificate: Option<Certificate>,
    /// Why the proxy could not be read, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// What the proxy holds of the Service that was named; none where none was, or it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<Vec<Endpoint>>,
}

/// How a pod is in the mesh. The worse ones stand first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It was made with what does not hold any more, and does not work as it should until it is made anew.
    MustRestart,
    /// It has no proxy, and would be given one if it were made anew.
    NoProxy,
    /// Its proxy does not run.
    ProxyDown,
    /// It works, and would be given something newer.
    ShouldRestart,
    /// Its proxy is as it would be made now.
    InMesh,
    /// It is in the ambient mesh, and has no proxy of its own.
    Ambient,
    /// It has no proxy and is not to have one.
    Outside,
}

impl State {
    /// As it is printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MustRestart => "must restart",
            Self::NoProxy => "no proxy",
            Self::ProxyDown => "proxy down",
            Self::ShouldRestart => "should restart",
            Self::InMesh => "in the mesh",
            Self::Ambient => "ambient",
            Self::Outside => "outside",
        }
    }

    /// Whether something is wrong with it.
    pub(crate) fn is_bad(self) -> bool {
        matches!(self, Self::MustRestart | Self::NoProxy | Self::ProxyDown)
    }
}

/// Why a pod is in its state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub(crate) struct Cause {
    /// A name that stays.
    pub id: CauseId,
    /// In words, the same for all pods of one cause.
    pub text: String,
}

/// The causes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CauseId {
    /// The proxy says it is of another cluster than new ones do.
    ClusterId,
    /// Of another network.
    Network,
    /// Of another mesh.
    MeshId,
    /// Its certificates name another trust domain.
    TrustDomain,
    /// Its certificate has ended.
    CertificateEnded,
    /// Its certificate was signed under a root that istiod does not publish.
    OtherRoot,
    /// It does not trust a root that istiod publishes.
    RootMissing,
    /// It is of another revision than its namespace asks for.
    Revision,
    /// It was made without what lets it follow a change of root.
    FollowsNoRoot,
    /// It is of an older version than its istiod, or of a newer.
    Version,
    /// A pod made now would be given no proxy.
    NotInjectedNow,
    /// It was made before its namespace or its labels asked for a proxy, or while nothing injected.
    MadeBefore,
    /// It, or its namespace, says that it is to have none.
    OptedOut,
    /// Nothing says that it is to have one.
    NotAsked,
    /// It is on the network of its node.
    HostNetwork,
    /// Its namespace is one that Istio leaves alone.
    SystemNamespace,
    /// Its namespace, or it, asks for a revision that has no injector.
    NoInjector,
    /// The proxy does not run.
    Down,
}

/// How a proxy runs in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProxyKind {
    /// As a container beside the others.
    Container,
    /// As an init container that goes on: it starts before the others and ends after them.
    NativeSidecar,
    /// The pod is a gateway, and nothing else.
    Gateway,
}

impl ProxyKind {
    /// As it is printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::NativeSidecar => "native sidecar",
            Self::Gateway => "gateway",
        }
    }
}

/// A proxy, and what it was born with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Proxy {
    /// How it runs.
    pub kind: ProxyKind,
    /// Its image.
    pub image: String,
    /// Its version, as the image says it.
    pub version: Option<String>,
    /// The versions of its istiod.
    pub istiod: Vec<String>,
    /// The revision that injected it.
    pub revision: Option<String>,
    /// The cluster it says it is of.
    pub cluster_id: Option<String>,
    /// The mesh.
    pub mesh_id: Option<String>,
    /// The network.
    pub network: Option<String>,
    /// The trust domain.
    pub trust_domain: Option<String>,
    /// It takes changed roots from istiod as they change.
    pub follows_roots: bool,
}

/// A workload's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Certificate {
    /// Its serial number in hex.
    pub serial: String,
    /// The end of its life.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// Who signed it; none where the proxy's chain does not say.
    pub issuer: Option<String>,
    /// The same by its public key.
    pub issuer_spki_sha256: Option<String>,
}

/// An endpoint of a Service, as a proxy holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub(crate) struct Endpoint {
    /// The Service's port.
    pub service_port: u16,
    /// The subset of a DestinationRule that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Where the proxy connects to.
    pub address: String,
    /// And the port there.
    pub port: u16,
    /// The member it leads to, where that is known.
    pub of: Option<String>,
    /// The proxy sends to it.
    pub healthy: bool,
    /// It was taken out for a while because of errors.
    pub ejected: bool,
    /// Everything Envoy says against it.
    pub against: Vec<String>,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Its share of the requests.
    pub weight: u64,
    /// 0 is tried first.
    pub priority: u64,
}

impl Workloads {
    /// Whether something could not be read.
    pub(crate) fn is_partial(&self) -> bool {
        let unread = |m: &Member| !m.unread.is_empty() || m.pods.iter().any(|p| p.unread.is_some());
        !self.unreachable.is_empty() || self.clusters.iter().any(unread)
    }

    /// Whether something is wrong.
    pub(crate) fn is_ill(&self) -> bool {
        let bad = |m: &Member| {
            m.pods.iter().any(Pod::is_bad) || m.gateways.iter().any(|g| !g.against.is_empty())
        };
        self.clusters.iter().any(bad)
    }
}

impl Pod {
    /// `namespace/name`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it would be made better by being made anew.
    pub(crate) fn restarts(&self) -> bool {
        let helps = [State::MustRestart, State::NoProxy, State::ShouldRestart];
        // Where nothing injects, a new pod is as the old one.
        let is_vain = self.why.iter().any(|c| c.id == CauseId::NoInjector);
        helps.contains(&self.state) && !is_vain
    }

    /// Whether something is wrong with it, or with what it holds of the Service that was named.
    pub(crate) fn is_bad(&self) -> bool {
        let holds = self.holds.as_ref();
        self.state.is_bad() || holds.is_some_and(|all| !all.iter().any(|e| e.healthy))
    }
}
