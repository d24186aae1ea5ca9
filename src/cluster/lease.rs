//! One run at a time: a Lease `meshlink` in istio-system, with the API server as the arbiter.
//!
//! The version of the Lease object decides between two who write at once: whoever renews with an old one has lost. When
//! another's Lease may be taken is told in `judge`, and what its holder may write meanwhile in [`super::fence`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Cluster, Created, Delete, Error, Failure, Kind, Recover, Ref,
    access::{ISTIO_SYSTEM, MANAGED_BY},
};
use crate::machine::Uptime;

mod judge;
#[cfg(test)]
mod tests;

pub(crate) use judge::{Holder, Identity, Now, Rule, Sighting, Watch};

/// The Lease's name.
pub(crate) const NAME: &str = "meshlink";
/// How long it lasts without a renewal.
pub(crate) const DURATION: Duration = Duration::from_secs(30);
/// Two runs that meet on the same version, and a write whose answer is lost, try again this often.
const TRIES: usize = 5;

/// Where the Lease is.
pub(crate) fn reference() -> Ref {
    Ref::namespaced(&Kind::LEASE, ISTIO_SYSTEM, NAME)
}

/// How a run takes Leases.
#[derive(Clone)]
pub(crate) struct Terms {
    /// The run.
    pub(crate) identity: Identity,
    /// The time of day, for whoever reads the Lease.
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The clock by which Leases are judged.
    pub(crate) uptime: Uptime,
    /// When another's Lease is free.
    pub(crate) rule: Rule,
    /// Whose Leases are taken all the same, since somebody asked for it.
    pub(crate) broken: BTreeSet<String>,
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Terms").field(&self.identity).finish()
    }
}

impl Terms {
    /// For a run, by the rule that holds.
    pub(crate) fn new(
        identity: Identity,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        uptime: Uptime,
    ) -> Self {
        Self {
            identity,
            clock,
            uptime,
            rule: Sighting::ran_out,
            broken: BTreeSet::new(),
        }
    }

    /// By both clocks.
    pub(crate) fn now(&self) -> Now {
        Now {
            uptime: (self.uptime)(),
            wall: (self.clock)(),
        }
    }

    /// Whose the Lease is, if it may not be taken.
    fn against(&self, lease: &Value, watch: &mut Watch) -> Option<Sighting> {
        if self.identity.holds(lease) {
            return None;
        }
        let seen = watch.look(lease, self.now(), self.rule)?;
        (!self.broken.contains(&seen.holder.identity)).then_some(seen)
    }

    /// The Lease as we want it to be, on top of what is there.
    fn claim(&self, lease: Option<Value>) -> Value {
        let (key, value) = MANAGED_BY;
        let metadata = json!({"name": NAME, "namespace": ISTIO_SYSTEM, "labels": {key: value}});
        let empty = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}});
        let mut lease = lease.unwrap_or(empty);
        let now = micro((self.clock)());
        if !self.identity.holds(&lease) {
            let before = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(-1);
            // It is a number of 32 bits, and one more than the greatest would be refused for ever.
            let next = before.max(-1).saturating_add(1).min(i32::MAX.into());
            let spec = judge::below(&mut lease, "spec");
            spec["leaseTransitions"] = json!(next);
            spec["acquireTime"] = json!(now);
        }
        self.identity.sign(&mut lease);
        let spec = judge::below(&mut lease, "spec");
        spec["leaseDurationSeconds"] = json!(DURATION.as_secs());
        spec["renewTime"] = json!(now);
        lease
    }
}

/// Kubernetes' MicroTime: RFC 3339 with exactly six decimals.
fn micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A Lease that is this run's, as long as it is renewed.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    cluster: Cluster,
    object: Value,
    terms: Arc<Terms>,
    /// When the request began that took or prolonged it last.
    begun: Duration,
}

/// What came of trying to take the Lease.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is ours.
    Held(Box<Held>),
    /// Somebody else has it.
    HeldBy(Box<Sighting>),
}

