//! The front door: HTTP on loopback, signature, throttling, faults, then the service.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{Request, Response, body::Frame, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::AbortHandle};

use super::{
    ask::{Ask, REQUEST_ID, Refusal, Reply, answer},
    fault::{self, Kind},
    sign::{self, Scope, Signed},
    state::{Call, State},
    throttle::Bucket,
    xml::Xml,
};

type Body = BoxBody<Bytes, io::Error>;

/// The emulated AWS, shared by its HTTP service and by whoever moves it along.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<State>>);

impl Shared {
    /// Share a state.
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// Look at it or change it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running service; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    /// What `AWS_ENDPOINT_URL` is to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serve the emulated AWS on a listener.
pub fn serve(listener: TcpListener, state: Shared) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let state = state.clone();
            connections.spawn(async move {
                let service = service_fn(|request| respond(&state, request));
                // A connection that breaks is the client's to notice.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(Server {
        address,
        task: task.abort_handle(),
    })
}

/// A request, read.
struct Incoming {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

async fn respond(
    state: &Shared,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|b| b.to_bytes())
        .unwrap_or_default();
    let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let incoming = Incoming {
        method: head.method.to_string(),
        path: head.uri.path().into(),
        query: head.uri.query().unwrap_or_default().into(),
        headers: head
            .headers
            .iter()
            .map(|(k, v)| (k.as_str().to_owned(), text(v)))
            .collect(),
        body,
    };
    if let Some(cluster) = incoming.path.strip_prefix("/authenticate/") {
        return Ok(write(review(&state.lock(), cluster, &incoming.body), false));
    }
    if incoming.path == "/calls" {
        return Ok(write(calls(&state.lock()), false));
    }
    let (response, fault) = state.lock().take(&incoming);
    if let Some(Kind::Slow(pause)) = fault {
        tokio::time::sleep(pause).await;
    }
    Ok(write(response, matches!(fault, Some(Kind::Cut))))
}

