//! Turn Kubernetes clusters on different networks into one Istio mesh, and prove that it works.
//!
//! [`Meshlink`] is the front door: [`Meshlink::open`], [`Meshlink::plan`] with a [`Change`], [`PlannedChange::apply`].
//!
//! Errors are one type, [`Failure`], with causes, hints and a kind; what a run did is a [`Report`], what stands a
//! [`Verdict`], what happens meanwhile an [`Event`]. What a mesh is
//! stands in [`spec`]. Everything else is private.
//!
//! The rooms, from the inside out; each may use only those above it:
//!
//! | room | what it is |
//! | --- | --- |
//! | `name`, `net` | names, checked where they enter; the way out to the network |
//! | `hint` | what to do about something: a command that can be pasted, or a note |
//! | `wait` | the one loop that waits until something is so |
//! | `spec` | `mesh.yaml` to a checked [`spec::Mesh`] |
//! | `manifest` | our own objects, as text people can override |
//! | `pki`, `chart`, `cluster`, `aws`, `resolve` | one craft each, knowing nothing of plans |
//! | `observe`, `ends`, `verify`, `probe` | what is there, when it ends, and what is proved |
//! | `workloads` | what runs, pod by pod |
//! | `plan` | the steps that are missing; pure |
//! | `engine` | the only place that causes effects |
//! | `report` | what happened, for people and machines |
//! | `link` | the front door, where the protocol of a change stands |
//! | `cli` | arguments in, output and exit code out |
//!
//! `sandbox` stands apart: embedded clusters, spoken to over HTTP like any other.

#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        unused_imports,
        reason = "some of it is there for the command alone"
    )
)]

mod aws;
mod causes;
use helm_engine as chart;
#[cfg(feature = "cli")]
pub mod cli;
mod cluster;
mod digest;
mod doctor;
mod ends;
mod engine;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hint;
mod link;
mod machine;
mod manifest;
#[cfg(feature = "measure")]
pub mod measure;
mod mutex;
mod name;
mod net;
mod observe;
mod owner;
mod pki;
mod plan;
mod probe;
mod report;
mod resolve;
#[cfg(any(test, feature = "sandbox"))]
pub use istio_sandbox as sandbox;
pub mod spec;
mod verify;
mod versions;
mod wait;
mod workloads;

pub use aws::{Aws, Env as AwsEnv, env::Service as AwsService};
pub use cluster::{ConnectOptions, connect::Now};
pub use engine::{Sink, event::Event, sample::Sample};
pub use hint::Hint;
pub use link::{
    Affected, Agreed, Change, ChartSource, Consent, Environment, Failure, Folders,
    Kind as FailureKind, Logins, Meshlink, PlannedChange, Problem, Question,
};
pub use manifest::Texts;
pub use name::{ClusterName, MeshId};
pub use net::{Network, Proxies};
pub use observe::Unreachable;
pub use plan::{
    Plan, Planned,
    adopt::Adopt,
    leave::Leave,
    renew::{Renew, What as RenewWhat},
    rollout::Rollout,
    rotate::Rotate,
    step::Step,
    upgrade::Upgrade,
};
pub use report::{Report, RunOutcome, StepReport, StepState};
pub use verify::{Check, Claim, Outcome, Verdict};
