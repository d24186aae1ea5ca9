//! What a user sees. Results go to standard output, everything else to standard error.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
    time::Instant,
};

use indicatif::{MultiProgress, ProgressDrawTarget};
use json::Document;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio_util::sync::CancellationToken;

use self::filter::Paint;
use super::{
    args::{Color, Environment, Format, Output},
    error::{Failure, Kind},
};
use crate::file::write_whole;

pub(crate) mod diagnosis;
pub(crate) mod ends;
pub(crate) mod filter;
pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod matrix;
pub(crate) mod page;
pub(crate) mod plain;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod workloads;

/// What a stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Colours.
    pub(crate) color: bool,
    /// More than ASCII.
    pub(crate) utf8: bool,
    /// Columns.
    pub(crate) width: usize,
}

/// The two streams of the process, and how talkative to be on them.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// The form of results.
    pub(crate) format: Format,
    /// How much evidence: 0 none, 1 evidence, 2 requests.
    pub(crate) verbose: u8,
    /// Only the result.
    pub(crate) quiet: bool,
    /// What standard output can show.
    pub(crate) out: Style,
    /// What standard error can show.
    pub(crate) err: Style,
    /// Whether someone sits there who can answer.
    pub(crate) interactive: bool,
    /// Whether standard output is a terminal, and not a file or another program.
    is_read: bool,
    /// The lines that move, where standard error is a terminal that can.
    pub(super) live: Option<Arc<MultiProgress>>,
}

/// How long an answer is waited for.
pub(crate) struct Patience<'a> {
    /// Nobody wants to answer any more.
    pub(crate) cancel: &'a CancellationToken,
    /// Nobody answers any more.
    pub(crate) until: Instant,
}

impl Patience<'_> {
    /// Whether a line was typed; not, if whoever is asked ends the command instead.
    fn for_a_line(&self) -> bool {
        // Signals are heard on another thread, which cannot interrupt this one.
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        while !self.cancel.is_cancelled() && Instant::now() < self.until {
            let stdin = io::stdin();
            let mut typed = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut typed, Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return true,
            }
        }
        false
    }
}

impl Style {
    /// 80 columns of ASCII without colour.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            color: false,
            utf8: false,
            width: 80,
        }
    }

    fn paint(self, paint: Paint, text: &str) -> String {
        match self.color {
            true => paint.around(text),
            false => text.to_owned(),
        }
    }

    /// What went wrong.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint(Paint::Red, text)
    }

    /// What is proved.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint(Paint::Green, text)
    }

    /// What needs attention.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint(Paint::Yellow, text)
    }

    /// What can be typed.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint(Paint::Cyan, text)
    }

    /// What matters less.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(Paint::Dim, text)
    }

    /// What heads a part.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(Paint::Bold, text)
    }

    /// The first where it can be shown, else the second.
    pub(crate) fn symbol(self, fine: &'static str, ascii: &'static str) -> &'static str {
        if self.utf8 { fine } else { ascii }
    }
}

impl Screen {
    /// From the flags, the environment and the streams themselves.
    pub(crate) fn new(output: &Output, environment: &Environment) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let columns = |terminal: bool| {
            let seen = || {
                rustix::termios::tcgetwinsize(io::stderr())
                    .ok()
                    .map(|size| usize::from(size.ws_col))
            };
            let columns = environment
                .columns()
                .or_else(|| terminal.then(seen).flatten());
            // What goes into a file or a pipe is searched and cut by others: it is not wrapped.
            let default = if terminal { 80 } else { usize::MAX };
            columns.filter(|columns| *columns >= 20).unwrap_or(default)
        };
        let style = |terminal: bool| Style {
            color: match output.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => terminal && !environment.is_colourless(),
            },
            utf8: environment.is_utf8(),
            width: columns(terminal),
        };
        let moves =
            err && !output.quiet && !environment.is_dumb() && environment.var("CI").is_none();
        Self {
            format: output.format,
            verbose: output.verbose,
            quiet: output.quiet,
            out: style(out),
            err: style(err),
            interactive: err && io::stdin().is_terminal(),
            is_read: out,
            live: moves.then(|| {
                Arc::new(MultiProgress::with_draw_target(
                    ProgressDrawTarget::stderr_with_hz(10),
                ))
            }),
        }
    }

    /// A result: as text for people, or the same value for programs.
    pub(crate) fn show<D: Document>(
        &self,
        document: &D,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.write(&filter::painted(&text(self.out), self.out.color)),
            Format::Json => self.write(&filter::json(&json::document(document)?)),
            Format::Yaml => match json::yaml(document)? {
                text if filter::is_plain(&text) => self.write(&text),
                // JSON is YAML too, and can say it in other words.
                _ => self.write(&filter::json(&json::document(document)?)),
            },
        }
    }

    /// A result that other programs are fed with: as it is, unless it is a terminal that reads it.
    pub(crate) fn hand_over<D: Document>(
        &self,
        document: &D,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.print(&text()),
            _ => self.show(document, |_| String::new()),
        }
    }

    /// Text that other programs are fed with.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        match self.is_read {
            true => self.write(&filter::plain(text)),
            false => self.write(text),
        }
    }

    /// Writes to standard output. A reader that has gone away is no error: it has seen enough.
    fn write(&self, text: &str) -> Result<(), Failure> {
        let newline = if text.ends_with('\n') || text.is_empty() {
            ""
        } else {
            "\n"
        };
        let write = || {
            let mut out = io::stdout().lock();
            write!(out, "{text}{newline}")?;
            out.flush()
        };
        match self.suspended(write) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(&error)),
            _ => Ok(()),
        }
    }

    /// Says something on standard error, unless only the result is wanted.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Says something on standard error, whatever is wanted. There is nobody to tell if that fails.
    pub(crate) fn complain(&self, text: &str) {
        let text = filter::painted(text.trim_end_matches('\n'), self.err.color);
        self.suspended(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    /// Asks on the terminal for a word that means yes, else for y; `None` where nobody can answer. No answer in time is
    /// a no.
    pub(crate) fn ask(
        &self,
        question: &str,
        word: Option<&str>,
        patience: &Patience<'_>,
    ) -> Option<bool> {
        if !self.interactive {
            return None;
        }
        self.suspended(|| {
            let mut err = io::stderr().lock();
            let keys = if word.is_some() { "" } else { " [y/N]" };
            write!(err, "{}{keys} ", filter::plain(question))
                .and_then(|()| err.flush())
                .ok()?;
            let mut answer = String::new();
            match patience.for_a_line() {
                true => io::stdin().read_line(&mut answer).ok()?,
                false => writeln!(err).map(|()| 0).ok()?,
            };
            let answer = answer.trim();
            Some(match word {
                Some(word) => answer == word,
                None => ["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()),
            })
        })
    }

    /// Does something while the moving lines are out of the way.
    fn suspended<T>(&self, f: impl FnOnce() -> T) -> T {
        match &self.live {
            Some(live) => live.suspend(f),
            None => f(),
        }
    }
}

/// Writes a file whole or not at all: who collects it must not find half of it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_whole(path, bytes).map_err(|error| {
        let what = format!("cannot write {}", path.display());
        Failure::from_causes(Kind::Failed, vec![what, error.to_string()])
    })
}

/// Breaks a line between words so that it fits; a word that is too long stays whole.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(word.into());
        } else if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("https://a-long-one x", 5), ["https://a-long-one", "x"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
