//! The one way out to the network: through which proxy, trusting which authorities, over which connections.
//!
//! A [`Network`] is made once from the proxies that the command line read. Charts, EC2 and the AWS SDK send their
//! requests with [`Network::send`]; API servers have authorities of their own and only ask [`Network::proxy`].
//!
//! | part | what it is |
//! | --- | --- |
//! | `rules` | which servers are reached through which proxy |
//! | `connect` | the connection itself: direct, through a tunnel, or to a proxy that forwards |

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri, header::PROXY_AUTHORIZATION};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::{Body, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use connect::Connect;
use rules::Rules;

mod connect;
mod rules;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// The proxies of the environment, as the command line read them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTPS_PROXY`: for `https` servers.
    pub https: Option<String>,
    /// `HTTP_PROXY`: for `http` servers.
    pub http: Option<String>,
    /// `ALL_PROXY`: for servers that none of the others is for.
    pub all: Option<String>,
    /// `NO_PROXY`: servers that are reached directly, separated by commas. An entry is a domain, which includes those
    /// below it (`a.b`, `.a.b`, `*.a.b`), an address, a range of addresses, or `*`; all but a range may end in a port.
    pub none: Option<String>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL of a proxy may hold a password.
        let host = |proxy: &Option<String>| {
            let text = proxy.as_deref()?;
            text.rsplit('@').next().map(str::to_owned)
        };
        f.debug_struct("Proxies")
            .field("https", &host(&self.https))
            .field("http", &host(&self.http))
            .field("all", &host(&self.all))
            .field("none", &self.none)
            .finish()
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable of the environment names something that is no proxy, or one of an unknown kind.
    #[error("{variable} names no usable proxy: {reason}")]
    Proxy {
        /// The variable.
        variable: &'static str,
        /// What is wrong with its value. The value is not shown: it may hold a password.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// No connection, or one that broke.
    #[error(transparent)]
    Request(#[from] hyper_util::client::legacy::Error),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Http = Client<HttpsConnector<Connect>, UnsyncBoxBody<Bytes, BoxError>>;

/// The way out to the network. Clones share their connections.
#[derive(Clone, Default)]
pub struct Network(Arc<Inner>);

#[derive(Default)]
struct Inner {
    proxies: Proxies,
    rules: Arc<Rules>,
    http: OnceCell<Http>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Network").field(&self.0.proxies).finish()
    }
}

impl Network {
    /// A network that is reached through these proxies. A value that is no proxy is an error of the first request that
    /// would go through it.
    pub fn new(proxies: Proxies) -> Self {
        Self(Arc::new(Inner {
            rules: Arc::new(Rules::new(&proxies)),
            proxies,
            http: OnceCell::new(),
        }))
    }

    /// The proxy a server is reached through, with its login; `None` if it is reached directly, as loopback always is.
    pub fn proxy(&self, server: &Uri) -> Result<Option<Uri>, Error> {
        self.0.rules.proxy(server)
    }

    /// Sends a request, trusting the authorities of the system, and returns once the head of the answer is there.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let proxy = self.0.rules.intercept(request.uri())?;
        // A tunnel is told its login when it is made; a proxy that forwards, with every request.
        let forwarded = request.uri().scheme_str() == Some("http");
        if let Some(login) = proxy
            .as_ref()
            .filter(|_| forwarded)
            .and_then(|p| p.basic_auth())
        {
            let login = login.clone();
            request.headers_mut().insert(PROXY_AUTHORIZATION, login);
        }
        let http = self.0.http.get_or_try_init(|| self.client()).await?;
        // A query may be a signature, and a login stands before the host: neither is for a log.
        let (method, uri) = (request.method().clone(), request.uri());
        let (host, path) = (uri.host().unwrap_or_default(), uri.path());
        let told = format!("{method} {host}{path}");
        let answer = http.request(request).await;
        match &answer {
            Ok(answer) => tracing::debug!("{told}: {}", answer.status().as_u16()),
            Err(_) => tracing::debug!("{told}: no answer"),
        }
        Ok(answer?)
    }

    async fn client(&self) -> Result<Http, Error> {
        let tls = Arc::new(trusting(system_roots().await)?);
        let connector =
            HttpsConnector::from((Connect::new(self.0.rules.clone(), tls.clone()), tls));
        Ok(Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector))
    }
}

/// The authorities of the system, read where it does not hold up others.
async fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    if let Ok(found) = found {
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!(errors = ?found.errors, "the system trusts no certificate authority");
        }
    }
    roots
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
