//! What is labelled and rolled, what is refused, and what stays.

use super::*;
use crate::workloads::State;

fn hooks(revision: &str) -> Value {
    let label = match revision {
        "default" => json!([{"key": OLD, "operator": "In", "values": ["enabled"]}]),
        _ => json!([{"key": REVISION, "operator": "In", "values": [revision]}]),
    };
    json!({"metadata": {"labels": {REVISION: revision}}, "webhooks": [{
        "rules": [{"resources": ["pods"]}], "namespaceSelector": {"matchExpressions": label},
        "objectSelector": {"matchExpressions": [
            {"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}]}}]})
}

fn controller(kind: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut made = json!({"apiVersion": "apps/v1", "kind": kind,
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"template": {"metadata": {"labels": {"app": name}}, "spec": {}}}});
    change(&mut made);
    made
}

fn pod(workload: Option<&str>, name: &str, change: impl FnOnce(&mut Pod)) -> Pod {
    let mut pod = Pod {
        namespace: "shop".into(),
        name: name.into(),
        workload: workload.map(str::to_owned),
        address: None,
        state: State::Outside,
        why: vec![],
        proxy: None,
        certificate: None,
        unread: None,
        holds: None,
    };
    change(&mut pod);
    pod
}

fn seen(labels: &Value, revisions: &[&str]) -> Seen {
    let hooks: Vec<_> = revisions.iter().map(|r| hooks(r)).collect();
    Seen {
        namespace: Some(json!({"metadata": {"name": "shop", "uid": "u", "labels": labels}})),
        injection: Injection::of(&hooks, &[]),
        pods: vec![
            pod(Some("Deployment shop/web"), "web-1", |_| {}),
            pod(Some("StatefulSet shop/db"), "db-0", |_| {}),
            pod(Some("Job shop/once"), "once-x", |_| {}),
            pod(None, "lone", |_| {}),
        ],
        controllers: vec![
            controller("Deployment", "web", |_| {}),
            controller("StatefulSet", "db", |_| {}),
        ],
        selector: None,
    }
}

fn inject() -> Rollout {
    Rollout {
        namespace: "shop".into(),
        inject: true,
        ..Rollout::default()
    }
}

fn planned(all: Vec<(&str, Seen)>, how: &Rollout) -> Result<Plan, Vec<Refusal>> {
    let mesh = Mesh::named(&["a".into(), "b".into()]).unwrap();
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, seen)| (name.parse().unwrap(), seen))
        .collect();
    rollout(&mesh, &all, how)
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|p| p.step.to_string()).collect()
}

#[test]
fn each_step_waits_for_the_one_before_over_all_members() {
    let both = vec![
        ("a", seen(&json!({}), &["default"])),
        ("b", seen(&json!({OLD: "enabled"}), &["default"])),
    ];
    let plan = planned(both, &inject()).unwrap();
    let want = [
        "label-namespace/a/shop",
        "restart-workload/a/shop/deployment/web",
        "restart-workload/a/shop/statefulset/db",
        "restart-workload/b/shop/deployment/web",
        "restart-workload/b/shop/statefulset/db",
    ];
    assert_eq!(ids(&plan), want);
    for pair in plan.steps.windows(2) {
        assert_eq!(pair[1].needs, [pair[0].step.clone()]);
    }
    let notes: Vec<_> = plan.notes.iter().map(|n| n.text.as_str()).collect();
    assert!(
        notes[0].ends_with("stay as they are: once-x, lone"),
        "{notes:?}"
    );
}

#[test]
fn the_label_is_that_of_the_injector_there_is() {
    let label = |labels: Value, revisions: &[&str]| {
        let seen = seen(&labels, revisions);
        let mesh = "mesh".parse().unwrap();
        let found = labelling(&mesh, &"a".parse().unwrap(), &seen, &inject());
        found.map(|l| l.map(|l| l.patch["labels"].clone()))
    };
    let put = |labels: Value, revisions: &[&str]| label(labels, revisions).unwrap();
    assert_eq!(put(json!({}), &["default"]), Some(json!({OLD: "enabled"})));
    assert_eq!(
        put(json!({}), &["canary", "default"]),
        Some(json!({OLD: "enabled"}))
    );
    assert_eq!(
        put(json!({}), &["canary"]),
        Some(json!({REVISION: "canary"}))
    );
    assert_eq!(put(json!({OLD: "enabled"}), &["default"]), None);
    assert_eq!(
        put(json!({REVISION: "canary"}), &["canary", "default"]),
        None
    );
    for (labels, revisions) in [
        (json!({OLD: "disabled"}), &["default"][..]),
        (json!({OLD: "enabled"}), &["canary"]),
        (json!({REVISION: "gone"}), &["default"]),
        (json!({"istio.io/dataplane-mode": "ambient"}), &["default"]),
        (json!({}), &["canary", "stable"]),
        (json!({}), &[]),
    ] {
        let refusal = label(labels.clone(), revisions).unwrap_err();
        assert!(!refusal.hints.is_empty(), "{labels} {refusal}");
    }
}

#[test]
fn only_a_label_of_ours_is_taken_away() {
    let mesh = "mesh".parse().unwrap();
    let name = "a".parse().unwrap();
    let mut labelled = seen(&json!({}), &["default"]);
    let patch = labelling(&mesh, &name, &labelled, &inject())
        .unwrap()
        .unwrap()
        .patch;
    let undo = Rollout {
        inject: false,
        undo: true,
        ..inject()
    };
    if let Some(namespace) = &mut labelled.namespace {
        merge(&mut namespace["metadata"], &patch);
    }
    let back = labelling(&mesh, &name, &labelled, &undo).unwrap().unwrap();
    assert_eq!(back.patch["labels"], json!({OLD: null}));
    let change = |change: fn(&mut Value)| {
        let mut other = labelled.clone();
        change(other.namespace.as_mut().unwrap());
        labelling(&mesh, &name, &other, &undo)
    };
    assert!(change(|ns| ns["metadata"]["uid"] = "copied".into()).is_err());
    assert!(change(|ns| ns["metadata"]["labels"][OLD] = "disabled".into()).is_err());
    assert!(change(|ns| ns["metadata"]["annotations"] = json!({})).is_err());
    let other = labelling(&"other".parse().unwrap(), &name, &labelled, &undo);
    assert!(other.is_err(), "another mesh's");
    let gone = change(|ns| ns["metadata"]["labels"] = json!({}));
    assert!(gone.unwrap().is_none());
}

#[test]
fn what_cannot_be_rolled_is_told() {
    let mut all = seen(&json!({OLD: "enabled"}), &["default"]);
    all.controllers = vec![
        controller("StatefulSet", "db", |c| {
            c["spec"]["updateStrategy"]["type"] = "OnDelete".into()
        }),
        controller("Deployment", "web", |c| c["spec"]["paused"] = true.into()),
    ];
    let plan = planned(vec![("a", all)], &inject()).unwrap();
    assert!(plan.is_empty(), "{:?}", ids(&plan));
    let notes: Vec<_> = plan.notes.iter().map(|n| n.text.as_str()).collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].contains("only when they are deleted") && notes[1].contains("paused"));
}

#[test]
fn a_restart_is_for_what_needs_it_unless_all_is_asked_for() {
    let mut all = seen(&json!({OLD: "enabled"}), &["default"]);
    all.pods[0].state = State::MustRestart;
    all.pods[1].state = State::InMesh;
    let mut how = Rollout {
        inject: false,
        ..inject()
    };
    let plan = planned(vec![("a", all.clone())], &how).unwrap();
    assert_eq!(ids(&plan), ["restart-workload/a/shop/deployment/web"]);
    how.all = true;
    assert_eq!(
        planned(vec![("a", all.clone())], &how).unwrap().steps.len(),
        2
    );
    how.service = Some("db".into());
    all.selector = Some(json!({"app": "db"}));
    let plan = planned(vec![("a", all.clone())], &how).unwrap();
    assert_eq!(ids(&plan), ["restart-workload/a/shop/statefulset/db"]);
    // A Service that selects nothing leads to no workload.
    all.selector = Some(Value::Null);
    assert!(planned(vec![("a", all.clone())], &how).unwrap().is_empty());
    all.selector = None;
    assert!(planned(vec![("a", all)], &how).is_err(), "nobody has it");
}

#[test]
fn nothing_is_done_in_namespaces_of_the_system() {
    for name in [
        "kube-system",
        "istio-system",
        "istio-ingress",
        "meshlink-probe",
    ] {
        let mut all = seen(&json!({}), &["default"]);
        all.namespace = Some(json!({"metadata": {"name": name, "uid": "u"}}));
        let refusals = planned(vec![("a", all)], &inject()).unwrap_err();
        assert_eq!(refusals.len(), 1, "{refusals:?}");
    }
}
