//! Embedded clusters in this process, and a user whose commands attach to them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Request;
use meshlink::{
    Environment, Folders, Meshlink,
    sandbox::{Endpoints, Fault, Options, Sandbox, api::Api, aws::State},
    spec::Mesh,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Answer, Running, Session};

/// A fact that should come about has come about by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// Clusters that outlive the commands that are run against them.
pub(crate) struct World {
    /// Whose commands are run.
    pub(crate) user: Session,
    sandbox: Sandbox,
    runtime: Runtime,
}

/// What is where, without what differs although nothing has changed.
pub(crate) type Inventory = BTreeMap<String, Value>;

impl World {
    /// `eks-1`, `eks-2` and so on.
    pub(crate) fn new(clusters: usize) -> Self {
        Self::with(clusters, |_| {})
    }

    /// The same, with some options changed.
    pub(crate) fn with(clusters: usize, change: impl FnOnce(&mut Options)) -> Self {
        // The command does the same at its start.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let user = Session::new();
        let state = user.home().join(".local/state/meshlink-sandbox");
        let runtime = Runtime::new().unwrap();
        let mut options = Options::count(clusters, state);
        change(&mut options);
        let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();
        let world = Self {
            user,
            sandbox,
            runtime,
        };
        for cluster in world.endpoints().clusters.clone() {
            world.settle(&cluster);
        }
        world
    }

    /// Until nothing changes by itself any more.
    pub(crate) fn settled(&self, cluster: &str) {
        self.settle(cluster);
    }

    /// The path of an object of an inventory.
    pub(crate) fn path_of(&self, cluster: &str, object: &str) -> Option<String> {
        let (kind, place) = object.split_once(' ')?;
        let (namespace, name) = place.split_once('/')?;
        let all = self.collections(cluster);
        let (collection, _) = all.iter().find(|(_, k)| k == kind)?;
        let (group, plural) = collection.rsplit_once('/')?;
        Some(match namespace {
            "-" => format!("{collection}/{name}"),
            _ => format!("{group}/namespaces/{namespace}/{plural}/{name}"),
        })
    }

    /// Until the cluster's own controllers have made what every namespace gets: what is compared
    /// with later must not still be on its way.
    fn settle(&self, cluster: &str) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let all = self.inventory(cluster);
            let count = |start: &str, end: &str| {
                let mine = all
                    .keys()
                    .filter(|k| k.starts_with(start) && k.ends_with(end));
                mine.count()
            };
            let namespaces = count("Namespace ", "");
            let made = [
                count("ServiceAccount ", "/default"),
                count("ConfigMap ", "/kube-root-ca.crt"),
            ];
            if namespaces > 0 && made == [namespaces; 2] && all == self.inventory(cluster) {
                return;
            }
            assert!(
                std::time::Instant::now() < until,
                "{cluster} never settles: {namespaces} {made:?}"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The first so many clusters, joined.
    pub(crate) fn joined(clusters: usize) -> Self {
        let world = Self::new(clusters);
        world.run(&join(clusters)).ends(0);
        world
    }

    /// Runs a command on these clusters.
    pub(crate) fn run(&self, args: &str) -> Answer {
        self.user.run(&format!("{args} --sandbox"))
    }

    /// Runs a command that knows the clusters by their EKS names alone: no kubeconfig, only what AWS says.
    pub(crate) fn by_names(&self, args: &str) -> Answer {
        self.start_by_names(args).end()
    }

    /// Starts such a command.
    pub(crate) fn start_by_names(&self, args: &str) -> Running {
        let text = fs::read_to_string(&self.endpoints().aws).unwrap();
        let vars: Vec<_> = text.lines().filter_map(|l| l.split_once('=')).collect();
        self.user.start_with(args, &vars)
    }

    /// The AWS the clusters are in.
    pub(crate) fn aws(&self) -> std::sync::MutexGuard<'_, State> {
        self.sandbox.aws().lock()
    }

    /// Starts a command on these clusters.
    pub(crate) fn start(&self, args: &str) -> Running {
        self.user.start(&format!("{args} --sandbox"))
    }

    /// A cluster's API server: its faults and counters.
    pub(crate) fn api(&self, cluster: &str) -> &Api {
        self.sandbox.api(cluster).unwrap()
    }

    /// Moves the clock of the clusters on, and of the commands that attach to them.
    pub(crate) fn advance(&self, days: i64) {
        let _inside = self.runtime.enter();
        let by = jiff::SignedDuration::from_hours(24 * days);
        self.sandbox.advance(by).unwrap();
    }

