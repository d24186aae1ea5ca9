//! What lies between the clusters: load balancers, their addresses and their names.
//!
//! [`LoadBalancers`] is plain data behind one lock. The load-balancer actor of each cluster writes
//! it; the name server, the proxies of other clusters and the AWS emulator read it.
//! [`World`] adds the clusters themselves, so that a connection to an address can be followed.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{BalancerStatus, WorldClock, actors::Cluster};

/// The region all embedded clusters are in.
pub const REGION: &str = "us-west-2";
/// The account all embedded clusters are in.
pub const ACCOUNT: &str = "111122223333";

/// The account and the region of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Account.
    pub account: String,
    /// Region.
    pub region: String,
}

impl Default for Home {
    fn default() -> Self {
        Self {
            account: ACCOUNT.into(),
            region: REGION.into(),
        }
    }
}

/// The zones every cluster has nodes in.
pub const ZONES: [&str; 2] = ["us-west-2a", "us-west-2b"];

/// How a load balancer is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Public addresses.
    #[default]
    InternetFacing,
    /// Private addresses.
    Internal,
}

/// Where a load balancer is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, not yet serving.
    Provisioning,
    /// Serving.
    Active,
    /// Its Service is gone; it goes next.
    Deleting,
}

/// A target's health, in the words of the ELB API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Being registered.
    Registering,
    /// Registered, first health checks running.
    Checking,
    /// Answers on the target port.
    Healthy,
    /// Does not answer on the target port.
    Unhealthy,
    /// Being taken out.
    Draining,
}

impl Health {
    /// `State` and `Reason` as the ELB API gives them.
    #[cfg(test)]
    pub(crate) fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Registering => ("initial", Some("Elb.RegistrationInProgress")),
            Self::Checking => ("initial", Some("Elb.InitialHealthChecking")),
            Self::Healthy => ("healthy", None),
            Self::Unhealthy => ("unhealthy", Some("Target.FailedHealthChecks")),
            Self::Draining => ("draining", Some("Target.DeregistrationInProgress")),
        }
    }
}

/// One pod behind one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The pod's address.
    pub address: String,
    /// The pod's name.
    pub pod: String,
    /// The port of the pod.
    pub port: u16,
    /// The zone of the pod's node.
    pub zone: String,
    /// Its health.
    pub health: Health,
}

/// One port of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The port clients connect to.
    pub port: u16,
    /// Name of the Service port.
    pub name: String,
    /// The pods behind it.
    pub targets: Vec<Target>,
}

/// One network load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Its name in the cloud.
    pub name: String,
    /// The host name in the Service's status; empty where addresses are given out instead.
    pub dns_name: String,
    /// The embedded cluster it belongs to.
    pub cluster: String,
    /// Namespace of its Service.
    pub namespace: String,
    /// Its Service.
    pub service: String,
    /// Public or private.
    pub scheme: Scheme,
    /// Its zones.
    pub zones: Vec<String>,
    /// Its addresses, one a zone.
    pub addresses: Vec<Ipv4Addr>,
    /// Where it is in its life.
    pub state: State,
    /// Whether its name resolves by now.
    pub resolves: bool,
    /// Its ports, with their targets.
    pub listeners: Vec<Listener>,
}

impl LoadBalancer {
    /// A new load balancer for a Service, without listeners. `serial` is unique within the cluster.
    pub fn new(cluster: (&str, usize), service: (&str, &str), uid: &str, serial: usize) -> Self {
        let (cluster, index) = cluster;
        let (namespace, service) = service;
        let name = format!(
            "k8s-{}-{}-{}",
            short(namespace),
            short(service),
            &hash(&[cluster, uid])[..10]
        );
        let dns_name = format!(
            "{name}-{}.elb.{REGION}.amazonaws.com",
            &hash(&[uid, cluster])[..16]
        );
        let address = |zone: usize| wan(index, serial * ZONES.len() + zone);
        Self {
            name,
            dns_name,
            cluster: cluster.into(),
            namespace: namespace.into(),
            service: service.into(),
            scheme: Scheme::default(),
            zones: ZONES.map(String::from).to_vec(),
            addresses: (0..ZONES.len()).map(address).collect(),
            state: State::Provisioning,
            resolves: false,
            listeners: Vec::new(),
        }
    }

    /// The same in another region.
    #[must_use]
    pub(crate) fn within(mut self, region: &str) -> Self {
        self.dns_name = self.dns_name.replace(REGION, region);
        self
    }

    /// Whether a connection to `port` reaches a pod.
    pub(crate) fn reaches(&self, port: u16) -> bool {
        self.healthy(port).next().is_some()
    }

    /// The healthy targets of `port`.
    pub(crate) fn healthy(&self, port: u16) -> impl Iterator<Item = &Target> {
        let serves = self.state == State::Active;
        self.listeners
            .iter()
            .filter(move |l| serves && l.port == port)
            .flat_map(|l| &l.targets)
            .filter(|t| t.health == Health::Healthy)
    }
}

