//! HTTP to a port inside a pod, through the API server's port-forward (by WebSocket).
//!
//! It reaches `127.0.0.1` in the pod, and so istiod's and Envoy's debug pages, which trust only
//! that. Needs the verb `get` on `pods/portforward`, from Kubernetes 1.35 on `create` as well.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Portforwarder};

use super::{Cluster, Error, Failure, Transport};

/// A debug page of a big mesh may be long; more than this is refused, not cut.
const LARGEST: usize = 16 << 20;

/// What a pod answered.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The headers, and the trailers after them.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
}

/// A forwarded port that can be asked again and again.
pub(crate) struct Forwarded {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; polled only while a request is under way.
    connection: BoxFuture<'static, Result<(), hyper::Error>>,
    /// What the kubelet says when the port cannot be reached.
    error: BoxFuture<'static, Option<String>>,
    forwarder: Portforwarder,
    cluster: Cluster,
    pod: String,
    port: u16,
}

impl Cluster {
    /// One GET to a pod.
    pub(crate) async fn get(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> Result<Response, Error> {
        self.open_port(namespace, pod, port)
            .await?
            .ask(question(path), true)
            .await
    }

    /// Opens a port for several requests over one WebSocket.
    pub(crate) async fn open_port(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Forwarded, Error> {
        let api: Api<Pod> = Api::namespaced(self.client().clone(), namespace);
        let name = format!("{namespace}/{pod}");
        let failed = |source| Error::Forward {
            cluster: self.name().clone(),
            pod: name.clone(),
            port,
            source: Box::new(source),
        };
        let opened = async {
            let mut forwarder = api.portforward(pod, &[port]).await.map_err(Failure::of)?;
            let stream = forwarder
                .take_stream(port)
                .ok_or_else(|| broken("the port was not forwarded"))?;
            let error = forwarder
                .take_error(port)
                .ok_or_else(|| broken("the port was not forwarded"))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(transport)?;
            Ok((forwarder, error, sender, connection))
        };
        let (forwarder, error, sender, connection) =
            within(self.0.timeout, opened).await.map_err(failed)?;
        // Both may end while nobody asks, and are looked at again by the next request.
        let (error, connection) = (error.fuse().boxed(), connection.fuse().boxed());
        Ok(Forwarded {
            sender,
            connection,
            error,
            forwarder,
            cluster: self.clone(),
            pod: name,
            port,
        })
    }
}

impl Forwarded {
    /// One GET; the port stays open.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Response, Error> {
        self.ask(question(path), false).await
    }

    /// One request, as it is; the port stays open.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response, Error> {
        self.ask(Ok(request), false).await
    }

    async fn ask(
        &mut self,
        request: Result<Request<Full<Bytes>>, http::Error>,
        last: bool,
    ) -> Result<Response, Error> {
        let limit = self.cluster.0.timeout;
        let answer = within(
            limit,
            exchange(
                &mut self.sender,
                &mut self.connection,
                &mut self.error,
                request,
                last,
            ),
        )
        .await;
        answer.map_err(|source| Error::Forward {
            cluster: self.cluster.name().clone(),
            pod: self.pod.clone(),
            port: self.port,
            source: Box::new(source),
        })
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

fn question(path: &str) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::get(path).body(Full::default())
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    connection: &mut BoxFuture<'static, Result<(), hyper::Error>>,
    error: &mut BoxFuture<'static, Option<String>>,
    request: Result<Request<Full<Bytes>>, http::Error>,
    last: bool,
) -> Result<Response, Failure> {
    let mut request = request.map_err(|error| Failure::Answer(error.to_string()))?;
    let headers = request.headers_mut();
    let connection_is = if last { "close" } else { "keep-alive" };
    headers
        .entry(header::HOST)
        .or_insert(HeaderValue::from_static("localhost"));
    headers.insert(header::CONNECTION, HeaderValue::from_static(connection_is));
    let answer = async {
        sender.ready().await.map_err(transport)?;
        let response = sender.send_request(request).await.map_err(transport)?;
        let (head, body) = response.into_parts();
        let read = Limited::new(body, LARGEST).collect().await;
        let read = read.map_err(|error| Failure::Answer(error.to_string()))?;
        let mut headers = head.headers;
        headers.extend(read.trailers().cloned().unwrap_or_default());
        Ok(Response {
            status: head.status,
            headers,
            body: read.to_bytes(),
        })
    };
    tokio::pin!(answer);
    // The answer comes out of the connection, so both are driven; the kubelet's own complaint says
    // more than the broken pipe that follows it.
    tokio::select! {
        biased;
        Some(message) = error => Err(broken(message.trim())),
        answer = drive(answer, connection) => answer,
    }
}

async fn drive<T>(
    mut answer: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    connection: &mut BoxFuture<'static, Result<(), hyper::Error>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = connection.as_mut() => ended.map_err(transport)?,
    }
    answer.await
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(Failure::Timeout(limit)))
}

fn transport(error: hyper::Error) -> Failure {
    Failure::of(kube::Error::HyperError(error))
}

