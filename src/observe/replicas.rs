//! The replicas of istiod: with which certificates each runs, and whether it can change its root while it runs.

use futures::future;
use serde_json::Value;

use super::facts;
use crate::cluster::Cluster;

/// Where istiod says how it is.
pub(crate) const MONITORING: u16 = 15014;
/// What lets istiod take more than one root.
const MULTIROOT: &str = "ISTIO_MULTIROOT_MESH";

/// When the certificates end that a replica signs with, in seconds: replicas of one istiod that say different things do
/// not run with the same certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The root.
    pub root: i64,
    /// The first of the certificates that lead to it.
    pub chain: i64,
}

/// One istiod that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Its pod.
    pub pod: String,
    /// It takes a changed set of roots while it runs.
    pub multiroot: bool,
    /// When its certificates end; none where it does not say.
    pub ends: Option<Ends>,
}

/// The control plane's pods among these that run, and whether each takes a changed set of roots.
pub(super) fn among(pods: &[Value], istio: &str) -> Vec<(String, bool)> {
    let ours = pods.iter().filter(|pod| {
        let metadata = &pod["metadata"];
        let runs = pod["status"]["phase"] == "Running" && metadata["deletionTimestamp"].is_null();
        runs && metadata["namespace"] == istio && metadata["labels"]["app"] == "istiod"
    });
    let one = |pod: &Value| {
        let multiroot = facts::variable(pod, None, MULTIROOT) == Some("true");
        Some((pod["metadata"]["name"].as_str()?.to_owned(), multiroot))
    };
    ours.filter_map(one).collect()
}

/// Asks each of them.
pub(super) async fn read(
    cluster: &Cluster,
    istio: &str,
    replicas: Vec<(String, bool)>,
) -> Vec<Replica> {
    let ask = |(pod, multiroot): (String, bool)| async move {
        Replica {
            ends: ends(cluster, istio, &pod).await,
            pod,
            multiroot,
        }
    };
    future::join_all(replicas.into_iter().map(ask)).await
}

/// When the certificates end that a replica signs with; nothing where it does not say.
pub(crate) async fn ends(cluster: &Cluster, namespace: &str, pod: &str) -> Option<Ends> {
    let answer = cluster.get(namespace, pod, MONITORING, "/metrics").await;
    let answer = answer.ok()?;
    ends_in(&answer.body)
}

/// The same, from istiod's metrics.
pub(crate) fn ends_in(metrics: &[u8]) -> Option<Ends> {
    let text = String::from_utf8_lossy(metrics);
    Some(Ends {
        root: gauge(&text, "citadel_server_root_cert_expiry_timestamp")?,
        chain: gauge(&text, "citadel_server_cert_chain_expiry_timestamp")?,
    })
}

/// The value of a gauge, in whole seconds; Prometheus writes large ones as `2.1e+09`.
fn gauge(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let value: f64 = line.trim_start_matches(|c| c != ' ').trim().parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "seconds of this age")]
    (value.is_finite() && value > 0.0).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_read_as_prometheus_writes_it() {
        let text = "# HELP x\ncitadel_server_root_cert_expiry_timestamp 2.095459199e+09\ncitadel_server_root_cert_expiry_seconds 3e+08\n";
        let read = |name| gauge(text, name);
        assert_eq!(
            read("citadel_server_root_cert_expiry_timestamp"),
            Some(2_095_459_199)
        );
        assert_eq!(read("citadel_server_cert_chain_expiry_timestamp"), None);
    }
}