/// An address out of 198.18.0.0/15, which RFC 2544 sets aside for such tests.
fn wan(cluster: usize, host: usize) -> Ipv4Addr {
    let cluster = cluster % 512;
    let (second, third) = (18 + cluster / 256, cluster % 256);
    let byte = |n: usize| u8::try_from(n % 256).unwrap_or(u8::MAX);
    Ipv4Addr::new(198, byte(second), byte(third), byte(10 + host))
}

/// The first eight letters and digits, as the AWS controller shortens names.
fn short(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect()
}

fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    hex::encode(digest.finalize())
}

/// Every load balancer of the embedded world.
#[derive(Debug, Clone)]
pub struct LoadBalancers {
    all: Arc<Mutex<BTreeMap<String, LoadBalancer>>>,
    tick: watch::Sender<u64>,
}

impl Default for LoadBalancers {
    fn default() -> Self {
        Self {
            all: Arc::default(),
            tick: watch::Sender::new(0),
        }
    }
}

impl LoadBalancers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, LoadBalancer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Vec<LoadBalancer> {
        self.lock().values().cloned().collect()
    }

    /// The one that owns an address.
    pub(crate) fn at(&self, address: Ipv4Addr) -> Option<LoadBalancer> {
        self.lock()
            .values()
            .find(|lb| lb.addresses.contains(&address))
            .cloned()
    }

    /// The addresses behind a host name, if it resolves by now.
    pub(crate) fn resolve(&self, host: &str) -> Option<Vec<Ipv4Addr>> {
        let host = host.trim_end_matches('.');
        let all = self.lock();
        let found = all
            .values()
            .find(|lb| lb.resolves && lb.dns_name.eq_ignore_ascii_case(host))?;
        Some(found.addresses.clone())
    }

    /// Adds or replaces one.
    pub fn put(&self, balancer: LoadBalancer) {
        let old = self.lock().insert(balancer.name.clone(), balancer.clone());
        if old.as_ref() != Some(&balancer) {
            self.changed();
        }
    }

    /// Changes one, if it is there.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut LoadBalancer)) {
        let differs = {
            let mut all = self.lock();
            let Some(found) = all.get_mut(name) else {
                return;
            };
            let before = found.clone();
            change(found);
            before != *found
        };
        if differs {
            self.changed();
        }
    }

    /// Removes one.
    pub(crate) fn remove(&self, name: &str) {
        if self.lock().remove(name).is_some() {
            self.changed();
        }
    }

    /// Says so whenever anything about any of them has changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.tick.subscribe()
    }

    fn changed(&self) {
        self.tick.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// The clusters and what lies between them.
#[derive(Clone, Default)]
pub struct World {
    /// Every load balancer.
    pub balancers: LoadBalancers,
    /// What the cloud writes into the status of Services.
    pub(crate) status: BalancerStatus,
    /// What time it is everywhere.
    pub clock: WorldClock,
    homes: BTreeMap<String, Home>,
    clusters: Arc<Mutex<BTreeMap<String, Weak<Cluster>>>>,
}

impl World {
    /// A world without clusters.
    pub(crate) fn new(status: BalancerStatus, homes: BTreeMap<String, Home>) -> Self {
        Self {
            status,
            homes,
            ..Self::default()
        }
    }

    /// Where a cluster is.
    pub(crate) fn home(&self, cluster: &str) -> Home {
        self.homes.get(cluster).cloned().unwrap_or_default()
    }

    /// Makes a cluster known to the others.
    pub(crate) fn add(&self, cluster: &Arc<Cluster>) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.insert(cluster.name.clone(), Arc::downgrade(cluster));
    }

    /// A cluster by its name.
    pub(crate) fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)?
            .upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_shape_of_the_cloud() {
        let lb = LoadBalancer::new(
            ("eks-1", 0),
            ("istio-ingress", "istio-eastwestgateway"),
            "u-1",
            0,
        );
        let parts: Vec<&str> = lb.dns_name.split(['-', '.']).collect();
        assert_eq!(parts[..3], ["k8s", "istioing", "istioeas"]);
        assert_eq!((parts[3].len(), parts[4].len()), (10, 16));
        assert!(
            lb.dns_name.starts_with(&lb.name)
                && lb.dns_name.ends_with(".elb.us-west-2.amazonaws.com")
        );
        assert_eq!(
            lb.addresses,
            [Ipv4Addr::new(198, 18, 0, 10), Ipv4Addr::new(198, 18, 0, 11)]
        );
        let other = LoadBalancer::new(
            ("eks-2", 1),
            ("istio-ingress", "istio-eastwestgateway"),
            "u-1",
            0,
        );
        assert!(other.dns_name != lb.dns_name && !other.addresses.contains(&lb.addresses[0]));
    }

    #[test]
    fn a_name_resolves_only_when_it_may_and_in_any_case() {
        let all = LoadBalancers::default();
        let lb = LoadBalancer::new(("eks-1", 0), ("a", "b"), "u", 0);
        all.put(lb.clone());
        assert_eq!(all.resolve(&lb.dns_name), None);
        all.edit(&lb.name, |lb| lb.resolves = true);
        assert_eq!(
            all.resolve(&format!("{}.", lb.dns_name.to_uppercase())),
            Some(lb.addresses.clone())
        );
        assert!(!all.at(lb.addresses[1]).unwrap().reaches(15443));
    }
}
