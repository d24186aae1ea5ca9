//! `pods/portforward` over WebSocket: two channels per port, one for bytes and one for an error, each frame
//! led by its channel's number (`v4.channel.k8s.io`).

mod frame;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::mpsc,
};

use super::{
    Server,
    hooks::PortForward,
    reply::{Reply, full},
    request::{Query, ResourcePath},
    status::Failure,
};
use frame::{Message, read_message, write_binary, write_close, write_pong};

const PROTOCOLS: [&str; 4] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "portforward.k8s.io",
];
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Answers the handshake and serves the ports once the connection is upgraded.
pub(crate) async fn upgrade(
    server: &Arc<Server>,
    path: &ResourcePath,
    parts: &mut Parts,
    query: &Query,
) -> Result<Reply, Failure> {
    let key = parts
        .headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|k| k.to_str().ok());
    let (Some(key), Some(on)) = (key, parts.extensions.remove::<OnUpgrade>()) else {
        return Err(Failure::bad_request(
            "you must specify at least 1 port: Upgrade request required",
        ));
    };
    let accept = accept_key(key);
    let protocol = protocol(&parts.headers)
        .ok_or_else(|| Failure::bad_request("unable to upgrade: no supported subprotocol"))?;
    let ports: Vec<u16> = query
        .text("ports")
        .split(',')
        .filter_map(|p| p.parse().ok())
        .collect();
    if ports.is_empty() {
        return Err(Failure::bad_request(
            "query parameter \"ports\" is required",
        ));
    }
    let hook = server.hooks.port_forward();
    let (namespace, pod) = (path.namespace.clone(), path.name.clone());
    tokio::spawn(async move {
        // A client that goes away before the upgrade leaves nothing to serve.
        if let Ok(upgraded) = on.await {
            serve(TokioIo::new(upgraded), hook, &namespace, &pod, &ports).await;
        }
    });
    Ok(switching(&accept, protocol))
}

fn switching(accept: &str, protocol: &'static str) -> Reply {
    let mut reply = Response::new(full(""));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(protocol),
    );
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    reply
}

/// RFC 6455, section 4.2.2.
fn accept_key(key: &str) -> String {
    let text = format!("{key}{MAGIC}");
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    );
    STANDARD.encode(digest)
}

fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let offered: Vec<&str> = offered.split(',').map(str::trim).collect();
    // v4 first: what port-forward speaks; v5 adds nothing to it here.
    ["v4.channel.k8s.io"]
        .into_iter()
        .chain(PROTOCOLS)
        .find(|p| offered.contains(p))
}

type Frames = mpsc::Sender<Vec<u8>>;

async fn serve<S>(
    socket: S,
    hook: Option<Arc<dyn PortForward>>,
    namespace: &str,
    pod: &str,
    ports: &[u16],
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(socket);
    let (frames, outgoing) = mpsc::channel::<Vec<u8>>(16);
    let sending = tokio::spawn(send(writer, outgoing));
    let mut sinks = Vec::new();
    for (channel, port) in (0_u8..).step_by(2).zip(ports) {
        for channel in [channel, channel + 1] {
            let [low, high] = port.to_le_bytes();
            // A socket that is closed already shows when it is read.
            let _ = frames.send(vec![channel, low, high]).await;
        }
        sinks.push(open(hook.as_ref(), namespace, pod, *port, channel, &frames).await);
    }
    receive(reader, sinks, &frames).await;
    drop(frames);
    let _ = sending.await;
}

/// Connects one port; what it says goes out on its channel, a failure on the channel beside it.
async fn open(
    hook: Option<&Arc<dyn PortForward>>,
    namespace: &str,
    pod: &str,
    port: u16,
    channel: u8,
    frames: &Frames,
) -> Option<WriteHalf<DuplexStream>> {
    let opened = match hook {
        Some(hook) => hook.open(namespace, pod, port).await,
        None => Err("nothing answers for pods".to_owned()),
    };
    match opened {
        Ok(stream) => {
            let (from_pod, to_pod) = tokio::io::split(stream);
            tokio::spawn(relay(from_pod, channel, frames.clone()));
            Some(to_pod)
        }
        Err(why) => {
            let text = format!("error forwarding port {port} to pod {pod}, uid : {why}");
            let frame = [vec![channel + 1], text.into_bytes()].concat();
            let _ = frames.send(frame).await;
            None
        }
    }
}

async fn relay(mut from: ReadHalf<DuplexStream>, channel: u8, frames: Frames) {
    let mut buffer = vec![0_u8; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let frame = [&[channel], &buffer[..read]].concat();
        if frames.send(frame).await.is_err() {
            return;
        }
    }
    // An empty frame of no channel asks the sender to close: the pod has said all it had to say.
    let _ = frames.send(Vec::new()).await;
}

async fn send<W: AsyncWrite + Unpin>(mut writer: W, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = outgoing.recv().await {
        let sent = match frame.as_slice() {
            [] => write_close(&mut writer).await,
            [255, pong @ ..] => write_pong(&mut writer, pong).await,
            frame => write_binary(&mut writer, frame).await,
        };
        if sent.is_err() || frame.is_empty() {
            break;
        }
    }
    let _ = writer.shutdown().await;
}

async fn receive<R: AsyncRead + Unpin>(
    mut reader: R,
    mut sinks: Vec<Option<WriteHalf<DuplexStream>>>,
    frames: &Frames,
) {
    while let Ok(message) = read_message(&mut reader).await {
        match message {
            Message::Binary(frame) => {
                let Some((channel, bytes)) = frame.split_first() else {
                    continue;
                };
                let Some(slot) = sinks.get_mut(usize::from(*channel) / 2) else {
                    break;
                };
                if let Some(sink) = slot
                    && sink.write_all(bytes).await.is_err()
                {
                    *slot = None;
                }
            }
            Message::Ping(payload) => {
                let _ = frames.send([vec![255], payload].concat()).await;
            }
            Message::Close => break,
            Message::Other => {}
        }
    }
    for sink in sinks.iter_mut().flatten() {
        let _ = sink.shutdown().await;
    }
}
