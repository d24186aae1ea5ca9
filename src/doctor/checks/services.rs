//! Services under one name in several members: istiod takes them for one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::{
    Found, Level, Source,
    view::{At, View, text},
};
use crate::{hint::Hint, probe};

/// Namespaces whose Services are each cluster's own.
const OWN: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

type Name = (String, String);

fn name(service: &Value) -> Name {
    let of = |key: &str| {
        service["metadata"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (of("namespace"), of("name"))
}

/// A member's Services, without those that every cluster has for itself.
fn services<'a>(view: &View<'a>, at: &At<'a>) -> BTreeMap<Name, &'a Value> {
    let (istio, gateway) = (&view.mesh().istio.namespace, &view.mesh().gateway.namespace);
    let all = at.list(Source::Services).iter();
    let users = all.filter(|s| {
        let (space, _) = name(s);
        let is_own = OWN.contains(&space.as_str()) || space == probe::NAMESPACE;
        !is_own && space != *istio && space != *gateway
    });
    users.map(|s| (name(s), s)).collect()
}

/// The Services of each member.
fn all<'a>(view: &View<'a>) -> Vec<(At<'a>, BTreeMap<Name, &'a Value>)> {
    let members = view.members();
    members.map(|at| (at, services(view, &at))).collect()
}

/// Those that two members have at least.
pub(super) fn shared(view: &View<'_>) -> BTreeSet<Name> {
    let mut count: BTreeMap<Name, usize> = BTreeMap::new();
    for (_, services) in all(view) {
        for name in services.into_keys() {
            *count.entry(name).or_default() += 1;
        }
    }
    let shared = count.into_iter().filter(|(_, n)| *n > 1);
    shared.map(|(name, _)| name).collect()
}

/// Whether a member says of a Service that the others are to use it.
fn exports(at: &At<'_>, name: &Name, service: &Value) -> bool {
    let (space, called) = (name.0.as_str(), name.1.as_str());
    let mut exports = at.list(Source::ServiceExports).iter();
    let metadata =
        |o: &Value| o["metadata"]["namespace"] == space && o["metadata"]["name"] == called;
    exports.any(metadata) || service["metadata"]["labels"]["istio.io/global"] == "true"
}

/// A Service whose name means nothing in a member.
pub(in super::super) fn missing(view: &View<'_>) -> Vec<Found> {
    let all = all(view);
    let names: BTreeSet<&Name> = all
        .iter()
        .flat_map(|(_, services)| services.keys())
        .collect();
    let mut found = vec![];
    for name in names {
        let having = all
            .iter()
            .filter(|(_, services)| services.contains_key(name));
        let having: Vec<_> = having.collect();
        let Some((source, service)) = having.iter().find_map(|(at, s)| Some((at, s.get(name)?)))
        else {
            continue;
        };
        let exported = having
            .iter()
            .any(|(at, s)| s.get(name).is_some_and(|s| exports(at, name, s)));
        // What most have is meant for all.
        let most = having.len() > 1 && having.len() * 2 > all.len();
        if !exported && !most {
            continue;
        }
        for (at, _) in all
            .iter()
            .filter(|(_, services)| !services.contains_key(name))
        {
            let (space, called) = name;
            let evidence = format!(
                "{} has no Service {space}/{called}, and {} of {} members have it",
                at.name,
                having.len(),
                all.len()
            );
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let ports = ports
                .filter_map(|p| p["port"].as_u64())
                .map(|p| p.to_string());
            let ports = ports.collect::<Vec<_>>().join(",");
            let tcp = format!("--tcp={ports}");
            let words = ["-n", space, "create", "service", "clusterip", called, &tcp];
            let fix = Hint::kubectl(at.name, words)
                .remark(format!("its namespace first; as in {}", source.name));
            found.push(Found::of(at.name, evidence, fix).with(source.name));
        }
    }
    found
}

fn ports(service: &Value) -> BTreeSet<(String, u64)> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports
        .map(|p| {
            (
                text(p, "/name").unwrap_or_default().to_owned(),
                p["port"].as_u64().unwrap_or(0),
            )
        })
        .collect()
}

