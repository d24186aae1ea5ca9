use super::*;
use crate::{
    doctor::{Finding, Unlooked},
    ends::{Row, What},
    engine::event::{Event, Kind},
    hint::Hint,
    verify::{Check, Claim},
};

const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onload='x",
    "a\u{202e}b\u{2066}c",
    "</title></style><style>*{display:none}",
    "&lt;&#60;\0\x1b[31m",
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn check(id: Claim, from: &str, to: Option<&str>, outcome: Outcome, evidence: &str) -> Check {
    Check {
        id,
        from: from.into(),
        to: to.map(Into::into),
        outcome,
        evidence: evidence.into(),
        hints: vec![Hint::shell(format!("echo {evidence}"))],
    }
}

/// A page on which every text is this one.
fn page_of(text: &str) -> String {
    let names = [text.to_owned(), format!("{text} 2")];
    let (one, two) = (names[0].as_str(), names[1].as_str());
    let member = |name: &str| Member {
        name: name.into(),
        network: text.into(),
        kubernetes: text.into(),
        istio: vec![text.into()],
        gateway: vec![text.into()],
        unreachable: Some(text.into()),
    };
    let verdict = Verdict {
        clusters: names.to_vec(),
        checks: vec![
            check(Claim::Proved, one, Some(two), Outcome::Failed, text),
            check(Claim::Proved, two, Some(one), Outcome::Ok, text),
        ],
        ..Verdict::default()
    };
    let now = at("2026-06-01T00:00:00Z");
    let ends = Ends {
        now,
        rows: vec![Row {
            id: text.into(),
            what: What::Token,
            members: names.to_vec(),
            peer: Some(text.into()),
            fingerprint: Some(text.into()),
            since: None,
            until: at("2026-07-01T00:00:00Z"),
            days_left: 30,
            state: State::Warning,
            renewal: text.into(),
            note: Some(text.into()),
            hints: vec![],
        }],
    };
    let finding = |fix| Finding {
        check: text.into(),
        level: Level::Error,
        cluster: one.into(),
        peer: Some(two.into()),
        evidence: text.into(),
        cause: text.into(),
        fix,
    };
    let diagnosis = Diagnosis {
        clusters: names.to_vec(),
        checks: vec![],
        findings: vec![finding(Hint::note(text)), finding(Hint::shell(text))],
        not_looked_at: vec![Unlooked {
            cluster: text.into(),
            what: text.into(),
            why: text.into(),
            checks: vec![text.into()],
        }],
    };
    let event = |kind| Event {
        at: now,
        run: "r".into(),
        kind,
    };
    let events = [
        event(Kind::RunStarted {
            command: text.into(),
            mesh: text.into(),
            clusters: names.to_vec(),
            steps: vec![],
        }),
        event(Kind::StepFailed {
            step: text.into(),
            causes: vec![text.into()],
            hints: vec![],
            severity: crate::engine::event::Severity::Failed,
        }),
    ];
    render(&Page {
        mesh: text,
        now,
        members: vec![member(one), member(two)],
        verdict: &verdict,
        ends: &ends,
        diagnosis: &diagnosis,
        run: Run::last(&events),
    })
}

/// What of a page is markup: every tag with its attributes' names.
fn tags(page: &str) -> Vec<String> {
    let tag = regex_lite::Regex::new("<[^>]*>").unwrap();
    let value = regex_lite::Regex::new("\"[^\"]*\"").unwrap();
    let all = tag.find_iter(page);
    all.map(|t| value.replace_all(t.as_str(), "\"\"").into_owned())
        .collect()
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let want = tags(&page_of("plain"));
    for text in HOSTILE {
        let page = page_of(text);
        assert_eq!(tags(&page), want, "{text:?}");
        assert_eq!(page.matches("<script>").count(), 1, "{text:?}");
        for c in ['\u{202e}', '\u{2066}', '\0', '\x1b'] {
            assert!(!page.contains(c), "{text:?}: {c:?}");
        }
    }
}

#[test]
fn the_page_asks_for_nothing_and_runs_nothing_else() {
    let page = page_of("plain");
    let policy = "default-src 'none'; style-src 'sha256-";
    assert!(
        page.contains(policy),
        "a policy that forbids everything else"
    );
    for outside in [
        "http://", "https://", "url(h", "@import", " style=", " onclick", "src=",
    ] {
        let found = page.find(outside).map(|at| &page[at..at + 40]);
        assert_eq!(found, None);
    }
}

#[test]
fn a_run_is_folded_from_its_journal_and_only_the_last() {
    let event = |run: &str, second: u8, kind| Event {
        at: at(&format!("2026-06-01T00:00:{second:02}Z")),
        run: run.into(),
        kind,
    };
    let begin = |command: &str| Kind::RunStarted {
        command: command.into(),
        mesh: "m".into(),
        clusters: vec![],
        steps: vec![],
    };
    let start = |step: &str| Kind::StepStarted { step: step.into() };
    let finish = |step: &str, millis| Kind::StepFinished {
        step: step.into(),
        evidence: vec!["seen".into()],
        millis,
    };
    let events = [
        event("r1", 0, begin("join a b")),
        event("r1", 1, start("x/a")),
        event("r2", 10, begin("renew")),
        event("r2", 11, start("y/a")),
        event("r2", 13, finish("y/a", 1_900)),
        event("r2", 14, start("z/a")),
    ];
    let run = Run::last(&events).unwrap();
    let text = waterfall::render(Some(&run));
    assert!(text.contains("renew</code>, begun at 2026-06-01 00:00:10 UTC: did not come to its end after 4.0 s, 2 steps"), "{text}");
    assert!(text.contains("1.9 s") && !text.contains("x/a"), "{text}");
    assert_eq!(Run::last(&[]), None);
}

#[test]
fn many_of_one_kind_are_one_line() {
    let names: Vec<_> = (0..50).map(|i| format!("eks-{i:02}")).collect();
    let mut checks = vec![];
    for from in &names {
        for to in names.iter().filter(|to| *to != from) {
            let evidence = format!("{from} cannot reach {to}");
            checks.push(check(
                Claim::Synced,
                from,
                Some(to),
                Outcome::Failed,
                &evidence,
            ));
        }
    }
    let verdict = Verdict {
        clusters: names.clone(),
        checks,
        ..Verdict::default()
    };
    let diagnosis = Diagnosis {
        clusters: names.clone(),
        checks: vec![],
        findings: vec![],
        not_looked_at: vec![],
    };
    let member = |name: &String| Member {
        name: name.clone(),
        network: name.clone(),
        ..Member::default()
    };
    let page = render(&Page {
        mesh: "m",
        now: at("2026-06-01T00:00:00Z"),
        members: names.iter().map(member).collect(),
        verdict: &verdict,
        ends: &Ends::default(),
        diagnosis: &diagnosis,
        run: None,
    });
    assert!(page.contains("2448 more of the same"));
    assert!(!page.contains("class=\"topology"), "a table, and no lines");
    assert!(page.matches("<td class=\"failed\" title=").count() == 2450);
}
