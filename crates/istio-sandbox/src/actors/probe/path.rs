//! The way of a request through the mesh: from a pod's sidecar to a pod, across gateways if need be.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use http::StatusCode;
use serde_json::Value;

use super::{Action, Bootstrap, Facts, Question, message, reset};
use crate::{
    actors::{
        Cluster, Read,
        endpoints::{is_ready, target_port},
        istiod::{ServicePort, verifies},
        process::Page,
        proxy::{Proxy, listens, passes},
    },
    faults::Fault,
};

/// How often Envoy tries a request that fails before anything was sent.
const TRIES: usize = 3;

/// How an attempt to connect ended.
pub(crate) enum Connected {
    Open,
    Refused,
    Silent,
}

/// A pod that was reached, the port, and the cluster it is in.
type Reached = (Arc<Cluster>, Arc<Value>, u16);

/// Why an endpoint did not answer.
#[derive(Clone, Copy)]
enum Missed {
    Refused,
    /// Hung up on the handshake: no gateway there knows the name.
    HungUp,
    /// No trust between the two.
    Untrusted,
    Silent,
}

impl Missed {
    /// As Envoy's transport tells of it, where it is asked.
    fn reason(self) -> &'static str {
        match self {
            Self::Refused => "delayed_connect_error:_Connection_refused",
            Self::HungUp => {
                "TLS_error:|33554536:system_library:OPENSSL_internal:Connection_reset_by_peer:TLS_error_end"
            }
            Self::Untrusted => {
                "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end"
            }
            Self::Silent => "",
        }
    }

    fn page(self) -> Page {
        reset(match self {
            Self::Silent => "connection timeout",
            _ => "remote connection failure",
        })
    }
}

/// A request on its way out of a pod.
#[derive(Clone, Copy)]
pub(crate) struct On<'a> {
    pub(crate) from: &'a Arc<Cluster>,
    pub(crate) pod: &'a Value,
    pub(crate) question: Question<'a>,
    pub(crate) http2: bool,
}

