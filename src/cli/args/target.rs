//! Which mesh a command is about, how to get at its clusters, and what is shared by those that change or render them.

use std::{path::PathBuf, time::Duration};

use clap::ValueHint;
use serde::{Deserialize, Serialize};

use super::environment::variable;
use crate::{
    hint::word,
    name::{ClusterName, MeshId},
    spec::Renewer,
};

/// Which mesh, and how to get at its clusters.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Mesh")]
pub(crate) struct Target {
    /// Read the mesh from a file
    #[arg(short, long, value_name = "MESH.YAML", env = variable::FILE, hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// A mesh file's text, where another program gives it in place of a file.
    #[arg(skip)]
    pub(crate) document: Option<String>,
    /// Name of the mesh, without a file [default: mesh]
    #[arg(long, value_name = "NAME", env = variable::MESH, hide_env_values = true)]
    pub(crate) mesh: Option<MeshId>,
    /// Use embedded clusters, which need nothing but this program
    #[arg(long)]
    pub(crate) sandbox: bool,
    /// Kubeconfig to read instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How long to wait for anything to become ready
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Change a cluster, and send it credentials, although its API server is reached in clear text or unverified; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) insecure_cluster: Vec<ClusterName>,
    /// Where charts and their values come from, for commands that render some.
    #[arg(skip)]
    pub(crate) sources: Sources,
}

/// Where charts and their values come from.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Charts")]
pub(crate) struct Sources {
    /// Where the Istio charts come from: repository, oci://…, folder or archive
    #[arg(long, value_name = "SOURCE", env = variable::CHARTS, hide_env_values = true, value_hint = ValueHint::AnyPath)]
    pub(crate) charts: Option<String>,
    /// Version of Istio to install [default: what members run; else the newest without a known fault]
    #[arg(long, value_name = "VERSION", env = variable::ISTIO_VERSION, hide_env_values = true, value_parser = crate::spec::istio_version)]
    pub(crate) istio_version: Option<String>,
    /// Never fetch charts over the network: only what was fetched before, folders and archives
    #[arg(long, env = variable::OFFLINE, hide_env_values = true)]
    pub(crate) offline: bool,
    /// Values for the istiod chart, over what a mesh needs
    #[arg(long, value_name = "FILE", env = variable::ISTIOD_VALUES, hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) istiod_values: Vec<PathBuf>,
    /// Values for the gateway chart
    #[arg(long, value_name = "FILE", env = variable::GATEWAY_VALUES, hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) gateway_values: Vec<PathBuf>,
    /// Run a renewer in every member, from this image of meshlink: tokens then live for a day. As renewer: in a mesh file; without either, there is none
    #[arg(long, value_name = "IMAGE", help_heading = "Mesh")]
    pub(crate) renewer: Option<Renewer>,
    /// Make this member a peer of all, and the others of hubs alone; may be repeated. As peers: in a mesh file
    #[arg(long, value_name = "CLUSTER", help_heading = "Mesh")]
    pub(crate) hub: Vec<String>,
    /// Make every member a peer of every other, however many there are
    #[arg(long, conflicts_with = "hub", help_heading = "Mesh")]
    pub(crate) full_mesh: bool,
}

/// How a command that changes clusters goes about it.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Mesh")]
pub(crate) struct Changing {
    /// Change real clusters without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// How long to wait for another run that is changing the mesh
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) wait_lock: Duration,
    /// Take the Lease of another run away from it; only if that run is dead for certain
    #[arg(long)]
    pub(crate) break_lease: bool,
}

impl Target {
    /// The same, with the charts of a command that renders some.
    pub(crate) fn with(self, sources: Sources) -> Self {
        Self { sources, ..self }
    }

    /// What another command must be told to find the same mesh and its clusters.
    pub(crate) fn again(&self, embedded: bool) -> String {
        let flags = self.flags(embedded).all();
        flags.iter().map(|flag| format!(" {flag}")).collect()
    }

    /// The same, flag by flag.
    pub(crate) fn flags(&self, embedded: bool) -> Flags {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        Flags {
            file: path(&self.file),
            mesh: self.mesh.as_ref().map(ToString::to_string),
            kubeconfig: path(&self.kubeconfig),
            sandbox: embedded,
            insecure: self.insecure_cluster.clone(),
        }
    }
}

/// What a command must be told to find a mesh and its clusters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Flags {
    /// `-f`.
    pub(crate) file: Option<String>,
    /// `--mesh`.
    pub(crate) mesh: Option<String>,
    /// `--kubeconfig`.
    pub(crate) kubeconfig: Option<String>,
    /// `--sandbox`.
    pub(crate) sandbox: bool,
    /// `--insecure-cluster`.
    pub(crate) insecure: Vec<ClusterName>,
}

impl Flags {
    /// All of them, as words for a shell.
    pub(crate) fn all(&self) -> Vec<String> {
        let mesh = [flag("-f", &self.file), flag("--mesh", &self.mesh)];
        mesh.into_iter().flatten().chain(self.place()).collect()
    }

    /// Those that say where the clusters are, whatever the mesh.
    pub(crate) fn place(&self) -> Vec<String> {
        let sandbox = self.sandbox.then(|| "--sandbox".to_owned());
        let place = [flag("--kubeconfig", &self.kubeconfig), sandbox];
        let insecure = self.insecure.iter();
        let insecure = insecure.map(|name| format!("--insecure-cluster {name}"));
        place.into_iter().flatten().chain(insecure).collect()
    }
}

fn flag(name: &str, value: &Option<String>) -> Option<String> {
    value.as_ref().map(|v| format!("{name} {}", word(v)))
}

/// A time as people write it: `90s`, `15m`, `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "write it like 15m or 1h30m".to_owned())?;
    let time = Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())?;
    // What is added to the time of day must not leave the calendar.
    match time <= LONGEST {
        true => Ok(time),
        false => Err("at most 30 days: write 720h".into()),
    }
}

/// The longest that anything is waited for.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("soon").is_err() && duration("-1s").is_err());
        for huge in ["9223372036854775807s", "721h", "2562047788015215h"] {
            assert!(duration(huge).is_err(), "{huge}");
        }
        assert_eq!(duration("720h"), Ok(LONGEST));
    }
}