fn write((status, headers, body): Written, cut: bool) -> Response<Body> {
    let body: Body = if cut {
        let half = Ok(Frame::data(Bytes::from(body[..body.len() / 2].to_owned())));
        let end = Err(io::Error::from(io::ErrorKind::ConnectionReset));
        StreamBody::new(stream::iter([half, end])).boxed()
    } else {
        Full::new(Bytes::from(body))
            .map_err(|never: Infallible| match never {})
            .boxed()
    };
    let mut response = Response::new(body);
    *response.status_mut() = status
        .try_into()
        .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Answer an API server's question about a token.
fn review(state: &State, cluster: &str, body: &[u8]) -> Written {
    let asked: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let token = asked["spec"]["token"].as_str().unwrap_or_default();
    let status = match state.speaker(token, cluster) {
        Ok(speaker) => serde_json::json!({
            "authenticated": true,
            // What it may do is the cluster's to say: a binding names it, as for an access entry.
            "user": {"username": speaker.arn, "uid": speaker.account},
        }),
        Err(why) => serde_json::json!({"authenticated": false, "error": why}),
    };
    let review = serde_json::json!({
        "apiVersion": asked["apiVersion"].as_str().unwrap_or("authentication.k8s.io/v1"),
        "kind": "TokenReview",
        "status": status,
    });
    let headers = vec![("content-type", "application/json".to_owned())];
    (200, headers, review.to_string())
}

/// What was asked so far, for whoever keeps count: nothing of it is secret.
fn calls(state: &State) -> Written {
    let one = |call: &Call| {
        let at = call.at.duration_since(SystemTime::UNIX_EPOCH);
        serde_json::json!({
            "at": at.unwrap_or_default().as_secs_f64(),
            "action": call.action,
            "status": call.status,
        })
    };
    let body = serde_json::json!({
        "throttle": state.turned_away.get(),
        "calls": state.calls.iter().map(one).collect::<Vec<_>>(),
    });
    let headers = vec![("content-type", "application/json".to_owned())];
    (200, headers, body.to_string())
}

/// Status, headers and body.
type Written = (u16, Vec<(&'static str, String)>, String);

impl State {
    fn take(&mut self, incoming: &Incoming) -> (Written, Option<Kind>) {
        let now = self.clock.now();
        let (mut ask, known) = self.recognise(incoming);
        let name = format!("{}:{}", ask.service, ask.action);
        let fault = known
            .as_ref()
            .ok()
            .and_then(|()| fault::due(&mut self.faults, &name, now));
        let result = known
            .and_then(|()| self.admit_call(&mut ask, fault.as_ref()))
            .and_then(|()| answer(self, &ask));
        let mut written = match result {
            Ok(Reply::Xml(body)) => (200, vec![("content-type", "text/xml".to_owned())], body),
            Ok(Reply::Json(body)) => (
                200,
                vec![("content-type", "application/json".into())],
                body.to_string(),
            ),
            Err(refusal) => refused(&ask.service, refusal),
        };
        if fault == Some(Kind::Garbled) {
            written.2.truncate(written.2.len() / 2);
        }
        self.calls.push(Call {
            action: name,
            region: ask.region,
            account: ask.account,
            status: written.0,
            at: now,
        });
        (written, fault)
    }

    /// Who asks what: the call, and whether its signature holds.
    fn recognise(&self, incoming: &Incoming) -> (Ask, Result<(), Refusal>) {
        let mut ask = Ask {
            path: sign::decode(&incoming.path),
            ..Ask::default()
        };
        let header = |name: &str| incoming.headers.get(name).map_or("", String::as_str);
        let form = header("content-type").starts_with("application/x-www-form-urlencoded");
        let source = if form {
            incoming.body.as_ref()
        } else {
            incoming.query.as_bytes()
        };
        ask.parameters = form_urlencoded::parse(source).into_owned().collect();
        let Some(scope) = Scope::from_header(header("authorization")) else {
            let refusal = Refusal(
                403,
                "MissingAuthenticationToken",
                "Request is missing Authentication Token".into(),
            );
            return (ask, Err(refusal));
        };
        ask.service.clone_from(&scope.service);
        ask.region.clone_from(&scope.region);
        let rest = || super::eks::action(&incoming.method, &ask.path).map(str::to_owned);
        ask.action = ask
            .text("Action")
            .map(str::to_owned)
            .or_else(rest)
            .unwrap_or_else(|| "Unknown".into());
        let known = self.verify(incoming, &scope, &mut ask);
        (ask, known)
    }

    fn verify(&self, incoming: &Incoming, scope: &Scope, ask: &mut Ask) -> Result<(), Refusal> {
        let unknown = || {
            Refusal(
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid".into(),
            )
        };
        let key = self.keys.get(&scope.key).ok_or_else(unknown)?;
        let header = |name: &str| incoming.headers.get(name).map(String::as_str);
        if header("x-amz-security-token") != key.session.as_deref() {
            return Err(unknown());
        }
        if key.expires.is_some_and(|end| end <= self.clock.now()) {
            return Err(Refusal(
                403,
                "ExpiredToken",
                "The security token included in the request is expired".into(),
            ));
        }
        let stamp = header("x-amz-date").unwrap_or_default();
        let request = Signed {
            method: &incoming.method,
            path: &incoming.path,
            query: &incoming.query,
            headers: &incoming.headers,
            body: &incoming.body,
        };
        let near = sign::is_near(stamp, self.clock.now());
        if !near || !scope.fits(&request, stamp, &key.secret) {
            let why = if near {
                "The request signature we calculated does not match"
            } else {
                "Signature expired"
            };
            return Err(Refusal(403, "SignatureDoesNotMatch", why.into()));
        }
        ask.account.clone_from(&key.account);
        ask.arn.clone_from(&key.arn);
        Ok(())
    }

    /// Faults, rights and throttling, in this order.
    fn admit_call(&mut self, ask: &mut Ask, fault: Option<&Kind>) -> Result<(), Refusal> {
        let name = format!("{}:{}", ask.service, ask.action);
        match fault {
            Some(Kind::Throttled) => return Err(throttled(&ask.service)),
            Some(Kind::Error(status, code, message)) => {
                return Err(Refusal(*status, code, (*message).into()));
            }
            _ => {}
        }
        if self.denied.contains(&name) {
            let (arn, code) = (&ask.arn, denial(&ask.service));
            let message = format!(
                "User: {arn} is not authorized to perform: {name} because no identity-based policy allows the {name} action"
            );
            return Err(Refusal(403, code, message));
        }
        if self.turned_away.takes() {
            return Err(throttled(&ask.service));
        }
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let now = self.clock.now();
        let bucket = (ask.account.clone(), ask.region.clone(), ask.service.clone());
        let bucket = self
            .buckets
            .entry(bucket)
            .or_insert_with(|| Bucket::full(limit.0, now));
        if bucket.take(limit, now) {
            Ok(())
        } else {
            Err(throttled(&ask.service))
        }
    }
}

fn throttled(service: &str) -> Refusal {
    match service {
        "eks" => Refusal(429, "TooManyRequestsException", "Too Many Requests".into()),
        "ec2" => Refusal(
            503,
            "RequestLimitExceeded",
            "Request limit exceeded.".into(),
        ),
        _ => Refusal(400, "Throttling", "Rate exceeded".into()),
    }
}

fn denial(service: &str) -> &'static str {
    match service {
        "ec2" => "UnauthorizedOperation",
        "eks" => "AccessDeniedException",
        _ => "AccessDenied",
    }
}

/// An error in the service's own shape.
fn refused(service: &str, Refusal(status, code, message): Refusal) -> Written {
    let error = Xml::new().text("Code", code).text("Message", &message);
    let xml = vec![("content-type", "text/xml".to_owned())];
    match service {
        "eks" => {
            let headers = vec![
                ("content-type", "application/json".to_owned()),
                ("x-amzn-errortype", code.to_owned()),
            ];
            (
                status,
                headers,
                serde_json::json!({ "message": message }).to_string(),
            )
        }
        "ec2" => {
            let body = Xml::new()
                .list("Errors", "Error", [error])
                .text("RequestID", REQUEST_ID);
            (
                status,
                xml,
                body.document("Response", super::ec2::NAMESPACE),
            )
        }
        _ => {
            let body = Xml::new()
                .nest("Error", error)
                .text("RequestId", REQUEST_ID);
            (
                status,
                xml,
                body.document("ErrorResponse", super::elb::NAMESPACE),
            )
        }
    }
}
