//! Deployments to ReplicaSets to Pods, and back again as status.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Actor, Clock, Cluster, Objects, Read, endpoints::is_ready, inject};

/// Before a refused pod is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The deployment and replica-set controllers, and the collector of what has lost its owner.
#[derive(Default)]
pub(crate) struct Workloads {
    clock: Clock,
}

/// What went wrong while pods were made, by ReplicaSet.
type Refusals = Vec<(String, String)>;

impl Actor for Workloads {
    async fn step(&mut self, cluster: &Arc<Cluster>) -> Option<Duration> {
        let objects = &cluster.objects;
        inject::refresh(cluster);
        for deployment in objects.list("deployments.apps", None) {
            if !deployment.deleting() {
                roll_out(objects, &deployment).await;
            }
        }
        collect(objects).await;
        let refusals = self.replicate(objects).await;
        for deployment in objects.list("deployments.apps", None) {
            let status = deployment_status(objects, &deployment, &refusals);
            let _ = objects
                .status("deployments.apps", &deployment, status)
                .await;
        }
        self.clock.due()
    }
}

impl Workloads {
    /// As many pods as each ReplicaSet wants; what was refused is told and tried again.
    async fn replicate(&mut self, objects: &Objects) -> Refusals {
        let mut refusals = Refusals::new();
        let pods = objects.list("pods", None);
        for set in objects.list("replicasets.apps", None) {
            let mine: Vec<_> = pods
                .iter()
                .filter(|p| p.owned_by("ReplicaSet", set.uid()))
                .collect();
            let living: Vec<_> = mine.iter().filter(|p| !p.deleting()).collect();
            let want = if set.deleting() {
                0
            } else {
                count(&set["spec"]["replicas"], 1)
            };
            for surplus in living.iter().skip(want) {
                let _ = objects.delete("pods", surplus).await;
            }
            let mut conditions = json!([]);
            for _ in living.len()..want {
                if let Err(error) = objects.create("pods", &pod_of(&set)).await {
                    self.clock.again_in(RETRY);
                    tell(
                        objects,
                        &set,
                        "FailedCreate",
                        &format!("Error creating: {}", words(&error)),
                    )
                    .await;
                    // A real ReplicaSet says so too; its Deployment only repeats it.
                    conditions = json!([{"type": "ReplicaFailure", "status": "True",
                        "reason": "FailedCreate", "message": words(&error)}]);
                    refusals.push((set.uid().into(), words(&error)));
                    break;
                }
            }
            let ready = living.iter().filter(|p| is_ready(p)).count();
            let status = json!({"replicas": living.len(), "fullyLabeledReplicas": living.len(), "readyReplicas": ready,
                "availableReplicas": ready, "observedGeneration": set["metadata"]["generation"],
                "conditions": conditions});
            let _ = objects.status("replicasets.apps", &set, status).await;
        }
        refusals
    }
}

/// What was made for an owner that was deleted meanwhile goes, as the real collector has it. Owners
/// are listed last: one that is there was there when what it owns was made.
async fn collect(objects: &Objects) {
    for (owned, kind, owners) in [
        ("replicasets.apps", "Deployment", "deployments.apps"),
        ("pods", "ReplicaSet", "replicasets.apps"),
    ] {
        let all = objects.list(owned, None);
        let owners = objects.list(owners, None);
        for object in all {
            let mut refs = object.items("/metadata/ownerReferences").iter();
            let lost =
                refs.any(|r| r["kind"] == kind && !owners.iter().any(|o| r["uid"] == o.uid()));
            if lost && !object.deleting() {
                let _ = objects.delete(owned, &object).await;
            }
        }
    }
}

/// One ReplicaSet for the template as it is now; older ones shrink once it is ready.
async fn roll_out(objects: &Objects, deployment: &Value) {
    let want = count(&deployment["spec"]["replicas"], 1);
    let hash = template_hash(&deployment["spec"]["template"]);
    let name = format!("{}-{hash}", deployment.name());
    let current = objects.get("replicasets.apps", deployment.ns(), &name);
    let Some(current) = current else {
        let _ = objects
            .create("replicasets.apps", &set_of(deployment, &name, &hash, want))
            .await;
        return;
    };
    if count(&current["spec"]["replicas"], 0) != want {
        let _ = objects
            .patch(
                "replicasets.apps",
                &current,
                &json!({"spec": {"replicas": want}}),
            )
            .await;
    }
    let ready = count(&current["status"]["readyReplicas"], 0) >= want;
    for old in sets_of(objects, deployment) {
        if ready && old.name() != name && count(&old["spec"]["replicas"], 0) > 0 {
            let _ = objects
                .patch("replicasets.apps", &old, &json!({"spec": {"replicas": 0}}))
                .await;
        }
    }
}

