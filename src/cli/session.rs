//! From arguments to a mesh whose clusters can be spoken to: what every command begins with.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use futures::future;
use serde_json::Value;

use super::{
    Frame,
    args::{Places, Target},
    charts,
    error::{Exit, Failure},
};
use crate::{
    aws::{Members, eks, gateway, preflight::Finding},
    chart::{self, FetchOptions, Source, lock::Lock},
    cluster::{Cluster, ConnectOptions, Kind, Ref, connect},
    engine::{Clock, journal::Journal},
    hint::Hint,
    manifest::Texts,
    name::ClusterName,
    observe::{CLAIM, Layout, claim},
    pki::Vault,
    plan::{
        Desired, Refusal,
        desire::{Additions, Charts},
        leave::Leave,
    },
    resolve::Resolver,
    sandbox::{self, Endpoints, Sandbox},
    spec::{Member, Mesh, Values},
};

mod admission;
mod balancers;
mod members;
mod reach;

pub(crate) use members::{alone, found_by, is_written_down, mesh, read as read_mesh, typed};
use reach::reach;

/// A mesh, and everything at hand to work on it.
pub(crate) struct Session {
    /// The mesh.
    pub(crate) mesh: Mesh,
    /// The members' API servers.
    pub(crate) clusters: BTreeMap<ClusterName, Cluster>,
    /// How each member is found again.
    pub(crate) reaches: BTreeMap<ClusterName, String>,
    /// Where keys rest.
    pub(crate) vault: Arc<Vault>,
    /// Where things rest.
    pub(crate) places: Places,
    /// The members as AWS knows them.
    pub(crate) aws: Members,
    /// For gateway names.
    pub(crate) resolver: Resolver,
    /// How clusters are connected to.
    pub(crate) connect: ConnectOptions,
    /// The members are embedded.
    pub(crate) embedded: bool,
    /// What another command must be told to find the same mesh.
    pub(crate) again: String,
    /// Our own manifests.
    pub(crate) texts: Texts,
    /// Where charts come from.
    charts: Source,
    /// How they are fetched, and which of them were used before.
    fetch: FetchOptions,
    /// Embedded clusters of our own; they end with the command.
    sandbox: Option<Sandbox>,
}

