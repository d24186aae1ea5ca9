//! Watching a load balancer until it is ready, stuck, or the deadline has passed.

use std::{collections::BTreeSet, future::Future, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Error, Policy, Readiness, Seen, Verdict, Watch, judge};
use crate::{aws::call::Cause, cluster};

/// How long and how often to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long to wait in all.
    pub deadline: Duration,
    /// The pause between two looks while things move.
    pub first: Duration,
    /// The longest pause, once nothing has moved for a while.
    pub most: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(600),
            first: Duration::from_secs(5),
            most: Duration::from_secs(15),
        }
    }
}

/// What is told while waiting.
#[derive(Debug, Clone)]
pub struct Progress<'a> {
    /// How long it has been waited for.
    pub waited: Duration,
    /// Why it is not ready yet.
    pub reason: &'a str,
    /// What AWS said last.
    pub last: Option<&'a Readiness>,
}

/// Wait for a load balancer. `see` looks at the cluster; every new reason is told to `on_reason`.
pub async fn wait<F>(
    cluster: &str,
    watch: &mut Watch,
    mut see: impl FnMut() -> F,
    policy: &Policy,
    limits: &Limits,
    mut on_reason: impl FnMut(Progress<'_>),
) -> Result<Readiness, Error>
where
    F: Future<Output = Result<Seen, cluster::Error>>,
{
    let start = Instant::now();
    let mut state = Waiting {
        reason: String::new(),
        since: start,
        pause: limits.first,
        flapped: 0,
        ready: 0,
        healthy: BTreeSet::new(),
    };
    loop {
        let seen = see().await.map_err(|source| Error::See {
            cluster: cluster.into(),
            source: Box::new(source),
        })?;
        let asked = match watch.look(&seen).await {
            Ok(asked) => Ok(asked),
            Err(error) if error.cause == Cause::Throttled => {
                Err(Verdict::Pending(format!("pending: {error}, asked again")))
            }
            Err(error) if is_passing(&error.cause) => Err(Verdict::Pending(error.to_string())),
            // Without rights or credentials in AWS, the pods' readiness gates still tell.
            Err(error) if seen.gates(policy.port).is_some() => Err(by_gates(&seen, policy, &error)),
            Err(error) => {
                return Err(Error::Ask {
                    cluster: cluster.into(),
                    source: Box::new(error),
                });
            }
        };
        let verdict = match &asked {
            Ok(asked) => judge(&seen, asked.as_ref(), policy, state.since.elapsed()),
            Err(verdict) => verdict.clone(),
        };
        let last = asked.ok().flatten();
        state.note(last.as_ref());
        match state.steady(verdict) {
            Verdict::Ready => return Ok(last.unwrap_or_else(|| by_host(&seen))),
            Verdict::Stuck(cause) => {
                return Err(Error::Stuck {
                    cluster: cluster.into(),
                    service: watch.service(),
                    cause,
                });
            }
            Verdict::Pending(reason) => {
                if state.hear(reason, limits) {
                    let (waited, reason) = (start.elapsed(), state.reason.as_str());
                    on_reason(Progress {
                        waited,
                        reason,
                        last: last.as_ref(),
                    });
                }
            }
        }
        let next = Instant::now() + state.pause;
        if next > start + limits.deadline {
            let waited = format!("{} s", start.elapsed().as_secs());
            let (service, reason) = (watch.service(), state.reason);
            return Err(Error::NotInTime {
                cluster: cluster.into(),
                service,
                waited,
                reason,
            });
        }
        sleep_until(next).await;
    }
}

/// A bad moment of AWS's, not an answer.
fn is_passing(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Unavailable(_) | Cause::Unreachable(_) | Cause::Slow | Cause::Garbled(_)
    )
}

/// What the readiness gates say where AWS does not.
fn by_gates(seen: &Seen, policy: &Policy, error: &crate::aws::call::Error) -> Verdict {
    match seen.gates(policy.port) {
        Some((open, all)) if open == all || (open > 0 && !policy.all_targets) => Verdict::Ready,
        Some((open, all)) => {
            Verdict::Pending(format!("{open} of {all} readiness gates open ({error})"))
        }
        None => Verdict::Pending(error.to_string()),
    }
}

fn by_host(seen: &Seen) -> Readiness {
    Readiness {
        hostname: seen.hostname.clone().unwrap_or_default(),
        listener: true,
        ..Readiness::default()
    }
}

struct Waiting {
    reason: String,
    /// Since when that has been the reason.
    since: Instant,
    pause: Duration,
    /// Targets that were healthy at the last look.
    healthy: BTreeSet<String>,
    /// How many targets were healthy and then were not.
    flapped: usize,
    /// Looks in a row that found it ready.
    ready: usize,
}

impl Waiting {
    /// Note which targets fell back since the last look.
    fn note(&mut self, last: Option<&Readiness>) {
        let Some(lb) = last else { return };
        let fell = |t: &&super::Target| self.healthy.contains(&t.id) && t.state == "unhealthy";
        self.flapped += lb.targets.iter().filter(fell).count();
        self.healthy = lb
            .targets
            .iter()
            .filter(|t| t.is_healthy())
            .map(|t| t.id.clone())
            .collect();
    }

    /// Where targets flap, ready must be seen more than once to be believed.
    fn steady(&mut self, verdict: Verdict) -> Verdict {
        if verdict != Verdict::Ready {
            self.ready = 0;
            return verdict;
        }
        self.ready += 1;
        if self.ready > self.flapped.min(2) {
            return verdict;
        }
        Verdict::Pending(format!(
            "targets flap: {} fell back so far, now healthy again",
            self.flapped
        ))
    }

    /// Note the reason; whether it is a new one.
    fn hear(&mut self, reason: String, limits: &Limits) -> bool {
        if reason == self.reason {
            self.pause = (self.pause * 5 / 4).min(limits.most);
            return false;
        }
        self.reason = reason;
        self.since = Instant::now();
        self.pause = limits.first;
        true
    }
}
