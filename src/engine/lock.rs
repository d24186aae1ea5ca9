//! One run at a time: a Lease in every member, taken in one order by everybody.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Clock, Error, error::causes};
use crate::{
    cluster::{
        Cluster,
        lease::{self, Held, Outcome},
    },
    hint::Hint,
    name::ClusterName,
    observe::Observed,
    owner::Owner,
    plan::Refusal,
    spec::Mesh,
};

/// How long a Lease outlives a run that died.
const TTL: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);

/// Ends a run early: what runs is given up, and nothing new is begun.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    lost: Arc<OnceLock<Vec<String>>>,
}

impl Stop {
    /// Stops when `token` is cancelled, or a Lease is lost.
    pub(crate) fn when(token: &CancellationToken) -> Self {
        Self {
            token: token.child_token(),
            lost: Arc::default(),
        }
    }

    fn lose(&self, why: Vec<String>) {
        let _ = self.lost.set(why);
        self.token.cancel();
    }

    /// The Lease that was lost, and how.
    pub(crate) fn lost(&self) -> Option<&[String]> {
        self.lost.get().map(Vec::as_slice)
    }

    /// The run is to end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the run is to end.
    pub(crate) async fn wanted(&self) {
        self.token.cancelled().await;
    }
}

/// The Leases of a run; renewed until given up.
#[derive(Debug)]
pub(crate) struct Lock {
    keepers: Vec<(ClusterName, JoinHandle<Result<Held, crate::cluster::Error>>)>,
    done: CancellationToken,
}

/// Takes the Lease of every member, in the order of their UIDs: two runs that share members meet at
/// the first of them, so one goes on and the other changes nothing. `stop` is told should somebody
/// take a Lease over.
pub(crate) async fn lock(
    clusters: &BTreeMap<ClusterName, Cluster>,
    observed: &Observed,
    mesh: &Mesh,
    who: &str,
    clock: &Clock,
    stop: &Stop,
) -> Result<Lock, Error> {
    let mut order: Vec<_> = clusters.iter().collect();
    order.sort_by_key(|(name, _)| observed.clusters.get(*name).map(|s| s.uid.clone()));
    let mut lock = Lock {
        keepers: vec![],
        done: CancellationToken::new(),
    };
    for (name, cluster) in order {
        let seen = observed.clusters.get(name);
        let owner = seen.map(|s| s.owner(&mesh.id, name));
        let space = space(mesh, owner.as_ref());
        match take(cluster, &space, who, clock).await {
            Ok(held) => lock.keep(name, held, clock, stop),
            Err(error) => {
                lock.release(false).await;
                return Err(error);
            }
        }
    }
    Ok(lock)
}

/// The Lease needs its namespace, which is the first thing a join would make anyway.
fn space(mesh: &Mesh, owner: Option<&Owner>) -> Value {
    let name = mesh.istio.namespace.as_str();
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    match owner {
        Some(owner) => owner.stamped(&space, None),
        None => space,
    }
}

/// The Lease; its namespace is made for it where there is none.
async fn take(cluster: &Cluster, space: &Value, who: &str, clock: &Clock) -> Result<Held, Error> {
    let attempt = lease::acquire(cluster, who, TTL, clock()).await;
    let outcome = match attempt {
        Err(error) if error.failure().and_then(crate::cluster::Failure::code) == Some(404) => {
            cluster.create(space).await?;
            lease::acquire(cluster, who, TTL, clock()).await?
        }
        other => other?,
    };
    match outcome {
        Outcome::Held(held) => Ok(held),
        Outcome::HeldBy(holder) => Err(Refusal {
            cluster: Some(cluster.name().clone()),
            reason: format!(
                "{} is changing this mesh, until {} at the latest",
                holder.who, holder.until
            ),
            hints: vec![Hint::note("run it again when that is over")],
        }
        .into()),
    }
}

impl Lock {
    fn keep(&mut self, name: &ClusterName, mut held: Held, clock: &Clock, stop: &Stop) {
        let (clock, done, stop) = (clock.clone(), self.done.clone(), stop.clone());
        let cluster = name.clone();
        let keeper = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = done.cancelled() => return Ok(held),
                    () = tokio::time::sleep(RENEW) => {}
                }
                // A cluster may be away for a while; a Lease that was taken over, or that ran out
                // meanwhile and could be taken any moment, ends the run.
                if let Err(error) = held.renew(clock()).await {
                    let taken = matches!(error, crate::cluster::Error::LeaseLost { .. });
                    let ran_out = held.until().is_some_and(|until| until <= clock());
                    if taken || ran_out {
                        let what = format!(
                            "cluster {cluster}: the lease ran out, it could not be renewed"
                        );
                        let mut why = causes(&error);
                        why.splice(..0, (!taken).then_some(what));
                        stop.lose(why);
                        return Err(error);
                    }
                }
            }
        });
        self.keepers.push((name.clone(), keeper));
    }

    /// Gives the Leases up; with `remove`, leaves none behind.
    pub(crate) async fn release(self, remove: bool) {
        self.done.cancel();
        for (_, keeper) in self.keepers {
            if let Ok(Ok(held)) = keeper.await {
                // A Lease that cannot be given up runs out by itself.
                let _ = if remove {
                    held.remove().await
                } else {
                    held.release().await
                };
            }
        }
    }
}
