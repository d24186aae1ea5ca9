//! What `verify --traffic` shows beyond that somebody answers: each address, each way, each identity.

use std::fs;

use meshlink::sandbox::Fault;
use serde_json::Value;

use crate::{
    kit::{Answer, World, repository},
    verify::failed,
};

const VERIFY: &str = "verify --traffic -o json --timeout 30s";

/// Verifies with a probe of another make.
fn verify_with(world: &World, change: impl Fn(&str) -> String) -> Answer {
    let built_in = fs::read_to_string(repository().join("charts/probe.yaml.tera")).unwrap();
    let changed = change(&built_in);
    assert_ne!(changed, built_in, "nothing was changed");
    let folder = world.user.here().join("manifests");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("probe.yaml.tera"), changed).unwrap();
    let path = folder.display().to_string();
    let vars = [("MESHLINK_MANIFESTS", path.as_str())];
    let command = format!("{VERIFY} --sandbox");
    world.user.start_with(&command, &vars).end().ends(4)
}

fn evidence(answer: &Answer, path: &str) -> String {
    let verdict = answer.json();
    let checks = verdict["checks"].as_array().unwrap().iter();
    let text = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
    let of =
        |c: &&Value| format!("{}/{}/{}", text(c, "id"), text(c, "from"), text(c, "to")) == path;
    checks
        .filter(of)
        .map(|c| text(c, "evidence"))
        .collect::<String>()
}

fn no_probe(world: &World) {
    for cluster in ["eks-1", "eks-2"] {
        let found = world.find(cluster, "/api/v1/namespaces/meshlink-probe");
        assert_eq!(found, None, "{cluster} keeps its probe");
    }
}

#[test]
fn every_address_and_every_way_is_proved_by_itself() {
    let world = World::joined(2);
    let answer = world.run(VERIFY).ends(0);
    let verdict = answer.json();
    let asked = verdict["traffic"].as_array().unwrap();
    // Three ways through the proxies, four at each of two addresses, in both directions.
    assert_eq!(asked.len(), 2 * (3 + 4 * 2), "{answer}");
    for one in asked {
        assert_eq!(one["asked"], one["answered"], "{one}");
        assert!(one["p50_us"].as_u64() <= one["p95_us"].as_u64(), "{one}");
    }
    let seen = "eks-1 saw spiffe://cluster.local/ns/meshlink-probe/sa/probe-eks-2, \
                eks-2 saw spiffe://cluster.local/ns/meshlink-probe/sa/probe-eks-1";
    assert_eq!(evidence(&answer, "identity/eks-1/eks-2"), seen);
    no_probe(&world);
}

#[test]
fn one_dead_address_of_two_is_found_and_named() {
    let world = World::joined(2);
    world.fault("eks-2", Fault::AddressSilent);
    let answer = world.run(VERIFY).ends(4);
    assert!(failed(&answer).contains(&"addresses/eks-1/eks-2".to_owned()));
    assert!(!failed(&answer).contains(&"addresses/eks-2/eks-1".to_owned()));
    let told = evidence(&answer, "addresses/eks-1/eks-2");
    let (alive, dead) = told.split_once("; ").unwrap();
    assert!(
        alive.ends_with("carries http, grpc, tcp, headless"),
        "{told}"
    );
    assert!(dead.ends_with("does not answer"), "{told}");
    // The proxy tries the other address, so whoever only counts answers sees nothing.
    assert!(evidence(&answer, "proved/eks-1/eks-2").starts_with("10 of 10"));
    no_probe(&world);
}

#[test]
fn another_identity_on_one_side() {
    let answer = verify_with(&World::joined(2), |text| {
        let account = "serviceAccountName: \"{{ account }}\"";
        let other = "serviceAccountName: {% if cluster == \"eks-2\" %}default{% else %}\"{{ account }}\"{% endif %}";
        text.replace(account, other)
    });
    let pairs = ["identity/eks-1/eks-2", "identity/eks-2/eks-1"];
    assert_eq!(failed(&answer), pairs, "{answer}");
    let told = evidence(&answer, pairs[0]);
    assert!(
        told.contains("eks-1 saw spiffe://cluster.local/ns/meshlink-probe/sa/default"),
        "{told}"
    );
}

#[test]
fn no_port_for_grpc() {
    let answer = verify_with(&World::joined(2), |text| {
        text.replace("    - { name: grpc, port: 8081, targetPort: 8081 }\n", "")
    });
    assert_eq!(failed(&answer), ["grpc/eks-1/eks-2", "grpc/eks-2/eks-1"]);
    let told = evidence(&answer, "addresses/eks-1/eks-2");
    assert!(
        told.contains("carries http, tcp, headless, not grpc"),
        "{told}"
    );
}

#[test]
fn a_call_that_ends_with_another_status() {
    let answer = verify_with(&World::joined(2), |text| {
        text.replace(
            "envoy.filters.http.grpc_http1_reverse_bridge",
            "envoy.filters.http.none",
        )
    });
    assert_eq!(failed(&answer), ["grpc/eks-1/eks-2", "grpc/eks-2/eks-1"]);
}

#[test]
fn a_headless_service_without_endpoints() {
    let answer = verify_with(&World::joined(2), |text| {
        let (before, after) = text.split_once("clusterIP: None").unwrap();
        let after = after.replacen("app: meshlink-probe", "app: nobody", 1);
        format!("{before}clusterIP: None{after}")
    });
    assert_eq!(
        failed(&answer),
        ["headless/eks-1/eks-2", "headless/eks-2/eks-1"]
    );
}

#[test]
fn no_port_for_tcp() {
    let answer = verify_with(&World::joined(2), |text| {
        text.replace("    - { name: tcp, port: 8082, targetPort: 8082 }\n", "")
    });
    assert_eq!(failed(&answer), ["tcp/eks-1/eks-2", "tcp/eks-2/eks-1"]);
}

#[test]
fn what_a_killed_run_leaves_the_next_takes_away_and_so_does_leave() {
    let world = World::joined(2);
    let probe = "/apis/apps/v1/namespaces/meshlink-probe/deployments/meshlink-probe";
    let kill_one = || {
        let running = world.start("verify --traffic");
        let there = world.wait(|| world.find("eks-1", probe));
        // By SIGKILL: it has no chance to take anything away.
        drop(running);
        assert!(there.is_some() && world.find("eks-1", probe).is_some());
    };
    kill_one();
    world.run(VERIFY).ends(0);
    no_probe(&world);
    kill_one();
    world.run("leave eks-2").ends(0);
    no_probe(&world);
}
