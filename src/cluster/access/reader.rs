//! The reader account of one peer, as objects.

use serde_json::{Value, json};

use super::{ISTIO_SYSTEM, MANAGED_BY, PEER_LABEL};
use crate::{
    cluster::{Kind, Ref},
    name::ClusterName,
};

const ROLE: &str = "meshlink-reader";

fn named(peer: &ClusterName) -> String {
    format!("{ROLE}-{peer}")
}

/// The token Secret of a peer's account.
pub(crate) fn token_secret(peer: &ClusterName) -> Ref {
    Ref::namespaced(
        &Kind::SECRET,
        ISTIO_SYSTEM,
        format!("{}-token", named(peer)),
    )
}

/// Everything [`account`] makes, in the order to delete it: the rights first, and the token last, which
/// is what an account is seen by.
pub(crate) fn account_names(peer: &ClusterName) -> Vec<Ref> {
    let name = named(peer);
    vec![
        Ref::cluster(&Kind::CLUSTER_ROLE_BINDING, &name),
        Ref::namespaced(&Kind::ROLE_BINDING, ISTIO_SYSTEM, &name),
        Ref::namespaced(&Kind::SERVICE_ACCOUNT, ISTIO_SYSTEM, &name),
        token_secret(peer),
    ]
}

/// The rights all readers share: what istiod watches in a peer, and what istioctl reads there by the same remote secret.
///
/// `istioctl analyze` waits for ever for a kind of Istio's that it may not list, and Istio's versions add kinds. No kind
/// of these groups holds a secret.
pub(crate) fn roles() -> Vec<Value> {
    let read = json!(["get", "list", "watch"]);
    let istio = [
        "extensions.istio.io",
        "gateway.networking.k8s.io",
        "networking.istio.io",
        "security.istio.io",
        "telemetry.istio.io",
    ];
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods", "secrets", "services"], "verbs": read},
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

/// The account of one peer: itself, its bindings to the shared roles, and its token Secret, which
/// Kubernetes fills.
pub(crate) fn account(peer: &ClusterName) -> Vec<Value> {
    let (name, labels) = (named(peer), labels(Some(peer)));
    let within = json!({"name": name, "namespace": ISTIO_SYSTEM, "labels": labels});
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": ISTIO_SYSTEM}]);
    let role =
        |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": ROLE});
    let api = "rbac.authorization.k8s.io/v1";
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": within}),
        json!({"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": {"name": name, "labels": labels},
            "roleRef": role("ClusterRole"), "subjects": subjects}),
        json!({"apiVersion": api, "kind": "RoleBinding", "metadata": within,
            "roleRef": role("Role"), "subjects": subjects}),
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": token_secret(peer).name, "namespace": ISTIO_SYSTEM, "labels": labels,
                "annotations": {"kubernetes.io/service-account.name": name}}}),
    ]
}

/// Roles and account together, in the order to apply them.
pub(crate) fn objects(peer: &ClusterName) -> Vec<Value> {
    let mut all = roles();
    all.extend(account(peer));
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
        let mut made: Vec<_> = account(&peer())
            .iter()
            .map(|object| Ref::of(object).unwrap())
            .collect();
        let mut named = account_names(&peer());
        let last = named.last();
        assert_eq!(
            last,
            Some(&token_secret(&peer())),
            "by it an account is seen"
        );
        made.sort();
        named.sort();
        assert_eq!(made, named);
    }

    #[test]
    fn nothing_may_be_written_and_configmaps_only_by_name() {
        for role in roles() {
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
    }

    #[test]
    fn bindings_bind_what_is_there() {
        let all = objects(&peer());
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
