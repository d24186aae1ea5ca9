//! Gateways: what they listen for, for which hosts, at which addresses, and whether these answer from here.

use std::{net::IpAddr, time::Duration};

use futures::future;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::judge::{lives, path};
use crate::resolve::Resolver;

/// How long one address may take.
const TRY: Duration = Duration::from_secs(5);
/// Who makes Gateways of the Gateway API into something, where it is Istio.
const CONTROLLER: &str = "istio.io/";

/// Which API a gateway is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Api {
    /// `networking.istio.io`.
    Istio,
    /// `gateway.networking.k8s.io`.
    GatewayApi,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Gateway {
    /// Its API.
    pub api: Api,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many pods are it.
    pub pods: usize,
    /// What it listens for.
    pub listeners: Vec<Listener>,
    /// Where it is reached from outside.
    pub addresses: Vec<Address>,
    /// What is wrong with it.
    pub against: Vec<String>,
}

/// A listener of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Listener {
    /// Its port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: String,
    /// What becomes of TLS.
    pub tls: Option<String>,
    /// For which hosts.
    pub hosts: Vec<String>,
}

/// Where a gateway is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Address {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it takes connections from this machine; none where that was not tried.
    pub answers: Option<bool>,
    /// What came of the try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// What gateways are made of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Objects<'a> {
    /// Gateways of Istio's API.
    pub(crate) istio: &'a [Value],
    /// Gateways of the Gateway API.
    pub(crate) api: &'a [Value],
    /// And their classes.
    pub(crate) classes: &'a [Value],
    /// Services.
    pub(crate) services: &'a [Value],
    /// Pods.
    pub(crate) pods: &'a [Value],
}

fn list<'v>(object: &'v Value, place: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    let found = object.pointer(place).and_then(Value::as_array);
    found.into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| n.try_into().ok())
}

