//! Names the shell can complete: the contexts of the kubeconfig, by full and by short name.

use std::{collections::BTreeSet, ffi::OsStr, path::PathBuf};

use clap_complete::engine::CompletionCandidate;
use serde::Deserialize;

use super::Environment;
use crate::cli::output::filter::is_plain;

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(default)]
    contexts: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Clusters that can be named on the command line. A file that cannot be read completes nothing.
pub(crate) fn clusters(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let names = names(Environment::read().kubeconfig(None));
    let fits = names
        .into_iter()
        .filter(|name| name.starts_with(current.as_ref()) && is_plain(name));
    fits.map(CompletionCandidate::new).collect()
}

fn names(files: Vec<PathBuf>) -> BTreeSet<String> {
    let texts = files
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok());
    let configs = texts.filter_map(|text| serde_saphyr::from_str::<Kubeconfig>(&text).ok());
    let contexts = configs.flat_map(|config| config.contexts);
    contexts
        .flat_map(|context| {
            let short = short(&context.name).map(str::to_owned);
            [Some(context.name), short]
        })
        .flatten()
        .collect()
}

/// The EKS name inside an ARN, which is what the AWS tools call a context.
fn short(context: &str) -> Option<&str> {
    let resource = context.strip_prefix("arn:")?.rsplit(':').next()?;
    resource.strip_prefix("cluster/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_offered_by_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text = "contexts:\n- name: kind-a\n  context: {}\n- name: arn:aws:eks:eu-west-1:123456789012:cluster/eks-1\n";
        std::fs::write(&path, text).unwrap();
        let found = names(vec![path, folder.path().join("missing")]);
        let want = [
            "arn:aws:eks:eu-west-1:123456789012:cluster/eks-1",
            "eks-1",
            "kind-a",
        ];
        assert!(found.iter().eq(want.iter()), "{found:?}");
    }
}
