//! Workloads that are rolled one after the other, and the label that has new pods given proxies.

use serde_json::{Value, json};

use super::{Error, Evidence, StepContext, seen};
use crate::{
    cluster::{Cluster, Kind, Ref, wait},
    hint::Hint,
    name::ClusterName,
    plan::{
        Refusal,
        rollout::{ROLLED, Rollout, Seen, labelling},
    },
    wait::Progress,
    workloads::{
        injection::Injection,
        judge::{has_proxy, lives, workload},
    },
};

/// How often a workload is rolled whose pods come without what they should have. An API server may for a moment not know of
/// a label that was just written by another.
const ROLLS: usize = 2;

impl StepContext<'_> {
    fn rollout(&self, cluster: &ClusterName) -> Result<&Rollout, Error> {
        self.run.rollout.as_ref().ok_or_else(|| Error::Missing {
            cluster: cluster.clone(),
            what: "no rollout was asked for".into(),
        })
    }

    /// Puts the label for injection on a namespace, or takes ours away: what is somebody else's by now is refused.
    pub(super) async fn label(&self, name: &ClusterName, namespace: &str) -> Evidence {
        let (cluster, how) = (self.cluster(name)?, self.rollout(name)?);
        let place = Ref::cluster(&Kind::NAMESPACE, namespace);
        let hooks = cluster.list(&Kind::MUTATING_WEBHOOK_CONFIGURATION, None, None);
        let (live, hooks) = futures::try_join!(cluster.find(&place), hooks)?;
        let Some(live) = live else {
            return Err(Error::Missing {
                cluster: name.clone(),
                what: format!("namespace {namespace} is not there any more"),
            });
        };
        let before = Seen {
            namespace: Some(live.clone()),
            injection: Injection::of(&hooks, &[]),
            ..Seen::default()
        };
        let mesh = &self.run.mesh.id;
        let Some(labelling) = labelling(mesh, name, &before, how).map_err(Error::Refused)? else {
            return seen(format!("namespace {namespace} is labelled as it should be"));
        };
        let mut metadata = labelling.patch;
        // Exactly the one that was looked at.
        for key in ["uid", "resourceVersion"] {
            metadata[key] = live["metadata"][key].clone();
        }
        cluster
            .merge(&place, &json!({ "metadata": metadata }))
            .await?;
        seen(match how.undo {
            true => format!("namespace {namespace} has no label for injection any more"),
            false => format!("namespace {namespace} is labelled for injection"),
        })
    }

    /// Rolls a workload, until every pod of it is new and ready.
    pub(super) async fn restart_workload(&self, name: &ClusterName, place: [&str; 3]) -> Evidence {
        let [kind, namespace, workload] = place;
        let (cluster, how) = (self.cluster(name)?, self.rollout(name)?);
        let kind = ROLLED.iter().find(|k| k.kind == kind);
        let kind = kind.ok_or_else(|| Error::Missing {
            cluster: name.clone(),
            what: format!("{workload} is of a kind that is not rolled"),
        })?;
        let place = &Ref::namespaced(kind, namespace, workload);
        let mut rolls = 0;
        loop {
            self.restart(cluster, place).await?;
            let rolled = match *kind == Kind::DEPLOYMENT {
                true => wait::available(cluster, place, self.deadline, self.say).await,
                false => wait::until(cluster, place, self.deadline, rolled, self.say).await,
            };
            rolled.map_err(|source| Error::Rollout {
                hints: ways_back(name, place, how),
                source: Box::new(source),
            })?;
            rolls += 1;
            let (pods, proxied) = counted(cluster, place).await?;
            let missing = how.inject && !how.undo && proxied < pods;
            if missing && rolls < ROLLS {
                (self.say)("its pods have no proxy; it is rolled again");
                continue;
            }
            if missing {
                return Err(Error::Refused(Refusal {
                    cluster: Some(name.clone()),
                    reason: format!(
                        "{place} was rolled, and {} of its {pods} pods have no proxy",
                        pods - proxied
                    ),
                    hints: ways_back(name, place, how),
                }));
            }
            return seen(format!(
                "{place}: {pods} new pods are ready, {proxied} with a proxy"
            ));
        }
    }
}

