//! Trying a gateway's name from its peers, through their probes: during a join, and while a proof is made.

use std::time::Duration;

use futures::future;
use tokio::sync::Mutex;

use super::{Tried, dial};
use crate::{
    cli::output::Screen,
    cluster::Cluster,
    hint::Hint,
    link::Meshlink,
    name::ClusterName,
    probe::{Absence, Dialed, Greeting, Probe},
    verify::traffic::GATEWAY_SERVICES,
    wait::{self, Deadline, Every, Progress},
};

/// What cannot be watched is asked again this often.
const AGAIN: Duration = Duration::from_millis(500);

/// A gateway, and until when it is tried.
#[derive(Clone, Copy)]
pub(super) struct Gate<'a> {
    pub(super) link: &'a Meshlink,
    /// Whose gateway it is.
    pub(super) of: &'a ClusterName,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) deadline: Deadline,
    pub(super) screen: &'a Screen,
}

/// Why a gateway is not ready for a peer.
pub(super) struct Lack {
    pub(super) reason: String,
    pub(super) hints: Vec<Hint>,
    /// It will not come by waiting.
    certain: bool,
}

impl Lack {
    fn of(reason: String, hint: Hint) -> Self {
        Self {
            reason,
            hints: vec![hint],
            certain: false,
        }
    }
}

impl Gate<'_> {
    /// Tries it from every peer that has a probe, until each gets through or time is up; from here, once, where none has.
    pub(super) async fn tried(self) -> (Vec<Tried>, Vec<Lack>) {
        let peers = self.link.clusters.iter();
        let peers = peers.filter(|(name, _)| *name != self.of);
        let tries = peers.map(|(name, cluster)| self.until_through(name, cluster));
        let tries = future::join_all(tries).await.into_iter().flatten();
        let (tried, lacks): (Vec<_>, Vec<_>) = tries.unzip();
        // Embedded addresses lead nowhere outside the sandbox.
        if !tried.is_empty() || self.link.environment.embedded {
            return (tried, lacks.into_iter().flatten().collect());
        }
        let istiod = format!(
            "outbound_.15012_._.istiod.{}.svc.cluster.local",
            self.link.mesh.istio.namespace
        );
        let here = dial::from_here(&self.link.resolver, self.host, self.port, &istiod);
        (vec![here.await], vec![])
    }

    /// From one peer, for as long as a probe runs there.
    async fn until_through(
        self,
        peer: &ClusterName,
        cluster: &Cluster,
    ) -> Option<(Tried, Option<Lack>)> {
        let absence = Absence {
            host: self.host,
            port: self.port,
            peer,
            home: &self.link.clusters[self.of],
            resolver: &self.link.resolver,
            aws: Some(&self.link.aws),
        };
        let (known, last) = (&Mutex::new(None), &Mutex::new(None));
        let absence = &absence;
        let ask = |()| async move {
            let Ok(Some(probe)) = Probe::find(cluster).await else {
                *last.lock().await = None;
                return Progress::Done(());
            };
            let dialed = probe.dial(self.host, self.port).await;
            let (tried, lack) = match dialed {
                Ok(Dialed::Reached) => self.greeted(peer, &probe).await,
                Ok(dialed) => {
                    let says = dialed.as_str().to_owned();
                    let lack = match absence.note(&mut *known.lock().await, &dialed).await {
                        Some(hidden) => Lack {
                            reason: hidden.to_string(),
                            certain: hidden.certain,
                            hints: hidden.hints,
                        },
                        None => self.lack(peer, &says),
                    };
                    (of(peer, false, says), Some(lack))
                }
                Err(error) => {
                    let says = error.to_string();
                    let lack = self.lack(peer, &says);
                    (of(peer, false, says), Some(lack))
                }
            };
            let progress = match &lack {
                None => Progress::Done(()),
                Some(lack) if lack.certain => Progress::Never(()),
                Some(lack) => Progress::NotYet(lack.reason.as_str().into()),
            };
            *last.lock().await = Some((tried, lack));
            progress
        };
        let say = |reason: &str| self.screen.say(&format!("{}: {reason}", self.of));
        // However it ends, the last try says what there is to say.
        let _ = wait::until(ask, Every::fixed(AGAIN), self.deadline, say).await;
        last.lock().await.take()
    }

    fn lack(self, peer: &ClusterName, says: &str) -> Lack {
        let (of, host, port) = (self.of, self.host, self.port);
        Lack::of(
            format!("{host}:{port} {says} from {peer}"),
            Hint::kubectl(of, GATEWAY_SERVICES),
        )
    }

    /// What a sidecar of the peer meets behind each address; TLS counts where there is somebody to answer it.
    async fn greeted(self, peer: &ClusterName, probe: &Probe) -> (Tried, Option<Lack>) {
        let link = self.link;
        let home = &link.clusters[self.of];
        let greetings = match probe
            .greet(home, self.host, self.port, &link.resolver)
            .await
        {
            Ok(greetings) => greetings,
            Err(only) => return (of(peer, true, format!("was reached, {only}")), None),
        };
        let address = |greeting: &Greeting| {
            let at = greeting.at.parse::<std::net::SocketAddr>();
            at.map_or_else(|_| greeting.at.clone(), |at| at.ip().to_string())
        };
        let done = greetings.iter().filter(|g| g.answer.is_ok());
        let says: Vec<_> = greetings.iter().map(ToString::to_string).collect();
        let tried = Tried {
            addresses: greetings.iter().map(address).collect(),
            tls: done.map(address).collect(),
            ..of(peer, true, format!("was reached; {}", says.join("; ")))
        };
        let failed = greetings.iter().find(|g| g.answer.is_err());
        let lack = failed.map(|greeting| {
            Lack::of(
                format!("from {peer}, {greeting}"),
                Hint::meshlink(["ca", "status", peer.as_str(), self.of.as_str()])
                    .remark("do both trust the same root?"),
            )
        });
        (tried, lack)
    }
}

fn of(peer: &ClusterName, reached: bool, says: String) -> Tried {
    Tried {
        from: peer.to_string(),
        reached,
        says,
        addresses: vec![],
        connected: vec![],
        tls: vec![],
    }
}
