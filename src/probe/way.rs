//! The ways a probe can be asked: a protocol as the proxies see it, each on a port of its own.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, HOST, TE},
};
use http_body_util::Full;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NAMESPACE;
use crate::{digest::sha256_hex, name::ClusterName};

/// What a Service may be called, at most.
const LONGEST: usize = 63;
/// A gRPC message with nothing in it: not compressed, of no bytes.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// A way of asking.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// HTTP/1.1, by a Service with an address.
    Http,
    /// A unary gRPC call, with its status in trailers.
    Grpc,
    /// Bytes no proxy looks into.
    Tcp,
    /// HTTP/1.1, by a Service without an address.
    Headless,
}

impl Way {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Http, Self::Grpc, Self::Tcp, Self::Headless];

    /// As it is printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Headless => "headless",
        }
    }

    /// The Service's port.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Http => 8080,
            Self::Grpc => 8081,
            Self::Tcp => 8082,
            Self::Headless => 8083,
        }
    }

    /// The Service that only `target` has an endpoint for.
    pub(crate) fn service(self, target: &ClusterName) -> String {
        let kind = match self {
            Self::Headless => "headless",
            _ => "probe",
        };
        let name = format!("{kind}-{target}");
        if name.len() <= LONGEST {
            return name;
        }
        let digest = sha256_hex(target.as_str().as_bytes());
        let (start, end) = (name.get(..LONGEST - 9), digest.get(..8));
        format!("{}-{}", start.unwrap_or(kind), end.unwrap_or_default())
    }

    /// Its name in DNS.
    pub(crate) fn host(self, target: &ClusterName) -> String {
        format!("{}.{NAMESPACE}.svc.cluster.local", self.service(target))
    }

    /// What a proxy says to a gateway to be passed on there.
    pub(crate) fn sni(self, target: &ClusterName) -> String {
        format!("outbound_.{}_._.{}", self.port(), self.host(target))
    }

    /// What a proxy calls the endpoints.
    pub(crate) fn envoy_cluster(self, target: &ClusterName) -> String {
        format!("outbound|{}||{}", self.port(), self.host(target))
    }

    /// The question a probe is sent; with `at`, for that one address.
    pub(super) fn question(self, target: &ClusterName, at: Option<&str>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::from_static("/");
        if self == Self::Grpc {
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::from_static("/meshlink.Probe/Ask");
            *request.body_mut() = Full::from(EMPTY_MESSAGE.to_vec());
        }
        let headers = request.headers_mut();
        set(
            headers,
            HOST,
            &format!("{}:{}", self.host(target), self.port()),
        );
        if self == Self::Grpc {
            set(headers, CONTENT_TYPE, "application/grpc");
            set(headers, TE, "trailers");
        }
        if let Some(at) = at {
            set(headers, HeaderName::from_static("x-meshlink-at"), at);
            let sni = self.sni(target);
            set(headers, HeaderName::from_static("x-meshlink-sni"), &sni);
        }
        request
    }
}

/// The request by which a probe tries to reach a host.
pub(super) fn dial(host: &str, port: u16) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::get(format!("http://{host}:{port}/")).body(Full::default())
}

/// The request for a page.
pub(super) fn page(path: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = Uri::from_static(path);
    request
}

/// Names and addresses are made of what a header may hold.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart_and_short_enough() {
        let name =
            |end: &str| -> ClusterName { format!("{}{end}", "a".repeat(60)).parse().unwrap() };
        for way in Way::ALL {
            let (one, two) = (way.service(&name("1")), way.service(&name("2")));
            assert!(one != two && one.len() == LONGEST, "{one} {two}");
        }
        let short = "eks-1".parse().unwrap();
        assert_eq!(Way::Http.service(&short), "probe-eks-1");
        let sni = "outbound_.8083_._.headless-eks-1.meshlink-probe.svc.cluster.local";
        assert_eq!(Way::Headless.sni(&short), sni);
    }

    #[test]
    fn one_address_is_asked_for_by_header() {
        let target = "eks-2".parse().unwrap();
        let plain = Way::Http.question(&target, None);
        assert_eq!(
            plain.headers()[HOST],
            "probe-eks-2.meshlink-probe.svc.cluster.local:8080"
        );
        assert!(!plain.headers().contains_key("x-meshlink-at"));
        let pinned = Way::Grpc.question(&target, Some("192.0.2.1:15443"));
        assert_eq!(pinned.headers()["x-meshlink-at"], "192.0.2.1:15443");
        assert_eq!(pinned.headers()[CONTENT_TYPE], "application/grpc");
    }
}
