//! A YAML document as a tree that remembers where everything stood.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;
use serde_saphyr::Spanned;

/// A place in the file, counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key, its place, and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// Parses one document; an error says where it stopped to be YAML.
pub(crate) fn parse(text: &str) -> Result<Node, (Place, String)> {
    let mut options = serde_saphyr::Options::default();
    // A mesh file has little use for aliases, and a small one can multiply into millions of nodes.
    options.alias_limits.max_total_replayed_events = 10_000;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error
            .location()
            .map_or(Place { line: 1, column: 1 }, Place::from);
        (place, said(error.without_snippet()))
    })
}

/// What the parser says, without its advice to programmers.
fn said(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    match error {
        E::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key {key} is given twice: leave one out")
        }
        E::MultipleDocuments { .. } => {
            "a second document begins here: write one mesh to a file".into()
        }
        E::NonFiniteFloat { .. } => "this number is not finite: write it in quotes".into(),
        other => {
            let text = other.to_string();
            // The parser says the place in words, too; once is enough.
            let text = text.lines().next().unwrap_or_default();
            let text = text.split(" at line ").next().unwrap_or(text);
            // What it quotes stands in the file, which may be any file: it is not for a terminal or a log.
            let text = unquoted(text);
            format!(
                "cannot be read as YAML: {}",
                text.trim_end_matches([' ', ':'])
            )
        }
    }
}

/// A text up to what it quotes, unless that is a single sign.
fn unquoted(text: &str) -> &str {
    let mut quotes = text.match_indices(['\'', '"', '`']);
    while let Some((begin, quote)) = quotes.next() {
        match quotes.next() {
            Some((end, other)) if other == quote && text[begin + 1..end].chars().count() < 2 => {}
            _ => return &text[..begin],
        }
    }
    text
}

impl Value {
    /// What it is, as one would say it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(it) => (*it).into(),
            Self::Number(it) => it.clone().into(),
            Self::Text(it) => it.as_str().into(),
            Self::List(list) => list.iter().map(|node| node.value.to_json()).collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(at: serde_saphyr::Location) -> Self {
        Self {
            line: at.line(),
            column: at.column(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            value: found.value,
            place: found.referenced.into(),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(Value::Number(it.into()))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(Value::Number(it.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, it: f64) -> Result<Value, E> {
        let finite = || E::custom("a number that is not finite: write it in quotes");
        Number::from_f64(it).map(Value::Number).ok_or_else(finite)
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(Value::Text(it.into()))
    }

    fn visit_string<E>(self, it: String) -> Result<Value, E> {
        Ok(Value::Text(it))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(node) = list.next_element()? {
            found.push(node);
        }
        Ok(Value::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some((key, node)) = map.next_entry::<Spanned<String>, Node>()? {
            found.push(Entry {
                key: key.value,
                place: key.referenced.into(),
                node,
            });
        }
        Ok(Value::Map(found))
    }
}
