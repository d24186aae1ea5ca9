//! One run at a time, whatever the clocks and the names of those who run say.

use std::{sync::Arc, thread, time::Duration};

use meshlink::{Agreed, Change, Environment, Event, Failure, Meshlink, Report};
use serde_json::{Value, json};

use crate::kit::{World, istio, join, until};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/meshlink";
const PROBE: &str = "/api/v1/namespaces/meshlink-probe";

/// Plans a join and does it.
fn do_join(world: &World, link: &Meshlink) -> Result<Report, Failure> {
    world.block_on(async {
        let planned = link.plan(Change::Join).await?;
        planned.apply(&Agreed, Arc::new(|_: &Event| ())).await
    })
}

/// Does something in the midst of a join, and returns how the join ended.
fn amid_a_join(world: &World, link: &Meshlink, what: impl FnOnce()) -> Result<Report, Failure> {
    world.fault("eks-2", meshlink::sandbox::Fault::BalancerNameMissing);
    thread::scope(|threads| {
        let joins = threads.spawn(|| do_join(world, link));
        wait_until_it_waits(world);
        what();
        world.clear("eks-2", meshlink::sandbox::Fault::BalancerNameMissing);
        joins.join().unwrap()
    })
}

/// Until a join waits for the load balancer that has no name, with a probe in each cluster.
fn wait_until_it_waits(world: &World) {
    let waits = "\"step-started\",\"step\":\"reach/eks-1/eks-2\"";
    let waits = world.wait(|| world.journal().contains(waits).then_some(()));
    assert!(waits.is_some(), "{}", world.journal());
    assert!(world.find("eks-1", PROBE).is_some());
}

/// A second run beside a join is refused, whoever it says it is and whatever its clock says; the join comes to its end.
fn is_refused_beside_a_join(change: impl Fn(&mut Environment)) {
    let world = World::new(2);
    let first = world.link(2);
    let mut refused = None;
    let second = world.link_as(2, |environment| {
        environment.timeout = Duration::from_secs(20);
        change(environment);
    });
    let joined = amid_a_join(&world, &first, || {
        refused = Some(do_join(&world, &second));
    });
    let refused = refused.unwrap().unwrap_err().to_string();
    assert!(refused.contains("is changing this mesh"), "{refused}");
    let joined = joined.unwrap();
    assert_eq!(joined.failed().next(), None, "{joined}");
    assert_eq!(joined.lost, None);
}

#[test]
fn two_runs_of_one_name_and_process_number_exclude_each_other() {
    // As in two containers, each the first process of a host of the same name.
    is_refused_beside_a_join(|environment| {
        environment.operator =
            Environment::new(environment.folders.clone(), vec![], crate::kit::now).operator;
    });
}

#[test]
fn a_clock_that_is_ahead_takes_no_lease_from_a_living_run() {
    is_refused_beside_a_join(|environment| {
        environment.clock = Arc::new(|| crate::kit::now() + Duration::from_secs(40));
    });
}

#[test]
fn a_run_that_lost_its_lease_does_not_stop_the_probe_of_another() {
    let world = World::new(2);
    let link = world.link(2);
    let ended = amid_a_join(&world, &link, || {
        for name in ["eks-1", "eks-2"] {
            let now = crate::kit::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
            let spec = json!({"holderIdentity": "bob@elsewhere (process 9)", "renewTime": now.to_string()});
            world.merge(name, LEASE, &json!({"spec": spec}));
        }
        let lost = "\"event\":\"interrupted\",\"lost\":[\"cluster eks-";
        let lost = world.wait(|| world.journal().contains(lost).then_some(()));
        assert!(lost.is_some(), "{}", world.journal());
    });
    let ended = ended.unwrap();
    assert!(ended.lost.is_some(), "{ended}");
    for name in ["eks-1", "eks-2"] {
        let probe = world.get(name, PROBE);
        let going = &probe["metadata"]["deletionTimestamp"];
        assert!(going.is_null(), "{name}: the other's probe is taken away");
    }
}

#[test]
fn who_is_killed_and_run_again_at_once_goes_on() {
    let world = World::new(2);
    world.fault("eks-2", meshlink::sandbox::Fault::BalancerNameMissing);
    let running = world.start(&join(2));
    wait_until_it_waits(&world);
    // By SIGKILL: its Leases are neither given up nor run out.
    drop(running);
    world.clear("eks-2", meshlink::sandbox::Fault::BalancerNameMissing);
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
}

