//! An Envoy bootstrap, read for what this room can play.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::actors::{Cluster, Read};

/// How long a route waits unless it says otherwise.
const ROUTE: Duration = Duration::from_secs(15);

/// A static bootstrap.
pub(crate) struct Bootstrap(Arc<Value>);

/// A request to one of its listeners.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) path: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

impl Question<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_grpc(&self) -> bool {
        self.header("content-type")
            .is_some_and(|t| t.starts_with("application/grpc"))
    }
}

/// What a route does with a request.
pub(crate) enum Action {
    /// A fixed answer.
    Answer(StatusCode, String),
    /// A fixed answer as a gRPC message, which another listener of the same Envoy gives.
    Message(String),
    /// Elsewhere.
    On {
        to: To,
        /// By HTTP/2.
        http2: bool,
        patience: Duration,
    },
    NotFound,
}

/// Where a request goes on to.
pub(crate) enum To {
    /// A named host.
    Host(String, u16),
    /// Where the request's own authority says.
    Anywhere,
    /// An address a header says, by mutual TLS for the name another header says.
    Pinned { at: String, sni: String },
}

impl Bootstrap {
    /// The bootstrap a container of the pod starts Envoy with, from its arguments or a ConfigMap.
    pub(crate) fn of(cluster: &Cluster, pod: &Value) -> Option<Self> {
        let text = pod
            .items("/spec/containers")
            .iter()
            .find_map(|c| config_of(cluster, pod, c))?;
        let read = cluster.document(&text)?;
        read.get("static_resources").is_some().then_some(Self(read))
    }

    pub(crate) fn listener(&self, port: u16) -> Option<&Value> {
        let is_port = |at: Option<&Value>| at == Some(&port.into());
        self.0
            .items("/static_resources/listeners")
            .iter()
            .find(|l| {
                let mut more = l.items("/additional_addresses").iter();
                is_port(l.pointer("/address/socket_address/port_value"))
                    || more.any(|a| is_port(a.pointer("/address/socket_address/port_value")))
            })
    }

    fn manager(&self, port: u16) -> Option<&Value> {
        self.listener(port)?
            .pointer("/filter_chains/0/filters/0/typed_config")
    }

    /// What a listener adds to its answers: names, and texts with facts to be put in.
    pub(crate) fn adds(&self, port: u16) -> Vec<(&str, &str)> {
        let added = self.manager(port).map_or(&[][..], |m| {
            m.items("/route_config/response_headers_to_add")
        });
        added
            .iter()
            .map(|h| (h.text("/header/key"), h.text("/header/value")))
            .collect()
    }

    /// What happens to a request on a port.
    pub(crate) fn action(&self, port: u16, question: Question<'_>) -> Action {
        let manager = self.manager(port);
        let hosts = manager.map_or(&[][..], |m| m.items("/route_config/virtual_hosts"));
        let mut routes = hosts.iter().flat_map(|h| h.items("/routes"));
        let Some(route) = routes.find(|r| fits(r, question)) else {
            return Action::NotFound;
        };
        let bridges = manager.is_some_and(|m| {
            let mut filters = m.items("/http_filters").iter();
            filters.any(|f| f.text("/name") == "envoy.filters.http.grpc_http1_reverse_bridge")
        });
        match self.follow(route, question) {
            // To the same Envoy: another listener's answer, with gRPC's frame around it.
            Action::On {
                to: To::Host(host, port),
                ..
            } if host == "127.0.0.1" => match self.action(port, question) {
                Action::Answer(_, body) if bridges && question.is_grpc() => Action::Message(body),
                other => other,
            },
            other => other,
        }
    }

    fn follow(&self, route: &Value, question: Question<'_>) -> Action {
        if let Some(answer) = route.get("direct_response") {
            let status = answer["status"]
                .as_u64()
                .and_then(|s| u16::try_from(s).ok());
            let status = status
                .and_then(|s| StatusCode::from_u16(s).ok())
                .unwrap_or(StatusCode::OK);
            return Action::Answer(status, answer.text("/body/inline_string").into());
        }
        let patience = seconds(route.text("/route/timeout")).unwrap_or(ROUTE);
        let name = route.text("/route/cluster");
        let clusters = self.0.items("/static_resources/clusters");
        let Some(cluster) = clusters.iter().find(|c| c["name"] == name) else {
            return Action::NotFound;
        };
        let http2 = cluster["typed_extension_protocol_options"]
            ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["explicit_http_config"]
            .get("http2_protocol_options")
            .is_some();
        match destination(cluster, question) {
            Some(to) => Action::On {
                to,
                http2,
                patience,
            },
            None => Action::NotFound,
        }
    }
}

fn destination(cluster: &Value, question: Question<'_>) -> Option<To> {
    if cluster.text("/cluster_type/name") == "envoy.clusters.dynamic_forward_proxy" {
        return Some(To::Anywhere);
    }
    if cluster["type"] == "ORIGINAL_DST" {
        let named = cluster.text("/original_dst_lb_config/http_header_name");
        let options = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        let sni = options.text("/upstream_http_protocol_options/override_auto_sni_header");
        return Some(To::Pinned {
            at: question.header(named)?.into(),
            sni: question.header(sni).unwrap_or_default().into(),
        });
    }
    let at = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    let address = cluster.pointer(at)?;
    let port = address["port_value"]
        .as_u64()
        .and_then(|p| u16::try_from(p).ok())
        .unwrap_or(80);
    Some(To::Host(address.text("/address").into(), port))
}

fn fits(route: &Value, question: Question<'_>) -> bool {
    let headers = route.items("/match/headers");
    let has = |h: &Value| question.header(h.text("/name")).is_some();
    if !headers.iter().all(has) || (route.pointer("/match/grpc").is_some() && !question.is_grpc()) {
        return false;
    }
    match (route.pointer("/match/path"), route.pointer("/match/prefix")) {
        (Some(exact), _) => exact == question.path,
        (_, Some(prefix)) => prefix
            .as_str()
            .is_some_and(|p| question.path.starts_with(p)),
        _ => false,
    }
}

/// A duration as protobuf writes it in YAML: `5s`, `0.25s`.
fn seconds(text: &str) -> Option<Duration> {
    let number: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(number).ok()
}

fn config_of(cluster: &Cluster, pod: &Value, container: &Value) -> Option<String> {
    let mut words = container
        .items("/command")
        .iter()
        .chain(container.items("/args"))
        .filter_map(Value::as_str);
    while let Some(word) = words.next() {
        match word {
            "--config-yaml" => return words.next().map(String::from),
            "-c" | "--config-path" => return file(cluster, pod, container, words.next()?),
            _ => {}
        }
    }
    None
}

/// The text of a file that a ConfigMap volume puts into the container.
fn file(cluster: &Cluster, pod: &Value, container: &Value, path: &str) -> Option<String> {
    let mount = container
        .items("/volumeMounts")
        .iter()
        .find(|m| path.starts_with(m.text("/mountPath")))?;
    let volume = pod
        .items("/spec/volumes")
        .iter()
        .find(|v| v["name"] == mount["name"])?;
    let map: Arc<Value> =
        cluster
            .objects
            .get("configmaps", pod.ns(), volume.text("/configMap/name"))?;
    let key = path
        .strip_prefix(mount.text("/mountPath"))?
        .trim_start_matches('/');
    map["data"][key].as_str().map(String::from)
}
