//! Sets of fields, in the shape managed fields write them (`FieldsV1`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A tree of path elements. Elements are kept as they are written: `f:name`, `k:{"name":"x"}`, `v:"x"`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields {
    /// Whether the place itself is in the set, beside what is below it.
    pub(crate) own: bool,
    pub(crate) below: BTreeMap<String, Fields>,
}

/// Fields no manager owns.
const IDENTITY: [&str; 9] = [
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
    "f:deletionTimestamp",
];

impl Fields {
    pub(crate) fn leaf() -> Self {
        Self {
            own: true,
            below: BTreeMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.below.values().all(Self::is_empty)
    }

    /// Puts `fields` at `element`; empty ones leave no trace.
    pub(crate) fn set(&mut self, element: String, fields: Self) {
        if !fields.is_empty() {
            self.below.insert(element, fields);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.own |= other.own;
        for (element, fields) in &other.below {
            self.below.entry(element.clone()).or_default().add(fields);
        }
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && !b, true)
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && b, false)
    }

    fn combine(&self, other: &Self, rule: fn(bool, bool) -> bool, keep_alone: bool) -> Self {
        let mut result = Self {
            own: rule(self.own, other.own),
            below: BTreeMap::new(),
        };
        for (element, fields) in &self.below {
            match other.below.get(element) {
                Some(theirs) => {
                    result.set(element.clone(), fields.combine(theirs, rule, keep_alone))
                }
                None if keep_alone => result.set(element.clone(), fields.clone()),
                None => {}
            }
        }
        result
    }

    /// What this set held that neither `wanted` nor `others` hold any more: at each place the element is given
    /// up only if nobody keeps it or anything below it.
    pub(crate) fn minus_kept_by(&self, wanted: &Self, others: &Self) -> Self {
        let mut gone = Self::default();
        for (element, fields) in &self.below {
            let (mine, theirs) = (wanted.below.get(element), others.below.get(element));
            let none = Self::default();
            let mut given = fields.minus_kept_by(mine.unwrap_or(&none), theirs.unwrap_or(&none));
            given.own = mine.is_none_or(Self::is_empty) && theirs.is_none_or(Self::is_empty);
            gone.set(element.clone(), given);
        }
        gone
    }

    /// Without the fields that only name an object.
    pub(crate) fn without_identity(mut self) -> Self {
        self.own = false;
        self.below.remove("f:apiVersion");
        self.below.remove("f:kind");
        if let Some(meta) = self.below.get_mut("f:metadata") {
            meta.own = false;
            meta.below
                .retain(|element, _| !IDENTITY.contains(&element.as_str()));
            if meta.is_empty() {
                self.below.remove("f:metadata");
            }
        }
        self
    }

    /// Every path in the set as conflicts show it: `.spec.containers[name="x"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, at: &str, paths: &mut Vec<String>) {
        if self.own {
            paths.push(at.to_owned());
        }
        for (element, fields) in &self.below {
            fields.collect(&format!("{at}{}", shown(element)), paths);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.below.is_empty() {
            map.insert(".".into(), json!({}));
        }
        for (element, fields) in &self.below {
            map.insert(element.clone(), fields.to_json());
        }
        Value::Object(map)
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        let mut fields = Self::default();
        let Some(map) = value.as_object() else {
            return fields;
        };
        for (element, value) in map {
            if element == "." {
                fields.own = true;
            } else {
                let mut below = Self::from_json(value);
                below.own |= below.below.is_empty();
                fields.below.insert(element.clone(), below);
            }
        }
        fields
    }
}

fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", pairs.join(","))
        }
        _ => element.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::from_json(&value)
    }

    #[test]
    fn json_both_ways() {
        let text = json!({"f:spec": {"f:ports": {"k:{\"port\":1}": {".": {}, "f:port": {}}}, "f:type": {}}});
        assert_eq!(fields(text.clone()).to_json(), text);
    }

    #[test]
    fn the_algebra_of_sets() {
        let a = fields(json!({"f:a": {}, "f:b": {"f:c": {}, "f:d": {}}}));
        let b = fields(json!({"f:b": {"f:c": {}}}));
        assert_eq!(a.minus(&b), fields(json!({"f:a": {}, "f:b": {"f:d": {}}})));
        assert_eq!(a.and(&b), b);
        assert!(b.minus(&a).is_empty());
    }

    #[test]
    fn a_place_is_given_up_only_if_nobody_keeps_anything_below_it() {
        let mine =
            fields(json!({"f:list": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:a": {}}}}));
        let theirs = fields(json!({"f:list": {"k:{\"name\":\"x\"}": {"f:a": {}}}}));
        let gone = mine.minus_kept_by(&Fields::default(), &theirs);
        assert_eq!(gone.paths(), [".list[name=\"x\"].name"]);
        let gone = mine.minus_kept_by(&Fields::default(), &Fields::default());
        assert!(gone.paths().contains(&".list".to_owned()));
    }
}
