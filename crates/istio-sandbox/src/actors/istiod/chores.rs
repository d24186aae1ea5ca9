//! What istiod writes into its own cluster.

use std::sync::{Arc, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Authority, Istiod};
use crate::actors::{Cluster, Objects, Read};

/// The ConfigMap that carries the trust bundle into every namespace.
const ROOT_CERT: &str = "istio-ca-root-cert";
/// The ConfigMap that carries the list of what is revoked.
const REVOKED: &str = "istio-ca-crl";
/// Leases by which the replicas of a real istiod agree; they stay when it goes.
const ELECTIONS: [&str; 4] = [
    "istio-namespace-controller-election",
    "istio-gateway-deployment-default",
    "istio-gateway-status-leader-default",
    "istio-ip-autoallocate",
];

/// Keeps a root of istiod's own in its Secret; if another replica was first, takes that one.
pub(crate) async fn keep_own_root(cluster: &Cluster, istiod: &Istiod) {
    let Some(own) = istiod
        .own
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
    else {
        return;
    };
    let objects = cluster.objects.as_manager("pilot-discovery");
    if objects.create("secrets", &own).await.is_err() {
        let kept = objects.get("secrets", &istiod.namespace, "istio-ca-secret");
        let Some(Ok(other)) = kept.map(|k| Authority::own(&k, cluster.world.clock.second())) else {
            return;
        };
        *istiod
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(other);
    }
    *istiod.own.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The longest-running istiod writes; the others would write the same.
pub(crate) fn leads(cluster: &Cluster, istiod: &Istiod) -> bool {
    let mut all = cluster.processes.istiods();
    all.retain(|i| i.namespace == istiod.namespace && (i.ready() || i.pod == istiod.pod));
    all.first().is_some_and(|i| i.pod == istiod.pod)
}

/// Trust bundles for the namespaces, and the webhooks' share of them.
pub(crate) async fn write(cluster: &Cluster, istiod: &Istiod) {
    let objects = cluster.objects.as_manager("pilot-discovery");
    let roots = &istiod.authority().roots_pem;
    for namespace in objects.list("namespaces", None) {
        if !namespace.deleting() {
            write_roots(&objects, namespace.name(), roots).await;
            write_revoked(&objects, namespace.name()).await;
        }
    }
    for name in ELECTIONS {
        let leases = "leases.coordination.k8s.io";
        if objects.get(leases, &istiod.namespace, name).is_none() {
            let new = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": istiod.namespace},
                "spec": {"holderIdentity": istiod.pod}});
            let _ = objects.create(leases, &new).await;
        }
    }
    let bundle = STANDARD.encode(roots);
    for resource in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ] {
        let resource = format!("{resource}.admissionregistration.k8s.io");
        for hooks in objects.list(&resource, None) {
            if hooks.label("istio.io/rev") == Some(&istiod.revision) {
                patch_webhooks(&objects, &resource, &hooks, &bundle).await;
            }
        }
    }
}

async fn write_roots(objects: &Objects, namespace: &str, roots: &str) {
    let _ = match objects.get("configmaps", namespace, ROOT_CERT) {
        Some(old) if old["data"]["root-cert.pem"] == roots => return,
        Some(old) => {
            let patch = json!({"data": {"root-cert.pem": roots}});
            objects.patch("configmaps", &old, &patch).await
        }
        None => {
            let new = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"root-cert.pem": roots},
                "metadata": {"name": ROOT_CERT, "namespace": namespace, "labels": {"istio.io/config": "true"}}});
            objects.create("configmaps", &new).await
        }
    };
}

/// What is revoked, beside the roots: nothing, where no list was given.
async fn write_revoked(objects: &Objects, namespace: &str) {
    if objects.get("configmaps", namespace, REVOKED).is_none() {
        let new = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca-crl.pem": ""},
            "metadata": {"name": REVOKED, "namespace": namespace, "labels": {"istio.io/config": "true"}}});
        let _ = objects.create("configmaps", &new).await;
    }
}

/// Sets the bundle, and makes validation strict now that somebody answers.
async fn patch_webhooks(objects: &Objects, resource: &str, hooks: &Value, bundle: &str) {
    let mut new = hooks.clone();
    for hook in new["webhooks"].as_array_mut().into_iter().flatten() {
        hook["clientConfig"]["caBundle"] = bundle.into();
        if resource.starts_with("validating") {
            hook["failurePolicy"] = "Fail".into();
        }
    }
    if new != *hooks {
        let _ = objects.replace(resource, &new).await;
    }
}
