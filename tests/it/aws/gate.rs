//! What is waited for on AWS, as it is seen from the peers, and what is not.

use meshlink::sandbox::Fault;
use serde_json::json;

use super::JOIN;
use crate::kit::World;

#[test]
fn a_readiness_gate_tries_the_name_from_the_peers() {
    let world = World::new(2);
    let text = std::fs::read_to_string(&world.endpoints().aws).unwrap();
    let mut vars: Vec<_> = text.lines().filter_map(|l| l.split_once('=')).collect();
    vars.push(("MESHLINK_CRASH", "reach/eks-1/eks-2:after"));
    assert_eq!(world.user.start_with(JOIN, &vars).end().code, None);
    let second = |args: &str, code: i32| {
        let waited = world.by_names(&format!("wait nlb eks-1 eks-2 -o json {args}"));
        waited.ends(code).json()["balancers"][1].clone()
    };
    let tls = "15443 answered TLS as spiffe://cluster.local/ns/meshlink-probe/sa/probe-eks-2";
    let balancer = second("", 0);
    let seen = &balancer["tried"][0];
    assert_eq!(
        (&seen["from"], &seen["reached"]),
        (&json!("eks-1"), &json!(true))
    );
    let says = seen["says"].as_str().unwrap();
    assert_eq!(says.matches(tls).count(), 2, "{says}");
    assert_eq!(
        (&seen["addresses"], seen["tls"].as_array().unwrap().len()),
        (&seen["tls"], 2)
    );

    // An address that takes no connection is no more than half ready.
    world.fault("eks-2", Fault::AddressSilent);
    let balancer = second("--timeout 2s", 4);
    let reason = balancer["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("from eks-1, 198.18.1.11:15443 did not answer TLS: it does not answer"),
        "{reason}"
    );
    assert_eq!(balancer["tried"][0]["tls"], json!(["198.18.1.10"]));
    world.clear("eks-2", Fault::AddressSilent);

    // Late for everybody is waited for.
    world.fault("eks-2", Fault::BalancerNameMissing);
    let late = world.wait(|| {
        let balancer = second("--timeout 3s", 4);
        (balancer["tried"][0]["says"] == "does not resolve").then_some(balancer)
    });
    let reason = late.unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.ends_with(":15443 does not resolve from eks-1"),
        "{reason}"
    );
    world.clear("eks-2", Fault::BalancerNameMissing);

    // Nobody is there to answer TLS where no probe of its own runs.
    world.delete("eks-2", "/api/v1/namespaces/meshlink-probe");
    let alone = world.wait(|| {
        let balancer = second("", 0);
        let says = balancer["tried"][0]["says"].as_str()?.to_owned();
        says.contains("TCP only").then_some(says)
    });
    assert_eq!(
        alone.unwrap(),
        "was reached, TCP only: no probe runs in eks-2 to answer TLS"
    );
}

#[test]
fn a_name_in_a_zone_the_peer_does_not_see_is_not_waited_for() {
    let world = World::new(2);
    let vpc = |n: usize| world.aws().clusters[n].vpc.clone();
    let associate = format!("--vpc VPCRegion=us-west-2,VPCId={}", vpc(0));
    let looked_up = format!(
        "aws route53 associate-vpc-with-hosted-zone --hosted-zone-id \"$(aws route53 list-hosted-zones-by-vpc --vpc-id {} --vpc-region us-west-2",
        vpc(1)
    );
    world.fault("eks-1", Fault::ZoneUnseen);
    let begun = std::time::Instant::now();
    world
        .by_names(&format!("{JOIN} --timeout 5m"))
        .ends(1)
        .says("reach/eks-1/eks-2")
        .says("does not resolve in eks-1, though it does in eks-2: it looks to be in a private hosted zone that is not associated with the VPC of eks-1")
        .says("gave up after")
        .says(&looked_up)
        .says(&associate)
        .says("aws eks update-kubeconfig --name eks-1 --region us-west-2 --alias eks-1 && kubectl --context eks-1 -n kube-system get configmap coredns");
    assert!(begun.elapsed().as_secs() < 120, "it was waited for");
    // As soon as the zone is seen the same command goes on.
    world.clear("eks-1", Fault::ZoneUnseen);
    let text = std::fs::read_to_string(&world.endpoints().aws).unwrap();
    let mut vars: Vec<_> = text.lines().filter_map(|l| l.split_once('=')).collect();
    vars.push(("MESHLINK_CRASH", "prove/eks-1/eks-2:before"));
    // Half of what a worker thread has: a step that grows is seen here before a user sees it.
    vars.push(("RUST_MIN_STACK", "1048576"));
    assert_eq!(world.user.start_with(JOIN, &vars).end().code, None);

    // The same by the readiness gate; at home there is no probe, so this machine's word counts.
    world.fault("eks-1", Fault::ZoneUnseen);
    world.delete("eks-2", "/api/v1/namespaces/meshlink-probe");
    let gone = || {
        world
            .find("eks-2", "/api/v1/namespaces/meshlink-probe")
            .is_none()
            .then_some(())
    };
    assert!(world.wait(gone).is_some());
    let answer = world
        .by_names("wait nlb eks-2 --timeout 5m -o json")
        .ends(4);
    let balancer = answer.json()["balancers"][0].clone();
    let reason = balancer["reason"].as_str().unwrap();
    assert!(
        reason.contains("does not resolve in eks-1, though it does on this machine"),
        "{reason}"
    );
    assert!(
        balancer["waited_seconds"].as_f64().unwrap() < 60.0,
        "{balancer}"
    );
    let hint = balancer["hints"][0].as_str().unwrap();
    assert!(
        hint.starts_with(&looked_up) && hint.ends_with(&associate),
        "{hint}"
    );
    world.clear("eks-1", Fault::ZoneUnseen);
    world.by_names(JOIN).ends(0).says("2 of 2 pairs proved");
    // How far a step got is evidence of a join, whichever probe was there first.
    let journal = world.journal();
    let reached = journal
        .lines()
        .filter(|l| l.contains("was reached from eks-1"));
    assert!(
        reached.clone().count() > 0
            && reached
                .clone()
                .all(|l| l.contains("answered TLS as spiffe://") || l.contains("TCP only: ")),
        "{journal}"
    );
}
