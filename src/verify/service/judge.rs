//! What is to be said of a Service that was seen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Claim, Outcome, ServiceSeen, There};
use crate::{hint::Hint, spec::GATEWAY_PORT, verify::check};

type Gateways = BTreeMap<String, BTreeSet<String>>;

/// Claim by claim: there, alike, and held by the proxies.
pub(super) fn checks(seen: &ServiceSeen, gateways: &Gateways) -> Vec<Check> {
    let mut checks: Vec<_> = seen.clusters.iter().map(|c| there(seen, c)).collect();
    checks.extend(alike(seen));
    for from in &seen.clusters {
        for to in seen.clusters.iter().filter(|to| to.service) {
            checks.push(endpoints(seen, from, to, gateways));
        }
    }
    checks
}

/// A name is known to clients where its namespace and Service are, with or without pods there.
fn there(seen: &ServiceSeen, at: &There) -> Check {
    let name = &seen.service;
    let (cluster, namespace) = (&at.cluster, &name.namespace);
    let elsewhere = seen.clusters.iter().find(|c| c.service);
    let copy = elsewhere.map(|e| {
        let words = ["-n", namespace, "get", "svc", &name.name, "-o", "yaml"];
        Hint::kubectl(&e.cluster, words).remark(format!("apply the same in {cluster}"))
    });
    let (outcome, evidence, hints) = match at {
        There {
            problem: Some(problem),
            ..
        } => (Outcome::Failed, problem.clone(), vec![]),
        There {
            namespace: false, ..
        } => {
            let hint = Hint::kubectl(cluster, ["create", "namespace", namespace]);
            let hints = [Some(hint), copy].into_iter().flatten().collect();
            let text = format!("{cluster} has no namespace {namespace}");
            (Outcome::Failed, text, hints)
        }
        There { service: false, .. } => {
            let text = format!("{cluster} has no Service {name}: its name is unknown there");
            (Outcome::Failed, text, copy.into_iter().collect())
        }
        _ => {
            let ports = at.ports.iter().map(|p| format!("{} {}", p.name, p.port));
            let ports = ports.collect::<Vec<_>>().join(", ");
            let text = format!("{cluster} has {name} ({ports}), {} ready", at.ready.len());
            (Outcome::Ok, text, vec![])
        }
    };
    Check {
        id: Claim::ServiceThere,
        from: cluster.clone(),
        to: None,
        outcome,
        evidence,
        hints,
    }
}

/// The same name means the same ports everywhere: istiod merges what it finds under one name.
fn alike(seen: &ServiceSeen) -> Vec<Check> {
    let mut have = seen.clusters.iter().filter(|c| c.service);
    let Some(first) = have.next() else {
        return vec![];
    };
    let list = |c: &There| {
        let ports = c.ports.iter().map(|p| {
            let said = p.app_protocol.as_deref().map(|a| format!(" {a}"));
            format!(
                "{} {}/{}{}",
                p.name,
                p.port,
                p.protocol,
                said.unwrap_or_default()
            )
        });
        ports.collect::<Vec<_>>().join(", ")
    };
    let one = |c: &There| {
        let same = c.ports == first.ports && c.headless == first.headless;
        let (outcome, evidence) = match same {
            true => (
                Outcome::Ok,
                format!("the same ports as in {}", first.cluster),
            ),
            false => {
                let text = format!(
                    "{} has {}, {} has {}",
                    c.cluster,
                    list(c),
                    first.cluster,
                    list(first)
                );
                (Outcome::Failed, text)
            }
        };
        let hints = match same {
            true => vec![],
            false => {
                let (namespace, name) = (&seen.service.namespace, &seen.service.name);
                let words = ["-n", namespace, "edit", "svc", name];
                vec![Hint::kubectl(&c.cluster, words)]
            }
        };
        check(
            Claim::ServiceAlike,
            &c.cluster,
            &first.cluster,
            outcome,
            evidence,
            hints,
        )
    };
    have.map(one).collect()
}

