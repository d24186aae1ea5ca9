//! Reading what Envoy says. Pure.

use std::{collections::BTreeMap, fmt};

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Way;
use crate::{cluster::forward::Response, name::ClusterName};

/// What came back when a probe was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The words: the name of the cluster that answered, or why none did.
    pub(crate) said: String,
    /// The call's own status, of gRPC.
    pub(crate) grpc_status: Option<String>,
    /// How the question arrived: `HTTP/1.1`, `HTTP/2`.
    pub(crate) protocol: Option<String>,
    /// Whom the answering side saw, by the certificate.
    pub(crate) client: Option<String>,
    /// Whom the asking side saw; only where one address was asked past the sidecar.
    pub(crate) server: Option<String>,
    /// From the question's last byte to the answer's first, in microseconds.
    pub(crate) micros: Option<u64>,
    /// Why there was no connection.
    pub(crate) failure: Option<String>,
}

impl Answer {
    /// Reads an answer to a question in some way.
    pub(crate) fn read(way: Way, response: &Response) -> Self {
        let text = |name| header(&response.headers, name);
        // A gRPC message stands behind its flag and its length.
        let body = match way {
            Way::Grpc if text("grpc-status").as_deref() == Some("0") => response.body.get(5..),
            _ => response.body.get(..),
        };
        let said = String::from_utf8_lossy(body.unwrap_or_default());
        Self {
            status: response.status.as_u16(),
            said: said.trim().chars().take(300).collect(),
            grpc_status: text("grpc-status"),
            protocol: text("x-meshlink-protocol"),
            client: text("x-meshlink-client").and_then(|xfcc| client(&xfcc)),
            server: text("x-meshlink-server"),
            micros: text("x-meshlink-took-us").and_then(|t| t.parse().ok()),
            failure: text("x-meshlink-failure"),
        }
    }

    /// Whether it is what `target`'s probe says to a question in some way.
    pub(crate) fn is_from(&self, way: Way, target: &ClusterName) -> bool {
        let grpc =
            self.grpc_status.as_deref() == Some("0") && self.protocol.as_deref() == Some("HTTP/2");
        self.status == 200 && self.said == target.as_str() && (way != Way::Grpc || grpc)
    }

    /// Who answered the handshake, where one address was asked; else what stood in the way of it.
    pub(crate) fn handshake(&self) -> Result<&str, Trouble> {
        self.server.as_deref().ok_or_else(|| self.trouble())
    }

    /// What is wrong with it, by what Envoy says.
    pub(crate) fn trouble(&self) -> Trouble {
        let failure = self.failure.as_deref().unwrap_or_default();
        let says = |part: &str| failure.contains(part) || self.said.contains(part);
        match () {
            () if says("CERTIFICATE_VERIFY_FAILED") => Trouble::OtherRoot,
            () if says("refused") => Trouble::Refused,
            () if says("timeout") || self.status == 504 => Trouble::Timeout,
            () if says("Connection_reset_by_peer") => Trouble::HungUp,
            () if says("unreachable") || says("No_route") => Trouble::NoRoute,
            () if self.grpc_status.as_deref().is_some_and(|s| s != "0") => {
                Trouble::Grpc(self.grpc_status.clone().unwrap_or_default())
            }
            () if self.status == 200 && self.said.is_empty() => Trouble::Empty,
            () if self.status == 200 => Trouble::AnsweredBy(self.said.clone()),
            () => Trouble::Status {
                status: self.status,
                said: self.said.clone(),
                connected: !self.said.contains("remote connection failure"),
            },
        }
    }
}

/// Why a question was not answered by the one it was meant for. Its text fits behind an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Trouble {
    /// The other side's certificate is of another root.
    OtherRoot,
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// The other side ended the TLS handshake.
    HungUp,
    /// The network leads nowhere.
    NoRoute,
    /// This gRPC status.
    Grpc(String),
    /// An answer without a name in it.
    Empty,
    /// Somebody else answered.
    AnsweredBy(String),
    /// An HTTP status.
    Status {
        /// The status.
        status: u16,
        /// The body.
        said: String,
        /// Envoy does not say that it got no connection.
        connected: bool,
    },
    /// Nothing could be asked, for this reason.
    NotAsked(String),
}

impl Trouble {
    /// Whether it is one that a gateway makes whose port is not opened, or that trusts another root.
    pub(crate) fn is_at_the_gateway(&self) -> bool {
        match self {
            Self::OtherRoot | Self::Refused | Self::HungUp => true,
            Self::Status { connected, .. } => !connected,
            Self::Timeout
            | Self::NoRoute
            | Self::Grpc(_)
            | Self::Empty
            | Self::AnsweredBy(_)
            | Self::NotAsked(_) => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherRoot => f.write_str("shows a certificate of another root"),
            Self::Refused => f.write_str("refuses connections"),
            Self::Timeout => f.write_str("does not answer"),
            Self::HungUp => f.write_str("closes the connection during the TLS handshake"),
            Self::NoRoute => f.write_str("has no route to it"),
            Self::Grpc(status) => write!(f, "answers with gRPC status {status}"),
            Self::Empty => f.write_str("answers with nothing"),
            Self::AnsweredBy(who) => write!(f, "is answered by {who}"),
            Self::Status { status, said, .. } => write!(f, "answers with {status}: {said}"),
            Self::NotAsked(why) => f.write_str(why),
        }
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        trouble.to_string()
    }
}