/// Somebody of another machine holds the Lease of the first cluster, and is not heard of again.
fn held_by_ann(world: &World, seconds: u32) {
    // Renewed in a time to come, by her clock: nobody believes it.
    let spec = json!({"holderIdentity": "ann@laptop (process 7)", "leaseDurationSeconds": seconds,
        "renewTime": "2099-01-01T00:00:00.000000Z", "leaseTransitions": i32::MAX});
    let (folder, _) = LEASE.rsplit_once('/').unwrap();
    match world.find("eks-1", LEASE) {
        Some(_) => world.merge("eks-1", LEASE, &json!({"spec": spec})),
        None => {
            let space = json!({"metadata": {"name": "istio-system"}});
            world.create("eks-1", "/api/v1/namespaces", &space);
            let lease = json!({"metadata": {"name": "meshlink"}, "spec": spec});
            world.create("eks-1", folder, &lease);
        }
    }
}

#[test]
fn a_lease_that_is_held_is_respected_and_its_holder_named() {
    let world = World::new(2);
    held_by_ann(&world, 300);
    let answer = world.run(&join(2)).ends(8);
    let answer = answer
        .says("cluster eks-1: ann@laptop (process 7) is changing this mesh; its lease lasts for another 300 s at most")
        .says("hint: meshlink join eks-1 eks-2 --sandbox --wait-lock 10m");
    assert!(world.keys().is_empty(), "{answer}");
    for name in ["eks-1", "eks-2"] {
        let cacerts = world.find(name, &istio("secrets", "cacerts"));
        assert!(cacerts.is_none(), "{name}");
    }
    // Its code is told in JSON too.
    let answer = world.run(&format!("{} -o json", join(2))).ends(8);
    let told: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(
        (&told["exit_code"], &told["failure"]["kind"]),
        (&json!(8), &json!("busy")),
        "{answer}"
    );
    let broken = world.run(&format!("{} --break-lease", join(2))).ends(0);
    broken.says("eks-1: the lease of ann@laptop (process 7) is taken away");
    assert_eq!(
        world.get("eks-1", LEASE)["spec"]["leaseTransitions"],
        i32::MAX
    );
}

#[test]
fn who_waits_takes_a_lease_that_stands_still_and_gives_up_when_time_is_up() {
    let world = World::new(2);
    held_by_ann(&world, 2);
    let waits = world.run(&format!("{} --wait-lock 1m", join(2))).ends(0);
    waits.says("cluster eks-1: waiting for ann@laptop (process 7)");
    held_by_ann(&world, 300);
    let waited = world.run("leave eks-2 --wait-lock 1s").ends(8);
    waited.says("hint: meshlink leave eks-2 --wait-lock 1s --sandbox --break-lease");
}

#[test]
fn who_waits_goes_on_when_the_other_is_done() {
    let world = World::new(2);
    let mut second = None;
    let joined = amid_a_join(&world, &world.link(2), || {
        let waits = world.start(&format!("{} --wait-lock 1m", join(2)));
        second = Some(waits);
    });
    assert_eq!(joined.unwrap().failed().next(), None);
    second.unwrap().end().ends(0).says("2 of 2 pairs proved");
}

#[test]
fn a_namespace_that_is_still_going_is_waited_for_and_not_taken_for_a_refusal() {
    let world = World::new(2);
    let spaces = "/api/v1/namespaces";
    world.create(
        "eks-1",
        spaces,
        &json!({"metadata": {"name": "istio-system"}}),
    );
    let maps = istio("configmaps", "");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    world.create("eks-1", maps.trim_end_matches('/'), &held);
    world.delete("eks-1", &format!("{spaces}/istio-system"));
    let late = world.run(&format!("{} --timeout 2s", join(2)));
    assert_ne!(late.code, Some(0), "{late}");
    late.says("waiting until namespace istio-system is gone, which is being deleted")
        .says("unable to create new content in namespace istio-system");
    let tries = || {
        let asked = world.api("eks-1").counters().of_agent("meshlink/");
        let tries = asked
            .iter()
            .filter(|(verb, what, _)| *verb == "create" && what.starts_with("leases."));
        tries.map(|(.., n)| n).sum::<u64>()
    };
    let before = tries();
    let joins = world.start(&join(2));
    until(|| tries() > before + 1);
    let free = json!({"metadata": {"finalizers": []}});
    world.merge("eks-1", &istio("configmaps", "held"), &free);
    joins.end().ends(0).says("2 of 2 pairs proved");
}
