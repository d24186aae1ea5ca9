//! What a test may break in an embedded cluster.
//!
//! Faults that are a matter of objects (another root, the same network label, an expired token) are
//! made by writing those objects; here is what no object says.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// One thing that goes wrong in one cluster for as long as the fault is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// istiod starts and never says it is ready.
    IstiodNeverReady,
    /// Of several istiod replicas, the one that started last takes in no remote secret and no certificate any more, and
    /// serves on with what it has.
    IstiodLags,
    /// Gateway pods start and never say they are ready.
    GatewayNeverReady,
    /// Nothing behind a load balancer passes its health checks.
    TargetsNeverHealthy,
    /// Whatever is sent to the second address of a load balancer is lost, though its target is well.
    AddressSilent,
    /// The names of load balancers do not resolve.
    BalancerNameMissing,
    /// The names of other clusters' load balancers do not resolve in this cluster: it does not see their zone.
    ZoneUnseen,
    /// The injection webhook answers with an error.
    WebhookRefuses,
    /// The way from this cluster to other clusters' addresses is cut.
    Isolated,
}

/// The faults that are set at the moment.
#[derive(Debug, Clone)]
pub struct Faults {
    set: Arc<Mutex<BTreeSet<(String, Fault)>>>,
    tick: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            set: Arc::default(),
            tick: watch::Sender::new(0),
        }
    }
}

impl Faults {
    /// Makes something go wrong in a cluster.
    pub fn set(&self, cluster: &str, fault: Fault) {
        self.set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((cluster.into(), fault));
        self.tick.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Makes it go right again.
    pub fn clear(&self, cluster: &str, fault: Fault) {
        self.set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(cluster.into(), fault));
        self.tick.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn has(&self, cluster: &str, fault: Fault) -> bool {
        self.set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&(cluster.to_owned(), fault))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.tick.subscribe()
    }
}
