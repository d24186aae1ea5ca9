//! What is typed for an upgrade.

use clap_complete::engine::ArgValueCompleter;
use semver::Version;

use super::{Changing, Sources, Target, complete};

/// `meshlink upgrade`.
#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) how: Upgrading,
    /// Show which version each member and each of its proxies runs, and change nothing
    #[arg(long, conflicts_with_all = ["to", "back", "accept_known_faults"])]
    pub(crate) status: bool,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// To which version, and whose.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Upgrading {
    /// The members, in the order they are upgraded in; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// The version of Istio [default: that of the mesh file; else the newest without a known fault]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub(crate) to: Option<Version>,
    /// Go to an older version
    #[arg(long, requires = "to")]
    pub(crate) back: bool,
    /// Install the version although it is known not to survive what a join and a renewal do
    #[arg(long)]
    pub(crate) accept_known_faults: bool,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

fn version(text: &str) -> Result<Version, String> {
    let text = crate::spec::istio_version(text)?;
    text.parse().map_err(|e: semver::Error| e.to_string())
}
