//! One run at a time: a Lease `meshlink` in istio-system, with the API server as the arbiter.
//!
//! The version of the Lease object is the fence: whoever renews with an old one has lost.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Cluster, Created, Delete, Error, Failure, Kind, Ref,
    access::{ISTIO_SYSTEM, MANAGED_BY},
};

/// The Lease's name.
pub(crate) const NAME: &str = "meshlink";
/// Two runs that meet on the same version try again this often.
const TRIES: usize = 5;

/// Where the Lease is.
pub(crate) fn reference() -> Ref {
    Ref::namespaced(&Kind::LEASE, ISTIO_SYSTEM, NAME)
}

/// A Lease that is ours until [`Held::until`].
#[derive(Debug, Clone)]
pub(crate) struct Held {
    cluster: Cluster,
    object: Value,
    who: String,
    ttl: Duration,
}

/// What came of trying to take the Lease.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It is ours.
    Held(Held),
    /// Somebody else has it.
    HeldBy(Holder),
}

/// Who has the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The identity that was given.
    pub(crate) who: String,
    /// Since when.
    pub(crate) since: Option<Timestamp>,
    /// When it is free if not renewed.
    pub(crate) until: Timestamp,
}

/// What to do about the Lease as it stands.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Take,
    Refuse(Holder),
}

/// Free, expired and our own Leases are taken. A clock of ours that runs ahead takes one too early
/// by as much; so holders renew long before the end.
fn decide(lease: Option<&Value>, who: &str, now: Timestamp) -> Decision {
    let Some(lease) = lease else {
        return Decision::Create;
    };
    match holder(lease) {
        Some(holder) if holder.who != who && holder.until > now => Decision::Refuse(holder),
        _ => Decision::Take,
    }
}

/// Who holds a Lease, if it names anybody and says until when.
pub(crate) fn holder(lease: &Value) -> Option<Holder> {
    let spec = &lease["spec"];
    let who = spec["holderIdentity"]
        .as_str()
        .filter(|who| !who.is_empty())?
        .to_owned();
    let time = |key: &str| {
        spec[key]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok())
    };
    let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or(0);
    let until = time("renewTime")?
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .ok()?;
    Some(Holder {
        who,
        since: time("acquireTime"),
        until,
    })
}

/// The Lease as we want it to be, on top of what is there.
fn claim(lease: Option<Value>, who: &str, ttl: Duration, now: Timestamp) -> Value {
    let (key, value) = MANAGED_BY;
    let metadata = json!({"name": NAME, "namespace": ISTIO_SYSTEM, "labels": {key: value}});
    let empty = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}});
    let mut lease = lease.unwrap_or(empty);
    let spec = &mut lease["spec"];
    if spec["holderIdentity"] != who {
        let before = spec["leaseTransitions"].as_i64().unwrap_or(-1);
        spec["leaseTransitions"] = json!(before + 1);
        spec["acquireTime"] = json!(micro(now));
    }
    spec["holderIdentity"] = json!(who);
    spec["leaseDurationSeconds"] = json!(ttl.as_secs().max(1));
    spec["renewTime"] = json!(micro(now));
    lease
}

/// Kubernetes' MicroTime: RFC 3339 with exactly six decimals.
fn micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Takes the Lease, if it is free, has expired, or is ours already.
pub(crate) async fn acquire(
    cluster: &Cluster,
    who: &str,
    ttl: Duration,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let mut tries = 1;
    loop {
        let lease = cluster.find(&reference()).await?;
        let taken = match decide(lease.as_ref(), who, now) {
            Decision::Refuse(holder) => return Ok(Outcome::HeldBy(holder)),
            Decision::Create => match cluster.create(&claim(None, who, ttl, now)).await {
                Ok(Created::Created(object)) => Ok(object),
                Ok(Created::Exists(_)) if tries < TRIES => Err(None),
                Ok(Created::Exists(object)) => return Ok(lost_to(&object, now)),
                Err(error) => Err(Some(error)),
            },
            Decision::Take => match cluster.replace(&claim(lease, who, ttl, now)).await {
                Ok(applied) => Ok(applied.object),
                Err(error) if tries < TRIES && conflict(&error) => Err(None),
                Err(error) => Err(Some(error)),
            },
        };
        match taken {
            Ok(object) => {
                return Ok(Outcome::Held(Held {
                    cluster: cluster.clone(),
                    object,
                    who: who.into(),
                    ttl,
                }));
            }
            Err(Some(error)) => return Err(error),
            Err(None) => tries += 1,
        }
    }
}

