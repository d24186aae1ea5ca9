//! Rows for people: what `kubectl get` prints.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{kind::Kind, reply::metadata_only};

/// A column: its name, its priority (0 is always shown), and how to read it from an object.
type Column = (&'static str, u8, fn(&Value) -> Value);

/// Objects of a kind as a `Table`.
pub(crate) fn table(kind: &Kind, objects: &[Arc<Value>], version: &Value, now: Timestamp) -> Value {
    let columns = columns(kind);
    let custom = custom(kind);
    let mut definitions = vec![definition("Name", "string", "name", 0)];
    definitions.extend(
        columns
            .iter()
            .map(|(name, priority, _)| definition(name, "string", "", *priority)),
    );
    let theirs = |c: &&Value| c["jsonPath"] != ".metadata.creationTimestamp";
    for column in custom.iter().filter(theirs) {
        let priority = u8::try_from(column["priority"].as_u64().unwrap_or(0)).unwrap_or(1);
        definitions.push(definition(
            column["name"].as_str().unwrap_or_default(),
            "string",
            "",
            priority,
        ));
    }
    definitions.push(definition("Age", "string", "", 0));
    let row = |object: &Arc<Value>| {
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend(columns.iter().map(|(_, _, read)| read(object)));
        cells.extend(
            custom
                .iter()
                .filter(theirs)
                .map(|c| at_path(object, c["jsonPath"].as_str().unwrap_or_default())),
        );
        cells.push(age(&object["metadata"]["creationTimestamp"], now).into());
        json!({"cells": cells, "object": metadata_only(object)})
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
        "columnDefinitions": definitions, "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

fn definition(name: &str, kind: &str, format: &str, priority: u8) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
}

fn custom(kind: &Kind) -> &[Value] {
    kind.crd
        .as_deref()
        .and_then(|v| v["additionalPrinterColumns"].as_array())
        .map_or(&[], Vec::as_slice)
}

/// A field by a simple JSON path: `.spec.host`, `.spec.hosts[0]`.
fn at_path(object: &Value, path: &str) -> Value {
    let pointer = path.replace('[', "/").replace(']', "").replace('.', "/");
    object.pointer(&pointer).cloned().unwrap_or(Value::Null)
}

fn count(value: &Value) -> usize {
    value
        .as_array()
        .map(Vec::len)
        .or_else(|| value.as_object().map(serde_json::Map::len))
        .unwrap_or(0)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn joined(texts: impl Iterator<Item = String>) -> Value {
    let all: Vec<_> = texts.filter(|t| !t.is_empty()).collect();
    if all.is_empty() {
        "<none>".into()
    } else {
        all.join(",").into()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn or_none(value: &Value) -> Value {
    if value.is_null() || value == "" {
        "<none>".into()
    } else {
        value.clone()
    }
}

fn columns(kind: &Kind) -> &'static [Column] {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => POD,
        ("", "Service") => SERVICE,
        ("", "Namespace") => &[("Status", 0, |o| o["status"]["phase"].clone())],
        ("", "ConfigMap") => &[("Data", 0, |o| {
            (count(&o["data"]) + count(&o["binaryData"])).into()
        })],
        ("", "Secret") => &[
            ("Type", 0, |o| o["type"].clone()),
            ("Data", 0, |o| count(&o["data"]).into()),
        ],
        ("", "Node") => NODE,
        ("", "Event") => EVENT,
        ("apps", "Deployment") => DEPLOYMENT,
        ("apps", "ReplicaSet") => REPLICAS,
        ("coordination.k8s.io", _) => &[("Holder", 0, |o| o["spec"]["holderIdentity"].clone())],
        ("admissionregistration.k8s.io", _) => &[("Webhooks", 0, |o| count(&o["webhooks"]).into())],
        ("rbac.authorization.k8s.io", "ClusterRoleBinding" | "RoleBinding") => {
            &[("Role", 0, |o| {
                format!(
                    "{}/{}",
                    text(&o["roleRef"]["kind"]),
                    text(&o["roleRef"]["name"])
                )
                .into()
            })]
        }
        ("discovery.k8s.io", _) => SLICE,
        _ => &[],
    }
}

const POD: &[Column] = &[
    ("Ready", 0, |o| {
        let ready = items(&o["status"]["containerStatuses"])
            .iter()
            .filter(|c| c["ready"] == true)
            .count();
        format!("{ready}/{}", count(&o["spec"]["containers"])).into()
    }),
    ("Status", 0, |o| {
        match o["metadata"].get("deletionTimestamp") {
            Some(_) => "Terminating".into(),
            None => o["status"]
                .get("reason")
                .unwrap_or(&o["status"]["phase"])
                .clone(),
        }
    }),
    ("Restarts", 0, |o| {
        items(&o["status"]["containerStatuses"])
            .iter()
            .map(|c| number(&c["restartCount"]))
            .sum::<i64>()
            .to_string()
            .into()
    }),
    ("IP", 1, |o| or_none(&o["status"]["podIP"])),
    ("Node", 1, |o| or_none(&o["spec"]["nodeName"])),
];

const SERVICE: &[Column] = &[
    ("Type", 0, |o| o["spec"]["type"].clone()),
    ("Cluster-IP", 0, |o| or_none(&o["spec"]["clusterIP"])),
    ("External-IP", 0, |o| {
        let ingress = items(&o["status"]["loadBalancer"]["ingress"]);
        let names = ingress
            .iter()
            .map(|i| text(i.get("hostname").unwrap_or(&i["ip"])));
        match joined(names) {
            none if none == "<none>" && o["spec"]["type"] == "LoadBalancer" => "<pending>".into(),
            names => names,
        }
    }),
    ("Port(s)", 0, |o| {
        joined(
            items(&o["spec"]["ports"])
                .iter()
                .map(|p| match p.get("nodePort") {
                    Some(node) => format!("{}:{node}/{}", p["port"], text(&p["protocol"])),
                    None => format!("{}/{}", p["port"], text(&p["protocol"])),
                }),
        )
    }),
];

const NODE: &[Column] = &[
    ("Status", 0, |o| {
        let ready = items(&o["status"]["conditions"])
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        if ready {
            "Ready".into()
        } else {
            "NotReady".into()
        }
    }),
    ("Version", 0, |o| {
        o["status"]["nodeInfo"]["kubeletVersion"].clone()
    }),
];

const EVENT: &[Column] = &[
    ("Type", 0, |o| o["type"].clone()),
    ("Reason", 0, |o| o["reason"].clone()),
    ("Object", 0, |o| {
        let about = &o["involvedObject"];
        format!(
            "{}/{}",
            text(&about["kind"]).to_lowercase(),
            text(&about["name"])
        )
        .into()
    }),
    ("Message", 0, |o| o["message"].clone()),
];

const DEPLOYMENT: &[Column] = &[
    ("Ready", 0, |o| {
        format!(
            "{}/{}",
            number(&o["status"]["readyReplicas"]),
            number(&o["spec"]["replicas"])
        )
        .into()
    }),
    ("Up-to-date", 0, |o| {
        number(&o["status"]["updatedReplicas"]).into()
    }),
    ("Available", 0, |o| {
        number(&o["status"]["availableReplicas"]).into()
    }),
];

const REPLICAS: &[Column] = &[
    ("Desired", 0, |o| number(&o["spec"]["replicas"]).into()),
    ("Current", 0, |o| number(&o["status"]["replicas"]).into()),
    ("Ready", 0, |o| number(&o["status"]["readyReplicas"]).into()),
];

const SLICE: &[Column] = &[
    ("AddressType", 0, |o| o["addressType"].clone()),
    ("Ports", 0, |o| {
        joined(items(&o["ports"]).iter().map(|p| p["port"].to_string()))
    }),
    ("Endpoints", 0, |o| {
        joined(
            items(&o["endpoints"])
                .iter()
                .flat_map(|e| items(&e["addresses"]))
                .map(text),
        )
    }),
];

/// How old something is, as kubectl shortens it.
fn age(since: &Value, now: Timestamp) -> String {
    let Some(since) = since.as_str().and_then(|s| s.parse::<Timestamp>().ok()) else {
        return "<unknown>".into();
    };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kinds;

    #[test]
    fn ages_are_short() {
        let now: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
        for (since, expected) in [
            ("2026-01-10T11:59:55Z", "5s"),
            ("2026-01-10T11:55:30Z", "4m30s"),
            ("2026-01-10T11:30:00Z", "30m"),
            ("2026-01-10T07:30:00Z", "4h30m"),
            ("2026-01-09T00:00:00Z", "36h"),
            ("2026-01-01T00:00:00Z", "9d"),
        ] {
            assert_eq!(age(&since.into(), now), expected, "{since}");
        }
    }

    #[test]
    fn a_service_shows_its_address_when_it_has_one() {
        let kind = Kinds::new().by_resource("services").unwrap();
        let cells = |status: Value| {
            let service = json!({"metadata": {"name": "gw"}, "status": status,
                "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.2", "ports": [{"port": 15443, "nodePort": 30000, "protocol": "TCP"}]}});
            table(
                &kind,
                &[Arc::new(service)],
                &Value::Null,
                Timestamp::UNIX_EPOCH,
            )["rows"][0]["cells"]
                .clone()
        };
        assert_eq!(cells(json!({}))[3], "<pending>");
        let cells = cells(json!({"loadBalancer": {"ingress": [{"hostname": "lb.test"}]}}));
        assert_eq!(
            (&cells[3], &cells[4]),
            (&json!("lb.test"), &json!("15443:30000/TCP"))
        );
    }
}
