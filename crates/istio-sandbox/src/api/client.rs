//! A client without sockets: requests go straight to the server. Only upgrades go through a pipe, since the
//! HTTP stack at both ends wants to hand over a connection.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tower::BoxError;

use super::{
    Server,
    front::connection,
    reply::{Reply, ReplyBody},
    serve::{Door, handle},
};

pub(crate) fn client(server: &Arc<Server>, door: Door) -> kube::Client {
    let server = server.clone();
    let token = server.state().keys.admin().to_owned();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    let service = tower::service_fn(move |mut request: Request<Body>| {
        request
            .headers_mut()
            .entry(header::AUTHORIZATION)
            .or_insert_with(|| bearer.clone());
        request
            .headers_mut()
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static("meshlink"));
        call(server.clone(), door, request)
    });
    kube::Client::new(service, "default")
}

fn call(
    server: Arc<Server>,
    door: Door,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Reply, BoxError>> {
    if request.headers().contains_key(header::UPGRADE) {
        through_pipe(server, door, request).boxed()
    } else {
        handle(server, door, request).boxed()
    }
}

async fn through_pipe(
    server: Arc<Server>,
    door: Door,
    request: Request<Body>,
) -> Result<Response<ReplyBody>, BoxError> {
    let (near, far) = tokio::io::duplex(256 * 1024);
    tokio::spawn(connection(server, door, TokioIo::new(far)));
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(driver.with_upgrades());
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(
        header::HOST,
        HeaderValue::from_static("kubernetes.default.svc"),
    );
    let body: Bytes = body.collect().await?.to_bytes();
    let reply = sender
        .send_request(Request::from_parts(parts, Full::new(body)))
        .await?;
    Ok(reply.map(|body| body.map_err(Into::into).boxed_unsync()))
}
