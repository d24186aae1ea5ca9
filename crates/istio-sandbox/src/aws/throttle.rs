//! Token buckets, as the real services throttle: per account, region and service; and a share of all calls.

use std::time::SystemTime;

/// A bucket that refills with time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    tokens: f64,
    at: SystemTime,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(size: f64, now: SystemTime) -> Self {
        Self {
            tokens: size,
            at: now,
        }
    }

    /// Take a token, if there is one.
    pub(super) fn take(&mut self, (size, refill): (f64, f64), now: SystemTime) -> bool {
        let passed = now.duration_since(self.at).unwrap_or_default();
        self.tokens = (self.tokens + passed.as_secs_f64() * refill).min(size);
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// How much of what is asked is turned away, evenly spread.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    share: f64,
    owed: f64,
}

impl Share {
    /// From now on this share: 0 is none, 1 is all.
    pub(super) fn set(&mut self, share: f64) {
        self.share = share.clamp(0.0, 1.0);
    }

    /// What it is.
    pub(super) fn get(&self) -> f64 {
        self.share
    }

    /// Whether the next one is turned away.
    pub(super) fn takes(&mut self) -> bool {
        self.owed += self.share;
        let due = self.owed >= 1.0;
        if due {
            self.owed -= 1.0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn forty_at_once_then_ten_a_second() {
        let limit = (40.0, 10.0);
        let mut bucket = Bucket::full(40.0, UNIX_EPOCH);
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(limit, at)).count();
        assert_eq!(taken(&mut bucket, UNIX_EPOCH), 40);
        assert_eq!(taken(&mut bucket, UNIX_EPOCH + Duration::from_secs(1)), 10);
        assert_eq!(taken(&mut bucket, UNIX_EPOCH + Duration::from_secs(60)), 40);
    }

    #[test]
    fn a_share_is_spread_evenly() {
        let mut share = Share::default();
        assert!(!share.takes());
        share.set(0.5);
        let taken: Vec<bool> = (0..4).map(|_| share.takes()).collect();
        assert_eq!(taken, [false, true, false, true]);
        share.set(1.0);
        assert!((0..4).all(|_| share.takes()));
        share.set(0.0);
        assert!((0..4).all(|_| !share.takes()));
    }
}
