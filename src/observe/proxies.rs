//! Which roots the proxies of a member trust and what they show, each read at its own admin port; and where else istiod's roots
//! must arrive: ConfigMaps, webhooks, replicas of istiod.
//!
//! A proxy that cannot be read is never counted among those that are as they should be. What a kubelet has projected into
//! a running pod cannot be read without running something in it; see [`Published::changed`] for what can be said of it.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use semver::Version;
use serde_json::Value;

pub(crate) use super::facts::variable;
use super::{
    facts,
    replicas::{self, Replica},
};
use crate::{
    causes,
    cluster::{self, Cluster, Kind, Ref},
    pki::{self, Cert},
    probe,
};

/// How many proxies are asked at once.
pub(crate) const ABREAST: usize = 16;
/// How long one may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The container a proxy runs in.
pub(crate) const CONTAINER: &str = "istio-proxy";
/// What injection leaves on a pod.
const INJECTED: &str = "sidecar.istio.io/status";
/// What makes a proxy's agent take changed roots from istiod at once; without it a proxy has them with its next
/// certificate, half a day later.
pub(crate) const FOLLOWS: &str = "PROXY_CONFIG_XDS_AGENT";
/// The label of the ConfigMaps that istiod writes.
const WRITTEN: &str = "istio.io/config=true";

/// Where the roots of a member's istiod are, and what it signs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TrustSeen {
    /// Every proxy that runs.
    pub proxies: Vec<Proxy>,
    /// ConfigMap `istio-ca-root-cert` of each namespace; none where there is none.
    pub published: BTreeMap<String, Published>,
    /// What API servers judge istiod's webhooks by, by the configuration's name.
    pub webhooks: BTreeMap<String, Vec<String>>,
    /// The replicas of istiod that run.
    pub replicas: Vec<Replica>,
}

/// One sidecar or gateway.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proxy {
    /// Its pod.
    pub pod: Ref,
    /// The pod's UID.
    pub uid: String,
    /// The object that made the pod.
    pub owner: Option<Ref>,
    /// It is a gateway and no sidecar.
    pub is_gateway: bool,
    /// When its pod started.
    pub started: Option<Timestamp>,
    /// It takes changed roots from istiod as they change.
    pub follows: bool,
    /// What it was told of its place when its pod was made.
    pub place: PlaceSeen,
    /// What it holds, or why that could not be read.
    pub held: Result<Held, String>,
}

/// The cluster and the network that a proxy was told it is in; it says so as long as its pod lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PlaceSeen {
    /// The cluster's name.
    pub cluster: String,
    /// The network, empty for none.
    pub network: String,
}

/// What a proxy holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// What it shows its peers.
    pub leaf: Leaf,
    /// The roots it trusts.
    pub roots: Vec<Cert>,
}

/// A workload's certificate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    /// Its serial number in hex.
    pub serial: String,
    /// The end of its life.
    pub until: Timestamp,
    /// The certificate in its chain that signed it, by key and not by name; none if none did.
    pub issuer: Option<Cert>,
    /// The certificates of its chain that may stand between that one and the root.
    pub between: Vec<Cert>,
}

/// A ConfigMap of roots.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Published {
    /// The roots in it, by their public keys.
    pub roots: Vec<String>,
    /// When it was last written. A pod that started later has been given what it holds; one that ran already is brought
    /// up to date by its kubelet's next sync.
    pub changed: Option<Timestamp>,
}

impl super::CacertsSeen {
    /// The roots that sign nothing and are to be taken out again, by their public keys.
    pub(crate) fn throw_aways(&self) -> impl Iterator<Item = &str> {
        let found = self.bundle.iter().filter(|root| pki::is_throw_away(root));
        found.map(|root| root.spki_sha256.as_str())
    }
}

impl Proxy {
    /// `namespace/name` of its pod.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.namespace(), self.pod.name)
    }

    /// Its pod's namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.pod.namespace.as_deref().unwrap_or_default()
    }
}

impl Held {
    /// The roots it trusts, by their public keys.
    pub(crate) fn trusts(&self) -> Vec<&str> {
        let keys = self.roots.iter();
        keys.map(|root| root.facts().spki_sha256.as_str()).collect()
    }
}

impl Leaf {
    /// Whether the authority that signed it leads to this root, or is it: by signature, since old and new have one
    /// name.
    pub(crate) fn is_under(&self, root: &Cert) -> bool {
        let issuer = self.issuer.as_ref();
        issuer.is_some_and(|issuer| pki::leads(issuer, &self.between, root))
    }
}

