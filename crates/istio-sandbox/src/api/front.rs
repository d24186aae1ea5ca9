//! The server on loopback: TLS with a certificate of the cluster's own authority, HTTP/1.1 with upgrades.

use std::{io, net::SocketAddr, sync::Arc};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Error, Server,
    serve::{Door, handle},
};

/// The authority of a cluster and the certificate its server shows.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let certificates = |source: rcgen::Error| Error::Certificates {
            cluster: name.to_owned(),
            source,
        };
        let mut authority = CertificateParams::new(Vec::new()).map_err(certificates)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        authority
            .distinguished_name
            .push(DnType::CommonName, "kubernetes");
        let issuer =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().map_err(certificates)?)
                .map_err(certificates)?;
        let names = [
            "localhost",
            "127.0.0.1",
            "::1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "10.96.0.1",
        ];
        let mut leaf =
            CertificateParams::new(names.map(Into::into).to_vec()).map_err(certificates)?;
        leaf.distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        let key = KeyPair::generate().map_err(certificates)?;
        let leaf = leaf.signed_by(&key, &issuer).map_err(certificates)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = |source: rustls::Error| Error::Tls {
            cluster: name.to_owned(),
            source,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?;
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .map_err(tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            ca_pem: issuer.pem(),
            config: Arc::new(config),
        })
    }
}

/// A server that listens; it stops when this is dropped.
#[derive(Debug)]
pub struct Served {
    /// `https://127.0.0.1:port`.
    pub url: String,
    /// The certificate authority clients should trust.
    pub ca_pem: String,
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Served {
    /// Stops listening and breaks off every connection.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) async fn listen(server: &Arc<Server>, address: SocketAddr) -> io::Result<Served> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(accept(server.clone(), listener, stopped));
    Ok(Served {
        url: format!("https://{address}"),
        ca_pem: server.identity.ca_pem.clone(),
        address,
        stop,
    })
}

async fn accept(server: Arc<Server>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let acceptor = TlsAcceptor::from(server.identity.config.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        // A connection that breaks while it is accepted is the client's to try again.
        let Ok((stream, _)) = accepted else { continue };
        let (server, acceptor, mut stopped) = (server.clone(), acceptor.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serve(server, acceptor, stream) => {}
                _ = stopped.changed() => {}
            }
        });
    }
}

async fn serve(server: Arc<Server>, acceptor: TlsAcceptor, stream: TcpStream) {
    if server.faults.away() {
        return;
    }
    // Without this small answers wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    if let Ok(stream) = acceptor.accept(stream).await {
        connection(server, Door::Front, TokioIo::new(stream)).await;
    }
}

/// Serves one connection to its end.
pub(crate) async fn connection<S>(server: Arc<Server>, door: Door, stream: TokioIo<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service =
        service_fn(move |request: hyper::Request<Incoming>| handle(server.clone(), door, request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(stream, service)
        .with_upgrades();
    // Clients and faults may break connections as they like.
    let _ = served.await;
}
