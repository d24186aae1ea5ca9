//! Walks objects along their schema: which fields are there, how two merge, what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    fields::Fields,
    schema::{Cursor, List},
};

/// The path element of a list item, or why it has none.
fn element(item: &Value, list: &List<'_>, at: Cursor<'_>) -> Result<String, String> {
    match list {
        List::Set => Ok(format!("v:{item}")),
        List::Keyed(keys) => {
            let mut sorted = BTreeMap::new();
            for key in keys {
                let value = item.get(*key).cloned().or_else(|| at.default_key(key));
                if let Some(value) = value {
                    sorted.insert(*key, value);
                }
            }
            if sorted.is_empty() {
                let all: Vec<_> = keys.iter().map(|k| format!("\"{k}\"")).collect();
                return Err(format!(
                    "element 0: associative list with keys has an element that omits key field {}",
                    all.join(", ")
                ));
            }
            serde_json::to_string(&sorted)
                .map(|keys| format!("k:{keys}"))
                .map_err(|e| e.to_string())
        }
        List::Atomic => Err("an atomic list has no elements".into()),
    }
}

/// The fields a configuration gives: its leaves, and the items of lists with keys.
pub(crate) fn field_set(value: &Value, at: Cursor<'_>) -> Result<Fields, String> {
    match value {
        Value::Object(map) if !at.atomic_map() && !map.is_empty() => {
            let mut fields = Fields::default();
            for (name, value) in map {
                let below = field_set(value, at.field(name)).map_err(|e| format!(".{name}{e}"))?;
                fields.set(format!("f:{name}"), below);
            }
            Ok(fields)
        }
        Value::Array(items) => list_set(items, at),
        _ => Ok(Fields::leaf()),
    }
}

fn list_set(items: &[Value], at: Cursor<'_>) -> Result<Fields, String> {
    let list = at.list();
    if list == List::Atomic {
        return Ok(Fields::leaf());
    }
    let mut fields = Fields::default();
    for item in items {
        let element = element(item, &list, at).map_err(|e| format!(": {e}"))?;
        if fields.below.contains_key(&element) {
            let keys = Fields {
                own: false,
                below: [(element, Fields::leaf())].into(),
            };
            return Err(format!(
                ": duplicate entries for key {}",
                keys.paths().join("")
            ));
        }
        let mut below = match &list {
            List::Set => Fields::leaf(),
            _ => field_set(item, at.item()).map_err(|e| format!("{}{e}", shown(&element)))?,
        };
        below.own = true;
        fields.below.insert(element, below);
    }
    Ok(fields)
}

fn shown(element: &str) -> String {
    Fields {
        own: false,
        below: [(element.to_owned(), Fields::leaf())].into(),
    }
    .paths()
    .join("")
}

/// Every place of an object, containers included.
pub(crate) fn present(value: &Value, at: Cursor<'_>) -> Fields {
    let mut fields = Fields::leaf();
    match value {
        Value::Object(map) if !at.atomic_map() => {
            for (name, value) in map {
                fields
                    .below
                    .insert(format!("f:{name}"), present(value, at.field(name)));
            }
        }
        Value::Array(items) => {
            let list = at.list();
            for item in items {
                let Ok(element) = element(item, &list, at) else {
                    continue;
                };
                let below = if list == List::Set {
                    Fields::leaf()
                } else {
                    present(item, at.item())
                };
                fields.below.insert(element, below);
            }
        }
        _ => {}
    }
    fields
}

/// `config` laid over `live`.
pub(crate) fn merge(live: &Value, config: &Value, at: Cursor<'_>) -> Value {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !at.atomic_map() => {
            let mut merged = live.clone();
            for (name, value) in config {
                let before = live.get(name).unwrap_or(&Value::Null);
                merged.insert(name.clone(), merge(before, value, at.field(name)));
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(config)) if at.list() != List::Atomic => {
            merge_list(live, config, at)
        }
        _ => config.clone(),
    }
}

