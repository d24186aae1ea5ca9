//! What is set up before the first command runs: panics, logs, signals, memory, completion.

use std::{
    env::ArgsOs,
    io,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{RecvTimeoutError, Sender},
    },
    time::Duration,
};

use clap::{CommandFactory, ValueEnum};
use clap_complete::env::CompleteEnv;
use tokio::{
    signal::unix::{Signal as UnixSignal, SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::{
    args::{Args, Environment, Format, Output, environment::variable},
    error::{Exit, Failure},
    output::{Screen, json::Failed},
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

/// Help and version are results; anything else is a usage error, which repeats what was typed, and which a program that
/// listens is told too.
pub(crate) fn not_parsed(
    error: &clap::Error,
    words: ArgsOs,
    environment: &Environment,
) -> ExitCode {
    if !error.use_stderr() {
        // A reader that has gone away has seen enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let output = Output {
        format: form(words),
        ..Output::default()
    };
    let screen = Screen::new(&output, environment);
    let text = error.render().to_string();
    screen.complain(&match text.strip_prefix("error:") {
        Some(text) => screen.err.red("error:") + text,
        None => text.clone(),
    });
    if output.format != Format::Table {
        let text = text.trim_start_matches("error: ");
        let first = text.split("\n\n").next().unwrap_or_default();
        let failure = Failure::usage(first.trim());
        let failed = Failed {
            exit_code: Exit::Usage.code(),
            failure: &failure,
        };
        let _ = screen.show(&failed, |_| String::new());
    }
    Exit::Usage.code().into()
}

/// The form that was asked for, by words of which not all are understood.
fn form(mut words: impl Iterator<Item = String>) -> Format {
    let mut form = Format::Table;
    while let Some(word) = words.next() {
        let given = match word.as_str() {
            "--" => break,
            "-o" | "--output" | "-vo" | "-qo" => words.next(),
            word => {
                let given = word.strip_prefix("--output=");
                let given = given.or_else(|| word.strip_prefix("-o"));
                given.map(|given| given.trim_start_matches('=').to_owned())
            }
        };
        let known = given.and_then(|given| Format::from_str(&given, false).ok());
        form = known.unwrap_or(form);
    }
    form
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

/// How long what was asked to stop may take to end by itself, where it changes nothing.
const GRACE: Duration = Duration::from_millis(900);

/// Whatever the process holds in memory may be a key: none of it is written to a core file, nor shown to other
/// processes of the user. There is nothing to be done where the system does not let us.
pub(crate) fn keep_memory_to_itself() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Listens for the user or the system wanting the process to stop, on a thread that nothing else keeps busy: each time
/// is told. If the process then changes nothing and does not end by itself, it is ended.
pub(crate) fn interruptions(
    cancel: CancellationToken,
    changing: Arc<AtomicBool>,
) -> (UnboundedReceiver<()>, Listening) {
    let (heard, told) = unbounded_channel();
    let (ended, ends) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return (told, Listening(ended));
    };
    // Heard from now on, and not only from when the thread has begun.
    let mut signals = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok())
    };
    let listen = async move {
        loop {
            interruption(&mut signals).await;
            // It is told of before what it ends can have ended.
            let _ = heard.send(());
            cancel.cancel();
            if !changing.load(SeqCst) {
                // Whoever ends in time drops the other half of this.
                if ends.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                    give_up();
                }
            }
        }
    };
    std::thread::spawn(move || runtime.block_on(listen));
    (told, Listening(ended))
}

/// As long as it is there, the process has not come to its end.
pub(crate) struct Listening(
    #[expect(dead_code, reason = "what counts is when it is dropped")] Sender<()>,
);

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "something does not let go: a file that never opens, a name that does not resolve"
)]
fn give_up() {
    complain("error: interrupted; nothing was being changed\n");
    std::process::exit(Exit::Interrupted.code().into());
}

async fn interruption([interrupt, terminate]: &mut [Option<UnixSignal>; 2]) {
    let wait = async |signal: &mut Option<UnixSignal>| match signal {
        Some(signal) => drop(signal.recv().await),
        // Without a handler the system's own way of stopping stays in force.
        None => std::future::pending().await,
    };
    tokio::select! {
        () = wait(interrupt) => {}
        () = wait(terminate) => {}
    }
}

fn complain(text: &str) {
    let _ = io::Write::write_all(&mut io::stderr().lock(), text.as_bytes());
}
