//! The language's own functions, and those that lead into other templates or out of this one.

use std::rc::Rc;

use super::{Args, Entry, MANY, count};
use crate::template::{
    budget::Budget,
    compare,
    eval::{Call, Failure, Outcome},
    print,
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("not", 1, 1, |args, _| {
        Ok(Value::Bool(!args.any(0).is_true()))
    }),
    ("len", 1, 1, len),
    ("index", 1, MANY, index),
    ("call", 1, MANY, |_, _| Err("non-function".into())),
    ("eq", 2, MANY, |args, _| {
        for other in args.from(1) {
            if compare::equal(&args.any(0), &other, args.budget)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    ("ne", 2, 2, |args, _| {
        Ok(Value::Bool(!compare::equal(
            &args.any(0),
            &args.any(1),
            args.budget,
        )?))
    }),
    ("lt", 2, 2, |args, _| {
        Ok(Value::Bool(
            compare::order(&args.any(0), &args.any(1))?.is_lt(),
        ))
    }),
    ("le", 2, 2, |args, _| {
        Ok(Value::Bool(
            compare::order(&args.any(0), &args.any(1))?.is_le(),
        ))
    }),
    ("gt", 2, 2, |args, _| {
        Ok(Value::Bool(
            compare::order(&args.any(0), &args.any(1))?.is_gt(),
        ))
    }),
    ("ge", 2, 2, |args, _| {
        Ok(Value::Bool(
            compare::order(&args.any(0), &args.any(1))?.is_ge(),
        ))
    }),
    ("include", 2, 2, include),
    ("tpl", 2, 2, tpl),
    ("required", 2, 2, required),
    ("fail", 1, 1, |args, _| {
        Err(Failure::refused(&args.text(0)?))
    }),
    ("lookup", 4, 4, lookup),
    ("getHostByName", 1, 1, |args, _| {
        args.text(0).map(|_| Value::from(""))
    }),
    ("hello", 0, 0, |_, _| Ok("Hello!".into())),
];

fn len(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Ok(match args.any(0) {
        Value::Text(text) => count(text.len()),
        Value::Bytes(bytes) => count(bytes.len()),
        Value::List(list) => count(list.items().len()),
        Value::Map(map) => count(map.len()),
        Value::Files(files) => count(files.0.len()),
        Value::Versions(versions) => count(versions.len()),
        Value::Nil | Value::Null => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name()).into()),
    })
}

fn index(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let mut item = args.any(0);
    if item.is_nil() {
        return Err("index of untyped nil".into());
    }
    for key in args.from(1) {
        item = match (&item, &key) {
            (Value::Nil | Value::Null, _) => return Err("index of nil pointer".into()),
            (Value::Map(map), Value::Text(key)) => map.find(key).unwrap_or_default(),
            (Value::Files(files), Value::Text(key)) => {
                Value::Bytes(files.0.get(&**key).cloned().unwrap_or_else(|| Rc::from([])))
            }
            (Value::Map(_) | Value::Files(_), Value::Nil) => {
                return Err("value is nil; should be string".into());
            }
            (Value::Map(_) | Value::Files(_), key) => {
                return Err(format!("value has type {}; should be string", key.type_name()).into());
            }
            (Value::List(_) | Value::Bytes(_) | Value::Versions(_), key) => element(&item, key)?,
            (Value::Text(text), Value::Int(at)) => {
                let byte = usize::try_from(*at)
                    .ok()
                    .and_then(|at| text.as_bytes().get(at).copied());
                Value::Int(i64::from(
                    byte.ok_or_else(|| format!("index out of range: {at}"))?,
                ))
            }
            (other, _) => {
                return Err(format!("can't index item of type {}", other.type_name()).into());
            }
        };
    }
    Ok(item)
}

fn element(item: &Value, key: &Value) -> Outcome {
    let Value::Int(at) = key else {
        return Err(if key.is_nil() {
            "cannot index slice/array with nil".to_owned()
        } else {
            format!("cannot index slice/array with type {}", key.type_name())
        }
        .into());
    };
    let found = usize::try_from(*at).ok().and_then(|at| match item {
        Value::Bytes(bytes) => bytes.get(at).map(|byte| Value::Int(i64::from(*byte))),
        Value::Versions(versions) => versions.get(at).map(|text| Value::text(text.as_str())),
        Value::List(list) => list.items().get(at).cloned(),
        _ => None,
    });
    found.ok_or_else(|| format!("index out of range: {at}").into())
}

fn include(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let name = args.text(0)?;
    let template = call
        .set
        .find(&name)
        .ok_or_else(|| format!("no template {name:?} associated with template \"gotpl\""))?;
    Ok(Value::text(call.engine.execute(
        call.set,
        template,
        args.any(1),
    )?))
}

/// Parses and executes text; what it defines is known only inside it.
fn tpl(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let source = args.text(0)?;
    // Every template is known inside, and the syntax tree is some ten times as large as the text.
    args.budget.step(source.len() / 16 + 50)?;
    args.budget.produce(source.len().saturating_mul(16))?;
    args.budget.pass(call.set.len())?;
    let mut set = (**call.set).clone();
    let template = set.add("gotpl", &source).map_err(|broken| {
        format!(
            "cannot parse template {source:?}: {}:{}: {}",
            broken.line, broken.column, broken.reason
        )
    })?;
    let text = call.engine.execute(&Rc::new(set), &template, args.any(1))?;
    Ok(Value::text(text.replace("<no value>", "")))
}

fn required(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let message = args.text(0)?;
    let value = args.any(1);
    let missing = value.is_nil() || matches!(&value, Value::Text(text) if text.is_empty());
    if missing {
        Err(Failure::refused(&message))
    } else {
        Ok(value)
    }
}

fn lookup(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let [version, kind, namespace, name] =
        [args.text(0)?, args.text(1)?, args.text(2)?, args.text(3)?];
    match call.engine.outside.lookup {
        Some(lookup) => {
            let found = lookup(&version, &kind, &namespace, &name)?;
            Ok(Value::from_json(&found, args.budget)?)
        }
        None => Ok(Value::Map(Default::default())),
    }
}

/// `print`, `println` and friends need the printer's error type here.
/// What the escaping functions escape: what `fmt.Sprint` prints, but nil is `<no value>`.
pub(super) fn printed(args: &Args<'_>) -> Outcome<String> {
    let text = |value: Value| match value {
        Value::Nil => "<no value>".into(),
        other => other,
    };
    sprint(args.from(0).map(text), args.budget)
}

pub(super) fn sprint(values: impl Iterator<Item = Value>, budget: &Budget) -> Outcome<String> {
    let mut out = String::new();
    let mut before_was_text = true;
    for (index, value) in values.enumerate() {
        let is_text = matches!(value, Value::Text(_));
        // Go puts a space between operands when neither is text.
        if index > 0 && !is_text && !before_was_text {
            out.push(' ');
        }
        out.push_str(&print::nested(&value, budget)?);
        before_was_text = is_text;
    }
    Ok(out)
}
