//! The east-west gateway: whether it is there, opens 15443, and is known to the others.

use serde_json::Value;

use super::super::{
    Found, Source,
    view::{At, View, has_labels, path, text},
};
use crate::{
    hint::Hint,
    spec::{GATEWAY_PORT, OPENER},
};

fn describe(view: &View<'_>, at: &At<'_>, what: &str) -> Hint {
    let gateway = &view.mesh().gateway;
    let words = ["-n", &gateway.namespace, "describe", what, &gateway.name];
    Hint::kubectl(at.name, words)
}

fn again(at: &At<'_>) -> Hint {
    Hint::join_again([at.name])
}

/// No gateway at all.
pub(in super::super) fn missing(view: &View<'_>) -> Vec<Found> {
    let gateway = &view.mesh().gateway;
    let none = view
        .members()
        .filter(|at| at.seen().is_some_and(|s| !s.gateway.present));
    none.map(|at| {
        let evidence = format!(
            "{} has no Service {}/{}",
            at.name, gateway.namespace, gateway.name
        );
        Found::of(at.name, evidence, again(&at))
    })
    .collect()
}

/// A gateway whose Deployment is not available.
pub(in super::super) fn unavailable(view: &View<'_>) -> Vec<Found> {
    let gateway = &view.mesh().gateway;
    let down = |at: &At<'_>| {
        at.seen()
            .is_some_and(|s| s.gateway.present && !s.gateway.available)
    };
    let down = view.members().filter(down);
    down.map(|at| {
        let evidence = format!(
            "Deployment {}/{} of {} does not have every replica available",
            gateway.namespace, gateway.name, at.name
        );
        Found::of(at.name, evidence, describe(view, &at, "deploy,rs,pods"))
    })
    .collect()
}

/// A gateway without an address.
pub(in super::super) fn no_address(view: &View<'_>) -> Vec<Found> {
    let gateway = &view.mesh().gateway;
    let without = |at: &At<'_>| {
        let seen = at.seen().map(|s| &s.gateway);
        seen.is_some_and(|g| g.present && g.addresses.is_empty())
    };
    let without = view.members().filter(without);
    without
        .map(|at| {
            let evidence = format!(
                "Service {}/{} of {} has no address in its status",
                gateway.namespace, gateway.name, at.name
            );
            Found::of(at.name, evidence, describe(view, &at, "svc"))
        })
        .collect()
}

/// The servers of a `Gateway` object on the port by which other networks come.
fn servers(gateway: &Value) -> impl Iterator<Item = &Value> {
    let servers = gateway["spec"]["servers"].as_array().into_iter().flatten();
    servers.filter(|server| server["port"]["number"] == GATEWAY_PORT)
}

fn passes(server: &Value) -> bool {
    server["tls"]["mode"] == "AUTO_PASSTHROUGH"
}

/// No `Gateway` object opens the port.
pub(in super::super) fn closed(view: &View<'_>) -> Vec<Found> {
    let open = |at: &At<'_>| {
        at.list(Source::Gateways)
            .iter()
            .any(|g| servers(g).any(passes))
    };
    let closed = view.members().filter(|at| !open(at));
    closed
        .filter(|at| !at.gateways().is_empty())
        .map(|at| {
            let evidence = format!(
                "{} has no Gateway with a server on {GATEWAY_PORT} whose tls.mode is AUTO_PASSTHROUGH",
                at.name
            );
            Found::of(at.name, evidence, again(&at))
        })
        .collect()
}

/// The port is opened on other pods than the gateway's.
pub(in super::super) fn selector(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let pods = at.gateways();
        let all = at.list(Source::Gateways).iter();
        let openers: Vec<_> = all.filter(|g| servers(g).any(passes)).collect();
        let selects = |g: &&&Value| {
            pods.iter()
                .any(|pod| has_labels(pod, &g["spec"]["selector"]))
        };
        if pods.is_empty() || openers.is_empty() || openers.iter().any(|g| selects(&g)) {
            continue;
        }
        let shown = openers
            .iter()
            .map(|g| format!("{} selects {}", path(g), g["spec"]["selector"]));
        let evidence = format!(
            "{}, and the pods behind {} of {} have the labels {}",
            shown.collect::<Vec<_>>().join("; "),
            view.mesh().gateway.name,
            at.name,
            pods[0]["metadata"]["labels"]
        );
        found.push(Found::of(at.name, evidence, again(&at)));
    }
    found
}

