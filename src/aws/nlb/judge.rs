//! Ready, not yet, or never: a pure decision over what was seen and what AWS said.

use std::{collections::BTreeSet, time::Duration};

use super::{Readiness, Seen, Stuck, Target};
use crate::wait::Progress;

/// What counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The port of the gateway.
    pub port: u16,
    /// Every target must be healthy, not just enough of them.
    pub all_targets: bool,
    /// How long something that usually passes may last before it counts as stuck.
    pub patience: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            port: crate::spec::GATEWAY_PORT,
            all_targets: false,
            patience: Duration::from_secs(90),
        }
    }
}

/// Decide. `same` is how long nothing of this has changed; with little of it, what looks stuck may still be moving.
pub(crate) fn judge(
    seen: &Seen,
    asked: Option<&Readiness>,
    policy: &Policy,
    same: Duration,
) -> Progress<(), Stuck> {
    if !seen.service {
        return Progress::Never(Stuck::NoService);
    }
    let Some(lb) = asked else {
        return without_balancer(seen, policy, same);
    };
    match lb.state.as_str() {
        "failed" => {
            return Progress::Never(Stuck::Failed(lb.state_reason.clone().unwrap_or_default()));
        }
        "provisioning" => return Progress::NotYet("the load balancer is being provisioned".into()),
        _ => {}
    }
    if !lb.listener {
        return patiently(
            policy,
            same,
            format!("no listener on {} yet", policy.port),
            Stuck::NoListener(policy.port),
        );
    }
    let sent: Vec<&str> = lb
        .groups
        .iter()
        .filter(|g| g.weight > 0)
        .map(|g| g.arn.as_str())
        .collect();
    if sent.is_empty() {
        return Progress::Never(Stuck::NoWeight);
    }
    if lb.targets.is_empty() {
        return empty(seen, policy, same);
    }
    match lacking(lb, policy) {
        None => Progress::Done(()),
        Some(lack) => unhealthy(seen, lb, policy, same, lack),
    }
}

fn patiently(policy: &Policy, same: Duration, reason: String, stuck: Stuck) -> Progress<(), Stuck> {
    if same >= policy.patience {
        Progress::Never(stuck)
    } else {
        Progress::NotYet(reason.into())
    }
}

fn without_balancer(seen: &Seen, policy: &Policy, same: Duration) -> Progress<(), Stuck> {
    if let Some(host) = &seen.hostname {
        let classic =
            super::Host::read(host).is_some_and(|h| h.shape == super::Shape::ApplicationOrClassic);
        if classic {
            return Progress::Never(Stuck::Classic(host.clone()));
        }
        return patiently(
            policy,
            same,
            format!("AWS does not know {host} yet"),
            Stuck::Deleted(host.clone()),
        );
    }
    if let Err(stuck) = super::choose(&seen.controllers) {
        return Progress::Never(stuck);
    }
    let failed = |e: &&super::Event| {
        matches!(
            e.reason.as_str(),
            "FailedBuildModel" | "FailedDeployModel" | "SyncLoadBalancerFailed"
        )
    };
    let newest = seen
        .events
        .iter()
        .filter(failed)
        .max_by(|a, b| a.last.cmp(&b.last));
    match newest {
        Some(event) => Progress::Never(Stuck::Refused(event.reason.clone(), event.message.clone())),
        None => Progress::NotYet("no load balancer has been made yet".into()),
    }
}

fn empty(seen: &Seen, policy: &Policy, same: Duration) -> Progress<(), Stuck> {
    match seen.pods.iter().filter(|p| p.containers_ready).count() {
        0 if seen.pods.is_empty() => {
            Progress::NotYet("no target is registered: the gateway has no pods yet".into())
        }
        0 => Progress::NotYet("no target is registered: no pod of the gateway is ready yet".into()),
        _ => patiently(
            policy,
            same,
            "no target is registered yet".into(),
            Stuck::Empty,
        ),
    }
}

/// What is missing for the policy, in words; `None` when it is met.
fn lacking(lb: &Readiness, policy: &Policy) -> Option<String> {
    let healthy = lb.targets.iter().filter(|t| t.is_healthy()).count();
    let counting = lb.targets.iter().filter(|t| !is_leaving(t)).count();
    let tally = format!("{healthy} of {counting} targets healthy");
    if healthy == 0 || (policy.all_targets && healthy < counting) {
        return Some(tally);
    }
    let zones: BTreeSet<&str> = lb
        .targets
        .iter()
        .filter(|t| !is_leaving(t) && !t.zone.is_empty())
        .map(|t| t.zone.as_str())
        .collect();
    let served = |zone: &&str| {
        lb.targets
            .iter()
            .any(|t| t.zone == **zone && t.is_healthy())
    };
    let without: Vec<&str> = zones.into_iter().filter(|z| !served(z)).collect();
    (!lb.cross_zone && !without.is_empty())
        .then(|| format!("{tally}, none in {}", without.join(", ")))
}

