//! An event as a line: the same above the moving lines of a terminal and in a log.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::{Style, filter::is_mark};
use crate::engine::event::{Event, Kind, Severity};

/// How a stream tells of events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// What the stream can show.
    pub(super) style: Style,
    /// Whether somebody watches: then lines are short and waiting is shown elsewhere.
    pub(super) is_live: bool,
    /// Whether all evidence is wanted.
    pub(super) verbose: bool,
}

/// What a line tells of a step.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Start,
    Wait,
    Retry,
    Failed,
    Skip,
    Stop,
}

impl Mark {
    /// A word for those who search, a symbol for those who watch.
    fn shown(self) -> (&'static str, &'static str) {
        match self {
            Self::Start => ("start", "▸"),
            Self::Wait => ("wait", "…"),
            Self::Retry => ("retry", "↻"),
            Self::Failed => ("FAILED", "✗"),
            Self::Skip => ("skip", "-"),
            Self::Stop => ("stop", "■"),
        }
    }
}

impl Lines {
    /// The lines for an event of a run that began at `started`; none for what is not worth one.
    pub(super) fn of(self, event: &Event, started: Timestamp) -> Vec<String> {
        let mut texts = self.texts(&event.kind).into_iter();
        let Some(first) = texts.next() else {
            return vec![];
        };
        let since = self.since(event.at, started);
        let indent = if self.is_live {
            "  ".to_owned()
        } else {
            " ".repeat(since.len() + 2)
        };
        let first = self.fit(format!("{since}{first}"), &indent);
        let more = texts.flat_map(|text| self.fit(format!("{indent}{text}"), &indent));
        let more = more.map(|line| self.style.dim(&line));
        first.into_iter().chain(more).collect()
    }

    fn texts(self, kind: &Kind) -> Vec<String> {
        match kind {
            Kind::RunStarted { steps, .. } if steps.is_empty() => vec![],
            Kind::RunStarted {
                mesh,
                clusters,
                steps,
                ..
            } => vec![format!(
                "{} mesh {mesh} of {}: {}",
                self.mark("start", "▸", |text| self.style.cyan(text)),
                clusters.join(", "),
                count(steps.len(), "step")
            )],
            Kind::StepStarted { step } if self.verbose && !self.is_live => {
                self.line(Mark::Start, step, "")
            }
            Kind::StepWaiting { step, reason } if !self.is_live => {
                self.line(Mark::Wait, step, reason)
            }
            Kind::StepRetry { step, reason } => self.line(Mark::Retry, step, reason),
            Kind::StepFinished {
                step,
                evidence,
                millis,
            } => self.finished(step, evidence, *millis),
            Kind::StepFailed {
                step,
                severity: Severity::Interrupted,
                ..
            } => self.line(Mark::Stop, step, "interrupted"),
            Kind::StepFailed { step, causes, .. } => {
                let cause = causes.first().map_or("", String::as_str);
                self.line(Mark::Failed, step, cause)
            }
            Kind::StepSkipped { step, because } => {
                self.line(Mark::Skip, step, &because.to_string())
            }
            Kind::Interrupted { .. } => vec![format!(
                "{} no new step is started",
                self.mark("stop", "■", |t| self.style.yellow(t))
            )],
            Kind::StepStarted { .. }
            | Kind::StepWaiting { .. }
            | Kind::StepJudged { .. }
            | Kind::RunFinished { .. } => vec![],
        }
    }

    fn line(self, mark: Mark, step: &str, text: &str) -> Vec<String> {
        let (word, symbol) = mark.shown();
        let paint = |text: &str| match mark {
            Mark::Failed => self.style.red(text),
            Mark::Retry | Mark::Skip | Mark::Stop => self.style.yellow(text),
            Mark::Start | Mark::Wait => self.style.dim(text),
        };
        let text = text.lines().collect::<Vec<_>>().join(" ");
        vec![
            format!("{} {step}  {text}", self.mark(word, symbol, paint))
                .trim_end()
                .to_owned(),
        ]
    }

    /// What was seen last says most; all of it is for those who ask.
    fn finished(self, step: &str, evidence: &[String], millis: u64) -> Vec<String> {
        let mark = self.mark("done", "✓", |text| self.style.green(text));
        let head = format!("{mark} {step}  {}", duration(millis));
        match evidence {
            [] => vec![head],
            many @ [_, _, ..] if self.verbose => [&[head], many].concat(),
            [.., last] => vec![format!("{head}  {last}")],
        }
    }

