//! The scheduler and the kubelet: pods get a node and an address, start, become ready, and end.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Actor, Clock, Cluster, Read,
    process::Health,
    workloads::{condition, now, tell},
};
use crate::world::{REGION, ZONES};

/// Starts, watches and ends the pods of one cluster.
#[derive(Default)]
pub(crate) struct Kubelet {
    clock: Clock,
    nodes: bool,
}

impl Actor for Kubelet {
    async fn step(&mut self, cluster: &Arc<Cluster>) -> Option<Duration> {
        if !self.nodes {
            self.nodes = register(cluster).await;
        }
        let pods = cluster.objects.list("pods", None);
        let living: BTreeSet<&str> = pods.iter().map(|p| p.uid()).collect();
        self.clock
            .keep(|key| living.contains(key.split('/').next().unwrap_or_default()));
        cluster.processes.keep(&living);
        for pod in &pods {
            self.pod(cluster, pod, &pods).await;
        }
        self.clock.due()
    }
}

impl Kubelet {
    async fn pod(&mut self, cluster: &Arc<Cluster>, pod: &Value, all: &[Arc<Value>]) {
        let objects = cluster.objects.as_manager("kubelet");
        if pod.deleting() {
            cluster.processes.end(pod.uid());
            let _ = objects.delete("pods", pod).await;
        } else if pod.text("/spec/nodeName").is_empty() {
            if self
                .clock
                .passed(format!("{}/schedule", pod.uid()), cluster.timeline.schedule)
            {
                let node = node(
                    all.iter()
                        .filter(|p| !p.text("/spec/nodeName").is_empty())
                        .count(),
                );
                let _ = objects
                    .patch("pods", pod, &json!({"spec": {"nodeName": node}}))
                    .await;
            }
        } else if let Some(container) = containers(pod).find(|c| c["image"] == "auto") {
            let text =
                "Failed to pull image \"auto\": pull access denied, repository does not exist";
            let status = waiting(pod, container.name_field(), "ErrImagePull", text);
            let _ = objects.status("pods", pod, status).await;
            tell(&objects, pod, "Failed", text).await;
        } else if self
            .clock
            .passed(format!("{}/start", pod.uid()), cluster.timeline.start)
        {
            self.run(cluster, pod).await;
        }
    }

    async fn run(&mut self, cluster: &Arc<Cluster>, pod: &Value) {
        let objects = cluster.objects.as_manager("kubelet");
        let address = match pod.text("/status/podIP") {
            // Asked for anew: the pod before this one in the same round has just taken one.
            "" => free_address(&objects.list("pods", None)),
            taken => taken.to_owned(),
        };
        let status = match cluster.processes.health(cluster, pod, &address) {
            Health::Crashed(why) => {
                let name = containers(pod)
                    .next()
                    .map_or("", |c| c.name_field())
                    .to_owned();
                waiting(pod, &name, "CrashLoopBackOff", &why)
            }
            Health::Starting => {
                self.clock.restart(&format!("{}/probe", pod.uid()));
                running(pod, &address, false)
            }
            Health::Ready => {
                let late = probe_period(pod) * cluster.timeline.missed_probes;
                running(
                    pod,
                    &address,
                    self.clock.passed(format!("{}/probe", pod.uid()), late),
                )
            }
        };
        let _ = objects.status("pods", pod, status).await;
    }
}

trait ContainerName {
    fn name_field(&self) -> &str;
}

