//! `Chart.yaml`.

use serde_json::{Map, Value};

use super::{File, Metadata};
use crate::{
    Error, json,
    template::{
        budget::Budget,
        semver,
        value::{Map as Fields, Value as Dynamic},
    },
    yaml,
};

impl Metadata {
    pub(super) fn read(file: &File, origin: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Package {
            chart: origin.to_owned(),
            file: "Chart.yaml".to_owned(),
            reason,
        };
        let text = std::str::from_utf8(&file.data).map_err(|error| refused(error.to_string()))?;
        let Value::Object(mut document) = yaml::document(text).map_err(refused)? else {
            return Err(refused("it is not a map".to_owned()));
        };
        // A version written as a number is text to Helm.
        for field in ["version", "appVersion", "kubeVersion", "name"] {
            if let Some(Value::Number(number)) = document.get(field) {
                let text = json::general(number.as_f64().unwrap_or_default());
                document.insert(field.to_owned(), Value::String(text));
            }
        }
        document
            .entry("apiVersion")
            .or_insert_with(|| Value::String("v1".to_owned()));
        let metadata = Self::from_document(document);
        metadata.check().map_err(refused)?;
        Ok(metadata)
    }

    /// Metadata as a release record holds it.
    pub(crate) fn from_document(document: Map<String, Value>) -> Self {
        let text = |field: &str| {
            document
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            name: text("name"),
            version: text("version"),
            app_version: text("appVersion"),
            description: text("description"),
            kind: text("type"),
            kube_version: text("kubeVersion"),
            api_version: text("apiVersion"),
            deprecated: document
                .get("deprecated")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            document,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("name is missing".to_owned());
        }
        if self.name.contains(['/', '\\']) || self.name == "." || self.name == ".." {
            return Err(format!("name {:?} is not a valid chart name", self.name));
        }
        if self.version.is_empty() {
            return Err("version is missing".to_owned());
        }
        if semver::parse(&self.version).is_err() {
            return Err(format!(
                "version {:?} is not a semantic version",
                self.version
            ));
        }
        match self.kind.as_str() {
            "" | "application" | "library" => Ok(()),
            other => Err(format!(
                "type must be application or library, not {other:?}"
            )),
        }
    }

    /// `.Chart` as templates see it.
    pub(crate) fn for_templates(&self, root: bool) -> Fields {
        let text = |name: &str| {
            Dynamic::from(
                self.document
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            )
        };
        let any = |name: &str, empty: Dynamic| {
            self.document
                .get(name)
                .and_then(|value| Dynamic::from_json(&capitalised(value), &Budget::default()).ok())
                .unwrap_or(empty)
        };
        let list = || Dynamic::list(Vec::new());
        let annotations = self
            .document
            .get("annotations")
            .and_then(|value| Dynamic::from_json(value, &Budget::default()).ok());
        Fields::from([
            ("Name", text("name")),
            ("Version", text("version")),
            ("AppVersion", text("appVersion")),
            ("APIVersion", text("apiVersion")),
            ("Description", text("description")),
            ("Home", text("home")),
            ("Icon", text("icon")),
            ("Type", text("type")),
            ("KubeVersion", text("kubeVersion")),
            ("Condition", text("condition")),
            ("Tags", text("tags")),
            ("Deprecated", self.deprecated.into()),
            ("Keywords", any("keywords", list())),
            ("Sources", any("sources", list())),
            ("Maintainers", any("maintainers", list())),
            ("Dependencies", any("dependencies", list())),
            (
                "Annotations",
                annotations.unwrap_or_else(|| Dynamic::Map(Fields::default())),
            ),
            ("IsRoot", root.into()),
        ])
    }
}

/// Keys as Go's field names: `name` is `Name`.
fn capitalised(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| {
                let mut chars = key.chars();
                let name: String = chars
                    .next()
                    .map(|first| first.to_uppercase().chain(chars).collect())
                    .unwrap_or_default();
                (name, capitalised(value))
            });
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(capitalised).collect(),
        other => other.clone(),
    }
}
