//! One question for all who ask it: what was begun to be read after somebody asked is an answer to them too.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Mutex;

/// What comes before what: every reading and every change takes the next number.
static NOW: AtomicU64 = AtomicU64::new(1);

/// A moment, in the order in which things happen in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// After everything that has happened so far.
    pub(crate) fn now() -> Self {
        Self(NOW.fetch_add(1, SeqCst))
    }
}

/// Something that is read again and again. At most one reading is under way; whoever asks meanwhile waits for the next,
/// and all who wait share it.
#[derive(Debug)]
pub(crate) struct Fresh<T>(Mutex<Option<(Moment, T)>>);

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Fresh<T> {
    /// What a reading says that was begun now or later.
    pub(crate) async fn now(&self, read: impl Future<Output = T>) -> T {
        self.since(Moment::now(), read).await
    }

    /// What a reading says that was begun after a moment.
    pub(crate) async fn since(&self, moment: Moment, read: impl Future<Output = T>) -> T {
        let mut last = self.0.lock().await;
        if let Some((begun, said)) = &*last
            && *begun > moment
        {
            return said.clone();
        }
        let begun = Moment::now();
        let said = read.await;
        *last = Some((begun, said.clone()));
        said
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_share_one_reading_and_nobody_gets_an_older_one() {
        let (fresh, read) = (Fresh::default(), AtomicUsize::new(0));
        let ask = || {
            fresh.now(async {
                tokio::task::yield_now().await;
                read.fetch_add(1, SeqCst) + 1
            })
        };
        let first = ask().await;
        let all = futures::future::join_all((0..20).map(|_| ask())).await;
        assert_eq!(first, 1);
        // The first of them begins to read before the last has asked.
        assert!(all.iter().all(|n| *n == 2 || *n == 3), "{all:?}");
        assert!(read.load(SeqCst) <= 3);
        assert_eq!(
            ask().await,
            read.load(SeqCst),
            "what was read before is no answer"
        );
    }
}
