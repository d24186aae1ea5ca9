//! `workloads`: what is said of pods, and what is done about it.

use serde_json::{Value, json};

use crate::kit::{Answer, World};

/// The pods that were shown, each with its state and its causes.
fn pods(answer: &Answer) -> Vec<(String, String, Vec<String>)> {
    let document = answer.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = vec![];
    for member in document["clusters"].as_array().unwrap() {
        for pod in member["pods"].as_array().unwrap() {
            let path = format!(
                "{}/{}",
                text(&member["cluster"]),
                text(&pod["workload"]).replace(' ', "/")
            );
            let why = pod["why"].as_array().unwrap().iter();
            let why = why.map(|cause| text(&cause["id"])).collect();
            all.push((path, text(&pod["state"]), why));
        }
    }
    all
}

/// Until all pods of a workload are in this state, for this cause.
#[track_caller]
fn until(world: &World, args: &str, workload: &str, state: &str, cause: Option<&str>) -> Answer {
    let mut last = vec![];
    let found = world.wait(|| {
        let answer = world.run(&format!("{args} -o json"));
        last = pods(&answer);
        let of = last.iter().filter(|(path, ..)| path == workload);
        let of: Vec<_> = of.collect();
        let is = |(_, s, why): &&(String, String, Vec<String>)| {
            s == state && cause.is_none_or(|cause| why.iter().any(|w| w == cause))
        };
        (!of.is_empty() && of.iter().all(is)).then_some(answer)
    });
    found.unwrap_or_else(|| panic!("{workload} is never {state} for {cause:?}: {last:#?}"))
}

fn app(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]}}}})
}

fn with_app(world: &World, cluster: &str, labels: &Value) {
    let space = json!({"metadata": {"name": "shop", "labels": labels}});
    world.create(cluster, "/api/v1/namespaces", &space);
    world.create(
        cluster,
        "/apis/apps/v1/namespaces/shop/deployments",
        &app("cart"),
    );
}

#[test]
fn pods_of_a_healthy_mesh_need_nothing() {
    let world = World::joined(2);
    world.run("sample up").ends(0);
    let answer = world.wait(|| {
        let answer = world.run("workloads -o json");
        (answer.code == Some(0)).then_some(answer)
    });
    let answer = answer.expect("a healthy mesh is never fine");
    let all = pods(&answer);
    let bad: Vec<_> = all
        .iter()
        .filter(|(_, state, _)| !["in-mesh", "outside"].contains(&state.as_str()))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let document = answer.json();
    let member = &document["clusters"][1];
    assert_eq!(member["istiods"][0]["revision"], "default");
    let sleep = member["pods"].as_array().unwrap().iter();
    let mut sleep = sleep.filter(|p| p["workload"] == "Deployment sample/sleep");
    let sleep = sleep.next().unwrap();
    let proxy = &sleep["proxy"];
    assert_eq!(
        [
            &proxy["cluster_id"],
            &proxy["network"],
            &proxy["mesh_id"],
            &proxy["trust_domain"]
        ],
        ["eks-2", "network-eks-2", "mesh", "cluster.local"]
            .map(|t| &*Box::leak(Box::new(Value::from(t))))
    );
    let certificate = &sleep["certificate"];
    assert!(
        certificate["until"].is_string() && certificate["issuer"].is_string(),
        "{sleep}"
    );
    // The gateway of the mesh, with its load balancer.
    let gateway = &member["gateways"][0];
    assert_eq!(gateway["name"], "cross-network-gateway");
    assert_eq!(gateway["addresses"][0]["port"], 15443);
    world.run("workloads").ends(0).says("in the mesh");

    let held = world.run("workloads --service sample/helloworld -n sample -o json");
    let document = held.ends(0).json();
    for member in document["clusters"].as_array().unwrap() {
        for pod in member["pods"].as_array().unwrap() {
            let holds = pod["holds"].as_array().unwrap();
            let of: Vec<_> = holds.iter().map(|e| e["of"].as_str().unwrap()).collect();
            assert!(of.contains(&"eks-1") && of.contains(&"eks-2"), "{pod}");
            assert!(holds.iter().all(|e| e["healthy"] == true), "{pod}");
        }
    }
    // What was named and is nowhere is told.
    world
        .run("workloads -n nowhere")
        .ends(4)
        .says("no member has namespace nowhere");
    world
        .run("workloads --service sample/nothing")
        .ends(4)
        .says("no member has Service sample/nothing");
}

#[test]
fn what_is_wrong_with_pods_is_named() {
    let world = World::joined(2);
    with_app(&world, "eks-1", &json!({}));
    let cart = "eks-1/Deployment/shop/cart";
    until(&world, "workloads", cart, "outside", Some("not-asked")).ends(0);
    // The label comes after the pods.
    let labelled = json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
    world.merge("eks-1", "/api/v1/namespaces/shop", &labelled);
    until(&world, "workloads", cart, "no-proxy", Some("made-before")).ends(7);
    world.run("workloads").ends(7).says("no proxy");
    // A member that is down leaves the others' pods as they are.
    world.api("eks-2").faults().unreachable(true);
    let answer = world.run("workloads -o json").ends(6);
    assert_eq!(answer.json()["unreachable"][0]["cluster"], "eks-2");
    assert!(pods(&answer).iter().any(|(path, ..)| path == cart));
    world.api("eks-2").faults().unreachable(false);
    let again = json!({"spec": {"template": {"metadata": {"annotations": {"again": "1"}}}}});
    world.merge(
        "eks-1",
        "/apis/apps/v1/namespaces/shop/deployments/cart",
        &again,
    );
    until(&world, "workloads -n shop", cart, "in-mesh", None).ends(0);
    // The injector says another network by now: whoever was born before is of the old one.
    let path = "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector";
    let map = world.get("eks-1", path);
    let values = map["data"]["values"].as_str().unwrap();
    let values = values.replace("network-eks-1", "elsewhere");
    world.merge("eks-1", path, &json!({"data": {"values": values}}));
    until(
        &world,
        "workloads -n shop",
        cart,
        "must-restart",
        Some("network"),
    )
    .ends(7);
}
