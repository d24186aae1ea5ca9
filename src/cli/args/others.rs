//! What to do where somebody else is at work.

use std::time::Duration;

use super::duration;

/// What to do where another run is changing the mesh.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Mesh")]
pub(crate) struct Others {
    /// How long to wait for another run that is changing the mesh
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) wait_lock: Duration,
    /// Take the Lease of another run away from it; only if that run is dead for certain
    #[arg(long)]
    pub(crate) break_lease: bool,
}
