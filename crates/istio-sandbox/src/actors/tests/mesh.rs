//! A mesh that works, and the order in which it comes about.

use serde_json::json;

use super::kit::{Install, Lab, Root, ready};
use crate::{Timeline, actors::Read, world::State};

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_start_together_get_addresses_of_their_own() {
    let lab = Lab::new(1).await;
    let labels = json!({"app": "many"});
    let template = json!({"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "many:1"}]}});
    let many = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "many", "namespace": "default"},
        "spec": {"replicas": 20, "selector": {"matchLabels": labels}, "template": template}});
    lab.apply("eks-1", &many).await;
    let addresses = || {
        let pods = lab.cluster("eks-1").objects.list("pods", Some("default"));
        let mut all: Vec<String> = pods
            .iter()
            .map(|p| p.text("/status/podIP").into())
            .collect();
        all.retain(|address| !address.is_empty());
        all
    };
    lab.until("all have an address", || addresses().len() == 20)
        .await;
    let mut own = addresses();
    own.sort();
    own.dedup();
    assert_eq!(own.len(), 20, "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_answer_each_other_through_their_gateways() {
    let lab = Lab::joined().await;
    for (from, to) in [("eks-1", "eks-2"), ("eks-2", "eks-1")] {
        lab.until_endpoints(from, to, &lab.gateway(to)).await;
        assert_eq!(lab.ask(from, to).await, (200, to.to_owned()));
        assert_eq!(lab.ask(from, from).await, (200, from.to_owned()));
    }
    let clusterz = lab
        .get_json("eks-1", "istiod", 15014, "/debug/clusterz")
        .await;
    assert_eq!(
        clusterz,
        json!([{"id": "eks-1", "syncStatus": "synced"},
        {"id": "eks-2", "secretName": "istio-system/istio-remote-secret-eks-2", "syncStatus": "synced"}])
    );
    let networkz = lab
        .get_json("eks-1", "istiod", 8080, "/debug/networkz")
        .await;
    let far: Vec<_> = networkz
        .as_array()
        .unwrap()
        .iter()
        .filter(|g| g["Cluster"] == "eks-2")
        .collect();
    assert_eq!(far.len(), 2);
    assert_eq!(
        far[0],
        &json!({"Network": "net-2", "Cluster": "eks-2", "Addr": "198.18.1.10", "Port": 15443,
        "HBONEPort": 0, "ServiceAccount": {"Namespace": "", "Name": ""}})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_webhook_a_gateway_pod_never_starts() {
    let lab = Lab::new(1).await;
    lab.namespace("eks-1", "istio-ingress", json!({})).await;
    lab.chart("eks-1", "gateway", "gw", "istio-ingress", json!({}))
        .await;
    let stuck = || {
        lab.pod("eks-1", "gw").is_some_and(|p| {
            p.pointer("/status/containerStatuses/0/state/waiting/reason")
                == Some(&json!("ErrImagePull"))
        })
    };
    lab.until("the image cannot be pulled", stuck).await;
    assert!(!ready(&lab.pod("eks-1", "gw").unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_without_an_istiod_refuses_pods_until_there_is_one() {
    let lab = Lab::new(1).await;
    lab.sandbox
        .faults()
        .set("eks-1", crate::Fault::WebhookRefuses);
    let root = Root::new("root");
    let how = Install {
        expose: false,
        ..Install::new("eks-1", "net-1", &root)
    };
    lab.install("eks-1", how).await;
    let message = || {
        let gateway = lab.cluster("eks-1").objects.get(
            "deployments.apps",
            "istio-ingress",
            "istio-eastwestgateway",
        )?;
        let failed = gateway
            .items("/status/conditions")
            .iter()
            .find(|c| c["type"] == "ReplicaFailure")?
            .clone();
        Some(failed.text("/message").to_owned())
    };
    let told = "failed calling webhook \"object.sidecar-injector.istio.io\"";
    lab.until("the refusal is told", || {
        message().is_some_and(|m| m.contains(told))
    })
    .await;
    lab.sandbox
        .faults()
        .clear("eks-1", crate::Fault::WebhookRefuses);
    lab.until("the gateway starts", || {
        lab.pod("eks-1", "istio-eastwestgateway")
            .is_some_and(|p| ready(&p))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn port_15443_is_closed_until_a_gateway_object_opens_it() {
    let lab = Lab::new(1).await;
    let root = Root::new("root");
    lab.install(
        "eks-1",
        Install {
            expose: false,
            ..Install::new("eks-1", "net-1", &root)
        },
    )
    .await;
    let balancer = || lab.sandbox.balancers().list().pop();
    lab.until("the status port is healthy", || {
        balancer().is_some_and(|lb| lb.reaches(15021))
    })
    .await;
    let balancer = balancer().unwrap();
    assert!(!balancer.reaches(15443));
    let words = balancer.listeners[1].targets[0].health.words();
    assert_eq!(words, ("unhealthy", Some("Target.FailedHealthChecks")));
    lab.expose("eks-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replaces_the_pods_and_the_mesh_stays() {
    let lab = Lab::joined().await;
    let before = lab.pod("eks-1", "istiod").unwrap().name().to_owned();
    let deployment = lab
        .cluster("eks-1")
        .objects
        .get("deployments.apps", "istio-system", "istiod")
        .unwrap();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    lab.cluster("eks-1")
        .objects
        .patch("deployments.apps", &deployment, &patch)
        .await
        .unwrap();
    let replaced = || {
        let pods = lab
            .cluster("eks-1")
            .objects
            .list("pods", Some("istio-system"));
        pods.len() == 1 && pods[0].name() != before && ready(&pods[0])
    };
    lab.until("another pod has taken over", replaced).await;
    lab.until("and knows the remote cluster", || {
        lab.status("eks-1", "eks-2").as_deref() == Some("synced")
    })
    .await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_service_frees_its_load_balancer_first() {
    let lab = Lab::joined().await;
    let service = lab
        .cluster("eks-2")
        .objects
        .get("services", "istio-ingress", "istio-eastwestgateway")
        .unwrap();
    assert_eq!(
        service.items("/metadata/finalizers"),
        [json!("service.eks.amazonaws.com/resources")]
    );
    lab.cluster("eks-2")
        .objects
        .delete("services", &service)
        .await
        .unwrap();
    let gone = || {
        lab.cluster("eks-2")
            .objects
            .get("services", "istio-ingress", "istio-eastwestgateway")
            .is_none()
    };
    lab.until("the Service is gone", gone).await;
    assert!(
        lab.sandbox
            .balancers()
            .list()
            .iter()
            .all(|lb| lb.cluster != "eks-2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_delays_the_same_mesh_comes_about_in_the_same_order() {
    let lab = Lab::timed(1, Timeline::realistic().scaled(0.005)).await;
    let root = Root::new("root");
    let how = Install {
        expose: false,
        ..Install::new("eks-1", "net-1", &root)
    };
    lab.install("eks-1", how).await;
    lab.until("the load balancer is made", || {
        !lab.sandbox.balancers().list().is_empty()
    })
    .await;
    let made = lab.sandbox.balancers().list().remove(0);
    assert_eq!((made.state, made.resolves), (State::Provisioning, false));
    lab.until("its name resolves", || {
        lab.sandbox.balancers().resolve(&made.dns_name).is_some()
    })
    .await;
    let then = lab.sandbox.balancers().list().remove(0);
    assert_eq!(then.state, State::Provisioning);
    assert!(!then.reaches(15021));
    lab.expose("eks-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn istiod_has_a_log_and_other_pods_a_quiet_one() {
    let lab = Lab::new(1).await;
    let root = Root::new("root");
    let how = Install {
        expose: false,
        ..Install::new("eks-1", "net-1", &root)
    };
    lab.install("eks-1", how).await;
    let mut secret = lab.remote_secret_with("eks-1", "https://127.0.0.1:1", "x", "x");
    secret["data"]["broken"] = "AAAA".into();
    lab.apply("eks-1", &secret).await;
    lab.until("it is told", || lab.log("eks-1").contains("broken"))
        .await;
    let client = lab.sandbox.api("eks-1").unwrap().client();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(client, "istio-system");
    let pod = lab.pod("eks-1", "istiod").unwrap();
    let text = pods
        .logs(pod.name(), &kube::api::LogParams::default())
        .await
        .unwrap();
    assert!(
        text.contains("ignoring cluster as it would overwrite the config cluster"),
        "{text}"
    );
}
