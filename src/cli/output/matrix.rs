//! The proof matrix: what is known of every cluster, and of every pair of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use jiff::Timestamp;

use super::{Style, plain::count, table::Table, wrap};
use crate::{
    cli::error::hinted,
    probe::Way,
    verify::{
        Asked, Cell, Check, Claim, Outcome, Verdict,
        service::ServiceSeen,
        traffic::{claim, millis},
    },
};

/// More clusters than this are shown only where they differ.
const WIDEST: usize = 4;
/// More checks than this that failed in the same way are counted.
const SAME: usize = 3;
/// More pairs than this are not listed.
const LONGEST: usize = 20;

/// The claims about a cluster alone, and what heads their columns.
const ALONE: [(Claim, &str); 4] = [
    (Claim::SameRoot, "ROOT"),
    (Claim::OwnNetwork, "NETWORK"),
    (Claim::IstiodReady, "ISTIOD"),
    (Claim::GatewayReady, "GATEWAY"),
];

/// A verdict for people: first what is not well, with its evidence; with `verbose`, the evidence of all.
pub(crate) fn render(verdict: &Verdict, verbose: bool, now: Timestamp, style: Style) -> String {
    let parts = [
        checks(verdict, verbose, style),
        clusters(verdict, style),
        pairs(verdict, now, style),
        traffic(verdict, style),
        verdict
            .service
            .as_ref()
            .map_or_else(String::new, |s| service(s, style)),
        conclusion(verdict, now, style),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

/// What is known of each cluster alone. Of many clusters, only those that are not well.
fn clusters(verdict: &Verdict, style: Style) -> String {
    let mut table = Table::new(
        ["CLUSTER"]
            .into_iter()
            .chain(ALONE.map(|(_, heading)| heading)),
    );
    for cluster in &verdict.clusters {
        let outcomes = ALONE.map(|(claim, _)| outcome(verdict, claim, cluster));
        let is_well = outcomes.iter().all(|outcome| *outcome == Outcome::Ok);
        if verdict.clusters.len() <= WIDEST || !is_well {
            let words = outcomes.map(|outcome| word(outcome, style));
            table.row([cluster.clone()].into_iter().chain(words));
        }
    }
    if table.is_empty() {
        String::new()
    } else {
        table.render(style)
    }
}

fn outcome(verdict: &Verdict, claim: Claim, cluster: &str) -> Outcome {
    let about = verdict
        .checks
        .iter()
        .filter(|check| check.id == claim && check.from == cluster && check.to.is_none());
    about
        .map(|check| check.outcome)
        .max()
        .unwrap_or(Outcome::NotTried)
}

/// Every pair of a few, in words where these fit; of many, those that differ from the rest.
fn pairs(verdict: &Verdict, now: Timestamp, style: Style) -> String {
    let cells = verdict.matrix();
    let is_few = verdict.clusters.len() <= WIDEST;
    if !is_few && cells.values().all(|cell| worst(cell) == Outcome::Ok) {
        return String::new();
    }
    let full = matrix(
        verdict,
        |_| true,
        |pair, cell| full(verdict, pair, cell, now, style),
    );
    if is_few && full.width() <= style.width {
        return full.render(style);
    }
    let differs = |from: &str| {
        let mut row = cells.iter().filter(|((f, _), _)| *f == from);
        row.any(|(_, cell)| worst(cell) != Outcome::Ok)
    };
    let brief = matrix(
        verdict,
        |from| is_few || differs(from),
        |_, cell| word(worst(cell), style),
    );
    let list = unproved(verdict, style);
    match brief.width() <= style.width {
        true => format!("{}{list}", brief.render(style)),
        false => list,
    }
}

fn matrix(
    verdict: &Verdict,
    is_shown: impl Fn(&str) -> bool,
    show: impl Fn((&str, &str), &Cell) -> String,
) -> Table {
    let names = verdict.clusters.iter().map(String::as_str);
    let mut table = Table::new(["FROM / TO"].into_iter().chain(names));
    let cells = verdict.matrix();
    for from in verdict.clusters.iter().filter(|from| is_shown(from)) {
        let row = verdict.clusters.iter().map(|to| {
            let pair = (from.as_str(), to.as_str());
            let cell = cells.get(&pair);
            cell.map_or_else(|| "-".into(), |cell| show(pair, cell))
        });
        table.row([from.clone()].into_iter().chain(row));
    }
    table
}

/// What each cluster's proxy holds of a Service.
fn service(seen: &ServiceSeen, style: Style) -> String {
    let headings = ["HELD IN", "PORT", "ENDPOINT", "OF", "ZONE", "WEIGHT"];
    let mut table = Table::new(headings);
    for there in &seen.clusters {
        for held in &there.endpoints {
            let of = match (&held.of, &held.via_network) {
                (Some(of), Some(_)) => format!("{of} (gateway)"),
                (Some(of), None) => of.clone(),
                (None, _) => style.red("nobody"),
            };
            table.row([
                there.cluster.clone(),
                held.service_port.to_string(),
                format!("{}:{}", held.address, held.port),
                of,
                held.zone.clone(),
                held.weight.to_string(),
            ]);
        }
    }
    let text = match table.is_empty() {
        true => "no proxy has an endpoint for it\n".to_owned(),
        false => table.render(style),
    };
    format!(
        "{}\n{text}",
        style.bold(&format!("SERVICE {}", seen.service))
    )
}

/// What was asked and answered between each two: the time half the answers took, and how many
/// of the gateway's addresses carry something.
fn traffic(verdict: &Verdict, style: Style) -> String {
    let ways = Way::ALL.map(|way| way.as_str().to_uppercase());
    let headings = ["TRAFFIC"]
        .into_iter()
        .chain(ways.iter().map(String::as_str));
    let mut table = Table::new(headings.chain(["ADDRESSES"]));
    let matrix = verdict.matrix();
    for (from, to) in matrix.keys().take(LONGEST) {
        let mine = |a: &&Asked| a.from == *from && a.to == *to;
        let asked: Vec<_> = verdict.traffic.iter().filter(mine).collect();
        // A join asks by HTTP alone, and what came of that is in the matrix.
        if asked.iter().all(|a| a.at.is_none()) {
            continue;
        }
        let cells = Way::ALL.map(|way| time(verdict, (from, to), way, &asked, style));
        let all: BTreeSet<_> = asked.iter().filter_map(|a| a.at.as_deref()).collect();
        let alive = |at: &&&str| {
            asked
                .iter()
                .any(|a| a.at.as_deref() == Some(**at) && a.answered > 0)
        };
        let alive = all.iter().filter(alive).count();
        let count = format!("{alive} of {}", all.len());
        let count = if alive < all.len() {
            style.red(&count)
        } else {
            count
        };
        let row = [format!("{from} to {to}")].into_iter().chain(cells);
        table.row(row.chain([count]));
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "{}{}\n",
        table.render(style),
        style.dim("times are medians; -o json shows all")
    )
}

/// The median of a way through the proxies, or at single addresses where it is asked only there.
fn time(
    verdict: &Verdict,
    (from, to): (&str, &str),
    way: Way,
    asked: &[&Asked],
    style: Style,
) -> String {
    let id = claim(way);
    let mine = |c: &&Check| c.id == id && c.from == from && c.to.as_deref() == Some(to);
    let outcome = verdict.checks.iter().find(mine).map(|c| c.outcome);
    let of_way = || asked.iter().filter(|a| a.way == way);
    let through = of_way().find(|a| a.at.is_none());
    match (
        outcome,
        through.or_else(|| of_way().next()).and_then(|a| a.p50_us),
    ) {
        (Some(Outcome::Ok | Outcome::Warning), Some(p50)) => millis(p50),
        (outcome, _) => word(outcome.unwrap_or(Outcome::NotTried), style),
    }
}

fn stages(cell: &Cell) -> [(&'static str, Outcome); 4] {
    [
        ("configured", cell.configured),
        ("synced", cell.synced),
        ("endpoints", cell.endpoints),
        ("proved", cell.proved),
    ]
}

/// How a pair is: what a proof has shown needs no look at a proxy.
pub(super) fn worst(cell: &Cell) -> Outcome {
    let all = stages(cell).map(|(_, outcome)| outcome);
    let tried = all.into_iter().filter(|o| *o != Outcome::NotTried);
    match (tried.max(), cell.proved) {
        (Some(Outcome::Failed), _) => Outcome::Failed,
        (_, Outcome::NotTried) | (None, _) => Outcome::NotTried,
        (Some(worst), _) => worst,
    }
}

/// A pair in words: that it is proved, and when, or what is wrong first.
fn full(
    verdict: &Verdict,
    (from, to): (&str, &str),
    cell: &Cell,
    now: Timestamp,
    style: Style,
) -> String {
    let words = in_words(verdict, (from, to), cell, now);
    match worst(cell) {
        Outcome::Ok => style.green(&words),
        Outcome::Failed => style.red(&words),
        Outcome::Warning => style.yellow(&words),
        Outcome::NotTried => style.dim(&words),
    }
}

/// The same without colours.
pub(super) fn in_words(
    verdict: &Verdict,
    (from, to): (&str, &str),
    cell: &Cell,
    now: Timestamp,
) -> String {
    let first = |wanted: Outcome| stages(cell).into_iter().find(|(_, o)| *o == wanted);
    let at = verdict.proved_at.get(&format!("{from}/{to}"));
    match (worst(cell), first(Outcome::Failed), first(Outcome::Warning)) {
        (Outcome::Ok, ..) => {
            at.map_or_else(|| "proved".into(), |at| format!("proved {}", ago(*at, now)))
        }
        (Outcome::Failed, Some((stage, _)), _) => format!("{stage} failed"),
        (Outcome::Warning, _, Some((stage, _))) => format!("{stage} warning"),
        _ if [cell.configured, cell.synced].contains(&Outcome::Ok) => "not proved".into(),
        _ => "not tried".into(),
    }
}

/// How long ago something was.
fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.as_second() - at.as_second() {
        ..60 => "just now".into(),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

fn word(outcome: Outcome, style: Style) -> String {
    match outcome {
        Outcome::Ok => style.green("ok"),
        Outcome::Warning => style.yellow("warning"),
        Outcome::NotTried => style.dim("not tried"),
        Outcome::Failed => style.red("failed"),
    }
}

/// The pairs that are not fully proved, a line each.
fn unproved(verdict: &Verdict, style: Style) -> String {
    let cells = verdict.matrix();
    let open: Vec<_> = cells
        .iter()
        .filter(|(_, cell)| worst(cell) != Outcome::Ok)
        .collect();
    let mut text = String::new();
    for ((from, to), cell) in open.iter().take(LONGEST) {
        let _ = writeln!(text, "{from} to {to}: {}", missing(cell, style));
    }
    if open.len() > LONGEST {
        let more = count(open.len() - LONGEST, "more pair");
        let _ = writeln!(
            text,
            "{}",
            style.dim(&format!("and {more}; -o json shows all"))
        );
    }
    text
}

/// What a pair lacks; what is well is not worth a word here.
fn missing(cell: &Cell, style: Style) -> String {
    let stages = stages(cell);
    if stages
        .iter()
        .all(|(_, outcome)| *outcome == Outcome::NotTried)
    {
        return word(Outcome::NotTried, style);
    }
    let is_proved = cell.proved == Outcome::Ok;
    let untried = |outcome| outcome == Outcome::NotTried && is_proved;
    let open = stages
        .into_iter()
        .filter(|(_, outcome)| *outcome != Outcome::Ok && !untried(*outcome));
    let words = open.map(|(name, outcome)| format!("{name} {}", word(outcome, style)));
    words.collect::<Vec<_>>().join(", ")
}

/// The checks that need attention, with their evidence and what to do; with `verbose`, all.
fn checks(verdict: &Verdict, verbose: bool, style: Style) -> String {
    if verbose {
        return verdict.checks.iter().map(|c| one(c, style)).collect();
    }
    let mut text = String::new();
    for some in &alike(verdict) {
        let shown = if some.len() > SAME { 1 } else { some.len() };
        text.extend(some.iter().take(shown).map(|check| one(check, style)));
        if shown < some.len() {
            let more = count(some.len() - shown, "more check");
            let id = some[0].id.as_str();
            let line = format!("{id}: {more} failed in the same way; -v shows all");
            let _ = writeln!(text, "{}", style.dim(&line));
        }
    }
    text
}

/// The checks that need attention, those together that found the same.
pub(super) fn alike(verdict: &Verdict) -> Vec<Vec<&Check>> {
    let open = verdict.checks.iter();
    let open = open.filter(|c| matches!(c.outcome, Outcome::Failed | Outcome::Warning));
    let (mut alike, mut places) = (Vec::<Vec<&Check>>::new(), BTreeMap::new());
    for check in open {
        let place = *places
            .entry((check.id, check.outcome, cause(check)))
            .or_insert(alike.len());
        match alike.get_mut(place) {
            Some(some) => some.push(check),
            None => alike.push(vec![check]),
        }
    }
    alike
}

/// What a check found, without the names of whom it is about: clusters, and replicas of istiod.
fn cause(check: &Check) -> String {
    let names = [Some(&check.from), check.to.as_ref()];
    let names = names.into_iter().flatten();
    let text = names.fold(check.evidence.clone(), |text, name| {
        text.replace(name.as_str(), "_")
    });
    let of_istiod = |word: &str| word.starts_with("istiod-");
    let words = text.split(' ');
    let words = words.map(|word| if of_istiod(word) { "_" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

fn one(check: &Check, style: Style) -> String {
    let mut text = format!("{}: {}\n", check.path(), word(check.outcome, style));
    for line in wrap(&check.evidence, style.width.saturating_sub(2))
        .iter()
        .filter(|line| !line.is_empty())
    {
        let _ = writeln!(text, "  {line}");
    }
    for hint in &check.hints {
        hinted(&mut text, style, "  ", hint);
    }
    text
}

/// The sum of it.
fn conclusion(verdict: &Verdict, now: Timestamp, style: Style) -> String {
    let cells = verdict.matrix();
    if cells.is_empty() {
        return String::new();
    }
    let is_proved = |cell: &Cell| cell.proved == Outcome::Ok;
    let proved = cells.values().filter(|cell| is_proved(cell)).count();
    let mut text = format!("{proved} of {} proved", count(cells.len(), "pair"));
    if cells.values().all(|cell| cell.proved == Outcome::NotTried) {
        text += ": traffic was not tried";
    }
    // Of many, no cell says when.
    if let Some(oldest) = verdict
        .proved_at
        .values()
        .min()
        .filter(|_| verdict.clusters.len() > WIDEST)
    {
        text += &format!(", the first of them {}", ago(*oldest, now));
    }
    let failed = verdict.failed().count();
    let mut text = match failed {
        0 if proved == cells.len() => style.green(&text),
        0 => text,
        n => format!(
            "{text}, {}",
            style.red(&format!("{} failed", count(n, "check")))
        ),
    };
    if verdict.clusters.len() > WIDEST && proved < cells.len() {
        let _ = write!(text, "\n{}", reach(verdict, is_proved));
    }
    text + "\n"
}

/// How many peers a cluster reaches, at least and on average.
fn reach(verdict: &Verdict, is_proved: impl Fn(&Cell) -> bool) -> String {
    let cells = verdict.matrix();
    let reached = |from: &String| {
        cells
            .iter()
            .filter(|((f, _), cell)| f == from && is_proved(cell))
            .count()
    };
    let counts: Vec<_> = verdict.clusters.iter().map(reached).collect();
    let least = counts.iter().min().copied().unwrap_or(0);
    let tenths = counts.iter().sum::<usize>() * 10 / counts.len().max(1);
    let peers = count(verdict.clusters.len() - 1, "peer");
    format!(
        "a cluster reaches at least {least} and on average {}.{} of its {peers}",
        tenths / 10,
        tenths % 10
    )
}

#[cfg(test)]
mod tests;
