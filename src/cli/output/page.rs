//! The mesh as one page that a browser shows: pure text out of plain data, with nothing that is fetched.
//!
//! | part | what it draws |
//! | --- | --- |
//! | `markup` | what stands between text from outside and HTML |
//! | `topology` | members, networks and links |
//! | `table` | every pair, in words where there is room |
//! | `findings` | causes and claims that do not hold, with what can be typed against them |
//! | `timeline` | what ends, and when |
//! | `waterfall` | the last run, step by step |

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use self::markup::Text;
use super::plain::count;
use crate::{
    doctor::{Diagnosis, Level},
    ends::{Ends, State},
    engine::journal::Journal,
    link::{Meshlink, diagnosis::Examination},
    observe::Observed,
    spec::Mesh,
    verify::{Outcome, Verdict},
};

mod findings;
mod markup;
mod table;
#[cfg(test)]
mod tests;
mod timeline;
mod topology;
mod waterfall;

use waterfall::Run;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Everything that is on the page.
struct Page<'a> {
    /// The mesh.
    mesh: &'a str,
    /// When it was looked at.
    now: Timestamp,
    /// The members, in the mesh's order.
    members: Vec<Member>,
    /// What stands, claim by claim.
    verdict: &'a Verdict,
    /// What ends.
    ends: &'a Ends,
    /// What the doctor found.
    diagnosis: &'a Diagnosis,
    /// The last run on this machine, if there was one.
    run: Option<Run>,
}

/// A member, as it is drawn.
#[derive(Debug, Clone, Default)]
struct Member {
    name: String,
    network: String,
    /// The versions that run there; empty where it could not be read.
    kubernetes: String,
    istio: Vec<String>,
    /// Where its gateway is reached.
    gateway: Vec<String>,
    /// Why it could not be read, where that is so.
    unreachable: Option<String>,
}

/// The members of a mesh as they were seen.
fn members(mesh: &Mesh, observed: &Observed) -> Vec<Member> {
    let one = |member: &crate::spec::Member| {
        let seen = observed.clusters.get(&member.name);
        let istio = seen.into_iter().flat_map(|s| &s.istiod.versions);
        let unreachable = observed.unreachable.get(&member.name);
        Member {
            name: member.name.to_string(),
            network: member.network.to_string(),
            kubernetes: seen.map_or_else(String::new, |s| s.kubernetes.clone()),
            istio: istio.map(ToString::to_string).collect(),
            gateway: seen.map_or_else(Vec::new, |s| s.gateway.addresses.clone()),
            unreachable: unreachable.map(crate::observe::Unreachable::line),
        }
    };
    mesh.clusters.iter().map(one).collect()
}

/// A mesh as it was examined, whose hints can be pasted already.
pub(crate) struct Drawn<'a> {
    pub(crate) link: &'a Meshlink,
    pub(crate) examination: &'a Examination,
    pub(crate) diagnosis: &'a Diagnosis,
}

impl Drawn<'_> {
    /// The page of it, with the last run that this machine knows.
    pub(crate) fn render(&self) -> String {
        let reading = &self.examination.reading;
        let mesh = self.link.mesh();
        // What cannot be read of the past is no reason not to show what is.
        let events = Journal::read(&self.link.places.state).ok();
        render(&Page {
            mesh: mesh.id.as_str(),
            now: (self.link.environment.clock)(),
            members: members(mesh, &reading.observed),
            verdict: &self.examination.verdict,
            ends: &reading.ends,
            diagnosis: self.diagnosis,
            run: events.and_then(|events| Run::last(&events)),
        })
    }
}

/// The page, whole.
fn render(page: &Page<'_>) -> String {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let title = format!("Mesh {}", page.mesh);
    let body = [
        header(page),
        section("findings", "What is wrong", &findings::render(page)),
        section("topology", "Who reaches whom", &reach(page)),
        section("members", "Members", &table::members(page)),
        section("ends", "What ends", &timeline::render(page.ends)),
        section("run", "The last run", &waterfall::render(page.run.as_ref())),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{}\
         <footer>Made by meshlink {} at {}. The page holds no key and no token, and fetches nothing.</footer>\n\
         <div id=\"said\" role=\"status\"></div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        Text(&title),
        body.concat(),
        env!("CARGO_PKG_VERSION"),
        moment(page.now),
    )
}

