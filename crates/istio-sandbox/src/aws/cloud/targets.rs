//! Who is behind a load balancer's port, and how its health comes about.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    super::{Health, Pace},
    member::Node,
};

/// How often a target is tried, in reality; and at least, however fast things go.
const INTERVAL: Duration = Duration::from_secs(10);
pub(super) const LEAST: Duration = Duration::from_millis(500);
/// Tries in a row that change a target's health.
const THRESHOLD: u32 = 2;

/// A target that ought to be registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    /// Address or instance.
    pub(super) id: String,
    pub(super) port: u16,
    pub(super) zone: String,
    /// Where a try goes.
    pub(super) address: String,
}

/// The targets of one port of a Service: its ready pods, or the nodes.
pub(super) fn wanted(
    port: &Value,
    by_address: bool,
    pods: &[Value],
    nodes: &[Node],
) -> Vec<Wanted> {
    let target = |node: &Node, id: &str, address: &str, port: u16| Wanted {
        id: id.into(),
        port,
        zone: node.zone.clone(),
        address: format!("{address}:{port}"),
    };
    if !by_address {
        let node_port = number(&port["nodePort"]);
        let all = nodes.iter().filter_map(|n| Some((n, node_port?)));
        return all
            .map(|(n, port)| target(n, &n.instance, &n.address, port))
            .collect();
    }
    let one = |pod: &Value| {
        let node = nodes.iter().find(|n| pod["spec"]["nodeName"] == n.name)?;
        let ip = pod["status"]["podIP"].as_str()?;
        let port = target_port(port, pod)?;
        is_ready(pod).then(|| target(node, ip, ip, port))
    };
    pods.iter().filter_map(one).collect()
}

/// Its containers are ready, and it is not going. What its readiness gates wait for comes after.
fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |c: &Value| c["type"] == "ContainersReady" && c["status"] == "True";
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|all| all.iter().any(ready))
}

fn target_port(port: &Value, pod: &Value) -> Option<u16> {
    let asked = &port["targetPort"];
    let Some(name) = asked.as_str() else {
        return number(asked).or_else(|| number(&port["port"]));
    };
    let containers = pod["spec"]["containers"].as_array()?;
    let mut ports = containers.iter().filter_map(|c| c["ports"].as_array());
    let named = ports.find_map(|all| all.iter().find(|p| p["name"] == name))?;
    number(&named["containerPort"])
}

pub(super) fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok())
}

/// A target's story so far.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) wanted: Wanted,
    pub(super) health: Health,
    since: Instant,
    tried: Option<Instant>,
    /// Tries in a row that spoke for the other state.
    against: u32,
    /// Since when it is being taken out.
    leaving: Option<Instant>,
}

impl Story {
    /// Of a target that is registered now.
    pub(super) fn begin(wanted: Wanted, now: Instant) -> Self {
        Self {
            wanted,
            health: Health::REGISTERING,
            since: now,
            tried: None,
            against: 0,
            leaving: None,
        }
    }

    /// Whether it is time for another try.
    pub(super) fn is_due(&self, pace: Pace, now: Instant) -> bool {
        let interval = INTERVAL.mul_f64(pace.share()).max(LEAST);
        let due = |tried: Instant| now.duration_since(tried) >= interval;
        self.leaving.is_none()
            && now.duration_since(self.since) >= pace.registration
            && self.tried.is_none_or(due)
    }

    /// Registration and first checks take their time; after that, tries in a row decide.
    pub(super) fn heard(&mut self, answers: bool, pace: Pace, now: Instant) {
        self.tried = Some(now);
        let wanted = if answers {
            Health::HEALTHY
        } else {
            Health::FAILING
        };
        let first = self.health == Health::REGISTERING || self.health == Health::CHECKING;
        if first {
            let over = now.duration_since(self.since) >= pace.registration + pace.checks;
            self.health = if over { wanted } else { Health::CHECKING };
        } else if self.health == wanted {
            self.against = 0;
        } else {
            self.against += 1;
            if self.against >= THRESHOLD {
                (self.health, self.against) = (wanted, 0);
            }
        }
    }

    /// It is wanted no longer; `false` once it is gone.
    pub(super) fn leave(&mut self, pace: Pace, now: Instant) -> bool {
        let since = *self.leaving.get_or_insert(now);
        self.health = Health::DRAINING;
        now.duration_since(since) < pace.draining
    }

    /// It is wanted again after all.
    pub(super) fn stay(&mut self, wanted: &Wanted, now: Instant) {
        if self.leaving.is_some() {
            *self = Self::begin(wanted.clone(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> Node {
        Node {
            name: "node".into(),
            instance: "i-0a".into(),
            zone: "us-west-2a".into(),
            address: "10.0.1.10".into(),
        }
    }

    fn pod(ready: &str, extra: &Value) -> Value {
        let mut pod = json!({"metadata": {"name": "gw"},
            "spec": {"nodeName": "node", "containers": [{"ports": [{"name": "tls", "containerPort": 15443}]}]},
            "status": {"podIP": "10.244.0.7", "conditions": [{"type": "ContainersReady", "status": ready}]}});
        if let Some(extra) = extra.as_object() {
            for (key, value) in extra {
                pod["metadata"][key] = value.clone();
            }
        }
        pod
    }

    #[test]
    fn only_ready_pods_are_targets_and_nodes_where_nobody_asked_for_pods() {
        let port = json!({"port": 15443, "targetPort": "tls", "nodePort": 30443});
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let pods = [
            pod("True", &json!({})),
            pod("False", &json!({})),
            pod("True", &going),
        ];
        let found = wanted(&port, true, &pods, &[node()]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, "10.244.0.7:15443");
        let found = wanted(&port, false, &pods, &[node()]);
        assert_eq!(
            (found[0].id.as_str(), found[0].address.as_str()),
            ("i-0a", "10.0.1.10:30443")
        );
    }

    #[test]
    fn health_follows_tries_and_takes_its_time() {
        let (pace, start) = (Pace::REAL, Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let wanted = wanted(&json!({"nodePort": 1}), false, &[], &[node()]).remove(0);
        let mut story = Story::begin(wanted.clone(), start);
        assert!(!story.is_due(pace, at(119)) && story.is_due(pace, at(120)));
        story.heard(true, pace, at(120));
        assert_eq!(story.health, Health::CHECKING);
        assert!(!story.is_due(pace, at(129)) && story.is_due(pace, at(130)));
        story.heard(true, pace, at(140));
        assert_eq!(story.health, Health::HEALTHY);
        story.heard(false, pace, at(150));
        assert_eq!(story.health, Health::HEALTHY, "once is no change");
        story.heard(false, pace, at(160));
        assert_eq!(story.health, Health::FAILING);
        assert!(story.leave(pace, at(170)) && story.leave(pace, at(469)));
        assert_eq!(story.health, Health::DRAINING);
        assert!(!story.leave(pace, at(470)));
        story.stay(&wanted, at(471));
        assert_eq!(story.health, Health::REGISTERING);
    }
}
