//! One budget of calls per service, account and region.
//!
//! Elastic Load Balancing refills 10 calls a second for a whole account and region, shared with the load-balancer
//! controllers themselves. meshlink takes at most four of them, however many clusters it watches. The other services
//! are asked a few times at the beginning of a run, and refill at least as fast.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::env::Service;

use crate::mutex;

/// How fast calls may follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Time between two calls at the steady rate.
    pub period: Duration,
    /// Calls that may be made at once after a pause.
    pub burst: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            period: Duration::from_millis(250),
            burst: 8,
        }
    }
}

impl Pace {
    /// How fast a service may be called.
    fn of(service: Service) -> Self {
        match service {
            Service::Elb => Self::default(),
            Service::Eks | Service::Sts | Service::Ec2 => Self {
                period: Duration::from_millis(100),
                burst: 20,
            },
        }
    }
}

/// A queue of evenly spaced turns, with a burst after a pause.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    pace: Pace,
    /// When the next turn would be due at the steady rate.
    due: Mutex<Option<Instant>>,
    /// When it was last told that AWS throttles.
    told: Mutex<Option<Instant>>,
}

/// How often it is told that calls of one kind wait, however many do.
const NEWS: Duration = Duration::from_secs(5);

impl Rate {
    /// Wait for a turn.
    pub(crate) async fn turn(&self) {
        let turn = self.book(Instant::now());
        sleep_until(turn).await;
    }

    /// Everybody waits at least this long from now: the service said so.
    pub(crate) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause + self.ahead();
        let mut due = mutex::lock(&self.due);
        *due = Some(due.map_or(until, |due| due.max(until)));
    }

    /// Whether it is to be told again that AWS throttles.
    pub(super) fn is_news(&self) -> bool {
        let mut told = mutex::lock(&self.told);
        let is_news = told.is_none_or(|at| at.elapsed() >= NEWS);
        if is_news {
            *told = Some(Instant::now());
        }
        is_news
    }

    /// How long before it is due a turn may be taken: generic cell rate.
    fn ahead(&self) -> Duration {
        self.pace.period * self.pace.burst.saturating_sub(1)
    }

    fn book(&self, now: Instant) -> Instant {
        let mut due = mutex::lock(&self.due);
        let start = due.map_or(now, |due| due.max(now));
        *due = Some(start + self.pace.period);
        start
            .checked_sub(self.ahead())
            .map_or(now, |turn| turn.max(now))
    }
}

/// All budgets of a run, by service, account and region.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// Another pace than the usual one.
    pace: Option<Pace>,
    all: Mutex<BTreeMap<(Service, String, String), Arc<Rate>>>,
}

impl Rates {
    /// Budgets of another pace than the usual one.
    #[cfg(test)]
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            pace: Some(pace),
            all: Mutex::default(),
        }
    }

    /// The budget for a service of an account in a region.
    pub(crate) fn of(&self, service: Service, account: &str, region: &str) -> Arc<Rate> {
        let mut all = mutex::lock(&self.all);
        let rate = all.entry((service, account.into(), region.into()));
        let pace = self.pace.unwrap_or_else(|| Pace::of(service));
        rate.or_insert_with(|| {
            Arc::new(Rate {
                pace,
                ..Rate::default()
            })
        })
        .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn that_calls_wait_is_news_every_five_seconds() {
        let rate = Rate::default();
        let told: Vec<bool> = [rate.is_news(), rate.is_news()].into();
        tokio::time::advance(NEWS).await;
        assert_eq!((told, rate.is_news()), (vec![true, false], true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_four_a_second() {
        let rate = Rate::default();
        let start = Instant::now();
        for _ in 0..rate.pace.burst {
            rate.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..8 {
            rate.turn().await;
        }
        let spent = start.elapsed();
        assert!(
            (Duration::from_secs(2)..Duration::from_millis(2010)).contains(&spent),
            "{spent:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody() {
        let rate = Rate::default();
        let start = Instant::now();
        rate.pause(Duration::from_secs(5));
        rate.turn().await;
        assert!(
            start.elapsed() >= Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn accounts_do_not_share_a_budget_and_sessions_of_one_do() {
        let rates = Rates::default();
        let of = |service, account| rates.of(service, account, "eu-west-1");
        let (elb, ec2) = (Service::Elb, Service::Ec2);
        assert!(Arc::ptr_eq(&of(elb, "1"), &of(elb, "1")));
        assert!(!Arc::ptr_eq(&of(elb, "1"), &of(elb, "2")));
        assert!(!Arc::ptr_eq(&of(elb, "1"), &of(ec2, "1")));
    }
}
