//! Failures on demand: what goes wrong for which request, so that tests can see what comes of it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::status::Failure;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server answers with this code, and `Retry-After` if given.
    Status(u16, Option<u64>),
    /// The connection breaks before an answer; nothing is done.
    Reset,
    /// The connection breaks after the work is done: the answer is lost.
    ResetAfter,
    /// The answer comes later.
    Delay(Duration),
    /// The answer ends after so many bytes.
    Truncate(usize),
    /// No answer ever comes.
    Stall,
}

/// Which requests a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// A verb such as `patch`, or any.
    pub verb: Option<String>,
    /// How the path begins; empty is any.
    pub path: String,
    /// How many matching requests pass unharmed first.
    pub skip: u64,
    /// How many are struck then.
    pub times: u64,
    /// What goes wrong.
    pub fault: Fault,
}

impl Strike {
    /// Strikes the next request whose path begins so.
    #[must_use]
    pub fn next(path: &str, fault: Fault) -> Self {
        Self {
            verb: None,
            path: path.to_owned(),
            skip: 0,
            times: 1,
            fault,
        }
    }

    /// Only requests with this verb.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        self.verb = Some(verb.to_owned());
        self
    }

    /// Lets this many matching requests pass first.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Strikes this many.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    fn strikes(&mut self, verb: &str, path: &str) -> bool {
        if self.verb.as_deref().is_some_and(|v| v != verb)
            || !path.starts_with(&self.path)
            || self.times == 0
        {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// The faults a server has.
#[derive(Debug)]
pub struct Faults {
    strikes: Mutex<Vec<Strike>>,
    away: watch::Sender<bool>,
    cuts: watch::Sender<u64>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            strikes: Mutex::default(),
            away: watch::channel(false).0,
            cuts: watch::channel(0).0,
        }
    }

    fn strikes(&self) -> std::sync::MutexGuard<'_, Vec<Strike>> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a fault.
    pub fn add(&self, strike: Strike) {
        self.strikes().push(strike);
    }

    /// Takes all faults away; the server can be reached again.
    pub fn clear(&self) {
        self.strikes().clear();
        self.away.send_replace(false);
    }

    /// How many strikes are still to come.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.strikes().iter().map(|strike| strike.times).sum()
    }

    /// Makes the whole server unreachable, or reachable again. Watches break off.
    pub fn unreachable(&self, away: bool) {
        self.away.send_replace(away);
        if away {
            self.cut_watches();
        }
    }

    /// Breaks off every open watch.
    pub fn cut_watches(&self) {
        self.cuts.send_modify(|n| *n += 1);
    }

    pub(crate) fn cut(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    pub(crate) fn away(&self) -> bool {
        *self.away.borrow()
    }

    /// What strikes a request, if anything does.
    pub(crate) fn strike(&self, verb: &str, path: &str) -> Option<Fault> {
        if self.away() {
            return Some(Fault::Reset);
        }
        let mut strikes = self.strikes();
        strikes
            .iter_mut()
            .find_map(|s| s.strikes(verb, path).then(|| s.fault.clone()))
    }
}

/// A failure as the real server words it.
pub(crate) fn status(code: u16, retry_after: Option<u64>) -> Failure {
    let (reason, message) = match code {
        409 => (
            "Conflict",
            "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again",
        ),
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => (
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        ),
        401 => ("Unauthorized", "Unauthorized"),
        _ => (
            "InternalError",
            "Internal error occurred: etcdserver: leader changed",
        ),
    };
    let failure = Failure::new(code, reason, message);
    match retry_after {
        Some(seconds) => failure.retry_after(seconds),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_count_what_they_match() {
        let faults = Faults::new();
        faults.add(
            Strike::next("/api/v1/secrets", Fault::Stall)
                .verb("get")
                .after(1)
                .times(2),
        );
        let struck: Vec<_> = (0..4)
            .map(|_| faults.strike("get", "/api/v1/secrets/x").is_some())
            .collect();
        assert_eq!(struck, [false, true, true, false]);
        assert_eq!(faults.pending(), 0);
        assert_eq!(faults.strike("list", "/api/v1/secrets"), None);
        faults.unreachable(true);
        assert_eq!(faults.strike("list", "/version"), Some(Fault::Reset));
        faults.clear();
        assert_eq!(faults.strike("list", "/version"), None);
    }
}
