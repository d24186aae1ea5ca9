//! What the cluster holds: objects by resource, and a log of changes that watches read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{broadcast, watch};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It came to be.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Event {
    /// The resource version of the change.
    pub version: u64,
    /// `deployments.apps`, `pods`, …
    pub resource: Arc<str>,
    /// What happened.
    pub change: Change,
    /// The object after the change; when deleted, as it last was.
    pub object: Arc<Value>,
    /// The object before it.
    pub before: Option<Arc<Value>>,
    /// The object as JSON: many watch the same.
    pub(crate) text: OnceLock<Bytes>,
}

/// Changes kept for watches that come back with an old resource version.
const LOG: usize = 8192;

type Table = BTreeMap<(String, String), Arc<Value>>;

/// Objects and their log. Not shared by itself: the server keeps it under one lock.
pub(crate) struct Objects {
    version: u64,
    tables: BTreeMap<String, Table>,
    log: VecDeque<Arc<Event>>,
    oldest: u64,
    news: watch::Sender<u64>,
    events: broadcast::Sender<Arc<Event>>,
}

impl Objects {
    pub(crate) fn new() -> Self {
        Self {
            version: 1,
            tables: BTreeMap::new(),
            log: VecDeque::new(),
            oldest: 0,
            news: watch::channel(1).0,
            events: broadcast::channel(LOG).0,
        }
    }

    /// The newest resource version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.tables
            .get(resource)?
            .get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Objects in the order of namespace and name; every namespace if none is given.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &str,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Value>> + 'a> {
        let Some(table) = self.tables.get(resource) else {
            return Box::new(std::iter::empty());
        };
        match namespace {
            None => Box::new(table.values()),
            Some(namespace) => {
                let namespace = namespace.to_owned();
                let range = table.range((namespace.clone(), String::new())..);
                Box::new(
                    range
                        .take_while(move |((n, _), _)| *n == namespace)
                        .map(|(_, object)| object),
                )
            }
        }
    }

    /// Resources that have ever held an object.
    pub(crate) fn resources(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    /// Stores `object` under a new resource version, which it writes into it.
    pub(crate) fn put(&mut self, resource: &str, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let before = self
            .tables
            .entry(resource.to_owned())
            .or_default()
            .insert(key(&object), object.clone());
        let change = if before.is_some() {
            Change::Modified
        } else {
            Change::Added
        };
        self.tell(resource, change, object.clone(), before);
        object
    }

    /// Removes an object; the event carries it under the resource version of its end.
    pub(crate) fn remove(
        &mut self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let before = self
            .tables
            .get_mut(resource)?
            .remove(&(namespace.to_owned(), name.to_owned()))?;
        self.version += 1;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        let last = Arc::new(last);
        self.tell(resource, Change::Deleted, last.clone(), Some(before));
        Some(last)
    }

    fn tell(
        &mut self,
        resource: &str,
        change: Change,
        object: Arc<Value>,
        before: Option<Arc<Value>>,
    ) {
        let event = Arc::new(Event {
            version: self.version,
            resource: resource.into(),
            change,
            object,
            before,
            text: OnceLock::new(),
        });
        self.log.push_back(event.clone());
        while self.log.len() > LOG {
            self.oldest = self.log.pop_front().map_or(self.oldest, |e| e.version);
        }
        // Nobody listening is no failure.
        let _ = self.events.send(event);
        self.news.send_replace(self.version);
    }

    /// Changes after `version`, or nothing if the log no longer reaches back that far.
    pub(crate) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Arc<Event>>> {
        if version < self.oldest {
            return None;
        }
        let start = self.log.partition_point(|e| e.version <= version);
        Some(self.log.range(start..))
    }

    /// Forgets the log, as etcd does when compacted: older resource versions are then `410 Gone`.
    pub(crate) fn compact(&mut self) {
        self.log.clear();
        self.oldest = self.version;
    }
}

/// Namespace and name of an object.
pub(crate) fn key(object: &Value) -> (String, String) {
    let meta = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (meta("namespace"), meta("name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(namespace: &str, name: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}})
    }

    #[test]
    fn versions_rise_and_lists_keep_to_a_namespace() {
        let mut objects = Objects::new();
        let a = objects.put("pods", object("a", "x"));
        let b = objects.put("pods", object("b", "x"));
        objects.put("pods", object("aa", "x"));
        assert!(a["metadata"]["resourceVersion"] != b["metadata"]["resourceVersion"]);
        assert_eq!(objects.list("pods", Some("a")).count(), 1);
        assert_eq!(objects.list("pods", None).count(), 3);
        assert_eq!(objects.list("nodes", None).count(), 0);
    }

    #[test]
    fn the_log_tells_each_change_once_and_forgets_when_compacted() {
        let mut objects = Objects::new();
        let start = objects.version();
        objects.put("pods", object("a", "x"));
        objects.put("pods", object("a", "x"));
        objects.remove("pods", "a", "x").unwrap();
        let changes: Vec<_> = objects.since(start).unwrap().map(|e| e.change).collect();
        assert_eq!(changes, [Change::Added, Change::Modified, Change::Deleted]);
        objects.compact();
        assert!(objects.since(start).is_none());
        assert_eq!(objects.since(objects.version()).unwrap().count(), 0);
    }
}
