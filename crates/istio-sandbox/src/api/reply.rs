//! Answers: JSON in the shape the client accepts, streams, and failures.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::{Value, json};
use tower::BoxError;

use super::{kind::Kind, status::Failure, table};

/// The body of any answer.
pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;

/// Any answer.
pub(crate) type Reply = Response<ReplyBody>;

fn reply(code: u16, media: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(media),
    );
    reply
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> ReplyBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn json_reply(code: u16, value: &impl Serialize) -> Reply {
    typed(code, "application/json", value)
}

pub(crate) fn typed(code: u16, media: &'static str, value: &impl Serialize) -> Reply {
    reply(
        code,
        media,
        full(serde_json::to_vec(value).unwrap_or_default()),
    )
}

pub(crate) fn text(code: u16, text: impl Into<String>) -> Reply {
    reply(code, "text/plain; charset=utf-8", full(text.into()))
}

pub(crate) fn stream(
    chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Reply {
    reply(
        200,
        "application/json",
        StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync(),
    )
}

pub(crate) fn failure(failure: &Failure) -> Reply {
    if failure.code == 404 && failure.reason.is_empty() {
        return text(404, failure.message.as_str());
    }
    let mut reply = json_reply(failure.code, &failure.body());
    if let Some(seconds) = failure
        .details
        .get("retryAfterSeconds")
        .and_then(Value::as_u64)
    {
        reply
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    reply
}

/// An answer that breaks off after so many bytes.
pub(crate) async fn truncated(answer: Reply, bytes: usize) -> Result<Reply, BoxError> {
    let (parts, body) = answer.into_parts();
    let whole = body.collect().await?.to_bytes();
    let start = whole.slice(..bytes.min(whole.len()));
    let broken = std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        "connection closed before message completed",
    );
    let chunks = futures::stream::iter([Ok(Frame::data(start)), Err(BoxError::from(broken))]);
    Ok(Response::from_parts(
        parts,
        StreamBody::new(chunks).boxed_unsync(),
    ))
}

/// How a client wants objects shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    Whole,
    /// Only their metadata.
    Metadata,
    /// As rows for people; whether whole objects go with the rows.
    Table,
}

impl Shape {
    /// The first of the accepted shapes that the server knows.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|a| a.to_str().ok())
            .unwrap_or_default();
        for media in accept.split(',') {
            let has = |part: &str| media.split(';').any(|p| p.trim() == part);
            if !has("application/json") || media.contains("v=v1beta1") {
                continue;
            }
            if has("as=Table") {
                return Self::Table;
            }
            if has("as=PartialObjectMetadata") || has("as=PartialObjectMetadataList") {
                return Self::Metadata;
            }
            return Self::Whole;
        }
        Self::Whole
    }

    /// One object in this shape.
    pub(crate) fn one(self, kind: &Kind, object: &Arc<Value>, now: jiff::Timestamp) -> Arc<Value> {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => Arc::new(metadata_only(object)),
            Self::Table => Arc::new(table::table(
                kind,
                std::slice::from_ref(object),
                &object["metadata"]["resourceVersion"],
                now,
            )),
        }
    }
}

pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A list of built-in objects, whose items do not repeat their kind.
pub(crate) struct Items<'a> {
    pub(crate) objects: &'a [Arc<Value>],
    pub(crate) bare: bool,
}

struct Item<'a>(&'a Value, bool);

impl Serialize for Item<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_object().filter(|_| self.1) {
            Some(map) => serializer.collect_map(
                map.iter()
                    .filter(|(name, _)| *name != "kind" && *name != "apiVersion"),
            ),
            None => self.0.serialize(serializer),
        }
    }
}

impl Serialize for Items<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.objects.iter().map(|object| Item(object, self.bare)))
    }
}
