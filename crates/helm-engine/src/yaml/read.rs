//! YAML text to values, within limits and with places for errors.

use std::{borrow::Cow, collections::HashMap};

use base64::Engine as _;
use granit_parser::{
    ErrorKind, Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag,
};
use serde_json::{Map, Number, Value};

use super::resolve::{Scalar, resolve};
use crate::json::DEPTH;

/// The most nodes one text may expand to, aliases included.
const NODES: usize = 2_000_000;

/// Stands for a byte order mark inside a text, which the parser refuses and Helm's library takes.
const MARK: char = '\u{f8f0}';
/// The most lines of quoted text whose indentation is mended.
const MENDED: usize = 200;
/// The most bytes that are read again for that.
const AGAIN: usize = 64 << 20;
/// So many bytes of text that is anchored count as a node each time it is repeated.
const TEXT: usize = 64;

/// The first document of `text`; null if there is none.
pub(crate) fn document(text: &str) -> Result<Value, String> {
    first(text, false)
}

/// Like [`document`], but a key that is there twice is an error.
pub(crate) fn strict_document(text: &str) -> Result<Value, String> {
    first(text, true)
}

fn first(text: &str, strict: bool) -> Result<Value, String> {
    mended(text, |text| Reader::new(text, strict).next_document()).map(Option::unwrap_or_default)
}

/// Every document of `text`.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    mended(text, |text| {
        let mut reader = Reader::new(text, false);
        std::iter::from_fn(|| reader.next_document().transpose()).collect()
    })
}

