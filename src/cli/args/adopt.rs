//! What is typed for an adoption.

use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;

use super::{Changing, Sources, Target, complete, target::duration};

/// `meshlink adopt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Adopt {
    #[command(flatten)]
    pub(crate) how: Adopting,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// Which clusters, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Adopting {
    /// The clusters, as for join; those that were one mesh before belong into one command
    #[arg(value_name = "CLUSTER", required_unless_present = "file", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    #[command(flatten)]
    pub(crate) manner: Manner,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// How clusters are adopted.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Manner {
    /// Restart the workloads whose proxies were made before, and no others, one namespace after the other
    #[arg(long)]
    pub(crate) restart_workloads: bool,
    /// How long kubelets take at most to bring a changed ConfigMap into running pods: one and a half times their syncFrequency; else 90s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) projected_within: Option<Duration>,
    /// Change the root even where a cluster's Istio version is known to lose requests by it
    #[arg(long)]
    pub(crate) accept_gap: bool,
}

impl Manner {
    /// The first of its flags that was given.
    pub(crate) fn named(&self) -> Option<&'static str> {
        let flags = [
            (self.restart_workloads, "--restart-workloads"),
            (self.projected_within.is_some(), "--projected-within"),
            (self.accept_gap, "--accept-gap"),
        ];
        let given = flags.into_iter().find(|(is, _)| *is);
        given.map(|(_, flag)| flag)
    }
}
