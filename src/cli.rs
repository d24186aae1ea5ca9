//! The command line: arguments in, output and exit code out.
//!
//! | part | what it is |
//! | --- | --- |
//! | `args` | what a user can type and what the machine says; nothing else reads either |
//! | `command` | one file per command |
//! | `session` | the mesh a command is about, and what the library is given |
//! | `output` | what a user sees |
//! | `error` | how a command ends when it does not end well |
//! | `hints` | what to type next, with the flags that find the same mesh |
//!
//! Arguments are parsed before anything is started, so that `--version` and `--help` cost nothing.

use std::{
    env::ArgsOs,
    future::Future,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use tokio_util::sync::CancellationToken;

use self::{
    args::{Args, Command, Environment, Format},
    error::{Exit, Failure, Kind},
    hints::Hints,
    output::{Patience, Screen, json},
};
use crate::{
    aws::Aws,
    engine::Clock,
    hint::Hint,
    link::{Folders, selection},
    net::Network,
};

mod args;
mod command;
mod error;
mod hints;
mod output;
mod passphrase;
mod session;
mod start;

/// What every command is given.
pub(crate) struct Frame {
    /// What the machine says.
    pub(crate) environment: Environment,
    /// What the user sees.
    pub(crate) screen: Screen,
    /// The way out to the network.
    pub(crate) network: Network,
    /// AWS, with one budget of calls for the whole command.
    pub(crate) aws: Aws,
    /// Cancelled when the user wants to stop.
    pub(crate) cancel: CancellationToken,
    /// Something is being changed that should come to a good end.
    pub(crate) changing: Arc<AtomicBool>,
    /// Makes hints of what is known of the mesh that can be pasted.
    pub(crate) hints: Hints,
    /// The command as it was typed, for the journal. No argument of ours is a secret.
    pub(crate) command: String,
}

impl Frame {
    /// What time it is.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        now()
    }

    /// The time, for everything below.
    pub(crate) fn clock(&self) -> Clock {
        Arc::new(now)
    }

    /// The same of somebody whose clock is ahead of this machine's.
    pub(crate) fn clock_ahead(&self, by: jiff::SignedDuration) -> Clock {
        Arc::new(move || now().saturating_add(by).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Where the things of all meshes are.
    pub(crate) fn folders(&self, sandbox: bool) -> Result<Folders, Failure> {
        let folders = self.environment.folders(sandbox);
        folders.ok_or_else(|| {
            Failure::from_causes(
                Kind::Failed,
                vec![
                    "HOME is not set to an absolute path, so there is no folder for the vault"
                        .into(),
                ],
            )
            .hint(Hint::to_fill_in("export HOME=/PATH/TO/A/FOLDER/OF/YOURS"))
        })
    }

    /// Whether the user agrees: by typing `word`, or y where there is none. Where nobody can type, `--yes` is missing.
    pub(crate) fn consent(
        &self,
        question: &str,
        word: Option<&str>,
        limit: Duration,
    ) -> Result<bool, Failure> {
        let patience = Patience {
            cancel: &self.cancel,
            until: Instant::now() + limit,
        };
        let answer = self.screen.ask(question, word, &patience);
        if self.cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        answer.ok_or_else(|| {
            let text = "not a terminal: pass --yes to change clusters";
            let failure = Failure::from_causes(Kind::Usage, vec![text.into()]);
            let preview = self.hints.preview().into_iter();
            preview.fold(failure, Failure::hint)
        })
    }
}

/// The command as it was typed, word by word.
#[expect(clippy::disallowed_methods, reason = "the one place where it enters")]
fn words() -> ArgsOs {
    std::env::args_os()
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "the one place where it enters")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The `meshlink` command: reads arguments and environment, runs, and says how it ended.
pub fn main() -> ExitCode {
    start::quiet_panics();
    start::keep_memory_to_itself();
    let environment = Environment::read();
    if let Some(code) = start::complete(words(), &environment) {
        return code;
    }
    let args = match Args::try_parse_from(words()) {
        Ok(args) => args,
        Err(error) => return start::not_parsed(&error, words(), &environment),
    };
    let screen = Screen::new(&args.output, &environment);
    start::logging(&screen);
    let listener = screen.clone();
    let network = Network::new(environment.proxies());
    let frame = Frame {
        aws: Aws::new(environment.aws())
            .through(network.clone())
            .telling(move |text| listener.say(text)),
        network,
        environment,
        screen,
        hints: Hints::of(&args.command),
        cancel: CancellationToken::new(),
        changing: Arc::default(),
        command: words()
            .skip(1)
            .map(|word| crate::hint::word(&word.to_string_lossy()))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let exit = match run(args.command, &frame) {
        Ok(exit) => exit,
        Err(failure) => tell(&frame, failure),
    };
    ExitCode::from(exit.code())
}

fn run(command: Command, frame: &Frame) -> Result<Exit, Failure> {
    command.check(|target| {
        let folders = frame.folders(target.sandbox).ok()?;
        selection::written_down(session::named(target, &folders)).ok()
    })?;
    // Installed once, here; a second call would only say that it is.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(&error))?;
    let exit = runtime.block_on(interruptible(frame, command::run(command, frame)));
    // What is given up lets go of what it has started; whatever still runs then was not worth waiting for: a name being
    // resolved, a file being read.
    runtime.shutdown_timeout(LETTING_GO);
    exit
}

/// Runs a command. An interruption ends it, unless it is changing something: then the first asks it to stop, and the
/// second does not ask.
async fn interruptible(
    frame: &Frame,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let (mut told, _listening) = start::interruptions(frame.cancel.clone(), frame.changing.clone());
    let mut asked = false;
    let mut command = std::pin::pin!(command);
    loop {
        tokio::select! {
            biased;
            Some(()) = told.recv() => {
                if !frame.changing.load(SeqCst) {
                    let ended = tokio::time::timeout(SOON, &mut command).await;
                    let text = "interrupted; nothing was being changed";
                    let interrupted = |_| Err(Failure::from_causes(Kind::Interrupted, vec![text.into()]));
                    return ended.unwrap_or_else(interrupted);
                }
                if std::mem::replace(&mut asked, true) {
                    let text = "stopped at once; running the command again is safe";
                    return Err(Failure::from_causes(Kind::Interrupted, vec![text.into()]));
                }
                frame.screen.complain("finishing the current steps; press Ctrl-C again to stop at once");
            }
            result = &mut command => return result,
        }
    }
}

/// How long a command may take to end when it is told to, where it changes nothing.
const SOON: Duration = Duration::from_millis(300);
/// How long what is given up may take to be let go of.
const LETTING_GO: Duration = Duration::from_millis(200);

/// Says what went wrong, to people and, if one listens, to a program.
fn tell(frame: &Frame, mut failure: Failure) -> Exit {
    let screen = &frame.screen;
    frame.hints.settle_failure(&mut failure);
    let said = match failure.kind {
        // No is an answer, and not an error.
        Kind::Declined => failure.to_string(),
        _ => error::render(&failure, screen.err),
    };
    let failure = &failure;
    let value = json::Failed {
        exit_code: Exit::from(failure.kind).code(),
        failure,
    };
    if screen.format != Format::Table {
        // The failure is told on standard error either way.
        let _ = screen.show(&value, |_| String::new());
    }
    screen.complain(&said);
    failure.kind.into()
}