impl On<'_> {
    /// Whether a name is a Service of the cluster that has an address.
    pub(crate) fn is_service(&self, host: &str) -> bool {
        let found = named(self.pod, host)
            .and_then(|(namespace, name)| self.from.objects.get("services", &namespace, &name));
        found.is_some_and(|s| s["spec"]["clusterIP"] != "None")
    }

    /// To a Service, by the pod's sidecar if it has one.
    pub(crate) async fn outbound(&self, host: &str, port: u16) -> (Page, Facts) {
        let known = named(self.pod, host).filter(|_| self.is_service(host));
        let Some((namespace, name)) = known else {
            return (no_upstream(), Facts::default());
        };
        let service = (namespace, name, port);
        match self.from.processes.proxy(self.pod.uid()) {
            Some(proxy) => (self.through(&proxy, &service).await, Facts::default()),
            None => (self.plainly(&service), Facts::default()),
        }
    }

    async fn through(&self, proxy: &Arc<Proxy>, service: &ServicePort) -> Page {
        let view = proxy.held();
        let hosts: Vec<(String, u16)> = proxy.hosts(&view, service).into_keys().collect();
        if hosts.is_empty() {
            return no_upstream();
        }
        let name = format!("{}.{}:{}", service.1, service.0, service.2);
        let mut missed = Missed::Refused;
        // A failed try goes to another host, if there is one.
        for _ in 0..TRIES {
            let (address, port) = &hosts[proxy.turn(&name) % hosts.len()];
            match reach(self.from, proxy, service, address, *port).await {
                Ok(reached) => return self.answered(Some(proxy), service, &reached),
                Err(why) => missed = why,
            }
        }
        missed.page()
    }

    /// To one address, past the sidecar but with its certificate, for the Service that a name means.
    pub(crate) async fn pinned(&self, at: &str, sni: &str) -> (Page, Facts) {
        let (address, port) = super::parted(at);
        let proxy = self.from.processes.proxy(self.pod.uid());
        let Some((proxy, service)) = proxy.zip(meant(sni)) else {
            return (super::refused(), Facts::default());
        };
        match reach(self.from, &proxy, &service, address, port).await {
            Ok(reached) => {
                let server = reached.0.processes.proxy(reached.1.uid());
                let server = server.map_or_else(String::new, |s| s.identity().into());
                let page = self.answered(Some(&proxy), &service, &reached);
                (
                    page,
                    Facts {
                        server,
                        ..Facts::default()
                    },
                )
            }
            Err(missed) => {
                let failure = missed.reason();
                (
                    missed.page(),
                    Facts {
                        failure,
                        ..Facts::default()
                    },
                )
            }
        }
    }

    /// Without a sidecar there is only the cluster's own balancing between its own pods.
    fn plainly(&self, service: &ServicePort) -> Page {
        let found = self.from.objects.get("services", &service.0, &service.1);
        let pods = self.from.objects.list("pods", Some(&service.0));
        let mine = |p: &&Arc<Value>| {
            found
                .as_ref()
                .is_some_and(|s| p.matches(&s["spec"]["selector"]))
                && is_ready(p)
        };
        let Some(pod) = pods.iter().find(mine) else {
            return super::refused();
        };
        let ports = found.as_ref().map_or(&[][..], |s| s.items("/spec/ports"));
        let port = ports.iter().find(|p| p["port"] == service.2);
        let port = port.map_or(service.2, |p| target_port(p, Some(pod)));
        self.answered(None, service, &(self.from.clone(), pod.clone(), port))
    }

    /// What the workload itself answers; only fixed answers end here.
    fn answered(
        &self,
        client: Option<&Arc<Proxy>>,
        service: &ServicePort,
        (cluster, pod, port): &Reached,
    ) -> Page {
        let Some(bootstrap) = Bootstrap::of(cluster, pod) else {
            return super::refused();
        };
        let page = match bootstrap.action(*port, self.question) {
            Action::Answer(status, body) => Page::text(status, &body),
            Action::Message(body) => message(&body),
            _ => Page::text(StatusCode::NOT_FOUND, ""),
        };
        let server = cluster.processes.proxy(pod.uid());
        let both = client.zip(server).filter(|_| is_http(cluster, service));
        let certificate = both.map(|(client, server)| {
            let (by, uri) = (server.identity(), client.identity());
            format!("By={by};Hash=00;Subject=\"\";URI={uri}")
        });
        let facts = Facts {
            client: certificate.unwrap_or_default(),
            protocol: if self.http2 { "HTTP/2" } else { "HTTP/1.1" },
            ..Facts::default()
        };
        facts.on(page, &bootstrap, *port)
    }
}

/// Whether proxies look into what is sent to a port: its name says so.
fn is_http(cluster: &Cluster, service: &ServicePort) -> bool {
    let found = cluster.objects.get("services", &service.0, &service.1);
    let ports = found.as_ref().map_or(&[][..], |s| s.items("/spec/ports"));
    let port = ports.iter().find(|p| p["port"] == service.2);
    port.is_some_and(|p| {
        ["http", "grpc"]
            .iter()
            .any(|kind| p.text("/name").starts_with(kind))
    })
}

/// Namespace and name of the Service a host name means.
fn named(pod: &Value, host: &str) -> Option<(String, String)> {
    let mut labels = host.trim_end_matches('.').split('.');
    let name = labels.next().filter(|name| !name.is_empty())?;
    let namespace = labels.next().unwrap_or_else(|| pod.ns());
    Some((namespace.into(), name.into()))
}

/// The service port an SNI such as `outbound_.80_._.name.namespace.svc.cluster.local` means.
fn meant(sni: &str) -> Option<ServicePort> {
    let (port, host) = sni.strip_prefix("outbound_.")?.split_once("_._.")?;
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    Some((namespace.into(), name.into(), port.parse().ok()?))
}

/// Follows one connection to the pod that takes it.
async fn reach(
    from: &Arc<Cluster>,
    proxy: &Proxy,
    service: &ServicePort,
    address: &str,
    port: u16,
) -> Result<Reached, Missed> {
    let address: Ipv4Addr = address.parse().map_err(|_| Missed::Refused)?;
    match connect(from, address.into(), port).await {
        Connected::Silent => return Err(Missed::Silent),
        Connected::Refused => return Err(Missed::Refused),
        Connected::Open => {}
    }
    let (cluster, pod, port) = match pod_at(from, address) {
        Some(pod) => (from.clone(), pod, port),
        None => behind_gateway(from, service, address, port).ok_or(Missed::HungUp)?,
    };
    match cluster.processes.proxy(pod.uid()) {
        Some(server) if !trust(proxy, &server, from.world.clock.second()) => Err(Missed::Untrusted),
        _ => Ok((cluster, pod, port)),
    }
}

