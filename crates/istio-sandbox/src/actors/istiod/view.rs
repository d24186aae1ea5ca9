//! What one istiod knows of its mesh: services, endpoints and gateways of every cluster it reads.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    pub(crate) endpoints: BTreeMap<ServicePort, BTreeSet<Endpoint>>,
    pub(crate) gateways: BTreeSet<Gateway>,
    /// Services without an address: a sidecar leaves those to DNS, a gateway does not.
    pub(crate) headless: BTreeSet<(String, String)>,
    /// The trust bundle.
    pub(crate) roots: BTreeSet<Der>,
    pub(crate) roots_pem: String,
    /// Whether bundles of several roots are pushed to the proxies.
    pub(crate) multiroot: bool,
    /// This cluster's network.
    pub(crate) network: String,
}

impl View {
    /// Puts the clusters together. `resolve` gives the addresses of a host name, as far as known.
    pub(crate) fn of(
        clusters: &[(String, Snapshot)],
        system: &str,
        resolve: &mut dyn FnMut(&str) -> Vec<Ipv4Addr>,
    ) -> Self {
        let mut view = Self::default();
        for (n, (id, snapshot)) in clusters.iter().enumerate() {
            let network = network_of(snapshot, system);
            view.add_gateways(id, snapshot, resolve);
            view.add_endpoints(id, &network, snapshot);
            if n == 0 {
                view.network = network;
            }
        }
        view
    }

    fn add_gateways(
        &mut self,
        id: &str,
        snapshot: &Snapshot,
        resolve: &mut dyn FnMut(&str) -> Vec<Ipv4Addr>,
    ) {
        for service in &snapshot.services {
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
        for slice in &snapshot.slices {
            let Some(service) = slice.label("kubernetes.io/service-name") else {
                continue;
            };
            let found = snapshot
                .services
                .iter()
                .find(|s| s.ns() == slice.ns() && s.name() == service);
            let Some(found) = found else { continue };
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
