//! What runs in the members, pod by pod: what is read for it, each member by itself.

use std::{collections::BTreeMap, time::Duration};

use futures::future;

use super::{
    Meshlink,
    failure::{Failure, Kind},
    look::{Look, Reading, passed_over, refused},
};
use crate::{
    cluster::{Cluster, Kind as ObjectKind},
    name::ClusterName,
    plan::{
        self, Desired,
        rollout::{self, Rollout},
    },
    verify::service::Name,
    workloads::{self, Looking, Unread, Workloads},
};

/// How long the lists of a member may take, and all its proxies together, unless less was asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which workloads are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Which {
    /// The members; all where none is named.
    pub(crate) members: Vec<ClusterName>,
    /// The namespaces; all where none is named.
    pub(crate) namespaces: Vec<String>,
    /// The Service that proxies are asked about.
    pub(crate) service: Option<Name>,
    /// Gateways' addresses are tried from this machine.
    pub(crate) connect: bool,
}

impl Meshlink {
    pub(super) async fn look_to_roll(&self, how: &Rollout) -> Result<Look, Failure> {
        let limit = self.environment.timeout.min(PATIENCE);
        let lens = self.lens().within(limit);
        let reading = self.read_with(&lens).await?;
        self.refuse_strangers(&reading)?;
        let (gateways, namespaces) = (BTreeMap::new(), [how.namespace.clone()]);
        let looking = Looking {
            lens: &lens,
            namespaces: &namespaces,
            service: None,
            gateways: &gateways,
            limit,
            now: (self.environment.clock)(),
        };
        let unread = &reading.observed.unreachable;
        let members = self.mesh.clusters.iter().map(|m| &m.name);
        let members = members.filter(|name| how.is_about(name) && !unread.contains_key(*name));
        let looks = members.filter_map(|name| Some((name, self.clusters.get(name)?)));
        let looks = looks.map(async |(name, cluster)| {
            let seen = rolled(&looking, cluster, how).await;
            (name.clone(), seen)
        });
        let (mut seen, mut failed) = (vec![], None::<Failure>);
        for (name, found) in future::join_all(looks).await {
            match found {
                Ok(found) => seen.push((name, found)),
                Err(unread) => {
                    let what = format!("cluster {name}: cannot read {}", unread.what);
                    let failure = Failure::from_causes(Kind::Failed, vec![what, unread.why]);
                    failed = Some(match failed {
                        Some(before) => before.and(failure),
                        None => failure,
                    });
                }
            }
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        let mut plan = plan::rollout::rollout(&self.mesh, &seen, how).map_err(refused)?;
        let away = unread.iter().filter(|(name, _)| how.is_about(name));
        plan.notes
            .extend(away.map(|(_, member)| passed_over(member)));
        Ok(Look {
            reading,
            desired: Desired::default(),
            plan,
        })
    }

    /// Looks at every pod. Nothing is changed.
    ///
    /// # Errors
    ///
    /// That no member can be read at all. What of one could not be is in the answer.
    pub(crate) async fn workloads(&self, which: &Which) -> Result<Workloads, Failure> {
        let limit = self.environment.timeout.min(PATIENCE);
        let lens = self.lens().within(limit);
        let read = self.read_with(&lens).await?;
        let gateways = self.gateways_by_address(&read).await;
        let looking = Looking {
            lens: &lens,
            namespaces: &which.namespaces,
            service: which.service.as_ref(),
            gateways: &gateways,
            limit,
            now: (self.environment.clock)(),
        };
        let is_meant =
            |name: &ClusterName| which.members.is_empty() || which.members.contains(name);
        let members = self.mesh.clusters.iter().map(|m| &m.name);
        let members: Vec<_> = members.filter(|name| is_meant(name)).collect();
        let unreachable = &read.observed.unreachable;
        let there = members
            .iter()
            .filter(|name| !unreachable.contains_key(**name));
        let looks =
            there.filter_map(|name| Some(workloads::look(&looking, self.clusters.get(*name)?)));
        let mut clusters = future::join_all(looks).await;
        if which.connect {
            let all = clusters.iter_mut();
            let tries = all.map(|m| workloads::connect(&self.resolver, &mut m.gateways));
            future::join_all(tries).await;
        }
        let away = members.iter().filter_map(|name| unreachable.get(*name));
        Ok(Workloads {
            service: which.service.clone(),
            missing: missing(which, &clusters),
            unreachable: away.cloned().collect(),
            clusters,
        })
    }

    /// Whose gateway each address is, as far as that can be known from here.
    async fn gateways_by_address(&self, read: &Reading) -> BTreeMap<String, String> {
        let verifier = self.verifier(read);
        let members = self.mesh.clusters.iter();
        let looks =
            members.map(|m| async { (m.name.to_string(), verifier.expected(&m.name).await) });
        let found = future::join_all(looks).await.into_iter();
        let pairs = found.flat_map(|(name, addresses)| {
            let all = addresses.unwrap_or_default().into_iter();
            all.map(move |address| (address, name.clone()))
        });
        pairs.collect()
    }
}

/// What is read of a member for a rollout: all of it, or it is not planned.
async fn rolled(
    looking: &Looking<'_>,
    cluster: &Cluster,
    how: &Rollout,
) -> Result<rollout::Seen, Unread> {
    let lists = looking.lists(cluster).await;
    let member = workloads::look(looking, cluster).await;
    if let Some(unread) = member.unread.into_iter().next() {
        return Err(unread);
    }
    let space = how.namespace.as_str();
    let mut controllers = vec![];
    for kind in &rollout::ROLLED {
        let all = looking.list(cluster, kind, Some(space)).await?;
        // Objects of a list do not say their kind.
        let named = all.iter().cloned().map(|mut object| {
            object["apiVersion"] = kind.api_version.as_ref().into();
            object["kind"] = kind.kind.as_ref().into();
            object
        });
        controllers.extend(named);
    }
    let selector = match &how.service {
        None => None,
        Some(service) => {
            let all = looking
                .list(cluster, &ObjectKind::SERVICE, Some(space))
                .await?;
            let found = all
                .iter()
                .find(|s| s["metadata"]["name"] == service.as_str());
            found.map(|s| s["spec"]["selector"].clone())
        }
    };
    Ok(rollout::Seen {
        namespace: lists.context.namespaces.get(space).cloned(),
        injection: lists.context.injection,
        pods: member.pods,
        controllers,
        selector,
    })
}

/// What was named and is in no member: said only where every list that would hold it was read.
fn missing(which: &Which, clusters: &[workloads::Member]) -> Vec<String> {
    let whole = clusters.iter().all(|m| m.unread.is_empty());
    let spaces = which.namespaces.iter();
    let spaces = spaces.filter(|name| !clusters.iter().any(|m| m.namespaces.contains(name)));
    let mut all: Vec<_> = spaces.map(|name| format!("namespace {name}")).collect();
    let known = clusters.iter().any(|m| m.has_service);
    let service = which.service.as_ref().filter(|_| !known);
    all.extend(service.map(|service| format!("Service {service}")));
    match whole && !clusters.is_empty() {
        true => all,
        false => vec![],
    }
}
