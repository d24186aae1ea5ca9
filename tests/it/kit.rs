//! Runs the command the way a user does, and shows what came of it in one text.

use std::{
    fmt, fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[cfg(feature = "sandbox")]
mod redact;
#[cfg(feature = "sandbox")]
pub(crate) mod rendered;
#[cfg(feature = "sandbox")]
mod world;

#[cfg(feature = "sandbox")]
pub(crate) use redact::redact;
#[cfg(feature = "sandbox")]
pub(crate) use world::{Inventory, World, foreign_cacerts, istio, join};

/// No command of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(180);

/// A user with an empty home, an empty folder, and nothing else in the environment.
pub(crate) struct Session {
    root: TempDir,
    vars: Vec<(String, String)>,
}

/// What a command answered. Printed, it is the whole of it: exit code, both streams, and what differs
/// from run to run replaced.
pub(crate) struct Answer {
    /// Exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output, as it was.
    pub(crate) stdout: String,
    /// Standard error, as it was.
    pub(crate) stderr: String,
    root: PathBuf,
}

/// A command that runs beside the test, and not longer than it.
pub(crate) struct Running {
    child: Child,
    args: String,
    root: PathBuf,
    stdout: mpsc::Receiver<String>,
    stderr: Option<thread::JoinHandle<String>>,
    said: String,
}

impl Session {
    /// A new user.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["home", "here"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let session = Self { root, vars: vec![] };
        let home = session.home().display().to_string();
        session
            .var("HOME", &home)
            .var("LANG", "C.UTF-8")
            .var("COLUMNS", "80")
    }

    /// Sets a variable.
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.into(), value.into()));
        self
    }

    /// Puts a file into the folder the commands run in.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.here().join(name), text).unwrap();
        self
    }

    /// The user's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The folder the commands run in.
    pub(crate) fn here(&self) -> PathBuf {
        self.root.path().join("here")
    }

    /// The command with these arguments, ready to be started; words are parted at spaces.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshlink"));
        command.args(args.split_whitespace());
        self.settle(command)
    }

    /// Runs lines of a shell's script.
    pub(crate) fn shell(&self, script: &str) -> Answer {
        let mut command = Command::new("sh");
        command.args(["-euc", script]);
        self.spawn(self.settle(command), script).end()
    }

    /// A command in this user's place, that nobody answers.
    fn settle(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
            .current_dir(self.here())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `meshlink` with these arguments.
    pub(crate) fn run(&self, args: &str) -> Answer {
        self.start(args).end()
    }

    /// Starts `meshlink` with these arguments beside the test.
    pub(crate) fn start(&self, args: &str) -> Running {
        self.start_with(args, &[])
    }

    /// The same, with these variables too.
    pub(crate) fn start_with(&self, args: &str, vars: &[(&str, &str)]) -> Running {
        let mut command = self.command(args);
        command.envs(vars.iter().copied());
        self.spawn(command, args)
    }

    /// Starts a command of this user's that was made ready.
    pub(crate) fn spawn(&self, mut command: Command, args: &str) -> Running {
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running {
            child,
            args: args.into(),
            root: self.root.path().into(),
            stdout: lines(stdout),
            stderr: Some(thread::spawn(move || io::read_to_string(stderr).unwrap())),
            said: String::new(),
        }
    }

    /// Starts embedded clusters that other commands of this user find.
    pub(crate) fn sandbox(&self, args: &str) -> Running {
        let mut running = self.start(&format!("sandbox {args}"));
        running.wait_for("KUBECONFIG");
        running
    }
}

impl Running {
    /// Until it has written this to standard output.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.said.contains(text) {
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(line) => self.said += &line,
                Err(error) => panic!(
                    "meshlink {} did not say {text:?}: {error}: {}",
                    self.args, self.said
                ),
            }
        }
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Answer {
        let code = wait(&mut self.child, &self.args);
        self.said.extend(self.stdout.iter());
        Answer {
            code,
            stdout: std::mem::take(&mut self.said),
            stderr: self.stderr.take().unwrap().join().unwrap(),
            root: self.root.clone(),
        }
    }
}

impl Answer {
    /// The exit code is this one.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Says this, on either stream, however the lines are broken.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let all = words(&format!("{} {}", self.stdout, self.stderr));
        assert!(
            all.contains(&words(text)),
            "{text:?} is not said in\n{self}"
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in\n{self}"))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit {code}")?,
            None => writeln!(f, "killed")?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "--- {name} ---")?;
                f.write_str(&redact(text, &self.root))?;
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream's lines as they come.
fn lines(stream: impl io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        // A test that has seen enough no longer listens.
        while stream.read_line(&mut line).unwrap() > 0
            && sender.send(std::mem::take(&mut line)).is_ok()
        {}
    });
    receiver
}

fn wait(child: &mut Child, args: &str) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("meshlink {args} still ran after {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Until something is so that only looking can tell.
pub(crate) fn until(fact: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "not so after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "tests run now")]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Whether this is CI, where what a test is judged by has to be there, or is fetched.
#[expect(
    clippy::disallowed_methods,
    reason = "only a test's own surroundings tell"
)]
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// A tool that is missing is a skip outside CI, and a failure in it.
pub(crate) fn may_be_missing(tool: &str) {
    assert!(!in_ci(), "{tool} is needed in CI");
}

/// Whether CI wants everything tried, and not a slice of it.
#[expect(
    clippy::disallowed_methods,
    reason = "only a test's own surroundings tell"
)]
pub(crate) fn in_full() -> bool {
    std::env::var_os("MESHLINK_FULL").is_some()
}

/// How many members meshes have whose cost is counted.
#[expect(
    clippy::disallowed_methods,
    reason = "only a test's own surroundings tell"
)]
pub(crate) fn sizes() -> Vec<usize> {
    let sizes = std::env::var("MESHLINK_MEMBERS").unwrap_or_else(|_| "4".to_owned());
    sizes.split(',').map(|size| size.parse().unwrap()).collect()
}

/// All of these in full, else so many of them whose turn it is by the hash of the commit.
#[cfg(feature = "crashpoints")]
pub(crate) fn in_turn(all: Vec<String>, slice: usize) -> Vec<String> {
    if in_full() {
        return all;
    }
    let head = std::process::Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(repository())
        .output();
    let head = head
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    let turn = usize::from_str_radix(head.get(..6).unwrap_or("0"), 16).unwrap_or_default();
    let apart = all.len().div_ceil(slice);
    all.into_iter().skip(turn % apart).step_by(apart).collect()
}

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