    /// A symbol for those who watch, a word for those who search.
    fn mark(self, word: &str, symbol: &str, paint: impl Fn(&str) -> String) -> String {
        match self.is_live && self.style.utf8 {
            true => paint(symbol),
            false => paint(&format!("{word:<6}")),
        }
    }

    fn since(self, at: Timestamp, started: Timestamp) -> String {
        if self.is_live {
            return String::new();
        }
        let tenths = at
            .as_millisecond()
            .saturating_sub(started.as_millisecond())
            .max(0)
            / 100;
        format!("[{:>5}.{} s] ", tenths / 10, tenths % 10)
    }

    /// Cuts a line to the terminal; a log loses nothing of it, nor does anyone who asked for evidence.
    fn fit(self, line: String, indent: &str) -> Vec<String> {
        let width = self.style.width;
        if self.is_live && !self.verbose {
            return vec![cut(&line, width, self.style.symbol("…", "..."))];
        }
        hang(&line, width, indent)
    }
}

/// Breaks a line between words where it is too long; spaces within it stay as they are.
fn hang(line: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut rest = line.to_owned();
    while visible(&rest) > width {
        // Not within the indent, and not within a word.
        let start = rest.len() - rest.trim_start().len();
        let spaces = rest
            .match_indices(' ')
            .map(|(at, _)| at)
            .filter(|at| *at > start);
        let fits = |at: &usize| visible(&rest[..*at]) <= width;
        let Some(at) = spaces.clone().rfind(fits).or_else(|| spaces.clone().next()) else {
            break;
        };
        let next = format!("{indent}{}", rest[at..].trim_start());
        rest.truncate(at);
        lines.push(rest.trim_end().to_owned());
        rest = next;
    }
    lines.push(rest);
    lines
}