fn is_leaving(target: &Target) -> bool {
    matches!(target.state.as_str(), "draining" | "unhealthy.draining")
}

fn unhealthy(
    seen: &Seen,
    lb: &Readiness,
    policy: &Policy,
    same: Duration,
    lack: String,
) -> Progress<(), Stuck> {
    let with = |reason: &str| {
        lb.targets
            .iter()
            .filter(|t| t.reason.as_deref() == Some(reason))
            .collect::<Vec<_>>()
    };
    let unused = with("Target.NotInUse");
    let wrong: BTreeSet<String> = unused
        .iter()
        .map(|t| t.zone.clone())
        .filter(|z| !z.is_empty() && !lb.zones.contains(z))
        .collect();
    let failing = with("Target.FailedHealthChecks");
    let pods_ready = seen.pods.iter().any(|p| p.containers_ready);
    let reason = format!("{lack}{}", reasons(&lb.targets));
    if !wrong.is_empty() && unused.len() == lb.targets.len() {
        return patiently(
            policy,
            same,
            reason,
            Stuck::WrongZone(wrong.into_iter().collect()),
        );
    }
    match failing.first() {
        Some(_) if pods_ready && !seen.gateway => {
            let stuck = Stuck::NoGateway(policy.port);
            // A wait that ends before it is certain says what it looks like.
            let reason = format!("{reason}: {stuck}");
            patiently(policy, same.saturating_mul(3), reason, stuck)
        }
        Some(target) if pods_ready && failing.len() == lb.targets.len() => {
            let stuck = Stuck::Unreachable {
                target: target.id.clone(),
                port: policy.port,
            };
            patiently(policy, same, reason, stuck)
        }
        _ => Progress::NotYet(reason.into()),
    }
}

