//! What `meshlink render` wrote, read again: files, their objects, and where the API has each.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// Every file below a folder, by its path there.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    gather(folder, folder, &mut all);
    all
}

fn gather(root: &Path, folder: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(root, &path, all);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            all.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// What a kustomization names, in its order: files and further kustomizations.
pub(crate) fn resources(files: &BTreeMap<String, String>, folder: &str) -> Vec<Value> {
    let list: Value =
        serde_saphyr::from_str(&files[&format!("{folder}/kustomization.yaml")]).unwrap();
    let names = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap());
    names
        .flat_map(|name| {
            let path = format!("{folder}/{name}");
            match files.get(&path) {
                Some(text) => serde_saphyr::from_multiple::<Value>(text).unwrap(),
                None => resources(files, &path),
            }
        })
        .collect()
}

/// The path of an object in the API, by the rule that kinds are named by.
pub(crate) fn path_of(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap().to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        _ => format!("{kind}s"),
    };
    let version = text("/apiVersion").unwrap();
    let root = if version.contains('/') { "apis" } else { "api" };
    let space = text("/metadata/namespace").map(|n| format!("/namespaces/{n}"));
    let name = text("/metadata/name").unwrap();
    format!(
        "/{root}/{version}{}/{plural}/{name}",
        space.unwrap_or_default()
    )
}

/// How a plan calls an object.
pub(crate) fn called(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let space = text("/metadata/namespace").map(|n| format!("{n}/"));
    let (kind, name) = (text("/kind").unwrap(), text("/metadata/name").unwrap());
    format!("{kind} {}{name}", space.unwrap_or_default())
}
