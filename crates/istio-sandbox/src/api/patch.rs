//! The patches a client may send: JSON patch, JSON merge patch, strategic merge patch, and apply.

use serde_json::{Map, Value};

use super::{
    kind::Kind,
    ssa::schema::{Cursor, List},
    status::Failure,
};

/// A patch as it came in.
#[derive(Debug, Clone)]
pub(crate) enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' own, which merges lists by key.
    Strategic(Value),
    /// Server-side apply.
    Apply { config: Value, force: bool },
}

/// `live` with `patch` laid over it.
pub(crate) fn patched(kind: &Kind, live: &Value, patch: &Patch) -> Result<Value, Failure> {
    let mut object = live.clone();
    match patch {
        Patch::Json(steps) => {
            let steps = steps
                .as_array()
                .ok_or_else(|| Failure::bad_request("a JSON patch is a list of operations"))?;
            for step in steps {
                operate(&mut object, step).map_err(|_| refused())?;
            }
        }
        Patch::Merge(patch) => merge(&mut object, patch),
        Patch::Strategic(patch) if kind.crd.is_some() => {
            let _ = patch;
            let message = "the body of the request was in an unknown format - accepted media types include: \
                application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
        Patch::Strategic(patch) => strategic(&mut object, patch, Cursor::root(kind)),
        Patch::Apply { config, .. } => object = config.clone(),
    }
    Ok(object)
}

/// The real server keeps to itself which step failed.
fn refused() -> Failure {
    Failure::new(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    )
    .vague()
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            map.shift_remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn operate(object: &mut Value, step: &Value) -> Result<(), String> {
    let path = step["path"].as_str().ok_or("an operation has no path")?;
    let value = || {
        step.get("value")
            .cloned()
            .ok_or_else(|| format!("the operation at {path} has no value"))
    };
    let from = || {
        let from = step["from"].as_str().ok_or("an operation has no from")?;
        object
            .pointer(from)
            .cloned()
            .map(|v| (from, v))
            .ok_or_else(|| format!("{from} does not exist"))
    };
    match step["op"].as_str().unwrap_or_default() {
        "add" => put(object, path, value()?, true),
        "replace" => put(object, path, value()?, false),
        "remove" => take(object, path),
        "test" if object.pointer(path) == Some(&value()?) => Ok(()),
        "test" => Err(format!("testing value {path} failed")),
        "copy" => {
            let (_, copied) = from()?;
            put(object, path, copied, true)
        }
        "move" => {
            let (from, moved) = from()?;
            take(object, from)?;
            put(object, path, moved, true)
        }
        other => Err(format!("unexpected kind: {other}")),
    }
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn put(object: &mut Value, path: &str, value: Value, add: bool) -> Result<(), String> {
    let missing = || format!("{path} does not exist");
    let Some((parent, last)) = split(path) else {
        *object = value;
        return Ok(());
    };
    match object.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(map) if add || map.contains_key(&last) => drop(map.insert(last, value)),
        Value::Array(items) if add && last == "-" => items.push(value),
        Value::Array(items) => {
            let at: usize = last.parse().map_err(|_| missing())?;
            if add && at <= items.len() {
                items.insert(at, value);
            } else {
                *items.get_mut(at).ok_or_else(missing)? = value;
            }
        }
        _ => return Err(missing()),
    }
    Ok(())
}

fn take(object: &mut Value, path: &str) -> Result<(), String> {
    let missing = || format!("Unable to remove nonexistent key: {path}");
    let (parent, last) = split(path).ok_or_else(missing)?;
    match object.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(map) => map.shift_remove(&last).map(drop).ok_or_else(missing),
        Value::Array(items) => {
            let at = last
                .parse()
                .ok()
                .filter(|at| *at < items.len())
                .ok_or_else(missing)?;
            items.remove(at);
            Ok(())
        }
        _ => Err(missing()),
    }
}

/// Directives stand among the fields of a strategic patch.
fn directive(name: &str) -> bool {
    name.starts_with('$')
}

fn strategic(object: &mut Value, patch: &Value, at: Cursor<'_>) {
    match patch {
        Value::Object(fields) if fields.get("$patch").is_some_and(|d| d == "replace") => {
            *object = Value::Object(
                fields
                    .iter()
                    .filter(|(n, _)| !directive(n))
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect(),
            );
        }
        Value::Object(fields) => strategic_map(object, fields, at),
        Value::Array(items) => strategic_list(object, items, at),
        _ => *object = patch.clone(),
    }
}

fn strategic_map(object: &mut Value, fields: &Map<String, Value>, at: Cursor<'_>) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (name, value) in fields {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(items) = map.get_mut(list).and_then(Value::as_array_mut) {
                items.retain(|item| !gone.contains(item));
            }
        } else if directive(name) {
            retain(map, name, value);
        } else if value.is_null() {
            map.shift_remove(name);
        } else {
            strategic(
                map.entry(name.clone()).or_insert(Value::Null),
                value,
                at.field(name),
            );
        }
    }
}

