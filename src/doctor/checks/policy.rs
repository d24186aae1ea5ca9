//! Istio's own rules that stand in the way: of mutual TLS, of the gateway, of a name.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{
        Found, Level, Source,
        view::{At, View, has_labels, path, text},
    },
    services::shared,
    some,
};
use crate::{hint::Hint, spec::GATEWAY_PORT};

fn of<'v>(object: &'v Value, key: &str) -> &'v str {
    object["metadata"][key].as_str().unwrap_or_default()
}

fn edit(at: &At<'_>, kind: &str, object: &Value) -> Hint {
    Hint::kubectl(
        at.name,
        [
            "-n",
            of(object, "namespace"),
            "edit",
            kind,
            of(object, "name"),
        ],
    )
}

/// Workloads that take no mutual TLS: nothing on another network reaches them.
pub(in super::super) fn mtls_disabled(view: &View<'_>) -> Vec<Found> {
    let istio = view.mesh().istio.namespace.as_str();
    let mut found = vec![];
    for at in view.members() {
        for policy in at.list(Source::PeerAuthentications) {
            let whole = policy["spec"]["mtls"]["mode"] == "DISABLE";
            let ports = policy["spec"]["portLevelMtls"]
                .as_object()
                .into_iter()
                .flatten();
            let ports = ports.filter(|(_, mtls)| mtls["mode"] == "DISABLE");
            let ports: Vec<_> = ports.map(|(port, _)| port.as_str()).collect();
            if !whole && ports.is_empty() {
                continue;
            }
            let selects = !policy["spec"]["selector"]["matchLabels"].is_null();
            let space = of(policy, "namespace");
            let whom = match (selects, space == istio) {
                (true, _) => format!("some pods of namespace {space}"),
                (false, true) => "the whole mesh".to_owned(),
                (false, false) => format!("namespace {space}"),
            };
            let what = match whole {
                true => String::new(),
                false => format!(" on port {}", some(&ports)),
            };
            let evidence = format!(
                "PeerAuthentication {} of {} says DISABLE for {whom}{what}",
                path(policy),
                at.name
            );
            let level = match whole && !selects && space == istio {
                true => Level::Error,
                false => Level::Warning,
            };
            found.push(
                Found::of(at.name, evidence, edit(&at, "peerauthentication", policy)).at(level),
            );
        }
    }
    found
}

/// Proxies that are told to send something else than mutual TLS to a Service of the mesh.
pub(in super::super) fn rule_without_mtls(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        for rule in at.list(Source::DestinationRules) {
            let host = rule["spec"]["host"].as_str().unwrap_or_default();
            let modes = modes(&rule["spec"]);
            let other = modes.iter().find(|mode| **mode != "ISTIO_MUTUAL");
            if let Some(mode) = other.filter(|_| is_of_the_mesh(&at, rule, host)) {
                let evidence = format!(
                    "DestinationRule {} of {} says tls.mode {mode} for {host}",
                    path(rule),
                    at.name
                );
                found.push(Found::of(
                    at.name,
                    evidence,
                    edit(&at, "destinationrule", rule),
                ));
            }
        }
    }
    found
}

/// Every mode of TLS a rule names: its own, those of ports, and those of subsets.
fn modes(spec: &Value) -> BTreeSet<&str> {
    let subsets = spec["subsets"].as_array().into_iter().flatten();
    let policies = subsets
        .map(|s| &s["trafficPolicy"])
        .chain([&spec["trafficPolicy"]]);
    let modes = policies.flat_map(|policy| {
        let ports = policy["portLevelSettings"].as_array().into_iter().flatten();
        let all = ports
            .map(|p| &p["tls"]["mode"])
            .chain([&policy["tls"]["mode"]]);
        all.filter_map(Value::as_str).collect::<Vec<_>>()
    });
    modes.collect()
}

/// Whether a host is a Service here, however it is written.
fn is_of_the_mesh(at: &At<'_>, rule: &Value, host: &str) -> bool {
    if host.ends_with(".local") || host == "*" {
        return true;
    }
    let (name, space) = host
        .split_once('.')
        .unwrap_or((host, of(rule, "namespace")));
    let space = space.strip_suffix(".svc").unwrap_or(space);
    let mut all = at.list(Source::Services).iter();
    all.any(|s| of(s, "name") == name && of(s, "namespace") == space)
}

