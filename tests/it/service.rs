//! A user's own Service: `verify --service`, `sample`, and claims as JUnit.

use std::fs;

use serde_json::{Value, json};

use crate::{
    kit::{Answer, Session, World},
    verify::failed,
};

const SERVICE: &str = "verify --service sample/helloworld -o json";

fn path(resource: &str, name: &str) -> String {
    let group = match resource {
        "deployments" => "apis/apps/v1",
        _ => "api/v1",
    };
    format!("/{group}/namespaces/sample/{resource}/{name}")
}

/// Verifies until these claims about the Service fail, and no others.
#[track_caller]
fn fails(world: &World, claims: &[&str]) -> Answer {
    let (mut last, mut answer) = (vec![], None);
    let found = world.wait(|| {
        let new = world.run(SERVICE);
        last = failed(&new);
        answer = Some(new);
        (last == claims).then_some(())
    });
    assert!(found.is_some(), "{last:?} failed, not {claims:?}");
    answer.unwrap()
}

#[test]
fn the_sample_answers_from_every_cluster_and_leaves_nothing() {
    let world = World::joined(2);
    let before = ["eks-1", "eks-2"].map(|c| world.inventory(c));
    let state = world.run("sample up -o json").ends(0).json();
    assert_eq!(
        state["clusters"][1],
        json!({"cluster": "eks-2", "version": "v2", "ready": true})
    );
    // A call waits by itself until the proxies have heard of both.
    let calls = world.run("sample call -o json").ends(0).json();
    assert_eq!(calls["versions"], json!(["v1", "v2"]));
    for call in calls["calls"].as_array().unwrap() {
        let answers = call["answers"].as_object().unwrap();
        let count: i64 = answers.values().filter_map(Value::as_i64).sum();
        assert_eq!(count, 20, "{call}");
    }
    world.run("sample down").ends(0);
    world.run("sample down").ends(0);
    for (cluster, before) in ["eks-1", "eks-2"].into_iter().zip(before) {
        let after = world.inventory(cluster);
        let names = |all: &crate::kit::Inventory| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&after), names(&before), "{cluster}");
    }
}

#[test]
fn what_is_not_ours_is_neither_taken_nor_taken_away() {
    let world = World::joined(2);
    let theirs = json!({"metadata": {"name": "sample"}});
    world.create("eks-2", "/api/v1/namespaces", &theirs);
    world
        .run("sample up")
        .ends(5)
        .says("namespace sample cannot be used for the sample")
        .says("choose another namespace with --namespace");
    world.delete("eks-2", "/api/v1/namespaces/sample");
    let gone = world.wait(|| {
        world
            .find("eks-2", "/api/v1/namespaces/sample")
            .is_none()
            .then_some(())
    });
    assert!(gone.is_some());
    world.run("sample up").ends(0);
    let secret = json!({"metadata": {"name": "theirs"}});
    world.create("eks-1", "/api/v1/namespaces/sample/secrets", &secret);
    world
        .run("sample up")
        .ends(5)
        .says("it holds Secret theirs");
    world.run("sample down").ends(0).says("Secret theirs");
    assert!(world.find("eks-1", &path("secrets", "theirs")).is_some());
    let left = world.find("eks-1", &path("deployments", "sleep"));
    assert_eq!(left, None);
    assert_eq!(world.find("eks-2", "/api/v1/namespaces/sample"), None);
}

#[test]
fn each_claim_about_a_service_fails_by_its_name() {
    let world = World::joined(2);
    let answer = fails(&world, &["service-there/eks-1", "service-there/eks-2"]);
    assert_eq!(answer.code, Some(4));
    world.run("sample up").ends(0);
    let answer = fails(&world, &[]);
    let service = &answer.json()["service"];
    let held = service["clusters"][0]["endpoints"].as_array().unwrap();
    let remote: Vec<_> = held
        .iter()
        .filter(|h| h["via_network"].is_string())
        .collect();
    assert_eq!(
        remote.len(),
        2,
        "both of the gateway's addresses: {service}"
    );
    assert!(
        remote
            .iter()
            .all(|h| h["of"] == "eks-2" && h["port"] == 15443)
    );

    // Other ports under the same name.
    let ports = |port: u16| json!({"spec": {"ports": [{"name": "http", "port": port, "targetPort": 5000}]}});
    world.merge("eks-2", &path("services", "helloworld"), &ports(5001));
    let answer = world.run(SERVICE).ends(4);
    assert!(failed(&answer).contains(&"service-alike/eks-2/eks-1".to_owned()));
    world.merge("eks-2", &path("services", "helloworld"), &ports(5000));
    fails(&world, &[]);

    // Pods that take no mTLS are reached by nobody on another network.
    let label = json!({"spec": {"template": {"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}}});
    world.merge("eks-2", &path("deployments", "helloworld-v2"), &label);
    let answer = fails(&world, &["service-endpoints/eks-1/eks-2"]);
    answer.says("have no sidecar");

    // Not there at all.
    world.delete("eks-2", &path("services", "helloworld"));
    fails(&world, &["service-there/eks-2"]).says("--context eks-1 -n sample get svc helloworld");
}

#[test]
fn claims_as_junit() {
    let world = World::joined(2);
    let file = world.user.here().join("claims.xml");
    world.run("verify --junit claims.xml").ends(0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("failures=\"0\" errors=\"0\" skipped=\"12\""),
        "{text}"
    );
    assert!(text.contains("<testcase name=\"synced/eks-1/eks-2\" classname=\"eks-1.eks-2\""));
    let gateway =
        "/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway";
    world.delete("eks-2", gateway);
    let failed = world.wait(|| {
        world.run("verify --junit claims.xml").ends(4);
        let text = fs::read_to_string(&file).unwrap();
        text.contains("<failure ").then_some(text)
    });
    assert!(failed.unwrap().contains("type=\"gateway-ready\""));
    assert!(!world.user.here().join("claims.xml.new").exists());
}

#[test]
fn claims_as_junit_when_there_is_no_verdict() {
    let user = Session::new();
    user.run("verify eks-1 eks-2 --junit claims.xml").ends(2);
    let text = fs::read_to_string(user.here().join("claims.xml")).unwrap();
    assert!(
        text.contains("errors=\"1\"") && text.contains("<error message="),
        "{text}"
    );
}
