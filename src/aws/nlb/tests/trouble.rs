//! What may happen to a load balancer, its targets and our questions while we wait.

use super::*;

/// A third target that is never done registering.
fn with_a_slow_target(state: &mut State) {
    let group = state.groups[0].arn.clone();
    state.register(&group, "10.0.2.1", 15443, "eu-west-1a", Vec::new());
}

#[tokio::test]
async fn a_load_balancer_deleted_under_us_is_noticed() {
    let world = world(with_a_slow_target).await;
    let arn = world.arn.clone();
    let strict = Policy {
        all_targets: true,
        ..policy()
    };
    let act = |look| {
        if look == 8 {
            world.shared.lock().delete_balancer(&arn)
        }
    };
    let (result, reasons) = world.wait_and(&strict, act).await;
    let Err(Error::Stuck {
        cause: Stuck::Deleted(_),
        ..
    }) = result
    else {
        panic!("{result:?} {reasons:?}")
    };
}

#[tokio::test]
async fn a_listener_taken_away_under_us_is_noticed() {
    let world = world(with_a_slow_target).await;
    let strict = Policy {
        all_targets: true,
        ..policy()
    };
    let act = |look| {
        if look == 8 {
            world.shared.lock().balancers[0].listeners.clear()
        }
    };
    let (result, reasons) = world.wait_and(&strict, act).await;
    let Err(Error::Stuck {
        cause: Stuck::NoListener(_),
        ..
    }) = result
    else {
        panic!("{result:?} {reasons:?}")
    };
}

#[tokio::test]
async fn what_cannot_heal_ends_the_wait_early() {
    let failing = |state: &mut State| {
        let group = &mut state.groups[0];
        group
            .targets
            .iter_mut()
            .for_each(|t| t.story = PACE.ending_in(Health::FAILING));
    };
    let shut = world(failing).await;
    shut.seen.lock().unwrap().gateway = false;
    assert_eq!(shut.stuck().await, Stuck::NoGateway(15443));
    let dropped = world(failing).await;
    let dropped = dropped.stuck().await;
    assert_eq!(
        dropped,
        Stuck::Unreachable {
            target: "10.0.0.1".into(),
            port: 15443
        }
    );
    let empty = world(|state| state.groups[0].targets.clear()).await;
    assert_eq!(empty.stuck().await, Stuck::Empty);
    let astray = world(|state| {
        state.groups[0]
            .targets
            .iter_mut()
            .for_each(|t| t.zone = "eu-west-1c".into())
    })
    .await;
    assert_eq!(
        astray.stuck().await,
        Stuck::WrongZone(vec!["eu-west-1c".into()])
    );
    let failed = world(|state| {
        state.balancers[0].state = Some(("failed".into(), "no free addresses".into()))
    })
    .await;
    assert_eq!(
        failed.stuck().await,
        Stuck::Failed("no free addresses".into())
    );
    let classic = world(|_| {}).await;
    classic.seen.lock().unwrap().hostname = Some("a1b2-188.eu-west-1.elb.amazonaws.com".into());
    assert!(matches!(classic.stuck().await, Stuck::Classic(_)));
}

#[tokio::test]
async fn a_controller_removed_while_waiting_ends_it() {
    let world = world(|_| {}).await;
    world.seen.lock().unwrap().hostname = None;
    let act = |look| {
        if look == 4 {
            world.seen.lock().unwrap().controllers.controller = Some(0)
        }
    };
    let (result, reasons) = world.wait_and(&policy(), act).await;
    assert_eq!(reasons, ["no load balancer has been made yet"]);
    let Err(Error::Stuck {
        cause: Stuck::ControllerDown,
        ..
    }) = result
    else {
        panic!("{result:?}")
    };
}

