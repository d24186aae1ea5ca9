//! Helm's functions: Go's own, Sprig's, and those Helm adds.
//!
//! Arguments are as strict as Go's: a float is no int, nil is no string. What a template may not do at all
//! (read the environment), or only where it is allowed (make keys), is known by name and refused when it is called.

use std::{collections::HashMap, rc::Rc, sync::LazyLock};

use super::{
    budget::Budget,
    eval::{Call, Failure, Outcome},
    value::{List, Map, Value},
};

mod certificates;
mod crypto;
mod data;
mod dates;
mod dicts;
mod flow;
mod format;
mod lists;
mod math;
pub(super) mod methods;
mod patterns;
mod random;
mod strings;
mod toml;
mod types;
mod urls;
mod words;

/// A function: its name, how many arguments it takes at least and at most, and what it does.
type Entry = (&'static str, usize, usize, Function);
type Function = fn(&Args<'_>, &Call<'_, '_>) -> Outcome;

/// Any number of arguments.
const MANY: usize = usize::MAX;
/// The longest text, and the longest list, one call may make.
const LONGEST: usize = 16 << 20;

static TABLE: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let tables = [
        certificates::TABLE,
        crypto::TABLE,
        data::TABLE,
        dates::TABLE,
        dicts::TABLE,
        flow::TABLE,
        format::TABLE,
        lists::TABLE,
        math::TABLE,
        patterns::TABLE,
        random::TABLE,
        strings::TABLE,
        toml::TABLE,
        types::TABLE,
        urls::TABLE,
        words::TABLE,
    ];
    tables
        .into_iter()
        .flatten()
        .map(|entry| (entry.0, *entry))
        .collect()
});

/// Whether there is a function of that name; `and` and `or` are part of the language.
pub(super) fn exists(name: &str) -> bool {
    matches!(name, "and" | "or") || TABLE.contains_key(name)
}

/// Calls a function.
pub(super) fn call(name: &str, values: Vec<Value>, call: &Call<'_, '_>) -> Outcome {
    let Some((name, least, most, function)) = TABLE.get(name) else {
        return Err(format!("function {name:?} not defined").into());
    };
    let given = values.len();
    if given < *least || given > *most {
        let want = if *most == MANY {
            format!("at least {least}")
        } else {
            format!("{}", if given < *least { least } else { most })
        };
        return Err(format!("wrong number of args for {name}: want {want} got {given}").into());
    }
    let budget = &call.engine.budget;
    for value in &values {
        if let Value::Text(text) = value {
            budget.scan(text.len())?;
        }
    }
    let result = function(&Args { values, budget }, call).map_err(|mut failure: Failure| {
        if failure.place.is_none()
            && !failure.refused
            && !failure.reason.starts_with("error calling")
        {
            failure.reason = format!("error calling {name}: {}", failure.reason);
        }
        failure
    })?;
    match &result {
        Value::List(list) if list.is_new() => budget.make(list.items().len())?,
        Value::Map(map) if map.is_new() => budget.make(map.len())?,
        Value::Text(text) => budget.produce(text.len())?,
        _ => {}
    }
    Ok(result)
}

/// What a function was given.
pub(super) struct Args<'b> {
    values: Vec<Value>,
    budget: &'b Budget,
}

impl Args<'_> {
    fn len(&self) -> usize {
        self.values.len()
    }

    /// The argument as it is, nil if it is missing.
    fn any(&self, at: usize) -> Value {
        self.values.get(at).cloned().unwrap_or_default().settled()
    }

    /// Every argument from `at` on.
    fn from(&self, at: usize) -> impl Iterator<Item = Value> {
        self.values
            .iter()
            .skip(at)
            .map(|value| value.clone().settled())
    }

    fn wrong<T>(&self, at: usize, expected: &str) -> Outcome<T> {
        Err(match self.values.get(at) {
            None | Some(Value::Nil) => format!("invalid value; expected {expected}"),
            Some(Value::Null) => {
                format!("wrong type for value; expected {expected}; got interface {{}}")
            }
            Some(other) => format!(
                "wrong type for value; expected {expected}; got {}",
                other.type_name()
            ),
        }
        .into())
    }

    fn text(&self, at: usize) -> Outcome<Rc<str>> {
        match self.values.get(at) {
            Some(Value::Text(text)) => Ok(text.clone()),
            _ => self.wrong(at, "string"),
        }
    }

    fn int(&self, at: usize) -> Outcome<i64> {
        match self.values.get(at) {
            Some(Value::Int(n) | Value::Duration(n)) => Ok(*n),
            _ => self.wrong(at, "int"),
        }
    }

    fn bool(&self, at: usize) -> Outcome<bool> {
        match self.values.get(at) {
            Some(Value::Bool(flag)) => Ok(*flag),
            _ => self.wrong(at, "bool"),
        }
    }

    /// A map; plain nil is an empty one, as in Go.
    fn map(&self, at: usize) -> Outcome<Map> {
        match self.values.get(at) {
            Some(Value::Map(map)) => Ok(map.clone()),
            Some(Value::Nil) => Ok(Map::default()),
            _ => self.wrong(at, "map[string]interface {}"),
        }
    }

    /// A list, for functions that take any kind of one.
    fn list(&self, at: usize, verb: &str) -> Outcome<List> {
        as_list(&self.any(at), self.budget)?
            .ok_or_else(|| format!("Cannot {verb} on type {}", self.any(at).kind_name()).into())
    }

    /// A size that is neither negative nor beyond what one call may make.
    fn size(&self, at: usize, each: usize) -> Outcome<usize> {
        let size = usize::try_from(self.int(at)?).map_err(|_| "negative count")?;
        if size.saturating_mul(each.max(1)) > LONGEST {
            Err(format!("{size} is too many").into())
        } else {
            Ok(size)
        }
    }
}

/// Anything that is a list in Go, paid for as if all of it is looked at.
fn as_list(value: &Value, budget: &Budget) -> Outcome<Option<List>> {
    Ok(Some(match value {
        Value::List(list) => {
            budget.pass(list.items().len())?;
            list.clone()
        }
        Value::Versions(versions) => {
            let texts = versions.iter().map(|version| Value::text(version.as_str()));
            List::new(texts.collect())
        }
        Value::Bytes(bytes) => {
            budget.make(bytes.len())?;
            let numbers = bytes.iter().map(|byte| Value::Int(i64::from(*byte)));
            List::new(numbers.collect())
        }
        _ => return Ok(None),
    }))
}

/// A value as text, the way Sprig does it: bytes are text, nil is `<nil>`.
fn as_text(value: &Value, budget: &Budget) -> Outcome<Rc<str>> {
    Ok(match value {
        Value::Text(text) => {
            budget.scan(text.len())?;
            text.clone()
        }
        Value::Bytes(bytes) => {
            budget.produce(bytes.len())?;
            String::from_utf8_lossy(bytes).into()
        }
        other => super::print::nested(other, budget)?.into(),
    })
}

/// Sprig's emptiness: what `default` replaces.
fn is_empty(value: &Value) -> bool {
    !value.is_true()
}

fn count(length: usize) -> Value {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