/// What was written down is only for reading: which trouble it was is not told by its text.
impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::NotAsked(text)
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    // Envoy writes a dash where there is nothing to say.
    (!text.is_empty() && text != "-").then(|| text.to_owned())
}

/// The asking side in what the answering proxy says of its certificate: the last to hand it on.
fn client(xfcc: &str) -> Option<String> {
    let last = xfcc.rsplit(',').next()?;
    let uri = last.split(';').find_map(|part| part.strip_prefix("URI="))?;
    Some(uri.trim_matches('"').to_owned())
}

/// What came of trying an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialed {
    /// Something accepted the connection.
    Reached,
    /// The name is not known there.
    NoName,
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// Envoy said something else.
    Unclear(String),
}

impl Dialed {
    /// The outcome in words that fit behind an address.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Reached => "was reached",
            Self::NoName => "does not resolve",
            Self::Refused => "refuses connections",
            Self::TimedOut => "does not answer",
            Self::Unclear(said) => said,
        }
    }
}

/// Any answer but Envoy's own of a failed connect means that the other side was reached:
/// a TLS port drops a plain request, an API server complains about it.
pub(crate) fn read_dial(status: u16, body: &str) -> Dialed {
    if status != 503 && status != 504 {
        return Dialed::Reached;
    }
    let says = |parts: &[&str]| parts.iter().any(|part| body.contains(part));
    match () {
        () if says(&[
            "dns_resolution_failure",
            "DNS resolution failure",
            "dns resolution",
        ]) =>
        {
            Dialed::NoName
        }
        () if says(&["connection termination", "protocol error"]) => Dialed::Reached,
        () if says(&["Connection refused", "delayed connect error: 111"]) => Dialed::Refused,
        () if says(&["connection timeout", "request timeout"]) || status == 504 => Dialed::TimedOut,
        () if says(&["Network is unreachable", "No route to host"]) => Dialed::TimedOut,
        () => Dialed::Unclear(format!("answers with {status}: {}", body.trim())),
    }
}

/// An endpoint a proxy holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// Its address.
    pub(crate) address: String,
    /// Its port.
    pub(crate) port: u16,
    /// istiod's word on its health; proves nothing.
    pub(crate) healthy: bool,
    /// Where it is.
    pub(crate) region: String,
    /// And in which zone.
    pub(crate) zone: String,
    /// Its share of the requests.
    pub(crate) weight: u64,
    /// 0 is tried first.
    pub(crate) priority: u64,
}

/// The endpoints of one Envoy cluster in the answer of `/clusters?format=json`.
pub(crate) fn read_endpoints(body: &[u8], name: &str) -> Vec<Endpoint> {
    Held::read(body).of(name).to_vec()
}

/// What a proxy holds: the endpoints of each Envoy cluster.
#[derive(Debug, Default)]
pub(crate) struct Held(BTreeMap<String, Vec<Endpoint>>);

impl Held {
    /// Reads the answer of `/clusters?format=json`.
    pub(super) fn read(body: &[u8]) -> Self {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut held: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
        for cluster in answer["cluster_statuses"].as_array().into_iter().flatten() {
            if let Some(name) = cluster["name"].as_str() {
                let hosts = cluster["host_statuses"].as_array().into_iter().flatten();
                let endpoints = held.entry(name.to_owned()).or_default();
                endpoints.extend(hosts.filter_map(endpoint));
                endpoints.sort();
            }
        }
        Self(held)
    }

    /// Those of one Envoy cluster.
    pub(crate) fn of(&self, name: &str) -> &[Endpoint] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.values().flatten()
    }
}

