//! Conditions as plain functions of an object.

use serde::Serialize;
use serde_json::Value;

use crate::wait::Progress::{self, Done, Never, NotYet};

/// Where a load balancer can be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Address {
    /// By name, as on AWS.
    Hostname(String),
    /// By address.
    Ip(String),
}

impl Address {
    /// The name or address as text.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Hostname(text) | Self::Ip(text) => text,
        }
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// A Deployment whose newest pods are all there and ready, and the old ones gone: what
/// `kubectl rollout status` waits for.
pub(crate) fn deployment_available(object: Option<&Value>) -> Progress<()> {
    let Some(object) = object else {
        return NotYet("not created yet".into());
    };
    let (spec, status) = (&object["spec"], &object["status"]);
    if number(&status["observedGeneration"]) < number(&object["metadata"]["generation"]) {
        return NotYet("not seen by its controller yet".into());
    }
    let want = spec["replicas"].as_u64().unwrap_or(1);
    let (updated, total) = (
        number(&status["updatedReplicas"]),
        number(&status["replicas"]),
    );
    let available = number(&status["availableReplicas"]);
    if updated < want {
        return NotYet(format!("{updated} of {want} new pods created").into());
    }
    if total > updated {
        return NotYet(format!("{} old pods still there", total - updated).into());
    }
    if available < updated {
        let late = condition(object, "Progressing").is_some_and(|found| found["status"] == "False");
        let late = if late {
            ", and its progress deadline has passed"
        } else {
            ""
        };
        return NotYet(format!("{available} of {want} pods available{late}").into());
    }
    Done(())
}

/// A CustomResourceDefinition that is served.
pub(crate) fn crd_established(object: Option<&Value>) -> Progress<()> {
    let Some(object) = object else {
        return NotYet("not created yet".into());
    };
    if let Some(names) =
        condition(object, "NamesAccepted").filter(|names| names["status"] == "False")
    {
        return Never(
            names["message"]
                .as_str()
                .unwrap_or("its names are taken")
                .into(),
        );
    }
    match condition(object, "Established").is_some_and(|found| found["status"] == "True") {
        true => Done(()),
        false => NotYet("not served yet".into()),
    }
}

/// A Service whose load balancer has a name or an address.
pub(crate) fn service_has_address(object: Option<&Value>) -> Progress<Vec<Address>> {
    let Some(object) = object else {
        return NotYet("not created yet".into());
    };
    if object["spec"]["type"] != "LoadBalancer" {
        let kind = object["spec"]["type"].as_str().unwrap_or("ClusterIP");
        return Never(format!("it is of type {kind}, which gets no load balancer").into());
    }
    let ingress = object["status"]["loadBalancer"]["ingress"].as_array();
    let found: Vec<Address> = ingress.into_iter().flatten().filter_map(address).collect();
    match found.is_empty() {
        true => NotYet("its load balancer has no address yet".into()),
        false => Done(found),
    }
}

fn address(ingress: &Value) -> Option<Address> {
    let ip = || ingress["ip"].as_str().map(|ip| Address::Ip(ip.into()));
    ingress["hostname"]
        .as_str()
        .map(|name| Address::Hostname(name.into()))
        .or_else(ip)
}

/// No object of that name any more.
pub(crate) fn gone(object: Option<&Value>) -> Progress<()> {
    let Some(object) = object else {
        return Done(());
    };
    let metadata = &object["metadata"];
    if !metadata["deletionTimestamp"].is_string() {
        return NotYet("still there, and not marked for deletion".into());
    }
    let held: Vec<_> = metadata["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match held.is_empty() {
        true => NotYet("being deleted".into()),
        false => NotYet(format!("held by {}", held.join(", ")).into()),
    }
}

/// A service account's token Secret that its controller has filled.
pub(crate) fn secret_has_token(object: Option<&Value>) -> Progress<()> {
    let Some(object) = object else {
        return NotYet("not created yet".into());
    };
    let filled = |key: &str| {
        object["data"][key]
            .as_str()
            .is_some_and(|data| !data.is_empty())
    };
    match (filled("token"), filled("ca.crt")) {
        (true, true) => Done(()),
        (true, false) => NotYet("no ca.crt in it yet".into()),
        _ => NotYet("no token in it yet".into()),
    }
}

