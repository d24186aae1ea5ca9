//! A user's own Service: whether it is there, what each cluster's proxies hold of it, and what of
//! that is in another cluster, by which gateway. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use futures::future;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Check, Claim, Outcome, Verifier, istiod};
use crate::{
    causes,
    cluster::{self, Cluster, Kind, Ref},
    name::ClusterName,
    probe::{ADMIN, Endpoint, read_endpoints},
    spec::GATEWAY_PORT,
};

mod judge;

/// A pod that has a sidecar says so by this label; istiod goes by it too.
const INJECTED: &str = "security.istio.io/tlsMode";

/// A Service of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_label = |part: &&str| {
            let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !part.is_empty() && part.len() <= 63 && part.bytes().all(fine)
        };
        let parts: Vec<_> = text.split('/').filter(is_label).collect();
        match parts.as_slice() {
            [namespace, name] if text.matches('/').count() == 1 => Ok(Self {
                namespace: (*namespace).to_owned(),
                name: (*name).to_owned(),
            }),
            _ => Err("write it like NAMESPACE/NAME".into()),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What was seen of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSeen {
    /// Which one.
    #[serde(flatten)]
    pub service: Name,
    /// In each member, in the mesh's order.
    pub clusters: Vec<There>,
}

/// What was seen of a Service in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct There {
    /// The cluster.
    pub cluster: String,
    /// Whether it has the namespace.
    pub namespace: bool,
    /// Whether it has the Service.
    pub service: bool,
    /// The Service has no address of its own.
    pub headless: bool,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Pods behind it that are ready, by address.
    pub ready: Vec<String>,
    /// Those of them that have no sidecar: nobody on another network reaches these.
    pub without_sidecar: Vec<String>,
    /// The proxy that was asked, as `namespace/pod`; none where the cluster has none.
    pub proxy: Option<String>,
    /// What that proxy holds.
    pub endpoints: Vec<Held>,
    /// Why something could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Its name, by which Istio knows the protocol.
    pub name: String,
    /// What its owner says is spoken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// TCP or UDP.
    pub protocol: String,
}

/// An endpoint of a Service, as one proxy holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The Service's port.
    pub service_port: u16,
    /// Where the proxy connects to.
    pub address: String,
    /// And the port there.
    pub port: u16,
    /// Whose endpoint it is; none where nobody has this address.
    pub of: Option<String>,
    /// The network it leads to, where that is another one: the address is its gateway's.
    pub via_network: Option<String>,
    /// Its region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Its share of the requests: the more pods behind a gateway, the more.
    pub weight: u64,
    /// 0 is tried first.
    pub priority: u64,
    /// istiod's word on its health; proves nothing.
    pub healthy: bool,
}

impl Verifier<'_> {
    /// Looks for a Service in every member, and at what a proxy in each holds of it.
    pub(crate) async fn service(&self, service: &Name) -> (ServiceSeen, Vec<Check>) {
        let members = self.mesh.clusters.iter();
        let looks = members.filter_map(|m| Some((&m.name, self.clusters.get(&m.name)?)));
        let looks = looks.map(|(name, cluster)| self.there(name, cluster, service));
        let (mut clusters, mut gateways) = (vec![], BTreeMap::new());
        for (there, known) in future::join_all(looks).await {
            for (to, addresses) in known {
                gateways
                    .entry(to)
                    .or_insert_with(BTreeSet::new)
                    .extend(addresses);
            }
            clusters.push(there);
        }
        self.attribute(&mut clusters, &gateways);
        let seen = ServiceSeen {
            service: service.clone(),
            clusters,
        };
        let checks = judge::checks(&seen, &gateways);
        (seen, checks)
    }

    /// One cluster's view, and which addresses its istiod gives the others' gateways.
    async fn there(
        &self,
        name: &ClusterName,
        cluster: &Cluster,
        service: &Name,
    ) -> (There, BTreeMap<String, BTreeSet<String>>) {
        let mut there = There {
            cluster: name.to_string(),
            ..There::default()
        };
        if let Err(error) = read(cluster, service, &mut there).await {
            there.problem = Some(causes::line(&error));
        }
        let seen = self.seen(name);
        let pods = seen.map(|s| &s.istiod.pods);
        let namespace = self.mesh.istio.namespace.as_str();
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pod in pods.into_iter().flatten() {
            let Ok(replica) = istiod::ask(cluster, namespace, pod, false).await else {
                continue;
            };
            for member in self.mesh.clusters.iter().filter(|m| m.name != *name) {
                let addresses = istiod::addresses(&replica, member);
                known
                    .entry(member.name.to_string())
                    .or_default()
                    .extend(addresses);
            }
        }
        (there, known)
    }

    /// Whose each endpoint is.
    fn attribute(&self, clusters: &mut [There], gateways: &BTreeMap<String, BTreeSet<String>>) {
        let members = &self.mesh.clusters;
        for there in clusters {
            let own: BTreeSet<_> = there.ready.iter().cloned().collect();
            for held in &mut there.endpoints {
                let through = gateways.iter().find(|(to, addresses)| {
                    **to != there.cluster
                        && held.port == GATEWAY_PORT
                        && addresses.contains(&held.address)
                });
                let through = through.and_then(|(to, _)| {
                    let member = members.iter().find(|m| m.name.as_str() == to)?;
                    Some((to.clone(), member.network.to_string()))
                });
                match through {
                    Some((to, network)) => {
                        (held.of, held.via_network) = (Some(to), Some(network));
                    }
                    None if own.contains(&held.address) => held.of = Some(there.cluster.clone()),
                    None => {}
                }
            }
        }
    }
}

