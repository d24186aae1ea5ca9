//! Is what we want what is there? Fields we do not name are others' affair.
//!
//! The comparison knows what the API server does to an object on the way in: it writes quantities
//! its own way, drops what is null, empty or zero by nature, and adds defaults everywhere.

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::digest::sha256_hex;

mod quantity;

/// One field that is not as we want it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// Where, such as `spec.ports[port=15443].nodePort`.
    pub path: String,
    /// What is there now; nothing where the field is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is wanted.
    pub to: Value,
}

/// Lists whose elements have owners of their own, and the field that tells them apart. In every
/// other list an element more, less or elsewhere is a change.
const KEYED: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ports", &["containerPort", "port"]),
    ("imagePullSecrets", &["name"]),
    ("secrets", &["name"]),
    ("webhooks", &["name"]),
    ("versions", &["name"]),
    ("hostAliases", &["ip"]),
    ("ownerReferences", &["uid"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("matchConditions", &["name"]),
];

/// Fields that the API server does not write when they are false or zero.
const ZERO: &[&str] = &[
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "initialDelaySeconds",
    "minReadySeconds",
    "paused",
    "preserveUnknownFields",
    "readOnly",
    "stdin",
    "tty",
];

/// Every field of `desired` that `live` does not have with the same meaning. Values of Secrets
/// show as fingerprints only.
pub(crate) fn drift(desired: &Value, live: &Value) -> Vec<Change> {
    let mut walk = Walk {
        secret: desired["kind"] == "Secret",
        hidden: false,
        changes: Vec::new(),
    };
    walk.value("", "", &plain_data(desired), Some(live));
    walk.changes
}

/// `stringData` is only another way of writing `data`.
fn plain_data(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Secret"
        && let Some(Value::Object(plain)) = object
            .as_object_mut()
            .and_then(|fields| fields.remove("stringData"))
    {
        for (key, value) in plain {
            object["data"][key] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
    object
}

struct Walk {
    secret: bool,
    /// Below the data of a Secret.
    hidden: bool,
    changes: Vec<Change>,
}

impl Walk {
    /// Compares one field; `field` is its own name, `path` leads to it.
    fn value(&mut self, path: &str, field: &str, desired: &Value, live: Option<&Value>) {
        match (desired, live) {
            (Value::Null, _) => {}
            (desired, None | Some(Value::Null)) if empty(desired) || zero(field, desired) => {}
            // Not ours to say, and a namespace on a cluster-wide object (charts do that) is dropped.
            _ if matches!(
                path,
                "status"
                    | "metadata.namespace"
                    | "metadata.resourceVersion"
                    | "metadata.managedFields"
            ) => {}
            (Value::Object(desired), None | Some(Value::Object(_))) => {
                self.object(path, desired, live.and_then(Value::as_object));
            }
            (Value::Array(desired), Some(Value::Array(live))) => {
                self.list(path, field, desired, live)
            }
            (desired, Some(live)) if same(path, desired, live) => {}
            (desired, live) => self.note(path, desired, live),
        }
    }

    fn object(
        &mut self,
        path: &str,
        desired: &Map<String, Value>,
        live: Option<&Map<String, Value>>,
    ) {
        for (key, value) in desired {
            let below = match (path.is_empty(), key.contains(['.', '/'])) {
                (true, _) => key.clone(),
                (false, false) => format!("{path}.{key}"),
                (false, true) => format!("{path}[{key:?}]"),
            };
            let outer = self.hidden;
            self.hidden |= self.secret && path.is_empty() && key == "data";
            self.value(&below, key, value, live.and_then(|live| live.get(key)));
            self.hidden = outer;
        }
    }

    fn list(&mut self, path: &str, field: &str, desired: &[Value], live: &[Value]) {
        if field == "finalizers" {
            for item in desired.iter().filter(|item| !live.contains(item)) {
                self.note(path, item, None);
            }
        } else if let Some(key) = key_of(field, desired) {
            for item in desired {
                let twin = live
                    .iter()
                    .find(|other| identity(item, key) == identity(other, key));
                let name = item[key]
                    .as_str()
                    .map_or_else(|| item[key].to_string(), str::to_owned);
                let below = format!("{path}[{key}={name}]");
                match twin {
                    Some(_) => self.value(&below, "", item, twin),
                    None => self.note(&below, item, None),
                }
            }
        } else if desired.len() != live.len() {
            self.note(path, &json!(desired), Some(&json!(live)));
        } else {
            for (n, (item, other)) in desired.iter().zip(live).enumerate() {
                self.value(&format!("{path}[{n}]"), "", item, Some(other));
            }
        }
    }

    fn note(&mut self, path: &str, desired: &Value, live: Option<&Value>) {
        let show = |value: &Value| {
            if self.hidden {
                fingerprint(value)
            } else {
                value.clone()
            }
        };
        self.changes.push(Change {
            path: path.to_owned(),
            from: live.map(show),
            to: show(desired),
        });
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.values().all(empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn zero(field: &str, value: &Value) -> bool {
    ZERO.contains(&field) && (*value == json!(false) || *value == json!(0))
}

/// The field that tells the elements of a list apart, if each has another value of it.
fn key_of(field: &str, desired: &[Value]) -> Option<&'static str> {
    let (_, keys) = KEYED.iter().find(|(name, _)| *name == field)?;
    let fits = |key: &&&str| {
        let mut seen = std::collections::HashSet::new();
        desired
            .iter()
            .all(|item| !item[**key].is_null() && seen.insert(identity(item, key)))
    };
    keys.iter().find(fits).copied()
}

/// Ports are told apart by their protocol too: TCP unless they say otherwise.
fn identity(item: &Value, key: &str) -> (String, String) {
    let port = matches!(key, "port" | "containerPort");
    let protocol = if port {
        item["protocol"].as_str().unwrap_or("TCP")
    } else {
        ""
    };
    (item[key].to_string(), protocol.to_owned())
}

fn same(path: &str, desired: &Value, live: &Value) -> bool {
    if desired == live {
        return true;
    }
    match (desired, live) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::String(_) | Value::Number(_), Value::String(_) | Value::Number(_))
            if is_quantity(path) =>
        {
            let text = |value: &Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            };
            quantity::equal(&text(desired), &text(live))
        }
        _ => false,
    }
}

/// Only these fields are quantities: elsewhere `1000m` and `1` are two different texts, and `80`
/// and `"80"` two different ports.
fn is_quantity(path: &str) -> bool {
    let parts: Vec<&str> = path.split(['.', '[']).collect();
    let among = |names: &[&str]| parts.iter().any(|part| names.contains(part));
    path.ends_with(".target.value")
        || matches!(
            parts.last(),
            Some(&("sizeLimit" | "averageValue" | "divisor"))
        )
        || among(&["limits", "requests", "hard", "capacity"])
}

fn fingerprint(value: &Value) -> Value {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    let digest = sha256_hex(text.as_bytes());
    json!(format!("(secret {})", &digest[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(desired: Value, live: Value) -> Vec<String> {
        drift(&desired, &live)
            .into_iter()
            .map(|change| change.path)
            .collect()
    }

    #[test]
    fn what_means_the_same_is_no_drift() {
        for (desired, live) in [
            (json!({"a": 1}), json!({"a": 1, "b": 2})),
            (json!({"a": null, "b": {}, "c": [], "d": ""}), json!({})),
            (json!({"a": {"b": null}}), json!({})),
            (json!({"a": 1}), json!({"a": 1.0})),
            (
                json!({"hostNetwork": false, "initialDelaySeconds": 0}),
                json!({}),
            ),
            (
                json!({"metadata": {"name": "x", "namespace": "y"}}),
                json!({"metadata": {"name": "x"}}),
            ),
            (
                json!({"resources": {"limits": {"cpu": "1000m"}}}),
                json!({"resources": {"limits": {"cpu": "1"}}}),
            ),
            (
                json!({"resources": {"limits": {"cpu": 2}}}),
                json!({"resources": {"limits": {"cpu": "2"}}}),
            ),
            (
                json!({"resources": {"requests": {"memory": "2048Mi"}}}),
                json!({"resources": {"requests": {"memory": "2Gi"}}}),
            ),
            (
                json!({"env": [{"name": "B", "value": "1"}]}),
                json!({"env": [{"name": "A"}, {"name": "B", "value": "1"}]}),
            ),
            (
                json!({"ports": [{"port": 53, "protocol": "UDP"}]}),
                json!({"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 3}]}),
            ),
            (
                json!({"finalizers": ["a"]}),
                json!({"finalizers": ["b", "a"]}),
            ),
            (
                json!({"kind": "Secret", "stringData": {"k": "v"}}),
                json!({"kind": "Secret", "data": {"k": "dg=="}}),
            ),
        ] {
            assert_eq!(drift(&desired, &live), [], "{desired}");
        }
    }

    #[test]
    fn what_differs_is_named() {
        for (desired, live, path) in [
            (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), "a.b"),
            (json!({"a": {"b": 1}}), json!({}), "a.b"),
            (json!({"a": false}), json!({}), "a"),
            (json!({"a": {"x": 1}}), json!({"a": "text"}), "a"),
            (json!({"port": 80}), json!({"port": "80"}), "port"),
            (
                json!({"env": [{"name": "A", "value": "1"}]}),
                json!({"env": [{"name": "A", "value": "1.0"}]}),
                "env[name=A].value",
            ),
            (
                json!({"metadata": {"labels": {"a.b/c": "1000m"}}}),
                json!({"metadata": {"labels": {"a.b/c": "1"}}}),
                "metadata.labels[\"a.b/c\"]",
            ),
            (
                json!({"args": ["a", "b"]}),
                json!({"args": ["b", "a"]}),
                "args[0]",
            ),
            (
                json!({"subjects": [{"name": "a"}]}),
                json!({"subjects": [{"name": "a"}, {"name": "b"}]}),
                "subjects",
            ),
            (
                json!({"volumes": [{"name": "v"}]}),
                json!({"volumes": []}),
                "volumes[name=v]",
            ),
            (
                json!({"ports": [{"port": 1, "name": "x"}]}),
                json!({"ports": [{"port": 1, "name": "y"}]}),
                "ports[port=1].name",
            ),
        ] {
            assert_eq!(
                paths(desired.clone(), live).first().map(String::as_str),
                Some(path),
                "{desired}"
            );
        }
    }

    #[test]
    fn every_mutated_field_shows() {
        let desired = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gw", "labels": {"a": "b"}},
            "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": 15443, "targetPort": 15443}], "selector": {"istio": "x"}}});
        let mut leaves = Vec::new();
        collect(&desired, String::new(), &mut leaves);
        for leaf in leaves {
            let mut live = desired.clone();
            *live.pointer_mut(&leaf).unwrap() = json!("mutated");
            assert_eq!(drift(&desired, &live).len(), 1, "{leaf}");
        }
    }

    fn collect(value: &Value, at: String, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(key, value)| collect(value, format!("{at}/{key}"), into)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(n, value)| collect(value, format!("{at}/{n}"), into)),
            _ => into.push(at),
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = |value: &str| json!({"kind": "Secret", "data": {"ca-key.pem": value}});
        let changes = drift(&secret("Y2FuYXJ5"), &secret("b2xkLWNhbmFyeQ=="));
        let text = serde_json::to_string(&changes).unwrap() + &format!("{changes:?}");
        assert!(
            !text.contains("Y2FuYXJ5") && !text.contains("b2xk"),
            "{text}"
        );
        assert_ne!(changes[0].from.as_ref(), Some(&changes[0].to));
        let whole = drift(
            &json!({"kind": "Secret", "data": {"k": "Y2FuYXJ5"}}),
            &json!({"kind": "Secret", "data": "b2xk"}),
        );
        assert!(!format!("{whole:?}").contains("Y2FuYXJ5"), "{whole:?}");
    }

    fn any() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z0-9]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let field = prop_oneof![
                "ports",
                "name",
                "env",
                "finalizers",
                "limits",
                "containerPort",
                "data",
                "[a-c]"
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((field, inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn nothing_drifts_from_itself_or_from_more_of_itself(object in any(), more in any()) {
            proptest::prop_assert_eq!(drift(&object, &object), []);
            let (mut live, Value::Object(more)) = (object.clone(), more) else { return Ok(()) };
            if let Value::Object(fields) = &mut live {
                let new: Vec<_> = more.into_iter().filter(|(key, _)| object.get(key).is_none()).collect();
                fields.extend(new);
            }
            proptest::prop_assert_eq!(drift(&object, &live), []);
        }
    }
}