/// A webhook configuration whose every webhook knows the CA of its server.
pub(crate) fn webhook_has_ca(object: Option<&Value>) -> Progress<()> {
    let Some(object) = object else {
        return NotYet("not created yet".into());
    };
    let webhooks = object["webhooks"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let empty = |hook: &&Value| {
        hook["clientConfig"]["caBundle"]
            .as_str()
            .is_none_or(str::is_empty)
    };
    match webhooks.iter().find(empty) {
        Some(hook) => {
            let name = hook["name"].as_str().unwrap_or("a webhook");
            NotYet(format!("{name} has no caBundle yet").into())
        }
        None if webhooks.is_empty() => NotYet("it lists no webhooks yet".into()),
        None => Done(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deployments() {
        let with = |generation: u64, status: Value| {
            let object = json!({"metadata": {"generation": generation}, "spec": {"replicas": 2}, "status": status});
            deployment_available(Some(&object))
        };
        let not_yet = |text: &str| NotYet(text.into());
        for (status, want) in [
            (json!({}), not_yet("not seen by its controller yet")),
            (
                json!({"observedGeneration": 3, "updatedReplicas": 1}),
                not_yet("1 of 2 new pods created"),
            ),
            (
                json!({"observedGeneration": 3, "updatedReplicas": 2, "replicas": 3}),
                not_yet("1 old pods still there"),
            ),
            (
                json!({"observedGeneration": 3, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1,
                    "conditions": [{"type": "Progressing", "status": "False"}]}),
                not_yet("1 of 2 pods available, and its progress deadline has passed"),
            ),
            (
                json!({"observedGeneration": 3, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}),
                Done(()),
            ),
        ] {
            assert_eq!(with(3, status.clone()), want, "{status}");
        }
        assert_eq!(deployment_available(None), not_yet("not created yet"));
    }

    #[test]
    fn crds() {
        let with = |kind: &str, status: &str| {
            let conditions = json!([{"type": kind, "status": status, "message": "taken"}]);
            crd_established(Some(&json!({"status": {"conditions": conditions}})))
        };
        assert_eq!(with("Established", "True"), Done(()));
        assert_eq!(
            with("Established", "False"),
            NotYet("not served yet".into())
        );
        assert_eq!(with("NamesAccepted", "False"), Never("taken".into()));
    }

    #[test]
    fn addresses() {
        let with = |ingress: Value| {
            let status = json!({"loadBalancer": {"ingress": ingress}});
            service_has_address(Some(
                &json!({"spec": {"type": "LoadBalancer"}, "status": status}),
            ))
        };
        assert_eq!(
            with(json!([{"hostname": "a.b"}])),
            Done(vec![Address::Hostname("a.b".into())])
        );
        assert_eq!(
            with(json!([{"ip": "1.2.3.4"}])),
            Done(vec![Address::Ip("1.2.3.4".into())])
        );
        assert!(matches!(with(json!([])), NotYet(_)));
        assert!(matches!(
            service_has_address(Some(&json!({"spec": {"type": "NodePort"}}))),
            Never(_)
        ));
    }

    #[test]
    fn deletion() {
        assert_eq!(gone(None), Done(()));
        let going = json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["service.kubernetes.io/load-balancer-cleanup"]}});
        assert_eq!(
            gone(Some(&going)),
            NotYet("held by service.kubernetes.io/load-balancer-cleanup".into())
        );
        assert!(matches!(gone(Some(&json!({"metadata": {}}))), NotYet(_)));
    }

    #[test]
    fn secrets_and_webhooks_fill_up() {
        assert!(matches!(secret_has_token(Some(&json!({}))), NotYet(_)));
        assert!(matches!(
            secret_has_token(Some(&json!({"data": {"token": "eA=="}}))),
            NotYet(_)
        ));
        assert_eq!(
            secret_has_token(Some(&json!({"data": {"token": "eA==", "ca.crt": "eA=="}}))),
            Done(())
        );
        let hooks = |bundles: &[&str]| {
            let hooks: Vec<_> = bundles
                .iter()
                .map(|ca| json!({"name": "h", "clientConfig": {"caBundle": ca}}))
                .collect();
            webhook_has_ca(Some(&json!({"webhooks": hooks})))
        };
        assert_eq!(hooks(&["eA==", "eA=="]), Done(()));
        assert_eq!(hooks(&["eA==", ""]), NotYet("h has no caBundle yet".into()));
        assert!(matches!(hooks(&[]), NotYet(_)));
    }
}
