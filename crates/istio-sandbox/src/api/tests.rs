//! The server as a client sees it.

mod access;
mod failing;
mod forwarding;
mod kubectl;
mod lifecycle;
mod real;
mod watching;

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount},
};
use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::Kubeconfig,
};
use serde_json::{Value, json};

use super::*;

fn api() -> Api {
    let clock: Clock = Arc::new(|| "2026-01-01T00:00:00Z".parse().unwrap());
    Api::new(ApiOptions::new("one", clock)).unwrap()
}

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn code(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.message),
        other => panic!("{other:?}"),
    }
}

fn spaced<T>(client: &Client, namespace: &str) -> kube::Api<T>
where
    T: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    T::DynamicType: Default,
{
    kube::Api::namespaced(client.clone(), namespace)
}

async fn over_tls(api: &Api, served: &Served) -> Client {
    let config = Kubeconfig::from_yaml(&api.kubeconfig(&served.url, "one", "admin")).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    Client::try_from(
        kube::Config::from_custom_kubeconfig(config, &options)
            .await
            .unwrap(),
    )
    .unwrap()
}

#[tokio::test]
async fn objects_live_from_create_to_delete() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    let made = maps
        .create(
            &PostParams::default(),
            &of(json!({"metadata": {"name": "a"}, "data": {"x": "1"}})),
        )
        .await
        .unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let again = maps
        .create(&PostParams::default(), &made_without_version(&made))
        .await
        .unwrap_err();
    assert_eq!(code(again), (409, "configmaps \"a\" already exists".into()));

    let mut changed = made.clone();
    changed.data = Some([("x".to_owned(), "2".to_owned())].into());
    let new = maps
        .replace("a", &PostParams::default(), &changed)
        .await
        .unwrap();
    assert_ne!(
        new.metadata.resource_version,
        made.metadata.resource_version
    );
    let (conflict, message) = code(
        maps.replace("a", &PostParams::default(), &changed)
            .await
            .unwrap_err(),
    );
    assert_eq!(conflict, 409);
    assert!(message.starts_with(
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified"
    ));

    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(
        code(maps.get("a").await.unwrap_err()),
        (404, "configmaps \"a\" not found".into())
    );
}

fn made_without_version(map: &ConfigMap) -> ConfigMap {
    let mut map = map.clone();
    map.metadata.resource_version = None;
    map
}

#[tokio::test]
async fn a_cluster_is_born_with_what_every_cluster_has() {
    let api = api();
    let client = api.client();
    let spaces: kube::Api<Namespace> = kube::Api::all(client.clone());
    assert!(
        spaces
            .get("kube-system")
            .await
            .unwrap()
            .metadata
            .uid
            .is_some()
    );
    spaces
        .create(
            &PostParams::default(),
            &of(json!({"metadata": {"name": "new"}})),
        )
        .await
        .unwrap();
    let account: kube::Api<ServiceAccount> = spaced(&client, "new");
    account.get("default").await.unwrap();
    let maps: kube::Api<ConfigMap> = spaced(&client, "new");
    assert_eq!(
        maps.get("kube-root-ca.crt").await.unwrap().data.unwrap()["ca.crt"],
        api.ca_pem()
    );
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(
        (version.git_version.as_str(), version.minor.as_str()),
        ("v1.36.3", "36")
    );
}