/// States of the targets that are not healthy, counted: ` (2 initial: Elb.InitialHealthChecking)`.
fn reasons(targets: &[Target]) -> String {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for target in targets.iter().filter(|t| !t.is_healthy()) {
        let reason = target.reason.as_deref().unwrap_or("no reason given");
        *counts
            .entry(format!("{}: {reason}", target.state))
            .or_default() += 1;
    }
    let words: Vec<String> = counts
        .into_iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    if words.is_empty() {
        String::new()
    } else {
        format!(" ({})", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Controllers, Event, Group, seen::Pod},
        *,
    };

    const LONG: Duration = Duration::from_secs(600);

    fn seen() -> Seen {
        Seen {
            service: true,
            hostname: Some("k8s-a-50dc6c495c0c9188.elb.eu-west-1.amazonaws.com".into()),
            pods: vec![Pod {
                ip: "10.0.0.1".into(),
                ready: true,
                containers_ready: true,
                ..Pod::default()
            }],
            gateway: true,
            controllers: Controllers {
                controller: Some(1),
                on_aws: true,
                ..Controllers::default()
            },
            ..Seen::default()
        }
    }

    fn target(zone: &str, state: &str, reason: &str) -> Target {
        let reason = Some(reason.to_owned()).filter(|r| !r.is_empty());
        Target {
            id: "10.0.0.1".into(),
            port: 15443,
            zone: zone.into(),
            state: state.into(),
            reason,
            description: None,
        }
    }

    fn lb(targets: &[Target]) -> Readiness {
        Readiness {
            state: "active".into(),
            zones: vec!["a".into(), "b".into()],
            listener: true,
            groups: vec![Group {
                arn: "g".into(),
                weight: 1,
            }],
            targets: targets.to_vec(),
            ..Readiness::default()
        }
    }

    fn say(seen: &Seen, lb: Option<&Readiness>, same: Duration) -> Progress<(), Stuck> {
        judge(seen, lb, &Policy::default(), same)
    }

    #[test]
    fn every_zone_with_targets_needs_a_healthy_one_unless_zones_are_crossed() {
        let half = lb(&[
            target("a", "healthy", ""),
            target("b", "initial", "Elb.InitialHealthChecking"),
        ]);
        let want = "1 of 2 targets healthy, none in b (1 initial: Elb.InitialHealthChecking)";
        assert_eq!(
            say(&seen(), Some(&half), LONG),
            Progress::NotYet(want.into())
        );
        let crossed = Readiness {
            cross_zone: true,
            ..half.clone()
        };
        assert_eq!(say(&seen(), Some(&crossed), LONG), Progress::Done(()));
        let one_zone = lb(&[target("a", "healthy", "")]);
        assert_eq!(
            say(&seen(), Some(&one_zone), LONG),
            Progress::Done(()),
            "a zone without targets is no obstacle"
        );
        let strict = Policy {
            all_targets: true,
            ..Policy::default()
        };
        assert!(matches!(
            judge(&seen(), Some(&crossed), &strict, LONG),
            Progress::NotYet(_)
        ));
    }

    #[test]
    fn leaving_targets_do_not_hold_anybody_up() {
        let rolling = lb(&[
            target("a", "healthy", ""),
            target("b", "draining", "Target.DeregistrationInProgress"),
            target("b", "unhealthy.draining", "Target.FailedHealthChecks"),
        ]);
        let strict = Policy {
            all_targets: true,
            ..Policy::default()
        };
        assert_eq!(
            judge(&seen(), Some(&rolling), &strict, LONG),
            Progress::Done(())
        );
    }

    #[test]
    fn an_empty_group_is_never_healthy() {
        assert_eq!(
            say(&seen(), Some(&lb(&[])), Duration::ZERO),
            Progress::NotYet("no target is registered yet".into())
        );
        assert_eq!(
            say(&seen(), Some(&lb(&[])), LONG),
            Progress::Never(Stuck::Empty)
        );
        let starting = Seen {
            pods: Vec::new(),
            ..seen()
        };
        assert!(
            matches!(say(&starting, Some(&lb(&[])), LONG), Progress::NotYet(_)),
            "pods may still come"
        );
    }

    #[test]
    fn what_cannot_heal_is_told_early() {
        let failing = lb(&[target("a", "unhealthy", "Target.FailedHealthChecks")]);
        let shut = Seen {
            gateway: false,
            ..seen()
        };
        assert_eq!(
            say(&shut, Some(&failing), Duration::from_secs(30)),
            Progress::Never(Stuck::NoGateway(15443))
        );
        assert!(matches!(
            say(&seen(), Some(&failing), Duration::from_secs(30)),
            Progress::NotYet(_)
        ));
        let dropped = Stuck::Unreachable {
            target: "10.0.0.1".into(),
            port: 15443,
        };
        assert_eq!(say(&seen(), Some(&failing), LONG), Progress::Never(dropped));
        let astray = lb(&[target("c", "unused", "Target.NotInUse")]);
        assert_eq!(
            say(&seen(), Some(&astray), LONG),
            Progress::Never(Stuck::WrongZone(vec!["c".into()]))
        );
        let failed = Readiness {
            state: "failed".into(),
            ..lb(&[])
        };
        assert!(matches!(
            say(&seen(), Some(&failed), Duration::ZERO),
            Progress::Never(Stuck::Failed(_))
        ));
        let weightless = Readiness {
            groups: vec![Group {
                arn: "g".into(),
                weight: 0,
            }],
            ..lb(&[])
        };
        assert_eq!(
            say(&seen(), Some(&weightless), Duration::ZERO),
            Progress::Never(Stuck::NoWeight)
        );
        let mute = Readiness {
            listener: false,
            ..lb(&[])
        };
        assert_eq!(
            say(&seen(), Some(&mute), LONG),
            Progress::Never(Stuck::NoListener(15443))
        );
    }

    #[test]
    fn without_a_host_name_the_controller_is_asked_about() {
        let none = Seen {
            hostname: None,
            ..seen()
        };
        assert!(matches!(say(&none, None, LONG), Progress::NotYet(_)));
        let gone = Seen {
            controllers: Controllers {
                on_aws: true,
                ..Controllers::default()
            },
            ..none.clone()
        };
        assert_eq!(
            say(&gone, None, Duration::ZERO),
            Progress::Never(Stuck::NoController)
        );
        let event = |reason: &str, last: &str| Event {
            reason: reason.into(),
            message: format!("at {last}"),
            last: last.into(),
        };
        let refused = Seen {
            events: vec![
                event("FailedBuildModel", "2"),
                event("FailedDeployModel", "1"),
            ],
            ..none
        };
        let want = Stuck::Refused("FailedBuildModel".into(), "at 2".into());
        assert_eq!(say(&refused, None, Duration::ZERO), Progress::Never(want));
        let classic = Seen {
            hostname: Some("a1-2.eu-west-1.elb.amazonaws.com".into()),
            ..seen()
        };
        assert!(matches!(
            say(&classic, None, Duration::ZERO),
            Progress::Never(Stuck::Classic(_))
        ));
        assert_eq!(
            say(&Seen::default(), None, Duration::ZERO),
            Progress::Never(Stuck::NoService)
        );
    }
}
