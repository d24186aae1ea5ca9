//! istiod's reading of another cluster, with the kubeconfig out of a remote secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use kube::{
    Client, Config,
    api::{Api, ApiResource, DynamicObject, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{super::Cluster, Log, view::Snapshot};

/// What istiod follows in a remote cluster, as group and kind with its plural.
const FOLLOWED: [Resource; 4] = [
    ("", "Namespace", "namespaces"),
    ("", "Service", "services"),
    ("", "Pod", "pods"),
    ("discovery.k8s.io", "EndpointSlice", "endpointslices"),
];
/// What it also lists, and will not be synced without.
const NODES: Resource = ("", "Node", "nodes");
const SECRETS: Resource = ("", "Secret", "secrets");
const CONFIG_MAPS: Resource = ("", "ConfigMap", "configmaps");
const DEFINITIONS: Resource = (
    "apiextensions.k8s.io",
    "CustomResourceDefinition",
    "customresourcedefinitions",
);
const ENTRIES: Resource = ("networking.istio.io", "WorkloadEntry", "workloadentries");
/// How many lists there are in all.
const ALL: usize = FOLLOWED.len() + 5;
/// Without any of these no endpoint comes out of a cluster.
const NEEDED: [&str; 6] = [
    "namespaces",
    "services",
    "pods",
    "endpointslices",
    "nodes",
    "customresourcedefinitions",
];

type Resource = (&'static str, &'static str, &'static str);

type Table = BTreeMap<(String, String), Arc<Value>>;

/// One attempt at a remote cluster; a changed kubeconfig is another attempt.
pub(crate) struct Remote {
    tables: Mutex<[Table; FOLLOWED.len()]>,
    /// The resources that have been listed once.
    listed: Mutex<BTreeSet<&'static str>>,
    /// Whether the very first list has ever failed.
    stumbled: AtomicBool,
    reached: watch::Sender<bool>,
    started: Instant,
    patience: Duration,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Remote {
    /// Starts to read the cluster; never fails at once, as istiod's informers never do.
    pub(crate) fn start(
        cluster: &Arc<Cluster>,
        id: &str,
        kubeconfig: Kubeconfig,
        log: &Log,
    ) -> Arc<Self> {
        let remote = Arc::new(Self {
            tables: Mutex::default(),
            listed: Mutex::default(),
            stumbled: AtomicBool::new(false),
            reached: watch::Sender::new(false),
            started: Instant::now(),
            patience: cluster.timeline.remote_timeout,
            task: Mutex::new(None),
        });
        let follower = Follower {
            cluster: cluster.clone(),
            remote: remote.clone(),
            id: id.into(),
            log: log.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run(kubeconfig)));
        *remote.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        remote
    }

    /// `synced`, `syncing` or `timeout`, as `/debug/clusterz` has it. Once synced it says so for ever.
    pub(crate) fn status(&self) -> &'static str {
        if self.synced() {
            "synced"
        } else if self.started.elapsed() >= self.patience {
            "timeout"
        } else {
            "syncing"
        }
    }

    pub(crate) fn synced(&self) -> bool {
        self.listed().len() == ALL
    }

    fn listed(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has failed before its first list, and has not synced since.
    pub(crate) fn stumbled(&self) -> bool {
        self.stumbled.load(Ordering::SeqCst) && !self.synced()
    }

    /// How long until it is given up.
    pub(crate) fn patience_left(&self) -> Duration {
        self.patience.saturating_sub(self.started.elapsed())
    }

    /// Stops reading; what was read stays.
    pub(crate) fn stop(&self) {
        self.task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// What has been read so far; nothing while a list that endpoints hang on is missing.
    pub(crate) fn snapshot(&self) -> Snapshot {
        if !NEEDED.iter().all(|n| self.listed().contains(n)) {
            return Snapshot::default();
        }
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let all = |n: usize| tables[n].values().cloned().collect();
        Snapshot {
            namespaces: all(0),
            services: all(1),
            pods: all(2),
            slices: all(3),
        }
    }

    fn edit(&self, table: usize, change: impl FnOnce(&mut Table)) {
        change(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner)[table]);
    }
}

struct Follower {
    cluster: Arc<Cluster>,
    remote: Arc<Remote>,
    id: String,
    log: Log,
}

impl Follower {
    async fn run(self, kubeconfig: Kubeconfig) {
        let client = loop {
            match connect(kubeconfig.clone()).await {
                Ok(client) => break client,
                Err(error) => self.complain("namespaces", &*error).await,
            }
        };
        // Namespaces come first: without them nothing else is asked for.
        let first = self.follow(&client, 0);
        let mut reached = self.remote.reached.subscribe();
        let rest = async {
            let _ = reached.wait_for(|is| *is).await;
            let followed = join_all((1..FOLLOWED.len()).map(|n| self.follow(&client, n)));
            let lists =
                async { tokio::join!(self.list(&client, NODES), self.list(&client, SECRETS)) };
            tokio::join!(
                followed,
                lists,
                self.custom(&client),
                self.mesh_config(&client)
            );
        };
        tokio::join!(first, rest);
    }

    async fn follow(&self, client: &Client, table: usize) {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(FOLLOWED[table]));
        let seconds = u32::try_from(self.cluster.timeline.watch.as_secs())
            .unwrap_or(290)
            .clamp(1, 290);
        let mut events = pin!(watcher(api, watcher::Config::default().timeout(seconds)));
        let mut fresh = Table::new();
        let mut once = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => fresh.clear(),
                Ok(Event::InitApply(object)) => put(&mut fresh, object),
                Ok(Event::InitDone) => {
                    let new = std::mem::take(&mut fresh);
                    self.remote.edit(table, |t| *t = new);
                    if !std::mem::replace(&mut once, true) {
                        self.done(FOLLOWED[table]);
                    }
                    self.remote.reached.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.remote.edit(table, |t| put(t, object)),
                Ok(Event::Delete(object)) => {
                    self.remote.edit(table, |t| drop(t.remove(&key(&object))))
                }
                Err(error) => {
                    self.complain(FOLLOWED[table].2, &error).await;
                    continue;
                }
            }
            self.cluster.wake();
        }
    }

    /// A list that must succeed once; the names in it.
    async fn list(&self, client: &Client, what: Resource) -> Vec<String> {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(what));
        loop {
            match api.list_metadata(&ListParams::default()).await {
                Ok(found) => {
                    self.done(what);
                    return found
                        .items
                        .into_iter()
                        .filter_map(|o| o.metadata.name)
                        .collect();
                }
                Err(error) => self.complain(what.2, &error).await,
            }
        }
    }

    /// Kinds that a cluster does not define are not asked for.
    async fn custom(&self, client: &Client) {
        let defined = self.list(client, DEFINITIONS).await;
        if defined
            .iter()
            .any(|d| d == "workloadentries.networking.istio.io")
        {
            self.list(client, ENTRIES).await;
        } else {
            self.done(ENTRIES);
        }
    }

    /// istiod reads one ConfigMap by name; a right to just that one is enough.
    async fn mesh_config(&self, client: &Client) {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), "istio-system", &resource(CONFIG_MAPS));
        while let Err(error) = api
            .list_metadata(&ListParams::default().fields("metadata.name=istio"))
            .await
        {
            self.complain(CONFIG_MAPS.2, &error).await;
        }
        self.done(CONFIG_MAPS);
    }

    fn done(&self, what: Resource) {
        self.remote.listed().insert(what.2);
        if self.remote.synced() {
            self.log.say(format!("info cluster {} synced", self.id));
        }
        self.cluster.wake();
    }

    async fn complain(&self, resource: &str, error: &(dyn std::error::Error + Sync)) {
        if !*self.remote.reached.borrow() {
            self.remote.stumbled.store(true, Ordering::SeqCst);
        }
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        self.log.say(format!(
            "error watch error in cluster {}: failed to list {resource}: {text}",
            self.id
        ));
        tokio::time::sleep(self.cluster.timeline.remote_retry).await;
    }
}