#[tokio::test]
async fn a_namespace_takes_its_contents_with_it() {
    let api = api();
    let client = api.client();
    let spaces: kube::Api<Namespace> = kube::Api::all(client.clone());
    spaces
        .create(
            &PostParams::default(),
            &of(json!({"metadata": {"name": "new"}})),
        )
        .await
        .unwrap();
    let maps: kube::Api<ConfigMap> = spaced(&client, "new");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.org/hold"]}});
    maps.create(&PostParams::default(), &of(held))
        .await
        .unwrap();
    spaces
        .delete("new", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(
        spaces
            .get("new")
            .await
            .unwrap()
            .status
            .unwrap()
            .phase
            .unwrap(),
        "Terminating"
    );
    let late = maps
        .create(
            &PostParams::default(),
            &of(json!({"metadata": {"name": "late"}})),
        )
        .await
        .unwrap_err();
    assert!(code(late).1.contains("because it is being terminated"));
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );

    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(free))
        .await
        .unwrap();
    assert_eq!(code(spaces.get("new").await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let api = api();
    let services: kube::Api<Service> = spaced(&api.client(), "default");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gw", "labels": {"a": "b"}},
        "spec": {"type": "LoadBalancer", "selector": {"app": "gw"}, "ports": [{"name": "tls", "port": 15443}]}});
    let apply = PatchParams::apply("meshlink");
    let first = services
        .patch("gw", &apply, &Patch::Apply(&service))
        .await
        .unwrap();
    let spec = first.spec.clone().unwrap();
    assert!(spec.cluster_ip.unwrap().starts_with("10.96."));
    assert!(spec.ports.unwrap()[0].node_port.unwrap() >= 30_000);
    let second = services
        .patch("gw", &apply, &Patch::Apply(&service))
        .await
        .unwrap();
    assert_eq!(first, second);

    let other = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gw", "labels": {"a": "c"}}});
    let (conflict, message) = code(
        services
            .patch("gw", &PatchParams::apply("other"), &Patch::Apply(&other))
            .await
            .unwrap_err(),
    );
    assert_eq!(conflict, 409);
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"meshlink\": .metadata.labels.a"
    );
    let forced = PatchParams::apply("other").force();
    let won = services
        .patch("gw", &forced, &Patch::Apply(&other))
        .await
        .unwrap();
    assert_eq!(won.metadata.labels.unwrap()["a"], "c");
}

#[tokio::test]
async fn a_crd_is_served_a_moment_after_it_is_made() {
    let api = api();
    let client = api.client();
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gateways.example.org"}, "spec": {"group": "example.org", "scope": "Namespaced",
            "names": {"plural": "gateways", "kind": "Gateway"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let crds: kube::Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        kube::Api::all(client.clone());
    crds.create(&PostParams::default(), &of(crd)).await.unwrap();
    let kind = kube::core::GroupVersionKind::gvk("example.org", "v1", "Gateway");
    let resource = kube::core::ApiResource::from_gvk(&kind);
    let gateways: kube::Api<kube::core::DynamicObject> =
        kube::Api::namespaced_with(client, "default", &resource);
    assert_eq!(
        code(gateways.list(&ListParams::default()).await.unwrap_err()).0,
        404
    );
    let served = kube::runtime::conditions::is_crd_established();
    kube::runtime::wait::await_condition(crds, "gateways.example.org", served)
        .await
        .unwrap();
    let gateway = json!({"apiVersion": "example.org/v1", "kind": "Gateway", "metadata": {"name": "g"}, "spec": {"servers": [1]}});
    let made = gateways
        .create(&PostParams::default(), &of(gateway))
        .await
        .unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(
        gateways.list(&ListParams::default()).await.unwrap().items[0]
            .types
            .as_ref()
            .unwrap()
            .kind,
        "Gateway"
    );
}

#[tokio::test]
async fn what_cannot_change_does_not() {
    let api = api();
    let client = api.client();
    let secrets: kube::Api<Secret> = spaced(&client, "default");
    secrets
        .create(
            &PostParams::default(),
            &of(json!({"metadata": {"name": "s"}, "type": "one", "stringData": {"k": "v"}})),
        )
        .await
        .unwrap();
    assert_eq!(secrets.get("s").await.unwrap().data.unwrap()["k"].0, b"v");
    let patch = Patch::Merge(json!({"type": "two"}));
    let (refused, message) = code(
        secrets
            .patch("s", &PatchParams::default(), &patch)
            .await
            .unwrap_err(),
    );
    assert_eq!(refused, 422);
    assert_eq!(
        message,
        "Secret \"s\" is invalid: type: Invalid value: \"two\": field is immutable"
    );
    let large =
        json!({"metadata": {"name": "large"}, "stringData": {"k": "x".repeat((1 << 20) + 1)}});
    let large = secrets.create(&PostParams::default(), &of(large)).await;
    assert_eq!(
        code(large.unwrap_err()),
        (
            422,
            "Secret \"large\" is invalid: data: Too long: may not be more than 1048576 bytes"
                .into()
        )
    );
    let wrong = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": []}}}});
    let deployments: kube::Api<Deployment> = spaced(&client, "default");
    let (refused, message) = code(
        deployments
            .create(&PostParams::default(), &of(wrong))
            .await
            .unwrap_err(),
    );
    assert_eq!(refused, 422);
    assert!(
        message.contains("`selector` does not match template `labels`"),
        "{message}"
    );
}
