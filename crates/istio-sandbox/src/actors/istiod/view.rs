//! What one istiod knows of its mesh: services, endpoints and gateways of every cluster it reads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use serde_json::Value;

use super::{super::Read, authority::Der};

/// The label that names a network.
pub(crate) const NETWORK: &str = "topology.istio.io/network";
/// The port of a cross-network gateway unless its Service says otherwise.
const GATEWAY_PORT: u16 = 15443;

/// The objects of one cluster that istiod reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) namespaces: Vec<Arc<Value>>,
    pub(crate) services: Vec<Arc<Value>>,
    pub(crate) pods: Vec<Arc<Value>>,
    pub(crate) slices: Vec<Arc<Value>>,
}

/// A gateway of a network, by one resolved address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gateway {
    pub(crate) network: String,
    pub(crate) cluster: String,
    pub(crate) address: String,
    pub(crate) port: u16,
}

/// One endpoint of a service port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) cluster: String,
    pub(crate) network: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    /// Whether a sidecar takes mTLS there.
    pub(crate) mtls: bool,
    /// The zone of its node.
    pub(crate) zone: String,
}

/// A service port: namespace, service, port.
pub(crate) type ServicePort = (String, String, u16);

/// Everything an istiod tells its proxies.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) gateways: BTreeSet<Gateway>,
    /// Services without an address: a sidecar leaves those to DNS, a gateway does not.
    pub(crate) headless: Arc<BTreeSet<(String, String)>>,
    /// The trust bundle.
    pub(crate) roots: BTreeSet<Der>,
    pub(crate) roots_pem: String,
    /// Whether bundles of several roots are pushed to the proxies.
    pub(crate) multiroot: bool,
    /// This cluster's network.
    pub(crate) network: String,
}

/// The endpoints of every service port.
pub(crate) type Endpoints = BTreeMap<ServicePort, BTreeSet<Endpoint>>;

/// What one cluster adds to the view.
#[derive(Debug, Default)]
struct Part {
    network: String,
    endpoints: Endpoints,
    headless: BTreeSet<(String, String)>,
    /// The Services that stand for a gateway to a network.
    gateways: Vec<Arc<Value>>,
}

/// Puts views together. What one cluster adds is worked out when something in that cluster has changed, so that the
/// work in a mesh of many grows with what changes.
#[derive(Debug, Default)]
pub(super) struct Viewer {
    parts: BTreeMap<String, (Snapshot, Arc<Part>)>,
    /// The parts that the last view was made of, and what it had of them.
    made: Vec<Arc<Part>>,
    endpoints: Arc<Endpoints>,
    headless: Arc<BTreeSet<(String, String)>>,
}

impl Viewer {
    /// Puts the clusters together. `resolve` gives the addresses of a host name, as far as known.
    pub(super) fn view(
        &mut self,
        clusters: Vec<(String, Snapshot)>,
        system: &str,
        resolve: &mut dyn FnMut(&str) -> Vec<Ipv4Addr>,
    ) -> View {
        let mut all = vec![];
        let mut parts = BTreeMap::new();
        for (id, snapshot) in clusters {
            let known = self.parts.remove(&id);
            let part = match known.filter(|(before, _)| before.is_same(&snapshot)) {
                Some((_, part)) => part,
                None => Arc::new(Part::of(&id, &snapshot, system)),
            };
            all.push((id.clone(), part.clone()));
            parts.insert(id, (snapshot, part));
        }
        self.parts = parts;
        let same = self.made.len() == all.len()
            && self
                .made
                .iter()
                .zip(&all)
                .all(|(a, (_, b))| Arc::ptr_eq(a, b));
        if !same {
            let (mut endpoints, mut headless) = (Endpoints::new(), BTreeSet::new());
            for (_, part) in &all {
                for (port, more) in &part.endpoints {
                    let known: &mut BTreeSet<_> = endpoints.entry(port.clone()).or_default();
                    known.extend(more.iter().cloned());
                }
                headless.extend(part.headless.iter().cloned());
            }
            (self.endpoints, self.headless) = (Arc::new(endpoints), Arc::new(headless));
            self.made = all.iter().map(|(_, part)| part.clone()).collect();
        }
        let mut view = View {
            endpoints: self.endpoints.clone(),
            headless: self.headless.clone(),
            ..View::default()
        };
        for (id, part) in &all {
            view.add_gateways(id, &part.gateways, resolve);
        }
        if let Some((_, first)) = all.first() {
            view.network.clone_from(&first.network);
        }
        view
    }
}

