//! Every claim of a verdict, seen to fail by its name when the fact is broken.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use meshlink::sandbox::Fault;
use serde_json::{Value, json};

use crate::kit::{Answer, World, foreign_cacerts, istio, join};

/// The claims of a verdict that failed, and those that could not be tried.
pub(crate) fn failed(answer: &Answer) -> Vec<String> {
    let verdict = answer.json();
    let checks = verdict["checks"].as_array().unwrap();
    let bad = checks.iter().filter(|c| c["outcome"] == "failed");
    let path = |c: &Value| {
        let text = |key: &str| c[key].as_str().map(|t| format!("/{t}")).unwrap_or_default();
        format!(
            "{}{}{}",
            c["id"].as_str().unwrap(),
            text("from"),
            text("to")
        )
    };
    bad.map(path).collect()
}

/// Verifies without traffic until these claims fail, and no others.
#[track_caller]
fn fails(world: &World, claims: &[&str]) {
    let mut last = vec![];
    let found = world.wait(|| {
        let answer = world.run("verify -o json");
        last = failed(&answer);
        assert_eq!(
            answer.code,
            Some(if last.is_empty() { 0 } else { 4 }),
            "{answer}"
        );
        (last == claims).then_some(())
    });
    assert!(found.is_some(), "{last:?} failed, not {claims:?}");
}

/// Verifies with traffic; these claims fail at least.
#[track_caller]
fn traffic_fails(world: &World, claims: &[&str]) {
    let answer = world.run("verify --traffic -o json --timeout 4s");
    let failed = failed(&answer);
    for claim in claims {
        assert!(
            failed.iter().any(|f| f == claim),
            "{claim} is not among {failed:?}: {answer}"
        );
    }
    assert_eq!(answer.code, Some(4), "{answer}");
    for cluster in ["eks-1", "eks-2"] {
        let probe = world.find(cluster, "/api/v1/namespaces/meshlink-probe");
        assert_eq!(probe, None, "{cluster} keeps its probe");
    }
}

fn remote_secret(of: &str) -> String {
    istio("secrets", &format!("istio-remote-secret-{of}"))
}

