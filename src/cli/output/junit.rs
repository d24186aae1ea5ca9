//! A verdict as JUnit XML, as CI systems read it: a test case for each claim.

use jiff::Timestamp;

use crate::{
    cli::error::Failure,
    verify::{Check, Claim, Outcome, Verdict},
};

/// What the claims were looked at for.
pub(crate) struct About<'a> {
    /// The mesh.
    pub(crate) mesh: &'a str,
    /// When the looking began.
    pub(crate) started: Timestamp,
    /// How long it took.
    pub(crate) millis: u64,
}

/// One case for each claim. What was not tried is skipped, but that a pair is proved: nobody is to take a mesh for
/// proved because nobody asked.
pub(crate) fn render(verdict: &Verdict, about: &About<'_>) -> String {
    let count = |ends: End| {
        let same = verdict.checks.iter().filter(|c| End::of(c) == ends);
        same.count()
    };
    let counts = Counts {
        tests: verdict.checks.len(),
        failures: count(End::Failed),
        errors: 0,
        skipped: count(End::Skipped),
    };
    let cases: String = verdict.checks.iter().map(case).collect();
    suite(about, &counts, &cases)
}

/// A command that did not come as far as a verdict: one case, which is an error.
pub(crate) fn render_failure(failure: &Failure, about: &About<'_>) -> String {
    let counts = Counts {
        tests: 1,
        failures: 0,
        errors: 1,
        skipped: 0,
    };
    let causes = failure.errors.iter().map(|e| e.causes.join(": "));
    let text = causes.collect::<Vec<_>>().join("\n");
    let first = text.lines().next().unwrap_or_default();
    let case = format!(
        "    <testcase name=\"verify\" classname=\"meshlink\" time=\"0.000\">\n      \
         <error message=\"{}\" type=\"error\">{}</error>\n    </testcase>\n",
        escaped(first),
        escaped(&text)
    );
    suite(about, &counts, &case)
}

/// How a case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Skipped,
    Failed,
}

impl End {
    fn of(check: &Check) -> Self {
        match check.outcome {
            Outcome::Ok | Outcome::Warning => Self::Passed,
            Outcome::NotTried if check.id != Claim::Proved => Self::Skipped,
            Outcome::NotTried | Outcome::Failed => Self::Failed,
        }
    }
}

struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

/// The order of attributes and elements is that of the schemas in use; all that these demand is there, and the older of
/// them demand that properties are not empty.
fn suite(about: &About<'_>, counts: &Counts, cases: &str) -> String {
    let Counts {
        tests,
        failures,
        errors,
        skipped,
    } = counts;
    let time = format!("{}.{:03}", about.millis / 1000, about.millis % 1000);
    let started = about.started.strftime("%Y-%m-%dT%H:%M:%S");
    let mesh = escaped(about.mesh);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
         <testsuite name=\"mesh {mesh}\" package=\"meshlink\" id=\"0\" timestamp=\"{started}\" \
         hostname=\"localhost\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" \
         skipped=\"{skipped}\" time=\"{time}\">\n    <properties>\n      \
         <property name=\"mesh\" value=\"{mesh}\"/>\n    </properties>\n{cases}    \
         <system-out/>\n    <system-err/>\n  </testsuite>\n</testsuites>\n"
    )
}

fn case(check: &Check) -> String {
    let class = match &check.to {
        Some(to) => format!("{}.{}", check.from, to),
        None => check.from.clone(),
    };
    let mut text = format!(
        "    <testcase name=\"{}\" classname=\"{}\" time=\"0.000\"",
        escaped(&check.path()),
        escaped(&class)
    );
    let evidence = escaped(&check.evidence);
    text += &match End::of(check) {
        End::Passed => "/>\n".to_owned(),
        End::Skipped => ">\n      <skipped/>\n    </testcase>\n".to_owned(),
        End::Failed => {
            let hints = check
                .hints
                .iter()
                .map(|h| format!("\nhint: {}", escaped(&h.to_string())));
            let (kind, hints) = (check.id.as_str(), hints.collect::<String>());
            format!(
                ">\n      <failure message=\"{evidence}\" type=\"{kind}\">{evidence}{hints}</failure>\n    \
                 </testcase>\n"
            )
        }
    };
    text
}

/// Text as XML may hold it: what it may not hold at all is left out.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&apos;"),
            '\n' | '\t' => safe.push(c),
            c if c < ' ' || matches!(c, '\u{7f}' | '\u{fffe}' | '\u{ffff}') => {}
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use xmlparser::{ElementEnd, Token, Tokenizer};

    use super::*;
    use crate::hint::Hint;

    fn check(id: Claim, outcome: Outcome, evidence: &str) -> Check {
        Check {
            id,
            from: "eks-1".into(),
            to: Some("eks-2".into()),
            outcome,
            evidence: evidence.into(),
            hints: vec![Hint::shell("kubectl get svc   # \"why\"?")],
        }
    }

    fn shown() -> String {
        let verdict = Verdict {
            checks: vec![
                check(Claim::Synced, Outcome::Ok, "1 of 1"),
                check(
                    Claim::Proved,
                    Outcome::Failed,
                    "503 <no> \"healthy\" upstream\u{1b}[0m & so",
                ),
                check(Claim::Grpc, Outcome::NotTried, "no probe"),
            ],
            ..Verdict::default()
        };
        let about = About {
            mesh: "prod",
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
            millis: 61_007,
        };
        render(&verdict, &about)
    }

    #[test]
    fn a_case_for_each_claim() {
        assert_snapshot!(shown(), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites>
          <testsuite name="mesh prod" package="meshlink" id="0" timestamp="2026-01-02T03:04:05" hostname="localhost" tests="3" failures="1" errors="0" skipped="1" time="61.007">
            <properties>
              <property name="mesh" value="prod"/>
            </properties>
            <testcase name="synced/eks-1/eks-2" classname="eks-1.eks-2" time="0.000"/>
            <testcase name="proved/eks-1/eks-2" classname="eks-1.eks-2" time="0.000">
              <failure message="503 &lt;no&gt; &quot;healthy&quot; upstream[0m &amp; so" type="proved">503 &lt;no&gt; &quot;healthy&quot; upstream[0m &amp; so
        hint: kubectl get svc   # &quot;why&quot;?</failure>
            </testcase>
            <testcase name="grpc/eks-1/eks-2" classname="eks-1.eks-2" time="0.000">
              <skipped/>
            </testcase>
            <system-out/>
            <system-err/>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn it_is_xml() {
        let text = shown();
        let mut open = 0;
        for token in Tokenizer::from(text.as_str()) {
            match token.unwrap() {
                Token::ElementStart { .. } => open += 1,
                Token::ElementEnd {
                    end: ElementEnd::Empty | ElementEnd::Close(..),
                    ..
                } => open -= 1,
                _ => {}
            }
        }
        assert_eq!(open, 0);
    }
}
