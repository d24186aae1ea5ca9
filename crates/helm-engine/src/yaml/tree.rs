//! What is to be written: plain values, and parts of what was read that nobody has changed.

use std::rc::Rc;

use serde_json::{Map, Value};

/// A value to be written.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    /// Neither a list nor a map, or all of one.
    Leaf(Value),
    List(Vec<Tree>),
    /// Pairs, and a map that has them all beside: the pairs count before it.
    Map(Vec<(Rc<str>, Tree)>, Option<Rc<Map<String, Value>>>),
}

impl From<Tree> for Value {
    fn from(tree: Tree) -> Self {
        match tree {
            Tree::Leaf(value) => value,
            Tree::List(items) => items.into_iter().map(Self::from).collect(),
            Tree::Map(pairs, rest) => {
                let mut map = rest.map(Rc::unwrap_or_clone).unwrap_or_default();
                map.extend(pairs.into_iter().map(|(k, v)| (k.to_string(), v.into())));
                Self::Object(map)
            }
        }
    }
}

/// A node of either, by reference.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node<'v> {
    Value(&'v Value),
    Tree(&'v Tree),
}

/// What a node is made of.
pub(super) enum Parts<'v> {
    Scalar(&'v Value),
    List(Vec<Node<'v>>),
    Map(Vec<(&'v str, Node<'v>)>),
}

impl<'v> Node<'v> {
    pub(super) fn parts(self) -> Parts<'v> {
        match self {
            Self::Value(Value::Array(items)) | Self::Tree(Tree::Leaf(Value::Array(items))) => {
                Parts::List(items.iter().map(Node::Value).collect())
            }
            Self::Value(Value::Object(map)) | Self::Tree(Tree::Leaf(Value::Object(map))) => {
                Parts::Map(values(map).collect())
            }
            Self::Value(value) | Self::Tree(Tree::Leaf(value)) => Parts::Scalar(value),
            Self::Tree(Tree::List(items)) => Parts::List(items.iter().map(Node::Tree).collect()),
            Self::Tree(Tree::Map(pairs, rest)) => {
                let mut all: Vec<_> = pairs.iter().map(|(k, v)| (&**k, Node::Tree(v))).collect();
                let own = all.len();
                for (key, value) in rest.iter().flat_map(|rest| values(rest)) {
                    if !all[..own].iter().any(|(known, _)| *known == key) {
                        all.push((key, value));
                    }
                }
                Parts::Map(all)
            }
        }
    }
}

fn values(map: &Map<String, Value>) -> impl Iterator<Item = (&str, Node<'_>)> {
    map.iter().map(|(k, v)| (k.as_str(), Node::Value(v)))
}
