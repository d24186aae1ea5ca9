//! What istiod says of itself on its debug port, and what follows from it.
//!
//! The port answers loopback requests only, so a port-forward is the way in; every replica is
//! asked, since each syncs on its own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Check, Claim, Outcome, check};
use crate::{
    cluster::{self, Cluster},
    hint::Hint,
    name::ClusterName,
    observe::{Ends, MONITORING, ends_in},
    spec::{GATEWAY_PORT, Member},
};

/// A cluster, as one istiod replica knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownCluster {
    /// Its name.
    pub id: String,
    /// The Secret it came from; none for istiod's own cluster.
    #[serde(rename = "secretName", default)]
    pub secret: Option<String>,
    /// `synced`, `syncing`, `timeout` or `closed`.
    #[serde(rename = "syncStatus", default)]
    pub status: String,
}

/// A gateway to another network, as one istiod replica knows it: its name already resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct KnownGateway {
    /// The network it leads to.
    #[serde(default)]
    pub network: String,
    /// The cluster it stands in.
    #[serde(default)]
    pub cluster: String,
    /// Its address.
    #[serde(default)]
    pub addr: String,
    /// Its port.
    #[serde(default)]
    pub port: u32,
}

/// What one replica says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Replica {
    /// The pod.
    pub pod: String,
    /// The clusters it knows.
    pub clusters: Vec<KnownCluster>,
    /// The gateways it knows.
    pub gateways: Vec<KnownGateway>,
    /// When its certificates end, where it was asked for that and says so.
    #[serde(skip)]
    pub ends: Option<Ends>,
    /// Why it could not be asked.
    pub unasked: Option<String>,
}

/// Asks one replica; with `ends`, also when its certificates end.
pub(crate) async fn ask(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    ends: bool,
) -> Result<Replica, cluster::Error> {
    let mut port = cluster.open_port(namespace, pod, MONITORING).await?;
    let clusters = port.get("/debug/clusterz").await?;
    let gateways = port.get("/debug/networkz").await?;
    let metrics = match ends {
        // One that does not say is not worse for it.
        true => port.get("/metrics").await.ok(),
        false => None,
    };
    Ok(Replica {
        pod: pod.to_owned(),
        clusters: serde_json::from_slice(&clusters.body).unwrap_or_default(),
        // An istiod that knows no gateway answers `null`.
        gateways: serde_json::from_slice::<Option<_>>(&gateways.body)
            .ok()
            .flatten()
            .unwrap_or_default(),
        ends: metrics.and_then(|answer| ends_in(&answer.body)),
        unasked: None,
    })
}

/// Whether the replicas of one istiod sign with the same certificates, by when these end; nothing where they do. The one
/// that differs from most of the others is named; of two, the one that started first is taken to be right.
pub(super) fn alike(from: &ClusterName, replicas: &[(String, Option<Ends>)]) -> Option<Check> {
    let known: Vec<_> = replicas
        .iter()
        .filter_map(|(pod, ends)| Some((pod.as_str(), (*ends)?)))
        .collect();
    let count = |ends: Ends| known.iter().filter(|(_, other)| *other == ends).count();
    let most = known.iter().rev().max_by_key(|(_, ends)| count(*ends))?.1;
    let others = known.iter().filter(|(_, ends)| *ends != most);
    let date = |seconds: i64| {
        let at = jiff::Timestamp::from_second(seconds);
        at.map_or_else(
            |_| seconds.to_string(),
            |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        )
    };
    let one = |(pod, ends): &(&str, Ends)| {
        let (what, has, have) = match ends.root == most.root {
            true => ("an intermediate", ends.chain, most.chain),
            false => ("a root", ends.root, most.root),
        };
        format!(
            "istiod replica {pod} runs with {what} that ends {}, the others with one that ends {}",
            date(has),
            date(have)
        )
    };
    let evidence: Vec<_> = others.map(one).collect();
    (!evidence.is_empty()).then(|| Check {
        id: Claim::SameRoot,
        from: from.to_string(),
        to: None,
        outcome: Outcome::Failed,
        evidence: evidence.join("; "),
        hints: vec![Hint::kubectl(
            from,
            ["-n", "istio-system", "rollout", "restart", "deploy/istiod"],
        )],
    })
}

/// A proxy, as the replica that serves it knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Proxy {
    /// `pod.namespace`.
    #[serde(rename = "proxy", default)]
    pub name: String,
    #[serde(rename = "endpoint_sent", default)]
    sent: String,
    #[serde(rename = "endpoint_acked", default)]
    acked: String,
}

impl Proxy {
    /// It has taken the endpoints that were last sent to it.
    pub(crate) fn taken(&self) -> bool {
        self.sent == self.acked
    }
}

