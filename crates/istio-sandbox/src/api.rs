//! A Kubernetes API server in memory: small, but what it answers is what a real one would.
//!
//! One [`Api`] is one embedded cluster. Requests come in through [`Api::client`] without any socket, or
//! through a TLS front on loopback ([`Api::serve`]) as any client of a cluster sends them. Objects live in a
//! store under one lock; a write is prepared, checked, tracked (`managedFields`) and stored in one go, and the
//! few controllers that belong to the API itself (namespaces, owner references, token Secrets, CRDs) follow in
//! the same step. Nothing here schedules or runs a pod: that is for actors, who use [`Api::backstage`] and
//! `Store::events`, and take part through the `on_…` hooks.

mod client;
mod controllers;
mod counters;
mod defaults;
mod delete;
mod discovery;
mod faults;
mod forward;
mod front;
mod hooks;
mod kind;
mod openapi;
mod patch;
mod podsecurity;
mod prepare;
mod protobuf;
mod rbac;
mod read;
mod reply;
mod request;
mod review;
mod select;
mod serve;
mod ssa;
mod state;
mod status;
mod store;
mod table;
mod token;
mod validate;
mod watch;
mod write;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::sync::broadcast;

pub use counters::Counts;
pub use faults::{Fault, Faults, Strike};
pub use front::Served;
pub use hooks::{Authenticator, CreatePod, PodLog, PortForward, UserInfo};
pub use store::{Change, Event};

use counters::Counters;
use front::Identity;
use hooks::Hooks;
use serve::Door;
use state::State;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The version the server says it is, unless told otherwise.
pub const VERSION: &str = "v1.36.3";

/// How long the real control plane takes for what it does "a moment later".
const MOMENT: Duration = Duration::from_millis(5);

/// A step by which the authority of a server is changed, as EKS changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// A successor: everything in the cluster is told to trust it too, and it signs nothing yet.
    Append,
    /// The server's certificate is from the newest authority. Every connection ends, as when servers are replaced.
    Sign,
    /// It is from the oldest again.
    RollBack,
    /// Nothing in the cluster trusts any but the newest.
    Retire,
}

/// A server that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its certificates could not be made.
    #[error("cannot make certificates for embedded cluster {cluster}")]
    Certificates {
        /// The cluster.
        cluster: String,
        /// What went wrong.
        #[source]
        source: rcgen::Error,
    },
    /// Its keys could not be made.
    #[error("cannot make keys for embedded cluster {cluster}")]
    Keys {
        /// The cluster.
        cluster: String,
    },
    /// Its TLS settings do not hold together.
    #[error("cannot set up TLS for embedded cluster {cluster}")]
    Tls {
        /// The cluster.
        cluster: String,
        /// What went wrong.
        #[source]
        source: rustls::Error,
    },
    /// It cannot listen where it should.
    #[error("cannot listen on {address} for embedded cluster {cluster}")]
    Listen {
        /// The cluster.
        cluster: String,
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
}

/// What an embedded cluster is made of.
#[derive(Clone)]
pub struct ApiOptions {
    /// The cluster's name.
    pub name: String,
    /// The Kubernetes version it says it is, such as [`VERSION`].
    pub version: String,
    /// Where uids and generated names come from: the same seed gives the same ones.
    pub seed: String,
    /// Where the time comes from.
    pub clock: Clock,
    /// Whether somebody plays the kubelet: pods on a node then stop only when their grace is over or they are
    /// deleted with none.
    pub kubelet: bool,
}

impl ApiOptions {
    /// A cluster of this name, seeded with it.
    #[must_use]
    pub fn new(name: &str, clock: Clock) -> Self {
        Self {
            name: name.into(),
            version: VERSION.into(),
            seed: name.into(),
            clock,
            kubelet: false,
        }
    }
}

/// An embedded cluster's API server. Clones are the same server.
#[derive(Clone)]
pub struct Api(Arc<Server>);

