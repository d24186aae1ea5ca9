//! What is typed for a renewal.

use clap::ValueEnum;
use clap_complete::engine::ArgValueCompleter;

use super::{Changing, Target, complete, within::Within};

/// `meshlink renew`.
#[derive(Debug, clap::Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    pub(crate) how: Renewing,
    #[command(flatten)]
    pub(crate) within: Within,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// Whose, and what.
#[derive(Debug, clap::Args)]
pub(crate) struct Renewing {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// What to renew, where it is due
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub(crate) what: Renewed,
    /// Renew even where a member's Istio version is known to lose requests by it
    #[arg(long)]
    pub(crate) accept_gap: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// What can be renewed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Renewed {
    /// What istiods sign with.
    Intermediates,
    /// The tokens in remote secrets.
    Tokens,
    /// The CAs of API servers in remote secrets.
    ApiCas,
    /// All of it.
    #[default]
    All,
}

impl Renewed {
    /// As it is typed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Intermediates => "intermediates",
            Self::Tokens => "tokens",
            Self::ApiCas => "api-cas",
            Self::All => "all",
        }
    }
}
