//! One request: counted, timed, its refusal read. Everything else in this room is built on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::fmt::rfc2822::DateTimeParser;
use kube::client::Body;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{Cluster, Failure, Recover, failure::NoToken};
use crate::name::ClusterName;

/// How often a read is tried before its failure is told.
const READS: u32 = 4;
/// A longer `Retry-After` than this is the caller's affair.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server that never answered anything is waited for: a silent member is not to keep from us what there is
/// to say of the others.
const SILENCE: Duration = Duration::from_secs(10);

/// The most values that an answer may hold: each takes a hundred bytes of memory, but may be two in the answer.
const MOST: usize = 4_000_000;
/// How HTTP writes dates.
static DATES: DateTimeParser = DateTimeParser::new();
/// The largest answer that is read, and the largest refusal: whoever answers may not be the API server, or be broken.
const LARGEST: usize = 64 << 20;
const LARGEST_REFUSAL: usize = 1 << 20;

/// What was asked of an API server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// GETs that are not watches.
    pub(crate) reads: u64,
    /// Requests that may change an object.
    pub(crate) writes: u64,
    /// Access reviews: POSTs that change nothing.
    pub(crate) reviews: u64,
    /// Tokens asked for.
    pub(crate) tokens: u64,
    /// Watches opened.
    pub(crate) watches: u64,
    /// Ports forwarded.
    pub(crate) forwards: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    reviews: AtomicU64,
    tokens: AtomicU64,
    watches: AtomicU64,
    forwards: AtomicU64,
}

impl Counters {
    pub(crate) fn count(&self, method: &Method, path: &str, query: &str) {
        let counter = match *method {
            Method::GET if path.ends_with("/portforward") => &self.forwards,
            Method::GET
                if query
                    .split('&')
                    .any(|pair| matches!(pair, "watch=1" | "watch=true")) =>
            {
                &self.watches
            }
            Method::GET | Method::HEAD => &self.reads,
            Method::POST if path.contains("/authorization.k8s.io/") => &self.reviews,
            Method::POST if path.ends_with("/token") => &self.tokens,
            Method::POST if path.ends_with("/portforward") => &self.forwards,
            _ => &self.writes,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        Counts {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            reviews: self.reviews.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            watches: self.watches.load(Relaxed),
            forwards: self.forwards.load(Relaxed),
        }
    }
}

/// Puts the counters before a client. Its headers are set here too, since every request passes.
pub(crate) fn counted(
    cluster: &ClusterName,
    inner: kube::Client,
    counters: Arc<Counters>,
    headers: HeaderMap,
    token: Option<super::connect::TokenProvider>,
) -> kube::Client {
    let namespace = inner.default_namespace().to_owned();
    let cluster = cluster.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        counters.count(
            request.method(),
            request.uri().path(),
            request.uri().query().unwrap_or_default(),
        );
        let (inner, token) = (inner.clone(), token.clone());
        let told = Told::of(&cluster, &request);
        request.headers_mut().extend(headers.clone());
        async move {
            let send = async {
                if let Some(token) = token {
                    let bearer = token().await.map_err(NoToken)?.bearer()?;
                    request.headers_mut().insert(header::AUTHORIZATION, bearer);
                }
                inner.send(request).await.map_err(tower::BoxError::from)
            };
            told.when(send).await
        }
    });
    kube::Client::new(service, namespace)
}

/// A request as a log tells it: with its query, and without its body, which may be a key.
struct Told {
    request: String,
    begun: Instant,
}

impl Told {
    fn of(cluster: &ClusterName, request: &Request<Body>) -> Self {
        Self {
            request: format!("{cluster}: {} {}", request.method(), request.uri()),
            begun: Instant::now(),
        }
    }

    async fn when(
        self,
        answer: impl Future<Output = Result<Response<Body>, tower::BoxError>>,
    ) -> Result<Response<Body>, tower::BoxError> {
        let answer = answer.await;
        let (request, millis) = (self.request, self.begun.elapsed().as_millis());
        match &answer {
            Ok(answer) => tracing::debug!("{request}: {} in {millis} ms", answer.status().as_u16()),
            Err(_) => tracing::debug!("{request}: no answer in {millis} ms"),
        }
        answer
    }
}

