//! The injection webhook, as the API server calls it for every new pod.

use std::sync::{Arc, Weak};

use serde_json::{Map, Value, json};

use super::{Actor, Cluster, Read, objects::selects};
use crate::faults::Fault;

/// What the webhook knows when a pod comes: it must not look into the store then.
#[derive(Default)]
pub(crate) struct Injector {
    webhooks: Vec<Value>,
    /// The `values` of istiod's injector ConfigMap, by namespace of istiod.
    values: Map<String, Value>,
    trust_domain: String,
}

/// Makes the API server ask for every new pod.
pub(crate) fn install(cluster: &Arc<Cluster>) {
    let weak: Weak<Cluster> = Arc::downgrade(cluster);
    cluster
        .api
        .on_create_pod(Arc::new(move |pod, namespace| match weak.upgrade() {
            Some(cluster) => admit(&cluster, pod, namespace),
            None => Ok(()),
        }));
}

/// Keeps what the webhook knows up to date.
pub(crate) struct Keeper;

impl Actor for Keeper {
    async fn step(&mut self, cluster: &Arc<Cluster>) -> Option<std::time::Duration> {
        refresh(cluster);
        None
    }
}

/// Reads the webhook configurations and the injector's values.
pub(crate) fn refresh(cluster: &Cluster) {
    let hooks = cluster.objects.list(
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        None,
    );
    let webhooks = hooks
        .iter()
        .flat_map(|h| h.items("/webhooks"))
        .cloned()
        .collect();
    let mut injector = Injector {
        webhooks,
        trust_domain: "cluster.local".into(),
        ..Injector::default()
    };
    for map in cluster.objects.list("configmaps", None) {
        match map.name() {
            "istio-sidecar-injector" => {
                let values = serde_json::from_str(map.text("/data/values")).unwrap_or_default();
                injector.values.insert(map.ns().into(), values);
            }
            "istio" => {
                let mesh = cluster.document(map.text("/data/mesh"));
                if let Some(domain) = mesh.as_ref().and_then(|m| m["trustDomain"].as_str()) {
                    injector.trust_domain = domain.into();
                }
            }
            _ => {}
        }
    }
    *cluster
        .injector
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = injector;
}

fn admit(cluster: &Cluster, pod: &mut Value, namespace: &Value) -> Result<(), String> {
    let injector = cluster
        .injector
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let none = json!({});
    for hook in &injector.webhooks {
        let labels = |of: &Value| {
            of["metadata"]
                .get("labels")
                .cloned()
                .unwrap_or_else(|| none.clone())
        };
        let asks = hook
            .items("/rules")
            .iter()
            .any(|r| r.items("/resources").iter().any(|r| r == "pods"));
        let mine = selects(&hook["namespaceSelector"], &labels(namespace))
            && selects(&hook["objectSelector"], &labels(pod));
        if asks && mine && pod.annotation("sidecar.istio.io/status").is_none() {
            let system = hook.text("/clientConfig/service/namespace").to_owned();
            match answers(cluster, hook, &system) {
                Ok(()) => inject(pod, &injector.values[&system], &injector.trust_domain),
                Err(_) if hook["failurePolicy"] == "Ignore" => {}
                Err(why) => {
                    return Err(format!(
                        "failed calling webhook \"{}\": {why}",
                        hook.text("/name")
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Whether the webhook's Service would answer.
fn answers(cluster: &Cluster, hook: &Value, system: &str) -> Result<(), String> {
    let service = hook.text("/clientConfig/service/name");
    let path = hook.text("/clientConfig/service/path");
    let call = format!(
        "failed to call webhook: Post \"https://{service}.{system}.svc:443{path}?timeout=10s\""
    );
    if cluster.has(Fault::WebhookRefuses) {
        return Err(format!("{call}: context deadline exceeded"));
    }
    if !cluster
        .processes
        .istiods()
        .iter()
        .any(|i| i.ready() && i.namespace == system)
    {
        return Err(format!(
            "{call}: no endpoints available for service \"{service}\""
        ));
    }
    if hook.text("/clientConfig/caBundle").is_empty() {
        return Err(format!(
            "{call}: tls: failed to verify certificate: x509: certificate signed by unknown authority"
        ));
    }
    Ok(())
}

fn inject(pod: &mut Value, values: &Value, trust_domain: &str) {
    let image = format!(
        "{}/proxyv2:{}",
        values.text("/global/hub"),
        values.text("/global/tag")
    );
    let network = values.text("/global/network").to_owned();
    let env = json!([
        {"name": "ISTIO_META_CLUSTER_ID", "value": values.text("/global/multiCluster/clusterName")},
        {"name": "ISTIO_META_NETWORK", "value": network},
        {"name": "ISTIO_META_MESH_ID", "value": values.text("/global/meshID")},
        {"name": "TRUST_DOMAIN", "value": trust_domain},
        {"name": "PROXY_CONFIG_XDS_AGENT", "value": values.text("/global/proxyMetadata/PROXY_CONFIG_XDS_AGENT")},
    ]);
    let gateway = pod.annotation("inject.istio.io/templates") == Some("gateway");
    if gateway {
        complete_gateway(pod, &image, &env);
    } else {
        add_sidecar(pod, &image, &env);
    }
    let labels = &mut pod["metadata"]["labels"];
    if !gateway {
        labels["security.istio.io/tlsMode"] = "istio".into();
    }
    if !network.is_empty() && labels.get("topology.istio.io/network").is_none() {
        labels["topology.istio.io/network"] = network.into();
    }
    let status = json!({"containers": ["istio-proxy"], "revision": "default"}).to_string();
    pod["metadata"]["annotations"]["sidecar.istio.io/status"] = status.into();
}

fn complete_gateway(pod: &mut Value, image: &str, env: &Value) {
    for container in pod["spec"]["containers"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        if container["name"] == "istio-proxy" && container["image"] == "auto" {
            container["image"] = image.into();
            if container.get("readinessProbe").is_none() {
                // The injected default, and why gateways are slow to be seen ready.
                container["readinessProbe"] = json!({"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 15});
            }
            let mut all = env.as_array().cloned().unwrap_or_default();
            all.extend(container.items("/env").iter().cloned());
            container["env"] = all.into();
        }
    }
}

fn add_sidecar(pod: &mut Value, image: &str, env: &Value) {
    let quiet = json!({"allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
        "runAsGroup": 1337, "runAsUser": 1337, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}});
    // Redirection is set up by root with these two rights, which a strict namespace refuses.
    let setup = json!({"allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": false,
        "runAsGroup": 0, "runAsUser": 0, "runAsNonRoot": false,
        "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}});
    let proxy = json!({"name": "istio-proxy", "image": image, "args": ["proxy", "sidecar"], "env": env,
        "securityContext": quiet,
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 1},
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}]});
    let init = json!({"name": "istio-init", "image": image, "args": ["istio-iptables"], "securityContext": setup});
    push(&mut pod["spec"]["containers"], proxy);
    push(&mut pod["spec"]["initContainers"], init);
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}
