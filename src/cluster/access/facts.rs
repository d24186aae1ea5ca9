//! Remote secrets as they are found: read critically, and never their tokens.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Serialize;
use serde_json::Value;

use crate::{cluster::Token, digest::sha256_hex};

/// One cluster in a remote secret, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemoteSecretFacts {
    /// The Secret, as `namespace/name`.
    pub(crate) secret: String,
    /// The cluster it is for: its key.
    pub(crate) cluster: String,
    /// The API server's address.
    pub(crate) server: Option<String>,
    /// SHA-256 of the CA bundle, in hex.
    pub(crate) ca_sha256: Option<String>,
    /// The CA bundle, as PEM.
    #[serde(skip)]
    pub(crate) ca: Vec<u8>,
    /// What the token says of itself.
    pub(crate) token: Option<TokenFacts>,
    /// SHA-256 of the token, in hex: equal tokens can be told, and nothing else.
    pub(crate) token_sha256: Option<String>,
    /// What istiod will not accept, or will trip over.
    pub(crate) problems: Vec<Problem>,
}

/// What a token says of itself; its signature is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenFacts {
    /// Whom it is for, such as `system:serviceaccount:istio-system:meshlink-reader-eks-1`.
    pub(crate) subject: Option<String>,
    /// When it ends, in seconds since 1970; a token without this date never does.
    pub(crate) expires: Option<i64>,
    /// When it was issued, in seconds since 1970, where it says so.
    pub(crate) issued: Option<i64>,
}

/// What is wrong with a remote secret as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Problem {
    NotYaml,
    NoServer,
    NoCa,
    NoToken,
    LoopbackServer,
    PlainHttp,
    SkipsTls,
    Exec,
    AuthProvider,
    ClientCertificate,
    TokenFile,
    SeveralClusters,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotYaml => "is not a kubeconfig; istiod only logs that",
            Self::NoServer => "names no server",
            Self::NoCa => "has no CA inline, so that only a public certificate would be trusted",
            Self::NoToken => "has no token",
            Self::LoopbackServer => "names a loopback server, which no other cluster reaches",
            Self::PlainHttp => "names a server without TLS",
            Self::SkipsTls => "does not check the server's certificate",
            Self::Exec => "wants a credential plugin, which istiod refuses",
            Self::AuthProvider => "wants an auth provider, which istiod refuses",
            Self::ClientCertificate => "names client certificate files, which istiod refuses",
            Self::TokenFile => "names a token file, which istiod refuses",
            Self::SeveralClusters => "holds several clusters in one kubeconfig",
        })
    }
}

/// Reads a remote secret: one entry per key.
pub(crate) fn parse(secret: &Value) -> Vec<RemoteSecretFacts> {
    let metadata = &secret["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = format!(
        "{}/{}",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    );
    let data = secret["data"].as_object();
    let entries = data.into_iter().flatten();
    entries
        .map(|(key, value)| facts(&name, key, value.as_str().unwrap_or_default()))
        .collect()
}

/// The tokens in a remote secret, by cluster: for asking whether they still open anything.
pub(crate) fn tokens(secret: &Value) -> Vec<(String, Token)> {
    let data = secret["data"].as_object();
    let token = |(cluster, data): (&String, &Value)| {
        let bytes = zeroize::Zeroizing::new(STANDARD.decode(data.as_str()?).ok()?);
        let config: Value = serde_saphyr::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
        let token = config["users"][0]["user"]["token"].as_str()?;
        Some((cluster.clone(), Token::new(token.to_owned())))
    };
    data.into_iter().flatten().filter_map(token).collect()
}

fn facts(secret: &str, cluster: &str, data: &str) -> RemoteSecretFacts {
    let bytes = zeroize::Zeroizing::new(STANDARD.decode(data).unwrap_or_default());
    let config = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
    let mut facts = RemoteSecretFacts {
        secret: secret.into(),
        cluster: cluster.into(),
        server: None,
        ca_sha256: None,
        ca: Vec::new(),
        token: None,
        token_sha256: None,
        problems: Vec::new(),
    };
    let Some(config) = config.filter(|config| config["clusters"].is_array()) else {
        facts.problems.push(Problem::NotYaml);
        return facts;
    };
    let (entry, user) = (
        &config["clusters"][0]["cluster"],
        &config["users"][0]["user"],
    );
    facts.server = entry["server"].as_str().map(str::to_owned);
    let ca = entry["certificate-authority-data"]
        .as_str()
        .and_then(|ca| STANDARD.decode(ca).ok())
        .unwrap_or_default();
    facts.ca_sha256 = (!ca.is_empty()).then(|| sha256_hex(&ca));
    facts.ca = ca;
    if let Some(token) = user["token"].as_str() {
        facts.token = Some(token_facts(token));
        facts.token_sha256 = Some(sha256_hex(token.as_bytes()));
    }
    facts.problems = problems(&facts, &config, entry, user);
    facts
}

