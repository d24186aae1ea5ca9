//! `--set a.b[0].c=1,d={x,y}`: paths on the command line.

use serde_json::{Map, Value};

use crate::{Error, json::DEPTH};

/// The largest index a path may name.
const LARGEST: usize = 65_536;

/// Sets what `text` says, guessing types as Helm's `--set` does: numbers, `true`, `false`, `null`, `{lists}`.
///
/// What comes before an error is set already.
///
/// # Errors
/// [`Error::Values`] if it is no `path=value`, or leads into something that is no map.
///
/// ```
/// let mut values = serde_json::Map::new();
/// helm_engine::values::set_path(&mut values, r"image.tag=1\.29,ports={80,443},hosts[0].name=a")?;
/// assert_eq!(
///     serde_json::json!(values),
///     serde_json::json!({"image": {"tag": "1.29"}, "ports": [80, 443], "hosts": [{"name": "a"}]})
/// );
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn set_path(values: &mut Map<String, Value>, text: &str) -> Result<(), Error> {
    Parser::new(text).run(values, typed)
}

/// Like [`set_path`], but every value is text, as with `--set-string`.
///
/// # Errors
/// As [`set_path`].
///
/// ```
/// let mut values = serde_json::Map::new();
/// helm_engine::values::set_string(&mut values, "port=80,on=true")?;
/// assert_eq!(serde_json::json!(values), serde_json::json!({"port": "80", "on": "true"}));
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn set_string(values: &mut Map<String, Value>, text: &str) -> Result<(), Error> {
    Parser::new(text).run(values, |text| Value::String(text.to_owned()))
}

/// Sets one path to a JSON value, as with `--set-json`: `a.b={"c": 1}`.
///
/// # Errors
/// As [`set_path`], and if what follows `=` is no JSON.
///
/// ```
/// let mut values = serde_json::Map::new();
/// helm_engine::values::set_json(&mut values, r#"a.b={"c": [1, 2]}"#)?;
/// assert_eq!(serde_json::json!(values), serde_json::json!({"a": {"b": {"c": [1, 2]}}}));
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn set_json(values: &mut Map<String, Value>, text: &str) -> Result<(), Error> {
    let invalid = |reason: String| Error::Values {
        origin: format!("--set-json {text}"),
        reason,
    };
    let (path, json) = text
        .split_once('=')
        .ok_or_else(|| invalid("it has no `=`".to_owned()))?;
    let value = serde_json::from_str(json).map_err(|error| invalid(error.to_string()))?;
    let mut parser = Parser::new(path);
    let keys = parser.path(&['\0']).map_err(invalid)?;
    put(values, &keys, value).map_err(invalid)
}

fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        "0" => Value::from(0),
        // A leading zero is kept: it is more likely an identifier than a number.
        text if text.starts_with('0') || text.starts_with('+') => Value::String(text.to_owned()),
        text => text
            .parse::<i64>()
            .map_or_else(|_| Value::String(text.to_owned()), Value::from),
    }
}

#[derive(Debug, PartialEq)]
enum Key {
    Name(String),
    Index(usize),
}