/// Why a text could not be read.
enum Problem {
    /// A line inside quotes is indented less than YAML 1.2 wants; 1.1 does not mind.
    Indent(usize),
    Other(String),
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

/// Reads text that is YAML 1.1 with a parser for 1.2: what the older version allows is mended where it is found.
/// White space at the beginning of a line inside quotes means nothing, so more of it changes nothing.
fn mended<T>(text: &str, read: impl Fn(&str) -> Result<T, Problem>) -> Result<T, String> {
    let mut text = Cow::Borrowed(text);
    if text.contains(['\u{85}', '\u{feff}', '\r']) {
        let start = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        text = Cow::Owned(
            text[start..]
                .replace("\r\n", "\n")
                .replace(['\u{85}', '\r'], "\n")
                .replace('\u{feff}', &MARK.to_string()),
        );
    }
    for _ in 0..MENDED.min(AGAIN / text.len().max(1)).max(1) {
        match read(&text) {
            Ok(value) => return Ok(value),
            Err(Problem::Other(reason)) => return Err(reason),
            Err(Problem::Indent(line)) => {
                let found = text.split('\n').nth(line.saturating_sub(1));
                if found.is_some_and(is_indicator) {
                    return Err(format!("line {line}: found unexpected document indicator"));
                }
                let lines = text.split_inclusive('\n').enumerate();
                let indent = " ".repeat(DEPTH);
                text = Cow::Owned(
                    lines
                        .map(|(at, text)| {
                            if at + 1 == line {
                                format!("{indent}{text}")
                            } else {
                                text.to_owned()
                            }
                        })
                        .collect(),
                );
            }
        }
    }
    Err("too many lines of quoted text are indented less than their key".to_owned())
}

/// Whether a document begins or ends with this line, which it may not do inside quotes.
fn is_indicator(line: &str) -> bool {
    let rest = line.strip_prefix("---").or(line.strip_prefix("..."));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, (Value, usize)>,
    strict: bool,
    nodes: usize,
    /// The bytes of all scalars so far, those that were repeated included.
    text: usize,
    /// The line the last event ended on.
    ended: usize,
    /// The number of characters, if the last line has no end.
    length: Option<usize>,
}

/// A key, with what it looked like, since only a plain `<<` merges.
enum Key {
    Name(String),
    Merge,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, strict: bool) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            anchors: HashMap::new(),
            strict,
            nodes: 0,
            text: 0,
            ended: 0,
            length: (!text.ends_with('\n')).then(|| text.chars().count()),
        }
    }

    /// The next event and its line.
    fn event(&mut self) -> Result<(Event<'t>, usize), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.ended = span.end.line();
                Ok((self.unterminated(event, &span), span.start.line()))
            }
            Some(Err(error)) if matches!(error.kind(), ErrorKind::InvalidQuotedScalarIndent) => {
                Err(Problem::Indent(error.marker().line()))
            }
            Some(Err(error)) => Err(Problem::Other(format!(
                "line {}: {}",
                error.marker().line(),
                error.info()
            ))),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// Text in a block that the input ends in has no line end that the input does not have.
    fn unterminated(&self, event: Event<'t>, span: &Span) -> Event<'t> {
        match event {
            Event::Scalar(
                text,
                style @ (ScalarStyle::Literal | ScalarStyle::Folded),
                anchor,
                tag,
            ) if self.length.is_some_and(|length| span.end.index() >= length) => {
                let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
                Event::Scalar(text.into(), style, anchor, tag)
            }
            event => event,
        }
    }

    fn next_document(&mut self) -> Result<Option<Value>, Problem> {
        loop {
            match self.event()?.0 {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(..) => {
                    self.anchors.clear();
                    let (event, line) = self.event()?;
                    return self.node(event, line, 0).map(Some);
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'t>, line: usize, depth: usize) -> Result<Value, Problem> {
        if depth > DEPTH {
            return Err(format!("line {line}: nested deeper than {DEPTH} levels").into());
        }
        self.count(1, line)?;
        let before = (self.nodes, self.text);
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let (value, size) = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| format!("line {line}: an anchor contains itself"))?;
                self.count(size, line)?;
                return Ok(value);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.text += text.len();
                let plain = style == ScalarStyle::Plain;
                let value = scalar(tag.as_deref(), text.into_owned(), plain, line)?;
                (anchor, value)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(style, anchor, _) => {
                (anchor, self.mapping(depth, style == StructureStyle::Flow)?)
            }
            _ => return Err(format!("line {line}: did not find expected node content").into()),
        };
        if anchor > 0 {
            // What is kept for being repeated is a copy, and copies of copies grow like repetitions.
            let text = (self.text - before.1) / TEXT;
            let size = self.nodes - before.0 + 1 + text;
            self.count(size, line)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES {
            Err(format!("line {line}: more than {NODES} nodes"))
        } else {
            Ok(())
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.event()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            items.push(self.node(event, line, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize, flow: bool) -> Result<Value, Problem> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        loop {
            let (event, line) = self.event()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(..) if flow && self.ended > line => {
                    return Err(format!("line {line}: did not find expected ',' or '}}'").into());
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.text += text.len();
                    if anchor > 0 {
                        let size = 1 + text.len() / TEXT;
                        self.anchors
                            .insert(anchor, (Value::String(text.to_string()), size));
                    }
                    key(
                        tag.as_deref(),
                        text.into_owned(),
                        style == ScalarStyle::Plain,
                        line,
                    )?
                }
                Event::Alias(_) => match self.node(event, line, depth + 1)? {
                    Value::String(name) => Key::Name(name),
                    other => Key::Name(other.to_string()),
                },
                _ => return Err(format!("line {line}: a key is not a scalar").into()),
            };
            let (event, line) = self.event()?;
            let value = self.node(event, line, depth + 1)?;
            match key {
                Key::Merge => merged.push((value, line)),
                Key::Name(name) => {
                    if self.strict && map.contains_key(&name) {
                        return Err(
                            format!("line {line}: key \"{name}\" already set in map").into()
                        );
                    }
                    map.insert(name, value);
                }
            }
        }
        for (value, line) in merged {
            merge(&mut map, value, line)?;
        }
        Ok(Value::Object(map))
    }
}

fn unmarked(text: String) -> String {
    if text.contains(MARK) {
        text.replace(MARK, "\u{feff}")
    } else {
        text
    }
}

/// The merge key of YAML 1.1: what is already there wins.
fn merge(map: &mut Map<String, Value>, value: Value, line: usize) -> Result<(), String> {
    let sources = match value {
        Value::Object(source) => vec![Value::Object(source)],
        Value::Array(sources) => sources,
        _ => {
            return Err(format!(
                "line {line}: map merge requires map or sequence of maps as the value"
            ));
        }
    };
    for source in sources {
        let Value::Object(source) = source else {
            return Err(format!(
                "line {line}: map merge requires map or sequence of maps as the value"
            ));
        };
        for (key, value) in source {
            map.entry(key).or_insert(value);
        }
    }
    Ok(())
}

fn scalar(tag: Option<&Tag>, text: String, plain: bool, line: usize) -> Result<Value, String> {
    let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
    let resolved = match tag
        .as_deref()
        .map(|tag| tag.strip_prefix("tag:yaml.org,2002:").unwrap_or(tag))
    {
        None if plain => resolve(&text),
        None | Some("str" | "!") => Scalar::Text,
        Some("binary") => {
            let packed: String = text.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(packed)
                .map_err(|_| format!("line {line}: !!binary value contains invalid base64 data"))?;
            return Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        }
        Some("float") => match resolve(&text) {
            Scalar::Int(n) => Scalar::Float(n as f64),
            other => other,
        },
        Some("bool" | "int" | "null" | "timestamp") => resolve(&text),
        Some(_) => Scalar::Text,
    };
    Ok(match resolved {
        Scalar::Null => Value::Null,
        Scalar::Bool(flag) => Value::Bool(flag),
        Scalar::Int(n) => float(n as f64, line)?,
        Scalar::Uint(n) => float(n as f64, line)?,
        Scalar::Float(n) => float(n, line)?,
        Scalar::Date | Scalar::Text => Value::String(unmarked(text)),
    })
}

fn float(number: f64, line: usize) -> Result<Value, String> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| {
        format!(
            "line {line}: unsupported value: {}",
            crate::json::general(number)
        )
    })
}

fn key(tag: Option<&Tag>, text: String, plain: bool, line: usize) -> Result<Key, String> {
    if !plain || tag.is_some() {
        return Ok(Key::Name(unmarked(text)));
    }
    if text == "<<" {
        return Ok(Key::Merge);
    }
    Ok(match resolve(&text) {
        Scalar::Null => return Err(format!("line {line}: a key is null")),
        Scalar::Bool(flag) => Key::Name(flag.to_string()),
        Scalar::Int(n) => Key::Name(n.to_string()),
        Scalar::Uint(n) => Key::Name(n.to_string()),
        Scalar::Float(n) => Key::Name(match crate::json::general(f64::from(n as f32)).as_str() {
            "+Inf" => ".inf".to_owned(),
            "-Inf" => "-.inf".to_owned(),
            "NaN" => ".nan".to_owned(),
            other => other.to_owned(),
        }),
        Scalar::Date | Scalar::Text => Key::Name(unmarked(text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_read_with_floats_text_keys_and_merges() {
        let value = document(
            "a: &x {b: 1, c: yes}\nd:\n  <<: *x\n  b: 2\n1: one\ntrue: t\ndate: 2001-12-14\n",
        )
        .unwrap();
        assert_eq!(
            value,
            json!({"a": {"b": 1.0, "c": true}, "d": {"b": 2.0, "c": true}, "1": "one", "true": "t", "date": "2001-12-14"})
        );
        assert_eq!(
            documents("---\na: 1\n---\n---\nb\n").unwrap(),
            [json!({"a": 1.0}), Value::Null, json!("b")]
        );
        assert_eq!(document("").unwrap(), Value::Null);
        assert_eq!(document("!!str 12").unwrap(), json!("12"));
        assert_eq!(document("'12'").unwrap(), json!("12"));
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_line() {
        for (text, expected) in [
            ("a: 1\nb: [", "line"),
            ("a: *x", "line 1"),
            ("~: 1", "a key is null"),
            ("a: .inf", "unsupported value"),
            ("<<: 1", "merge requires"),
            ("a: 'x\n--- y'", "document indicator"),
            ("a: \"x\u{85}... y\"", "document indicator"),
        ] {
            let error = document(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(
            strict_document("a: 1\na: 2")
                .unwrap_err()
                .contains("already set")
        );
        assert_eq!(document("a: 1\na: 2").unwrap(), json!({"a": 2.0}));
    }

    #[test]
    fn what_yaml_1_1_allows_is_read() {
        for (text, expected) in [
            (
                "a:\n  b: \"one\n  two\nthree\"\nc: 1\n",
                json!({"a": {"b": "one two three"}, "c": 1.0}),
            ),
            ("a: \"x\u{85}y\"", json!({"a": "x y"})),
            ("a:\n  b: 'x \u{85} \u{85} y'", json!({"a": {"b": "x\ny"}})),
            ("a: \"x\ry\"\rb: 1\r\n", json!({"a": "x y", "b": 1.0})),
            ("a: x\u{feff}y", json!({"a": "x\u{feff}y"})),
            ("\u{feff}a: 1", json!({"a": 1.0})),
            ("a: |\n  text", json!({"a": "text"})),
            ("a: |", json!({"a": ""})),
        ] {
            assert_eq!(document(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
        for (from, to) in ["ab", "bc", "cd", "de", "ef", "fg", "gh"]
            .iter()
            .map(|pair| (&pair[..1], &pair[1..]))
        {
            text.push_str(&format!(
                "{to}: &{to} [{}]\n",
                vec![format!("*{from}"); 10].join(",")
            ));
        }
        assert!(document(&text).unwrap_err().contains("nodes"));
        // Few nodes, but long ones; and copies that anchors keep of what anchors keep.
        let long = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(1 << 20),
            "*a,".repeat(200_000)
        );
        assert!(document(&long).unwrap_err().contains("nodes"));
        let inner = "x,".repeat(100_000);
        let nested: String = (0..100).map(|at| format!("&a{at} [")).collect();
        let nested = format!("{nested}{inner}{}", "]".repeat(100));
        assert!(document(&nested).unwrap_err().contains("nodes"));
        assert!(document(&"[".repeat(10_000)).is_err());
        assert!(document(&"- ".repeat(10_000)).is_err());
    }
}