/// What the names on the command line are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whom<'a> {
    /// All the members there are to be.
    All(&'a [String]),
    /// Some members of a mesh that is there, or none to mean all.
    Some(&'a [String]),
    /// Members whose API servers are gone for good.
    Dead(&'a [String]),
}

impl<'a> Whom<'a> {
    fn names(self) -> &'a [String] {
        match self {
            Self::All(names) | Self::Some(names) | Self::Dead(names) => names,
        }
    }
}

impl Session {
    /// Finds the mesh a command is about and connects to its members.
    pub(crate) async fn open(
        whom: Whom<'_>,
        target: &Target,
        frame: &Frame,
    ) -> Result<Self, Failure> {
        let (own, endpoints) = embedded(whom.names(), target, frame).await?;
        let connect = connect_options(target, frame, endpoints.as_ref());
        let mesh = members::mesh(whom, target, frame, &connect).await?;
        let region = frame.aws.env().region.as_deref();
        let hints = &frame.hints;
        hints.learn(target, endpoints.is_some(), &mesh, &connect, region);
        let places = frame.places(endpoints.is_some(), &mesh.id)?;
        let dead = match whom {
            Whom::Dead(names) => typed(&mesh, names)?,
            _ => vec![],
        };
        reach::buried(&mesh, &dead, frame, &connect).await?;
        let clusters = clusters(&mesh, &dead, frame, &connect).await?;
        let (charts, fetch) = self::charts(target, endpoints.as_ref(), &mesh, &places, frame)?;
        let resolver = match (&endpoints, frame.environment.var("MESHLINK_DNS")) {
            (Some(endpoints), _) => Resolver::with_servers(vec![endpoints.dns]),
            (None, Some(servers)) => Resolver::with_servers(dns_servers(servers)?),
            (None, None) => Resolver::system(),
        };
        let contexts = connect::contexts(&connect).unwrap_or_default();
        let contexts: Vec<_> = contexts.iter().map(eks::Context::from).collect();
        Ok(Self {
            aws: Members::new(frame.aws.clone(), &mesh, &contexts),
            vault: Arc::new(Vault::open(&places.vault).map_err(|e| Failure::failed(&e))?),
            resolver: resolver.map_err(|e| Failure::failed(&e))?,
            texts: texts(frame)?,
            reaches: mesh
                .clusters
                .iter()
                .map(|m| (m.name.clone(), members::found_by(&m.reach)))
                .collect(),
            embedded: endpoints.is_some(),
            again: target.again(endpoints.is_some()),
            sandbox: own,
            mesh,
            clusters,
            places,
            connect,
            charts,
            fetch,
        })
    }

    /// Whether the clusters end with this command.
    pub(crate) fn is_passing(&self) -> bool {
        self.sandbox.is_some()
    }

    /// The charts of a join, side by side; what differs from what was used before is refused.
    pub(crate) async fn charts(&self) -> Result<Charts, Failure> {
        fetched(&self.charts, &self.mesh, &self.fetch).await
    }

    /// Writes down which charts the mesh is made of.
    pub(crate) fn pin(&self, frame: &Frame, desired: &Desired) {
        charts::pin(frame, self.fetch.lock.as_ref(), desired);
    }

    /// What the owner adds to the charts' values, and what AWS adds; with what was found on the way.
    pub(crate) async fn additions(&self) -> Result<(Additions, Vec<Finding>), Failure> {
        let (exposure, findings) = self.exposure().await?;
        let additions = Additions {
            istiod: istiod_values(&self.mesh.istio.values)?,
            gateway: owner_values(&self.mesh.gateway.values)?,
            exposure,
        };
        Ok((additions, findings))
    }

    /// What the gateways' Services must say on AWS, and what was found there; nothing elsewhere.
    pub(crate) async fn exposure(
        &self,
    ) -> Result<(BTreeMap<ClusterName, Value>, Vec<Finding>), Failure> {
        if !self.aws.any() {
            return Ok(Default::default());
        }
        let member = |(name, cluster): (&ClusterName, &Cluster)| {
            let (place, who) = self.aws.of(name);
            gateway::Member {
                cluster: cluster.clone(),
                place,
                who,
            }
        };
        let members: Vec<_> = self.clusters.iter().map(member).collect();
        let now = || std::time::SystemTime::from(jiff::Timestamp::now());
        let derived = gateway::derive(self.aws.aws(), &members, &self.mesh.gateway, now).await;
        if let Some(failure) = self.underived(&derived.errors).await {
            return Err(failure);
        }
        let named =
            |name: &ClusterName| Some((name.clone(), derived.values.get(name.as_str())?.clone()));
        let values = self.clusters.keys().filter_map(named).collect();
        Ok((values, derived.findings))
    }

    /// Every reason why a gateway has no values.
    async fn underived(&self, errors: &[gateway::Error]) -> Option<Failure> {
        let mut all: Option<Failure> = None;
        for error in errors {
            let failure = match error {
                gateway::Error::Nodes { source, .. } => self.unanswered(source).await,
                gateway::Error::Undecided(_) | gateway::Error::NoClass { .. } => {
                    Failure::new(Exit::Refused, error)
                }
                _ => Failure::failed(error),
            };
            let failure = error.hint().into_iter().fold(failure, Failure::hint);
            all = Some(match all {
                Some(all) => all.and(failure),
                None => failure,
            });
        }
        all
    }

    /// How remote secrets are laid out: as the mesh was begun, else by its size.
    pub(crate) fn layout(&self, observed: &crate::observe::Observed) -> Layout {
        let recorded = observed
            .clusters
            .values()
            .find_map(|s| s.record.as_ref().map(|r| r.layout));
        recorded.unwrap_or_else(|| Layout::for_size(self.mesh.clusters.len()))
    }

    /// The folder of the journal and of the mesh as it was last written.
    pub(crate) fn state(&self) -> PathBuf {
        self.places
            .journal
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default()
    }

    /// The journal, for appending.
    pub(crate) fn journal(&self) -> Result<Journal, Failure> {
        Journal::open(&self.state()).map_err(|e| Failure::failed(&e))
    }

    /// A mesh of this name that stands elsewhere: two under one name would share a root.
    pub(crate) async fn namesake(&self) -> Option<Refusal> {
        let path = self.state().join(members::FILE);
        let known = members::read(&path).ok()?;
        let here = |m: &Member| self.mesh.clusters.iter().any(|n| n.name == m.name);
        if known.clusters.is_empty() || known.clusters.iter().any(here) {
            return None;
        }
        let stands = known.clusters.iter().map(|m| self.stands(m));
        let stands = future::join_all(stands).await.contains(&true);
        stands.then(|| members::namesake(&self.mesh, &known, &path))
    }

    /// Whether a cluster is bound to this mesh; one that cannot be asked counts as if it were,
    /// unless it was embedded and is gone.
    async fn stands(&self, member: &Member) -> bool {
        let aws = self.aws.aws();
        let istio = self.mesh.istio.namespace.as_str();
        let place = Ref::namespaced(&Kind::CONFIG_MAP, istio, CLAIM);
        let Ok(cluster) = reach(&member.name, &member.reach, aws, &self.connect).await else {
            return !self.embedded;
        };
        match cluster.find(&place).await {
            Ok(found) => found.is_some_and(|map| claim(&map).mesh == self.mesh.id.as_str()),
            Err(_) => !self.embedded,
        }
    }

    /// Strikes those who left from what is written down.
    pub(crate) fn forget(&self, how: &Leave) -> Result<(), Failure> {
        let known = members::read(&self.state().join(members::FILE));
        self.remember(&how.rest(known.as_ref().unwrap_or(&self.mesh)))
    }

    /// Writes the mesh down, so that later commands need not be told its members.
    pub(crate) fn remember(&self, mesh: &Mesh) -> Result<(), Failure> {
        let text = mesh.to_yaml().map_err(|e| Failure::failed(&e))?;
        // It lies beside the journal, whose folder may not be there yet.
        self.journal()?;
        let path = self.state().join(members::FILE);
        let fresh = path.with_extension("new");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|e| {
                let state = self.state().display().to_string();
                Failure::failed(&e).hint(Hint::command(["ls", "-ld", &state]))
            })
    }
}

