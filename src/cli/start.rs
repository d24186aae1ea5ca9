//! What is set up before the first command runs: panics, logs, signals, completion.

use std::{env::ArgsOs, io, process::ExitCode};

use clap::CommandFactory;
use clap_complete::env::CompleteEnv;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::{
    args::{Args, Environment, Output, environment::variable},
    error::Exit,
    output::Screen,
};

/// A panic says where, never what: its message could hold anything. It ends the process here, in the
/// same way whether the build unwinds or aborts; what it leaves is what a killed run leaves.
#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "a release aborts on a panic, and that is no exit code"
)]
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        complain(&format!(
            "error: this is a bug in meshlink, at {place}\n  hint: please report it; running the command again is safe\n"
        ));
        std::process::exit(Exit::Failed.code().into());
    }));
}

/// Answers a shell that asks for completions; `None` for everybody else.
pub(crate) fn complete(words: ArgsOs, environment: &Environment) -> Option<ExitCode> {
    if !environment.own.completes {
        return None;
    }
    let complete = CompleteEnv::with_factory(Args::command).var(variable::COMPLETE);
    let here = std::env::current_dir().ok();
    match complete.try_complete(words, here.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(_) => Some(Exit::Failed.code().into()),
    }
}

/// Help and version are results; anything else is a usage error, and repeats what was typed.
pub(crate) fn not_parsed(error: &clap::Error, environment: &Environment) -> ExitCode {
    if !error.use_stderr() {
        // A reader that has gone away has seen enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let screen = Screen::new(&Output::default(), environment);
    let text = error.render().to_string();
    screen.complain(&match text.strip_prefix("error:") {
        Some(text) => screen.err.red("error:") + text,
        None => text,
    });
    Exit::Usage.code().into()
}

/// What `-v` brings, in one place: once, evidence in results; twice, requests in a log; three times, all of the log.
/// Other crates never log below `debug`: what they would say there includes the bytes they send.
pub(crate) fn logging(screen: &Screen) {
    let (ours, others) = match screen.verbose {
        0 | 1 => return,
        2 => (Level::DEBUG, Level::ERROR),
        _ => (Level::TRACE, Level::DEBUG),
    };
    let filter = Targets::new()
        .with_default(others.min(Level::WARN))
        .with_target("kube", others)
        .with_target("meshlink", ours);
    let lines = Lines(screen.clone());
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(screen.verbose > 2)
        .with_timer(tracing_subscriber::fmt::time::uptime())
        .with_writer(move || lines.clone());
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .init();
}

/// Writes a log line above the moving lines.
#[derive(Clone)]
struct Lines(Screen);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.complain(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Until the user or the system wants the process to stop.
pub(crate) async fn interruption() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        // Without a handler the system's own way of stopping stays in force.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}

fn complain(text: &str) {
    let _ = io::Write::write_all(&mut io::stderr().lock(), text.as_bytes());
}
