//! What has to be known about objects of a chart to apply them; the applying itself is done elsewhere.
//!
//! All of it is pure: an object goes in as JSON and comes out as JSON. Apply objects server-side as field manager
//! `helm`, so that Helm can go on with the release.

use serde_json::{Map, Value, json};

use super::{Manifest, manifest};

/// Whether an upgrade or uninstall has to leave the object alone.
///
/// ```
/// let kept = serde_json::json!({"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}});
/// assert!(helm_engine::apply::is_kept(&kept));
/// ```
pub fn is_kept(object: &Value) -> bool {
    object
        .pointer("/metadata/annotations")
        .and_then(|all| all.get("helm.sh/resource-policy"))
        .and_then(Value::as_str)
        .is_some_and(|policy| policy.trim().eq_ignore_ascii_case("keep"))
}

/// Selects what belongs to a release of anyone, by its label.
pub const OWNED: &str = "app.kubernetes.io/managed-by=Helm";

/// Marks an object as belonging to a release, as Helm does when it applies it.
///
/// The object's own namespace is not touched: whether its kind has one is known to the cluster alone.
///
/// ```
/// let mut service = serde_json::json!({"kind": "Service", "metadata": {"name": "web"}});
/// helm_engine::apply::own(&mut service, "shop", "prod");
/// assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
/// assert_eq!(service["metadata"]["annotations"]["meta.helm.sh/release-name"], "shop");
/// ```
pub fn own(object: &mut Value, release: &str, namespace: &str) {
    let Some(metadata) = object
        .as_object_mut()
        .map(|object| object.entry("metadata").or_insert_with(|| json!({})))
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    entry(metadata, "labels").insert("app.kubernetes.io/managed-by".to_owned(), "Helm".into());
    let annotations = entry(metadata, "annotations");
    annotations.insert("meta.helm.sh/release-name".to_owned(), release.into());
    annotations.insert(
        "meta.helm.sh/release-namespace".to_owned(),
        namespace.into(),
    );
}

/// Whether a live object belongs to a release by Helm's own rule: the label and both annotations that Helm puts on it.
///
/// A record says what a release once held, and whoever may write Secrets may write a record. So ask this of every object
/// before it is changed or deleted on the word of one.
///
/// ```
/// let mut service = serde_json::json!({"kind": "Service", "metadata": {"name": "web"}});
/// assert!(!helm_engine::apply::is_owned(&service, "shop", "prod"));
/// helm_engine::apply::own(&mut service, "shop", "prod");
/// assert!(helm_engine::apply::is_owned(&service, "shop", "prod"));
/// assert!(!helm_engine::apply::is_owned(&service, "other", "prod"));
/// ```
pub fn is_owned(live: &Value, release: &str, namespace: &str) -> bool {
    let says = |map: &str, key: &str, value: &str| {
        let map = live.get("metadata").and_then(|metadata| metadata.get(map));
        map.and_then(|map| map.get(key)).and_then(Value::as_str) == Some(value)
    };
    says("labels", "app.kubernetes.io/managed-by", "Helm")
        && says("annotations", "meta.helm.sh/release-name", release)
        && says("annotations", "meta.helm.sh/release-namespace", namespace)
}

