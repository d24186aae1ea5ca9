//! What the server does to an object before it is stored: identity, defaults, generation.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    defaults,
    kind::Kind,
    status::Failure,
    validate,
    write::{Target, WriteOptions},
};

/// A body as it came in: of the right kind, for the right object, without nulls.
pub(crate) fn received(
    target: &Target,
    body: Value,
    options: &WriteOptions,
) -> Result<Value, Failure> {
    identified(target, checked(target, body, options)?)
}

/// Whether a configuration can be applied at all.
pub(crate) fn applicable(kind: &Kind, config: &Value, manager: &str) -> Result<(), Failure> {
    if manager.is_empty() {
        let message = "Required value: is required for apply patch";
        let text = format!("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: {message}");
        let cause =
            json!({"reason": "FieldValueRequired", "message": message, "field": "fieldManager"});
        let mut failure = Failure::new(422, "Invalid", text).causes(vec![cause]);
        failure.details.insert("group".into(), "meta.k8s.io".into());
        failure.details.insert("kind".into(), "PatchOptions".into());
        return Err(failure);
    }
    let text = |field: &str| config[field].as_str().unwrap_or_default();
    if text("apiVersion") != kind.api_version() || text("kind") != kind.kind {
        let version = text("apiVersion");
        let both = if version.contains('/') {
            version.to_owned()
        } else {
            format!("/{version}")
        };
        return Err(Failure::bad_request(format!(
            "invalid object type: {both}, Kind={}",
            text("kind")
        )));
    }
    if config["metadata"].get("managedFields").is_some() {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// A body of the right kind, without nulls; not yet for the right object.
pub(crate) fn checked(
    target: &Target,
    mut body: Value,
    options: &WriteOptions,
) -> Result<Value, Failure> {
    let kind = &target.kind;
    if target.subresource == "scale" {
        return Ok(body);
    }
    let Some(object) = body.as_object_mut() else {
        return Err(Failure::bad_request(
            "the body of the request was not an object",
        ));
    };
    object
        .entry("apiVersion")
        .or_insert_with(|| kind.api_version().into());
    object
        .entry("kind")
        .or_insert_with(|| kind.kind.as_str().into());
    if !object.get("metadata").is_some_and(Value::is_object) {
        object.insert("metadata".into(), json!({}));
    }
    same_kind(kind, &body)?;
    if options.strict {
        known_fields(kind, &body)?;
    }
    if kind.crd.is_none() {
        drop_nulls(&mut body);
    } else {
        drop_nulls(&mut body["metadata"]);
    }
    validate::decodes(kind, &body)?;
    Ok(body)
}

fn same_kind(kind: &Kind, body: &Value) -> Result<(), Failure> {
    let (version, name) = (
        body["apiVersion"].as_str().unwrap_or(""),
        body["kind"].as_str().unwrap_or(""),
    );
    let short = version.rsplit('/').next().unwrap_or_default();
    let why = if version != kind.api_version() {
        format!(
            "no kind \"{name}\" is registered for version \"{version}\" in scheme \"pkg/runtime/scheme.go:111\""
        )
    } else if name != kind.kind {
        let group = if kind.group.is_empty() {
            "core"
        } else {
            kind.group.split('.').next().unwrap_or_default()
        };
        format!(
            "converting ({short}.{name}) to ({group}.{}): unknown conversion",
            kind.kind
        )
    } else {
        return Ok(());
    };
    Err(Failure::bad_request(format!(
        "{name} in version \"{short}\" cannot be handled as a {}: {why}",
        kind.kind
    )))
}

const TOP: &str = "apiVersion kind metadata spec status data stringData binaryData type immutable rules roleRef subjects \
    webhooks aggregationRule secrets imagePullSecrets automountServiceAccountToken subsets endpoints ports addressType \
    involvedObject reason message source firstTimestamp lastTimestamp count eventTime series action related \
    reportingComponent reportingInstance regarding note deprecatedSource deprecatedFirstTimestamp \
    deprecatedLastTimestamp deprecatedCount reportingController value globalDefault description preemptionPolicy \
    provisioner parameters reclaimPolicy allowVolumeExpansion mountOptions volumeBindingMode allowedTopologies target";

fn known_fields(kind: &Kind, body: &Value) -> Result<(), Failure> {
    let known = |name: &str| match kind.schema().and_then(|s| s.get("properties")) {
        Some(properties) => {
            properties.get(name).is_some() || ["apiVersion", "kind", "metadata"].contains(&name)
        }
        None => kind.crd.is_some() || TOP.split_whitespace().any(|t| t == name),
    };
    let unknown = body
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .find(|name| !known(name));
    unknown.map_or(Ok(()), |name| {
        Err(Failure::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: unknown field \"{name}\"",
            kind.kind, kind.version, kind.kind
        )))
    })
}

