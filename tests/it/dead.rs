//! One member that is dead, refusing or silent: the others are told of, and worked on, all the same.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::kit::{Answer, World, istio, join};

/// A server that takes connections and never says anything.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    (listener, address)
}

/// Nothing listens there.
fn refusing() -> String {
    let (listener, address) = silent();
    drop(listener);
    address
}

/// Leads a context of the user's kubeconfig elsewhere.
fn lead(world: &World, context: &str, server: &str) -> String {
    let path = &world.endpoints().kubeconfig;
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut was = String::new();
    for cluster in config["clusters"].as_array_mut().unwrap() {
        if cluster["name"] == context {
            was = cluster["cluster"]["server"].as_str().unwrap().to_owned();
            cluster["cluster"]["server"] = server.into();
        }
    }
    fs::write(path, config.to_string()).unwrap();
    was
}

/// The command ends soon enough.
fn within(limit: u64, run: impl FnOnce() -> Answer) -> Answer {
    let begun = Instant::now();
    let answer = run();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(limit), "{took:?}: {answer}");
    answer
}

/// Every reading command, with a member that cannot be read: the others are told of, and the member with its URL.
fn told_of_the_others(world: &World, server: &str) {
    let status = within(10, || world.run("status --timeout 3s"));
    let status = status.ends(6).says(server).says("leave eks-3 --dead");
    for row in ["eks-1 ok ok ok", "eks-2 ok ok ok"] {
        let cells = |line: &str| {
            line.split_whitespace()
                .take(4)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let there = status.stdout.lines().any(|line| cells(line) == row);
        assert!(there, "{row}: {status}");
    }
    let verify = within(10, || world.run("verify --timeout 3s --junit j.xml"));
    verify.ends(4).says("reachable").says(server);
    let junit = fs::read_to_string(world.user.here().join("j.xml")).unwrap();
    assert!(
        junit.contains("reachable") && junit.contains("eks-1"),
        "{junit}"
    );
    let ca = within(10, || world.run("ca status --timeout 3s"));
    ca.ends(6).says("eks-1").says("eks-2").says(server);
    let aws = fs::read_to_string(&world.endpoints().aws).unwrap();
    let aws: Vec<_> = aws.lines().filter_map(|l| l.split_once('=')).collect();
    let wait = |args: &str| {
        let args = format!("wait nlb --sandbox --timeout 3s {args}");
        within(15, || world.user.start_with(&args, &aws).end())
    };
    let (wait, json) = (wait(""), wait("-o json"));
    let gateways = json.json()["balancers"].as_array().unwrap().len();
    assert_eq!(gateways, 3, "{json}");
    wait.ends(4).says(server);
    let query = r#"{"clusters":"eks-1 eks-2 eks-3","sandbox":"true","timeout":"5s"}"#;
    let meshlink = env!("CARGO_BIN_EXE_meshlink");
    let script = format!("echo '{query}' | {meshlink} terraform");
    let hook = within(10, || world.user.shell(&script)).ends(0);
    let said = hook.json();
    assert_eq!(said["ready"], "false", "{hook}");
    assert!(said["reason"].as_str().unwrap().contains(server), "{hook}");
    assert!(
        said["gateways_json"].as_str().unwrap().contains("eks-1"),
        "{hook}"
    );
}

#[test]
fn a_refusing_member_hides_no_other() {
    let world = World::joined(3);
    let server = refusing();
    lead(&world, "eks-3", &server);
    told_of_the_others(&world, &server);
}

#[test]
fn a_silent_member_hides_no_other() {
    let world = World::joined(3);
    let (_listener, server) = silent();
    lead(&world, "eks-3", &server);
    told_of_the_others(&world, &server);
}

#[test]
fn a_member_without_a_context_hides_no_other() {
    let world = World::joined(3);
    let all = fs::read(&world.endpoints().kubeconfig).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&all).unwrap();
    let contexts = config["contexts"].as_array_mut().unwrap();
    contexts.retain(|c| c["name"] != "eks-3");
    fs::write(world.user.here().join("two"), config.to_string()).unwrap();
    let named = "eks-1 eks-2 eks-3 --kubeconfig two";
    let status = world.user.run(&format!("status {named}")).ends(6);
    status.says("eks-3").says("eks-1 eks-2");
    // What somebody typed wrongly is not passed over by what changes clusters.
    let charts = &world.endpoints().charts;
    world
        .user
        .run(&format!("join {named} --charts {charts} --yes"))
        .ends(2);
}

#[test]
fn a_join_does_what_it_can_without_a_dead_member_and_a_rerun_completes() {
    let world = World::new(3);
    let server = refusing();
    let was = lead(&world, "eks-3", &server);
    let plan = world.run("plan eks-1 eks-2 eks-3").ends(10);
    plan.says("nothing is done in eks-3").says(&server);
    let answer = world.run(&join(3)).ends(6);
    let answer = answer.says("not finished: eks-3").says(&server);
    for pair in ["prove/eks-1/eks-2", "prove/eks-2/eks-1"] {
        let proved = format!("\"step-finished\",\"step\":\"{pair}\"");
        assert!(world.journal().contains(&proved), "{pair}: {answer}");
    }
    // Again: nothing of what was done is undone, and nothing is written down that is not so.
    world.run(&join(3)).ends(6);
    let record = istio("configmaps", "meshlink");
    assert_eq!(world.find("eks-1", &record), None);
    lead(&world, "eks-3", &was);
    world.run(&join(3)).ends(0).says("6 of 6 pairs proved");
    let members = &world.get("eks-1", &record)["data"];
    assert!(members.to_string().contains("eks-3"), "{members}");
}

#[test]
fn a_mesh_that_stands_is_not_forgotten_while_a_member_is_away() {
    let world = World::joined(3);
    let record = istio("configmaps", "meshlink");
    let before = world.get("eks-1", &record)["data"].clone();
    let (_listener, server) = silent();
    let was = lead(&world, "eks-3", &server);
    world.delete("eks-2", &istio("secrets", "istio-remote-secret-eks-1"));
    let answer = world.run(&format!("{} --timeout 20s", join(3)));
    answer.ends(6).says("not finished: eks-3").says(&server);
    assert_eq!(world.get("eks-1", &record)["data"], before);
    let mended = istio("secrets", "istio-remote-secret-eks-1");
    assert!(world.find("eks-2", &mended).is_some());
    lead(&world, "eks-3", &was);
    world.run(&join(3)).ends(0).says("6 of 6 pairs proved");
}

#[test]
fn what_needs_every_member_says_which_one_is_missing() {
    let world = World::joined(3);
    let server = refusing();
    lead(&world, "eks-3", &server);
    let leave = world.run("leave eks-1 --timeout 3s").ends(1);
    leave.says(&server).says("leave eks-3 --dead");
    let holds = world.find("eks-2", &istio("secrets", "istio-remote-secret-eks-1"));
    assert!(holds.is_some());
    let one = World::new(2);
    lead(&one, "eks-2", &server);
    let join = one.run("join eks-1 eks-2 --timeout 3s").ends(1);
    join.says(&server);
    assert_eq!(json!(one.keys().len()), json!(0));
}