fn endpoint(host: &Value) -> Option<Endpoint> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let socket = &host["address"]["socket_address"];
    Some(Endpoint {
        address: socket["address"].as_str()?.to_owned(),
        port: u16::try_from(socket["port_value"].as_u64()?).ok()?,
        healthy: host["health_status"]["eds_health_status"] == "HEALTHY",
        region: text(&host["locality"]["region"]),
        zone: text(&host["locality"]["zone"]),
        weight: host["weight"].as_u64().unwrap_or(1),
        priority: host["priority"].as_u64().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    fn answer(way: Way, headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Answer {
        let headers = headers
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
        let response = Response {
            status: StatusCode::OK,
            headers: headers.collect(),
            body: body.into(),
        };
        Answer::read(way, &response)
    }

    #[test]
    fn an_answer_names_both_ends() {
        let xfcc = "By=spiffe://td/ns/n/sa/b;Hash=00;Subject=\"\";URI=spiffe://td/ns/n/sa/a";
        let headers = [
            ("x-meshlink-client", xfcc),
            ("x-meshlink-took-us", "1250"),
            ("x-meshlink-server", "-"),
        ];
        let answer = answer(Way::Http, &headers, b"b\n");
        assert_eq!(answer.client.as_deref(), Some("spiffe://td/ns/n/sa/a"));
        assert_eq!((answer.micros, &answer.server), (Some(1250), &None));
        assert!(answer.is_from(Way::Http, &"b".parse().unwrap()));
        assert!(!answer.is_from(Way::Http, &"a".parse().unwrap()));
        assert!(!answer.is_from(Way::Grpc, &"b".parse().unwrap()));
        assert_eq!(answer.trouble().to_string(), "is answered by b");
    }

    #[test]
    fn a_call_counts_with_its_status_and_over_http_2_alone() {
        let target = "b".parse().unwrap();
        let of = |status: &'static str, protocol: &'static str| {
            let headers = [("grpc-status", status), ("x-meshlink-protocol", protocol)];
            answer(Way::Grpc, &headers, b"\0\0\0\0\x01b")
        };
        assert!(of("0", "HTTP/2").is_from(Way::Grpc, &target));
        assert!(!of("0", "HTTP/1.1").is_from(Way::Grpc, &target));
        assert!(!of("2", "HTTP/2").is_from(Way::Grpc, &target));
        assert_eq!(
            of("2", "HTTP/2").trouble().to_string(),
            "answers with gRPC status 2"
        );
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let of = |status, failure: &str, said: &str| Answer {
            status,
            failure: Some(failure.into()),
            said: said.into(),
            ..Answer::default()
        };
        for (failure, said, want, at_the_gateway) in [
            (
                "delayed_connect_error:_Connection_refused",
                "remote connection failure",
                "refuses connections",
                true,
            ),
            (
                "TLS_error:|1:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
                "",
                "shows a certificate of another root",
                true,
            ),
            (
                "TLS_error:|3:system_library:OPENSSL_internal:Connection_reset_by_peer",
                "",
                "closes the connection during the TLS handshake",
                true,
            ),
            (
                "",
                "reset reason: connection timeout",
                "does not answer",
                false,
            ),
            (
                "",
                "no healthy upstream",
                "answers with 503: no healthy upstream",
                false,
            ),
            (
                "",
                "reset reason: remote connection failure",
                "answers with 503: reset reason: remote connection failure",
                true,
            ),
        ] {
            let trouble = of(503, failure, said).trouble();
            assert_eq!(trouble.to_string(), want);
            assert_eq!(trouble.is_at_the_gateway(), at_the_gateway, "{trouble}");
            assert_eq!(of(503, failure, said).handshake(), Err(trouble));
        }
        // Whoever showed a certificate did so, whatever came of the question.
        let shown = Answer {
            server: Some("spiffe://td/ns/n/sa/b".into()),
            ..of(503, "", "no healthy upstream")
        };
        assert_eq!(shown.handshake(), Ok("spiffe://td/ns/n/sa/b"));
    }

    #[test]
    fn dials() {
        let failed = "upstream connect error or disconnect/reset before headers. reset reason: ";
        for (status, body, want) in [
            (200, "ok", Dialed::Reached),
            (
                400,
                "Client sent an HTTP request to an HTTPS server.",
                Dialed::Reached,
            ),
            (
                503,
                &format!("{failed}connection termination"),
                Dialed::Reached,
            ),
            (
                503,
                &format!(
                    "{failed}remote connection failure, transport failure reason: delayed connect error: Connection refused"
                ),
                Dialed::Refused,
            ),
            (
                503,
                &format!("{failed}connection timeout"),
                Dialed::TimedOut,
            ),
            (503, "DNS resolution failure", Dialed::NoName),
            (504, "", Dialed::TimedOut),
        ] {
            assert_eq!(read_dial(status, body), want, "{status} {body}");
        }
        assert!(matches!(
            read_dial(503, "no healthy upstream"),
            Dialed::Unclear(_)
        ));
    }

    #[test]
    fn endpoints_are_those_of_the_cluster_asked_for() {
        let host = |address: &str, health: &str| {
            json!({"address": {"socket_address":
            {"address": address, "port_value": 15443}}, "health_status": {"eds_health_status": health}})
        };
        let body = json!({"cluster_statuses": [
            {"name": "a", "host_statuses": [host("198.51.100.2", "HEALTHY"), host("198.51.100.1", "UNHEALTHY")]},
            {"name": "b", "host_statuses": [host("10.0.0.1", "HEALTHY")]},
            {"name": "c"},
        ]});
        let read = read_endpoints(body.to_string().as_bytes(), "a");
        let short: Vec<_> = read
            .iter()
            .map(|e| (e.address.as_str(), e.healthy))
            .collect();
        assert_eq!(short, [("198.51.100.1", false), ("198.51.100.2", true)]);
        assert!(read_endpoints(b"not json", "a").is_empty());
        assert!(read_endpoints(body.to_string().as_bytes(), "c").is_empty());
    }
}
