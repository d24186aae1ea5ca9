//! Which cluster a member says it is, and on which network.

use serde_json::Value;

use super::super::{
    Found, Source,
    view::{At, View, text, variable},
};
use crate::hint::Hint;

const NETWORK: &str = "topology.istio.io/network";

fn network(object: &Value) -> Option<&str> {
    object["metadata"]["labels"][NETWORK].as_str()
}

fn of<'v>(at: &At<'v>) -> Option<&'v str> {
    at.istio().and_then(network)
}

/// Labels the namespace of the control plane as the mesh has it.
fn label(view: &View<'_>, at: &At<'_>) -> Hint {
    let (istio, label) = (
        view.mesh().istio.namespace.as_str(),
        format!("{NETWORK}={}", at.spec.network),
    );
    Hint::kubectl(at.name, ["label", "ns", istio, &label, "--overwrite"])
}

/// Two members on one network: their proxies are sent to each other's pods by address.
pub(in super::super) fn same_network(view: &View<'_>) -> Vec<Found> {
    let all: Vec<_> = view.members().collect();
    let mut found = vec![];
    for (n, one) in all.iter().enumerate() {
        for other in &all[n + 1..] {
            let Some(shared) = of(one).filter(|network| of(other) == Some(network)) else {
                continue;
            };
            // Who is on the network that is its own is right.
            let (wrong, right) = match one.spec.network.as_str() == shared {
                true => (other, one),
                false => (one, other),
            };
            let evidence = format!(
                "namespace istio-system names network {shared} in {} and in {}",
                wrong.name, right.name
            );
            found.push(Found::of(wrong.name, evidence, label(view, wrong)).with(right.name));
        }
    }
    found
}

/// A member without a network.
pub(in super::super) fn no_network(view: &View<'_>) -> Vec<Found> {
    let all = view
        .members()
        .filter(|at| at.istio().is_some() && of(at).is_none());
    all.map(|at| {
        let evidence = format!(
            "namespace istio-system in {} has no label {NETWORK}",
            at.name
        );
        Found::of(at.name, evidence, label(view, &at))
    })
    .collect()
}

/// The injector or the gateway is on another network than the member.
pub(in super::super) fn network_differs(view: &View<'_>) -> Vec<Found> {
    let gateway = &view.mesh().gateway;
    let mut found = vec![];
    for at in view.members() {
        let Some(own) = of(&at) else { continue };
        // Which of two is wrong is told by who shares a network.
        if view
            .members()
            .any(|o| o.name != at.name && of(&o) == Some(own))
        {
            continue;
        }
        let values = at.injected();
        let pods = values.as_ref().and_then(|v| text(v, "/global/network"));
        let service = at.one(Source::Services, &gateway.namespace, &gateway.name);
        let said = [
            ("the injector puts pods on", pods),
            ("the gateway's Service says", service.and_then(network)),
        ];
        for (what, other) in said {
            if let Some(other) = other.filter(|other| *other != own) {
                let evidence = format!(
                    "namespace istio-system of {} names network {own}, and {what} {other}",
                    at.name
                );
                found.push(Found::of(at.name, evidence, Hint::join_again([at.name])));
            }
        }
    }
    found
}

/// What a member's istiods call it.
fn id<'v>(at: &At<'v>) -> Option<&'v str> {
    at.istiods().find_map(|pod| variable(pod, "CLUSTER_ID"))
}

/// Two members whose istiods have one name for their clusters.
pub(in super::super) fn same_id(view: &View<'_>) -> Vec<Found> {
    let all: Vec<_> = view.members().collect();
    let mut found = vec![];
    for (n, one) in all.iter().enumerate() {
        for other in &all[n + 1..] {
            let Some(shared) = id(one).filter(|shared| id(other) == Some(shared)) else {
                continue;
            };
            let (wrong, right) = match one.name.as_str() == shared {
                true => (other, one),
                false => (one, other),
            };
            let evidence = format!(
                "CLUSTER_ID of istiod is {shared} in {} and in {}",
                wrong.name, right.name
            );
            let fix = Hint::join_again([wrong.name, right.name]);
            found.push(Found::of(wrong.name, evidence, fix).with(right.name));
        }
    }
    found
}

/// An istiod that calls its cluster something else than the mesh does.
pub(in super::super) fn id_differs(view: &View<'_>) -> Vec<Found> {
    let shared = |at: &At<'_>| {
        view.members()
            .any(|o| o.name != at.name && id(&o) == id(at))
    };
    let wrong = view.members().filter(|at| !shared(at));
    wrong
        .filter_map(|at| {
            let id = id(&at).filter(|id| *id != at.name.as_str())?;
            let evidence = format!("CLUSTER_ID of istiod in {} is {id}", at.name);
            Some(Found::of(at.name, evidence, Hint::join_again([at.name])))
        })
        .collect()
}

/// Members of which one was given twice.
pub(in super::super) fn same_cluster(view: &View<'_>) -> Vec<Found> {
    let all: Vec<_> = view
        .members()
        .filter_map(|at| Some((at, at.seen()?)))
        .collect();
    let mut found = vec![];
    for (n, (one, seen)) in all.iter().enumerate() {
        for (other, there) in &all[n + 1..] {
            if seen.uid == there.uid && !seen.uid.is_empty() {
                let evidence = format!(
                    "namespace kube-system has UID {} in {} and in {}: {} and {}",
                    seen.uid, one.name, other.name, seen.server, there.server
                );
                let fix = Hint::command(["kubectl", "config", "get-contexts"])
                    .remark(format!("what {} and {} lead to", one.name, other.name));
                found.push(Found::of(one.name, evidence, fix).with(other.name));
            }
        }
    }
    found
}

/// Members that are not in one mesh, as their injectors have it.
pub(in super::super) fn mesh_id_differs(view: &View<'_>) -> Vec<Found> {
    let wanted = view.mesh().id.as_str();
    view.members()
        .filter_map(|at| {
            let values = at.injected()?;
            let id = text(&values, "/global/meshID").filter(|id| *id != wanted)?;
            let evidence = format!(
                "the injector of {} puts pods into mesh {id}, and this one is {wanted}",
                at.name
            );
            Some(Found::of(at.name, evidence, Hint::join_again([at.name])))
        })
        .collect()
}

/// The trust domain of a member, and those it takes for the same.
fn domains(at: &At<'_>) -> Option<(String, Vec<String>)> {
    let config = at.config()?;
    let own = text(&config, "/trustDomain").unwrap_or("cluster.local");
    let aliases = config["trustDomainAliases"]
        .as_array()
        .into_iter()
        .flatten();
    let aliases = aliases.filter_map(|a| Some(a.as_str()?.to_owned()));
    Some((own.to_owned(), aliases.collect()))
}

/// Members whose certificates name other trust domains, and do not take these for their own.
pub(in super::super) fn trust_domain_differs(view: &View<'_>) -> Vec<Found> {
    let wanted = view.mesh().trust_domain.as_str();
    let mut found = vec![];
    for (from, to) in view.pairs() {
        let (Some((own, _)), Some((other, aliases))) = (domains(&from), domains(&to)) else {
            continue;
        };
        // Of the two, that one is named that is not as the mesh is.
        if own != other && own != wanted && !aliases.contains(&own) {
            let evidence = format!(
                "the trust domain of {} is {own}, that of {} is {other}, and {} has no trustDomainAliases for it",
                from.name, to.name, to.name
            );
            let fix = Hint::join_again([from.name]);
            found.push(Found::of(from.name, evidence, fix).with(to.name));
        }
    }
    found
}
