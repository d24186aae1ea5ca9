//! Rendered text, split into objects and put in order.

use std::borrow::Cow;

use serde_json::Value;

use super::{Error, template::memo::Memo, yaml};

/// A rendered object.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The template it came from, as `chart/templates/file`.
    pub source: String,
    /// Its text.
    pub text: String,
    /// The object.
    pub object: Value,
}

/// A rendered object that Helm runs at certain moments instead of installing it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// When: `pre-install`, `post-upgrade` and so on.
    pub events: Vec<String>,
    /// Lower ones run first.
    pub weight: i64,
    /// When to delete it.
    pub delete_policies: Vec<String>,
    /// The object.
    pub manifest: Manifest,
}

/// Kinds in the order they are installed; all others come last, by name.
const ORDER: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

const EVENTS: [&str; 10] = [
    "pre-install",
    "post-install",
    "pre-delete",
    "post-delete",
    "pre-upgrade",
    "post-upgrade",
    "pre-rollback",
    "post-rollback",
    "test",
    "test-success",
];

/// The object's kind.
pub(crate) fn kind(object: &Value) -> &str {
    object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The kind as text even where it is none, as Helm takes it for its order.
fn named(object: &Value) -> Cow<'_, str> {
    match object.get("kind") {
        Some(Value::Bool(flag)) => flag.to_string().into(),
        Some(Value::Number(number)) => super::json::write(
            &Value::Number(number.clone()),
            super::json::Style::default(),
        )
        .into(),
        _ => kind(object).into(),
    }
}

/// Where a kind stands in the order of installation; unknown kinds are last.
pub(crate) fn rank(kind: &str) -> usize {
    ORDER
        .iter()
        .position(|known| *known == kind)
        .unwrap_or(ORDER.len())
}

/// Sorts by kind and keeps the order of templates within one kind.
pub(crate) fn sort(manifests: &mut [Manifest]) {
    manifests.sort_by(|a, b| order(&named(&a.object), &named(&b.object)));
}

pub(crate) fn order(a: &str, b: &str) -> std::cmp::Ordering {
    let (rank_a, rank_b) = (rank(a), rank(b));
    rank_a.cmp(&rank_b).then_with(|| {
        if rank_a == ORDER.len() {
            a.cmp(b)
        } else {
            std::cmp::Ordering::Equal
        }
    })
}

/// What a rendered text holds.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) hooks: Vec<Hook>,
    /// Everything but the hooks as one text, as Helm records it, documents of comments alone included.
    pub(crate) text: String,
    pub(crate) warnings: Vec<String>,
}

/// Objects as Helm prints them, one after the other.
pub(crate) fn text(manifests: &[Manifest]) -> String {
    let lines = |m: &Manifest| m.source.len() + m.text.len() + 20;
    let mut out = String::with_capacity(manifests.iter().map(lines).sum());
    for Manifest { source, text, .. } in manifests {
        for part in ["---\n# Source: ", source, "\n", text, "\n"] {
            out.push_str(part);
        }
    }
    out
}

/// Splits each file's text into objects and hooks. Files must come sorted by name.
pub(crate) fn collect(files: &[(String, String)], memo: &mut Memo) -> Result<Collected, Error> {
    let mut all = Collected::default();
    for (name, text) in files {
        for part in split(text) {
            let refused = |reason: String| Error::Document {
                template: name.clone(),
                reason,
            };
            let known = memo.take(part);
            let object = known.map_or_else(|| yaml::strict_document(part), Ok);
            let object = object.or_else(|strict| {
                // A key that is there twice is taken as everyone takes it, but not in silence.
                let object = yaml::document(part)?;
                all.warnings.push(format!("{name}: {strict}"));
                Ok(object)
            });
            match object.map_err(refused)? {
                // Comments alone: no object, but Helm keeps them in its record.
                Value::Null => all.manifests.push(Manifest {
                    source: name.clone(),
                    text: part.to_owned(),
                    object: Value::Null,
                }),
                mut object @ Value::Object(_) => {
                    whole_numbers(&mut object);
                    check_head(&object).map_err(refused)?;
                    let manifest = Manifest {
                        source: name.clone(),
                        text: part.to_owned(),
                        object,
                    };
                    match hook(manifest) {
                        Ok(hook) => all.hooks.extend(hook),
                        Err(manifest) => all.manifests.push(*manifest),
                    }
                }
                other => return Err(refused(format!("it is {}", other))),
            }
        }
    }
    sort(&mut all.manifests);
    all.text = text(&all.manifests);
    all.manifests.retain(|manifest| !manifest.object.is_null());
    all.hooks
        .sort_by(|a, b| order(&named(&a.manifest.object), &named(&b.manifest.object)));
    Ok(all)
}

/// What Helm insists on before it looks at the rest: texts where Kubernetes has texts.
fn check_head(object: &Value) -> Result<(), String> {
    let scalar = |value: &Value| !value.is_object() && !value.is_array();
    for path in ["/apiVersion", "/kind", "/metadata/name"] {
        if object.pointer(path).is_some_and(|value| !scalar(value)) {
            return Err(format!("{} is not a string", path[1..].replace('/', ".")));
        }
    }
    match object.pointer("/metadata").unwrap_or(&Value::Null) {
        Value::Null => Ok(()),
        Value::Object(metadata) => match metadata.get("annotations").unwrap_or(&Value::Null) {
            Value::Null => Ok(()),
            Value::Object(annotations) => {
                match annotations.iter().find(|(_, value)| !scalar(value)) {
                    Some((key, _)) => Err(format!("annotation {key} is not a string")),
                    None => Ok(()),
                }
            }
            _ => Err("metadata.annotations is not a map".to_owned()),
        },
        _ => Err("metadata is not a map".to_owned()),
    }
}

