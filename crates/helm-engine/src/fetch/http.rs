//! Requests: bounded in time and size, redirected with care.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::{ClientConfig, RootCertStore};
use tower::{ServiceExt as _, util::BoxCloneSyncService};

use super::{Credential, FetchOptions};
use crate::Error;

/// The most redirects that are followed.
const REDIRECTS: usize = 5;

/// Sends one request and gives the answer: the caller's way to the network, with its proxies and the authorities it trusts.
pub type Transport = BoxCloneSyncService<
    http::Request<Empty<Bytes>>,
    http::Response<Incoming>,
    Box<dyn std::error::Error + Send + Sync>,
>;

/// Straight to the server, trusting the authorities of the system.
fn direct() -> Result<Transport, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Source {
            text: "TLS".to_owned(),
            reason: error.to_string(),
        })?;
    let tls = builder.with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    Ok(Transport::new(client.map_err(Into::into)))
}

/// Sends requests as the options say.
pub(super) struct Http {
    transport: Transport,
    pub(super) credentials: Vec<Credential>,
    timeout: Duration,
}

/// What a server answered.
pub(super) struct Answer {
    /// Who answered, after redirects: not always who was asked.
    pub(super) authority: String,
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What to ask for.
#[derive(Default)]
pub(super) struct Ask<'a> {
    pub(super) accept: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    pub(super) limit: usize,
}

impl Http {
    pub(super) fn new(options: &FetchOptions) -> Result<Self, Error> {
        Ok(Self {
            transport: match &options.transport {
                Some(transport) => transport.clone(),
                None => direct()?,
            },
            credentials: options.credentials.clone(),
            timeout: options.timeout,
        })
    }

    /// The body of a URL, with the login of its host.
    pub(super) async fn get(&self, url: &str, limit: usize) -> Result<Vec<u8>, Error> {
        let login = url
            .parse::<Uri>()
            .ok()
            .and_then(|uri| Credential::basic(&self.credentials, uri.authority()?.as_str()));
        let answer = self
            .ask(
                url,
                &Ask {
                    authorization: login.as_ref().map(|login| login.as_str()),
                    limit,
                    ..Ask::default()
                },
            )
            .await?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(Error::Status {
                url: url.to_owned(),
                status,
            }),
        }
    }

    /// Whatever a URL answers.
    pub(super) async fn ask(&self, url: &str, ask: &Ask<'_>) -> Result<Answer, Error> {
        let slow = |_| Error::Slow {
            url: url.to_owned(),
            seconds: self.timeout.as_secs(),
        };
        tokio::time::timeout(self.timeout, self.follow(url, ask))
            .await
            .map_err(slow)?
    }

    async fn follow(&self, url: &str, ask: &Ask<'_>) -> Result<Answer, Error> {
        let mut at: Uri = url.parse().map_err(|error| failed(url, error))?;
        let first = at.authority().cloned();
        for _ in 0..=REDIRECTS {
            // A login is for the host it was given for, and for no other.
            let authorization = ask
                .authorization
                .filter(|_| at.authority() == first.as_ref());
            let response = self.send(&at, ask.accept, authorization).await?;
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok());
            match (response.status().is_redirection(), location) {
                (true, Some(location)) => {
                    at = redirected(&at, location).ok_or_else(|| {
                        failed(url, format!("refused to follow a redirect to {location}"))
                    })?
                }
                _ => {
                    let authority = at.authority().map(ToString::to_string);
                    let answer = read(url, response, ask.limit).await?;
                    return Ok(Answer {
                        authority: authority.unwrap_or_default(),
                        ..answer
                    });
                }
            }
        }
        Err(failed(url, format!("more than {REDIRECTS} redirects")))
    }

    async fn send(
        &self,
        url: &Uri,
        accept: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<http::Response<Incoming>, Error> {
        let text = url.to_string();
        let mut request = http::Request::get(url).header(
            header::USER_AGENT,
            concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
        );
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(authorization).map_err(|_| {
                failed(
                    &text,
                    "the user name and password cannot be sent in a header",
                )
            })?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(&text, error))?;
        let sent = self.transport.clone().oneshot(request).await;
        sent.map_err(|error| failed(&text, error))
    }
}

fn failed(url: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Request {
        url: url.to_owned(),
        source: source.into(),
    }
}

/// Where a redirect leads; nowhere if it would leave TLS.
fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let target: Uri = join(&from.to_string(), location).parse().ok()?;
    let downgrade = from.scheme_str() == Some("https") && target.scheme_str() != Some("https");
    (target.authority().is_some() && !downgrade).then_some(target)
}

/// A URL relative to another.
pub(super) fn join(base: &str, relative: &str) -> String {
    if relative.contains("://") {
        return relative.to_owned();
    }
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    let host_end = base[scheme_end..]
        .find('/')
        .map_or(base.len(), |at| scheme_end + at);
    if relative.starts_with('/') {
        return format!("{}{relative}", &base[..host_end]);
    }
    let folder_end = base[host_end..]
        .rfind('/')
        .map_or(base.len(), |at| host_end + at);
    format!("{}/{relative}", &base[..folder_end])
}

async fn read(
    url: &str,
    response: http::Response<Incoming>,
    limit: usize,
) -> Result<Answer, Error> {
    let (head, body) = response.into_parts();
    let bytes = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Error::TooLarge {
                url: url.to_owned(),
                limit,
            }
        } else {
            failed(url, error)
        }
    })?;
    Ok(Answer {
        authority: String::new(),
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes.to_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_joined() {
        for (base, relative, expected) in [
            (
                "https://h/charts/index.yaml",
                "a-1.tgz",
                "https://h/charts/a-1.tgz",
            ),
            (
                "https://h/charts/index.yaml",
                "/x/a.tgz",
                "https://h/x/a.tgz",
            ),
            ("https://h", "a.tgz", "https://h/a.tgz"),
            ("https://h/x", "https://other/a.tgz", "https://other/a.tgz"),
        ] {
            assert_eq!(join(base, relative), expected);
        }
    }

    #[test]
    fn a_redirect_never_leaves_tls() {
        let from: Uri = "https://h/a".parse().unwrap();
        assert!(redirected(&from, "http://h/b").is_none());
        assert_eq!(redirected(&from, "/b").unwrap(), "https://h/b");
        assert_eq!(redirected(&from, "https://o/b").unwrap(), "https://o/b");
    }
}
