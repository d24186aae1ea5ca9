//! What a run has read of its members: each is read once, until a step may have changed it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::Error;
use crate::{
    cluster::{
        self, Token,
        access::{Found, Shards},
        fresh::{Fresh, Moment},
    },
    mutex,
    name::ClusterName,
    observe::Observed,
    plan::Step,
    probe::Probe,
    verify::istiod::Replica,
};

/// A reading that shows something wrong is taken again, but not more often than this.
const FRESH: Duration = Duration::from_secs(1);

/// One member, as it was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// What was seen of it, and of no other.
    pub(super) observed: Observed,
    /// The tokens its istiod uses, by the cluster each is for.
    pub(super) tokens: BTreeMap<ClusterName, BTreeMap<String, Token>>,
}

/// What the replicas of an istiod say, or why none could be asked.
pub(super) type Replicas = Arc<Result<Vec<Replica>, cluster::Error>>;

/// The readings of a run.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    /// The members.
    pub(super) members: Kept<Arc<Reading>>,
    /// The pods that are asked in them.
    pub(super) probes: Kept<Option<Probe>>,
    /// Where their gateways are.
    pub(super) addresses: Kept<Vec<String>>,
    /// The authorities that their API servers are to be known by.
    pub(super) authorities: Kept<Vec<u8>>,
    /// That the rights all readers share are there.
    pub(super) roles: Kept<()>,
    replicas: PerMember<Arc<Fresh<Replicas>>>,
    found: PerMember<Arc<Found>>,
    shards: PerMember<Arc<Shards>>,
    changes: Mutex<BTreeMap<(ClusterName, Option<ClusterName>), Moment>>,
}

impl Readings {
    /// The packed remote secrets in a member; whoever writes them keeps them up to date.
    pub(super) fn shards(&self, name: &ClusterName) -> Arc<Shards> {
        self.shards.of(name)
    }

    /// What a member's istiod says now, asked for all who want to know.
    pub(super) fn replicas(&self, name: &ClusterName) -> Arc<Fresh<Replicas>> {
        self.replicas.of(name)
    }

    /// What the accounts of a member's peers were found to be allowed.
    pub(super) fn found(&self, name: &ClusterName) -> Arc<Found> {
        self.found.of(name)
    }

    /// A step has finished: what was begun to be read before counts no more, if the step may have changed it.
    pub(super) fn after(&self, step: &Step) {
        let peer = match step {
            // What is written down of a proof, no other proof reads.
            Step::Prove { .. } | Step::Reach { .. } | Step::RecordProof(_) => return,
            // What one peer holds or is given is nothing to another.
            Step::GrantReader { peer, .. } | Step::MakeToken { peer, .. } => Some(peer),
            Step::ShareSecret { from, .. } => Some(from),
            _ => None,
        };
        if let Some(name) = step.cluster() {
            let key = (name.clone(), peer.cloned());
            mutex::lock(&self.changes).insert(key, Moment::now());
            if peer.is_none() {
                self.addresses.forget(name);
                self.authorities.forget(name);
            }
        }
        if let Step::StartProbe(name) | Step::StopProbe(name) = step {
            self.probes.forget(name);
        }
    }

    /// When a member last changed in what has to do with a peer; without one, in anything.
    pub(super) fn changed(&self, name: &ClusterName, peer: Option<&ClusterName>) -> Moment {
        let changes = mutex::lock(&self.changes);
        let mine = changes.iter().filter(|((of, about), _)| {
            of == name && (peer.is_none() || about.is_none() || about.as_ref() == peer)
        });
        mine.map(|(_, at)| *at).max().unwrap_or_default()
    }
}

/// Something of each member.
#[derive(Debug)]
struct PerMember<T>(Mutex<BTreeMap<ClusterName, T>>);

impl<T> Default for PerMember<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default + Clone> PerMember<T> {
    fn of(&self, name: &ClusterName) -> T {
        mutex::lock(&self.0)
            .entry(name.clone())
            .or_default()
            .clone()
    }
}

/// What is known of each member. Who asks while it is being read, waits for that.
#[derive(Debug)]
pub(super) struct Kept<T>(PerMember<Arc<Slot<T>>>);

/// What was read, when that was begun, and since when it would count.
#[derive(Debug)]
struct Slot<T> {
    read: tokio::sync::Mutex<Option<(Moment, Instant, T)>>,
    since: Mutex<Moment>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        let (read, since) = (tokio::sync::Mutex::new(None), Mutex::default());
        Self { read, since }
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(PerMember::default())
    }
}

impl<T: Clone> Kept<T> {
    /// What is kept of a member, else what `read` finds.
    pub(super) async fn of(
        &self,
        name: &ClusterName,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.since(name, Moment::default(), read).await
    }

