//! Defaults the server fills in for built-in kinds, as far as anybody here reads them back.

use serde_json::{Map, Value, json};

use super::kind::Kind;

pub(crate) fn fill(kind: &Kind, object: &mut Value) {
    match kind.kind.as_str() {
        "Secret" => missing(object, json!({"type": "Opaque"})),
        "Pod" => {
            pod_spec(&mut object["spec"]);
            missing(&mut object["spec"], json!({"enableServiceLinks": true}));
        }
        "Service" => service(object),
        "Deployment" => workload(
            object,
            json!({
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate"},
            }),
        ),
        "ReplicaSet" => workload(object, json!({"replicas": 1})),
        "StatefulSet" => workload(
            object,
            json!({"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"}),
        ),
        "DaemonSet" => workload(
            object,
            json!({"revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate"}}),
        ),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => webhooks(kind, object),
        "ClusterRoleBinding" | "RoleBinding" => binding(object),
        "CustomResourceDefinition" => definition(object),
        "Namespace" => namespace(object),
        _ => {}
    }
}

/// Adds fields that are not there.
fn missing(object: &mut Value, defaults: Value) {
    if object.is_null() {
        *object = json!({});
    }
    let (Some(object), Value::Object(defaults)) = (object.as_object_mut(), defaults) else {
        return;
    };
    for (name, value) in defaults {
        object.entry(name).or_insert(value);
    }
}

fn each(list: &mut Value, mut act: impl FnMut(&mut Value)) {
    list.as_array_mut().into_iter().flatten().for_each(&mut act);
}

fn workload(object: &mut Value, defaults: Value) {
    missing(&mut object["spec"], defaults);
    if let Some(strategy) = object["spec"]
        .get_mut("strategy")
        .filter(|s| s["type"] != "Recreate")
    {
        missing(strategy, json!({"type": "RollingUpdate"}));
        missing(
            &mut strategy["rollingUpdate"],
            json!({"maxUnavailable": "25%", "maxSurge": "25%"}),
        );
    }
    if let Some(template) = object["spec"].get_mut("template") {
        pod_spec(&mut template["spec"]);
    }
}

fn pod_spec(spec: &mut Value) {
    missing(
        spec,
        json!({
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "schedulerName": "default-scheduler",
        }),
    );
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec["serviceAccount"] = account;
    }
    for list in ["initContainers", "containers"] {
        if let Some(list) = spec.get_mut(list) {
            each(list, container);
        }
    }
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let latest = !image.contains('@')
        && !image.rsplit('/').next().unwrap_or_default().contains(':')
        || image.ends_with(":latest");
    missing(
        container,
        json!({
            "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": if latest { "Always" } else { "IfNotPresent" },
        }),
    );
    if let Some(ports) = container.get_mut("ports") {
        each(ports, |port| missing(port, json!({"protocol": "TCP"})));
    }
    for name in ["readinessProbe", "livenessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name) {
            missing(
                probe,
                json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
            );
            if let Some(get) = probe.get_mut("httpGet") {
                missing(get, json!({"scheme": "HTTP"}));
            }
        }
    }
}

fn service(object: &mut Value) {
    let spec = &mut object["spec"];
    missing(
        spec,
        json!({"sessionAffinity": "None", "type": "ClusterIP"}),
    );
    let outward = matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer"));
    if spec["type"] != "ExternalName" {
        missing(spec, json!({"internalTrafficPolicy": "Cluster"}));
    }
    if outward {
        missing(spec, json!({"externalTrafficPolicy": "Cluster"}));
    }
    if spec["type"] == "LoadBalancer" {
        missing(spec, json!({"allocateLoadBalancerNodePorts": true}));
    }
    if let Some(ports) = spec.get_mut("ports") {
        each(ports, |port| {
            let target = port["port"].clone();
            missing(port, json!({"protocol": "TCP", "targetPort": target}));
        });
    }
}

fn webhooks(kind: &Kind, object: &mut Value) {
    let mutating = kind.kind.starts_with("Mutating");
    let Some(list) = object.get_mut("webhooks") else {
        return;
    };
    each(list, |webhook| {
        missing(
            webhook,
            json!({
                "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "timeoutSeconds": 10,
            }),
        );
        if mutating {
            missing(webhook, json!({"reinvocationPolicy": "Never"}));
        }
        if let Some(service) = webhook["clientConfig"].get_mut("service") {
            missing(service, json!({"port": 443}));
        }
        if let Some(rules) = webhook.get_mut("rules") {
            each(rules, |rule| missing(rule, json!({"scope": "*"})));
        }
    });
}

fn binding(object: &mut Value) {
    missing(
        &mut object["roleRef"],
        json!({"apiGroup": "rbac.authorization.k8s.io"}),
    );
    let Some(subjects) = object.get_mut("subjects") else {
        return;
    };
    each(subjects, |subject| {
        if subject["kind"] != "ServiceAccount" {
            missing(subject, json!({"apiGroup": "rbac.authorization.k8s.io"}));
        }
    });
}

fn definition(object: &mut Value) {
    let names = &mut object["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    missing(
        names,
        json!({"singular": kind.to_lowercase(), "listKind": format!("{kind}List")}),
    );
    missing(
        &mut object["spec"],
        json!({"conversion": {"strategy": "None"}}),
    );
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    let labels = &mut object["metadata"]["labels"];
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    labels["kubernetes.io/metadata.name"] = name;
}
