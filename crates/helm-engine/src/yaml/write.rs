//! Writes YAML as Helm's library does, to the byte: block style, sorted keys, text folded at 80 columns.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    keys,
    resolve::{Scalar, is_sexagesimal, resolve},
    style::{Facts, Style, multiline},
    tree::{Node, Parts, Tree},
};
use crate::json::{DEPTH, general, too_deep};

/// Lines are folded at the first space after this column.
const WIDTH: usize = 80;
/// Keys longer than this are written with `?`.
const SIMPLE_KEY: usize = 128;

/// `value` as Helm's library prints it, with a newline at the end.
pub(crate) fn write(value: &Value) -> Result<String, String> {
    written(Node::Value(value), false)
}

/// What Helm's `toYaml` prints: the same, after [`folded`].
pub(crate) fn write_tree(tree: &Tree) -> Result<String, String> {
    written(Node::Tree(tree), true)
}

fn written(node: Node<'_>, through_json: bool) -> Result<String, String> {
    let mut writer = Writer {
        through_json,
        out: String::new(),
        column: 0,
        indent: -1,
        depth: 0,
        whitespace: true,
        indention: true,
    };
    writer.node(node, false)?;
    writer.line();
    Ok(writer.out)
}

struct Writer {
    through_json: bool,
    out: String,
    column: usize,
    indent: isize,
    depth: usize,
    /// Whether what was written last was white space.
    whitespace: bool,
    /// Whether nothing but indentation was written on this line.
    indention: bool,
}

