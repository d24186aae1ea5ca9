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

/// The members whose gateways have a Service, with that.
fn services<'a>(view: &View<'a>) -> impl Iterator<Item = (At<'a>, &'a Value)> {
    let members = view.members();
    members.filter_map(|at| Some((at, service(view, &at)?)))
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

/// Takes an attribute out of a list of the gateway's Service, and leaves the others in it.
fn without_attribute(view: &View<'_>, at: &At<'_>, end: &str, list: &str, name: &str) -> Hint {
    let others = list.split(',').filter(|one| attribute(one, name).is_none());
    let others = others.collect::<Vec<_>>().join(",");
    if others.is_empty() {
        return without(view, at, end);
    }
    let gateway = &view.mesh().gateway;
    let new = format!("{AWS}{end}={others}");
    let words = [
        "-n",
        &gateway.namespace,
        "annotate",
        "svc",
        &gateway.name,
        &new,
        "--overwrite",
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
    for (at, service) in services(view) {
        let is_outside = service["spec"]["type"] == "LoadBalancer";
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|p| p["port"].as_u64());
        // The port by which health is asked for shows nothing of the mesh.
        let known = [u64::from(GATEWAY_PORT), 15021];
        let others: Vec<_> = ports
            .enumerate()
            .filter(|(_, p)| !known.contains(p))
            .collect();
        let remove = others
            .iter()
            .rev()
            .map(|(n, _)| serde_json::json!({"op": "remove", "path": format!("/spec/ports/{n}")}));
        let patch = remove.collect::<Value>().to_string();
        let others: Vec<_> = others.iter().map(|(_, p)| p.to_string()).collect();
        if is_outside && !others.is_empty() {
            let evidence = format!(
                "the load balancer of {}'s gateway opens {} too",
                at.name,
                others.join(", ")
            );
            let gateway = &view.mesh().gateway;
            let words = [
                "-n",
                &gateway.namespace,
                "patch",
                "svc",
                &gateway.name,
                "--type",
                "json",
                "-p",
                &patch,
            ];
            let fix = Hint::kubectl(at.name, words)
                .remark("and out of the values of the gateway, if they stand there");
            found.push(Found::of(at.name, evidence, fix));
        }
    }
    found
}

/// The load balancer ends TLS.
pub(in super::super) fn ends_tls(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (at, service) in services(view) {
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
    for (at, service) in services(view) {
        let group = annotation(service, "target-group-attributes");
        const ON: &str = "proxy_protocol_v2.enabled";
        let by_group = group.filter(|list| attribute(list, ON) == Some("true"));
        let (said, fix) = match (annotation(service, "proxy-protocol"), by_group) {
            (Some(value), _) => {
                let end = "proxy-protocol";
                (
                    format!("{AWS}{end} of {}'s gateway is {value}", at.name),
                    without(view, &at, end),
                )
            }
            (None, Some(list)) => {
                let end = "target-group-attributes";
                let said = format!("{AWS}{end} of {}'s gateway has {ON}=true", at.name);
                (said, without_attribute(view, &at, end, list, ON))
            }
            (None, None) => continue,
        };
        found.push(Found::of(at.name, said, fix));
    }
    found
}

/// Whoever resolves the load balancer's name gets the addresses of the own zone alone.
pub(in super::super) fn zone_affinity(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        const POLICY: &str = "dns_record.client_routing_policy";
        let list = service(view, &at).and_then(|s| annotation(s, "attributes"));
        let policy = list.and_then(|l| Some((l, attribute(l, POLICY)?)));
        if let Some((list, policy)) =
            policy.filter(|(_, p)| p.contains("availability_zone_affinity"))
        {
            let evidence = format!("{POLICY} of {}'s gateway is {policy}", at.name);
            let fix = without_attribute(view, &at, "attributes", list, POLICY);
            found.push(Found::of(at.name, evidence, fix));
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
