use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    super::testing::{self, Reply},
    *,
};

/// How long the machine has been up, in seconds.
type Clock = Arc<AtomicU64>;

fn terms(who: &str, clock: &Clock) -> Arc<Terms> {
    let clock = clock.clone();
    let identity = Identity::new(who, format!("id-of-{who}"), None);
    let wall = Arc::new(|| Timestamp::from_second(1_800_000_000).unwrap());
    let uptime = Arc::new(move || Duration::from_secs(clock.load(Relaxed)));
    Arc::new(Terms::new(identity, wall, uptime))
}

#[test]
fn a_claim_counts_hands_not_renewals() {
    let clock = Clock::default();
    let first = terms("me", &clock).claim(None);
    assert_eq!(first["spec"]["leaseTransitions"], 0);
    let mut renewed = terms("me", &clock).claim(Some(first.clone()));
    assert_eq!(renewed["spec"]["acquireTime"], first["spec"]["acquireTime"]);
    assert_eq!(renewed["spec"]["leaseTransitions"], 0);
    renewed["spec"]["acquireTime"] = json!("before");
    let mut taken = terms("them", &clock).claim(Some(renewed));
    assert_eq!(taken["spec"]["leaseTransitions"], 1);
    assert_eq!(taken["spec"]["acquireTime"], taken["spec"]["renewTime"]);
    // One more than fits would be refused for ever.
    for (before, after) in [
        (i64::from(i32::MAX), i32::MAX),
        (i64::MAX, i32::MAX),
        (-7, 0),
    ] {
        taken["spec"]["leaseTransitions"] = json!(before);
        let next = terms("me", &clock).claim(Some(taken.clone()));
        assert_eq!(next["spec"]["leaseTransitions"], after);
    }
}

#[test]
fn what_is_no_lease_is_made_one() {
    let clock = Clock::default();
    for odd in [
        json!({"metadata": {"annotations": "x"}, "spec": 7}),
        json!({"metadata": [], "spec": "x"}),
        json!([7]),
    ] {
        assert!(judge::holder(&odd).is_none());
        let this = crate::machine::Process::this();
        let mut terms = Terms::clone(&terms("me", &clock));
        terms.identity = Identity::new("me", "id-of-me".into(), this);
        let mut lease = terms.claim(Some(odd.clone()));
        assert_eq!(judge::holder(&lease).unwrap().to_string(), "me", "{odd}");
        judge::unsign(&mut lease);
        judge::unsign(&mut odd.clone());
    }
}

#[test]
fn times_have_six_decimals() {
    assert_eq!(
        micro(Timestamp::new(1_800_000_000, 5_000).unwrap()),
        "2027-01-15T08:00:00.000005Z"
    );
}

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
                let theirs = terms("them", &Arc::default()).claim(None);
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

/// A run that looks at the Lease again and again.
struct Run {
    cluster: Cluster,
    terms: Arc<Terms>,
    watch: Watch,
}

impl Run {
    fn new(cluster: &Cluster, who: &str, clock: &Clock) -> Self {
        Self {
            cluster: cluster.clone(),
            terms: terms(who, clock),
            watch: Watch::default(),
        }
    }

    /// The Lease, or who has it.
    async fn take(&mut self) -> Result<Held, String> {
        match acquire(&self.cluster, &self.terms, &mut self.watch).await {
            Ok(Outcome::Held(held)) => Ok(*held),
            Ok(Outcome::HeldBy(seen)) => Err(seen.holder.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

const ME: &str = "me id-of-me";

#[tokio::test]
async fn one_holds_it_until_it_stands_still_or_is_given_up() {
    let (cluster, clock) = (server(None, None), Clock::default());
    let [mut me, mut them] = ["me", "them"].map(|who| Run::new(&cluster, who, &clock));
    let held = me.take().await.unwrap();
    assert_eq!(them.take().await.unwrap_err(), ME);
    held.release().await.unwrap();
    let mut theirs = them.take().await.unwrap();
    assert!(me.take().await.is_err());
    clock.store(29, Relaxed);
    assert!(me.take().await.is_err());
    theirs.renew().await.unwrap();
    clock.store(31, Relaxed);
    assert!(me.take().await.is_err(), "it was renewed meanwhile");
    clock.store(61, Relaxed);
    let mine = me.take().await.unwrap();
    let lost = theirs.release().await.unwrap_err();
    assert_eq!(
        lost.to_string(),
        "cluster eks-1: the lease was taken over by me id-of-me"
    );
    mine.remove().await.unwrap();
    assert_eq!(cluster.find(&reference()).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_broken_is_taken_at_once_and_its_holder_has_lost_it() {
    let (cluster, clock) = (server(None, None), Clock::default());
    let [mut me, mut them] = ["me", "them"].map(|who| Run::new(&cluster, who, &clock));
    let mut theirs = them.take().await.unwrap();
    let mut broken = Terms::clone(&me.terms);
    broken.broken.insert("them id-of-them".into());
    me.terms = Arc::new(broken);
    let _mine = me.take().await.unwrap();
    let lost = theirs.renew().await.unwrap_err();
    assert!(matches!(lost, Error::LeaseLost { who, .. } if who == ME));
    assert!(theirs.remove().await.is_err());
}

#[tokio::test]
async fn one_that_is_gone_is_not_held() {
    let (cluster, clock) = (server(None, None), Clock::default());
    let mut held = Run::new(&cluster, "me", &clock).take().await.unwrap();
    held.clone().remove().await.unwrap();
    let lost = held.renew().await.unwrap_err();
    assert!(lost.to_string().contains("nobody"), "{lost}");

    let mut held = Run::new(&cluster, "me", &clock).take().await.unwrap();
    let namespace = Ref::cluster(&Kind::NAMESPACE, ISTIO_SYSTEM);
    let gone = cluster.delete(&namespace, &Delete::background()).await;
    gone.unwrap();
    // Also where it went with its namespace: somebody else may make both again.
    held.renew().await.unwrap_err();
    held.clone().release().await.unwrap();
    held.remove().await.unwrap();
}

#[tokio::test]
async fn a_race_has_one_winner() {
    for write in [1, 2] {
        let cluster = server(Some(write), None);
        let first = Run::new(&cluster, "me", &Clock::default()).take().await;
        if write == 1 {
            assert_eq!(first.unwrap_err(), "them id-of-them");
        } else {
            // The rival comes between taking and renewing.
            let renewed = first.unwrap().renew().await;
            assert!(matches!(renewed, Err(Error::LeaseLost { .. })));
        }
    }
}

#[tokio::test]
async fn a_lost_answer_loses_no_lease() {
    let (cluster, clock) = (server(None, Some(1)), Clock::default());
    Run::new(&cluster, "me", &clock).take().await.unwrap();

    let cluster = server(None, Some(2));
    let mut held = Run::new(&cluster, "me", &clock).take().await.unwrap();
    clock.store(10, Relaxed);
    held.renew().await.unwrap_err();
    assert_eq!(held.begun(), Duration::ZERO);
    clock.store(20, Relaxed);
    held.renew().await.unwrap();
    assert_eq!(held.begun(), Duration::from_secs(20));

    let cluster = server(None, Some(2));
    let mut held = Run::new(&cluster, "me", &clock).take().await.unwrap();
    held.renew().await.unwrap_err();
    held.remove().await.unwrap();
}
