//! How much of each object is kept: what is named here, and nothing else.
//!
//! Checks see only this much of what was read, so that what was written down gives the same findings as what is there: a
//! check that needs more finds nothing until it is named here. Whatever may hold a secret (variables, annotations that
//! tools leave, headers in policies, values of charts) is not.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};

use super::Source;

/// Of everything's metadata.
const METADATA: [&str; 9] = [
    "apiVersion",
    "kind",
    "metadata/name",
    "metadata/namespace",
    "metadata/uid",
    "metadata/labels/*",
    "metadata/creationTimestamp",
    "metadata/deletionTimestamp",
    "metadata/ownerReferences/*/kind",
];

/// Annotations that say what Istio, Kubernetes or AWS are to do with an object. None of them takes a secret.
const ANNOTATIONS: [&str; 6] = [
    "service.beta.kubernetes.io/",
    "sidecar.istio.io/inject",
    "networking.istio.io/",
    "topology.istio.io/",
    "istio.io/",
    "traffic.istio.io/",
];

/// Variables of containers that say where a proxy or an istiod belongs.
const VARIABLES: [&str; 6] = [
    "CLUSTER_ID",
    "ISTIO_META_CLUSTER_ID",
    "ISTIO_META_NETWORK",
    "ISTIO_META_MESH_ID",
    "TRUST_DOMAIN",
    "PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION",
];

/// Of the rest. `*` is every key or every entry, and `**` everything below.
fn paths(source: Source) -> &'static [&'static str] {
    match source {
        Source::Namespaces => &["status/phase"],
        Source::Services => &[
            "spec/type",
            "spec/clusterIP",
            "spec/clusterIPs/*",
            "spec/externalName",
            "spec/ports/**",
            "spec/selector/*",
            "spec/loadBalancerSourceRanges/*",
            "status/loadBalancer/**",
        ],
        Source::Pods => &[
            "spec/hostNetwork",
            "spec/nodeName",
            "spec/serviceAccountName",
            "spec/containers/*/name",
            "spec/containers/*/image",
            "spec/containers/*/ports/**",
            "spec/initContainers/*/name",
            "spec/initContainers/*/image",
            "spec/initContainers/*/restartPolicy",
            "spec/initContainers/*/ports/**",
            "status/phase",
            "status/reason",
            "status/podIP",
            "status/startTime",
            "status/conditions/*/type",
            "status/conditions/*/status",
            "status/conditions/*/reason",
            "status/containerStatuses/*/name",
            "status/containerStatuses/*/ready",
            "status/containerStatuses/*/restartCount",
            "status/containerStatuses/*/state/*/reason",
            "status/containerStatuses/*/state/*/exitCode",
            "status/containerStatuses/*/state/*/startedAt",
            "status/containerStatuses/*/lastState/*/reason",
            "status/containerStatuses/*/lastState/*/exitCode",
        ],
        Source::Gateways => &[
            "spec/selector/*",
            "spec/servers/*/port/**",
            "spec/servers/*/hosts/*",
            "spec/servers/*/tls/mode",
        ],
        Source::PeerAuthentications => {
            &["spec/selector/**", "spec/mtls/**", "spec/portLevelMtls/**"]
        }
        // Who may come and what must stand in a request is theirs: whether it is asked for is enough.
        Source::AuthorizationPolicies => &[
            "spec/action",
            "spec/selector/**",
            "spec/targetRef/**",
            "spec/targetRefs/**",
            "spec/rules/*/from/*/source/namespaces/*",
            "spec/rules/*/to/*/operation/ports/*",
            "spec/rules/*/to/*/operation/notPorts/*",
            "spec/rules/*/when/*/key",
        ],
        Source::DestinationRules => &[
            "spec/host",
            "spec/exportTo/*",
            "spec/trafficPolicy/tls/mode",
            "spec/trafficPolicy/portLevelSettings/*/port/*",
            "spec/trafficPolicy/portLevelSettings/*/tls/mode",
            "spec/subsets/*/name",
            "spec/subsets/*/trafficPolicy/tls/mode",
            "spec/subsets/*/trafficPolicy/portLevelSettings/*/port/*",
            "spec/subsets/*/trafficPolicy/portLevelSettings/*/tls/mode",
        ],
        Source::Sidecars => &["spec/workloadSelector/**", "spec/egress/*/hosts/*"],
        Source::NetworkPolicies => &["spec/**"],
        Source::ServiceExports => &["status/conditions/*/type", "status/conditions/*/status"],
        Source::MutatingWebhooks | Source::ValidatingWebhooks => &[
            "webhooks/*/name",
            "webhooks/*/failurePolicy",
            "webhooks/*/clientConfig/service/*",
            "webhooks/*/clientConfig/caBundle",
            "webhooks/*/namespaceSelector/**",
            "webhooks/*/objectSelector/**",
        ],
        Source::Nodes => &[
            "spec/unschedulable",
            "spec/taints/*/key",
            "spec/taints/*/effect",
            "status/conditions/*/type",
            "status/conditions/*/status",
            "status/conditions/*/reason",
            "status/nodeInfo/kubeletVersion",
            "status/nodeInfo/kernelVersion",
            "status/nodeInfo/osImage",
            "status/nodeInfo/architecture",
        ],
        Source::ConfigMaps
        | Source::Basics
        | Source::Istiods
        | Source::Peers
        | Source::Rights
        | Source::Aws => &[],
    }
}

