//! What is read of the members for the checks: each by itself, all at once, each read with a deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    allow::allowed,
    peers::{self, Tried},
};
use crate::{
    aws::preflight,
    causes,
    cluster::{
        self, Cluster, ConnectOptions, Kind,
        preflight::{Purpose, check},
    },
    ends::Ends,
    name::ClusterName,
    observe::{Lens, MONITORING, Observed, Seen},
    spec::Mesh,
    verify::{Verdict, istiod},
};

/// Something that is read of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// What every command reads: istiod, the gateway, certificates, remote secrets.
    Basics,
    /// Namespaces.
    Namespaces,
    /// Services everywhere.
    Services,
    /// Pods everywhere.
    Pods,
    /// The ConfigMaps of istiod's namespace.
    ConfigMaps,
    /// Istio's `Gateway` objects.
    Gateways,
    /// `PeerAuthentication`.
    PeerAuthentications,
    /// `AuthorizationPolicy`.
    AuthorizationPolicies,
    /// `DestinationRule`.
    DestinationRules,
    /// `Sidecar`.
    Sidecars,
    /// `NetworkPolicy`.
    NetworkPolicies,
    /// `ServiceExport` of the multi-cluster services API.
    ServiceExports,
    /// Mutating webhooks.
    MutatingWebhooks,
    /// Validating webhooks.
    ValidatingWebhooks,
    /// Nodes.
    Nodes,
    /// What every replica of istiod says of itself.
    Istiods,
    /// What the remote secrets open.
    Peers,
    /// The rights that a join needs.
    Rights,
    /// What AWS says.
    Aws,
}

impl Source {
    /// The name for people.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Basics => "the member as a whole",
            Self::Namespaces => "namespaces",
            Self::Services => "Services",
            Self::Pods => "pods",
            Self::ConfigMaps => "ConfigMaps in istio-system",
            Self::Gateways => "Gateways of Istio",
            Self::PeerAuthentications => "PeerAuthentications",
            Self::AuthorizationPolicies => "AuthorizationPolicies",
            Self::DestinationRules => "DestinationRules",
            Self::Sidecars => "Sidecars",
            Self::NetworkPolicies => "NetworkPolicies",
            Self::ServiceExports => "ServiceExports",
            Self::MutatingWebhooks => "mutating webhooks",
            Self::ValidatingWebhooks => "validating webhooks",
            Self::Nodes => "nodes",
            Self::Istiods => "istiod's debug pages",
            Self::Peers => "what the remote secrets open",
            Self::Rights => "the rights of whoever runs this",
            Self::Aws => "what AWS says",
        }
    }

    /// Those that are lists of objects.
    pub(crate) const LISTS: [Self; 14] = [
        Self::Namespaces,
        Self::Services,
        Self::Pods,
        Self::ConfigMaps,
        Self::Gateways,
        Self::PeerAuthentications,
        Self::AuthorizationPolicies,
        Self::DestinationRules,
        Self::Sidecars,
        Self::NetworkPolicies,
        Self::ServiceExports,
        Self::MutatingWebhooks,
        Self::ValidatingWebhooks,
        Self::Nodes,
    ];

    /// The name of the file that a list of it is in.
    pub(crate) fn file(self) -> String {
        self.what().to_lowercase().replace(' ', "-")
    }

    /// The list it is, and where.
    fn list(self) -> Option<(Kind, bool)> {
        let everywhere = |kind: Kind| Some((kind, false));
        match self {
            Self::Namespaces => everywhere(Kind::NAMESPACE),
            Self::Services => everywhere(Kind::SERVICE),
            Self::Pods => everywhere(Kind::POD),
            Self::ConfigMaps => Some((Kind::CONFIG_MAP, true)),
            Self::Gateways => everywhere(Kind::GATEWAY),
            Self::PeerAuthentications => everywhere(Kind::PEER_AUTHENTICATION),
            Self::AuthorizationPolicies => everywhere(Kind::AUTHORIZATION_POLICY),
            Self::DestinationRules => everywhere(Kind::DESTINATION_RULE),
            Self::Sidecars => everywhere(Kind::SIDECAR),
            Self::NetworkPolicies => everywhere(Kind::NETWORK_POLICY),
            Self::ServiceExports => {
                everywhere(Kind::new("multicluster.x-k8s.io/v1alpha1", "ServiceExport"))
            }
            Self::MutatingWebhooks => everywhere(Kind::MUTATING_WEBHOOK_CONFIGURATION),
            Self::ValidatingWebhooks => everywhere(Kind::VALIDATING_WEBHOOK_CONFIGURATION),
            Self::Nodes => everywhere(Kind::NODE),
            Self::Basics | Self::Istiods | Self::Peers | Self::Rights | Self::Aws => None,
        }
    }
}

