//! The front door: everything that changes a mesh goes through [`Meshlink`].
//!
//! [`Meshlink::open`] connects to the members, [`Meshlink::plan`] reads them and says what a [`Change`] would do, and
//! [`PlannedChange::apply`] does it. What makes a change safe is written once, in `apply`: rights and consent before
//! the first write, a Lease of every member, another look under the Leases, the steps, the proof, the release.
//!
//! | part | what it is |
//! | --- | --- |
//! | `environment` | what a run is given besides the mesh |
//! | `selection` | which mesh and which members a command means |
//! | `reach` | the way to one cluster: by context, or by what EKS says of it |
//! | `look` | what is read, and the plan that follows from it |
//! | `diagnosis` | what is read for the doctor |
//! | `bundle` | one archive of it all, and that archive read again |
//! | `renewal` | what is read for a renewal, and the table of what ends |
//! | `membership` | whether those that are looked at are members of this mesh |
//! | `apply` | doing a plan: the protocol |
//! | `caution` | how members are spoken to, and what time it is there |
//! | `record` | what this machine remembers of a mesh |
//! | `admission`, `authorities`, `balancers`, `charts` | what AWS and charts add to all that |
//! | `signer` | who signs intermediates, as the mesh file names them |
//! | `rotation` | how far a change of root has come |
//! | `failure` | how something does not end well |
//! | `versions` | which versions of Istio the members' proxies run |
//! | `workloads` | what is read of the members' pods |
//! | `within` | the renewer, which runs in one cluster and knows no other member but by its remote secrets |

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use crate::{
    aws::Members,
    chart::{FetchOptions, Source},
    cluster::Cluster,
    name::ClusterName,
    observe::{Observed, Unreachable},
    pki::Vault,
    plan::Plan,
    report::Report,
    resolve::Resolver,
    spec::Mesh,
    verify::Verdict,
};

mod admission;
mod adoption;
mod apply;
mod authorities;
mod balancers;
#[cfg(feature = "cli")]
pub(crate) mod bundle;
mod caution;
mod change;
pub(crate) mod charts;
#[cfg(feature = "cli")]
pub(crate) mod diagnosis;
mod environment;
mod failure;
mod look;
mod membership;
pub(crate) mod reach;
pub(crate) mod record;
mod renewal;
#[cfg(feature = "cli")]
pub(crate) mod rotation;
#[cfg(feature = "cli")]
pub(crate) mod selection;
pub(crate) mod signer;
#[cfg(feature = "cli")]
mod versions;
#[cfg(feature = "cli")]
pub(crate) mod within;
pub(crate) mod workloads;

#[cfg(feature = "cli")]
pub(crate) use admission::not_reached;
pub use change::{Affected, Agreed, Change, Consent, Question};
pub(crate) use environment::Places;
pub use environment::{ChartSource, Environment, Folders, Logins};
#[cfg(feature = "cli")]
pub(crate) use environment::{Real, Sandbox};
pub use failure::{Failure, Kind, Problem};
use look::{Inputs, Look};
use reach::Finder;

/// A mesh whose members are connected to.
#[derive(Clone)]
pub struct Meshlink {
    pub(crate) mesh: Mesh,
    /// The members' API servers, without those who are dead.
    pub(crate) clusters: BTreeMap<ClusterName, Cluster>,
    /// The members there is no way to, or which were not there when a change was planned.
    pub(crate) unreachable: BTreeMap<ClusterName, Unreachable>,
    pub(crate) environment: Environment,
    pub(crate) places: Places,
    pub(crate) vault: Arc<Vault>,
    /// The members as AWS knows them.
    pub(crate) aws: Members,
    /// Resolves the gateways' names.
    pub(crate) resolver: Resolver,
    finder: Arc<Finder>,
    /// Where charts come from, how they are fetched, and which of them were used before.
    charts: (Source, FetchOptions),
}

/// What would be done to a mesh, and can be done with [`PlannedChange::apply`].
#[derive(Debug)]
pub struct PlannedChange<'a> {
    /// With those members alone that could be read.
    link: Cow<'a, Meshlink>,
    change: Change,
    inputs: Inputs,
    look: Look,
}

