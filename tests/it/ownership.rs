//! What is not meshlink's is neither overwritten nor deleted, whatever it is called and whatever labels it carries.

use std::{collections::BTreeMap, fs};

use helm_engine::release::Record;
use serde_json::{Value, json};

use crate::kit::{World, istio, join};

const RELEASE: &str =
    "/api/v1/namespaces/istio-ingress/secrets/sh.helm.release.v1.istio-eastwestgateway.v";
const SPACES: &str = "/api/v1/namespaces";

/// An object without what the server gave it: as it would be in a file that somebody made from it.
fn copy(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut copy = object.clone();
    copy["metadata"] = json!({"name": metadata["name"], "labels": metadata["labels"],
        "annotations": metadata["annotations"]});
    if !metadata["namespace"].is_null() {
        copy["metadata"]["namespace"] = metadata["namespace"].clone();
    }
    copy.as_object_mut().unwrap().remove("status");
    copy
}

fn secret(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "dg=="}})
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

/// Takes every mark of meshlink's off, as if Helm and a person had made it all.
fn unmark(world: &World, cluster: &str) {
    for (path, object) in world.inventory(cluster) {
        let ours = |map: &Value| -> Value {
            let keys = map.as_object().into_iter().flatten();
            let keys = keys.filter(|(k, v)| k.starts_with("meshlink/") || *v == "meshlink");
            keys.map(|(k, _)| (k.clone(), Value::Null)).collect()
        };
        let metadata = &object["metadata"];
        let (labels, annotations) = (ours(&metadata["labels"]), ours(&metadata["annotations"]));
        let marked = labels.as_object().unwrap().len() + annotations.as_object().unwrap().len();
        let Some(at) = world.path_of(cluster, &path).filter(|_| marked > 0) else {
            continue;
        };
        let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
        world.merge(cluster, &at, &patch);
    }
}

#[test]
fn an_istio_that_was_never_in_a_mesh_is_not_taken_apart() {
    let world = World::joined(2);
    unmark(&world, "eks-1");
    for map in ["meshlink-root", "meshlink"] {
        world.delete("eks-1", &istio("configmaps", map));
    }
    let authority = json!({"metadata": {"name": "istio-ca-secret"}, "type": "istio.io/ca-root",
        "data": {"ca-key.pem": "dg=="}});
    world.create(
        "eks-1",
        istio("secrets", "").trim_end_matches('/'),
        &authority,
    );
    world.create("eks-1", SPACES, &json!({"metadata": {"name": "shop"}}));
    let mut mine = map("mine");
    mine["metadata"]["labels"] = json!({"istio.io/config": "true"});
    world.create("eks-1", "/api/v1/namespaces/shop/configmaps", &mine);
    let before = world.inventory("eks-1");
    for how in ["", " --uninstall", " --uninstall --crds"] {
        world
            .run(&format!("leave eks-1{how} --mesh nevermet"))
            .ends(5)
            .says("is not bound to mesh nevermet")
            .says("release istiod")
            .says("--kube-context eks-1 -n istio-system uninstall istiod");
        assert_eq!(before, world.inventory("eks-1"));
    }
}

#[test]
fn what_others_put_into_our_namespaces_stays_and_so_do_copies_of_them() {
    let world = World::joined(2);
    let ingress = world.get("eks-2", "/api/v1/namespaces/istio-ingress");
    let mut payments = copy(&ingress);
    payments["metadata"]["name"] = json!("payments");
    world.create("eks-2", SPACES, &payments);
    world.create(
        "eks-2",
        "/api/v1/namespaces/payments/secrets",
        &secret("till"),
    );
    world.create(
        "eks-2",
        "/api/v1/namespaces/istio-ingress/secrets",
        &secret("shop-tls"),
    );
    let mut mine = map("mine");
    mine["metadata"]["labels"] = json!({"istio.io/config": "true"});
    world.create("eks-2", "/api/v1/namespaces/payments/configmaps", &mine);
    let left = world.run("leave eks-2 --uninstall --crds").ends(0);
    left.says("Namespace istio-ingress stays in eks-2")
        .says("Secret istio-ingress/shop-tls");
    for path in [
        "/api/v1/namespaces/payments/secrets/till",
        "/api/v1/namespaces/payments/configmaps/mine",
        "/api/v1/namespaces/istio-ingress/secrets/shop-tls",
    ] {
        assert!(world.find("eks-2", path).is_some(), "{path}");
    }
    assert_eq!(world.find("eks-2", "/api/v1/namespaces/istio-system"), None);
    world
        .run("leave eks-2 --uninstall --crds")
        .ends(0)
        .says("nothing to do");
}

