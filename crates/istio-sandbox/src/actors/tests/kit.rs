//! Installs and links embedded clusters by plain objects, without any of meshlink's own rooms.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::{
    Api as Kube,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use helm_engine as chart;

use crate::{
    ISTIO_VERSION, Options, Sandbox, Timeline,
    actors::{Cluster, Read, istiod::Istiod},
};

/// A root that signs intermediates.
pub(super) struct Root {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Root {
    pub(super) fn new(name: &str) -> Self {
        let (params, key) = (authority(name, 1), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A `cacerts` with a new intermediate of this root and the given trust bundle.
    pub(super) fn cacerts(&self, bundle: &str) -> Value {
        let key = KeyPair::generate().unwrap();
        let cert = authority("intermediate", 0)
            .signed_by(&key, &self.issuer)
            .unwrap()
            .pem();
        let data = [
            ("ca-cert.pem", cert.clone()),
            ("ca-key.pem", key.serialize_pem()),
            ("cert-chain.pem", cert),
            ("root-cert.pem", bundle.to_owned()),
        ];
        let data: serde_json::Map<String, Value> = data
            .into_iter()
            .map(|(k, v)| (k.to_owned(), STANDARD.encode(v).into()))
            .collect();
        json!({"apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": {"name": "cacerts", "namespace": "istio-system"}})
    }
}

/// Running embedded clusters with ways to look into them.
pub(super) struct Lab {
    pub(super) sandbox: Sandbox,
    _folder: tempfile::TempDir,
}

/// How a cluster is installed.
pub(super) struct Install<'a> {
    pub(super) cacerts: Option<Value>,
    pub(super) network: &'a str,
    pub(super) id: &'a str,
    pub(super) expose: bool,
}

impl<'a> Install<'a> {
    pub(super) fn new(id: &'a str, network: &'a str, root: &Root) -> Self {
        Self {
            cacerts: Some(root.cacerts(&root.pem)),
            network,
            id,
            expose: true,
        }
    }
}

impl Lab {
    pub(super) async fn new(clusters: usize) -> Self {
        Self::timed(clusters, Timeline::instant()).await
    }

    pub(super) async fn timed(clusters: usize, timeline: Timeline) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            timeline,
            ..Options::count(clusters, folder.path())
        };
        Self {
            sandbox: Sandbox::start(options).await.unwrap(),
            _folder: folder,
        }
    }

    /// Moves the clock on by so many hours.
    pub(super) fn advance(&self, hours: i64) {
        let by = jiff::SignedDuration::from_hours(hours);
        self.sandbox.advance(by).unwrap();
    }

    /// Two clusters on networks of their own, one root, linked both ways, with a probe in each.
    pub(super) async fn joined() -> Self {
        let lab = Self::new(2).await;
        let root = Root::new("root");
        for (id, network) in [("eks-1", "net-1"), ("eks-2", "net-2")] {
            lab.install(id, Install::new(id, network, &root)).await;
        }
        lab.link_both().await;
        lab
    }

    pub(super) async fn link_both(&self) {
        self.link("eks-1", "eks-2").await;
        self.link("eks-2", "eks-1").await;
        for name in ["eks-1", "eks-2"] {
            self.probe(name, &["eks-1", "eks-2"]).await;
        }
    }

    pub(super) fn cluster(&self, name: &str) -> &Arc<Cluster> {
        self.sandbox
            .clusters
            .iter()
            .find(|c| c.name == name)
            .unwrap()
    }

    pub(super) async fn apply(&self, cluster: &str, object: &Value) -> Value {
        self.try_apply(cluster, object).await.unwrap()
    }

