//! The files of a mesh: a folder for each member, in it a folder for each stage.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::readme;
use crate::{
    chart,
    owner::RENDERED,
    plan::{
        Desired, Wanted,
        desire::{Release, reference},
    },
    spec::{Member, Mesh},
};

/// Texts by their path in the folder.
pub(super) type Files = BTreeMap<String, String>;

/// What must be there and ready before the next can be.
pub(super) const STAGES: [&str; 3] = ["1-base", "2-istiod", "3-gateway"];

/// Annotation by which Argo CD orders what it applies; others ignore it.
const WAVE: &str = "argocd.argoproj.io/sync-wave";

/// Everything a mesh consists of, except what is secret.
pub(super) fn files(mesh: &Mesh, desired: &Desired) -> Result<Files, chart::Error> {
    let mut files = Files::new();
    for member in &mesh.clusters {
        if let Some(wanted) = desired.clusters.get(&member.name) {
            add(&mut files, mesh, member, wanted)?;
        }
    }
    files.insert("README.md".into(), readme::text(mesh, desired));
    Ok(files)
}

fn add(
    files: &mut Files,
    mesh: &Mesh,
    member: &Member,
    wanted: &Wanted,
) -> Result<(), chart::Error> {
    let mut readers: Vec<Value> = vec![];
    for object in wanted.readers.values().flatten() {
        if !readers.contains(object) {
            readers.push(object.clone());
        }
    }
    let mut contents = vec![
        ("namespaces", 0, wanted.namespaces.clone()),
        ("istio-base", 0, released(&wanted.base)),
        ("readers", 0, readers),
        ("istiod", 1, released(&wanted.istiod)),
        ("gateway", 2, released(&wanted.gateway)),
        ("expose", 2, wanted.expose.clone()),
    ];
    if !wanted.renewer.is_empty() {
        contents.push(("renewer", 1, wanted.renewer.clone()));
    }
    let mut resources = STAGES.map(|_| vec![]);
    for (name, stage, objects) in contents {
        let file = format!("{name}.yaml");
        let path = format!("{}/{}/{file}", member.name, STAGES[stage]);
        files.insert(path, documents(objects, stage + 1, mesh)?);
        resources[stage].push(file);
    }
    for (stage, resources) in STAGES.iter().zip(resources) {
        let path = format!("{}/{stage}/kustomization.yaml", member.name);
        files.insert(path, kustomization(&resources)?);
    }
    let path = format!("{}/kustomization.yaml", member.name);
    files.insert(path, kustomization(&STAGES.map(str::to_owned))?);
    Ok(())
}

/// A release's objects as they are applied, without what a running istiod writes into them: they are applied again and again.
fn released(release: &Release) -> Vec<Value> {
    let one = |object: &Value| {
        let mut object = object.clone();
        chart::apply::strip_for_reapply(&mut object);
        chart::apply::own(&mut object, &release.name, &release.namespace);
        if let Some(namespace) = reference(&object, &release.namespace).and_then(|r| r.namespace) {
            object["metadata"]["namespace"] = namespace.into();
        }
        object
    };
    release.objects().map(one).collect()
}

fn documents(objects: Vec<Value>, wave: usize, mesh: &Mesh) -> Result<String, chart::Error> {
    let mut text = String::new();
    for mut object in objects {
        let metadata = &mut object["metadata"];
        if metadata["annotations"].is_null() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"][WAVE] = wave.to_string().into();
        metadata["annotations"][RENDERED] = mesh.id.as_str().into();
        text += "---\n";
        text += &chart::to_yaml(&object)?;
    }
    Ok(text)
}

fn kustomization(resources: &[String]) -> Result<String, chart::Error> {
    chart::to_yaml(
        &json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": resources}),
    )
}