fn lost_to(lease: &Value, now: Timestamp) -> Outcome {
    let unnamed = || Holder {
        who: "another run".into(),
        since: None,
        until: now,
    };
    Outcome::HeldBy(holder(lease).unwrap_or_else(unnamed))
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
    /// The name the Lease is held under.
    #[cfg(test)]
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    /// When it ends if it is not renewed.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        holder(&self.object).map(|holder| holder.until)
    }

    /// Prolongs the Lease; an error if somebody else took it meanwhile. Where its namespace goes, as
    /// at the end of a leave, there is nothing to prolong.
    pub(crate) async fn renew(&mut self, now: Timestamp) -> Result<(), Error> {
        self.write(|held| claim(Some(held.object.clone()), &held.who, held.ttl, now))
            .await
    }

    /// Gives the Lease up: the next run need not wait for its end. The object stays.
    pub(crate) async fn release(mut self) -> Result<(), Error> {
        self.write(|held| {
            let mut free = held.object.clone();
            free["spec"]["holderIdentity"] = json!("");
            free
        })
        .await
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

    async fn write(&mut self, wanted: impl Fn(&Self) -> Value) -> Result<(), Error> {
        let applied = match self.cluster.replace(&wanted(self)).await {
            Err(error) if conflict(&error) => {
                if !self.look_again().await? {
                    return Ok(());
                }
                self.cluster.replace(&wanted(self)).await?
            }
            other => other?,
        };
        self.object = applied.object;
        Ok(())
    }

    /// After a conflict: ours still, if only the answer to our own last write was lost. False where
    /// it went with its namespace.
    async fn look_again(&mut self) -> Result<bool, Error> {
        let now = self.cluster.find(&reference()).await?;
        let who = now.as_ref().and_then(holder).map(|holder| holder.who);
        match now {
            Some(object) if who.as_ref() == Some(&self.who) => {
                self.object = object;
                Ok(true)
            }
            None if self.namespace_goes().await? => Ok(false),
            _ => Err(Error::LeaseLost {
                cluster: self.cluster.name().clone(),
                who: who.unwrap_or_else(|| "nobody: it was given up or deleted".into()),
            }),
        }
    }

    async fn namespace_goes(&self) -> Result<bool, Error> {
        let namespace = Ref::cluster(&Kind::NAMESPACE, ISTIO_SYSTEM);
        let found = self.cluster.find(&namespace).await?;
        Ok(found.is_none_or(|n| n["metadata"]["deletionTimestamp"].is_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn held(who: &str) -> Value {
        claim(None, who, Duration::from_secs(60), at(0))
    }

    #[test]
    fn who_gets_it() {
        let mine = held("me");
        let theirs = held("them");
        let mut free = held("them");
        free["spec"]["holderIdentity"] = json!("");
        let mut broken = held("them");
        broken["spec"]["renewTime"] = json!("yesterday");
        let refuse = Decision::Refuse(Holder {
            who: "them".into(),
            since: Some(at(0)),
            until: at(60),
        });
        for (lease, now, want) in [
            (None, at(0), Decision::Create),
            (Some(&mine), at(1), Decision::Take),
            (Some(&mine), at(99), Decision::Take),
            (Some(&theirs), at(59), refuse),
            (Some(&theirs), at(60), Decision::Take),
            (Some(&free), at(1), Decision::Take),
            (Some(&broken), at(1), Decision::Take),
        ] {
            assert_eq!(decide(lease, "me", now), want, "{lease:?} {now}");
        }
    }

    #[test]
    fn a_claim_counts_hands_not_renewals() {
        let first = held("me");
        assert_eq!(first["spec"]["leaseTransitions"], 0);
        let renewed = claim(Some(first.clone()), "me", Duration::from_secs(60), at(30));
        assert_eq!(renewed["spec"]["acquireTime"], first["spec"]["acquireTime"]);
        assert_eq!(renewed["spec"]["leaseTransitions"], 0);
        let taken = claim(Some(renewed), "them", Duration::from_secs(60), at(200));
        assert_eq!(taken["spec"]["leaseTransitions"], 1);
        assert_eq!(taken["spec"]["acquireTime"], taken["spec"]["renewTime"]);
    }

    #[test]
    fn times_have_six_decimals() {
        assert_eq!(
            micro(Timestamp::new(1_800_000_000, 5_000).unwrap()),
            "2027-01-15T08:00:00.000005Z"
        );
    }

    use std::sync::Mutex;

    use super::super::testing::{self, Reply};

    /// An API server that keeps one Lease, its version and its history, in a namespace. `rival` takes it before the nth
    /// write; the answer to the write `unheard` is lost.
    #[derive(Default)]
    struct Server {
        lease: Option<Value>,
        version: usize,
        writes: usize,
        goes: bool,
        history: Vec<(usize, Value)>,
    }

    impl Server {
        fn store(&mut self, lease: Option<&Value>) -> Value {
            self.version += 1;
            let kind = if lease.is_some() {
                "MODIFIED"
            } else {
                "DELETED"
            };
            let mut object = lease.or(self.lease.as_ref()).cloned().unwrap_or_default();
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            let event = json!({"type": kind, "object": object});
            self.history.push((self.version, event));
            self.lease = lease.map(|_| object.clone());
            object
        }

        /// A list of what is there, or the history since a version.
        fn list(&self, uri: &str) -> Reply {
            if !uri.contains("watch=1") {
                let metadata = json!({"resourceVersion": self.version.to_string()});
                let items: Vec<_> = self.lease.iter().collect();
                return Reply::json(200, json!({"metadata": metadata, "items": items}));
            }
            let (_, from) = uri.split_once("resourceVersion=").unwrap();
            let from: usize = from.split('&').next().unwrap().parse().unwrap();
            let since = self.history.iter().filter(|(version, _)| *version > from);
            let events: Vec<_> = since.map(|(_, event)| event.clone()).collect();
            Reply::events(&events, true)
        }
    }

    fn server(rival: Option<usize>, unheard: Option<usize>) -> Cluster {
        let state = Mutex::new(Server::default());
        let (cluster, _) = testing::cluster(move |seen| {
            let server = &mut *state.lock().unwrap();
            let is_namespace = seen.uri.ends_with("/namespaces/istio-system");
            if seen.uri.contains("fieldSelector") {
                return server.list(&seen.uri);
            }
            if seen.method != http::Method::GET {
                server.writes += 1;
                if rival == Some(server.writes) {
                    let theirs = claim(None, "them", Duration::from_secs(60), at(0));
                    server.store(Some(&theirs));
                }
            }
            let heard = unheard != Some(server.writes);
            let answer = |object: Value| match heard {
                true => Reply::json(200, object),
                false => Reply::status(504, "Timeout"),
            };
            let current = server
                .lease
                .as_ref()
                .map(|lease| lease["metadata"]["resourceVersion"].clone());
            match (seen.method.as_str(), current) {
                ("GET", _) if is_namespace => {
                    let goes = server.goes.then_some("2026-01-02T03:04:05Z");
                    let metadata = json!({"name": ISTIO_SYSTEM, "deletionTimestamp": goes});
                    Reply::json(200, json!({"kind": "Namespace", "metadata": metadata}))
                }
                ("DELETE", _) if is_namespace => {
                    server.goes = true;
                    server.store(None);
                    Reply::json(200, json!({"kind": "Status"}))
                }
                ("GET", Some(_)) => Reply::json(200, server.lease.clone().unwrap()),
                ("POST", None) => answer(server.store(Some(&seen.body))),
                ("POST", Some(_)) => Reply::status(409, "AlreadyExists"),
                ("PUT", Some(now)) if now == seen.body["metadata"]["resourceVersion"] => {
                    answer(server.store(Some(&seen.body)))
                }
                ("DELETE", Some(now)) if now == seen.body["preconditions"]["resourceVersion"] => {
                    server.store(None);
                    Reply::json(200, json!({"kind": "Status"}))
                }
                (_, Some(_)) => Reply::status(409, "Conflict"),
                (_, None) => Reply::status(404, "NotFound"),
            }
        });
        cluster
    }

    const TTL: Duration = Duration::from_secs(60);

    async fn take(cluster: &Cluster, who: &str, now: i64) -> Result<Held, Holder> {
        match acquire(cluster, who, TTL, at(now)).await.unwrap() {
            Outcome::Held(held) => Ok(held),
            Outcome::HeldBy(holder) => Err(holder),
        }
    }

    #[tokio::test]
    async fn one_holds_it_until_it_ends_or_is_given_up() {
        let cluster = server(None, None);
        let held = take(&cluster, "me", 0).await.unwrap();
        assert_eq!(held.until(), Some(at(60)));
        assert_eq!(take(&cluster, "them", 59).await.unwrap_err().who, "me");
        held.release().await.unwrap();
        let theirs = take(&cluster, "them", 59).await.unwrap();
        let mine = take(&cluster, "me", 120).await.unwrap();
        let lost = theirs.release().await.unwrap_err();
        assert_eq!(
            lost.to_string(),
            "cluster eks-1: the lease was taken over by me"
        );
        mine.remove().await.unwrap();
        assert_eq!(cluster.find(&reference()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn renewals_prolong_and_fence() {
        let cluster = server(None, None);
        let mut held = take(&cluster, "me", 0).await.unwrap();
        held.renew(at(50)).await.unwrap();
        assert_eq!(held.until(), Some(at(110)));
        assert!(take(&cluster, "them", 100).await.is_err());
        let _theirs = take(&cluster, "them", 110).await.unwrap();
        assert!(
            matches!(held.renew(at(111)).await, Err(Error::LeaseLost { who, .. }) if who == "them")
        );
        assert!(held.remove().await.is_err());
    }

    #[tokio::test]
    async fn one_that_goes_with_its_namespace_is_not_lost() {
        let cluster = server(None, None);
        let mut held = take(&cluster, "me", 0).await.unwrap();
        held.clone().remove().await.unwrap();
        let lost = held.renew(at(1)).await.unwrap_err();
        assert!(lost.to_string().contains("nobody"), "{lost}");

        let mut held = take(&cluster, "me", 0).await.unwrap();
        let namespace = Ref::cluster(&Kind::NAMESPACE, ISTIO_SYSTEM);
        let gone = cluster.delete(&namespace, &Delete::background()).await;
        gone.unwrap();
        held.renew(at(1)).await.unwrap();
        held.remove().await.unwrap();
    }

    #[tokio::test]
    async fn a_race_has_one_winner() {
        for write in [1, 2] {
            let cluster = server(Some(write), None);
            let first = take(&cluster, "me", 0).await;
            if write == 1 {
                assert_eq!(first.unwrap_err().who, "them");
            } else {
                // The rival comes between taking and renewing.
                let renewed = first.unwrap().renew(at(1)).await;
                assert!(matches!(renewed, Err(Error::LeaseLost { .. })));
            }
        }
    }

    #[tokio::test]
    async fn a_lost_answer_loses_no_lease() {
        let cluster = server(None, Some(1));
        let first = acquire(&cluster, "me", TTL, at(0)).await;
        assert_eq!(first.unwrap_err().recover(), super::super::Recover::Backoff);
        take(&cluster, "me", 0).await.unwrap();

        let cluster = server(None, Some(2));
        let mut held = take(&cluster, "me", 0).await.unwrap();
        held.renew(at(10)).await.unwrap_err();
        held.renew(at(20)).await.unwrap();
        assert_eq!(held.until(), Some(at(80)));

        let cluster = server(None, Some(2));
        let mut held = take(&cluster, "me", 0).await.unwrap();
        held.renew(at(10)).await.unwrap_err();
        held.remove().await.unwrap();
    }
}