/// Objects, so much of each as checks look at.
pub(super) fn allowed(source: Source, objects: &[Value]) -> Vec<Value> {
    let all: Vec<_> = METADATA.iter().chain(paths(source)).copied().collect();
    let one = |object: &Value| {
        let mut small = kept(object, &all);
        keep_annotations(object, &mut small);
        match source {
            Source::Pods => keep_variables(object, &mut small),
            Source::ConfigMaps => keep_settings(object, &mut small),
            Source::MutatingWebhooks | Source::ValidatingWebhooks => drop_keys(&mut small),
            // Whether a rule asks who comes is told by the key being there.
            Source::AuthorizationPolicies => keep_keys(object, &mut small),
            _ => {}
        }
        small
    };
    objects.iter().map(one).collect()
}

/// So much of a value as these paths name. Entries of a list keep their places.
pub(crate) fn kept(value: &Value, paths: &[&str]) -> Value {
    if paths.contains(&"**") {
        return value.clone();
    }
    let below = |key: Option<&str>| -> Vec<&str> {
        let parts = paths.iter();
        let parts = parts.map(|path| path.split_once('/').unwrap_or((path, "")));
        let fits = parts.filter(|(first, _)| *first == "*" || Some(*first) == key);
        fits.map(|(_, rest)| rest).collect()
    };
    match value {
        Value::Object(fields) => {
            let mut small = Map::new();
            for (key, value) in fields {
                let below = below(Some(key));
                if !below.is_empty() {
                    small.insert(key.clone(), kept(value, &below));
                }
            }
            Value::Object(small)
        }
        Value::Array(items) => {
            let below = below(None);
            match below.is_empty() {
                true => json!([]),
                false => items.iter().map(|item| kept(item, &below)).collect(),
            }
        }
        // A path that goes on names nothing of a plain value.
        plain if paths.contains(&"") => plain.clone(),
        _ => Value::Null,
    }
}

fn keep_annotations(object: &Value, small: &mut Value) {
    let all = object["metadata"]["annotations"].as_object();
    let is_ours = |key: &str| ANNOTATIONS.iter().any(|a| key.starts_with(a));
    let mine = all.into_iter().flatten().filter(|(key, _)| is_ours(key));
    let mine: Map<_, _> = mine.map(|(k, v)| (k.clone(), v.clone())).collect();
    if !mine.is_empty() {
        small["metadata"]["annotations"] = mine.into();
    }
}

/// Each variable's name, and what a few of them are set to.
fn keep_variables(pod: &Value, small: &mut Value) {
    for key in ["containers", "initContainers"] {
        let all = pod["spec"][key].as_array().into_iter().flatten();
        for (n, container) in all.enumerate() {
            let Some(set) = container["env"].as_array() else {
                continue;
            };
            let of = |name: &str| VARIABLES.contains(&name);
            let mine = set.iter().filter(|e| e["name"].as_str().is_some_and(of));
            let mine = mine.map(|e| kept(e, &["name", "value"]));
            small["spec"][key][n]["env"] = mine.collect();
        }
    }
}

/// Of istiod's configuration what says who and where it is.
fn keep_settings(map: &Value, small: &mut Value) {
    let data = |key: &str| map["data"][key].as_str();
    match map["metadata"]["name"].as_str() {
        Some("istio") => {
            let mesh = data("mesh").and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
            if let Some(mesh) = mesh {
                let paths = [
                    "trustDomain",
                    "trustDomainAliases/*",
                    "rootNamespace",
                    "outboundTrafficPolicy/mode",
                ];
                small["data"] = json!({"mesh": kept(&mesh, &paths).to_string()});
            }
        }
        Some("istio-sidecar-injector") => {
            let values = data("values").and_then(|text| serde_json::from_str::<Value>(text).ok());
            if let Some(values) = values {
                let paths = [
                    "global/network",
                    "global/meshID",
                    "global/multiCluster/*",
                    "revision",
                ];
                small["data"] = json!({"values": kept(&values, &paths).to_string()});
            }
        }
        _ => {}
    }
}