/// The pod a gateway hands a connection for a service on to: one of its own network.
fn behind_gateway(
    from: &Cluster,
    service: &ServicePort,
    address: Ipv4Addr,
    port: u16,
) -> Option<Reached> {
    let balancer = from.world.balancers.at(address)?;
    let cluster = from.world.cluster(&balancer.cluster)?;
    let target = balancer.healthy(port).next()?;
    let gateway = cluster
        .objects
        .get("pods", &balancer.namespace, &target.pod)?;
    let host = format!("{}.{}.svc.cluster.local", service.1, service.0);
    if !passes(&cluster, &gateway, target.port)?
        .iter()
        .any(|pattern| covers(pattern, &host))
    {
        return None;
    }
    let envoy = cluster.processes.proxy(gateway.uid())?;
    let hosts: Vec<(String, u16)> = envoy.hosts(&envoy.held(), service).into_keys().collect();
    let turn = envoy.turn(&host).checked_rem(hosts.len())?;
    let (address, port) = &hosts[turn];
    let pod = pod_at(&cluster, address.parse().ok()?)?;
    Some((cluster, pod, *port))
}

/// Whether a Gateway host such as `*.local` covers a service.
fn covers(pattern: &str, host: &str) -> bool {
    let pattern = pattern.rsplit('/').next().unwrap_or(pattern);
    match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => pattern == host,
    }
}

/// Both ends must accept the other's certificate.
fn trust(client: &Proxy, server: &Proxy, now: i64) -> bool {
    let (Some(ours), Some(theirs)) = (client.leaf(), server.leaf()) else {
        return false;
    };
    verifies(&theirs.chain, &client.roots(), now) && verifies(&ours.chain, &server.roots(), now)
}

/// Opens a connection from inside a cluster to an address, to see who is there.
pub(crate) async fn connect(from: &Arc<Cluster>, address: IpAddr, port: u16) -> Connected {
    let found = match address {
        // Only the embedded API servers are on loopback; a pod reaches them as everybody does.
        address if address.is_loopback() => {
            let tried = tokio::time::timeout(
                from.timeline.connect,
                tokio::net::TcpStream::connect((address, port)),
            );
            return match tried.await {
                Ok(Ok(_)) => Connected::Open,
                Ok(Err(_)) => Connected::Refused,
                Err(_) => Connected::Silent,
            };
        }
        IpAddr::V4(address) => at(from, address, port),
        IpAddr::V6(_) => Connected::Silent,
    };
    if matches!(found, Connected::Silent) {
        tokio::time::sleep(from.timeline.connect).await;
    }
    found
}

fn at(from: &Cluster, address: Ipv4Addr, port: u16) -> Connected {
    if let Some(pod) = pod_at(from, address) {
        return if listens(from, &pod, port) {
            Connected::Open
        } else {
            Connected::Refused
        };
    }
    match from.world.balancers.at(address) {
        Some(balancer) if !from.has(Fault::Isolated) || balancer.cluster == from.name => {
            let there = from.world.cluster(&balancer.cluster);
            let second = balancer.addresses.get(1) == Some(&address);
            if second && there.is_some_and(|c| c.has(Fault::AddressSilent)) {
                return Connected::Silent;
            }
            if balancer.reaches(port) {
                Connected::Open
            } else {
                Connected::Refused
            }
        }
        _ => Connected::Silent,
    }
}

/// The addresses a pod's name server gives for a name.
pub(crate) fn lookup(from: &Cluster, host: &str) -> Vec<IpAddr> {
    from.resolve(host).into_iter().map(IpAddr::V4).collect()
}

fn pod_at(cluster: &Cluster, address: Ipv4Addr) -> Option<Arc<Value>> {
    let text = address.to_string();
    let mut pods = cluster.objects.list("pods", None);
    pods.retain(|p| p.text("/status/podIP") == text && !p.deleting());
    pods.pop()
}

fn no_upstream() -> Page {
    Page::text(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream")
}
