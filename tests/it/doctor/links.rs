//! What istiods hold of each other, what they run with, and the gateways between them.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use meshlink::sandbox::Fault;
use serde_json::{Value, json};

use super::{Do, GATEWAY, MUTATING, Mend, OPENER, SECRETS, broken, finds, found};
use crate::kit::{World, foreign_cacerts, istio, join};

/// The kubeconfig in a remote secret.
fn kubeconfig(world: &World, from: &str, to: &str) -> String {
    let secret = world.get(
        from,
        &istio("secrets", &format!("istio-remote-secret-{to}")),
    );
    let text = STANDARD
        .decode(secret["data"][to].as_str().unwrap())
        .unwrap();
    String::from_utf8(text).unwrap()
}

/// The word after a key in a kubeconfig.
fn word<'t>(text: &'t str, key: &str) -> &'t str {
    text.split(key)
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
}

fn with(from: &'static str, to: &str, text: &str) -> Do {
    let path = istio("secrets", &format!("istio-remote-secret-{to}"));
    Do::Merge(from, path, json!({"data": {to: STANDARD.encode(text)}}))
}

/// Every way in which a remote secret can be wrong, each pair in its own.
fn remote(world: &World) -> (Vec<Do>, Vec<&'static str>) {
    let (ca, server) = ("certificate-authority-data: ", "server: ");
    let (two_three, three_one) = (
        kubeconfig(world, "eks-2", "eks-3"),
        kubeconfig(world, "eks-3", "eks-1"),
    );
    let other_ca = two_three.replace(word(&two_three, ca), word(&three_one, ca));
    let dead = three_one.replace(word(&three_one, server), "https://127.0.0.1:1");
    let what = vec![
        Do::Delete("eks-1", istio("secrets", "istio-remote-secret-eks-2")),
        with("eks-1", "eks-3", "no: kubeconfig"),
        Do::Delete("eks-1", istio("secrets", "meshlink-reader-eks-2-token")),
        with("eks-2", "eks-3", &other_ca),
        with("eks-3", "eks-1", &dead),
        with("eks-3", "eks-2", &three_one),
    ];
    let want = vec![
        "remote-secret-missing/eks-1/eks-2",
        "remote-secret-malformed/eks-1/eks-3",
        "token-refused/eks-2/eks-1",
        "remote-secret-wrong-ca/eks-2/eks-3",
        "remote-secret-silent/eks-3/eks-1",
        "remote-secret-other-cluster/eks-3/eks-2",
    ];
    (what, want)
}

