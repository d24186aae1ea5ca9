//! Answers of the Query services, written element by element.

use std::fmt::Display;

/// The inside of an element.
#[derive(Debug, Clone, Default)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// `<name>value</name>`, escaped.
    pub(super) fn text(mut self, name: &str, value: impl Display) -> Self {
        let value = value
            .to_string()
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        self.0.push_str(&format!("<{name}>{value}</{name}>"));
        self
    }

    /// As [`text`](Self::text), left out if there is none.
    pub(super) fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// `<name>…</name>` around another inside.
    pub(super) fn nest(mut self, name: &str, inner: Self) -> Self {
        self.0.push_str(&format!("<{name}>{}</{name}>", inner.0));
        self
    }

    /// `<name><item>…</item>…</name>`.
    pub(super) fn list(self, name: &str, item: &str, rows: impl IntoIterator<Item = Self>) -> Self {
        let inner = rows
            .into_iter()
            .fold(Self::new(), |all, row| all.nest(item, row));
        self.nest(name, inner)
    }

    /// The whole document, under a root in a namespace.
    pub(super) fn document(self, root: &str, namespace: &str) -> String {
        format!("<{root} xmlns=\"{namespace}\">{}</{root}>", self.0)
    }
}