impl Writer {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn newline(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn line(&mut self) {
        let indent = usize::try_from(self.indent).unwrap_or(0);
        if !self.indention || self.column > indent || self.column == indent && !self.whitespace {
            self.newline();
        }
        if self.column < indent {
            self.out
                .extend(std::iter::repeat_n(' ', indent - self.column));
            self.column = indent;
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, spaced: bool, indention: bool) {
        if spaced && !self.whitespace {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.whitespace = false;
        self.indention &= indention;
    }

    fn node(&mut self, node: Node<'_>, in_mapping: bool) -> Result<(), String> {
        if self.depth > DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        match node.parts() {
            Parts::Scalar(value) => self.value(value)?,
            Parts::List(items) if items.is_empty() => self.empty("[]"),
            Parts::List(items) => self.sequence(items, in_mapping)?,
            Parts::Map(pairs) if pairs.is_empty() => self.empty("{}"),
            Parts::Map(pairs) => self.mapping(pairs)?,
        }
        self.depth -= 1;
        Ok(())
    }

    fn value(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Bool(true) => self.scalar("true", Style::Plain, false),
            Value::Bool(false) => self.scalar("false", Style::Plain, false),
            Value::Number(number) => self.scalar(&digits(number), Style::Plain, false),
            Value::String(text) if self.through_json => self.text(&folded(text)?, false),
            Value::String(text) => self.text(text, false),
            _ => self.scalar("null", Style::Plain, false),
        }
        Ok(())
    }

    fn empty(&mut self, brackets: &str) {
        self.indicator(brackets, true, false);
    }

    fn deeper(&mut self, flat: bool) -> isize {
        let outer = self.indent;
        self.indent = if outer < 0 {
            0
        } else {
            outer + if flat { 0 } else { 2 }
        };
        outer
    }

    fn sequence(&mut self, items: Vec<Node<'_>>, in_mapping: bool) -> Result<(), String> {
        let outer = self.deeper(in_mapping && !self.indention);
        for item in items {
            self.line();
            self.indicator("-", true, true);
            self.node(item, false)?;
        }
        self.indent = outer;
        Ok(())
    }

    fn mapping<'v>(&mut self, mut pairs: Vec<(&'v str, Node<'v>)>) -> Result<(), String> {
        let outer = self.deeper(false);
        keys::sort(&mut pairs);
        for (key, value) in pairs {
            if self.through_json && key.contains(NEXT_LINE) {
                return Err("did not find expected ',' or '}'".to_owned());
            }
            self.line();
            let simple = key.len() <= SIMPLE_KEY && !multiline(key);
            if simple {
                self.text(key, true);
                self.indicator(":", false, false);
            } else {
                self.indicator("?", true, true);
                self.text(key, false);
                self.line();
                self.indicator(":", true, true);
            }
            self.node(value, true)?;
        }
        self.indent = outer;
        Ok(())
    }

    fn text(&mut self, text: &str, key: bool) {
        let style = if text.contains('\n') {
            Style::Literal
        } else if resolve(text) == Scalar::Text && !is_sexagesimal(text) {
            Style::Plain
        } else {
            Style::Double
        };
        self.scalar(text, style, key);
    }

    fn scalar(&mut self, text: &str, wanted: Style, key: bool) {
        let style = Facts::of(text).choose(wanted, text.is_empty(), key);
        let outer = self.indent;
        self.indent = if outer < 0 { 2 } else { outer + 2 };
        match style {
            Style::Plain => self.plain(text, !key),
            Style::Single => self.single(text, !key),
            Style::Double => self.double(text, !key),
            Style::Literal => self.literal(text),
        }
        self.indent = outer;
    }

    fn plain(&mut self, text: &str, fold: bool) {
        if !self.whitespace && !text.is_empty() {
            self.put(' ');
        }
        if text.is_ascii() {
            self.ascii(text, fold);
            self.whitespace = false;
            self.indention = false;
            return;
        }
        let mut spaces = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' && fold && !spaces && self.column > WIDTH && chars.peek() != Some(&' ') {
                self.line();
            } else {
                self.put(c);
            }
            if c != ' ' {
                self.indention = false;
            }
            spaces = c == ' ';
        }
        self.whitespace = false;
        self.indention = false;
    }

    /// Plain text of one byte a character, in pieces: each up to the first single space beyond the width.
    fn ascii(&mut self, text: &str, fold: bool) {
        let bytes = text.as_bytes();
        let space = |at: usize| bytes.get(at) == Some(&b' ');
        let mut start = 0;
        loop {
            let beyond = start + (WIDTH + 1).saturating_sub(self.column);
            let single = |at: &usize| space(*at) && !space(at + 1) && !space(at.wrapping_sub(1));
            let Some(at) = (beyond..bytes.len()).find(single).filter(|_| fold) else {
                break;
            };
            self.out.push_str(&text[start..at]);
            self.column += at - start;
            self.indention = false;
            self.line();
            start = at + 1;
        }
        self.out.push_str(&text[start..]);
        self.column += text.len() - start;
    }

    fn single(&mut self, text: &str, fold: bool) {
        self.indicator("'", true, false);
        let (mut spaces, mut breaks) = (false, false);
        let mut chars = text.chars().enumerate().peekable();
        let last = text.chars().count().saturating_sub(1);
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            if c == ' ' {
                if fold
                    && !spaces
                    && self.column > WIDTH
                    && at > 0
                    && at < last
                    && next != Some(' ')
                {
                    self.line()
                } else {
                    self.put(c)
                }
            } else if matches!(c, '\u{2028}' | '\u{2029}') {
                self.out.push(c);
                self.column = 0;
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.line();
                }
                if c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
            spaces = c == ' ';
        }
        self.indicator("'", false, false);
    }

    fn double(&mut self, text: &str, fold: bool) {
        self.indicator("\"", true, false);
        // Helm's library takes every character of text that begins with a byte order mark for one.
        let marked = text.starts_with('\u{feff}');
        let last = text.chars().count().saturating_sub(1);
        let mut spaces = false;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            if marked || super::style::needs_escape(c) {
                super::style::escape(c).chars().for_each(|c| self.put(c));
                spaces = false;
            } else if c == ' ' {
                if fold && !spaces && self.column > WIDTH && at > 0 && at < last {
                    self.line();
                    if chars.peek().is_some_and(|(_, next)| *next == ' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                spaces = true;
            } else {
                self.put(c);
                spaces = false;
            }
        }
        self.indicator("\"", false, false);
    }

    fn literal(&mut self, text: &str) {
        let is_break = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
        self.indicator("|", true, false);
        if text.starts_with(|c| c == ' ' || is_break(c)) {
            self.indicator("2", false, false);
        }
        let mut ends = text.chars().rev().map(is_break);
        match (ends.next(), ends.next()) {
            (Some(true), Some(false)) => {}
            (Some(true), _) => self.indicator("+", false, false),
            _ => self.indicator("-", false, false),
        }
        self.newline();
        self.indention = true;
        self.whitespace = true;
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                if c == '\n' {
                    self.newline()
                } else {
                    self.out.push(c)
                }
                self.column = 0;
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.line();
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }
}

/// `toYaml` writes JSON and reads that as YAML, where this character ends a line even inside quotes.
const NEXT_LINE: char = '\u{85}';

/// A text as it is after that: its lines are joined by spaces, and every further line end is kept as one.
fn folded(text: &str) -> Result<Cow<'_, str>, String> {
    let Some((first, rest)) = text.split_once(NEXT_LINE) else {
        return Ok(text.into());
    };
    let mut out = first.trim_end_matches(' ').to_owned();
    let mut breaks = 0;
    let mut lines = rest.split(NEXT_LINE).peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let is_marker = |marker| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.starts_with(' ') || rest.is_empty() && !is_last)
        };
        if is_marker("---") || is_marker("...") {
            return Err("found unexpected document indicator".to_owned());
        }
        let line = line.trim_start_matches(' ');
        if line.is_empty() && !is_last {
            breaks += 1;
            continue;
        }
        match breaks {
            0 => out.push(' '),
            breaks => out.extend(std::iter::repeat_n('\n', breaks)),
        }
        breaks = 0;
        out.push_str(if is_last {
            line
        } else {
            line.trim_end_matches(' ')
        });
    }
    Ok(out.into())
}

