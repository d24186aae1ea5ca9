//! Embedded clusters, to try meshlink and to test it.
//!
//! [`Sandbox::start`] raises any number of clusters in this process: for each a Kubernetes API with a
//! TLS front on loopback ([`api`]) and the actors that make it behave like a cluster (`actors`);
//! between them load balancers on a [`Timeline`], a name server that knows these, and a repository
//! that serves the stand-in charts. [`Endpoints`] says where all of it is, in this process or, by
//! way of a file, to another ([`attach`]). Everything ends with the process, or when the value is dropped.

pub(crate) mod actors;
pub mod api;
mod attach;
pub mod aws;
mod charts;
mod clock;
pub mod dns;
mod faults;
mod timeline;
pub mod world;

/// The Istio version whose charts and answers are played unless another is asked for.
pub(crate) const ISTIO_VERSION: &str = charts::WRITTEN;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::{
    actors::Cluster,
    api::{Api, ApiOptions, Served},
    world::World,
};
pub use self::{
    attach::{Endpoints, attach},
    clock::WorldClock,
    faults::{Fault, Faults},
    timeline::Timeline,
};

/// Why no embedded clusters could be raised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process runs embedded clusters with this state folder.
    #[error("embedded clusters are already running in {folder}{}", process(*pid))]
    Running {
        /// The state folder.
        folder: PathBuf,
        /// The process, where it has said which it is.
        pid: Option<u32>,
    },
    /// Embedded clusters run, and where they are cannot be read.
    #[error("embedded clusters are running, but {path} cannot be read, which says where")]
    Whereabouts {
        /// The file.
        path: PathBuf,
        /// What the system, or the reader of JSON, said.
        #[source]
        source: std::io::Error,
    },
    /// Whether embedded clusters run cannot be told.
    #[error("cannot lock {path}, which tells whether embedded clusters are running")]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An API server could not be raised.
    #[error("cannot raise the API server of embedded cluster {cluster}")]
    Api {
        /// The cluster.
        cluster: String,
        /// What went wrong.
        #[source]
        source: api::Error,
    },
    /// The charts could not be packaged or served.
    #[error("cannot serve the stand-in charts")]
    Charts(#[source] std::io::Error),
    /// The emulated AWS could not be raised.
    #[error("cannot raise the AWS of the embedded clusters")]
    Aws(#[source] std::io::Error),
    /// The name server could not be raised.
    #[error("cannot serve the names of the embedded load balancers")]
    Names(#[source] std::io::Error),
    /// A file of the state folder could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(", as process {pid}"))
}

/// What the cloud writes into the status of a Service of type LoadBalancer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BalancerStatus {
    /// A host name, as AWS does.
    #[default]
    Hostname,
    /// A plain address.
    Address,
}

/// What to raise.
#[derive(Debug, Clone)]
pub struct Options {
    /// The clusters' names, which become the contexts of the kubeconfig.
    pub clusters: Vec<String>,
    /// How long things take.
    pub timeline: Timeline,
    /// A folder for the kubeconfig and for what tells other processes where to attach.
    pub state_dir: PathBuf,
    /// The first of the loopback ports to use, one for each cluster; 0 takes any that are free.
    pub ports: u16,
    /// Host names or addresses for load balancers.
    pub balancers: BalancerStatus,
    /// The chart versions to offer.
    pub versions: Vec<String>,
    /// Account and region of clusters that are not in the usual ones.
    pub homes: BTreeMap<String, world::Home>,
}

impl Options {
    /// Clusters of these names, with everything happening at once.
    pub fn named(
        clusters: impl IntoIterator<Item = impl Into<String>>,
        state_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            clusters: clusters.into_iter().map(Into::into).collect(),
            timeline: Timeline::instant(),
            state_dir: state_dir.into(),
            ports: 0,
            balancers: BalancerStatus::default(),
            versions: vec![ISTIO_VERSION.into()],
            homes: BTreeMap::new(),
        }
    }

    /// So many clusters, named `eks-1`, `eks-2` and so on.
    pub fn count(clusters: usize, state_dir: impl Into<PathBuf>) -> Self {
        Self::named((1..=clusters).map(|n| format!("eks-{n}")), state_dir)
    }
}

