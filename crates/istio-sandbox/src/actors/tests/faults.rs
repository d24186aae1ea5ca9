//! The signatures of faults that only the proxies show.

use serde_json::json;

use super::kit::{Install, Lab, Root};
use crate::{Fault, actors::Read};

const FAILED: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";

#[tokio::test(flavor = "multi_thread")]
async fn equal_networks_push_pod_addresses_and_traffic_goes_nowhere() {
    let lab = Lab::new(2).await;
    let root = Root::new("root");
    for id in ["eks-1", "eks-2"] {
        lab.install(id, Install::new(id, "one-net", &root)).await;
    }
    lab.link_both().await;
    let pod = lab.pod("eks-2", "meshlink-probe").unwrap();
    let address = format!("{}:8080", pod.text("/status/podIP"));
    lab.until_endpoints("eks-1", "eks-2", &[address]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_istiod_cannot_resolve_pushes_pod_addresses() {
    let lab = Lab::new(2).await;
    lab.sandbox
        .faults()
        .set("eks-2", Fault::BalancerNameMissing);
    let root = Root::new("root");
    for (id, network) in [("eks-1", "net-1"), ("eks-2", "net-2")] {
        lab.install(id, Install::new(id, network, &root)).await;
    }
    lab.link_both().await;
    let pod = lab.pod("eks-2", "meshlink-probe").unwrap();
    lab.until_endpoints(
        "eks-1",
        "eks-2",
        &[format!("{}:8080", pod.text("/status/podIP"))],
    )
    .await;
    lab.sandbox
        .faults()
        .clear("eks-2", Fault::BalancerNameMissing);
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    assert_eq!(lab.ask("eks-1", "eks-2").await, (200, "eks-2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_object_only_the_way_there_fails() {
    let lab = Lab::new(2).await;
    let root = Root::new("root");
    lab.install("eks-1", Install::new("eks-1", "net-1", &root))
        .await;
    lab.install(
        "eks-2",
        Install {
            expose: false,
            ..Install::new("eks-2", "net-2", &root)
        },
    )
    .await;
    lab.link_both().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    lab.until_endpoints("eks-2", "eks-1", &lab.gateway("eks-1"))
        .await;
    assert_eq!(lab.ask("eks-1", "eks-2").await, (503, FAILED.into()));
    assert_eq!(lab.ask("eks-2", "eks-1").await, (200, "eks-1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_sidecar_is_no_endpoint_for_another_network() {
    let lab = Lab::joined().await;
    let pod = lab.pod("eks-2", "meshlink-probe").unwrap();
    let patch = json!({"metadata": {"labels": {"security.istio.io/tlsMode": "disabled"}}});
    lab.cluster("eks-2")
        .objects
        .patch("pods", &pod, &patch)
        .await
        .unwrap();
    lab.until_endpoints("eks-1", "eks-2", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_from_inside_tells_names_and_ports_apart() {
    let lab = Lab::joined().await;
    let dial = async |at: &str| lab.get("eks-1", "meshlink-probe", 18080, at).await.1;
    let all = lab.sandbox.balancers().list();
    let host = &all
        .iter()
        .find(|lb| lb.cluster == "eks-2")
        .unwrap()
        .dns_name;
    assert!(
        dial(&format!("http://{host}:15443/"))
            .await
            .contains("connection termination")
    );
    assert!(
        dial("http://nothing.example:15443/")
            .await
            .contains("DNS resolution failure")
    );
    assert!(
        dial("http://203.0.113.9:15443/")
            .await
            .contains("connection timeout")
    );
    let server = lab.server("eks-2").replace("https", "http");
    assert!(
        dial(&format!("{server}/"))
            .await
            .contains("connection termination")
    );
    // What the sidecar captures always seems to be there.
    assert!(
        dial("http://203.0.113.9:15999/")
            .await
            .contains("connection termination")
    );
    let gateway = lab
        .cluster("eks-2")
        .objects
        .list("gateways.networking.istio.io", None)
        .pop();
    lab.cluster("eks-2")
        .objects
        .delete("gateways.networking.istio.io", &gateway.unwrap())
        .await
        .unwrap();
    let closed = || {
        lab.sandbox
            .balancers()
            .list()
            .iter()
            .any(|lb| lb.cluster == "eks-2" && !lb.reaches(15443))
    };
    lab.until("the gateway is closed", closed).await;
    assert!(
        dial(&format!("http://{host}:15443/"))
            .await
            .contains("Connection refused")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_never_ready_has_no_healthy_target() {
    let lab = Lab::new(1).await;
    lab.sandbox.faults().set("eks-1", Fault::GatewayNeverReady);
    let root = Root::new("root");
    lab.install(
        "eks-1",
        Install {
            expose: false,
            ..Install::new("eks-1", "net-1", &root)
        },
    )
    .await;
    let running = || {
        lab.pod("eks-1", "istio-eastwestgateway")
            .is_some_and(|p| p.text("/status/phase") == "Running")
    };
    lab.until("it runs", running).await;
    lab.until("there is a load balancer", || {
        !lab.sandbox.balancers().list().is_empty()
    })
    .await;
    let lb = lab.sandbox.balancers().list().pop().unwrap();
    assert!(lb.listeners.iter().all(|l| l.targets.is_empty()));
    lab.sandbox
        .faults()
        .clear("eks-1", Fault::GatewayNeverReady);
    lab.expose("eks-1").await;
}