/// A body with the name and the namespace of its path.
pub(crate) fn identified(target: &Target, mut body: Value) -> Result<Value, Failure> {
    if target.subresource == "scale" {
        return Ok(body);
    }
    let meta = &mut body["metadata"];
    if !target.name.is_empty() {
        let name = meta["name"].as_str().unwrap_or(&target.name);
        if name != target.name {
            let message = format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            );
            return Err(Failure::bad_request(message));
        }
        meta["name"] = target.name.as_str().into();
    }
    if meta["name"].as_str() == Some("") || meta["name"].is_null() {
        meta.as_object_mut().map(|m| m.shift_remove("name"));
    }
    if !target.kind.namespaced {
        meta.as_object_mut().map(|m| m.shift_remove("namespace"));
        return Ok(body);
    }
    let namespace = meta["namespace"]
        .as_str()
        .filter(|n| !n.is_empty())
        .unwrap_or(&target.namespace);
    if namespace != target.namespace {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(message));
    }
    meta["namespace"] = target.namespace.as_str().into();
    Ok(body)
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

/// `new` with what an update cannot change taken from `live`.
pub(crate) fn for_update(target: &Target, live: &Value, new: Value) -> Result<Value, Failure> {
    let kind = &target.kind;
    let version = new["metadata"]["resourceVersion"]
        .as_str()
        .filter(|v| !v.is_empty());
    if version.is_some_and(|v| live["metadata"]["resourceVersion"] != v) {
        return Err(Failure::stale(kind, &target.name));
    }
    let uid = new["metadata"]["uid"].as_str().filter(|v| !v.is_empty());
    if let Some(uid) = uid.filter(|uid| live["metadata"]["uid"] != *uid) {
        let found = live["metadata"]["uid"].as_str().unwrap_or_default();
        let key = format!(
            "/registry/{}/{}/{}",
            kind.plural, target.namespace, target.name
        );
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        );
        return Err(Failure::conflict(kind, &target.name, &why));
    }
    if target.subresource == "scale" {
        let mut object = live.clone();
        object["spec"]["replicas"] = new["spec"]
            .get("replicas")
            .cloned()
            .unwrap_or_else(|| 0.into());
        return Ok(object);
    }
    let mut new = if target.subresource == "status" {
        only_status(live, new)
    } else {
        new
    };
    if target.subresource.is_empty() && kind.status {
        keep(live, &mut new, "status");
    }
    for field in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        keep(&live["metadata"], &mut new["metadata"], field);
    }
    Ok(new)
}

fn only_status(live: &Value, new: Value) -> Value {
    let mut object = live.clone();
    object["metadata"]["managedFields"] = new["metadata"]["managedFields"].clone();
    keep(&new, &mut object, "status");
    drop_nulls(&mut object["metadata"]);
    object
}

fn keep(from: &Value, to: &mut Value, field: &str) {
    let Some(to) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(to.insert(field.to_owned(), value.clone())),
        None => drop(to.shift_remove(field)),
    }
}

