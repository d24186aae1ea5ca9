//! What a namespace holds besides what meshlink, Istio and Kubernetes itself have put there.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::facts::ROOTS;
use crate::{
    chart,
    cluster::{self, Cluster, lease},
    owner::{self, Owner},
};

/// What replicas that agree by a ConfigMap write on it.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// What the AWS Load Balancer Controller writes on what it makes for a Service, and takes away with it.
const STACK: &str = "service.k8s.aws/stack-name";
/// ConfigMaps that istiod writes into every namespace: the roots, and what is revoked.
pub(crate) const PUBLISHED: [&str; 2] = [ROOTS, "istio-ca-crl"];
/// How many kinds are listed at the same time.
const ABREAST: usize = 8;
/// What comes and goes by itself.
const PASSING: &[&str] = &[
    "Event",
    "Endpoints",
    "EndpointSlice",
    "ControllerRevision",
    "PodMetrics",
];

/// What would be lost with a namespace, besides what these releases hold, and is somebody else's, as `Secret istio-ingress/shop-tls`.
pub(crate) async fn strangers(
    cluster: &Cluster,
    namespace: &str,
    owner: &Owner,
    releases: &[(&str, &str)],
) -> Result<Vec<String>, cluster::Error> {
    let kinds = cluster.kinds().await?;
    let lists = kinds.into_iter().map(|kind| async move {
        let list = cluster.names(&kind, Some(namespace), None).await;
        match list {
            Ok(list) => Ok((kind, Some(list))),
            Err(error) if error.code() == Some(403) => Ok((kind, None)),
            // A kind that an extension serves and that cannot be listed now is Kubernetes' to wait for.
            Err(error) if error.code() == Some(503) => Ok((kind, Some(vec![]))),
            Err(error) => Err(error),
        }
    });
    let lists: Vec<_> = stream::iter(lists).buffered(ABREAST).try_collect().await?;
    let mut found = vec![];
    for (kind, list) in lists {
        match list {
            Some(list) => found.extend(
                list.iter()
                    .filter(|o| is_stranger(o, owner, releases))
                    .map(owner::place),
            ),
            None => found.push(format!("what you may not list: {}", kind.kind)),
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether an object in one of our namespaces is somebody else's, and would be missed.
pub(crate) fn is_stranger(object: &Value, owner: &Owner, releases: &[(&str, &str)]) -> bool {
    let metadata = &object["metadata"];
    let kind = object["kind"].as_str().unwrap_or_default();
    let owned = metadata["ownerReferences"].as_array();
    let goes = !metadata["deletionTimestamp"].is_null() || owned.is_some_and(|o| !o.is_empty());
    let held = |(name, space): &(&str, &str)| chart::apply::is_owned(object, name, space);
    !goes
        && !PASSING.contains(&kind)
        && owner.whose(object).is_some()
        && !releases.iter().any(held)
        && !is_record(object, releases)
        && !is_istiods(object)
        && !is_kubernetes(object)
        && metadata["labels"][STACK].is_null()
}

/// The records of our own releases.
fn is_record(object: &Value, releases: &[(&str, &str)]) -> bool {
    let labels = &object["metadata"]["labels"];
    let of = |(name, space): &(&str, &str)| {
        labels["name"] == *name && object["metadata"]["namespace"] == *space
    };
    object["kind"] == "Secret" && labels["owner"] == "helm" && releases.iter().any(of)
}

/// What istiod writes while it runs.
fn is_istiods(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let published = PUBLISHED.contains(&name) && metadata["labels"]["istio.io/config"] == "true";
    let kind = object["kind"].as_str();
    published && kind == Some("ConfigMap") || is_election(object)
}

/// By which istiod's replicas agree who of them does what: `istio-leader`, `istio-namespace-controller-election`,
/// `istio-gateway-status-leader-default`, `istio-ip-autoallocate`. A Lease holds nothing that could be missed.
pub(crate) fn is_election(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let ends = name.ends_with("-leader") || name.ends_with("-election");
    name.starts_with("istio-")
        && match object["kind"].as_str() {
            Some("Lease") => true,
            Some("ConfigMap") => ends || !object["metadata"]["annotations"][LEADER].is_null(),
            _ => false,
        }
}

/// What every namespace has, and what is known by its name alone.
fn is_kubernetes(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let istio = object["metadata"]["namespace"] == cluster::access::ISTIO_SYSTEM;
    match object["kind"].as_str() {
        Some("ConfigMap") => name == "kube-root-ca.crt",
        Some("ServiceAccount") => name == "default",
        Some("Lease") => istio && name == lease::NAME,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missed_is_told_from_what_is_not() {
        let owner = Owner {
            mesh: "mesh".parse().unwrap(),
            member: "a".parse().unwrap(),
            cluster: "uid".into(),
        };
        let is = |object: Value| is_stranger(&object, &owner, &[("istiod", "istio-system")]);
        let of = |kind: &str, metadata: Value| json!({"kind": kind, "metadata": metadata});
        let label = |key: &str, value: &str| json!({key: value});
        for metadata in [
            json!({"name": "shop-tls"}),
            json!({"name": "cacerts", "labels": label(owner::MANAGED_BY.0, owner::MANAGED_BY.1)}),
            json!({"name": "istio-ca-secret", "namespace": "istio-system"}),
            json!({"name": "sh.helm.release.v1.x.v1", "labels": {"owner": "helm", "name": "x"}}),
        ] {
            assert!(is(of("Secret", metadata.clone())), "{metadata}");
        }
        let config = label("istio.io/config", "true");
        assert!(is(of(
            "ConfigMap",
            json!({"name": "mine", "labels": config})
        )));
        for object in [
            of("ConfigMap", json!({"name": "kube-root-ca.crt"})),
            of(
                "ConfigMap",
                json!({"name": "istio-ca-root-cert", "labels": config}),
            ),
            of("ServiceAccount", json!({"name": "default"})),
            of(
                "Pod",
                json!({"name": "p", "ownerReferences": [{"kind": "ReplicaSet"}]}),
            ),
            of("Lease", json!({"name": "istio-leader"})),
            of("Event", json!({"name": "e"})),
            owner.stamped(&of("Secret", json!({"name": "s", "namespace": "n"})), None),
        ] {
            assert!(!is(object.clone()), "{object}");
        }
    }
}
