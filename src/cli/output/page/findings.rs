//! What is wrong, the worst first, with what can be typed against it.

use std::fmt::Write as _;

use super::{Page, class, mark, markup::Text};
use crate::{
    cli::output::{matrix, plain::count},
    doctor::{Finding, Level, Result as Made, Unlooked},
    hint::Hint,
    verify::{Check, Outcome},
};

/// More of one kind than this are folded.
const SAME: usize = 2;

/// More of them than this are not on the page.
const LONGEST: usize = 50;

/// Causes, then claims that do not hold, then what could not be looked at.
pub(super) fn render(page: &Page<'_>) -> String {
    let diagnosis = page.diagnosis;
    let mut text = String::new();
    let mut kinds: Vec<(&str, Vec<&Finding>)> = vec![];
    for finding in &diagnosis.findings {
        match kinds.iter_mut().find(|(check, all)| {
            *check == finding.check && all.first().is_some_and(|f| f.level == finding.level)
        }) {
            Some((_, all)) => all.push(finding),
            None => kinds.push((&finding.check, vec![finding])),
        }
    }
    for (_, all) in &kinds {
        let cards = all.iter().map(|f| finding(f)).collect::<Vec<_>>();
        text += &folded(&cards);
    }
    let claims = matrix::alike(page.verdict);
    let cards = claims.iter().map(|alike| {
        let cards = alike.iter().map(|c| claim(c)).collect::<Vec<_>>();
        folded(&cards)
    });
    let cards: String = cards.collect();
    let n = claims.iter().map(Vec::len).sum();
    text += &match (n, kinds.is_empty()) {
        (0, _) => String::new(),
        (_, true) => format!("<h3>Claims that do not hold</h3>\n{cards}"),
        // What was found explains most of them.
        (n, false) => format!(
            "<details><summary>{} that do not hold</summary>\n{cards}</details>\n",
            count(n, "claim")
        ),
    };
    if !diagnosis.not_looked_at.is_empty() {
        text += "<h3>What could not be looked at</h3>\n";
    }
    let unlooked = diagnosis.not_looked_at.iter().map(not_looked);
    text += &folded(&unlooked.collect::<Vec<_>>());
    let looked = diagnosis.checks.iter();
    let looked = looked.filter(|m| m.result != Made::NotLooked).count();
    let over = format!(
        "{} over {}",
        count(looked, "check"),
        count(diagnosis.clusters.len(), "member")
    );
    let is_whole = diagnosis.not_looked_at.is_empty();
    text += &match (kinds.is_empty() && claims.is_empty(), is_whole) {
        (true, true) => format!("<p>{}Nothing was found: {over}.</p>\n", mark("ok")),
        (true, false) => format!("<p>Nothing was found where it could be looked: {over}.</p>\n"),
        _ => format!("<p class=\"small\">{over}.</p>\n"),
    };
    text
}

/// The first few, and the rest behind a line that says how many there are.
fn folded(cards: &[String]) -> String {
    let shown = if cards.len() > SAME + 1 {
        SAME
    } else {
        cards.len()
    };
    let (first, rest) = cards.split_at(shown);
    let mut text = first.concat();
    if !rest.is_empty() {
        let n = rest.len();
        let more: String = rest.iter().take(LONGEST).map(String::as_str).collect();
        let cut = match n.saturating_sub(LONGEST) {
            0 => String::new(),
            cut => format!("<p class=\"small\">And {cut} that are not on this page.</p>\n"),
        };
        let _ = write!(
            text,
            "<details><summary>{n} more of the same</summary>\n{more}{cut}</details>\n"
        );
    }
    text
}

fn finding(finding: &Finding) -> String {
    let class = match finding.level {
        Level::Error => "failed",
        Level::Warning => "warning",
        Level::Note => "not-tried",
    };
    let parts = [
        ("Cause", finding.cause.as_str()),
        ("Seen", finding.evidence.as_str()),
    ];
    let hints = std::slice::from_ref(&finding.fix);
    card(
        class,
        finding.level.as_str(),
        &finding.path(),
        &parts,
        hints,
    )
}

fn claim(check: &Check) -> String {
    let word = match check.outcome {
        Outcome::Failed => "failed",
        _ => "warning",
    };
    let parts = [("Seen", check.evidence.as_str())];
    card(
        class(check.outcome),
        word,
        &check.path(),
        &parts,
        &check.hints,
    )
}

fn not_looked(unlooked: &Unlooked) -> String {
    let title = format!("{}: {}", unlooked.cluster, unlooked.what);
    let checks = unlooked.checks.join(", ");
    let parts = [
        ("Why", unlooked.why.as_str()),
        ("Not made", checks.as_str()),
    ];
    card("not-tried", "not looked at", &title, &parts, &[])
}

fn card(class: &str, word: &str, title: &str, parts: &[(&str, &str)], hints: &[Hint]) -> String {
    let mut text = format!(
        "<article class=\"card {class}\">\n<h4>{}<span class=\"level\">{word}</span> <code>{}</code></h4>\n<dl>\n",
        mark(class),
        Text(title)
    );
    for (name, value) in parts {
        let _ = writeln!(text, "<div><dt>{name}</dt><dd>{}</dd></div>", Text(value));
    }
    text += "</dl>\n";
    for hint in hints {
        match hint {
            Hint::Note(note) => {
                let _ = writeln!(text, "<p class=\"note\">{}</p>", Text(note));
            }
            command => {
                let command = command.to_string();
                let command = Text(&command);
                let _ = writeln!(
                    text,
                    "<div class=\"command\"><pre tabindex=\"0\"><code>{command}</code></pre><button type=\"button\" class=\"copy\" hidden>Copy</button></div>"
                );
            }
        }
    }
    text + "</article>\n"
}
