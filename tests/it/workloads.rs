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
    let born = ["cluster_id", "network", "mesh_id", "trust_domain"];
    let born = born.map(|key| proxy[key].as_str().unwrap());
    assert_eq!(born, ["eks-2", "eks-2", "mesh", "cluster.local"]);
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
    let values = values.replace("\"network\": \"eks-1\"", "\"network\": \"elsewhere\"");
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

const SPACE: &str = "/api/v1/namespaces/shop";

fn deployment(name: &str) -> String {
    format!("/apis/apps/v1/namespaces/shop/deployments/{name}")
}

fn restarted(world: &World, name: &str) -> Value {
    let live = world.get("eks-1", &deployment(name));
    live["spec"]["template"]["metadata"]["annotations"]["meshlink/restarted-at"].clone()
}

#[test]
fn a_namespace_is_given_proxies_and_they_are_taken_away_again() {
    let world = World::joined(2);
    with_app(&world, "eks-1", &json!({"team": "shop"}));
    let lone = json!({"metadata": {"name": "lone"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    world.create("eks-1", &format!("{SPACE}/pods"), &lone);
    let cart = "eks-1/Deployment/shop/cart";
    until(&world, "workloads -n shop", cart, "outside", None);
    let plan = world.run("plan workloads inject -n shop -o json").ends(10);
    let steps = plan.json()["steps"].clone();
    assert_eq!(
        [&steps[0]["step"], &steps[1]["step"]],
        [
            "label-namespace/eks-1/shop",
            "restart-workload/eks-1/shop/deployment/cart"
        ]
    );
    assert!(world.get("eks-1", SPACE)["metadata"]["labels"]["istio-injection"].is_null());
    world
        .run("workloads inject -n shop")
        .ends(0)
        .says("pods in eks-1 that no Deployment, StatefulSet or DaemonSet makes anew")
        .says("eks-2 has no namespace shop");
    let space = world.get("eks-1", SPACE);
    let labels = &space["metadata"]["labels"];
    assert_eq!(
        (&labels["istio-injection"], &labels["team"]),
        (&json!("enabled"), &json!("shop"))
    );
    until(&world, "workloads -n shop", cart, "in-mesh", None);
    assert!(world.find("eks-1", &format!("{SPACE}/pods/lone")).is_some());
    // What is done is not done again.
    let before = restarted(&world, "cart");
    world.run("plan workloads inject -n shop").ends(0);
    world.run("workloads inject -n shop").ends(0);
    assert_eq!(restarted(&world, "cart"), before);
    world.run("workloads inject -n shop --undo").ends(0);
    let space = world.get("eks-1", SPACE);
    let metadata = &space["metadata"];
    assert!(metadata["labels"]["istio-injection"].is_null(), "{space}");
    assert!(
        metadata["annotations"]["meshlink/injected"].is_null(),
        "{space}"
    );
    assert_eq!(metadata["labels"]["team"], "shop");
    until(&world, "workloads -n shop", cart, "outside", None);
    world.run("workloads inject -n shop --undo").ends(0);
}

#[test]
fn a_label_that_is_not_ours_and_what_is_the_systems_stay_as_they_are() {
    let world = World::joined(2);
    with_app(&world, "eks-1", &json!({"istio-injection": "disabled"}));
    world
        .run("workloads inject -n shop")
        .ends(5)
        .says("istio-injection=disabled, which is not meshlink's to change");
    let label = |value: Value| {
        world.merge(
            "eks-1",
            SPACE,
            &json!({"metadata": {"labels": {"istio-injection": value}}}),
        );
    };
    label(json!("enabled"));
    // Somebody has labelled it: pods are rolled, and the label stays theirs.
    world.run("workloads inject -n shop").ends(0);
    world
        .run("workloads inject -n shop --undo")
        .ends(5)
        .says("was not put there by meshlink");
    // A copy of our mark, on a namespace of another UID, is none.
    let mark =
        json!({"mesh": "mesh", "uid": "another", "key": "istio-injection", "value": "enabled"});
    let copied = json!({"metadata": {"annotations": {"meshlink/injected": mark.to_string()}}});
    world.merge("eks-1", SPACE, &copied);
    world.run("workloads inject -n shop --undo").ends(5);
    for space in ["kube-system", "istio-system", "istio-ingress"] {
        world.run(&format!("workloads inject -n {space}")).ends(5);
        world.run(&format!("workloads restart -n {space}")).ends(5);
    }
    world
        .run("workloads restart -n nowhere")
        .ends(5)
        .says("no member has namespace nowhere");
}

#[test]
fn what_must_restart_is_rolled_one_after_the_other_until_one_is_not_ready() {
    let world = World::joined(2);
    with_app(&world, "eks-1", &json!({"istio-injection": "enabled"}));
    let deployments = "/apis/apps/v1/namespaces/shop/deployments";
    world.create("eks-1", deployments, &app("till"));
    let service = json!({"metadata": {"name": "till"}, "spec": {"selector": {"app": "till"}, "ports": [{"port": 80}]}});
    world.create("eks-1", &format!("{SPACE}/services"), &service);
    let (cart, till) = ("eks-1/Deployment/shop/cart", "eks-1/Deployment/shop/till");
    until(&world, "workloads -n shop", cart, "in-mesh", None);
    until(&world, "workloads -n shop", till, "in-mesh", None);
    world.run("workloads restart -n shop").ends(0);
    assert!(restarted(&world, "cart").is_null(), "nothing needed it");
    let path = "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector";
    let map = world.get("eks-1", path);
    let values = map["data"]["values"].as_str().unwrap();
    let values = values.replace("\"network\": \"eks-1\"", "\"network\": \"elsewhere\"");
    world.merge("eks-1", path, &json!({"data": {"values": values}}));
    until(
        &world,
        "workloads -n shop",
        cart,
        "must-restart",
        Some("network"),
    );
    // No pod can be made: the first is waited for, and the second is not begun.
    world.fault("eks-1", meshlink::sandbox::Fault::WebhookRefuses);
    world
        .run("workloads restart -n shop --timeout 5s")
        .ends(4)
        .says("--context eks-1 -n shop rollout undo deployment/cart");
    assert!(restarted(&world, "cart").is_string() && restarted(&world, "till").is_null());
    world.clear("eks-1", meshlink::sandbox::Fault::WebhookRefuses);
    // Of one Service alone, and then of what is left.
    world
        .run("workloads restart -n shop --service till")
        .ends(0);
    until(&world, "workloads -n shop", till, "in-mesh", None);
    world.run("workloads restart -n shop").ends(0);
    until(&world, "workloads -n shop", cart, "in-mesh", None);
    world
        .run("workloads restart -n shop --service nothing")
        .ends(5)
        .says("no member has Service shop/nothing");
}