struct Parser<'t> {
    text: &'t str,
    chars: std::iter::Peekable<std::str::Chars<'t>>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            chars: text.chars().peekable(),
        }
    }

    fn run(
        mut self,
        values: &mut Map<String, Value>,
        typed: fn(&str) -> Value,
    ) -> Result<(), Error> {
        let text = self.text;
        let invalid = |reason: String| Error::Values {
            origin: format!("--set {text}"),
            reason,
        };
        while self.chars.peek().is_some() {
            let keys = self.path(&['=', ',']).map_err(invalid)?;
            let value = match self.chars.next() {
                Some('=') => self.value(typed).map_err(invalid)?,
                _ => return Err(invalid("a path has no value (`path=value`)".to_owned())),
            };
            put(values, &keys, value).map_err(invalid)?;
        }
        Ok(())
    }

    /// Everything up to one of `stops`, with `\` escaping.
    fn word(&mut self, stops: &[char]) -> String {
        let mut out = String::new();
        while let Some(c) = self.chars.next_if(|c| !stops.contains(c)) {
            if c == '\\' {
                out.extend(self.chars.next())
            } else {
                out.push(c)
            }
        }
        out
    }

    fn path(&mut self, ends: &[char]) -> Result<Vec<Key>, String> {
        let stops: Vec<char> = ends.iter().copied().chain(['.', '[']).collect();
        let mut keys = Vec::new();
        loop {
            let name = self.word(&stops);
            if !name.is_empty() {
                keys.push(Key::Name(name));
            } else if self.chars.peek() != Some(&'[') || keys.is_empty() {
                return Err("a path has an empty part".to_owned());
            }
            while self.chars.next_if_eq(&'[').is_some() {
                keys.push(Key::Index(self.index()?));
            }
            if keys.len() > DEPTH / 4 {
                return Err("a path is too long".to_owned());
            }
            if self.chars.next_if_eq(&'.').is_none() {
                return Ok(keys);
            }
        }
    }

    fn index(&mut self) -> Result<usize, String> {
        let digits = self.word(&[']']);
        if self.chars.next() != Some(']') {
            return Err("`[` is never closed".to_owned());
        }
        digits
            .parse()
            .ok()
            .filter(|index| *index <= LARGEST)
            .ok_or_else(|| format!("`[{digits}]` is not an index up to {LARGEST}"))
    }

    fn value(&mut self, typed: fn(&str) -> Value) -> Result<Value, String> {
        if self.chars.next_if_eq(&'{').is_none() {
            let text = self.word(&[',']);
            self.chars.next();
            return Ok(typed(&text));
        }
        let mut items = Vec::new();
        loop {
            let text = self.word(&[',', '}']);
            match self.chars.next() {
                Some('}') => {
                    if !(items.is_empty() && text.is_empty()) {
                        items.push(typed(&text));
                    }
                    self.chars.next_if_eq(&',');
                    return Ok(Value::Array(items));
                }
                Some(_) => items.push(typed(&text)),
                None => return Err("`{` is never closed".to_owned()),
            }
        }
    }
}

fn put(values: &mut Map<String, Value>, keys: &[Key], value: Value) -> Result<(), String> {
    match keys.split_first() {
        Some((Key::Name(name), rest)) => put_at(
            values.entry(name.clone()).or_insert(Value::Null),
            rest,
            value,
        ),
        _ => Err("a path begins with a name".to_owned()),
    }
}

fn put_at(slot: &mut Value, keys: &[Key], value: Value) -> Result<(), String> {
    match keys.split_first() {
        None => {
            *slot = value;
            Ok(())
        }
        Some((Key::Name(name), rest)) => {
            if !slot.is_object() {
                if !slot.is_null() {
                    return Err(format!("{name} is set inside something that is not a map"));
                }
                *slot = Value::Object(Map::new());
            }
            match slot.as_object_mut() {
                Some(map) => put_at(map.entry(name.clone()).or_insert(Value::Null), rest, value),
                None => Ok(()),
            }
        }
        Some((Key::Index(index), rest)) => {
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            let Some(items) = slot.as_array_mut() else {
                return Ok(());
            };
            if items.len() <= *index {
                items.resize(index + 1, Value::Null);
            }
            put_at(&mut items[*index], rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_set_typed_values() {
        for (text, expected) in [
            ("a=1", json!({"a": 1})),
            ("a.b=x,c=true", json!({"a": {"b": "x"}, "c": true})),
            ("a[1].b=null", json!({"a": [null, {"b": null}]})),
            ("a={x,1,}", json!({"a": ["x", 1, ""]})),
            ("a={}", json!({"a": []})),
            (r"a.b\.c/d=1\,2", json!({"a": {"b.c/d": "1,2"}})),
            ("a=010,b=0,c=", json!({"a": "010", "b": 0, "c": ""})),
            ("a=1.5", json!({"a": "1.5"})),
            ("a=x=y", json!({"a": "x=y"})),
        ] {
            let mut values = Map::new();
            set_path(&mut values, text).unwrap();
            assert_eq!(Value::Object(values), expected, "{text}");
        }
        let mut values = Map::new();
        set_string(&mut values, "a=1,b={true}").unwrap();
        set_json(&mut values, "c.d={\"e\":[1]}").unwrap();
        assert_eq!(
            Value::Object(values),
            json!({"a": "1", "b": ["true"], "c": {"d": {"e": [1]}}})
        );
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "a",
            "=1",
            "a..b=1",
            "a[x]=1",
            "a[99999999]=1",
            "a[0=1",
            "a={1",
            "a=1,b",
        ] {
            assert!(set_path(&mut Map::new(), text).is_err(), "{text}");
        }
        let mut values = Map::new();
        assert!(set_path(&mut values, "a=1,a.b=2").is_err());
    }
}