fn sets_of(objects: &Objects, deployment: &Value) -> Vec<Arc<Value>> {
    let mut sets = objects.list("replicasets.apps", Some(deployment.ns()));
    sets.retain(|s| s.owned_by("Deployment", deployment.uid()));
    sets
}

fn deployment_status(objects: &Objects, deployment: &Value, refusals: &Refusals) -> Value {
    let want = count(&deployment["spec"]["replicas"], 1);
    let hash = template_hash(&deployment["spec"]["template"]);
    let sets = sets_of(objects, deployment);
    let sum = |field: &str| {
        sets.iter()
            .map(|s| count(&s["status"][field], 0))
            .sum::<usize>()
    };
    let current = sets
        .iter()
        .find(|s| s.label("pod-template-hash") == Some(&hash));
    let updated = current.map_or(0, |s| count(&s["status"]["replicas"], 0));
    let done = current.is_some_and(|s| count(&s["status"]["readyReplicas"], 0) >= want)
        && sum("replicas") == want;
    let (total, ready) = (sum("replicas"), sum("readyReplicas"));
    let refusal = refusals
        .iter()
        .find(|(uid, _)| sets.iter().any(|s| s.uid() == uid));
    let refusal = refusal.map(|(_, text)| text.as_str());
    let conditions = deployment_conditions(deployment, ready >= want, done, refusal);
    let mut status = json!({"observedGeneration": deployment["metadata"]["generation"], "conditions": conditions});
    let counts = [
        ("replicas", total),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", want.saturating_sub(ready)),
    ];
    for (field, n) in counts.into_iter().filter(|(_, n)| *n > 0) {
        status[field] = n.into();
    }
    status
}

fn deployment_conditions(
    deployment: &Value,
    enough: bool,
    done: bool,
    refusal: Option<&str>,
) -> Vec<Value> {
    let available = ["MinimumReplicasAvailable", "MinimumReplicasUnavailable"];
    let progress = if done {
        "NewReplicaSetAvailable"
    } else {
        "ReplicaSetUpdated"
    };
    let mut conditions = vec![
        condition(deployment, "Available", enough, available),
        condition(deployment, "Progressing", true, [progress, ""]),
    ];
    if let Some(text) = refusal {
        let mut failed = condition(deployment, "ReplicaFailure", true, ["FailedCreate", ""]);
        failed["message"] = text.into();
        conditions.push(failed);
    }
    conditions
}

/// A condition that keeps the time of its last change.
pub(crate) fn condition(of: &Value, kind: &str, is: bool, reasons: [&str; 2]) -> Value {
    let status = if is { "True" } else { "False" };
    let old = of
        .items("/status/conditions")
        .iter()
        .find(|c| c["type"] == kind && c["status"] == status);
    let since = old.map_or_else(now, |c| c["lastTransitionTime"].clone());
    json!({"type": kind, "status": status, "reason": reasons[usize::from(!is)], "lastTransitionTime": since})
}

/// The time as Kubernetes writes it.
pub(crate) fn now() -> Value {
    crate::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
        .into()
}

fn template_hash(template: &Value) -> String {
    let digest = Sha256::digest(template.to_string());
    hex::encode(&digest[..5])
}

fn set_of(deployment: &Value, name: &str, hash: &str, want: usize) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"]["pod-template-hash"] = hash.into();
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"]["pod-template-hash"] = hash.into();
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": deployment.ns(), "labels": template["metadata"]["labels"],
            "ownerReferences": [owner(deployment, "apps/v1", "Deployment")]},
        "spec": {"replicas": want, "selector": selector, "template": template},
    })
}

fn pod_of(set: &Value) -> Value {
    let template = &set["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": format!("{}-", set.name()), "namespace": set.ns(),
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner(set, "apps/v1", "ReplicaSet")]},
        "spec": template["spec"],
    });
    if template["metadata"]["annotations"].is_object() {
        pod["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
    }
    pod
}

fn owner(of: &Value, version: &str, kind: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "name": of.name(), "uid": of.uid(),
        "controller": true, "blockOwnerDeletion": true})
}

/// An Event about an object, as `kubectl describe` shows it. The same words are told once.
pub(crate) async fn tell(objects: &Objects, about: &Value, reason: &str, message: &str) {
    let told = |e: &Arc<Value>| {
        e["involvedObject"]["uid"] == about["metadata"]["uid"] && e["message"] == message
    };
    if objects.list("events", Some(about.ns())).iter().any(told) {
        return;
    }
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message, "count": 1,
        "metadata": {"generateName": format!("{}.", about.name()), "namespace": about.ns()},
        "involvedObject": {"apiVersion": about["apiVersion"], "kind": about["kind"], "name": about.name(),
            "namespace": about.ns(), "uid": about.uid()},
        "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": "embedded"},
    });
    let _ = objects.create("events", &event).await;
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn count(value: &Value, or: usize) -> usize {
    value.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(or)
}
