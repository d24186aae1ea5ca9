//! Label and field selectors.

use serde_json::Value;

use super::status::Failure;

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// What a list or a watch is limited to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Rule>,
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, Failure> {
        let labels = clauses(labels)
            .into_iter()
            .map(rule)
            .collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|f| !f.is_empty())
            .map(field)
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// The one name a field selector may ask for.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|rule| rule.holds(labels))
            && self
                .fields
                .iter()
                .all(|(path, value, equal)| (field_of(object, path) == *value) == *equal)
    }
}

fn field_of(object: &Value, path: &str) -> String {
    match object.pointer(&format!("/{}", path.replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Splits at commas outside of parentheses.
fn clauses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|p| !p.is_empty());
    parts
}

fn rule(clause: &str) -> Result<Rule, Failure> {
    let wrong = || Failure::bad_request(format!("unable to parse requirement: {clause:?}"));
    if let Some((head, values)) = clause.strip_suffix(')').and_then(|c| c.split_once('(')) {
        let values = values.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next()) {
            (Some(key), Some("in")) => Ok(Rule::In(key.into(), values)),
            (Some(key), Some("notin")) => Ok(Rule::NotIn(key.into(), values)),
            _ => Err(wrong()),
        };
    }
    if let Some((key, value)) = clause.split_once("!=") {
        return Ok(Rule::NotIn(key.trim().into(), vec![value.trim().into()]));
    }
    if let Some((key, value)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
        return Ok(Rule::In(key.trim().into(), vec![value.trim().into()]));
    }
    if let Some(word) = clause.split_whitespace().nth(1) {
        let message = format!(
            "unable to parse requirement: found '{word}', expected: in, notin, =, ==, !=, gt, lt"
        );
        return Err(Failure::bad_request(message));
    }
    Ok(clause.strip_prefix('!').map_or_else(
        || Rule::Exists(clause.into()),
        |key| Rule::Missing(key.into()),
    ))
}

fn field(clause: &str) -> Result<(String, String, bool), Failure> {
    let parts = clause.split_once("!=").map(|p| (p, false));
    let parts = parts.or_else(|| {
        clause
            .split_once("==")
            .or_else(|| clause.split_once('='))
            .map(|p| (p, true))
    });
    let ((path, value), equal) = parts.ok_or_else(|| {
        Failure::bad_request(format!(
            "invalid selector: '{clause}'; can't understand '{clause}'"
        ))
    })?;
    Ok((path.trim().into(), value.trim().into(), equal))
}

impl Rule {
    fn holds(&self, labels: &Value) -> bool {
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::In(key, values) => label(key).is_some_and(|l| values.iter().any(|v| v == l)),
            Self::NotIn(key, values) => label(key).is_none_or(|l| values.iter().all(|v| v != l)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_as_a_table() {
        let object = json!({"metadata": {"name": "x", "labels": {"app": "web", "tier": "front"}}, "status": {"phase": "Running"}});
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier", "", true),
            ("app!=web", "", false),
            ("other!=web", "", true),
            ("app in (web, api),!gone", "", true),
            ("app notin (web,api)", "", false),
            ("gone", "", false),
            ("", "metadata.name=x", true),
            ("", "metadata.name!=x", false),
            ("app=web", "status.phase=Running", true),
            ("", "spec.nodeName=", true),
        ] {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
        }
        assert!(Selector::parse("a b c", "").is_err());
        assert!(Selector::parse("", "nonsense").is_err());
    }
}
