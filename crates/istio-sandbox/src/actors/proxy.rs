//! Sidecars and gateways: what each holds of istiod's view, its certificate, and its ports.

mod admin;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::admin::page as admin_page;
use super::{
    Actor, Clock, Cluster, Read, drive,
    istiod::{self, Der, Endpoint, Istiod, Leaf, NETWORK, ServicePort, View, certificates},
    probe,
};

/// One Envoy with its agent.
pub(crate) struct Proxy {
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) address: String,
    /// Whether it is a gateway and no sidecar.
    pub(crate) gateway: bool,
    pub(crate) version: String,
    uid: String,
    identity: String,
    network: String,
    /// What it calls its cluster.
    cluster: String,
    /// A gateway that is asked to show only one network's endpoints.
    requested_network: Option<String>,
    /// Whether the agent takes trust bundles from istiod as they change.
    follows_bundle: bool,
    state: Mutex<State>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Default)]
struct State {
    held: Option<Arc<View>>,
    leaf: Option<Leaf>,
    /// ROOTCA: what peers are judged by.
    roots: BTreeSet<Der>,
    /// Whose turn it is, by cluster name.
    turns: HashMap<String, usize>,
}

/// An address Envoy would connect to, with how many endpoints stand behind it.
pub(crate) type Hosts = BTreeMap<(String, u16), Behind>;

/// What stands behind an address.
#[derive(Default)]
pub(crate) struct Behind {
    /// How many endpoints.
    pub(crate) weight: u32,
    /// Where the last of them is.
    pub(crate) zone: String,
}

/// Starts the proxy of a pod.
pub(crate) fn start(cluster: &Arc<Cluster>, pod: &Value, address: &str) -> Arc<Proxy> {
    let container = pod
        .items("/spec/containers")
        .iter()
        .find(|c| c["name"] == "istio-proxy");
    let image = container.map_or("", |c| c.text("/image"));
    let set = |name| istiod::env(pod, name).filter(|v| !v.is_empty());
    let account = match pod.text("/spec/serviceAccountName") {
        "" => "default",
        name => name,
    };
    let proxy = Arc::new(Proxy {
        pod: pod.name().into(),
        namespace: pod.ns().into(),
        address: address.into(),
        gateway: pod.annotation("inject.istio.io/templates") == Some("gateway"),
        version: image
            .rsplit_once(':')
            .map_or("unknown", |(_, tag)| tag)
            .into(),
        uid: pod.uid().into(),
        identity: format!(
            "spiffe://{}/ns/{}/sa/{account}",
            set("TRUST_DOMAIN").unwrap_or("cluster.local"),
            pod.ns()
        ),
        network: set("ISTIO_META_NETWORK")
            .or_else(|| pod.label(NETWORK))
            .unwrap_or_default()
            .into(),
        cluster: set("ISTIO_META_CLUSTER_ID").unwrap_or_default().into(),
        requested_network: set("ISTIO_META_REQUESTED_NETWORK_VIEW").map(String::from),
        follows_bundle: set("PROXY_CONFIG_XDS_AGENT") == Some("true"),
        state: Mutex::default(),
        task: Mutex::new(None),
    });
    let run = Run {
        proxy: Arc::downgrade(&proxy),
        clock: Clock::default(),
        projected: None,
    };
    let task = AbortOnDropHandle::new(tokio::spawn(drive(cluster.clone(), run)));
    *proxy.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    proxy
}

impl Proxy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has a certificate and a configuration.
    pub(crate) fn ready(&self) -> bool {
        let state = self.state();
        state.leaf.is_some() && state.held.is_some()
    }

    /// What its certificate says it is.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) fn leaf(&self) -> Option<Leaf> {
        self.state().leaf.clone()
    }

    /// What it shows, and by what it judges others; none as long as it has no certificate.
    pub(crate) fn certificates(&self) -> Option<(Leaf, BTreeSet<Der>)> {
        let state = self.state();
        Some((state.leaf.clone()?, state.roots.clone()))
    }

    pub(crate) fn roots(&self) -> BTreeSet<Der> {
        self.state().roots.clone()
    }

    pub(crate) fn held(&self) -> Arc<View> {
        self.state().held.clone().unwrap_or_default()
    }

    /// Round robin, as Envoy does by default.
    pub(crate) fn turn(&self, cluster: &str) -> usize {
        let mut state = self.state();
        let turn = state.turns.entry(cluster.into()).or_default();
        *turn += 1;
        *turn - 1
    }

    /// What a service port comes to for this proxy.
    pub(crate) fn hosts(&self, view: &View, port: &ServicePort) -> Hosts {
        let mut hosts = Hosts::new();
        let service = (port.0.clone(), port.1.clone());
        if !self.gateway && view.headless.contains(&service) {
            return hosts;
        }
        for endpoint in view.endpoints.get(port).into_iter().flatten() {
            for host in self.reach(view, endpoint) {
                let behind = hosts.entry(host).or_default();
                behind.weight += 1;
                behind.zone.clone_from(&endpoint.zone);
            }
        }
        hosts
    }

    /// The split-horizon rule: a pod of my network by its own address, another by its network's
    /// gateways; a network without a known gateway counts as mine.
    fn reach(&self, view: &View, endpoint: &Endpoint) -> Vec<(String, u16)> {
        let direct = vec![(endpoint.address.clone(), endpoint.port)];
        if let Some(only) = &self.requested_network {
            return if endpoint.network == *only {
                direct
            } else {
                Vec::new()
            };
        }
        let mine = if self.network.is_empty() {
            &view.network
        } else {
            &self.network
        };
        if endpoint.network == *mine {
            return direct;
        }
        let there = |g: &&istiod::Gateway| g.network == endpoint.network;
        let mut gateways: Vec<_> = view.gateways.iter().filter(there).collect();
        if gateways.is_empty() {
            return direct;
        }
        if gateways.iter().any(|g| g.cluster == endpoint.cluster) {
            gateways.retain(|g| g.cluster == endpoint.cluster);
        }
        if !endpoint.mtls {
            return Vec::new();
        }
        gateways
            .into_iter()
            .map(|g| (g.address.clone(), g.port))
            .collect()
    }
}