/// Items of both lists: shared ones in the order of `config`, those only in `live` where they were.
fn merge_list(live: &[Value], config: &[Value], at: Cursor<'_>) -> Value {
    let list = at.list();
    let name = |item: &Value| element(item, &list, at).unwrap_or_default();
    let theirs: Vec<String> = live.iter().map(name).collect();
    let ours: BTreeSet<String> = config.iter().map(name).collect();
    let mut merged = Vec::new();
    let mut kept = theirs.iter().zip(live).peekable();
    for item in config {
        let key = name(item);
        while let Some((_, only)) = kept.next_if(|(k, _)| !ours.contains(*k)) {
            merged.push(only.clone());
        }
        kept.next_if(|(k, _)| ours.contains(*k));
        let before = theirs.iter().position(|k| *k == key).map(|i| &live[i]);
        merged.push(merge(before.unwrap_or(&Value::Null), item, at.item()));
    }
    merged.extend(
        kept.filter(|(k, _)| !ours.contains(*k))
            .map(|(_, only)| only.clone()),
    );
    Value::Array(merged)
}

/// Fields that `new` adds or changes.
pub(crate) fn changed(old: &Value, new: &Value, at: Cursor<'_>) -> Fields {
    match new {
        Value::Object(map) if !at.atomic_map() && !map.is_empty() && !scalar(old) => {
            let none = Map::new();
            let before = old.as_object().unwrap_or(&none);
            let mut fields = Fields {
                own: !old.is_object() && !at.always_there(),
                below: BTreeMap::new(),
            };
            for (name, value) in map {
                let old = before.get(name).unwrap_or(&Value::Null);
                fields.set(format!("f:{name}"), changed(old, value, at.field(name)));
            }
            fields
        }
        Value::Array(items) if at.list() != List::Atomic => changed_items(old, items, at),
        _ if old == new => Fields::default(),
        _ => Fields::leaf(),
    }
}

fn scalar(value: &Value) -> bool {
    !value.is_null() && !value.is_object()
}

fn changed_items(old: &Value, items: &[Value], at: Cursor<'_>) -> Fields {
    let list = at.list();
    let keyed = |items: &[Value]| -> BTreeMap<String, Value> {
        items
            .iter()
            .filter_map(|i| Some((element(i, &list, at).ok()?, i.clone())))
            .collect()
    };
    let before = keyed(old.as_array().map_or(&[], Vec::as_slice));
    let mut fields = Fields {
        own: !old.is_array() && !at.always_there(),
        below: BTreeMap::new(),
    };
    for (key, item) in keyed(items) {
        let old = before.get(&key);
        let mut below = match &list {
            List::Set => Fields::default(),
            _ => changed(old.unwrap_or(&Value::Null), &item, at.item()),
        };
        below.own = old.is_none();
        fields.set(key, below);
    }
    fields
}

/// Takes `gone` out of `value`: a place given up goes with everything in it.
pub(crate) fn remove(value: &mut Value, gone: &Fields, at: Cursor<'_>) {
    match value {
        Value::Object(map) => {
            for (element, fields) in &gone.below {
                let Some(name) = element.strip_prefix("f:") else {
                    continue;
                };
                if fields.own {
                    map.shift_remove(name);
                } else if let Some(below) = map.get_mut(name) {
                    remove(below, fields, at.field(name));
                }
            }
        }
        Value::Array(items) => {
            let list = at.list();
            items.retain_mut(|item| {
                let fields = element(item, &list, at)
                    .ok()
                    .and_then(|e| gone.below.get(&e));
                fields.is_none_or(|fields| !fields.own && remove_in_item(item, fields, &list, at))
            });
        }
        _ => {}
    }
}

/// Takes fields out of an item that stays; its keys stay with it.
fn remove_in_item(item: &mut Value, gone: &Fields, list: &List<'_>, at: Cursor<'_>) -> bool {
    let mut gone = gone.clone();
    if let List::Keyed(keys) = list {
        gone.below
            .retain(|element, _| !keys.iter().any(|k| element.strip_prefix("f:") == Some(k)));
    }
    remove(item, &gone, at.item());
    true
}
