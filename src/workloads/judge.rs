//! What is to be said of one pod. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use semver::Version;
use serde_json::Value;

use super::{
    Cause, CauseId, Certificate, Pod, Proxy, ProxyKind, State,
    injection::{Fate, Injection, Injector},
};
use crate::{
    cluster::Ref,
    observe::proxies::{self, CONTAINER, FOLLOWS, Held, variable},
    pki::{Cert, is_throw_away},
};

/// A proxy that is not ready for longer than this has a reason for it.
const STARTING: SignedDuration = SignedDuration::from_secs(60);
/// What a cluster and a trust domain are called where nobody says it.
const DEFAULT_CLUSTER: &str = "Kubernetes";
const DEFAULT_DOMAIN: &str = "cluster.local";

/// By what a member's pods are judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// Its namespaces, by name.
    pub(crate) namespaces: BTreeMap<String, Value>,
    /// What decides on injection.
    pub(crate) injection: Injection,
    /// The versions of its istiods, by revision.
    pub(crate) istiods: BTreeMap<String, Vec<Version>>,
    /// The roots that istiod publishes.
    pub(crate) roots: Vec<Cert>,
    /// What time it is.
    pub(crate) now: Timestamp,
}

impl Cause {
    fn new(id: CauseId, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { id, text }
    }
}

impl CauseId {
    /// The state that a pod with a proxy is in because of it.
    fn state(self) -> State {
        match self {
            Self::ClusterId
            | Self::Network
            | Self::TrustDomain
            | Self::CertificateEnded
            | Self::OtherRoot => State::MustRestart,
            Self::Down => State::ProxyDown,
            Self::MeshId
            | Self::Revision
            | Self::FollowsNoRoot
            | Self::RootMissing
            | Self::Version => State::ShouldRestart,
            _ => State::InMesh,
        }
    }
}

/// A pod that runs or is about to, and is not on its way out.
pub(crate) fn lives(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    pod["metadata"]["deletionTimestamp"].is_null() && !["Succeeded", "Failed"].contains(&phase)
}

/// `namespace/name`.
pub(crate) fn path(object: &Value) -> String {
    let of = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    format!("{}/{}", of("namespace"), of("name"))
}

/// The container of a pod that is its proxy, and whether it is an init container that goes on.
fn container(pod: &Value) -> Option<(&Value, bool)> {
    let find = |key: &str| {
        let mut all = pod["spec"][key].as_array()?.iter();
        all.find(|c| c["name"] == CONTAINER)
    };
    let native = || Some((find("initContainers")?, true));
    let found = find("containers").map(|c| (c, false)).or_else(native)?;
    // The nodes' proxies of the ambient mesh are called the same.
    let args = found.0["args"].as_array().into_iter().flatten();
    let is_nodes = args.clone().any(|arg| arg == "ztunnel");
    (!is_nodes).then_some(found)
}

/// Whether a pod has a proxy of its own.
pub(crate) fn has_proxy(pod: &Value) -> bool {
    container(pod).is_some()
}

/// What made a pod and would make it anew: of a ReplicaSet, the Deployment that made that.
pub(crate) fn workload(pod: &Value) -> Option<Ref> {
    let owner = Ref::controller(pod)?;
    if owner.kind.kind != "ReplicaSet" {
        return Some(owner);
    }
    let hash = pod["metadata"]["labels"]["pod-template-hash"].as_str();
    let name = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    match name {
        Some(name) => Some(Ref::namespaced(
            &crate::cluster::Kind::DEPLOYMENT,
            owner.namespace.clone()?,
            name,
        )),
        None => Some(owner),
    }
}

impl Context {
    /// What the API server alone tells of a pod; its proxy is asked later.
    pub(crate) fn pod(&self, pod: &Value) -> Pod {
        let metadata = &pod["metadata"];
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let nothing = Value::Null;
        let space = self.namespaces.get(&text("namespace")).unwrap_or(&nothing);
        let fate = self.injection.fate(space, pod);
        let (state, why, proxy) = match container(pod) {
            Some((proxy, native)) => {
                let proxy = self.proxy(pod, proxy, native, &fate);
                let why = self.causes(pod, &proxy, &fate);
                (worst(&why), why, Some(proxy))
            }
            None => {
                let (state, why) = bare(&fate);
                (state, why, None)
            }
        };
        Pod {
            namespace: text("namespace"),
            name: text("name"),
            workload: workload(pod).map(|r| r.to_string()),
            address: pod["status"]["podIP"].as_str().map(str::to_owned),
            state,
            why,
            proxy,
            certificate: None,
            unread: None,
            holds: None,
        }
    }

