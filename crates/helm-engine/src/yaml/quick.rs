//! The plain part of YAML, read quickly: block maps and lists of plain or quoted scalars, as programs write them.
//!
//! Whatever is not surely that is left to the full reader, so this one never fails: it answers or it does not know.

use serde_json::{Map, Value};

use super::read::{Key, key, scalar};

/// Beyond this the full reader counts.
const DEEP: usize = 100;
/// The longest text that cannot hold too many nodes.
const LONG: usize = 2_000_000;

/// The one document of `text`, if it is plain.
pub(super) fn document(text: &str) -> Option<Value> {
    if text.len() > LONG || !is_plain(text.as_bytes()) {
        return None;
    }
    let mut reader = Quick {
        text,
        at: 0,
        indent: 0,
    };
    if !reader.content() {
        return None;
    }
    let value = reader.node(None, 0)?;
    reader.is_over().then_some(value)
}

/// Whether all of it is printable ASCII and line ends. Eight characters at once: a chart has a million.
fn is_plain(text: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = EACH * 0x80;
    let (eights, rest) = text.as_chunks();
    let printable = |eight: &[u8; 8]| {
        let eight = u64::from_le_bytes(*eight);
        let low = eight & !HIGH;
        // The high bit of each byte: at least a space, and at most a tilde.
        ((low + EACH * 0x60) & !(low + EACH) & !eight & HIGH).count_ones() as usize
    };
    let known: usize = eights.iter().map(printable).sum();
    let known = known + rest.iter().filter(|c| matches!(c, b' '..=b'~')).count();
    known + memchr::memchr_iter(b'\n', text).count() == text.len()
}

fn first_line(text: &str) -> &str {
    &text[..memchr::memchr(b'\n', text.as_bytes()).unwrap_or(text.len())]
}

fn past_spaces(text: &str) -> &str {
    &text[text.bytes().take_while(|c| *c == b' ').count()..]
}

fn without_spaces(text: &str) -> &str {
    let spaces = text.bytes().rev().take_while(|c| *c == b' ').count();
    &text[..text.len() - spaces]
}

/// A place in the text: where content begins, and its column.
struct Quick<'t> {
    text: &'t str,
    at: usize,
    indent: usize,
}

