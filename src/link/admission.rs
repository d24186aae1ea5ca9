//! What to type where a cluster does not let us in.

use super::{
    Meshlink,
    failure::{Failure, Kind},
};
use crate::{
    aws::{
        Aws, Identity,
        eks::{self, Barrier},
    },
    cluster,
    observe::Unseen,
};

impl Meshlink {
    /// Members that could not be read, each with its own reason and the way in.
    pub(crate) async fn unread(&self, unseen: &Unseen) -> Failure {
        let Unseen::Clusters(failed) = unseen else {
            return Failure::failed(unseen);
        };
        let mut all = Failure {
            kind: Kind::Failed,
            errors: vec![],
        };
        for (_, error) in failed {
            all = all.and(self.unanswered(error).await);
        }
        all
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
