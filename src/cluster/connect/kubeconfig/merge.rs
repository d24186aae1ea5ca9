//! Several kubeconfig files as one.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use kube::config::{Kubeconfig, KubeconfigError};

use super::{Error, Merged, place::Lines};

/// Reads and merges: what an earlier file says wins. A file that is not there is passed over, as
/// long as there is another, as kubectl does.
pub(in super::super) fn read(files: &[PathBuf]) -> Result<Merged, Error> {
    let mut merged: Option<Kubeconfig> = None;
    let mut missing = None;
    let mut lines = vec![];
    for file in files.iter().filter(|file| !file.as_os_str().is_empty()) {
        let text = match fs::read(file) {
            Ok(bytes) => text(file, bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                missing.get_or_insert(file);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::IsADirectory => {
                return Err(unusable(file, "it is a folder, not a file"));
            }
            Err(error) => return Err(unusable(file, error.to_string())),
        };
        let found = Lines::of(file, &text);
        if let Some(kind) = found.kind.as_deref().filter(|kind| *kind != "Config") {
            return Err(unusable(file, format!("its kind is {kind}, not Config")));
        }
        let next =
            Kubeconfig::read_from(file).map_err(|error| broken(file, &text, &found, &error))?;
        if let Some(twice) = found.twice() {
            return Err(unusable(file, twice));
        }
        let next = normal(next);
        merged = Some(match merged {
            None => next,
            Some(first) => {
                let both = first.merge(next);
                both.map_err(|error| broken(file, &text, &found, &error))?
            }
        });
        lines.push(found);
    }
    match (merged, missing) {
        (Some(config), _) => Ok(Merged {
            files: files.to_vec(),
            config,
            lines,
        }),
        (None, missing) => Err(Error::NoKubeconfig {
            path: missing.map_or_else(String::new, |file| file.display().to_string()),
        }),
    }
}

/// What a kubeconfig is made of. UTF-16 is left to the reader below, which knows it.
fn text(file: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Ok(String::new());
    }
    let text = String::from_utf8(bytes).map_err(|_| unusable(file, "it is not text"))?;
    match text.trim().is_empty() {
        true => Err(unusable(file, "it is empty")),
        false => Ok(text),
    }
}

/// An empty `current-context` says nothing, so that a later file may say it.
fn normal(mut config: Kubeconfig) -> Kubeconfig {
    config.current_context = config.current_context.filter(|name| !name.is_empty());
    config
}

fn unusable(file: &Path, reason: impl Into<String>) -> Error {
    Error::Kubeconfig {
        path: file.display().to_string(),
        reason: reason.into(),
    }
}

/// A parser's message may quote the file, tokens and all: only the place is told.
fn broken(file: &Path, text: &str, lines: &Lines, error: &KubeconfigError) -> Error {
    let reason = match error {
        KubeconfigError::ReadConfig(io, _) => io.to_string(),
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => misread(text, lines, at.line(), at.column()),
            None => "it is not valid YAML, or not a kubeconfig".into(),
        },
        other => other.to_string(),
    };
    unusable(file, reason)
}

/// What is wrong at a place, as far as it can be told without showing what stands there.
fn misread(text: &str, lines: &Lines, line: u64, column: u64) -> String {
    // A tab ends what the parser understands, before it or behind it.
    let near = (1..).zip(text.lines());
    let near = near.filter(|(n, _)| (line.saturating_sub(1)..=line + 1).contains(n));
    let is_tab = |line: &str| line.trim_start_matches(' ').starts_with('\t');
    if let Some((line, _)) = near.into_iter().find(|(_, text)| is_tab(text)) {
        return format!("line {line} is indented with a tab: YAML takes spaces only");
    }
    let of = lines.near(line);
    let of = of.map_or_else(String::new, |of| format!(" (in {of})"));
    format!("line {line}, column {column}{of}: not valid YAML, or not what a kubeconfig has there")
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
