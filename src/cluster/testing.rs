//! A client whose server is a function: for tests of everything that speaks HTTP.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use super::{Cluster, connect};

/// A request as a test wants to see it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) uri: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// What to answer: a status, a body, and what else.
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) body: Vec<Bytes>,
    pub(crate) retry_after: Option<u64>,
    /// After the body, the answer stays open: a watch with nothing new.
    pub(crate) open: bool,
}

impl Reply {
    pub(crate) fn json(code: u16, body: Value) -> Self {
        Self {
            code,
            body: vec![body.to_string().into()],
            retry_after: None,
            open: false,
        }
    }

    pub(crate) fn status(code: u16, reason: &str) -> Self {
        Self::json(
            code,
            serde_json::json!({"kind": "Status", "code": code, "reason": reason, "message": reason}),
        )
    }

    /// A watch: its events, then silence (`open`) or the end.
    pub(crate) fn events(events: &[Value], open: bool) -> Self {
        let body = events
            .iter()
            .map(|event| format!("{event}\n").into())
            .collect();
        Self {
            code: 200,
            body,
            retry_after: None,
            open,
        }
    }
}

/// Everything that was asked, in order.
pub(crate) type Log = Arc<Mutex<Vec<Seen>>>;

/// A cluster answered by `serve`, and the log of what it was asked.
pub(crate) fn cluster(serve: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Cluster, Log) {
    let log = Log::default();
    let (serve, written) = (Arc::new(serve), log.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (serve, written) = (serve.clone(), written.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let seen = Seen {
                method: parts.method,
                uri: parts.uri.to_string(),
                headers: parts.headers,
                body,
            };
            written.lock().unwrap().push(seen.clone());
            let reply = serve(&seen);
            let mut response = Response::builder().status(reply.code);
            if let Some(seconds) = reply.retry_after {
                response = response.header("retry-after", seconds);
            }
            Ok::<_, kube::Error>(response.body(stream(reply.body, reply.open)).unwrap())
        }
    });
    let client = kube::Client::new(service, "default");
    (
        connect::from_client(
            &"eks-1".parse().unwrap(),
            client,
            "https://example.com",
            None,
        ),
        log,
    )
}

fn stream(
    chunks: Vec<Bytes>,
    open: bool,
) -> impl hyper::body::Body<Data = Bytes, Error = std::io::Error> {
    use futures::StreamExt;
    let frames = futures::stream::iter(
        chunks
            .into_iter()
            .map(|chunk| Ok(hyper::body::Frame::data(chunk))),
    );
    let rest = if open {
        futures::stream::pending().left_stream()
    } else {
        futures::stream::empty().right_stream()
    };
    http_body_util::StreamBody::new(frames.chain(rest))
}
