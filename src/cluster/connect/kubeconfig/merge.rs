//! Several kubeconfig files as one.

use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, KubeconfigError};

use super::{Error, Merged};

/// Reads and merges: what an earlier file says wins. A file that is not there is passed over, as
/// long as there is another, as kubectl does.
pub(in super::super) fn read(files: &[PathBuf]) -> Result<Merged, Error> {
    let mut merged: Option<Kubeconfig> = None;
    let mut missing = None;
    for file in files.iter().filter(|file| !file.as_os_str().is_empty()) {
        let next = match Kubeconfig::read_from(file) {
            Ok(next) => normal(next),
            Err(KubeconfigError::ReadConfig(io, _))
                if io.kind() == std::io::ErrorKind::NotFound =>
            {
                missing.get_or_insert(file);
                continue;
            }
            Err(error) => return Err(broken(file, &error)),
        };
        if let Some(name) = twice(&next) {
            return Err(kubeconfig_error(file, format!("{name} stands there twice")));
        }
        merged = Some(match merged {
            None => next,
            Some(first) => first.merge(next).map_err(|error| broken(file, &error))?,
        });
    }
    match (merged, missing) {
        (Some(config), _) => Ok(Merged {
            files: files.to_vec(),
            config,
        }),
        (None, Some(file)) => Err(kubeconfig_error(file, "there is no such file".into())),
        (None, None) => Err(kubeconfig_error(
            Path::new("(none)"),
            "no file was named".into(),
        )),
    }
}

/// An empty `current-context` says nothing, so that a later file may say it.
fn normal(mut config: Kubeconfig) -> Kubeconfig {
    config.current_context = config.current_context.filter(|name| !name.is_empty());
    config
}

fn twice(config: &Kubeconfig) -> Option<String> {
    fn first<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
        let mut seen = std::collections::HashSet::new();
        names
            .into_iter()
            .find(|name| !seen.insert(*name))
            .map(|name| format!("{what} {name:?}"))
    }
    first("cluster", config.clusters.iter().map(|named| &named.name))
        .or_else(|| first("context", config.contexts.iter().map(|named| &named.name)))
        .or_else(|| first("user", config.auth_infos.iter().map(|named| &named.name)))
}

fn kubeconfig_error(file: &Path, reason: String) -> Error {
    Error::Kubeconfig {
        path: file.display().to_string(),
        reason,
    }
}

/// A parser's message may quote the file, tokens and all: only the place is told.
fn broken(file: &Path, error: &KubeconfigError) -> Error {
    let reason = match error {
        KubeconfigError::ReadConfig(io, _) => io.to_string(),
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!(
                "it is no kubeconfig: line {}, column {}",
                at.line(),
                at.column()
            ),
            None => "it is no kubeconfig".into(),
        },
        other => other.to_string(),
    };
    kubeconfig_error(file, reason)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::{Value, json};

    use super::{
        super::tests::{FIRST, SECOND, THIRD, files},
        *,
    };

    fn by_name(list: &Value, inner: &str) -> Vec<(Value, Value)> {
        let mut all: Vec<_> = list
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| (one["name"].clone(), one[inner].clone()))
            .collect();
        all.sort_by_key(|(name, _)| name.to_string());
        all
    }

    /// What kubectl makes of the same files, if it is on this machine.
    fn kubectl(paths: &[PathBuf]) -> Option<Value> {
        let joined = std::env::join_paths(paths).unwrap();
        let output = Command::new("kubectl")
            .args(["config", "view", "--raw", "-o", "json"])
            .env("KUBECONFIG", joined)
            .output();
        let Ok(output) = output else {
            println!("kubectl is not on this machine: not compared");
            return None;
        };
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(serde_json::from_slice(&output.stdout).unwrap())
    }

    #[test]
    fn files_are_merged_as_kubectl_merges_them() {
        let all = files(&[FIRST, SECOND, THIRD]);
        let missing = all.dir.path().join("missing.yaml");
        let [a, b, c] = [0, 1, 2].map(|n| all.paths[n].clone());
        for order in [
            vec![a.clone()],
            vec![a.clone(), b.clone(), c.clone()],
            vec![c.clone(), b.clone(), a.clone()],
            vec![b.clone(), missing, a.clone()],
        ] {
            // kubectl prints paths as they are written; we have made them absolute.
            let dir = format!("{}/", all.dir.path().display());
            let ours = serde_json::to_string(&read(&order).unwrap().config).unwrap();
            let ours: Value = serde_json::from_str(&ours.replace(&dir, "")).unwrap();
            let Some(theirs) = kubectl(&order) else {
                return;
            };
            for (list, inner) in [
                ("clusters", "cluster"),
                ("contexts", "context"),
                ("users", "user"),
            ] {
                let clean = |config: &Value| {
                    let mut all = by_name(&config[list], inner);
                    for (_, fields) in &mut all {
                        fields["exec"]["provideClusterInfo"] = json!(false);
                        *fields = prune(fields);
                    }
                    all
                };
                assert_eq!(clean(&ours), clean(&theirs), "{list} of {order:?}");
            }
            let current = |config: &Value| {
                config["current-context"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            assert_eq!(current(&ours), current(&theirs), "{order:?}");
        }
    }

    /// Without what is null, empty or false: the two print that differently.
    fn prune(value: &Value) -> Value {
        let Value::Object(fields) = value else {
            return value.clone();
        };
        let kept = fields
            .iter()
            .map(|(key, value)| (key.clone(), prune(value)));
        let nothing = |value: &Value| {
            value.is_null() || *value == json!({}) || *value == json!(false) || *value == json!("")
        };
        let mut kept: Vec<_> = kept.filter(|(_, value)| !nothing(value)).collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Object(kept.into_iter().collect())
    }
}
