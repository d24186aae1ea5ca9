//! What the doctor found, for people.

use std::{collections::BTreeMap, fmt::Write};

use super::{Style, plain::count, table::Table};
use crate::{
    cli::error::{hinted, labelled},
    doctor::{Diagnosis, Entry, Finding, Level, Result as Made, Unlooked},
};

/// More findings of one check than this are counted.
const SAME: usize = 3;

/// Causes first, the worst of them on top; then what could not be looked at, and the sum of it.
pub(crate) fn render(diagnosis: &Diagnosis, verbose: bool, style: Style) -> String {
    let mut text = String::new();
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    let findings = diagnosis.findings.iter();
    let notes = |f: &&Finding| verbose || f.level > Level::Note;
    for finding in findings.filter(notes) {
        let n = told.entry(&finding.check).or_default();
        *n += 1;
        if verbose || *n <= SAME {
            one(finding, style, &mut text);
        }
    }
    for (check, n) in told.into_iter().filter(|(_, n)| !verbose && *n > SAME) {
        let line = format!("{check}: {} more of the same; -v shows all", n - SAME);
        let _ = writeln!(text, "{}\n", style.dim(&line));
    }
    for unlooked in &diagnosis.not_looked_at {
        not_looked(unlooked, verbose, style, &mut text);
    }
    text + &conclusion(diagnosis, verbose, style)
}

fn word(level: Level, style: Style) -> String {
    match level {
        Level::Note => style.dim(level.as_str()),
        Level::Warning => style.yellow(level.as_str()),
        Level::Error => style.red(level.as_str()),
    }
}

fn one(finding: &Finding, style: Style, text: &mut String) {
    let _ = writeln!(text, "{}: {}", finding.path(), word(finding.level, style));
    labelled(text, style, "  seen: ", "  seen: ", &finding.evidence);
    labelled(text, style, "  cause:", "  cause:", &finding.cause);
    hinted(text, style, "  ", &finding.fix);
    text.push('\n');
}

fn not_looked(unlooked: &Unlooked, verbose: bool, style: Style, text: &mut String) {
    let Unlooked {
        cluster,
        what,
        why,
        checks,
    } = unlooked;
    let head = format!("{cluster}: could not look at {what}");
    let _ = writeln!(text, "{}", style.yellow(&head));
    labelled(text, style, "  why:", "  why:", why);
    let list = match verbose || checks.len() <= SAME {
        true => checks.join(", "),
        false => format!("{}; -v names them", count(checks.len(), "check")),
    };
    labelled(text, style, "  not made:", "  not made:", &list);
    text.push('\n');
}

/// The sum of it.
fn conclusion(diagnosis: &Diagnosis, verbose: bool, style: Style) -> String {
    let (clusters, made) = (&diagnosis.clusters, &diagnosis.checks);
    let looked = made.iter().filter(|m| m.result != Made::NotLooked).count();
    let over = format!(
        "{} over {}",
        count(looked, "check"),
        count(clusters.len(), "cluster")
    );
    let levels = [Level::Error, Level::Warning, Level::Note];
    let found = levels.map(|level| (level, diagnosis.count(level)));
    let found = found.into_iter().filter(|(_, n)| *n > 0);
    let found: Vec<_> = found.map(|(level, n)| count(n, level.as_str())).collect();
    let mut text = match found.as_slice() {
        [] if diagnosis.not_looked_at.is_empty() => style.green(&format!("{over}: nothing found")),
        [] => format!("{over}: nothing found where it could be looked"),
        found => format!("{over}: {}", found.join(", ")),
    };
    if diagnosis.count(Level::Note) > 0 && !verbose {
        text += "; -v shows notes";
    }
    text + "\n"
}

/// A line for each cause: what, where, and the command.
pub(crate) fn short(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let level = finding.level.as_str();
        let _ = writeln!(text, "{level}\t{}\t{}", finding.path(), finding.fix);
    }
    for unlooked in &diagnosis.not_looked_at {
        for check in &unlooked.checks {
            let (cluster, why) = (&unlooked.cluster, unlooked.why.replace('\n', " "));
            let _ = writeln!(text, "not-looked\t{check}/{cluster}\t{why}");
        }
    }
    text
}

/// Every check there is.
pub(crate) fn list(checks: &[Entry], style: Style) -> String {
    let mut table = Table::new(["CHECK", "LEVEL", "LOOKS AT"]);
    for check in checks {
        table.row([
            check.id.to_owned(),
            word(check.level, style),
            check.looks_at.replace('`', ""),
        ]);
    }
    table.render(style)
}