impl TrustSeen {
    /// Reads a member. `istio` is the namespace of its control plane.
    pub(crate) async fn read(cluster: &Cluster, istio: &str) -> Result<Self, cluster::Error> {
        let (pods, maps, mutating, validating) = tokio::try_join!(
            cluster.list(&Kind::POD, None, None),
            cluster.list(&Kind::CONFIG_MAP, None, Some(WRITTEN)),
            cluster.list(&Kind::MUTATING_WEBHOOK_CONFIGURATION, None, None),
            cluster.list(&Kind::VALIDATING_WEBHOOK_CONFIGURATION, None, None),
        )?;
        let found: Vec<_> = pods
            .iter()
            .filter(|pod| runs(pod))
            .filter_map(proxy)
            .collect();
        let proxies = stream::iter(found)
            .map(|(proxy, place)| asked(cluster, proxy, place))
            .buffer_unordered(ABREAST);
        let replicas = replicas::read(cluster, istio, replicas::among(&pods, istio));
        let (mut proxies, replicas): (Vec<_>, _) = futures::join!(proxies.collect(), replicas);
        proxies.sort_by(|a: &Proxy, b: &Proxy| a.pod.cmp(&b.pod));
        Ok(Self {
            proxies,
            published: published(&maps),
            webhooks: mutating
                .iter()
                .chain(&validating)
                .flat_map(|hooks| webhooks(hooks, istio))
                .collect(),
            replicas,
        })
    }
}

/// How many proxies of a member run each version of Istio, by namespace. Gateways are among them.
pub(crate) async fn versions(
    cluster: &Cluster,
) -> Result<BTreeMap<String, BTreeMap<String, usize>>, cluster::Error> {
    let pods = cluster.list(&Kind::POD, None, None).await?;
    let mut all: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| runs(pod)) {
        let version = version(pod).map_or_else(|| "unknown".to_owned(), |v| v.to_string());
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let places = all.entry(version).or_default();
        *places.entry(namespace.to_owned()).or_default() += 1;
    }
    Ok(all)
}

/// The version of Istio that a pod's proxy is of.
pub(crate) fn version(pod: &Value) -> Option<Version> {
    let of = |key: &str| pod["spec"][key].as_array().into_iter().flatten();
    let mut containers = of("containers").chain(of("initContainers"));
    let proxy = containers.find(|c| c["name"] == CONTAINER)?;
    facts::version_of(proxy["image"].as_str()?)
}

fn place(pod: &Value) -> PlaceSeen {
    let told = |name: &str| facts::variable(pod, Some(CONTAINER), name).unwrap_or_default();
    PlaceSeen {
        cluster: told("ISTIO_META_CLUSTER_ID").to_owned(),
        network: told("ISTIO_META_NETWORK").to_owned(),
    }
}

/// The running pods of a member whose proxies were told of another place than this, as `namespace/name`.
pub(super) async fn elsewhere(
    cluster: &Cluster,
    here: &PlaceSeen,
) -> Result<Vec<String>, cluster::Error> {
    let pods = cluster.list(&Kind::POD, None, None).await?;
    let found = pods.iter().filter(|pod| runs(pod)).filter_map(proxy);
    let mut found: Vec<_> = found
        .filter(|(proxy, _)| proxy.place != *here)
        .map(|(proxy, _)| proxy.name())
        .collect();
    found.sort();
    Ok(found)
}

/// Whether a pod's proxy runs: a pod that has not come so far is given what holds when it does, and one that has ended
/// needs nothing.
pub(crate) fn runs(pod: &Value) -> bool {
    let status = &pod["status"];
    let is_over = ["Succeeded", "Failed"]
        .iter()
        .any(|p| status["phase"] == *p);
    let of = |key: &str| status[key].as_array().into_iter().flatten();
    // A sidecar may be an init container that goes on.
    let mut all = of("containerStatuses").chain(of("initContainerStatuses"));
    !is_over && all.any(|c| c["name"] == CONTAINER && c["state"]["running"].is_object())
}

/// A pod's proxy before it is asked, with the names it is asked by; none if it has no proxy of Istio's.
fn proxy(pod: &Value) -> Option<(Proxy, (String, String))> {
    let metadata = &pod["metadata"];
    metadata["annotations"][INJECTED].as_str()?;
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text("namespace"), text("name"));
    let proxy = Proxy {
        pod: Ref::namespaced(&Kind::POD, namespace.as_str(), name.as_str()),
        uid: text("uid"),
        owner: Ref::controller(pod),
        is_gateway: metadata["annotations"]["inject.istio.io/templates"] == "gateway",
        started: facts::time(&pod["status"]["startTime"]),
        follows: facts::variable(pod, Some(CONTAINER), FOLLOWS) == Some("true"),
        place: place(pod),
        held: Err("not asked".into()),
    };
    Some((proxy, (namespace, name)))
}

async fn asked(cluster: &Cluster, proxy: Proxy, (namespace, pod): (String, String)) -> Proxy {
    let held = holding(cluster, &namespace, &pod).await;
    Proxy { held, ..proxy }
}

/// The certificates that one proxy holds, by its own word.
pub(crate) async fn holding(cluster: &Cluster, namespace: &str, pod: &str) -> Result<Held, String> {
    held(&page(cluster, namespace, pod, probe::SECRETS).await?)
}

/// A page of a proxy's admin port.
pub(crate) async fn page(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    path: &str,
) -> Result<Bytes, String> {
    let page = cluster.get(namespace, pod, probe::ADMIN, path);
    match tokio::time::timeout(LIMIT, page).await {
        Err(_) => Err(format!("does not answer within {} s", LIMIT.as_secs())),
        Ok(Err(error)) => Err(causes::line(&error)),
        Ok(Ok(answer)) => Ok(answer.body),
    }
}