/// A request without its host, which the client adds.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Option<&'a Value>,
    /// Counts the bytes of the answer.
    pub(crate) spent: Option<&'a AtomicU64>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: &'a str) -> Self {
        let (content_type, accept) = ("application/json", "application/json");
        Self {
            method,
            path,
            query: &[],
            content_type,
            accept,
            body: None,
            spent: None,
        }
    }

    pub(crate) fn get(path: &'a str) -> Self {
        Self::new(Method::GET, path)
    }

    fn request(&self) -> Result<Request<Body>, Failure> {
        let mut uri = self.path.to_owned();
        for (n, (key, value)) in self.query.iter().enumerate() {
            uri.push(if n == 0 { '?' } else { '&' });
            uri.push_str(key);
            uri.push('=');
            encode(value, &mut uri);
        }
        let body = self
            .body
            .map(|body| Body::from(body.to_string().into_bytes()));
        Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .header(header::CONTENT_TYPE, self.content_type)
            .header(header::ACCEPT, self.accept)
            .body(body.unwrap_or_else(Body::empty))
            .map_err(|error| Failure::Answer(error.to_string()))
    }
}

/// Percent-encodes a query value.
fn encode(text: &str, into: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                into.push(byte.into())
            }
            _ => _ = write!(into, "%{byte:02X}"),
        }
    }
}

impl Cluster {
    /// One JSON answer. Reads are tried a few times; writes are the caller's to repeat.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<(StatusCode, Value), Failure> {
        let mut answer = std::pin::pin!(self.persist(&call));
        if !self.0.answered.load(Relaxed) {
            let limit = SILENCE.min(self.0.timeout);
            match tokio::time::timeout(limit, &mut answer).await {
                Ok(answer) => return answer,
                // Another call may have been answered meanwhile.
                Err(_) if !self.0.answered.load(Relaxed) => return Err(Failure::Timeout(limit)),
                Err(_) => {}
            }
        }
        answer.await
    }

    async fn persist(&self, call: &Call<'_>) -> Result<(StatusCode, Value), Failure> {
        let mut attempt = 1;
        // All tries of a read have one limit together, so that a member which keeps us waiting does so once.
        let until = Instant::now() + self.0.timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let limit = match call.method == Method::GET {
                true => left,
                false => self.limit(call).await?,
            };
            let failure = match self.once(call, limit).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Timeout(_)) if call.method == Method::GET => {
                    return Err(Failure::Timeout(self.0.timeout));
                }
                Err(failure) => failure,
            };
            let pause = match failure.recover() {
                Recover::After(pause) if pause <= PATIENCE => pause,
                // These may pass with time, but to a read they are the answer.
                Recover::Backoff if !matches!(failure.code(), Some(404 | 409 | 410)) => {
                    Duration::from_millis(50 << attempt)
                }
                _ => return Err(failure),
            };
            if call.method != Method::GET || attempt == READS || Instant::now() + pause >= until {
                return Err(failure);
            }
            tracing::debug!(path = call.path, attempt, %failure, "reading again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// How long what is not a read may take. A write waits until it may begin, and ends before somebody else may write.
    async fn limit(&self, call: &Call<'_>) -> Result<Duration, Failure> {
        let asks = call.path.contains("/authorization.k8s.io/");
        match self.fence().filter(|_| !asks) {
            Some(fence) => Ok(fence.pass(self.name()).await?.min(self.0.timeout)),
            None => Ok(self.0.timeout),
        }
    }

    async fn once(&self, call: &Call<'_>, limit: Duration) -> Result<(StatusCode, Value), Failure> {
        // Never closed, so there is always room in the end; how long that takes is no time of the request's. A Lease is
        // renewed in time, or others may write.
        let _room = match call.path.contains("/leases") {
            true => None,
            false => self.0.room.acquire().await.ok(),
        };
        let exchange = async {
            let response = self.open(call.request()?).await?;
            let status = response.status();
            let body = collect(response, LARGEST).await?;
            if let Some(spent) = call.spent {
                spent.fetch_add(body.len() as u64, Relaxed);
            }
            if things(&body) > MOST {
                let why = format!("it holds more than {MOST} values");
                return Err(Failure::Answer(why));
            }
            let value = serde_json::from_slice(&body)
                .map_err(|error| Failure::Answer(error.to_string()))?;
            shape(&value).map_err(Failure::Answer)?;
            Ok((status, value))
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(Failure::Timeout(limit)))
    }

    /// The answer's head; refusals are already errors. No time limit.
    pub(crate) async fn open(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let response = self.client().send(request).await.map_err(Failure::of)?;
        self.0.answered.store(true, Relaxed);
        self.note_date(response.headers());
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let after = retry_after(response.headers());
        let body = collect(response, LARGEST_REFUSAL);
        let body = body.await.unwrap_or_default();
        Err(Failure::refused(status.as_u16(), &body, after))
    }

    /// Keeps what time the server says it is.
    fn note_date(&self, headers: &HeaderMap) {
        let said = headers.get(header::DATE).and_then(|d| d.to_str().ok());
        let date = said.and_then(|said| DATES.parse_timestamp(said).ok());
        if let (Some(date), Ok(mut known)) = (date, self.0.date.lock()) {
            *known = Some((date, tokio::time::Instant::now()));
        }
    }

    /// A watch: its answer as it comes.
    pub(crate) async fn stream(&self, call: Call<'_>) -> Result<Response<Body>, Failure> {
        let limit = self.0.timeout;
        let request = call.request()?;
        tokio::time::timeout(limit, self.open(request))
            .await
            .unwrap_or(Err(Failure::Timeout(limit)))
    }
}

