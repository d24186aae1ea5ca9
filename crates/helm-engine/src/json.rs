//! Numbers and JSON text as Go writes them, so that what is printed and hashed agrees with Helm.

use serde_json::Value;

/// The deepest nesting any document, value or template may have.
pub(crate) const DEPTH: usize = 400;

/// Why a value deeper than that is refused.
pub(crate) fn too_deep() -> String {
    format!("a value is nested deeper than {DEPTH} levels, or holds itself")
}

/// A number as Go's `%v` prints it: shortest digits, with an exponent below -4 and from 6 on.
pub(crate) fn general(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let (mantissa, exponent) = scientific(number);
    if number != 0.0 && !(-4..6).contains(&exponent) {
        return format!(
            "{mantissa}e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
    }
    format!("{number}")
}

/// Shortest digits as mantissa and decimal exponent.
fn scientific(number: f64) -> (String, i32) {
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa.to_owned(), exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}

/// A number as Go's JSON encoder prints it; nothing for what JSON cannot hold.
pub(crate) fn number(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let (mantissa, exponent) = scientific(number);
        return Some(format!(
            "{mantissa}e{}{}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        ));
    }
    Some(format!("{number}"))
}

/// How to write JSON.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// Two spaces of indentation and one member per line.
    pub(crate) pretty: bool,
    /// Leave `<`, `>` and `&` as they are.
    pub(crate) raw: bool,
}

/// JSON text with sorted keys, as Go's encoder writes it.
pub(crate) fn write(value: &Value, style: Style) -> String {
    let mut out = String::new();
    put(&mut out, value, style, 0);
    out
}

fn put(out: &mut String, value: &Value, style: Style, level: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(n) => match n
            .as_i64()
            .map(|n| n.to_string())
            .or_else(|| n.as_u64().map(|n| n.to_string()))
        {
            Some(text) => out.push_str(&text),
            None => out.push_str(&n.as_f64().and_then(number).unwrap_or_default()),
        },
        Value::String(text) => quote(out, text, style.raw),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| (None, item)).collect();
            members(out, ['[', ']'], &items, style, level);
        }
        Value::Object(map) => {
            let mut items: Vec<_> = map
                .iter()
                .map(|(key, value)| (Some(key.as_str()), value))
                .collect();
            items.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            members(out, ['{', '}'], &items, style, level);
        }
    }
}

fn members(
    out: &mut String,
    brackets: [char; 2],
    items: &[(Option<&str>, &Value)],
    style: Style,
    level: usize,
) {
    out.push(brackets[0]);
    for (index, (key, value)) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        line(out, style, level + 1);
        if let Some(key) = key {
            quote(out, key, style.raw);
            out.push_str(if style.pretty { ": " } else { ":" });
        }
        put(out, value, style, level + 1);
    }
    if !items.is_empty() {
        line(out, style, level);
    }
    out.push(brackets[1]);
}

fn line(out: &mut String, style: Style, level: usize) {
    if style.pretty {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    }
}

fn quote(out: &mut String, text: &str, raw: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if !raw => escape(out, c),
            '\u{2028}' | '\u{2029}' => escape(out, c),
            c if c < ' ' => escape(out, c),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, c: char) {
    out.push_str(&format!("\\u{:04x}", c as u32));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_read_as_in_go() {
        for (value, text, json) in [
            (0.0, "0", "0"),
            (1.0, "1", "1"),
            (-1.5, "-1.5", "-1.5"),
            (123_456.0, "123456", "123456"),
            (1_000_000.0, "1e+06", "1000000"),
            (1_234_567.5, "1.2345675e+06", "1234567.5"),
            (0.0001, "0.0001", "0.0001"),
            (0.000_01, "1e-05", "0.00001"),
            (1e-7, "1e-07", "1e-7"),
            (1e21, "1e+21", "1e+21"),
            (1e300, "1e+300", "1e+300"),
        ] {
            assert_eq!(general(value), text);
            assert_eq!(number(value).unwrap(), json);
        }
        assert_eq!(general(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NAN), None);
    }

    #[test]
    fn keys_are_sorted_and_markup_is_escaped() {
        let value = json!({"b": [1, 2.5, null], "a": "<x>&\"\u{1}\n"});
        assert_eq!(
            write(&value, Style::default()),
            "{\"a\":\"\\u003cx\\u003e\\u0026\\\"\\u0001\\n\",\"b\":[1,2.5,null]}"
        );
        assert_eq!(
            write(
                &json!({"a": [], "b": {"c": 1}}),
                Style {
                    pretty: true,
                    raw: false
                }
            ),
            "{\n  \"a\": [],\n  \"b\": {\n    \"c\": 1\n  }\n}"
        );
        assert_eq!(
            write(
                &json!("<"),
                Style {
                    pretty: false,
                    raw: true
                }
            ),
            "\"<\""
        );
    }
}
