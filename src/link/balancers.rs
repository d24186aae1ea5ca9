//! What AWS says of the gateways' load balancers, for the verdict: a gateway whose targets fail is not ready, whatever
//! its cluster says.

use std::time::Duration;

use futures::future;
use tokio::time::Instant;

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
        let mut watch = members.watch(name, (namespace, service), policy.port);
        let start = Instant::now();
        let asked = loop {
            match watch.look(&seen).await {
                // The next look waits its turn.
                Err(error) if error.cause == Cause::Throttled && start.elapsed() < PATIENCE => {
                    let so_far = start.elapsed().as_secs();
                    members.aws().tell(&format!(
                        "pending: {name}: {error}; asked again, {so_far} s so far, for up to {} s",
                        PATIENCE.as_secs()
                    ));
                }
                asked => break asked,
            }
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => {
                check.evidence += &format!("; target health not looked at: {error}");
                return;
            }
        };
        match nlb::judge(&seen, asked.as_ref(), &policy, Duration::ZERO) {
            nlb::Verdict::Ready => check.evidence += &tally(asked.as_ref()),
            nlb::Verdict::Pending(reason) => {
                let hint = Hint::meshlink(["wait", "nlb", name.as_str()]);
                fail(check, &reason, hint);
            }
            nlb::Verdict::Stuck(cause) => {
                let hint = cause.hint(name.as_str(), &watch.service());
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
