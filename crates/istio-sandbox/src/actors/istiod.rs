//! istiod, one for each of its pods: certificates, webhooks, the view of the mesh, remote clusters.

mod authority;
mod chores;
mod debug;
mod remote;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::{
    authority::Reload,
    remote::Remote,
    view::{Snapshot, Viewer},
};
pub(crate) use self::{
    authority::{Authority, Der, Leaf, certificates, verifies},
    debug::page as debug_page,
    view::{Endpoint, Gateway, NETWORK, ServicePort, View},
};
use super::{Actor, Clock, Cluster, Read, drive};
use crate::Fault;

/// What an istiod has logged, newest last.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Keeps a line, unless it has just been said.
    pub(crate) fn say(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < 10_000 && !lines.iter().rev().take(20).any(|l| *l == line) {
            lines.push(line);
        }
    }

    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }
}

/// A remote secret's entry, as it is being read.
struct Peer {
    /// `namespace/name` of the Secret.
    secret: String,
    /// Of the kubeconfig's bytes: the same bytes are not read again.
    digest: [u8; 32],
    current: Arc<Remote>,
    /// The attempt that takes the place of `current` once it has synced.
    pending: Option<Arc<Remote>>,
    /// An attempt failed before its first list and was then replaced: its registry will outlive the secret.
    sticks: bool,
}

impl Peer {
    fn latest(&self) -> &Arc<Remote> {
        self.pending.as_ref().unwrap_or(&self.current)
    }

    /// Make before break; what never synced has nothing to keep.
    fn renew(&mut self, fresh: Arc<Remote>) {
        self.sticks |= self.latest().stumbled();
        if let Some(older) = self.pending.take() {
            older.stop();
        }
        if self.current.synced() {
            self.pending = Some(fresh);
        } else {
            std::mem::replace(&mut self.current, fresh).stop();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.current.stop();
        if let Some(pending) = &self.pending {
            pending.stop();
        }
    }
}

#[derive(Default)]
struct State {
    peers: BTreeMap<String, Peer>,
    /// Clusters whose first try stumbled, and which were taken away since.
    stumbled: BTreeSet<String>,
    /// Peers whose gateways are lost until istiod restarts.
    lost: BTreeSet<String>,
    /// Registries that nothing removes until istiod restarts.
    orphans: Vec<(String, Snapshot)>,
    view: Arc<View>,
}

/// What an istiod of a version does when a remote secret changes, or goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnChange {
    Sound,
    /// Hangs, and goes on with what it has (istio#60612).
    Deaf,
    /// Forgets the gateways of the peers that stay (istio#60920).
    Forgetful,
}

impl OnChange {
    fn of(version: &str) -> Self {
        match version {
            "1.30.0" | "1.30.1" | "1.30.2" => Self::Deaf,
            "1.30.3" => Self::Forgetful,
            _ => Self::Sound,
        }
    }
}

