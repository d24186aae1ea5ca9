//! Which cluster this is, what we may do in it, and tokens for its accounts.

use std::{fmt, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Cluster, Error, Failure, Kind, Ref, Verb, wire::Call};

/// How many reviews are asked side by side.
const SIDE_BY_SIDE: usize = 16;

/// What a cluster is, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The UID of its `kube-system` namespace: the same for every name and address.
    pub(crate) kube_system_uid: String,
    /// Its Kubernetes version, without a vendor's suffix.
    pub(crate) version: semver::Version,
    /// The version as the server writes it, such as `v1.33.4-eks-99d6cc0`.
    pub(crate) git: String,
}

/// One right: this verb on this resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Access {
    /// `get`, `list`, `watch`, `create`, `patch`, `delete`…
    pub(crate) verb: String,
    /// API group; empty for the core.
    pub(crate) group: String,
    /// Plural, with a subresource after a slash: `pods/portforward`.
    pub(crate) resource: String,
    /// In this namespace; none for all, or for resources of the whole cluster.
    pub(crate) namespace: Option<String>,
    /// Only for the object of this name.
    pub(crate) name: Option<String>,
}

impl Access {
    /// A right on a resource, everywhere.
    pub(crate) fn new(verb: &str, group: &str, resource: &str) -> Self {
        Self {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            namespace: None,
            name: None,
        }
    }

    /// Only in this namespace.
    #[must_use]
    pub(crate) fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only for the object of this name.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The `SelfSubjectAccessReview` that asks for it.
    fn review(&self) -> Value {
        let (resource, subresource) = self
            .resource
            .split_once('/')
            .unwrap_or((&self.resource, ""));
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": self.verb,
                "group": self.group,
                "resource": resource,
                "subresource": subresource,
                "namespace": self.namespace.as_deref().unwrap_or_default(),
                "name": self.name.as_deref().unwrap_or_default(),
            }},
        })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, "/{name}")?;
        }
        self.namespace
            .as_ref()
            .map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
    }
}

/// A bearer token. Wiped when dropped; neither printed nor serialized.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token over.
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The token itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The value of an `Authorization` header, marked as sensitive.
    pub(crate) fn bearer(&self) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", self.expose().trim()));
        let mut value = HeaderValue::from_str(&text)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The Secret that a token is bound to, in the account's namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<'a> {
    /// Its name.
    pub(crate) secret: &'a str,
    /// Its UID: another of the same name is another.
    pub(crate) uid: &'a str,
}

impl Cluster {
    /// Asks the cluster who it is.
    pub(crate) async fn identity(&self) -> Result<Identity, Error> {
        let kube_system = Ref::cluster(&Kind::NAMESPACE, "kube-system");
        let (namespace, version) = futures::try_join!(self.find(&kube_system), self.version())?;
        let uid = namespace
            .as_ref()
            .and_then(|ns| ns["metadata"]["uid"].as_str());
        let (version, git) = version;
        Ok(Identity {
            kube_system_uid: uid
                .ok_or_else(|| self.unidentified("no namespace kube-system"))?
                .to_owned(),
            version,
            git,
        })
    }

    /// Its Kubernetes version, without a vendor's suffix and as the server writes it.
    pub(crate) async fn version(&self) -> Result<(semver::Version, String), Error> {
        let answer = self.call(Call::get("/version")).await;
        let (_, value) =
            answer.map_err(|source| self.failed(Verb::Identify, "the API server", source))?;
        let git = value["gitVersion"]
            .as_str()
            .ok_or_else(|| self.unidentified("no gitVersion"))?;
        let version =
            parse_version(git).ok_or_else(|| self.unidentified("gitVersion is not a version"))?;
        Ok((version, git.to_owned()))
    }

    /// It gave no sign of life for this long.
    pub(crate) fn silent(&self, limit: std::time::Duration) -> Error {
        self.failed(Verb::Identify, "the API server", Failure::Timeout(limit))
    }

    pub(crate) fn unidentified(&self, why: &str) -> Error {
        let answer = Failure::Answer(why.into());
        self.failed(Verb::Identify, "the API server", answer)
    }