/// What accounts may do, and secrets that are for nobody.
fn readers(world: &World) -> (Vec<Do>, Vec<&'static str>) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = format!("{rbac}/clusterroles/meshlink-reader");
    let mut rules = world.get("eks-2", &role)["rules"].clone();
    rules
        .as_array_mut()
        .unwrap()
        .retain(|r| r["apiGroups"] != json!(["discovery.k8s.io"]));
    let reader = json!([{"kind": "ServiceAccount", "name": "meshlink-reader-eks-1", "namespace": "istio-system"}]);
    let admin = json!({"metadata": {"name": "too-much"}, "subjects": reader,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    let text = STANDARD.encode(kubeconfig(world, "eks-1", "eks-2"));
    let secret = |name: &str, key: &str| json!({"metadata": {"name": name, "labels": {"istio/multiCluster": "true"}}, "data": {key: text}});
    let what = vec![
        Do::Merge("eks-2", role, json!({"rules": rules})),
        Do::Create(
            "eks-3",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            admin,
        ),
        Do::Create("eks-1", SECRETS, secret("mine", "eks-1")),
        Do::Create("eks-2", SECRETS, secret("stranger", "eks-9")),
    ];
    let want = vec![
        "reader-lacks-rights/eks-1/eks-2",
        "reader-lacks-rights/eks-3/eks-2",
        "reader-writes/eks-1/eks-3",
        "own-remote-secret/eks-1",
        "remote-secret-stranger/eks-2",
    ];
    (what, want)
}

/// What istiod is started with.
fn started() -> (Vec<Do>, Vec<&'static str>) {
    let deployment = || istio("deployments", "istiod");
    let container = |cluster: &str, tag: &str| {
        let env = json!([{"name": "REVISION", "value": "default"}, {"name": "CLUSTER_ID", "value": cluster},
            {"name": "ISTIO_MULTIROOT_MESH", "value": "true"}]);
        json!({"spec": {"template": {"spec": {"containers": [{"name": "discovery",
            "image": format!("registry.istio.io/release/pilot:{tag}"), "env": env}]}}}})
    };
    let what = vec![
        Do::Merge("eks-1", deployment(), container("eks-1", "1.28.3")),
        Do::Merge("eks-2", deployment(), container("eks-3", "1.31.4")),
    ];
    let want = vec![
        "version-fault/eks-1",
        "versions-mixed/eks-1/eks-3",
        "proxy-skew/eks-1",
        "same-cluster-id/eks-2/eks-3",
    ];
    (what, want)
}

#[test]
fn what_istiods_hold_of_each_other_is_found_by_its_name() {
    let world = World::joined(3);
    let (what, want) = remote(&world);
    broken(&world, what, &want, &Mend::Printed);
    let (what, want) = readers(&world);
    broken(&world, what, &want, &Mend::Back);
    let (what, want) = started();
    broken(&world, what, &want, &Mend::Back);
    roots(&world);
    orphans(&world);
    gateways(&world);
    ends(&world);
}

/// Roots that are not the mesh's, and a `cacerts` that is not whole.
fn roots(world: &World) {
    let cacerts = || istio("secrets", "cacerts");
    let evil = foreign_cacerts("eks-2", true);
    let pem = |data: &Value| {
        STANDARD
            .decode(data["root-cert.pem"].as_str().unwrap())
            .unwrap()
    };
    let both = [pem(&world.get("eks-1", &cacerts())["data"]), pem(&evil)].concat();
    Do::Merge(
        "eks-1",
        cacerts(),
        json!({"data": {"root-cert.pem": STANDARD.encode(both)}}),
    )
    .run(world);
    let kept = Do::Merge("eks-2", cacerts(), json!({"data": evil})).run(world);
    Do::Merge(
        "eks-3",
        cacerts(),
        json!({"data": {"ca-key.pem": evil["ca-key.pem"]}}),
    )
    .run(world);
    let found = finds(
        world,
        &[
            "second-root/eks-1",
            "cacerts-not-loaded/eks-2",
            "cacerts-refused/eks-3",
        ],
    );
    let fix = &found
        .iter()
        .find(|(path, _)| path == "cacerts-not-loaded/eks-2")
        .unwrap()
        .1;
    assert!(fix.contains("delete secret cacerts"), "{fix}");
    world.restart_istiod("eks-2");
    finds(
        world,
        &[
            "second-root/eks-1",
            "no-common-root/eks-2",
            "cacerts-refused/eks-3",
        ],
    );
    // Deleted, as it says, and joined.
    drop(kept);
    world.delete("eks-2", &cacerts());
    world.run(&join(3)).ends(0);
    finds(world, &[]);
    // Nothing there when istiod starts: it makes a root of its own.
    world.delete("eks-3", &cacerts());
    world.restart_istiod("eks-3");
    let found = finds(world, &["self-signed-root/eks-3", "no-common-root/eks-3"]);
    assert!(
        found
            .iter()
            .all(|(_, fix)| fix.starts_with("meshlink join ")),
        "{found:?}"
    );
    world.run(&join(3)).ends(0);
    finds(world, &[]);
}

/// A remote secret that failed at first, was mended, and is gone.
fn orphans(world: &World) {
    let path = istio("secrets", "istio-remote-secret-eks-3");
    let good = kubeconfig(world, "eks-1", "eks-3");
    let dead = good.replace(word(&good, "server: "), "https://127.0.0.1:1");
    let mut secret = world.get("eks-1", &path);
    world.delete("eks-1", &path);
    for key in ["uid", "resourceVersion", "creationTimestamp"] {
        secret["metadata"].as_object_mut().unwrap().remove(key);
    }
    secret["data"]["eks-3"] = STANDARD.encode(dead).into();
    world.create("eks-1", SECRETS, &secret);
    finds(world, &["remote-secret-silent/eks-1/eks-3"]);
    world.merge(
        "eks-1",
        &path,
        &json!({"data": {"eks-3": STANDARD.encode(good)}}),
    );
    finds(world, &[]);
    world.delete("eks-1", &path);
    finds(
        world,
        &[
            "remote-secret-missing/eks-1/eks-3",
            "orphan-endpoints/eks-1",
        ],
    );
    world.restart_istiod("eks-1");
    finds(world, &["remote-secret-missing/eks-1/eks-3"]);
    world.run(&join(3)).ends(0);
    finds(world, &[]);
}

/// Gateways and istiods that are not there, or not known.
fn gateways(world: &World) {
    let none = || json!({"spec": {"replicas": 0}});
    world.delete("eks-1", OPENER);
    world.delete("eks-2", GATEWAY);
    finds(world, &["gateway-closed/eks-1", "gateway-missing/eks-2"]);
    world.run(&join(3)).ends(0);
    finds(world, &[]);
    world.fault("eks-3", Fault::GatewayNeverReady);
    let pods = "/api/v1/namespaces/istio-ingress/pods";
    for pod in world.get("eks-3", pods)["items"].as_array().unwrap() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        world.delete("eks-3", &format!("{pods}/{name}"));
    }
    finds(world, &["gateway-unavailable/eks-3"]);
    world.clear("eks-3", Fault::GatewayNeverReady);
    finds(world, &[]);
    // A name that resolves nowhere is seen by an istiod that starts then.
    world.fault("eks-2", Fault::BalancerNameMissing);
    world.restart_istiod("eks-1");
    // Those that run lose it later.
    let unresolved = world.wait(|| {
        let all = found(&world.run("doctor -o json"));
        let is_it = |(path, _): &(String, String)| path == "gateway-name-unresolved/eks-1/eks-2";
        all.iter().any(is_it).then_some(())
    });
    assert!(unresolved.is_some());
    world.clear("eks-2", Fault::BalancerNameMissing);
    finds(world, &[]);
    // While no istiod writes it, a bundle stays as somebody has made it.
    let path = istio("deployments", "istiod");
    world.merge("eks-3", &path, &none());
    finds(world, &["istiod-down/eks-3"]);
    let hook = format!("{MUTATING}/istio-sidecar-injector");
    let mut hooks = world.get("eks-3", &hook)["webhooks"].clone();
    for hook in hooks.as_array_mut().unwrap() {
        hook["clientConfig"]["caBundle"] = foreign_cacerts("x", true)["root-cert.pem"].clone();
    }
    world.merge("eks-3", &hook, &json!({"webhooks": hooks}));
    finds(world, &["istiod-down/eks-3", "webhook-ca-stale/eks-3"]);
    world.merge("eks-3", &path, &json!({"spec": {"replicas": 1}}));
    finds(world, &[]);
}

/// What is about to end, and has.
fn ends(world: &World) {
    world.advance(85);
    finds(world, &[]);
    world.advance(400);
    let answer = world.run("doctor -o json --only has-ended").ends(7);
    let paths: BTreeSet<_> = found(&answer).into_iter().map(|(p, _)| p).collect();
    assert!(paths.contains("has-ended/eks-1"), "{answer}");
}