fn retain(map: &mut Map<String, Value>, name: &str, value: &Value) {
    if let ("$retainKeys", Some(keys)) = (name, value.as_array()) {
        map.retain(|field, _| keys.iter().any(|k| k == field.as_str()));
    }
}

/// The key a strategic patch merges a list by: the first of those apply uses.
fn strategic_list(object: &mut Value, items: &[Value], at: Cursor<'_>) {
    let merged = match at.list() {
        List::Atomic => None,
        List::Set => Some(""),
        List::Keyed(keys) => keys.first().copied(),
    };
    let replace = items.iter().any(|i| i["$patch"] == "replace");
    let (Some(key), Some(live), false) = (merged, object.as_array_mut(), replace) else {
        let plain = items.iter().filter(|i| i.get("$patch").is_none());
        *object = Value::Array(plain.cloned().collect());
        return;
    };
    for item in items {
        let found = live.iter().position(|l| {
            if key.is_empty() {
                l == item
            } else {
                l[key] == item[key]
            }
        });
        match found {
            Some(i) if item["$patch"] == "delete" => drop(live.remove(i)),
            Some(i) => strategic(&mut live[i], item, at.item()),
            None if item["$patch"] == "delete" => {}
            None => live.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kinds;
    use serde_json::json;

    fn patch(live: Value, patch: Patch) -> Result<Value, Failure> {
        patched(
            &Kinds::new().by_resource("deployments.apps").unwrap(),
            &live,
            &patch,
        )
    }

    #[test]
    fn merge_patches_remove_with_null() {
        let new = patch(
            json!({"a": {"b": 1, "c": 2}}),
            Patch::Merge(json!({"a": {"b": null, "d": 3}})),
        );
        assert_eq!(new.unwrap(), json!({"a": {"c": 2, "d": 3}}));
    }

    #[test]
    fn json_patches_step_by_step() {
        let steps = json!([
            {"op": "test", "path": "/a/0", "value": 1}, {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"}, {"op": "replace", "path": "/x~1y", "value": "new"},
            {"op": "copy", "from": "/a/0", "path": "/b"},
        ]);
        let new = patch(json!({"a": [1, 2], "x/y": "old"}), Patch::Json(steps)).unwrap();
        assert_eq!(new, json!({"a": [2, 3], "x/y": "new", "b": 2}));
        let failed = patch(
            json!({"a": 1}),
            Patch::Json(json!([{"op": "test", "path": "/a", "value": 2}])),
        );
        assert_eq!(failed.unwrap_err().code, 422);
        assert!(
            patch(
                json!({}),
                Patch::Json(json!([{"op": "remove", "path": "/a"}]))
            )
            .is_err()
        );
    }

    #[test]
    fn strategic_patches_merge_containers_by_name() {
        let live = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "one"}, {"name": "b", "image": "two"}]}}}});
        let change = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "image": "new"}]}}}});
        let new = patch(live, Patch::Strategic(change)).unwrap();
        let containers = &new["spec"]["template"]["spec"]["containers"];
        assert_eq!(*containers, json!([{"name": "a", "image": "new"}]));
    }
}
