//! The AWS of the laboratory, as the client side sees it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_credential_types::Credentials;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use istio_sandbox::{
    Sandbox,
    aws::cloud::{Options, raise},
};

use crate::aws::{Aws, Env, Identity, call, eks, nlb};

const HOST: &str = "k8s-istio-gw-0123456789-0123456789abcdef.elb.us-west-2.amazonaws.com";

/// A laboratory's cloud: what it tells, and whether tries are answered.
#[derive(Clone, Default)]
struct Laboratory(Arc<Mutex<(Value, bool)>>);

impl Laboratory {
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let this = this.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (told, open) = &*this.0.lock().unwrap();
                    let body = match request.uri().path() {
                        "/services" => told.to_string(),
                        _ => json!({ "open": open }).to_string(),
                    };
                    let answer = Response::new(Full::new(Bytes::from(body)));
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        format!("http://{address}")
    }

    fn set(&self, change: impl FnOnce(&mut Value, &mut bool)) {
        let (told, open) = &mut *self.0.lock().unwrap();
        change(told, open);
    }
}

fn told(sandbox: &Sandbox) -> Value {
    let service = json!({"metadata": {"name": "gw", "namespace": "istio", "uid": "u1"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 15443, "targetPort": 15443, "nodePort": 30443}]}});
    json!({
        "clusters": [{"name": "eks-1", "kubeconfig": sandbox.endpoints().kubeconfig, "node": "198.18.0.11",
            "settings": {"pace": 0.0, "health": ""}, "services": [service]}],
        "balancers": [{"cluster": "eks-1", "namespace": "istio", "service": "gw", "uid": "u1", "name": HOST,
            "addresses": {"us-west-2a": "198.18.64.1", "us-west-2b": "198.18.65.1"},
            "created": "2026-01-01T00:00:00Z"}],
    })
}

async fn resolved(aws: &Aws) -> eks::Facts {
    for _ in 0..300 {
        let found = eks::resolve(aws, &Identity::default(), "eks-1", &BTreeMap::new(), &[]).await;
        if let Ok(eks::Resolved::Eks(facts)) = found {
            return *facts;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never an EKS cluster")
}

#[tokio::test]
async fn clusters_become_eks_and_targets_are_really_tried() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(istio_sandbox::Options::count(1, folder.path()))
        .await
        .unwrap();
    let laboratory = Laboratory::default();
    laboratory.set(|all, open| (*all, *open) = (told(&sandbox), true));
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        laboratory: laboratory.serve().await,
        key: ("AKID".into(), "secret".into()),
        user: "me".into(),
    };
    let cloud = raise(options).await.unwrap();
    let aws = Aws::new(Env {
        region: Some("us-west-2".into()),
        keys: Some(Credentials::new("AKID", "secret", None, None, "test")),
        endpoints: [(None, cloud.url())].into(),
        ..Env::default()
    });
    let facts = resolved(&aws).await;
    assert!(
        facts.endpoint.starts_with("https://127.0.0.1:"),
        "{}",
        facts.endpoint
    );

    let seen = nlb::Seen {
        service: true,
        hostname: Some(HOST.into()),
        ..Default::default()
    };
    let mut watch = nlb::Watch::later(aws, Identity::default(), None, ("istio", "gw"), 15443);
    let mut state = async |want: &str| {
        let mut found = String::new();
        for _ in 0..100 {
            let look = watch.look(&seen).await.unwrap();
            found = look.map(|l| l.targets[0].state.clone()).unwrap_or_default();
            if found == want {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(found, want);
    };
    state("healthy").await;
    laboratory.set(|_, open| *open = false);
    state("unhealthy").await;
    laboratory.set(|_, open| *open = true);
    state("healthy").await;
    laboratory.set(|all, _| all["clusters"][0]["settings"]["health"] = "draining".into());
    state("draining").await;

    let throttle = |share: f64| {
        laboratory.set(|all, _| all["clusters"][0]["settings"]["throttle"] = share.into());
    };
    let mut throttled = async |want: bool| {
        for _ in 0..100 {
            let look = watch.look(&seen).await;
            let is = look.is_err_and(|e| e.cause == call::Cause::Throttled);
            if is == want {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("throttled is not {want}");
    };
    throttle(1.0);
    throttled(true).await;
    throttle(0.0);
    throttled(false).await;
    let told = calls(&cloud.url()).await;
    let refused = told["calls"].as_array().unwrap().iter();
    let refused = refused.filter(|c| c["status"] == 400 && c["action"] != "eks:DescribeCluster");
    assert!(refused.count() > 0, "{told}");
}

/// What the cloud says it was asked.
async fn calls(url: &str) -> Value {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = format!("GET /calls HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}
