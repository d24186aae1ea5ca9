//! Whose an object is: made by meshlink for one member of one mesh, or somebody else's. Pure.
//!
//! A label travels with copied YAML, and so does an annotation. So the mark that meshlink puts on what it makes says which
//! object it was made for, and of which cluster; on a namespace it says the namespace's own UID as well, because whoever
//! deletes a namespace deletes everything in it. A copy does not match what its own mark says.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::name::{ClusterName, MeshId};

/// The label by which our objects are found again. It proves nothing.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "meshlink");
/// The annotation that says what an object was made for.
pub(crate) const MARK: &str = "meshlink/owner";
/// The annotation by which a person hands an object over to a mesh.
pub(crate) const ADOPT: &str = "meshlink/adopt";
/// The annotation on objects that meshlink wrote as files for somebody else to apply: the mesh.
pub(crate) const RENDERED: &str = "meshlink/rendered";

/// For whom objects are made: one member of one mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The mesh.
    pub mesh: MeshId,
    /// The member.
    pub member: ClusterName,
    /// UID of the member's kube-system namespace.
    pub cluster: String,
}

/// What the annotation says.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    mesh: String,
    member: String,
    cluster: String,
    object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

impl Owner {
    /// The object with the label and the mark. A namespace that is there already gets its UID into the mark.
    #[must_use]
    pub(crate) fn stamped(&self, object: &Value, live: Option<&Value>) -> Value {
        let is_namespace = object["kind"] == "Namespace";
        let uid = live.and_then(|l| l["metadata"]["uid"].as_str());
        let mark = Mark {
            mesh: self.mesh.to_string(),
            member: self.member.to_string(),
            cluster: self.cluster.clone(),
            object: place(object),
            uid: uid.filter(|_| is_namespace).map(str::to_owned),
        };
        let mut object = object.clone();
        let metadata = &mut object["metadata"];
        for (map, key, value) in [
            ("labels", MANAGED_BY.0, MANAGED_BY.1.to_owned()),
            ("annotations", MARK, json!(mark).to_string()),
        ] {
            if !metadata[map].is_object() {
                metadata[map] = json!({});
            }
            metadata[map][key] = json!(value);
        }
        object
    }

    /// Whose a live object is; none where it is ours: made or taken over for this member of this mesh.
    pub(crate) fn whose(&self, live: &Value) -> Option<String> {
        match mark(live) {
            Some(mark) => self.copied(&mark, live),
            None if self.is_handed_over(live) => None,
            None => Some(maker(live)),
        }
    }

    /// Made by meshlink for this member, and not only handed over to it.
    pub(crate) fn has_made(&self, live: &Value) -> bool {
        mark(live).is_some_and(|mark| self.copied(&mark, live).is_none())
    }

    fn is_handed_over(&self, live: &Value) -> bool {
        let annotations = &live["metadata"]["annotations"];
        [ADOPT, RENDERED]
            .iter()
            .any(|key| annotations[key] == self.mesh.as_str())
    }

    fn copied(&self, mark: &Mark, live: &Value) -> Option<String> {
        let (mesh, member) = (&mark.mesh, &mark.member);
        let uid = live["metadata"]["uid"].as_str();
        match () {
            () if mark.object != place(live) => Some(format!("a copy of {}", mark.object)),
            () if mark.cluster != self.cluster => Some(format!(
                "a copy from {member}, of mesh {mesh}, in another cluster"
            )),
            () if *mesh != self.mesh.as_str() => Some(format!("mesh {mesh}'s")),
            () if *member != self.member.as_str() => Some(format!("made for a member {member}")),
            () if mark.uid.is_some() && mark.uid.as_deref() != uid => {
                Some("made anew from a copy".into())
            }
            () => None,
        }
    }
}

fn mark(live: &Value) -> Option<Mark> {
    serde_json::from_str(live["metadata"]["annotations"][MARK].as_str()?).ok()
}

