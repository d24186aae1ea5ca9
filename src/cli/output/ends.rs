//! What ends, for people and for Prometheus.

use std::path::Path;

use super::{Style, table::Table, write};
use crate::{
    cli::error::{Failure, hinted},
    ends::{Ends, Row, State, What, metrics},
    spec::Mesh,
};

/// The table, and what to know of its rows.
pub(crate) fn render(ends: &Ends, style: Style) -> String {
    let mut table = Table::new(["ENDS", "IN", "UNTIL", "LEFT", "STATE", "RENEWED BY"]);
    for row in &ends.rows {
        table.row([
            what(row),
            place(row),
            row.until.strftime("%Y-%m-%d").to_string(),
            left(row.days_left),
            word(row.state, style),
            row.renewal.clone(),
        ]);
    }
    let mut text = table.render(style);
    for row in ends.pressing() {
        text += &format!("\n{} {}\n", style.red("!"), row.sentence());
        row.hints
            .iter()
            .for_each(|hint| hinted(&mut text, style, "  ", hint));
    }
    text
}

fn what(row: &Row) -> String {
    let key = row.fingerprint.as_deref().unwrap_or_default();
    match (row.what, row.peer.as_deref()) {
        (What::Root | What::ThrowAwayRoot | What::Intermediate, _) => {
            format!("{} {key}", row.what.as_str())
        }
        (what, Some(peer)) => format!("{} of {peer}", what.as_str()),
        (what, None) => what.as_str().to_owned(),
    }
}

fn place(row: &Row) -> String {
    match row.members.as_slice() {
        [] => "the vault".into(),
        [one] => one.clone(),
        many => format!("{} members", many.len()),
    }
}

fn left(days: i64) -> String {
    match days {
        // Some authorities never end, as far as anybody can tell.
        36_500.. => ">100y".into(),
        730.. => format!("{}y", days / 365),
        days => format!("{days}d"),
    }
}

fn word(state: State, style: Style) -> String {
    match state {
        State::Fine => style.green(state.as_str()),
        State::Due | State::Warning => style.yellow(state.as_str()),
        State::Failing | State::Ended => style.red(state.as_str()),
    }
}

/// Writes the table for Prometheus, whole or not at all: who collects it must not find half of it.
pub(crate) fn export(path: Option<&Path>, ends: &Ends, mesh: &Mesh) -> Result<(), Failure> {
    let Some(path) = path else {
        return Ok(());
    };
    let text = metrics::render(ends, mesh.id.as_str());
    write(path, text.as_bytes())
}