/// At most `width` characters that show; colours do not count.
pub(super) fn cut(text: &str, width: usize, more: &str) -> String {
    if visible(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(more.chars().count());
    let mut shown = 0;
    let mut out = String::new();
    for c in text.chars() {
        if is_mark(c) {
            out.push(c);
            continue;
        }
        match shown.cmp(&room) {
            Ordering::Less => out.push(c),
            Ordering::Equal => out.push_str(more),
            Ordering::Greater => {}
        }
        shown += 1;
    }
    out
}

/// How many characters show.
pub(super) fn visible(text: &str) -> usize {
    text.chars().filter(|c| !is_mark(*c)).count()
}

/// How long, as people read it.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{}m {}s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// `1 step`, `2 steps`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{s}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        cli::output::filter::Paint,
        engine::event::{Because, Planned},
    };

    pub(crate) fn run() -> Vec<Event> {
        let planned = |step: &str, cluster: &str| Planned {
            step: step.into(),
            cluster: Some(cluster.into()),
            clusters: step.split('/').skip(1).map(Into::into).collect(),
            describe: String::new(),
        };
        let kinds = [
            (
                0,
                Kind::RunStarted {
                    command: "join eks-1 eks-2".into(),
                    mesh: "meshlink".into(),
                    clusters: vec!["eks-1".into(), "eks-2".into()],
                    steps: vec![
                        planned("install-istiod/eks-1", "eks-1"),
                        planned("await-nlb/eks-2", "eks-2"),
                        planned("reach/eks-1/eks-2", "eks-1"),
                    ],
                },
            ),
            (
                10,
                Kind::StepStarted {
                    step: "install-istiod/eks-1".into(),
                },
            ),
            (
                20,
                Kind::StepStarted {
                    step: "await-nlb/eks-2".into(),
                },
            ),
            (
                1_500,
                Kind::StepWaiting {
                    step: "await-nlb/eks-2".into(),
                    reason: "target 10.0.0.4 is initial: Elb.RegistrationInProgress".into(),
                },
            ),
            (
                2_000,
                Kind::StepRetry {
                    step: "install-istiod/eks-1".into(),
                    reason: "the webhook does not answer yet".into(),
                },
            ),
            (
                7_110,
                Kind::StepFinished {
                    step: "install-istiod/eks-1".into(),
                    evidence: vec![
                        "Deployment istiod has 1 of 1 replicas".into(),
                        "revision 1 deployed".into(),
                    ],
                    millis: 7_100,
                },
            ),
            (
                62_000,
                Kind::StepFailed {
                    step: "await-nlb/eks-2".into(),
                    causes: vec!["timed out after 60 s".into()],
                    hints: vec![],
                    severity: Severity::NotInTime,
                },
            ),
            (
                62_001,
                Kind::StepSkipped {
                    step: "reach/eks-1/eks-2".into(),
                    because: Because::Needs("await-nlb/eks-2".into()),
                },
            ),
            (
                62_002,
                Kind::RunFinished {
                    done: false,
                    millis: 62_002,
                },
            ),
        ];
        kinds
            .into_iter()
            .map(|(millis, kind)| Event {
                at: Timestamp::from_millisecond(1_767_323_045_000 + millis).unwrap(),
                run: "r".into(),
                kind,
            })
            .collect()
    }

    fn lines(is_live: bool, utf8: bool, verbose: bool) -> String {
        let style = Style {
            utf8,
            ..Style::plain()
        };
        let lines = Lines {
            style,
            is_live,
            verbose,
        };
        let events = run();
        let texts = events
            .iter()
            .flat_map(|event| lines.of(event, events[0].at));
        texts.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_log() {
        insta::assert_snapshot!(lines(false, true, false), @"
        [    0.0 s] start  mesh meshlink of eks-1, eks-2: 3 steps
        [    1.5 s] wait   await-nlb/eks-2  target 10.0.0.4 is initial:
                      Elb.RegistrationInProgress
        [    2.0 s] retry  install-istiod/eks-1  the webhook does not answer yet
        [    7.1 s] done   install-istiod/eks-1  7.1 s  revision 1 deployed
        [   62.0 s] FAILED await-nlb/eks-2  timed out after 60 s
        [   62.0 s] skip   reach/eks-1/eks-2  needs await-nlb/eks-2
        ");
    }

    #[test]
    fn a_log_with_evidence() {
        insta::assert_snapshot!(lines(false, true, true), @"
        [    0.0 s] start  mesh meshlink of eks-1, eks-2: 3 steps
        [    0.0 s] start  install-istiod/eks-1
        [    0.0 s] start  await-nlb/eks-2
        [    1.5 s] wait   await-nlb/eks-2  target 10.0.0.4 is initial:
                      Elb.RegistrationInProgress
        [    2.0 s] retry  install-istiod/eks-1  the webhook does not answer yet
        [    7.1 s] done   install-istiod/eks-1  7.1 s
                      Deployment istiod has 1 of 1 replicas
                      revision 1 deployed
        [   62.0 s] FAILED await-nlb/eks-2  timed out after 60 s
        [   62.0 s] skip   reach/eks-1/eks-2  needs await-nlb/eks-2
        ");
    }

    #[test]
    fn a_terminal() {
        insta::assert_snapshot!(lines(true, true, false), @"
        ▸ mesh meshlink of eks-1, eks-2: 3 steps
        ↻ install-istiod/eks-1  the webhook does not answer yet
        ✓ install-istiod/eks-1  7.1 s  revision 1 deployed
        ✗ await-nlb/eks-2  timed out after 60 s
        - reach/eks-1/eks-2  needs await-nlb/eks-2
        ");
    }

    #[test]
    fn a_terminal_without_symbols() {
        insta::assert_snapshot!(lines(true, false, false), @"
        start  mesh meshlink of eks-1, eks-2: 3 steps
        retry  install-istiod/eks-1  the webhook does not answer yet
        done   install-istiod/eks-1  7.1 s  revision 1 deployed
        FAILED await-nlb/eks-2  timed out after 60 s
        skip   reach/eks-1/eks-2  needs await-nlb/eks-2
        ");
    }

    #[test]
    fn durations() {
        assert_eq!(
            ["12 ms", "7.1 s", "2m 5s"],
            [12, 7_199, 125_000].map(duration)
        );
    }

    #[test]
    fn a_log_breaks_lines_between_words_and_loses_none() {
        let line = "[ 1.0 s] done   reach/a/b  a-host-name-that-is-long:15443 was reached";
        let lines = hang(line, 30, "    ");
        let want = [
            "[ 1.0 s] done   reach/a/b",
            "    a-host-name-that-is-long:15443",
            "    was reached",
        ];
        assert_eq!(lines, want);
        assert_eq!(hang("short", 30, " "), ["short"]);
        assert_eq!(hang("  no-room-for-it", 5, "  "), ["  no-room-for-it"]);
    }

    #[test]
    fn cutting_counts_what_shows() {
        let red = |text: &str| Paint::Red.around(text);
        assert_eq!(cut(&red("abcdef"), 4, "…"), red("abc…"));
        assert_eq!(cut("abcd", 4, "…"), "abcd");
        assert_eq!(visible(&red("ab")), 2);
    }
}
