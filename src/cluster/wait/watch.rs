//! List, then watch from there; again when the watch ends, breaks or is too old.

use std::time::Duration;

use bytes::BytesMut;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::super::{
    Cluster, Error, Failure, Recover, Ref, Verb,
    wire::{Call, shape},
};

/// How long one watch lasts. Short, so that a connection that died without a word is noticed.
const SPAN: &str = "60";
const SILENCE: Duration = Duration::from_secs(75);
/// Between two looks at a kind that is not served yet, and before a broken watch is tried again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The states an object goes through, whether it is there or not, beginning with the present one. Ends with the first
/// error that does not pass.
pub(super) fn states<'a>(
    cluster: &'a Cluster,
    r: &'a Ref,
) -> BoxStream<'a, Result<Option<Value>, Error>> {
    let states = States {
        cluster,
        r,
        changes: None,
        pause: None,
    };
    stream::unfold(states, |mut states| async move {
        let state = states.next().await;
        Some((state, states))
    })
    .boxed()
}

struct States<'a> {
    cluster: &'a Cluster,
    r: &'a Ref,
    /// What is watched, once the object was listed.
    changes: Option<Changes<'a>>,
    /// Before it is listed again; none before the first time.
    pause: Option<Duration>,
}

impl States<'_> {
    async fn next(&mut self) -> Result<Option<Value>, Error> {
        loop {
            let change = match &mut self.changes {
                Some(changes) => changes.next().await,
                None => self.list().await,
            };
            match change {
                Ok(Change::To(state)) => return Ok(state),
                Ok(Change::Unknown) => self.pause = Some(PAUSE),
                Err(error) if error.recover() == Recover::Never => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "watching again");
                    let pause = self.pause.unwrap_or(PAUSE);
                    self.pause = Some((pause * 2).min(LONGEST));
                }
            }
            self.changes = None;
        }
    }

    /// The present state. What changes after it is watched, where its kind is served.
    async fn list(&mut self) -> Result<Change, Error> {
        if let Some(pause) = self.pause {
            sleep(pause).await;
        }
        let Some((item, version)) = listed(self.cluster, self.r).await? else {
            self.pause = Some(PAUSE);
            return Ok(Change::To(None));
        };
        self.changes = Some(Changes::since(self.cluster, self.r, version));
        Ok(Change::To(item))
    }
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

fn field(r: &Ref) -> String {
    format!("metadata.name={}", r.name)
}

/// What a watch tells.
enum Change {
    /// The object as it is now; none if it was deleted.
    To(Option<Value>),
    /// What happened since is not known: it is to be listed again.
    Unknown,
}

/// One watch after the other, each from where the last ended.
struct Changes<'a> {
    cluster: &'a Cluster,
    r: &'a Ref,
    /// From where on.
    version: String,
    /// The watch that is open.
    lines: Option<Lines>,
}

impl<'a> Changes<'a> {
    fn since(cluster: &'a Cluster, r: &'a Ref, version: String) -> Self {
        Self {
            cluster,
            r,
            version,
            lines: None,
        }
    }

    async fn next(&mut self) -> Result<Change, Error> {
        let (cluster, r) = (self.cluster, self.r);
        let failed = |source| cluster.failed(Verb::Watch, r, source);
        loop {
            let lines = match &mut self.lines {
                Some(lines) => lines,
                None => match watch(cluster, r, &self.version).await? {
                    Some(lines) => self.lines.insert(lines),
                    None => return Ok(Change::Unknown),
                },
            };
            let Some(mut event) = lines.next().await.map_err(failed)? else {
                self.lines = None;
                continue;
            };
            let object = event.get_mut("object").map(Value::take);
            let object = object.unwrap_or_default();
            let version = text(&object["metadata"]["resourceVersion"]);
            let state = match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => Some(object),
                Some("DELETED") => None,
                Some("BOOKMARK") => {
                    self.version = version;
                    continue;
                }
                // Usually 410: what we know is too old. Whatever it is, look afresh.
                _ => return Ok(Change::Unknown),
            };
            self.version = version;
            return Ok(Change::To(state));
        }
    }
}

/// Opens a watch; none where the kind is served no more.
async fn watch(cluster: &Cluster, r: &Ref, version: &str) -> Result<Option<Lines>, Error> {
    let Some(place) = cluster.place(&r.kind).await? else {
        return Ok(None);
    };
    let path = place.collection(&r.kind, r.namespace.as_deref());
    let field = field(r);
    let query = [
        ("watch", "1"),
        ("fieldSelector", field.as_str()),
        ("resourceVersion", version),
        ("allowWatchBookmarks", "true"),
        ("timeoutSeconds", SPAN),
    ];
    let watch = Call {
        query: &query,
        ..Call::get(&path)
    };
    let stream = cluster.stream(watch).await;
    let stream = stream.map_err(|source| cluster.failed(Verb::Watch, r, source))?;
    Ok(Some(Lines::new(stream.into_body())))
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

/// The longest line of a watch: an object, of which etcd takes none as large.
const LONGEST_LINE: usize = 16 << 20;

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
                let event: Value = serde_json::from_slice(&line)
                    .map_err(|error| Failure::Answer(error.to_string()))?;
                let object = event.get("object").unwrap_or(&event);
                shape(&event)
                    .and_then(|()| shape(object))
                    .map_err(Failure::Answer)?;
                return Ok(Some(event));
            }
            if self.rest.len() > LONGEST_LINE {
                let limit = LONGEST_LINE >> 20;
                let why = format!("a line of the watch is larger than {limit} MiB");
                return Err(Failure::Answer(why));
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
