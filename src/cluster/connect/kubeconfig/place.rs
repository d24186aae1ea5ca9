//! Where a kubeconfig says what: the line of each name, for whoever has to change it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_saphyr::Spanned;

/// The lists of a kubeconfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum List {
    Contexts,
    Clusters,
    Users,
}

impl List {
    const ALL: [Self; 3] = [Self::Contexts, Self::Clusters, Self::Users];

    /// What one of it is called.
    fn one(self) -> &'static str {
        match self {
            Self::Contexts => "context",
            Self::Clusters => "cluster",
            Self::Users => "user",
        }
    }
}

/// The lines of one file. Empty where the file has parts that this reader does not know.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    file: PathBuf,
    /// What it says it is.
    pub(super) kind: Option<String>,
    names: BTreeMap<List, Vec<(String, u64)>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    kind: Option<String>,
    contexts: Option<Vec<Named>>,
    clusters: Option<Vec<Named>>,
    users: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    name: Spanned<String>,
}

impl Lines {
    /// Of a file's text.
    pub(super) fn of(file: &Path, text: &str) -> Self {
        let read: File = serde_saphyr::from_str(text).unwrap_or_default();
        let lists = [read.contexts, read.clusters, read.users];
        let lists = lists.map(|list| {
            let names = list.into_iter().flatten();
            names
                .map(|n| (n.name.value, n.name.referenced.line()))
                .collect()
        });
        Self {
            file: file.into(),
            kind: read.kind,
            names: List::ALL.into_iter().zip(lists).collect(),
        }
    }

    /// Where a name stands: file and line.
    pub(super) fn find(&self, list: List, name: &str) -> Option<String> {
        let (_, line) = self.names.get(&list)?.iter().find(|(n, _)| n == name)?;
        Some(format!("{}:{line}", self.file.display()))
    }

    /// What a line belongs to: the last name before it.
    pub(super) fn near(&self, line: u64) -> Option<String> {
        let all = self.names.iter().flat_map(|(list, names)| {
            let names = names.iter().filter(|(_, at)| *at <= line);
            names.map(|(name, at)| (*at, list.one(), name))
        });
        let (_, what, name) = all.max()?;
        Some(format!("{what} {name:?}"))
    }

    /// A name that stands twice in one list, which only one of them can be meant by.
    pub(super) fn twice(&self) -> Option<String> {
        List::ALL.into_iter().find_map(|list| {
            let names = self.names.get(&list)?;
            let second = names.iter().enumerate().find_map(|(n, (name, second))| {
                let first = names[..n].iter().find(|(earlier, _)| earlier == name)?;
                Some((name, first.1, *second))
            });
            let (name, first, second) = second?;
            let what = list.one();
            Some(match first == second {
                true => format!("line {first} has {what} {name:?} twice"),
                false => format!("lines {first} and {second} both define {what} {name:?}"),
            })
        })
    }
}
