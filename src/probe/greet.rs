//! TLS at each address of a gateway, from a peer: a listener in front of nothing takes connections too.

use std::{fmt, net::IpAddr};

use futures::future;

use super::{Probe, Trouble, Way};
use crate::{cluster::Cluster, name::ClusterName, resolve::Resolver};

/// What came of a handshake at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Address and port.
    pub(crate) at: String,
    /// Who answered, by the certificate; else what stood in the way.
    pub(crate) answer: Result<String, Trouble>,
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answer {
            Ok(who) => write!(f, "{} answered TLS as {who}", self.at),
            Err(why) => write!(f, "{} did not answer TLS: it {why}", self.at),
        }
    }
}

/// Why no handshake could be tried: a gateway shows no certificate of its own, only that of a workload it knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TCP only: {0}")]
pub(crate) struct TcpOnly(String);

impl Probe {
    /// Greets the probe of `home` by each address of its gateway, as this pod's sidecar would.
    pub(crate) async fn greet(
        &self,
        home: &Cluster,
        host: &str,
        port: u16,
        resolver: &Resolver,
    ) -> Result<Vec<Greeting>, TcpOnly> {
        let there = Self::find(home).await;
        let there = there.map(|probe| probe.is_some());
        let there = there.map_err(|error| error.to_string());
        self.greet_at(home.name(), there, (host, port), resolver)
            .await
    }

    /// The same where it is known whether there is somebody to answer.
    pub(crate) async fn greet_at(
        &self,
        target: &ClusterName,
        there: Result<bool, String>,
        (host, port): (&str, u16),
        resolver: &Resolver,
    ) -> Result<Vec<Greeting>, TcpOnly> {
        if !there.map_err(TcpOnly)? {
            return Err(TcpOnly(format!("no probe runs in {target} to answer TLS")));
        }
        let found = resolver.lookup(host).await;
        let addresses = found.map_err(|e| TcpOnly(format!("here, {e}")))?;
        let one = |ip: IpAddr| async move {
            let at = std::net::SocketAddr::new(ip, port).to_string();
            let answer = match self.ask(Way::Http, target, Some(&at), 1).await {
                Ok(answers) => match answers.first() {
                    Some(answer) => answer.handshake().map(str::to_owned),
                    None => Err(Trouble::NotAsked("was not asked".into())),
                },
                Err(error) => Err(Trouble::NotAsked(error.to_string())),
            };
            Greeting { at, answer }
        };
        Ok(future::join_all(addresses.into_iter().map(one)).await)
    }
}
