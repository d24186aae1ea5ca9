//! One run at a time: a Lease in every member, taken in one order by everybody.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Busy, Error, error::causes};
use crate::{
    cluster::{
        self, Cluster, Failure, Fence,
        lease::{self, Held, Outcome, Terms, Watch},
    },
    mutex,
    name::ClusterName,
    observe::Observed,
    owner::Owner,
    spec::Mesh,
    wait::{self, Deadline, Every, Progress, Unmet},
};

/// How often a Lease is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// Another's Lease is looked at at this pace.
const LOOK: Every = Every::growing(Duration::from_secs(1), Duration::from_secs(4));
/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a renewal may take: there is time for two before the fence holds back the run's writes.
const REQUEST: Duration = Duration::from_secs(7);

/// Ends a run early: what runs is given up, and nothing new is begun.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    token: CancellationToken,
    fence: Fence,
}

impl Stop {
    /// Stops when `token` is cancelled, or a Lease is lost.
    pub(crate) fn when(token: &CancellationToken, fence: &Fence) -> Self {
        Self {
            token: token.child_token(),
            fence: fence.clone(),
        }
    }

    /// The Lease that was lost, and how.
    pub(crate) fn lost(&self) -> Option<&[String]> {
        self.fence.lost()
    }

    /// The run is to end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.token.is_cancelled() || self.lost().is_some()
    }

    /// Waits until the run is to end; where it is to take away what it made, until it may not even do that.
    pub(crate) async fn wanted(&self, always: bool) {
        tokio::select! {
            () = self.fence.closed() => {}
            () = self.token.cancelled(), if !always => {}
        }
    }

    /// What the run writes through.
    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }
}

/// How long to wait for others, and whom to tell.
pub(crate) struct Patience<'a> {
    /// Until their Leases are free.
    pub(crate) wait: Duration,
    /// Until a namespace is gone that an earlier run was deleting when it ended.
    pub(crate) going: Duration,
    /// Ends the wait.
    pub(crate) cancel: &'a CancellationToken,
    /// Is told for whom it is waited.
    pub(crate) say: &'a (dyn Fn(&str) + Sync),
}

/// The Leases of a run; renewed until given up. Dropping it leaves them to run out.
#[derive(Debug)]
pub(crate) struct Lock {
    keepers: JoinSet<Result<Held, cluster::Error>>,
    done: CancellationToken,
    fence: Fence,
}

