//! What is gathered of one member: what was read for the checks, what istiod and the gateways' proxies say of themselves,
//! events, and the ends of logs.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use serde_json::{Value, json};

use super::{Files, redact};
use crate::{
    causes,
    cluster::{self, Cluster, Kind},
    doctor::{Member, Source, kept},
    name::ClusterName,
    observe::{MONITORING, Seen},
    probe::ADMIN,
    spec::Mesh,
};

/// How much is asked for at once.
const ABREAST: usize = 8;
/// Of each log, so many lines and bytes at most.
const LINES: usize = 2_000;
const LOG: usize = 512 << 10;
/// Pods of each kind that are asked at most.
const PODS: usize = 6;
/// Events at most, the newest.
const EVENTS: usize = 500;

/// Of istiod's debug pages.
const ISTIOD: [(&str, &[&str]); 4] = [
    ("clusterz", &["*/id", "*/secretName", "*/syncStatus"]),
    ("networkz", &["*/*"]),
    ("syncz", &["*/*"]),
    (
        "endpointShardz",
        &[
            "*/*/Shards/*/*/Addresses/*",
            "*/*/Shards/*/*/Address",
            "*/*/Shards/*/*/EndpointPort",
            "*/*/Shards/*/*/ServicePortName",
            "*/*/Shards/*/*/Network",
            "*/*/Shards/*/*/HealthStatus",
            "*/*/Shards/*/*/Locality/*",
        ],
    ),
];

/// Of what a proxy says of itself. Its whole configuration is not asked for.
const PROXY: [(&str, &str, &[&str]); 4] = [
    (
        "server_info",
        "/server_info",
        &[
            "version",
            "state",
            "uptime_current_epoch",
            "hot_restart_version",
        ],
    ),
    (
        "certs",
        "/certs",
        &[
            "certificates/*/*/*/path",
            "certificates/*/*/*/serial_number",
            "certificates/*/*/*/subject_alt_names/**",
            "certificates/*/*/*/days_until_expiration",
            "certificates/*/*/*/valid_from",
            "certificates/*/*/*/expiration_time",
        ],
    ),
    (
        "clusters",
        "/clusters?format=json",
        &[
            "cluster_statuses/*/name",
            "cluster_statuses/*/observability_name",
            "cluster_statuses/*/host_statuses/*/address/**",
            "cluster_statuses/*/host_statuses/*/health_status/**",
            "cluster_statuses/*/host_statuses/*/weight",
            "cluster_statuses/*/host_statuses/*/locality/**",
        ],
    ),
    (
        "listeners",
        "/listeners?format=json",
        &[
            "listener_statuses/*/name",
            "listener_statuses/*/local_address/**",
        ],
    ),
];

/// More of objects than checks look at.
const MORE: [(&str, Kind, &[&str]); 3] = [
    (
        "deployments",
        Kind::DEPLOYMENT,
        &[
            "metadata/name",
            "metadata/namespace",
            "metadata/generation",
            "metadata/labels/*",
            "spec/replicas",
            "spec/template/spec/containers/*/name",
            "spec/template/spec/containers/*/image",
            "status/replicas",
            "status/readyReplicas",
            "status/updatedReplicas",
            "status/availableReplicas",
            "status/observedGeneration",
            "status/conditions/*/type",
            "status/conditions/*/status",
            "status/conditions/*/reason",
        ],
    ),
    (
        "endpointslices",
        Kind::ENDPOINT_SLICE,
        &[
            "metadata/name",
            "metadata/namespace",
            "metadata/labels/*",
            "addressType",
            "endpoints/*/addresses/*",
            "endpoints/*/conditions/*",
            "endpoints/*/nodeName",
            "endpoints/*/targetRef/name",
            "ports/*/*",
        ],
    ),
    (
        "events",
        Kind::EVENT,
        &[
            "metadata/namespace",
            "reason",
            "type",
            "count",
            "firstTimestamp",
            "lastTimestamp",
            "eventTime",
            "involvedObject/kind",
            "involvedObject/name",
            "involvedObject/namespace",
            "source/component",
        ],
    ),
];

/// What is gathered from.
pub(super) struct Of<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) cluster: &'a Cluster,
    /// What was read for the checks.
    pub(super) found: &'a Member,
    pub(super) seen: &'a Seen,
    /// How long each question may take.
    pub(super) limit: Duration,
}

/// Where the objects of a list are.
pub(super) fn objects(member: &ClusterName, source: Source) -> String {
    format!("members/{member}/objects/{}.json", source.file())
}

type Part = (String, Result<Vec<u8>, String>);