fn problems(
    facts: &RemoteSecretFacts,
    config: &Value,
    entry: &Value,
    user: &Value,
) -> Vec<Problem> {
    let server = facts
        .server
        .as_deref()
        .and_then(|server| server.parse::<http::Uri>().ok());
    let certificate = user["client-certificate"].is_string() || user["client-key"].is_string();
    let inline = user["client-certificate-data"].is_string();
    let skips = entry["insecure-skip-tls-verify"] == true;
    [
        (facts.server.is_none(), Problem::NoServer),
        (facts.ca_sha256.is_none() && !skips, Problem::NoCa),
        (
            facts.token.is_none() && !inline && !user["exec"].is_object(),
            Problem::NoToken,
        ),
        (
            server.as_ref().is_some_and(loopback),
            Problem::LoopbackServer,
        ),
        (
            server
                .as_ref()
                .is_some_and(|server| server.scheme_str() != Some("https")),
            Problem::PlainHttp,
        ),
        (skips, Problem::SkipsTls),
        (user["exec"].is_object(), Problem::Exec),
        (user["auth-provider"].is_object(), Problem::AuthProvider),
        (certificate, Problem::ClientCertificate),
        (user["tokenFile"].is_string(), Problem::TokenFile),
        (
            config["clusters"]
                .as_array()
                .is_some_and(|clusters| clusters.len() > 1),
            Problem::SeveralClusters,
        ),
    ]
    .into_iter()
    .filter_map(|(found, problem)| found.then_some(problem))
    .collect()
}

fn loopback(server: &http::Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost"
        || address.is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

/// What a token says of itself. A token that is no JWT says nothing, not even when it ends.
pub(crate) fn token_facts(token: &str) -> TokenFacts {
    let claims = token
        .split('.')
        .nth(1)
        .and_then(|claims| URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok());
    let claims: Value = claims
        .and_then(|claims| serde_json::from_slice(&claims).ok())
        .unwrap_or_default();
    TokenFacts {
        subject: claims["sub"].as_str().map(str::to_owned),
        expires: claims["exp"].as_i64(),
        issued: claims["iat"].as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Link, remote_secret},
        *,
    };
    use crate::cluster::Token;

    fn link() -> Link {
        Link {
            cluster: "eks-2".parse().unwrap(),
            server: "https://a.b".into(),
            ca: b"ca".to_vec(),
            token: Token::new("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.canary".into()),
            tls_server_name: None,
        }
    }

    #[test]
    fn facts_never_hold_the_token() {
        let facts = parse(&remote_secret(&link()));
        let shown = format!(
            "{facts:?} {} {:?}",
            serde_json::to_string(&facts).unwrap(),
            link()
        );
        assert!(!shown.contains("canary"), "{shown}");
        let token = facts[0].token.as_ref().unwrap();
        assert_eq!(
            (token.subject.as_deref(), token.expires),
            (Some("me"), None)
        );
    }

    #[test]
    fn tokens_tell_when_they_end() {
        let jwt = |claims: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(
            token_facts(&jwt(r#"{"exp": 1800000000, "sub": "x"}"#)).expires,
            Some(1_800_000_000)
        );
        assert_eq!(token_facts(&jwt("{}")).expires, None);
        assert_eq!(
            token_facts("opaque"),
            TokenFacts {
                subject: None,
                expires: None,
                issued: None,
            }
        );
    }

    #[test]
    fn what_istiod_trips_over_is_named() {
        let cluster = "clusters: [{name: a, cluster: {server: 'https://a.b', certificate-authority-data: eA==}}]";
        let with = |user: &str| format!("{cluster}\nusers: [{{name: a, user: {user}}}]");
        let server = |server: &str| with("{token: t}").replace("https://a.b", server);
        for (config, want) in [
            (with("{token: t}"), vec![]),
            (with("{}"), vec![Problem::NoToken]),
            (with("{exec: {command: aws}}"), vec![Problem::Exec]),
            (with("{token: t, tokenFile: /x}"), vec![Problem::TokenFile]),
            (
                with("{token: t, client-certificate: /x}"),
                vec![Problem::ClientCertificate],
            ),
            (
                with("{token: t, auth-provider: {name: gcp}}"),
                vec![Problem::AuthProvider],
            ),
            (
                server("https://127.0.0.1:6443"),
                vec![Problem::LoopbackServer],
            ),
            (
                server("https://localhost:6443"),
                vec![Problem::LoopbackServer],
            ),
            (server("https://[::1]:6443"), vec![Problem::LoopbackServer]),
            (server("http://a.b"), vec![Problem::PlainHttp]),
            (
                with("{token: t}").replace(
                    "certificate-authority-data: eA==",
                    "insecure-skip-tls-verify: true",
                ),
                vec![Problem::SkipsTls],
            ),
            (
                with("{token: t}").replace(", certificate-authority-data: eA==", ""),
                vec![Problem::NoCa],
            ),
            ("no: kubeconfig".into(), vec![Problem::NotYaml]),
            ("{".into(), vec![Problem::NotYaml]),
        ] {
            let secret = json!({"metadata": {"namespace": "n", "name": "s"}, "data": {"a": STANDARD.encode(&config)}});
            let [facts] = parse(&secret).try_into().unwrap();
            assert_eq!(facts.problems, want, "{config}");
            assert_eq!(
                (facts.secret.as_str(), facts.cluster.as_str()),
                ("n/s", "a")
            );
        }
        let secret = json!({"metadata": {}, "data": {"a": "%%%"}});
        assert_eq!(parse(&secret)[0].problems, [Problem::NotYaml]);
    }
}
