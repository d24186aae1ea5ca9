//! A chart's `values.schema.json`, as advice: Helm's own check rejects some official charts, so ours only warns.
//!
//! The keywords charts use are checked; any other is passed over.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::{Chart, json};

/// The most problems that are told.
const TOLD: usize = 10;
/// How deep references may lead into each other.
const DEPTH: usize = 64;
/// The most places that are looked at.
const STEPS: usize = 200_000;

/// What the chart's schema, and those of the charts inside it, do not allow.
pub(crate) fn warnings(chart: &Chart, values: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(schema) = &chart.schema {
        match serde_json::from_slice(schema) {
            Ok(root) => {
                let left = Cell::new(STEPS);
                let mut check = Check {
                    root: &root,
                    left: &left,
                    problems: Vec::new(),
                };
                check.value(&root, values, "", 0);
                let problems = check.problems.into_iter().take(TOLD);
                all.extend(problems.map(|problem| {
                    format!("{}: values do not fit its schema: {problem}", chart.name())
                }));
            }
            Err(error) => all.push(format!(
                "{}: values.schema.json is not valid JSON: {error}",
                chart.name()
            )),
        }
    }
    for inner in &chart.dependencies {
        all.extend(warnings(
            inner,
            values.get(inner.name()).unwrap_or(&Value::Null),
        ));
    }
    all
}

struct Check<'s> {
    root: &'s Value,
    left: &'s Cell<usize>,
    problems: Vec<String>,
}

impl<'s> Check<'s> {
    fn problem(&mut self, path: &str, text: String) {
        self.problems.push(format!(
            "{}: {text}",
            if path.is_empty() {
                "values"
            } else {
                &path[1..]
            }
        ));
    }