struct Run {
    proxy: Weak<Proxy>,
    clock: Clock,
    /// The trust bundle in the pod's volume.
    projected: Option<String>,
}

impl Actor for Run {
    async fn step(&mut self, cluster: &Arc<Cluster>) -> Option<Duration> {
        let proxy = self.proxy.upgrade()?;
        let was_ready = proxy.ready();
        self.project(cluster, &proxy);
        if let Some(istiod) = upstream(cluster, &proxy) {
            self.certify(&proxy, &istiod, cluster.world.clock.second());
            let view = istiod.view();
            let serial = Arc::as_ptr(&view) as usize;
            if self
                .clock
                .passed(format!("view/{serial}"), cluster.timeline.push)
            {
                proxy.state().held = Some(view);
            }
        }
        if proxy.ready() != was_ready {
            cluster.wake();
        }
        self.clock.due()
    }
}

impl Run {
    /// The volume has what the ConfigMap had when the pod started, and later follows it slowly.
    fn project(&mut self, cluster: &Cluster, proxy: &Proxy) {
        let Some(map) = cluster
            .objects
            .get("configmaps", &proxy.namespace, "istio-ca-root-cert")
        else {
            return;
        };
        let version = map.text("/metadata/resourceVersion");
        let late = self
            .clock
            .passed(format!("roots/{version}"), cluster.timeline.projection);
        if self.projected.is_none() || late {
            self.projected = Some(map.text("/data/root-cert.pem").into());
        }
    }

    /// A certificate at first, when half of its life is over, and when the set of trusted roots changes. An istiod whose
    /// own certificate does not verify is not spoken to anew.
    fn certify(&self, proxy: &Proxy, istiod: &Istiod, now: i64) {
        let authority = istiod.authority();
        let mut state = proxy.state();
        let reached = || {
            self.projected.as_ref().is_some_and(|p| {
                let trusted = certificates(p).unwrap_or_default().into_iter().collect();
                authority.serves(&trusted, now)
            })
        };
        let renew = match &state.leaf {
            None => reached(),
            Some(leaf) if now >= leaf.renewal => reached(),
            Some(_) => {
                proxy.follows_bundle && istiod.view().multiroot && authority.roots != state.roots
            }
        };
        if !renew {
            return;
        }
        if let Ok(leaf) = authority.issue(&proxy.identity, now) {
            state.leaf = Some(leaf);
            state.roots.clone_from(&authority.roots);
        }
    }
}

/// The istiod a proxy is connected to: any that is ready, and the same one as long as it is.
fn upstream(cluster: &Cluster, proxy: &Proxy) -> Option<Arc<Istiod>> {
    let mut ready = cluster.processes.istiods();
    ready.retain(|i| i.ready() && i.knows(&proxy.cluster));
    let sum: usize = proxy.uid.bytes().map(usize::from).sum();
    let chosen = sum % ready.len().max(1);
    ready.into_iter().nth(chosen)
}

/// Whether something accepts connections on a port of a pod.
pub(crate) fn listens(cluster: &Cluster, pod: &Value, port: u16) -> bool {
    let proxy = cluster.processes.proxy(pod.uid());
    match proxy.filter(|p| p.gateway) {
        Some(gateway) => gateway.ready() && (port == 15021 || passes(cluster, pod, port).is_some()),
        None => {
            let declared = pod
                .items("/spec/containers")
                .iter()
                .flat_map(|c| c.items("/ports"));
            let open = declared.into_iter().any(|p| p["containerPort"] == port);
            pod.text("/status/phase") == "Running" && (open || probe::listens(cluster, pod, port))
        }
    }
}

/// The hosts a gateway pod passes through on a port: none without a Gateway object that selects it.
pub(crate) fn passes(cluster: &Cluster, pod: &Value, port: u16) -> Option<Vec<String>> {
    let gateways = cluster.objects.list("gateways.networking.istio.io", None);
    let mine = gateways
        .iter()
        .filter(|g| pod.matches(&g["spec"]["selector"]));
    let servers = mine.flat_map(|g| g.items("/spec/servers"));
    let open: Vec<&Value> = servers
        .filter(|s| s["port"]["number"] == port && s["tls"]["mode"] == "AUTO_PASSTHROUGH")
        .collect();
    let hosts = open
        .iter()
        .flat_map(|s| s.items("/hosts"))
        .filter_map(|h| h.as_str().map(String::from));
    (!open.is_empty()).then(|| hosts.collect())
}
