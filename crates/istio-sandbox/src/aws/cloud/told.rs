//! What the laboratory's cloud tells, and what it can be asked.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::timeout;

use super::super::{Health, Pace};

/// How long an answer may take; a try that is answered by nobody takes a second itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything there is.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Told {
    pub(super) clusters: Vec<Member>,
    pub(super) balancers: Vec<Balancer>,
}

/// A cluster.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kubeconfig: PathBuf,
    /// The address by which its packets leave.
    pub(super) node: String,
    pub(super) settings: Settings,
    /// Its Services of type LoadBalancer, as its API server has them.
    pub(super) services: Vec<Value>,
}

/// How a cluster's load balancers are to behave.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Settings {
    /// How long things take: 1 as in reality, 0 no time.
    #[serde(default)]
    pace: f64,
    /// What is said of targets, whatever they answer.
    #[serde(default)]
    health: String,
    /// The share of calls that are throttled.
    #[serde(default)]
    throttle: f64,
}

/// A load balancer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Balancer {
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) uid: String,
    /// Its DNS name.
    pub(super) name: String,
    /// By zone.
    pub(super) addresses: BTreeMap<String, Ipv4Addr>,
    pub(super) created: jiff::Timestamp,
}

/// What is told of targets against the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forced {
    /// This, of every target.
    Health(Health),
    /// That there is none.
    NoTargets,
}

impl Settings {
    pub(super) fn pace(&self) -> Pace {
        Pace::REAL.scaled(self.pace)
    }

    pub(super) fn throttle(&self) -> f64 {
        self.throttle
    }

    pub(super) fn forced(&self) -> Option<Forced> {
        Some(Forced::Health(match self.health.as_str() {
            "unhealthy" => Health::FAILING,
            "draining" => Health::DRAINING,
            "unused" => Health::NOT_IN_USE,
            "initial" => Health::CHECKING,
            "unavailable" => Health::INTERNAL,
            "empty" => return Some(Forced::NoTargets),
            _ => return None,
        }))
    }
}

/// Whoever tells.
#[derive(Debug)]
pub(super) struct Teller {
    client: Client<HttpConnector, Empty<Bytes>>,
    base: String,
}

impl Teller {
    pub(super) fn new(base: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// What there is; nothing from a cloud that does not answer yet, or no longer.
    pub(super) async fn ask(&self) -> Option<Told> {
        self.get("/services").await
    }

    /// Whether a connection from inside a cluster's VPC is taken.
    pub(super) async fn answers(&self, cluster: &str, address: &str) -> bool {
        #[derive(Deserialize)]
        struct Answer {
            open: bool,
        }
        let path = format!("/try?cluster={cluster}&address={address}");
        self.get::<Answer>(&path).await.is_some_and(|a| a.open)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let url = format!("{}{path}", self.base).parse().ok()?;
        let answer = timeout(PATIENCE, self.client.get(url)).await.ok()?.ok()?;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok()
    }
}
