//! Workloads whose proxies cannot follow a change of root: made anew by their own rollouts, with what injection says now.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Evidence, StepContext, seen};
use crate::{
    cluster::{Cluster, Kind, Ref},
    engine::Error,
    name::ClusterName,
    observe::{Proxy, TrustSeen},
    plan::adopt,
    spec::Member,
    wait::Progress,
};

impl StepContext<'_> {
    /// Exactly those, one namespace after the other, each until none of its proxies is left that has to be made anew.
    pub(in crate::engine::effect) async fn restart_workloads(
        &self,
        name: &ClusterName,
    ) -> Evidence {
        let cluster = self.cluster(name)?;
        let here = self.member_of(name)?;
        let trust = TrustSeen::read(cluster, self.istio()).await?;
        let mut spaces: BTreeMap<&str, Vec<&Proxy>> = BTreeMap::new();
        for proxy in &trust.proxies {
            if is_stale(here, proxy) {
                spaces.entry(proxy.namespace()).or_default().push(proxy);
            }
        }
        let mut names = vec![];
        for (space, stale) in spaces {
            let mut workloads = BTreeSet::new();
            for proxy in &stale {
                workloads.extend(workload(cluster, proxy).await?);
            }
            for workload in &workloads {
                self.restart(cluster, workload).await?;
            }
            let before = stale.iter().map(|proxy| proxy.uid.clone()).collect();
            self.until_made_anew(name, space, &before).await?;
            names.extend(workloads.iter().map(ToString::to_string));
        }
        seen(format!("restarted: {}", names.join(", ")))
    }

    /// The member that a cluster is to be, where it is adopted.
    fn member_of(&self, name: &ClusterName) -> Result<Option<&Member>, Error> {
        let adopted = self.run.adoption.is_some();
        adopted.then(|| self.run.member(name)).transpose()
    }

    async fn until_made_anew(
        &self,
        name: &ClusterName,
        space: &str,
        before: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let (cluster, here) = (self.cluster(name)?, self.member_of(name)?);
        let gone = || async move {
            let trust = TrustSeen::read(cluster, self.istio()).await?;
            let mine = trust.proxies.iter().filter(|p| p.namespace() == space);
            let stale: Vec<_> = mine.filter(|p| is_stale(here, p)).collect();
            let Some(first) = stale.first() else {
                return Ok(Progress::Done(()));
            };
            let text = match before.contains(&first.uid) {
                true => format!("{} still runs, and {} more", first.name(), stale.len() - 1),
                // What it is told of its own goes before what the mesh says.
                false => format!(
                    "{} was made anew and is as before: does its annotation proxy.istio.io/config say so?",
                    first.name()
                ),
            };
            Ok(Progress::NotYet(text.into()))
        };
        self.until("every proxy is made anew", gone).await
    }
}

/// Whether a proxy's pod has to be made anew: for its cluster to be a member, or for a change of root.
fn is_stale(here: Option<&Member>, proxy: &Proxy) -> bool {
    match here {
        Some(member) => adopt::is_stale(proxy, member, true),
        None => !proxy.follows,
    }
}

/// What a proxy's pod belongs to, and is made anew by.
async fn workload(cluster: &Cluster, proxy: &Proxy) -> Result<Option<Ref>, Error> {
    let Some(owner) = &proxy.owner else {
        return Ok(None);
    };
    if owner.kind != Kind::REPLICA_SET {
        return Ok(Some(owner.clone()));
    }
    let set = cluster.find(owner).await?;
    Ok(set.as_ref().and_then(Ref::controller))
}