async fn connect(
    kubeconfig: Kubeconfig,
) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn resource((group, kind, plural): Resource) -> ApiResource {
    let api_version = if group.is_empty() {
        "v1".into()
    } else {
        format!("{group}/v1")
    };
    ApiResource {
        group: group.into(),
        version: "v1".into(),
        api_version,
        kind: kind.into(),
        plural: plural.into(),
    }
}

fn key(object: &DynamicObject) -> (String, String) {
    let meta = &object.metadata;
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn put(table: &mut Table, object: DynamicObject) {
    let key = key(&object);
    if let Ok(value) = serde_json::to_value(object) {
        table.insert(key, Arc::new(value));
    }
}

/// A kubeconfig as istiod accepts it from a Secret: no programs to run, no files to read.
pub(crate) fn kubeconfig(text: &str) -> Result<Kubeconfig, String> {
    let config =
        Kubeconfig::from_yaml(text).map_err(|e| format!("failed to load kubeconfig: {e}"))?;
    for auth in config
        .auth_infos
        .iter()
        .filter_map(|a| a.auth_info.as_ref())
    {
        let refused = [
            ("exec", auth.exec.is_some()),
            ("tokenFile", auth.token_file.is_some()),
            ("clientCertificate", auth.client_certificate.is_some()),
            ("clientKey", auth.client_key.is_some()),
            (
                "auth-provider",
                auth.auth_provider
                    .as_ref()
                    .is_some_and(|p| p.name != "oidc"),
            ),
        ];
        if let Some((what, _)) = refused.iter().find(|(_, is)| *is) {
            return Err(format!("kubeconfig is not allowed: {what} is not allowed"));
        }
    }
    if config.current_context.is_none() || config.clusters.is_empty() {
        return Err("kubeconfig names no cluster".into());
    }
    Ok(config)
}
