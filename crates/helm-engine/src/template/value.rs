//! What templates compute with.

use std::{
    cell::{Ref, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use serde_json::Number;

use super::{budget::Budget, semver::Version, time::Time};
use crate::{
    json::{DEPTH, too_deep},
    yaml::Tree,
};

type Json = serde_json::Map<String, serde_json::Value>;

/// A value, as Go's `any` would hold it.
#[derive(Debug, Clone, Default)]
pub(crate) enum Value {
    /// No value at all.
    #[default]
    Nil,
    /// An empty slot of a map or list: nil, but asking it for a field is an error.
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    List(List),
    /// Shared: a copy of the handle is the same map.
    Map(Map),
    Files(Rc<Files>),
    Time(Rc<Time>),
    /// Nanoseconds.
    Duration(i64),
    Version(Rc<Version>),
    KubeVersion(Rc<KubeVersion>),
    /// `.Capabilities.APIVersions`
    Versions(Rc<Vec<String>>),
}

/// The files a chart shows to its templates.
#[derive(Debug, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Rc<[u8]>>);

/// `.Capabilities.KubeVersion`
#[derive(Debug)]
pub(crate) struct KubeVersion {
    pub(crate) version: String,
    pub(crate) normal: String,
    pub(crate) major: String,
    pub(crate) minor: String,
}

/// A list that never changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct List(Rc<Items>);

#[derive(Debug, Default)]
struct Items(Vec<Value>);

/// A shared map with sorted keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map(Rc<Fields>);

#[derive(Debug, Default)]
struct Fields(RefCell<Content>);

/// A map's pairs, and what was read but not looked at yet. Most of what charts read they only write again.
#[derive(Debug, Default)]
struct Content {
    /// These count before what was read.
    seen: BTreeMap<Rc<str>, Value>,
    read: Option<Rc<Json>>,
}

impl Drop for Items {
    fn drop(&mut self) {
        dismantle(std::mem::take(&mut self.0));
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        let content = std::mem::take(self.0.get_mut());
        dismantle(content.seen.into_values().collect());
    }
}

/// Drops nested values in a loop: a template can nest them deeper than any stack.
fn dismantle(mut stack: Vec<Value>) {
    while let Some(value) = stack.pop() {
        match value {
            Value::List(list) => {
                if let Some(mut items) = Rc::into_inner(list.0) {
                    stack.append(&mut items.0);
                }
            }
            Value::Map(map) => {
                if let Some(mut fields) = Rc::into_inner(map.0) {
                    stack.extend(std::mem::take(fields.0.get_mut()).seen.into_values());
                }
            }
            _ => {}
        }
    }
}

impl List {
    pub(crate) fn new(items: Vec<Value>) -> Self {
        Self(Rc::new(Items(items)))
    }

    pub(crate) fn items(&self) -> &[Value] {
        &self.0.0
    }

    /// Whether nobody else holds it.
    pub(crate) fn is_new(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl Map {
    /// Whether nobody else holds it.
    pub(crate) fn is_new(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// A map that was read from YAML, no deeper than may be.
    pub(crate) fn read(map: Rc<Json>, budget: &Budget) -> Result<Self, String> {
        weigh(&map, 0, budget)?;
        Ok(Self::unseen(map))
    }

    /// The same, where it is paid for.
    pub(crate) fn unseen(map: Rc<Json>) -> Self {
        Self(Rc::new(Fields(RefCell::new(Content {
            seen: BTreeMap::new(),
            read: Some(map),
        }))))
    }

    pub(crate) fn fields(&self) -> Ref<'_, BTreeMap<Rc<str>, Value>> {
        if self.0.0.borrow().read.is_some() {
            self.0.0.borrow_mut().see_all();
        }
        Ref::map(self.0.0.borrow(), |content| &content.seen)
    }

    /// The value under `key`, if the key is there.
    pub(crate) fn find(&self, key: &str) -> Option<Value> {
        if self.0.0.borrow().read.is_some() {
            self.0.0.borrow_mut().see(key);
        }
        self.0.0.borrow().seen.get(key).cloned()
    }

    pub(crate) fn insert(&self, key: impl Into<Rc<str>>, value: Value) {
        let mut content = self.0.0.borrow_mut();
        let old = content.seen.insert(key.into(), value.settled());
        // The old value is dropped after the borrow: it may hold this very map.
        drop(content);
        drop(old);
    }

    pub(crate) fn remove(&self, key: &str) {
        drop(self.fields());
        let old = self.0.0.borrow_mut().seen.remove(key);
        drop(old);
    }

    pub(crate) fn len(&self) -> usize {
        self.fields().len()
    }

    /// Every key and value, as they are now.
    pub(crate) fn pairs(&self) -> Vec<(Rc<str>, Value)> {
        self.fields()
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl<K: Into<Rc<str>>> FromIterator<(K, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        Self(Rc::new(Fields(RefCell::new(Content {
            seen: pairs.map(|(key, value)| (key.into(), value)).collect(),
            read: None,
        }))))
    }
}

impl Content {
    fn see(&mut self, key: &str) {
        if self.seen.contains_key(key) {
            return;
        }
        if let Some(value) = self.read.as_mut().and_then(|read| taken(read, key)) {
            self.seen.insert(key.into(), value);
        }
    }

    fn see_all(&mut self) {
        let Some(mut read) = self.read.take() else {
            return;
        };
        let keys: Vec<Rc<str>> = read.keys().map(|key| key.as_str().into()).collect();
        for key in keys {
            if !self.seen.contains_key(&key)
                && let Some(value) = taken(&mut read, &key)
            {
                self.seen.insert(key, value);
            }
        }
    }
}

/// The value under `key`, moved where nobody else holds the map.
fn taken(map: &mut Rc<Json>, key: &str) -> Option<Value> {
    let value = match Rc::get_mut(map) {
        Some(own) => own.get_mut(key)?.take(),
        None => map.get(key)?.clone(),
    };
    Some(read(value))
}

/// What was read, looked at down to the next maps.
fn read(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Array(items) => Value::list(items.into_iter().map(read).collect()),
        serde_json::Value::Object(map) => Value::Map(Map::unseen(Rc::new(map))),
        scalar => from_scalar(&scalar),
    }
}

/// A map as templates see one of Go's structs.
impl<const N: usize> From<[(&str, Value); N]> for Map {
    fn from(fields: [(&str, Value); N]) -> Self {
        fields.into_iter().collect()
    }
}

impl Value {
    pub(crate) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(List::new(items))
    }

    /// An empty slot becomes plain nil, as at the end of every pipeline.
    pub(crate) fn settled(self) -> Self {
        if matches!(self, Self::Null) {
            Self::Nil
        } else {
            self
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        matches!(self, Self::Nil | Self::Null)
    }

    /// What `if` asks.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Nil | Self::Null => false,
            Self::Bool(flag) => *flag,
            Self::Int(n) | Self::Duration(n) => *n != 0,
            Self::Float(n) => *n != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(list) => !list.items().is_empty(),
            Self::Map(map) => map.len() > 0,
            Self::Files(files) => !files.0.is_empty(),
            Self::Versions(versions) => !versions.is_empty(),
            Self::Time(_) | Self::Version(_) | Self::KubeVersion(_) => true,
        }
    }

    /// Go's name of its type, for error texts and `typeOf`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil | Self::Null => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Bytes(_) => "[]uint8",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Files(_) => "engine.files",
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
            Self::Version(_) => "*semver.Version",
            Self::KubeVersion(_) => "common.KubeVersion",
            Self::Versions(_) => "common.VersionSet",
        }
    }

    /// Go's kind, for `kindOf`.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Nil | Self::Null => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Duration(_) => "int64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Bytes(_) | Self::List(_) | Self::Versions(_) => "slice",
            Self::Map(_) | Self::Files(_) => "map",
            Self::Time(_) | Self::KubeVersion(_) => "struct",
            Self::Version(_) => "ptr",
        }
    }

    /// From JSON: integers stay integers (as with `--set`), all else is a float (as from a values file).
    pub(crate) fn from_json(value: &serde_json::Value, budget: &Budget) -> Result<Self, String> {
        from_json(value, 0, budget)
    }

    /// To JSON, as Go's encoder would see it.
    pub(crate) fn to_json(&self, budget: &Budget) -> Result<serde_json::Value, String> {
        Ok(self.to_tree(budget)?.into())
    }

    /// The same, sharing what nobody has looked at.
    pub(crate) fn to_tree(&self, budget: &Budget) -> Result<Tree, String> {
        to_tree(self, 0, budget)
    }

    /// A copy that shares no map with this value.
    pub(crate) fn deep_copy(&self, budget: &Budget) -> Result<Self, String> {
        deep_copy(self, 0, budget)
    }

    /// How many bytes its own text takes when it is written; what it holds counts for itself.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            // As numbers with spaces between them.
            Self::Bytes(bytes) => bytes.len().saturating_mul(4),
            Self::Files(files) => files
                .0
                .iter()
                .map(|(name, data)| name.len() + data.len().saturating_mul(2))
                .sum(),
            _ => 0,
        }
    }
}