#[tokio::test]
async fn a_minute_of_throttling_is_waited_out() {
    let until = now() + Duration::from_secs(60);
    let world = world(|state| {
        state.faults.push(Fault::until(
            "elasticloadbalancing",
            FaultKind::Throttled,
            until,
        ))
    })
    .await;
    let (result, reasons) = world.wait(&policy()).await;
    result.unwrap();
    assert!(
        reasons[0].starts_with("pending: elasticloadbalancing:")
            && reasons[0].ends_with("throttled; retrying"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn truncated_and_slow_answers_are_asked_for_again() {
    let world = world(|state| {
        let elb = "elasticloadbalancing:DescribeTargetHealth";
        state.faults.push(Fault::times(elb, FaultKind::Cut, 1));
        state.faults.push(Fault::times(elb, FaultKind::Garbled, 1));
        state.faults.push(Fault::times(
            elb,
            FaultKind::Slow(Duration::from_millis(100)),
            1,
        ));
        state.faults.push(Fault::times(
            elb,
            FaultKind::Error(500, "HealthUnavailable", "try later"),
            1,
        ));
    })
    .await;
    world.wait(&policy()).await.0.unwrap();
}

#[tokio::test]
async fn targets_that_flap_must_hold_before_they_are_believed() {
    let world = world(|state| {
        let at = Duration::from_secs;
        let target = &mut state.groups[0].targets[0];
        target.story = vec![
            (at(0), Health::HEALTHY),
            (at(25), Health::FAILING),
            (at(40), Health::HEALTHY),
        ];
        state.groups[0].targets[1].story =
            vec![(at(0), Health::CHECKING), (at(30), Health::HEALTHY)];
    })
    .await;
    let (result, reasons) = world
        .wait(&Policy {
            patience: Duration::from_secs(2),
            ..policy()
        })
        .await;
    result.unwrap();
    assert!(
        reasons.iter().any(|r| r.starts_with("targets flap")),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn expired_credentials_end_the_wait_with_the_way_back_in() {
    let world = world(|_| {}).await;
    world.shared.lock().keys.get_mut("AKID").unwrap().expires = Some(now());
    let error = world.wait(&policy()).await.0.unwrap_err();
    assert_eq!(error.hint().unwrap().to_string(), "aws sso login");
}

#[tokio::test]
async fn a_deadline_tells_the_last_reason_and_can_be_run_again() {
    let world = world(|state| state.balancers[0].provisioning = Duration::from_secs(60)).await;
    let mut watch = world.watch(&world.aws).await;
    let deadline = Deadline::after(Duration::from_millis(100));
    let see = || async { Ok(world.seen.lock().unwrap().clone()) };
    let error = wait("eks-1", &mut watch, see, &policy(), deadline, QUICK, |_| {})
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the load balancer of istio-system/eastwest in eks-1 was not ready after 0 s: the load balancer is being provisioned"
    );
}

#[tokio::test]
async fn fifty_load_balancers_of_one_account_are_watched_without_being_throttled() {
    let mut state = state();
    // Ten times faster on both sides: it is the ratio that counts.
    state.limit = Some((40.0, 100.0));
    let hosts: Vec<String> = (0..50_usize)
        .map(|n| {
            let (arn, group) = balancer(&mut state, &format!("k8s-lb-{n}"));
            let story = vec![(Duration::ZERO, Health::HEALTHY)];
            state.register(&group, "10.0.0.1", 15443, "eu-west-1a", story);
            state.balancers[n].provisioning = Duration::ZERO;
            hostname(&state, &arn)
        })
        .collect();
    let (shared, server, _) = served(state).await;
    let aws = client(&server, "AKID", "secret").with_pace(Pace {
        period: Duration::from_millis(25),
        burst: 8,
    });
    let session = aws
        .session(&Identity::default(), None)
        .await
        .unwrap()
        .for_account(ACCOUNT);
    let waits = hosts.into_iter().map(|host| {
        let mut watch = Watch::new(session.clone(), ACCOUNT, ("ns", "svc"), 15443);
        let seen = Seen {
            service: true,
            hostname: Some(host),
            ..Seen::default()
        };
        async move {
            let see = || async { Ok(seen.clone()) };
            let deadline = Deadline::after(Duration::from_secs(30));
            wait("eks-1", &mut watch, see, &policy(), deadline, QUICK, |_| {}).await
        }
    });
    for ready in futures::future::join_all(waits).await {
        ready.unwrap();
    }
    let state = shared.lock();
    assert!(state.calls.len() >= 150, "{}", state.calls.len());
    assert_eq!(state.calls.iter().filter(|c| c.status != 200).count(), 0);
}
