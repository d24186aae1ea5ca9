//! Workloads whose proxies cannot follow a change of root: made anew by their own rollouts, with what injection says now.

use std::collections::BTreeSet;

use super::super::{Evidence, StepContext, seen};
use crate::{
    cluster::{Cluster, Kind, Ref},
    engine::Error,
    name::ClusterName,
    observe::{Proxy, TrustSeen},
    wait::Progress,
};

impl StepContext<'_> {
    /// Exactly those, and until no proxy is left that cannot follow.
    pub(in crate::engine::effect) async fn restart_workloads(
        &self,
        name: &ClusterName,
    ) -> Evidence {
        let cluster = self.cluster(name)?;
        let trust = TrustSeen::read(cluster, self.istio()).await?;
        let slow: Vec<_> = trust.proxies.iter().filter(|p| !p.follows).collect();
        let mut workloads = BTreeSet::new();
        for proxy in &slow {
            workloads.extend(workload(cluster, proxy).await?);
        }
        for workload in &workloads {
            self.restart(cluster, workload).await?;
        }
        let before: BTreeSet<String> = slow.iter().map(|proxy| proxy.uid.clone()).collect();
        let before = &before;
        let gone = || async move {
            let trust = TrustSeen::read(cluster, self.istio()).await?;
            let mut slow = trust.proxies.iter().filter(|p| !p.follows);
            let Some(first) = slow.next() else {
                return Ok(Progress::Done(()));
            };
            let late = slow.count();
            let text = match before.contains(&first.uid) {
                true => format!("{} still runs, and {late} more", first.name()),
                // What it is told of its own goes before what the mesh says.
                false => format!(
                    "{} was made anew and still cannot follow: does its annotation proxy.istio.io/config say so?",
                    first.name()
                ),
            };
            Ok(Progress::NotYet(text.into()))
        };
        self.until("every proxy can follow a change of root", gone)
            .await?;
        let names: Vec<_> = workloads.iter().map(ToString::to_string).collect();
        seen(format!("restarted: {}", names.join(", ")))
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
