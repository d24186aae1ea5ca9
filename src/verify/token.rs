//! Whether what a remote secret holds still opens anything.
//!
//! istiod does not say: it goes on with what it has read, and says `synced` until its watch breaks.

use super::{Check, Outcome, Verifier};
use crate::{
    cluster::{self, Cluster, Token, connect},
    hint::Hint,
    name::ClusterName,
};

impl Verifier<'_> {
    /// Shows the token to the API server it is for, by the way this machine has to it.
    pub(super) async fn opens(&self, check: Check, to: &ClusterName, token: &Token) -> Check {
        let Some(cluster) = self
            .clusters
            .get(to)
            .filter(|_| check.outcome == Outcome::Ok)
        else {
            return check;
        };
        let hints = vec![Hint::join_again([check.from.as_str(), to.as_str()])];
        match self.who(cluster, token).await {
            Err(error) if error.code() == Some(401) => Check {
                outcome: Outcome::Failed,
                evidence: format!("{to} does not accept its token any more"),
                hints,
                ..check
            },
            // That it cannot be asked from here says nothing of the token.
            _ => check,
        }
    }

    async fn who(&self, cluster: &Cluster, token: &Token) -> Result<(), cluster::Error> {
        let token = connect::fixed(token.clone());
        let (server, ca) = (cluster.server(), cluster.ca());
        let with_it = connect::shown_at(cluster, server, ca, token, self.connect)?;
        with_it.version().await.map(drop)
    }
}