/// The newest release record, read, changed and written as it is or as another revision.
fn rewrite(world: &World, from: u32, to: u32, change: impl Fn(&mut Record)) {
    let secret = world.get("eks-1", &format!("{RELEASE}{from}"));
    let mut record = Record::from_secret(&secret).unwrap();
    record.revision = to;
    change(&mut record);
    let secret = record.to_secret(None, None).unwrap();
    match from == to {
        true => {
            let patch = json!({"metadata": {"labels": secret["metadata"]["labels"]}, "data": secret["data"]});
            world.merge("eks-1", &format!("{RELEASE}{to}"), &patch);
        }
        false => world.create("eks-1", "/api/v1/namespaces/istio-ingress/secrets", &secret),
    }
}

const FORGED: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: audit}
";

#[test]
fn a_forged_release_record_deletes_nothing() {
    let world = World::joined(2);
    world.create("eks-1", SPACES, &json!({"metadata": {"name": "shop"}}));
    world.create("eks-1", "/api/v1/namespaces/shop/secrets", &secret("db"));
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    world.create(
        "eks-1",
        roles,
        &json!({"metadata": {"name": "audit"}, "rules": []}),
    );
    // Once with the labels of the real one, once without.
    for (revision, labelled) in [(7, true), (20, false)] {
        let last = if labelled { 1 } else { 8 };
        rewrite(&world, last, revision, |record| {
            record.manifest += FORGED;
            if labelled {
                let version = json!(revision.to_string());
                record.labels.insert("meshlink/revision".into(), version);
                record
                    .labels
                    .insert("meshlink/digest".into(), json!("other"));
            } else {
                record.labels.clear();
                record.config.clear();
            }
        });
        world.run(&join(2)).ends(0);
    }
    let there = || {
        for path in [
            "/api/v1/namespaces/shop",
            "/api/v1/namespaces/shop/secrets/db",
            &format!("{roles}/audit"),
        ] {
            let found = world.find("eks-1", path);
            assert!(
                found.is_some_and(|o| o["metadata"]["deletionTimestamp"].is_null()),
                "{path}"
            );
        }
    };
    there();
    rewrite(&world, 21, 30, |record| record.manifest += FORGED);
    world.run("leave eks-1 --uninstall --crds").ends(0);
    there();
}

#[test]
fn what_an_upgrade_deletes_is_a_line_of_the_plan() {
    let world = World::joined(2);
    let helm = |name: &str| {
        json!({"metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "istio-eastwestgateway",
                "meta.helm.sh/release-namespace": "istio-ingress"}}, "data": {"k": "v"}})
    };
    let maps = "/api/v1/namespaces/istio-ingress/configmaps";
    world.create("eks-1", maps, &helm("old"));
    world.create("eks-1", maps, &map("taken"));
    let text = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n";
    rewrite(&world, 1, 1, |record| {
        record.manifest += &text.replace("NAME", "old");
        record.manifest += &text.replace("NAME", "taken");
        record
            .labels
            .insert("meshlink/digest".into(), json!("other"));
    });
    let plan = world.run("plan eks-1 eks-2").ends(10);
    let plan = plan.says("- ConfigMap istio-ingress/old");
    assert!(
        !plan.stdout.contains("- ConfigMap istio-ingress/taken"),
        "{plan}"
    );
    let plan = world.run("plan eks-1 eks-2 -o json").ends(10).json();
    let deletes = plan["steps"].as_array().unwrap().iter();
    let deletes: Vec<_> = deletes.filter_map(|s| s.get("deletes")).collect();
    assert_eq!(deletes, [&json!(["ConfigMap istio-ingress/old"])]);
    world.run(&join(2)).ends(0);
    assert_eq!(world.find("eks-1", &format!("{maps}/old")), None);
    assert!(world.find("eks-1", &format!("{maps}/taken")).is_some());
    let plan = world.run("leave eks-1 --uninstall --crds").ends(0);
    assert!(
        world.find("eks-1", &format!("{maps}/taken")).is_some(),
        "{plan}"
    );
}

#[test]
fn a_record_that_names_a_stranger_is_not_believed() {
    let world = World::new(3);
    world.run(&join(2)).ends(0);
    let place = istio("configmaps", "meshlink");
    let text = world.get("eks-1", &place)["data"]["record"].clone();
    let mut record: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    record["members"]["prod"] = json!("eks-3");
    world.merge(
        "eks-1",
        &place,
        &json!({"data": {"record": record.to_string()}}),
    );
    // Another machine, where nothing is written down.
    let state = world.user.home().join(".local/state/meshlink-sandbox/mesh");
    fs::remove_file(state.join("mesh.yaml")).unwrap();
    let before = world.inventory("eks-3");
    world
        .run("verify eks-1 --traffic")
        .ends(5)
        .says("prod")
        .says("is not bound to mesh mesh");
    world.run("sample up eks-1").ends(5);
    assert_eq!(before, world.inventory("eks-3"));
    world
        .run("leave eks-1")
        .ends(0)
        .says("nothing is done in prod");
    assert_eq!(before, world.inventory("eks-3"));
}

