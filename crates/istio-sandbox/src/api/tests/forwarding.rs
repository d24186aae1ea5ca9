//! Port-forwarding through kube's client, without sockets and over TLS.

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// A pod on which nothing listens.
struct Deaf;

impl PortForward for Deaf {
    fn open(&self, _: &str, _: &str, _: u16) -> BoxFuture<'static, Result<DuplexStream, String>> {
        async { Err("connection refused".to_owned()) }.boxed()
    }
}

/// A pod that answers one request per connection, as an HTTP server that closes does.
struct Closing;

impl PortForward for Closing {
    fn open(&self, _: &str, _: &str, _: u16) -> BoxFuture<'static, Result<DuplexStream, String>> {
        async move {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let mut heard = [0; 4];
                theirs.read_exact(&mut heard).await.unwrap();
                theirs.write_all(&vec![b'x'; 200_000]).await.unwrap();
            });
            Ok(ours)
        }
        .boxed()
    }
}

async fn with_pod(hook: Arc<dyn PortForward>) -> Api {
    let api = api();
    api.on_port_forward(hook);
    let pods: kube::Api<Pod> = spaced(&api.client(), "default");
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &of(pod)).await.unwrap();
    api
}

#[tokio::test]
async fn bytes_reach_a_pod_and_come_back() {
    let api = with_pod(Arc::new(Closing)).await;
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for client in [api.client(), over_tls(&api, &served).await] {
        let pods: kube::Api<Pod> = spaced(&client, "default");
        let mut forward = pods.portforward("p", &[80]).await.unwrap();
        let mut stream = forward.take_stream(80).unwrap();
        stream.write_all(b"GET\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 200_000);
    }
}

#[tokio::test]
async fn a_port_nobody_listens_on_says_so() {
    let api = with_pod(Arc::new(Deaf)).await;
    let pods: kube::Api<Pod> = spaced(&api.client(), "default");
    let mut forward = pods.portforward("p", &[9]).await.unwrap();
    let error = forward.take_error(9).unwrap().await.unwrap();
    assert_eq!(
        error,
        "error forwarding port 9 to pod p, uid : connection refused"
    );
    let missing = pods.portforward("gone", &[9]).await.err().unwrap();
    assert_eq!(code(missing), (404, "pods \"gone\" not found".into()));
}
