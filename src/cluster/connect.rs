//! From a kubeconfig context, or from server + CA + token, to a [`Cluster`].

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Uri, header};
use kube::{Client, Config, client::ClientBuilder};
use plugin::Plugin;

use super::{Cluster, Error, Inner, Token, wire};
use crate::{name::ClusterName, net::Network};

mod kubeconfig;
mod parts;
mod plugin;

pub(crate) use kubeconfig::{ContextFacts, ExecFacts, Merged as Kubeconfig};
pub(super) use parts::Bare;
pub(crate) use parts::{from_parts, shown_at};

/// How many requests are sent to one API server at once.
const ABREAST: usize = 16;

/// How to connect; made by the command line, which alone reads the environment.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The kubeconfig files in order of precedence: `KUBECONFIG`, or `~/.kube/config`.
    pub kubeconfig: Vec<PathBuf>,
    /// For each request: connect, send, and read the answer. Watches and forwards last longer.
    pub timeout: Duration,
    /// What we call ourselves in the API server's audit log.
    pub user_agent: String,
    /// A credential plugin may ask questions on the terminal.
    pub interactive: bool,
    /// How long a credential plugin may take.
    pub plugin_limit: Duration,
    /// The time, by which a plugin's credentials end. Without it they are kept until the program ends.
    pub now: Now,
    /// Clusters that may be spoken to without encryption, or without a check of who answers.
    pub insecure: BTreeSet<ClusterName>,
    /// The way out; what a kubeconfig says of a proxy wins over it.
    pub network: Network,
}

/// What tells the time.
#[derive(Clone)]
pub struct Now(pub Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>);

impl Default for Now {
    fn default() -> Self {
        Self(Arc::new(|| jiff::Timestamp::UNIX_EPOCH))
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

/// What keeps somebody on the way from reading or changing what is said to a cluster, where that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insecure {
    /// Nothing is encrypted: `http://`. Credentials are sent only where that was allowed by name.
    Cleartext {
        /// There are credentials that were not sent.
        withheld: bool,
    },
    /// Whoever answers is taken for the API server: `insecure-skip-tls-verify`.
    Unverified,
}

impl fmt::Display for Insecure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cleartext { .. } => "is spoken to in clear text (http://)",
            Self::Unverified => {
                "is spoken to without a check of its certificate (insecure-skip-tls-verify)"
            }
        })
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            kubeconfig: Vec::new(),
            timeout: Duration::from_secs(30),
            user_agent: concat!("meshlink/", env!("CARGO_PKG_VERSION")).into(),
            interactive: false,
            plugin_limit: Duration::from_secs(60),
            now: Now::default(),
            insecure: BTreeSet::new(),
            network: Network::default(),
        }
    }
}

/// Why there was no token; shown as it is.
pub(crate) type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Gives the token for the next request, renewed when it has to be. Called for every request, so
/// it keeps the token between calls.
pub(crate) type TokenProvider =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send>> + Send + Sync>;

/// A provider for a token that is never renewed.
pub(crate) fn fixed(token: Token) -> TokenProvider {
    Arc::new(move || {
        let token = token.clone();
        Box::pin(async move { Ok(token) })
    })
}

/// Connects to the cluster of a kubeconfig context. Nothing is sent to it yet; a credential
/// plugin is run.
pub(crate) async fn connect(
    name: &ClusterName,
    context: &str,
    kubeconfig: &Kubeconfig,
    options: &ConnectOptions,
) -> Result<Cluster, Error> {
    let mut found = kubeconfig.context(name, context, options)?;
    let insecure = found.insecure(options);
    if let Some(Insecure::Cleartext { withheld: true }) = insecure {
        found.forget_users();
    }
    let (server, ca) = (found.server.clone(), found.ca.clone());
    let mut config = found.config().await?;
    config.proxy_url = match found_proxy(&config, options) {
        Ok(proxy) => proxy,
        Err(reason) => return Err(unusable(name, &server, reason)),
    };
    let mut tokens = None;
    if let (Some(exec), Some(facts)) = (config.auth_info.exec.take(), found.exec.clone()) {
        let plugin = Plugin::new(name, exec, facts, options);
        let given = plugin.run().await?;
        given.certify(&mut config.auth_info);
        tokens = plugin.tokens(&given);
    }
    // Old ways of signing in run programs too, so the builder gets a thread of its own.
    let built = tokio::task::spawn_blocking(move || build(config)).await;
    let client = match built {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(unusable(name, &server, error)),
        Err(error) => return Err(unusable(name, &server, error)),
    };
    let cluster = Endpoint {
        server: &server,
        ca,
        insecure,
    };
    Ok(from_built(name, client, cluster, options, tokens))
}