impl Of<'_> {
    /// All of it, what matters most first.
    pub(super) async fn gather(&self, files: &mut Files) {
        let name = self.cluster.name();
        for (source, list) in &self.found.lists {
            files.put_json(objects(name, *source), list.as_ref());
        }
        let seen = self.seen;
        let certificates = seen.cacerts.as_ref().map(
            |held| json!({"bundle": held.bundle, "signer": held.signer, "problems": held.problems}),
        );
        let versions: Vec<_> = seen
            .istiod
            .versions
            .iter()
            .map(ToString::to_string)
            .collect();
        let facts = json!({
            "kubernetes": seen.kubernetes, "istio": versions, "server": seen.server, "uid": seen.uid,
            "gateway": seen.gateway.addresses, "cacerts": certificates,
        });
        files.put_json(format!("members/{name}/facts.json"), &facts);
        let parts: Vec<Part> = stream::iter(self.questions())
            .buffered(ABREAST)
            .concat()
            .await;
        for (path, part) in parts {
            let path = format!("members/{name}/{path}");
            match part {
                Ok(bytes) => _ = files.put(path, bytes),
                Err(why) => files.leave_out(path, why),
            }
        }
    }

    fn questions(&self) -> Vec<BoxFuture<'_, Vec<Part>>> {
        let (istio, gateway) = (
            self.mesh.istio.namespace.as_str(),
            self.mesh.gateway.namespace.as_str(),
        );
        let istiods = self.pods(istio, |pod| pod["metadata"]["labels"]["app"] == "istiod");
        let gateways = self.pods(gateway, |pod| has(pod, "istio-proxy"));
        let mut all: Vec<BoxFuture<'_, Vec<Part>>> = vec![];
        let mut spaces = vec![istio];
        spaces.extend((gateway != istio).then_some(gateway));
        for pod in &istiods {
            all.push(self.istiod(istio, pod.clone()).boxed());
        }
        for pod in &gateways {
            all.push(self.proxy(gateway, pod.clone()).boxed());
        }
        for space in spaces {
            for (what, kind, paths) in MORE {
                all.push(self.list(space, what, kind, paths).boxed());
            }
            all.push(self.secrets(space).boxed());
        }
        for pod in istiods {
            all.push(self.log(istio, pod, "discovery").boxed());
        }
        for pod in gateways {
            all.push(self.log(gateway, pod, "istio-proxy").boxed());
        }
        all
    }

    /// Pods of a namespace that are of a kind.
    fn pods(&self, namespace: &str, is: impl Fn(&Value) -> bool) -> Vec<String> {
        let list = self.found.lists.get(&Source::Pods);
        let all = list.into_iter().flat_map(|list| list.iter());
        let mine = all.filter(|pod| pod["metadata"]["namespace"] == namespace && is(pod));
        let names = mine.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
        names.take(PODS).collect()
    }

    /// An answer that does not take too long.
    async fn within<T>(
        &self,
        question: impl Future<Output = Result<T, cluster::Error>>,
    ) -> Result<T, String> {
        match tokio::time::timeout(self.limit, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(causes::line(&error)),
            Err(_) => Err(format!("no answer within {} s", self.limit.as_secs())),
        }
    }

    async fn istiod(&self, namespace: &str, pod: String) -> Vec<Part> {
        let pages: Vec<_> = ISTIOD
            .iter()
            .map(|(page, paths)| (*page, format!("/debug/{page}"), *paths))
            .collect();
        self.pages("istiod", (namespace, &pod, MONITORING), &pages)
            .await
    }

    async fn proxy(&self, namespace: &str, pod: String) -> Vec<Part> {
        let pages = PROXY.map(|(page, path, paths)| (page, path.to_owned(), paths));
        self.pages("proxies", (namespace, &pod, ADMIN), &pages)
            .await
    }

    /// Pages of a pod's port, one after the other, so much of each as is named.
    async fn pages(
        &self,
        folder: &str,
        (namespace, pod, port): (&str, &str, u16),
        pages: &[(&str, String, &[&str])],
    ) -> Vec<Part> {
        let name = |page: &str| format!("{folder}/{pod}/{page}.json");
        let opened = self
            .within(self.cluster.open_port(namespace, pod, port))
            .await;
        let mut port = match opened {
            Ok(port) => port,
            Err(why) => return vec![(name("all"), Err(why))],
        };
        let mut parts = vec![];
        for (page, path, paths) in pages {
            let answer = self.within(port.get(path)).await;
            let answer = answer.and_then(|answer| {
                if !answer.status.is_success() {
                    return Err(format!("it answered {}", answer.status.as_u16()));
                }
                let value: Value =
                    serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
                pretty(&kept(&value, paths))
            });
            parts.push((name(page), answer));
        }
        parts
    }

    async fn list(&self, namespace: &str, what: &str, kind: Kind, paths: &[&str]) -> Vec<Part> {
        let list = self
            .within(self.cluster.list(&kind, Some(namespace), None))
            .await;
        let list = list.and_then(|list| {
            let skipped = match kind == Kind::EVENT {
                true => list.len().saturating_sub(EVENTS),
                false => 0,
            };
            let one = |object: &Value| {
                let mut small = kept(object, paths);
                if let Some(message) = object["message"].as_str() {
                    small["message"] = redact::text(message).into();
                }
                small
            };
            pretty(&list.iter().skip(skipped).map(one).collect())
        });
        vec![(format!("{what}-{namespace}.json"), list)]
    }

    /// What Secrets there are, without what is in them: that is not read.
    async fn secrets(&self, namespace: &str) -> Vec<Part> {
        let list = self
            .within(self.cluster.names(&Kind::SECRET, Some(namespace), None))
            .await;
        let paths = [
            "metadata/name",
            "metadata/namespace",
            "metadata/labels/*",
            "metadata/creationTimestamp",
        ];
        let list = list.and_then(|list| pretty(&list.iter().map(|o| kept(o, &paths)).collect()));
        vec![(format!("secrets-{namespace}.json"), list)]
    }

    async fn log(&self, namespace: &str, pod: String, container: &str) -> Vec<Part> {
        let log = self.cluster.log(namespace, &pod, container, LINES, LOG);
        let log = self.within(log).await;
        let log = log.map(|bytes| redact::text(&String::from_utf8_lossy(&bytes)).into_bytes());
        vec![(format!("logs/{namespace}-{pod}-{container}.log"), log)]
    }
}

fn pretty(value: &Value) -> Result<Vec<u8>, String> {
    serde_json::to_vec_pretty(value).map_err(|error| error.to_string())
}

fn has(pod: &Value, container: &str) -> bool {
    let all = pod["spec"]["containers"].as_array().into_iter().flatten();
    all.into_iter().any(|c| c["name"] == container)
}
