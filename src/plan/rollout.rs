//! Workloads that are given proxies, or are made anew with what holds now: a label on their namespace, and one rollout after the
//! other.
//!
//! What is to be rolled follows from the pods that are there: once they are as they would be made now, there is no step left, so
//! that the same command goes on where one has stopped. A label that is there already is its owner's, and stays as it is; ours says so
//! by an annotation with the namespace's UID, and that one alone is taken away again.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Note, ObjectChange, Plan, Refusal, Step};
use crate::{
    cluster::{Kind, Ref, subset::Change},
    hint::Hint,
    name::{ClusterName, MeshId},
    probe,
    spec::Mesh,
    workloads::{
        Pod,
        injection::{Fate, Injection, is_system},
    },
};

/// What says that a label for injection is ours.
pub(crate) const MARK: &str = "meshlink/injected";
/// The label of the default revision, and that of any.
const OLD: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";
/// So many objects are named in a note.
const NAMED: usize = 5;

/// Workloads that are made anew, and whether new pods of their namespace are to be given proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rollout {
    /// The namespace.
    pub namespace: String,
    /// The members; all where none is named.
    pub members: Vec<ClusterName>,
    /// Only workloads whose pods this Service of the namespace selects.
    pub service: Option<String>,
    /// Label the namespace, and roll what then is given a proxy.
    pub inject: bool,
    /// Take the label away again that was put there by that, and roll what then is given none.
    pub undo: bool,
    /// Roll also what is as it would be made now.
    pub all: bool,
}

/// What was seen of a member for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The namespace; none where the member does not have it.
    pub(crate) namespace: Option<Value>,
    /// What decides on injection.
    pub(crate) injection: Injection,
    /// The namespace's pods.
    pub(crate) pods: Vec<Pod>,
    /// Its Deployments, StatefulSets and DaemonSets.
    pub(crate) controllers: Vec<Value>,
    /// What the named Service selects; none where it was named and is not there.
    pub(crate) selector: Option<Value>,
}

/// What the annotation says.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Mark {
    mesh: String,
    uid: String,
    key: String,
    value: String,
}

/// A namespace's label for injection, as a change of the object.
pub(crate) struct Labelling {
    /// What is written to its labels and annotations.
    pub(crate) patch: Value,
    change: ObjectChange,
}

impl Rollout {
    /// Whether a member is meant.
    pub(crate) fn is_about(&self, name: &ClusterName) -> bool {
        self.members.is_empty() || self.members.contains(name)
    }

    /// The command that goes back.
    pub(crate) fn way_back(&self) -> Option<Hint> {
        let words = [
            "workloads",
            "inject",
            "-n",
            self.namespace.as_str(),
            "--undo",
        ];
        let back = Hint::meshlink(words).remark("takes the label and the proxies away again");
        (self.inject && !self.undo).then_some(back)
    }
}

/// The steps, or every reason against them at once.
pub(crate) fn rollout(
    mesh: &Mesh,
    seen: &[(ClusterName, Seen)],
    how: &Rollout,
) -> Result<Plan, Vec<Refusal>> {
    let (mut plan, mut refusals) = (Plan::default(), vec![]);
    let mut before: Option<Step> = None;
    let space = how.namespace.as_str();
    for (name, seen) in seen {
        let Some(namespace) = &seen.namespace else {
            plan.notes
                .push(format!("{name} has no namespace {space}").into());
            continue;
        };
        if how.service.is_some() && seen.selector.is_none() {
            let service = how.service.as_deref().unwrap_or_default();
            plan.notes
                .push(format!("{name} has no Service {space}/{service}").into());
            continue;
        }
        if let Some(refusal) = forbidden(mesh, name, namespace) {
            refusals.push(refusal);
            continue;
        }
        let labelling = match labelling(&mesh.id, name, seen, how) {
            Ok(labelling) => labelling,
            Err(refusal) => {
                refusals.push(refusal);
                continue;
            }
        };
        let mut then = namespace.clone();
        if let Some(Labelling { patch, change }) = labelling {
            let step = label_step(name, space, how.undo);
            let why = match how.undo {
                true => "it was put there by meshlink",
                false => "new pods of it are given no proxy",
            };
            plan.add_with(
                step.clone(),
                before.iter().cloned().collect(),
                why,
                vec![change],
            );
            before = Some(step);
            merge(&mut then["metadata"], &patch);
        }
        for (step, why) in rolls(name, seen, &then, how) {
            // One after the other, over all members: what does not become ready holds up all that would come after it.
            plan.add(step.clone(), before.iter().cloned().collect(), why);
            before = Some(step);
        }
        plan.notes.extend(left_alone(name, seen, &then, how));
    }
    let everywhere = seen.iter().all(|(_, seen)| {
        seen.namespace.is_none() || how.service.is_some() && seen.selector.is_none()
    });
    if everywhere {
        let what = match &how.service {
            Some(service) => format!("Service {space}/{service}"),
            None => format!("namespace {space}"),
        };
        refusals.push(Refusal {
            cluster: None,
            reason: format!("no member has {what}"),
            hints: vec![],
        });
    }
    match refusals.is_empty() {
        true => Ok(plan.finished()),
        false => Err(refusals),
    }
}

