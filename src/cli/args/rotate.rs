//! `meshlink rotate`.

use std::{path::PathBuf, time::Duration};

use clap::{Subcommand, ValueHint};

use super::{Changing, Sources, Target, target::duration};

/// What is changed.
#[derive(Debug, Subcommand)]
pub(crate) enum Rotate {
    /// Let a new root take the place of the mesh's; run it again after anything went wrong
    Root(RotateRoot),
}

/// `meshlink rotate root`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateRoot {
    #[command(flatten)]
    pub(crate) how: Rotating,
    /// Show how far the change has come, and change nothing
    #[arg(long, conflicts_with_all = ["to", "abort", "restart_workloads", "accept_gap"])]
    pub(crate) status: bool,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// To which root, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotating {
    /// The new root: generate, or a file with its certificate and its key; without it, one of the vault that was not used yet, else a new one
    #[arg(long, value_name = "generate|FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to: Option<PathBuf>,
    /// Go back to the old root, as long as no cluster has let go of it
    #[arg(long, conflicts_with_all = ["to", "restart_workloads"])]
    pub(crate) abort: bool,
    /// Restart workloads whose proxies cannot follow a change of root, and no others
    #[arg(long)]
    pub(crate) restart_workloads: bool,
    /// How long kubelets take at most to bring a changed ConfigMap into running pods: one and a half times their syncFrequency; else what was said when it was begun, or 90s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) projected_within: Option<Duration>,
    /// Begin it even where a member's Istio version is known to lose requests by it
    #[arg(long)]
    pub(crate) accept_gap: bool,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

impl Rotate {
    /// Which mesh it is about.
    pub(crate) fn target(&self) -> &Target {
        match self {
            Self::Root(args) => &args.how.target,
        }
    }
}
