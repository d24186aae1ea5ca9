//! Why a Deployment is not available: what its pods and the events about them say.

use serde_json::Value;

use super::super::{Cluster, Error, Kind, Ref};

/// The most telling reason a Deployment has no ready pods, if there is one: a pod that cannot be
/// created, scheduled, pulled or kept alive.
pub(crate) async fn why(cluster: &Cluster, deployment: &Ref) -> Result<Option<String>, Error> {
    let namespace = deployment.namespace.as_deref();
    let Some(object) = cluster.find(deployment).await? else {
        return Ok(None);
    };
    let labels = selector(&object);
    let (sets, pods, events) = futures::try_join!(
        cluster.list(&Kind::REPLICA_SET, namespace, Some(&labels)),
        cluster.list(&Kind::POD, namespace, Some(&labels)),
        cluster.list(&Kind::EVENT, namespace, None),
    )?;
    let uid = &object["metadata"]["uid"];
    let sets: Vec<_> = sets.into_iter().filter(|set| owned(set, uid)).collect();
    Ok(explain(&sets, &pods, &events))
}

fn selector(deployment: &Value) -> String {
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object();
    let pairs = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    pairs.collect::<Vec<_>>().join(",")
}

fn owned(set: &Value, uid: &Value) -> bool {
    set["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|owner| owner["uid"] == *uid)
}

fn explain(sets: &[Value], pods: &[Value], events: &[Value]) -> Option<String> {
    let pods: Vec<_> = pods
        .iter()
        .filter(|pod| sets.iter().any(|set| owned(pod, &set["metadata"]["uid"])))
        .collect();
    // A ReplicaSet that may not create its pods says so in a condition; older ones are scaled to zero.
    let blocked = sets
        .iter()
        .filter(|set| set["spec"]["replicas"] != 0)
        .find_map(|set| {
            let failed = conditions(set).find(|condition| condition["type"] == "ReplicaFailure")?;
            Some(format!(
                "pods cannot be created: {}",
                text(&failed["message"])?
            ))
        });
    blocked
        .or_else(|| pods.iter().find_map(|pod| unscheduled(pod)))
        .or_else(|| pods.iter().find_map(|pod| stuck(pod)))
        .or_else(|| pods.iter().find_map(|pod| latest(events, pod)))
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
}

fn text(value: &Value) -> Option<&str> {
    value
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or("a pod")
}

fn unscheduled(pod: &Value) -> Option<String> {
    let found = conditions(pod)
        .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")?;
    Some(format!(
        "{} cannot be scheduled: {}",
        name(pod),
        text(&found["message"])?
    ))
}

/// A container that waits for something other than its turn, or that ended badly.
fn stuck(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    let containers = ["initContainerStatuses", "containerStatuses"];
    containers
        .iter()
        .flat_map(|key| status[*key].as_array().into_iter().flatten())
        .find_map(|container| {
            let waiting = &container["state"]["waiting"];
            let reason = text(&waiting["reason"])
                .filter(|reason| !matches!(*reason, "PodInitializing" | "ContainerCreating"));
            if let Some(reason) = reason {
                let detail = text(&waiting["message"])
                    .map(|message| format!(": {message}"))
                    .unwrap_or_default();
                return Some(format!("{} {reason}{detail}", name(pod)));
            }
            let ended = &container["state"]["terminated"];
            let code = ended["exitCode"].as_i64().filter(|code| *code != 0)?;
            Some(format!(
                "{} ended with {code} ({})",
                name(pod),
                text(&ended["reason"]).unwrap_or("Error")
            ))
        })
}

/// The newest warning about a pod.
fn latest(events: &[Value], pod: &Value) -> Option<String> {
    let about = |event: &&Value| {
        event["type"] == "Warning" && event["involvedObject"]["uid"] == pod["metadata"]["uid"]
    };
    let event = events
        .iter()
        .filter(about)
        .max_by_key(|event| time(event))?;
    Some(format!(
        "{} {}: {}",
        name(pod),
        text(&event["reason"])?,
        text(&event["message"])?
    ))
}

/// RFC 3339 in UTC sorts as text.
fn time(event: &Value) -> &str {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
    ];
    times.into_iter().find_map(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(status: Value) -> Value {
        json!({"metadata": {"uid": "set"}, "spec": {"replicas": 1}, "status": status})
    }

    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "istiod-1", "uid": "pod", "ownerReferences": [{"uid": "set"}]}, "status": status})
    }

    #[test]
    fn the_most_telling_reason_wins() {
        let webhook = "Internal error occurred: failed calling webhook \"x\"";
        let refused = set(
            json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": webhook}]}),
        );
        assert_eq!(
            explain(&[refused], &[], &[]),
            Some(format!("pods cannot be created: {webhook}"))
        );

        let unplaced = pod(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}),
        );
        assert_eq!(
            explain(&[set(json!({}))], &[unplaced], &[]),
            Some("istiod-1 cannot be scheduled: 0/1 nodes".into())
        );

        let pulling = pod(json!({"containerStatuses": [{"state": {"waiting":
            {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}]}));
        let want = "istiod-1 ImagePullBackOff: Back-off pulling image";
        assert_eq!(
            explain(&[set(json!({}))], &[pulling], &[]),
            Some(want.into())
        );

        let crashed = pod(
            json!({"containerStatuses": [{"state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}),
        );
        assert_eq!(
            explain(&[set(json!({}))], &[crashed], &[]),
            Some("istiod-1 ended with 2 (Error)".into())
        );
    }

    #[test]
    fn warnings_count_only_for_our_pods_and_the_newest_first() {
        let starting = pod(
            json!({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}),
        );
        let event = |uid: &str, time: &str, message: &str| {
            json!({"type": "Warning", "reason": "FailedMount", "message": message, "lastTimestamp": time,
                "involvedObject": {"uid": uid}})
        };
        let events = [
            event("pod", "2026-01-01T00:00:02Z", "new"),
            event("pod", "2026-01-01T00:00:01Z", "old"),
            event("x", "9", "other"),
        ];
        let found = explain(&[set(json!({}))], std::slice::from_ref(&starting), &events);
        assert_eq!(found, Some("istiod-1 FailedMount: new".into()));
        assert_eq!(
            explain(&[], &[starting], &events),
            None,
            "a pod of nobody's"
        );
    }
}
