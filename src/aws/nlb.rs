//! Load balancers that are really ready.
//!
//! A host name in a Service's status says only that a load balancer was asked for. It carries traffic once its
//! listener is there and enough targets pass their health checks. [`see`] reads what the cluster knows, [`Watch`] asks
//! Elastic Load Balancing in the cheapest way that works, [`judge()`] decides, and [`wait`] does so until a deadline,
//! telling why it still waits and giving up early on what cannot heal.
//!
//! The policy: with cross-zone balancing one healthy target is enough; without it, every zone that has targets needs
//! one that is healthy, because a zone whose targets all fail loses its address. Zones without any target are left out of
//! DNS by AWS and are only reported.

mod ask;
mod class;
mod host;
mod judge;
mod seen;
mod stuck;
#[cfg(all(test, feature = "sandbox"))]
mod tests;
mod wait;

pub(crate) use ask::{FoundBy, Watch};
pub(crate) use class::{Controllers, choose};
pub(crate) use host::{Host, Shape};
pub(crate) use judge::{Policy, judge};
pub(crate) use seen::{CONTROLLER, controllers};
pub(crate) use seen::{Event, Seen, see};
pub(crate) use stuck::Stuck;
pub(crate) use wait::{PACE, wait};

use std::time::Duration;

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::call;
use crate::{hint::Hint, wait::Reason};

/// A load balancer and its targets, as Elastic Load Balancing tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Readiness {
    /// Its DNS name.
    pub hostname: String,
    /// Its ARN.
    pub arn: String,
    /// `provisioning`, `active`, `active_impaired`, `failed`.
    pub state: String,
    /// Why, where AWS says so.
    pub state_reason: Option<String>,
    /// `internal` or `internet-facing`.
    pub scheme: String,
    /// Zones it is enabled in.
    pub zones: Vec<String>,
    /// One healthy target serves all zones.
    pub cross_zone: bool,
    /// Whether something listens on the port asked for.
    pub listener: bool,
    /// Target groups that get traffic, with their weights.
    pub groups: Vec<Group>,
    /// All targets of those groups.
    pub targets: Vec<Target>,
    /// How it was found.
    pub found_by: FoundBy,
}

/// A target group behind the listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Group {
    /// Its ARN.
    pub arn: String,
    /// Its share of the traffic; 0 is none.
    pub weight: i32,
}

/// A target and how it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Target {
    /// Address or instance id.
    pub id: String,
    /// Port.
    pub port: i32,
    /// Zone; empty if neither AWS nor the cluster says.
    pub zone: String,
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining`, …
    pub state: String,
    /// `Elb.…` or `Target.…`.
    pub reason: Option<String>,
    /// AWS's words.
    pub description: Option<String>,
}

impl Target {
    /// Gets traffic.
    pub(crate) fn is_healthy(&self) -> bool {
        self.state == "healthy"
    }
}

/// A Service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What went wrong with a load balancer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// It cannot become ready without somebody doing something.
    #[error("the load balancer of {service} in {cluster} cannot become ready: {cause}")]
    Stuck {
        /// The cluster.
        cluster: String,
        /// The Service.
        service: ServiceName,
        /// Why.
        cause: Stuck,
    },
    /// It was not ready in time; running again goes on waiting.
    #[error("the load balancer of {service} in {cluster} was not ready after {} s: {reason}", waited.as_secs())]
    NotInTime {
        /// The cluster.
        cluster: String,
        /// The Service.
        service: ServiceName,
        /// How long it was waited for.
        waited: Duration,
        /// The last reason.
        reason: Reason,
    },
    /// The cluster could not be asked.
    #[error("could not read the gateway of {cluster}")]
    See {
        /// The cluster.
        cluster: String,
        /// Why.
        #[source]
        source: Box<crate::cluster::Error>,
    },
    /// AWS could not be asked.
    #[error("could not ask about the load balancer of {cluster}")]
    Ask {
        /// The cluster.
        cluster: String,
        /// The call.
        #[source]
        source: Box<call::Error>,
    },
}

impl Error {
    /// What shows or mends it.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Stuck {
                cluster,
                cause,
                service,
            } => Some(cause.hint(cluster, service)),
            Self::NotInTime {
                cluster, service, ..
            } => {
                let ServiceName { namespace, name } = service;
                let words = ["-n", namespace, "describe", "service", name];
                Some(Hint::kubectl(cluster, words))
            }
            Self::Ask { source, .. } => source.hint(None),
            Self::See { .. } => None,
        }
    }

    /// Whether AWS was never asked, for want of credentials or rights: nothing is known against the load balancer.
    pub(crate) fn is_blind(&self) -> bool {
        use call::Cause::{BadCredentials, Denied, Expired, NoCredentials};
        let Self::Ask { source, .. } = self else {
            return false;
        };
        matches!(
            source.cause,
            NoCredentials(_) | Expired(_) | BadCredentials(_) | Denied(_)
        )
    }
}
