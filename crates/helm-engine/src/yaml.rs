//! YAML as Helm reads and writes it: version 1.1, every number a float, JSON's data model.

use base64::Engine as _;

mod keys;
mod read;
mod resolve;
mod style;
mod tree;
mod write;

pub(crate) use read::{document, documents, strict_document};
pub(crate) use tree::Tree;
pub(crate) use write::{write, write_tree};

/// Bytes as YAML and JSON carry them.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// An integer as Go's `ParseInt` reads it, prefixes included.
pub(crate) fn integer(text: &str) -> Option<i64> {
    match resolve::integer(text)? {
        resolve::Scalar::Int(n) => Some(n),
        _ => None,
    }
}
