//! The fence around a run: it writes to a cluster only while its Lease there was prolonged a short while ago.
//!
//! Whoever takes a Lease over has seen it stand still for its whole duration. A write that begins earlier, by more than
//! it may take, has ended by then; so two runs never write at once, whichever of them was asleep.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::lease::DURATION;
use crate::{machine::Uptime, mutex, name::ClusterName};

/// A write begins at the latest this long before a Lease may be taken over.
const MARGIN: Duration = Duration::from_secs(10);
/// A write is given up this long before: clocks do not all go at one speed.
const DRIFT: Duration = Duration::from_secs(1);

/// The Leases of a run, and when each was last prolonged.
#[derive(Clone)]
pub(crate) struct Fence(Arc<Inner>);

struct Inner {
    uptime: Uptime,
    leases: Mutex<BTreeMap<ClusterName, Duration>>,
    why: OnceLock<Vec<String>>,
    closed: CancellationToken,
    renewed: Notify,
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fence").field(&*self.leases()).finish()
    }
}

/// Why a write may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// For good.
    #[error("the run has lost its lease")]
    Closed,
    /// The cluster is away; it may come back.
    #[error("the lease could not be renewed for {} s", DURATION.as_secs())]
    Stale,
}

impl Fence {
    /// Without a Lease yet, it holds nothing back.
    pub(crate) fn new(uptime: Uptime) -> Self {
        Self(Arc::new(Inner {
            uptime,
            leases: Mutex::default(),
            why: OnceLock::new(),
            closed: CancellationToken::new(),
            renewed: Notify::new(),
        }))
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Duration>> {
        mutex::lock(&self.0.leases)
    }

    /// A Lease was taken or prolonged by a request that began then.
    pub(crate) fn renewed(&self, cluster: &ClusterName, begun: Duration) {
        self.leases().insert(cluster.clone(), begun);
        self.0.renewed.notify_waiters();
    }

    /// This run itself takes the Lease away, with its namespace: it is prolonged no more, and holds back no write.
    pub(crate) fn leave(&self, cluster: &ClusterName) {
        self.leases().remove(cluster);
        self.0.renewed.notify_waiters();
    }

    /// Whether the Lease of a cluster counts.
    pub(crate) fn holds(&self, cluster: &ClusterName) -> bool {
        self.leases().contains_key(cluster)
    }

    /// A Lease is lost, and with it the right to write, for good.
    pub(crate) fn lose(&self, why: Vec<String>) {
        let _ = self.0.why.set(why);
        self.0.closed.cancel();
    }

    /// The run is over: nothing of it may write any more.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
    }

    /// How a Lease was lost.
    pub(crate) fn lost(&self) -> Option<&[String]> {
        self.0.why.get().map(Vec::as_slice)
    }

    /// Waits until a Lease is lost or the run is over.
    pub(crate) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Waits until the Lease of a cluster is fresh; how long a write to it may take that begins now. Other clusters' do
    /// not matter: who shares them with this run meets it there.
    pub(crate) async fn pass(&self, cluster: &ClusterName) -> Result<Duration, Denied> {
        let fresh = async {
            loop {
                let renewed = self.0.renewed.notified();
                if let Some(left) = self.left(cluster) {
                    return left;
                }
                renewed.await;
            }
        };
        tokio::select! {
            biased;
            () = self.closed() => Err(Denied::Closed),
            left = timeout(DURATION, fresh) => left.map_err(|_| Denied::Stale),
        }
    }

    fn left(&self, cluster: &ClusterName) -> Option<Duration> {
        let now = (self.0.uptime)();
        let begun = self.leases().get(cluster).copied();
        let age = now.saturating_sub(begun.unwrap_or(now));
        (age <= DURATION - MARGIN).then(|| DURATION - DRIFT - age)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use futures::FutureExt;

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fence() -> (Fence, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(1000));
        let now = clock.clone();
        let fence = Fence::new(Arc::new(move || secs(now.load(Relaxed))));
        (fence, clock)
    }

    fn eks(n: u8) -> ClusterName {
        format!("eks-{n}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_begins_only_while_the_lease_is_fresh() {
        let (fence, clock) = fence();
        let pass = |n| fence.pass(&eks(n)).now_or_never().transpose().unwrap();
        fence.renewed(&eks(1), secs(1000));
        fence.renewed(&eks(2), secs(1005));
        // It has ended before the Lease may be taken.
        for (now, one, two) in [
            (1010, Some(19), Some(24)),
            (1020, Some(9), Some(14)),
            (1025, None, Some(9)),
            (1026, None, None),
        ] {
            clock.store(now, Relaxed);
            assert_eq!([pass(1), pass(2)], [one, two].map(|s| s.map(secs)), "{now}");
        }
        fence.renewed(&eks(1), secs(1025));
        assert_eq!(pass(1), Some(secs(28)));
        fence.leave(&eks(2));
        assert_eq!(pass(2), Some(secs(29)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_a_renewal_and_of_a_loss() {
        let (fence, clock) = fence();
        let one = &eks(1);
        fence.renewed(one, secs(1000));
        clock.store(1100, Relaxed);
        assert_eq!(fence.pass(one).await, Err(Denied::Stale));
        let (waits, ()) = tokio::join!(fence.pass(one), async { fence.renewed(one, secs(1100)) });
        assert_eq!(waits, Ok(secs(29)));
        clock.store(1200, Relaxed);
        let (waits, ()) = tokio::join!(fence.pass(one), async { fence.lose(vec!["x".into()]) });
        assert_eq!(waits, Err(Denied::Closed));
        fence.renewed(one, secs(1200));
        assert_eq!(fence.pass(one).await, Err(Denied::Closed));
        assert_eq!(fence.lost(), Some(&["x".to_owned()][..]));
    }
}
