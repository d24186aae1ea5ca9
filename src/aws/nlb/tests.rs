//! Load balancers of an emulated AWS, through every way to find them and everything that can go wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    seen::{Binding, Gate, Pod},
    *,
};
use crate::{
    aws::tests::kit::{client, served},
    aws::{Aws, Identity, rate::Pace},
    sandbox::aws::{
        Fault, FaultKind, Health, NewBalancer, Pace as Story, Server, Shared, State, Zone,
        testing::{ACCOUNT, Ahead, REGION, now, state},
    },
    wait::{Deadline, Every},
};

mod trouble;

/// Much slower than any machine these tests run on, so that only the clock they move along counts.
const PACE: Story = Story {
    provisioning: Duration::from_secs(10),
    registration: Duration::from_secs(20),
    checks: Duration::from_secs(20),
    draining: Duration::from_secs(10),
};
/// What passes in the emulated AWS between two looks.
const TICK: Duration = Duration::from_secs(6);

const QUICK: Every = Every::growing(Duration::from_millis(20), Duration::from_millis(40));

fn policy() -> Policy {
    Policy {
        patience: Duration::from_millis(150),
        ..Policy::default()
    }
}

/// A load balancer with a target in each of two zones, and what its cluster sees of it.
struct World {
    shared: Shared,
    _server: Server,
    aws: Aws,
    arn: String,
    group: String,
    seen: Arc<Mutex<Seen>>,
    ahead: Ahead,
}

fn balancer(state: &mut State, name: &str) -> (String, String) {
    let zone = |z: &str| Zone {
        name: format!("{REGION}{z}"),
        ..Zone::default()
    };
    let arn = state.make_balancer(NewBalancer {
        partition: "aws".into(),
        account: ACCOUNT.into(),
        region: REGION.into(),
        name: name.into(),
        scheme: "internet-facing".into(),
        zones: vec![zone("a"), zone("b")],
        provisioning: PACE.provisioning,
        ..NewBalancer::default()
    });
    let group = state.make_group(&arn, &format!("{name}-15443"), 15443, 15443, "ip");
    (arn, group)
}

fn hostname(state: &State, arn: &str) -> String {
    state
        .balancers
        .iter()
        .find(|b| b.arn == arn)
        .unwrap()
        .dns_name
        .to_lowercase()
}

async fn world(change: impl FnOnce(&mut State)) -> World {
    let (mut state, ahead) = (state(), Ahead::default());
    state.clock = ahead.clock();
    let (arn, group) = balancer(&mut state, "k8s-istio-eastwest-0a1b2c3d4e");
    for (ip, zone) in [("10.0.0.1", "eu-west-1a"), ("10.0.1.1", "eu-west-1b")] {
        state.register(&group, ip, 15443, zone, PACE.healthy());
    }
    change(&mut state);
    let pod = Pod {
        ip: "10.0.0.1".into(),
        ready: true,
        containers_ready: true,
        ..Pod::default()
    };
    let seen = Seen {
        service: true,
        hostname: state.balancers.first().map(|b| b.dns_name.to_lowercase()),
        pods: vec![pod],
        gateway: true,
        controllers: Controllers {
            controller: Some(1),
            on_aws: true,
            ..Controllers::default()
        },
        ..Seen::default()
    };
    let (shared, server, aws) = served(state).await;
    World {
        shared,
        _server: server,
        aws,
        arn,
        group,
        seen: Arc::new(Mutex::new(seen)),
        ahead,
    }
}

impl World {
    async fn watch(&self, aws: &Aws) -> Watch {
        let session = aws.session(&Identity::default(), None).await.unwrap();
        Watch::new(session, ACCOUNT, ("istio-system", "eastwest"), 15443)
    }

    async fn wait(&self, policy: &Policy) -> (Result<Readiness, Error>, Vec<String>) {
        self.wait_and(policy, |_| {}).await
    }

