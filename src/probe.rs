//! The probe: a pod per cluster that answers with its cluster's name, and asks the others.
//!
//! Gateways cannot be probes, since they see only their own network, and a fresh mesh has no
//! other proxy with mTLS endpoints in the peer; so the proof brings its own. The probe is made
//! from the proxy image the gateways run, is injected like any workload, and is always removed.
//!
//! It also tries addresses from where they will be used: what this machine can reach or resolve
//! says nothing of what an istiod or a sidecar can.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    cluster::{self, Cluster, Kind, Ref, fresh::Fresh, object},
    manifest::{self, Texts},
    name::{ClusterName, TrustDomain},
};

mod absence;
mod answer;
mod certs;
mod greet;
mod lines;
mod way;

pub(crate) use absence::{Absence, Hidden};
use lines::Lines;

pub(crate) use answer::{Answer, Dialed, Endpoint, Held, Trouble, read_dial, read_endpoints};
pub(crate) use certs::{SECRETS, read_certificates};
pub(crate) use greet::Greeting;
pub(crate) use way::Way;

/// The namespace probes live in; it exists only as long as they do.
pub(crate) const NAMESPACE: &str = "meshlink-probe";
/// The Deployment, and the `app` label of its pod.
pub(crate) const NAME: &str = "meshlink-probe";
/// Where a probe takes questions for the others, and addresses to try.
const ASK: u16 = 18080;
/// The sidecar's own port.
pub(crate) const ADMIN: u16 = 15000;

/// The probe of one cluster, as objects.
pub(crate) fn objects(
    texts: &Texts,
    members: &[ClusterName],
    cluster: &ClusterName,
    image: &str,
    direct_ports: &[u16],
) -> Result<Vec<Value>, manifest::Error> {
    let ports: Vec<_> = direct_ports.iter().map(ToString::to_string).collect();
    let target = |name: &ClusterName| {
        json!({"cluster": name, "service": Way::Http.service(name),
            "headless": Way::Headless.service(name)})
    };
    let targets: Vec<_> = members.iter().map(target).collect();
    let facts = json!({"namespace": NAMESPACE, "targets": targets, "cluster": cluster,
        "account": account(cluster), "image": image, "direct_ports": ports.join(",")});
    texts.render("probe", &facts)
}

/// The probe's service account: the last part of what its certificate says it is.
fn account(cluster: &ClusterName) -> String {
    Way::Http.service(cluster)
}

/// What the certificate of a cluster's probe says it is.
pub(crate) fn identity(trust_domain: &TrustDomain, cluster: &ClusterName) -> String {
    let account = account(cluster);
    format!("spiffe://{trust_domain}/ns/{NAMESPACE}/sa/{account}")
}

/// The proxy image istiod injects, as its injector's values say.
pub(crate) fn proxy_image<'v>(istiod: impl Iterator<Item = &'v Value>) -> Option<String> {
    let mut maps = istiod.filter(|o| o["kind"] == "ConfigMap");
    let values = maps.find_map(|map| map["data"]["values"].as_str())?;
    let values: Value = serde_json::from_str(values).ok()?;
    let global = &values["global"];
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let image = text(&global["proxy"]["image"]).unwrap_or_else(|| "proxyv2".into());
    if image.contains('/') {
        return Some(image);
    }
    let variant = text(&global["variant"]).filter(|v| !v.is_empty());
    let variant = variant.map(|v| format!("-{v}")).unwrap_or_default();
    Some(format!(
        "{}/{image}:{}{variant}",
        text(&global["hub"])?,
        text(&global["tag"])?
    ))
}

/// A running probe. Its clones share the lines to it, and what it has just been asked.
#[derive(Debug, Clone)]
pub(crate) struct Probe(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: Cluster,
    pod: String,
    ask: Lines,
    admin: Lines,
    held: Fresh<Result<Arc<Held>, Arc<cluster::Error>>>,
}

/// The probe's Deployment.
pub(crate) fn deployment() -> Ref {
    Ref::namespaced(&Kind::DEPLOYMENT, NAMESPACE, NAME)
}

impl Probe {
    /// The running probe of a cluster, if there is one.
    pub(crate) async fn find(cluster: &Cluster) -> Result<Option<Self>, cluster::Error> {
        let label = format!("app={NAME}");
        let pods = cluster
            .list(&Kind::POD, Some(NAMESPACE), Some(&label))
            .await?;
        let pod = object::running(&pods).into_iter().next();
        Ok(pod.map(|pod| {
            Self(Arc::new(Inner {
                cluster: cluster.clone(),
                pod,
                ask: Lines::default(),
                admin: Lines::default(),
                held: Fresh::default(),
            }))
        }))
    }

