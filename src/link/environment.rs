//! What a run is given besides the mesh: folders, connections, the clock. The library reads none of it by itself.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    aws::{Aws, Env},
    cluster::{ConnectOptions, connect::Now},
    engine::{Clock, crashpoint::Crash},
    manifest::Texts,
    name::{ClusterName, MeshId},
    plan::Refusal,
};

/// What a run is given besides the mesh. [`Environment::new`] is enough for a kubeconfig and folders of one's own;
/// every field can be set afterwards.
#[derive(Clone)]
pub struct Environment {
    /// Where keys, journals and charts are kept.
    pub folders: Folders,
    /// The kubeconfig files, way out to the network and time limits that clusters are connected with.
    pub connect: ConnectOptions,
    /// Credentials and region for AWS; by default nothing is known and nothing is asked.
    pub aws: Aws,
    /// Name servers that resolve the gateways' names; the system's if there are none here.
    pub name_servers: Vec<SocketAddr>,
    /// Where the charts come from, and how they are fetched.
    pub charts: ChartSource,
    /// The manifests of meshlink's own objects.
    pub manifests: Texts,
    /// The clusters are embedded ones, which nobody will miss: every one of them, once they are connected to.
    pub(crate) embedded: bool,
    /// Embedded clusters that may be meant.
    pub(crate) sandbox: Option<Sandbox>,
    /// Variables that a program which signs may be given, by name.
    pub(crate) variables: Arc<BTreeMap<String, String>>,
    /// Checks of AWS that may fail, by name.
    pub ignored_checks: Vec<String>,
    /// How long anything may take to become ready.
    pub timeout: Duration,
    /// Who runs this, for whoever finds a Lease held. Two that are called the same exclude each other all the same.
    pub operator: String,
    /// How long to wait for another run to end; not at all by default.
    pub wait_lock: Duration,
    /// Another run's Lease is taken away from it, after asking for consent. Whatever that run still does is not undone.
    pub break_lease: bool,
    /// The command, for the journal. It must hold no secret.
    pub command: String,
    /// Cancelled to stop early: what is under way is given up, nothing new is begun.
    pub cancel: CancellationToken,
    /// Set while something is changed that should come to a good end: whoever cancels had better wait for it.
    pub changing: Arc<AtomicBool>,
    /// The time.
    pub clock: Clock,
    /// Receives what a person should know while nothing else is shown.
    pub notices: Arc<dyn Fn(&str) + Send + Sync>,
    /// Where the process is to die, for tests.
    pub(crate) crash: Crash,
}

/// Embedded clusters that may be meant. Whether they are is told by where the members' names lead.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    /// What leads to them. Every other cluster is a real one, whatever it is called.
    pub(crate) kubeconfig: PathBuf,
    /// Names mean these clusters, and no others.
    pub(crate) only: bool,
    /// What is used where the members are others.
    pub(crate) real: Real,
}

/// What is used for real clusters and not for embedded ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Real {
    pub(crate) folders: Folders,
    pub(crate) name_servers: Vec<SocketAddr>,
    pub(crate) charts: ChartSource,
}

/// Folders that outlive a run. Each holds what it is for of all meshes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// Keys and certificates, a folder for each mesh. Losing it means that no cluster can be added any more.
    pub keys: PathBuf,
    /// Journals and the members of each mesh as they were last joined.
    pub state: PathBuf,
    /// What can be fetched again.
    pub cache: PathBuf,
}

/// Where the things of one mesh are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Its keys and certificates.
    pub(crate) vault: PathBuf,
    /// The folder of its journal and of its record.
    pub(crate) state: PathBuf,
}

impl Folders {
    /// All in one folder.
    pub fn below(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            keys: folder.join("keys"),
            state: folder.join("state"),
            cache: folder.join("cache"),
        }
    }

    /// The meshes that were joined from this machine, by name.
    #[cfg(feature = "cli")]
    pub(crate) fn recorded(&self) -> Vec<String> {
        let found = std::fs::read_dir(&self.state)
            .into_iter()
            .flatten()
            .flatten();
        let meshes = found.filter(|entry| entry.path().join(super::record::FILE).is_file());
        let mut names: Vec<_> = meshes
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn places(&self, mesh: &MeshId) -> Places {
        Places {
            vault: self.keys.join(mesh.as_str()),
            state: self.state.join(mesh.as_str()),
        }
    }
}

