//! Plays a pod that runs Envoy from a static bootstrap of its own, as far as such a bootstrap uses
//! listeners with routes to fixed answers, to named services, or to wherever the request says.

mod bootstrap;
mod path;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, StatusCode, Uri, header::HOST};
use serde_json::Value;

use self::bootstrap::{Action, Bootstrap, Question, To};
use super::{Cluster, Read, process::Page};

/// What Envoy puts into the headers it adds to an answer.
#[derive(Default)]
struct Facts {
    /// The client's certificate, as the sidecar tells of it.
    client: String,
    protocol: &'static str,
    took: Duration,
    /// The server, by its certificate.
    server: String,
    /// Why no connection came about.
    failure: &'static str,
}

impl Facts {
    /// The page with what a listener adds to it.
    fn on(&self, mut page: Page, bootstrap: &Bootstrap, port: u16) -> Page {
        for (name, text) in bootstrap.adds(port) {
            let value = match text {
                "%REQ(X-FORWARDED-CLIENT-CERT)%" => self.client.clone(),
                "%PROTOCOL%" => self.protocol.into(),
                "%UPSTREAM_PEER_URI_SAN%" => self.server.clone(),
                "%UPSTREAM_TRANSPORT_FAILURE_REASON%" => self.failure.into(),
                text if text.starts_with("%COMMON_DURATION(") => self.took.as_micros().to_string(),
                text => text.into(),
            };
            // Envoy adds no header that would be empty.
            if let (Ok(name), false) = (HeaderName::try_from(name), value.is_empty()) {
                page.headers.push((name, value));
            }
        }
        page
    }
}

/// Whether the pod's own Envoy listens on a port.
pub(crate) fn listens(cluster: &Cluster, pod: &Value, port: u16) -> bool {
    Bootstrap::of(cluster, pod).is_some_and(|b| b.listener(port).is_some())
}

/// What the pod's own Envoy answers on one of its ports.
pub(crate) async fn ask(
    cluster: &Arc<Cluster>,
    pod: &Value,
    port: u16,
    uri: &Uri,
    headers: &HeaderMap,
) -> Page {
    let Some(bootstrap) = Bootstrap::of(cluster, pod) else {
        return refused();
    };
    let question = Question {
        path: uri.path(),
        headers,
    };
    let begun = Instant::now();
    let (page, mut facts) = match bootstrap.action(port, question) {
        Action::Answer(status, body) => (Page::text(status, &body), Facts::default()),
        Action::Message(body) => (message(&body), Facts::default()),
        Action::NotFound => (Page::text(StatusCode::NOT_FOUND, ""), Facts::default()),
        Action::On {
            to,
            http2,
            patience,
        } => {
            let on = path::On {
                from: cluster,
                pod,
                question,
                http2,
            };
            within(patience, go(on, to, uri)).await
        }
    };
    facts.took = begun.elapsed();
    facts.on(page, &bootstrap, port)
}

async fn go(on: path::On<'_>, to: To, uri: &Uri) -> (Page, Facts) {
    match to {
        To::Host(host, port) => on.outbound(&host, port).await,
        To::Pinned { at, sni } => on.pinned(&at, &sni).await,
        To::Anywhere => {
            let said = || on.question.header(HOST.as_str()).map(String::from);
            let authority = uri.authority().map(ToString::to_string).or_else(said);
            let authority = authority.unwrap_or_default();
            let (host, port) = parted(&authority);
            match on.is_service(host) {
                true => on.outbound(host, port).await,
                false => (dial(on.from, on.pod, host, port).await, Facts::default()),
            }
        }
    }
}

/// A gRPC message and the status of its call.
fn message(body: &str) -> Page {
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    let mut page = Page::text(StatusCode::OK, "");
    page.kind = "application/grpc";
    page.body = format!("\0\0\0\0{}{body}", char::from(length));
    let status = HeaderName::from_static("grpc-status");
    page.headers.push((status, "0".into()));
    page
}

fn parted(authority: &str) -> (&str, u16) {
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(80)),
        None => (authority, 80),
    }
}

async fn within(patience: Duration, answer: impl Future<Output = (Page, Facts)>) -> (Page, Facts) {
    let late = || Page::text(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout");
    tokio::time::timeout(patience, answer)
        .await
        .unwrap_or_else(|_| (late(), Facts::default()))
}

/// Resolves and connects as a dynamic forward proxy does, and tells how that went.
async fn dial(cluster: &Arc<Cluster>, pod: &Value, host: &str, port: u16) -> Page {
    let addresses = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => path::lookup(cluster, host),
    };
    let Some(address) = addresses.first() else {
        return Page::text(StatusCode::SERVICE_UNAVAILABLE, "DNS resolution failure");
    };
    if captured(cluster, pod, port) {
        return reset("connection termination");
    }
    match path::connect(cluster, *address, port).await {
        path::Connected::Refused => reset(
            "remote connection failure, transport failure reason: delayed connect error: Connection refused",
        ),
        path::Connected::Silent => reset("connection timeout"),
        // Whoever is there speaks TLS, and hangs up on plain text.
        path::Connected::Open => reset("connection termination"),
    }
}

/// Whether the pod's sidecar takes its connections to a port: it accepts them all before it tries itself.
fn captured(cluster: &Cluster, pod: &Value, port: u16) -> bool {
    let free = pod
        .annotation("traffic.sidecar.istio.io/excludeOutboundPorts")
        .unwrap_or_default();
    let is_free = free.split(',').any(|p| p.trim().parse() == Ok(port));
    !is_free && cluster.processes.proxy(pod.uid()).is_some()
}

fn reset(reason: &str) -> Page {
    let text = format!(
        "upstream connect error or disconnect/reset before headers. reset reason: {reason}"
    );
    Page::text(StatusCode::SERVICE_UNAVAILABLE, &text)
}

fn refused() -> Page {
    reset("remote connection failure")
}
