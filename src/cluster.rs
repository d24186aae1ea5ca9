//! One Kubernetes cluster: connect, read, apply, wait, grant access, forward a port.
//!
//! A [`Cluster`] is a name, an address and a counted HTTP client; it is cheap to clone and knows
//! nothing of meshes. Objects travel as JSON values, because most of them come from charts and go
//! back as they came. Connect with [`connect::connect`].
//!
//! | part | what it does |
//! | --- | --- |
//! | [`connect`] | kubeconfig as kubectl reads it, or server + CA + renewed token |
//! | [`kind`] | kinds, references and the paths they live at |
//! | [`object`] | find, list, apply, create, replace, merge, delete |
//! | [`identity`] | which cluster this is, what we may do in it, tokens |
//! | [`wait`] | watches with a deadline and a reason |
//! | [`access`] | reader accounts and remote secrets |
//! | [`forward`] | HTTP to a pod, through the API server |
//! | `lease`, `fence` | one run at a time, and nobody else writes meanwhile |
//! | [`preflight`] | the rights a command needs |
//! | [`subset`] | is what we want what is there? |

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{hint::Hint, name::ClusterName, wait::Reason};

pub(crate) mod access;
pub(crate) mod connect;
pub(crate) mod failure;
mod fence;
pub(crate) mod forward;
pub(crate) mod fresh;
pub(crate) mod identity;
pub(crate) mod kind;
pub(crate) mod lease;
#[cfg(feature = "cli")]
mod logs;
pub(crate) mod object;
pub(crate) mod preflight;
mod rules;
pub(crate) mod subset;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;
pub(crate) mod wait;
mod wire;

pub use connect::ConnectOptions;
pub(crate) use failure::{Failure, Recover, Transport};
pub(crate) use fence::Fence;
pub(crate) use identity::{Access, Bound, Token};
pub(crate) use kind::{Kind, Ref};
pub(crate) use object::{Created, Delete, Deleted, Manager};
pub(crate) use wire::Counts;

/// A connected cluster; cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>, Option<Fence>);

struct Inner {
    name: ClusterName,
    server: String,
    ca: Option<Vec<u8>>,
    insecure: Option<connect::Insecure>,
    client: kube::Client,
    timeout: Duration,
    /// It has answered something since this program knows it.
    answered: std::sync::atomic::AtomicBool,
    /// What time it last said it was, and when that was.
    date: Mutex<Option<(jiff::Timestamp, tokio::time::Instant)>>,
    counters: Arc<wire::Counters>,
    /// The ways to this API server that show a token of somebody else's.
    bare: connect::Bare,
    /// Kinds outside the static table, found by discovery once.
    kinds: Mutex<HashMap<Kind, kind::Place>>,
    /// How many requests may be under way at once: each has a connection to itself, and each of these its handshake.
    room: tokio::sync::Semaphore,
}

impl Cluster {
    /// The name this cluster has in the mesh.
    pub(crate) fn name(&self) -> &ClusterName {
        &self.0.name
    }

    /// The API server's address, as the kubeconfig says it.
    pub(crate) fn server(&self) -> &str {
        &self.0.server
    }

    /// The certificates the API server is trusted by, as PEM; none where the system's are used.
    pub(crate) fn ca(&self) -> Option<&[u8]> {
        self.0.ca.as_deref()
    }

    /// The same cluster for a run that holds Leases: it is written to only while they are fresh.
    pub(crate) fn fenced(&self, fence: &Fence) -> Self {
        Self(self.0.clone(), Some(fence.clone()))
    }

    /// What holds back writes, if anything.
    pub(crate) fn fence(&self) -> Option<&Fence> {
        self.1.as_ref()
    }

    /// What keeps others from reading or changing what is said to it, if that is missing.
    pub(crate) fn insecure(&self) -> Option<connect::Insecure> {
        self.0.insecure
    }

    /// What time it is there, as far as it has said so.
    pub(crate) fn server_time(&self) -> Option<jiff::Timestamp> {
        let (date, heard) = (*self.0.date.lock().ok()?)?;
        date.checked_add(heard.elapsed()).ok()
    }

    /// The client below, counted like everything else.
    pub(crate) fn client(&self) -> &kube::Client {
        &self.0.client
    }

    /// What was asked of the API server so far.
    pub(crate) fn requests(&self) -> Counts {
        self.0.counters.read()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", self.name())
            .field("requests", &self.requests())
            .field("server", &self.server())
            .finish_non_exhaustive()
    }
}

