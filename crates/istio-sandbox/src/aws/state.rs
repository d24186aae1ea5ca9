//! What exists in the emulated AWS, as plain data. Whoever holds the lock may change it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    balancer::{Balancer, TargetGroup},
    fault::Fault,
    network::Network,
    throttle::{Bucket, Share},
};
use crate::world::Home;

/// Where the emulator's time comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// From a function that tells the time.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What time it is.
    pub(crate) fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The emulated AWS: any number of accounts and regions.
#[derive(Debug)]
pub struct State {
    /// Its time.
    pub clock: Clock,
    /// Who may call, by access key id.
    pub keys: BTreeMap<String, Key>,
    /// Roles that can be assumed, by ARN.
    pub roles: BTreeMap<String, Role>,
    /// EKS clusters.
    pub clusters: Vec<Cluster>,
    /// Load balancers.
    pub balancers: Vec<Balancer>,
    /// Target groups.
    pub groups: Vec<TargetGroup>,
    /// Networks.
    pub network: Network,
    /// Interfaces stay when their load balancer goes.
    pub lingering: bool,
    /// What is to go wrong.
    pub faults: Vec<Fault>,
    /// Actions nobody is allowed, as `service:Action`.
    pub denied: BTreeSet<String>,
    /// Every call that was answered or refused, oldest first.
    pub calls: Vec<Call>,
    /// Size and refill of the token buckets; `None` means no throttling.
    pub limit: Option<(f64, f64)>,
    /// What is throttled besides, whatever the buckets hold.
    pub(super) turned_away: Share,
    pub(super) buckets: BTreeMap<(String, String, String), Bucket>,
    pub(super) made: u64,
}

/// An access key and whom it stands for.
#[derive(Clone)]
pub struct Key {
    /// The secret.
    pub secret: String,
    /// Session token that must come with it.
    pub session: Option<String>,
    /// Account.
    pub account: String,
    /// ARN of the user or role session.
    pub arn: String,
    /// When it stops working.
    pub expires: Option<SystemTime>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("arn", &self.arn)
            .finish_non_exhaustive()
    }
}

/// A role.
#[derive(Debug, Clone, Default)]
pub struct Role {
    /// External id whoever assumes it must give.
    pub external_id: Option<String>,
    /// Accounts that may assume it.
    pub trusted: Vec<String>,
}

/// An EKS cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Full ARN; account and region are in it.
    pub arn: String,
    /// `ACTIVE`, `CREATING`, …
    pub status: String,
    /// API server URL.
    pub endpoint: String,
    /// Certificate authority, base64 of PEM.
    pub ca: String,
    /// What EKS says of each authority, as its API has it; empty: the one it was born with.
    pub authorities: Vec<serde_json::Value>,
    /// Kubernetes version.
    pub version: String,
    /// VPC.
    pub vpc: String,
    /// Subnets.
    pub subnets: Vec<String>,
    /// Additional security groups.
    pub security_groups: Vec<String>,
    /// The cluster's own security group.
    pub cluster_security_group: String,
    /// Public endpoint, and who may reach it.
    pub public: Option<Vec<String>>,
    /// Private endpoint.
    pub private: bool,
    /// EKS Auto Mode.
    pub auto_mode: bool,
    /// `API`, `API_AND_CONFIG_MAP` or `CONFIG_MAP`.
    pub auth_mode: String,
    /// Principals with an access entry; without any, everybody is let in.
    pub entries: Vec<String>,
    /// Whether whoever is let in has the administrator's policy.
    pub admins: bool,
}

impl Cluster {
    /// A usable cluster with the defaults of a new one.
    pub fn new(arn: &str, endpoint: &str, ca: &str) -> Self {
        Self {
            arn: arn.into(),
            status: "ACTIVE".into(),
            endpoint: endpoint.into(),
            ca: ca.into(),
            authorities: Vec::new(),
            version: "1.36".into(),
            vpc: "vpc-0a000000000000001".into(),
            subnets: Vec::new(),
            security_groups: Vec::new(),
            cluster_security_group: "sg-0c000000000000001".into(),
            public: Some(vec!["0.0.0.0/0".into()]),
            private: true,
            auto_mode: false,
            auth_mode: "API_AND_CONFIG_MAP".into(),
            entries: Vec::new(),
            admins: true,
        }
    }

    /// Its account and region.
    pub(super) fn home(&self) -> Home {
        let (account, region) = home(&self.arn);
        Home {
            account: account.into(),
            region: region.into(),
        }
    }

    /// Its name: the end of its ARN.
    pub(crate) fn name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }
}

/// A call as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `service:Action`.
    pub action: String,
    /// Region asked.
    pub region: String,
    /// Account that asked; empty if unknown.
    pub account: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// When.
    pub at: SystemTime,
}

impl State {
    /// An AWS with nothing in it, throttled as the real one is.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            clusters: Vec::new(),
            balancers: Vec::new(),
            groups: Vec::new(),
            network: Network::default(),
            lingering: false,
            faults: Vec::new(),
            denied: BTreeSet::new(),
            calls: Vec::new(),
            limit: Some((40.0, 10.0)),
            turned_away: Share::default(),
            buckets: BTreeMap::new(),
            made: 0,
        }
    }

    /// Let a user in: `arn:aws:iam::ACCOUNT:user/NAME`.
    pub fn admit(&mut self, id: &str, secret: &str, arn: &str) {
        let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
        let key = Key {
            secret: secret.into(),
            session: None,
            account,
            arn: arn.into(),
            expires: None,
        };
        self.keys.insert(id.into(), key);
    }

    /// The next 16 hexadecimal digits for a name; the same in every run.
    pub(super) fn serial(&mut self, name: &str) -> String {
        self.made += 1;
        let mut digits = super::sign::hash(format!("{name}/{}", self.made).as_bytes());
        digits.truncate(16);
        digits
    }

    /// How many calls ended with a status, by `service:Action` prefix.
    pub fn count(&self, action: &str, status: u16) -> usize {
        self.calls
            .iter()
            .filter(|c| c.action.starts_with(action) && c.status == status)
            .count()
    }

    /// How long ago something was.
    pub(super) fn age(&self, since: SystemTime) -> Duration {
        self.clock.now().duration_since(since).unwrap_or_default()
    }
}

/// Account and region of an ARN.
pub(super) fn home(arn: &str) -> (&str, &str) {
    let mut parts = arn.split(':').skip(3);
    let region = parts.next().unwrap_or_default();
    (parts.next().unwrap_or_default(), region)
}
