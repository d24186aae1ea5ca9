//! TOML as Helm writes it: plain values before tables, each sorted by key, tables indented by two spaces a level.

use std::{fmt::Write as _, rc::Rc};

use super::{Args, Entry};
use crate::{
    json::{DEPTH, general, too_deep},
    template::{
        budget::Budget,
        eval::Failure,
        time::duration_text,
        value::{KubeVersion, Value},
    },
};

pub(super) const TABLE: &[Entry] = &[
    ("toToml", 1, 1, |args, _| match written(args) {
        Err(Problem::Toml(reason)) => Ok(reason.into()),
        other => Ok(other?.into()),
    }),
    ("mustToToml", 1, 1, |args, _| Ok(written(args)?.into())),
];

/// Why a value has no form in TOML.
enum Problem {
    /// What Helm's library says; `toToml` answers with it.
    Toml(&'static str),
    /// What no function hides.
    Limit(Failure),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Toml(reason) => reason.into(),
            Problem::Limit(failure) => failure,
        }
    }
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Self::Limit(reason.into())
    }
}

type Written<T = ()> = Result<T, Problem>;
type Pairs = Vec<(Rc<str>, Value)>;

fn written(args: &Args<'_>) -> Written<String> {
    let value = args.any(0);
    if value.is_nil() {
        let reason = "reflect: call of reflect.Value.Type on zero Value";
        return Err(Problem::Limit(reason.into()));
    }
    let mut writer = Writer {
        out: String::new(),
        key: Vec::new(),
        budget: args.budget,
    };
    writer.value(&value)?;
    Ok(writer.out)
}

struct Writer<'b> {
    out: String,
    /// The tables around what is being written, and its own key.
    key: Vec<Rc<str>>,
    budget: &'b Budget,
}