fn label_step(cluster: &ClusterName, namespace: &str, undo: bool) -> Step {
    let (cluster, namespace) = (cluster.clone(), namespace.to_owned());
    match undo {
        true => Step::UnlabelNamespace { cluster, namespace },
        false => Step::LabelNamespace { cluster, namespace },
    }
}

/// Why nothing is done in a namespace at all: the system's, Istio's own and ours.
fn forbidden(mesh: &Mesh, cluster: &ClusterName, namespace: &Value) -> Option<Refusal> {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let istio = [
        mesh.istio.namespace.as_str(),
        mesh.gateway.namespace.as_str(),
    ];
    let reason = match () {
        () if is_system(namespace) => "is the system's",
        () if istio.contains(&name) => "is Istio's own: meshlink join looks after it",
        () if name == probe::NAMESPACE => "is the probe's",
        () => return None,
    };
    Some(Refusal::by(
        cluster,
        format!("namespace {name} {reason}"),
        vec![],
    ))
}

fn merge(metadata: &mut Value, patch: &Value) {
    for map in ["labels", "annotations"] {
        for (key, value) in patch[map].as_object().into_iter().flatten() {
            if !metadata[map].is_object() {
                metadata[map] = json!({});
            }
            match value.is_null() {
                true => drop(metadata[map].as_object_mut().and_then(|m| m.remove(key))),
                false => metadata[map][key] = value.clone(),
            }
        }
    }
}

fn text<'v>(namespace: &'v Value, map: &str, key: &str) -> Option<&'v str> {
    namespace["metadata"][map][key].as_str()
}

/// The label for injection that meshlink has put on this namespace, and nobody has changed since.
fn ours(mesh: &MeshId, namespace: &Value) -> Option<Mark> {
    let mark: Mark = serde_json::from_str(text(namespace, "annotations", MARK)?).ok()?;
    let is_it = mark.mesh == mesh.as_str()
        && namespace["metadata"]["uid"] == mark.uid.as_str()
        && [OLD, REVISION].contains(&mark.key.as_str())
        && text(namespace, "labels", &mark.key) == Some(mark.value.as_str());
    is_it.then_some(mark)
}

/// What is changed about the namespace; nothing where it is so already.
pub(crate) fn labelling(
    mesh: &MeshId,
    cluster: &ClusterName,
    seen: &Seen,
    how: &Rollout,
) -> Result<Option<Labelling>, Refusal> {
    let Some(namespace) = seen.namespace.as_ref().filter(|_| how.inject || how.undo) else {
        return Ok(None);
    };
    match how.undo {
        true => taken_away(mesh, cluster, namespace),
        false => put_there(mesh, cluster, namespace, &seen.injection),
    }
}

