//! Replaces what differs from run to run.

use std::path::Path;

use regex_lite::Regex;

/// The text with paths, durations, dates, ports, fingerprints and the commit replaced by what they are.
pub(crate) fn redact(text: &str, root: &Path) -> String {
    let rules = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[INSTANT]"),
        (r"\d{4}-\d\d-\d\d", "[DATE]"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
        (r"\b([0-9A-Fa-f]{2}:){7,}[0-9A-Fa-f]{2}\b", "[FINGERPRINT]"),
        (r"\b[0-9a-f]{40,}\b", "[HASH]"),
        (r"\[ *\d+\.\d s\]", "[TIME]"),
        (r"\b\d+m ?\d+s\b|\b\d+(\.\d+)? ?(ms|s)\b", "[TIME]"),
        (r"\((?:[0-9a-f]{7,}) \[DATE\]\)", "([COMMIT])"),
    ];
    let text = text.replace(&root.display().to_string(), "[ROOT]");
    rules.iter().fold(text, |text, (rule, with)| {
        let rule = Regex::new(rule).unwrap();
        rule.replace_all(&text, *with).into_owned()
    })
}

#[test]
fn only_what_differs_is_replaced() {
    let text = "at 2026-01-02T03:04:05.6Z in 7.1s, 12 ms or 4m 2s; port 127.0.0.1:4711 of /r/x; 3 steps of eks-1";
    let want = "at [INSTANT] in [TIME], [TIME] or [TIME]; port 127.0.0.1:[PORT] of [ROOT]/x; 3 steps of eks-1";
    assert_eq!(redact(text, Path::new("/r")), want);
}