fn from_json(value: &serde_json::Value, depth: usize, budget: &Budget) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    budget.visit(value.as_str().map_or(0, str::len), 0)?;
    Ok(match value {
        serde_json::Value::Array(items) => Value::list(
            items
                .iter()
                .map(|item| from_json(item, depth + 1, budget))
                .collect::<Result<_, _>>()?,
        ),
        serde_json::Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| Ok((key.as_str(), from_json(value, depth + 1, budget)?)));
            Value::Map(pairs.collect::<Result<Map, String>>()?)
        }
        scalar => from_scalar(scalar),
    })
}

/// From JSON that is neither a list nor a map.
fn from_scalar(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(n) => n
            .as_i64()
            .map_or_else(|| Value::Float(n.as_f64().unwrap_or_default()), Value::Int),
        serde_json::Value::String(text) => Value::text(text.as_str()),
        _ => Value::Nil,
    }
}

/// Pays for all that is in a map that was read, so far in: it is copied once somebody looks, and spelled out when written.
fn weigh(map: &Json, depth: usize, budget: &Budget) -> Result<(), String> {
    for (key, value) in map {
        budget.produce(key.len())?;
        weigh_value(value, depth + 1, budget)?;
    }
    Ok(())
}

fn weigh_value(value: &serde_json::Value, depth: usize, budget: &Budget) -> Result<(), String> {
    budget.visit(value.as_str().map_or(0, str::len), depth)?;
    match value {
        serde_json::Value::Array(items) => items
            .iter()
            .try_for_each(|item| weigh_value(item, depth + 1, budget)),
        serde_json::Value::Object(map) => weigh(map, depth, budget),
        _ => Ok(()),
    }
}

