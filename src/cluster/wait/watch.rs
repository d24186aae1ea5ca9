//! List, then watch from there; again when the watch ends, breaks or is too old.

use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::super::{Cluster, Error, Failure, Recover, Ref, Verb, wire::Call};

/// How long one watch lasts. Short, so that a connection that died without a word is noticed.
const SPAN: &str = "60";
const SILENCE: Duration = Duration::from_secs(75);
/// Between two looks at a kind that is not served yet, and before a broken watch is tried again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Shows `judge` every state of the object until it decides.
pub(super) async fn follow<T>(
    cluster: &Cluster,
    r: &Ref,
    judge: &mut impl FnMut(Option<&Value>) -> Option<Result<T, Error>>,
) -> Result<T, Error> {
    let mut pause = PAUSE;
    loop {
        match round(cluster, r, judge).await {
            Ok(Some(verdict)) => return verdict,
            Ok(None) => pause = PAUSE,
            Err(error) if error.recover() == Recover::Never => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "watching again");
                pause = (pause * 2).min(LONGEST);
            }
        }
        sleep(pause).await;
    }
}

/// One list and the watches that follow it, until a verdict or until a new list is needed.
async fn round<T>(
    cluster: &Cluster,
    r: &Ref,
    judge: &mut impl FnMut(Option<&Value>) -> Option<Result<T, Error>>,
) -> Result<Option<Result<T, Error>>, Error> {
    let Some((item, from)) = listed(cluster, r).await? else {
        return Ok(judge(None));
    };
    if let Some(verdict) = judge(item.as_ref()) {
        return Ok(Some(verdict));
    }
    watches(cluster, r, from, judge).await
}

/// The object as a list of its kind shows it, with the list's version: what a watch goes on from, whether or not the
/// object is there. None where the kind is not served.
pub(crate) async fn listed(
    cluster: &Cluster,
    r: &Ref,
) -> Result<Option<(Option<Value>, String)>, Error> {
    let Some(place) = cluster.place(&r.kind).await? else {
        return Ok(None);
    };
    let path = place.collection(&r.kind, r.namespace.as_deref());
    let field = field(r);
    let query = [("fieldSelector", field.as_str())];
    let list = Call {
        query: &query,
        ..Call::get(&path)
    };
    let list = match cluster.call(list).await {
        Ok((_, list)) => list,
        Err(failure) if failure.code() == Some(404) => return Ok(None),
        Err(failure) => return Err(cluster.failed(Verb::Watch, r, failure)),
    };
    let items = list["items"].as_array();
    let item = items
        .and_then(|items| items.first())
        .map(|item| typed(item, r));
    Ok(Some((item, text(&list["metadata"]["resourceVersion"]))))
}

/// The object after the first change since a version; none if it was deleted, or that is too long ago to be told.
/// There must have been a change.
pub(crate) async fn first_change(
    cluster: &Cluster,
    r: &Ref,
    from: String,
) -> Result<Option<Value>, Error> {
    let mut first = |object: Option<&Value>| Some(Ok(object.cloned()));
    let found = watches(cluster, r, from, &mut first).await?;
    found.unwrap_or(Ok(None))
}

fn field(r: &Ref) -> String {
    format!("metadata.name={}", r.name)
}

/// One watch after the other, each from where the last ended.
async fn watches<T>(
    cluster: &Cluster,
    r: &Ref,
    mut version: String,
    judge: &mut impl FnMut(Option<&Value>) -> Option<Result<T, Error>>,
) -> Result<Option<Result<T, Error>>, Error> {
    let failed = |source| cluster.failed(Verb::Watch, r, source);
    let Some(place) = cluster.place(&r.kind).await? else {
        return Ok(None);
    };
    let path = place.collection(&r.kind, r.namespace.as_deref());
    let field = field(r);
    loop {
        let query = [
            ("watch", "1"),
            ("fieldSelector", field.as_str()),
            ("resourceVersion", version.as_str()),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", SPAN),
        ];
        let watch = Call {
            query: &query,
            ..Call::get(&path)
        };
        let stream = cluster.stream(watch).await.map_err(failed)?;
        let mut lines = Lines::new(stream.into_body());
        while let Some(event) = lines.next().await.map_err(failed)? {
            let object = &event["object"];
            let seen = match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => judge(Some(object)),
                Some("DELETED") => judge(None),
                Some("BOOKMARK") => None,
                // Usually 410: what we know is too old. Whatever it is, look afresh.
                _ => return Ok(None),
            };
            if seen.is_some() {
                return Ok(seen);
            }
            version = text(&object["metadata"]["resourceVersion"]);
        }
    }
}

/// Items of a list carry no type of their own.
fn typed(item: &Value, r: &Ref) -> Value {
    let mut item = item.clone();
    item["apiVersion"] = json!(r.kind.api_version);
    item["kind"] = json!(r.kind.kind);
    item
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The JSON lines of a body as they arrive.
struct Lines {
    body: Body,
    rest: BytesMut,
}

impl Lines {
    fn new(body: Body) -> Self {
        Self {
            body,
            rest: BytesMut::new(),
        }
    }

    /// The next line; `None` at the end, whether clean or cut off: both are gone on from.
    async fn next(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| Failure::Answer(error.to_string()));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => self
                    .rest
                    .extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "the watch broke");
                    return Ok(None);
                }
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}