/// As [`connect`], with these tokens instead of what the context's user says.
pub(crate) async fn connect_as(
    name: &ClusterName,
    context: &str,
    kubeconfig: &Kubeconfig,
    token: TokenProvider,
    options: &ConnectOptions,
) -> Result<Cluster, Error> {
    let mut found = kubeconfig.context(name, context, options)?;
    let insecure = found.insecure(options);
    found.forget_users();
    let (server, ca) = (found.server.clone(), found.ca.clone());
    let mut config = found.config().await?;
    let fail = |reason: String| unusable(name, &server, reason);
    config.proxy_url = found_proxy(&config, options).map_err(fail)?;
    let client = build(config).map_err(|error| unusable(name, &server, error))?;
    let withheld = matches!(insecure, Some(Insecure::Cleartext { withheld: true }));
    let endpoint = Endpoint {
        server: &server,
        ca,
        insecure,
    };
    let tokens = (!withheld).then_some(token);
    Ok(from_built(name, client, endpoint, options, tokens))
}

/// A cluster behind a client that is already there: embedded clusters, and tests.
#[cfg(test)]
pub(crate) fn from_client(
    name: &ClusterName,
    client: Client,
    server: &str,
    ca: Option<Vec<u8>>,
) -> Cluster {
    let endpoint = Endpoint {
        server,
        ca,
        insecure: None,
    };
    from_built(name, client, endpoint, &ConnectOptions::default(), None)
}

/// Where a cluster is, and how it is known to be there.
struct Endpoint<'a> {
    server: &'a str,
    ca: Option<Vec<u8>>,
    insecure: Option<Insecure>,
}

fn is_cleartext(server: &str) -> bool {
    let scheme = server.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"))
}

fn build(config: Config) -> Result<Client, kube::Error> {
    Ok(ClientBuilder::try_from(config)?.build())
}

fn from_built(
    name: &ClusterName,
    client: Client,
    endpoint: Endpoint<'_>,
    options: &ConnectOptions,
    token: Option<TokenProvider>,
) -> Cluster {
    let counters = Arc::<wire::Counters>::default();
    let mut headers = HeaderMap::new();
    if let Ok(agent) = HeaderValue::from_str(&options.user_agent) {
        headers.insert(header::USER_AGENT, agent);
    }
    let client = wire::counted(name, client, counters.clone(), headers, token);
    let inner = Inner {
        name: name.clone(),
        server: endpoint.server.to_owned(),
        ca: endpoint.ca,
        insecure: endpoint.insecure,
        client,
        timeout: options.timeout,
        answered: false.into(),
        date: Mutex::default(),
        counters,
        bare: Bare::default(),
        kinds: Default::default(),
        room: tokio::sync::Semaphore::new(ABREAST),
    };
    Cluster(Arc::new(inner), None)
}

fn found_proxy(config: &Config, options: &ConnectOptions) -> Result<Option<Uri>, String> {
    match &config.proxy_url {
        Some(proxy) => Ok(Some(proxy.clone())),
        None => {
            let proxy = options.network.proxy(&config.cluster_url);
            proxy.map_err(|error| error.to_string())
        }
    }
}

/// The certificates of a PEM bundle as DER.
fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
        .map(|der| der.map(|der| der.to_vec()))
        .collect();
    match found {
        Ok(found) if found.is_empty() => Err("the CA bundle holds no certificate".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("the CA bundle: {error}")),
    }
}

