//! meshlink's own Kubernetes objects: Tera text under `charts/`, rendered to plain objects.
//!
//! The texts are compiled in. A folder may override any of them by file name, for those who must
//! add a label or a toleration; the rest of the program sees only the objects.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;
use serde_json::Value;

const BUILT_IN: [(&str, &str); 5] = [
    ("namespaces", include_str!("../charts/namespaces.yaml.tera")),
    ("expose", include_str!("../charts/expose.yaml.tera")),
    ("probe", include_str!("../charts/probe.yaml.tera")),
    ("renewer", include_str!("../charts/renewer.yaml.tera")),
    ("sample", include_str!("../charts/sample.yaml.tera")),
];

/// Why a text did not become objects.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An override could not be read.
    #[error("cannot read the manifest text {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The text is not valid Tera, or asks for something it is not given.
    #[error("cannot render the manifest text {name}")]
    Render {
        /// Which text.
        name: String,
        /// What Tera said.
        #[source]
        source: tera::Error,
    },
    /// The rendered text is not YAML.
    #[error("the manifest text {name} rendered to something that is not YAML")]
    Parse {
        /// Which text.
        name: String,
        /// What the reader said.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
}

/// The texts in use: built in, or overridden.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    overrides: BTreeMap<String, String>,
}

impl Texts {
    /// The built-in texts, with those a folder holds (`<name>.yaml.tera`) in their place.
    pub fn with_folder(folder: &std::path::Path) -> Result<Self, Error> {
        let mut overrides = BTreeMap::new();
        for (name, _) in BUILT_IN {
            let path = folder.join(format!("{name}.yaml.tera"));
            match std::fs::read_to_string(&path) {
                Ok(text) => drop(overrides.insert(name.into(), text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Ok(Self { overrides })
    }

    /// The objects of one text, in its order.
    pub fn render(&self, name: &str, facts: &impl Serialize) -> Result<Vec<Value>, Error> {
        let built_in = BUILT_IN
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, text)| text);
        let text = self.overrides.get(name).map_or(built_in, String::as_str);
        let failed = |source| Error::Render {
            name: name.into(),
            source,
        };
        let context = tera::Context::from_serialize(facts).map_err(failed)?;
        let yaml = tera::Tera::one_off(text, &context, false).map_err(failed)?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml).map_err(|e| Error::Parse {
            name: name.into(),
            source: Box::new(e),
        })?;
        Ok(objects.into_iter().filter(|o| !o.is_null()).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_gateway_object_opens_15443_for_the_hosts_asked_for() {
        let facts = json!({"gateway_namespace": "istio-ingress", "gateway_selector": "eastwestgateway",
            "hosts": ["*.local", "*.shop"]});
        let objects = Texts::default().render("expose", &facts).unwrap();
        assert_eq!(objects.len(), 1);
        let server = &objects[0]["spec"]["servers"][0];
        assert_eq!(server["port"]["number"], 15443);
        assert_eq!(server["tls"]["mode"], "AUTO_PASSTHROUGH");
        assert_eq!(server["hosts"], json!(["*.local", "*.shop"]));
    }

    #[test]
    fn a_folder_overrides_one_text_and_leaves_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("expose.yaml.tera"), "kind: Mine\n").unwrap();
        let texts = Texts::with_folder(folder.path()).unwrap();
        assert_eq!(
            texts.render("expose", &json!({})).unwrap(),
            [json!({"kind": "Mine"})]
        );
        let facts = json!({"istio_namespace": "a", "gateway_namespace": "b", "network": "n"});
        assert_eq!(texts.render("namespaces", &facts).unwrap().len(), 2);
    }

    #[test]
    fn names_that_look_like_numbers_stay_text() {
        let facts = json!({"istio_namespace": "1", "gateway_namespace": "on", "network": "007"});
        let objects = Texts::default().render("namespaces", &facts).unwrap();
        assert_eq!(
            objects[0]["metadata"]["labels"]["topology.istio.io/network"],
            "007"
        );
        assert_eq!(objects[1]["metadata"]["name"], "on");
    }

    #[test]
    fn a_missing_fact_is_an_error_not_an_empty_field() {
        let error = Texts::default()
            .render("namespaces", &json!({}))
            .unwrap_err();
        assert!(error.to_string().contains("namespaces"), "{error}");
    }
}