fn held(body: &[u8]) -> Result<Held, String> {
    let certificates = probe::read_certificates(body).map_err(|e| causes::line(&e))?;
    let mut chain = certificates.chain.into_iter();
    let Some(leaf) = chain.next() else {
        return Err("has no certificate yet".into());
    };
    let facts = leaf.facts();
    let between: Vec<_> = chain.collect();
    let mut issuers = between.iter().chain(&certificates.roots);
    Ok(Held {
        leaf: Leaf {
            serial: facts.serial.clone(),
            until: facts.not_after,
            issuer: issuers.find(|issuer| leaf.signed_by(issuer)).cloned(),
            between,
        },
        roots: certificates.roots,
    })
}

fn published(maps: &[Value]) -> BTreeMap<String, Published> {
    let maps = maps
        .iter()
        .filter(|m| m["metadata"]["name"] == facts::ROOTS);
    let one = |map: &Value| {
        let space = map["metadata"]["namespace"].as_str()?.to_owned();
        let published = Published {
            roots: facts::published_roots(map),
            changed: facts::written(map),
        };
        Some((space, published))
    };
    maps.filter_map(one).collect()
}

/// The bundles of a webhook configuration that leads to istiod.
fn webhooks(hooks: &Value, istio: &str) -> Option<(String, Vec<String>)> {
    let name = hooks["metadata"]["name"].as_str()?;
    let all = hooks["webhooks"].as_array().into_iter().flatten();
    let ours = all
        .map(|hook| &hook["clientConfig"])
        .filter(|client| client["service"]["namespace"] == istio);
    let bundles: Vec<_> = ours
        .map(|client| {
            let pem = client["caBundle"].as_str();
            let pem = pem.and_then(|text| STANDARD.decode(text).ok());
            pki::roots(&pem.unwrap_or_default())
        })
        .collect();
    // istiod writes them where it serves; what nobody has written is nobody's to wait for.
    if bundles.iter().all(Vec::is_empty) {
        return None;
    }
    // All of one configuration are written together; where they are not alike, only what all hold counts.
    let mut roots = bundles.first()?.clone();
    roots.retain(|root| bundles.iter().all(|bundle| bundle.contains(root)));
    let kind = hooks["kind"].as_str().unwrap_or_default();
    Some((format!("{kind} {name}"), roots))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Value {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "1",
                "annotations": {INJECTED: "{}"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "controller": true}]},
            "spec": {"containers": [{"name": "app"},
                {"name": CONTAINER, "env": [{"name": FOLLOWS, "value": "true"}]}]},
            "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z",
                "containerStatuses": [{"name": CONTAINER, "state": {"running": {}}}]},
        });
        change(&mut pod);
        pod
    }

    #[test]
    fn whatever_has_a_proxy_that_runs_is_found() {
        let found = |pod: &Value| Some(proxy(pod)?.0).filter(|_| runs(pod));
        let plain = found(&pod(|_| {})).unwrap();
        assert!(plain.follows && !plain.is_gateway && plain.held.is_err());
        assert_eq!(plain.owner.unwrap().to_string(), "ReplicaSet n/r");
        let native = pod(|p| {
            p["spec"]["initContainers"] = p["spec"]["containers"].take();
            let statuses = p["status"]["containerStatuses"].take();
            p["status"] = json!({"phase": "Pending", "initContainerStatuses": statuses});
        });
        assert!(found(&native).is_some_and(|p| p.follows));
        assert!(found(&pod(|p| p["status"]["phase"] = "Succeeded".into())).is_none());
        let waits = json!([{"name": CONTAINER, "state": {"waiting": {}}}]);
        assert!(found(&pod(|p| p["status"]["containerStatuses"] = waits)).is_none());
        assert!(found(&pod(|p| p["metadata"]["annotations"] = Value::Null)).is_none());
        // One that is on its way out carries traffic as long as it runs.
        let ending = pod(|p| p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
        assert!(found(&ending).is_some());
        let deaf = pod(|p| p["spec"]["containers"][1]["env"] = json!([]));
        assert!(found(&deaf).is_some_and(|p| !p.follows));
    }

    #[test]
    fn of_webhooks_only_istiods_count_and_what_all_of_them_hold() {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        let full = STANDARD.encode(root.pem());
        let hook = |namespace: &str, bundle: &str| json!({"clientConfig": {"caBundle": bundle, "service": {"namespace": namespace}}});
        let hooks = |list: Value| json!({"kind": "K", "metadata": {"name": "h"}, "webhooks": list});
        let of = |list: Value| webhooks(&hooks(list), "istio-system");
        assert_eq!(of(json!([hook("kube-system", &full)])), None);
        let both = of(json!([
            hook("istio-system", &full),
            hook("istio-system", &full)
        ]));
        assert_eq!(both.unwrap().1.len(), 1);
        let half = of(json!([
            hook("istio-system", &full),
            hook("istio-system", "")
        ]));
        assert_eq!(half.unwrap(), ("K h".into(), vec![]));
    }
}