/// Templates see every number as Go's floating kind; an API server takes `80` for a port and not `80.0`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            let text = number.as_f64().and_then(super::json::number);
            if let Some(whole) = text.and_then(|text| text.parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

/// A hook, nothing for one with events that no one knows, or the manifest back if it is no hook.
fn hook(manifest: Manifest) -> Result<Option<Hook>, Box<Manifest>> {
    let annotation = |name: &str| {
        manifest
            .object
            .pointer("/metadata/annotations")
            .and_then(|all| all.get(name))
            .and_then(Value::as_str)
    };
    let words = |text: Option<&str>| -> Vec<String> {
        text.map(|text| {
            text.split(',')
                .map(|word| word.trim().to_lowercase())
                .collect()
        })
        .unwrap_or_default()
    };
    let Some(events) = annotation("helm.sh/hook") else {
        return Err(Box::new(manifest));
    };
    let events = words(Some(events));
    if !events.iter().all(|event| EVENTS.contains(&event.as_str())) {
        return Ok(None);
    }
    let events = events
        .into_iter()
        .map(|event| {
            if event == "test-success" {
                "test".to_owned()
            } else {
                event
            }
        })
        .collect();
    let weight = annotation("helm.sh/hook-weight")
        .and_then(|weight| weight.parse().ok())
        .unwrap_or_default();
    let delete_policies = words(annotation("helm.sh/hook-delete-policy"));
    Ok(Some(Hook {
        events,
        weight,
        delete_policies,
        manifest,
    }))
}

/// The documents of a text: split where a line begins with `---`, empty ones left out.
fn split(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let mut parts = Vec::new();
    let mut start = 0;
    let mut line = 0;
    while line < text.len() {
        if text[line..].starts_with("---") {
            parts.push(&text[start..line]);
            let after = line + 3;
            let blank = text[after..].len() - text[after..].trim_start_matches([' ', '\t']).len();
            start = after + blank;
            line = start;
        }
        line = memchr::memmem::find(&text.as_bytes()[line..], b"\n---")
            .map_or(text.len(), |end| line + end + 1);
    }
    parts.push(&text[start.min(text.len())..]);
    parts
        .into_iter()
        .map(str::trim_start)
        .filter(|part| !part.trim().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_where_helm_splits_them() {
        assert_eq!(
            split("\n---\na: 1\n---   \n# c\n---\n\n---b: 2\n--- # x\nc"),
            ["a: 1\n", "# c\n", "b: 2\n", "# x\nc"]
        );
        assert_eq!(split("text: |\n  ---\n"), ["text: |\n  ---\n"]);
        assert!(split(" \n\n").is_empty() && split("---").is_empty());
    }

    #[test]
    fn objects_come_in_order_and_hooks_apart() {
        let object = |kind: &str, name: &str| {
            format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\n")
        };
        let hook = "kind: Job\nmetadata:\n  name: h\n  annotations: {helm.sh/hook: 'pre-install, Post-Install', helm.sh/hook-weight: '-5', helm.sh/hook-delete-policy: before-hook-creation}\n";
        let files = [
            (
                "a/t/1".to_owned(),
                [
                    object("Zebra", "z"),
                    object("Deployment", "d"),
                    object("Apple", "a"),
                ]
                .join("---\n"),
            ),
            (
                "a/t/2".to_owned(),
                [
                    object("Service", "s"),
                    "# nothing\n".to_owned(),
                    object("Namespace", "ns"),
                    hook.to_owned(),
                ]
                .join("---\n"),
            ),
            ("a/t/3".to_owned(), object("Deployment", "e")),
        ];
        let Collected {
            manifests, hooks, ..
        } = collect(&files, &mut Memo::default()).unwrap();
        let names: Vec<_> = manifests
            .iter()
            .map(|m| m.object["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["ns", "s", "d", "e", "a", "z"]);
        assert_eq!(
            (hooks[0].events.as_slice(), hooks[0].weight),
            (
                ["pre-install".to_owned(), "post-install".to_owned()].as_slice(),
                -5
            )
        );
    }

    #[test]
    fn comments_alone_and_objects_without_a_kind_stay_in_the_order_of_their_files() {
        let files = [
            "# b",
            "kind: null\n",
            "# c",
            "kind: Service\n",
            "kind: true\n",
        ];
        let files: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(at, text)| (format!("a/t/{at}"), (*text).to_owned()))
            .collect();
        let collected = collect(&files, &mut Memo::default()).unwrap();
        let sources: Vec<_> = collected
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("# Source: a/t/"))
            .collect();
        assert_eq!(sources, ["3", "0", "1", "2", "4"]);
        assert_eq!(collected.manifests.len(), 3);
    }

    #[test]
    fn whole_numbers_are_whole_in_the_object() {
        let files = [(
            "a/t/1".to_owned(),
            "kind: X\nspec: {port: 15443, share: 0.5}\n".to_owned(),
        )];
        let object = collect(&files, &mut Memo::default())
            .unwrap()
            .manifests
            .remove(0)
            .object;
        assert_eq!(object["spec"].to_string(), r#"{"port":15443,"share":0.5}"#);
    }

    #[test]
    fn a_document_that_is_no_object_is_refused_with_its_template() {
        for text in ["- a\n", "just text\n", "a: [\n"] {
            let error = collect(
                &[("a/templates/x.yaml".to_owned(), text.to_owned())],
                &mut Memo::default(),
            )
            .unwrap_err()
            .to_string();
            assert!(error.contains("a/templates/x.yaml"), "{error}");
        }
    }
}