/// The proxies a replica serves.
pub(crate) async fn proxies(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
) -> Result<Vec<Proxy>, cluster::Error> {
    let answer = cluster
        .get(namespace, pod, MONITORING, "/debug/syncz")
        .await?;
    let all = serde_json::from_slice::<Option<_>>(&answer.body);
    Ok(all.ok().flatten().unwrap_or_default())
}

/// Whether a replica holds endpoints it took from another cluster's API server.
pub(crate) async fn holds_endpoints(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    of: &ClusterName,
) -> Result<bool, cluster::Error> {
    let shards = cluster
        .get(namespace, pod, MONITORING, "/debug/endpointShardz")
        .await?;
    // Shards are keyed by registry and cluster, wherever in the answer they stand.
    let key = format!("\"Kubernetes/{of}\"");
    Ok(String::from_utf8_lossy(&shards.body).contains(&key))
}

/// Every replica has synced with the peer.
pub(crate) fn synced(from: &ClusterName, to: &ClusterName, replicas: &[Replica]) -> Check {
    let status = |r: &Replica| {
        let known = r.clusters.iter().find(|c| c.id == to.as_str());
        match (&r.unasked, known) {
            (Some(why), _) => format!("could not be asked: {why}"),
            (None, Some(known)) => format!("says {}", known.status),
            (None, None) => format!("does not know {to}"),
        }
    };
    let all: Vec<_> = replicas
        .iter()
        .map(|r| (r.pod.as_str(), status(r)))
        .collect();
    let behind: Vec<_> = all.iter().filter(|(_, s)| s != "says synced").collect();
    let (outcome, evidence) = match (all.len(), behind.as_slice()) {
        (0, _) => (Outcome::Failed, format!("no istiod runs in {from}")),
        (n, []) => {
            let pods: Vec<_> = all.iter().map(|(pod, _)| *pod).collect();
            let pods = pods.join(", ");
            (
                Outcome::Ok,
                format!("{n} of {n} istiod replicas synced with {to}: {pods}"),
            )
        }
        (n, behind) => {
            let done = n - behind.len();
            let behind: Vec<_> = behind.iter().map(|(pod, s)| format!("{pod} {s}")).collect();
            let behind = behind.join("; ");
            let text = format!("{done} of {n} istiod replicas synced with {to}: {behind}");
            (Outcome::Failed, text)
        }
    };
    let hint = Hint::kubectl(from, ["-n", "istio-system", "logs", "deploy/istiod"]).grep(to);
    let hints = if outcome == Outcome::Failed {
        vec![hint]
    } else {
        vec![]
    };
    check(Claim::Synced, from, to, outcome, evidence, hints)
}

/// Every replica knows the peer's gateway, by no other addresses than it is known to have.
/// Without `expected`, nobody here could say which these are, and that is what the check says.
pub(crate) fn gateway_known(
    from: &ClusterName,
    to: &Member,
    replicas: &[Replica],
    expected: Option<&BTreeSet<String>>,
) -> Check {
    let known = |r: &Replica| addresses(r, to);
    // Of one that could not be asked, that is said already.
    let mut asked = replicas.iter().filter(|r| r.unasked.is_none());
    let wrong = asked.find(|r| {
        known(r).is_empty() || expected.is_some_and(|expected| !known(r).is_subset(expected))
    });
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    let (outcome, evidence) = match wrong {
        _ if replicas.is_empty() => (Outcome::Failed, format!("no istiod runs in {from}")),
        None => {
            let all: BTreeSet<_> = replicas.iter().flat_map(known).collect();
            let text = format!("istiod knows {}'s gateway at {}", to.name, list(&all));
            match expected {
                Some(_) => (Outcome::Ok, text),
                None => (
                    Outcome::Warning,
                    format!("{text}; its name does not resolve from here"),
                ),
            }
        }
        Some(r) if known(r).is_empty() => (
            Outcome::Failed,
            format!(
                "istiod replica {} knows no gateway for network {}",
                r.pod, to.network
            ),
        ),
        Some(r) => (
            Outcome::Failed,
            format!(
                "istiod replica {} knows {}'s gateway at {}, but it has {}",
                r.pod,
                to.name,
                list(&known(r)),
                expected
                    .filter(|e| !e.is_empty())
                    .map_or("no address".into(), list)
            ),
        ),
    };
    let label = format!("topology.istio.io/network={}", to.network);
    let hint = Hint::kubectl(&to.name, ["get", "svc", "-A", "-l", &label]);
    let hints = if outcome == Outcome::Failed {
        vec![hint]
    } else {
        vec![]
    };
    check(
        Claim::GatewayKnown,
        from,
        &to.name,
        outcome,
        evidence,
        hints,
    )
}