    pub(super) async fn try_apply(
        &self,
        cluster: &str,
        object: &Value,
    ) -> Result<Value, kube::Error> {
        let kind = object.text("/kind");
        let (group, version) = object
            .text("/apiVersion")
            .rsplit_once('/')
            .unwrap_or(("", object.text("/apiVersion")));
        let plural = match kind {
            kind if kind.ends_with("cy") => {
                format!("{}ies", kind.to_lowercase().trim_end_matches('y'))
            }
            kind => format!("{}s", kind.to_lowercase()),
        };
        let what = ApiResource {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural,
            api_version: object.text("/apiVersion").into(),
        };
        let client = self.sandbox.api(cluster).unwrap().client();
        let api: Kube<DynamicObject> = match object.ns() {
            "" => Kube::all_with(client, &what),
            namespace => Kube::namespaced_with(client, namespace, &what),
        };
        let params = PatchParams::apply("test").force();
        let done = api
            .patch(object.name(), &params, &Patch::Apply(object))
            .await?;
        Ok(serde_json::to_value(done).unwrap())
    }

    pub(super) async fn install(&self, cluster: &str, how: Install<'_>) {
        self.namespace(
            cluster,
            "istio-system",
            json!({"topology.istio.io/network": how.network}),
        )
        .await;
        self.namespace(cluster, "istio-ingress", json!({})).await;
        if let Some(cacerts) = &how.cacerts {
            self.apply(cluster, cacerts).await;
        }
        let values = json!({
            "global": {"network": how.network, "multiCluster": {"clusterName": how.id}},
            "meshConfig": {"defaultConfig": {"proxyMetadata": {"PROXY_CONFIG_XDS_AGENT": "true"}}},
            "env": {"ISTIO_MULTIROOT_MESH": "true"},
        });
        self.chart(cluster, "base", "istio-base", "istio-system", json!({}))
            .await;
        self.chart(cluster, "istiod", "istiod", "istio-system", values)
            .await;
        self.until("istiod is ready", || {
            self.istiod(cluster).is_some_and(|i| i.ready())
        })
        .await;
        let values = json!({
            "labels": {"topology.istio.io/network": how.network},
            "env": {"ISTIO_META_REQUESTED_NETWORK_VIEW": how.network},
            "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 1},
        });
        self.chart(
            cluster,
            "gateway",
            "istio-eastwestgateway",
            "istio-ingress",
            values,
        )
        .await;
        if how.expose {
            self.expose(cluster).await;
        }
    }

    pub(super) async fn namespace(&self, cluster: &str, name: &str, labels: Value) {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.apply(cluster, &object).await;
    }

