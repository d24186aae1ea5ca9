//! The whole room against the embedded API server: what one part writes, another reads.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{access::Refused, *};
use crate::{
    sandbox::api::{Api, ApiOptions, Fault, PortForward, Served, Strike},
    wait::{Deadline, Progress},
};

fn now() -> jiff::Timestamp {
    istio_sandbox::now()
}

fn embedded(name: &str) -> (Api, Cluster) {
    let api = Api::new(ApiOptions::new(name, Arc::new(now))).unwrap();
    let ca = Some(api.ca_pem().into_bytes());
    let cluster =
        connect::from_client(&name.parse().unwrap(), api.client(), "https://embedded", ca);
    (api, cluster)
}

fn config_map(data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"k": data}})
}

fn a() -> Ref {
    Ref::namespaced(&Kind::CONFIG_MAP, "default", "a")
}

async fn istio_system(cluster: &Cluster) {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}});
    cluster
        .apply(&namespace, Manager::Meshlink, false)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_object_lives_and_dies() {
    let (api, cluster) = embedded("eks-1");
    assert_eq!(cluster.find(&a()).await.unwrap(), None);
    let applied = cluster
        .apply(&config_map("1"), Manager::Meshlink, false)
        .await
        .unwrap();
    assert!(applied.created);
    assert_eq!(subset::drift(&config_map("1"), &applied.object), []);
    assert_eq!(subset::drift(&config_map("2"), &applied.object).len(), 1);
    let again = cluster
        .apply(&config_map("1"), Manager::Meshlink, false)
        .await
        .unwrap();
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    assert!(!again.created);
    assert_eq!(version(&again.object), version(&applied.object));
    let theirs = cluster
        .apply(&config_map("2"), Manager::Helm, false)
        .await
        .unwrap_err();
    assert_eq!(
        (theirs.failure().unwrap().code(), theirs.recover()),
        (Some(409), Recover::Never)
    );
    let taken = cluster.apply(&config_map("2"), Manager::Helm, true).await;
    assert_ne!(version(&taken.unwrap().object), version(&applied.object));

    let mut stale = cluster.find(&a()).await.unwrap().unwrap();
    let patch = json!({"data": {"k": null, "l": "3"}});
    cluster.merge(&a(), &patch).await.unwrap();
    stale["data"]["k"] = json!("4");
    assert_eq!(
        cluster.replace(&stale).await.unwrap_err().recover(),
        Recover::Backoff
    );
    let live = cluster.find(&a()).await.unwrap().unwrap();
    assert_eq!(live["data"], json!({"l": "3"}));

    let mut other = live.clone();
    other["metadata"]["uid"] = json!("another");
    assert_eq!(
        cluster
            .delete(&a(), &Delete::background().only(&other))
            .await
            .unwrap(),
        Deleted::NotFound
    );
    assert_eq!(
        cluster
            .delete(&a(), &Delete::background().only(&live))
            .await
            .unwrap(),
        Deleted::Gone
    );
    assert_eq!(
        cluster.delete(&a(), &Delete::background()).await.unwrap(),
        Deleted::NotFound
    );
    assert_eq!(cluster.requests().writes, api.counters().writes());
    assert_eq!(cluster.requests().reads, api.counters().reads());
}