fn to_tree(value: &Value, depth: usize, budget: &Budget) -> Result<Tree, String> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    budget.visit(value.size(), depth)?;
    Ok(match value {
        Value::List(list) => {
            let items = list.items().iter();
            Tree::List(
                items
                    .map(|item| to_tree(item, depth + 1, budget))
                    .collect::<Result<_, _>>()?,
            )
        }
        Value::Map(map) => {
            let content = map.0.0.borrow();
            if let Some(read) = &content.read {
                weigh(read, depth, budget)?;
                // Each key that was read is looked for among those that were set.
                budget.pass(read.len().saturating_mul(content.seen.len()))?;
            }
            let mut pairs = Vec::with_capacity(content.seen.len());
            for (key, value) in &content.seen {
                budget.produce(key.len())?;
                pairs.push((key.clone(), to_tree(value, depth + 1, budget)?));
            }
            Tree::Map(pairs, content.read.clone())
        }
        scalar => Tree::Leaf(to_json(scalar)?),
    })
}

fn to_json(scalar: &Value) -> Result<serde_json::Value, String> {
    Ok(match scalar {
        Value::Nil | Value::Null | Value::List(_) | Value::Map(_) => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(n) | Value::Duration(n) => (*n).into(),
        Value::Float(n) => Number::from_f64(*n)
            .map(serde_json::Value::Number)
            .ok_or("json: unsupported value")?,
        Value::Text(text) => (&**text).into(),
        Value::Bytes(bytes) => crate::yaml::base64(bytes).into(),
        Value::Files(files) => serde_json::Value::Object(
            files
                .0
                .iter()
                .map(|(name, data)| (name.clone(), crate::yaml::base64(data).into()))
                .collect(),
        ),
        Value::Time(time) => time.rfc3339().into(),
        Value::Version(version) => version.text().into(),
        Value::KubeVersion(version) => {
            serde_json::json!({"Version": version.version, "Major": version.major, "Minor": version.minor})
        }
        Value::Versions(versions) => versions.as_slice().into(),
    })
}

fn deep_copy(value: &Value, depth: usize, budget: &Budget) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    // Text is shared.
    budget.visit(0, 0)?;
    Ok(match value {
        Value::List(list) => Value::list(
            list.items()
                .iter()
                .map(|item| deep_copy(item, depth + 1, budget))
                .collect::<Result<_, _>>()?,
        ),
        Value::Map(map) => {
            let content = map.0.0.borrow();
            if let Some(read) = &content.read {
                weigh(read, 0, budget)?;
            }
            let pairs = content.seen.iter();
            let pairs =
                pairs.map(|(key, value)| Ok((key.clone(), deep_copy(value, depth + 1, budget)?)));
            Value::Map(Map(Rc::new(Fields(RefCell::new(Content {
                seen: pairs.collect::<Result<_, String>>()?,
                read: content.read.clone(),
            })))))
        }
        other => other.clone(),
    })
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

#[cfg(test)]
mod tests;
