//! What ends, each on a line of time that is wide where it matters: the days to come.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{mark, markup::Text, state};
use crate::{
    cli::output::plain::count,
    ends::{Ends, Row, State, What},
};

/// More rows of one kind than this are one line.
const SAME: usize = 4;
/// More rows about which somebody has to know than this are not listed.
const LONGEST: usize = 40;
const DAY: f64 = 86_400.0;
const WIDTH: f64 = 600.0;
/// What the line begins and ends with, in days from now.
const FROM: f64 = -400.0;
const TO: f64 = 3_700.0;
const TICKS: [(f64, &str); 8] = [
    (-365.0, "−1 y"),
    (-30.0, "−30 d"),
    (0.0, "now"),
    (7.0, "7 d"),
    (30.0, "30 d"),
    (90.0, "90 d"),
    (365.0, "1 y"),
    (3_650.0, "10 y"),
];

/// One line of it.
struct Line {
    what: String,
    note: Option<String>,
    state: State,
    since: Option<f64>,
    /// The first end, and the last where it stands for several.
    until: (f64, f64),
    told: String,
}

/// The lines, what presses first.
pub(super) fn render(ends: &Ends) -> String {
    if ends.rows.is_empty() {
        return "<p>Nothing is known that ends.</p>\n".into();
    }
    let lines = lines(ends);
    let mut text = String::from(
        "<p class=\"small\">The scale is not even: days near now are wider than years.</p>\n<ol class=\"timeline\">\n",
    );
    text += "<li class=\"axis\" aria-hidden=\"true\"><span></span><svg viewBox=\"0 0 600 20\">";
    for (days, word) in TICKS {
        let _ = write!(
            text,
            "<text x=\"{:.1}\" y=\"14\" text-anchor=\"middle\">{word}</text>",
            place(days).clamp(18.0, WIDTH - 18.0)
        );
    }
    text += "</svg><span></span></li>\n";
    for line in &lines {
        one(line, &mut text);
    }
    text += "</ol>\n";
    let pressing = ends.pressing().count();
    if pressing > LONGEST {
        let _ = writeln!(
            text,
            "<p class=\"small\">{} more that press; meshlink ca status shows all.</p>",
            pressing - LONGEST
        );
    }
    text
}

fn lines(ends: &Ends) -> Vec<Line> {
    let mut pressing: Vec<_> = ends.pressing().collect();
    pressing.sort_by(|a, b| (b.state, a.until).cmp(&(a.state, b.until)));
    let mut lines: Vec<_> = pressing
        .iter()
        .take(LONGEST)
        .map(|r| single(r, ends.now))
        .collect();
    let mut kinds: Vec<Vec<&Row>> = vec![];
    for row in ends.rows.iter().filter(|r| r.state < State::Warning) {
        match kinds.iter_mut().find(|k| {
            k.first()
                .is_some_and(|f| (f.what, f.state) == (row.what, row.state))
        }) {
            Some(kind) => kind.push(row),
            None => kinds.push(vec![row]),
        }
    }
    for kind in kinds {
        match kind.as_slice() {
            many if many.len() > SAME => lines.extend(several(many, ends.now)),
            few => lines.extend(few.iter().map(|r| single(r, ends.now))),
        }
    }
    lines
}

fn days(at: Timestamp, now: Timestamp) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of some centuries at most"
    )]
    let seconds = (at.as_second() - now.as_second()) as f64;
    seconds / DAY
}

fn single(row: &Row, now: Timestamp) -> Line {
    let until = days(row.until, now);
    let verb = match (row.what, row.state) {
        // It opens as much as before.
        (What::Token, _) if row.note.is_some() => "to be replaced by",
        (_, State::Ended) => "ended",
        _ => "ends",
    };
    Line {
        what: row.subject(),
        note: row.note.clone(),
        state: row.state,
        since: row.since.map(|since| days(since, now)),
        until: (until, until),
        told: format!(
            "{verb} {} ({} left)",
            row.until.strftime("%Y-%m-%d"),
            left(row.days_left)
        ),
    }
}

fn several(rows: &[&Row], now: Timestamp) -> Option<Line> {
    let first = rows.iter().min_by_key(|r| r.until)?;
    let last = rows.iter().max_by_key(|r| r.until)?;
    let day = |row: &Row| row.until.strftime("%Y-%m-%d").to_string();
    let told = match (day(first), day(last)) {
        (first_day, last_day) if first_day == last_day => {
            format!("all end {first_day} ({} left)", left(first.days_left))
        }
        (first_day, last_day) => {
            format!(
                "the first ends {first_day} ({} left), the last {last_day}",
                left(first.days_left)
            )
        }
    };
    Some(Line {
        what: match first.what {
            What::ApiCa => format!("{} CAs of API servers", rows.len()),
            what => count(rows.len(), &what.as_str().replace('-', " ")),
        },
        note: None,
        state: first.state,
        since: None,
        until: (days(first.until, now), days(last.until, now)),
        told,
    })
}

/// Where on the line a day is.
fn place(days: f64) -> f64 {
    let bent = |d: f64| (d.abs() / 2.0).ln_1p().copysign(d);
    let part = (bent(days.clamp(FROM, TO)) - bent(FROM)) / (bent(TO) - bent(FROM));
    // With room for the sign at an end.
    part * (WIDTH - 16.0) + 8.0
}

fn one(line: &Line, text: &mut String) {
    let class = state(line.state);
    let (first, last) = (place(line.until.0), place(line.until.1));
    let now = place(0.0);
    let since = line.since.map_or(now, place).min(now);
    let _ = write!(
        text,
        "<li class=\"{class}\"><span class=\"what\">{}{}</span><svg viewBox=\"0 0 600 20\" aria-hidden=\"true\">",
        Text(&line.what),
        line.note
            .as_ref()
            .map(|note| format!("<small>{}</small>", Text(note)))
            .unwrap_or_default(),
    );
    for (days, _) in TICKS {
        let tick = if days == 0.0 { "tick now" } else { "tick" };
        let _ = write!(
            text,
            "<path class=\"{tick}\" d=\"M{:.1} 0V20\"/>",
            place(days)
        );
    }
    let _ = write!(
        text,
        "<path class=\"gone\" d=\"M{since:.1} 10H{:.1}\"/><path class=\"left\" d=\"M{now:.1} 10H{first:.1}\"/>",
        now.min(first)
    );
    if last > first + 1.0 {
        let _ = write!(
            text,
            "<path class=\"span\" d=\"M{first:.1} 10H{last:.1}\"/>"
        );
    }
    let form = match line.state {
        State::Fine => "<circle r=\"5\"/>",
        State::Due | State::Warning => "<path d=\"M0-6.5 6.5 5.5H-6.5Z\"/>",
        State::Failing | State::Ended => "<path class=\"cross\" d=\"M-5-5 5 5M5-5-5 5\"/>",
    };
    let _ = writeln!(
        text,
        "<g class=\"end\" transform=\"translate({first:.1} 10)\">{form}</g></svg><span class=\"told\">{}{}: {}</span></li>",
        mark(class),
        line.state.as_str(),
        Text(&line.told)
    );
}

/// Days in few words.
pub(super) fn left(days: i64) -> String {
    match days {
        36_500.. => "over 100 y".into(),
        730.. => format!("{} y", days / 365),
        days => format!("{days} d"),
    }
}
