//! A program of the user's that signs: a request on its standard input, certificates on its standard output. Vault PKI,
//! step-ca, cert-manager and whatever else a company has are asked so.

use std::{collections::BTreeMap, io, process::Stdio, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
};

use super::{Authority, Error, Request};
use crate::{
    machine::Group,
    pki::{Cert, pem::MAX_BYTES},
};

/// A program that signs.
#[derive(Debug)]
pub(crate) struct Program {
    /// It and its arguments. What stands in braces there is filled in.
    command: Vec<String>,
    /// The variables it is given, and no others.
    variables: BTreeMap<String, String>,
    /// It may take so long.
    limit: Duration,
    root: Cert,
}

impl Program {
    /// Not run yet.
    pub(crate) fn new(
        command: Vec<String>,
        variables: BTreeMap<String, String>,
        limit: Duration,
        root: Cert,
    ) -> Self {
        Self {
            command,
            variables,
            limit,
            root,
        }
    }

    fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    fn failed(&self, reason: impl Into<String>) -> Error {
        Error::Unasked {
            who: self.who(),
            reason: reason.into(),
        }
    }

    async fn run(&self, request: &Request<'_>) -> Result<Vec<u8>, Error> {
        let mut child = self.command(request).spawn().map_err(|error| {
            self.failed(match error.kind() {
                io::ErrorKind::NotFound => "is not there, or not in PATH".to_owned(),
                _ => format!("could not be started: {error}"),
            })
        })?;
        let _ends = Group::of(child.id());
        let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let read = async {
            tokio::try_join!(
                tell(input, request.pem.as_bytes()),
                all(out),
                all(err),
                ended(&mut child)
            )
        };
        let limit = self.limit.as_secs();
        let read = tokio::time::timeout(self.limit, read).await;
        let read = read
            .map_err(|_| self.failed(format!("did not end within {limit} s, and was stopped")))?;
        let ((), out, err, status) =
            read.map_err(|error| self.failed(format!("could not be read: {error}")))?;
        if !status.success() {
            let said = String::from_utf8_lossy(&err);
            let last = said.trim().lines().next_back();
            let last = last.unwrap_or("it said nothing on its standard error");
            return Err(self.failed(format!("failed ({status}): {last}")));
        }
        Ok(out)
    }

    fn command(&self, request: &Request<'_>) -> Command {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command
            .args(words.map(|word| filled(word, request)))
            .env_clear()
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// A word of the command, with what is known of the request in the place of what stands in braces.
fn filled(word: &str, request: &Request<'_>) -> String {
    let new = request.new;
    let hours = new.lifetime.as_secs() / 3600;
    word.replace("{cluster}", new.cluster.as_str())
        .replace("{mesh}", new.mesh.as_str())
        .replace("{hours}", &hours.to_string())
        .replace("{days}", &(hours / 24).to_string())
}

impl Authority for Program {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn who(&self) -> String {
        format!("program {}", self.name())
    }

    fn root(&self) -> &Cert {
        &self.root
    }

    fn sign<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(self.run(request))
    }

    /// Whether it would sign, only running it tells; that it is there can be seen.
    fn silent(&self) -> Option<String> {
        let path = self.variables.get("PATH").map_or("", String::as_str);
        let is_there = match self.name().contains('/') {
            true => is_program(self.name().as_ref()),
            false => {
                std::env::split_paths(path).any(|folder| is_program(&folder.join(self.name())))
            }
        };
        (!is_there).then(|| "is not there, not in PATH, or may not be run".to_owned())
    }
}

fn is_program(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let found = path.metadata();
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// One that does not read its input to the end may know what it needs.
async fn tell(input: Option<ChildStdin>, text: &[u8]) -> io::Result<()> {
    let Some(mut input) = input else {
        return Ok(());
    };
    match input.write_all(text).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Everything a stream says, up to what a chain may be large.
async fn all(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut read = vec![];
    if let Some(stream) = stream {
        let most = MAX_BYTES as u64;
        stream.take(most + 1).read_to_end(&mut read).await?;
    }
    match read.len() > MAX_BYTES {
        true => Err(io::Error::other("it prints more than 512 KiB")),
        false => Ok(read),
    }
}

async fn ended(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    child.wait().await
}