    /// What time it is there.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.sandbox.clock().now()
    }

    /// The clusters themselves.
    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Where everything is.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        self.sandbox.endpoints()
    }

    /// The first so many clusters through the library, with the vault and the journal of the user.
    pub(crate) fn link(&self, clusters: usize) -> Meshlink {
        self.link_as(clusters, |_| ())
    }

    /// The same, with some of what it is given changed.
    pub(crate) fn link_as(
        &self,
        clusters: usize,
        change: impl FnOnce(&mut Environment),
    ) -> Meshlink {
        let names: Vec<String> = (1..=clusters).map(|n| format!("eks-{n}")).collect();
        let mut environment = Environment::of_sandbox(self.endpoints(), crate::kit::now);
        environment.folders = Folders {
            keys: self.user.home().join(".local/share/meshlink-sandbox"),
            state: self.user.home().join(".local/state/meshlink-sandbox"),
            cache: self.user.home().join(".cache/meshlink-sandbox"),
        };
        change(&mut environment);
        let mesh = Mesh::named(&names).unwrap();
        self.block_on(Meshlink::open(mesh, environment)).unwrap()
    }

    /// The same by seconds.
    pub(crate) fn advance_by(&self, seconds: i64) {
        let _inside = self.runtime.enter();
        let by = jiff::SignedDuration::from_secs(seconds);
        self.sandbox.advance(by).unwrap();
    }

    /// Waits for what the library does.
    pub(crate) fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Makes something go wrong in a cluster.
    pub(crate) fn fault(&self, cluster: &str, fault: Fault) {
        self.sandbox.faults().set(cluster, fault);
    }

    /// Makes it go right again.
    pub(crate) fn clear(&self, cluster: &str, fault: Fault) {
        self.sandbox.faults().clear(cluster, fault);
    }

    /// Sends a request as the cluster's admin; it is not counted.
    pub(crate) fn ask(
        &self,
        cluster: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Value, kube::Error> {
        let _inside = self.runtime.enter();
        let client = self.api(cluster).backstage();
        self.runtime.block_on(client.request(request))
    }

    /// An object, if it is there.
    pub(crate) fn find(&self, cluster: &str, path: &str) -> Option<Value> {
        self.ask(cluster, Request::get(path).body(vec![]).unwrap())
            .ok()
    }

    /// An object that is there.
    pub(crate) fn get(&self, cluster: &str, path: &str) -> Value {
        let found = self.ask(cluster, Request::get(path).body(vec![]).unwrap());
        found.unwrap_or_else(|e| panic!("{cluster} {path}: {e}"))
    }

    /// Creates an object in the collection at a path.
    pub(crate) fn create(&self, cluster: &str, path: &str, object: &Value) {
        self.post(cluster, path, object);
    }

    /// Posts something, and returns the answer.
    pub(crate) fn post(&self, cluster: &str, path: &str, object: &Value) -> Value {
        let request = Request::post(path).header("content-type", "application/json");
        let made = self.ask(cluster, request.body(object.to_string().into()).unwrap());
        made.unwrap_or_else(|e| panic!("{cluster} {path}: {e}"))
    }

    /// Posts something to an API server with a token, over its TLS front; the status that came back.
    pub(crate) fn as_bearer(&self, cluster: &str, token: &str, path: &str, body: &Value) -> u16 {
        let index = self.endpoints().clusters.iter().position(|c| c == cluster);
        let server = self.endpoints().servers[index.unwrap()];
        let config = self
            .api(cluster)
            .kubeconfig(&format!("https://{server}"), cluster, "x");
        let config = config.replace(&self.api(cluster).admin_token(), token);
        let config = kube::config::Kubeconfig::from_yaml(&config).unwrap();
        self.runtime.block_on(async {
            let options = kube::config::KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(config, &options).await;
            let client = kube::Client::try_from(config.unwrap()).unwrap();
            let request = Request::post(path).header("content-type", "application/json");
            let request = request.body(body.to_string().into_bytes()).unwrap();
            match client.request::<Value>(request).await {
                Ok(_) => 201,
                Err(kube::Error::Api(status)) => status.code,
                Err(other) => panic!("{cluster} {path}: {other}"),
            }
        })
    }

    /// Merges a patch into an object.
    pub(crate) fn merge(&self, cluster: &str, path: &str, patch: &Value) {
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        let merged = self.ask(cluster, request.body(patch.to_string().into()).unwrap());
        merged.unwrap_or_else(|e| panic!("{cluster} {path}: {e}"));
    }

    /// Puts an object in the place of another.
    pub(crate) fn replace(
        &self,
        cluster: &str,
        path: &str,
        object: &Value,
    ) -> Result<Value, kube::Error> {
        let request = Request::put(path).header("content-type", "application/json");
        let mut object = object.clone();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        self.ask(cluster, request.body(object.to_string().into()).unwrap())
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, cluster: &str, path: &str) {
        let gone = self.ask(cluster, Request::delete(path).body(vec![]).unwrap());
        gone.unwrap_or_else(|e| panic!("{cluster} {path}: {e}"));
    }

    /// Everything a cluster holds, by its path; Events are news, not things.
    pub(crate) fn inventory(&self, cluster: &str) -> Inventory {
        let mut all = Inventory::new();
        for (collection, kind) in self.collections(cluster) {
            let list = self.get(cluster, &collection);
            for item in list["items"].as_array().unwrap() {
                let text = |key: &str| item["metadata"][key].as_str().unwrap_or("-").to_owned();
                let path = format!("{kind} {}/{}", text("namespace"), text("name"));
                all.insert(path, item.clone());
            }
        }
        all
    }

    /// Every list there is, with the kind of what is in it.
    fn collections(&self, cluster: &str) -> Vec<(String, String)> {
        let mut groups = vec!["/api/v1".to_owned()];
        let named = self.get(cluster, "/apis");
        for group in named["groups"].as_array().unwrap() {
            let version = group["preferredVersion"]["groupVersion"].as_str().unwrap();
            groups.push(format!("/apis/{version}"));
        }
        let mut all = vec![];
        for group in groups {
            for resource in self.get(cluster, &group)["resources"].as_array().unwrap() {
                let verbs = resource["verbs"].as_array().unwrap();
                let (name, kind) = (&resource["name"], resource["kind"].as_str().unwrap());
                if verbs.contains(&json!("list")) && kind != "Event" {
                    let path = format!("{group}/{}", name.as_str().unwrap());
                    all.push((path, kind.to_owned()));
                }
            }
        }
        all
    }

    /// Restarts istiod as kubectl does, and waits until the new pod alone is there and ready.
    pub(crate) fn restart_istiod(&self, cluster: &str) {
        let path = istio("deployments", "istiod");
        let now = crate::kit::now().to_string();
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
        let template = json!({"metadata": {"annotations": annotations}});
        self.merge(cluster, &path, &json!({"spec": {"template": template}}));
        let restarted = self.wait(|| {
            let deployment = self.get(cluster, &path);
            let count = |key: &str| deployment["status"][key].as_i64().unwrap_or_default();
            let seen =
                deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"];
            let pods = self.get(
                cluster,
                "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod",
            );
            let alone = pods["items"].as_array().is_some_and(|pods| pods.len() == 1);
            (seen && alone && count("updatedReplicas") == 1 && count("availableReplicas") == 1)
                .then_some(())
        });
        assert!(restarted.is_some(), "{cluster}: istiod is not restarted");
    }

    /// Waits until something is so; `None` if it does not come about.
    pub(crate) fn wait<T>(&self, mut fact: impl FnMut() -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = fact() {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// The folder of the mesh's keys.
    pub(crate) fn vault(&self) -> std::path::PathBuf {
        self.user.home().join(".local/share/meshlink-sandbox/mesh")
    }

    /// Every certificate and key in the vault, by its path there.
    pub(crate) fn keys(&self) -> BTreeMap<String, Vec<u8>> {
        let mut keys = BTreeMap::new();
        gather(&self.vault(), &self.vault(), &mut keys);
        keys
    }

    /// The journal as it is.
    pub(crate) fn journal(&self) -> String {
        fs::read_to_string(self.state().join("journal.jsonl")).unwrap_or_default()
    }

    /// This machine no longer remembers the mesh.
    pub(crate) fn forget(&self) {
        fs::remove_file(self.state().join("mesh.yaml")).unwrap();
    }

    fn state(&self) -> std::path::PathBuf {
        self.user.home().join(".local/state/meshlink-sandbox/mesh")
    }
}

fn gather(root: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        // What was not whole when its maker died was never anybody's key.
        let unfinished = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(".new-"));
        if unfinished {
            continue;
        }
        if path.is_dir() {
            gather(root, &path, into);
        } else if path.extension().is_some_and(|end| end == "pem") {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            into.insert(name, fs::read(path).unwrap());
        }
    }
}