/// What the server itself puts into a new object. Where there is a `/status`, what the creator says of it does
/// not count.
pub(crate) fn first(kind: &Kind, new: &mut Value) {
    if kind.kind == "Namespace" {
        new["spec"]["finalizers"] = json!(["kubernetes"]);
    }
    let Some(object) = new
        .as_object_mut()
        .filter(|_| kind.status && kind.kind != "Node")
    else {
        return;
    };
    object.shift_remove("status");
    let status = match kind.kind.as_str() {
        "Pod" => json!({"phase": "Pending", "qosClass": "BestEffort"}),
        "Namespace" => json!({"phase": "Active"}),
        "Service" => json!({"loadBalancer": {}}),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" if kind.group == "apps" => {
            json!({})
        }
        "CustomResourceDefinition" => {
            let versions = object["spec"]["versions"].as_array().into_iter().flatten();
            let stored: Vec<_> = versions
                .filter(|v| v["storage"] == true)
                .map(|v| v["name"].clone())
                .collect();
            json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored})
        }
        _ => return,
    };
    object.insert("status".into(), status);
}

/// Fills in what the server would.
pub(crate) fn defaults(kind: &Kind, object: &mut Value) {
    if kind.crd.is_some() {
        return;
    }
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|_, v| {
            v.as_object().is_none_or(|m| !m.is_empty())
                && v.as_array().is_none_or(|l| !l.is_empty())
        });
    }
    if kind.kind == "Secret" {
        secret_data(object);
    }
    defaults::fill(kind, object);
}

/// `stringData` is for writing only; it becomes `data`.
fn secret_data(secret: &mut Value) {
    let Some(object) = secret.as_object_mut() else {
        return;
    };
    let Some(Value::Object(plain)) = object.shift_remove("stringData") else {
        return;
    };
    let data = object.entry("data").or_insert_with(|| json!({}));
    for (name, value) in plain {
        data[name.as_str()] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
    }
}

/// Kinds whose objects count the changes of what is asked of them.
fn counts(kind: &Kind) -> bool {
    match kind.group.as_str() {
        "" => matches!(kind.kind.as_str(), "Pod" | "ReplicationController"),
        "rbac.authorization.k8s.io"
        | "coordination.k8s.io"
        | "events.k8s.io"
        | "storage.k8s.io"
        | "autoscaling" => false,
        _ => true,
    }
}

/// One at first, one more whenever anything but metadata and status changes.
pub(crate) fn generation(kind: &Kind, live: &Value, new: &mut Value) {
    if !counts(kind) {
        return;
    }
    let before = live["metadata"]["generation"].as_i64().unwrap_or(0);
    let status = kind.status || kind.crd.is_none();
    let asked = |object: &Value| -> Map<String, Value> {
        let fields = object.as_object().cloned().unwrap_or_default();
        fields
            .into_iter()
            .filter(|(name, _)| name != "metadata" && !(status && name == "status"))
            .collect()
    };
    let changed = live.is_null() || asked(live) != asked(new);
    new["metadata"]["generation"] = (before + i64::from(changed)).into();
}

/// Fields in the order people expect to read them.
pub(crate) fn order(object: &mut Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    let mut ordered = Map::new();
    for name in ["kind", "apiVersion", "metadata", "spec"] {
        if let Some(value) = map.shift_remove(name) {
            ordered.insert(name.to_owned(), value);
        }
    }
    let status = map.shift_remove("status");
    ordered.append(map);
    status.map(|status| ordered.insert("status".to_owned(), status));
    *map = ordered;
}

/// The `/scale` of an object.
pub(crate) fn scale_of(object: &Value) -> Value {
    let labels = object
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object);
    let pairs: Vec<_> = labels
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    let meta = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {
            "replicas": object.pointer("/status/replicas").cloned().unwrap_or_else(|| 0.into()),
            "selector": pairs.join(","),
        },
    })
}