/// Namespace, Service and pods as the API server has them, endpoints as a proxy has them.
async fn read(cluster: &Cluster, name: &Name, there: &mut There) -> Result<(), cluster::Error> {
    let namespace = Ref::cluster(&Kind::NAMESPACE, name.namespace.as_str());
    there.namespace = cluster.find(&namespace).await?.is_some();
    let reference = Ref::namespaced(&Kind::SERVICE, name.namespace.as_str(), name.name.as_str());
    if there.namespace
        && let Some(service) = cluster.find(&reference).await?
    {
        there.service = true;
        there.headless = service["spec"]["clusterIP"] == "None";
        there.ports = ports(&service);
        pods(cluster, name, &service, there).await?;
    }
    proxy(cluster, name, there).await
}

fn ports(service: &Value) -> Vec<Port> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = |p: &Value| {
        Some(Port {
            port: u16::try_from(p["port"].as_u64()?).ok()?,
            name: text(&p["name"]).unwrap_or_default(),
            app_protocol: text(&p["appProtocol"]),
            protocol: text(&p["protocol"]).unwrap_or_else(|| "TCP".into()),
        })
    };
    let mut all: Vec<_> = ports.filter_map(port).collect();
    all.sort();
    all
}

async fn pods(
    cluster: &Cluster,
    name: &Name,
    service: &Value,
    there: &mut There,
) -> Result<(), cluster::Error> {
    let selector = service["spec"]["selector"].as_object();
    let labels = selector.into_iter().flatten();
    let labels: Vec<_> = labels
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    if labels.is_empty() {
        return Ok(());
    }
    let labels = labels.join(",");
    let pods = cluster
        .list(&Kind::POD, Some(&name.namespace), Some(&labels))
        .await?;
    for pod in pods.iter().filter(|p| is_ready(p)) {
        let Some(address) = pod["status"]["podIP"].as_str() else {
            continue;
        };
        there.ready.push(address.to_owned());
        if pod["metadata"]["labels"][INJECTED] != "istio" {
            there.without_sidecar.push(address.to_owned());
        }
    }
    there.ready.sort();
    Ok(())
}

/// Asks a sidecar: one of the Service's namespace if there is one, else any.
async fn proxy(cluster: &Cluster, name: &Name, there: &mut There) -> Result<(), cluster::Error> {
    let label = format!("{INJECTED}=istio");
    let pods = cluster.list(&Kind::POD, None, Some(&label)).await?;
    let is_gateway = |p: &Value| {
        p["metadata"]["annotations"]["inject.istio.io/templates"]
            .as_str()
            .is_some_and(|t| t.contains("gateway"))
    };
    let running = |p: &&Value| is_ready(p) && !is_gateway(p);
    let mut sidecars: Vec<_> = pods.iter().filter(running).collect();
    sidecars.sort_by_key(|p| p["metadata"]["namespace"] != name.namespace.as_str());
    let Some(pod) = sidecars.first() else {
        return Ok(());
    };
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
    let (namespace, pod) = (text("namespace"), text("name"));
    let answer = cluster
        .get(namespace, pod, ADMIN, "/clusters?format=json")
        .await?;
    there.proxy = Some(format!("{namespace}/{pod}"));
    for port in &there.ports {
        let cluster = format!(
            "outbound|{}||{}.{}.svc.cluster.local",
            port.port, name.name, name.namespace
        );
        let endpoints = read_endpoints(&answer.body, &cluster).into_iter();
        there
            .endpoints
            .extend(endpoints.map(|e| held(port.port, e)));
    }
    Ok(())
}

fn held(service_port: u16, endpoint: Endpoint) -> Held {
    Held {
        service_port,
        address: endpoint.address,
        port: endpoint.port,
        of: None,
        via_network: None,
        region: endpoint.region,
        zone: endpoint.zone,
        weight: endpoint.weight,
        priority: endpoint.priority,
        healthy: endpoint.healthy,
    }
}

/// Whether a pod serves and stays.
fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|c| c["type"] == "Ready");
    pod["metadata"]["deletionTimestamp"].is_null() && ready.any(|c| c["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name: Name = "shop/cart".parse().unwrap();
        assert_eq!(name.to_string(), "shop/cart");
        for wrong in ["cart", "a/b/c", "/cart", "shop/", "Shop/cart", "a//b"] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }
}
