//! What acts in an embedded cluster: the controllers, the kubelet, the cloud, istiod and the proxies.
//!
//! Each actor is level-triggered: whenever anything in its cluster or in the world between the
//! clusters has changed it looks at what is there and does the next thing that follows. What takes
//! time follows the cluster's [`Timeline`](super::timeline::Timeline); the rules of istiod and Envoy are those measured on real ones.

mod balancer;
mod endpoints;
mod inject;
mod istiod;
mod kubelet;
mod objects;
mod probe;
mod process;
mod proxy;
mod workloads;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    task::JoinSet,
    time::Instant,
};

pub(crate) use self::objects::{Objects, Read};
use self::process::Processes;
use super::{
    api::{Api, Event},
    faults::{Fault, Faults},
    timeline::Timeline,
    world::World,
};

/// How many parsed texts a cluster keeps.
const DOCUMENTS: usize = 32;

/// Every proxy that does not trust what another one shows. Many show or trust the same: each kind is judged once.
pub(crate) fn distrust(clusters: &[Arc<Cluster>]) -> Vec<String> {
    let all = clusters.iter().flat_map(|cluster| {
        let proxies = cluster.processes.proxies();
        proxies.into_iter().filter_map(|proxy| {
            let name = format!("{}/{}/{}", cluster.name, proxy.namespace, proxy.pod);
            let (leaf, roots) = proxy.certificates()?;
            Some((name, leaf.chain, roots))
        })
    });
    let all: Vec<_> = all.collect();
    let now = clusters
        .first()
        .map_or(0, |cluster| cluster.world.clock.second());
    let mut judged = HashMap::new();
    let mut found = vec![];
    for (judge, _, roots) in &all {
        for (shown, chain, _) in &all {
            let known = judged.entry((&chain[1..], roots));
            let trusts = *known.or_insert_with(|| istiod::verifies(chain, roots, now));
            if !trusts {
                found.push(format!("{judge} does not trust {shown}"));
            }
        }
    }
    found
}

/// One embedded cluster, as its actors see it.
pub(crate) struct Cluster {
    pub(crate) name: String,
    /// Its place among the clusters; addresses follow from it.
    pub(crate) index: usize,
    pub(crate) api: Api,
    pub(crate) objects: Objects,
    pub(crate) timeline: Timeline,
    pub(crate) world: World,
    pub(crate) faults: Faults,
    pub(crate) processes: Processes,
    injector: RwLock<inject::Injector>,
    documents: Mutex<HashMap<String, Arc<Value>>>,
    wake: watch::Sender<u64>,
}

impl Cluster {
    /// Starts the actors of a cluster; they end with `tasks`.
    pub(crate) fn start(
        (name, index): (&str, usize),
        api: Api,
        timeline: Timeline,
        world: World,
        faults: Faults,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let objects = Objects::new(&api, "kube-controller-manager");
        let wake = watch::Sender::new(0);
        let processes = Processes::default();
        let (injector, documents) = Default::default();
        let cluster = Arc::new(Self {
            name: name.into(),
            index,
            api,
            objects,
            timeline,
            world,
            faults,
            processes,
            injector,
            documents,
            wake,
        });
        cluster.world.add(&cluster);
        inject::install(&cluster);
        process::install(&cluster);
        tasks.spawn(follow(cluster.objects.events(), Arc::downgrade(&cluster)));
        let sources = [
            cluster.world.balancers.watch(),
            cluster.world.clock.watch(),
            cluster.faults.watch(),
        ];
        for source in sources {
            tasks.spawn(forward(source, Arc::downgrade(&cluster)));
        }
        tasks.spawn(drive(cluster.clone(), workloads::Workloads::default()));
        tasks.spawn(drive(cluster.clone(), kubelet::Kubelet::default()));
        tasks.spawn(drive(cluster.clone(), endpoints::Endpoints::default()));
        tasks.spawn(drive(cluster.clone(), balancer::Balancers::default()));
        tasks.spawn(drive(cluster.clone(), inject::Keeper));
        cluster
    }

    /// Lets every actor look again.
    pub(crate) fn wake(&self) {
        self.wake.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn woken(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.has(&self.name, fault)
    }

    /// A YAML text of a ConfigMap, parsed once: actors look at the same few texts again and again.
    pub(crate) fn document(&self, text: &str) -> Option<Arc<Value>> {
        let mut documents = self
            .documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = documents.get(text) {
            return Some(known.clone());
        }
        let read: Arc<Value> = Arc::new(serde_saphyr::from_str(text).ok()?);
        if documents.len() >= DOCUMENTS {
            documents.clear();
        }
        documents.insert(text.into(), read.clone());
        Some(read)
    }

    /// The addresses a name server in this cluster gives for a name.
    pub(crate) fn resolve(&self, host: &str) -> Vec<Ipv4Addr> {
        let balancers = &self.world.balancers;
        let mut found = balancers.resolve(host).unwrap_or_default();
        if self.has(Fault::ZoneUnseen) {
            found.retain(|ip| balancers.at(*ip).is_some_and(|b| b.cluster == self.name));
        }
        found
    }
}

async fn follow(mut events: broadcast::Receiver<Arc<Event>>, to: Weak<Cluster>) {
    // Whoever lags behind looks at everything anyway.
    while !matches!(events.recv().await, Err(RecvError::Closed)) {
        let Some(cluster) = to.upgrade() else { return };
        cluster.wake();
    }
}

async fn forward(mut source: watch::Receiver<u64>, to: Weak<Cluster>) {
    while source.changed().await.is_ok() {
        let Some(cluster) = to.upgrade() else { return };
        cluster.wake();
    }
}

/// Something that acts when its cluster changes.
pub(crate) trait Actor: Send + 'static {
    /// Does what follows from how things are, and says after how long to look again in any case.
    fn step(&mut self, cluster: &Arc<Cluster>) -> impl Future<Output = Option<Duration>> + Send;
}

async fn drive(cluster: Arc<Cluster>, mut actor: impl Actor) {
    let mut woken = cluster.woken();
    loop {
        woken.mark_unchanged();
        let again = actor.step(&cluster).await;
        let pause = async {
            match again {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = woken.changed() => if changed.is_err() { return },
            () = pause => {}
        }
    }
}

/// Remembers since when things wait, and when the next of them is due.
#[derive(Default)]
pub(crate) struct Clock {
    since: HashMap<String, Instant>,
    next: Option<Duration>,
}

impl Clock {
    /// Whether `delay` has passed since this was first asked for `key`.
    pub(crate) fn passed(&mut self, key: impl Into<String>, delay: Duration) -> bool {
        let left = delay.saturating_sub(
            self.since
                .entry(key.into())
                .or_insert_with(Instant::now)
                .elapsed(),
        );
        if left.is_zero() {
            return true;
        }
        self.again_in(left);
        false
    }

    /// Starts anew for `key`.
    pub(crate) fn restart(&mut self, key: &str) {
        self.since.remove(key);
    }

    /// Forgets every key that is no longer of interest.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.since.retain(|key, _| wanted(key));
    }

    /// Asks to be woken after a while.
    pub(crate) fn again_in(&mut self, delay: Duration) {
        self.next = Some(self.next.map_or(delay, |next| next.min(delay)));
    }

    /// When to look again, if at all.
    pub(crate) fn due(&mut self) -> Option<Duration> {
        self.next.take()
    }
}
