//! Trying exactly what a remote secret will say, before it is written.
//!
//! istiod keeps dead endpoints for ever when a remote secret failed at first and was mended later,
//! so nothing may be written that has not worked.

use std::collections::HashSet;

use crate::cluster::{
    Access, Cluster, ConnectOptions, Error, Failure, Kind, Ref, Transport, Verb, connect,
    wire::Call,
};

use super::Link;

/// Why a remote secret would not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// 401: the token is not accepted.
    #[error("{server} does not accept the token")]
    Unauthorized {
        /// The API server.
        server: String,
    },
    /// The token is accepted, but lacks rights.
    #[error("the token lacks rights: {}", list(missing))]
    Forbidden {
        /// The rights it lacks.
        missing: Vec<Access>,
    },
    /// The server's certificate is not from this CA, or not for this name.
    #[error("the certificate of {server} is not signed by the CA it should be: {reason}")]
    Tls {
        /// The API server.
        server: String,
        /// What TLS says.
        reason: String,
    },
    /// Nothing answers there.
    #[error("{server} does not answer: {reason}")]
    Dial {
        /// The API server.
        server: String,
        /// Why not.
        reason: String,
    },
    /// It answers, but not as an API server does.
    #[error("cannot read {server}")]
    Other {
        /// The API server.
        server: String,
        /// The error below.
        #[source]
        source: Box<Error>,
    },
}

fn list(missing: &[Access]) -> String {
    missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// How much of what a remote secret is for is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trial {
    /// That it opens the API server. What its account may do is what it might do before.
    Opens,
    /// And that its account may read what istiod and istioctl read.
    Reads {
        /// Secrets too.
        secrets: bool,
    },
}

/// What the accounts of one member's peers were found to be allowed, for those that come after them.
#[derive(Debug, Default)]
pub(crate) struct Found(tokio::sync::Mutex<HashSet<String>>);

/// What istiod does with a remote secret, from here: exactly its server, CA and token.
pub(crate) async fn try_kubeconfig(
    link: &Link,
    trial: Trial,
    options: &ConnectOptions,
) -> Result<(), Refused> {
    let tls = link.tls_server_name.as_deref();
    let (token, ca) = (connect::fixed(link.token.clone()), Some(link.ca.as_slice()));
    let reader = connect::from_parts(&link.cluster, &link.server, ca, tls, token, options);
    tried(link, trial, reader, &Found::default()).await
}

/// The same for one of many peers of a member.
pub(crate) async fn try_kubeconfig_at(
    member: &Cluster,
    link: &Link,
    trial: Trial,
    options: &ConnectOptions,
    found: &Found,
) -> Result<(), Refused> {
    let (token, ca) = (connect::fixed(link.token.clone()), Some(link.ca.as_slice()));
    let reader = connect::shown_at(member, &link.server, ca, token, options);
    tried(link, trial, reader, found).await
}

async fn tried(
    link: &Link,
    trial: Trial,
    reader: Result<Cluster, Error>,
    found: &Found,
) -> Result<(), Refused> {
    let other = |source| Refused::Other {
        server: link.server.clone(),
        source: Box::new(source),
    };
    let cluster = reader.map_err(other)?;
    let one = Call {
        query: &[("limit", "1")],
        ..Call::get("/api/v1/namespaces")
    };
    let listed = cluster.call(one).await.map(drop);
    let listed = listed.map_err(|source| cluster.failed(Verb::List, &Kind::NAMESPACE, source));
    match listed.map_err(|error| sort(link, error)) {
        // Forbidden is not told yet: the review names everything that is missing, not the first only.
        Ok(()) | Err(Refused::Forbidden { .. }) => {}
        Err(refused) => return Err(refused),
    }
    let Trial::Reads { secrets } = trial else {
        return Ok(());
    };
    let missing = found.missing(&cluster, &wanted(secrets)).await;
    let missing = missing.map_err(|error| sort(link, error))?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Refused::Forbidden { missing })
    }
}

