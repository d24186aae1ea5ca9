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

/// The names the server is reached by.
const NAMES: [&str; 7] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "10.96.0.1",
];

type Authority = CertifiedIssuer<'static, KeyPair>;

/// The authorities of a cluster, oldest first, and the certificate its server shows.
pub(crate) struct Identity {
    cluster: String,
    authorities: Vec<Authority>,
    config: Arc<ServerConfig>,
    /// Counts the servers there were: connections end with theirs.
    replaced: watch::Sender<usize>,
}

impl Identity {
    pub(crate) fn new(cluster: &str) -> Result<Self, Error> {
        let authority = authority(cluster)?;
        Ok(Self {
            cluster: cluster.to_owned(),
            config: serving(cluster, &authority)?,
            authorities: vec![authority],
            replaced: watch::Sender::new(0),
        })
    }

    /// What clients are told to trust.
    pub(crate) fn ca_pem(&self) -> String {
        self.authorities.iter().map(|a| a.pem()).collect()
    }

    /// A successor, which signs nothing yet.
    pub(crate) fn append(&mut self) -> Result<(), Error> {
        self.authorities.push(authority(&self.cluster)?);
        Ok(())
    }

    /// The newest signs from now on, or again the oldest. Every server is replaced for that, as EKS does it.
    pub(crate) fn sign_with(&mut self, newest: bool) -> Result<(), Error> {
        let by = match newest {
            true => self.authorities.last(),
            false => self.authorities.first(),
        };
        if let Some(by) = by {
            self.config = serving(&self.cluster, by)?;
            self.replaced.send_modify(|n| *n += 1);
        }
        Ok(())
    }

    /// Only the newest is left.
    pub(crate) fn retire(&mut self) {
        let all = self.authorities.len();
        self.authorities.drain(..all.saturating_sub(1));
    }
}

fn certificates(cluster: &str) -> impl Fn(rcgen::Error) -> Error + Copy {
    move |source| Error::Certificates {
        cluster: cluster.to_owned(),
        source,
    }
}

fn authority(cluster: &str) -> Result<Authority, Error> {
    let failed = certificates(cluster);
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
        .distinguished_name
        .push(DnType::CommonName, "kubernetes");
    let key = KeyPair::generate().map_err(failed)?;
    CertifiedIssuer::self_signed(params, key).map_err(failed)
}

fn serving(cluster: &str, issuer: &Authority) -> Result<Arc<ServerConfig>, Error> {
    let failed = certificates(cluster);
    let mut leaf = CertificateParams::new(NAMES.map(Into::into).to_vec()).map_err(failed)?;
    leaf.distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    let key = KeyPair::generate().map_err(failed)?;
    let leaf = leaf.signed_by(&key, issuer).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = |source: rustls::Error| Error::Tls {
        cluster: cluster.to_owned(),
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
    Ok(Arc::new(config))
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
        ca_pem: server.identity().ca_pem(),
        address,
        stop,
    })
}

async fn accept(server: Arc<Server>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        // A connection that breaks while it is accepted is the client's to try again.
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, mut replaced) = {
            let identity = server.identity();
            let acceptor = TlsAcceptor::from(identity.config.clone());
            (acceptor, identity.replaced.subscribe())
        };
        let (server, mut stopped) = (server.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serve(server, acceptor, stream) => {}
                _ = stopped.changed() => {}
                _ = replaced.changed() => {}
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