impl<'t> Quick<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn is_over(&self) -> bool {
        self.at >= self.text.len()
    }

    /// From the beginning of a line to the next content, past blank lines and comments; false at the end.
    fn content(&mut self) -> bool {
        loop {
            let rest = self.rest();
            let body = past_spaces(rest);
            self.indent = rest.len() - body.len();
            self.at += self.indent;
            match body.bytes().next() {
                None => return false,
                Some(b'\n') => self.at += 1,
                Some(b'#') => self.at += (first_line(body).len() + 1).min(body.len()),
                Some(_) => return true,
            }
        }
    }

    /// What is left of the line, without spaces around it; the place moves to the next line's beginning.
    fn line(&mut self) -> &'t str {
        let rest = self.rest();
        let line = first_line(rest);
        self.at += (line.len() + 1).min(rest.len());
        without_spaces(past_spaces(line))
    }

    fn is_item(&self) -> bool {
        let rest = self.rest();
        rest.starts_with("- ") || rest.starts_with("-\n") || rest == "-"
    }

    /// Whatever stands here, below a node that begins in column `parent`.
    fn node(&mut self, parent: Option<usize>, depth: usize) -> Option<Value> {
        if depth > DEEP {
            return None;
        }
        if self.is_item() {
            return self.sequence(self.indent, depth);
        }
        if self.key_length().is_some() {
            return self.mapping(self.indent, depth);
        }
        self.scalar(parent?, false)
    }

    fn sequence(&mut self, column: usize, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        while !self.is_over() && self.indent == column && self.is_item() {
            self.at += 1;
            items.push(self.below(column, false, depth)?);
        }
        // A list is followed by something further out, or by the next key of the map it is in.
        (self.is_over() || self.indent <= column).then_some(Value::Array(items))
    }

    fn mapping(&mut self, column: usize, depth: usize) -> Option<Value> {
        let mut map = Map::new();
        while !self.is_over() && self.indent == column {
            let length = self.key_length()?;
            let text = &self.rest()[..length];
            let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
            let name = quoted.unwrap_or(text).to_owned();
            let Ok(Key::Name(name)) = key(None, name, quoted.is_none(), 0) else {
                return None;
            };
            self.at += length + 1;
            let value = self.below(column, true, depth)?;
            if map.insert(name, value).is_some() {
                return None;
            }
        }
        (self.is_over() || self.indent < column).then_some(Value::Object(map))
    }

    /// What belongs to a key or a dash in `column`: on the same line, or on lines further in.
    fn below(&mut self, column: usize, in_map: bool, depth: usize) -> Option<Value> {
        let rest = self.rest();
        let spaces = rest.len() - past_spaces(rest).len();
        self.at += spaces;
        if self.is_over() || self.rest().starts_with('\n') {
            self.line();
            if self.content() {
                if self.indent > column {
                    return self.node(Some(column), depth + 1);
                }
                if in_map && self.indent == column && self.is_item() {
                    return self.sequence(column, depth + 1);
                }
            }
            return Some(Value::Null);
        }
        if in_map {
            return self.scalar(column, true);
        }
        // After a dash: its own column counts for what follows on the same line.
        self.indent = column + 1 + spaces;
        self.node(Some(column), depth + 1)
    }

    /// How long the key is that stands here, if one does: plain, or quoted without escapes.
    fn key_length(&self) -> Option<usize> {
        let rest = self.rest().as_bytes();
        let quoted = usize::from(rest.first() == Some(&b'"'));
        let word =
            |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'/' | b'-' | b'$');
        let length = rest[quoted..].iter().take_while(|c| word(c)).count();
        let end = quoted + length + quoted;
        let begins = matches!(rest.get(quoted), Some(c) if word(c) && *c != b'-');
        let closed = quoted == 0 || rest.get(end - 1) == Some(&b'"');
        let colon =
            rest.get(end) == Some(&b':') && matches!(rest.get(end + 1), None | Some(b' ' | b'\n'));
        // Three dots may end a document, and a key of more than a thousand characters is none.
        let odd = rest.starts_with(b"...") || length > 1000;
        (begins && closed && colon && !odd).then_some(end)
    }

    /// A scalar that begins here and may go on in lines further in than `parent`.
    fn scalar(&mut self, parent: usize, in_map: bool) -> Option<Value> {
        let first = self.rest().bytes().next()?;
        let value = match first {
            b'\'' | b'"' => self.quoted(parent, char::from(first))?,
            b'[' | b'{' => match self.line() {
                "[]" => Value::Array(Vec::new()),
                "{}" => Value::Object(Map::new()),
                line => flow(line)?,
            },
            b'|' => self.literal(parent, in_map)?,
            b'-' if self.is_item() => return None,
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'.'
            | b'/'
            | b'_'
            | b'-'
            | b'$'
            | b'('
            | b'<'
            | b'~'
            | b'+'
            | b'='
            | b'^'
            | b';' => self.plain(parent)?,
            _ => return None,
        };
        let more = self.content();
        (!more || self.indent <= parent).then_some(value)
    }

    fn plain(&mut self, parent: usize) -> Option<Value> {
        let is_plain = |line: &str| {
            let line = line.as_bytes();
            memchr::memchr2_iter(b':', b'#', line).all(|at| match line[at] {
                b':' => line.get(at + 1).is_some_and(|c| *c != b' '),
                _ => at == 0 || line[at - 1] != b' ',
            })
        };
        let first = self.line();
        if !is_plain(first) || first.starts_with("---") || first.starts_with("...") {
            return None;
        }
        let mut text = first.to_owned();
        while let Some(line) = self.continued(parent) {
            if !is_plain(line) || line.starts_with('#') {
                return None;
            }
            text.push(' ');
            text.push_str(line);
            self.line();
        }
        scalar(None, text, true, 0).ok()
    }

    /// The next line, without spaces around it, if it has content further in than `parent`.
    fn continued(&self, parent: usize) -> Option<&'t str> {
        let rest = self.rest();
        let body = past_spaces(rest);
        let line = first_line(body);
        (rest.len() - body.len() > parent && !line.is_empty()).then(|| without_spaces(line))
    }

    /// Text in a block, line by line.
    fn literal(&mut self, parent: usize, in_map: bool) -> Option<Value> {
        let (explicit, mut strip) = match self.line() {
            "|" => (None, false),
            "|-" => (None, true),
            "|2" if in_map => (Some(parent + 2), false),
            "|2-" if in_map => (Some(parent + 2), true),
            _ => return None,
        };
        let first = self.rest().trim_start_matches('\n');
        let inner = first.trim_start_matches(' ');
        // A first line of spaces alone does not say how deep the text stands.
        if inner.is_empty() || inner.starts_with('\n') {
            return None;
        }
        let own = first.len() - inner.len();
        let indent = explicit.unwrap_or(own);
        let mut text = String::new();
        while !self.is_over() {
            let rest = self.rest();
            let line = first_line(rest);
            let spaces = line.len() - past_spaces(line).len();
            let unfinished = line.len() == rest.len();
            if spaces == line.len() && spaces <= indent {
                if unfinished {
                    return None;
                }
            } else if spaces >= indent {
                text.push_str(&line[indent..]);
            } else {
                break;
            }
            // A last line that has no end gives none to the text.
            strip |= unfinished;
            text.push('\n');
            self.at = self.text.len().min(self.at + line.len() + 1);
        }
        let end = text.trim_end_matches('\n').len();
        text.truncate(end + usize::from(!strip));
        (indent > parent && end > 0).then_some(Value::String(text))
    }

    fn quoted(&mut self, parent: usize, quote: char) -> Option<Value> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let line = first_line(rest);
            if quote == '"' && line.contains('\\') {
                return None;
            }
            if let Some(end) = close(line, quote, &mut text) {
                self.at += end;
                return self.line().is_empty().then_some(Value::String(text));
            }
            // A line that ends goes on in the next, with one space between them.
            text.truncate(text.trim_end_matches(' ').len());
            self.line();
            self.continued(parent)?;
            let rest = self.rest();
            self.at += rest.len() - past_spaces(rest).len();
            text.push(' ');
        }
    }
}

