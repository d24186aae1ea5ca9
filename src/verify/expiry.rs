//! What has ended or is about to, as claims: said only where somebody has to know.

use std::collections::BTreeMap;

use futures::future;
use jiff::Timestamp;

use super::{Check, Claim, Outcome, Verifier, istiod};
use crate::{
    causes,
    cluster::{self, Cluster},
    ends::{Ends, Row, Signing, State, What},
    name::ClusterName,
    observe::{self, Ends as Ending, Seen},
};

/// What the replicas of an istiod say of their certificates; nothing of one that does not say.
pub(super) type Said = Vec<(String, Option<Ending>)>;
/// The same of every member.
pub(super) type Replicas = BTreeMap<ClusterName, Said>;

impl Verifier<'_> {
    /// What every replica of a member's istiod says; with `ends`, also when its certificates end.
    pub(crate) async fn replicas(
        &self,
        cluster: &Cluster,
        seen: &Seen,
        ends: bool,
    ) -> Result<Vec<istiod::Replica>, cluster::Error> {
        let namespace = &self.mesh.istio.namespace;
        let pods = &seen.istiod.pods;
        let asked = pods.iter();
        let asked = asked.map(|pod| istiod::ask(cluster, namespace, pod, ends));
        let mut replicas = vec![];
        let mut first = None;
        for (pod, asked) in pods.iter().zip(future::join_all(asked).await) {
            replicas.push(asked.unwrap_or_else(|error| {
                let unasked = Some(causes::line(&error));
                first.get_or_insert(error);
                istiod::Replica {
                    pod: pod.clone(),
                    unasked,
                    ..istiod::Replica::default()
                }
            }));
        }
        // One that is silent does not hide what the others say.
        match first {
            Some(error) if replicas.iter().all(|r| r.unasked.is_some()) => Err(error),
            _ => Ok(replicas),
        }
    }

    /// Asks every replica of every istiod until when its certificates are valid.
    async fn replicas_signing(&self) -> Replicas {
        let istio = self.mesh.istio.namespace.as_str();
        let members = self.clusters.iter();
        let asked = members.filter_map(|(name, cluster)| {
            let pods = &self.seen(name)?.istiod.pods;
            let pods = pods.iter().map(move |pod| async move {
                (pod.clone(), observe::ends(cluster, istio, pod).await)
            });
            Some(async move { (name.clone(), future::join_all(pods).await) })
        });
        future::join_all(asked).await.into_iter().collect()
    }

    /// Until when what istiods sign with is valid, as each of them says.
    pub(crate) async fn signing(&self) -> Signing {
        signing(&self.replicas_signing().await)
    }
}

/// The same, of those that said it.
pub(super) fn signing(replicas: &Replicas) -> Signing {
    let one = |(pod, said): &(String, Option<Ending>)| {
        let until = Timestamp::from_second((*said)?.chain).ok()?;
        Some((pod.clone(), until))
    };
    let members = replicas.iter();
    let members = members.map(|(name, all)| (name.clone(), all.iter().filter_map(one).collect()));
    members.collect()
}

/// A claim for each member that holds something that has ended or is about to.
pub(super) fn checks(ends: &Ends) -> Vec<Check> {
    ends.pressing().flat_map(of_row).collect()
}

fn of_row(row: &Row) -> impl Iterator<Item = Check> {
    let outcome = match row.state {
        State::Failing | State::Ended => Outcome::Failed,
        _ => Outcome::Warning,
    };
    row.members.iter().map(move |member| Check {
        id: claim(row.what),
        from: member.clone(),
        to: row.peer.clone(),
        outcome,
        evidence: row.sentence(),
        hints: row.hints.clone(),
    })
}

fn claim(what: What) -> Claim {
    match what {
        What::Root | What::ThrowAwayRoot => Claim::RootValid,
        What::Intermediate => Claim::IntermediateValid,
        What::Signing => Claim::SigningValid,
        What::Token => Claim::TokenValid,
        What::ApiCa => Claim::ApiCaValid,
    }
}
