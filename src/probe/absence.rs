//! A gateway's name that is known at home and not in a peer: late, or never to come.

use std::time::Duration;

use tokio::time::Instant;

use super::{Dialed, Probe};
use crate::{aws::Members, cluster::Cluster, hint::Hint, name::ClusterName, resolve::Resolver};

/// A "no" may be kept twice on its way: by the VPC's name server, and by the cluster's own before it.
const KEPT: u32 = 2;
/// CoreDNS keeps it for so long at least, whatever the zone says.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest that is waited out: a minute in the zone of AWS's load balancers, and half a minute in CoreDNS.
const LONGEST: Duration = Duration::from_secs(90);

/// Follows a name that a peer does not know, until it is certain that waiting will not help.
#[derive(Debug)]
pub(crate) struct Absence<'a> {
    /// The name.
    pub(crate) host: &'a str,
    /// The port it is tried on.
    pub(crate) port: u16,
    /// The cluster that does not know it.
    pub(crate) peer: &'a ClusterName,
    /// The cluster whose gateway it is.
    pub(crate) home: &'a Cluster,
    /// Where this machine asks.
    pub(crate) resolver: &'a Resolver,
    /// AWS, where it may be asked.
    pub(crate) aws: Option<&'a Members>,
}

/// What was found out about a name since home has known it.
#[derive(Debug)]
pub(crate) struct Known {
    since: Instant,
    grace: Duration,
    hints: Vec<Hint>,
}

/// A name that is known in one place and not in another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} does not resolve in {peer}, though it does {place}: it looks to be in a private hosted zone that is not associated with the VPC of {peer}"
)]
pub(crate) struct Hidden {
    /// The name.
    pub(crate) host: String,
    /// The cluster that does not know it.
    pub(crate) peer: ClusterName,
    /// Where it is known.
    pub(crate) place: String,
    /// For how long it has been so.
    pub(crate) lasted: Duration,
    /// It has been so for longer than a "no" from before may be kept.
    pub(crate) certain: bool,
    /// What lets the peer see it.
    pub(crate) hints: Vec<Hint>,
}

impl Absence<'_> {
    /// Takes another answer of the peer's probe into account. A name that nobody knows is only late.
    pub(crate) async fn note(&self, known: &mut Option<Known>, dialed: &Dialed) -> Option<Hidden> {
        let place = match dialed {
            Dialed::NoName => self.known_at().await,
            _ => None,
        };
        let Some(place) = place else {
            *known = None;
            return None;
        };
        let now = match known.take() {
            Some(now) => now,
            None => self.begin().await,
        };
        let lasted = now.since.elapsed();
        let hidden = Hidden {
            host: self.host.into(),
            peer: self.peer.clone(),
            place,
            lasted,
            certain: lasted >= now.grace,
            hints: now.hints.clone(),
        };
        *known = Some(now);
        Some(hidden)
    }

    /// Where the name is known: at home by the probe there, and where none runs, on this machine.
    async fn known_at(&self) -> Option<String> {
        let Ok(Some(probe)) = Probe::find(self.home).await else {
            let found = self.resolver.lookup(self.host).await;
            return found.is_ok().then(|| "on this machine".into());
        };
        match probe.dial(self.host, self.port).await {
            // Whatever came of the connection: there was an address to connect to.
            Ok(Dialed::Reached | Dialed::Refused | Dialed::TimedOut) => {
                Some(format!("in {}", self.home.name()))
            }
            _ => None,
        }
    }

    async fn begin(&self) -> Known {
        let since = Instant::now();
        let keeps = self.resolver.keeps_no(self.host).await;
        let mut hints = match self.aws {
            Some(members) => {
                let home = self.home.name();
                members.associate(self.host, home, self.peer).await
            }
            None => vec![],
        };
        let words = [
            "-n",
            "kube-system",
            "get",
            "configmap",
            "coredns",
            "-o",
            "yaml",
        ];
        let asked = format!("where does it ask for {}?", self.host);
        hints.push(Hint::kubectl(self.peer, words).remark(asked));
        Known {
            since,
            grace: grace(keeps),
            hints,
        }
    }
}

/// How long a name that is new may still be unknown elsewhere.
fn grace(keeps: Option<Duration>) -> Duration {
    keeps.map_or(LONGEST, |keeps| (keeps * KEPT + SHORTEST).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_is_given_the_time_a_no_may_be_kept() {
        let seconds = Duration::from_secs;
        assert_eq!(grace(Some(seconds(5))), seconds(15));
        assert_eq!(grace(Some(seconds(60))), LONGEST);
        assert_eq!(grace(Some(seconds(900))), LONGEST, "a zone's usual word");
        assert_eq!(grace(None), LONGEST);
    }
}
