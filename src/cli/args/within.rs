//! What the renewer in a cluster is told by its CronJob.

use std::path::PathBuf;

use clap::ValueHint;

use crate::name::ClusterName;

/// Where Kubernetes puts a pod's own credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// `meshlink renew --in-cluster`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "In a cluster")]
pub(crate) struct Within {
    /// Renew from within a cluster what that cluster uses, as its service account; for the CronJob that join --renewer makes
    #[arg(long, requires_all = ["member", "secret"], conflicts_with_all = ["clusters", "what", "file"])]
    pub(crate) in_cluster: bool,
    /// The member it runs in
    #[arg(long, value_name = "NAME", requires = "in_cluster")]
    pub(crate) member: Option<ClusterName>,
    /// UID of that cluster's kube-system namespace
    #[arg(long, value_name = "UID", requires = "in_cluster")]
    pub(crate) cluster_uid: Option<String>,
    /// A remote secret of it; may be repeated
    #[arg(long, value_name = "NAME", requires = "in_cluster")]
    pub(crate) secret: Vec<String>,
    /// The member's istiod, to be asked what it signs with and until when
    #[arg(long, value_name = "HOST:PORT", requires = "in_cluster")]
    pub(crate) istiod: Option<String>,
    /// Folder with the token and the CA of the service account
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = SERVICE_ACCOUNT, hide = true)]
    pub(crate) service_account: PathBuf,
    /// Write what was found to a file that Prometheus' textfile collector reads
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "in_cluster")]
    pub(crate) renewer_metrics: Option<PathBuf>,
}