impl Snapshot {
    /// Whether it holds the very objects that another one does.
    fn is_same(&self, other: &Self) -> bool {
        let same = |a: &[Arc<Value>], b: &[Arc<Value>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        same(&self.namespaces, &other.namespaces)
            && same(&self.services, &other.services)
            && same(&self.pods, &other.pods)
            && same(&self.slices, &other.slices)
    }
}

impl View {
    fn add_gateways(
        &mut self,
        id: &str,
        services: &[Arc<Value>],
        resolve: &mut dyn FnMut(&str) -> Vec<Ipv4Addr>,
    ) {
        for service in services {
            let Some(network) = service.label(NETWORK) else {
                continue;
            };
            let asked = service
                .label("networking.istio.io/gatewayPort")
                .and_then(|p| p.parse().ok());
            let port = asked.unwrap_or(GATEWAY_PORT);
            if !service
                .items("/spec/ports")
                .iter()
                .any(|p| p["port"] == port)
            {
                continue;
            }
            for ingress in service.items("/status/loadBalancer/ingress") {
                let addresses = match ingress.text("/ip") {
                    "" => resolve(ingress.text("/hostname"))
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                    ip => vec![ip.to_owned()],
                };
                self.gateways
                    .extend(addresses.into_iter().map(|address| Gateway {
                        network: network.into(),
                        cluster: id.into(),
                        address,
                        port,
                    }));
            }
        }
    }
}

impl Part {
    fn of(id: &str, snapshot: &Snapshot, system: &str) -> Self {
        let network = network_of(snapshot, system);
        let services = snapshot.services.iter();
        let mut part = Self {
            gateways: services
                .filter(|s| s.label(NETWORK).is_some())
                .cloned()
                .collect(),
            ..Self::default()
        };
        part.add_endpoints(id, &network, snapshot);
        part.network = network;
        part
    }

    fn add_endpoints(&mut self, id: &str, network: &str, snapshot: &Snapshot) {
        let pods: BTreeMap<&str, &Arc<Value>> =
            snapshot.pods.iter().map(|p| (p.uid(), p)).collect();
        for service in &snapshot.services {
            if service["spec"]["clusterIP"] == "None" {
                let key = (service.ns().to_owned(), service.name().to_owned());
                self.headless.insert(key);
            }
            for port in service.items("/spec/ports") {
                let key = (
                    service.ns().to_owned(),
                    service.name().to_owned(),
                    number(&port["port"]),
                );
                self.endpoints.entry(key).or_default();
            }
        }
        let services = snapshot.services.iter().map(|s| ((s.ns(), s.name()), s));
        let services: HashMap<_, _> = services.collect();
        for slice in &snapshot.slices {
            let Some(service) = slice.label("kubernetes.io/service-name") else {
                continue;
            };
            let Some(found) = services.get(&(slice.ns(), service)) else {
                continue;
            };
            for (port, target) in ports(found, slice) {
                let key = (slice.ns().to_owned(), service.to_owned(), port);
                let ready = slice
                    .items("/endpoints")
                    .iter()
                    .filter(|e| e["conditions"]["ready"] == true);
                let endpoints = ready.filter_map(|e| {
                    let pod = pods.get(e.text("/targetRef/uid"));
                    let label = |key| pod.and_then(|p| p.label(key));
                    Some(Endpoint {
                        cluster: id.into(),
                        network: label(NETWORK).unwrap_or(network).into(),
                        address: e.items("/addresses").first()?.as_str()?.into(),
                        port: target,
                        mtls: label("security.istio.io/tlsMode") == Some("istio"),
                        zone: e.text("/zone").into(),
                    })
                });
                self.endpoints.entry(key).or_default().extend(endpoints);
            }
        }
    }
}

/// The network of a cluster is a label on the namespace of its control plane, and nothing else.
fn network_of(snapshot: &Snapshot, system: &str) -> String {
    let found = snapshot.namespaces.iter().find(|n| n.name() == system);
    found
        .and_then(|n| n.label(NETWORK))
        .unwrap_or_default()
        .into()
}

/// Service port and target port, matched by port name.
fn ports<'a>(service: &'a Value, slice: &'a Value) -> impl Iterator<Item = (u16, u16)> + 'a {
    service.items("/spec/ports").iter().filter_map(|port| {
        let target = slice
            .items("/ports")
            .iter()
            .find(|p| p.text("/name") == port.text("/name"))?;
        Some((number(&port["port"]), number(&target["port"])))
    })
}

fn number(value: &Value) -> u16 {
    value.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0)
}