/// One istiod process.
pub(crate) struct Istiod {
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// Other names that proxies may call the cluster by.
    aliases: BTreeSet<String>,
    pub(crate) version: String,
    pub(crate) started: Instant,
    pub(crate) log: Log,
    revision: String,
    multiroot: bool,
    /// A root of its own that is not yet kept in a Secret.
    own: Mutex<Option<Value>>,
    ready: AtomicBool,
    authority: Mutex<Arc<Authority>>,
    state: Mutex<State>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Starts istiod in a pod, or says why it ends at once. `cacerts` counts only if it is there now.
pub(crate) fn start(cluster: &Arc<Cluster>, pod: &Value) -> Result<Arc<Istiod>, String> {
    let mounted = cluster.objects.get("secrets", pod.ns(), "cacerts");
    let kept = cluster.objects.get("secrets", pod.ns(), "istio-ca-secret");
    let now = cluster.world.clock.second();
    let (authority, own) = match (&mounted, kept) {
        (Some(secret), _) => (Authority::plugged(secret, now)?, None),
        (None, Some(secret)) => (Authority::own(&secret, now)?, None),
        (None, None) => {
            let secret =
                authority::own_secret(pod.ns(), "cluster.local").map_err(|e| e.to_string())?;
            (Authority::own(&secret, now)?, Some(secret))
        }
    };
    let istiod = Arc::new(Istiod {
        pod: pod.name().into(),
        namespace: pod.ns().into(),
        id: env(pod, "CLUSTER_ID").unwrap_or("Kubernetes").into(),
        aliases: aliases(pod),
        version: image_tag(pod).into(),
        started: Instant::now(),
        log: Log::default(),
        revision: env(pod, "REVISION").unwrap_or("default").into(),
        multiroot: env(pod, "ISTIO_MULTIROOT_MESH") == Some("true"),
        own: Mutex::new(own),
        ready: AtomicBool::new(false),
        authority: Mutex::new(Arc::new(authority)),
        state: Mutex::default(),
        task: Mutex::new(None),
    });
    let version = mounted
        .map(|m| m.text("/metadata/resourceVersion").to_owned())
        .unwrap_or_default();
    let mounted = Mounted {
        version,
        annotations: String::new(),
        taken: true,
    };
    let run = Run {
        istiod: Arc::downgrade(&istiod),
        clock: Clock::default(),
        names: HashMap::new(),
        viewer: Viewer::default(),
        secrets: Default::default(),
        mounted,
    };
    let task = AbortOnDropHandle::new(tokio::spawn(drive(cluster.clone(), run)));
    *istiod.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    Ok(istiod)
}

/// What `--clusterAliases` says stands for this istiod's own cluster.
fn aliases(pod: &Value) -> BTreeSet<String> {
    let own = env(pod, "CLUSTER_ID").unwrap_or("Kubernetes");
    let args = pod.items("/spec/containers").iter();
    let args = args
        .flat_map(|c| c.items("/args"))
        .filter_map(Value::as_str);
    let pairs = args.filter_map(|arg| arg.strip_prefix("--clusterAliases="));
    let pairs = pairs.flat_map(|pairs| pairs.split(','));
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    let mine = pairs.filter(|(_, cluster)| *cluster == own);
    mine.map(|(alias, _)| alias.to_owned()).collect()
}

/// The value of an environment variable of a pod's containers.
pub(crate) fn env<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let all = pod
        .items("/spec/containers")
        .iter()
        .flat_map(|c| c.items("/env"));
    all.filter(|e| e["name"] == name)
        .find_map(|e| e["value"].as_str())
}

fn image_tag(pod: &Value) -> &str {
    let image = pod
        .items("/spec/containers")
        .first()
        .map_or("", |c| c.text("/image"));
    image.rsplit_once(':').map_or("unknown", |(_, tag)| tag)
}

impl Istiod {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.state().view.clone()
    }

    pub(crate) fn authority(&self) -> Arc<Authority> {
        self.authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether a proxy may come that calls its cluster so: else its token is not even looked at.
    pub(crate) fn knows(&self, cluster: &str) -> bool {
        let is_own = cluster.is_empty() || cluster == self.id || self.aliases.contains(cluster);
        is_own || self.state().peers.contains_key(cluster)
    }

    /// `/debug/clusterz`.
    pub(crate) fn clusters(&self) -> Value {
        let mut all = vec![json!({"id": self.id, "syncStatus": "synced"})];
        for (id, peer) in &self.state().peers {
            all.push(
                json!({"id": id, "secretName": peer.secret, "syncStatus": peer.latest().status()}),
            );
        }
        all.into()
    }
}

/// What an istiod does as long as it runs.
struct Run {
    istiod: Weak<Istiod>,
    clock: Clock,
    /// Gateway names as last resolved.
    names: HashMap<String, Vec<Ipv4Addr>>,
    viewer: Viewer,
    /// The remote secrets as they were last read, and what they hold.
    secrets: (Vec<Arc<Value>>, Entries),
    mounted: Mounted,
}

/// The `cacerts` a pod has before it.
struct Mounted {
    version: String,
    /// The pod's annotations when the version was first seen: a later change makes the kubelet look.
    annotations: String,
    taken: bool,
}

impl Actor for Run {
    async fn step(&mut self, cluster: &Arc<Cluster>) -> Option<Duration> {
        let istiod = self.istiod.upgrade()?;
        chores::keep_own_root(cluster, &istiod).await;
        if !lags(cluster, &istiod) {
            self.reload(cluster, &istiod);
            self.read_secrets(cluster, &istiod);
        }
        self.publish(cluster, &istiod);
        let started = self.clock.passed("start", cluster.timeline.istiod);
        let waits = self.waits_for_peers(&istiod);
        let ready = istiod.ready() || started && !waits;
        if ready && chores::leads(cluster, &istiod) {
            chores::write(cluster, &istiod).await;
        }
        if ready && !istiod.ready.swap(true, Ordering::SeqCst) {
            cluster.wake();
        }
        self.clock.due()
    }
}

/// Whether it is the last of several, where the last is made to lag.
fn lags(cluster: &Cluster, istiod: &Istiod) -> bool {
    let all = cluster.processes.istiods();
    let is_last = all.last().is_some_and(|last| last.pod == istiod.pod);
    is_last && all.len() > 1 && cluster.has(Fault::IstiodLags)
}