pub(crate) struct Server {
    name: String,
    version: String,
    state: Mutex<State>,
    hooks: Arc<Hooks>,
    counters: Counters,
    faults: Faults,
    identity: Mutex<Identity>,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the control plane does a moment after a write.
    fn catch_up_later(self: &Arc<Self>) {
        let later = std::mem::take(&mut self.state().later);
        if later.is_empty() {
            return;
        }
        let server = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(MOMENT).await;
            let mut state = server.state();
            later.iter().for_each(|task| state.catch_up(task));
        });
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Starts a cluster with the namespaces every cluster has.
    ///
    /// # Errors
    /// If its keys or certificates cannot be made.
    pub fn new(options: ApiOptions) -> Result<Self, Error> {
        let identity = Identity::new(&options.name)?;
        let keys = token::Keys::new().map_err(|_| Error::Keys {
            cluster: options.name.clone(),
        })?;
        let hooks = Arc::new(Hooks::default());
        let mut state = State {
            kinds: kind::Kinds::new(),
            objects: store::Objects::new(),
            random: state::Random::new(&options.seed),
            clock: options.clock,
            hooks: hooks.clone(),
            later: Vec::new(),
            ca_pem: identity.ca_pem(),
            kubelet: options.kubelet,
            keys,
            longest_token: None,
        };
        state.bootstrap();
        let (counters, faults) = (Counters::default(), Faults::new());
        let state = Mutex::new(state);
        Ok(Self(Arc::new(Server {
            name: options.name,
            version: options.version,
            state,
            hooks,
            counters,
            faults,
            identity: Mutex::new(identity),
        })))
    }

    /// The cluster's name.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// An admin's client without sockets; counted and struck by faults as any other. Needs a running tokio.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        client::client(&self.0, Door::Front)
    }

    /// An admin's client for those who play the cluster: neither counted nor struck by faults.
    #[must_use]
    pub fn backstage(&self) -> kube::Client {
        client::client(&self.0, Door::Backstage)
    }

    /// Listens with TLS, until the answer is dropped.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn serve(&self, address: SocketAddr) -> Result<Served, Error> {
        let served = front::listen(&self.0, address).await;
        served.map_err(|source| Error::Listen {
            cluster: self.0.name.clone(),
            address,
            source,
        })
    }

    /// A kubeconfig with the admin's token for a server that listens.
    #[must_use]
    pub fn kubeconfig(&self, server: &str, cluster: &str, user: &str) -> String {
        let ca = STANDARD.encode(self.ca_pem());
        let token = self.admin_token();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {cluster}\n\
             clusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
             users:\n- name: {user}\n  user:\n    token: {token}\n\
             contexts:\n- name: {cluster}\n  context:\n    cluster: {cluster}\n    user: {user}\n"
        )
    }

    /// The admin's bearer token.
    #[must_use]
    pub fn admin_token(&self) -> String {
        self.0.state().keys.admin().to_owned()
    }

    /// The certificate authorities of the server, as PEM: two while one takes the place of the other.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.0.identity().ca_pem()
    }

    /// Goes on with a change of the server's authority.
    ///
    /// # Errors
    /// If a certificate cannot be made.
    pub fn change_authority(&self, step: Authority) -> Result<(), Error> {
        let mut identity = self.0.identity();
        match step {
            Authority::Append => identity.append()?,
            Authority::Sign => identity.sign_with(true)?,
            Authority::RollBack => identity.sign_with(false)?,
            Authority::Retire => identity.retire(),
        }
        drop(identity);
        self.publish_authorities();
        Ok(())
    }

    fn publish_authorities(&self) {
        let bundle = self.ca_pem();
        self.0.state().publish_authorities(bundle);
    }

    /// Tokens are granted for no longer than this from now on, whatever is asked for: 24 h on EKS and AKS.
    pub fn grant_at_most(&self, seconds: i64) {
        self.0.state().longest_token = Some(seconds);
    }

    /// Requests so far, by verb and resource.
    #[must_use]
    pub fn counters(&self) -> Counts {
        self.0.counters.now()
    }

    /// Counts from zero again.
    pub fn reset_counters(&self) {
        self.0.counters.reset();
    }

    /// What goes wrong, and when.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Direct reading of what is stored.
    #[must_use]
    pub fn store(&self) -> Store<'_> {
        Store(&self.0)
    }

    /// Lets an actor answer for the ports of pods.
    pub fn on_port_forward(&self, hook: Arc<dyn PortForward>) {
        self.0.hooks.on_port_forward(hook);
    }

    /// Lets an actor change or refuse pods about to be created, as an admission webhook would. What it returns
    /// as an error is the server's answer after `Internal error occurred: `.
    pub fn on_create_pod(&self, hook: CreatePod) {
        self.0.hooks.on_create_pod(hook);
    }

    /// Lets somebody else vouch for bearer tokens the cluster did not issue.
    pub(crate) fn on_token(&self, hook: Authenticator) {
        self.0.hooks.on_token(hook);
    }

    /// Lets an actor write the logs of pods.
    pub(crate) fn on_log(&self, hook: PodLog) {
        self.0.hooks.on_log(hook);
    }

    /// Makes every older resource version `410 Gone`.
    pub fn compact(&self) {
        self.0.state().objects.compact();
    }
}

/// The store, read without a request.
#[derive(Clone, Copy)]
pub struct Store<'a>(&'a Server);

impl std::fmt::Debug for Store<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("cluster", &self.0.name)
            .finish()
    }
}

impl Store<'_> {
    /// Objects of a resource such as `pods` or `deployments.apps`, in one namespace or in all.
    #[must_use]
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.0
            .state()
            .objects
            .list(resource, namespace)
            .cloned()
            .collect()
    }

    /// One object; the namespace is empty for those that have none.
    #[must_use]
    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0
            .state()
            .objects
            .get(resource, namespace, name)
            .cloned()
    }

    /// The newest resource version.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn version(&self) -> u64 {
        self.0.state().objects.version()
    }

    /// Every change from now on. One who lags behind is told so, and should list again.
    #[must_use]
    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.state().objects.events()
    }
}

#[cfg(test)]
mod tests;
