//! The rights each command needs, asked for before its first write.

use super::{Access, Cluster, Error, access::ISTIO_SYSTEM};

/// What is about to be done in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Install, link and prove.
    Join,
    /// Unlink; with the uninstallation.
    Leave,
    /// Put new certificates and tokens in the place of old ones.
    Renew,
    /// Look at proxies and istiod, and bring the probe.
    Verify,
    /// Change the root: look at every proxy, write certificates, and bring the probe.
    Rotate,
    /// Put sample apps in, or take them out.
    Sample,
    /// Label a namespace for injection, and roll what runs in it.
    Rollout,
    /// Only look.
    Status,
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &[
    "get", "list", "watch", "create", "patch", "update", "delete",
];
const RBAC: &str = "rbac.authorization.k8s.io";

/// The rights for a purpose. `gateways` is the namespace of the east-west gateway.
/// With `renewer`, for a mesh in which one runs.
pub(crate) fn rights(purpose: Purpose, gateways: &str, renewer: bool) -> Vec<Access> {
    let mut all = everywhere(READ, &[("", "namespaces")]);
    for namespace in spaces(gateways) {
        all.extend(within(
            namespace,
            READ,
            &[
                ("", "services"),
                ("", "pods"),
                ("", "events"),
                ("apps", "deployments"),
            ],
        ));
    }
    all.extend(within(
        ISTIO_SYSTEM,
        &["get", "list"],
        &[("", "secrets"), ("", "configmaps")],
    ));
    if purpose != Purpose::Status {
        // A WebSocket upgrade is a `get`, and from Kubernetes 1.35 on a `create` as well.
        all.extend(within(
            ISTIO_SYSTEM,
            &["get", "create"],
            &[("", "pods/portforward")],
        ));
    }
    match purpose {
        Purpose::Join | Purpose::Leave => {
            all.extend(writes(gateways));
            if purpose == Purpose::Join {
                // A second control plane is not put beside one that is somewhere else.
                all.extend(everywhere(&["list"], &[("apps", "deployments")]));
            }
        }
        Purpose::Renew => all.extend(renewals()),
        Purpose::Verify | Purpose::Sample | Purpose::Rotate => {
            all.extend(everywhere(
                &["create", "patch", "delete"],
                &[
                    ("", "namespaces"),
                    ("", "services"),
                    ("", "serviceaccounts"),
                    ("", "configmaps"),
                    ("apps", "deployments"),
                ],
            ));
        }
        Purpose::Rollout => all.extend(rolls()),
        Purpose::Status => {}
    }
    if renewer && matches!(purpose, Purpose::Join | Purpose::Renew) {
        let tokens = [("", "serviceaccounts/token")];
        all.extend(within(ISTIO_SYSTEM, &["create"], &tokens));
    }
    if renewer && matches!(purpose, Purpose::Join | Purpose::Leave) {
        all.extend(within(ISTIO_SYSTEM, WRITE, &[("batch", "cronjobs")]));
    }
    if renewer && purpose == Purpose::Renew {
        all.extend(within(ISTIO_SYSTEM, &["get"], &[("batch", "cronjobs")]));
    }
    if purpose == Purpose::Rotate {
        all.extend(rotates());
    }
    let mut asked = std::collections::HashSet::new();
    all.retain(|access| asked.insert(access.clone()));
    all
}

fn spaces(gateways: &str) -> Vec<&str> {
    let mut spaces = vec![ISTIO_SYSTEM];
    spaces.extend((gateways != ISTIO_SYSTEM).then_some(gateways));
    spaces
}

fn writes(gateways: &str) -> Vec<Access> {
    let cluster_wide = [
        ("", "namespaces"),
        (RBAC, "clusterroles"),
        (RBAC, "clusterrolebindings"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations",
        ),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
        ),
    ];
    let in_both = [
        ("", "services"),
        ("", "serviceaccounts"),
        ("", "secrets"),
        ("", "configmaps"),
        ("apps", "deployments"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("policy", "poddisruptionbudgets"),
        (RBAC, "roles"),
        (RBAC, "rolebindings"),
        ("coordination.k8s.io", "leases"),
        ("networking.istio.io", "gateways"),
    ];
    let mut all = everywhere(WRITE, &cluster_wide);
    // Whoever gives rights must have them, or be allowed to go beyond.
    all.extend(everywhere(&["escalate", "bind"], &[(RBAC, "clusterroles")]));
    for namespace in spaces(gateways) {
        all.extend(within(namespace, WRITE, &in_both));
    }
    all
}

