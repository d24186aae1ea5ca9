//! Tokens for an EKS API server: a presigned question to STS, "who am I", bound to one cluster.
//!
//! The API server's authenticator sends the question on to STS itself, so the URL must name the public regional
//! endpoint: an override of the STS endpoint never enters it.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{Error, Facts};
use crate::{
    aws::{Session, arn::Partition, env::Service},
    mutex,
};

/// How long an API server accepts a token, less a minute for clocks that differ.
pub(crate) const LIFE: Duration = Duration::from_secs(14 * 60);
/// Age at which a [`TokenSource`] makes a new one.
pub(crate) const RENEW: Duration = Duration::from_secs(13 * 60);

/// A bearer token. Neither printed nor serialised.
#[derive(Clone)]
pub(crate) struct Token {
    secret: Zeroizing<String>,
    /// Until when it can be used.
    pub expires: SystemTime,
}

impl Token {
    /// The text that goes into the `Authorization` header.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Sign a token; no call is made.
pub(crate) fn mint(
    id: &str,
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Token, Error> {
    let fail = |reason: String| Error::Sign {
        cluster: id.into(),
        reason,
    };
    let suffix = Partition::of_region(region).suffix;
    let host = format!("sts.{region}.{suffix}");
    let url = format!("https://{host}/?Action=GetCallerIdentity&Version=2011-06-15");
    let identity = credentials.clone().into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|e| fail(e.to_string()))?;
    let headers = [("host", host.as_str()), ("x-k8s-aws-id", id)];
    let request = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(b""))
        .map_err(|e| fail(e.to_string()))?;
    let (instructions, _) = sign(request, &parameters.into())
        .map_err(|e| fail(e.to_string()))?
        .into_parts();
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(instructions.params());
    let signed = Zeroizing::new(format!("{url}&{}", query.finish()));
    let secret = Zeroizing::new(format!(
        "k8s-aws-v1.{}",
        URL_SAFE_NO_PAD.encode(signed.as_bytes())
    ));
    Ok(Token {
        secret,
        expires: now + LIFE,
    })
}

/// Tokens for one cluster, each used until it is about 13 minutes old.
#[derive(Clone)]
pub(crate) struct TokenSource {
    cluster: String,
    id: String,
    session: Session,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    last: Arc<Mutex<Option<Token>>>,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl TokenSource {
    /// Tokens for a described cluster, with the credentials that described it.
    pub(crate) fn new(
        facts: &Facts,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self::for_id(&facts.name, &facts.token_id, facts.session.clone(), clock)
    }

    /// Tokens for a cluster known by name only, as a kubeconfig's exec entry gives it.
    pub(crate) fn for_id(
        cluster: &str,
        id: &str,
        session: Session,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            id: id.into(),
            session,
            clock: Arc::new(clock),
            last: Arc::default(),
        }
    }

    /// A token good for at least a minute. Asks the credentials chain only when a new one is due.
    pub(crate) async fn token(&self) -> Result<Token, Error> {
        let now = (self.clock)();
        if let Some(token) = self.fresh(now) {
            return Ok(token);
        }
        let credentials = self
            .session
            .credentials("GetCallerIdentity", Service::Sts)
            .await;
        let credentials = credentials.map_err(|source| Error::Call {
            cluster: self.cluster.clone(),
            profile: self.session.profile().map(str::to_owned),
            source: Box::new(source),
        })?;
        let mut token = mint(&self.id, self.session.region(), &credentials, now)?;
        if let Some(expiry) = credentials.expiry() {
            token.expires = token.expires.min(expiry);
        }
        *mutex::lock(&self.last) = Some(token.clone());
        Ok(token)
    }

    fn fresh(&self, now: SystemTime) -> Option<Token> {
        let last = mutex::lock(&self.last).clone();
        last.filter(|token| now + (LIFE - RENEW) < token.expires && token.expires <= now + LIFE)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::UNIX_EPOCH};

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn url(token: &Token) -> String {
        let text = token.secret().strip_prefix("k8s-aws-v1.").unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    fn query(url: &str) -> BTreeMap<String, String> {
        let query = url.split_once('?').unwrap().1;
        form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect()
    }

    #[test]
    fn the_url_is_what_the_authenticator_accepts() {
        let keys = Credentials::new(
            "AKID",
            "secret",
            Some("session/token+".into()),
            None,
            "test",
        );
        let token = mint("eks-1", "cn-north-1", &keys, at(NOW)).unwrap();
        let url = url(&token);
        assert!(
            url.starts_with("https://sts.cn-north-1.amazonaws.com.cn/?Action=GetCallerIdentity&"),
            "{url}"
        );
        let query = query(&url);
        assert_eq!(query["X-Amz-SignedHeaders"], "host;x-k8s-aws-id");
        assert_eq!(query["X-Amz-Expires"], "60");
        assert_eq!(query["X-Amz-Security-Token"], "session/token+");
        assert!(query["X-Amz-Credential"].ends_with("/cn-north-1/sts/aws4_request"));
        assert_eq!(token.expires, at(NOW) + LIFE);
        assert!(!format!("{token:?}").contains("k8s-aws"));
    }

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_thirteen_minutes_old() {
        let env = crate::aws::Env {
            region: Some("eu-west-1".into()),
            keys: Some(Credentials::new("AKID", "secret", None, None, "test")),
            ..Default::default()
        };
        let session = crate::aws::Aws::new(env)
            .session(&Default::default(), None)
            .await
            .unwrap();
        let now = Arc::new(Mutex::new(at(NOW)));
        let clock = now.clone();
        let source = TokenSource::for_id("eks-1", "eks-1", session, move || *clock.lock().unwrap());
        let first = source.token().await.unwrap();
        *now.lock().unwrap() = at(NOW + 12 * 60);
        assert_eq!(source.token().await.unwrap().secret(), first.secret());
        *now.lock().unwrap() = at(NOW + 13 * 60);
        let second = source.token().await.unwrap();
        assert_ne!(second.secret(), first.secret());
        *now.lock().unwrap() = at(NOW);
        assert_ne!(
            source.token().await.unwrap().secret(),
            second.secret(),
            "the clock was set back"
        );
    }
}