impl Run {
    /// A changed `cacerts` arrives with the kubelet's next projection, or at once if the pod is touched.
    fn reload(&mut self, cluster: &Cluster, istiod: &Istiod) {
        let old = istiod.authority();
        if !old.plugged {
            return;
        }
        let Some(secret) = cluster.objects.get("secrets", &istiod.namespace, "cacerts") else {
            return;
        };
        let pod = cluster.objects.get("pods", &istiod.namespace, &istiod.pod);
        let annotations = pod
            .map(|p| p["metadata"]["annotations"].to_string())
            .unwrap_or_default();
        let version = secret.text("/metadata/resourceVersion");
        if self.mounted.version != version {
            self.mounted = Mounted {
                version: version.into(),
                annotations: annotations.clone(),
                taken: false,
            };
        }
        let seen = self
            .clock
            .passed(format!("cacerts/{version}"), cluster.timeline.projection);
        if self.mounted.taken || !seen && annotations == self.mounted.annotations {
            return;
        }
        self.mounted.taken = true;
        match old.reload(&secret, istiod.multiroot, cluster.world.clock.second()) {
            Reload::Taken(new) => {
                istiod.log.say("info Update Istiod cacerts".into());
                *istiod
                    .authority
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Arc::from(new);
            }
            Reload::Refused(why) => istiod.log.say(format!("warn {why}")),
        }
    }

    /// Whether a cluster found at the start is still being read for the first time.
    fn waits_for_peers(&mut self, istiod: &Istiod) -> bool {
        let mut waits = false;
        for peer in istiod
            .state()
            .peers
            .values()
            .filter(|p| p.latest().status() == "syncing")
        {
            self.clock.again_in(peer.latest().patience_left());
            waits = true;
        }
        waits
    }

    fn read_secrets(&mut self, cluster: &Arc<Cluster>, istiod: &Istiod) {
        let found = cluster.objects.list("secrets", Some(&istiod.namespace));
        let (before, entries) = &mut self.secrets;
        let mut pairs = found.iter().zip(before.iter());
        if found.len() != before.len() || !pairs.all(|(a, b)| Arc::ptr_eq(a, b)) {
            *entries = read(&found, istiod);
            *before = found;
        }
        let mut state = istiod.state();
        let gone: Vec<String> = state
            .peers
            .keys()
            .filter(|id| !entries.contains_key(*id))
            .cloned()
            .collect();
        for id in gone {
            forget(&mut state, &id, &istiod.log);
            lose_others(&mut state, istiod, &id);
        }
        for (id, (secret, config)) in &*entries {
            take(&mut state, cluster, istiod, id, secret, config);
        }
        for (id, peer) in &mut state.peers {
            settle(id, peer, &istiod.log, cluster.timeline.remote_timeout);
        }
    }

    fn publish(&mut self, cluster: &Cluster, istiod: &Istiod) {
        let mut sources = vec![(istiod.id.clone(), local(cluster))];
        {
            let state = istiod.state();
            sources.extend(
                state
                    .peers
                    .iter()
                    .map(|(id, p)| (id.clone(), p.current.snapshot())),
            );
            sources.extend(state.orphans.iter().cloned());
        }
        let (clock, names) = (&mut self.clock, &mut self.names);
        let mut resolve = |host: &str| resolve(cluster, clock, names, host);
        let mut view = self.viewer.view(sources, &istiod.namespace, &mut resolve);
        let authority = istiod.authority();
        view.roots.clone_from(&authority.roots);
        view.roots_pem.clone_from(&authority.roots_pem);
        view.multiroot = istiod.multiroot;
        let mut state = istiod.state();
        view.gateways.retain(|g| !state.lost.contains(&g.cluster));
        if *state.view != view {
            state.view = Arc::new(view);
            drop(state);
            cluster.wake();
        }
    }
}

type Entries = BTreeMap<String, (String, Config)>;

/// A kubeconfig, and the hash of it.
struct Config {
    bytes: Vec<u8>,
    digest: [u8; 32],
}