/// A renewal writes Secrets and the Leases, restarts istiod where it must, and has the kubelet look at istiod's pods.
fn renewals() -> Vec<Access> {
    let mut all = within(
        ISTIO_SYSTEM,
        WRITE,
        &[("", "secrets"), ("coordination.k8s.io", "leases")],
    );
    let changed = [("", "pods"), ("apps", "deployments")];
    all.extend(within(ISTIO_SYSTEM, &["patch"], &changed));
    // Who follows a new certificate is asked of every proxy.
    all.extend(everywhere(READ, &[("", "pods")]));
    all.extend(everywhere(&["get", "create"], &[("", "pods/portforward")]));
    all
}

/// What a change of root needs besides: proxies are in every namespace.
fn rotates() -> Vec<Access> {
    let hooks = [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ];
    let hooks = hooks.map(|hooks| ("admissionregistration.k8s.io", hooks));
    let mut all = everywhere(READ, &[("", "pods"), ("", "configmaps")]);
    all.extend(everywhere(READ, &hooks));
    all.extend(everywhere(&["get", "create"], &[("", "pods/portforward")]));
    let written = [
        ("", "secrets"),
        ("", "configmaps"),
        ("coordination.k8s.io", "leases"),
    ];
    all.extend(within(ISTIO_SYSTEM, WRITE, &written));
    all.extend(within(ISTIO_SYSTEM, &["patch"], &[("", "pods")]));
    all
}

/// A rollout labels a namespace, patches what makes its pods, and asks their proxies.
fn rolls() -> Vec<Access> {
    let rolled = ["deployments", "statefulsets", "daemonsets"].map(|kind| ("apps", kind));
    let mut all = everywhere(&["get", "list", "watch", "patch"], &rolled);
    all.extend(everywhere(&["patch"], &[("", "namespaces")]));
    let read = [
        ("", "pods"),
        ("", "services"),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations",
        ),
    ];
    all.extend(everywhere(&["get", "list"], &read));
    all.extend(everywhere(&["get", "create"], &[("", "pods/portforward")]));
    let leases = [("coordination.k8s.io", "leases")];
    all.extend(within(ISTIO_SYSTEM, WRITE, &leases));
    all
}

fn everywhere(verbs: &[&str], resources: &[(&str, &str)]) -> Vec<Access> {
    resources
        .iter()
        .flat_map(|(group, name)| verbs.iter().map(move |verb| Access::new(verb, group, name)))
        .collect()
}

fn within(namespace: &str, verbs: &[&str], resources: &[(&str, &str)]) -> Vec<Access> {
    everywhere(verbs, resources)
        .into_iter()
        .map(|access| access.within(namespace))
        .collect()
}

/// The rights that are missing for a purpose. Whoever may do everything is asked once only.
pub(crate) async fn check(
    cluster: &Cluster,
    purpose: Purpose,
    gateways: &str,
    renewer: bool,
) -> Result<Vec<Access>, Error> {
    let everything = Access::new("*", "*", "*");
    if cluster.review(&[everything]).await?.is_empty() {
        return Ok(Vec::new());
    }
    cluster.review(&rights(purpose, gateways, renewer)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_looks_needs_no_writes() {
        let writes = |purpose| {
            let all = rights(purpose, "istio-ingress", false);
            all.iter()
                .filter(|access| !READ.contains(&access.verb.as_str()))
                .count()
        };
        assert_eq!(writes(Purpose::Status), 0);
        assert!(writes(Purpose::Verify) < writes(Purpose::Join));
    }

    #[test]
    fn no_right_is_asked_for_twice() {
        for gateways in ["istio-system", "istio-ingress"] {
            let all = rights(Purpose::Join, gateways, true);
            let unique: std::collections::HashSet<_> = all.iter().collect();
            assert_eq!(unique.len(), all.len());
            assert_eq!(
                all.iter()
                    .any(|access| access.namespace.as_deref() == Some("istio-ingress")),
                gateways != ISTIO_SYSTEM
            );
        }
    }
}