    /// Which of these rights we do *not* have, in the order given.
    pub(crate) async fn review(&self, wants: &[Access]) -> Result<Vec<Access>, Error> {
        // Boxed, or the compiler cannot see that the whole may move between threads.
        let verdict = |want| async move { Ok((want, self.allowed(want).await?)) }.boxed();
        let verdicts: Vec<_> = stream::iter(wants.iter().map(verdict).collect::<Vec<_>>())
            .buffered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        Ok(verdicts
            .into_iter()
            .filter(|(_, allowed)| !allowed)
            .map(|(want, _)| want.clone())
            .collect())
    }

    /// What we may do in a namespace, and in all of the cluster: the rules as they are written.
    pub(crate) async fn rules(&self, namespace: &str) -> Result<Vec<Value>, Error> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        });
        let call = Call {
            body: Some(&review),
            ..Call::new(
                Method::POST,
                "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            )
        };
        let failed = |source| self.failed(Verb::Review, "the rules", source);
        let (_, mut answer) = self.call(call).await.map_err(failed)?;
        let rules = answer.pointer_mut("/status/resourceRules").map(Value::take);
        match rules {
            Some(Value::Array(rules)) => Ok(rules),
            _ => Ok(vec![]),
        }
    }

    async fn allowed(&self, want: &Access) -> Result<bool, Error> {
        let review = want.review();
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let call = Call {
            body: Some(&review),
            ..Call::new(Method::POST, path)
        };
        let answer = self
            .call(call)
            .await
            .map_err(|source| self.failed(Verb::Review, want, source))?;
        Ok(answer.1["status"]["allowed"].as_bool().unwrap_or(false))
    }

    /// A token for a service account that ends by itself, and when it does. The API server may
    /// shorten or lengthen what was asked for. Bound to an object, it is accepted only as long as that is there.
    pub(crate) async fn token(
        &self,
        namespace: &str,
        account: &str,
        ttl: Duration,
        bound: Option<&Bound<'_>>,
    ) -> Result<(Token, jiff::Timestamp), Error> {
        let r = Ref::namespaced(&Kind::SERVICE_ACCOUNT, namespace, account);
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let mut request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": ttl.as_secs()},
        });
        if let Some(Bound { secret, uid }) = bound {
            request["spec"]["boundObjectRef"] =
                json!({"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": uid});
        }
        let call = Call {
            body: Some(&request),
            ..Call::new(Method::POST, &path)
        };
        let failed = |source| self.failed(Verb::IssueToken, &r, source);
        let (_, mut answer) = self.call(call).await.map_err(failed)?;
        let until = answer["status"]["expirationTimestamp"]
            .as_str()
            .and_then(|text| text.parse().ok());
        let token = answer.pointer_mut("/status/token").map(Value::take);
        match (token, until) {
            (Some(Value::String(token)), Some(until)) => Ok((Token::new(token), until)),
            _ => Err(failed(Failure::Answer(
                "no token, or no time it ends".into(),
            ))),
        }
    }
}

/// `v1.33.4-eks-99d6cc0` → 1.33.4: a vendor's suffix is no pre-release.
fn parse_version(git: &str) -> Option<semver::Version> {
    let version = semver::Version::parse(git.strip_prefix('v')?).ok()?;
    Some(semver::Version::new(
        version.major,
        version.minor,
        version.patch,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (git, want) in [
            ("v1.36.3", (1, 36, 3)),
            ("v1.33.4-eks-99d6cc0", (1, 33, 4)),
            ("v1.32.1+k3s1", (1, 32, 1)),
        ] {
            assert_eq!(
                parse_version(git),
                Some(semver::Version::new(want.0, want.1, want.2))
            );
        }
        assert_eq!(parse_version("nonsense"), None);
    }

    #[test]
    fn rights_print_and_ask_for_what_they_are() {
        let access = Access::new("get", "", "pods/portforward").within("istio-system");
        assert_eq!(access.to_string(), "get pods/portforward in istio-system");
        let attributes = &access.review()["spec"]["resourceAttributes"];
        assert_eq!(
            (&attributes["resource"], &attributes["subresource"]),
            (&json!("pods"), &json!("portforward"))
        );
        let access = Access::new("patch", "apps", "deployments")
            .within("a")
            .named("istiod");
        assert_eq!(access.to_string(), "patch deployments.apps/istiod in a");
    }

    #[test]
    fn tokens_do_not_print() {
        let token = Token::new("canary".into());
        assert!(!format!("{token:?} {:?}", token.bearer()).contains("canary"));
    }
}