fn broken(message: &str) -> Failure {
    Failure::Transport {
        kind: Transport::Broken,
        source: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::{
        super::{ConnectOptions, Token, connect},
        *,
    };

    /// What the pod behind the forwarded port does with a request.
    #[derive(Clone, Copy)]
    enum PodDoes {
        Answer(&'static str),
        Trail,
        Refuse,
        Endless,
        Nothing,
    }

    /// An API server that knows one path: the port-forward of one pod.
    async fn cluster(pod: PodDoes) -> Cluster {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, pod));
            }
        });
        let options = ConnectOptions {
            timeout: Duration::from_secs(2),
            ..Default::default()
        };
        let token = connect::fixed(Token::new("t".into()));
        connect::from_parts(
            &"eks-1".parse().unwrap(),
            &server,
            None,
            None,
            token,
            &options,
        )
        .unwrap()
    }

    async fn serve(mut stream: TcpStream, pod: PodDoes) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        if !head.starts_with("GET /api/v1/namespaces/a/pods/b/portforward?&ports=15014 ") {
            let body = r#"{"kind":"Status","code":404,"reason":"NotFound","message":"pods \"x\" not found"}"#;
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            return stream.write_all(answer.as_bytes()).await.unwrap();
        }
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .unwrap();
        let accept = digest::digest(
            &digest::SHA1_FOR_LEGACY_USE_ONLY,
            format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
        );
        let accept = STANDARD.encode(accept);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        for channel in [0, 1] {
            send(&mut stream, channel, &15014_u16.to_le_bytes()).await;
        }
        talk(stream, pod).await;
    }

    async fn talk(mut stream: TcpStream, pod: PodDoes) {
        let mut request = Vec::new();
        while let Some(data) = receive(&mut stream).await {
            request.extend(data);
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut request))
                .unwrap()
                .lines()
                .next()
                .unwrap()
                .to_owned();
            match pod {
                PodDoes::Answer(body) => {
                    let body = format!("{line}: {body}");
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    // In pieces, as it comes over a network.
                    for piece in answer.as_bytes().chunks(7) {
                        send(&mut stream, 0, piece).await;
                    }
                }
                PodDoes::Trail => {
                    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-at: 1\r\n\r\n\
                        2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n";
                    send(&mut stream, 0, answer.as_bytes()).await;
                }
                PodDoes::Refuse => {
                    send(
                        &mut stream,
                        1,
                        b"dial tcp4 127.0.0.1:15014: connection refused",
                    )
                    .await
                }
                PodDoes::Endless => {
                    send(
                        &mut stream,
                        0,
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", LARGEST + 1)
                            .as_bytes(),
                    )
                    .await;
                    for _ in 0..=LARGEST / 65000 {
                        send(&mut stream, 0, &[b'x'; 65000]).await;
                    }
                }
                PodDoes::Nothing => {}
            }
        }
    }

    /// One binary frame, unmasked as servers send them.
    async fn send(stream: &mut TcpStream, channel: u8, data: &[u8]) {
        let length = u16::try_from(data.len() + 1).unwrap();
        let mut frame = vec![0x82, 126];
        frame.extend(length.to_be_bytes());
        frame.push(channel);
        frame.extend(data);
        // The other side may have hung up by now; what it saw is what is tested.
        _ = stream.write_all(&frame).await;
    }

    /// The data of one masked frame; `None` at the end.
    async fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
        let opcode = stream.read_u8().await.ok()? & 0x0f;
        let length = match stream.read_u8().await.ok()? & 0x7f {
            126 => stream.read_u16().await.ok()?.into(),
            short => usize::from(short),
        };
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).await.ok()?;
        let mut data = vec![0; length];
        stream.read_exact(&mut data).await.ok()?;
        data.iter_mut()
            .zip(mask.iter().cycle())
            .for_each(|(byte, mask)| *byte ^= mask);
        (opcode == 2 && data[0] == 0).then(|| data.split_off(1))
    }

    #[tokio::test]
    async fn a_pod_answers_once_or_again_and_again() {
        let cluster = cluster(PodDoes::Answer("synced")).await;
        let once = cluster
            .get("a", "b", 15014, "/debug/clusterz")
            .await
            .unwrap();
        assert_eq!(
            (once.status.as_u16(), &once.body[..]),
            (200, &b"GET /debug/clusterz HTTP/1.1: synced"[..])
        );
        let mut port = cluster.open_port("a", "b", 15014).await.unwrap();
        for path in ["/1", "/2", "/3"] {
            let answer = port.get(path).await.unwrap();
            assert_eq!(answer.body, format!("GET {path} HTTP/1.1: synced"));
        }
        assert_eq!(
            cluster.requests().forwards,
            2,
            "one WebSocket for the three"
        );
    }

    #[tokio::test]
    async fn trailers_are_read_as_headers_are() {
        let mut port = cluster(PodDoes::Trail)
            .await
            .open_port("a", "b", 15014)
            .await
            .unwrap();
        let request = Request::get("/x").header("te", "trailers");
        let answer = port.send(request.body(Full::default()).unwrap()).await;
        let answer = answer.unwrap();
        assert_eq!(
            (&answer.headers["x-at"], &answer.headers["grpc-status"]),
            (
                &HeaderValue::from_static("1"),
                &HeaderValue::from_static("0")
            )
        );
        assert_eq!(answer.body, "ok");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_in_the_words_of_who_knows() {
        let error = cluster(PodDoes::Refuse)
            .await
            .get("a", "b", 15014, "/")
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cluster eks-1: cannot reach port 15014 of pod a/b"
        );
        assert!(
            format!("{error:?}").contains("connection refused"),
            "{error:?}"
        );
        let error = cluster(PodDoes::Nothing)
            .await
            .get("a", "b", 15014, "/")
            .await
            .unwrap_err();
        assert!(
            matches!(error.failure(), Some(Failure::Timeout(_))),
            "{error:?}"
        );
        let error = cluster(PodDoes::Nothing)
            .await
            .get("a", "x", 15014, "/")
            .await
            .unwrap_err();
        assert_eq!(error.failure().unwrap().code(), Some(404), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_without_end_is_refused() {
        let error = cluster(PodDoes::Endless)
            .await
            .get("a", "b", 15014, "/")
            .await
            .unwrap_err();
        assert!(
            matches!(error.failure(), Some(Failure::Answer(_))),
            "{error:?}"
        );
    }
}