/// Where the charts of a mesh come from, and how they are fetched. The sandbox's own charts change with the program and
/// are not pinned.
pub(crate) fn charts(
    target: &Target,
    endpoints: Option<&Endpoints>,
    mesh: &Mesh,
    places: &Places,
    frame: &Frame,
) -> Result<(Source, FetchOptions), Failure> {
    let (text, pinned) = match (&target.charts, endpoints) {
        (Some(source), _) => (source, true),
        (None, Some(endpoints)) => (&endpoints.charts, false),
        (None, None) => (&mesh.istio.charts, true),
    };
    let source = text.parse().map_err(|e| charts::failure(&e))?;
    let mut fetch = charts::options(frame, &source, Some(&places.cache), target.offline)?;
    if pinned {
        let state = places.journal.with_file_name("");
        let path = charts::lock_path(target.file.as_deref(), &state);
        fetch.lock = Some(Lock::read(&path).map_err(|e| charts::failure(&e))?);
    }
    Ok((source, fetch))
}

/// The charts of a join, side by side.
pub(crate) async fn fetched(
    source: &Source,
    mesh: &Mesh,
    fetch: &FetchOptions,
) -> Result<Charts, Failure> {
    let one = async |name| {
        let fetched = chart::fetch(source, name, &mesh.istio.version, fetch).await;
        fetched.map(Arc::new)
    };
    let (base, istiod, gateway) = tokio::try_join!(one("base"), one("istiod"), one("gateway"))
        .map_err(|e| charts::failure(&e))?;
    Ok(Charts {
        base,
        istiod,
        gateway,
    })
}

/// Tells the time, for everything below.
pub(crate) fn clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}

