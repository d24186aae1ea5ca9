//! `meshlink bundle`.

use std::path::PathBuf;

use clap::ValueHint;
use clap_complete::engine::ArgValueCompleter;

use super::{Target, complete};

/// `meshlink bundle`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bundle {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// The archive [default: meshlink-MESH-TIME.tar.gz]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
}