fn unusable(name: &ClusterName, server: &str, reason: impl fmt::Display) -> Error {
    Error::Connect {
        cluster: name.clone(),
        server: server.into(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::hint::Hint;

    /// A server that answers every request with the Authorization header it got, and a kubeconfig
    /// for it whose credentials come from `script`.
    async fn setup(script: Option<&str>, extra: &str) -> (tempfile::TempDir, ConnectOptions) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("plugin");
        if let Some(script) = script {
            std::fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = format!(
            "{{apiVersion: v1, kind: Config, clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}], \
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             users: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: ./plugin, \
             env: [{{name: WORD, value: token}}]{extra}}}}}}}]}}"
        );
        let file = dir.path().join("config");
        std::fs::write(&file, config).unwrap();
        (
            dir,
            ConnectOptions {
                kubeconfig: vec![file],
                insecure: BTreeSet::from(["eks-1".parse().unwrap()]),
                plugin_limit: Duration::from_secs(2),
                ..Default::default()
            },
        )
    }

    async fn echo(mut stream: tokio::net::TcpStream) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = vec![0; 8192];
        while let Ok(length @ 1..) = stream.read(&mut request).await {
            let text = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
            let token = text
                .lines()
                .find_map(|line| line.strip_prefix("authorization: "))
                .unwrap_or_default();
            let body =
                serde_json::json!({"metadata": {"name": "x", "resourceVersion": "1"}, "authorization": token})
                    .to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    async fn run(script: Option<&str>, extra: &str) -> Result<String, Error> {
        let (_dir, options) = setup(script, extra).await;
        let kubeconfig = Kubeconfig::read(&options.kubeconfig)?;
        let cluster = connect(&"eks-1".parse().unwrap(), "c", &kubeconfig, &options).await?;
        let found = cluster
            .find(&super::super::Ref::cluster(
                &super::super::Kind::NAMESPACE,
                "x",
            ))
            .await?
            .unwrap();
        Ok(found["authorization"].as_str().unwrap().to_owned())
    }

    const CREDENTIAL: &str = r#"printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$WORD-$(echo "$KUBERNETES_EXEC_INFO" | grep -o '"interactive":[a-z]*' | cut -d: -f2)""#;

    #[tokio::test]
    async fn a_credential_plugin_gets_its_environment_and_no_terminal() {
        assert_eq!(
            run(Some(CREDENTIAL), "").await.unwrap(),
            "bearer token-false"
        );
        assert_eq!(
            run(Some(CREDENTIAL), ", interactiveMode: IfAvailable")
                .await
                .unwrap(),
            "bearer token-false"
        );
    }

    #[tokio::test]
    async fn a_plugin_that_fails_is_told_of_but_not_what_it_printed() {
        for (script, extra, want, hint) in [
            (
                None,
                ", installHint: brew install plugin",
                "is not installed",
                Some("brew install plugin"),
            ),
            (
                Some("echo canary; echo 'sso session expired' >&2; exit 3"),
                "",
                "(exit status: 3): sso session expired",
                None,
            ),
            (Some("echo canary"), "", "not print an ExecCredential", None),
            (
                Some("echo '{\"kind\":\"ExecCredential\"}'"),
                "",
                "without a status",
                None,
            ),
        ] {
            let error = run(script, extra).await.unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(want) && !text.contains("canary"), "{text}");
            assert!(matches!(error, Error::Plugin { .. }), "{text}");
            assert_eq!(error.hint(), hint.map(Hint::note), "{text}");
        }
    }

    /// A kubeconfig's plugin is anybody's program: it may hang, with children that would outlive us.
    #[tokio::test]
    async fn a_plugin_that_hangs_is_stopped_with_all_it_started() {
        let (dir, options) = setup(
            Some("sleep 1000 & echo $! >\"$(dirname \"$0\")/started\"; wait"),
            "",
        )
        .await;
        let kubeconfig = Kubeconfig::read(&options.kubeconfig).unwrap();
        let name = "eks-1".parse().unwrap();
        let began = std::time::Instant::now();
        let error = connect(&name, "c", &kubeconfig, &options)
            .await
            .unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20));
        let text = error.to_string();
        assert!(text.contains("did not end within 2 s"), "{text}");
        let pid = std::fs::read_to_string(dir.path().join("started")).unwrap();
        let stat = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        let gone = || std::fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z"));
        while !gone() {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{pid} still runs"
            );
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn no_credentials_are_sent_in_clear_text_unless_that_is_allowed_by_name() {
        let (_dir, mut options) = setup(Some(CREDENTIAL), "").await;
        options.insecure.clear();
        let kubeconfig = Kubeconfig::read(&options.kubeconfig).unwrap();
        let name: ClusterName = "eks-1".parse().unwrap();
        let namespace = super::super::Ref::cluster(&super::super::Kind::NAMESPACE, "x");
        let token = || fixed(Token::new("canary".into()));
        for (told, want) in [(false, ""), (true, "bearer canary")] {
            if told {
                options.insecure.insert(name.clone());
            }
            let plain = connect(&name, "c", &kubeconfig, &options).await.unwrap();
            let signed = connect_as(&name, "c", &kubeconfig, token(), &options);
            let server = plain.server().to_owned();
            let parts = from_parts(&name, &server, None, None, token(), &options);
            for cluster in [signed.await.unwrap(), parts.unwrap()] {
                let found = cluster.find(&namespace).await.unwrap().unwrap();
                assert_eq!(found["authorization"], want);
                let withheld = Insecure::Cleartext { withheld: !told };
                assert_eq!(cluster.insecure(), Some(withheld));
            }
            let found = plain.find(&namespace).await.unwrap().unwrap();
            let sent = found["authorization"].as_str().unwrap();
            assert_eq!(sent.is_empty(), !told, "{sent}");
        }
    }

    #[tokio::test]
    async fn the_parts_are_checked_before_anything_is_sent() {
        let options = ConnectOptions::default();
        let name: ClusterName = "eks-1".parse().unwrap();
        let token = || fixed(Token::new("canary".into()));
        for (server, ca, want) in [
            ("not a url", None, "the address"),
            ("https://a.b", Some(&b"nonsense"[..]), "no certificate"),
            (
                "https://a.b",
                Some(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"),
                "the CA bundle",
            ),
        ] {
            let error = from_parts(&name, server, ca, None, token(), &options).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(want) && !text.contains("canary"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_proxy_of_the_kubeconfig_wins_over_one_of_the_environment() {
        use crate::net::{Proxies, testing::Recorder};

        let denied = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        for wins in [true, false] {
            let (mut own, mut common) =
                (Recorder::start(denied).await, Recorder::start(denied).await);
            let proxy = match wins {
                true => format!(", proxy-url: 'http://{}'", own.address),
                false => String::new(),
            };
            let text = format!(
                "{{apiVersion: v1, kind: Config, clusters: [{{name: c, cluster: {{server: 'https://api.invalid'{proxy}}}}}], \
                 contexts: [{{name: c, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{token: t}}}}]}}"
            );
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("config");
            std::fs::write(&file, text).unwrap();
            let options = ConnectOptions {
                kubeconfig: vec![file],
                network: Network::new(Proxies {
                    https: Some(common.address.clone()),
                    ..Proxies::default()
                }),
                ..Default::default()
            };
            let kubeconfig = Kubeconfig::read(&options.kubeconfig).unwrap();
            let name = "a".parse().unwrap();
            let cluster = connect(&name, "c", &kubeconfig, &options).await.unwrap();
            cluster.identity().await.unwrap_err();
            let asked = match wins {
                true => own.next().await,
                false => common.next().await,
            };
            assert_eq!(asked.0, "CONNECT api.invalid:443 HTTP/1.1");
        }
    }

    #[tokio::test]
    async fn nothing_there_is_said_plainly() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let options = ConnectOptions {
            timeout: Duration::from_secs(2),
            ..Default::default()
        };
        let cluster = from_parts(
            &"a".parse().unwrap(),
            &server,
            None,
            None,
            fixed(Token::new("t".into())),
            &options,
        );
        let error = cluster.unwrap().identity().await.unwrap_err();
        let failure = error.failure().unwrap();
        assert_eq!(
            failure.to_string(),
            "nothing answers at the server's address"
        );
        assert_eq!(error.recover(), super::super::Recover::Backoff);
    }
}
