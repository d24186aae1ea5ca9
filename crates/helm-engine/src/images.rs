//! Which container images a rendered chart will pull.

use serde_json::{Map, Value};

use super::{Rendered, values};

/// The images the rendered objects name, sorted: containers, and what injection templates and proxy settings add.
pub fn images(rendered: &Rendered) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in rendered
        .manifests
        .iter()
        .chain(rendered.hooks.iter().map(|hook| &hook.manifest))
    {
        walk(&manifest.object, &mut found);
        injected(&manifest.object, &mut found);
    }
    // `auto` is a placeholder that injection fills in.
    found.retain(|image| image != "auto" && !image.is_empty());
    found.sort();
    found.dedup();
    found
}

fn walk(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    (
                        "containers" | "initContainers" | "ephemeralContainers",
                        Value::Array(items),
                    ) => {
                        found.extend(
                            items
                                .iter()
                                .filter_map(|item| item.get("image")?.as_str())
                                .map(str::to_owned),
                        );
                    }
                    _ => walk(value, found),
                }
            }
        }
        _ => {}
    }
}

/// The sidecar's image stands in the values a ConfigMap carries for the injector.
fn injected(object: &Value, found: &mut Vec<String>) {
    let Some(values) = object
        .pointer("/data/values")
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
    else {
        return;
    };
    let text = |path: &str| {
        values
            .pointer(path)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let (Some(hub), Some(image)) = (text("/global/hub"), text("/global/proxy/image")) else {
        return;
    };
    if image.contains('/') {
        found.push(image.to_owned());
    } else if let Some(tag) = values.pointer("/global/tag") {
        let tag = tag.as_str().map_or_else(|| tag.to_string(), str::to_owned);
        let variant = text("/global/variant")
            .map(|variant| format!("-{variant}"))
            .unwrap_or_default();
        found.push(format!("{hub}/{image}:{tag}{variant}"));
    }
}

/// Points values at a mirror: where images come from, and which tag.
pub fn override_images(into: &mut Map<String, Value>, hub: Option<&str>, tag: Option<&str>) {
    let pairs = [("hub", hub), ("tag", tag)];
    let set: Map<String, Value> = pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.into())))
        .collect();
    if !set.is_empty() {
        values::overlay(
            into,
            [("global".to_owned(), Value::Object(set))]
                .into_iter()
                .collect(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;
    use serde_json::json;

    #[test]
    fn every_image_is_listed_once() {
        let manifest = |object| Manifest {
            source: String::new(),
            text: String::new(),
            object,
        };
        let values = json!({"global": {"hub": "h.example/istio", "tag": "1.31.0", "variant": "distroless", "proxy": {"image": "proxyv2"}}}).to_string();
        let rendered = Rendered {
            manifests: vec![
                manifest(
                    json!({"spec": {"template": {"spec": {"containers": [{"image": "a:1"}, {"image": "auto"}], "initContainers": [{"image": "b:2"}]}}}}),
                ),
                manifest(json!({"spec": {"containers": [{"image": "a:1"}]}})),
                manifest(json!({"kind": "ConfigMap", "data": {"values": values}})),
            ],
            ..Rendered::default()
        };
        assert_eq!(
            images(&rendered),
            ["a:1", "b:2", "h.example/istio/proxyv2:1.31.0-distroless"]
        );
    }

    #[test]
    fn a_mirror_replaces_hub_and_tag_only() {
        let mut values = json!({"global": {"network": "n", "hub": "old"}})
            .as_object()
            .cloned()
            .unwrap();
        override_images(&mut values, Some("mirror.example/istio"), None);
        assert_eq!(
            Value::Object(values),
            json!({"global": {"network": "n", "hub": "mirror.example/istio"}})
        );
    }
}
