//! The program a kubeconfig names for its credentials: run within a time limit, and never left behind.
//!
//! kube-client would run it too, but without a limit, and what it started would outlive us.

use std::{io, process::Stdio, sync::Arc, time::Duration};

use base64::Engine;
use jiff::Timestamp;
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::Mutex,
};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{ConnectOptions, Error, ExecFacts, Now, TokenError, TokenProvider};
use crate::{cluster::Token, hint::Hint, machine::Group, name::ClusterName};

/// More is no credential.
const LIMIT: u64 = 1024 * 1024;
/// So long before its end a token is renewed.
const EARLY: Duration = Duration::from_secs(60);

/// A credential plugin of one cluster.
pub(super) struct Plugin {
    cluster: ClusterName,
    exec: ExecConfig,
    facts: ExecFacts,
    limit: Duration,
    now: Now,
}

/// What a plugin prints.
#[derive(Deserialize)]
struct Printed {
    status: Option<Given>,
}

/// The credentials in it.
#[derive(Deserialize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
pub(super) struct Given {
    token: Option<String>,
    #[zeroize(skip)]
    expiration_timestamp: Option<Timestamp>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    pub(super) fn new(
        cluster: &ClusterName,
        exec: ExecConfig,
        facts: ExecFacts,
        options: &ConnectOptions,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            exec,
            facts,
            limit: options.plugin_limit,
            now: options.now.clone(),
        }
    }

    /// Runs it.
    pub(super) async fn run(&self) -> Result<Given, Error> {
        let run = self.printed();
        let Ok(printed) = tokio::time::timeout(self.limit, run).await else {
            let seconds = self.limit.as_secs_f32();
            return Err(self.failed(format!("did not end within {seconds} s, and was stopped")));
        };
        let printed = printed?;
        let json: Option<Printed> = serde_json::from_slice(&printed).ok();
        // client-go takes YAML too.
        let parsed = json.or_else(|| serde_saphyr::from_slice(&printed).ok());
        let parsed =
            parsed.ok_or_else(|| self.failed("did not print an ExecCredential".to_owned()))?;
        parsed
            .status
            .ok_or_else(|| self.failed("printed an ExecCredential without a status".to_owned()))
    }

    /// The tokens it gives, beginning with one it has given; it is run again when that one ends.
    pub(super) fn tokens(self, given: &Given) -> Option<TokenProvider> {
        let first = given.held()?;
        let (plugin, held) = (Arc::new(self), Arc::new(Mutex::new(first)));
        Some(Arc::new(move || {
            let (plugin, held) = (plugin.clone(), held.clone());
            Box::pin(async move {
                let mut held = held.lock().await;
                if held.1.is_some_and(|end| end <= (plugin.now.0)() + EARLY) {
                    let given = plugin.run().await.map_err(TokenError::from)?;
                    *held = given
                        .held()
                        .ok_or("the credential plugin gave no token this time")?;
                }
                Ok(held.0.clone())
            })
        }))
    }

    async fn printed(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let interactive = self.exec.interactive_mode != Some(ExecInteractiveMode::Never);
        let mut child = self.command(interactive).spawn().map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let reason = match missing {
                true => "is not installed, or not in PATH".to_owned(),
                false => format!("could not be started: {error}"),
            };
            let hint = self.facts.how_to_install().filter(|_| missing);
            self.told(reason, hint)
        })?;
        let _ends = Group::of(child.id().filter(|_| !interactive));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let unread = |error: io::Error| self.failed(format!("could not be read: {error}"));
        let read = async { tokio::try_join!(all(out), all(err), ended(&mut child)) };
        let (out, err, status) = read.await.map_err(unread)?;
        if !status.success() {
            let said = String::from_utf8_lossy(&err);
            let last = said.trim().lines().next_back();
            let last = last.unwrap_or("it said nothing on stderr");
            return Err(self.failed(format!("failed ({status}): {last}")));
        }
        Ok(out)
    }

    fn command(&self, interactive: bool) -> Command {
        let exec = &self.exec;
        let mut command = Command::new(&self.facts.command);
        command
            .args(exec.args.iter().flatten())
            .envs(self.facts.env.iter().map(|(name, value)| (name, value)))
            .env("KUBERNETES_EXEC_INFO", self.told_what_for(interactive))
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        match interactive {
            // It stays in our group, or the terminal would not be its own to read from.
            true => command.stdin(Stdio::inherit()).stderr(Stdio::inherit()),
            false => command
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .process_group(0),
        };
        command
    }

    fn told_what_for(&self, interactive: bool) -> String {
        let mut spec = json!({"interactive": interactive});
        if let Some(cluster) = &self.exec.cluster {
            spec["cluster"] = json!(cluster);
        }
        json!({"apiVersion": self.exec.api_version, "kind": "ExecCredential", "spec": spec})
            .to_string()
    }

    fn failed(&self, reason: String) -> Error {
        self.told(reason, None)
    }

    /// Never with what it printed: that may be the token.
    fn told(&self, reason: String, hint: Option<Hint>) -> Error {
        Error::Plugin {
            cluster: self.cluster.clone(),
            command: self.facts.command.clone(),
            reason,
            hint: hint.map(Box::new),
        }
    }
}

impl Given {
    /// The token and its end.
    fn held(&self) -> Option<(Token, Option<Timestamp>)> {
        let token = self.token.as_ref().filter(|token| !token.is_empty())?;
        Some((Token::new(token.clone()), self.expiration_timestamp))
    }

    /// Writes a certificate it gave where the client looks for one.
    pub(super) fn certify(&self, user: &mut AuthInfo) {
        if let (Some(chain), Some(key)) = (&self.client_certificate_data, &self.client_key_data) {
            let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
            user.client_certificate_data = Some(encode(chain));
            user.client_key_data = Some(encode(key).into());
        }
    }
}

/// Everything a stream says, up to the limit.
async fn all(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut read = Zeroizing::new(vec![]);
    if let Some(stream) = stream {
        let mut limited = stream.take(LIMIT + 1);
        limited.read_to_end(&mut read).await?;
    }
    match read.len() as u64 > LIMIT {
        true => Err(io::Error::other("it prints more than 1 MiB")),
        false => Ok(read),
    }
}

async fn ended(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    child.wait().await
}
