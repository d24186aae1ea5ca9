//! Asking about a load balancer until it is ready, stuck, or the deadline has passed.

use std::{collections::BTreeSet, future::Future, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{Error, Policy, Readiness, Seen, Stuck, Watch, judge};
use crate::{
    aws::call::Cause,
    cluster,
    wait::{self, Deadline, Every, Progress, Reason, Unmet},
};

/// When to ask again: soon while things move, seldom once nothing has moved for a while.
pub(crate) const PACE: Every = Every::growing(Duration::from_secs(5), Duration::from_secs(15));

/// Wait for a load balancer. `see` looks at the cluster; `say` hears every new reason why it is not ready.
pub(crate) async fn wait<F>(
    cluster: &str,
    watch: &mut Watch,
    mut see: impl FnMut() -> F,
    policy: &Policy,
    deadline: Deadline,
    pace: Every,
    say: impl FnMut(&str),
) -> Result<Readiness, Error>
where
    F: Future<Output = Result<Seen, cluster::Error>>,
{
    let service = watch.service();
    let known = &Mutex::new((watch, History::default()));
    let ask = |()| {
        let seen = see();
        async move {
            let (watch, history) = &mut *known.lock().await;
            match seen.await {
                Ok(seen) => history.look(cluster, watch, &seen, policy).await,
                Err(source) => Progress::Never(Error::See {
                    cluster: cluster.into(),
                    source: Box::new(source),
                }),
            }
        }
    };
    let result = wait::until(ask, pace, deadline, say).await;
    result.map_err(|unmet| match unmet {
        Unmet::Never(error) => error,
        Unmet::Late { waited, reason } => Error::NotInTime {
            cluster: cluster.into(),
            service,
            waited,
            reason,
        },
    })
}

/// A bad moment of AWS's, not an answer.
fn is_passing(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Unavailable(_) | Cause::Unreachable(_) | Cause::Slow | Cause::Garbled(_)
    )
}

/// What the readiness gates say where AWS does not.
fn by_gates(seen: &Seen, policy: &Policy, error: &crate::aws::call::Error) -> Progress<(), Stuck> {
    match seen.gates(policy.port) {
        Some((open, all)) if open == all || (open > 0 && !policy.all_targets) => Progress::Done(()),
        Some((open, all)) => {
            Progress::NotYet(format!("{open} of {all} readiness gates open ({error})").into())
        }
        None => Progress::NotYet(error.to_string().into()),
    }
}

fn by_host(seen: &Seen) -> Readiness {
    Readiness {
        hostname: seen.hostname.clone().unwrap_or_default(),
        listener: true,
        ..Readiness::default()
    }
}

/// What the looks before have shown.
#[derive(Default)]
struct History {
    /// The last reason, and since when that has been it.
    reason: Option<(Reason, Instant)>,
    /// Targets that were healthy at the last look.
    healthy: BTreeSet<String>,
    /// How many targets were healthy and then were not.
    flapped: usize,
    /// Looks in a row that found it ready.
    ready: usize,
}

impl History {
    /// Asks AWS once, and decides.
    async fn look(
        &mut self,
        cluster: &str,
        watch: &mut Watch,
        seen: &Seen,
        policy: &Policy,
    ) -> Progress<Readiness, Error> {
        let asked = match watch.look(seen).await {
            Ok(asked) => Ok(asked),
            Err(error) if error.cause == Cause::Throttled => {
                let reason = format!("pending: {error}; retrying");
                Err(Progress::NotYet(reason.into()))
            }
            Err(error) if is_passing(&error.cause) => {
                Err(Progress::NotYet(error.to_string().into()))
            }
            // Without rights or credentials in AWS, the pods' readiness gates still tell.
            Err(error) if seen.gates(policy.port).is_some() => Err(by_gates(seen, policy, &error)),
            Err(error) => {
                return Progress::Never(Error::Ask {
                    cluster: cluster.into(),
                    source: Box::new(error),
                });
            }
        };
        let (last, progress) = match asked {
            Ok(last) => {
                let progress = judge(seen, last.as_ref(), policy, self.same());
                (last, progress)
            }
            Err(progress) => (None, progress),
        };
        self.note(last.as_ref());
        match self.steady(progress) {
            Progress::Done(()) => Progress::Done(last.unwrap_or_else(|| by_host(seen))),
            Progress::NotYet(reason) => Progress::NotYet(self.hear(reason)),
            Progress::Never(cause) => Progress::Never(Error::Stuck {
                cluster: cluster.into(),
                service: watch.service(),
                cause,
            }),
        }
    }

    /// How long the reason has been the same.
    fn same(&self) -> Duration {
        let since = self.reason.as_ref().map(|(_, since)| since.elapsed());
        since.unwrap_or_default()
    }

    fn hear(&mut self, reason: Reason) -> Reason {
        if self.reason.as_ref().is_none_or(|(last, _)| *last != reason) {
            self.reason = Some((reason.clone(), Instant::now()));
        }
        reason
    }

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
    fn steady(&mut self, progress: Progress<(), Stuck>) -> Progress<(), Stuck> {
        if !matches!(progress, Progress::Done(())) {
            self.ready = 0;
            return progress;
        }
        self.ready += 1;
        if self.ready > self.flapped.min(2) {
            return progress;
        }
        let reason = format!(
            "targets flap: {} became unhealthy and are healthy again",
            self.flapped
        );
        Progress::NotYet(reason.into())
    }
}
