//! What AWS says of the gateways' load balancers, for the verdict: a gateway whose targets fail is not ready, whatever
//! its cluster says.

use std::time::Duration;

use futures::future;
use tokio::{sync::Mutex, time::Instant};

use super::Meshlink;
use crate::{
    aws::{
        Members,
        call::Cause,
        nlb::{self, Policy, Readiness},
    },
    cluster::Cluster,
    hint::Hint,
    name::ClusterName,
    verify::{Check, Claim, Outcome, Verdict},
    wait::{self, Deadline, Every, Progress, Unmet},
};

/// How long a verdict waits for AWS where it throttles.
const PATIENCE: Duration = Duration::from_secs(10);

impl Meshlink {
    /// Adds it to the claim that a gateway is ready, where AWS may be asked.
    pub(super) async fn look_at_balancers(&self, members: &Members, verdict: &mut Verdict) {
        let ready = |c: &&mut Check| c.id == Claim::GatewayReady && c.outcome == Outcome::Ok;
        let looks = verdict.checks.iter_mut().filter(ready).filter_map(|check| {
            let found = self.clusters.iter().find(|(n, _)| n.as_str() == check.from);
            let (name, cluster) = found?;
            Some(self.look_at_balancer(name, cluster, members, check))
        });
        future::join_all(looks).await;
    }

    async fn look_at_balancer(
        &self,
        name: &ClusterName,
        cluster: &Cluster,
        members: &Members,
        check: &mut Check,
    ) {
        let gateway = &self.mesh.gateway;
        let (namespace, service) = (gateway.namespace.as_str(), gateway.name.as_str());
        let policy = Policy::default();
        let Ok(seen) = nlb::see(cluster, namespace, service, policy.port).await else {
            return;
        };
        let on_aws = seen.hostname.as_deref().and_then(nlb::Host::read).is_some();
        if !on_aws {
            return;
        }
        let watch = members.watch(name, (namespace, service), policy.port);
        let watch = &Mutex::new(watch);
        let begun = Instant::now();
        let seen = &seen;
        let ask = |()| async move {
            match watch.lock().await.look(seen).await {
                Ok(asked) => Progress::Done(asked),
                Err(error) if error.cause == Cause::Throttled => {
                    let (so_far, most) = (begun.elapsed().as_secs(), PATIENCE.as_secs());
                    let told =
                        format!("{error}; retrying, {so_far} s so far, for at most {most} s");
                    Progress::NotYet(told.into())
                }
                Err(error) => Progress::Never(error.to_string().into()),
            }
        };
        let say = |reason: &str| members.aws().tell(&format!("pending: {name}: {reason}"));
        // Where AWS throttles, each look waits its turn by itself.
        let at_once = Every::fixed(Duration::ZERO);
        let asked = match wait::until(ask, at_once, Deadline::after(PATIENCE), say).await {
            Ok(asked) => asked,
            Err(Unmet::Late { reason, .. } | Unmet::Never(reason)) => {
                check.evidence += &format!("; target health not looked at: {reason}");
                return;
            }
        };
        match nlb::judge(seen, asked.as_ref(), &policy, Duration::ZERO) {
            Progress::Done(()) => check.evidence += &tally(asked.as_ref()),
            Progress::NotYet(reason) => {
                let hint = Hint::meshlink(["wait", "nlb", name.as_str()]);
                fail(check, &reason.text, hint);
            }
            Progress::Never(cause) => {
                let hint = cause.hint(name.as_str(), &watch.lock().await.service());
                fail(check, &cause.to_string(), hint);
            }
        }
    }
}

fn tally(asked: Option<&Readiness>) -> String {
    let targets = asked.map(|lb| lb.targets.as_slice()).unwrap_or_default();
    let healthy = targets.iter().filter(|t| t.is_healthy()).count();
    format!(", {healthy} of {} targets healthy", targets.len())
}

fn fail(check: &mut Check, reason: &str, hint: Hint) {
    check.outcome = Outcome::Failed;
    check.evidence += &format!(", but its load balancer is not ready: {reason}");
    check.hints.push(hint);
}
