//! Reader accounts and remote secrets.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::sync::Mutex;

use super::{Evidence, StepContext, seen};
use crate::{
    cluster::{
        Cluster, Kind, Ref, Token,
        access::{self, Link},
        wait,
    },
    engine::Error,
    name::ClusterName,
    observe::Layout,
    probe::{Absence, Dialed, Probe},
    spec::GATEWAY_PORT,
    wait::{Progress, Reason},
};

/// How long a step waits for what a gateway answers to TLS: a join is not to be slowed down by it.
const GREETING: Duration = Duration::from_secs(1);

impl StepContext<'_> {
    pub(super) async fn grant_reader(&self, name: &ClusterName, peer: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let objects = self
            .run
            .wanted(name)?
            .readers
            .get(peer)
            .map(Vec::as_slice)
            .unwrap_or_default();
        for object in objects {
            self.write(cluster, object).await?;
        }
        let secret = access::token_secret(peer);
        wait::until(
            cluster,
            &secret,
            self.deadline,
            wait::secret_has_token,
            self.say,
        )
        .await?;
        seen(format!(
            "ServiceAccount for {peer}'s istiod, its token does not expire"
        ))
    }

    /// Tried with exactly what is to be written, from here and from the cluster that will use it:
    /// an istiod that ever saw a secret fail keeps its endpoints for good.
    pub(super) async fn share_secret(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let link = self.link(from, to).await?;
        access::try_kubeconfig(&link, &self.run.connect)
            .await
            .map_err(|source| Error::Untrusted {
                from: from.clone(),
                to: to.clone(),
                source: Box::new(source),
            })?;
        let cluster = self.cluster(to)?;
        let place = match self.run.layout {
            Layout::PerPeer => {
                self.write(cluster, &access::remote_secret(&link)).await?;
                access::remote_name(from)
            }
            Layout::Packed => {
                let (shards, owner) = (self.run.readings.shards(to), self.owner(cluster)?);
                match shards.pack(cluster, owner, &link).await? {
                    access::Packed::In(place) => place,
                    access::Packed::Foreign { secret, whose } => {
                        return Err(super::own::foreign(cluster, &secret, &whose).into());
                    }
                }
            }
        };
        seen(format!("{place} opens {}", link.server))
    }

    /// What `to`'s istiod needs to read `from`.
    pub(super) async fn link(&self, from: &ClusterName, to: &ClusterName) -> Result<Link, Error> {
        let cluster = self.cluster(from)?;
        let place = access::token_secret(to);
        let secret = cluster.find(&place).await?.ok_or_else(|| Error::Missing {
            cluster: from.clone(),
            what: format!("{place} is gone"),
        })?;
        let read = |key: &str| {
            let bytes = secret["data"][key]
                .as_str()
                .and_then(|data| STANDARD.decode(data).ok());
            bytes.ok_or_else(|| Error::Missing {
                cluster: from.clone(),
                what: format!("{place} has no {key}"),
            })
        };
        let token = String::from_utf8(read("token")?).map_err(|_| Error::Missing {
            cluster: from.clone(),
            what: format!("{place} holds no token"),
        })?;
        Ok(Link {
            cluster: from.clone(),
            server: self.server(from)?.to_owned(),
            ca: read("ca.crt")?,
            token: Token::new(token),
            tls_server_name: None,
        })
    }

    /// The API server's address as the peers must use it.
    pub(super) fn server(&self, name: &ClusterName) -> Result<&str, Error> {
        match &self.run.member(name)?.peer_server {
            Some(server) => Ok(server),
            None => Ok(self.cluster(name)?.server()),
        }
    }

    /// Until `from`'s probe reaches what `to` offers: the address must be reachable from where it is used.
    pub(super) async fn reach(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let there = self.cluster(to)?;
        let gateway = &self.run.mesh.gateway;
        let service = Ref::namespaced(
            &Kind::SERVICE,
            gateway.namespace.as_str(),
            gateway.name.as_str(),
        );
        let addresses = wait::until(
            there,
            &service,
            self.deadline,
            wait::service_has_address,
            self.say,
        )
        .await?;
        let mut evidence = vec![];
        for address in &addresses {
            let host = address.as_str();
            let probe = self.until_reached((from, to), host, GATEWAY_PORT).await?;
            evidence.push(format!("{host}:{GATEWAY_PORT} was reached from {from}"));
            evidence.extend(self.greeted(&probe, there, host).await);
        }
        if let Some((host, port)) = host_and_port(self.server(to)?).filter(|_| !self.run.embedded) {
            self.until_reached((from, to), &host, port).await?;
            evidence.push(format!("{host}:{port} was reached from {from}"));
        }
        Ok(evidence)
    }

    /// What a sidecar would meet there. No more than evidence here: the proof goes the whole way.
    async fn greeted(&self, probe: &Probe, home: &Cluster, host: &str) -> Vec<String> {
        let greet = probe.greet(home, host, GATEWAY_PORT, &self.run.resolver);
        match tokio::time::timeout(GREETING, greet).await {
            Ok(Ok(greetings)) => greetings.iter().map(ToString::to_string).collect(),
            Ok(Err(only)) => vec![only.to_string()],
            Err(_) => vec![format!(
                "TCP only: no answer to TLS within {} s",
                GREETING.as_secs()
            )],
        }
    }

    /// Until a host of `to` is reached from `from`; the probe that did.
    async fn until_reached(
        &self,
        (from, to): (&ClusterName, &ClusterName),
        host: &str,
        port: u16,
    ) -> Result<Probe, Error> {
        let absence = &Absence {
            host,
            port,
            peer: from,
            home: self.cluster(to)?,
            resolver: &self.run.resolver,
            aws: self.run.aws.as_ref(),
        };
        let known = &Mutex::new(None);
        self.until(
            &format!("{host}:{port} is reached from {from}"),
            || async move {
                let Some(probe) = self.asker(from).await? else {
                    return Ok(Progress::NotYet(format!("no probe runs in {from}").into()));
                };
                let dialed = probe.dial(host, port).await;
                if !matches!(dialed, Ok(Dialed::Reached)) {
                    self.run.readings.probes.invalidate(from);
                }
                let dialed = dialed?;
                if dialed == Dialed::Reached {
                    return Ok(Progress::Done(probe));
                }
                Ok(
                    match absence.note(&mut *known.lock().await, &dialed).await {
                        Some(hidden) if hidden.certain => {
                            let hidden = Box::new(hidden);
                            Progress::Never(Error::Hidden { hidden })
                        }
                        Some(hidden) => {
                            let reason = Reason::from(hidden.to_string());
                            Progress::NotYet(reason.with(hidden.hints))
                        }
                        None => Progress::NotYet(
                            format!("{host}:{port} {} from {from}", dialed.as_str()).into(),
                        ),
                    },
                )
            },
        )
        .await
    }
}

/// Host and port of an API server's URL.
pub(super) fn host_and_port(server: &str) -> Option<(String, u16)> {
    let uri: http::Uri = server.parse().ok()?;
    let port = uri.port_u16().unwrap_or(443);
    Some((uri.host()?.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_without_a_port_are_on_443() {
        let eks = host_and_port("https://ABC.gr7.us-west-2.eks.amazonaws.com").unwrap();
        assert_eq!(eks, ("ABC.gr7.us-west-2.eks.amazonaws.com".into(), 443));
        assert_eq!(
            host_and_port("https://[fd00::1]:6443").unwrap(),
            ("fd00::1".into(), 6443)
        );
    }
}
