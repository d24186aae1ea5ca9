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
fn worst(cell: &Cell) -> Outcome {
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
    let first = |wanted: Outcome| stages(cell).into_iter().find(|(_, o)| *o == wanted);
    let at = verdict.proved_at.get(&format!("{from}/{to}"));
    let proved = at.map_or_else(|| "proved".into(), |at| format!("proved {}", ago(*at, now)));
    match (worst(cell), first(Outcome::Failed), first(Outcome::Warning)) {
        (Outcome::Ok, ..) => style.green(&proved),
        (_, Some((stage, _)), _) => style.red(&format!("{stage} failed")),
        (Outcome::Warning, _, Some((stage, _))) => style.yellow(&format!("{stage} warning")),
        _ if [cell.configured, cell.synced].contains(&Outcome::Ok) => style.dim("not proved"),
        _ => style.dim("not tried"),
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
    let open = verdict.checks.iter();
    let open = open.filter(|c| matches!(c.outcome, Outcome::Failed | Outcome::Warning));
    let mut alike: BTreeMap<_, Vec<&Check>> = BTreeMap::new();
    for check in open {
        alike
            .entry((check.id, check.outcome, cause(check)))
            .or_default()
            .push(check);
    }
    let mut text = String::new();
    for some in alike.values() {
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

/// What a check found, without the names of whom it is about.
fn cause(check: &Check) -> String {
    let names = [Some(&check.from), check.to.as_ref()];
    let names = names.into_iter().flatten();
    names.fold(check.evidence.clone(), |text, name| {
        text.replace(name.as_str(), "_")
    })
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
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::hint::Hint;

    fn check(id: Claim, from: &str, to: Option<&str>, outcome: Outcome) -> Check {
        Check {
            id,
            from: from.into(),
            to: to.map(Into::into),
            outcome,
            evidence: format!("what was seen in {from}"),
            hints: vec![],
        }
    }

    /// A verdict of `n` clusters where all is well.
    fn well(n: usize) -> Verdict {
        let clusters: Vec<String> = (1..=n).map(|i| format!("eks-{i}")).collect();
        let mut checks = vec![];
        for from in &clusters {
            checks.extend(ALONE.map(|(claim, _)| check(claim, from, None, Outcome::Ok)));
            for to in clusters.iter().filter(|to| *to != from) {
                let claims = [
                    Claim::Configured,
                    Claim::Synced,
                    Claim::GatewayKnown,
                    Claim::Endpoints,
                    Claim::Proved,
                ];
                checks.extend(claims.map(|claim| check(claim, from, Some(to), Outcome::Ok)));
            }
        }
        Verdict {
            clusters,
            checks,
            ..Verdict::default()
        }
    }

    fn with(mut verdict: Verdict, id: Claim, from: &str, to: &str, outcome: Outcome) -> Verdict {
        let found = verdict
            .checks
            .iter_mut()
            .find(|c| c.id == id && c.from == from && c.to.as_deref() == Some(to));
        let found = found.unwrap();
        found.outcome = outcome;
        found.evidence = "the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other network, beside the gateway's".into();
        found.hints = vec![Hint::join(["eks-1", "eks-2"])];
        verdict
    }

    fn shown(verdict: &Verdict) -> String {
        let text = render(verdict, false, Timestamp::UNIX_EPOCH, Style::plain());
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        text
    }

    #[test]
    fn two_that_are_proved() {
        assert_snapshot!(shown(&well(2)), @"
        CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
        eks-1    ok    ok       ok      ok
        eks-2    ok    ok       ok      ok

        FROM / TO  eks-1   eks-2
        eks-1      -       proved
        eks-2      proved  -

        2 of 2 pairs proved
        ");
    }

    #[test]
    fn two_of_which_one_is_not() {
        let mut verdict = with(well(2), Claim::Endpoints, "eks-1", "eks-2", Outcome::Failed);
        verdict.checks.retain(|check| check.id != Claim::Proved);
        assert_snapshot!(shown(&verdict), @"
        endpoints/eks-1/eks-2: failed
          the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other
          network, beside the gateway's
          hint: meshlink join eks-1 eks-2

        CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
        eks-1    ok    ok       ok      ok
        eks-2    ok    ok       ok      ok

        FROM / TO  eks-1       eks-2
        eks-1      -           endpoints failed
        eks-2      not proved  -

        0 of 2 pairs proved: traffic was not tried, 1 check failed
        ");
    }

    #[test]
    fn two_with_traffic_of_which_one_address_is_dead() {
        let asked = |from: &str, to: &str, way, at: Option<&str>, answered: bool| Asked {
            from: from.into(),
            to: to.into(),
            way,
            at: at.map(Into::into),
            asked: 5,
            answered: if answered { 5 } else { 0 },
            p50_us: answered.then_some(1240),
            p95_us: answered.then_some(3000),
            clients: vec![],
            servers: vec![],
            trouble: None,
        };
        let mut verdict = well(2);
        for (from, to) in [("eks-1", "eks-2"), ("eks-2", "eks-1")] {
            for id in [Claim::Grpc, Claim::Tcp, Claim::Headless] {
                verdict.checks.push(check(id, from, Some(to), Outcome::Ok));
            }
            for way in Way::ALL {
                if way != Way::Headless {
                    verdict.traffic.push(asked(from, to, way, None, true));
                }
                let other = from == "eks-1";
                verdict
                    .traffic
                    .push(asked(from, to, way, Some("1.1.1.1:15443"), true));
                verdict
                    .traffic
                    .push(asked(from, to, way, Some("1.1.1.2:15443"), other));
            }
        }
        let mut dead = check(Claim::Addresses, "eks-2", Some("eks-1"), Outcome::Failed);
        dead.evidence =
            "1.1.1.1:15443 carries http, grpc, tcp, headless; 1.1.1.2:15443 does not answer".into();
        verdict.checks.push(dead);
        assert_snapshot!(shown(&verdict), @"
        addresses/eks-2/eks-1: failed
          1.1.1.1:15443 carries http, grpc, tcp, headless; 1.1.1.2:15443 does not answer

        CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
        eks-1    ok    ok       ok      ok
        eks-2    ok    ok       ok      ok

        FROM / TO  eks-1          eks-2
        eks-1      -              proved
        eks-2      proved failed  -

        TRAFFIC         HTTP    GRPC    TCP     HEADLESS  ADDRESSES
        eks-1 to eks-2  1.2 ms  1.2 ms  1.2 ms  1.2 ms    2 of 2
        eks-2 to eks-1  1.2 ms  1.2 ms  1.2 ms  1.2 ms    1 of 2
        times are medians; -o json shows all

        1 of 2 pairs proved, 1 check failed
        ");
    }

    #[test]
    fn evidence_on_request() {
        let text = render(&well(2), true, Timestamp::UNIX_EPOCH, Style::plain());
        assert_eq!(text.matches("what was seen in").count(), 18);
    }

    #[test]
    fn of_five_what_differs() {
        assert_snapshot!(shown(&with(well(5), Claim::Synced, "eks-2", "eks-5", Outcome::Warning)), @"
        synced/eks-2/eks-5: warning
          the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other
          network, beside the gateway's
          hint: meshlink join eks-1 eks-2

        FROM / TO  eks-1  eks-2  eks-3  eks-4  eks-5
        eks-2      ok     -      ok     ok     warning
        eks-2 to eks-5: synced warning

        20 of 20 pairs proved
        ");
        assert_snapshot!(shown(&well(5)), @"20 of 20 pairs proved");
    }

    #[test]
    fn a_proof_says_how_old_it_is() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let before = |seconds| now - jiff::SignedDuration::from_secs(seconds);
        let mut verdict = well(2);
        // A proof that stands is not made less by a proxy that was not looked at.
        verdict.checks.retain(|check| check.id != Claim::Endpoints);
        verdict.proved_at = [("eks-1/eks-2", 190), ("eks-2/eks-1", 3 * 86_400)]
            .map(|(pair, seconds)| (pair.to_owned(), before(seconds)))
            .into();
        assert_snapshot!(render(&verdict, false, now, Style::plain()), @"
        CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
        eks-1    ok    ok       ok      ok
        eks-2    ok    ok       ok      ok

        FROM / TO  eks-1              eks-2
        eks-1      -                  proved 3 min ago
        eks-2      proved 3 days ago  -

        2 of 2 pairs proved
        ");
        let mut many = well(6);
        many.proved_at = verdict.proved_at;
        assert_snapshot!(render(&many, false, now, Style::plain()), @"30 of 30 pairs proved, the first of them 3 days ago");
        assert_eq!(
            [0, 59, 60, 3_599, 7_200, 172_800].map(|s| ago(before(s), now)),
            [
                "just now",
                "just now",
                "1 min ago",
                "59 min ago",
                "2 h ago",
                "2 days ago",
            ]
        );
    }

    #[test]
    fn many_as_a_list() {
        assert_snapshot!(shown(&with(well(9), Claim::Proved, "eks-2", "eks-5", Outcome::Failed)), @"
        proved/eks-2/eks-5: failed
          the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other
          network, beside the gateway's
          hint: meshlink join eks-1 eks-2

        FROM / TO  eks-1  eks-2  eks-3  eks-4  eks-5   eks-6  eks-7  eks-8  eks-9
        eks-2      ok     -      ok     ok     failed  ok     ok     ok     ok
        eks-2 to eks-5: proved failed

        71 of 72 pairs proved, 1 check failed
        a cluster reaches at least 7 and on average 7.8 of its 8 peers
        ");
        let mut none = well(30);
        none.checks.clear();
        assert!(shown(&none).contains("and 850 more pairs"));
    }
}
