//! NetworkPolicies that keep the mesh's own ports closed.

use serde_json::Value;

use super::{
    super::{
        Found, Source,
        view::{At, View, has_labels, path},
    },
    some,
};
use crate::{hint::Hint, spec::GATEWAY_PORT};

/// Who comes to a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// Pods of the cluster.
    Pods,
    /// The API server, load balancers: no pod.
    Outside,
}

/// Whether a pod selector selects a pod; an empty one selects all.
fn selects(selector: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let wanted = &selector["matchLabels"];
    let by_labels = wanted.as_object().is_none_or(|w| w.is_empty()) || has_labels(pod, wanted);
    let rules = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten();
    by_labels
        && rules.into_iter().all(|rule| {
            let value = rule["key"].as_str().and_then(|key| labels.get(key));
            let values = rule["values"].as_array();
            let is_among = values.is_some_and(|all| value.is_some_and(|v| all.contains(v)));
            match rule["operator"].as_str() {
                Some("In") => is_among,
                Some("NotIn") => !is_among,
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a policy says something of what comes in.
fn is_ingress(policy: &Value) -> bool {
    let types = policy["spec"]["policyTypes"].as_array();
    types.is_none_or(|types| types.iter().any(|t| t == "Ingress"))
}

fn lets_in(rule: &Value, pod: &Value, port: u16, whom: Whom) -> bool {
    let ports = rule["ports"].as_array().filter(|p| !p.is_empty());
    let to_port = ports.is_none_or(|ports| ports.iter().any(|p| is_port(p, pod, port)));
    let from = rule["from"].as_array().filter(|f| !f.is_empty());
    let by_whom = from.is_none_or(|from| {
        from.iter()
            .any(|peer| whom == Whom::Pods || !peer["ipBlock"].is_null())
    });
    to_port && by_whom
}

fn is_port(entry: &Value, pod: &Value, port: u16) -> bool {
    let is_tcp = entry["protocol"].as_str().is_none_or(|p| p == "TCP");
    let (named, wanted) = (&entry["port"], u64::from(port));
    let last = entry["endPort"].as_u64();
    is_tcp
        && match (named.as_u64(), named.as_str()) {
            (Some(first), _) => {
                first == wanted || last.is_some_and(|last| (first..=last).contains(&wanted))
            }
            (None, Some(name)) => {
                let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
                let mut ports =
                    containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
                ports.any(|p| p["name"] == name && p["containerPort"].as_u64() == Some(wanted))
            }
            (None, None) => true,
        }
}

/// The policies that select a pod, if none of them lets somebody in to a port.
fn closed<'a>(at: &At<'a>, pod: &Value, port: u16, whom: Whom) -> Vec<&'a Value> {
    let space = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let all = at.list(Source::NetworkPolicies).iter();
    let all = all.filter(|p| p["metadata"]["namespace"] == space && is_ingress(p));
    let all: Vec<_> = all
        .filter(|p| selects(&p["spec"]["podSelector"], pod))
        .collect();
    let open = all.iter().any(|policy| {
        let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| lets_in(rule, pod, port, whom))
    });
    match open {
        true => vec![],
        false => all,
    }
}

fn found(at: &At<'_>, policies: &[&Value], what: &str, ports: &[u16]) -> Option<Found> {
    let first = policies.first()?;
    let names: Vec<_> = policies.iter().map(|p| path(p)).collect();
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    let evidence = format!(
        "NetworkPolicy {} of {} selects {what}, and lets nobody in to {}",
        some(&names),
        at.name,
        ports.join(" and ")
    );
    let of = |key: &str| first["metadata"][key].as_str().unwrap_or_default();
    let fix = Hint::kubectl(
        at.name,
        ["-n", of("namespace"), "edit", "networkpolicy", of("name")],
    )
    .remark(format!("let {} in", ports.join(" and ")));
    Some(Found::of(at.name, evidence, fix))
}

/// The gateway's port is closed.
pub(in super::super) fn gateway(view: &View<'_>) -> Vec<Found> {
    let all = view.members();
    let wrong = all.filter_map(|at| {
        let pod = at.gateways().into_iter().next()?;
        let policies = closed(&at, pod, GATEWAY_PORT, Whom::Outside);
        found(&at, &policies, "the gateway's pods", &[GATEWAY_PORT])
    });
    wrong.collect()
}

/// istiod's ports are closed to proxies, or to the API server.
pub(in super::super) fn istiod(view: &View<'_>) -> Vec<Found> {
    let all = view.members();
    let wrong = all.filter_map(|at| {
        let pod = at.istiods().next()?;
        let ports = [(15012, Whom::Pods), (15017, Whom::Outside)];
        let closed = ports.map(|(port, whom)| (port, closed(&at, pod, port, whom)));
        let shut = closed.iter().filter(|(_, policies)| !policies.is_empty());
        let shut: Vec<_> = shut.collect();
        let ports: Vec<_> = shut.iter().map(|(port, _)| *port).collect();
        found(&at, &shut.first()?.1, "istiod's pods", &ports)
    });
    wrong.collect()
}