/// What could not be done, where, and with which object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A kubeconfig file could not be read or parsed.
    #[error("cannot use the kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it; never text from the file.
        reason: String,
    },
    /// None of the kubeconfig files is there.
    #[error("{}", missing(path))]
    NoKubeconfig {
        /// The first of them; empty, where none was named.
        path: String,
    },
    /// No such context.
    #[error("no context {context:?} in {files}")]
    NoContext {
        /// The context asked for.
        context: String,
        /// The files that were read.
        files: String,
        /// The contexts there are.
        known: Vec<String>,
    },
    /// The context is there but cannot be used.
    #[error("cluster {cluster}: context {context:?} ({place}): {reason}")]
    Context {
        /// The cluster's name in the mesh.
        cluster: ClusterName,
        /// The context.
        context: String,
        /// File and line.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The program that gives credentials failed.
    #[error("cluster {cluster}: the credential plugin {command:?} {reason}")]
    Plugin {
        /// The cluster.
        cluster: ClusterName,
        /// The program.
        command: String,
        /// Why it gave no credentials.
        reason: String,
        /// How to get it, where that is the way out.
        hint: Option<Box<Hint>>,
    },
    /// The parts of the connection do not fit together: a bad address, certificate or key.
    #[error("cluster {cluster}: cannot set up a client for {server}: {reason}")]
    Connect {
        /// The cluster.
        cluster: ClusterName,
        /// Its address.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// A request for one object or kind failed.
    #[error("cluster {cluster}: cannot {verb} {object}")]
    Call {
        /// The cluster.
        cluster: ClusterName,
        /// What was tried.
        verb: Verb,
        /// With which object.
        object: String,
        /// Why it failed.
        #[source]
        source: Box<Failure>,
    },
    /// A kind that neither the table nor the API server knows.
    #[error("cluster {cluster}: the API server does not serve {kind}")]
    UnknownKind {
        /// The cluster.
        cluster: ClusterName,
        /// The kind.
        kind: Kind,
    },
    /// An object that lacks what every object must have.
    #[error("cluster {cluster}: an object to {verb} has no {missing}")]
    Malformed {
        /// The cluster.
        cluster: ClusterName,
        /// What was to be done with it.
        verb: Verb,
        /// The missing field.
        missing: &'static str,
    },
    /// A condition did not become true in time.
    #[error("cluster {cluster}: timed out after {} s waiting for {object}: {reason}", waited.as_secs())]
    NotInTime {
        /// The cluster.
        cluster: ClusterName,
        /// What was waited for.
        object: Box<Ref>,
        /// How long.
        waited: Duration,
        /// Why it is not yet so.
        reason: Reason,
    },
    /// A condition cannot become true any more.
    #[error("cluster {cluster}: {object} will not become ready: {reason}")]
    NeverReady {
        /// The cluster.
        cluster: ClusterName,
        /// What was waited for.
        object: Box<Ref>,
        /// Why not.
        reason: Reason,
    },
    /// A request to a pod failed on the way.
    #[error("cluster {cluster}: cannot reach port {port} of pod {pod}")]
    Forward {
        /// The cluster.
        cluster: ClusterName,
        /// `namespace/name`.
        pod: String,
        /// The port in the pod.
        port: u16,
        /// Why it failed.
        #[source]
        source: Box<Failure>,
    },
    /// The lease was lost to somebody else between two steps.
    #[error("cluster {cluster}: the lease was taken over by {who}")]
    LeaseLost {
        /// The cluster.
        cluster: ClusterName,
        /// Who has it now.
        who: String,
    },
}

/// So many contexts are listed.
const MANY: usize = 20;

fn missing(path: &str) -> String {
    match path {
        "" => "there is no kubeconfig".to_owned(),
        path => format!("there is no kubeconfig {path}"),
    }
}

impl Error {
    /// Is it worth trying again?
    pub(crate) fn recover(&self) -> Recover {
        match self {
            Self::Call { source, .. } | Self::Forward { source, .. } => source.recover(),
            Self::UnknownKind { .. } | Self::NotInTime { .. } => Recover::Backoff,
            _ => Recover::Never,
        }
    }

    /// What to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Plugin { hint, .. } => hint.as_deref().cloned(),
            Self::NoKubeconfig { .. } => Some(Hint::note(
                "name another file with --kubeconfig FILE or in KUBECONFIG",
            )),
            Self::NoContext { files, known, .. } => Some(Hint::note(match known.len() {
                0 => format!("{files} has no contexts"),
                n if n > MANY => format!(
                    "{files} has {n} contexts, such as {}; all: kubectl config get-contexts",
                    known[..MANY].join(", ")
                ),
                _ => format!("{files} has the contexts {}", known.join(", ")),
            })),
            _ => None,
        }
    }

    /// What the API server answered, by its number, where it did.
    pub(crate) fn code(&self) -> Option<u16> {
        self.failure().and_then(Failure::code)
    }

    /// The failed exchange with the API server, where there was one.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Call { source, .. } | Self::Forward { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What was tried when a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    List,
    Apply,
    Create,
    Replace,
    Merge,
    Delete,
    Watch,
    Review,
    Identify,
    IssueToken,
    Discover,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Apply => "apply",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Merge => "change",
            Self::Delete => "delete",
            Self::Watch => "watch",
            Self::Review => "review access to",
            Self::Identify => "identify",
            Self::IssueToken => "issue a token for",
            Self::Discover => "discover",
        })
    }
}
