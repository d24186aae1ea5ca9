//! What each remote secret opens, and how far: tried from here with exactly what stands in it.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::{
    ConnectOptions,
    access::{Link, Opened, Refused, open_kubeconfig},
};

/// How many of a member's remote secrets are tried at once.
const ABREAST: usize = 8;

/// What came of trying a remote secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tried {
    /// It opens an API server.
    Opens {
        /// UID of the kube-system namespace there.
        uid: Option<String>,
        /// What its account may not read that istiod reads.
        lacks: Vec<String>,
        /// What its account may do besides reading.
        writes: Vec<String>,
    },
    /// The token is not accepted.
    Unauthorized,
    /// The server's certificate is not from the CA in it.
    Tls(String),
    /// Nothing answers there.
    Silent(String),
    /// It could not be found out.
    Unknown(String),
}

/// Tries each.
pub(super) async fn tried(links: &[Link], connect: &ConnectOptions) -> BTreeMap<String, Tried> {
    let tries = links.iter().map(|link| async move {
        let opened = open_kubeconfig(link, connect).await;
        (link.cluster.to_string(), judge(opened))
    });
    let tries: Vec<_> = tries.collect();
    stream::iter(tries)
        .buffer_unordered(ABREAST)
        .collect()
        .await
}

fn judge(opened: Result<Opened, Refused>) -> Tried {
    match opened {
        Ok(Opened { uid, rules }) => Tried::Opens {
            uid,
            lacks: lacks(&rules),
            writes: writes(&rules),
        },
        Err(Refused::Unauthorized { .. }) => Tried::Unauthorized,
        Err(Refused::Tls { reason, .. }) => Tried::Tls(reason),
        Err(Refused::Dial { reason, .. }) => Tried::Silent(reason),
        Err(other) => Tried::Unknown(crate::causes::line(&other)),
    }
}

/// What istiod does not run without in a peer: left out one by one on real clusters, each kept it from syncing.
const READ: [(&str, &str); 9] = [
    ("", "namespaces"),
    ("", "pods"),
    ("", "services"),
    ("", "nodes"),
    ("", "secrets"),
    ("", "configmaps"),
    ("discovery.k8s.io", "endpointslices"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("networking.istio.io", "workloadentries"),
];

fn lacks(rules: &[Value]) -> Vec<String> {
    let asked = READ
        .iter()
        .flat_map(|(group, resource)| ["list", "watch"].map(|verb| (verb, group, resource)));
    let missing = asked.filter(|(verb, group, resource)| {
        // istiod reads one ConfigMap, by its name.
        let by_name = (**resource == "configmaps").then_some("istio");
        !rules.iter().any(|rule| {
            let names = words(rule, "resourceNames");
            let named = names.is_empty() || by_name.is_some_and(|name| names.contains(&name));
            named
                && has(rule, "verbs", verb)
                && has(rule, "apiGroups", group)
                && has(rule, "resources", resource)
        })
    });
    let shown = missing.map(|(verb, group, resource)| match *group {
        "" => format!("{verb} {resource}"),
        group => format!("{verb} {resource}.{group}"),
    });
    shown.collect()
}

/// What a reader never needs. Asking what it may do, and for a token of its own, everybody's account may do.
fn writes(rules: &[Value]) -> Vec<String> {
    let reads = ["get", "list", "watch"];
    let harmless = |rule: &Value, resource: &str| {
        let asks = resource.ends_with("reviews");
        asks || resource == "serviceaccounts/token" && !words(rule, "resourceNames").is_empty()
    };
    let mut all = vec![];
    for rule in rules {
        for resource in words(rule, "resources")
            .into_iter()
            .filter(|r| !harmless(rule, r))
        {
            let enters = ["pods/exec", "pods/attach", "pods/portforward"].contains(&resource);
            let verbs = words(rule, "verbs").into_iter();
            let verbs: Vec<_> = verbs.filter(|v| enters || !reads.contains(v)).collect();
            if !verbs.is_empty() {
                all.push(format!("{} {resource}", verbs.join(", ")));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn words<'v>(rule: &'v Value, key: &str) -> Vec<&'v str> {
    let all = rule[key].as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect()
}

fn has(rule: &Value, key: &str, word: &str) -> bool {
    words(rule, key).iter().any(|w| *w == "*" || *w == word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::access::roles;

    fn rules_of(roles: &[Value]) -> Vec<Value> {
        let all = roles.iter().filter_map(|r| r["rules"].as_array());
        all.flatten().cloned().collect()
    }

    #[test]
    fn our_own_reader_has_what_it_needs_and_no_more() {
        let rules = rules_of(&roles(true));
        assert_eq!(lacks(&rules), [""; 0]);
        assert_eq!(writes(&rules), [""; 0]);
    }

    #[test]
    fn what_a_reader_lacks_or_has_besides_is_named() {
        let mut rules = rules_of(&roles(false));
        assert_eq!(lacks(&rules), ["list secrets", "watch secrets"]);
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}));
        rules.push(
            json!({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}),
        );
        rules.push(
            json!({"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
            "resourceNames": ["meshlink-reader-a"]}),
        );
        rules.push(
            json!({"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"],
            "verbs": ["create"]}),
        );
        assert_eq!(lacks(&rules), [""; 0]);
        assert_eq!(writes(&rules), ["* secrets", "create, get pods/exec"]);
    }
}
