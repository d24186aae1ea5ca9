//! Which versions of Istio the members' proxies run.

use std::collections::BTreeMap;

use futures::future;

use super::{Meshlink, look::Reading};
use crate::{
    name::ClusterName,
    observe::{Unreachable, proxies},
};

/// How many proxies run a version, by namespace.
pub(crate) type Running = BTreeMap<String, BTreeMap<String, usize>>;

impl Meshlink {
    /// By member; and the members that could not be read.
    pub(crate) async fn proxy_versions(
        &self,
        reading: &Reading,
    ) -> (BTreeMap<ClusterName, Running>, Vec<Unreachable>) {
        let read = |name: &ClusterName| reading.observed.clusters.contains_key(name);
        let members = self.clusters.iter().filter(|(name, _)| read(name));
        let looks = members.map(async |(name, cluster)| (name, proxies::versions(cluster).await));
        let looked = future::join_all(looks).await;
        let (mut all, mut away) = (BTreeMap::new(), vec![]);
        away.extend(reading.observed.unreachable.values().cloned());
        for (name, found) in looked {
            match found {
                Ok(found) => drop(all.insert(name.clone(), found)),
                Err(error) => away.push(self.told(name, &error).await),
            }
        }
        (all, away)
    }
}
