//! How objects end, and how many come at once.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Preconditions, PropagationPolicy};

use super::*;

fn map(name: &str) -> ConfigMap {
    of(json!({"metadata": {"name": name}}))
}

fn owned(name: &str, owner: &ConfigMap) -> ConfigMap {
    let (owner, uid) = (owner.metadata.name.clone(), owner.metadata.uid.clone());
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid});
    of(json!({"metadata": {"name": name, "ownerReferences": [reference]}}))
}

#[tokio::test]
async fn what_is_owned_goes_with_its_owner_unless_orphaned() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    let there = |name: &str| api.store().get("configmaps", "default", name).is_some();
    for (policy, stays) in [
        (PropagationPolicy::Background, false),
        (PropagationPolicy::Foreground, false),
        (PropagationPolicy::Orphan, true),
    ] {
        let owner = maps
            .create(&PostParams::default(), &map("owner"))
            .await
            .unwrap();
        let child = maps
            .create(&PostParams::default(), &owned("child", &owner))
            .await
            .unwrap();
        maps.create(&PostParams::default(), &owned("grandchild", &child))
            .await
            .unwrap();
        let params = DeleteParams {
            propagation_policy: Some(policy.clone()),
            ..DeleteParams::default()
        };
        maps.delete("owner", &params).await.unwrap();
        assert_eq!(
            (there("owner"), there("child"), there("grandchild")),
            (false, stays, stays),
            "{policy:?}"
        );
    }
    maps.delete("child", &DeleteParams::default())
        .await
        .unwrap();
    assert!(!there("grandchild"));
}

#[tokio::test]
async fn preconditions_keep_another_object_of_the_same_name() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    let made = maps
        .create(&PostParams::default(), &map("a"))
        .await
        .unwrap();
    let only = |uid: Option<String>, version: Option<String>| {
        let preconditions = Some(Preconditions {
            uid,
            resource_version: version,
        });
        DeleteParams {
            preconditions,
            ..DeleteParams::default()
        }
    };
    for wrong in [
        only(Some("other".into()), None),
        only(None, Some("1".into())),
    ] {
        assert_eq!(code(maps.delete("a", &wrong).await.unwrap_err()).0, 409);
    }
    maps.delete(
        "a",
        &only(made.metadata.uid, made.metadata.resource_version),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_pod_on_a_node_stops_when_the_kubelet_says_so() {
    let mut options = ApiOptions::new("one", Arc::new(|| jiff::Timestamp::UNIX_EPOCH));
    options.kubelet = true;
    let api = Api::new(options).unwrap();
    let pods: kube::Api<Pod> = spaced(&api.client(), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &of(pod)).await.unwrap();
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    let stopping = pods.get("p").await.unwrap().metadata;
    assert!(stopping.deletion_timestamp.is_some());
    assert_eq!(stopping.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(code(pods.get("p").await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn lists_come_in_pages_and_names_are_generated() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "kube-public");
    for _ in 0..5 {
        let made = maps
            .create(
                &PostParams::default(),
                &of(json!({"metadata": {"generateName": "n-"}})),
            )
            .await
            .unwrap();
        assert_eq!(made.metadata.name.unwrap().len(), 7);
    }
    let (mut seen, mut token) = (std::collections::BTreeSet::new(), None);
    loop {
        let mut params = ListParams::default().limit(4);
        params.continue_token = token;
        let page = maps.list(&params).await.unwrap();
        assert!(page.items.len() <= 4);
        seen.extend(page.items.into_iter().filter_map(|m| m.metadata.name));
        token = page.metadata.continue_.filter(|t| !t.is_empty());
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 6, "five, and the root certificate");
    let others = ListParams::default().fields("metadata.name!=kube-root-ca.crt");
    maps.delete_collection(&DeleteParams::default(), &others)
        .await
        .unwrap();
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
}

#[tokio::test]
async fn the_admission_hook_changes_and_refuses_pods() {
    let api = api();
    api.on_create_pod(Arc::new(|pod, namespace| {
        assert_eq!(namespace["metadata"]["name"], "default");
        if pod["metadata"]["name"] == "bad" {
            return Err("failed calling webhook \"namespace.sidecar-injector.istio.io\": connection refused".into());
        }
        pod["metadata"]["annotations"]["seen"] = "yes".into();
        Ok(())
    }));
    let pods: kube::Api<Pod> = spaced(&api.client(), "default");
    let pod = |name: &str| {
        of::<Pod>(
            json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        )
    };
    let made = pods
        .create(&PostParams::default(), &pod("good"))
        .await
        .unwrap();
    assert_eq!(made.metadata.annotations.unwrap()["seen"], "yes");
    let refused = code(
        pods.create(&PostParams::default(), &pod("bad"))
            .await
            .unwrap_err(),
    );
    assert_eq!(refused.0, 500);
    assert!(
        refused
            .1
            .starts_with("Internal error occurred: failed calling webhook"),
        "{}",
        refused.1
    );
}