/// Where a foreign object is put, by what a join would put there.
fn rows() -> BTreeMap<&'static str, (&'static str, Value)> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role =
        |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "view"});
    let rows = [
        (
            "ConfigMap meshlink",
            (istio("configmaps", ""), map("meshlink")),
        ),
        (
            "ConfigMap meshlink-root",
            (istio("configmaps", ""), map("meshlink-root")),
        ),
        (
            "Secret istio-remote-secret-eks-2",
            (istio("secrets", ""), secret("istio-remote-secret-eks-2")),
        ),
        (
            "Secret meshlink-reader-eks-2-token",
            (istio("secrets", ""), secret("meshlink-reader-eks-2-token")),
        ),
        (
            "ServiceAccount meshlink-reader-eks-2",
            (
                istio("serviceaccounts", ""),
                json!({"metadata": {"name": "meshlink-reader-eks-2"}}),
            ),
        ),
        (
            "ClusterRole meshlink-reader",
            (
                format!("{rbac}/clusterroles"),
                json!({"metadata": {"name": "meshlink-reader"}, "rules": []}),
            ),
        ),
        (
            "ClusterRoleBinding meshlink-reader-eks-2",
            (
                format!("{rbac}/clusterrolebindings"),
                json!({"metadata": {"name": "meshlink-reader-eks-2"}, "roleRef": role("ClusterRole"), "subjects": []}),
            ),
        ),
        (
            "Namespace meshlink-probe",
            (
                SPACES.to_owned(),
                json!({"metadata": {"name": "meshlink-probe"}}),
            ),
        ),
        (
            "Service istio-eastwestgateway",
            (
                "/api/v1/namespaces/istio-ingress/services".to_owned(),
                json!({"metadata": {"name": "istio-eastwestgateway"}, "spec": {"ports": [{"port": 80}]}}),
            ),
        ),
    ];
    let leak = |path: String| -> &'static str { path.trim_end_matches('/').to_owned().leak() };
    rows.map(|(name, (path, object))| (name, (leak(path), object)))
        .into()
}

#[test]
fn a_join_refuses_everything_that_is_somebody_elses_at_once() {
    let world = World::new(2);
    for space in ["istio-system", "istio-ingress"] {
        world.create("eks-1", SPACES, &json!({"metadata": {"name": space}}));
    }
    for (path, object) in rows().values() {
        world.create("eks-1", path, object);
    }
    world.create(
        "eks-1",
        "/api/v1/namespaces/meshlink-probe/secrets",
        &secret("mine"),
    );
    world.settled("eks-1");
    let before = [world.inventory("eks-1"), world.inventory("eks-2")];
    let mut refused = world.run(&join(2)).ends(5);
    for name in rows().keys() {
        let (kind, name) = name.split_once(' ').unwrap();
        refused = refused.says(kind).says(name);
    }
    refused.says("is not meshlink's").says(
        "--context eks-1 annotate --overwrite clusterrole meshlink-reader meshlink/adopt=mesh",
    );
    assert_eq!(before, [world.inventory("eks-1"), world.inventory("eks-2")]);
}

#[test]
fn no_probe_and_no_sample_goes_into_a_namespace_with_our_label_alone() {
    let world = World::joined(2);
    let label = json!({"app.kubernetes.io/managed-by": "meshlink"});
    for name in ["meshlink-probe", "sample"] {
        let gone = || {
            let path = format!("{SPACES}/{name}");
            world.find("eks-1", &path).is_none().then_some(())
        };
        assert!(world.wait(gone).is_some(), "{name}");
        let space = json!({"metadata": {"name": name, "labels": label}});
        world.create("eks-1", SPACES, &space);
        world.create(
            "eks-1",
            &format!("{SPACES}/{name}/secrets"),
            &secret("mine"),
        );
    }
    world
        .run("verify --traffic")
        .ends(5)
        .says("Namespace meshlink-probe")
        .says("meshlink/adopt=mesh");
    world
        .run("sample up")
        .ends(5)
        .says("meshlink did not make it");
    world.run("sample down").ends(0);
    for name in ["meshlink-probe", "sample"] {
        let path = format!("{SPACES}/{name}/secrets/mine");
        assert!(world.find("eks-1", &path).is_some(), "{name}");
    }
}

#[test]
fn a_second_remote_secret_for_a_member_stands_in_the_way() {
    let world = World::joined(2);
    let mut second = copy(&world.get("eks-1", &istio("secrets", "istio-remote-secret-eks-2")));
    second["metadata"]["name"] = json!("mine");
    let secrets = "/api/v1/namespaces/istio-system/secrets";
    world.create("eks-1", secrets, &second);
    world
        .run(&join(2))
        .ends(5)
        .says("Secret istio-system/mine")
        .says("a copy of Secret istio-system/istio-remote-secret-eks-2");
    world
        .run("leave eks-2")
        .ends(5)
        .says("-n istio-system delete secret mine");
    world.delete("eks-1", &format!("{secrets}/mine"));
    world.run("leave eks-2").ends(0);
}