impl ContainerName for Value {
    fn name_field(&self) -> &str {
        self.text("/name")
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.items("/spec/containers").iter()
}

/// How late the slowest readiness probe of a pod may be.
fn probe_period(pod: &Value) -> Duration {
    let periods = containers(pod).filter(|c| c["readinessProbe"].is_object());
    let longest = periods
        .map(|c| c["readinessProbe"]["periodSeconds"].as_u64().unwrap_or(10))
        .max();
    Duration::from_secs(longest.unwrap_or(0))
}

fn node(serial: usize) -> String {
    format!("node-{}", ["a", "b"][serial % ZONES.len()])
}

/// The lowest address of the pod range that no pod has; every cluster uses the same range.
fn free_address(pods: &[Arc<Value>]) -> String {
    let taken: BTreeSet<&str> = pods.iter().map(|p| p.text("/status/podIP")).collect();
    let all = (10..=250).map(|host| Ipv4Addr::new(10, 244, 0, host).to_string());
    all.into_iter()
        .find(|a| !taken.contains(a.as_str()))
        .unwrap_or_else(|| "10.244.0.251".into())
}

fn running(pod: &Value, address: &str, ready: bool) -> Value {
    let since = started(pod);
    let statuses: Vec<Value> = containers(pod)
        .map(|c| {
            json!({"name": c["name"], "image": c["image"], "imageID": c["image"], "ready": ready, "started": true,
                "restartCount": restarts(pod), "state": {"running": {"startedAt": since}}})
        })
        .collect();
    let mut status = pod["status"].clone();
    status["phase"] = "Running".into();
    status["podIP"] = address.into();
    status["podIPs"] = json!([{"ip": address}]);
    status["hostIP"] = "192.168.0.10".into();
    status["startTime"] = since;
    status["containerStatuses"] = statuses.into();
    status["conditions"] = conditions(pod, ready);
    status
}

fn waiting(pod: &Value, container: &str, reason: &str, message: &str) -> Value {
    let crashed = reason == "CrashLoopBackOff";
    let mut status = pod["status"].clone();
    status["phase"] = if crashed { "Running" } else { "Pending" }.into();
    status["startTime"] = started(pod);
    status["containerStatuses"] = containers(pod)
        .map(|c| {
            let state = if c.name_field() == container { json!({"waiting": {"reason": reason, "message": message}}) } else { json!({"waiting": {"reason": "PodInitializing"}}) };
            json!({"name": c["name"], "image": c["image"], "imageID": "", "ready": false, "started": false,
                "restartCount": restarts(pod).max(u64::from(crashed)), "state": state})
        })
        .collect();
    status["conditions"] = conditions(pod, false);
    status
}

/// No earlier than it was made by the clock of the cluster, which may have been moved on.
fn started(pod: &Value) -> Value {
    let known = pod.pointer("/status/startTime").cloned();
    known.unwrap_or_else(|| {
        let (now, made) = (now(), &pod["metadata"]["creationTimestamp"]);
        match now.as_str() < made.as_str() {
            true => made.clone(),
            false => now,
        }
    })
}

fn restarts(pod: &Value) -> u64 {
    pod.pointer("/status/containerStatuses/0/restartCount")
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

fn conditions(pod: &Value, ready: bool) -> Value {
    let not = ["", "ContainersNotReady"];
    let mut list = vec![
        condition(pod, "PodScheduled", true, ["", ""]),
        condition(pod, "Initialized", true, ["", ""]),
        condition(pod, "ContainersReady", ready, not),
        condition(pod, "Ready", ready, not),
    ];
    for c in &mut list {
        if c["reason"] == "" {
            c.as_object_mut().map(|c| c.shift_remove("reason"));
        }
    }
    list.into()
}

async fn register(cluster: &Cluster) -> bool {
    let objects = cluster.objects.as_manager("kubelet");
    for (n, zone) in ZONES.iter().enumerate() {
        let name = node(n);
        if objects.get("nodes", "", &name).is_none() {
            let _ = objects.create("nodes", &machine(&name, n, zone)).await;
        }
    }
    objects.list("nodes", None).len() >= ZONES.len()
}

fn machine(name: &str, serial: usize, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/region": REGION, "topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDR": "10.244.0.0/24", "providerID": format!("aws:///{zone}/i-{serial:017x}")},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("192.168.0.{}", 10 + serial)}],
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now()}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "operatingSystem": "linux", "architecture": "amd64"},
        },
    })
}