/// A running sandbox, or one of our own; none where real clusters are meant.
pub(crate) async fn embedded(
    names: &[String],
    target: &Target,
    frame: &Frame,
) -> Result<(Option<Sandbox>, Option<Endpoints>), Failure> {
    if !target.sandbox {
        // Embedded clusters may be meant all the same: by the EKS their AWS has.
        let running = frame
            .environment
            .sandbox_state()
            .and_then(|s| sandbox::attach(&s));
        let asked = frame.environment.var("AWS_ENDPOINT_URL");
        return Ok((
            None,
            running.filter(|e| asked.is_some_and(|url| e.is_aws(url))),
        ));
    }
    let state = frame.environment.sandbox_state().ok_or_else(|| {
        Failure::from_causes(
            Exit::Failed,
            vec!["there is no place for embedded clusters: HOME is not set".into()],
        )
    })?;
    if let Some(running) = sandbox::attach(&state) {
        return Ok((None, Some(running)));
    }
    let options = match names {
        [] => sandbox::Options::count(2, &state),
        names => sandbox::Options::named(names.iter().map(|n| members::bare(n)), &state),
    };
    frame.screen.say(&format!(
        "No sandbox is running: this command brings its own {} embedded clusters,\nwhich end with it. To keep some: meshlink sandbox\n",
        options.clusters.len()
    ));
    let own = Sandbox::start(options)
        .await
        .map_err(|e| Failure::failed(&e))?;
    let endpoints = own.endpoints().clone();
    Ok((Some(own), Some(endpoints)))
}

pub(crate) fn connect_options(
    target: &Target,
    frame: &Frame,
    endpoints: Option<&Endpoints>,
) -> ConnectOptions {
    let kubeconfig = match endpoints.filter(|_| target.sandbox) {
        Some(endpoints) => vec![endpoints.kubeconfig.clone()],
        None => frame.environment.kubeconfig(target.kubeconfig.as_deref()),
    };
    ConnectOptions {
        kubeconfig,
        interactive: frame.screen.interactive,
        proxies: frame.environment.proxies(),
        ..ConnectOptions::default()
    }
}

/// Connects to every member, side by side; every failure is told, not only the first.
async fn clusters(
    mesh: &Mesh,
    dead: &[ClusterName],
    frame: &Frame,
    options: &ConnectOptions,
) -> Result<BTreeMap<ClusterName, Cluster>, Failure> {
    let one = |member: &crate::spec::Member| {
        let member = member.clone();
        async move {
            let reached = reach(&member.name, &member.reach, &frame.aws, options).await;
            reached.map(|c| (member.name, c)).map_err(Failure::from)
        }
    };
    let living = mesh.clusters.iter().filter(|m| !dead.contains(&m.name));
    let results = future::join_all(living.map(one)).await;
    let mut connected = BTreeMap::new();
    let mut failure: Option<Failure> = None;
    for result in results {
        match result {
            Ok((name, cluster)) => drop(connected.insert(name, cluster)),
            Err(other) => {
                failure = Some(match failure {
                    Some(failure) => failure.and(other),
                    None => other,
                });
            }
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    eks::twins(connected.values()).map_err(|e| {
        let failure = Failure::new(Exit::Refused, &e);
        e.hint().into_iter().fold(failure, Failure::hint)
    })?;
    Ok(connected)
}

/// A revision would give istiod, its configuration and its webhooks other names.
pub(crate) fn istiod_values(values: &Values) -> Result<Value, Failure> {
    let all = owner_values(values)?;
    match all["revision"].as_str().filter(|r| !r.is_empty()) {
        None => Ok(all),
        Some(revision) => {
            let text = format!(
                "istio.values gives istiod the revision {revision:?}, which is not supported: leave it out"
            );
            Err(Failure::from_causes(Exit::InvalidMesh, vec![text]))
        }
    }
}

/// The owner's values, as Helm reads and layers them.
pub(crate) fn owner_values(values: &Values) -> Result<Value, Failure> {
    let failed = |e: chart::Error| Failure::new(Exit::InvalidMesh, &e);
    let mut all = chart::values::merge_files(&values.files).map_err(failed)?;
    chart::values::overlay(&mut all, values.inline.clone());
    Ok(Value::Object(all))
}

pub(crate) fn texts(frame: &Frame) -> Result<Texts, Failure> {
    match frame.environment.var("MESHLINK_MANIFESTS") {
        Some(folder) => Texts::with_folder(folder.as_ref()).map_err(|e| Failure::failed(&e)),
        None => Ok(Texts::default()),
    }
}

fn dns_servers(text: &str) -> Result<Vec<std::net::SocketAddr>, Failure> {
    let one = |server: &str| {
        let address = server.parse().or_else(|_| {
            server
                .parse::<std::net::IpAddr>()
                .map(|ip| std::net::SocketAddr::new(ip, 53))
        });
        address.map_err(|_| {
            Failure::usage(format!(
                "MESHLINK_DNS: {server:?} is no address of a name server"
            ))
        })
    };
    text.split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(one)
        .collect()
}