fn hash(text: &str) -> String {
    BASE64.encode(Sha256::digest(text.as_bytes()))
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn section(id: &str, title: &str, body: &str) -> String {
    format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n{body}</section>\n")
}

/// The sum of it, on one line, and where on the page the rest is.
fn header(page: &Page<'_>) -> String {
    let cells = page.verdict.matrix();
    let proved = cells.values().filter(|c| c.proved == Outcome::Ok).count();
    let failed = page.verdict.failed().count();
    let errors = page.diagnosis.count(Level::Error);
    let warnings = page.diagnosis.count(Level::Warning);
    let unread = page.members.iter().filter(|m| m.unreachable.is_some());
    let unread = unread.count();
    let is_proved = proved == cells.len() && !cells.is_empty();
    let (class, sum) = match () {
        () if failed > 0 || errors > 0 => ("failed", "Something is wrong"),
        () if warnings > 0 || !page.diagnosis.not_looked_at.is_empty() => {
            ("warning", "Something needs attention")
        }
        () if is_proved => ("ok", "Every pair is proved"),
        () => (
            "not-tried",
            "Nothing is wrong, and not every pair is proved",
        ),
    };
    let mut tiles = vec![
        (
            if is_proved { "ok" } else { "not-tried" },
            "topology",
            format!("{proved} of {}", cells.len()),
            "pairs proved".to_owned(),
        ),
        (
            if failed + errors > 0 { "failed" } else { "ok" },
            "findings",
            (failed.max(errors)).to_string(),
            match (errors, failed) {
                (0, 0) => "errors".to_owned(),
                (e, f) => format!("{}, {}", count(e, "error"), count(f, "failed claim")),
            },
        ),
        (
            if warnings > 0 { "warning" } else { "ok" },
            "findings",
            warnings.to_string(),
            if warnings == 1 { "warning" } else { "warnings" }.to_owned(),
        ),
        (
            if unread > 0 { "failed" } else { "ok" },
            "members",
            (page.members.len() - unread).to_string(),
            match unread {
                0 => "members read".to_owned(),
                n => format!("members read, {n} not"),
            },
        ),
    ];
    if let Some(first) = page.ends.rows.iter().min_by_key(|r| r.until) {
        tiles.push((
            state(first.state),
            "ends",
            timeline::left(first.days_left),
            "until something ends".to_owned(),
        ));
    }
    let mut text = format!(
        "<header>\n<p class=\"kind\">Mesh</p>\n<h1>{}</h1>\n<p class=\"sum {class}\">{}{sum}</p>\n\
         <p class=\"when\">As seen at <time>{}</time></p>\n<nav aria-label=\"Parts of this page\"><ul class=\"tiles\">\n",
        Text(page.mesh),
        mark(class),
        moment(page.now),
    );
    for (class, to, figure, of) in tiles {
        let _ = writeln!(
            text,
            "<li><a class=\"tile {class}\" href=\"#{to}\"><b>{figure}</b> <span>{}{of}</span></a></li>",
            mark(class),
        );
    }
    text + "</ul></nav>\n</header>\n"
}

/// A sign that is told apart by its form.
fn mark(class: &str) -> String {
    format!(
        "<svg class=\"mark {class}\" viewBox=\"-10 -10 20 20\" aria-hidden=\"true\">{}</svg>",
        sign(class)
    )
}

/// The form of a sign around the origin, nine units in radius.
fn sign(class: &str) -> &'static str {
    match class {
        "ok" => {
            "<circle class=\"disc\" r=\"9\"/><path class=\"in\" d=\"M-4.5 .5 -1.3 3.8 4.6-3.6\"/>"
        }
        "failed" => {
            "<path class=\"disc\" d=\"M-4-9H4L9-4V4L4 9H-4L-9 4V-4Z\"/><path class=\"in\" d=\"M-3.5-3.5 3.5 3.5M3.5-3.5-3.5 3.5\"/>"
        }
        "warning" => {
            "<path class=\"disc\" d=\"M0-9.5 10 8H-10Z\"/><path class=\"in\" d=\"M0-3.5V2M0 4.8V5\"/>"
        }
        _ => "<circle class=\"ring\" r=\"8\"/><path class=\"dash\" d=\"M-3.5 0H3.5\"/>",
    }
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::NotTried => "not-tried",
        Outcome::Failed => "failed",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Fine => "ok",
        State::Due | State::Warning => "warning",
        State::Failing | State::Ended => "failed",
    }
}

/// The drawing where it can be read, and the table of all pairs.
fn reach(page: &Page<'_>) -> String {
    let links = links(page);
    [
        LEGEND.to_owned(),
        topology::render(page, &links),
        table::pairs(page, &links),
    ]
    .concat()
}

const LEGEND: &str = "<ul class=\"legend\">\n\
<li><svg viewBox=\"0 0 44 12\" aria-hidden=\"true\"><path class=\"link ok\" d=\"M2 6H42\"/></svg>proved: requests were answered</li>\n\
<li><svg viewBox=\"0 0 44 12\" aria-hidden=\"true\"><path class=\"link not-tried\" d=\"M2 6H42\"/></svg>not tried</li>\n\
<li><svg viewBox=\"0 0 44 12\" aria-hidden=\"true\"><path class=\"link warning\" d=\"M2 6H42\"/></svg>needs attention</li>\n\
<li><svg viewBox=\"0 0 44 12\" aria-hidden=\"true\"><path class=\"link failed\" d=\"M2 6H42\"/></svg>failed</li>\n</ul>\n";

/// What is known of one member reaching another.
struct Link {
    class: &'static str,
    /// In few words.
    word: String,
    /// In whole ones.
    told: String,
}

type Links<'a> = BTreeMap<(&'a str, &'a str), Link>;

fn links<'a>(page: &'a Page<'_>) -> Links<'a> {
    let verdict = page.verdict;
    let mut bad: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for check in &verdict.checks {
        let is_bad = matches!(check.outcome, Outcome::Failed | Outcome::Warning);
        if let Some(to) = check.to.as_deref().filter(|_| is_bad) {
            bad.entry((check.from.as_str(), to))
                .or_insert(check.evidence.as_str());
        }
    }
    let cells = verdict.matrix().into_iter();
    let one = |((from, to), cell): ((&'a str, &'a str), crate::verify::Cell)| {
        let outcome = super::matrix::worst(&cell);
        let word = super::matrix::in_words(verdict, (from, to), &cell, page.now);
        let told = match bad.get(&(from, to)) {
            Some(evidence) => format!("{from} to {to}: {word}: {evidence}"),
            None => format!("{from} to {to}: {word}"),
        };
        let class = class(outcome);
        ((from, to), Link { class, word, told })
    };
    cells.map(one).collect()
}