/// What an AuthorizationPolicy says of connections to the gateway's port.
fn speaks(rule: &Value) -> bool {
    let Some(rule) = rule.as_object() else {
        return false;
    };
    if rule.contains_key("from") || rule.contains_key("when") {
        return false;
    }
    let to = rule.get("to").and_then(Value::as_array);
    to.is_none_or(|all| {
        all.iter().any(|to| {
            let operation = to["operation"].as_object();
            operation.is_none_or(|operation| {
                let of_ports = operation.keys().all(|key| key == "ports");
                let ports = operation.get("ports").and_then(Value::as_array);
                let named =
                    ports.is_none_or(|p| p.iter().any(|p| *p == GATEWAY_PORT.to_string().as_str()));
                of_ports && named
            })
        })
    })
}

/// A gateway that may not let anybody in: it sees connections, and not who makes them.
pub(in super::super) fn gateway_denied(view: &View<'_>) -> Vec<Found> {
    let (istio, gateway) = (view.mesh().istio.namespace.as_str(), &view.mesh().gateway);
    let mut found = vec![];
    for at in view.members() {
        let pods = at.gateways();
        let applies = |policy: &&Value| {
            let space = of(policy, "namespace");
            let selector = &policy["spec"]["selector"]["matchLabels"];
            let is_there = space == gateway.namespace.as_str() || space == istio;
            let targets = &policy["spec"]["targetRefs"];
            let selects = selector.is_null() || pods.iter().any(|pod| has_labels(pod, selector));
            is_there && selects && targets.is_null() && policy["spec"]["targetRef"].is_null()
        };
        let policies: Vec<_> = at
            .list(Source::AuthorizationPolicies)
            .iter()
            .filter(applies)
            .collect();
        let action = |policy: &Value| text(policy, "/spec/action").unwrap_or("ALLOW").to_owned();
        let rules = |policy: &Value| {
            policy["spec"]["rules"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        let denies = policies
            .iter()
            .find(|p| action(p) == "DENY" && rules(p).iter().any(speaks));
        let allows: Vec<_> = policies.iter().filter(|p| action(p) == "ALLOW").collect();
        let let_in = allows.is_empty() || allows.iter().any(|p| rules(p).iter().any(speaks));
        let wrong = denies.or_else(|| allows.first().copied().filter(|_| !let_in));
        if let Some(policy) = wrong.filter(|_| !pods.is_empty()) {
            let evidence = format!(
                "AuthorizationPolicy {} of {} ({}) holds for the gateway, and lets no connection to {GATEWAY_PORT} in",
                path(policy),
                at.name,
                action(policy)
            );
            let fix = edit(&at, "authorizationpolicy", policy).remark(format!(
                "let it select other pods, or allow port {GATEWAY_PORT}"
            ));
            found.push(Found::of(at.name, evidence, fix));
        }
    }
    found
}

/// A `Sidecar` that keeps Services of other members from proxies.
pub(in super::super) fn scope(view: &View<'_>) -> Vec<Found> {
    let shared = shared(view);
    let mut found = vec![];
    for at in view.members() {
        for sidecar in at.list(Source::Sidecars) {
            let own = of(sidecar, "namespace");
            let egress = sidecar["spec"]["egress"].as_array().into_iter().flatten();
            let hosts: Vec<_> = egress
                .flat_map(|e| e["hosts"].as_array().into_iter().flatten())
                .filter_map(Value::as_str)
                .collect();
            if hosts.is_empty() {
                continue;
            }
            let sees = |(space, name): &&(String, String)| {
                hosts.iter().any(|host| covers(host, own, space, name))
            };
            let hidden: Vec<_> = shared.iter().filter(|s| !sees(s)).collect();
            if hidden.is_empty() {
                continue;
            }
            let names: Vec<_> = hidden
                .iter()
                .map(|(space, name)| format!("{space}/{name}"))
                .collect();
            let evidence = format!(
                "Sidecar {} of {} has the hosts {}, and {} of the Services that several members have are not among them: {}",
                path(sidecar),
                at.name,
                some(&hosts),
                names.len(),
                some(&names)
            );
            found.push(Found::of(at.name, evidence, edit(&at, "sidecar", sidecar)));
        }
    }
    found
}

/// Whether a host of a `Sidecar` (`namespace/dnsName`) shows a Service.
fn covers(host: &str, own: &str, space: &str, name: &str) -> bool {
    let (of_space, dns) = host.split_once('/').unwrap_or(("*", host));
    let in_space = match of_space {
        "*" => true,
        "." => space == own,
        "~" => false,
        other => other == space,
    };
    let full = format!("{name}.{space}.svc.cluster.local");
    let named = match dns.strip_prefix("*.").or(dns.strip_prefix('*')) {
        Some(end) => full.ends_with(end),
        None => full == dns || dns == name,
    };
    in_space && named
}
