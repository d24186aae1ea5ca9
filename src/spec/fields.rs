//! Walking the tree: small readers that note what is wrong and go on.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::tree::{Entry, Node, Place, Value};

/// One thing that is wrong with a mesh file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Line, counted from one.
    pub line: u64,
    /// Column, counted from one.
    pub column: u64,
    /// The place in the document, as `clusters[1].network`; empty where it is no YAML at all.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub text: String,
}

impl Problem {
    /// As a line: `mesh.yaml:3:3: clusters[1].nmae: unknown key`.
    pub fn in_file(&self, file: &Path) -> String {
        let Self {
            line,
            column,
            path,
            text,
        } = self;
        let colon = if path.is_empty() { "" } else { ": " };
        format!("{}:{line}:{column}: {path}{colon}{text}", file.display())
    }
}

/// Everything that is wrong with a mesh file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// What is wrong; never empty.
    pub list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.list.iter().map(|problem| problem.in_file(&self.file));
        f.write_str(&all.collect::<Vec<_>>().join("\n"))
    }
}

/// Where readers put what they find wrong.
pub(super) type Sink = RefCell<Vec<Problem>>;

/// A place in the document: what stands there, and how to get there.
#[derive(Clone)]
pub(super) struct At<'a> {
    node: &'a Node,
    path: String,
    sink: &'a Sink,
}

impl<'a> At<'a> {
    pub(super) fn top(node: &'a Node, sink: &'a Sink) -> Self {
        Self {
            node,
            path: String::new(),
            sink,
        }
    }

    /// Notes that something is wrong here.
    pub(super) fn wrong(&self, text: impl Into<String>) {
        note(self.sink, self.node.place, &self.path, text.into());
    }

    pub(super) fn place(&self) -> Place {
        self.node.place
    }

    fn wants<T>(&self, what: &str) -> Option<T> {
        self.wrong(match &self.node.value {
            Value::Null => format!("has no value: it must be {what}"),
            other => format!("must be {what}, not {}", other.kind()),
        });
        None
    }

    /// A text; numbers and the like are not taken for one, because YAML changes them (`1.30` is `1.3`).
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            other @ (Value::Number(_) | Value::Bool(_)) => {
                let kind = other.kind();
                self.wrong(format!(
                    "is {kind}: write it in quotes, to make it a string"
                ));
                None
            }
            _ => self.wants("a string"),
        }
    }

    /// Whether it is a text, and no mapping or list.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.node.value, Value::Text(_))
    }

    /// A text that means something.
    pub(super) fn read<T, E: fmt::Display>(
        &self,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        read(self.text()?)
            .map_err(|error| self.wrong(error.to_string()))
            .ok()
    }

    /// True or false.
    pub(super) fn is_true(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            _ => {
                self.wrong("is neither true nor false: write one of them");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(match known[..] {
                [only] => format!("{text:?} is not known here: write {only}"),
                _ => format!(
                    "{text:?} is not known here: write one of {}",
                    known.join(", ")
                ),
            });
        }
        found
    }

    /// The members of a list.
    pub(super) fn list(&self) -> Vec<Self> {
        let Value::List(list) = &self.node.value else {
            return self
                .wants("a list (lines that begin with \"- \")")
                .unwrap_or_default();
        };
        let member = |(n, node)| At {
            node,
            path: format!("{}[{n}]", self.path),
            sink: self.sink,
        };
        list.iter().enumerate().map(member).collect()
    }

    /// It is a list, and holds nothing.
    pub(super) fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::List(list) if list.is_empty())
    }

    /// A list of texts that mean something; what means nothing is noted and left out.
    pub(super) fn each<T, E: fmt::Display>(&self, read: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        self.list().iter().filter_map(|at| at.read(&read)).collect()
    }

    fn entries(&self) -> Option<&'a [Entry]> {
        match &self.node.value {
            Value::Map(entries) => Some(entries),
            _ => self.wants("a mapping (\"key: value\" lines)"),
        }
    }

    /// Free keys, each with a text.
    pub(super) fn texts(&self) -> Vec<(String, String)> {
        let entries = self.entries().unwrap_or_default();
        let text = |entry: &'a Entry| {
            let text = self.below(entry).text()?;
            Some((entry.key.clone(), text.to_owned()))
        };
        entries.iter().filter_map(text).collect()
    }

    /// Free keys with anything below them.
    pub(super) fn object(&self) -> serde_json::Map<String, serde_json::Value> {
        let entries = self.entries().unwrap_or_default();
        entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.node.value.to_json()))
            .collect()
    }

    /// Known keys, read by `read`; those it does not ask for are unknown.
    pub(super) fn fields<T>(&self, read: impl FnOnce(&mut Fields<'a>) -> T) -> Option<T> {
        let entries = self.entries()?;
        let mut fields = Fields {
            at: self.clone(),
            entries,
            known: Vec::new(),
        };
        let found = read(&mut fields);
        fields.unknown();
        Some(found)
    }

    fn below(&self, entry: &'a Entry) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        At {
            node: &entry.node,
            path: format!("{}{dot}{}", self.path, entry.key),
            sink: self.sink,
        }
    }
}

/// The keys of one group.
pub(super) struct Fields<'a> {
    pub(super) at: At<'a>,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// What stands at a key; a key without a value counts as absent.
    pub(super) fn get(&mut self, key: &'static str) -> Option<At<'a>> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.node.value != Value::Null).then(|| self.at.below(entry))
    }

    fn unknown(&self) {
        for entry in self
            .entries
            .iter()
            .filter(|entry| !self.known.contains(&&*entry.key))
        {
            let hint = nearest(&entry.key, &self.known).map_or_else(
                || format!("known keys: {}", self.known.join(", ")),
                |key| format!("did you mean {key}?"),
            );
            let path = self.at.below(entry).path;
            note(
                self.at.sink,
                entry.place,
                &path,
                format!("unknown key: {hint}"),
            );
        }
    }
}

fn note(sink: &Sink, place: Place, path: &str, text: String) {
    let Place { line, column } = place;
    sink.borrow_mut().push(Problem {
        line,
        column,
        path: path.into(),
        text,
    });
}

/// The word somebody may have meant.
fn nearest<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .take(64)
            .collect()
    };
    let meant = plain(text);
    // Letters to add, drop, change or swap with the next.
    let far = |word: &&str| strsim::osa_distance(&meant, &plain(word));
    let best = words.iter().copied().min_by_key(|word| far(word))?;
    (far(&best) <= meant.chars().count().max(3) / 3).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_found_and_no_other() {
        let words = [
            "name",
            "network",
            "context",
            "eks",
            "peerServer",
            "trustDomain",
        ];
        for (text, want) in [
            ("nmae", Some("name")),
            ("Network", Some("network")),
            ("peer_server", Some("peerServer")),
            ("trust-domain", Some("trustDomain")),
            ("netwrok", Some("network")),
            ("region", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, &words), want, "{text}");
        }
    }
}
