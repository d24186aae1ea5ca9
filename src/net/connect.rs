//! A connection to a server: direct, through a tunnel, or to the proxy that forwards to it. TLS with the server comes on top.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::{
        legacy::connect::{
            Connected, Connection, HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
        proxy::matcher::Intercept,
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::Service;

use super::{
    BoxError,
    rules::{self, Rules},
};

/// Connects to servers by way of their proxies.
#[derive(Clone)]
pub(super) struct Connect {
    rules: Arc<Rules>,
    tcp: HttpConnector,
    /// For proxies that are themselves spoken to over TLS.
    tls: Arc<ClientConfig>,
}

impl Connect {
    pub(super) fn new(rules: Arc<Rules>, tls: Arc<ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { rules, tcp, tls }
    }

    async fn connect(mut self, server: Uri) -> Result<Stream, BoxError> {
        let Some(proxy) = self.rules.intercept(&server)? else {
            let stream = MaybeHttpsStream::Http(self.tcp.call(server).await?);
            return Ok(Stream::new(stream, false));
        };
        let at = proxy.uri().clone();
        if at.scheme_str() == Some("socks5") {
            let stream = socks(&proxy, self.tcp).call(with_port(server)?).await?;
            return Ok(Stream::new(MaybeHttpsStream::Http(stream), false));
        }
        let mut to_proxy = HttpsConnector::from((self.tcp, self.tls));
        if server.scheme_str() == Some("http") {
            return Ok(Stream::new(to_proxy.call(at).await?, true));
        }
        let tunnel = Tunnel::new(at, to_proxy);
        let mut tunnel = match proxy.basic_auth() {
            Some(login) => tunnel.with_auth(login.clone()),
            None => tunnel,
        };
        Ok(Stream::new(tunnel.call(server).await?, false))
    }
}

fn socks<C>(proxy: &Intercept, to_proxy: C) -> SocksV5<C> {
    let socks = SocksV5::new(proxy.uri().clone(), to_proxy);
    match proxy.raw_auth() {
        Some((user, password)) => socks.with_auth(user.into(), password.into()),
        None => socks,
    }
}

/// A server with its port written out, as SOCKS needs it.
fn with_port(server: Uri) -> Result<Uri, BoxError> {
    let port = rules::port(&server);
    let host = server.host().unwrap_or_default().to_owned();
    let mut parts = server.into_parts();
    parts.authority = Some(format!("{host}:{port}").parse()?);
    Ok(Uri::from_parts(parts)?)
}

impl Service<Uri> for Connect {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        Box::pin(self.clone().connect(server))
    }
}

/// A connection to a server or to its proxy.
pub(super) struct Stream {
    inner: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// The other side forwards requests, and has to be told the whole URL.
    is_forwarded: bool,
}

impl Stream {
    fn new(inner: MaybeHttpsStream<TokioIo<TcpStream>>, is_forwarded: bool) -> Self {
        Self {
            inner,
            is_forwarded,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.is_forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