impl Meshlink {
    /// Connects to the members of a mesh. Nothing is changed, in the clusters or on this machine.
    ///
    /// # Errors
    ///
    /// That no member can be connected to: each is named, with what to do about it. So is a vault or a lock of charts
    /// that cannot be used. Where some can be connected to, the others are told of by whatever is done then.
    ///
    /// # Caveats
    ///
    /// A process needs one TLS provider: call `rustls::crypto::aws_lc_rs::default_provider().install_default()`
    /// before, once.
    ///
    /// # Example
    ///
    /// See `examples/join.rs`, or without any cluster:
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use meshlink::{Agreed, Change, Environment, Folders, Meshlink, spec::Mesh};
    ///
    /// let mesh = Mesh::named(&["eks-1".into(), "eks-2".into()])?;
    /// let environment = Environment::new(
    ///     Folders::below("/var/lib/meshlink"),
    ///     vec!["/etc/kubeconfig".into()],
    ///     jiff::Timestamp::now,
    /// );
    /// let link = Meshlink::open(mesh, environment).await?;
    /// let change = link.plan(Change::Join).await?;
    /// for step in &change.plan().steps {
    ///     println!("{}", step.describe);
    /// }
    /// let report = change.apply(&Agreed, std::sync::Arc::new(|_: &_| ())).await?;
    /// assert!(report.failed().next().is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(mut mesh: Mesh, environment: Environment) -> Result<Self, Failure> {
        record::go_by_table(&mut mesh)?;
        let finder = Finder::new(&environment);
        Self::open_without(&[], mesh, environment, finder).await
    }

    /// As [`Meshlink::open`], without members that are said to be dead; one that answers all the same is refused.
    pub(crate) async fn open_without(
        dead: &[ClusterName],
        mut mesh: Mesh,
        environment: Environment,
        finder: Finder,
    ) -> Result<Self, Failure> {
        mesh.trust.authority.settle();
        let named = signer::named(&mesh, &environment.variables, (environment.clock)())?;
        let say = &*environment.notices;
        finder.ensure_dead(&mesh, dead, say).await?;
        let living = mesh.clusters.iter().filter(|m| !dead.contains(&m.name));
        let (clusters, unreachable) = finder.resolve(living).await?;
        let environment = finder.settle(environment, &clusters)?;
        let places = environment.folders.places(&mesh.id);
        let charts = charts::source(&environment, &mesh, &places.state)?;
        let resolver = match environment.name_servers.as_slice() {
            [] => Resolver::system(),
            servers => Resolver::with_servers(servers.to_vec()),
        };
        let aws = environment.aws.clone();
        let vault = Vault::open(&places.vault).map_err(|e| Failure::failed(&e))?;
        let link = Self {
            aws: Members::new(aws, &mesh, &finder.eks_contexts()),
            vault: Arc::new(vault.signed_by(named)),
            resolver: resolver.map_err(|e| Failure::failed(&e))?,
            finder: Arc::new(finder),
            mesh,
            clusters,
            unreachable,
            environment,
            places,
            charts,
        };
        link.warn_of_insecure();
        Ok(link)
    }

    /// Reads the members and says what the change would do. Nothing is changed.
    ///
    /// # Errors
    ///
    /// Members that cannot be read, unless the change can go on without them, and everything that stands against the
    /// change: each with its own reason.
    ///
    /// # Caveats
    ///
    /// A plan grows old: another run may change the clusters. [`PlannedChange::apply`] therefore plans again before
    /// it does anything.
    ///
    /// # Example
    ///
    /// What taking a member out would do:
    ///
    /// ```no_run
    /// # async fn example(link: meshlink::Meshlink) -> Result<(), Box<dyn std::error::Error>> {
    /// use meshlink::{Change, Leave};
    ///
    /// let leave = Leave { leavers: vec!["eks-2".parse()?], ..Leave::default() };
    /// let change = link.plan(Change::Leave(leave)).await?;
    /// for planned in &change.plan().steps {
    ///     println!("{}: {}", planned.step, planned.describe);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn plan(&self, change: Change) -> Result<PlannedChange<'_>, Failure> {
        self.refuse_insecure(false)?;
        let inputs = Inputs::of(self, &change).await?;
        let look = self.look(&change, &inputs).await?;
        Ok(PlannedChange {
            link: self.reaching(&look.reading.observed),
            change,
            inputs,
            look,
        })
    }

    /// Reads the members and says what stands, claim by claim; with what the run of `report` has proved.
    ///
    /// # Errors
    ///
    /// That no member can be read. One that cannot be, while others are, is a failed claim.
    pub async fn verdict(&self, report: Option<&Report>) -> Result<Verdict, Failure> {
        let mut verdict = self.judge(&self.read().await?).await;
        let proofs = report.iter().flat_map(|report| report.proofs.values());
        verdict.take(proofs.cloned());
        Ok(verdict)
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The same without those who left.
    fn without(&self, leavers: &[ClusterName]) -> Self {
        let mut rest = self.clone();
        rest.mesh.clusters.retain(|m| !leavers.contains(&m.name));
        rest.clusters.retain(|name, _| !leavers.contains(name));
        rest.unreachable.retain(|name, _| !leavers.contains(name));
        rest
    }

    /// The same without members that could not be read: what is not looked at is not changed either.
    fn reaching(&self, observed: &Observed) -> Cow<'_, Self> {
        let gone = &observed.unreachable;
        if gone.keys().all(|name| self.unreachable.contains_key(name)) {
            return Cow::Borrowed(self);
        }
        let mut rest = self.clone();
        rest.clusters.retain(|name, _| !gone.contains_key(name));
        rest.unreachable.extend(gone.clone());
        Cow::Owned(rest)
    }

    /// How remote secrets are laid out: as the mesh was begun, else by its size.
    fn layout(&self, observed: &Observed) -> crate::observe::Layout {
        let recorded = observed
            .clusters
            .values()
            .find_map(|s| s.record.as_ref().map(|r| r.layout));
        recorded.unwrap_or_else(|| crate::observe::Layout::for_size(self.mesh.clusters.len()))
    }

    /// What `environment` is called in reports.
    pub(crate) fn environment_name(&self) -> String {
        match self.environment.embedded {
            true => "embedded".to_owned(),
            false => "real".to_owned(),
        }
    }

    /// AWS, where it is worth asking: embedded clusters are on it only if they were found by it.
    fn asked_aws(&self) -> Option<Members> {
        let worth = self.aws.any() || (!self.environment.embedded && self.aws.is_configured());
        worth.then(|| self.aws.clone())
    }
}

impl PlannedChange<'_> {
    /// Everything that would be done, and what should be known besides.
    pub fn plan(&self) -> &Plan {
        &self.look.plan
    }

    /// The members it does nothing in, because they could not be read.
    pub fn unreachable(&self) -> impl Iterator<Item = &Unreachable> {
        self.link.unreachable.values()
    }
}

impl fmt::Debug for Meshlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meshlink")
            .field("mesh", &self.mesh.id)
            .field("clusters", &self.clusters.keys())
            .finish_non_exhaustive()
    }
}