/// Running embedded clusters.
pub struct Sandbox {
    endpoints: Endpoints,
    clusters: Vec<Arc<Cluster>>,
    world: World,
    faults: Faults,
    aws: aws::Embedded,
    /// Ended by being dropped.
    _fronts: Vec<Served>,
    _tasks: JoinSet<()>,
    _lock: std::fs::File,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Raises the clusters, and returns once everything answers.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let lock = attach::own(&options.state_dir)?;
        let mut tasks = JoinSet::new();
        let (world, faults) = (
            World::new(options.balancers, options.homes.clone()),
            Faults::default(),
        );
        let repository = charts::Repository::new(&options.versions).map_err(Error::Charts)?;
        let charts = repository
            .serve(loopback(0), &mut tasks)
            .await
            .map_err(Error::Charts)?;
        let dns = dns::serve(world.balancers.clone(), loopback(0), &mut tasks)
            .await
            .map_err(Error::Names)?;
        let (mut clusters, mut fronts, mut configs) = (Vec::new(), Vec::new(), Vec::new());
        for (index, name) in options.clusters.iter().enumerate() {
            let port = if options.ports == 0 {
                0
            } else {
                options.ports + u16::try_from(index).unwrap_or(0)
            };
            let (api, front) = raise(name, loopback(port), &world.clock).await?;
            configs.push(api.kubeconfig(&front.url, name, &format!("{name}-admin")));
            let timeline = options.timeline.clone();
            clusters.push(Cluster::start(
                (name, index),
                api,
                timeline,
                world.clone(),
                faults.clone(),
                &mut tasks,
            ));
            fronts.push(front);
        }
        let served = clusters
            .iter()
            .map(|c| &c.api)
            .zip(fronts.iter().map(|f| f.url.as_str()));
        let aws = aws::raise(served, &world, &mut tasks)
            .await
            .map_err(Error::Aws)?;
        let endpoints = Endpoints {
            aws: options.state_dir.join("aws.env"),
            kubeconfig: options.state_dir.join("kubeconfig"),
            charts: format!("http://{charts}"),
            dns,
            state_dir: options.state_dir,
            clusters: options.clusters,
            servers: fronts.iter().map(|f| f.address).collect(),
            pid: std::process::id(),
            ahead: 0,
        };
        publish(&endpoints, &configs, &aws)?;
        Ok(Self {
            endpoints,
            clusters,
            world,
            faults,
            aws,
            _fronts: fronts,
            _tasks: tasks,
            _lock: lock,
        })
    }

    /// Moves the clock of all clusters on, and of the commands that attach to them.
    pub fn advance(&self, by: jiff::SignedDuration) -> Result<(), Error> {
        self.world.clock.advance(by);
        attach::announce_clock(&self.endpoints.state_dir, &self.world.clock).map_err(|source| {
            let path = self.endpoints.state_dir.clone();
            Error::Write { path, source }
        })
    }

    /// The clock of all clusters.
    pub fn clock(&self) -> &WorldClock {
        &self.world.clock
    }

    /// Where everything is.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What may be made to go wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The API server of a cluster, for its own faults and counters and for clients without a socket.
    pub fn api(&self, cluster: &str) -> Option<&Api> {
        self.clusters
            .iter()
            .find(|c| c.name == cluster)
            .map(|c| &c.api)
    }

    /// Every proxy that does not trust what another one shows, whichever clusters the two are in.
    pub fn distrust(&self) -> Vec<String> {
        actors::distrust(&self.clusters)
    }

    /// The AWS the clusters are in: what EKS, ELB and EC2 say, and faults of these.
    pub fn aws(&self) -> &aws::Shared {
        &self.aws.state
    }

    /// The load balancers of all clusters.
    #[cfg(test)]
    pub(crate) fn balancers(&self) -> &world::LoadBalancers {
        &self.world.balancers
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        attach::retract(&self.endpoints);
        // The processes and their cluster hold on to each other.
        for cluster in &self.clusters {
            cluster.processes.clear();
        }
    }
}

/// The time of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where time enters the embedded clusters"
)]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

async fn raise(name: &str, at: SocketAddr, clock: &WorldClock) -> Result<(Api, Served), Error> {
    let failed = |source| Error::Api {
        cluster: name.into(),
        source,
    };
    let clock = clock.clone();
    let options = ApiOptions {
        kubelet: true,
        ..ApiOptions::new(name, Arc::new(move || clock.now()))
    };
    let api = Api::new(options).map_err(failed)?;
    let front = api.serve(at).await.map_err(failed)?;
    Ok((api, front))
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn publish(endpoints: &Endpoints, configs: &[String], aws: &aws::Embedded) -> Result<(), Error> {
    let write = |path: PathBuf| move |source| Error::Write { path, source };
    let kubeconfig = merged(configs).to_string();
    attach::write(&endpoints.kubeconfig, kubeconfig.as_bytes())
        .map_err(write(endpoints.kubeconfig.clone()))?;
    attach::write(&endpoints.aws, aws.environment().as_bytes())
        .map_err(write(endpoints.aws.clone()))?;
    attach::announce(endpoints).map_err(write(endpoints.state_dir.join("sandbox.json")))
}

/// One kubeconfig with the contexts of all; JSON is YAML too.
fn merged(configs: &[String]) -> Value {
    let mut all =
        json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []});
    for config in configs.iter().rev() {
        let one: Value = serde_saphyr::from_str(config).unwrap_or_default();
        all["current-context"] = one["current-context"].clone();
        for list in ["clusters", "users", "contexts"] {
            let entries = one[list].as_array().cloned().unwrap_or_default();
            if let Some(to) = all[list].as_array_mut() {
                to.splice(0..0, entries);
            }
        }
    }
    all
}
