//! The actors' way to the objects of their cluster: reads from the store, writes through the API.

use std::sync::Arc;

use http::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::api::{Api, Event};

/// Objects of one cluster. Resources are named as in RBAC: `pods`, `deployments.apps`.
#[derive(Clone)]
pub(crate) struct Objects {
    api: Api,
    client: kube::Client,
    /// The field manager of what is written.
    manager: &'static str,
}

impl Objects {
    pub(crate) fn new(api: &Api, manager: &'static str) -> Self {
        Self {
            api: api.clone(),
            client: api.backstage(),
            manager,
        }
    }

    /// The same objects, written under another name.
    pub(crate) fn as_manager(&self, manager: &'static str) -> Self {
        Self {
            manager,
            ..self.clone()
        }
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.api.store().events()
    }

    pub(crate) fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.api.store().list(resource, namespace)
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.api.store().get(resource, namespace, name)
    }

    pub(crate) async fn create(
        &self,
        resource: &str,
        object: &Value,
    ) -> Result<Value, kube::Error> {
        let at = path(resource, object.ns(), None, "");
        self.send(Method::POST, &at, "application/json", object)
            .await
    }

    /// Writes a whole object, if nobody else has written it since it was read.
    pub(crate) async fn replace(
        &self,
        resource: &str,
        object: &Value,
    ) -> Result<Value, kube::Error> {
        let at = path(resource, object.ns(), Some(object.name()), "");
        self.send(Method::PUT, &at, "application/json", object)
            .await
    }

    pub(crate) async fn patch(
        &self,
        resource: &str,
        of: &Value,
        patch: &Value,
    ) -> Result<Value, kube::Error> {
        let at = path(resource, of.ns(), Some(of.name()), "");
        self.send(Method::PATCH, &at, "application/merge-patch+json", patch)
            .await
    }

    /// Writes `status`, if it differs from what `of` has.
    pub(crate) async fn status(
        &self,
        resource: &str,
        of: &Value,
        status: Value,
    ) -> Result<(), kube::Error> {
        let old = of.get("status").cloned().unwrap_or_else(|| json!({}));
        if old == status {
            return Ok(());
        }
        let at = path(resource, of.ns(), Some(of.name()), "/status");
        let patch = json!({ "status": difference(&old, &status) });
        self.send(Method::PATCH, &at, "application/merge-patch+json", &patch)
            .await
            .map(drop)
    }

    pub(crate) async fn delete(&self, resource: &str, of: &Value) -> Result<(), kube::Error> {
        let at = path(resource, of.ns(), Some(of.name()), "");
        let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": of["metadata"]["uid"]}});
        self.send(Method::DELETE, &at, "application/json", &now)
            .await
            .map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let query = if method == Method::DELETE {
            String::new()
        } else {
            format!("?fieldManager={}", self.manager)
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{query}"))
            .header("content-type", kind)
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

/// A merge patch that also removes what is gone.
fn difference(old: &Value, new: &Value) -> Value {
    let (Some(old), Some(fresh)) = (old.as_object(), new.as_object()) else {
        return new.clone();
    };
    let mut patch = fresh.clone();
    for key in old.keys().filter(|k| !fresh.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in &mut patch {
        if let Some(before) = old.get(key) {
            *value = difference(before, value);
        }
    }
    patch.into()
}

fn path(resource: &str, namespace: &str, name: Option<&str>, sub: &str) -> String {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let root = if group.is_empty() {
        "/api/v1".into()
    } else {
        format!("/apis/{group}/v1")
    };
    let within = if namespace.is_empty() {
        String::new()
    } else {
        format!("/namespaces/{namespace}")
    };
    let name = name.map(|n| format!("/{n}")).unwrap_or_default();
    format!("{root}{within}/{plural}{name}{sub}")
}

/// Short ways to what nearly every actor reads in an object.
pub(crate) trait Read {
    fn text(&self, pointer: &str) -> &str;
    fn name(&self) -> &str;
    fn ns(&self) -> &str;
    fn uid(&self) -> &str;
    fn label(&self, key: &str) -> Option<&str>;
    fn annotation(&self, key: &str) -> Option<&str>;
    fn items(&self, pointer: &str) -> &[Value];
    fn deleting(&self) -> bool;
    fn owned_by(&self, kind: &str, uid: &str) -> bool;
    fn matches(&self, selector: &Value) -> bool;
}

/// As `Value::pointer`, which makes texts of every part: actors ask a hundred thousand times in a join.
fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    let mut parts = pointer.split('/').skip(1);
    parts.try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        value => value.get(part),
    })
}

impl Read for Value {
    fn text(&self, pointer: &str) -> &str {
        at(self, pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn name(&self) -> &str {
        self["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn ns(&self) -> &str {
        self["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self["metadata"]["uid"].as_str().unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self["metadata"]["labels"][key].as_str()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self["metadata"]["annotations"][key].as_str()
    }

    fn items(&self, pointer: &str) -> &[Value] {
        at(self, pointer)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn deleting(&self) -> bool {
        self["metadata"]["deletionTimestamp"].is_string()
    }

    fn owned_by(&self, kind: &str, uid: &str) -> bool {
        self.items("/metadata/ownerReferences")
            .iter()
            .any(|o| o["kind"] == kind && o["uid"] == uid)
    }

    /// Whether the labels fit `matchLabels`-like pairs; no pairs fit nothing.
    fn matches(&self, selector: &Value) -> bool {
        let Some(pairs) = selector.as_object().filter(|p| !p.is_empty()) else {
            return false;
        };
        pairs
            .iter()
            .all(|(k, v)| self["metadata"]["labels"].get(k) == Some(v))
    }
}

/// Whether an object's labels fit a full label selector; an empty one fits everything.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let pairs = selector["matchLabels"].as_object();
    pairs
        .into_iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v))
        && selector
            .items("/matchExpressions")
            .iter()
            .all(|e| expression(e, labels))
}

fn expression(e: &Value, labels: &Value) -> bool {
    let found = labels.get(e.text("/key"));
    let listed = found.is_some_and(|v| e.items("/values").contains(v));
    match e.text("/operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_kubernetes_reads_them() {
        let labels = json!({"app": "a", "istio-injection": "enabled"});
        let fits = |s: Value| selects(&s, &labels);
        assert!(fits(json!({})));
        assert!(fits(json!({"matchLabels": {"app": "a"}})));
        assert!(!fits(json!({"matchLabels": {"app": "b"}})));
        assert!(fits(
            json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["1"]}]})
        ));
        assert!(!fits(
            json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]})
        ));
    }

    #[test]
    fn a_status_patch_removes_what_is_gone() {
        let patch = difference(
            &json!({"a": 1, "b": {"c": 1, "d": 2}}),
            &json!({"b": {"c": 1}}),
        );
        assert_eq!(patch, json!({"b": {"c": 1, "d": null}, "a": null}));
    }

    #[test]
    fn paths_follow_group_and_namespace() {
        assert_eq!(
            path("pods", "a", Some("b"), "/status"),
            "/api/v1/namespaces/a/pods/b/status"
        );
        assert_eq!(
            path("deployments.apps", "a", None, ""),
            "/apis/apps/v1/namespaces/a/deployments"
        );
        assert_eq!(
            path("namespaces", "", Some("x"), ""),
            "/api/v1/namespaces/x"
        );
    }
}