/// `Secret istio-system/cacerts`.
pub(crate) fn place(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Who made or manages an object that is not ours, by what they leave on it.
pub(crate) fn maker(live: &Value) -> String {
    let metadata = &live["metadata"];
    let (labels, annotations) = (&metadata["labels"], &metadata["annotations"]);
    let known = tool(live).map(str::to_owned);
    let release = annotations["meta.helm.sh/release-name"].as_str();
    let managers = metadata["managedFields"].as_array();
    let mut managers = managers.into_iter().flatten();
    let first = managers.find_map(|m| m["manager"].as_str());
    let label = labels[MANAGED_BY.0].as_str();
    let ours = label == Some(MANAGED_BY.1) || first == Some(MANAGED_BY.1);
    known
        .or_else(|| release.map(|r| format!("Helm release {r}'s")))
        .or_else(|| ours.then(|| "without the mark that meshlink puts on what it makes".into()))
        .or_else(|| label.map(|who| format!("{who}'s")))
        .or_else(|| first.map(|who| format!("made by {who}")))
        .unwrap_or_else(|| "somebody's".into())
}

/// The tool that manages an object, by the marks such tools leave.
pub(crate) fn tool(live: &Value) -> Option<&'static str> {
    let metadata = &live["metadata"];
    let marks = [
        ("labels", "argocd.argoproj.io/instance", "Argo CD"),
        ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
        ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
        // What it has rendered may be kept by one of the others.
        (
            "labels",
            "install.operator.istio.io/owning-resource",
            "istioctl",
        ),
    ];
    let owners = metadata["ownerReferences"].as_array();
    let sail = owners.is_some_and(|all| all.iter().any(|o| o["kind"] == "IstioRevision"));
    let mut marked = marks.iter();
    let marked = marked.find(|(place, key, _)| !metadata[place][key].is_null());
    match sail {
        true => Some("the Sail operator"),
        false => marked.map(|(.., who)| *who),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(mesh: &str, member: &str, cluster: &str) -> Owner {
        Owner {
            mesh: mesh.parse().unwrap(),
            member: member.parse().unwrap(),
            cluster: cluster.into(),
        }
    }

    fn secret() -> Value {
        json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "n", "uid": "1"}})
    }

    #[test]
    fn only_what_was_made_for_this_very_object_is_ours() {
        let ours = owner("mesh", "a", "uid-a");
        let made = ours.stamped(&secret(), None);
        assert_eq!(ours.whose(&made), None);
        assert_eq!(made["metadata"]["labels"][MANAGED_BY.0], MANAGED_BY.1);
        let mut other_name = made.clone();
        other_name["metadata"]["name"] = json!("t");
        let whose = ours.whose(&other_name).unwrap();
        assert_eq!(whose, "a copy of Secret n/s");
        for (other, says) in [
            (owner("mesh", "a", "uid-b"), "another cluster"),
            (owner("else", "a", "uid-a"), "mesh mesh's"),
            (owner("mesh", "b", "uid-a"), "a member a"),
        ] {
            let whose = other.whose(&made).unwrap();
            assert!(whose.contains(says), "{whose}");
        }
    }

    #[test]
    fn a_namespace_is_known_by_its_uid() {
        let ours = owner("mesh", "a", "uid-a");
        let live = json!({"kind": "Namespace", "metadata": {"name": "n", "uid": "1"}});
        let fresh = ours.stamped(&live, None);
        assert_eq!(ours.whose(&fresh), None, "as it is before it is known");
        let mut made = ours.stamped(&live, Some(&live));
        assert_eq!(ours.whose(&made), None);
        made["metadata"]["uid"] = json!("2");
        assert!(ours.whose(&made).is_some());
    }

    #[test]
    fn what_is_handed_over_is_ours_and_labels_prove_nothing() {
        let ours = owner("mesh", "a", "uid-a");
        let mut live = secret();
        live["metadata"]["labels"] = json!({MANAGED_BY.0: MANAGED_BY.1});
        assert!(ours.whose(&live).is_some());
        for key in [ADOPT, RENDERED] {
            live["metadata"]["annotations"] = json!({key: "mesh"});
            assert!(ours.whose(&live).is_none() && !ours.has_made(&live));
            live["metadata"]["annotations"] = json!({key: "other"});
            assert!(ours.whose(&live).is_some());
        }
    }

    #[test]
    fn the_owner_of_a_foreign_object_is_named() {
        let with = |metadata: Value| maker(&json!({"kind": "Secret", "metadata": metadata}));
        let helm = json!({"annotations": {"meta.helm.sh/release-name": "base"}});
        assert_eq!(with(helm), "Helm release base's");
        let argo = json!({"labels": {"argocd.argoproj.io/instance": "x"}});
        assert_eq!(with(argo), "Argo CD");
        let fields = json!({"managedFields": [{"manager": "kubectl-create"}]});
        assert_eq!(with(fields), "made by kubectl-create");
        assert_eq!(with(json!({})), "somebody's");
    }
}
