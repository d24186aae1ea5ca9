//! `meshlink ca`: who signs, and what they have signed.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{Target, complete};

/// `meshlink ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Create the root key and certificate in the vault
    Init(CaInit),
    /// Show the root, every intermediate, and all that ends: until when, and who renews it
    Status(CaStatus),
    /// Write the requests for intermediates that an authority out of reach is to sign
    Csr(CaCsr),
    /// Put the root keys in the vault under a passphrase, under another, or under none
    Protect(CaProtect),
    /// Take in certificates that an authority out of reach has signed
    Import(CaImport),
}

/// `meshlink ca csr`.
#[derive(Debug, clap::Args)]
pub(crate) struct CaCsr {
    /// Members that requests are written for; all that have no certificate that serves, without any
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// The folder the requests are written to, one file CLUSTER.csr for each member
    #[arg(long, value_name = "FOLDER", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink ca import`.
#[derive(Debug, clap::Args)]
pub(crate) struct CaImport {
    /// Files with a certificate, and after it those between it and the root, as PEM
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink ca protect`.
#[derive(Debug, clap::Args)]
pub(crate) struct CaProtect {
    /// A file with the new passphrase; without it, it is asked for on the terminal
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "remove")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Leave the keys without a passphrase
    #[arg(long)]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink ca init`.
#[derive(Debug, clap::Args)]
pub(crate) struct CaInit {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink ca status`.
#[derive(Debug, clap::Args)]
pub(crate) struct CaStatus {
    /// Clusters whose certificates are compared with the vault's
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Also write what ends to a file as Prometheus reads it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) metrics: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
}

impl Ca {
    /// Which mesh it is about.
    pub(crate) fn target(&self) -> &Target {
        match self {
            Self::Init(args) => &args.target,
            Self::Status(args) => &args.target,
            Self::Csr(args) => &args.target,
            Self::Import(args) => &args.target,
            Self::Protect(args) => &args.target,
        }
    }
}
