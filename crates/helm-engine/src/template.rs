//! Go's templates with Helm's functions.
//!
//! Syntax trees come from `gotmpl`'s parser; they are executed here, because templates of real charts rely on
//! maps being shared: what one template sets in `.Values`, the next one reads. See [`value::Value`].

mod blocks;
pub(crate) mod budget;
pub(crate) mod check;
mod compare;
mod eval;
mod functions;
pub(crate) mod glob;
pub(crate) mod memo;
mod print;
pub(crate) mod semver;
mod set;
mod time;
pub(crate) mod value;

use crate::Fault;
pub(crate) use eval::{Engine, Outside};
pub(crate) use set::Set;

/// A failure as the room's callers see it.
pub(crate) fn failure(chart: &str, file: &str, failure: eval::Failure) -> Fault {
    let (file, line, column) = match failure.place {
        Some(place) => (place.file.to_string(), place.line, place.column),
        None => (file.to_owned(), 1, 0),
    };
    Fault {
        chart: chart.to_owned(),
        file,
        line,
        column,
        reason: failure.reason,
        refused: failure.refused,
        expression: failure.expression,
        value: failure.value,
        via: failure.via,
    }
}
