//! What the cluster itself knows about its gateway's load balancer: one look, no AWS.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Controllers;
use crate::cluster::{self, Cluster, Kind, Ref};

/// What the cluster knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// There is a Service of type LoadBalancer.
    pub service: bool,
    /// Its UID.
    pub uid: String,
    /// Its class.
    pub class: Option<String>,
    /// What the Service calls the gateway's port.
    pub port_name: Option<String>,
    /// The host name in its status.
    pub hostname: Option<String>,
    /// The address in its status, where the cluster gives addresses instead.
    pub ip: Option<String>,
    /// Target groups its controller made.
    pub bindings: Vec<Binding>,
    /// Its events.
    pub events: Vec<Event>,
    /// The pods it selects.
    pub pods: Vec<Pod>,
    /// Zones by instance id, for targets that are instances.
    pub instances: BTreeMap<String, String>,
    /// Some `Gateway` object selects those pods and opens the port.
    pub gateway: bool,
    /// Who could make a load balancer.
    pub controllers: Controllers,
}

/// A `TargetGroupBinding`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    /// Its name: also the name of the pods' readiness gate.
    pub name: String,
    /// Number or name of the Service's port.
    pub port: String,
    /// The target group.
    pub group: String,
}

/// An event about the Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `FailedBuildModel`, …
    pub reason: String,
    /// The message.
    pub message: String,
    /// When it was last seen, as the API server writes it.
    pub last: String,
}

/// A pod of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Name.
    pub name: String,
    /// Address.
    pub ip: String,
    /// Zone of its node.
    pub zone: String,
    /// Ready.
    pub ready: bool,
    /// Containers are ready, whatever the readiness gates say.
    pub containers_ready: bool,
    /// Readiness gates that wait for target health.
    pub gates: Vec<Gate>,
}

/// A readiness gate the load-balancer controller keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The binding it is about.
    pub binding: String,
    /// Whether the target is healthy.
    pub open: bool,
    /// The target's reason.
    pub reason: String,
}

/// The condition type of a readiness gate, before the binding's name.
const GATE: &str = "target-health.elbv2.k8s.aws/";

/// The label of the AWS Load Balancer Controller's Deployment.
pub(crate) const CONTROLLER: &str = "app.kubernetes.io/name=aws-load-balancer-controller";

