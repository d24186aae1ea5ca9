//! Every object that meshlink writes or deletes, against every way it can be somebody else's: one table.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kit::{World, join};

/// Who an object belongs to, and so what shows it.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// Meshlink's mark.
    Mark,
    /// The same; one that is somebody else's is used as it is.
    Used,
    /// Helm's label and annotations.
    Helm,
}

/// What a join of eks-1 and eks-2 puts into eks-1: what it is called, where it is, and whose rule it goes by.
const TABLE: &[(&str, &str, Rule)] = &[
    (
        "ConfigMap istio-system/meshlink-root",
        "/api/v1/namespaces/istio-system/configmaps/meshlink-root",
        Rule::Mark,
    ),
    (
        "ConfigMap istio-system/meshlink",
        "/api/v1/namespaces/istio-system/configmaps/meshlink",
        Rule::Mark,
    ),
    (
        "Secret istio-system/cacerts",
        "/api/v1/namespaces/istio-system/secrets/cacerts",
        Rule::Used,
    ),
    (
        "Secret istio-system/istio-remote-secret-eks-2",
        "/api/v1/namespaces/istio-system/secrets/istio-remote-secret-eks-2",
        Rule::Mark,
    ),
    (
        "ServiceAccount istio-system/meshlink-reader-eks-2",
        "/api/v1/namespaces/istio-system/serviceaccounts/meshlink-reader-eks-2",
        Rule::Mark,
    ),
    (
        "Secret istio-system/meshlink-reader-eks-2-token",
        "/api/v1/namespaces/istio-system/secrets/meshlink-reader-eks-2-token",
        Rule::Mark,
    ),
    (
        "Role istio-system/meshlink-reader",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/roles/meshlink-reader",
        Rule::Mark,
    ),
    (
        "RoleBinding istio-system/meshlink-reader-eks-2",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/rolebindings/meshlink-reader-eks-2",
        Rule::Mark,
    ),
    (
        "ClusterRole meshlink-reader",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/meshlink-reader",
        Rule::Mark,
    ),
    (
        "ClusterRoleBinding meshlink-reader-eks-2",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/meshlink-reader-eks-2",
        Rule::Mark,
    ),
    (
        "Gateway istio-ingress/cross-network-gateway",
        "/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway",
        Rule::Mark,
    ),
    (
        "Namespace istio-system",
        "/api/v1/namespaces/istio-system",
        Rule::Used,
    ),
    (
        "Namespace istio-ingress",
        "/api/v1/namespaces/istio-ingress",
        Rule::Used,
    ),
    (
        "CustomResourceDefinition gateways.networking.istio.io",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gateways.networking.istio.io",
        Rule::Helm,
    ),
    (
        "Deployment istio-system/istiod",
        "/apis/apps/v1/namespaces/istio-system/deployments/istiod",
        Rule::Helm,
    ),
    (
        "Service istio-system/istiod",
        "/api/v1/namespaces/istio-system/services/istiod",
        Rule::Helm,
    ),
    (
        "ServiceAccount istio-system/istiod",
        "/api/v1/namespaces/istio-system/serviceaccounts/istiod",
        Rule::Helm,
    ),
    (
        "Service istio-ingress/istio-eastwestgateway",
        "/api/v1/namespaces/istio-ingress/services/istio-eastwestgateway",
        Rule::Helm,
    ),
    (
        "Deployment istio-ingress/istio-eastwestgateway",
        "/apis/apps/v1/namespaces/istio-ingress/deployments/istio-eastwestgateway",
        Rule::Helm,
    ),
];

const MARK: &str = "meshlink/owner";
const RELEASE: &str = "meta.helm.sh/release-name";

/// The annotations that a row is known by, as they are.
fn known(world: &World, path: &str) -> Value {
    let annotations = &world.get("eks-1", path)["metadata"]["annotations"];
    let of = |key: &&str| annotations[*key].is_string();
    let keys = [MARK, RELEASE].into_iter().filter(|key| of(key));
    keys.map(|key| (key.to_owned(), annotations[key].clone()))
        .collect()
}

/// Patches the annotations of a row.
fn annotate(world: &World, path: &str, annotations: &Value) {
    let patch = json!({"metadata": {"annotations": annotations}});
    world.merge("eks-1", path, &patch);
}

/// The same annotations with every value changed.
fn each(annotations: &Value, change: impl Fn(&str) -> Value) -> Value {
    let all = annotations.as_object().unwrap().iter();
    all.map(|(key, value)| (key.clone(), change(value.as_str().unwrap())))
        .collect()
}

/// A refused join changes nothing, and names every row that must not be written.
fn refused(world: &World, state: &str) {
    let before = world.inventory("eks-1");
    let answer = world.run(&join(2)).ends(5);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = words(&answer.stderr);
    for (row, _, rule) in TABLE.iter().filter(|(.., rule)| *rule != Rule::Used) {
        let _ = rule;
        assert!(said.contains(&words(row)), "{row} × {state}: {answer}");
    }
    assert!(
        before == world.inventory("eks-1"),
        "{state}: something was changed"
    );
}