/// The addresses on 15443 one replica holds for a member's network.
pub(crate) fn addresses(replica: &Replica, to: &Member) -> BTreeSet<String> {
    let mine = replica
        .gateways
        .iter()
        .filter(|g| g.network == to.network.as_str() && g.port == u32::from(GATEWAY_PORT));
    mine.map(|g| g.addr.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Reach;

    fn member(name: &str) -> Member {
        Member {
            name: name.parse().unwrap(),
            network: format!("net-{name}").parse().unwrap(),
            reach: Reach::Auto(name.into()),
            peer_server: None,
        }
    }

    fn replica(pod: &str, status: &str, addr: &str) -> Replica {
        let clusters = format!(
            r#"[{{"id":"a","syncStatus":"synced"}},{{"id":"b","secretName":"x/y","syncStatus":"{status}"}}]"#
        );
        let gateways = format!(
            r#"[{{"Network":"net-b","Cluster":"b","Addr":"{addr}","Port":15443,"HBONEPort":0}}]"#
        );
        Replica {
            pod: pod.into(),
            clusters: serde_json::from_str(&clusters).unwrap(),
            gateways: serde_json::from_str(&gateways).unwrap(),
            ends: None,
            unasked: None,
        }
    }

    #[test]
    fn a_replica_with_other_certificates_is_named() {
        let a: ClusterName = "a".parse().unwrap();
        let ends = |root, chain| Some(Ends { root, chain });
        let alike = |replicas: &[(&str, Option<Ends>)]| {
            let replicas = replicas
                .iter()
                .map(|(pod, ends)| ((*pod).to_owned(), *ends));
            alike(&a, &replicas.collect::<Vec<_>>()).map(|c| c.evidence)
        };
        assert_eq!(
            alike(&[("p1", ends(9, 5)), ("p2", ends(9, 5)), ("p3", None)]),
            None
        );
        assert_eq!(alike(&[("p1", None)]), None);
        let one = alike(&[("p1", ends(9, 5)), ("p2", ends(9, 6)), ("p3", ends(9, 6))]).unwrap();
        assert!(
            one.starts_with("istiod replica p1 runs with an intermediate"),
            "{one}"
        );
        let two = alike(&[("p1", ends(9, 5)), ("p2", ends(8, 5))]).unwrap();
        assert!(
            two.starts_with("istiod replica p2 runs with a root"),
            "{two}"
        );
    }

    #[test]
    fn one_replica_behind_is_named() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let ok = synced(&a, &b, &[replica("p1", "synced", "1.2.3.4")]);
        assert_eq!(ok.outcome, Outcome::Ok);
        let behind = synced(
            &a,
            &b,
            &[replica("p1", "synced", ""), replica("p2", "timeout", "")],
        );
        assert_eq!(behind.outcome, Outcome::Failed);
        assert!(behind.evidence.contains("1 of 2") && behind.evidence.contains("p2 says timeout"));
        let silent = Replica {
            pod: "p3".into(),
            unasked: Some("no route".into()),
            ..Replica::default()
        };
        let all = [replica("p1", "synced", ""), silent, Replica::default()];
        let evidence = synced(&a, &b, &all).evidence;
        assert!(
            evidence.contains("p3 could not be asked: no route"),
            "{evidence}"
        );
        assert!(evidence.contains("does not know b"), "{evidence}");
        assert_eq!(synced(&a, &b, &[]).outcome, Outcome::Failed);
    }

    #[test]
    fn a_gateway_at_another_address_is_not_the_gateway() {
        let (a, b) = ("a".parse().unwrap(), member("b"));
        let expected: BTreeSet<String> = ["1.2.3.4".into(), "1.2.3.5".into()].into();
        let ok = gateway_known(
            &a,
            &b,
            &[replica("p", "synced", "1.2.3.4")],
            Some(&expected),
        );
        assert_eq!(ok.outcome, Outcome::Ok);
        let pod = gateway_known(
            &a,
            &b,
            &[replica("p", "synced", "10.244.0.9")],
            Some(&expected),
        );
        assert_eq!(pod.outcome, Outcome::Failed);
        assert!(pod.evidence.contains("10.244.0.9"), "{}", pod.evidence);
        let unsure = gateway_known(&a, &b, &[replica("p", "synced", "1.2.3.4")], None);
        assert_eq!(unsure.outcome, Outcome::Warning);
        let none = gateway_known(&a, &b, &[Replica::default()], Some(&expected));
        assert!(
            none.evidence.contains("knows no gateway"),
            "{}",
            none.evidence
        );
    }
}
