//! Which container images a rendered chart will pull.

use serde_json::Value;

use super::Rendered;

/// The images the rendered objects name, sorted: containers, and the sidecar that Istio's injector adds.
///
/// Hooks count too. An image that only a running controller names is not found.
///
/// ```
/// use helm_engine::{Capabilities, Chart, File, Release, images, render};
/// let pod = "kind: Pod\nmetadata: {name: web}\nspec: {containers: [{image: 'nginx:{{ .Chart.AppVersion }}'}]}\n";
/// let chart = Chart::from_files(
///     vec![
///         File::new("Chart.yaml", "name: web\nversion: 1.0.0\nappVersion: '1.29'\n"),
///         File::new("templates/pod.yaml", pod),
///     ],
///     "an example",
/// )?;
/// let release = Release::install("web", "default");
/// let rendered = render(&chart, &serde_json::json!({}), &release, &Capabilities::default())?;
/// assert_eq!(images(&rendered), ["nginx:1.29"]);
/// # Ok::<(), helm_engine::Error>(())
/// ```
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
}
