//! What runs inside the pods, and how its ports are reached from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderName, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::DuplexStream;

use super::{
    Cluster, Read,
    istiod::{self, Istiod},
    probe,
    proxy::{self, Proxy},
};
use crate::{api::PortForward, faults::Fault};

/// How a pod's process is doing.
pub(crate) enum Health {
    /// It ends as soon as it starts; why.
    Crashed(String),
    Starting,
    Ready,
}

#[derive(Clone)]
enum Process {
    Istiod(Arc<Istiod>),
    /// A sidecar or a gateway.
    Proxy(Arc<Proxy>),
    /// Anything else is ready as soon as it runs.
    Plain,
}

/// The processes of one cluster, by the uid of their pod.
#[derive(Default)]
pub(crate) struct Processes(Mutex<BTreeMap<String, Process>>);

impl Processes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a pod is doing; starts what is not running yet.
    pub(crate) fn health(&self, cluster: &Arc<Cluster>, pod: &Value, address: &str) -> Health {
        let running = self.lock().get(pod.uid()).cloned();
        let process = match running {
            Some(process) => process,
            None => match start(cluster, pod, address) {
                Ok(process) => self
                    .lock()
                    .entry(pod.uid().into())
                    .or_insert(process)
                    .clone(),
                Err(why) => return Health::Crashed(why),
            },
        };
        let ready = match &process {
            Process::Istiod(istiod) => istiod.ready() && !cluster.has(Fault::IstiodNeverReady),
            Process::Proxy(proxy) => {
                proxy.ready() && !(proxy.gateway && cluster.has(Fault::GatewayNeverReady))
            }
            Process::Plain => true,
        };
        if ready {
            Health::Ready
        } else {
            Health::Starting
        }
    }

    /// Ends what ran in a pod.
    pub(crate) fn end(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Ends whatever has no pod any more.
    pub(crate) fn keep(&self, living: &BTreeSet<&str>) {
        self.lock().retain(|uid, _| living.contains(uid.as_str()));
    }

    /// Ends everything.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// The istiods, the longest-running first.
    pub(crate) fn istiods(&self) -> Vec<Arc<Istiod>> {
        let mut all: Vec<_> = self
            .lock()
            .values()
            .filter_map(|p| {
                if let Process::Istiod(i) = p {
                    Some(i.clone())
                } else {
                    None
                }
            })
            .collect();
        all.sort_by_key(|i| i.started);
        all
    }

    pub(crate) fn proxies(&self) -> Vec<Arc<Proxy>> {
        let lock = self.lock();
        lock.values()
            .filter_map(|p| {
                if let Process::Proxy(p) = p {
                    Some(p.clone())
                } else {
                    None
                }
            })
            .collect()
    }

    pub(crate) fn proxy(&self, uid: &str) -> Option<Arc<Proxy>> {
        match self.lock().get(uid) {
            Some(Process::Proxy(proxy)) => Some(proxy.clone()),
            _ => None,
        }
    }

    fn istiod(&self, uid: &str) -> Option<Arc<Istiod>> {
        match self.lock().get(uid) {
            Some(Process::Istiod(istiod)) => Some(istiod.clone()),
            _ => None,
        }
    }
}

fn start(cluster: &Arc<Cluster>, pod: &Value, address: &str) -> Result<Process, String> {
    let discovers = |c: &Value| c.items("/args").iter().any(|a| a == "discovery");
    if pod.items("/spec/containers").iter().any(discovers) {
        return istiod::start(cluster, pod).map(Process::Istiod);
    }
    if pod.annotation("sidecar.istio.io/status").is_some() {
        return Ok(Process::Proxy(proxy::start(cluster, pod, address)));
    }
    Ok(Process::Plain)
}

/// What a process answers to one request.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
    pub(crate) headers: Vec<(HeaderName, String)>,
}

impl Page {
    pub(crate) fn text(status: StatusCode, body: &str) -> Self {
        Self {
            status,
            kind: "text/plain",
            body: body.into(),
            headers: vec![],
        }
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            kind: "application/json",
            body: format!("{body:#}"),
            headers: vec![],
        }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, http::HeaderValue::from_static(self.kind));
        for (name, value) in self.headers {
            if let Ok(value) = http::HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The ports of a cluster's pods.
struct Ports(Weak<Cluster>);

/// Lets the API server read the pods' logs and forward connections to their ports.
pub(crate) fn install(cluster: &Arc<Cluster>) {
    let weak = Arc::downgrade(cluster);
    // Asked under the store's lock: nothing here may look into the store.
    cluster.api.on_log(Arc::new(move |namespace, pod, _| {
        let istiods = weak.upgrade().map(|cluster| cluster.processes.istiods());
        let mut istiods = istiods.into_iter().flatten();
        let istiod = istiods.find(|i| i.namespace == namespace && i.pod == pod);
        istiod.map_or_else(String::new, |i| i.log.text())
    }));
    cluster
        .api
        .on_port_forward(Arc::new(Ports(Arc::downgrade(cluster))));
}

impl PortForward for Ports {
    fn open(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> BoxFuture<'static, Result<DuplexStream, String>> {
        let opened = self.0.upgrade().ok_or_else(|| "the cluster is gone".into());
        let opened = opened.and_then(|cluster| open(&cluster, namespace, pod, port));
        std::future::ready(opened).boxed()
    }
}

/// Who answers on a port.
#[derive(Clone)]
enum Server {
    Istiod(Arc<Istiod>),
    Admin(Arc<Proxy>),
    Listener(Arc<Value>, u16),
}

fn open(
    cluster: &Arc<Cluster>,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<DuplexStream, String> {
    let pod = cluster
        .objects
        .get("pods", namespace, name)
        .ok_or_else(|| format!("pod {name} not found"))?;
    if pod.text("/status/phase") != "Running" {
        return Err(format!(
            "unable to forward port because pod is not running. Current status={}",
            pod.text("/status/phase")
        ));
    }
    let istiod = cluster.processes.istiod(pod.uid());
    let proxy = cluster.processes.proxy(pod.uid());
    let server = match (istiod, proxy, port) {
        (Some(istiod), _, 8080 | 15014) => Server::Istiod(istiod),
        (_, Some(proxy), 15000) => Server::Admin(proxy),
        _ if probe::listens(cluster, &pod, port) => Server::Listener(pod, port),
        _ => {
            return Err(format!(
                "failed to connect to localhost:{port} inside namespace \"{namespace}\": dial tcp4 127.0.0.1:{port}: connect: connection refused"
            ));
        }
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve(cluster.clone(), server, far));
    Ok(near)
}

async fn serve(cluster: Arc<Cluster>, server: Server, stream: DuplexStream) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (cluster, server) = (cluster.clone(), server.clone());
        async move { Ok::<_, Infallible>(answer(&cluster, &server, &request).await.response()) }
    });
    // The other end may hang up whenever it likes.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn answer(cluster: &Arc<Cluster>, server: &Server, request: &Request<Incoming>) -> Page {
    match server {
        Server::Istiod(istiod) => istiod::debug_page(cluster, istiod, request.uri().path()),
        Server::Admin(proxy) => proxy::admin_page(proxy, request.uri()),
        Server::Listener(pod, port) => {
            probe::ask(cluster, pod, *port, request.uri(), request.headers()).await
        }
    }
}
