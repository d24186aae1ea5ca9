//! The time of everything embedded, which can be moved on.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// The time in a set of embedded clusters: this machine's, and so many seconds more. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct WorldClock {
    ahead: Arc<AtomicI64>,
    moved: watch::Sender<u64>,
}

impl Default for WorldClock {
    fn default() -> Self {
        Self {
            ahead: Arc::default(),
            moved: watch::Sender::new(0),
        }
    }
}

impl WorldClock {
    /// What time it is there.
    pub fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.ahead());
        crate::now().saturating_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// The same in seconds since 1970.
    pub(crate) fn second(&self) -> i64 {
        self.now().as_second()
    }

    /// How many seconds it is ahead of this machine's.
    pub(crate) fn ahead(&self) -> i64 {
        self.ahead.load(SeqCst)
    }

    /// Moves it on. Nothing that happens meanwhile is made up for: what would have been renewed in that time was not.
    pub(crate) fn advance(&self, by: SignedDuration) {
        self.ahead.fetch_add(by.as_secs(), SeqCst);
        self.moved.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Says so whenever it was moved.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}