    /// Wait, and before each look do something, given its number.
    async fn wait_and(
        &self,
        policy: &Policy,
        act: impl Fn(usize),
    ) -> (Result<Readiness, Error>, Vec<String>) {
        let mut watch = self.watch(&self.aws).await;
        let (mut reasons, mut looks) = (Vec::new(), 0);
        let see = || {
            looks += 1;
            act(looks);
            self.ahead.by(TICK);
            let seen = self.seen.lock().unwrap().clone();
            async { Ok(seen) }
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        let say = |reason: &str| reasons.push(reason.to_owned());
        let result = wait("eks-1", &mut watch, see, policy, deadline, QUICK, say).await;
        (result, reasons)
    }

    async fn stuck(&self) -> Stuck {
        match self.wait(&policy()).await {
            (Err(error @ Error::Stuck { .. }), _) => {
                assert!(error.hint().is_some(), "{error}");
                match error {
                    Error::Stuck { cause, .. } => cause,
                    _ => unreachable!(),
                }
            }
            (other, reasons) => panic!("{other:?} after {reasons:?}"),
        }
    }
}

#[tokio::test]
async fn the_whole_way_to_healthy_is_told_step_by_step() {
    let world = world(|_| {}).await;
    let (ready, reasons) = world.wait(&policy()).await;
    let ready = ready.unwrap();
    assert_eq!(
        (ready.arn.as_str(), ready.found_by),
        (world.arn.as_str(), FoundBy::Arn)
    );
    assert!(ready.listener && ready.targets.iter().all(Target::is_healthy));
    assert_eq!(
        reasons,
        [
            "the load balancer is being provisioned",
            "0 of 2 targets healthy (2 initial: Elb.RegistrationInProgress)",
            "0 of 2 targets healthy (2 initial: Elb.InitialHealthChecking)",
        ]
    );
}

#[tokio::test]
async fn the_host_name_tells_the_region_and_sts_the_account() {
    let world = world(|_| {}).await;
    world.ahead.by(PACE.provisioning);
    let mut watch = Watch::later(
        world.aws.clone(),
        Identity::default(),
        None,
        ("ns", "svc"),
        15443,
    );
    let seen = world.seen.lock().unwrap().clone();
    let found = watch.look(&seen).await.unwrap().unwrap();
    assert_eq!((found.arn, found.found_by), (world.arn, FoundBy::Arn));
    assert_eq!(world.shared.lock().count("sts:GetCallerIdentity", 200), 1);
}

#[tokio::test]
async fn a_binding_saves_the_question_for_listeners() {
    let world = world(|state| state.balancers[0].provisioning = Duration::ZERO).await;
    world.seen.lock().unwrap().bindings = vec![Binding {
        name: "k8s-x".into(),
        port: "15443".into(),
        group: world.group.clone(),
    }];
    world.wait(&policy()).await.0.unwrap();
    let state = world.shared.lock();
    assert_eq!(
        state.count("elasticloadbalancing:DescribeLoadBalancers", 200),
        1
    );
    assert_eq!(
        state.count("elasticloadbalancing:DescribeListeners", 200),
        0
    );
}

#[tokio::test]
async fn a_binding_to_a_group_on_no_listener_is_not_believed() {
    let world = world(|state| {
        state.balancers[0].provisioning = Duration::ZERO;
        state.balancers[0].listeners.clear();
    })
    .await;
    world.seen.lock().unwrap().bindings = vec![Binding {
        name: "k8s-x".into(),
        port: "15443".into(),
        group: world.group.clone(),
    }];
    assert_eq!(world.stuck().await, Stuck::NoListener(15443));
}

#[tokio::test]
async fn without_rights_in_aws_the_readiness_gates_decide() {
    let world = world(|state| {
        state
            .denied
            .insert("elasticloadbalancing:DescribeLoadBalancers".into());
    })
    .await;
    let (error, _) = world.wait(&policy()).await;
    let error = error.unwrap_err();
    assert!(
        error
            .hint()
            .unwrap()
            .to_string()
            .starts_with("allow elasticloadbalancing:DescribeLoadBalancers"),
        "{error}"
    );
    let mut seen = world.seen.lock().unwrap().clone();
    seen.bindings = vec![Binding {
        name: "k8s-x".into(),
        port: "tls".into(),
        group: "arn".into(),
    }];
    seen.port_name = Some("tls".into());
    seen.pods[0].gates = vec![Gate {
        binding: "k8s-x".into(),
        open: true,
        reason: String::new(),
    }];
    *world.seen.lock().unwrap() = seen;
    let ready = world.wait(&policy()).await.0.unwrap();
    assert_eq!(
        Some(ready.hostname),
        world.seen.lock().unwrap().hostname.clone()
    );
}

#[tokio::test]
async fn capitals_in_the_name_are_lost_in_the_host_name_and_found_all_the_same() {
    let world = world(|state| {
        let name = "K8s-Istio-EastWest";
        let lb = &mut state.balancers[0];
        lb.arn = lb.arn.replace("k8s-istio-eastwest-0a1b2c3d4e", name);
        lb.dns_name = lb.dns_name.replace("k8s-istio-eastwest-0a1b2c3d4e", name);
        lb.name = name.into();
    })
    .await;
    assert_eq!(
        world.wait(&policy()).await.0.unwrap().found_by,
        FoundBy::Paging
    );
}

#[tokio::test]
async fn a_host_name_of_another_shape_is_found_by_name_then_by_tags() {
    let by_name = world(|state| {
        let lb = &mut state.balancers[0];
        lb.dns_name = format!("{}-1.elb.{REGION}.amazonaws.com", lb.name);
    })
    .await;
    assert_eq!(
        by_name.wait(&policy()).await.0.unwrap().found_by,
        FoundBy::Name
    );

    let by_tags = world(|state| {
        for n in 0..30 {
            balancer(state, &format!("other-{n}"));
        }
        let tag = (
            "service.k8s.aws/stack".to_owned(),
            "istio-system/eastwest".to_owned(),
        );
        state.balancers[0].tags.extend([tag]);
    })
    .await;
    let host = "gateway.mesh.test".to_owned();
    by_tags.seen.lock().unwrap().hostname = Some(host.clone());
    let mut watch = by_tags.watch(&by_tags.aws).await;
    by_tags.ahead.by(PACE.provisioning);
    let seen = by_tags.seen.lock().unwrap().clone();
    let found = watch.look(&seen).await.unwrap().unwrap();
    assert_eq!(
        (found.arn, found.found_by),
        (by_tags.arn.clone(), FoundBy::Tags)
    );
}

#[tokio::test]
async fn four_hundred_and_fifty_load_balancers_are_two_pages() {
    let world = world(|state| {
        for n in 0..450 {
            balancer(state, &format!("other-{n}"));
        }
        let last = state.balancers.remove(0);
        state.balancers.push(last);
        state.balancers[450].dns_name = format!("renamed-1.elb.{REGION}.amazonaws.com");
    })
    .await;
    world.seen.lock().unwrap().hostname = Some(format!("Renamed-1.elb.{REGION}.amazonaws.com"));
    assert_eq!(
        world.wait(&policy()).await.0.unwrap().found_by,
        FoundBy::Paging
    );
}

#[tokio::test]
async fn every_partition_has_its_own_suffix_and_works_the_same() {
    for (partition, region) in [
        ("aws-cn", "cn-north-1"),
        ("aws-us-gov", "us-gov-west-1"),
        ("aws-iso", "us-iso-east-1"),
    ] {
        let mut state = state();
        let new = NewBalancer {
            partition: partition.into(),
            account: ACCOUNT.into(),
            region: region.into(),
            name: "k8s-x".into(),
            zones: vec![Zone {
                name: format!("{region}a"),
                ..Zone::default()
            }],
            ..NewBalancer::default()
        };
        let arn = state.make_balancer(new);
        let group = state.make_group(&arn, "g", 15443, 15443, "ip");
        state.register(
            &group,
            "10.0.0.1",
            15443,
            &format!("{region}a"),
            vec![(Duration::ZERO, Health::HEALTHY)],
        );
        let host = hostname(&state, &arn);
        let (_shared, _server, aws) = served(state).await;
        let session = aws
            .session(&Identity::default(), Some(region))
            .await
            .unwrap();
        let seen = Seen {
            service: true,
            hostname: Some(host),
            ..Seen::default()
        };
        let found = Watch::new(session, ACCOUNT, ("ns", "svc"), 15443)
            .look(&seen)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((found.arn, found.found_by), (arn, FoundBy::Arn));
        assert!(found.targets[0].is_healthy());
    }
}

#[tokio::test]
async fn a_weighted_listener_is_read_from_its_configuration() {
    let world = world(|state| {
        let mut group = state.groups[0].clone();
        group.arn.push('2');
        let arn = group.arn.clone();
        group.targets.truncate(1);
        group.targets[0].story = vec![(Duration::ZERO, Health::FAILING)];
        state.groups.push(group);
        state.balancers[0].listeners[0].forward.push((arn, 0));
    })
    .await;
    let ready = world.wait(&policy()).await.0.unwrap();
    assert_eq!(ready.groups.len(), 2);
    assert_eq!(
        ready.targets.len(),
        2,
        "a group with the weight 0 gets no traffic and holds nobody up"
    );
    world.shared.lock().balancers[0].listeners[0]
        .forward
        .iter_mut()
        .for_each(|(_, w)| *w = 0);
    assert_eq!(world.stuck().await, Stuck::NoWeight);
}
