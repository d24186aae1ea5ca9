//! What templates compute with.

use std::{
    cell::{Ref, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use serde_json::Number;

use super::{semver::Version, time::Time};
use crate::chart::json::DEPTH;

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
struct Fields(RefCell<BTreeMap<Rc<str>, Value>>);

impl Drop for Items {
    fn drop(&mut self) {
        dismantle(std::mem::take(&mut self.0));
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        dismantle(std::mem::take(self.0.get_mut()).into_values().collect());
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
                    stack.extend(std::mem::take(fields.0.get_mut()).into_values());
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
}

impl Map {
    pub(crate) fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn fields(&self) -> Ref<'_, BTreeMap<Rc<str>, Value>> {
        self.0.0.borrow()
    }

    /// The value under `key`, if the key is there.
    pub(crate) fn find(&self, key: &str) -> Option<Value> {
        self.fields().get(key).cloned()
    }

    pub(crate) fn insert(&self, key: impl Into<Rc<str>>, value: Value) {
        // The old value is dropped after the borrow: it may hold this very map.
        let old = self.0.0.borrow_mut().insert(key.into(), value.settled());
        drop(old);
    }

    pub(crate) fn remove(&self, key: &str) {
        let old = self.0.0.borrow_mut().remove(key);
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
        Self(Rc::new(Fields(RefCell::new(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        ))))
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
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self, String> {
        from_json(value, 0)
    }

    /// The same for a map.
    pub(crate) fn from_json_map(
        map: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, String> {
        from_map(map, 0)
    }

    /// To JSON, as Go's encoder would see it.
    pub(crate) fn to_json(&self) -> Result<serde_json::Value, String> {
        to_json(self, 0)
    }

    /// A copy that shares no map with this value.
    pub(crate) fn deep_copy(&self) -> Result<Self, String> {
        deep_copy(self, 0)
    }
}

fn too_deep() -> String {
    format!("a value is nested deeper than {DEPTH} levels, or holds itself")
}

fn from_json(value: &serde_json::Value, depth: usize) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(n) => n
            .as_i64()
            .map_or_else(|| Value::Float(n.as_f64().unwrap_or_default()), Value::Int),
        serde_json::Value::String(text) => Value::text(text.as_str()),
        serde_json::Value::Array(items) => Value::list(
            items
                .iter()
                .map(|item| from_json(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        serde_json::Value::Object(map) => from_map(map, depth)?,
    })
}

fn from_map(
    map: &serde_json::Map<String, serde_json::Value>,
    depth: usize,
) -> Result<Value, String> {
    let pairs = map
        .iter()
        .map(|(key, value)| Ok((key.as_str(), from_json(value, depth + 1)?)));
    Ok(Value::Map(pairs.collect::<Result<Map, String>>()?))
}

fn to_json(value: &Value, depth: usize) -> Result<serde_json::Value, String> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    Ok(match value {
        Value::Nil | Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(n) | Value::Duration(n) => (*n).into(),
        Value::Float(n) => Number::from_f64(*n)
            .map(serde_json::Value::Number)
            .ok_or("json: unsupported value")?,
        Value::Text(text) => (&**text).into(),
        Value::Bytes(bytes) => crate::chart::yaml::base64(bytes).into(),
        Value::List(list) => serde_json::Value::Array(
            list.items()
                .iter()
                .map(|item| to_json(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Value::Map(map) => {
            let fields = map.fields();
            let pairs = fields
                .iter()
                .map(|(key, value)| Ok((key.to_string(), to_json(value, depth + 1)?)));
            serde_json::Value::Object(pairs.collect::<Result<_, String>>()?)
        }
        Value::Files(files) => serde_json::Value::Object(
            files
                .0
                .iter()
                .map(|(name, data)| (name.clone(), crate::chart::yaml::base64(data).into()))
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

fn deep_copy(value: &Value, depth: usize) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    Ok(match value {
        Value::List(list) => Value::list(
            list.items()
                .iter()
                .map(|item| deep_copy(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Value::Map(map) => {
            let fields = map.fields();
            Value::Map(
                fields
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), deep_copy(value, depth + 1)?)))
                    .collect::<Result<Map, String>>()?,
            )
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
mod tests {
    use super::*;

    #[test]
    fn a_map_is_shared_and_a_deep_copy_is_not() {
        let map = Map::default();
        let alias = map.clone();
        let copy = Value::Map(map.clone()).deep_copy().unwrap();
        alias.insert("a", Value::Int(1));
        assert!(matches!(map.find("a"), Some(Value::Int(1))));
        assert!(matches!(copy, Value::Map(copy) if copy.len() == 0));
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_converts() {
        let mut value = Value::Nil;
        for n in 0..200_000 {
            value = if n % 2 == 0 {
                Value::list(vec![value])
            } else {
                Value::Map([("k", value)].into_iter().collect())
            };
        }
        assert!(value.to_json().is_err() && value.deep_copy().is_err());
        drop(value);
    }

    #[test]
    fn a_map_that_holds_itself_is_refused() {
        let map = Map::default();
        map.insert("self", Value::Map(map.clone()));
        assert!(Value::Map(map.clone()).to_json().is_err());
        map.remove("self");
    }
}