#[test]
fn foreign_of_another_mesh_and_foreign_at_a_leave() {
    let world = World::joined(2);
    let all: BTreeMap<_, _> = TABLE
        .iter()
        .map(|(row, path, _)| (*row, known(&world, path)))
        .collect();
    for (row, path, _) in TABLE {
        assert!(
            !all[row].as_object().unwrap().is_empty(),
            "{row} × ours: no mark"
        );
        let other = each(&all[row], |mark| {
            match serde_json::from_str::<Value>(mark) {
                Ok(mut mark) => {
                    mark["mesh"] = json!("other");
                    json!(mark.to_string())
                }
                Err(_) => json!("other"),
            }
        });
        annotate(&world, path, &other);
    }
    refused(&world, "of another mesh");
    for (row, path, _) in TABLE {
        annotate(&world, path, &each(&all[row], |_| Value::Null));
    }
    refused(&world, "foreign with our name");

    // A leave goes on by the claim alone, and refuses while somebody else's secret links the two.
    let back = |row: &str| {
        let (_, path, _) = TABLE.iter().find(|(r, ..)| *r == row).unwrap();
        annotate(&world, path, &all[row]);
    };
    back("ConfigMap istio-system/meshlink-root");
    world
        .run("leave eks-1 --uninstall --crds")
        .ends(5)
        .says("istio-remote-secret-eks-2, which is not meshlink's");
    back("Secret istio-system/istio-remote-secret-eks-2");
    let left = world.run("leave eks-1 --uninstall --crds").ends(0);
    for (row, path, _) in TABLE {
        // The claim stays with an istiod that is somebody else's, and what that signs with.
        let is_ours = row.ends_with("remote-secret-eks-2");
        let there = world.find("eks-1", path).is_some();
        assert!(there != is_ours, "{row} × foreign at a leave: {left}");
    }
    let rows = TABLE.len();
    println!(
        "matrix: {rows} objects × of another mesh, foreign with our name, foreign at a leave: as the table says"
    );
}

#[test]
fn foreign_with_our_labels_copied() {
    let world = World::joined(2);
    let mut copies = vec![];
    for (row, path, _) in TABLE {
        let mut copy = world.get("eks-1", path);
        let metadata = copy["metadata"].clone();
        let name = format!("{}-copy", metadata["name"].as_str().unwrap());
        copy["metadata"] = json!({"name": name, "labels": metadata["labels"], "annotations": metadata["annotations"]});
        copy.as_object_mut().unwrap().remove("status");
        match row.split_once(' ').unwrap().0 {
            // A second one of these would be another thing altogether: another kind, other pods.
            "CustomResourceDefinition" | "Deployment" => continue,
            "Service" => {
                copy["spec"] = json!({"ports": [{"port": 80}]});
            }
            // Whoever finds it takes it for a remote secret, which is refused by its own test.
            "Secret" if row.contains("remote-secret") => {
                copy["metadata"]["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("istio/multiCluster");
            }
            _ => {}
        }
        if copy["type"] == "kubernetes.io/service-account-token" {
            copy["type"] = json!("Opaque");
        }
        let (collection, _) = path.rsplit_once('/').unwrap();
        world.create("eks-1", collection, &copy);
        copies.push((*row, path, format!("{collection}/{name}")));
    }
    let rows = copies.len();
    // With the CRDs every object of their kinds would go, as whoever asks for that is told.
    world.run("leave eks-1 --uninstall").ends(0);
    for (row, original, copy) in copies {
        assert!(world.find("eks-1", &copy).is_some(), "{row} × copied");
        let used = row.starts_with("Namespace");
        assert!(
            used || world.find("eks-1", original).is_none(),
            "{row} × ours"
        );
    }
    println!("matrix: {rows} objects × foreign with our labels copied, ours: as the table says");
}

#[test]
fn ours_but_changed_and_absent() {
    let world = World::joined(2);
    let label = "app.kubernetes.io/managed-by";
    let rows = || TABLE.iter().filter(|(.., rule)| *rule != Rule::Used);
    // What a plan compares field by field is brought back; the mark alone says that it may be.
    let compared = |row: &str| {
        let read = ["ConfigMap", "Secret istio-system/istio-remote"];
        !read.iter().any(|kind| row.starts_with(kind))
    };
    for (row, path, rule) in rows().filter(|(row, ..)| compared(row)) {
        if *rule == Rule::Mark {
            let patch = json!({"metadata": {"labels": {label: "somebody"}}});
            world.merge("eks-1", path, &patch);
        }
        let _ = row;
    }
    world.run(&join(2)).ends(0);
    for (row, path, rule) in rows().filter(|(row, ..)| compared(row)) {
        let label = world.get("eks-1", path)["metadata"]["labels"][label].clone();
        let want = if *rule == Rule::Mark {
            "meshlink"
        } else {
            "Helm"
        };
        assert_eq!(label, want, "{row} × ours but changed");
    }
    // With the CRD all Gateways go, and with a Service its load balancer: each comes back by itself, tried elsewhere.
    let kept = [
        "ConfigMap istio-system/meshlink-root",
        "CustomResourceDefinition",
    ];
    for (row, path, _) in rows().filter(|(row, ..)| !kept.iter().any(|k| row.starts_with(k))) {
        // The token goes with its account.
        if world.find("eks-1", path).is_some() || !row.ends_with("-token") {
            world.delete("eks-1", path);
        }
    }
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
    for (row, path, _) in rows() {
        assert!(world.find("eks-1", path).is_some(), "{row} × absent");
    }
    world.run("plan eks-1 eks-2").ends(0);
    let rows = rows().count();
    println!("matrix: {rows} objects × ours but changed, absent: as the table says");
}