/// How a Service is resolved.
fn kind(service: &Value) -> &'static str {
    match (&service["spec"]["type"], &service["spec"]["clusterIP"]) {
        (kind, _) if kind == "ExternalName" => "an ExternalName",
        (_, ip) if ip == "None" => "headless",
        _ => "one with an address",
    }
}

/// Every pair of members that have a Service, the first with each of the others.
fn twins<'a>(view: &View<'a>) -> Vec<(Name, (At<'a>, &'a Value), (At<'a>, &'a Value))> {
    let all = all(view);
    let mut pairs = vec![];
    for name in shared(view) {
        let mut having = all.iter().filter_map(|(at, s)| Some((*at, *s.get(&name)?)));
        let Some(first) = having.next() else { continue };
        pairs.extend(having.map(|other| (name.clone(), first, other)));
    }
    pairs
}

fn show(at: &At<'_>, (space, called): &Name) -> Hint {
    Hint::kubectl(at.name, ["-n", space, "get", "svc", called, "-o", "yaml"])
}

/// One name, other ports.
pub(in super::super) fn ports_differ(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (name, (first, one), (other, two)) in twins(view) {
        let (a, b) = (ports(one), ports(two));
        if a == b || kind(one) != kind(two) {
            continue;
        }
        let list = |all: &BTreeSet<(String, u64)>| {
            let all = all.iter().map(|(name, port)| format!("{name} {port}"));
            all.collect::<Vec<_>>().join(", ")
        };
        let evidence = format!(
            "Service {}/{} has {} in {}, and {} in {}",
            name.0,
            name.1,
            list(&b),
            other.name,
            list(&a),
            first.name
        );
        let fix = show(&first, &name).remark(format!("apply the same ports in {}", other.name));
        found.push(Found::of(other.name, evidence, fix).with(first.name));
    }
    found
}

/// One name, resolved in other ways.
pub(in super::super) fn kinds_differ(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (name, (first, one), (other, two)) in twins(view) {
        let (a, b) = (kind(one), kind(two));
        if a != b {
            let evidence = format!(
                "Service {}/{} is {b} in {}, and {a} in {}",
                name.0, name.1, other.name, first.name
            );
            let fix = show(&first, &name).remark(format!("make that of {} the same", other.name));
            found.push(Found::of(other.name, evidence, fix).with(first.name));
        }
    }
    found
}

/// A headless Service that several members have: by name, each client finds the pods of its own cluster alone.
pub(in super::super) fn headless(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (name, (first, one), (other, two)) in twins(view) {
        if kind(one) == "headless" && kind(two) == "headless" {
            let evidence = format!(
                "Service {}/{} is headless in {} and {}",
                name.0, name.1, first.name, other.name
            );
            let (space, called) = &name;
            let fix = Hint::kubectl(
                other.name,
                [
                    "-n",
                    space,
                    "get",
                    "endpointslices",
                    "-l",
                    &format!("kubernetes.io/service-name={called}"),
                ],
            )
            .remark("these pods alone; a Service with an address reaches all");
            found.push(
                Found::of(first.name, evidence, fix)
                    .with(other.name)
                    .at(Level::Note),
            );
        }
    }
    found
}

/// A name that stands for another Service of the mesh: proxies route by what was asked for.
pub(in super::super) fn alias(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (at, services) in all(view) {
        for (name, service) in services {
            let Some(target) = text(service, "/spec/externalName")
                .filter(|t| t.trim_end_matches('.').ends_with(".svc.cluster.local"))
            else {
                continue;
            };
            let evidence = format!(
                "Service {}/{} of {} is an ExternalName for {target}",
                name.0, name.1, at.name
            );
            let fix = Hint::kubectl(at.name, ["-n", &name.0, "describe", "svc", &name.1])
                .remark("let clients ask for the other name");
            found.push(Found::of(at.name, evidence, fix).at(Level::Note));
        }
    }
    found
}
