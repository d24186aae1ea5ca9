//! Objects by name, and what releases hold.

use std::collections::{BTreeMap, BTreeSet};

use futures::future;
use serde_json::Value;

use super::{
    super::{Observed, PlaceSeen, proxies},
    Lens, Unseen, unread,
};
use crate::{
    chart::release::{Record, SELECTOR},
    cluster::{self, Cluster, Kind, Ref},
    name::ClusterName,
    owner::MANAGED_BY,
};

/// The kinds of Istio's charts but for CRDs, last first.
const CHARTED: [Kind; 12] = [
    Kind::VALIDATING_WEBHOOK_CONFIGURATION,
    Kind::MUTATING_WEBHOOK_CONFIGURATION,
    Kind::HORIZONTAL_POD_AUTOSCALER,
    Kind::POD_DISRUPTION_BUDGET,
    Kind::DEPLOYMENT,
    Kind::SERVICE,
    Kind::ROLE_BINDING,
    Kind::ROLE,
    Kind::CLUSTER_ROLE_BINDING,
    Kind::CLUSTER_ROLE,
    Kind::CONFIG_MAP,
    Kind::SERVICE_ACCOUNT,
];

impl Lens<'_> {
    /// Adds the pods that were made before their cluster had the name and the network that it has in the mesh: only a join
    /// of a cluster that came with an Istio needs to know. Who joins without the right to see them is not told.
    pub(crate) async fn look_for_elsewhere(&self, observed: &mut Observed) -> Result<(), Unseen> {
        for member in &self.mesh.clusters {
            let seen = observed.clusters.get_mut(&member.name);
            let Some((seen, cluster)) = seen.zip(self.clusters.get(&member.name)) else {
                continue;
            };
            let release = seen.release("istiod", "istiod");
            let came = release.is_some_and(|(_, r)| r.made_for.is_empty());
            if seen.record.is_some() || !came {
                continue;
            }
            let here = PlaceSeen {
                cluster: member.name.to_string(),
                network: member.network.to_string(),
            };
            match proxies::elsewhere(cluster, &here).await {
                Ok(pods) => seen.elsewhere = pods,
                Err(error) if error.code() == Some(403) => {}
                Err(error) => return Err(unread(&member.name, error)),
            }
        }
        Ok(())
    }

    /// The named objects: one list per kind and namespace, and nothing else of those lists kept.
    pub(super) async fn objects(
        &self,
        cluster: &Cluster,
        refs: &[Ref],
    ) -> Result<BTreeMap<Ref, Value>, cluster::Error> {
        let places: BTreeSet<(&Kind, Option<&str>)> = refs
            .iter()
            .map(|r| (&r.kind, r.namespace.as_deref()))
            .collect();
        let wanted: BTreeSet<&Ref> = refs.iter().collect();
        let lists = places.into_iter().map(|(kind, namespace)| async move {
            let list = self.list(cluster, kind, namespace).await?;
            Ok::<_, cluster::Error>((kind, list))
        });
        let mut live = BTreeMap::new();
        for (kind, list) in future::try_join_all(lists).await? {
            keep(&mut live, &wanted, kind, &list);
        }
        // A Secret without our label is in none of these lists. Whose it is, is seen without reading it.
        let unseen = |r: &&&Ref| r.kind == Kind::SECRET && !live.contains_key(**r);
        let spaces = wanted.iter().filter(unseen).map(|r| r.namespace.clone());
        let spaces: BTreeSet<_> = spaces.collect();
        for namespace in spaces {
            let names = cluster.names(&Kind::SECRET, namespace.as_deref(), None);
            let names = names.await?.into_iter();
            let list: Vec<_> = names.filter(|s| !has_label(s)).collect();
            keep(&mut live, &wanted, &Kind::SECRET, &list);
        }
        Ok(live)
    }

    /// The records of a release, oldest first, and whether there are others, which cannot be read.
    pub(crate) async fn records(
        &self,
        name: &ClusterName,
        release: &str,
        namespace: &str,
    ) -> Result<(Vec<Record>, bool), Unseen> {
        let Some(cluster) = self.clusters.get(name) else {
            return Ok(Default::default());
        };
        let label = format!("{SELECTOR},name={release}");
        let secrets = cluster.list(&Kind::SECRET, Some(namespace), Some(&label));
        let secrets = secrets.await.map_err(|e| unread(name, e))?;
        let read = secrets.iter().filter_map(|s| Record::from_secret(s).ok());
        let mut records: Vec<_> = read.collect();
        records.sort_by_key(|r| r.revision);
        let is_damaged = records.len() < secrets.len();
        Ok((records, is_damaged))
    }

    /// What Helm's annotations say is of a release, among the kinds of Istio's charts; last kinds first.
    pub(crate) async fn annotated(
        &self,
        name: &ClusterName,
        release: &str,
        namespace: &str,
    ) -> Result<Vec<Value>, Unseen> {
        let Some(cluster) = self.clusters.get(name) else {
            return Ok(vec![]);
        };
        let lists = CHARTED.iter().map(|kind| {
            let within = kind.place().is_some_and(|place| place.namespaced);
            cluster.names(kind, within.then_some(namespace), None)
        });
        let lists = future::try_join_all(lists).await;
        let all = lists.map_err(|e| unread(name, e))?.into_iter().flatten();
        let owned = all.filter(|o| crate::chart::apply::is_owned(o, release, namespace));
        Ok(owned.collect())
    }

    /// The named objects without what is in them, in the given order.
    pub(crate) async fn names(
        &self,
        name: &ClusterName,
        refs: &[Ref],
    ) -> Result<Vec<Value>, Unseen> {
        let Some(cluster) = self.clusters.get(name) else {
            return Ok(vec![]);
        };
        let places: BTreeSet<_> = refs
            .iter()
            .map(|r| (&r.kind, r.namespace.as_deref()))
            .collect();
        let lists = places.into_iter().map(|(kind, namespace)| async move {
            let list = cluster.names(kind, namespace, None).await?;
            Ok::<_, cluster::Error>((kind, list))
        });
        let mut live = BTreeMap::new();
        let wanted = refs.iter().collect();
        let lists = future::try_join_all(lists).await;
        for (kind, list) in lists.map_err(|e| unread(name, e))? {
            keep(&mut live, &wanted, kind, &list);
        }
        Ok(refs.iter().filter_map(|r| live.remove(r)).collect())
    }
}

fn has_label(object: &Value) -> bool {
    let (key, value) = MANAGED_BY;
    object["metadata"]["labels"][key] == value
}

/// Keeps those of a list that are wanted.
fn keep(live: &mut BTreeMap<Ref, Value>, wanted: &BTreeSet<&Ref>, kind: &Kind, list: &[Value]) {
    for object in list {
        // Items of a list may not say what they are.
        let metadata = &object["metadata"];
        let reference = Ref {
            kind: kind.clone(),
            namespace: metadata["namespace"].as_str().map(str::to_owned),
            name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        };
        if wanted.contains(&reference) {
            live.insert(reference, object.clone());
        }
    }
}
