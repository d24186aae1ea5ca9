//! What to type where a cluster does not let us in.

use futures::future;

use super::{
    Meshlink,
    failure::{Failure, Kind, Problem},
};
use crate::{
    aws::{
        Aws, Identity,
        eks::{self, Barrier},
    },
    cluster,
    hint::Hint,
    name::ClusterName,
    observe::{Lens, Observed, Unreachable, Unseen},
};

impl Meshlink {
    /// Members that could not be read, each with its own reason and the way in.
    pub(crate) async fn unread(&self, unseen: &Unseen) -> Failure {
        let Unseen::Clusters(failed) = unseen else {
            return Failure::failed(unseen);
        };
        let told = failed.iter().map(|(name, error)| self.told(name, error));
        not_reached(&future::join_all(told).await)
    }

    /// Adds to the members that could not be read what is to be done about them, and those there is no way to.
    pub(super) async fn with_unreachable(&self, lens: &Lens<'_>, observed: &mut Observed) {
        let failed = lens.take_failed().await;
        let told = failed.iter().map(|(name, error)| self.told(name, error));
        for told in future::join_all(told).await {
            if let Ok(name) = told.cluster.parse() {
                observed.unreachable.insert(name, told);
            }
        }
        observed.unreachable.extend(self.unreachable.clone());
    }

    /// One member that could not be read, with the way in.
    pub(crate) async fn told(&self, name: &ClusterName, error: &cluster::Error) -> Unreachable {
        let server = self.clusters.get(name).map_or("", cluster::Cluster::server);
        let mut told = Unreachable::of(name, server, error);
        let ways = self.unanswered(error).await.errors.into_iter();
        told.hints = ways.flat_map(|p| p.hints).collect();
        if told.silent && self.mesh.clusters.len() > 2 {
            let leave = Hint::meshlink(["leave", name.as_str(), "--dead"]);
            told.hints.push(leave.remark("if it is gone for good"));
        }
        told
    }

    /// A member that said no, with what lets us in.
    pub(crate) async fn unanswered(&self, error: &cluster::Error) -> Failure {
        let name = match error {
            cluster::Error::Call { cluster, .. } => cluster,
            _ => return Failure::failed(error),
        };
        let (place, who) = self.aws.of(name);
        unanswered(error, self.aws.aws(), place.zip(Some(who))).await
    }
}

/// Members that could not be read, where nothing can be done without them.
pub(crate) fn not_reached<'a>(members: impl IntoIterator<Item = &'a Unreachable>) -> Failure {
    let one = |u: &Unreachable| Problem {
        causes: u.why.clone(),
        hints: u.hints.clone(),
    };
    let members: Vec<_> = members.into_iter().collect();
    Failure {
        kind: match members.iter().all(|u| u.unknown) {
            true => Kind::Usage,
            false => Kind::Failed,
        },
        errors: members.into_iter().map(one).collect(),
    }
}

/// A cluster that said no; `place` is where EKS has it, and as whom to ask.
pub(super) async fn unanswered(
    error: &cluster::Error,
    aws: &Aws,
    place: Option<(eks::Place, Identity)>,
) -> Failure {
    let failure = Failure::failed(error);
    let Some(said) = error.failure() else {
        return failure;
    };
    let barrier = match (said.code(), said) {
        (Some(401), _) => Barrier::Unknown,
        (Some(403), _) => Barrier::Forbidden,
        (None, cluster::Failure::Transport { .. } | cluster::Failure::Timeout(_)) => {
            Barrier::Silent
        }
        _ => return failure,
    };
    let Some((place, who)) = place else {
        return failure;
    };
    let ways = eks::ways_in(aws, &who, &place, barrier).await;
    ways.into_iter().fold(failure, Failure::hint)
}