impl Places {
    /// What was done to the mesh, a line for each event.
    #[cfg(feature = "cli")]
    pub(crate) fn journal(&self) -> PathBuf {
        self.state.join("journal.jsonl")
    }
}

/// Where charts come from, and how they are fetched.
#[derive(Debug, Clone, Default)]
pub struct ChartSource {
    /// Repository URL, `oci://…`, folder or archive; what the mesh names if there is none here.
    pub from: Option<String>,
    /// Only what was fetched before, folders and archives.
    pub offline: bool,
    /// Charts that change with the program are not compared with those of an earlier run.
    pub unpinned: bool,
    /// The folder of the lock file; that of the mesh's state if there is none here.
    pub lock_folder: Option<PathBuf>,
    /// Files with logins.
    pub logins: Logins,
}

/// Files with logins for charts, of those who use them.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// Of Docker's form: `config.json`, Helm's `registry/config.json`.
    pub registries: Vec<PathBuf>,
    /// Of Helm's `repositories.yaml`.
    pub repositories: Option<PathBuf>,
}

impl Environment {
    /// For clusters of these kubeconfig files, the first one winning. `clock` tells the time, for example
    /// `jiff::Timestamp::now`.
    pub fn new(
        folders: Folders,
        kubeconfig: Vec<PathBuf>,
        clock: impl Fn() -> jiff::Timestamp + Send + Sync + 'static,
    ) -> Self {
        let clock: Clock = Arc::new(clock);
        Self {
            folders,
            connect: ConnectOptions {
                kubeconfig,
                now: Now(clock.clone()),
                ..ConnectOptions::default()
            },
            aws: Aws::new(Env::default()),
            name_servers: vec![],
            charts: ChartSource::default(),
            manifests: Texts::default(),
            embedded: false,
            sandbox: None,
            variables: Arc::default(),
            ignored_checks: vec![],
            timeout: Duration::from_secs(15 * 60),
            operator: format!("process {}", std::process::id()),
            wait_lock: Duration::ZERO,
            break_lease: false,
            command: "library".to_owned(),
            cancel: CancellationToken::new(),
            changing: Arc::default(),
            clock,
            notices: Arc::new(|_| ()),
            crash: Crash::default(),
        }
    }

    /// For running embedded clusters, with keys and journals beside them.
    #[cfg(any(test, feature = "sandbox"))]
    pub fn of_sandbox(
        endpoints: &istio_sandbox::Endpoints,
        clock: impl Fn() -> jiff::Timestamp + Send + Sync + 'static,
    ) -> Self {
        let folders = Folders::below(endpoints.state_dir.join("meshlink"));
        Self {
            name_servers: vec![endpoints.dns],
            charts: ChartSource {
                from: Some(endpoints.charts.clone()),
                unpinned: true,
                ..ChartSource::default()
            },
            embedded: true,
            sandbox: Some(Sandbox {
                kubeconfig: endpoints.kubeconfig.clone(),
                only: true,
                real: Real::default(),
            }),
            ..Self::new(folders, vec![endpoints.kubeconfig.clone()], clock)
        }
    }

    /// For members of which some are embedded and others are not.
    pub(super) fn for_members(
        self,
        embedded: &[&ClusterName],
        real: &[&ClusterName],
    ) -> Result<Self, Refusal> {
        let refuse = |name: &ClusterName, reason: String| Refusal {
            cluster: Some(name.clone()),
            reason,
            hints: vec![],
        };
        match (&self.sandbox, embedded, real) {
            (_, [one, ..], [other, ..]) => {
                let text = format!("{one} is an embedded cluster, and {other} is not");
                Err(refuse(other, text))
            }
            (Some(sandbox), [], [other, ..]) if sandbox.only => {
                let text = "it is not an embedded cluster, and --sandbox means no others";
                Err(refuse(other, text.to_owned()))
            }
            (Some(Sandbox { real, .. }), [], [_, ..]) => Ok(Self {
                embedded: false,
                folders: real.folders.clone(),
                name_servers: real.name_servers.clone(),
                charts: real.charts.clone(),
                sandbox: None,
                ..self
            }),
            _ => Ok(Self {
                embedded: !embedded.is_empty(),
                ..self
            }),
        }
    }

    pub(crate) fn say(&self, text: &str) {
        (self.notices)(text);
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("folders", &self.folders)
            .field("kubeconfig", &self.connect.kubeconfig)
            .field("embedded", &self.embedded)
            .finish_non_exhaustive()
    }
}
