//! `meshlink workloads`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;

use super::{Changing, Target, complete, label};
use crate::verify::service::Name;

/// `meshlink workloads`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Workloads {
    #[command(subcommand)]
    pub(crate) change: Option<Box<WorkloadsChange>>,
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Only pods and gateways of this namespace; may be repeated
    #[arg(short, long, value_name = "NS", value_parser = label)]
    pub(crate) namespace: Vec<String>,
    /// Also show which endpoints each proxy holds of a Service, and their health
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = clap::value_parser!(Name))]
    pub(crate) service: Option<Name>,
    /// Show each pod, and what its proxy was born with
    #[arg(long)]
    pub(crate) all: bool,
    /// Also try from this machine whether the gateways' addresses take connections
    #[arg(long)]
    pub(crate) connect: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// What is done to workloads.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadsChange {
    /// Label a namespace, so that its pods are given proxies, and roll what runs in it
    Inject(Inject),
    /// Roll what must or should restart, one workload after the other
    Restart(Restart),
}

/// `meshlink workloads inject`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inject {
    #[command(flatten)]
    pub(crate) how: Injecting,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// Where proxies are put in or taken out.
#[derive(Debug, clap::Args)]
pub(crate) struct Injecting {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// The namespace
    #[arg(short, long, value_name = "NS", value_parser = label)]
    pub(crate) namespace: String,
    /// Take away the label that was put there by this command, and the proxies
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink workloads restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    pub(crate) how: Restarting,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// What is restarted.
#[derive(Debug, clap::Args)]
pub(crate) struct Restarting {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// The namespace
    #[arg(short, long, value_name = "NS", value_parser = label)]
    pub(crate) namespace: String,
    /// Only what is behind this Service of the namespace
    #[arg(long, value_name = "NAME", value_parser = label)]
    pub(crate) service: Option<String>,
    /// Also what needs no restart
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

impl Workloads {
    /// Which mesh it is about.
    pub(crate) fn target(&self) -> &Target {
        match self.change.as_deref() {
            Some(WorkloadsChange::Inject(args)) => &args.how.target,
            Some(WorkloadsChange::Restart(args)) => &args.how.target,
            None => &self.target,
        }
    }
}

/// `meshlink plan workloads`.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadsPlan {
    /// Show what giving proxies to a namespace would change, and change nothing
    Inject(Injecting),
    /// Show what would be rolled, and change nothing
    Restart(Restarting),
}

impl WorkloadsPlan {
    /// Which mesh it is about.
    pub(crate) fn target(&self) -> &Target {
        match self {
            Self::Inject(how) => &how.target,
            Self::Restart(how) => &how.target,
        }
    }
}

impl Injecting {
    /// The words of the command after `workloads`.
    pub(crate) fn words(&self) -> Vec<&str> {
        let undo = self.undo.then_some("--undo");
        let names = self.clusters.iter().map(String::as_str);
        let words = ["inject"].into_iter().chain(names);
        words
            .chain(["-n", self.namespace.as_str()])
            .chain(undo)
            .collect()
    }
}

impl Restarting {
    /// The words of the command after `workloads`.
    pub(crate) fn words(&self) -> Vec<&str> {
        let names = self.clusters.iter().map(String::as_str);
        let service = self.service.iter().flat_map(|s| ["--service", s.as_str()]);
        let words = ["restart"].into_iter().chain(names);
        let words = words.chain(["-n", self.namespace.as_str()]).chain(service);
        words.chain(self.all.then_some("--all")).collect()
    }
}