    /// Asks `target`'s probe a few times, one question after the other: by its name through the
    /// proxies, or at one address of its gateway, past the sidecar but as who the sidecar is.
    /// Nothing more is asked of an address that failed once, nor of the proxies after a second failure:
    /// each may take seconds.
    pub(crate) async fn ask(
        &self,
        way: Way,
        target: &ClusterName,
        at: Option<&str>,
        times: usize,
    ) -> Result<Vec<Answer>, cluster::Error> {
        let mut answers = vec![];
        let mut chances = if at.is_some() { 1 } else { 2 };
        while answers.len() < times && chances > 0 {
            let question = || way.question(target, at);
            let answer = self.0.ask.ask(self.port(ASK), question).await?;
            let answer = Answer::read(way, &answer);
            chances -= i32::from(!answer.is_from(way, target));
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Tries to reach a host and port from this pod.
    pub(crate) async fn dial(&self, host: &str, port: u16) -> Result<Dialed, cluster::Error> {
        let question = way::dial(host, port).map_err(|error| cluster::Error::Forward {
            cluster: self.0.cluster.name().clone(),
            pod: format!("{NAMESPACE}/{}", self.0.pod),
            port: ASK,
            source: cluster::Failure::Answer(error.to_string()).into(),
        })?;
        let answer = self.0.ask.ask(self.port(ASK), || question.clone()).await?;
        Ok(read_dial(
            answer.status.as_u16(),
            &String::from_utf8_lossy(&answer.body),
        ))
    }

    /// Every endpoint the sidecar holds, by the cluster it is for; read for all who ask at once.
    pub(crate) async fn held(&self) -> Result<Arc<Held>, Arc<cluster::Error>> {
        let read = async {
            let answer = self.page("/clusters?format=json").await;
            Ok(Arc::new(Held::read(&answer.map_err(Arc::new)?)))
        };
        self.0.held.now(read).await
    }

    /// The roots the sidecar trusts, by their public keys.
    pub(crate) async fn roots(&self) -> Result<Vec<String>, cluster::Error> {
        let held = read_certificates(&self.page(SECRETS).await?).unwrap_or_default();
        let keys = held.roots.iter().map(|r| r.facts().spki_sha256.clone());
        Ok(keys.collect())
    }

    /// A page of the sidecar's own port.
    async fn page(&self, path: &'static str) -> Result<Bytes, cluster::Error> {
        let question = || way::page(path);
        Ok(self.0.admin.ask(self.port(ADMIN), question).await?.body)
    }

    fn port(&self, port: u16) -> (&Cluster, &str, &str, u16) {
        (&self.0.cluster, NAMESPACE, &self.0.pod, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injector(values: Value) -> Value {
        json!({"kind": "ConfigMap", "data": {"values": values.to_string()}})
    }

    #[test]
    fn the_image_is_what_istiod_injects() {
        let image = |global: Value| proxy_image([injector(json!({"global": global}))].iter());
        let plain =
            json!({"hub": "h.example/istio", "tag": "1.31.0", "proxy": {"image": "proxyv2"}});
        assert_eq!(image(plain).unwrap(), "h.example/istio/proxyv2:1.31.0");
        let slim = json!({"hub": "h", "tag": 1.31, "variant": "distroless"});
        assert_eq!(image(slim).unwrap(), "h/proxyv2:1.31-distroless");
        let whole = json!({"proxy": {"image": "r.example/p:1"}});
        assert_eq!(image(whole).unwrap(), "r.example/p:1");
        assert_eq!(proxy_image([json!({"kind": "Service"})].iter()), None);
    }

    #[test]
    fn a_probe_answers_for_itself_and_asks_everybody() {
        let members: Vec<ClusterName> = ["eks-1", "eks-2"].map(|n| n.parse().unwrap()).into();
        let objects = objects(
            &Texts::default(),
            &members,
            &members[0],
            "h/p:1",
            &[15443, 6443],
        )
        .unwrap();
        let kinds: Vec<_> = objects
            .iter()
            .map(|o| o["kind"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "ServiceAccount",
                "Service",
                "Service",
                "Service",
                "Service",
                "ConfigMap",
                "Deployment"
            ]
        );
        let pod = &objects[7]["spec"]["template"];
        assert_eq!(pod["metadata"]["labels"]["meshlink/cluster"], "eks-1");
        let excluded = "traffic.sidecar.istio.io/excludeOutboundPorts";
        assert_eq!(pod["metadata"]["annotations"][excluded], "15443,6443");
        let account = &pod["spec"]["serviceAccountName"];
        let identity = identity(&"td".parse().unwrap(), &members[0]);
        assert_eq!(identity, "spiffe://td/ns/meshlink-probe/sa/probe-eks-1");
        assert!(identity.ends_with(account.as_str().unwrap()));
    }

    #[test]
    fn the_bootstrap_listens_on_every_port_that_is_asked() {
        let name: ClusterName = "eks-1".parse().unwrap();
        let objects = objects(
            &Texts::default(),
            std::slice::from_ref(&name),
            &name,
            "p",
            &[],
        )
        .unwrap();
        let map = objects.iter().find(|o| o["kind"] == "ConfigMap").unwrap();
        let envoy: Value =
            serde_saphyr::from_str(map["data"]["envoy.yaml"].as_str().unwrap()).unwrap();
        let text = envoy["static_resources"]["listeners"].to_string();
        for port in Way::ALL.map(Way::port).into_iter().chain([ASK]) {
            assert!(text.contains(&format!("\"port_value\":{port}}}")), "{port}");
        }
        for service in objects.iter().filter(|o| o["kind"] == "Service") {
            for port in service["spec"]["ports"].as_array().unwrap() {
                let way = Way::ALL.into_iter().find(|w| port["port"] == w.port());
                let kind = if way == Some(Way::Headless) {
                    "http"
                } else {
                    way.unwrap().as_str()
                };
                assert_eq!(port["name"], kind, "Istio goes by the port's name");
            }
        }
    }
}
