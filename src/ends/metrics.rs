//! The table as Prometheus reads it: text that a node exporter's textfile collector, or anything else, picks up.

use std::fmt::Write as _;

use super::{Ends, Row};

/// The media type is that of Prometheus' text format 0.0.4; so are the rules.
pub(crate) fn render(ends: &Ends, mesh: &str) -> String {
    let mut text = String::new();
    let sample = |text: &mut String, name: &str, row: &Row, value: i64| {
        let _ = writeln!(text, "{name}{{{}}} {value}", labels(row, mesh));
    };
    family(
        &mut text,
        "meshlink_end_timestamp_seconds",
        "When something that the mesh needs ends, in seconds since 1970.",
    );
    for row in &ends.rows {
        let until = row.until.as_second();
        sample(&mut text, "meshlink_end_timestamp_seconds", row, until);
    }
    family(
        &mut text,
        "meshlink_end_state",
        "How far it is: 0 fine, 1 due, 2 warning, 3 failing, 4 ended.",
    );
    for row in &ends.rows {
        sample(&mut text, "meshlink_end_state", row, row.state as i64);
    }
    family(
        &mut text,
        "meshlink_ends_read_timestamp_seconds",
        "When this was read, in seconds since 1970.",
    );
    let _ = writeln!(
        text,
        "meshlink_ends_read_timestamp_seconds{{mesh=\"{}\"}} {}",
        escaped(mesh),
        ends.now.as_second()
    );
    text
}

fn family(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn labels(row: &Row, mesh: &str) -> String {
    let members = row.members.join(",");
    let pairs = [
        ("id", row.id.as_str()),
        ("mesh", mesh),
        ("what", row.what.as_str()),
        ("member", &members),
        ("peer", row.peer.as_deref().unwrap_or_default()),
        ("renewal", &row.renewal),
    ];
    // An empty label is one that is not there.
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// The value of a label may be any text, as long as these three are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