/// Puts another token into eks-1's remote secret for eks-2.
fn replace_token(world: &World, token: &str) {
    let path = remote_secret("eks-2");
    let secret = world.get("eks-1", &path);
    let text = STANDARD
        .decode(secret["data"]["eks-2"].as_str().unwrap())
        .unwrap();
    let text = String::from_utf8(text).unwrap();
    let old = text
        .split("token: ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let text = text.replace(old, token);
    world.merge(
        "eks-1",
        &path,
        &json!({"data": {"eks-2": STANDARD.encode(text)}}),
    );
}

#[test]
fn a_mesh_that_stands_is_proved() {
    let world = World::joined(2);
    fails(&world, &[]);
    let answer = world.run("verify --traffic -o json").ends(0);
    assert_eq!(failed(&answer), [""; 0]);
    let checks = answer.json()["checks"].as_array().unwrap().clone();
    let proved = checks
        .iter()
        .filter(|c| c["id"] == "proved" && c["outcome"] == "ok");
    assert_eq!(proved.count(), 2, "{answer}");
}

#[test]
fn one_network_label_for_two_clusters() {
    let world = World::joined(2);
    let label = json!({"metadata": {"labels": {"topology.istio.io/network": "eks-1"}}});
    world.merge("eks-2", "/api/v1/namespaces/istio-system", &label);
    let answer = world.run("verify -o json").ends(4);
    let failed = failed(&answer);
    for claim in ["own-network/eks-1", "own-network/eks-2"] {
        assert!(
            failed.iter().any(|f| f == claim),
            "{claim} is not among {failed:?}"
        );
    }
}

#[test]
fn another_root_in_cacerts() {
    let world = World::joined(2);
    world.merge(
        "eks-2",
        &istio("secrets", "cacerts"),
        &json!({"data": foreign_cacerts("eks-2", true)}),
    );
    world.restart_istiod("eks-2");
    fails(&world, &["same-root/eks-2"]);
}

#[test]
fn no_gateway_object() {
    let world = World::joined(2);
    let path =
        "/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway";
    world.delete("eks-2", path);
    fails(&world, &["gateway-ready/eks-2"]);
    traffic_fails(&world, &["gateway-ready/eks-2", "proved/eks-1/eks-2"]);
}

#[test]
fn pod_addresses_pushed_for_want_of_a_name() {
    let world = World::new(2);
    world.run(&join(2)).ends(0);
    world.fault("eks-2", Fault::BalancerNameMissing);
    // istiod goes on with the addresses it has; a restarted one cannot resolve the name.
    world.restart_istiod("eks-1");
    traffic_fails(
        &world,
        &[
            "gateway-known/eks-1/eks-2",
            "endpoints/eks-1/eks-2",
            "proved/eks-1/eks-2",
        ],
    );
}

#[test]
fn a_foreign_token() {
    let world = World::joined(2);
    let token = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let expired = [
        token(r#"{"alg":"none"}"#),
        token(r#"{"sub":"x","exp":1000}"#),
        "x".into(),
    ]
    .join(".");
    replace_token(&world, &expired);
    let token = "token-valid/eks-1/eks-2";
    fails(
        &world,
        &[token, "configured/eks-1/eks-2", "synced/eks-1/eks-2"],
    );
}

#[test]
fn a_token_that_is_no_longer_accepted() {
    let world = World::joined(2);
    world.delete("eks-2", &istio("secrets", "meshlink-reader-eks-1-token"));
    fails(&world, &["configured/eks-1/eks-2"]);
}

#[test]
fn no_remote_secret() {
    let world = World::joined(2);
    world.delete("eks-1", &remote_secret("eks-2"));
    fails(
        &world,
        &[
            "configured/eks-1/eks-2",
            "synced/eks-1/eks-2",
            "gateway-known/eks-1/eks-2",
        ],
    );
}

#[test]
fn no_istiod() {
    let world = World::joined(2);
    world.merge(
        "eks-2",
        &istio("deployments", "istiod"),
        &json!({"spec": {"replicas": 0}}),
    );
    fails(
        &world,
        &[
            "istiod-ready/eks-2",
            "synced/eks-2/eks-1",
            "gateway-known/eks-2/eks-1",
        ],
    );
}

#[test]
fn status_names_every_replica_and_waits_until_all_of_them_know() {
    let world = World::joined(2);
    world.merge(
        "eks-1",
        &istio("deployments", "istiod"),
        &json!({"spec": {"replicas": 2}}),
    );
    let answer = world.run("status -v --wait").ends(0);
    let answer = answer.says("2 of 2 istiod replicas synced with eks-2: istiod-");
    assert!(answer.stdout.matches("istiod-").count() >= 3, "{answer}");
    world.merge(
        "eks-1",
        &istio("deployments", "istiod"),
        &json!({"spec": {"replicas": 0}}),
    );
    let late = world.run("status --wait --timeout 3s").ends(4);
    assert!(
        late.stderr
            .contains("waiting: istiod-ready/eks-1: istiod in eks-1 is not"),
        "{late}"
    );
}

#[test]
fn the_replica_that_lags_is_named() {
    let world = World::joined(2);
    world.fault("eks-1", Fault::IstiodLags);
    let path = istio("deployments", "istiod");
    world.merge("eks-1", &path, &json!({"spec": {"replicas": 2}}));
    let both = || {
        let deployment = world.get("eks-1", &path);
        (deployment["status"]["availableReplicas"] == 2).then_some(())
    };
    world.wait(both).unwrap();
    fails(&world, &["synced/eks-1/eks-2", "gateway-known/eks-1/eks-2"]);
    let answer = world.run("verify -o json").ends(4).json();
    let evidence = |id: &str| {
        let checks = answer["checks"].as_array().unwrap();
        let found = checks
            .iter()
            .find(|c| c["id"] == id && c["from"] == "eks-1");
        found.unwrap()["evidence"].as_str().unwrap().to_owned()
    };
    let synced = evidence("synced");
    assert!(
        synced.starts_with("1 of 2 istiod replicas synced with eks-2: istiod-"),
        "{synced}"
    );
    assert!(synced.ends_with(" does not know eks-2"), "{synced}");
    let pod = synced
        .split(": ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(evidence("gateway-known").contains(pod), "{synced}");
    world.run("status").ends(7).says(pod);
    world.clear("eks-1", Fault::IstiodLags);
    world.run("status --wait").ends(0);
}