impl Writer<'_> {
    /// What stands under the current key.
    fn value(&mut self, value: &Value) -> Written {
        let tables = is_tables(value, 0, self.budget)?;
        match (value, pairs(value)) {
            (_, Some(pairs)) => {
                if let [_] = self.key[..] {
                    self.line_end();
                }
                if !self.key.is_empty() {
                    self.header("[", "]")?;
                }
                self.table(&pairs)
            }
            (Value::List(list), None) if tables => {
                if self.key.is_empty() {
                    return Err(Problem::Toml(
                        "toml: top-level values must be Go maps or structs",
                    ));
                }
                for item in list.items() {
                    self.line_end();
                    self.header("[[", "]]")?;
                    self.table(&pairs_of(item))?;
                }
                Ok(())
            }
            _ => {
                let Some(key) = self.key.last().cloned() else {
                    return self.element(value, 0);
                };
                self.indent();
                self.out.push_str(&bare(&key));
                self.out.push_str(" = ");
                self.element(value, 0)?;
                self.line_end();
                Ok(())
            }
        }
    }

    fn table(&mut self, pairs: &Pairs) -> Written {
        if self.key.len() > DEPTH {
            return Err(too_deep().into());
        }
        let (plain, tables) = sorted_out(pairs, self.budget)?;
        for (key, value) in plain.into_iter().chain(tables) {
            if !value.is_nil() {
                self.key.push(key.clone());
                self.value(value)?;
                self.key.pop();
            }
        }
        Ok(())
    }

    fn header(&mut self, open: &str, close: &str) -> Written {
        self.indent();
        let path: Vec<String> = self.key.iter().map(|key| bare(key)).collect();
        let path = path.join(".");
        self.budget.visit(path.len(), self.key.len())?;
        let _ = writeln!(self.out, "{open}{path}{close}");
        Ok(())
    }

    fn indent(&mut self) {
        let depth = self.key.len().saturating_sub(1);
        self.out.extend(std::iter::repeat_n("  ", depth));
    }

    fn line_end(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    /// A value on one line.
    fn element(&mut self, value: &Value, depth: usize) -> Written {
        if depth > DEPTH {
            return Err(too_deep().into());
        }
        self.budget.visit(value.size(), self.key.len())?;
        match value {
            Value::Bool(flag) => self.out.push_str(if *flag { "true" } else { "false" }),
            Value::Int(n) => self.out.push_str(&n.to_string()),
            Value::Float(n) => self.out.push_str(&float(*n)),
            Value::Text(text) => self.out.push_str(&quoted(text)),
            Value::Time(time) => self.out.push_str(&time.rfc3339()),
            Value::Duration(n) => self.out.push_str(&quoted(&duration_text(*n))),
            Value::Version(version) => self.out.push_str(&quoted(&version.text())),
            Value::List(list) => {
                self.list(list.items(), |writer, item| writer.element(item, depth + 1))?
            }
            Value::Versions(versions) => self.list(versions, |writer, version| {
                writer.out.push_str(&quoted(version));
                Ok(())
            })?,
            Value::Bytes(bytes) => self.list(bytes, |writer, byte| {
                writer.out.push_str(&byte.to_string());
                Ok(())
            })?,
            Value::KubeVersion(version) => self.out.push_str(&inline(version)),
            Value::Map(_) | Value::Files(_) => self.inline_table(&pairs_of(value), depth)?,
            Value::Nil | Value::Null => {}
        }
        Ok(())
    }

    fn list<T>(&mut self, items: &[T], one: impl Fn(&mut Self, &T) -> Written) -> Written {
        self.out.push('[');
        for (at, item) in items.iter().enumerate() {
            self.out.push_str(if at > 0 { ", " } else { "" });
            one(self, item)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn inline_table(&mut self, pairs: &Pairs, depth: usize) -> Written {
        let (plain, tables) = sorted_out(pairs, self.budget)?;
        self.out.push('{');
        let more = !tables.is_empty();
        let groups = [(plain, more), (tables, false)];
        for (group, more) in groups {
            let count = group.len();
            for (at, (key, value)) in group.into_iter().enumerate() {
                // An empty value is left out after its place was counted, so that Helm writes a comma too many.
                if value.is_nil() {
                    continue;
                }
                let _ = write!(self.out, "{} = ", bare(key));
                self.element(value, depth + 1)?;
                if more || at + 1 < count {
                    self.out.push_str(", ");
                }
            }
        }
        self.out.push('}');
        Ok(())
    }
}

type Sorted<'p> = Vec<&'p (Rc<str>, Value)>;

/// What is written directly, and what as tables below.
fn sorted_out<'p>(pairs: &'p Pairs, budget: &Budget) -> Written<(Sorted<'p>, Sorted<'p>)> {
    let (mut plain, mut tables) = (Vec::new(), Vec::new());
    for pair in pairs {
        budget.visit(pair.0.len(), 0)?;
        if is_tables(&pair.1, 0, budget)? || is_table(&pair.1) {
            tables.push(pair);
        } else {
            plain.push(pair);
        }
    }
    Ok((plain, tables))
}

/// Whether a value is a list of tables and of nothing else. No list may hold an empty value.
fn is_tables(value: &Value, depth: usize, budget: &Budget) -> Written<bool> {
    let Value::List(list) = value else {
        return Ok(false);
    };
    if depth > DEPTH {
        return Err(too_deep().into());
    }
    budget.pass(list.items().len())?;
    let mut all = !list.items().is_empty();
    for item in list.items() {
        if item.is_nil() {
            return Err(Problem::Toml("toml: cannot encode array with nil element"));
        }
        is_tables(item, depth + 1, budget)?;
        all &= is_table(item);
    }
    Ok(all)
}

fn is_table(value: &Value) -> bool {
    matches!(
        value,
        Value::Map(_) | Value::Files(_) | Value::KubeVersion(_)
    )
}

/// A table's keys and values in the order of Helm's library, if it is one.
fn pairs(value: &Value) -> Option<Pairs> {
    Some(match value {
        Value::Map(map) => map.pairs(),
        Value::Files(files) => {
            let files = files.0.iter();
            let pairs =
                files.map(|(name, data)| (name.as_str().into(), Value::Bytes(data.clone())));
            pairs.collect()
        }
        Value::KubeVersion(version) => fields(version)
            .map(|(name, text)| (name.into(), Value::text(text)))
            .into(),
        _ => return None,
    })
}

fn pairs_of(value: &Value) -> Pairs {
    pairs(value).unwrap_or_default()
}

fn fields(version: &KubeVersion) -> [(&'static str, &str); 3] {
    [
        ("Version", &version.version),
        ("Major", &version.major),
        ("Minor", &version.minor),
    ]
}

/// Helm's library counts a field that it does not show, so that the commas stand where they should not.
fn inline(version: &KubeVersion) -> String {
    let [version, major, minor] =
        fields(version).map(|(name, text)| format!("{name} = {}", quoted(text)));
    format!("{{{version}, {major}{minor}, }}")
}

fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let text = general(number);
    if text.contains(['e', '.']) {
        text
    } else {
        text + ".0"
    }
}

fn bare(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