/// How to see what keeps a workload from becoming ready, and how to go back.
fn ways_back(cluster: &ClusterName, place: &Ref, how: &Rollout) -> Vec<Hint> {
    let namespace = place.namespace.as_deref().unwrap_or_default();
    let object = format!("{}/{}", place.kind.kind.to_lowercase(), place.name);
    let undo = ["-n", namespace, "rollout", "undo", object.as_str()];
    let undo =
        Hint::kubectl(cluster, undo).remark("goes back to its pods as they were asked for before");
    let mut hints = vec![place.describe(cluster)];
    hints.extend(how.way_back());
    hints.push(undo);
    hints
}

/// How many pods a workload has, and how many of them with a proxy.
async fn counted(cluster: &Cluster, place: &Ref) -> Result<(usize, usize), Error> {
    let live = cluster.find(place).await?;
    let labels = live
        .as_ref()
        .and_then(|l| l["spec"]["selector"]["matchLabels"].as_object());
    let pairs = labels.into_iter().flatten();
    let pairs = pairs.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let labels = pairs.collect::<Vec<_>>().join(",");
    let namespace = place.namespace.as_deref();
    let pods = cluster.list(&Kind::POD, namespace, Some(&labels)).await?;
    let ours = pods.iter().filter(|pod| lives(pod));
    let ours = ours.filter(|pod| workload(pod).as_ref() == Some(place));
    let ours: Vec<_> = ours.collect();
    let proxied = ours.iter().filter(|pod| has_proxy(pod)).count();
    Ok((ours.len(), proxied))
}

/// A StatefulSet or DaemonSet whose pods are all new and ready: what `kubectl rollout status` waits for.
fn rolled(object: Option<&Value>) -> Progress<()> {
    let Some(object) = object else {
        return Progress::Never("it was deleted".into());
    };
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    if number(&status["observedGeneration"]) < number(&object["metadata"]["generation"]) {
        return Progress::NotYet("not seen by its controller yet".into());
    }
    let is_daemon = object["kind"] == "DaemonSet" || status["desiredNumberScheduled"].is_u64();
    let (want, updated, ready) = match is_daemon {
        true => (
            number(&status["desiredNumberScheduled"]),
            number(&status["updatedNumberScheduled"]),
            number(&status["numberAvailable"]),
        ),
        false => {
            let want = spec["replicas"].as_u64().unwrap_or(1);
            // Pods below the partition stay as they are, by their owner's wish.
            let kept = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]).min(want);
            let all_new = status["currentRevision"] == status["updateRevision"];
            let updated = match all_new {
                true => want,
                false => number(&status["updatedReplicas"]) + kept,
            };
            (want, updated, number(&status["readyReplicas"]))
        }
    };
    match () {
        () if updated < want => {
            Progress::NotYet(format!("{updated} of {want} new pods created").into())
        }
        () if ready < want => Progress::NotYet(format!("{ready} of {want} pods ready").into()),
        () => Progress::Done(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_rolled_when_every_pod_is_new_and_ready() {
        let is_done = |object: Value| matches!(rolled(Some(&object)), Progress::Done(()));
        let daemon = |seen: u64, updated: u64, available: u64| {
            json!({"kind": "DaemonSet", "metadata": {"generation": 2}, "status": {"observedGeneration": seen,
                "desiredNumberScheduled": 3, "updatedNumberScheduled": updated, "numberAvailable": available}})
        };
        assert!(is_done(daemon(2, 3, 3)));
        assert!(!is_done(daemon(1, 3, 3)), "its controller has not seen it");
        assert!(!is_done(daemon(2, 2, 3)) && !is_done(daemon(2, 3, 2)));
        let stateful = |partition: u64, updated: u64, ready: u64, current: &str| {
            json!({"kind": "StatefulSet", "metadata": {"generation": 1},
                "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": partition}}},
                "status": {"observedGeneration": 1, "updatedReplicas": updated, "readyReplicas": ready,
                    "currentRevision": current, "updateRevision": "b"}})
        };
        // When all are new, the controller calls the new revision the current one, and counts none as updated.
        assert!(is_done(stateful(0, 0, 3, "b")));
        assert!(is_done(stateful(0, 3, 3, "a")) && is_done(stateful(2, 1, 3, "a")));
        assert!(!is_done(stateful(0, 1, 3, "a")) && !is_done(stateful(0, 3, 2, "a")));
        assert!(matches!(rolled(None), Progress::Never(_)));
    }
}