/// The data of a `cacerts` of somebody else's mesh; half of it, where it is not to be whole.
pub(crate) fn foreign_cacerts(cluster: &str, whole: bool) -> Value {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    };

    let params = |name: &str, path: u8| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    };
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = params("root of other", 1);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let intermediate = params(cluster, 0).signed_by(&key, &issuer).unwrap().pem();
    let files = [
        ("ca-cert.pem", intermediate.clone()),
        ("ca-key.pem", key.serialize_pem()),
        ("cert-chain.pem", intermediate + &root_pem),
        ("root-cert.pem", root_pem),
    ];
    let kept = files
        .into_iter()
        .filter(|(file, _)| whole || *file == "ca-cert.pem");
    let data = kept.map(|(file, text)| (file.to_owned(), STANDARD.encode(text).into()));
    data.collect::<serde_json::Map<_, _>>().into()
}

/// The command that joins the first so many clusters.
pub(crate) fn join(clusters: usize) -> String {
    let names = (1..=clusters).map(|n| format!(" eks-{n}"));
    format!("join{}", names.collect::<String>())
}

/// Where an object of the control plane's namespace is.
pub(crate) fn istio(resource: &str, name: &str) -> String {
    let group = match resource {
        "deployments" => "apis/apps/v1",
        _ => "api/v1",
    };
    format!("/{group}/namespaces/istio-system/{resource}/{name}")
}
