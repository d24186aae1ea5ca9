//! What a run has read of its members: each is read once, until a step may have changed it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::Error;
use crate::{
    cluster::{Token, access::Shards},
    name::ClusterName,
    observe::Seen,
    plan::Step,
    probe::Probe,
};

/// A reading that shows something wrong is taken again, but not more often than this.
const FRESH: Duration = Duration::from_secs(1);

/// One member, as it was read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) seen: Seen,
    /// The tokens its istiod uses, by the cluster each is for.
    pub(super) tokens: BTreeMap<String, Token>,
}

/// The readings of a run.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    /// The members.
    pub(super) members: Kept<Arc<Reading>>,
    /// The pods that are asked in them.
    pub(super) probes: Kept<Option<Probe>>,
    /// The packed remote secrets in them.
    shards: Mutex<BTreeMap<ClusterName, Arc<Shards>>>,
}

impl Readings {
    /// The packed remote secrets in a member; whoever writes them keeps them up to date.
    pub(super) fn shards(&self, name: &ClusterName) -> Arc<Shards> {
        let mut all = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.clone()).or_default().clone()
    }

    /// A step has finished: what was begun to be read before counts no more, if the step may have changed it.
    pub(super) fn after(&self, step: &Step) {
        // What is written down of a proof, no other proof reads.
        let looks = matches!(
            step,
            Step::Prove { .. } | Step::Reach { .. } | Step::RecordProof(_)
        );
        if let Some(name) = step.cluster().filter(|_| !looks) {
            self.members.forget(name);
        }
        if let Step::StartProbe(name) | Step::StopProbe(name) = step {
            self.probes.forget(name);
        }
    }
}

/// What is known of each member. Who asks while it is being read, waits for that.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<BTreeMap<ClusterName, Slot<T>>>);

/// What was read, and when that was begun.
type Slot<T> = Arc<OnceCell<(Instant, T)>>;

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// What is kept of a member, else what `read` finds.
    pub(super) async fn of(
        &self,
        name: &ClusterName,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let slot = self.slots().entry(name.clone()).or_default().clone();
        let begun = Instant::now();
        let known = slot.get_or_try_init(|| async { Ok((begun, read.await?)) });
        known.await.map(|(_, known)| known.clone())
    }

    /// It counts no more.
    pub(super) fn forget(&self, name: &ClusterName) {
        self.slots().remove(name);
    }

    /// Something is wrong with it: it may be right by now.
    pub(super) fn invalidate(&self, name: &ClusterName) {
        let mut slots = self.slots();
        let known = slots.get(name).and_then(|slot| slot.get());
        if known.is_some_and(|(begun, _)| begun.elapsed() >= FRESH) {
            slots.remove(name);
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Slot<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            let read = async {
                self.taken.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
                Ok(reading())
            };
            self.readings.members.of(&member(name), read).await.unwrap()
        }

        fn taken(&self) -> usize {
            self.taken.load(Relaxed)
        }
    }

    fn reading() -> Arc<Reading> {
        Arc::new(Reading {
            seen: Seen::default(),
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
    }

    #[tokio::test]
    async fn a_reading_that_a_step_overtook_is_not_kept() {
        let readings = Readings::default();
        let (begun, done) = (Notify::new(), Notify::new());
        let name = member("a");
        let slow = readings.members.of(&name, async {
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
        let new = readings.members.of(&name, async { Ok(reading()) }).await;
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
