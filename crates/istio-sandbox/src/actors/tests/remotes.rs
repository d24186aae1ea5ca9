//! Remote secrets: what they do to a living mesh.

use std::time::Duration;

use serde_json::json;

use super::kit::{Install, Lab, Root};
use crate::{Timeline, actors::Read, api};

/// Both clusters installed on one root, nothing linked, a probe in each.
async fn unlinked() -> Lab {
    let lab = Lab::new(2).await;
    let root = Root::new("root");
    for (id, network) in [("eks-1", "net-1"), ("eks-2", "net-2")] {
        lab.install(id, Install::new(id, network, &root)).await;
        lab.probe(id, &["eks-1", "eks-2"]).await;
    }
    lab
}

async fn remove_secret(lab: &Lab) {
    let cluster = lab.cluster("eks-1");
    let secret = cluster
        .objects
        .get("secrets", "istio-system", "istio-remote-secret-eks-2")
        .unwrap();
    cluster.objects.delete("secrets", &secret).await.unwrap();
    lab.until("the cluster is forgotten", || {
        lab.status("eks-1", "eks-2").is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_takes_its_endpoints_along() {
    let lab = Lab::joined().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    remove_secret(&lab).await;
    lab.until_endpoints("eks-1", "eks-2", &[]).await;
    assert_eq!(
        lab.ask("eks-1", "eks-2").await,
        (503, "no healthy upstream".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_update_keeps_the_old_client_and_says_timeout() {
    let lab = Lab::joined().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    let ca = lab.sandbox.api("eks-2").unwrap().ca_pem();
    let bad = lab.remote_secret_with("eks-2", "https://127.0.0.1:1", "x", &ca);
    lab.apply("eks-1", &bad).await;
    lab.until("it is tried", || {
        lab.status("eks-1", "eks-2").as_deref() == Some("syncing")
    })
    .await;
    lab.until("it is given up", || {
        lab.status("eks-1", "eks-2").as_deref() == Some("timeout")
    })
    .await;
    assert_eq!(lab.endpoints("eks-1", "eks-2").await, lab.gateway("eks-2"));
    assert_eq!(lab.ask("eks-1", "eks-2").await, (200, "eks-2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_authority_never_syncs() {
    let lab = unlinked().await;
    let other = lab.sandbox.api("eks-1").unwrap().ca_pem();
    let bad = lab.remote_secret_with("eks-2", &lab.server("eks-2"), "x", &other);
    lab.apply("eks-1", &bad).await;
    lab.until("it is given up", || {
        lab.status("eks-1", "eks-2").as_deref() == Some("timeout")
    })
    .await;
    assert_eq!(lab.endpoints("eks-1", "eks-2").await, Vec::<String>::new());
    assert!(
        lab.log("eks-1")
            .contains("watch error in cluster eks-2: failed to list namespaces"),
        "{}",
        lab.log("eks-1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_outlive_a_secret_whose_first_try_failed() {
    let lab = unlinked().await;
    let good = lab.remote_secret("eks-2").await;
    let ca = lab.sandbox.api("eks-2").unwrap().ca_pem();
    let bad = lab.remote_secret_with(
        "eks-2",
        &lab.server("eks-2"),
        "no token of this cluster",
        &ca,
    );
    lab.apply("eks-1", &bad).await;
    lab.until("it fails", || lab.log("eks-1").contains("Unauthorized"))
        .await;
    lab.apply("eks-1", &good).await;
    lab.until("it is mended", || {
        lab.status("eks-1", "eks-2").as_deref() == Some("synced")
    })
    .await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    remove_secret(&lab).await;
    assert!(
        lab.log("eks-1")
            .contains("was already replaced, skipping delete.")
    );
    assert_eq!(lab.endpoints("eks-1", "eks-2").await, lab.gateway("eks-2"));
    let pod = lab.pod("eks-1", "istiod").unwrap();
    lab.cluster("eks-1")
        .objects
        .delete("pods", &pod)
        .await
        .unwrap();
    lab.until_endpoints("eks-1", "eks-2", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_without_a_right_blocks_and_some_rights_stop_the_endpoints() {
    for (resource, group, flows) in [
        ("secrets", "", true),
        ("endpointslices", "discovery.k8s.io", false),
        ("customresourcedefinitions", "apiextensions.k8s.io", false),
        ("workloadentries", "networking.istio.io", true),
    ] {
        let lab = unlinked().await;
        let role = lab
            .cluster("eks-2")
            .objects
            .get(
                "clusterroles.rbac.authorization.k8s.io",
                "",
                "istio-reader-clusterrole-istio-system",
            )
            .unwrap();
        let mut less = (*role).clone();
        for rule in less["rules"].as_array_mut().unwrap() {
            if rule.items("/apiGroups") == [json!(group)] {
                rule["resources"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|r| r != resource);
            }
        }
        lab.cluster("eks-2")
            .objects
            .replace("clusterroles.rbac.authorization.k8s.io", &less)
            .await
            .unwrap();
        let secret = lab.remote_secret("eks-2").await;
        lab.apply("eks-1", &secret).await;
        lab.until("it is given up", || {
            lab.status("eks-1", "eks-2").as_deref() == Some("timeout")
        })
        .await;
        let wanted = if flows {
            lab.gateway("eks-2")
        } else {
            Vec::new()
        };
        lab.until_endpoints("eks-1", "eks-2", &wanted).await;
        assert!(
            lab.log("eks-1").contains("forbidden"),
            "{resource}: {}",
            lab.log("eks-1")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_stays_synced_until_istiod_restarts() {
    let timeline = Timeline {
        watch: Duration::from_secs(1),
        ..Timeline::instant()
    };
    let lab = Lab::timed(2, timeline).await;
    let root = Root::new("root");
    for (id, network) in [("eks-1", "net-1"), ("eks-2", "net-2")] {
        lab.install(id, Install::new(id, network, &root)).await;
    }
    lab.link_both().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    let token = lab
        .cluster("eks-2")
        .objects
        .get("secrets", "istio-system", "reader-token")
        .unwrap();
    lab.cluster("eks-2")
        .objects
        .delete("secrets", &token)
        .await
        .unwrap();
    lab.until("it is noticed when a watch ends", || {
        lab.log("eks-1").contains("Unauthorized")
    })
    .await;
    assert_eq!(lab.status("eks-1", "eks-2").as_deref(), Some("synced"));
    let pod = lab.pod("eks-1", "istiod").unwrap();
    lab.cluster("eks-1")
        .objects
        .delete("pods", &pod)
        .await
        .unwrap();
    lab.until("the new istiod gives up", || {
        lab.status("eks-1", "eks-2").as_deref() == Some("timeout")
    })
    .await;
    lab.until_endpoints("eks-1", "eks-2", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_our_own_name_is_ignored() {
    let lab = Lab::new(2).await;
    let root = Root::new("root");
    lab.install("eks-1", Install::new("eks-1", "net-1", &root))
        .await;
    lab.install("eks-2", Install::new("eks-1", "net-2", &root))
        .await;
    let mut secret = lab.remote_secret("eks-2").await;
    secret["data"] = json!({"eks-1": secret["data"]["eks-2"]});
    lab.apply("eks-1", &secret).await;
    lab.until("it is told", || {
        lab.log("eks-1")
            .contains("would overwrite the config cluster")
    })
    .await;
    assert_eq!(
        lab.istiod("eks-1").unwrap().clusters(),
        json!([{"id": "eks-1", "syncStatus": "synced"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_secret_may_hold_good_and_bad_clusters() {
    let lab = unlinked().await;
    let mut secret = lab.remote_secret("eks-2").await;
    let ca = lab.sandbox.api("eks-2").unwrap().ca_pem();
    secret["data"]["dead"] =
        lab.remote_secret_with("dead", "https://127.0.0.1:1", "x", &ca)["data"]["dead"].clone();
    secret["data"]["broken"] = "AAAA".into();
    lab.apply("eks-1", &secret).await;
    lab.until("the good one syncs", || {
        lab.status("eks-1", "eks-2").as_deref() == Some("synced")
    })
    .await;
    assert_ne!(lab.status("eks-1", "dead").as_deref(), Some("synced"));
    assert_eq!(lab.status("eks-1", "broken"), None);
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_dies_keeps_its_endpoints_and_comes_back() {
    let lab = Lab::joined().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    lab.sandbox.api("eks-2").unwrap().faults().unreachable(true);
    lab.until("it is noticed", || {
        lab.log("eks-1").contains("watch error in cluster eks-2")
    })
    .await;
    assert_eq!(lab.status("eks-1", "eks-2").as_deref(), Some("synced"));
    assert_eq!(lab.endpoints("eks-1", "eks-2").await, lab.gateway("eks-2"));
    lab.sandbox.api("eks-2").unwrap().faults().clear();
    let strike = api::Strike::next("/none", api::Fault::Stall);
    lab.sandbox.api("eks-2").unwrap().faults().add(strike);
    assert_eq!(lab.ask("eks-1", "eks-2").await, (200, "eks-2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_rights_are_enough() {
    let lab = unlinked().await;
    let objects = &lab.cluster("eks-2").objects;
    let roles = "clusterroles.rbac.authorization.k8s.io";
    let mut role = (*objects
        .get(roles, "", "istio-reader-clusterrole-istio-system")
        .unwrap())
    .clone();
    let read = json!(["get", "list", "watch"]);
    role["rules"] = json!([
        {"apiGroups": [""], "resources": ["namespaces", "pods", "services", "nodes", "secrets"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": read},
        {"apiGroups": ["networking.istio.io"], "resources": ["workloadentries"], "verbs": read},
    ]);
    objects.replace(roles, &role).await.unwrap();
    let own = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": "istio-system"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["istio"], "verbs": read}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reader", "namespace": "istio-system"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "istio-reader-service-account", "namespace": "istio-system"}]});
    lab.apply("eks-2", &own).await;
    lab.apply("eks-2", &binding).await;
    lab.link("eks-1", "eks-2").await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_token_in_place_never_takes_the_endpoint_away() {
    let lab = Lab::joined().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    let account = json!({"metadata": {}, "spec": {"expirationSeconds": 3600, "audiences": []}});
    let client = lab.sandbox.api("eks-2").unwrap().client();
    let at = "/api/v1/namespaces/istio-system/serviceaccounts/istio-reader-service-account/token";
    let request = http::Request::post(at).header("content-type", "application/json");
    let request = request.body(account.to_string().into_bytes()).unwrap();
    let token: serde_json::Value = client.request(request).await.unwrap();
    let ca = lab.sandbox.api("eks-2").unwrap().ca_pem();
    let secret = lab.remote_secret_with(
        "eks-2",
        &lab.server("eks-2"),
        token.text("/status/token"),
        &ca,
    );
    lab.apply("eks-1", &secret).await;
    for _ in 0..200 {
        assert_eq!(lab.ask("eks-1", "eks-2").await, (200, "eks-2".into()));
        if lab
            .log("eks-1")
            .contains("cluster eks-2 synced, replacing registry")
        {
            break;
        }
    }
    assert!(
        lab.log("eks-1").contains("replacing registry"),
        "{}",
        lab.log("eks-1")
    );
    assert_eq!(lab.endpoints("eks-1", "eks-2").await, lab.gateway("eks-2"));
}