/// Takes the Lease of every member, in the order of their UIDs: two runs that share members meet at
/// the first of them, so one goes on and the other changes nothing.
pub(crate) async fn lock(
    clusters: &BTreeMap<ClusterName, Cluster>,
    observed: &Observed,
    mesh: &Mesh,
    terms: &Arc<Terms>,
    patience: &Patience<'_>,
) -> Result<Lock, Error> {
    let mut order: Vec<_> = clusters.iter().collect();
    order.sort_by_key(|(name, _)| observed.clusters.get(*name).map(|s| s.uid.clone()));
    let mut lock = Lock {
        keepers: JoinSet::new(),
        done: CancellationToken::new(),
        fence: Fence::new(terms.uptime.clone()),
    };
    let (free, gone) = [patience.wait, patience.going].map(Deadline::after).into();
    for (name, cluster) in order {
        let seen = observed.clusters.get(name);
        let owner = seen.map(|s| s.owner(&mesh.id, name));
        let space = space(mesh, owner.as_ref());
        let taken = tokio::select! {
            biased;
            () = patience.cancel.cancelled() => Err(Error::Interrupted),
            taken = take(cluster, &space, terms, (free, gone), patience.say) => taken,
        };
        match taken {
            Ok(held) => lock.keep(name, held),
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

/// The Lease, at the latest when time is up.
async fn take(
    cluster: &Cluster,
    space: &Value,
    terms: &Arc<Terms>,
    (free, gone): (Deadline, Deadline),
    say: &(dyn Fn(&str) + Sync),
) -> Result<Held, Error> {
    let watch = &tokio::sync::Mutex::new(Watch::default());
    let last = &Mutex::new(None);
    let not_yet = |reason: String, error: Error| {
        if free.left().is_zero() {
            return Progress::Never(error);
        }
        *mutex::lock(last) = Some(error);
        Progress::NotYet(reason.into())
    };
    let going = format!(
        "cluster {}: waiting until namespace {} is gone, which is being deleted",
        cluster.name(),
        space["metadata"]["name"].as_str().unwrap_or_default()
    );
    let going = &going;
    let ask = |()| async move {
        match attempt(cluster, space, terms, &mut *watch.lock().await).await {
            Ok(Outcome::Held(held)) => Progress::Done(*held),
            Ok(Outcome::HeldBy(seen)) => {
                let busy = Busy {
                    cluster: cluster.name().clone(),
                    left: seen.left(terms.now()),
                    holder: seen.holder,
                };
                let reason = format!("cluster {}: waiting for {}", busy.cluster, busy.holder);
                not_yet(reason, busy.into())
            }
            Err(error) if error.recover() == cluster::Recover::Never => {
                Progress::Never(Error::Cluster(error))
            }
            Err(error)
                if error
                    .failure()
                    .is_some_and(Failure::is_of_a_going_namespace) =>
            {
                *mutex::lock(last) = Some(error.into());
                Progress::NotYet(going.clone().into())
            }
            Err(error) => not_yet(causes(&error).join(": "), error.into()),
        }
    };
    let longest = if free.left() > gone.left() {
        free
    } else {
        gone
    };
    let taken = wait::until(ask, LOOK, longest, say).await;
    taken.map_err(|unmet| match unmet {
        Unmet::Never(error) => error,
        Unmet::Late { waited, reason } => {
            let last = mutex::lock(last).take();
            let what = "the lease is free".to_owned();
            last.unwrap_or(Error::NotInTime {
                what,
                waited,
                reason,
            })
        }
    })
}

/// Tries to take the Lease; its namespace is made for it where there is none.
async fn attempt(
    cluster: &Cluster,
    space: &Value,
    terms: &Arc<Terms>,
    watch: &mut Watch,
) -> Result<Outcome, cluster::Error> {
    match lease::acquire(cluster, terms, watch).await {
        Err(error) if error.code() == Some(404) => {
            cluster.create(space).await?;
            lease::acquire(cluster, terms, watch).await
        }
        other => other,
    }
}

impl Lock {
    /// What the run writes through.
    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    fn keep(&mut self, name: &ClusterName, held: Held) {
        self.fence.renewed(name, held.begun());
        let keeper = keep(name.clone(), held, self.fence.clone(), self.done.clone());
        self.keepers.spawn(keeper);
    }

    /// Gives the Leases up; with `remove`, leaves none behind. Nothing of the run may write any more.
    pub(crate) async fn release(mut self, remove: bool) {
        self.fence.close();
        self.done.cancel();
        let mut given_up = JoinSet::new();
        while let Some(keeper) = self.keepers.join_next().await {
            if let Ok(Ok(held)) = keeper {
                // A Lease that cannot be given up runs out by itself.
                given_up.spawn(async move {
                    match remove {
                        true => held.remove().await,
                        false => held.release().await,
                    }
                });
            }
        }
        given_up.join_all().await;
    }
}

/// Renews a Lease until the run is done with it, or it is lost.
async fn keep(
    name: ClusterName,
    mut held: Held,
    fence: Fence,
    done: CancellationToken,
) -> Result<Held, cluster::Error> {
    let mut pause = RENEW;
    loop {
        tokio::select! {
            biased;
            () = done.cancelled() => return Ok(held),
            () = sleep(pause) => {}
        }
        let renewed = timeout(REQUEST, held.renew()).await;
        if !fence.holds(&name) {
            // This run is taking it away, with its namespace.
            done.cancelled().await;
            return Ok(held);
        }
        pause = match renewed {
            Ok(Ok(())) => {
                fence.renewed(&name, held.begun());
                RENEW
            }
            Ok(Err(error)) if matches!(error, cluster::Error::LeaseLost { .. }) => {
                fence.lose(causes(&error));
                return Err(error);
            }
            // A cluster may be away for a while. Nothing is written to it meanwhile; when it is back, it is seen whether
            // somebody else has taken the Lease.
            Ok(Err(_)) | Err(_) => AGAIN,
        };
    }
}

#[cfg(test)]
mod tests;
