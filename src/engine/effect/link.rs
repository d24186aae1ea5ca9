//! The way from one member to another, as it is used.

use std::time::Duration;

use tokio::sync::Mutex;

use super::{Evidence, StepContext};
use crate::{
    cluster::{Cluster, Kind, Ref, wait},
    engine::Error,
    name::ClusterName,
    probe::{Absence, Dialed, Probe},
    spec::GATEWAY_PORT,
    wait::{Progress, Reason},
};

/// How long a step waits for what a gateway answers to TLS: a join is not to be slowed down by it.
const GREETING: Duration = Duration::from_secs(1);

impl StepContext<'_> {
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
        let known = &self.run.readings.addresses;
        let has_address = wait::service_has_address;
        let addresses = async {
            let found = wait::until(there, &service, self.deadline, has_address, self.say);
            let found = found.await?;
            Ok(found.iter().map(|a| a.as_str().to_owned()).collect())
        };
        let addresses: Vec<String> = known.of(to, addresses).await?;
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
        let there = self.asker(home.name()).await;
        let there = there.map(|probe| probe.is_some());
        let there = there.map_err(|error| error.to_string());
        let at = (host, GATEWAY_PORT);
        let greet = probe.greet_at(home.name(), there, at, &self.run.resolver);
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