    /// Opens 15443, and waits until the load balancer finds it open.
    pub(super) async fn expose(&self, cluster: &str) {
        let gateway = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "cross-network-gateway", "namespace": "istio-ingress"},
            "spec": {"selector": {"istio": "eastwestgateway"}, "servers": [{"hosts": ["*.local"],
                "port": {"number": 15443, "name": "tls", "protocol": "TLS"}, "tls": {"mode": "AUTO_PASSTHROUGH"}}]}});
        self.until("the CRD is served", || {
            self.established(cluster, "gateways.networking.istio.io")
        })
        .await;
        self.apply(cluster, &gateway).await;
        let open = || {
            self.sandbox
                .balancers()
                .list()
                .iter()
                .any(|lb| lb.cluster == cluster && lb.reaches(15443))
        };
        self.until("the gateway is reachable", open).await;
    }

    fn established(&self, cluster: &str, name: &str) -> bool {
        let found = self.cluster(cluster).objects.get(
            "customresourcedefinitions.apiextensions.k8s.io",
            "",
            name,
        );
        let is = |c: &Value| c["type"] == "Established" && c["status"] == "True";
        found.is_some_and(|c| c.items("/status/conditions").iter().any(is))
    }

    /// A chart out of the repository, applied as Helm would order it.
    pub(super) async fn chart(
        &self,
        cluster: &str,
        name: &str,
        release: &str,
        namespace: &str,
        values: Value,
    ) {
        let source = chart::Source::Repository(self.sandbox.endpoints().charts.clone());
        let fetched = chart::fetch(
            &source,
            name,
            ISTIO_VERSION,
            &chart::FetchOptions::default(),
        )
        .await
        .unwrap();
        let release = chart::Release {
            name: release,
            namespace,
            revision: 1,
            is_upgrade: false,
        };
        let rendered = chart::render(
            &fetched.chart,
            &values,
            &release,
            &chart::Capabilities::default(),
        )
        .unwrap();
        for manifest in rendered.manifests {
            self.apply(cluster, &manifest.object).await;
        }
    }

    /// A reader in `to`, and a remote secret for it in `from`.
    pub(super) async fn link(&self, from: &str, to: &str) {
        let secret = self.remote_secret(to).await;
        self.apply(from, &secret).await;
        let synced = || self.status(from, to).as_deref() == Some("synced");
        self.until("the remote cluster is synced", synced).await;
    }

    pub(super) async fn remote_secret(&self, to: &str) -> Value {
        let token = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "reader-token", "namespace": "istio-system",
                "annotations": {"kubernetes.io/service-account.name": "istio-reader-service-account"}}});
        self.apply(to, &token).await;
        let read = || {
            self.cluster(to)
                .objects
                .get("secrets", "istio-system", "reader-token")
        };
        let filled = || read().is_some_and(|s| s["data"]["token"].is_string());
        self.until("the token is there", filled).await;
        let token = STANDARD
            .decode(read().unwrap().text("/data/token"))
            .unwrap();
        self.remote_secret_with(
            to,
            &self.server(to),
            &String::from_utf8(token).unwrap(),
            self.sandbox.api(to).unwrap().ca_pem(),
        )
    }

    pub(super) fn server(&self, of: &str) -> String {
        let at = self
            .sandbox
            .endpoints()
            .clusters
            .iter()
            .position(|c| c == of)
            .unwrap();
        format!("https://{}", self.sandbox.endpoints().servers[at])
    }

    pub(super) fn remote_secret_with(
        &self,
        to: &str,
        server: &str,
        token: &str,
        ca: &str,
    ) -> Value {
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": to,
            "clusters": [{"name": to, "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca)}}],
            "users": [{"name": to, "user": {"token": token}}],
            "contexts": [{"name": to, "context": {"cluster": to, "user": to}}]});
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": format!("istio-remote-secret-{to}"), "namespace": "istio-system",
                "labels": {"istio/multiCluster": "true"}, "annotations": {"networking.istio.io/cluster": to}},
            "data": {to: STANDARD.encode(kubeconfig.to_string())}})
    }

    /// meshlink's own probe, as it would be applied.
    pub(super) async fn probe(&self, cluster: &str, clusters: &[&str]) {
        let target = |c: &&str| {
            json!({"cluster": c, "service": format!("probe-{c}"),
                "headless": format!("headless-{c}")})
        };
        let targets: Vec<_> = clusters.iter().map(target).collect();
        let facts = json!({"cluster": cluster, "targets": targets, "namespace": "meshlink-probe",
            "account": format!("probe-{cluster}"),
            "image": "registry.istio.io/release/proxyv2:1.31.4", "direct_ports": self.direct_ports()});
        let text = include_str!("../../../../../charts/probe.yaml.tera");
        let context = tera::Context::from_serialize(&facts).unwrap();
        let yaml = tera::Tera::one_off(text, &context, false).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        for object in objects.iter().filter(|o| !o.is_null()) {
            self.apply(cluster, object).await;
        }
        self.until("the probe is ready", || {
            self.pod(cluster, "meshlink-probe")
                .is_some_and(|p| ready(&p))
        })
        .await;
    }

    fn direct_ports(&self) -> String {
        let servers = self.sandbox.endpoints().servers.iter().map(|s| s.port());
        let ports: Vec<String> = servers
            .chain([15443, 15021])
            .map(|p| p.to_string())
            .collect();
        ports.join(",")
    }

    /// The newest pod with this `app` label.
    pub(super) fn pod(&self, cluster: &str, app: &str) -> Option<Arc<Value>> {
        let mut pods = self.cluster(cluster).objects.list("pods", None);
        pods.retain(|p| p.label("app") == Some(app) && !p.deleting());
        pods.pop()
    }

    pub(super) fn istiod(&self, cluster: &str) -> Option<Arc<Istiod>> {
        self.cluster(cluster).processes.istiods().pop()
    }

    /// What istiod of one cluster says about another.
    pub(super) fn status(&self, cluster: &str, of: &str) -> Option<String> {
        let all = self.istiod(cluster)?.clusters();
        let entry = all.as_array()?.iter().find(|c| c["id"] == of)?;
        entry["syncStatus"].as_str().map(String::from)
    }

    /// A request to a port of a pod, by port-forward.
    pub(super) async fn get(
        &self,
        cluster: &str,
        app: &str,
        port: u16,
        path: &str,
    ) -> (u16, String) {
        let pod = self.pod(cluster, app).unwrap();
        let client = self.sandbox.api(cluster).unwrap().client();
        let pods: Kube<k8s_openapi::api::core::v1::Pod> = Kube::namespaced(client, pod.ns());
        let mut forward = pods.portforward(pod.name(), &[port]).await.unwrap();
        let stream = forward.take_stream(port).unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Empty::<&[u8]>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(super) async fn get_json(&self, cluster: &str, app: &str, port: u16, path: &str) -> Value {
        serde_json::from_str(&self.get(cluster, app, port, path).await.1).unwrap()
    }

    /// What a probe's sidecar holds for the probe of a cluster, as `address:port`.
    pub(super) async fn endpoints(&self, cluster: &str, of: &str) -> Vec<String> {
        let all = self
            .get_json(cluster, "meshlink-probe", 15000, "/clusters?format=json")
            .await;
        let name = format!("outbound|8080||probe-{of}.meshlink-probe.svc.cluster.local");
        let found = all
            .items("/cluster_statuses")
            .iter()
            .find(|c| c["name"] == name)
            .cloned()
            .unwrap_or_default();
        found
            .items("/host_statuses")
            .iter()
            .map(|h| {
                let at = &h["address"]["socket_address"];
                format!("{}:{}", at.text("/address"), at["port_value"])
            })
            .collect()
    }

    /// Where the gateway of a cluster is reached.
    pub(super) fn gateway(&self, of: &str) -> Vec<String> {
        let all = self.sandbox.balancers().list();
        let lb = all.iter().find(|lb| lb.cluster == of).unwrap();
        lb.addresses.iter().map(|a| format!("{a}:15443")).collect()
    }

    /// Asks a probe for another cluster's.
    pub(super) async fn ask(&self, cluster: &str, of: &str) -> (u16, String) {
        let at = format!("http://probe-{of}.meshlink-probe.svc.cluster.local:8080/");
        self.get(cluster, "meshlink-probe", 18080, &at).await
    }

    pub(super) fn log(&self, cluster: &str) -> String {
        self.istiod(cluster).unwrap().log.text()
    }

    pub(super) async fn until(&self, what: &str, is: impl Fn() -> bool) {
        for _ in 0..2000 {
            if is() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for cluster in &self.sandbox.clusters {
            for pod in cluster.objects.list("pods", None) {
                eprintln!("{} pod {}: {:#}", cluster.name, pod.name(), pod["status"]);
            }
            for istiod in cluster.processes.istiods() {
                eprintln!(
                    "{} istiod {}:\n{}",
                    cluster.name,
                    istiod.pod,
                    istiod.log.text()
                );
            }
        }
        eprintln!("{:#?}", self.sandbox.balancers().list());
        panic!("never: {what}");
    }

    /// Waits until the sidecars have what is expected of them.
    pub(super) async fn until_endpoints(&self, cluster: &str, of: &str, wanted: &[String]) {
        let mut found = Vec::new();
        for _ in 0..400 {
            found = self.endpoints(cluster, of).await;
            if found == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{cluster} holds {found:?} for {of}, not {wanted:?}");
    }
}

pub(super) fn ready(pod: &Value) -> bool {
    crate::actors::endpoints::is_ready(pod)
}