/// What one replica of istiod says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Replica {
    /// What it says of the clusters and gateways it knows.
    pub said: istiod::Replica,
    /// The clusters whose endpoints it holds.
    pub holds: BTreeSet<String>,
}

/// What was read of one member besides the basics.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Objects, so much of each as checks look at.
    #[serde(skip)]
    pub lists: BTreeMap<Source, Arc<Vec<Value>>>,
    /// The replicas of its istiod.
    pub replicas: Vec<Replica>,
    /// What each of its remote secrets opens, by the cluster it is for.
    pub peers: BTreeMap<String, Tried>,
    /// The rights that a join needs and who looks does not have.
    pub rights: Vec<String>,
    /// What could not be read, and why.
    pub unread: BTreeMap<Source, String>,
}

/// Everything that was read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The mesh.
    pub mesh: Mesh,
    /// What every command reads.
    pub observed: Observed,
    /// The table of what ends.
    pub ends: Ends,
    /// What was read of each member besides.
    pub members: BTreeMap<ClusterName, Member>,
    /// What AWS says of the members' networks.
    pub aws: Vec<preflight::Finding>,
    /// What AWS says of the gateways' load balancers.
    pub balancers: Verdict,
}

impl Reading {
    /// What is known of a member, if it could be read.
    pub(super) fn seen(&self, name: &ClusterName) -> Option<&Seen> {
        self.observed.clusters.get(name)
    }

    /// Whether something could be read of a member.
    pub(super) fn has(&self, name: &ClusterName, source: Source) -> bool {
        let member = self.members.get(name);
        let is_unread = member.is_none_or(|m| m.unread.contains_key(&source));
        match source {
            Source::Basics => self.seen(name).is_some(),
            _ => !is_unread,
        }
    }

    /// Why something could not be read.
    pub(super) fn why_not(&self, cluster: &str, source: Source) -> String {
        let is = |name: &&ClusterName| name.as_str() == cluster;
        let member = self.members.keys().find(is);
        let member = member.and_then(|name| self.members.get(name));
        let why = member.and_then(|member| member.unread.get(&source).cloned());
        let all = &self.observed.unreachable;
        let unreachable = || all.values().find(|u| u.cluster == cluster);
        why.or_else(|| Some(unreachable()?.line()))
            .unwrap_or_else(|| "it was not read".into())
    }
}

/// With what the members are read.
pub(crate) struct Looking<'a> {
    /// The lists that were taken already are not taken again.
    pub lens: &'a Lens<'a>,
    /// What every command reads.
    pub observed: &'a Observed,
    /// The members' API servers.
    pub clusters: &'a BTreeMap<ClusterName, Cluster>,
    /// How clusters are connected to.
    pub connect: &'a ConnectOptions,
    /// How long each read may take.
    pub limit: Duration,
}

/// Reads what the checks need.
pub(crate) async fn look(
    looking: &Looking<'_>,
    sources: &BTreeSet<Source>,
) -> BTreeMap<ClusterName, Member> {
    let members = looking.clusters.iter();
    let members = members.map(|(name, cluster)| async move {
        let unreachable = looking.observed.unreachable.get(name);
        let member = match unreachable.filter(|u| u.silent) {
            // Who does not answer is not asked again, once for each question.
            Some(silent) => unread(sources, &silent.line()),
            None => looking.member(name, cluster, sources).await,
        };
        (name.clone(), member)
    });
    future::join_all(members).await.into_iter().collect()
}