fn put_there(
    mesh: &MeshId,
    cluster: &ClusterName,
    namespace: &Value,
    injection: &Injection,
) -> Result<Option<Labelling>, Refusal> {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let relabel = |label: &str| {
        let words = ["label", "ns", name, label, "--overwrite"];
        Hint::kubectl(cluster, words).remark("only if nobody needs it as it is")
    };
    let refused = |key: &str, value: &str, new: &str| {
        let reason = format!(
            "namespace {name} has the label {key}={value}, which is not meshlink's to change"
        );
        Err(Refusal::by(cluster, reason, vec![relabel(new)]))
    };
    let known = injection.revisions();
    if known.is_empty() {
        let hint = Hint::join_again([cluster]);
        return Err(Refusal::by(
            cluster,
            "there is no injector, so that no pod can be given a proxy",
            vec![hint],
        ));
    }
    if let Some(mode) = text(namespace, "labels", "istio.io/dataplane-mode") {
        return refused("istio.io/dataplane-mode", mode, "istio.io/dataplane-mode-");
    }
    if let Some(old) = text(namespace, "labels", OLD) {
        return match old == "enabled" && known.contains("default") {
            true => Ok(None),
            false => refused(OLD, old, "istio-injection-"),
        };
    }
    if let Some(revision) = text(namespace, "labels", REVISION) {
        return match known.contains(revision) {
            true => Ok(None),
            false => refused(REVISION, revision, "istio.io/rev-"),
        };
    }
    let list: Vec<_> = known.iter().copied().collect();
    let (key, value) = match list.as_slice() {
        _ if known.contains("default") => (OLD, "enabled"),
        [one] => (REVISION, *one),
        many => {
            let hints = many.iter().map(|r| {
                let label = format!("{REVISION}={r}");
                Hint::kubectl(cluster, ["label", "ns", name, label.as_str()])
            });
            let reason = format!(
                "there are injectors for {}, and none is the default",
                many.join(", ")
            );
            return Err(Refusal::by(cluster, reason, hints.collect()));
        }
    };
    let mark = Mark {
        mesh: mesh.to_string(),
        uid: namespace["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let patch = json!({"labels": {key: value}, "annotations": {MARK: json!(mark).to_string()}});
    Ok(Some(Labelling {
        patch,
        change: change(name, key, None, json!(value)),
    }))
}

fn taken_away(
    mesh: &MeshId,
    cluster: &ClusterName,
    namespace: &Value,
) -> Result<Option<Labelling>, Refusal> {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(Mark { key, value, .. }) = ours(mesh, namespace) {
        let patch = json!({"labels": {&key: null}, "annotations": {MARK: null}});
        return Ok(Some(Labelling {
            patch,
            change: change(name, &key, Some(json!(value)), Value::Null),
        }));
    }
    let label = |key: &'static str| Some((key, text(namespace, "labels", key)?));
    match label(OLD).or_else(|| label(REVISION)) {
        // It is gone already, and what is left is to roll what still has a proxy.
        None => Ok(None),
        Some((key, value)) => {
            let reason = format!(
                "the label {key}={value} of namespace {name} was not put there by meshlink"
            );
            let words = [
                "label".to_owned(),
                "ns".into(),
                name.into(),
                format!("{key}-"),
            ];
            let hint = Hint::kubectl(cluster, words).remark("then run this again");
            Err(Refusal::by(cluster, reason, vec![hint]))
        }
    }
}

fn change(namespace: &str, key: &str, from: Option<Value>, to: Value) -> ObjectChange {
    ObjectChange {
        object: format!("Namespace {namespace}"),
        missing: false,
        fields: vec![Change {
            path: format!("metadata.labels.{key}"),
            from,
            to,
        }],
    }
}

/// The pods of a controller.
fn pods<'s>(seen: &'s Seen, of: &'s Ref) -> impl Iterator<Item = &'s Pod> {
    let name = of.to_string();
    seen.pods
        .iter()
        .filter(move |p| p.workload.as_deref() == Some(&name))
}

/// What is rolled, and why.
fn rolls(
    cluster: &ClusterName,
    seen: &Seen,
    namespace: &Value,
    how: &Rollout,
) -> Vec<(Step, String)> {
    let meant = meant(seen).filter(|c| unrolled(c).is_none());
    let roll = |controller: &Value| {
        let place = Ref::of(controller)?;
        let why = needed(seen, &place, controller, namespace, how)?;
        let step = Step::RestartWorkload {
            cluster: cluster.clone(),
            kind: place.kind.kind.to_string(),
            namespace: how.namespace.clone(),
            name: place.name.clone(),
        };
        Some((step, why))
    };
    let mut all: Vec<_> = meant.filter_map(roll).collect();
    all.sort();
    all
}

/// The controllers that are asked for, by their Service if one was named.
fn meant(seen: &Seen) -> impl Iterator<Item = &Value> {
    let selector = seen.selector.as_ref();
    seen.controllers.iter().filter(move |controller| {
        let labels = &controller["spec"]["template"]["metadata"]["labels"];
        selector.is_none_or(|selector| {
            let pairs = selector.as_object().into_iter().flatten();
            let mut pairs = pairs.peekable();
            pairs.peek().is_some() && pairs.all(|(key, value)| labels.get(key) == Some(value))
        })
    })
}

/// Why a controller's pods are to be made anew; none where they are as they should be.
fn needed(
    seen: &Seen,
    place: &Ref,
    controller: &Value,
    namespace: &Value,
    how: &Rollout,
) -> Option<String> {
    let fate = seen
        .injection
        .fate(namespace, &controller["spec"]["template"]);
    let count = |so: &dyn Fn(&Pod) -> bool| pods(seen, place).filter(|p| so(p)).count();
    let is_injected = matches!(fate, Fate::Injected(_));
    let some = |n: usize, what: &str| (n > 0).then(|| format!("{n} of its pods {what}"));
    if how.undo {
        let proxied = count(&|p| p.proxy.is_some());
        return some(proxied, "still have a proxy").filter(|_| !is_injected);
    }
    if how.inject {
        let bare = count(&|p| p.proxy.is_none());
        return some(bare, "have no proxy").filter(|_| is_injected);
    }
    let stale = count(&|p| p.restarts());
    let first = pods(seen, place).find(|p| p.restarts());
    let cause = first.and_then(|p| p.why.first());
    let cause = cause.map(|c| format!(": {}", c.text)).unwrap_or_default();
    let stale = some(stale, "need it").map(|text| text + &cause);
    stale.or_else(|| how.all.then(|| "asked for".to_owned()))
}

/// Why a controller cannot be rolled by its own means.
fn unrolled(controller: &Value) -> Option<&'static str> {
    let strategy = &controller["spec"]["updateStrategy"]["type"];
    match () {
        () if *strategy == "OnDelete" => Some("it makes pods anew only when they are deleted"),
        () if controller["spec"]["paused"] == true => Some("it is paused"),
        () => None,
    }
}

/// What would have to be made anew and is not, with what makes it so.
fn left_alone(cluster: &ClusterName, seen: &Seen, namespace: &Value, how: &Rollout) -> Vec<Note> {
    let mut notes = vec![];
    for controller in meant(seen) {
        let (Some(place), Some(why)) = (Ref::of(controller), unrolled(controller)) else {
            continue;
        };
        if needed(seen, &place, controller, namespace, how).is_some() {
            notes.push(format!("{place} in {cluster} is not rolled: {why}").into());
        }
    }
    let known: Vec<_> = seen.controllers.iter().filter_map(Ref::of).collect();
    let known: Vec<_> = known.iter().map(ToString::to_string).collect();
    let is_known = |p: &&Pod| p.workload.as_ref().is_some_and(|w| known.contains(w));
    let is_late = |p: &&Pod| match (how.undo, how.inject) {
        (true, _) => p.proxy.is_some(),
        (_, true) => p.proxy.is_none(),
        _ => p.restarts(),
    };
    // By a Service alone it is not told whose pods without a controller are.
    let bare = seen.pods.iter().filter(|_| how.service.is_none());
    let bare: Vec<_> = bare.filter(|p| !is_known(p)).filter(is_late).collect();
    if !bare.is_empty() {
        let names: Vec<_> = bare.iter().take(NAMED).map(|p| p.name.as_str()).collect();
        let more = match bare.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        notes.push(
            format!(
                "pods in {cluster} that no Deployment, StatefulSet or DaemonSet makes anew stay as they are: {}{more}",
                names.join(", ")
            )
            .into(),
        );
    }
    notes
}

/// The kinds that are rolled.
pub(crate) const ROLLED: [Kind; 3] = [Kind::DEPLOYMENT, Kind::STATEFUL_SET, Kind::DAEMON_SET];

#[cfg(test)]
mod tests;