/// Look at a Service and everything around it.
pub(crate) async fn see(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Seen, cluster::Error> {
    let service = cluster
        .find(&Ref::namespaced(&Kind::SERVICE, namespace, name))
        .await?;
    let deployments = cluster.list(&Kind::DEPLOYMENT, None, Some(CONTROLLER));
    let nodes = cluster.list(&Kind::NODE, None, None);
    let (deployments, nodes) = tokio::try_join!(deployments, nodes)?;
    let mut seen = Seen {
        controllers: controllers(&deployments, &nodes),
        ..Seen::default()
    };
    let Some(service) = service.filter(|s| s["spec"]["type"] == "LoadBalancer") else {
        return Ok(seen);
    };
    seen.read_service(&service, port);
    let labels = selector(&service);
    let bindings = Kind::new("elbv2.k8s.aws/v1beta1", "TargetGroupBinding");

    let (pods, events, bindings, gateways) = tokio::try_join!(
        cluster.list(&Kind::POD, Some(namespace), Some(&labels)),
        cluster.list(&Kind::EVENT, Some(namespace), None),
        cluster.list(&bindings, Some(namespace), None),
        cluster.list(&Kind::GATEWAY, None, None),
    )?;
    seen.read_pods(&pods, &nodes);
    seen.events = events
        .iter()
        .filter(|e| e["involvedObject"]["uid"] == service["metadata"]["uid"])
        .map(event)
        .collect();
    seen.bindings = bindings
        .iter()
        .filter(|b| b["spec"]["serviceRef"]["name"] == name)
        .map(binding)
        .collect();
    let labels = &pods
        .first()
        .map(|p| p["metadata"]["labels"].clone())
        .unwrap_or_default();
    seen.gateway = gateways.iter().any(|g| opens(g, port, labels));
    Ok(seen)
}

impl Seen {
    fn read_service(&mut self, service: &Value, port: u16) {
        let ports = service["spec"]["ports"].as_array();
        let here = ports.and_then(|all| all.iter().find(|p| p["port"] == port));
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let ingress = &service["status"]["loadBalancer"]["ingress"][0];
        self.service = true;
        self.uid = text(&service["metadata"]["uid"]).unwrap_or_default();
        self.class = text(&service["spec"]["loadBalancerClass"]);
        self.port_name = here.and_then(|p| text(&p["name"]));
        self.hostname = text(&ingress["hostname"]);
        self.ip = text(&ingress["ip"]);
    }

    fn read_pods(&mut self, pods: &[Value], nodes: &[Value]) {
        let zone = |node: &Value| {
            let found = nodes.iter().find(|n| n["metadata"]["name"] == *node);
            found.map(zone_of).unwrap_or_default()
        };
        self.pods = pods
            .iter()
            .filter(|p| p["metadata"]["deletionTimestamp"].is_null())
            .map(|p| pod(p, zone(&p["spec"]["nodeName"])))
            .collect();
        self.instances = nodes.iter().filter_map(instance).collect();
    }

    /// The binding of the gateway's port.
    pub(super) fn binding(&self, port: u16) -> Option<&Binding> {
        let named =
            |b: &&Binding| b.port == port.to_string() || Some(&b.port) == self.port_name.as_ref();
        self.bindings
            .iter()
            .find(|b| named(b) && !b.group.is_empty())
    }

    /// What the pods' readiness gates say of the gateway's port: open ones and all; `None` if there are none.
    pub(crate) fn gates(&self, port: u16) -> Option<(usize, usize)> {
        let binding = &self.binding(port)?.name;
        let gates = self
            .pods
            .iter()
            .flat_map(|p| &p.gates)
            .filter(|g| g.binding == *binding);
        let open: Vec<bool> = gates.map(|g| g.open).collect();
        (!open.is_empty()).then(|| (open.iter().filter(|o| **o).count(), open.len()))
    }

    /// The zone of a target, by what the cluster knows.
    pub(super) fn zone_of(&self, target: &str) -> Option<String> {
        let pod = self
            .pods
            .iter()
            .find(|p| p.ip == target)
            .map(|p| p.zone.clone());
        pod.or_else(|| self.instances.get(target).cloned())
            .filter(|z| !z.is_empty())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn zone_of(node: &Value) -> String {
    text(&node["metadata"]["labels"]["topology.kubernetes.io/zone"])
}

/// `aws:///eu-west-1a/i-0123` is what EC2 calls the node.
fn instance(node: &Value) -> Option<(String, String)> {
    let id = node["spec"]["providerID"]
        .as_str()?
        .strip_prefix("aws://")?
        .rsplit('/')
        .next()?;
    Some((id.to_owned(), zone_of(node)))
}

/// Who could make a load balancer, from the deployments of the load-balancer controller and the nodes.
pub(crate) fn controllers(deployments: &[Value], nodes: &[Value]) -> Controllers {
    let ready = |d: &Value| d["status"]["readyReplicas"].as_u64().unwrap_or(0);
    let label =
        |node: &Value, name: &str| node["metadata"]["labels"][name].as_str().map(str::to_owned);
    let auto = |n: &Value| label(n, "eks.amazonaws.com/compute-type").as_deref() == Some("auto");
    Controllers {
        auto_mode: nodes.iter().any(auto),
        controller: (!deployments.is_empty()).then(|| deployments.iter().map(ready).sum()),
        on_aws: nodes.iter().any(|n| instance(n).is_some()),
    }
}

fn selector(service: &Value) -> String {
    let pairs = service["spec"]["selector"]
        .as_object()
        .into_iter()
        .flatten();
    let pairs: Vec<String> = pairs
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}

fn event(event: &Value) -> Event {
    let last = [
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let last = last
        .into_iter()
        .find_map(|v| v.as_str())
        .unwrap_or_default();
    Event {
        reason: text(&event["reason"]),
        message: text(&event["message"]),
        last: last.into(),
    }
}

fn binding(binding: &Value) -> Binding {
    let port = &binding["spec"]["serviceRef"]["port"];
    Binding {
        name: text(&binding["metadata"]["name"]),
        port: port
            .as_str()
            .map_or_else(|| port.to_string(), str::to_owned),
        group: text(&binding["spec"]["targetGroupARN"]),
    }
}

fn pod(pod: &Value, zone: String) -> Pod {
    let conditions: Vec<&Value> = pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let holds = |kind: &str| {
        conditions
            .iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    let gate = |c: &&Value| {
        let binding = c["type"].as_str()?.strip_prefix(GATE)?;
        Some(Gate {
            binding: binding.into(),
            open: c["status"] == "True",
            reason: text(&c["reason"]),
        })
    };
    Pod {
        name: text(&pod["metadata"]["name"]),
        ip: text(&pod["status"]["podIP"]),
        zone,
        ready: holds("Ready"),
        containers_ready: holds("ContainersReady"),
        gates: conditions.iter().filter_map(gate).collect(),
    }
}

/// Whether a `Gateway` passes TLS through on the port and selects pods with these labels.
fn opens(gateway: &Value, port: u16, labels: &Value) -> bool {
    let servers = gateway["spec"]["servers"].as_array();
    let selector = gateway["spec"]["selector"].as_object();
    let on_port = |s: &Value| s["port"]["number"] == port;
    servers.is_some_and(|all| all.iter().any(on_port))
        && selector.is_none_or(|all| all.iter().all(|(k, v)| labels[k] == *v))
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gateway_counts_only_on_the_port_and_for_the_pods() {
        let gateway = json!({"spec": {"selector": {"istio": "eastwestgateway"},
            "servers": [{"port": {"number": 15443}, "tls": {"mode": "AUTO_PASSTHROUGH"}}]}});
        assert!(opens(
            &gateway,
            15443,
            &json!({"istio": "eastwestgateway", "app": "x"})
        ));
        assert!(!opens(
            &gateway,
            15012,
            &json!({"istio": "eastwestgateway"})
        ));
        assert!(!opens(&gateway, 15443, &json!({"istio": "ingressgateway"})));
    }

    #[test]
    fn gates_and_readiness_are_read_from_conditions() {
        let read = pod(
            &json!({"metadata": {"name": "gw"}, "status": {"podIP": "10.0.0.1", "conditions": [
                {"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"},
                {"type": "target-health.elbv2.k8s.aws/k8s-x", "status": "False", "reason": "Elb.InitialHealthChecking"}]}}),
            "a".into(),
        );
        assert!(!read.ready && read.containers_ready);
        let gate = Gate {
            binding: "k8s-x".into(),
            open: false,
            reason: "Elb.InitialHealthChecking".into(),
        };
        assert_eq!(read.gates, [gate]);
    }

    #[test]
    fn controllers_are_told_from_deployments_and_nodes() {
        let node = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}, "spec": {"providerID": "aws:///eu-west-1a/i-0a"}});
        let managed = node(json!({"eks.amazonaws.com/nodegroup": "ng"}));
        let none = controllers(&[], std::slice::from_ref(&managed));
        assert_eq!(
            none,
            Controllers {
                on_aws: true,
                ..Default::default()
            }
        );
        let auto = controllers(
            &[],
            &[node(json!({"eks.amazonaws.com/compute-type": "auto"}))],
        );
        assert!(auto.auto_mode);
        let elsewhere = controllers(&[], &[json!({"spec": {"providerID": "kind://docker/a/b"}})]);
        assert_eq!(elsewhere, Controllers::default());
        let down = controllers(&[json!({"status": {}})], &[managed]);
        assert_eq!(down.controller, Some(0));
    }
}
