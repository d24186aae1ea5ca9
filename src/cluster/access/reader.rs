//! The reader account of one peer, as objects.

use serde_json::{Value, json};

use super::{ISTIO_SYSTEM, MANAGED_BY, PEER_LABEL};
use crate::{
    cluster::{Kind, Ref},
    name::ClusterName,
};

const ROLE: &str = "meshlink-reader";
/// The type of Secrets that Kubernetes fills with an account's token.
pub(crate) const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";
/// The ConfigMap in every namespace that says which authorities the API server is to be known by.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";

/// Where a reader account gets its tokens from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// A token Secret, which Kubernetes fills and whose token does not end by itself. They are numbered: the next one
    /// is made beside the present one, which is deleted when nothing uses it any more.
    Secret(u32),
    /// Tokens with an end, which the account may ask for itself. They are bound to a Secret without content: when it is
    /// deleted, none of them is accepted any more.
    Bound,
}

/// A peer's account.
pub(crate) fn account_name(peer: &ClusterName) -> String {
    format!("{ROLE}-{peer}")
}

/// A token Secret of a peer's account, by its number.
pub(crate) fn token_secret(peer: &ClusterName, number: u32) -> Ref {
    let name = account_name(peer);
    let name = match number {
        0 | 1 => format!("{name}-token"),
        _ => format!("{name}-token-{number}"),
    };
    Ref::namespaced(&Kind::SECRET, ISTIO_SYSTEM, name)
}

/// The number of a token Secret, by its name.
pub(crate) fn token_number(peer: &str, name: &str) -> Option<u32> {
    let rest = name.strip_prefix(ROLE)?.strip_prefix('-')?;
    let rest = rest.strip_prefix(peer)?.strip_prefix("-token")?;
    match rest {
        "" => Some(1),
        _ => rest.strip_prefix('-')?.parse().ok().filter(|n| *n > 1),
    }
}

/// The Secret that a peer's bound tokens hang on.
pub(crate) fn anchor(peer: &ClusterName) -> Ref {
    Ref::namespaced(
        &Kind::SECRET,
        ISTIO_SYSTEM,
        format!("{}-bound", account_name(peer)),
    )
}

/// The right to renew, which an account has beside those all readers share.
fn renewal(peer: &ClusterName) -> String {
    format!("{}-renewal", account_name(peer))
}

/// What lets an account renew itself: nothing that an account with a token Secret has.
pub(crate) fn renewal_names(peer: &ClusterName) -> [Ref; 2] {
    [&Kind::ROLE_BINDING, &Kind::ROLE]
        .map(|kind| Ref::namespaced(kind, ISTIO_SYSTEM, renewal(peer)))
}

/// Everything [`account`] makes but for token Secrets beyond the first, in the order to delete it: the rights first, and
/// the Secrets last, which are what an account is seen by.
pub(crate) fn account_names(peer: &ClusterName) -> Vec<Ref> {
    let name = account_name(peer);
    let mut names = vec![
        Ref::cluster(&Kind::CLUSTER_ROLE_BINDING, &name),
        Ref::namespaced(&Kind::ROLE_BINDING, ISTIO_SYSTEM, &name),
    ];
    names.extend(renewal_names(peer));
    names.extend([
        Ref::namespaced(&Kind::SERVICE_ACCOUNT, ISTIO_SYSTEM, &name),
        anchor(peer),
        token_secret(peer, 1),
    ]);
    names
}

/// The rights all readers share: what istiod watches in a peer, and what istioctl reads there by the same remote secret.
/// With `secrets`, for peers whose istiods do not run without reading the Secrets of those they know.
///
/// `istioctl analyze` waits for ever for a kind of Istio's that it may not list, and Istio's versions add kinds. No kind
/// of these groups holds a secret.
pub(crate) fn roles(secrets: bool) -> Vec<Value> {
    let read = json!(["get", "list", "watch"]);
    let core = ["namespaces", "nodes", "pods", "secrets", "services"];
    let core: Vec<_> = core
        .iter()
        .filter(|r| secrets || **r != "secrets")
        .collect();
    let istio = [
        "extensions.istio.io",
        "gateway.networking.k8s.io",
        "networking.istio.io",
        "security.istio.io",
        "telemetry.istio.io",
    ];
    let rules = json!([
        {"apiGroups": [""], "resources": core, "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": read},
        {"apiGroups": istio, "resources": ["*"], "verbs": read},
    ]);
    // istiod reads only the mesh configuration, with a field selector by name.
    let config = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["istio"], "verbs": read},
    ]);
    let api = "rbac.authorization.k8s.io/v1";
    let labels = labels(None);
    vec![
        json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": ROLE, "labels": labels}, "rules": rules}),
        json!({"apiVersion": api, "kind": "Role",
            "metadata": {"name": ROLE, "namespace": ISTIO_SYSTEM, "labels": labels}, "rules": config}),
    ]
}