fn unread(sources: &BTreeSet<Source>, why: &str) -> Member {
    Member {
        unread: sources.iter().map(|s| (*s, why.to_owned())).collect(),
        ..Member::default()
    }
}

impl Looking<'_> {
    async fn member(
        &self,
        name: &ClusterName,
        cluster: &Cluster,
        sources: &BTreeSet<Source>,
    ) -> Member {
        let reads = sources.iter().map(|source| {
            let read = self.source(name, cluster, *source);
            async move {
                let late = |_| Err(format!("no answer within {} s", self.limit.as_secs()));
                let read = tokio::time::timeout(self.limit, read).await;
                (*source, read.unwrap_or_else(late))
            }
        });
        let mut all = Member::default();
        for (source, read) in future::join_all(reads).await {
            match read {
                Ok(part) => {
                    all.lists.extend(part.lists);
                    all.replicas.extend(part.replicas);
                    all.peers.extend(part.peers);
                    all.rights.extend(part.rights);
                }
                Err(why) => drop(all.unread.insert(source, why)),
            }
        }
        all
    }

    /// One part of what is known of a member.
    fn source<'r>(
        &'r self,
        name: &'r ClusterName,
        cluster: &'r Cluster,
        source: Source,
    ) -> BoxFuture<'r, Result<Member, String>> {
        let mesh = self.lens.mesh();
        let istio = mesh.istio.namespace.as_str();
        async move {
            let mut part = Member::default();
            if let Some((kind, within)) = source.list() {
                let list = self.lens.all(cluster, &kind, within.then_some(istio));
                let list = list.await.map_err(line)?;
                part.lists.insert(source, Arc::new(allowed(source, &list)));
            }
            let seen = self.observed.clusters.get(name);
            match (source, seen) {
                (Source::Istiods, Some(seen)) => {
                    let asked = seen.istiod.pods.iter();
                    let asked = asked.map(|pod| replica(cluster, istio, pod));
                    part.replicas = future::try_join_all(asked).await.map_err(line)?;
                }
                (Source::Peers, Some(_)) => {
                    let links = self.lens.links(cluster).await.map_err(line)?;
                    part.peers = peers::tried(&links, self.connect).await;
                }
                (Source::Istiods | Source::Peers, None) => {
                    return Err("the member could not be read".into());
                }
                (Source::Rights, _) => {
                    let gateways = mesh.gateway.namespace.as_str();
                    let missing = check(cluster, Purpose::Join, gateways, mesh.renewer.is_some());
                    let missing = missing.await.map_err(line)?;
                    part.rights = missing.iter().map(ToString::to_string).collect();
                }
                _ => {}
            }
            Ok(part)
        }
        .boxed()
    }
}

fn line(error: cluster::Error) -> String {
    causes::line(&error)
}

/// What one replica says. That it cannot say whose endpoints it holds is no reason not to hear the rest.
async fn replica(cluster: &Cluster, istio: &str, pod: &str) -> Result<Replica, cluster::Error> {
    let shards = cluster.get(istio, pod, MONITORING, "/debug/endpointShardz");
    let (said, shards) = future::join(istiod::ask(cluster, istio, pod, false), shards).await;
    let shards = shards.ok().map(|answer| answer.body);
    let shards = shards.and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    Ok(Replica {
        said: said?,
        holds: shards.map(|all| holders(&all)).unwrap_or_default(),
    })
}

/// The clusters whose endpoints are among these, by the keys of their shards.
pub(super) fn holders(shards: &Value) -> BTreeSet<String> {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let spaces = object(shards).into_iter();
    let spaces = spaces.flat_map(|(_, of_host)| object(&of_host));
    let keys = spaces.flat_map(|(_, of_space)| object(&of_space["Shards"]));
    let clusters =
        keys.filter(|(_, endpoints)| endpoints.as_array().is_some_and(|e| !e.is_empty()));
    clusters
        .filter_map(|(key, _)| Some(key.strip_prefix("Kubernetes/")?.to_owned()))
        .collect()
}
