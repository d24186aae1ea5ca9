//! `meshlink status`.

use std::path::PathBuf;

use clap::ValueHint;
use clap_complete::engine::ArgValueCompleter;

use super::{Target, complete};

/// `meshlink status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Wait until the mesh is joined and synced
    #[arg(long)]
    pub(crate) wait: bool,
    /// Also write what ends to a file as Prometheus reads it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) metrics: Option<PathBuf>,
    /// Also draw it all on one page for a browser; - is standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
}
