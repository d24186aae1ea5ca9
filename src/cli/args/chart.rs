//! The arguments of `meshlink chart` and `meshlink render`.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{Sources, Target, complete, environment::variable};
use crate::spec::OFFICIAL_CHARTS;

/// `meshlink chart`.
#[derive(Debug, Subcommand)]
pub(crate) enum Chart {
    /// Print what a chart renders to, as helm template does
    Template(Template),
    /// Print a chart's default values
    Values(Values),
    /// Print the images that charts run, for mirrors
    Images(Images),
    /// Download charts as archives
    Pull(Pull),
    /// Pin charts in a lock file, so that others are refused from then on
    Lock(Lock),
}

/// Where charts are looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct From {
    /// The repository that names are looked up in: https://… or oci://…
    #[arg(
        long,
        value_name = "URL",
        default_value = OFFICIAL_CHARTS,
        env = variable::CHARTS,
        hide_env_values = true,
        hide_default_value = true,
        value_hint = ValueHint::AnyPath
    )]
    pub(crate) repo: String,
    /// The version; the newest if not given
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) version: String,
    /// Never use the network: only what was fetched before, folders and archives
    #[arg(long, env = variable::OFFLINE, hide_env_values = true)]
    pub(crate) offline: bool,
}

/// What a chart is rendered with.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Settings {
    /// A file of values; may be given many times, later ones win
    #[arg(short = 'f', long = "values", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// A value as JSON, as path=json; may be given many times
    #[arg(long, value_name = "PATH=JSON")]
    pub(crate) set_json: Vec<String>,
    /// A value, as path=value; may be given many times
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// A value that is text whatever it looks like
    #[arg(long, value_name = "PATH=TEXT")]
    pub(crate) set_string: Vec<String>,
    /// The Kubernetes version to render for
    #[arg(long, value_name = "VERSION", value_parser = super::kubernetes)]
    pub(crate) kube_version: Option<String>,
    /// Further API versions the cluster serves
    #[arg(short, long, value_name = "VERSION", value_delimiter = ',')]
    pub(crate) api_versions: Vec<String>,
}

/// `meshlink chart template`.
#[derive(Debug, clap::Args)]
pub(crate) struct Template {
    /// The release's name
    pub(crate) name: String,
    /// A name in the repository, a folder, an archive or oci://registry/path/name
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) chart: String,
    /// The release's namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Render as for an upgrade
    #[arg(long)]
    pub(crate) is_upgrade: bool,
    /// Print the resource definitions of crds/ too
    #[arg(long)]
    pub(crate) include_crds: bool,
    /// Allow templates to generate random text, keys and certificates, which differ every time
    #[arg(long)]
    pub(crate) allow_random: bool,
    #[command(flatten)]
    pub(crate) from: From,
}

/// `meshlink chart values`.
#[derive(Debug, clap::Args)]
pub(crate) struct Values {
    /// A name in the repository, a folder, an archive or oci://registry/path/name
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) chart: String,
    #[command(flatten)]
    pub(crate) from: From,
}

/// `meshlink chart images`.
#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Charts, as for template; those of a join if none is named
    #[arg(value_name = "CHART", value_hint = ValueHint::AnyPath)]
    pub(crate) charts: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) from: From,
}

/// `meshlink chart pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// Charts, as for template; those of a join if none is named
    #[arg(value_name = "CHART", value_hint = ValueHint::AnyPath)]
    pub(crate) charts: Vec<String>,
    /// The folder to put them in
    #[arg(short, long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) from: From,
}

/// `meshlink chart lock`.
#[derive(Debug, clap::Args)]
pub(crate) struct Lock {
    /// Charts, as for template; those of a join if none is named
    #[arg(value_name = "CHART", value_hint = ValueHint::AnyPath)]
    pub(crate) charts: Vec<String>,
    /// The mesh file that names repository and version; the lock lies beside it
    #[arg(short, long, value_name = "MESH.YAML", env = variable::FILE, hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// The lock file, where it is another one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) lock: Option<PathBuf>,
    /// Replace what the lock file says with what is there now
    #[arg(long)]
    pub(crate) update: bool,
    #[command(flatten)]
    pub(crate) from: From,
}

/// `meshlink render`.
#[derive(Debug, clap::Args)]
pub(crate) struct Render {
    /// The members, as for join
    #[arg(value_name = "CLUSTER", required_unless_present = "file", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// The folder to write
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Write nothing; report whether the folder is up to date (exit 10 if not)
    #[arg(long)]
    pub(crate) check: bool,
    /// The Kubernetes version to render for
    #[arg(long, value_name = "VERSION", value_parser = super::kubernetes)]
    pub(crate) kube_version: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) sources: Sources,
}
