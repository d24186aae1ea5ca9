//! What istiod says of itself on its debug port, and what follows from it.
//!
//! The port answers loopback requests only, so a port-forward is the way in; every replica is
//! asked, since each syncs on its own.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Check, Claim, Outcome, check};
use crate::{
    cluster::{self, Cluster},
    hint::Hint,
    name::ClusterName,
    spec::{GATEWAY_PORT, Member},
};

const PORT: u16 = 15014;

/// A cluster, as one istiod replica knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The pod.
    pub pod: String,
    /// The clusters it knows.
    pub clusters: Vec<KnownCluster>,
    /// The gateways it knows.
    pub gateways: Vec<KnownGateway>,
}

/// Asks one replica.
pub(crate) async fn ask(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
) -> Result<Replica, cluster::Error> {
    let mut port = cluster.open_port(namespace, pod, PORT).await?;
    let clusters = port.get("/debug/clusterz").await?;
    let gateways = port.get("/debug/networkz").await?;
    Ok(Replica {
        pod: pod.to_owned(),
        clusters: serde_json::from_slice(&clusters.body).unwrap_or_default(),
        // An istiod that knows no gateway answers `null`.
        gateways: serde_json::from_slice::<Option<_>>(&gateways.body)
            .ok()
            .flatten()
            .unwrap_or_default(),
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
    let answer = cluster.get(namespace, pod, PORT, "/debug/syncz").await?;
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
        .get(namespace, pod, PORT, "/debug/endpointShardz")
        .await?;
    // Shards are keyed by registry and cluster, wherever in the answer they stand.
    let key = format!("\"Kubernetes/{of}\"");
    Ok(String::from_utf8_lossy(&shards.body).contains(&key))
}

/// Every replica has synced with the peer.
pub(crate) fn synced(from: &ClusterName, to: &ClusterName, replicas: &[Replica]) -> Check {
    let status = |r: &Replica| {
        let known = r.clusters.iter().find(|c| c.id == to.as_str());
        known.map_or_else(|| "unknown".to_owned(), |c| c.status.clone())
    };
    let all: Vec<_> = replicas
        .iter()
        .map(|r| (r.pod.as_str(), status(r)))
        .collect();
    let behind: Vec<_> = all.iter().filter(|(_, s)| s != "synced").collect();
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
        (n, [(pod, status), ..]) => {
            let done = n - behind.len();
            let text =
                format!("{done} of {n} istiod replicas synced with {to}: {pod} says {status}");
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
    let wrong = replicas.iter().find(|r| {
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
        }
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
