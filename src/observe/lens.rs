//! Reading the members: which lists are asked for, and what becomes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use super::{
    Claim, GatewaySeen, IstiodSeen, Observed, ReleaseSeen, Seen, TrustSeen, Unreachable, facts,
    istios, strangers::strangers,
};
use crate::{
    cluster::{self, Cluster, Kind, Ref, Token, access},
    name::ClusterName,
    owner::Owner,
    pki::{Vault, vault},
    spec::Mesh,
};

mod keys;
mod objects;

/// A reading of every member. Lists are taken once, whoever asks for them.
pub(crate) struct Lens<'a> {
    mesh: &'a Mesh,
    vault: &'a Vault,
    clusters: &'a BTreeMap<ClusterName, Cluster>,
    embedded: bool,
    now: Timestamp,
    /// How long the reading of one member may take.
    limit: Duration,
    lists: Mutex<BTreeMap<ListKey, Arc<OnceCell<Arc<Vec<Value>>>>>>,
    /// Why members could not be read.
    failed: Mutex<BTreeMap<ClusterName, cluster::Error>>,
}

/// Cluster, kind, namespace, labels.
type ListKey = (ClusterName, Kind, Option<String>, Option<&'static str>);

/// The release of Istio's CRDs.
const BASE: &str = "istio-base";
/// The label of our own objects.
const OURS: &str = "app.kubernetes.io/managed-by=meshlink";

/// The tokens each member's istiod uses, by the cluster each is for.
pub(crate) type Tokens = BTreeMap<ClusterName, BTreeMap<String, Token>>;

/// Why the members could not be read: every reason, not only the first.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unseen {
    /// The vault on this machine.
    #[error("cannot read the vault")]
    Vault(#[source] vault::Error),
    /// No member could be read, or one that had to be.
    #[error("cannot read {}", names(.0))]
    Clusters(Vec<(ClusterName, cluster::Error)>),
}

fn names(failed: &[(ClusterName, cluster::Error)]) -> String {
    failed
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(" and ")
}

impl<'a> Lens<'a> {
    /// A lens on the members of a mesh.
    pub(crate) fn new(
        mesh: &'a Mesh,
        vault: &'a Vault,
        clusters: &'a BTreeMap<ClusterName, Cluster>,
        embedded: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            mesh,
            vault,
            clusters,
            embedded,
            now,
            limit: Duration::from_secs(15 * 60),
            lists: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// The same, where the reading of one member may take no longer than this.
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Why members could not be read since this was last asked.
    pub(crate) async fn take_failed(&self) -> BTreeMap<ClusterName, cluster::Error> {
        std::mem::take(&mut *self.failed.lock().await)
    }

    /// The mesh that is looked at.
    pub(crate) fn mesh(&self) -> &'a Mesh {
        self.mesh
    }

    /// The tokens in the remote secrets of the members that could be read; no list is taken twice for them.
    pub(crate) async fn tokens(&self, observed: &Observed) -> Tokens {
        let istio = Some(self.mesh.istio.namespace.as_str());
        let read = self.clusters.values();
        let read = read.filter(|c| observed.clusters.contains_key(c.name()));
        let held = read.map(|cluster| async move {
            let secrets = self.listed(cluster, &Kind::SECRET, istio, Some(access::REMOTE));
            let secrets = secrets.await.unwrap_or_default();
            let tokens = secrets.iter().flat_map(access::tokens).collect();
            (cluster.name().clone(), tokens)
        });
        future::join_all(held).await.into_iter().collect()
    }

    /// What the remote secrets of a member say, each with all that istiod needs to use it; no list is taken twice for it.
    pub(crate) async fn links(
        &self,
        cluster: &Cluster,
    ) -> Result<Vec<access::Link>, cluster::Error> {
        let istio = Some(self.mesh.istio.namespace.as_str());
        let secrets = self.listed(cluster, &Kind::SECRET, istio, Some(access::REMOTE));
        Ok(secrets.await?.iter().flat_map(access::links).collect())
    }

    /// Every object of a kind that holds no secret; no list is taken twice.
    pub(crate) async fn all(
        &self,
        cluster: &Cluster,
        kind: &Kind,
        namespace: Option<&str>,
    ) -> Result<Arc<Vec<Value>>, cluster::Error> {
        self.list(cluster, kind, namespace).await
    }

    /// Everything but the objects a plan will ask for by name. A member that cannot be read is among
    /// [`Observed::unreachable`]; that none can be is an error.
    pub(crate) async fn look(&self) -> Result<Observed, Unseen> {
        // A vault that cannot be read is told before anything is asked for.
        self.vault.root().map_err(Unseen::Vault)?;
        let mut observed = Observed {
            now: self.now,
            ..Observed::default()
        };
        let looks = self
            .clusters
            .values()
            .map(|c| async move { (c, self.in_time(c, self.member(c)).await) });
        let mut failed = vec![];
        for (cluster, result) in future::join_all(looks).await {
            match result {
                Ok(seen) => drop(observed.clusters.insert(cluster.name().clone(), seen)),
                Err(error) => failed.push((cluster.name().clone(), error)),
            }
        }
        let mut observed = self.settle(&mut observed, failed).await?;
        if let Some(root) = observed.root(&self.mesh.id) {
            self.vault.follow(root);
        }
        observed.vault = self.vault().map_err(Unseen::Vault)?;
        Ok(observed)
    }

    /// Adds what the proxies of the members hold. A member that cannot be read any more counts as one that never was.
    pub(crate) async fn look_at_proxies(&self, observed: Observed) -> Result<Observed, Unseen> {
        let istio = self.mesh.istio.namespace.as_str();
        let seen = &observed.clusters;
        let members = self
            .clusters
            .iter()
            .filter(|(name, _)| seen.contains_key(*name));
        let looks = members.map(|(name, cluster)| async move {
            let reading = TrustSeen::read(cluster, istio);
            (name, self.in_time(cluster, reading).await)
        });
        let looks = future::join_all(looks).await;
        let (mut observed, mut failed) = (observed, vec![]);
        for (name, result) in looks {
            match (result, observed.clusters.get_mut(name)) {
                (Ok(trust), Some(seen)) => seen.trust = Some(trust),
                (Ok(_), None) => {}
                (Err(error), _) => failed.push((name.clone(), error)),
            }
        }
        self.settle(&mut observed, failed).await
    }

    /// Adds the named objects, as they are now. A member that cannot be read any more counts as one that never was.
    pub(crate) async fn look_at(
        &self,
        mut observed: Observed,
        refs: &BTreeMap<ClusterName, Vec<Ref>>,
    ) -> Result<Observed, Unseen> {
        let looks = refs.iter().filter_map(|(name, refs)| {
            let cluster = self.clusters.get(name)?;
            observed.clusters.get(name)?;
            let objects = self.objects(cluster, refs);
            Some(async move { (name, self.in_time(cluster, objects).await) })
        });
        let mut failed = vec![];
        for (name, result) in future::join_all(looks).await {
            match (result, observed.clusters.get_mut(name)) {
                (Ok(live), Some(seen)) => seen.live.extend(live),
                (Ok(_), None) => {}
                (Err(error), _) => failed.push((name.clone(), error)),
            }
        }
        self.settle(&mut observed, failed).await
    }

    /// Takes members that could not be read from those that could.
    async fn settle(
        &self,
        observed: &mut Observed,
        failed: Vec<(ClusterName, cluster::Error)>,
    ) -> Result<Observed, Unseen> {
        let mut observed = std::mem::take(observed);
        for (name, _) in &failed {
            observed.clusters.remove(name);
        }
        if !failed.is_empty() && observed.clusters.is_empty() {
            let before = self.take_failed().await;
            return Err(Unseen::Clusters(before.into_iter().chain(failed).collect()));
        }
        for (name, error) in failed {
            let server = self.clusters.get(&name).map_or("", Cluster::server);
            let unreachable = Unreachable::of(&name, server, &error);
            observed.unreachable.insert(name.clone(), unreachable);
            self.failed.lock().await.insert(name, error);
        }
        Ok(observed)
    }

    /// What is read of a member, as long as that takes no longer than it may.
    async fn in_time<T>(
        &self,
        cluster: &Cluster,
        reading: impl Future<Output = Result<T, cluster::Error>>,
    ) -> Result<T, cluster::Error> {
        let late = |_| Err(cluster.silent(self.limit));
        tokio::time::timeout(self.limit, reading)
            .await
            .unwrap_or_else(late)
    }

    /// Adds the pods with a sidecar, which only a leave needs to know.
    pub(crate) async fn look_for_sidecars(&self, observed: &mut Observed) -> Result<(), Unseen> {
        for (name, seen) in &mut observed.clusters {
            let Some(cluster) = self.clusters.get(name) else {
                continue;
            };
            let label = Some("security.istio.io/tlsMode=istio");
            let pods = cluster.list(&Kind::POD, None, label).await;
            let pods = pods.map_err(|e| Unseen::Clusters(vec![(name.clone(), e)]))?;
            seen.injected_pods = facts::sidecars(&pods, &self.mesh.gateway);
        }
        Ok(())
    }

    /// Adds Istio's CRDs, and whether those run who must take load balancers away: only a leave
    /// needs to know.
    pub(crate) async fn look_for_leftovers(
        &self,
        observed: &mut Observed,
        leavers: &[ClusterName],
    ) -> Result<(), Unseen> {
        for name in leavers {
            let (Some(cluster), Some(seen)) =
                (self.clusters.get(name), observed.clusters.get_mut(name))
            else {
                continue;
            };
            let unseen = |e| Unseen::Clusters(vec![(name.clone(), e)]);
            let crds = cluster.names(&Kind::CUSTOM_RESOURCE_DEFINITION, None, None);
            let crds = crds.await.map_err(unseen)?;
            seen.crds = facts::istio_crds(&crds);
            let owner = seen.owner(&self.mesh.id, name);
            let ours = crds.iter().filter(|crd| owner.has_made(crd));
            let istio = self.mesh.istio.namespace.as_str();
            let ours = ours.filter_map(|crd| facts::held(crd, BASE, istio));
            seen.own_crds = ours
                .filter(|h| seen.crds.contains(&h.reference.name))
                .collect();
            let keepers = &mut seen.gateway.keepers;
            for keeper in keepers.iter_mut().filter(|k| k.finalizer == facts::LBC) {
                let label = Some("app.kubernetes.io/name=aws-load-balancer-controller");
                let found = cluster.list(&Kind::DEPLOYMENT, None, label).await;
                let ready = |d: &Value| d["status"]["readyReplicas"].as_u64() > Some(0);
                keeper.runs = Some(found.map_err(unseen)?.iter().any(ready));
            }
        }
        Ok(())
    }

    /// Adds what is not ours in the namespaces meshlink made: only an uninstallation needs to know.
    pub(crate) async fn look_for_strangers(
        &self,
        observed: &mut Observed,
        leavers: &[ClusterName],
    ) -> Result<(), Unseen> {
        let spaces: BTreeSet<&str> = [
            self.mesh.istio.namespace.as_str(),
            self.mesh.gateway.namespace.as_str(),
        ]
        .into();
        for name in leavers {
            let (Some(cluster), Some(seen)) =
                (self.clusters.get(name), observed.clusters.get_mut(name))
            else {
                continue;
            };
            let owner = seen.owner(&self.mesh.id, name);
            let ours = seen.releases.iter();
            let ours = ours.filter(|(_, r)| r.made_for == self.mesh.id.as_str());
            let ours: Vec<_> = ours
                .map(|(name, r)| (name.clone(), r.namespace.clone()))
                .collect();
            let ours: Vec<_> = ours.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
            for space in &spaces {
                let live = seen.live.get(&Ref::cluster(&Kind::NAMESPACE, *space));
                if !live.is_some_and(|live| owner.has_made(live)) {
                    continue;
                }
                let found = strangers(cluster, space, &owner, &ours).await;
                let found = found.map_err(|e| unread(name, e))?;
                seen.strangers.insert((*space).to_owned(), found);
            }
        }
        Ok(())
    }

    async fn member(&self, cluster: &Cluster) -> Result<Seen, cluster::Error> {
        let istio = self.mesh.istio.namespace.as_str();
        let ingress = self.mesh.gateway.namespace.as_str();
        let cacerts = Ref::namespaced(&Kind::SECRET, istio, "cacerts");
        let (version, spaces, ours, remote) = tokio::try_join!(
            cluster.version(),
            self.list(cluster, &Kind::NAMESPACE, None),
            self.list(cluster, &Kind::SECRET, Some(istio)),
            self.listed(cluster, &Kind::SECRET, Some(istio), Some(access::REMOTE)),
        )?;
        let cacerts = async {
            match facts::named(&ours, "cacerts") {
                Some(secret) => Ok(Some(secret.clone())),
                // One that is not ours is not in that list.
                None => cluster.find(&cacerts).await,
            }
        };
        let (cacerts, releases, pods, maps, deployments, gateways, services, opened) = tokio::try_join!(
            cacerts,
            self.releases(cluster),
            cluster.list(&Kind::POD, Some(istio), Some("app=istiod")),
            self.list(cluster, &Kind::CONFIG_MAP, Some(istio)),
            self.list(cluster, &Kind::DEPLOYMENT, Some(istio)),
            self.list(cluster, &Kind::DEPLOYMENT, Some(ingress)),
            self.list(cluster, &Kind::SERVICE, Some(ingress)),
            self.list(cluster, &Kind::GATEWAY, Some(ingress)),
        )?;
        let (renewer, istios) =
            tokio::try_join!(self.renewer(cluster), istios::read(self, cluster))?;
        let gateway = &self.mesh.gateway;
        let name = gateway.name.as_str();
        let istiod = facts::named(&deployments, "istiod");
        let owner = Owner {
            mesh: self.mesh.id.clone(),
            member: cluster.name().clone(),
            cluster: facts::named(&spaces, "kube-system")
                .and_then(|ns| ns["metadata"]["uid"].as_str())
                .ok_or_else(|| cluster.unidentified("no namespace kube-system"))?
                .to_owned(),
        };
        let next = facts::named(&maps, facts::NEXT).filter(|map| owner.whose(map).is_none());
        let succession = next.and_then(facts::succession);
        let map = facts::named(&maps, facts::CLAIM);
        let claim = map.and_then(|map| facts::bound(map, &owner));
        Ok(Seen {
            rotated: map.filter(|_| claim.is_some()).and_then(facts::rotated),
            kubernetes: format!("v{}", version.0),
            vendor: version.1,
            server: cluster.server().to_owned(),
            embedded: self.embedded,
            // Between the claim to the old root and that to the new one there is none, and it is bound all the same.
            claim: claim.or_else(|| {
                let succession = succession.as_ref()?;
                Some(Claim {
                    mesh: succession.mesh.clone(),
                    root: succession.from.clone(),
                })
            }),
            succession,
            projected: next.and_then(facts::projected),
            record: facts::named(&maps, facts::RECORD)
                .filter(|map| owner.whose(map).is_none())
                .and_then(facts::record),
            cacerts: cacerts.map(|secret| facts::cacerts(&secret, self.now, &owner)),
            published_roots: facts::named(&maps, facts::ROOTS)
                .map(facts::published_roots)
                .unwrap_or_default(),
            throw_aways: facts::named(&maps, facts::ROOTS)
                .map(facts::throw_aways)
                .unwrap_or_default(),
            istiod: {
                let released = releases.values().any(|r| r.chart == "istiod");
                let released = released || releases.contains_key("istiod");
                let values = istios::values(&maps).filter(|_| !released);
                let seen = facts::istiod(istiod, &pods, released);
                IstiodSeen { values, ..seen }
            },
            gateway: GatewaySeen {
                opened: opened.iter().any(facts::opens),
                ..facts::gateway(
                    facts::named(&services, name),
                    facts::named(&gateways, name),
                    gateway,
                )
            },
            authorities: facts::authorities(
                facts::named(&maps, access::ROOT_CA)
                    .map(facts::root_ca)
                    .into_iter()
                    .chain(cluster.ca()),
                self.now,
            ),
            readers: facts::readers(&ours, &owner, self.mesh.readers.max_age),
            remote_secrets: facts::remote_secrets(&remote, self.embedded, &owner),
            renewer: renewer
                .filter(|job| owner.whose(job).is_none())
                .map(|job| facts::renewer(&job)),
            istios,
            probe: facts::named(&spaces, crate::probe::NAMESPACE)
                .is_some_and(|n| owner.has_made(n) && n["metadata"]["deletionTimestamp"].is_null()),
            releases,
            uid: owner.cluster,
            ..Seen::default()
        })
    }

    /// What renews in a member what it uses. Who may not see it is told nothing.
    async fn renewer(&self, cluster: &Cluster) -> Result<Option<Value>, cluster::Error> {
        if self.mesh.renewer.is_none() {
            return Ok(None);
        }
        let istio = self.mesh.istio.namespace.as_str();
        let job = Ref::namespaced(&Kind::CRON_JOB, istio, facts::RENEWER);
        match cluster.find(&job).await {
            Err(error) if error.code() == Some(403) => Ok(None),
            found => found,
        }
    }

    /// The newest record of each Helm release, by labels; the content is read only where somebody
    /// else wrote it and its values matter.
    async fn releases(
        &self,
        cluster: &Cluster,
    ) -> Result<BTreeMap<String, ReleaseSeen>, cluster::Error> {
        let spaces: BTreeSet<&str> = [
            self.mesh.istio.namespace.as_str(),
            self.mesh.gateway.namespace.as_str(),
        ]
        .into();
        let lists = spaces
            .into_iter()
            .map(|ns| cluster.names(&Kind::SECRET, Some(ns), Some("owner=helm")));
        let mut newest = BTreeMap::new();
        for record in future::try_join_all(lists).await?.into_iter().flatten() {
            facts::keep_newest(&mut newest, &record);
        }
        for (name, release) in newest.iter_mut().filter(|(_, r)| r.digest.is_none()) {
            let record = format!("sh.helm.release.v1.{name}.v{}", release.revision);
            let record = Ref::namespaced(&Kind::SECRET, release.namespace.as_str(), record);
            if let Some(secret) = cluster.find(&record).await? {
                facts::read_record(release, &secret);
            }
        }
        Ok(newest)
    }

    async fn list(
        &self,
        cluster: &Cluster,
        kind: &Kind,
        namespace: Option<&str>,
    ) -> Result<Arc<Vec<Value>>, cluster::Error> {
        // Secrets are read by label only: nobody's token passes through here without need.
        let labels = (*kind == Kind::SECRET).then_some(OURS);
        self.listed(cluster, kind, namespace, labels).await
    }

    pub(super) async fn listed(
        &self,
        cluster: &Cluster,
        kind: &Kind,
        namespace: Option<&str>,
        labels: Option<&'static str>,
    ) -> Result<Arc<Vec<Value>>, cluster::Error> {
        let (name, space) = (cluster.name().clone(), namespace.map(str::to_owned));
        let key = (name, kind.clone(), space, labels);
        let cell = self.lists.lock().await.entry(key).or_default().clone();
        let list = cell
            .get_or_try_init(|| async { cluster.list(kind, namespace, labels).await.map(Arc::new) })
            .await?;
        Ok(list.clone())
    }
}

fn unread(name: &ClusterName, error: cluster::Error) -> Unseen {
    Unseen::Clusters(vec![(name.clone(), error)])
}
