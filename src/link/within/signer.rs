//! What istiod signs with, as it shows it to everybody who connects: its own certificate comes with the one that has signed it.
//! No right is needed to see it, and no key is near it.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::pki::Cert;

/// Nothing else waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// The certificate by which the istiod at `HOST:PORT` has signed its own, under one of these roots.
pub(super) async fn shown(address: &str, roots: &[Cert]) -> Result<Cert, String> {
    let late = |_| format!("{address} does not answer");
    timeout(LIMIT, ask(address, roots)).await.map_err(late)?
}

async fn ask(address: &str, roots: &[Cert]) -> Result<Cert, String> {
    let said = |error: &dyn std::fmt::Display| format!("{address}: {error}");
    let (host, _) = address.rsplit_once(':').unwrap_or((address, ""));
    let name = ServerName::try_from(host.to_owned()).map_err(|e| said(&e))?;
    let mut store = RootCertStore::empty();
    let ders = roots
        .iter()
        .map(|root| CertificateDer::from(root.der().to_vec()));
    store.add_parsable_certificates(ders);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| said(&e))?
        .with_root_certificates(store)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.map_err(|e| said(&e))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|e| said(&e))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Result<Vec<_>, _> = chain.iter().map(|der| Cert::from_der(der)).collect();
    let chain = chain.map_err(|e| said(&e))?;
    let (own, others) = chain.split_first().ok_or_else(|| said(&"no certificate"))?;
    let signer = others.iter().find(|cert| own.signed_by(cert));
    let signer = signer.ok_or_else(|| said(&"it does not show what it signs with"))?;
    Ok(signer.clone())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    /// A root, an intermediate under it, and how a server with a certificate of that one answers.
    fn served() -> (Cert, Cert, ServerConfig) {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            (params, KeyPair::generate().unwrap())
        };
        let (params, key) = authority("root");
        let root = params.self_signed(&key).unwrap();
        let by_root = Issuer::new(params, key);
        let (params, key) = authority("intermediate");
        let intermediate = params.signed_by(&key, &by_root).unwrap();
        let by_it = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let own = own.signed_by(&key, &by_it).unwrap();
        let chain = vec![own.der().clone(), intermediate.der().clone()];
        let key = key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let cert = |der: &[u8]| Cert::from_der(der).unwrap();
        (cert(root.der()), cert(intermediate.der()), config)
    }

    #[tokio::test]
    async fn what_an_istiod_signs_with_is_seen_by_whoever_connects() {
        let (root, intermediate, config) = served();
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serve = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = acceptor.accept(stream).await;
            }
        });
        let seen = shown(&address, std::slice::from_ref(&root)).await.unwrap();
        assert_eq!(seen.facts().spki_sha256, intermediate.facts().spki_sha256);
        let (another, ..) = served();
        let refused = shown(&address, &[another]).await.unwrap_err();
        assert!(refused.contains("invalid peer certificate"), "{refused}");
        serve.abort();
        let away = shown("localhost:1", &[root]).await.unwrap_err();
        assert!(away.starts_with("localhost:1: "), "{away}");
    }
}