/// Takes the Lease, if it is nobody's, ours already, or another's that may be taken by what `watch` has seen of it.
pub(crate) async fn acquire(
    cluster: &Cluster,
    terms: &Arc<Terms>,
    watch: &mut Watch,
) -> Result<Outcome, Error> {
    let mut tries = 1;
    loop {
        let lease = cluster.find(&reference()).await?;
        let against = lease.as_ref().and_then(|l| terms.against(l, watch));
        if let Some(seen) = against {
            return Ok(Outcome::HeldBy(Box::new(seen)));
        }
        let begun = (terms.uptime)();
        let claim = terms.claim(lease.clone());
        let taken = match lease {
            Some(_) => cluster.replace(&claim).await.map(|done| Some(done.object)),
            None => cluster.create(&claim).await.map(|done| match done {
                Created::Created(object) => Some(object),
                Created::Exists(_) => None,
            }),
        };
        match taken {
            Ok(Some(object)) => {
                return Ok(Outcome::Held(Box::new(Held {
                    cluster: cluster.clone(),
                    object,
                    terms: terms.clone(),
                    begun,
                })));
            }
            Err(error) if tries >= TRIES || !may_be_done(&error) => return Err(error),
            // Whether it was done is seen at the next look.
            _ => tries += 1,
        }
    }
}

/// Somebody else came first, or the answer was lost and it may be done.
fn may_be_done(error: &Error) -> bool {
    let is_missing = error.code() == Some(404);
    error.recover() != Recover::Never && !is_missing
}

/// 409, or a Lease deleted under us: either way it is not ours as we knew it.
fn conflict(error: &Error) -> bool {
    matches!(
        error.failure(),
        Some(Failure::Status {
            code: 404 | 409,
            ..
        })
    )
}

impl Held {
    /// When the request began that took or prolonged it last, by this machine's clock.
    pub(crate) fn begun(&self) -> Duration {
        self.begun
    }

    /// Prolongs the Lease; an error if somebody else took it meanwhile, or it is gone.
    pub(crate) async fn renew(&mut self) -> Result<(), Error> {
        match self
            .write(|held| held.terms.claim(Some(held.object.clone())))
            .await?
        {
            true => Ok(()),
            false => Err(self.lost(None)),
        }
    }

    /// Gives the Lease up: the next run need not wait for its end. The object stays.
    pub(crate) async fn release(mut self) -> Result<(), Error> {
        let free = |held: &Self| {
            let mut lease = held.object.clone();
            judge::unsign(&mut lease);
            lease
        };
        self.write(free).await.map(drop)
    }

    /// Gives the Lease up and deletes it, as the last act of leaving.
    pub(crate) async fn remove(mut self) -> Result<(), Error> {
        match self.delete().await {
            Err(error) if conflict(&error) && self.look_again().await? => self.delete().await,
            Err(error) if conflict(&error) => Ok(()),
            other => other,
        }
    }

    async fn delete(&self) -> Result<(), Error> {
        let version = &self.object["metadata"]["resourceVersion"];
        let how = Delete {
            resource_version: version.as_str().map(str::to_owned),
            ..Delete::background()
        };
        self.cluster.delete(&reference(), &how).await.map(drop)
    }

    /// False where there is no Lease any more.
    async fn write(&mut self, wanted: impl Fn(&Self) -> Value) -> Result<bool, Error> {
        let begun = (self.terms.uptime)();
        let applied = match self.cluster.replace(&wanted(self)).await {
            Err(error) if conflict(&error) => {
                if !self.look_again().await? {
                    return Ok(false);
                }
                self.cluster.replace(&wanted(self)).await?
            }
            other => other?,
        };
        self.object = applied.object;
        self.begun = begun;
        Ok(true)
    }

    /// After a conflict: ours still, if only the answer to our own last write was lost, or somebody touched it. False
    /// where it is gone.
    async fn look_again(&mut self) -> Result<bool, Error> {
        match self.cluster.find(&reference()).await? {
            None => Ok(false),
            Some(object) if self.terms.identity.holds(&object) => {
                self.object = object;
                Ok(true)
            }
            Some(object) => Err(self.lost(judge::holder(&object))),
        }
    }

    fn lost(&self, to: Option<Holder>) -> Error {
        let nobody = || "nobody: it was given up or deleted".to_owned();
        Error::LeaseLost {
            cluster: self.cluster.name().clone(),
            who: to.map_or_else(nobody, |holder| holder.to_string()),
        }
    }
}
