//! `meshlink doctor`.

use std::path::PathBuf;

use clap::ValueHint;
use clap_complete::engine::ArgValueCompleter;

use super::{Changing, Target, complete};
use crate::doctor;

/// `meshlink doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// List the checks, and look at nothing
    #[arg(long, conflicts_with_all = ["clusters", "short"])]
    pub(crate) list: bool,
    /// Make this check only; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = known)]
    pub(crate) only: Vec<String>,
    /// Look at what a join needs, before anything is installed; the clusters are those that are to be joined
    #[arg(long)]
    pub(crate) before_join: bool,
    /// Look at what a bundle holds, and at no cluster
    #[arg(long, value_name = "BUNDLE", value_hint = ValueHint::FilePath, conflicts_with_all = ["list", "before_join", "fix"])]
    pub(crate) from: Option<PathBuf>,
    /// One line for each cause
    #[arg(long)]
    pub(crate) short: bool,
    /// Do what of a join mends what was found without a key, a chart or a restart, and look again
    #[arg(long, conflicts_with_all = ["list", "before_join", "from"])]
    pub(crate) fix: bool,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// A check that there is.
fn known(text: &str) -> Result<String, String> {
    match doctor::ids().any(|id| id == text) {
        true => Ok(text.to_owned()),
        false => Err("there is no such check: meshlink doctor --list shows all".to_owned()),
    }
}
