//! For tests of what speaks to this AWS: a small one to begin with, and a clock that a test moves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{Clock, Cluster, State};

/// The account of all there is in it.
pub const ACCOUNT: &str = "111122223333";
/// The region of all there is in it.
pub const REGION: &str = "eu-west-1";

/// The real time; signatures need it.
pub fn now() -> SystemTime {
    crate::now().into()
}

/// A clock that a test moves along, on top of the real one.
#[derive(Debug, Clone, Default)]
pub struct Ahead(Arc<AtomicU64>);

impl Ahead {
    /// The clock.
    pub fn clock(&self) -> Clock {
        let ahead = self.0.clone();
        Clock::new(move || now() + Duration::from_millis(ahead.load(Ordering::Relaxed)))
    }

    /// Moves it along.
    pub fn by(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// The emulated AWS with one user, one cluster `eks-1`, and no throttling.
pub fn state() -> State {
    let mut state = State::new(Clock::new(now));
    state.limit = None;
    state.admit("AKID", "secret", &format!("arn:aws:iam::{ACCOUNT}:user/me"));
    let arn = format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/eks-1");
    state
        .clusters
        .push(Cluster::new(&arn, "https://api.eks-1.test", "Q0E="));
    state
}