fn has(labels: &Value, selector: &Value) -> bool {
    let Some(selector) = selector.as_object().filter(|s| !s.is_empty()) else {
        return false;
    };
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Every gateway of a member.
pub(crate) fn gateways(objects: &Objects<'_>) -> Vec<Gateway> {
    let istio = objects.istio.iter().map(|g| of_istio(g, objects));
    let is_ours = |gateway: &&Value| {
        let class = &gateway["spec"]["gatewayClassName"];
        let class = objects
            .classes
            .iter()
            .find(|c| c["metadata"]["name"] == *class);
        let by = class.and_then(|c| c["spec"]["controllerName"].as_str());
        by.is_some_and(|by| by.starts_with(CONTROLLER))
    };
    let api = objects.api.iter().filter(is_ours);
    istio.chain(api.map(|g| of_api(g, objects))).collect()
}

fn of_istio(gateway: &Value, objects: &Objects<'_>) -> Gateway {
    let selector = &gateway["spec"]["selector"];
    let pods = objects.pods.iter().filter(|p| lives(p));
    let pods = pods.filter(|p| has(&p["metadata"]["labels"], selector));
    let pods: Vec<_> = pods.collect();
    let listener = |server: &Value| {
        let hosts = list(server, "/hosts").map(text);
        Some(Listener {
            port: number(&server["port"]["number"])?,
            protocol: text(&server["port"]["protocol"]),
            tls: server["tls"]["mode"].as_str().map(str::to_owned),
            // What stands before the slash says which namespaces may use the host.
            hosts: hosts.collect(),
        })
    };
    let listeners: Vec<_> = list(gateway, "/spec/servers")
        .filter_map(listener)
        .collect();
    let leads = |service: &&Value| {
        let is_open = ["LoadBalancer", "NodePort"]
            .iter()
            .any(|t| service["spec"]["type"] == *t);
        let to_them = |pod: &&Value| {
            pod["metadata"]["namespace"] == service["metadata"]["namespace"]
                && has(&pod["metadata"]["labels"], &service["spec"]["selector"])
        };
        is_open && pods.iter().any(to_them)
    };
    let services: Vec<_> = objects.services.iter().filter(leads).collect();
    let (mut addresses, mut against) = (vec![], vec![]);
    if pods.is_empty() {
        against.push("no pod has the labels of its selector".to_owned());
    }
    for service in &services {
        addresses.extend(outside(service, &listeners));
        let is_balanced = service["spec"]["type"] == "LoadBalancer";
        if is_balanced
            && list(service, "/status/loadBalancer/ingress")
                .next()
                .is_none()
        {
            against.push(format!("Service {} has no address", path(service)));
        }
    }
    let opens = |listener: &&Listener| !services.iter().any(|s| port(s, listener.port).is_some());
    let closed = listeners
        .iter()
        .filter(|_| !services.is_empty())
        .filter(opens);
    against.extend(closed.map(|l| format!("no Service leads to its port {}", l.port)));
    Gateway {
        api: Api::Istio,
        namespace: text(&gateway["metadata"]["namespace"]),
        name: text(&gateway["metadata"]["name"]),
        pods: pods.len(),
        listeners,
        addresses,
        against,
    }
}

/// The port of a Service by which a listener's is reached.
fn port(service: &Value, listener: u16) -> Option<u16> {
    let mut ports = list(service, "/spec/ports");
    let found = ports.find(|p| {
        number(&p["targetPort"]) == Some(listener) || number(&p["port"]) == Some(listener)
    });
    number(&found?["port"])
}

fn outside(service: &Value, listeners: &[Listener]) -> Vec<Address> {
    let hosts = list(service, "/status/loadBalancer/ingress");
    let hosts = hosts.filter_map(|i| i["hostname"].as_str().or(i["ip"].as_str()));
    let ports: Vec<_> = listeners
        .iter()
        .filter_map(|l| port(service, l.port))
        .collect();
    hosts
        .flat_map(|host| {
            ports
                .iter()
                .map(|port| untried(host, *port))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn untried(host: &str, port: u16) -> Address {
    Address {
        host: host.to_owned(),
        port,
        answers: None,
        says: None,
    }
}

fn of_api(gateway: &Value, objects: &Objects<'_>) -> Gateway {
    let listener = |listener: &Value| {
        let host = listener["hostname"].as_str().unwrap_or("*");
        Some(Listener {
            port: number(&listener["port"])?,
            protocol: text(&listener["protocol"]),
            tls: listener["tls"]["mode"].as_str().map(str::to_owned),
            hosts: vec![host.to_owned()],
        })
    };
    let listeners: Vec<_> = list(gateway, "/spec/listeners")
        .filter_map(listener)
        .collect();
    let hosts = list(gateway, "/status/addresses").filter_map(|a| a["value"].as_str());
    let ports = || listeners.iter().map(|l| l.port);
    let addresses = hosts.flat_map(|h| ports().map(|p| untried(h, p)).collect::<Vec<_>>());
    let conditions = list(gateway, "/status/conditions")
        .chain(list(gateway, "/status/listeners").flat_map(|l| list(l, "/conditions")));
    let wrong = conditions.filter(|c| c["status"] == "False" && c["type"] != "Conflicted");
    let mut against: Vec<_> = wrong
        .map(|c| format!("{}: {}", text(&c["type"]), text(&c["message"])))
        .collect();
    against.dedup();
    let metadata = &gateway["metadata"];
    let is_its = |pod: &&Value| {
        let labels = &pod["metadata"]["labels"];
        pod["metadata"]["namespace"] == metadata["namespace"]
            && labels["gateway.networking.k8s.io/gateway-name"] == metadata["name"]
    };
    Gateway {
        api: Api::GatewayApi,
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        pods: objects
            .pods
            .iter()
            .filter(|p| lives(p))
            .filter(is_its)
            .count(),
        addresses: addresses.collect(),
        listeners,
        against,
    }
}

/// Tries every address from this machine: a connection, and nothing is sent.
pub(crate) async fn connect(resolver: &Resolver, gateways: &mut [Gateway]) {
    let tries = gateways.iter_mut().map(|gateway| async move {
        let tries = gateway.addresses.iter_mut().map(async |address| {
            let (answers, says) = tried(resolver, &address.host, address.port).await;
            (address.answers, address.says) = (Some(answers), Some(says.clone()));
            (!answers).then(|| format!("{}:{} {says}", address.host, address.port))
        });
        let silent: Vec<_> = future::join_all(tries)
            .await
            .into_iter()
            .flatten()
            .collect();
        gateway.against.extend(silent);
    });
    future::join_all(tries).await;
}

async fn tried(resolver: &Resolver, host: &str, port: u16) -> (bool, String) {
    let ips = match (host.parse(), timeout(TRY, resolver.lookup(host))) {
        (Ok(ip), _) => vec![ip],
        (Err(_), lookup) => match lookup.await {
            Ok(Ok(ips)) => ips,
            Ok(Err(error)) => return (false, format!("does not resolve here: {error}")),
            Err(_) => return (false, "does not resolve here in time".into()),
        },
    };
    let one = |ip: IpAddr| async move {
        matches!(
            timeout(TRY, TcpStream::connect((ip, port))).await,
            Ok(Ok(_))
        )
    };
    let all = ips.len();
    let taken = future::join_all(ips.into_iter().map(one)).await;
    let taken = taken.into_iter().filter(|taken| *taken).count();
    let says = format!("takes connections from here at {taken} of {all} addresses");
    (all > 0 && taken == all, says)
}