    fn proxy(&self, pod: &Value, container: &Value, native: bool, fate: &Fate) -> Proxy {
        let of = |name: &str| {
            let found = variable(pod, Some(CONTAINER), name)?;
            (!found.is_empty()).then(|| found.to_owned())
        };
        let revision = revision(pod);
        let of_istiod = match fate {
            Fate::Injected(now) => Some(now),
            _ => revision.as_ref(),
        };
        let istiod = of_istiod.and_then(|r| self.istiods.get(r));
        Proxy {
            kind: match (is_gateway(pod, container), native) {
                (true, _) => ProxyKind::Gateway,
                (_, true) => ProxyKind::NativeSidecar,
                (_, false) => ProxyKind::Container,
            },
            image: container["image"].as_str().unwrap_or_default().to_owned(),
            version: proxies::version(pod).map(|v| v.to_string()),
            istiod: istiod
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect(),
            cluster_id: of("ISTIO_META_CLUSTER_ID"),
            mesh_id: of("ISTIO_META_MESH_ID"),
            network: of("ISTIO_META_NETWORK"),
            trust_domain: of("TRUST_DOMAIN"),
            follows_roots: of(FOLLOWS).as_deref() == Some("true"),
            revision,
        }
    }

    /// Everything that is to be said against a proxy.
    fn causes(&self, pod: &Value, proxy: &Proxy, fate: &Fate) -> Vec<Cause> {
        let mut why = vec![];
        why.extend(self.down(pod).map(|text| Cause::new(CauseId::Down, text)));
        let now = match fate {
            Fate::Injected(now) => Some(now.as_str()),
            _ => proxy.revision.as_deref(),
        };
        if let Some(injector) = now.and_then(|now| self.injection.injector(now)) {
            why.extend(born_otherwise(proxy, injector));
        }
        match fate {
            Fate::Injected(now) => {
                let born = proxy.revision.as_ref().filter(|born| *born != now);
                why.extend(born.map(|born| {
                    let text =
                        format!("its proxy is of revision {born}, and is {now} for new pods");
                    Cause::new(CauseId::Revision, text)
                }));
            }
            // istiod itself makes what a Gateway of the Gateway API asks for.
            _ if is_made_by_istiod(pod) => {}
            Fate::Ambient => {}
            Fate::Left(cause) => why.push(Cause::new(
                CauseId::NotInjectedNow,
                format!("made now it would have no proxy: {}", cause.text),
            )),
        }
        let version = proxies::version(pod);
        let istiods = now.and_then(|now| self.istiods.get(now));
        if let (Some(version), Some(istiods)) = (version, istiods) {
            why.extend(skew(&version, istiods));
        }
        why.sort();
        why
    }

    /// Why a proxy does not run, or does not get as far as being ready.
    fn down(&self, pod: &Value) -> Option<String> {
        let of = |key: &str| pod["status"][key].as_array().into_iter().flatten();
        let mut all = of("containerStatuses").chain(of("initContainerStatuses"));
        let status = all.find(|c| c["name"] == CONTAINER)?;
        let state = &status["state"];
        let begins = ["ContainerCreating", "PodInitializing"];
        if let Some(reason) = state["waiting"]["reason"].as_str() {
            let waits = format!("its proxy does not start: {reason}");
            return (!begins.contains(&reason)).then_some(waits);
        }
        if let Some(ended) = state["terminated"].as_object() {
            let reason = ended.get("reason").and_then(Value::as_str);
            return Some(format!(
                "its proxy has ended: {}",
                reason.unwrap_or("Error")
            ));
        }
        let since: Timestamp = state["running"]["startedAt"].as_str()?.parse().ok()?;
        let late = self.now.duration_since(since) > STARTING;
        let text = "its proxy runs and is not ready: it has no configuration from istiod, or the application's probe fails";
        (late && status["ready"] == false).then(|| text.to_owned())
    }

    /// Adds what a proxy said of its certificates.
    pub(crate) fn told(&self, pod: &mut Pod, held: Result<Held, String>) {
        let held = match held {
            Ok(held) => held,
            Err(why) => {
                pod.unread = Some(why);
                return;
            }
        };
        let leaf = &held.leaf;
        pod.certificate = Some(Certificate {
            serial: leaf.serial.clone(),
            until: leaf.until,
            issuer: leaf.issuer.as_ref().map(|c| c.facts().subject.clone()),
            issuer_spki_sha256: leaf.issuer.as_ref().map(|c| c.facts().spki_sha256.clone()),
        });
        if leaf.until < self.now {
            let text = "the certificate it shows its peers has ended";
            pod.why.push(Cause::new(CauseId::CertificateEnded, text));
        }
        let signing = self.roots.iter().filter(|r| !is_throw_away(r.facts()));
        let signing: Vec<_> = signing.collect();
        if !signing.is_empty() && !signing.iter().any(|root| leaf.is_under(root)) {
            let text = "its certificate was signed under a root that istiod does not publish";
            pod.why.push(Cause::new(CauseId::OtherRoot, text));
        }
        let trusts = held.trusts();
        let lacks = |root: &&Cert| !trusts.contains(&root.facts().spki_sha256.as_str());
        let follows = pod.proxy.as_ref().is_some_and(|p| p.follows_roots);
        // One that follows is about to be given it.
        if !follows && signing.into_iter().any(|root| lacks(&root)) {
            let text = "it does not trust every root that istiod publishes";
            pod.why.push(Cause::new(CauseId::RootMissing, text));
        }
        pod.why.sort();
        pod.state = worst(&pod.why);
    }
}