/// A list of words on one line: `["a", b]`.
fn flow(line: &str) -> Option<Value> {
    let word = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'/' | b'-' | b'*');
    let item = |text: &str| {
        let text = text.trim_matches(' ');
        let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let inner = quoted.unwrap_or(text);
        let plain = quoted.is_some() || inner.starts_with(|c: char| c.is_ascii_alphabetic());
        if !plain || !inner.bytes().all(word) {
            return None;
        }
        match quoted {
            Some(text) => Some(Value::String(text.to_owned())),
            None => scalar(None, inner.to_owned(), true, 0).ok(),
        }
    };
    let inner = line.strip_prefix('[')?.strip_suffix(']')?;
    inner
        .split(',')
        .map(item)
        .collect::<Option<_>>()
        .map(Value::Array)
}

/// Takes a line's text up to the closing quote, and says where that ends; none if the text goes on.
fn close(line: &str, quote: char, text: &mut String) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = line[at..].find(quote) {
        text.push_str(&line[at..at + found]);
        at += found + 1;
        if quote == '"' || !line[at..].starts_with(quote) {
            return Some(at);
        }
        text.push(quote);
        at += 1;
    }
    text.push_str(&line[at..]);
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::read::thorough, *};

    #[test]
    fn every_character_is_plain_or_not() {
        for byte in 0..=u8::MAX {
            let text: Vec<u8> = (0..19)
                .map(|at| if at == 17 || at == 3 { byte } else { b'x' })
                .collect();
            let expected = matches!(byte, b' '..=b'~' | b'\n');
            assert_eq!(
                (is_plain(&text), is_plain(&[byte])),
                (expected, expected),
                "{byte}"
            );
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn plain_documents_are_read() {
        let text = "# a comment\na: 1\nb:\n- x: 'it''s\n    folded'\n  w: two\n    lines\n  z: |\n    a\n\n      b # c\n\n-\n- - deep\n  - \"q\"\nc:\n  \"d/e\": []\n  f:\n";
        let value = json!({"a": 1.0, "b": [{"x": "it's folded", "w": "two lines", "z": "a\n\n  b # c\n"}, null, ["deep", "q"]],
            "c": {"d/e": [], "f": null}});
        assert_eq!(document(text), Some(value));
        assert_eq!(thorough(text, true).ok(), document(text));
    }

    #[test]
    fn what_is_not_plain_is_left_alone() {
        for text in [
            "",
            "x",
            "a: 1\na: 2\n",
            "a: |+\n  b\n",
            "a: >\n  b\n",
            "a: &x 1\n",
            "a: [b: c]\n",
            "a: b: c\n",
            "a: b # c\n",
            "a: \"\\n\"\n",
            "a:\tb\n",
            "a: é\n",
            "a: 1\n---\nb: 2\n",
            "<<: {}\n",
            "a: 'x\n\n  y'\n",
            "a: b\n\n  c\n",
            "? a\n: b\n",
            "a: 1\n b: 2\n",
            "- a\nb: 1\n",
            "~: 1\n",
            "a: 'b' c\n",
            "a: - b\n",
            "a: .inf\n",
            "a: |\n \n  b\n",
        ] {
            assert_eq!(document(text), None, "{text:?}");
        }
    }

    /// Lines that are nearly plain, put together by chance.
    fn texts() -> impl Strategy<Value = String> {
        let head = prop_oneof![
            Just(""),
            Just("- "),
            Just("- - "),
            Just("-"),
            Just("-   "),
            Just("a: "),
            Just("b:"),
            Just("\"c\": "),
            Just("d/e:  "),
            Just("- a: "),
            Just("- b:"),
            Just("yes: "),
            Just("1: "),
            Just("# "),
            Just("--- "),
            Just("? "),
        ];
        let tail = prop_oneof![
            Just("x"),
            Just("1"),
            Just("two words"),
            Just("'q'"),
            Just("'q"),
            Just("q'"),
            Just("it''s'"),
            Just("\"d\""),
            Just("\"d"),
            Just("[]"),
            Just("{}"),
            Just("- y"),
            Just("a:b"),
            Just("a: b"),
            Just("x #y"),
            Just("x#y"),
            Just("end:"),
            Just("~"),
            Just("-1"),
            Just("- "),
            Just("..."),
            Just("---"),
            Just("no"),
            Just("x  "),
            Just(""),
            Just("|"),
            Just("*a"),
        ];
        let line = (0..5_usize, head, tail)
            .prop_map(|(indent, head, tail)| format!("{}{head}{tail}\n", " ".repeat(indent)));
        (prop::collection::vec(line, 1..7), any::<bool>()).prop_map(|(lines, ends)| {
            let text = lines.concat();
            if ends {
                text
            } else {
                text.trim_end_matches('\n').to_owned()
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_quickly_is_what_is_read_thoroughly(text in texts()) {
            if let Some(value) = document(&text) {
                prop_assert_eq!(thorough(&text, true), Ok(value), "{}", text);
            }
        }
    }
}