/// Every cluster the remote secrets name, the first Secret winning.
fn read(secrets: &[Arc<Value>], istiod: &Istiod) -> Entries {
    let mut all = Entries::new();
    for secret in secrets
        .iter()
        .filter(|s| s.label("istio/multiCluster") == Some("true") && !s.deleting())
    {
        let place = format!("{}/{}", secret.ns(), secret.name());
        for (id, data) in secret["data"].as_object().into_iter().flatten() {
            let bytes = STANDARD
                .decode(data.as_str().unwrap_or_default())
                .unwrap_or_default();
            if *id == istiod.id {
                istiod.log.say(format!(
                    "info ignoring cluster as it would overwrite the config cluster cluster={id} config={place}"
                ));
            } else if let Some((other, _)) = all.get(id).filter(|(other, _)| *other != place) {
                istiod.log.say(format!(
                    "error cluster {id} of {place} has already been registered by {other}"
                ));
            } else {
                let config = Config {
                    digest: Sha256::digest(&bytes).into(),
                    bytes,
                };
                all.insert(id.clone(), (place.clone(), config));
            }
        }
    }
    all
}

/// Starts to read a cluster that is new or whose kubeconfig has changed.
fn take(
    state: &mut State,
    cluster: &Arc<Cluster>,
    istiod: &Istiod,
    id: &str,
    secret: &str,
    config: &Config,
) {
    let digest = config.digest;
    if state.peers.get(id).is_some_and(|p| p.digest == digest) {
        return;
    }
    let (id, secret) = (id.to_owned(), secret.to_owned());
    let kubeconfig = match remote::kubeconfig(&String::from_utf8_lossy(&config.bytes)) {
        Ok(kubeconfig) => kubeconfig,
        Err(why) => {
            istiod
                .log
                .say(format!("error {secret}: cluster {id}: {why}"));
            return;
        }
    };
    if state.peers.contains_key(&id) {
        lose_others(state, istiod, &id);
        if OnChange::of(&istiod.version) == OnChange::Deaf {
            return;
        }
    }
    let fresh = Remote::start(cluster, &id, kubeconfig, &istiod.log);
    if let Some(peer) = state.peers.get_mut(&id) {
        istiod.log.say(format!("info Update cluster {id}"));
        (peer.digest, peer.secret) = (digest, secret);
        peer.renew(fresh);
        return;
    }
    istiod.log.say(format!("info Adding cluster {id}"));
    let sticks = state.stumbled.contains(&id);
    let peer = Peer {
        secret,
        digest,
        current: fresh,
        pending: None,
        sticks,
    };
    state.peers.insert(id, peer);
}

fn lose_others(state: &mut State, istiod: &Istiod, changed: &str) {
    if OnChange::of(&istiod.version) == OnChange::Forgetful {
        let others = state.peers.keys().filter(|id| *id != changed);
        state.lost.extend(others.cloned());
    }
}

/// A removed entry takes its endpoints along at once, unless an earlier attempt had stumbled.
fn forget(state: &mut State, id: &str, log: &Log) {
    let Some(peer) = state.peers.remove(id) else {
        return;
    };
    log.say(format!("info Deleting cluster {id}"));
    if peer.latest().stumbled() {
        state.stumbled.insert(id.into());
    }
    if peer.sticks && peer.current.synced() {
        log.say(format!(
            "warn Kubernetes registry for cluster {id} was already replaced, skipping delete."
        ));
        state.orphans.push((id.into(), peer.current.snapshot()));
    }
}

fn settle(id: &str, peer: &mut Peer, log: &Log, patience: Duration) {
    if let Some(pending) = peer.pending.take_if(|p| p.synced()) {
        log.say(format!("info cluster {id} synced, replacing registry"));
        peer.current.stop();
        peer.current = pending;
    }
    if peer.latest().status() == "timeout" {
        log.say(format!(
            "error remote cluster {id} failed to sync after {}s",
            patience.as_secs()
        ));
    }
}

fn local(cluster: &Cluster) -> Snapshot {
    let all = |resource: &str| cluster.objects.list(resource, None);
    Snapshot {
        namespaces: all("namespaces"),
        services: all("services"),
        pods: all("pods"),
        slices: all("endpointslices.discovery.k8s.io"),
    }
}

/// Asks the name server now and then; a name that does not resolve has no addresses, not its old ones.
fn resolve(
    cluster: &Cluster,
    clock: &mut Clock,
    names: &mut HashMap<String, Vec<Ipv4Addr>>,
    host: &str,
) -> Vec<Ipv4Addr> {
    let key = format!("resolve/{host}");
    let retry = cluster.timeline.resolve_retry;
    // What has been found is kept for longer.
    let known = names.get(host).is_some_and(|found| !found.is_empty());
    let after = if known { retry * 10 } else { retry };
    if clock.passed(key.as_str(), after) || !names.contains_key(host) {
        let found = cluster.resolve(host);
        clock.restart(&key);
        clock.passed(key, if found.is_empty() { retry } else { retry * 10 });
        names.insert(host.into(), found);
    }
    names.get(host).cloned().unwrap_or_default()
}