    /// The same, unless it was begun to be read before a moment.
    pub(super) async fn since(
        &self,
        name: &ClusterName,
        moment: Moment,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let slot = self.0.of(name);
        let mut last = slot.read.lock().await;
        let moment = moment.max(*mutex::lock(&slot.since));
        if let Some((begun, _, known)) = &*last
            && *begun > moment
        {
            return Ok(known.clone());
        }
        let begun = (Moment::now(), Instant::now());
        let known = read.await?;
        *last = Some((begun.0, begun.1, known.clone()));
        Ok(known)
    }

    /// It counts no more.
    pub(super) fn forget(&self, name: &ClusterName) {
        *mutex::lock(&self.0.of(name).since) = Moment::now();
    }

    /// Something is wrong with it: it may be right by now.
    pub(super) fn invalidate(&self, name: &ClusterName) {
        let slot = self.0.of(name);
        // One that is being read is right enough.
        let Ok(last) = slot.read.try_lock() else {
            return;
        };
        if last
            .as_ref()
            .is_some_and(|(_, at, _)| at.elapsed() >= FRESH)
        {
            *mutex::lock(&slot.since) = Moment::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::*;

    struct Members {
        readings: Readings,
        taken: AtomicUsize,
    }

    impl Members {
        fn new() -> Self {
            Self {
                readings: Readings::default(),
                taken: AtomicUsize::new(0),
            }
        }

        async fn ask(&self, name: &str) -> Arc<Reading> {
            self.ask_for(name, None).await
        }

        async fn ask_for(&self, name: &str, peer: Option<&str>) -> Arc<Reading> {
            let read = async {
                self.taken.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
                Ok(reading())
            };
            let (name, peer) = (member(name), peer.map(member));
            let moment = self.readings.changed(&name, peer.as_ref());
            let read = self.readings.members.since(&name, moment, read);
            read.await.unwrap()
        }

        fn taken(&self) -> usize {
            self.taken.load(Relaxed)
        }
    }

    fn reading() -> Arc<Reading> {
        Arc::new(Reading {
            observed: Observed::default(),
            tokens: BTreeMap::new(),
        })
    }

    fn member(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    fn pair(step: fn(ClusterName, ClusterName) -> Step) -> Step {
        step(member("a"), member("b"))
    }

    #[tokio::test]
    async fn a_member_is_read_once_until_a_step_has_changed_it() {
        let members = Members::new();
        tokio::join!(members.ask("a"), members.ask("a"), members.ask("b"));
        members.ask("a").await;
        assert_eq!(members.taken(), 2, "one each, though two asked at once");
        let proved = pair(|from, to| Step::Prove { from, to });
        let reached = pair(|from, to| Step::Reach { from, to });
        let written = Step::RecordProof(member("a"));
        for step in [proved, reached, written, Step::CreateRoot] {
            members.readings.after(&step);
        }
        tokio::join!(members.ask("a"), members.ask("b"));
        assert_eq!(members.taken(), 2, "what only looks changes nothing");
        members
            .readings
            .after(&pair(|from, to| Step::ShareSecret { from, to }));
        tokio::join!(members.ask("a"), members.ask("b"));
        assert_eq!(members.taken(), 3, "the secret was written to b alone");
        members
            .readings
            .after(&pair(|from, to| Step::ShareSecret { from, to }));
        members.ask_for("b", Some("c")).await;
        assert_eq!(members.taken(), 3, "what b reads a by is nothing to c");
        members.ask_for("b", Some("a")).await;
        assert_eq!(members.taken(), 4);
        members.readings.after(&Step::AwaitIstiod(member("b")));
        members.ask_for("b", Some("c")).await;
        assert_eq!(members.taken(), 5);
    }

    #[tokio::test]
    async fn a_reading_that_a_step_overtook_is_not_kept() {
        let readings = Readings::default();
        let (begun, done) = (Notify::new(), Notify::new());
        let name = member("a");
        let slow = readings.members.since(&name, Moment::default(), async {
            begun.notify_one();
            done.notified().await;
            Ok(reading())
        });
        let overtake = async {
            begun.notified().await;
            readings.after(&Step::AwaitNlb(member("a")));
            done.notify_one();
        };
        let (old, ()) = tokio::join!(slow, overtake);
        let moment = readings.changed(&name, None);
        let new = readings
            .members
            .since(&name, moment, async { Ok(reading()) });
        let new = new.await;
        assert!(!Arc::ptr_eq(&old.unwrap(), &new.unwrap()));
    }

    #[tokio::test]
    async fn one_that_fails_is_taken_by_the_next() {
        let (readings, a) = (Readings::default(), member("a"));
        let failed = async { Err(Error::Interrupted) };
        readings.members.of(&a, failed).await.unwrap_err();
        readings
            .members
            .of(&a, async { Ok(reading()) })
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_doubted_is_read_again_in_time() {
        let members = Members::new();
        members.ask("a").await;
        members.readings.members.invalidate(&member("a"));
        members.ask("a").await;
        assert_eq!(members.taken(), 1, "it has just been read");
        tokio::time::advance(FRESH).await;
        members.readings.members.invalidate(&member("a"));
        members.ask("a").await;
        assert_eq!(members.taken(), 2);
    }
}