/// Of a list of authorities nothing but certificates.
fn drop_keys(small: &mut Value) {
    let hooks = small["webhooks"].as_array_mut();
    for hook in hooks.into_iter().flatten() {
        let Some(bundle) = hook.pointer_mut("/clientConfig/caBundle") else {
            continue;
        };
        let pem = bundle.as_str().and_then(|text| BASE64.decode(text).ok());
        let pem = pem.and_then(|pem| String::from_utf8(pem).ok());
        let is_public = pem.is_some_and(|pem| {
            let mut begun = pem.lines().filter(|l| l.starts_with("-----BEGIN"));
            begun.all(|line| line == "-----BEGIN CERTIFICATE-----")
        });
        if !is_public {
            *bundle = Value::Null;
        }
    }
}

/// Of rules which conditions they have, where the conditions themselves are not kept.
fn keep_keys(policy: &Value, small: &mut Value) {
    let rules = policy["spec"]["rules"].as_array().into_iter().flatten();
    for (n, rule) in rules.enumerate() {
        let to = rule["to"].as_array().into_iter().flatten();
        for (m, to) in to.enumerate() {
            let operation = to["operation"].as_object().into_iter().flatten();
            for (key, _) in
                operation.filter(|(key, _)| !["ports", "notPorts"].contains(&key.as_str()))
            {
                small["spec"]["rules"][n]["to"][m]["operation"][key] = Value::Null;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-canary-canary";

    #[test]
    fn only_what_is_named_is_kept() {
        let value = json!({"a": {"b": 1, "c": {"d": CANARY}}, "l": [{"n": "x", "v": CANARY}, {"n": "y"}], "z": CANARY});
        let small = kept(&value, &["a/b", "a/c/x", "l/*/n"]);
        assert_eq!(
            small,
            json!({"a": {"b": 1, "c": {}}, "l": [{"n": "x"}, {"n": "y"}]})
        );
        assert_eq!(
            kept(&value, &["a/**"]),
            json!({"a": {"b": 1, "c": {"d": CANARY}}})
        );
        // A path ends at what it names: what is below that is not named.
        assert_eq!(kept(&value, &["a/c"]), json!({"a": {"c": {}}}));
    }

    #[test]
    fn no_place_that_may_hold_a_secret_is_kept() {
        let metadata = json!({"name": "x", "namespace": "y", "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": CANARY, "vault.hashicorp.com/x": CANARY}});
        let container = json!({"name": "c", "command": [CANARY], "args": [CANARY], "env": [
            {"name": "DB_PASSWORD", "value": CANARY},
            {"name": "CLUSTER_ID", "value": "eks-1", "valueFrom": {"x": CANARY}}]});
        for (source, object) in [
            (
                Source::Pods,
                json!({"metadata": metadata, "spec": {"containers": [container], "volumes": [CANARY]}, "status": {"message": CANARY}}),
            ),
            (
                Source::ConfigMaps,
                json!({"metadata": {"name": "x"}, "data": {"k": CANARY}}),
            ),
            (
                Source::ConfigMaps,
                json!({"metadata": {"name": "istio"}, "data": {"mesh": format!("trustDomain: a\ndefaultConfig: {{proxyMetadata: {{T: {CANARY}}}}}"), "x": CANARY}}),
            ),
            (
                Source::ConfigMaps,
                json!({"metadata": {"name": "istio-sidecar-injector"}, "data": {"config": CANARY, "values": json!({"global": {"network": "n", "proxy": {"env": CANARY}}}).to_string()}}),
            ),
            (
                Source::AuthorizationPolicies,
                json!({"metadata": metadata, "spec": {"rules": [{"from": [{"source": {"principals": [CANARY]}}], "to": [{"operation": {"paths": [CANARY]}}], "when": [{"key": "request.headers[x]", "values": [CANARY]}]}]}}),
            ),
            (
                Source::DestinationRules,
                json!({"metadata": metadata, "spec": {"host": "h", "trafficPolicy": {"tls": {"mode": "SIMPLE", "credentialName": CANARY}}}}),
            ),
            (
                Source::MutatingWebhooks,
                json!({"metadata": metadata, "webhooks": [{"clientConfig": {"url": CANARY, "caBundle": BASE64.encode(format!("-----BEGIN PRIVATE {}-----\n{CANARY}", "KEY"))}}]}),
            ),
            (
                Source::Services,
                json!({"metadata": metadata, "spec": {"x": CANARY}}),
            ),
        ] {
            let small = allowed(source, &[object]);
            let text = serde_json::to_string(&small).unwrap();
            assert!(!text.contains(CANARY), "{source:?}: {text}");
            assert!(
                !text.contains(&BASE64.encode(CANARY)[..20]),
                "{source:?}: {text}"
            );
        }
    }
}
