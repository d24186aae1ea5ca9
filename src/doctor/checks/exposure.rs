//! How the gateway is exposed: ports and the load balancer's settings that break what passes through it.

use serde_json::Value;

use super::super::{
    Found, Source,
    view::{At, View},
};
use crate::{hint::Hint, spec::GATEWAY_PORT, verify::Outcome};

const AWS: &str = "service.beta.kubernetes.io/aws-load-balancer-";

fn service<'a>(view: &View<'a>, at: &At<'a>) -> Option<&'a Value> {
    let gateway = &view.mesh().gateway;
    at.one(Source::Services, &gateway.namespace, &gateway.name)
}

fn annotation<'v>(service: &'v Value, end: &str) -> Option<&'v str> {
    let value = service["metadata"]["annotations"][format!("{AWS}{end}")].as_str()?;
    (!value.is_empty()).then_some(value)
}

/// Takes an annotation off the gateway's Service.
fn without(view: &View<'_>, at: &At<'_>, end: &str) -> Hint {
    let gateway = &view.mesh().gateway;
    let off = format!("{AWS}{end}-");
    let words = [
        "-n",
        &gateway.namespace,
        "annotate",
        "svc",
        &gateway.name,
        &off,
    ];
    Hint::kubectl(at.name, words)
}

/// The value of an attribute in a list such as `a=b,c=d`.
fn attribute<'v>(list: &'v str, name: &str) -> Option<&'v str> {
    let mut all = list.split(',').filter_map(|one| one.split_once('='));
    all.find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// Ports of the control plane, or others, that the load balancer opens besides.
pub(in super::super) fn extra_ports(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let Some(service) = service(view, &at) else {
            continue;
        };
        let is_outside = service["spec"]["type"] == "LoadBalancer";
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|p| p["port"].as_u64());
        // The port by which health is asked for shows nothing of the mesh.
        let known = [u64::from(GATEWAY_PORT), 15021];
        let others: Vec<_> = ports
            .filter(|p| !known.contains(p))
            .map(|p| p.to_string())
            .collect();
        if is_outside && !others.is_empty() {
            let evidence = format!(
                "the load balancer of {}'s gateway opens {} too",
                at.name,
                others.join(", ")
            );
            found.push(Found::of(at.name, evidence, Hint::join_again([at.name])));
        }
    }
    found
}

/// The load balancer ends TLS.
pub(in super::super) fn ends_tls(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let Some(service) = service(view, &at) else {
            continue;
        };
        let Some(certificate) = annotation(service, "ssl-cert") else {
            continue;
        };
        let ports = annotation(service, "ssl-ports").unwrap_or("*");
        let mut listed = ports.split(',').map(str::trim);
        if listed.any(|p| ["*", "tls", "15443"].contains(&p)) {
            let evidence = format!(
                "{AWS}ssl-cert of {}'s gateway is {certificate}, for the ports {ports}",
                at.name
            );
            found.push(Found::of(at.name, evidence, without(view, &at, "ssl-cert")));
        }
    }
    found
}

/// The load balancer puts a header before what it passes on.
pub(in super::super) fn proxy_protocol(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let Some(service) = service(view, &at) else {
            continue;
        };
        let group = annotation(service, "target-group-attributes");
        let by_group = group.and_then(|list| attribute(list, "proxy_protocol_v2.enabled"));
        let (end, value) = match annotation(service, "proxy-protocol") {
            Some(value) => ("proxy-protocol", value),
            None if by_group == Some("true") => {
                ("target-group-attributes", "proxy_protocol_v2.enabled=true")
            }
            None => continue,
        };
        let evidence = format!("{AWS}{end} of {}'s gateway says {value}", at.name);
        found.push(Found::of(at.name, evidence, without(view, &at, end)));
    }
    found
}

/// Whoever resolves the load balancer's name gets the addresses of the own zone alone.
pub(in super::super) fn zone_affinity(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let list = service(view, &at).and_then(|s| annotation(s, "attributes"));
        let policy = list.and_then(|l| attribute(l, "dns_record.client_routing_policy"));
        if let Some(policy) = policy.filter(|p| p.contains("availability_zone_affinity")) {
            let evidence = format!(
                "dns_record.client_routing_policy of {}'s gateway is {policy}",
                at.name
            );
            found.push(Found::of(
                at.name,
                evidence,
                without(view, &at, "attributes"),
            ));
        }
    }
    found
}

/// What AWS says of the load balancer.
pub(in super::super) fn unhealthy(view: &View<'_>) -> Vec<Found> {
    let failed = view.reading.balancers.checks.iter();
    let failed = failed.filter(|c| c.outcome == Outcome::Failed);
    let mut found = vec![];
    for at in view.members() {
        for check in failed.clone().filter(|c| c.from == at.name.as_str()) {
            let fix = check.hints.last().cloned();
            let fix = fix.unwrap_or_else(|| Hint::meshlink(["wait", "nlb", at.name.as_str()]));
            found.push(Found::of(at.name, check.evidence.clone(), fix));
        }
    }
    found
}
