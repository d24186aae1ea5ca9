//! Services to EndpointSlices.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Actor, Cluster, Read};

const SLICES: &str = "endpointslices.discovery.k8s.io";

/// The endpoint-slice controller.
#[derive(Default)]
pub(crate) struct Endpoints {
    /// What was there when everything was last found to be as it should be.
    settled: Vec<Arc<Value>>,
}

impl Actor for Endpoints {
    async fn step(&mut self, cluster: &Arc<Cluster>) -> Option<Duration> {
        let kinds = ["services", "pods", "nodes", SLICES];
        let there = kinds
            .into_iter()
            .flat_map(|k| cluster.objects.list(k, None));
        let there: Vec<_> = there.collect();
        let mut pairs = there.iter().zip(&self.settled);
        if there.len() == self.settled.len() && pairs.all(|(a, b)| Arc::ptr_eq(a, b)) {
            return None;
        }
        if self.keep(cluster).await {
            self.settled = there;
        }
        None
    }
}

impl Endpoints {
    /// Whether nothing was left to be written.
    async fn keep(&self, cluster: &Arc<Cluster>) -> bool {
        let objects = cluster.objects.as_manager("kube-controller-manager");
        let mut settled = true;
        for service in objects.list("services", None) {
            if service.deleting()
                || service["spec"]["selector"]
                    .as_object()
                    .is_none_or(serde_json::Map::is_empty)
            {
                continue;
            }
            let wanted = slice(cluster, &service);
            let old = objects.get(SLICES, service.ns(), wanted.name());
            let before = std::mem::replace(&mut settled, false);
            let _ = match old {
                None => objects.create(SLICES, &wanted).await.map(drop),
                Some(old)
                    if old["endpoints"] == wanted["endpoints"]
                        && old["ports"] == wanted["ports"] =>
                {
                    settled = before;
                    Ok(())
                }
                Some(old) => {
                    let mut new = (*old).clone();
                    new["endpoints"] = wanted["endpoints"].clone();
                    new["ports"] = wanted["ports"].clone();
                    objects.replace(SLICES, &new).await.map(drop)
                }
            };
        }
        settled
    }
}

fn slice(cluster: &Cluster, service: &Value) -> Value {
    let mut pods = cluster.objects.list("pods", Some(service.ns()));
    pods.retain(|p| {
        p.matches(&service["spec"]["selector"])
            && !p.deleting()
            && !p.text("/status/podIP").is_empty()
    });
    let endpoints: Vec<Value> = pods.iter().map(|p| endpoint(cluster, p)).collect();
    let ports: Vec<Value> = service
        .items("/spec/ports")
        .iter()
        .map(|p| {
            let number = target_port(p, pods.first().map(|p| &**p));
            json!({"name": p.text("/name"), "port": number, "protocol": "TCP"})
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{}-{}", service.name(), &service.uid().get(..5).unwrap_or("slice")),
            "namespace": service.ns(),
            "labels": {"kubernetes.io/service-name": service.name(),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": service.name(),
                "uid": service.uid(), "controller": true, "blockOwnerDeletion": true}]},
        "endpoints": endpoints, "ports": ports,
    })
}

fn endpoint(cluster: &Cluster, pod: &Value) -> Value {
    let ready = is_ready(pod);
    json!({
        "addresses": [pod.text("/status/podIP")],
        "conditions": {"ready": ready, "serving": ready, "terminating": false},
        "nodeName": pod.text("/spec/nodeName"), "zone": zone_of(cluster, pod),
        "targetRef": {"kind": "Pod", "name": pod.name(), "namespace": pod.ns(), "uid": pod.uid()},
    })
}

/// The zone of a pod's node.
pub(crate) fn zone_of(cluster: &Cluster, pod: &Value) -> String {
    let node = cluster.objects.get("nodes", "", pod.text("/spec/nodeName"));
    node.and_then(|n| n.label("topology.kubernetes.io/zone").map(String::from))
        .unwrap_or_default()
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    pod.items("/status/conditions")
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The number behind a Service port's `targetPort`, by name in the pod where it is one.
pub(crate) fn target_port(port: &Value, pod: Option<&Value>) -> u16 {
    let number = |v: &Value| v.as_u64().and_then(|n| u16::try_from(n).ok());
    let named = |name: &str| {
        let containers = pod?.items("/spec/containers");
        let found = containers
            .iter()
            .flat_map(|c| c.items("/ports"))
            .find(|p| p["name"] == name)?;
        number(&found["containerPort"])
    };
    let target = &port["targetPort"];
    number(target)
        .or_else(|| target.as_str().and_then(named))
        .or_else(|| number(&port["port"]))
        .unwrap_or(0)
}
