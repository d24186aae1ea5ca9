//! Why a step failed, whether trying again may help, and what to do about it.

use std::time::Duration;

use super::event::Severity;
use crate::{
    aws::nlb,
    chart,
    cluster::{self, Recover, access},
    hint::Hint,
    manifest,
    name::ClusterName,
    pki,
    plan::{Refusal, desire},
    probe::Hidden,
    wait::Reason,
};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// A cluster's API server, or something in the cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A load balancer on AWS.
    #[error(transparent)]
    Nlb(#[from] Box<nlb::Error>),
    /// The vault on this machine.
    #[error("cannot use the vault")]
    Vault(#[from] pki::vault::Error),
    /// A key or certificate.
    #[error("cannot make the certificate")]
    Pki(#[from] pki::Error),
    /// A release record.
    #[error("cluster {cluster}: cannot update Helm release {release}")]
    Release {
        /// The cluster.
        cluster: ClusterName,
        /// The release.
        release: String,
        /// The namespace of its records.
        namespace: String,
        /// Why not.
        #[source]
        source: Box<chart::Error>,
    },
    /// What the members should hold.
    #[error("cannot compute what the clusters should hold")]
    Desire(#[from] desire::Error),
    /// One of our own texts.
    #[error("cannot render meshlink's own objects")]
    Text(#[from] manifest::Error),
    /// A remote secret that would not work.
    #[error("the remote secret of {from} would not work in {to}, so it is not written")]
    Untrusted {
        /// Whose API server it opens.
        from: ClusterName,
        /// Where it would be used.
        to: ClusterName,
        /// Why not.
        #[source]
        source: Box<access::Refused>,
    },
    /// A fact did not come about in time.
    #[error("timed out after {} s waiting until {what}: {reason}", waited.as_secs())]
    NotInTime {
        /// What was waited for, as a sentence.
        what: String,
        /// How long.
        waited: Duration,
        /// Why it is not yet so, and what to look at.
        reason: Reason,
    },
    /// A gateway's name that a peer will not know by waiting.
    #[error("{hidden}; gave up after {} s", hidden.lasted.as_secs())]
    Hidden {
        /// The name, and where it is known.
        hidden: Box<Hidden>,
    },
    /// The members could not be read.
    #[error(transparent)]
    Unseen(#[from] crate::observe::Unseen),
    /// Something stands against it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A cluster that is not in the mesh was asked for.
    #[error("cluster {cluster} is not a member of the mesh")]
    NotAMember {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Something that must be there is not.
    #[error("cluster {cluster}: {what}")]
    Missing {
        /// The cluster.
        cluster: ClusterName,
        /// What is missing.
        what: String,
    },
    /// Another run changes the mesh.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// A workload that does not become ready.
    #[error("a workload that was rolled is not ready, and no other is rolled after it")]
    Rollout {
        /// What it waits for.
        #[source]
        source: Box<cluster::Error>,
        /// How to see more, and how to go back.
        hints: Vec<Hint>,
    },
    /// The sample apps.
    #[error(transparent)]
    Sample(#[from] Box<super::sample::Error>),
    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Another run has the Lease of a member.
#[derive(Debug, thiserror::Error)]
#[error(
    "cluster {cluster}: {holder} is changing this mesh; its lease lasts for another {} s at most, unless it is renewed",
    left.as_secs_f32().ceil()
)]
pub(crate) struct Busy {
    /// The member.
    pub cluster: ClusterName,
    /// Who has it.
    pub(crate) holder: cluster::lease::Holder,
    /// How long it lasts if it is not renewed.
    pub left: Duration,
}

impl Error {
    /// Is it worth trying again?
    pub(crate) fn recover(&self) -> Recover {
        match self {
            Self::Cluster(source) => source.recover(),
            Self::Rollout { source, .. } => source.recover(),
            Self::Missing { .. } => Recover::Backoff,
            _ => Recover::Never,
        }
    }

    /// An API server refused a right.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Cluster(source) if source.code() == Some(403))
    }

    /// How bad it is.
    pub(crate) fn severity(&self) -> Severity {
        match self {
            Self::NotInTime { .. } | Self::Cluster(cluster::Error::NotInTime { .. }) => {
                Severity::NotInTime
            }
            Self::Rollout { source, .. }
                if matches!(**source, cluster::Error::NotInTime { .. }) =>
            {
                Severity::NotInTime
            }
            Self::Nlb(error) if matches!(**error, nlb::Error::NotInTime { .. }) => {
                Severity::NotInTime
            }
            Self::Refused(_) => Severity::Refused,
            Self::Sample(error) => error.severity(),
            Self::Interrupted => Severity::Interrupted,
            _ => Severity::Failed,
        }
    }

    /// What to do about it.
    pub(crate) fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotInTime { reason, .. } => reason.hints.clone(),
            Self::Hidden { hidden } => hidden.hints.clone(),
            Self::Rollout { hints, .. } => hints.clone(),
            Self::Refused(refusal) => refusal.hints.clone(),
            Self::Sample(error) => error.hints(),
            Self::Release {
                cluster,
                namespace,
                source,
                ..
            } => match &**source {
                chart::Error::Record { name, .. } => {
                    let words = ["-n", namespace, "delete", "secret", name];
                    let hint = Hint::kubectl(cluster, words);
                    vec![hint.remark("the record is damaged; then run the command again")]
                }
                _ => vec![],
            },
            Self::Vault(error) => error.hint().into_iter().collect(),
            Self::Nlb(error) => error.hint().into_iter().collect(),
            Self::Cluster(
                cluster::Error::NotInTime {
                    cluster, object, ..
                }
                | cluster::Error::NeverReady {
                    cluster, object, ..
                },
            ) => vec![object.describe(cluster)],
            _ => vec![],
        }
    }
}

/// An error and its causes, outermost first, a line each.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let texts = crate::causes::texts(error);
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .map(|line| line.trim_end_matches([':', ' ']).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Kind, Ref};

    #[test]
    fn a_late_object_comes_with_the_command_that_looks_at_it() {
        let late = |object| {
            let error = cluster::Error::NotInTime {
                cluster: "eks-1".parse().unwrap(),
                object: Box::new(object),
                waited: Duration::from_secs(60),
                reason: "not created yet".into(),
            };
            Error::Cluster(error).hints()
        };
        assert_eq!(
            late(Ref::namespaced(&Kind::DEPLOYMENT, "istio-system", "istiod"))[0].to_string(),
            "kubectl --context eks-1 -n istio-system describe deployment istiod"
        );
        assert_eq!(
            late(Ref::cluster(&Kind::NAMESPACE, "x"))[0].to_string(),
            "kubectl --context eks-1 describe namespace x"
        );
    }
}