#[tokio::test]
async fn a_lost_answer_is_made_good_by_asking_again() {
    let (api, cluster) = embedded("eks-1");
    let path = "/api/v1/namespaces/default/configmaps";
    api.faults()
        .add(Strike::next(path, Fault::ResetAfter).verb("create"));
    let error = cluster.create(&config_map("1")).await.unwrap_err();
    assert_eq!(error.recover(), Recover::Backoff, "{error:?}");
    assert!(matches!(
        cluster.create(&config_map("1")).await.unwrap(),
        Created::Exists(_)
    ));
    for fault in [
        Fault::Reset,
        Fault::Status(503, None),
        Fault::Status(429, Some(0)),
        Fault::Truncate(20),
    ] {
        api.faults()
            .add(Strike::next(path, fault.clone()).verb("get"));
        assert!(
            cluster.find(&a()).await.is_ok_and(|found| found.is_some()),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_takes_one_limit_however_often_it_is_read() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let answers_once = tower::service_fn(move |_: http::Request<kube::client::Body>| {
        let is_first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        async move {
            if !is_first {
                std::future::pending::<()>().await;
            }
            let text = config_map("1").to_string().into_bytes();
            Ok::<_, tower::BoxError>(http::Response::new(kube::client::Body::from(text)))
        }
    });
    let client = kube::Client::new(answers_once, "default");
    let cluster = connect::from_client(&"eks-1".parse().unwrap(), client, "https://silent", None);
    assert!(cluster.find(&a()).await.unwrap().is_some());
    let begun = tokio::time::Instant::now();
    let failure = cluster.find(&a()).await.unwrap_err();
    let (took, limit) = (begun.elapsed(), ConnectOptions::default().timeout);
    assert!(took <= limit, "{failure}: {took:?}");
}

#[tokio::test]
async fn lists_are_whole_even_in_pages() {
    let (_api, cluster) = embedded("eks-1");
    for n in 0..501 {
        let mut one = config_map("x");
        one["metadata"]["name"] = json!(format!("c{n}"));
        one["metadata"]["labels"] = json!({"odd": (n % 2).to_string()});
        cluster.create(&one).await.unwrap();
    }
    let all = cluster
        .list(&Kind::CONFIG_MAP, Some("default"), None)
        .await
        .unwrap();
    assert_eq!(
        all.iter().filter(|one| one["data"]["k"] == "x").count(),
        501
    );
    let odd = cluster
        .names(&Kind::CONFIG_MAP, None, Some("odd=1"))
        .await
        .unwrap();
    assert_eq!(odd.len(), 250);
    assert!(
        cluster
            .list(&Kind::GATEWAY, None, None)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_wait_survives_what_breaks_watches() {
    let (api, cluster) = embedded("eks-1");
    cluster.create(&config_map("1")).await.unwrap();
    let ready = |object: Option<&Value>| match object {
        Some(object) if object["data"]["k"] == "ready" => Progress::Done(()),
        _ => Progress::NotYet("not ready".into()),
    };
    let waiting = {
        let cluster = cluster.clone();
        let deadline = Deadline::after(Duration::from_secs(20));
        tokio::spawn(async move { wait::until(&cluster, &a(), deadline, ready, |_| {}).await })
    };
    let watched = |n| {
        let api = api.clone();
        async move {
            while api.counters().watches() < n {
                tokio::task::yield_now().await;
            }
        }
    };
    watched(1).await;
    api.faults().cut_watches();
    watched(2).await;
    api.compact();
    api.faults().add(
        Strike::next(
            "/api/v1/namespaces/default/configmaps",
            Fault::Status(503, None),
        )
        .verb("list")
        .times(2),
    );
    api.faults().cut_watches();
    watched(3).await;
    let changed = tokio::time::Instant::now();
    cluster
        .merge(&a(), &json!({"data": {"k": "ready"}}))
        .await
        .unwrap();
    waiting.await.unwrap().unwrap();
    assert!(changed.elapsed() < Duration::from_secs(10));
}

/// Roles, an account for `peer` and its token, as a join makes them; and what goes into the remote
/// secret.
async fn reader(cluster: &Cluster, served: &Served, peer: &str) -> access::Link {
    istio_system(cluster).await;
    let peer = peer.parse().unwrap();
    for object in access::objects(&peer, true, access::Tokens::Secret(1)) {
        let applied = cluster
            .apply(&object, Manager::Meshlink, false)
            .await
            .unwrap();
        assert_eq!(subset::drift(&object, &applied.object), []);
    }
    let deadline = Deadline::after(Duration::from_secs(5));
    let r = access::token_secret(&peer, 1);
    wait::until(cluster, &r, deadline, wait::secret_has_token, |_| {})
        .await
        .unwrap();
    let secret = cluster.find(&r).await.unwrap().unwrap();
    access::Link::of(cluster.name(), &served.url, &secret).unwrap()
}

const READS: access::Trial = access::Trial::Reads { secrets: true };

fn quick() -> ConnectOptions {
    ConnectOptions {
        timeout: Duration::from_secs(2),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_remote_secret_is_tried_before_it_is_written() {
    let (api, cluster) = embedded("eks-2");
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let link = reader(&cluster, &served, "eks-1").await;
    let tried = |link: &access::Link| {
        let link = link.clone();
        async move { access::try_kubeconfig(&link, READS, &quick()).await }
    };
    tried(&link).await.unwrap();
    let [facts] = access::parse(&access::remote_secret(&link))
        .try_into()
        .unwrap();
    let token = facts.token.unwrap();
    assert_eq!(
        token.subject.as_deref(),
        Some("system:serviceaccount:istio-system:meshlink-reader-eks-1")
    );
    assert_eq!(token.expires, None, "an account-token Secret never expires");

    let stranger = Api::new(ApiOptions::new("x", Arc::new(now)))
        .unwrap()
        .ca_pem()
        .into_bytes();
    let wrong = access::Link {
        ca: stranger,
        ..link.clone()
    };
    assert!(matches!(tried(&wrong).await, Err(Refused::Tls { .. })));
    let wrong = access::Link {
        token: Token::new("nonsense".into()),
        ..link.clone()
    };
    assert!(matches!(
        tried(&wrong).await,
        Err(Refused::Unauthorized { .. })
    ));
    let wrong = access::Link {
        server: "https://127.0.0.1:1".into(),
        ..link.clone()
    };
    assert!(matches!(tried(&wrong).await, Err(Refused::Dial { .. })));

    let binding = Ref::namespaced(&Kind::ROLE_BINDING, "istio-system", "meshlink-reader-eks-1");
    cluster
        .delete(&binding, &Delete::background())
        .await
        .unwrap();
    let Err(Refused::Forbidden { missing }) = tried(&link).await else {
        panic!("not forbidden")
    };
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        ["get", "list", "watch"].map(|verb| format!("{verb} configmaps/istio in istio-system"))
    );

    for r in access::account_names(&"eks-1".parse().unwrap()) {
        cluster.delete(&r, &Delete::background()).await.unwrap();
    }
    assert!(
        matches!(tried(&link).await, Err(Refused::Unauthorized { .. })),
        "a token of an account that is gone"
    );
}

#[tokio::test]
async fn a_kubeconfig_leads_to_the_cluster_and_only_to_it() {
    let (api, _) = embedded("eks-2");
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let good = api.kubeconfig(&served.url, "eks-2", "admin");
    let ca = good
        .lines()
        .find(|line| line.contains("certificate-authority-data"))
        .unwrap();
    let with = |line: &str| good.replace(ca, &format!("{ca}\n    {line}"));
    let tls = Some(Transport::Tls);
    for (config, want) in [
        (good.clone(), None),
        (with("tls-server-name: kubernetes.default.svc"), None),
        (with("tls-server-name: wrong.example.com"), tls),
        (good.replace(ca, "    insecure-skip-tls-verify: true"), None),
        (good.replace(ca, ""), tls),
        (with("proxy-url: http://127.0.0.1:1"), Some(Transport::Dial)),
        (
            with("proxy-url: socks5://127.0.0.1:1"),
            Some(Transport::Dial),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, &config).unwrap();
        let options = ConnectOptions {
            kubeconfig: vec![file],
            ..quick()
        };
        let cluster = connect::connect(
            &"eks-2".parse().unwrap(),
            "eks-2",
            &connect::Kubeconfig::read(&options.kubeconfig).unwrap(),
            &options,
        )
        .await
        .unwrap();
        assert_eq!(cluster.server(), served.url);
        let failed = match cluster.identity().await {
            Ok(identity) => {
                assert_eq!(identity.git, crate::sandbox::api::VERSION);
                None
            }
            Err(error) => match error.failure() {
                Some(Failure::Transport { kind, .. }) => Some(*kind),
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(failed, want, "{config}");
    }
}

#[tokio::test]
async fn an_expiring_token_says_when_and_works_until_then() {
    let (api, cluster) = embedded("eks-2");
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let link = reader(&cluster, &served, "eks-1").await;
    let asked = now();
    let account = "meshlink-reader-eks-1";
    let (token, until) = cluster
        .token("istio-system", account, Duration::from_secs(3600), None)
        .await
        .unwrap();
    let left = until.duration_since(asked).as_secs();
    assert!((3590..=3610).contains(&left), "{left}");
    assert_eq!(
        access::token_facts(token.expose()).expires,
        Some(until.as_second())
    );
    access::try_kubeconfig(&access::Link { token, ..link }, READS, &quick())
        .await
        .unwrap();
    assert_eq!(cluster.requests().tokens, 1);
}

#[tokio::test]
async fn rights_are_asked_for_and_counted_apart() {
    let (api, admin) = embedded("eks-2");
    assert_eq!(
        preflight::check(&admin, preflight::Purpose::Join, "istio-ingress", false)
            .await
            .unwrap(),
        []
    );
    assert_eq!((admin.requests().reviews, admin.requests().writes), (1, 0));
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let link = reader(&admin, &served, "eks-1").await;
    let provider = connect::fixed(link.token.clone());
    let reader = connect::from_parts(
        &link.cluster,
        &link.server,
        Some(&link.ca),
        None,
        provider,
        &quick(),
    )
    .unwrap();
    let missing = preflight::check(&reader, preflight::Purpose::Join, "istio-ingress", false)
        .await
        .unwrap();
    assert!(missing.contains(&Access::new("create", "", "namespaces")));
    assert!(!missing.contains(&Access::new("list", "", "namespaces")));
}

#[tokio::test]
async fn two_runs_at_once_have_one_lease() {
    let (_api, cluster) = embedded("eks-1");
    istio_system(&cluster).await;
    let runs = (0..8).map(|n| {
        let cluster = cluster.clone();
        let identity = lease::Identity::new("run", format!("id-{n}"), None);
        let uptime = Arc::new(crate::machine::uptime);
        let terms = Arc::new(lease::Terms::new(identity, Arc::new(now), uptime));
        tokio::spawn(async move {
            let mut watch = lease::Watch::default();
            lease::acquire(&cluster, &terms, &mut watch).await.unwrap()
        })
    });
    let outcomes: Vec<_> = futures::future::join_all(runs)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let held = |o: &&lease::Outcome| matches!(o, lease::Outcome::Held(_));
    assert_eq!(outcomes.iter().filter(held).count(), 1, "{outcomes:?}");
}

struct Istiod;

impl PortForward for Istiod {
    fn open(
        &self,
        _: &str,
        pod: &str,
        port: u16,
    ) -> BoxFuture<'static, Result<DuplexStream, String>> {
        let known = pod == "istiod-0" && port == 15014;
        Box::pin(async move {
            if !known {
                return Err("connection refused".to_owned());
            }
            let (near, mut far) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while far.read(&mut request).await.is_ok_and(|length| length > 0) {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
                    far.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            Ok(near)
        })
    }
}

#[tokio::test]
async fn pods_are_asked_through_the_api_server() {
    let (api, cluster) = embedded("eks-1");
    istio_system(&cluster).await;
    api.on_port_forward(Arc::new(Istiod));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "istiod-0", "namespace": "istio-system"},
        "spec": {"containers": [{"name": "discovery", "image": "pilot"}]}});
    cluster.create(&pod).await.unwrap();
    let running = json!({"status": {"phase": "Running"}});
    let path = "/api/v1/namespaces/istio-system/pods/istiod-0/status";
    let patch = wire::Call {
        content_type: "application/merge-patch+json",
        body: Some(&running),
        ..wire::Call::new(http::Method::PATCH, path)
    };
    cluster.call(patch).await.unwrap();
    let mut port = cluster
        .open_port("istio-system", "istiod-0", 15014)
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(port.get("/debug/clusterz").await.unwrap().body, "[]");
    }
    assert_eq!(
        cluster
            .get("istio-system", "istiod-0", 15014, "/")
            .await
            .unwrap()
            .status,
        200
    );
    let error = cluster
        .get("istio-system", "istiod-0", 1, "/")
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("refused"), "{error:?}");
    let error = cluster
        .get("istio-system", "istiod-9", 15014, "/")
        .await
        .unwrap_err();
    assert_eq!(error.failure().unwrap().code(), Some(404), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_deployment_says_why() {
    let (api, cluster) = embedded("eks-1");
    api.on_create_pod(Arc::new(|_, _| Err("failed calling webhook \"x\"".into())));
    let labels = json!({"app": "gw"});
    let set = |kind: &str| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "gw", "namespace": "default", "labels": labels},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "auto"}]}}}})
    };
    let deployment = cluster
        .apply(&set("Deployment"), Manager::Helm, false)
        .await
        .unwrap()
        .object;
    let mut owned = set("ReplicaSet");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "gw",
        "uid": deployment["metadata"]["uid"]}]);
    cluster.create(&owned).await.unwrap();
    let status = json!({"status": {"replicas": 0, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "message": "failed calling webhook"}]}});
    let path = "/apis/apps/v1/namespaces/default/replicasets/gw/status";
    let patch = wire::Call {
        content_type: "application/merge-patch+json",
        body: Some(&status),
        ..wire::Call::new(http::Method::PATCH, path)
    };
    cluster.call(patch).await.unwrap();
    let r = Ref::namespaced(&Kind::DEPLOYMENT, "default", "gw");
    let mut reasons = Vec::new();
    let deadline = Deadline::after(Duration::from_secs(3));
    let error = wait::available(&cluster, &r, deadline, |reason| {
        reasons.push(reason.to_owned())
    })
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("pods cannot be created: failed calling webhook"),
        "{error}"
    );
    assert_eq!(reasons.len(), 2, "{reasons:?}");
}