/// Another `Gateway` object takes the port and does something else with it.
pub(in super::super) fn conflict(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let pods = at.gateways();
        for gateway in at.list(Source::Gateways) {
            let selects = pods
                .iter()
                .any(|pod| has_labels(pod, &gateway["spec"]["selector"]));
            let Some(other) = servers(gateway).find(|s| !passes(s)).filter(|_| selects) else {
                continue;
            };
            let mode = text(other, "/tls/mode").unwrap_or("none");
            let evidence = format!(
                "Gateway {} of {} opens {GATEWAY_PORT} on the same pods with tls.mode {mode}",
                path(gateway),
                at.name
            );
            let of = |key: &str| gateway["metadata"][key].as_str().unwrap_or_default();
            let fix = match of("name") {
                OPENER => again(&at),
                name => {
                    let words = [
                        "-n",
                        of("namespace"),
                        "edit",
                        "gateways.networking.istio.io",
                        name,
                    ];
                    Hint::kubectl(at.name, words).remark("give it another port")
                }
            };
            found.push(Found::of(at.name, evidence, fix));
        }
    }
    found
}

/// The Service does not send the port to the gateway's listener.
pub(in super::super) fn service_port(view: &View<'_>) -> Vec<Found> {
    let gateway = &view.mesh().gateway;
    let mut found = vec![];
    for at in view.members() {
        let Some(service) = at.one(Source::Services, &gateway.namespace, &gateway.name) else {
            continue;
        };
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let sends = |port: &Value| {
            let target = &port["targetPort"];
            port["port"] == GATEWAY_PORT
                && (target.is_null() || target.is_string() || *target == GATEWAY_PORT)
        };
        let shown = ports
            .clone()
            .map(|p| format!("{} to {}", p["port"], p["targetPort"]));
        if !ports.clone().any(sends) {
            let evidence = format!(
                "Service {}/{} of {} sends {}",
                gateway.namespace,
                gateway.name,
                at.name,
                shown.collect::<Vec<_>>().join(", ")
            );
            found.push(Found::of(at.name, evidence, again(&at)));
        }
    }
    found
}

/// An istiod that knows no gateway of a peer it has synced with, because it cannot resolve its name.
pub(in super::super) fn unresolved(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (from, to) in view.pairs() {
        let Some(addresses) = to.seen().map(|s| &s.gateway.addresses) else {
            continue;
        };
        let mut names = addresses
            .iter()
            .filter(|a| a.parse::<std::net::IpAddr>().is_err());
        let Some(name) = names.next() else { continue };
        let replicas = from
            .member()
            .map(|m| m.replicas.as_slice())
            .unwrap_or_default();
        let blind = replicas.iter().find(|replica| {
            let said = &replica.said;
            let mut known = said.clusters.iter();
            let synced = known.any(|c| c.id == to.name.as_str() && c.status == "synced");
            let network = to.spec.network.as_str();
            synced && !said.gateways.iter().any(|g| g.network == network)
        });
        if let Some(replica) = blind {
            let evidence = format!(
                "{} of {} has synced with {} and knows no gateway on network {}; the gateway's Service there has the name {name}",
                replica.said.pod, from.name, to.name, to.spec.network
            );
            let istio = view.mesh().istio.namespace.as_str();
            let fix = Hint::kubectl(from.name, ["-n", istio, "logs", "deploy/istiod"])
                .grep("could not resolve hostname");
            found.push(Found::of(from.name, evidence, fix).with(to.name));
        }
    }
    found
}