/// The state of a pod with a proxy.
fn worst(why: &[Cause]) -> State {
    let states = why.iter().map(|cause| cause.id.state());
    states.min().unwrap_or(State::InMesh)
}

/// A pod without a proxy.
fn bare(fate: &Fate) -> (State, Vec<Cause>) {
    match fate {
        Fate::Injected(revision) => {
            let text = format!("made now it would have a proxy, of revision {revision}");
            (State::NoProxy, vec![Cause::new(CauseId::MadeBefore, text)])
        }
        Fate::Ambient => (State::Ambient, vec![]),
        Fate::Left(cause) => {
            // Somebody asked for a proxy, and there is nobody to give one.
            let state = match cause.id {
                CauseId::NoInjector => State::NoProxy,
                _ => State::Outside,
            };
            (state, vec![cause.clone()])
        }
    }
}

/// The revision that injected a pod, as it says itself.
fn revision(pod: &Value) -> Option<String> {
    let annotations = &pod["metadata"]["annotations"];
    let status = annotations["sidecar.istio.io/status"].as_str();
    let status = status.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let of_status = status.as_ref().and_then(|s| s["revision"].as_str());
    let said = annotations["istio.io/rev"].as_str();
    let found = of_status.or(said)?;
    (!found.is_empty()).then(|| found.to_owned())
}

fn is_gateway(pod: &Value, container: &Value) -> bool {
    let templates = pod["metadata"]["annotations"]["inject.istio.io/templates"].as_str();
    let by_template = templates.is_some_and(|t| t.contains("gateway"));
    let mut args = container["args"].as_array().into_iter().flatten();
    by_template || args.any(|a| a == "router" || a == "waypoint") || is_made_by_istiod(pod)
}

fn is_made_by_istiod(pod: &Value) -> bool {
    pod["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"].is_string()
}

/// What a proxy was born with that new ones are not.
fn born_otherwise(proxy: &Proxy, injector: &Injector) -> Vec<Cause> {
    let text = |place: &str| {
        let found = injector.values.pointer(place)?.as_str()?;
        (!found.is_empty()).then_some(found)
    };
    let domain = injector.mesh["trustDomain"].as_str();
    let domain = domain.or_else(|| text("/global/trustDomain"));
    let domain = domain.unwrap_or(DEFAULT_DOMAIN);
    let cluster = text("/global/multiCluster/clusterName").unwrap_or(DEFAULT_CLUSTER);
    let rows = [
        (
            CauseId::ClusterId,
            "cluster",
            &proxy.cluster_id,
            Some(cluster),
        ),
        (
            CauseId::Network,
            "network",
            &proxy.network,
            text("/global/network"),
        ),
        (
            CauseId::MeshId,
            "mesh",
            &proxy.mesh_id,
            text("/global/meshID").or(Some(domain)),
        ),
        (
            CauseId::TrustDomain,
            "trust domain",
            &proxy.trust_domain,
            Some(domain),
        ),
    ];
    let other = |(id, what, born, now): (CauseId, &str, &Option<String>, Option<&str>)| {
        let now = now.filter(|now| born.as_deref() != Some(now))?;
        let born = match (born.as_deref(), id) {
            (Some(born), _) => born,
            // Older injectors did not say these two.
            (None, CauseId::TrustDomain | CauseId::MeshId) => return None,
            (None, _) => "none",
        };
        let aliases = injector.mesh["trustDomainAliases"].as_array();
        let is_alias = aliases.is_some_and(|all| all.iter().any(|a| a == born));
        match id == CauseId::TrustDomain && is_alias {
            true => None,
            false => Some(Cause::new(
                id,
                format!("its proxy says {what} {born}, and new ones say {now}"),
            )),
        }
    };
    let mut why: Vec<_> = rows.into_iter().filter_map(other).collect();
    let follow = &injector.mesh["defaultConfig"]["proxyMetadata"][FOLLOWS];
    if *follow == "true" && !proxy.follows_roots {
        let text = format!("it was made without {FOLLOWS}, and follows no change of root");
        why.push(Cause::new(CauseId::FollowsNoRoot, text));
    }
    why
}

/// A proxy that is not of its istiod's version.
fn skew(proxy: &Version, istiods: &[Version]) -> Option<Cause> {
    let (oldest, newest) = (istiods.iter().min()?, istiods.iter().max()?);
    let (relation, istiod) = match () {
        () if proxy < oldest => ("older than", oldest),
        () if proxy > newest => ("newer than", newest),
        () => return None,
    };
    let far = proxy > newest && (proxy.major, proxy.minor) > (newest.major, newest.minor)
        || proxy.major != istiod.major
        || istiod.minor.abs_diff(proxy.minor) >= 2;
    let far = if far {
        ", which Istio does not support"
    } else {
        ""
    };
    Some(Cause::new(
        CauseId::Version,
        format!("its proxy is {proxy}, {relation} its istiod, {istiod}{far}"),
    ))
}
