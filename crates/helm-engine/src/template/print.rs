//! Values and expressions as text.

use std::{borrow::Cow, fmt::Write as _};

use gotmpl::parse::{CommandNode, Expr, Number};

use super::{budget::Budget, value::Value};
use crate::json::{DEPTH, general, too_deep};

/// What an action prints, `%v` in Go.
pub(crate) fn value<'v>(value: &'v Value, budget: &Budget) -> Result<Cow<'v, str>, String> {
    Ok(match value {
        Value::Nil | Value::Null => "<no value>".into(),
        Value::Text(text) => (&**text).into(),
        other => nested(other, budget)?.into(),
    })
}

/// What `fmt.Sprint` prints: like [`value`], but nil is `<nil>`.
pub(crate) fn nested(value: &Value, budget: &Budget) -> Result<String, String> {
    let mut out = String::new();
    put(&mut out, value, 0, budget)?;
    Ok(out)
}

fn put(out: &mut String, value: &Value, depth: usize, budget: &Budget) -> Result<(), String> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    budget.visit(value.size(), 0)?;
    match value {
        Value::Nil | Value::Null => out.push_str("<nil>"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(n) => out.push_str(&general(*n)),
        Value::Text(text) => out.push_str(text),
        Value::Bytes(bytes) => list(out, bytes.iter(), |out, byte| {
            let _ = write!(out, "{byte}");
            Ok(())
        })?,
        Value::List(items) => list(out, items.items().iter(), |out, item| {
            put(out, item, depth + 1, budget)
        })?,
        Value::Versions(versions) => list(out, versions.iter(), |out, version| {
            out.push_str(version);
            Ok(())
        })?,
        Value::Map(map) => {
            out.push_str("map[");
            for (index, (key, value)) in map.fields().iter().enumerate() {
                out.push_str(if index > 0 { " " } else { "" });
                budget.produce(key.len())?;
                out.push_str(key);
                out.push(':');
                put(out, value, depth + 1, budget)?;
            }
            out.push(']');
        }
        Value::Files(files) => {
            out.push_str("map[");
            for (index, (name, data)) in files.0.iter().enumerate() {
                out.push_str(if index > 0 { " " } else { "" });
                let _ = write!(out, "{name}:");
                put(out, &Value::Bytes(data.clone()), depth + 1, budget)?;
            }
            out.push(']');
        }
        Value::Time(time) => out.push_str(&time.go_text()),
        Value::Duration(nanoseconds) => out.push_str(&super::time::duration_text(*nanoseconds)),
        Value::Version(version) => out.push_str(&version.text()),
        Value::KubeVersion(version) => out.push_str(&version.normal),
    }
    Ok(())
}

fn list<T>(
    out: &mut String,
    items: impl Iterator<Item = T>,
    mut one: impl FnMut(&mut String, T) -> Result<(), String>,
) -> Result<(), String> {
    out.push('[');
    for (index, item) in items.enumerate() {
        out.push_str(if index > 0 { " " } else { "" });
        one(out, item)?;
    }
    out.push(']');
    Ok(())
}

/// A command, as it was written.
pub(super) fn command(command: &CommandNode) -> String {
    command
        .args
        .iter()
        .map(expression)
        .collect::<Vec<_>>()
        .join(" ")
}

/// An expression, as it was written.
pub(super) fn expression(expression: &Expr) -> String {
    let chain = |start: &str, fields: &[gotmpl::parse::SmolStr]| {
        fields
            .iter()
            .fold(start.to_owned(), |text, field| format!("{text}.{field}"))
    };
    match expression {
        Expr::Dot(_) => ".".to_owned(),
        Expr::Nil(_) => "nil".to_owned(),
        Expr::Bool(_, flag) => flag.to_string(),
        Expr::String(_, text) => format!("{text:?}"),
        Expr::Number(_, Number::Int(n)) => n.to_string(),
        Expr::Number(_, Number::Uint(n)) => n.to_string(),
        Expr::Number(_, Number::Float(n)) => general(*n),
        Expr::Field(_, fields) => chain("", fields),
        Expr::Variable(_, name, fields) => chain(name, fields),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::Pipe(_, pipe) => format!(
            "({})",
            pipe.commands
                .iter()
                .map(command)
                .collect::<Vec<_>>()
                .join(" | ")
        ),
        Expr::Chain(_, inner, fields) => chain(&self::expression(inner), fields),
    }
}

/// The first value a command reads, as a path.
pub(super) fn value_path(command: &CommandNode) -> Option<String> {
    command.args.iter().find_map(|arg| match arg {
        Expr::Field(..) => Some(expression(arg)),
        Expr::Variable(_, _, fields) if !fields.is_empty() => Some(expression(arg)),
        Expr::Chain(_, inner, _) => match &**inner {
            Expr::Pipe(_, pipe) => pipe.commands.iter().find_map(value_path),
            _ => None,
        },
        Expr::Pipe(_, pipe) => pipe.commands.iter().find_map(value_path),
        _ => None,
    })
}