/// The account of one peer: itself, its bindings to the shared roles, and what its tokens come from.
pub(crate) fn account(peer: &ClusterName, tokens: Tokens) -> Vec<Value> {
    let (name, labels) = (account_name(peer), labels(Some(peer)));
    let within = json!({"name": name, "namespace": ISTIO_SYSTEM, "labels": labels});
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": ISTIO_SYSTEM}]);
    let role =
        |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": ROLE});
    let api = "rbac.authorization.k8s.io/v1";
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": within}),
        json!({"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": {"name": name, "labels": labels},
            "roleRef": role("ClusterRole"), "subjects": subjects}),
        json!({"apiVersion": api, "kind": "RoleBinding", "metadata": within,
            "roleRef": role("Role"), "subjects": subjects}),
    ];
    match tokens {
        Tokens::Secret(number) => all.push(token_object(peer, number)),
        Tokens::Bound => {
            let within =
                json!({"name": renewal(peer), "namespace": ISTIO_SYSTEM, "labels": labels});
            // Its next token and no other account's; and which authorities its API server is to be known by.
            let rules = json!([
                {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [name], "verbs": ["create"]},
                {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [ROOT_CA], "verbs": ["get"]},
            ]);
            let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": renewal(peer)});
            all.extend([
                json!({"apiVersion": api, "kind": "Role", "metadata": within, "rules": rules}),
                json!({"apiVersion": api, "kind": "RoleBinding", "metadata": within,
                    "roleRef": role, "subjects": subjects}),
                json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata":
                    {"name": anchor(peer).name, "namespace": ISTIO_SYSTEM, "labels": labels}}),
            ]);
        }
    }
    all
}

/// A token Secret of a peer's account.
pub(crate) fn token_object(peer: &ClusterName, number: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": TOKEN_SECRET,
        "metadata": {"name": token_secret(peer, number).name, "namespace": ISTIO_SYSTEM, "labels": labels(Some(peer)),
            "annotations": {"kubernetes.io/service-account.name": account_name(peer)}}})
}

/// Roles and account together, in the order to apply them.
pub(crate) fn objects(peer: &ClusterName, secrets: bool, tokens: Tokens) -> Vec<Value> {
    let mut all = roles(secrets);
    all.extend(account(peer, tokens));
    all
}

fn labels(peer: Option<&ClusterName>) -> Value {
    let (key, value) = MANAGED_BY;
    let mut labels = json!({key: value});
    if let Some(peer) = peer {
        labels[PEER_LABEL] = json!(peer.as_str());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> ClusterName {
        "eks-2".parse().unwrap()
    }

    #[test]
    fn what_is_made_can_be_named_to_be_deleted() {
        let made = [Tokens::Secret(1), Tokens::Bound].map(|tokens| account(&peer(), tokens));
        let made: std::collections::BTreeSet<_> = made
            .iter()
            .flatten()
            .map(|object| Ref::of(object).unwrap())
            .collect();
        let named = account_names(&peer());
        let last = [anchor(&peer()), token_secret(&peer(), 1)];
        assert!(named.ends_with(&last), "by these an account is seen");
        assert_eq!(made, named.into_iter().collect());
    }

    #[test]
    fn token_secrets_are_told_by_their_names() {
        for number in [1, 2, 17] {
            let name = token_secret(&peer(), number).name;
            assert_eq!(token_number("eks-2", &name), Some(number), "{name}");
            assert_eq!(token_number("eks-1", &name), None);
        }
        for name in [
            "meshlink-reader-eks-2-token-1",
            "meshlink-reader-eks-2-token-x",
            "meshlink-reader-eks-2-bound",
        ] {
            assert_eq!(token_number("eks-2", name), None, "{name}");
        }
        // A peer may be called so.
        let name = token_secret(&"eks-2-token".parse().unwrap(), 1).name;
        assert_eq!(token_number("eks-2", &name), None, "{name}");
    }

    #[test]
    fn an_account_may_renew_itself_and_nobody_else() {
        let renewing = account(&peer(), Tokens::Bound);
        let roles = renewing.iter().filter(|o| o["kind"] == "Role");
        let rules: Vec<_> = roles.flat_map(|r| r["rules"].as_array().unwrap()).collect();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0]["resourceNames"], json!(["meshlink-reader-eks-2"]));
        assert_eq!(rules[0]["verbs"], json!(["create"]));
        assert_eq!(rules[1]["verbs"], json!(["get"]));
        let plain = account(&peer(), Tokens::Secret(1));
        assert!(!plain.iter().any(|o| o["kind"] == "Role"));
    }

    #[test]
    fn nothing_may_be_written_and_configmaps_only_by_name() {
        for role in roles(true) {
            for rule in role["rules"].as_array().unwrap() {
                assert_eq!(rule["verbs"], json!(["get", "list", "watch"]));
                let resources = rule["resources"].to_string();
                if resources.contains('*') {
                    let groups = rule["apiGroups"].as_array().unwrap();
                    let istio = |group: &Value| {
                        let group = group.as_str().unwrap();
                        group.ends_with(".istio.io") || group == "gateway.networking.k8s.io"
                    };
                    assert!(groups.iter().all(istio), "{rule}");
                }
                assert_eq!(
                    resources.contains("configmaps"),
                    rule["resourceNames"].is_array(),
                    "{rule}"
                );
            }
        }
        assert!(!roles(false)[0].to_string().contains("\"secrets\""));
    }

    #[test]
    fn bindings_bind_what_is_there() {
        let all = objects(&peer(), true, Tokens::Secret(1));
        let there: Vec<_> = all
            .iter()
            .map(|o| (o["kind"].clone(), o["metadata"]["name"].clone()))
            .collect();
        for binding in all.iter().filter(|object| object["roleRef"].is_object()) {
            for end in [&binding["roleRef"], &binding["subjects"][0]] {
                assert!(
                    there.contains(&(end["kind"].clone(), end["name"].clone())),
                    "{end}"
                );
            }
        }
        let secret = all.last().unwrap();
        let account = &secret["metadata"]["annotations"]["kubernetes.io/service-account.name"];
        assert!(there.contains(&(json!("ServiceAccount"), account.clone())));
    }
}
