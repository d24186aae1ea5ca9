//! Each cause is made, found by its name with a command against it, mended, and gone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    bundle::says_the_same_elsewhere,
    kit::{Answer, World, join},
};

mod links;
mod rules;

/// Something that is done to a cluster, and can be taken back.
enum Do {
    Merge(&'static str, String, Value),
    Create(&'static str, &'static str, Value),
    Delete(&'static str, String),
}

/// What takes it back.
enum Undo {
    Replace(&'static str, String, Value),
    Create(&'static str, String, Value),
    Delete(&'static str, String),
}

impl Do {
    fn run(self, world: &World) -> Undo {
        match self {
            Self::Merge(cluster, path, patch) => {
                let before = world.get(cluster, &path);
                world.merge(cluster, &path, &patch);
                Undo::Replace(cluster, path, before)
            }
            Self::Create(cluster, path, object) => {
                world.create(cluster, path, &object);
                let name = object["metadata"]["name"].as_str().unwrap();
                Undo::Delete(cluster, format!("{path}/{name}"))
            }
            Self::Delete(cluster, path) => {
                let mut before = world.get(cluster, &path);
                world.delete(cluster, &path);
                let metadata = before["metadata"].as_object_mut().unwrap();
                for key in ["uid", "resourceVersion", "creationTimestamp"] {
                    metadata.remove(key);
                }
                let (collection, _) = path.rsplit_once('/').unwrap();
                Undo::Create(cluster, collection.into(), before)
            }
        }
    }
}

impl Undo {
    fn run(self, world: &World) {
        match self {
            Self::Replace(cluster, path, object) => {
                world.replace(cluster, &path, &object).unwrap();
            }
            Self::Create(cluster, path, object) => world.create(cluster, &path, &object),
            Self::Delete(cluster, path) => world.delete(cluster, &path),
        }
    }
}

/// How what was found is mended.
enum Mend {
    /// By taking back what was done.
    Back,
    /// By the command of meshlink's that was printed.
    Printed,
}

/// The paths of what was found, with the commands against it.
fn found(answer: &Answer) -> Vec<(String, String)> {
    let all = answer.json();
    let text = |f: &Value, key: &str| f[key].as_str().unwrap_or_default().to_owned();
    let one = |f: &Value| {
        let peer = f["peer"].as_str().map(|p| format!("/{p}"));
        let path = format!(
            "{}/{}{}",
            text(f, "check"),
            text(f, "cluster"),
            peer.unwrap_or_default()
        );
        assert!(
            !text(f, "evidence").is_empty() && !text(f, "cause").is_empty(),
            "{f}"
        );
        (path, text(f, "fix"))
    };
    let findings = all["findings"].as_array().unwrap().iter();
    findings.map(one).collect()
}

/// Until exactly these causes are found.
#[track_caller]
fn finds(world: &World, want: &[&str]) -> Vec<(String, String)> {
    let want: BTreeSet<_> = want.iter().map(|w| (*w).to_owned()).collect();
    let mut last = vec![];
    let seen = world.wait(|| {
        let answer = world.run("doctor -o json");
        let code = answer.code;
        last = found(&answer);
        // While one restarts, it cannot be asked.
        if !answer.json()["not_looked_at"]
            .as_array()
            .unwrap()
            .is_empty()
        {
            assert_eq!(code, Some(6), "{answer}");
            return None;
        }
        let errors = answer.json()["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|f| f["level"] == "error")
            .count();
        assert_eq!(code, Some(if errors > 0 { 7 } else { 0 }), "{answer}");
        let paths: BTreeSet<_> = last.iter().map(|(path, _)| path.clone()).collect();
        (paths == want).then_some(())
    });
    let paths: BTreeSet<_> = last.iter().map(|(path, _)| path.clone()).collect();
    let (less, more): (Vec<_>, Vec<_>) = (
        want.difference(&paths).collect(),
        paths.difference(&want).collect(),
    );
    assert!(
        seen.is_some(),
        "not found: {less:?}; found besides: {more:?}"
    );
    for (path, fix) in &last {
        assert!(
            fix.starts_with("kubectl ") || fix.starts_with("meshlink "),
            "{path}: {fix}"
        );
    }
    last
}

/// Breaks, finds, mends, and finds nothing.
#[track_caller]
fn broken(world: &World, what: Vec<Do>, want: &[&str], mend: &Mend) {
    let done: Vec<_> = what.into_iter().map(|what| what.run(world)).collect();
    let found = finds(world, want);
    says_the_same_elsewhere(world);
    match mend {
        Mend::Back => done.into_iter().rev().for_each(|undo| undo.run(world)),
        Mend::Printed => {
            let ours: BTreeSet<_> = found
                .iter()
                .filter_map(|(_, fix)| fix.strip_prefix("meshlink "))
                .collect();
            // Of joins, one is enough: each is of all members.
            let joins = ours.iter().filter(|fix| fix.starts_with("join ")).take(1);
            let others = ours.iter().filter(|fix| !fix.starts_with("join "));
            for fix in others.chain(joins) {
                let words = fix.split('#').next().unwrap();
                world.user.run(words).ends(0);
            }
        }
    }
    finds(world, &[]);
}

const SHOP: &str = "/api/v1/namespaces/shop/services";
const SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const ISTIO: &str = "/apis/networking.istio.io/v1/namespaces";
const SECURITY: &str = "/apis/security.istio.io/v1/namespaces";
const GATEWAY: &str = "/api/v1/namespaces/istio-ingress/services/istio-eastwestgateway";
const OPENER: &str =
    "/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway";

/// Three members, each with a shop.
fn shops() -> World {
    let world = World::joined(3);
    for cluster in ["eks-1", "eks-2", "eks-3"] {
        let labels = json!({"istio-injection": "enabled"});
        world.create(
            cluster,
            "/api/v1/namespaces",
            &json!({"metadata": {"name": "shop", "labels": labels}}),
        );
        for name in ["web", "api"] {
            world.create(cluster, SHOP, &service(name, json!({})));
        }
        let template = json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]}});
        let web = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}});
        world.create(cluster, "/apis/apps/v1/namespaces/shop/deployments", &web);
    }
    finds(&world, &[]);
    world
}