/// Numbers go through JSON first, so a float without a fraction becomes an integer where it fits.
fn digits(number: &serde_json::Number) -> String {
    if let Some(n) = number.as_i64() {
        return n.to_string();
    }
    if let Some(n) = number.as_u64() {
        return n.to_string();
    }
    let n = number.as_f64().unwrap_or(0.0);
    if n.fract() == 0.0 && n >= i64::MIN as f64 && n < u64::MAX as f64 {
        format!("{}", n as i128)
    } else {
        general(n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_helm_prints_them() {
        let value = json!({
            "b": {"list": ["x", {"k": 1.0}, ["n", []]], "none": {}, "empty": []},
            "a10": "yes", "a9": "1e3", "text": "two\nlines\n", "quoted": "# no comment", "null": null, "big": 1_000_000.0, "f": 1.5, "time": "1:30", "date": "2001-01-01",
        });
        let expected = "a9: \"1e3\"\na10: \"yes\"\nb:\n  empty: []\n  list:\n  - x\n  - k: 1\n  - - \"n\"\n    - []\n  none: {}\nbig: 1000000\ndate: \"2001-01-01\"\nf: 1.5\n\"null\": null\nquoted: '# no comment'\ntext: |\n  two\n  lines\ntime: \"1:30\"\n";
        assert_eq!(write(&value).unwrap(), expected);
    }

    #[test]
    fn scalars_take_the_style_helm_gives_them() {
        for (text, expected) in [
            ("", "\"\"\n"),
            ("x", "x\n"),
            (" lead", "' lead'\n"),
            ("it's: ", "'it''s: '\n"),
            ("tab\there", "\"tab\\there\"\n"),
            ("<<", "<<\n"),
            ("a\nb", "|-\n  a\n  b\n"),
            ("\nb\n\n", "|2+\n\n  b\n\n"),
            ("a \nb", "\"a \\nb\"\n"),
            ("😀", "\"\\U0001F600\"\n"),
            ("é", "é\n"),
            ("\u{feff}x", "\"\\uFEFF\\x78\"\n"),
            ("---x", "'---x'\n"),
            ("-", "'-'\n"),
            ("a:", "'a:'\n"),
            ("a:b#c", "a:b#c\n"),
        ] {
            assert_eq!(write(&json!(text)).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_next_line_character_ends_a_line() {
        for (text, expected) in [
            ("x\u{85}y", "x y\n"),
            ("\u{85}x \u{85}", "' x '\n"),
            ("x \u{85} \u{85} y", "|-\n  x\n  y\n"),
            ("x\u{85} --- y\u{85}---", "x --- y ---\n"),
        ] {
            let tree = Tree::Leaf(json!(text));
            assert_eq!(write_tree(&tree).unwrap(), expected, "{text:?}");
        }
        assert_eq!(write(&json!("x\u{85}y")).unwrap(), "\"x\\Ny\"\n");
        for odd in [
            json!("x\u{85}--- y"),
            json!("x\u{85}...\u{85}"),
            json!({"x\u{85}": 1}),
        ] {
            assert!(write_tree(&Tree::Leaf(odd.clone())).is_err(), "{odd}");
        }
    }

    #[test]
    fn long_text_is_folded_and_read_back() {
        for text in [
            ["word"; 40].join(" "),
            format!("# {}", ["word"; 40].join(" ")),
            format!("\t{}", ["word"; 40].join(" ")),
        ] {
            let value = json!({"k": {"inner": [text]}});
            let printed = write(&value).unwrap();
            assert!(
                printed.lines().count() > 3 && printed.lines().all(|line| line.len() < 100),
                "{printed}"
            );
            assert_eq!(super::super::document(&printed).unwrap(), value);
        }
        let long = json!({"x".repeat(129): {"a": 1}});
        assert!(write(&long).unwrap().starts_with("? xxx"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn text_is_folded_alike_whatever_its_letters(text in "x[x ]{0,40}[-x: ]{60,200}x", deep in 0..3_usize) {
            let value = |letter: &str| (0..deep).fold(json!(text.replace('x', letter)), |v, _| json!({"k": [v]}));
            let others = write(&value("\u{e9}")).unwrap();
            prop_assert_eq!(write(&value("x")).unwrap(), others.replace('\u{e9}', "x"));
        }
    }
}