    fn value(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        let Value::Object(rules) = schema else {
            if *schema == Value::Bool(false) {
                self.problem(path, "no value is allowed here".to_owned());
            }
            return;
        };
        self.left.set(self.left.get().saturating_sub(1));
        if depth > DEPTH || self.left.get() == 0 || self.problems.len() > TOLD {
            return;
        }
        if let Some(target) = rules
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|text| self.root.pointer(text.strip_prefix('#')?))
        {
            self.value(target, value, path, depth + 1);
        }
        self.kind(rules, value, path);
        self.limits(rules, value, path);
        self.combined(rules, value, path, depth);
        match value {
            Value::Object(map) => self.object(rules, map, path, depth),
            Value::Array(items) => {
                if let Some(schema) = rules.get("items") {
                    items.iter().enumerate().for_each(|(at, item)| {
                        self.value(schema, item, &format!("{path}.{at}"), depth + 1)
                    });
                }
            }
            _ => {}
        }
    }

    fn kind(&mut self, rules: &Map<String, Value>, value: &Value, path: &str) {
        let wanted: Vec<&str> = match rules.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        let found = kind(value);
        let fits = |wanted: &&str| *wanted == found || *wanted == "number" && found == "integer";
        if !wanted.iter().any(fits) {
            self.problem(
                path,
                format!(
                    "{} is of type {found}, must be {}",
                    text(value),
                    wanted.join(" or ")
                ),
            );
        }
    }

    fn limits(&mut self, rules: &Map<String, Value>, value: &Value, path: &str) {
        let same = |other: &Value| text(other) == text(value);
        if let Some(Value::Array(allowed)) = rules.get("enum")
            && !allowed.iter().any(same)
        {
            let allowed: Vec<String> = allowed.iter().map(text).collect();
            self.problem(
                path,
                format!("{} is not one of {}", text(value), allowed.join(", ")),
            );
        }
        if let Some(only) = rules.get("const").filter(|only| !same(only)) {
            let problem = format!("{} is not allowed, only {} is", text(value), text(only));
            self.problem(path, problem);
        }
        if let Some(number) = value.as_f64() {
            self.bounds(rules, path, ["minimum", "maximum"], number, &text(value));
        }
        if let Value::String(content) = value {
            let length = content.chars().count();
            let what = format!("the length {length} of {}", text(value));
            let names = ["minLength", "maxLength"];
            self.bounds(rules, path, names, length as f64, &what);
            let pattern = rules.get("pattern").and_then(Value::as_str);
            if let Some(pattern) = pattern
                && regex_lite::Regex::new(pattern).is_ok_and(|known| !known.is_match(content))
            {
                self.problem(path, format!("{} does not match {pattern}", text(value)));
            }
        }
    }

    fn bounds(
        &mut self,
        rules: &Map<String, Value>,
        path: &str,
        [least, most]: [&str; 2],
        number: f64,
        what: &str,
    ) {
        let bound = |name: &str| Some((rules.get(name)?, rules.get(name)?.as_f64()?));
        if let Some((least, _)) = bound(least).filter(|(_, least)| number < *least) {
            self.problem(path, format!("{what} is less than {}", text(least)));
        }
        if let Some((most, _)) = bound(most).filter(|(_, most)| number > *most) {
            self.problem(path, format!("{what} is more than {}", text(most)));
        }
    }

    fn combined(&mut self, rules: &'s Map<String, Value>, value: &Value, path: &str, depth: usize) {
        let branches = |name: &str| {
            rules
                .get(name)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        branches("allOf")
            .iter()
            .for_each(|schema| self.value(schema, value, path, depth + 1));
        let passes = |schema: &'s Value| {
            let mut check = Check {
                root: self.root,
                left: self.left,
                problems: Vec::new(),
            };
            check.value(schema, value, path, depth + 1);
            check.problems.is_empty()
        };
        let any = branches("anyOf").is_empty() || branches("anyOf").iter().any(passes);
        let one = branches("oneOf").is_empty()
            || branches("oneOf")
                .iter()
                .filter(|schema| passes(schema))
                .count()
                == 1;
        let not = rules.get("not").is_some_and(passes);
        if !any || !one || not {
            self.problem(
                path,
                "the value must match one of the allowed forms".to_owned(),
            );
        }
    }

    fn object(
        &mut self,
        rules: &'s Map<String, Value>,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) {
        for name in rules
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !map.contains_key(name) {
                self.problem(path, format!("{name} is missing"));
            }
        }
        let known = rules.get("properties").and_then(Value::as_object);
        let patterns: Vec<_> = rules
            .get("patternProperties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(pattern, schema)| Some((regex_lite::Regex::new(pattern).ok()?, schema)))
            .collect();
        for (name, value) in map {
            let path = format!("{path}.{name}");
            let mut matched = false;
            let schemas = known.and_then(|known| known.get(name)).into_iter().chain(
                patterns
                    .iter()
                    .filter(|(pattern, _)| pattern.is_match(name))
                    .map(|(_, schema)| *schema),
            );
            for schema in schemas {
                matched = true;
                self.value(schema, value, &path, depth + 1);
            }
            match rules.get("additionalProperties") {
                Some(Value::Bool(false)) if !matched => {
                    self.problem(&path, "this key is not allowed".to_owned())
                }
                Some(schema @ Value::Object(_)) if !matched => {
                    self.value(schema, value, &path, depth + 1)
                }
                _ => {}
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
            "integer"
        }
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn text(value: &Value) -> String {
    json::write(value, json::Style::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: Value, values: Value) -> Vec<String> {
        let chart = Chart {
            schema: Some(schema.to_string().into_bytes()),
            ..Chart::default()
        };
        warnings(&chart, &values)
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_path() {
        let schema = json!({
            "$defs": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}},
            "type": "object", "required": ["name", "more"], "additionalProperties": false,
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$"}, "ports": {"type": "array", "items": {"$ref": "#/$defs/port"}},
                "mode": {"enum": ["a", "b"]}, "limit": {"anyOf": [{"type": "null"}, {"type": "number"}]},
                "short": {"maxLength": 2}, "only": {"const": 1}, "more": {},
            },
        });
        assert_eq!(
            told(
                schema.clone(),
                json!({"name": "x", "more": 1, "ports": [80.0], "mode": "a", "limit": 1.5})
            ),
            Vec::<String>::new()
        );
        let told = told(
            schema,
            json!({"name": "A1", "ports": [0, "x", 70_000], "mode": "c", "limit": "x", "extra": 1, "short": "abc", "only": 2}),
        )
        .join("\n");
        for expected in [
            "values: more is missing",
            "name: \"A1\" does not match ^[a-z]+$",
            "ports.0: 0 is less than 1",
            "ports.1: \"x\" is of type string, must be integer",
            "ports.2: 70000 is more than 65535",
            "short: the length 3 of \"abc\" is more than 2",
            "only: 2 is not allowed, only 1 is",
            "mode: \"c\" is not one of \"a\", \"b\"",
            "limit: the value must match one of the allowed forms",
            "extra: this key is not allowed",
        ] {
            assert!(told.contains(expected), "{expected} in {told}");
        }
    }

    #[test]
    fn a_schema_that_leads_into_itself_comes_to_an_end() {
        assert!(told(json!({"$ref": "#"}), json!({"a": 1})).is_empty());
        assert!(
            told(
                json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
                json!({"a": 1})
            )
            .is_empty()
        );
        assert_eq!(
            told(json!({"$ref": "#/none", "type": "string"}), json!(1)).len(),
            1
        );
        let chart = Chart {
            schema: Some(b"{".to_vec()),
            ..Chart::default()
        };
        assert!(warnings(&chart, &Value::Null)[0].contains("not valid JSON"));
    }
}