/// How many values a text of JSON holds at most.
fn things(text: &[u8]) -> usize {
    let opens = |byte: &&u8| matches!(byte, b',' | b':' | b'[' | b'{');
    text.iter().filter(opens).count()
}

pub(crate) async fn collect(response: Response<Body>, limit: usize) -> Result<Bytes, Failure> {
    let read = Limited::new(response.into_body(), limit).collect().await;
    let body = read.map_err(|error| match error.downcast::<LengthLimitError>() {
        Ok(_) => Failure::Answer(format!("it is larger than {} MiB", limit >> 20)),
        Err(error) => Failure::of(kube::Error::Service(error)),
    })?;
    Ok(body.to_bytes())
}

/// What holds other things in an object, wherever it is read: everything below is looked up in these.
const HOLDERS: [&str; 4] = ["metadata", "spec", "status", "data"];

/// Whether an answer is made as the API says, so far as what reads it relies on that: an object, with objects where
/// objects belong, and if it is a list, a list of such.
pub(crate) fn shape(answer: &Value) -> Result<(), String> {
    object(answer, "it")?;
    match answer.get("items") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(items)) => items.iter().try_for_each(|item| object(item, "an item")),
        Some(other) => Err(format!("its items are {}, not a list", sort(other))),
    }
}

fn object(value: &Value, what: &str) -> Result<(), String> {
    let Value::Object(fields) = value else {
        return Err(format!("{what} is {}, not an object", sort(value)));
    };
    // The status of a Status is a word.
    let is_status = fields.get("kind").is_some_and(|kind| *kind == "Status");
    let inner = |of: &serde_json::Map<String, Value>, name: &str| match of.get(name) {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) if is_status => Ok(()),
        Some(other) => Err(format!(
            "{name} of {what} is {}, not an object",
            sort(other)
        )),
    };
    HOLDERS.iter().try_for_each(|name| inner(fields, name))?;
    let metadata = fields.get("metadata").and_then(Value::as_object);
    metadata.map_or(Ok(()), |metadata| {
        ["labels", "annotations"]
            .iter()
            .try_for_each(|name| inner(metadata, name))
    })
}

fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_once() {
        let counters = Counters::default();
        for (method, path, query) in [
            (Method::GET, "/api/v1/secrets", "limit=1"),
            (Method::GET, "/api/v1/secrets", "watch=1&limit=1"),
            (
                Method::PATCH,
                "/api/v1/namespaces/a/secrets/b",
                "fieldManager=meshlink",
            ),
            (Method::DELETE, "/api/v1/namespaces/a/secrets/b", ""),
            (
                Method::POST,
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "",
            ),
            (
                Method::POST,
                "/api/v1/namespaces/a/serviceaccounts/b/token",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods/b/portforward",
                "ports=15000",
            ),
        ] {
            counters.count(&method, path, query);
        }
        let want = Counts {
            reads: 1,
            writes: 2,
            reviews: 1,
            tokens: 1,
            watches: 1,
            forwards: 1,
        };
        assert_eq!(counters.read(), want);
    }

    #[test]
    fn queries_are_encoded() {
        let mut out = String::new();
        encode("istio/multiCluster=true,a b", &mut out);
        assert_eq!(out, "istio%2FmultiCluster%3Dtrue%2Ca%20b");
    }

    use std::sync::atomic::AtomicUsize;

    use serde_json::json;

    use super::super::testing::{Reply, cluster};

    /// Answers each request with the next of these, the last for ever.
    fn scripted(replies: &'static [(u16, Option<u64>)]) -> (Cluster, super::super::testing::Log) {
        let next = AtomicUsize::new(0);
        cluster(move |_| {
            let n = next.fetch_add(1, Relaxed).min(replies.len() - 1);
            let (code, retry_after) = replies[n];
            Reply {
                retry_after,
                ..Reply::json(code, json!({"n": n}))
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn reads_are_repeated_and_writes_are_not() {
        for (replies, reads, writes) in [
            (&[(503, None), (200, None)][..], Ok(2), Err(1)),
            (&[(429, Some(3)), (200, None)], Ok(2), Err(1)),
            (&[(429, Some(60)), (200, None)], Err(1), Err(1)),
            (&[(500, None)], Err(4), Err(1)),
            (&[(403, None)], Err(1), Err(1)),
            (&[(404, None)], Err(1), Err(1)),
        ] {
            for (method, want) in [(Method::GET, reads), (Method::POST, writes)] {
                let (cluster, log) = scripted(replies);
                let answer = cluster.call(Call::new(method.clone(), "/x")).await;
                let asked = log.lock().unwrap().len();
                assert_eq!(
                    answer.map(|_| asked).map_err(|_| asked),
                    want,
                    "{method} {replies:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_is_heeded() {
        let (cluster, _) = scripted(&[(429, Some(3)), (200, None)]);
        let start = tokio::time::Instant::now();
        cluster.call(Call::get("/x")).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_ends_times_out() {
        let (cluster, log) = cluster(|_| Reply {
            open: true,
            ..Reply::json(200, json!({}))
        });
        let failure = cluster
            .call(Call::new(Method::PUT, "/x"))
            .await
            .unwrap_err();
        assert!(
            matches!(failure, Failure::Timeout(limit) if limit.as_secs() == 30),
            "{failure}"
        );
        assert_eq!(log.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn every_request_names_us_and_carries_the_token_of_the_moment() {
        let (outer, log) = cluster(|_| Reply::json(200, json!({})));
        let turn = Arc::new(AtomicUsize::new(0));
        let provider: super::super::connect::TokenProvider = Arc::new(move || {
            let token = super::super::Token::new(format!("token-{}", turn.fetch_add(1, Relaxed)));
            Box::pin(async move { Ok(token) })
        });
        let client = counted(
            &"eks-1".parse().unwrap(),
            outer.client().clone(),
            Default::default(),
            HeaderMap::new(),
            Some(provider),
        );
        for n in 0..2 {
            client
                .send(Request::get("/x").body(Body::empty()).unwrap())
                .await
                .unwrap();
            let seen = log.lock().unwrap()[n].headers.clone();
            assert_eq!(seen["authorization"], format!("Bearer token-{n}"));
            assert_eq!(
                seen["user-agent"],
                concat!("meshlink/", env!("CARGO_PKG_VERSION"))
            );
        }
    }

    #[tokio::test]
    async fn without_a_token_nothing_is_sent() {
        let (outer, log) = cluster(|_| Reply::json(200, json!({})));
        let provider: super::super::connect::TokenProvider =
            Arc::new(|| Box::pin(async { Err("sso expired".into()) }));
        let client = counted(
            &"eks-1".parse().unwrap(),
            outer.client().clone(),
            Default::default(),
            HeaderMap::new(),
            Some(provider),
        );
        let error = client
            .send(Request::get("/x").body(Body::empty()).unwrap())
            .await
            .unwrap_err();
        let failure = Failure::of(error);
        assert!(
            matches!(
                failure,
                Failure::Transport {
                    kind: super::super::Transport::Credentials,
                    ..
                }
            ),
            "{failure:?}"
        );
        assert_eq!(failure.recover(), Recover::Never);
        assert!(log.lock().unwrap().is_empty());
    }
}