impl Found {
    /// The rights that an account lacks. The rules that hold for it are asked for at once. Where the API server does not
    /// say that these are all, each right is asked for by itself, of one account of those for which the same rules hold.
    async fn missing(&self, reader: &Cluster, wanted: &[Access]) -> Result<Vec<Access>, Error> {
        let rules = match reader.rules_for(wanted).await {
            Ok(rules) => rules,
            // Whoever may not ask for rules may ask for rights.
            Err(error) if error.code() == Some(403) => return reader.review(wanted).await,
            Err(error) => return Err(error),
        };
        if rules.cover(wanted) {
            if rules.whole {
                return Ok(vec![]);
            }
            let mut known = self.0.lock().await;
            if known.contains(&rules.said) {
                return Ok(vec![]);
            }
            let missing = reader.review(wanted).await?;
            if missing.is_empty() {
                known.insert(rules.said);
            }
            return Ok(missing);
        }
        reader.review(wanted).await
    }
}

fn sort(link: &Link, error: Error) -> Refused {
    let server = link.server.clone();
    match error.failure() {
        Some(Failure::Status { code: 401, .. }) => Refused::Unauthorized { server },
        Some(Failure::Status { code: 403, .. }) => Refused::Forbidden {
            missing: Vec::new(),
        },
        Some(Failure::Transport {
            kind: Transport::Tls,
            source,
        }) => Refused::Tls {
            server,
            reason: source.to_string(),
        },
        Some(Failure::Transport { source, .. }) => Refused::Dial {
            server,
            reason: source.to_string(),
        },
        Some(timeout @ Failure::Timeout(_)) => Refused::Dial {
            server,
            reason: timeout.to_string(),
        },
        _ => Refused::Other {
            server,
            source: Box::new(error),
        },
    }
}

/// What a remote secret opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// UID of the kube-system namespace there; none where its account may not see it.
    pub(crate) uid: Option<String>,
    /// What its account may do, in the namespace of istiod and in all of the cluster: the rules of a
    /// `SelfSubjectRulesReview`.
    pub(crate) rules: Vec<serde_json::Value>,
}

/// Looks, with exactly the server, the CA and the token of a remote secret, which cluster it opens and how far.
pub(crate) async fn open_kubeconfig(
    link: &Link,
    options: &ConnectOptions,
) -> Result<Opened, Refused> {
    let token = connect::fixed(link.token.clone());
    let tls = link.tls_server_name.as_deref();
    let (name, server) = (&link.cluster, &link.server);
    let cluster = connect::from_parts(name, server, Some(&link.ca), tls, token, options);
    let cluster = cluster.map_err(|error| sort(link, error))?;
    let rules = cluster.rules_in(super::ISTIO_SYSTEM).await;
    let (rules, _) = rules.map_err(|error| sort(link, error))?;
    let kube_system = Ref::cluster(&Kind::NAMESPACE, "kube-system");
    // Who may not see it lacks a right, which the rules tell.
    let found = cluster.find(&kube_system).await.ok().flatten();
    let uid = found.and_then(|ns| Some(ns["metadata"]["uid"].as_str()?.to_owned()));
    Ok(Opened { uid, rules })
}

/// The rights of [`super::roles`], as questions.
fn wanted(secrets: bool) -> Vec<Access> {
    let mut wanted = Vec::new();
    for role in super::roles(secrets) {
        let namespace = role["metadata"]["namespace"].as_str();
        for rule in role["rules"].as_array().into_iter().flatten() {
            let words = |key: &str| {
                rule[key]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|word| word.as_str())
            };
            for (group, resource) in
                words("apiGroups").flat_map(|group| words("resources").map(move |r| (group, r)))
            {
                for verb in words("verbs") {
                    let mut access = Access::new(verb, group, resource);
                    access.namespace = namespace.map(str::to_owned);
                    access.name = words("resourceNames").next().map(str::to_owned);
                    wanted.push(access);
                }
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_asked_for() {
        let wanted: Vec<_> = wanted(true).iter().map(ToString::to_string).collect();
        assert_eq!(wanted.len(), 3 * (5 + 1 + 1 + 5 + 1));
        for one in [
            "watch secrets",
            "list endpointslices.discovery.k8s.io",
            "list *.security.istio.io",
            "get configmaps/istio in istio-system",
        ] {
            assert!(wanted.contains(&one.to_owned()), "{one}");
        }
    }
}
