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
                "{}: values.schema.json is no JSON: {error}",
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
                "the whole"
            } else {
                &path[1..]
            }
        ));
    }

    fn value(&mut self, schema: &'s Value, value: &Value, path: &str, depth: usize) {
        let Value::Object(rules) = schema else {
            if *schema == Value::Bool(false) {
                self.problem(path, "nothing is allowed here".to_owned());
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
                format!("{found} where {} is wanted", wanted.join(" or ")),
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
        if rules.get("const").is_some_and(|only| !same(only)) {
            self.problem(
                path,
                format!("{} is not the only value allowed", text(value)),
            );
        }
        let bound = |name: &str| rules.get(name).and_then(Value::as_f64);
        let is_out = |number: f64| {
            bound("minimum").is_some_and(|least| number < least)
                || bound("maximum").is_some_and(|most| number > most)
        };
        if value.as_f64().is_some_and(is_out) {
            self.problem(path, format!("{} is out of range", text(value)));
        }
        if let Value::String(content) = value {
            let length = content.chars().count() as f64;
            if bound("minLength").is_some_and(|least| length < least)
                || bound("maxLength").is_some_and(|most| length > most)
            {
                self.problem(path, "text of another length is wanted".to_owned());
            }
            let pattern = rules
                .get("pattern")
                .and_then(Value::as_str)
                .and_then(|pattern| regex_lite::Regex::new(pattern).ok());
            if pattern.is_some_and(|pattern| !pattern.is_match(content)) {
                self.problem(path, "text of another form is wanted".to_owned());
            }
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
                "it fits none of the forms allowed, or more than one".to_owned(),
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
                    self.problem(&path, "it is not known".to_owned())
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
            "type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$"}, "ports": {"type": "array", "items": {"$ref": "#/$defs/port"}},
                "mode": {"enum": ["a", "b"]}, "limit": {"anyOf": [{"type": "null"}, {"type": "number"}]},
            },
        });
        assert_eq!(
            told(
                schema.clone(),
                json!({"name": "x", "ports": [80.0], "mode": "a", "limit": 1.5})
            ),
            Vec::<String>::new()
        );
        let told = told(
            schema,
            json!({"ports": [0, "x"], "mode": "c", "limit": "x", "extra": 1}),
        )
        .join("\n");
        for expected in [
            "name is missing",
            "ports.0: 0 is out of range",
            "ports.1: string where integer",
            "mode: \"c\" is not one of \"a\", \"b\"",
            "limit: it fits none",
            "extra: it is not known",
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
        assert!(warnings(&chart, &Value::Null)[0].contains("no JSON"));
    }
}
