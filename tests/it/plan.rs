//! What a plan shows: every field that is ours and not as it should be, and nothing that is not ours.

use insta::assert_snapshot;
use meshlink::{Change, Meshlink, Plan};
use serde_json::{Value, json};

use crate::kit::{
    World, istio, join,
    rendered::{called, files, path_of, resources},
};

/// Fields that somebody else writes, or that no one can change.
const NOT_OURS: [&str; 10] = [
    "apiVersion",
    "kind",
    "metadata/name",
    "metadata/namespace",
    // Whose it is.
    "metadata/annotations/meta.helm.sh",
    "metadata/labels/app.kubernetes.io/managed-by",
    "status",
    "caBundle",
    "failurePolicy",
    "type",
];

/// Every leaf of an object, by its path.
fn leaves(value: &Value, path: &[String], into: &mut Vec<Vec<String>>) {
    let mut down = |key: String, value: &Value| leaves(value, &[path, &[key]].concat(), into);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| down(key.clone(), value)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(i, value)| down(i.to_string(), value)),
        _ => into.push(path.to_vec()),
    }
}

fn is_ours(path: &[String]) -> bool {
    let text = path.join("/");
    !NOT_OURS
        .iter()
        .any(|not| text.starts_with(not) || path.last().is_some_and(|last| last == not))
}

/// The same, but different.
fn other(value: &Value) -> Value {
    match value {
        Value::Bool(yes) => json!(!yes),
        Value::Number(number) => json!(number.as_i64().unwrap_or_default() + 1),
        Value::String(text) if text.parse::<i64>().is_ok() => json!(format!("{text}1")),
        Value::String(text) => json!(format!("{text}x")),
        _ => json!("x"),
    }
}

fn at<'v>(object: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(object, |value, key| match value {
        Value::Array(list) => list.get_mut(key.parse::<usize>().ok()?),
        value => value.get_mut(key),
    })
}

/// Every object a member should hold, as `render` writes it.
fn wanted(world: &World) -> Vec<Value> {
    world.run("render eks-1 eks-2 --out gitops").ends(0);
    let mut all = resources(&files(&world.user.here().join("gitops")), "eks-2");
    // Rendered for somebody else to fill in: a join has what belongs there.
    all.retain(|object| object["kind"] != "Secret");
    all
}

/// What a join would do now.
fn planned(world: &World, link: &Meshlink) -> Plan {
    let change = world.block_on(link.plan(Change::Join)).unwrap();
    change.plan().clone()
}

#[test]
fn every_field_that_is_ours_shows_when_it_is_changed() {
    let world = World::joined(2);
    let link = world.link(2);
    assert!(planned(&world, &link).is_empty());
    let (mut tried, mut refused) = (0, 0);
    for object in wanted(&world) {
        let (path_there, reference) = (path_of(&object), called(&object));
        let mut paths = vec![];
        leaves(&object, &[], &mut paths);
        paths.retain(|path| is_ours(path));
        // A few of each object: first, last and some between.
        let step = (paths.len() / 4).max(1);
        for path in paths.iter().step_by(step) {
            let live = world.get("eks-2", &path_there);
            let mut changed = live.clone();
            let Some(field) = at(&mut changed, path) else {
                continue;
            };
            *field = other(field);
            if world.replace("eks-2", &path_there, &changed).is_err() {
                // What the API server refuses nobody can change.
                refused += 1;
                continue;
            }
            tried += 1;
            let plan = planned(&world, &link);
            let shown = plan
                .steps
                .iter()
                .flat_map(|s| &s.changes)
                .any(|c| c.object == reference);
            assert!(
                shown,
                "{reference} {}: {:?}",
                path.join("/"),
                plan.steps
                    .iter()
                    .map(|s| s.step.to_string())
                    .collect::<Vec<_>>()
            );
            let mut back = live.clone();
            back["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("resourceVersion");
            world.replace("eks-2", &path_there, &back).unwrap();
        }
    }
    assert!(
        tried > 60 && refused < tried,
        "{tried} tried, {refused} refused"
    );
    let plan = planned(&world, &link);
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn drift_is_exit_10_and_shown_field_by_field() {
    let world = World::joined(2);
    let ports = json!({"metadata": {"labels": {"topology.istio.io/network": "elsewhere"}}});
    world.merge("eks-2", "/api/v1/namespaces/istio-system", &ports);
    let before = world.inventory("eks-2");
    let answer = world.run("plan eks-1 eks-2").ends(10);
    assert_snapshot!(answer, @r#"
    exit 10
    --- stdout ---
    eks-2
      prepare-namespaces/eks-2  create or label the namespaces in eks-2
        ~ Namespace istio-system
            metadata.labels["topology.istio.io/network"]: elsewhere -> eks-2
      start-probe/eks-2  start the probe in eks-2
      reach/eks-2/eks-1  reach eks-1's gateway and API server from eks-2
      prove/eks-2/eks-1  prove that eks-2 reaches eks-1
      record-proof/eks-2  record in eks-2 what was proved
      stop-probe/eks-2  remove the probe from eks-2

    eks-1
      start-probe/eks-1  start the probe in eks-1
      reach/eks-1/eks-2  reach eks-2's gateway and API server from eks-1
      prove/eks-1/eks-2  prove that eks-1 reaches eks-2
      record-proof/eks-1  record in eks-1 what was proved
      stop-probe/eks-1  remove the probe from eks-1

    11 steps would be done; nothing was changed
    "#);
    assert_eq!(before, world.inventory("eks-2"));
}

#[test]
fn what_istiod_writes_is_no_drift() {
    let world = World::joined(2);
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let names: Vec<String> = world.get("eks-2", hooks)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hook| hook["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(!names.is_empty());
    for name in names {
        let path = format!("{hooks}/{name}");
        let mut hook = world.get("eks-2", &path);
        for one in hook["webhooks"].as_array_mut().unwrap() {
            one["failurePolicy"] = match &one["failurePolicy"] {
                Value::String(policy) if policy == "Fail" => json!("Ignore"),
                _ => json!("Fail"),
            };
            one["clientConfig"]["caBundle"] = json!("bm90aGluZw==");
        }
        world.replace("eks-2", &path, &hook).unwrap();
    }
    world.run("plan eks-1 eks-2").ends(0);
}

#[test]
fn a_plan_of_a_fresh_join_names_every_step_and_changes_nothing() {
    let world = World::new(2);
    let before = [world.inventory("eks-1"), world.inventory("eks-2")];
    world
        .run("plan eks-1 eks-2")
        .ends(10)
        .says("install-cacerts/eks-1")
        .says("prove/eks-2/eks-1");
    assert_eq!(before, [world.inventory("eks-1"), world.inventory("eks-2")]);
    assert!(world.keys().is_empty());
    let planned = planned(&world, &world.link(2));
    world.run(&join(2)).ends(0);
    for step in planned.steps {
        assert!(
            world.journal().contains(&format!("\"{}\"", step.step)),
            "{}",
            step.step
        );
    }
    assert!(world.find("eks-1", &istio("secrets", "cacerts")).is_some());
}
