//! What a rendering has read from YAML and written to it.
//!
//! Istio's base chart reads each of its resource definitions twice, writes it, and Helm reads what was written:
//! a megabyte, three times. The second and the third time the answer is known. Without this, base, istiod and gateway
//! take 720 million instructions to render instead of 340 million (valgrind, profile `dist`): 70 ms instead of 35.

use std::{collections::HashMap, rc::Rc};

use serde_json::{Map, Value};

use crate::yaml::Tree;

/// Shorter texts are read again sooner than they are found.
const WORTH: usize = 1 << 10;
/// The most bytes of text that are remembered.
const MOST: usize = 64 << 20;

/// What is known already.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    read: Option<(Rc<str>, Rc<Map<String, Value>>)>,
    written: HashMap<Rc<str>, Tree>,
    bytes: usize,
}

impl Memo {
    /// What the text that was read last held, if it is this one. It is given away: charts read twice, not thrice.
    pub(super) fn known(&mut self, text: &Rc<str>) -> Option<Rc<Map<String, Value>>> {
        let known = |(last, _): &mut (Rc<str>, _)| Rc::ptr_eq(last, text) || last == text;
        self.read.take_if(known).map(|(_, map)| map)
    }

    /// Remembers what a text holds.
    pub(super) fn was_read(&mut self, text: Rc<str>, map: Rc<Map<String, Value>>) {
        if text.len() >= WORTH {
            self.read = Some((text, map));
        }
    }

    /// Remembers what a text was written from, if it reads back as just that.
    pub(super) fn was_written(&mut self, text: &Rc<str>, tree: Tree) {
        let room = self.bytes + text.len() <= MOST;
        if text.len() >= WORTH && room && matches!(tree, Tree::Map(..)) && reads_back(text, &tree) {
            self.bytes += text.len();
            self.written.insert(text.clone(), tree);
        }
    }

    /// What a document holds that is one text we wrote, below comments. It is given away: nobody asks twice.
    pub(crate) fn take(&mut self, document: &str) -> Option<Value> {
        let mut body = document;
        while let Some((line, rest)) = body.split_once('\n')
            && (line.starts_with('#') || line.is_empty())
        {
            body = rest;
        }
        self.written
            .remove(body.strip_suffix('\n')?)
            .map(Value::from)
    }
}

/// Whether reading gives back what was written, for all we know: plain text (control characters are never written as
/// they are, and U+0085 not at all), no key that means more than itself, and numbers as they are read.
fn reads_back(text: &str, tree: &Tree) -> bool {
    text.is_ascii() && memchr::memmem::find(text.as_bytes(), b"<<:").is_none() && is_read(tree)
}

fn is_read(tree: &Tree) -> bool {
    match tree {
        Tree::Leaf(Value::Number(number)) => number.is_f64(),
        Tree::Leaf(value) => is_kept(value),
        Tree::List(items) => items.iter().all(is_read),
        Tree::Map(pairs, rest) => {
            pairs.iter().all(|(_, value)| is_read(value))
                && rest.iter().flat_map(|rest| rest.values()).all(is_kept)
        }
    }
}

/// Whether no text in it is changed by being written.
fn is_kept(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\u{85}'),
        Value::Array(items) => items.iter().all(is_kept),
        Value::Object(map) => map.values().all(is_kept),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::yaml;

    fn written(value: &Value) -> String {
        let text = yaml::write_tree(&Tree::Leaf(value.clone())).unwrap();
        text.trim_end_matches('\n').into()
    }

    /// A map as templates hand it on: some of it looked at, the rest as it was read.
    fn tree(value: Value, looked_at: usize) -> Tree {
        let Value::Object(map) = value else {
            return Tree::Leaf(value);
        };
        let seen = map.iter().take(looked_at);
        let seen = seen.map(|(k, v)| (k.as_str().into(), tree(v.clone(), looked_at)));
        Tree::Map(seen.collect(), Some(Rc::new(map)))
    }

    #[test]
    fn a_document_below_comments_is_known_once() {
        let value = json!({"a": "x".repeat(WORTH), "n": 5.0});
        let text: Rc<str> = written(&value).into();
        let mut memo = Memo::default();
        memo.was_written(&text, tree(value, 1));
        assert!(memo.take(&text).is_none(), "its last line has no end");
        let document = format!("# one\n\n# two\n{text}\n");
        let known = memo.take(&document).unwrap();
        assert_eq!(known, yaml::strict_document(&document).unwrap());
        assert!(memo.take(&document).is_none());
    }

    #[test]
    fn what_reads_back_as_something_else_is_not_remembered() {
        let long = "x".repeat(WORTH);
        for odd in [
            json!({"<<": {"a": 1}, "l": long}),
            json!({"a": "\u{e9}", "l": long}),
            json!({"a": 5, "l": long}),
            json!({"a": "x\u{85}y", "l": long}),
        ] {
            let text: Rc<str> = written(&odd).into();
            let mut memo = Memo::default();
            memo.was_written(&text, tree(odd, 9));
            assert!(memo.take(&format!("{text}\n")).is_none(), "{text}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[ -~\n]{0,40}".prop_map(Value::from),
            "[\\x00-\\x20\\x7f-\\xa0\u{feff}\u{2028}a]{0,4}".prop_map(Value::from),
            any::<i32>().prop_map(|n| f64::from(n).into()),
            (-1e9..1e9_f64).prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ -~\n]{0,12}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn what_is_remembered_is_what_would_be_read(value in values(), rest in "[ -~\n]{0,10}", looked_at in 0..3_usize) {
            let value = json!({"first": "x".repeat(WORTH), "value": value, "z": rest});
            let Ok(mut text) = yaml::write_tree(&Tree::Leaf(value.clone())) else {
                return Ok(());
            };
            text.pop();
            let text: Rc<str> = text.into();
            let mut memo = Memo::default();
            memo.was_written(&text, tree(value, looked_at));
            let document = format!("# a comment\n{text}\n");
            if let Some(known) = memo.take(&document) {
                prop_assert_eq!(yaml::strict_document(&document), Ok(known));
            }
        }
    }
}
