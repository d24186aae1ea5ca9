//! Ways to a server: straight, through a proxy, with or without TLS.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Uri};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
    },
    rt::{TokioExecutor, TokioIo},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tower::Service;
use zeroize::Zeroizing;

use crate::Error;

/// Proxies to go through, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them.
#[derive(Clone, Default)]
pub struct Proxy {
    /// For `http://` URLs.
    pub http: Option<String>,
    /// For `https://` URLs.
    pub https: Option<String>,
    /// Hosts to reach straight, separated by commas: names, `.suffixes`, addresses, or `*`.
    pub exceptions: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A proxy's URL may hold a password.
        let shown = |proxy: &Option<String>| {
            proxy
                .as_deref()
                .map(|text| text.rsplit('@').next().unwrap_or_default().to_owned())
        };
        f.debug_struct("Proxy")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

/// A proxy for one URL.
pub(super) struct Through {
    address: Uri,
    login: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy for a URL, if it goes through one. Loopback never does.
    pub(super) fn through(&self, url: &Uri) -> Result<Option<Through>, Error> {
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let text = if url.scheme_str() == Some("https") {
            &self.https
        } else {
            &self.http
        };
        let Some(text) = text
            .as_deref()
            .filter(|text| !text.is_empty() && !self.excepts(host))
        else {
            return Ok(None);
        };
        let refused = |reason: &str| Error::Source {
            text: text.rsplit('@').next().unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        };
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let (scheme, rest) = whole.split_once("://").unwrap_or(("http", &whole));
        if scheme != "http" {
            return Err(refused("only HTTP proxies are supported"));
        }
        let (login, rest) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(login, rest)| (Some(login), rest));
        let address = format!("http://{}", rest.trim_end_matches('/'))
            .parse::<Uri>()
            .map_err(|_| refused("it is not a URL"))?;
        let login = login
            .map(basic)
            .transpose()
            .map_err(|()| refused("its user name and password cannot be sent in a header"))?;
        Ok(Some(Through { address, login }))
    }

    fn excepts(&self, host: &str) -> bool {
        let loopback = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        loopback
            || self
                .exceptions
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty())
                .any(|entry| {
                    let name = entry
                        .split(':')
                        .next()
                        .unwrap_or(entry)
                        .trim_start_matches("*.")
                        .trim_start_matches('.');
                    entry == "*"
                        || host.eq_ignore_ascii_case(name)
                        || host
                            .to_ascii_lowercase()
                            .ends_with(&format!(".{}", name.to_ascii_lowercase()))
                })
    }
}

fn basic(login: &str) -> Result<HeaderValue, ()> {
    use base64::Engine as _;
    let text = Zeroizing::new(format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(login)
    ));
    HeaderValue::from_str(&text).map_err(|_| ())
}

/// A TLS configuration that trusts the system's authorities and those given in PEM.
pub(super) fn tls(authorities: &[u8]) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        let certificate = certificate.map_err(|error| Error::Source {
            text: "extra authorities".to_owned(),
            reason: error.to_string(),
        })?;
        roots.add(certificate).map_err(|error| Error::Source {
            text: "extra authorities".to_owned(),
            reason: error.to_string(),
        })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Source {
        text: "TLS".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

type Request = http::Request<Empty<Bytes>>;
type Answer = Result<http::Response<Incoming>, hyper_util::client::legacy::Error>;

/// Sends one request on a connection of its own.
pub(super) async fn send(
    mut request: Request,
    tls: &ClientConfig,
    through: Option<Through>,
) -> Answer {
    let mut plain = HttpConnector::new();
    plain.enforce_http(false);
    let secure = request.uri().scheme_str() == Some("https");
    match through {
        None => client(https(tls, plain)).request(request).await,
        Some(Through { address, login }) if secure => {
            let tunnel = Tunnel::new(address, plain);
            client(https(
                tls,
                match login {
                    Some(login) => tunnel.with_auth(login),
                    None => tunnel,
                },
            ))
            .request(request)
            .await
        }
        Some(Through { address, login }) => {
            if let Some(login) = login {
                request
                    .headers_mut()
                    .insert(http::header::PROXY_AUTHORIZATION, login);
            }
            client(Forward {
                address,
                inner: plain,
            })
            .request(request)
            .await
        }
    }
}

fn https<C>(tls: &ClientConfig, inner: C) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_or_http()
        .enable_http1()
        .wrap_connector(inner)
}

fn client<C>(connector: C) -> Client<C, Empty<Bytes>>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector)
}

/// Connects to the proxy instead, and has requests name the whole URL.
#[derive(Clone)]
struct Forward {
    address: Uri,
    inner: HttpConnector,
}

impl Service<Uri> for Forward {
    type Response = Forwarded;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Forwarded, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.inner.call(self.address.clone());
        Box::pin(async move { connecting.await.map(Forwarded) })
    }
}

/// A connection to a proxy.
struct Forwarded(TokioIo<TcpStream>);

impl Connection for Forwarded {
    fn connected(&self) -> Connected {
        self.0.connected().proxy(true)
    }
}

impl hyper::rt::Read for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Forwarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_go_straight() {
        let proxy = Proxy {
            http: Some("http://u:s3cret@proxy:3128".into()),
            https: Some("proxy:3128".into()),
            exceptions: ".internal, 10.0.0.1 ,exact.example:443".into(),
        };
        for (url, through) in [
            ("http://a.example/", true),
            ("https://a.example/", true),
            ("http://x.internal/", false),
            ("http://10.0.0.1:80/", false),
            ("https://exact.example/", false),
            ("http://127.0.0.1:8080/", false),
            ("http://[::1]:8080/", false),
        ] {
            assert_eq!(
                proxy.through(&url.parse().unwrap()).unwrap().is_some(),
                through,
                "{url}"
            );
        }
        assert!(!format!("{proxy:?}").contains("s3cret"));
        assert!(
            Proxy {
                http: Some("socks5://p".into()),
                ..Proxy::default()
            }
            .through(&"http://a.example/".parse().unwrap())
            .is_err()
        );
    }
}