fn service(name: &str, more: Value) -> Value {
    let mut spec = json!({"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn object(kind: &str, api: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

#[test]
fn what_users_put_into_a_mesh_is_found_by_its_name() {
    let world = shops();
    let (what, want) = rules::rules();
    broken(&world, what, &want, &Mend::Back);
    let (what, want) = rules::exposed();
    broken(&world, what, &want, &Mend::Back);
    let (what, want) = rules::installed();
    broken(&world, what, &want, &Mend::Printed);
    networks(&world);
    sidecars(&world);
    least_rights(&world);
}

/// The two labels that make networks.
fn networks(world: &World) {
    let label =
        |network: Value| json!({"metadata": {"labels": {"topology.istio.io/network": network}}});
    let space = "/api/v1/namespaces/istio-system".to_owned();
    let what = vec![
        Do::Merge("eks-2", space.clone(), label(json!("eks-1"))),
        Do::Merge("eks-3", space, label(Value::Null)),
    ];
    broken(
        world,
        what,
        &["same-network/eks-2/eks-1", "no-network/eks-3"],
        &Mend::Back,
    );
}

/// Pods that were there before their namespace was labelled.
fn sidecars(world: &World) {
    let (space, web) = (
        "/api/v1/namespaces/shop",
        "/apis/apps/v1/namespaces/shop/deployments/web",
    );
    let pods = || {
        world.get("eks-1", &format!("{space}/pods"))["items"]
            .as_array()
            .unwrap()
            .clone()
    };
    let label = |value: Value| json!({"metadata": {"labels": {"istio-injection": value}}});
    world.merge("eks-1", space, &label(Value::Null));
    world.merge(
        "eks-1",
        web,
        &json!({"spec": {"template": {"metadata": {"labels": {"v": "2"}}}}}),
    );
    let bare = |p: &Value| p["spec"]["containers"].as_array().unwrap().len() == 1;
    world
        .wait(|| pods().iter().all(bare).then_some(()))
        .unwrap();
    world.merge("eks-1", space, &label(json!("enabled")));
    finds(world, &["pod-without-sidecar/eks-1"]);
    world.merge(
        "eks-1",
        web,
        &json!({"spec": {"template": {"metadata": {"labels": {"v": "3"}}}}}),
    );
    finds(world, &[]);
}

/// Who may not read everything is told what was not looked at, and finds the rest.
fn least_rights(world: &World) {
    let account = json!({"metadata": {"name": "viewer"}});
    world.create(
        "eks-1",
        "/api/v1/namespaces/default/serviceaccounts",
        &account,
    );
    let binding = json!({"metadata": {"name": "viewer"}, "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    world.create(
        "eks-1",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        &binding,
    );
    let token = world.post(
        "eks-1",
        "/api/v1/namespaces/default/serviceaccounts/viewer/token",
        &json!({"spec": {"expirationSeconds": 3600}}),
    );
    let path = world
        .user
        .home()
        .join(".local/state/meshlink-sandbox/kubeconfig");
    let whole = std::fs::read_to_string(&path).unwrap();
    let admin = world.sandbox().api("eks-1").unwrap().admin_token();
    let less = whole.replace(&admin, token["status"]["token"].as_str().unwrap());
    assert_ne!(less, whole);
    std::fs::write(&path, less).unwrap();
    let off = Do::Delete("eks-1", format!("{SHOP}/web")).run(world);
    let answer = world.run("doctor -o json").ends(6);
    std::fs::write(&path, whole).unwrap();
    let paths: Vec<_> = found(&answer).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["service-missing/eks-1/eks-2"], "{answer}");
    let all = answer.json();
    let unlooked = all["not_looked_at"].as_array().unwrap();
    assert!(unlooked.iter().all(|u| u["cluster"] == "eks-1"), "{answer}");
    let named = |id: &str| {
        unlooked
            .iter()
            .any(|u| u["checks"].as_array().unwrap().contains(&json!(id)))
    };
    assert!(
        named("token-refused") && named("mtls-disabled") && !named("service-missing"),
        "{answer}"
    );
    off.run(world);
    finds(world, &[]);
}

#[test]
fn a_member_that_is_down_does_not_hide_what_is_wrong_in_the_others() {
    let world = World::new(2);
    world
        .run("doctor --before-join eks-1 eks-2")
        .ends(0)
        .says("nothing found");
    world.run(&join(2)).ends(0);
    world.run("doctor").ends(0).says("nothing found");
    world
        .run("doctor eks-1 eks-9")
        .ends(4)
        .says("eks-9 is not a member of mesh mesh");
    world
        .run("doctor --only nonsense")
        .ends(2)
        .says("there is no such check");
    let list = world.user.run("doctor --list").ends(0);
    assert!(list.stdout.contains("gateway-closed"), "{list}");
    let kubeconfig = world
        .user
        .home()
        .join(".local/state/meshlink-sandbox/kubeconfig");
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let server = world.endpoints().servers[1].to_string();
    std::fs::write(&kubeconfig, text.replace(&server, "127.0.0.1:1")).unwrap();
    world.delete("eks-1", OPENER);
    let answer = world.run("doctor").ends(6);
    let answer = answer
        .says("gateway-closed/eks-1: error")
        .says("hint: meshlink join eks-1 eks-2 --sandbox")
        .says("eks-2: could not look at the member as a whole")
        .says("cannot reach https://127.0.0.1:1");
    assert_eq!(
        answer.stdout.matches("could not look at").count(),
        1,
        "{answer}"
    );
    let short = world.run("doctor --short eks-1").ends(6);
    let first = short.stdout.lines().next().unwrap();
    assert_eq!(
        first,
        "error\tgateway-closed/eks-1\tmeshlink join eks-1 eks-2 --sandbox"
    );
}

#[test]
fn what_is_safe_is_mended_when_asked_for_and_keys_and_restarts_are_left() {
    let world = World::joined(2);
    let istiods = || {
        let pods = world.get("eks-2", "/api/v1/namespaces/istio-system/pods");
        let all = pods["items"].as_array().unwrap().iter();
        all.map(|p| p["metadata"]["uid"].clone())
            .collect::<Vec<_>>()
    };
    let before = istiods();
    let gateway =
        "/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway";
    world.delete("eks-2", gateway);
    let secret = "/api/v1/namespaces/istio-system/secrets/istio-remote-secret-eks-1";
    world.delete("eks-2", secret);
    finds(
        &world,
        &["gateway-closed/eks-2", "remote-secret-missing/eks-2/eks-1"],
    );
    let answer = world.run("doctor --fix -o json").ends(0);
    assert_eq!(found(&answer), [], "{answer}");
    assert!(world.find("eks-2", gateway).is_some() && world.find("eks-2", secret).is_some());
    assert_eq!(istiods(), before, "nothing was restarted");
    // With a key to be written, the rest is mended and that is named.
    world.delete("eks-2", gateway);
    let cacerts = "/api/v1/namespaces/istio-system/secrets/cacerts";
    world.delete("eks-2", cacerts);
    let answer = world.run("doctor --fix").ends(7);
    answer
        .says("left for you to decide: ")
        .says("write Secret cacerts in eks-2");
    assert!(world.find("eks-2", gateway).is_some(), "it is opened again");
    assert_eq!(
        world.find("eks-2", cacerts),
        None,
        "a key is not its to write"
    );
    assert_eq!(istiods(), before);
    world.run(&join(2)).ends(0);
    finds(&world, &[]);
    // Nothing is to be mended: nothing is planned.
    world.run("doctor --fix").ends(0);
}
