//! Watches: the log of changes, told to a client as they happen.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tower::BoxError;

use super::{
    Server,
    kind::Kind,
    read::in_version,
    reply::{Reply, Shape, stream},
    request::Query,
    select::Selector,
    state::State,
    status::Failure,
    store::{Change, Event},
};

/// How long a watch lasts unless the client says.
const LONG: u64 = 1800;
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

struct Watcher {
    server: Arc<Server>,
    kind: Arc<Kind>,
    namespace: String,
    selector: Selector,
    shape: Shape,
    /// The last change told.
    at: u64,
    ready: VecDeque<Bytes>,
    news: watch::Receiver<u64>,
    cut: watch::Receiver<u64>,
    until: Instant,
    bookmark: Option<Instant>,
    over: bool,
}

/// Answers a watch request.
pub(crate) fn watch(
    server: &Arc<Server>,
    state: &State,
    kind: &Arc<Kind>,
    namespace: &str,
    query: &Query,
    shape: Shape,
) -> Result<Reply, Failure> {
    let selector = Selector::parse(query.text("labelSelector"), query.text("fieldSelector"))?;
    let from = query.text("resourceVersion");
    let from: u64 = match from {
        "" => 0,
        text => text.parse().map_err(|_| {
            Failure::bad_request(format!("Invalid value: {text:?}: must be an integer"))
        })?,
    };
    let mut watcher = Watcher {
        server: server.clone(),
        kind: kind.clone(),
        namespace: namespace.to_owned(),
        selector,
        shape,
        at: from,
        ready: VecDeque::new(),
        news: state.objects.news(),
        cut: server.faults.cut(),
        until: Instant::now() + Duration::from_secs(query.number("timeoutSeconds").unwrap_or(LONG)),
        bookmark: query
            .flag("allowWatchBookmarks")
            .then(|| Instant::now() + BOOKMARK_EVERY),
        over: false,
    };
    let initial = query.flag("sendInitialEvents");
    if from == 0 || initial {
        watcher.begin(state, initial);
    }
    Ok(stream(watcher.run()))
}

impl Watcher {
    /// Tells what is there now before what happens next.
    fn begin(&mut self, state: &State, mark_end: bool) {
        for object in state.selected(&self.kind, &self.namespace, &self.selector) {
            self.tell("ADDED", &object, None, (state.clock)());
        }
        self.at = state.objects.version();
        if mark_end {
            let end = json!({"k8s.io/initial-events-end": "true"});
            self.push_bookmark(&end);
        }
    }

    fn tell(
        &mut self,
        change: &str,
        object: &Arc<Value>,
        event: Option<&Event>,
        now: jiff::Timestamp,
    ) {
        let shown = self
            .shape
            .one(&self.kind, &in_version(&self.kind, object), now);
        match event.filter(|_| Arc::ptr_eq(&shown, object)) {
            Some(event) => {
                let text = || serde_json::to_vec(&*shown).unwrap_or_default().into();
                self.write(change, event.text.get_or_init(text));
            }
            None => self.push(change, &shown),
        }
    }

    fn push(&mut self, change: &str, object: &Value) {
        if let Ok(body) = serde_json::to_vec(object) {
            self.write(change, &body);
        }
    }

    fn write(&mut self, change: &str, body: &[u8]) {
        let mut line = format!("{{\"type\":\"{change}\",\"object\":").into_bytes();
        line.extend(body);
        line.extend(b"}\n");
        self.ready.push_back(line.into());
    }

    fn push_bookmark(&mut self, annotations: &Value) {
        let mut object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": self.at.to_string(), "creationTimestamp": null},
        });
        if !annotations.is_null() {
            object["metadata"]["annotations"] = annotations.clone();
        }
        self.push("BOOKMARK", &object);
    }

    /// Puts what happened since the last look into `ready`.
    fn look(&mut self) {
        self.news.borrow_and_update();
        let server = self.server.clone();
        let state = server.state();
        let Some(events) = state.objects.since(self.at) else {
            let message = format!(
                "too old resource version: {} ({})",
                self.at,
                state.objects.version()
            );
            self.push("ERROR", &Failure::expired(message).body());
            self.over = true;
            return;
        };
        let resource = self.kind.resource();
        let theirs: Vec<Arc<Event>> = events
            .filter(|e| *e.resource == *resource)
            .cloned()
            .collect();
        let now = (state.clock)();
        self.at = self.at.max(state.objects.version());
        drop(state);
        for event in theirs {
            self.happened(&event, now);
        }
    }

    /// An object that comes into sight of the selector was added to it, one that leaves was deleted.
    fn happened(&mut self, event: &Event, now: jiff::Timestamp) {
        let sees = |object: &Value| {
            (self.namespace.is_empty()
                || object["metadata"]["namespace"] == self.namespace.as_str())
                && self.selector.matches(object)
        };
        let before = event.before.as_deref().is_some_and(sees);
        let after = event.change != Change::Deleted && sees(&event.object);
        let change = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return,
        };
        self.tell(change, &event.object, Some(event), now);
    }

    fn run(self) -> impl Stream<Item = Result<Bytes, BoxError>> {
        futures::stream::unfold(self, |mut watcher| async move {
            loop {
                if !watcher.ready.is_empty() {
                    let all: Vec<u8> = watcher.ready.drain(..).flatten().collect();
                    return Some((Ok(all.into()), watcher));
                }
                if watcher.over {
                    return None;
                }
                watcher.look();
                if watcher.ready.is_empty() && !watcher.over && !watcher.wait().await {
                    return None;
                }
            }
        })
    }

    /// Waits for news; false when the watch ends.
    async fn wait(&mut self) -> bool {
        let quiet = self.bookmark.map_or(self.until, |b| b.min(self.until));
        tokio::select! {
            changed = self.news.changed() => return changed.is_ok(),
            _ = self.cut.changed() => return false,
            () = tokio::time::sleep_until(quiet) => {}
        }
        if quiet == self.until {
            return false;
        }
        self.bookmark = Some(Instant::now() + BOOKMARK_EVERY);
        self.push_bookmark(&Value::Null);
        true
    }
}