fn entry<'m>(metadata: &'m mut Map<String, Value>, name: &str) -> &'m mut Map<String, Value> {
    let slot = metadata.entry(name.to_owned()).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Makes an object fit for server-side apply: no nulls, no environment variable twice (the last one counts, as
/// the kubelet would take it), no `status`.
///
/// ```
/// let mut object = serde_json::json!({"kind": "Service", "spec": {"type": null, "ports": []}, "status": {}});
/// helm_engine::apply::prepare(&mut object);
/// assert_eq!(object, serde_json::json!({"kind": "Service", "spec": {"ports": []}}));
/// ```
pub fn prepare(object: &mut Value) {
    drop_nulls(object);
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    unique_env(object);
}

/// As [`prepare`], for an object that is there already: without the fields a running istiod writes into webhook
/// configurations, which would go back and forth otherwise.
///
/// ```
/// let mut hook = serde_json::json!({
///     "kind": "MutatingWebhookConfiguration",
///     "webhooks": [{"name": "w", "failurePolicy": "Fail", "clientConfig": {"caBundle": "", "url": "https://x"}}],
/// });
/// helm_engine::apply::strip_for_reapply(&mut hook);
/// assert_eq!(hook["webhooks"], serde_json::json!([{"name": "w", "clientConfig": {"url": "https://x"}}]));
/// ```
pub fn strip_for_reapply(object: &mut Value) {
    prepare(object);
    if !matches!(
        manifest::kind(object),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration"
    ) {
        return;
    }
    for webhook in object
        .get_mut("webhooks")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(webhook) = webhook.as_object_mut() {
            webhook.remove("failurePolicy");
            if let Some(client) = webhook
                .get_mut("clientConfig")
                .and_then(Value::as_object_mut)
            {
                client.remove("caBundle");
            }
        }
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn unique_env(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let (true, Value::Array(items)) = (key == "env", &mut *value) {
                    keep_last(items);
                }
                unique_env(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unique_env),
        _ => {}
    }
}

fn keep_last(items: &mut Vec<Value>) {
    let names: Vec<Option<String>> = items
        .iter()
        .map(|item| item.get("name").and_then(Value::as_str).map(str::to_owned))
        .collect();
    let mut at = 0;
    items.retain(|_| {
        let own = &names[at];
        at += 1;
        own.is_none() || !names[at..].contains(own)
    });
}

/// What identifies an object: kind, API group, namespace and name; versions may differ between chart releases.
fn identity(object: &Value, release_namespace: &str) -> (String, String, String, String) {
    let text = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let group = text("/apiVersion")
        .split_once('/')
        .map_or("", |(group, _)| group);
    let namespace = match text("/metadata/namespace") {
        "" => release_namespace,
        namespace => namespace,
    };
    (
        text("/kind").to_owned(),
        group.to_owned(),
        namespace.to_owned(),
        text("/metadata/name").to_owned(),
    )
}

/// Objects of an earlier revision that the next one does not have and that are not to be kept: an upgrade deletes them.
///
/// Versions of an API are not compared, so an object that moved from `v1beta1` to `v1` is still the same one.
///
/// ```
/// use helm_engine::{Manifest, apply::removed};
/// let named = |name: &str| Manifest {
///     source: String::new(),
///     text: String::new(),
///     object: serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}),
/// };
/// let (before, after) = ([named("old"), named("same")], [named("same"), named("new")]);
/// assert_eq!(removed(&before, &after, "default"), [&before[0]]);
/// ```
pub fn removed<'o>(
    before: &'o [Manifest],
    after: &[Manifest],
    release_namespace: &str,
) -> Vec<&'o Manifest> {
    let kept: Vec<_> = after
        .iter()
        .map(|manifest| identity(&manifest.object, release_namespace))
        .collect();
    before
        .iter()
        .filter(|old| {
            !is_kept(&old.object) && !kept.contains(&identity(&old.object, release_namespace))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(object: Value) -> Manifest {
        Manifest {
            source: String::new(),
            text: String::new(),
            object,
        }
    }

    #[test]
    fn a_webhook_keeps_what_istiod_wrote() {
        let mut object = json!({"kind": "ValidatingWebhookConfiguration", "webhooks": [{"name": "w", "failurePolicy": "Ignore", "clientConfig": {"caBundle": "x", "service": {"name": "istiod"}}}]});
        strip_for_reapply(&mut object);
        assert_eq!(
            object["webhooks"],
            json!([{"name": "w", "clientConfig": {"service": {"name": "istiod"}}}])
        );
        let mut other = json!({"kind": "Service", "spec": {"failurePolicy": "x"}});
        strip_for_reapply(&mut other);
        assert_eq!(other["spec"]["failurePolicy"], "x");
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let mut object = json!({"kind": "Deployment", "status": {}, "spec": {"c": [{"env": [{"name": "A", "value": "1"}, {"name": "B", "value": null}, {"name": "A", "value": "2"}]}], "x": null}});
        prepare(&mut object);
        assert_eq!(
            object,
            json!({"kind": "Deployment", "spec": {"c": [{"env": [{"name": "B"}, {"name": "A", "value": "2"}]}]}})
        );
    }

    #[test]
    fn ownership_is_marked_where_labels_are_null_too() {
        let mut object = json!({"kind": "Service", "metadata": {"name": "s", "labels": null}});
        own(&mut object, "istiod", "istio-system");
        assert_eq!(
            object["metadata"],
            json!({
                "name": "s",
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "istiod", "meta.helm.sh/release-namespace": "istio-system"},
            })
        );
    }

    #[test]
    fn an_upgrade_removes_what_is_gone_unless_it_is_kept() {
        let object = |kind: &str, name: &str, policy: Value| {
            manifest(
                json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "annotations": {"helm.sh/resource-policy": policy}}}),
            )
        };
        let before = [
            object("A", "x", Value::Null),
            object("B", "x", "keep".into()),
            object("C", "x", Value::Null),
        ];
        let mut same = object("A", "x", Value::Null);
        same.object["metadata"]["namespace"] = "ns".into();
        let gone = removed(&before, &[same], "ns");
        assert_eq!(gone, [&before[2]]);
    }
}
