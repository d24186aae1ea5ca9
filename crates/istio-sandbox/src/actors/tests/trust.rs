//! Certificates: who trusts whom, and what a change of roots does.

use serde_json::json;

use super::kit::{Install, Lab, Root};
use crate::{
    Timeline,
    actors::{Read, process::Health},
};

const FAILED: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";

#[tokio::test(flavor = "multi_thread")]
async fn different_roots_look_healthy_and_carry_nothing() {
    let lab = Lab::new(2).await;
    lab.install("eks-1", Install::new("eks-1", "net-1", &Root::new("one")))
        .await;
    lab.install("eks-2", Install::new("eks-2", "net-2", &Root::new("two")))
        .await;
    lab.link_both().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    assert_eq!(lab.ask("eks-1", "eks-2").await, (503, FAILED.into()));
    assert_eq!(lab.ask("eks-1", "eks-1").await, (200, "eks-1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn cacerts_made_after_istiod_are_not_loaded_until_it_restarts() {
    let lab = Lab::new(1).await;
    let root = Root::new("root");
    lab.install(
        "eks-1",
        Install {
            cacerts: None,
            ..Install::new("eks-1", "net-1", &root)
        },
    )
    .await;
    let objects = &lab.cluster("eks-1").objects;
    assert!(
        objects
            .get("secrets", "istio-system", "istio-ca-secret")
            .is_some()
    );
    lab.apply("eks-1", &root.cacerts(&root.pem)).await;
    let bundle = || {
        objects
            .get("configmaps", "default", "istio-ca-root-cert")
            .unwrap()
            .text("/data/root-cert.pem")
            .to_owned()
    };
    lab.probe("eks-1", &["eks-1"]).await;
    assert_ne!(bundle(), root.pem);
    let pod = lab.pod("eks-1", "istiod").unwrap();
    objects.delete("pods", &pod).await.unwrap();
    lab.until("the new istiod has loaded it", || bundle() == root.pem)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_cacerts_keeps_istiod_from_starting() {
    let lab = Lab::new(1).await;
    let root = Root::new("root");
    lab.namespace("eks-1", "istio-system", json!({})).await;
    let mut half = root.cacerts(&root.pem);
    half["data"]
        .as_object_mut()
        .unwrap()
        .remove("root-cert.pem");
    lab.apply("eks-1", &half).await;
    lab.chart("eks-1", "istiod", "istiod", "istio-system", json!({}))
        .await;
    let waiting = || {
        lab.pod("eks-1", "istiod").and_then(|p| {
            p.pointer("/status/containerStatuses/0/state/waiting")
                .cloned()
        })
    };
    lab.until("it crashes", || {
        waiting().is_some_and(|w| w["reason"] == "CrashLoopBackOff")
    })
    .await;
    assert!(
        waiting()
            .unwrap()
            .text("/message")
            .contains("incomplete signing CA bundle")
    );
    lab.apply("eks-1", &root.cacerts(&root.pem)).await;
    lab.until("it starts", || {
        lab.istiod("eks-1").is_some_and(|i| i.ready())
    })
    .await;
    let (cluster, pod) = (lab.cluster("eks-1"), lab.pod("eks-1", "istiod").unwrap());
    assert!(matches!(
        cluster.processes.health(cluster, &pod, "x"),
        Health::Ready
    ));
}

/// The bundle in use, and the issuer of the probe's certificate.
async fn held(lab: &Lab) -> (usize, String) {
    let certs = lab
        .get_json("eks-1", "meshlink-probe", 15000, "/certs")
        .await;
    let entry = &certs["certificates"][0];
    (
        entry.items("/ca_cert").len(),
        entry["cert_chain"][1].text("/serial_number").to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_changed_bundle_makes_new_certificates() {
    let lab = Lab::new(1).await;
    let (old, new, spare) = (Root::new("old"), Root::new("new"), Root::new("spare"));
    lab.install("eks-1", Install::new("eks-1", "net-1", &old))
        .await;
    lab.probe("eks-1", &["eks-1"]).await;
    let (roots, issuer) = held(&lab).await;
    assert_eq!(roots, 1);

    // A straight change of root is refused; what is there stays.
    lab.apply("eks-1", &new.cacerts(&new.pem)).await;
    lab.until("it is refused", || {
        lab.log("eks-1")
            .contains("Updating new ROOT-CA not supported")
    })
    .await;
    assert_eq!(held(&lab).await, (1, issuer));

    // Trusting both is taken.
    let both = format!("{}{}", old.pem, new.pem);
    lab.apply("eks-1", &old.cacerts(&both)).await;
    let roots_are = |n: usize| move |held: &(usize, String)| held.0 == n;
    let first = until_held(&lab, roots_are(2)).await;

    // Another issuer under the same bundle changes no certificate.
    lab.apply("eks-1", &new.cacerts(&both)).await;
    let updates = || lab.log("eks-1").matches("Update Istiod cacerts").count();
    lab.until("it is loaded", || updates() >= 1).await;
    assert_eq!(held(&lab).await, first);

    // With a third root in the bundle it does.
    lab.apply("eks-1", &new.cacerts(&format!("{both}{}", spare.pem)))
        .await;
    let second = until_held(&lab, roots_are(3)).await;
    assert_ne!(second.1, first.1);
    lab.apply("eks-1", &new.cacerts(&new.pem)).await;
    until_held(&lab, roots_are(1)).await;
}

async fn until_held(lab: &Lab, is: impl Fn(&(usize, String)) -> bool) -> (usize, String) {
    for _ in 0..400 {
        let found = held(lab).await;
        if is(&found) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the bundle never changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cacerts_waits_for_the_kubelet_or_for_a_nudge() {
    let timeline = Timeline {
        projection: std::time::Duration::from_secs(3600),
        ..Timeline::instant()
    };
    let lab = Lab::timed(1, timeline).await;
    let (old, new) = (Root::new("old"), Root::new("new"));
    let how = Install {
        expose: false,
        ..Install::new("eks-1", "net-1", &old)
    };
    lab.install("eks-1", how).await;
    let both = format!("{}{}", old.pem, new.pem);
    let objects = &lab.cluster("eks-1").objects;
    let bundle = || {
        objects
            .get("configmaps", "default", "istio-ca-root-cert")
            .map(|m| m.text("/data/root-cert.pem").to_owned())
    };
    lab.until("the first bundle is out", || {
        bundle().as_deref() == Some(&old.pem)
    })
    .await;
    lab.apply("eks-1", &old.cacerts(&both)).await;
    // Another turn of the actors, which must not have loaded it.
    lab.namespace("eks-1", "another", json!({})).await;
    let there = || objects.get("configmaps", "another", "istio-ca-root-cert");
    lab.until("the new namespace has the bundle", || there().is_some())
        .await;
    assert_eq!(there().unwrap().text("/data/root-cert.pem"), old.pem);
    let pod = lab.pod("eks-1", "istiod").unwrap();
    objects
        .patch(
            "pods",
            &pod,
            &json!({"metadata": {"annotations": {"meshlink.dev/nudge": "1"}}}),
        )
        .await
        .unwrap();
    lab.until("the nudge makes it load", || {
        bundle().as_deref() == Some(&both)
    })
    .await;
}

/// What a proxy holds ends a day after it was given, and its agent asks again before.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_renew_their_certificates_by_the_clock() {
    let lab = Lab::joined().await;
    lab.until_endpoints("eks-1", "eks-2", &lab.gateway("eks-2"))
        .await;
    assert_eq!(lab.ask("eks-1", "eks-2").await.0, 200);
    let leaf = || {
        let proxies = lab.cluster("eks-1").processes.proxies();
        proxies.iter().filter_map(|p| p.leaf()).collect::<Vec<_>>()
    };
    let before = leaf();
    lab.advance(11);
    assert_eq!(leaf(), before, "half of a day is not over");
    lab.advance(2);
    lab.until("all have others", || {
        let now = leaf();
        now.len() == before.len() && now.iter().all(|leaf| !before.contains(leaf))
    })
    .await;
}