/// The proxy in `from` holds what is ready in `to`: pods of its own, or the other's gateway.
fn endpoints(seen: &ServiceSeen, from: &There, to: &There, gateways: &Gateways) -> Check {
    let of = |outcome, evidence, hints| {
        check(
            Claim::ServiceEndpoints,
            &from.cluster,
            &to.cluster,
            outcome,
            evidence,
            hints,
        )
    };
    let Some(proxy) = from.proxy.as_deref() else {
        let text = format!(
            "no pod with a sidecar runs in {}, so no proxy could be asked",
            from.cluster
        );
        return of(
            Outcome::NotTried,
            text,
            vec![Hint::meshlink(["sample", "up"])],
        );
    };
    if to.headless {
        let text = "a Service without an address is found by DNS, not by its endpoints here";
        return of(Outcome::NotTried, text.into(), vec![]);
    }
    if !from.service {
        let text = format!("{} does not have the Service", from.cluster);
        return of(Outcome::NotTried, text, vec![]);
    }
    let own = from.cluster == to.cluster;
    let ready: BTreeSet<String> = to.ready.iter().cloned().collect();
    let wanted = match gateways.get(&to.cluster) {
        _ if ready.is_empty() => BTreeSet::new(),
        _ if own => ready,
        Some(addresses) => addresses.clone(),
        None => BTreeSet::new(),
    };
    let held: BTreeSet<String> = from
        .endpoints
        .iter()
        .filter(|h| match own {
            true => h.of.as_ref() == Some(&to.cluster),
            false => h.of.as_ref() == Some(&to.cluster) && h.port == GATEWAY_PORT,
        })
        .map(|h| h.address.clone())
        .collect();
    let missing: Vec<_> = wanted.difference(&held).cloned().collect();
    let over: Vec<_> = held.difference(&wanted).cloned().collect();
    let weight: u64 = from
        .endpoints
        .iter()
        .filter(|h| h.of.as_ref() == Some(&to.cluster))
        .map(|h| h.weight)
        .sum();
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    match () {
        () if to.ready.is_empty() && over.is_empty() => {
            let text = format!("{} has no ready pod, and {proxy} holds none", to.cluster);
            of(Outcome::Ok, text, vec![])
        }
        () if !own && !to.without_sidecar.is_empty() && !missing.is_empty() => {
            let text = format!(
                "{} of {} ready pods in {} have no sidecar: no other network reaches them",
                to.without_sidecar.len(),
                to.ready.len(),
                to.cluster
            );
            let namespace = &seen.service.namespace;
            let label = ["label", "namespace", namespace, "istio-injection=enabled"];
            let hint = Hint::kubectl(&to.cluster, label);
            let restart = ["-n", namespace, "rollout", "restart", "deploy"];
            let again = Hint::kubectl(&to.cluster, restart);
            of(Outcome::Failed, text, vec![hint, again])
        }
        () if wanted.is_empty() && !to.ready.is_empty() => {
            let text = format!(
                "istiod in {} knows no gateway of {}",
                from.cluster, to.cluster
            );
            let hint = Hint::meshlink(["verify", &from.cluster, &to.cluster]);
            of(Outcome::Failed, text, vec![hint])
        }
        () if !missing.is_empty() => {
            let text = format!("{proxy} lacks {}", missing.join(", "));
            let hint = Hint::meshlink(["verify", &from.cluster, &to.cluster]);
            of(Outcome::Failed, text, vec![hint])
        }
        () if !over.is_empty() => {
            let text = format!(
                "{proxy} holds {}, which nothing ready is behind",
                over.join(", ")
            );
            of(Outcome::Failed, text, vec![])
        }
        () if own => {
            let text = format!("{proxy} holds {}", list(&held));
            of(Outcome::Ok, text, vec![])
        }
        () => {
            let text = format!(
                "{proxy} holds {}'s gateway {} for {} ready there, weight {weight} in all",
                to.cluster,
                list(&held),
                to.ready.len()
            );
            of(Outcome::Ok, text, vec![])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Held, Port},
        *,
    };

    fn there(cluster: &str) -> There {
        let own = format!("10.0.0.{}", cluster.len());
        let held = |address: &str, of: &str, port| Held {
            service_port: 80,
            address: address.into(),
            port,
            of: Some(of.into()),
            via_network: None,
            region: String::new(),
            zone: String::new(),
            weight: 1,
            priority: 0,
            healthy: true,
        };
        let (peer, gateway) = if cluster == "a" {
            ("bb", "2.2.2.2")
        } else {
            ("a", "1.1.1.1")
        };
        There {
            cluster: cluster.into(),
            namespace: true,
            service: true,
            ports: vec![Port {
                port: 80,
                name: "http".into(),
                app_protocol: None,
                protocol: "TCP".into(),
            }],
            ready: vec![own.clone()],
            proxy: Some("shop/client".into()),
            endpoints: vec![held(&own, cluster, 8080), held(gateway, peer, GATEWAY_PORT)],
            ..There::default()
        }
    }

    fn judged(change: impl Fn(&mut There, &mut There)) -> Vec<(String, String)> {
        let (mut a, mut b) = (there("a"), there("bb"));
        change(&mut a, &mut b);
        let seen = ServiceSeen {
            service: "shop/cart".parse().unwrap(),
            clusters: vec![a, b],
        };
        let gateways = [("a", "1.1.1.1"), ("bb", "2.2.2.2")];
        let gateways = gateways.map(|(c, at)| (c.to_owned(), [at.to_owned()].into()));
        let checks = checks(&seen, &gateways.into());
        let bad = checks.iter().filter(|c| c.outcome != Outcome::Ok);
        bad.map(|c| (c.path(), c.evidence.clone())).collect()
    }

    fn paths(change: impl Fn(&mut There, &mut There)) -> Vec<String> {
        judged(change).into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn all_is_well() {
        assert_eq!(judged(|_, _| ()), []);
    }

    #[test]
    fn each_fact_fails_by_its_name() {
        let gone = paths(|_, b| {
            *b = There {
                cluster: "bb".into(),
                ..There::default()
            }
        });
        assert_eq!(gone[0], "service-there/bb");
        assert_eq!(paths(|a, _| a.ports[0].port = 81), ["service-alike/bb/a"]);
        let lost = paths(|a, _| drop(a.endpoints.pop()));
        assert_eq!(lost, ["service-endpoints/a/bb"]);
        let stale = paths(|_, b| b.ready.clear());
        assert_eq!(stale, ["service-endpoints/a/bb", "service-endpoints/bb/bb"]);
        let nobody = paths(|a, _| a.proxy = None);
        assert_eq!(nobody, ["service-endpoints/a/a", "service-endpoints/a/bb"]);
    }

    #[test]
    fn pods_without_a_sidecar_are_named_as_the_cause() {
        let found = judged(|a, b| {
            drop(a.endpoints.pop());
            b.without_sidecar.clone_from(&b.ready);
        });
        assert!(found[0].1.contains("have no sidecar"), "{found:?}");
    }
}
