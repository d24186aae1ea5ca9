//! The only room that causes effects.
//!
//! [`survey()`] reads the members and says what they should hold; [`run()`] does the steps of a plan, each
//! as soon as what it needs is done, clusters side by side. Every effect is written to the
//! [`journal`] before and after, and is done in one place, `effect`, so that a test can kill the
//! process around each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;

use crate::{
    aws::Members,
    cluster::{Cluster, ConnectOptions},
    manifest::Texts,
    name::ClusterName,
    observe::{Layout, Succession},
    owner::Owner,
    pki::Vault,
    plan::{Deletion, Desired, Step, Taken, adopt::Adopt, leave::Leave, rotate::Rotate},
    resolve::Resolver,
    spec::Mesh,
    verify::Depth,
    wait::Deadline,
};

pub(crate) mod crashpoint;
mod effect;
mod error;
pub(crate) mod event;
pub(crate) mod journal;
mod lock;
mod readings;
mod recorder;
mod run;
pub(crate) mod sample;
mod survey;

pub(crate) use error::{Busy, Error};
pub(crate) use lock::{Lock, Patience, Stop, lock};
pub(crate) use readings::Readings;
pub(crate) use recorder::Recorder;
pub use recorder::Sink;
pub(crate) use run::run;
pub(crate) use survey::{Failed, look_into_releases, survey};

/// Tells the time.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A change of root.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// The root of the mesh, by its public key.
    pub from: String,
    /// What is changed into what: as the members say where it was begun before, else as the first step of the run has it.
    pub change: OnceLock<Succession>,
    /// How it is done.
    pub how: Rotate,
}

/// Everything effects are made with.
pub(crate) struct RunContext {
    /// The mesh as it is to be: without those who leave.
    pub mesh: Mesh,
    /// The members' API servers, the leavers' too.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// What the members should hold; empty for a leave.
    pub desired: Desired,
    /// The reader accounts the members should hold, by member and peer.
    pub readers: BTreeMap<ClusterName, BTreeMap<ClusterName, Vec<serde_json::Value>>>,
    /// The gateways' addresses are looked up here when tried from this machine.
    pub resolver: Resolver,
    /// Where keys rest.
    pub vault: Arc<Vault>,
    /// Our own manifests.
    pub texts: Texts,
    /// How remote secrets are laid out in this mesh.
    pub layout: Layout,
    /// How each member can be found again, as the record says it.
    pub reaches: BTreeMap<ClusterName, String>,
    /// The members as AWS knows them; none where there is no AWS to ask.
    pub aws: Option<Members>,
    /// For trying a remote secret from here.
    pub connect: ConnectOptions,
    /// The members are embedded.
    pub embedded: bool,
    /// For whom objects are made in each member.
    pub(crate) owners: BTreeMap<ClusterName, Owner>,
    /// What each step deletes, by the plan.
    pub(crate) deletions: BTreeMap<Step, Vec<Deletion>>,
    /// How far a leave goes; says nothing in a join.
    pub leave: Leave,
    /// Where the leavers' gateways answered before: no proxy may hold that at the end.
    pub left: BTreeSet<String>,
    /// The change of root, where the run is one.
    pub(crate) rotation: Option<Rotation>,
    /// How workloads are rolled, where they are.
    pub rollout: Option<crate::plan::rollout::Rollout>,
    /// How clusters are adopted, where the run does that.
    pub(crate) adoption: Option<Adopt>,
    /// What each step hands over, by the plan.
    pub(crate) takings: BTreeMap<Step, Vec<Taken>>,
    /// The sample apps that are put in or taken out.
    pub sample: Option<sample::Sample>,
    /// How closely a proof looks.
    pub depth: Depth,
    /// What was read of the members in this run.
    pub readings: Readings,
    /// When the run must be over.
    pub deadline: Deadline,
    /// The time.
    pub clock: Clock,
    /// Where the process is to die, for tests.
    pub crash: crashpoint::Crash,
}

impl fmt::Debug for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext")
            .field("mesh", &self.mesh.id)
            .finish_non_exhaustive()
    }
}

impl RunContext {
    /// A member's API server.
    fn cluster(&self, name: &ClusterName) -> Result<&Cluster, Error> {
        self.clusters.get(name).ok_or_else(|| Error::NotAMember {
            cluster: name.clone(),
        })
    }

    /// What a member should hold.
    fn wanted(&self, name: &ClusterName) -> Result<&crate::plan::Wanted, Error> {
        let wanted = self.desired.clusters.get(name);
        wanted.ok_or_else(|| Error::NotAMember {
            cluster: name.clone(),
        })
    }

    fn member(&self, name: &ClusterName) -> Result<&crate::spec::Member, Error> {
        let mut members = self.mesh.clusters.iter();
        members
            .find(|m| m.name == *name)
            .ok_or_else(|| Error::NotAMember {
                cluster: name.clone(),
            })
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }
}
