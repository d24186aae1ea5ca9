//! Taking a member out again, and seeing that it is gone.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Evidence, StepContext,
    readers::{self, token_in},
    release::deletion,
    seen,
};
use crate::{
    aws::{call, remains::Former},
    cluster::{
        self, Cluster, Delete, Deleted, Kind, Ref,
        access::{self, ISTIO_SYSTEM},
        object, wait,
    },
    engine::Error,
    hint::Hint,
    name::ClusterName,
    observe::{
        CLAIM, Keeper, PUBLISHED, RECORD, ROOTS, claim, is_election, keepers, published_roots,
        record, strangers,
    },
    plan::{Deletion, Step},
    spec::OPENER,
    verify::istiod,
    wait::{Deadline, Progress, Unmet},
};

/// How long a load balancer is waited for that may be left behind.
const GRACE: Duration = Duration::from_secs(10);
/// How long an istiod may keep a deleted cluster before it is taken to have forgotten to let go.
const LINGER: Duration = Duration::from_secs(5);

impl StepContext<'_> {
    /// Takes one cluster's entry out of whichever Secret holds it; the others are not touched.
    pub(super) async fn unshare_secret(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let cluster = self.cluster(to)?;
        let secrets = cluster
            .list(&Kind::SECRET, Some(self.istio()), Some(access::REMOTE))
            .await?;
        let mut evidence = vec![];
        let owner = self.owner(cluster)?;
        let ours = secrets.iter().filter(|s| owner.whose(s).is_none());
        for secret in ours.filter(|s| !s["data"][from.as_str()].is_null()) {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            let place = self.in_istio(&Kind::SECRET, name);
            if secret["data"]
                .as_object()
                .is_some_and(|data| data.len() == 1)
            {
                cluster
                    .delete(&place, &Delete::background().exactly(secret))
                    .await?;
                evidence.push(format!("{place} deleted"));
            } else {
                let mut patch = access::packed_patch(from, None);
                patch["metadata"]["uid"] = secret["metadata"]["uid"].clone();
                let left = cluster.merge(&place, &patch).await?.object;
                // Others may be taken out at the same time: whoever takes out the last, takes it away.
                if left["data"].as_object().is_none_or(|data| data.is_empty()) {
                    cluster
                        .delete(&place, &Delete::background().exactly(&left))
                        .await?;
                }
                evidence.push(format!("{from} taken out of {place}"));
            }
        }
        Ok(evidence)
    }

    /// Looks at every istiod replica. One that keeps endpoints of a cluster whose secret is gone
    /// never lets go of them by itself, so it is restarted.
    pub(super) async fn await_unlinked(
        &self,
        name: &ClusterName,
        leaver: &ClusterName,
    ) -> Evidence {
        let begun = Instant::now();
        let what = format!("{leaver} is gone from {name}'s istiod");
        let let_go = self.until(&what, || async move {
            Ok(match self.left_of(name, leaver).await? {
                None => Progress::Done(None),
                Some(left) if begun.elapsed() > LINGER => Progress::Done(Some(left)),
                Some(left) => Progress::NotYet(left.into()),
            })
        });
        let Some(left) = let_go.await? else {
            let mut evidence = vec![format!("no istiod replica in {name} knows {leaver}")];
            evidence.extend(self.until_taken(name).await?);
            return Ok(evidence);
        };
        (self.say)(&format!("{left}: restarting istiod"));
        self.restart_istiod(name).await?;
        let deployment = self.in_istio(&Kind::DEPLOYMENT, "istiod");
        wait::available(self.cluster(name)?, &deployment, self.deadline, self.say).await?;
        self.until(
            &format!("{leaver} is gone from {name}'s restarted istiod"),
            || async move {
                Ok(match self.left_of(name, leaver).await? {
                    None => Progress::Done(()),
                    Some(left) => Progress::NotYet(left.into()),
                })
            },
        )
        .await?;
        let mut evidence = vec![format!(
            "no istiod replica in {name} knows {leaver}, after a restart: {left}"
        )];
        evidence.extend(self.until_taken(name).await?);
        Ok(evidence)
    }

    /// Whether every proxy has taken what its istiod last sent. One that does not answer at all is
    /// named and not waited for: it is not the leaver's fault.
    async fn until_taken(&self, name: &ClusterName) -> Result<Option<String>, Error> {
        let begun = Instant::now();
        let what = format!("the proxies in {name} have received the latest endpoints");
        let taken = self.until(&what, || async move {
            let proxies = self.proxies(name).await?;
            let behind: Vec<_> = proxies.iter().filter(|p| !p.taken()).collect();
            let all = proxies.len();
            Ok(match behind.as_slice() {
                [] if all == 0 => Progress::Done(None),
                [] => Progress::Done(Some(format!(
                    "{all} of {all} proxies in {name} have received the latest endpoints"
                ))),
                [first, ..] => {
                    let said = format!(
                        "{} of {all} proxies in {name} have received the latest endpoints, {} has not",
                        all - behind.len(),
                        first.name
                    );
                    match begun.elapsed() > LINGER {
                        true => Progress::Done(Some(said)),
                        false => Progress::NotYet(said.into()),
                    }
                }
            })
        });
        taken.await
    }

    /// Every proxy that an istiod replica serves.
    async fn proxies(&self, name: &ClusterName) -> Result<Vec<istiod::Proxy>, Error> {
        let cluster = self.cluster(name)?;
        let pods = cluster
            .list(&Kind::POD, Some(self.istio()), Some("app=istiod"))
            .await?;
        let mut all = vec![];
        for pod in object::running(&pods) {
            all.extend(istiod::proxies(cluster, self.istio(), &pod).await?);
        }
        Ok(all)
    }

    /// What is left of a cluster in another's istiods. A real istiod goes on listing the gateway of
    /// a network that is gone until its networks next change; with no endpoint behind it, nothing
    /// is sent there, so that alone is no reason to restart it.
    async fn left_of(
        &self,
        name: &ClusterName,
        leaver: &ClusterName,
    ) -> Result<Option<String>, Error> {
        let cluster = self.cluster(name)?;
        let pods = cluster
            .list(&Kind::POD, Some(self.istio()), Some("app=istiod"))
            .await?;
        for pod in object::running(&pods) {
            let replica = istiod::ask(cluster, self.istio(), &pod, false).await?;
            if replica.clusters.iter().any(|c| c.id == leaver.as_str()) {
                return Ok(Some(format!("{pod} still reads {leaver}")));
            }
            if istiod::holds_endpoints(cluster, self.istio(), &pod, leaver).await? {
                return Ok(Some(format!("{pod} still holds endpoints of {leaver}")));
            }
        }
        Ok(None)
    }

    /// Deletes the account, and sees its token refused.
    pub(super) async fn revoke_reader(&self, name: &ClusterName, peer: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let secrets = self.token_secrets(cluster, peer).await?;
        let token = secrets.last().and_then(|(_, secret)| token_in(secret));
        let mut stays = vec![];
        for reference in readers::names(peer, &secrets) {
            stays.extend(self.remove(cluster, &reference).await?);
        }
        self.drop_roles(cluster).await?;
        if !stays.is_empty() {
            return Ok(stays);
        }
        let Some(token) = token else {
            return seen(format!("{peer}'s account is gone"));
        };
        self.until_refused(cluster, token).await?;
        seen(format!(
            "{peer}'s account is gone and its token answers 401"
        ))
    }

    /// The rights all readers share go with the last of them.
    async fn drop_roles(&self, cluster: &Cluster) -> Result<(), Error> {
        let accounts = cluster
            .names(
                &Kind::SERVICE_ACCOUNT,
                Some(ISTIO_SYSTEM),
                Some(access::PEER_LABEL),
            )
            .await?;
        let owner = self.owner(cluster)?;
        if !accounts.iter().any(|a| owner.whose(a).is_none()) {
            for role in access::roles(true) {
                if let Some(reference) = Ref::of(&role) {
                    self.remove(cluster, &reference).await?;
                }
            }
        }
        Ok(())
    }

    /// Until the Service is gone, and with it the load balancer its finalizer stands for.
    pub(super) async fn close_gateway(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let gateway = &self.run.mesh.gateway;
        let (namespace, service) = (gateway.namespace.as_str(), gateway.name.as_str());
        let opened = Ref::namespaced(&Kind::GATEWAY, namespace, OPENER);
        let stays = self.remove(cluster, &opened).await?;
        let step = Step::CloseGateway(name.clone());
        let service = Ref::namespaced(&Kind::SERVICE, namespace, service);
        let of_service = self.planned(&step).iter().find(|d| d.object == service);
        let Some(of_service) = of_service else {
            // Not ours, or gone already.
            let count = self.uninstall(name, (&gateway.name, namespace), &step);
            let line = format!("{} objects of the gateway's release are gone", count.await?);
            return Ok([line].into_iter().chain(stays).collect());
        };
        let former = self.former(name, cluster.find(&service).await?).await;
        let left = self.close_balancer(cluster, of_service).await?;
        self.uninstall(name, (&gateway.name, namespace), &step)
            .await?;
        match (left, former) {
            (Some(left), Ok(Some(former))) => {
                let delete = former.delete().map(|command| command.to_string());
                Ok([left].into_iter().chain(delete).collect())
            }
            (Some(left), _) => seen(left),
            (None, Ok(None)) => seen("the gateway and its load balancer are gone"),
            (None, Ok(Some(former))) => self.until_gone(name, &former).await,
            (None, Err(error)) => seen(unseen(&error)),
        }
    }

    /// What the load balancer is known by, where AWS may be asked about it.
    async fn former(
        &self,
        name: &ClusterName,
        service: Option<Value>,
    ) -> Result<Option<Former>, call::Error> {
        match (&self.run.aws, service) {
            (Some(members), Some(service)) => members.former(name, &service).await,
            _ => Ok(None),
        }
    }

    /// Until AWS has nothing left of it: what stays holds subnets and VPCs back.
    async fn until_gone(&self, name: &ClusterName, former: &Former) -> Evidence {
        let now = || self.run.now().into();
        match former.gone(self.deadline, now, self.say).await {
            Ok(()) => seen(
                "the gateway is gone, and so are its load balancer, interfaces and security groups in AWS",
            ),
            Err(Unmet::Late { waited, reason }) => Err(Error::NotInTime {
                what: format!("{name}'s load balancer is gone from AWS"),
                waited,
                reason: reason.with(vec![former.hint()]),
            }),
            Err(Unmet::Never(error)) => seen(unseen(&error)),
        }
    }

    /// Until the Service is gone; says what stays of a load balancer that nobody removed.
    async fn close_balancer(
        &self,
        cluster: &Cluster,
        planned: &Deletion,
    ) -> Result<Option<String>, Error> {
        let service = planned.object.clone();
        let how = Delete {
            uid: Some(planned.uid.clone()),
            ..Delete::background()
        };
        cluster.delete(&service, &how).await?;
        let deadline = match self.run.leave.abandon {
            true => Deadline::after(GRACE.min(self.deadline.left())),
            false => self.deadline,
        };
        let error = match wait::until(cluster, &service, deadline, released, self.say).await {
            Ok(()) => return Ok(None),
            Err(error) => error,
        };
        match error {
            cluster::Error::NotInTime { .. } if self.run.leave.abandon => {
                self.abandon(cluster, &service).await.map(Some)
            }
            cluster::Error::NotInTime { waited, reason, .. } => {
                let leaver = cluster.name();
                let hints = vec![
                    service.describe(leaver),
                    Hint::meshlink(["leave", leaver.as_str(), "--abandon-load-balancer"])
                        .remark("if no controller removes it"),
                ];
                Err(Error::NotInTime {
                    what: format!("{service} is gone from {leaver} with its load balancer"),
                    waited,
                    reason: reason.with(hints),
                })
            }
            error => Err(error.into()),
        }
    }

    /// Takes the finalizers off, as it was told to: what they stood for stays in the cloud.
    async fn abandon(&self, cluster: &Cluster, service: &Ref) -> Result<String, Error> {
        let Some(found) = cluster.find(service).await? else {
            return Ok("the gateway and its load balancer are gone".into());
        };
        let names: Vec<_> = keepers(&found).into_iter().map(|k| k.finalizer).collect();
        let uid = &found["metadata"]["uid"];
        let free = json!({"metadata": {"uid": uid, "finalizers": null}});
        cluster.merge(service, &free).await?;
        wait::until(cluster, service, self.deadline, wait::gone, self.say).await?;
        Ok(format!(
            "the gateway is gone; {} was removed from {service}, so its load balancer may still be in the cloud",
            names.join(", ")
        ))
    }

    pub(super) async fn uninstall_istiod(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let step = Step::UninstallIstiod(name.clone());
        let count = self
            .uninstall(name, ("istiod", self.istio()), &step)
            .await?;
        let planned = self.planned(&step).iter();
        if !planned
            .map(|d| &d.object.kind)
            .any(|k| *k == Kind::DEPLOYMENT)
        {
            return seen(format!("{count} objects of release istiod are gone"));
        }
        // As long as one runs, it writes again what is taken away next.
        let ours = Some("app=istiod,istio.io/rev=default");
        let pods = cluster.names(&Kind::POD, Some(self.istio()), ours);
        for pod in pods.await? {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let pod = self.in_istio(&Kind::POD, name);
            wait::until(cluster, &pod, self.deadline, wait::gone, self.say).await?;
        }
        seen(format!("{count} objects of release istiod are gone"))
    }

    pub(super) async fn uninstall_base(&self, name: &ClusterName) -> Evidence {
        let step = Step::UninstallBase(name.clone());
        let release = ("istio-base", self.istio());
        let count = self.uninstall(name, release, &step).await?;
        let planned = self.planned(&step).iter();
        let crds = planned.filter(|d| d.object.kind == Kind::CUSTOM_RESOURCE_DEFINITION);
        seen(format!(
            "{count} objects of release istio-base are gone, {} of them CRDs",
            crds.count()
        ))
    }

    /// Deletes side by side, and waits until each is gone that did not go at once. Another object of the same name stays.
    pub(super) async fn delete_all(
        &self,
        cluster: &Cluster,
        objects: Vec<Deletion>,
    ) -> Result<usize, Error> {
        let one = |deletion: Deletion| async move {
            let how = Delete {
                uid: Some(deletion.uid),
                ..Delete::background()
            };
            let reference = deletion.object;
            match cluster.delete(&reference, &how).await? {
                Deleted::Gone | Deleted::NotFound => Ok(()),
                Deleted::Deleting(_) => {
                    wait::until(cluster, &reference, self.deadline, wait::gone, self.say).await
                }
            }
        };
        let count = objects.len();
        futures::future::try_join_all(objects.into_iter().map(one)).await?;
        Ok(count)
    }

    /// Our Secret, and what istiod wrote while it ran and leaves behind.
    pub(super) async fn remove_cacerts(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let leftovers = self.leftovers(cluster).await?;
        let count = self.delete_all(cluster, leftovers).await?;
        let cacerts = self.in_istio(&Kind::SECRET, "cacerts");
        let stays = self.remove(cluster, &cacerts).await?;
        let line = format!("cacerts and istiod's leftovers are gone, {count} objects");
        Ok(stays.map_or_else(|| vec![line], |stays| vec![stays]))
    }

    /// The bundles in every namespace that hold our root, and nobody else's ConfigMaps; and istiod's elections.
    async fn leftovers(&self, cluster: &Cluster) -> Result<Vec<Deletion>, Error> {
        let istio = self.istio();
        let claimed = cluster
            .find(&self.in_istio(&Kind::CONFIG_MAP, CLAIM))
            .await?;
        let root = claimed.map(|map| claim(&map).root);
        let (published, elections, leases) = tokio::try_join!(
            cluster.list(&Kind::CONFIG_MAP, None, Some("istio.io/config=true")),
            cluster.names(&Kind::CONFIG_MAP, Some(istio), None),
            cluster.names(&Kind::LEASE, Some(istio), None),
        )?;
        let holds_root = |map: &&Value| {
            map["metadata"]["name"] == ROOTS
                && root
                    .as_ref()
                    .is_some_and(|root| published_roots(map).contains(root))
        };
        // The istiod that wrote our root into a namespace wrote the others too.
        let space = |map: &Value| map["metadata"]["namespace"].as_str().map(str::to_owned);
        let spaces = published.iter().filter(holds_root).filter_map(space);
        let spaces: BTreeSet<_> = spaces.collect();
        let is_ours = |map: &&Value| {
            let name = map["metadata"]["name"].as_str().unwrap_or_default();
            PUBLISHED.contains(&name) && space(map).is_some_and(|s| spaces.contains(&s))
        };
        let elections = elections.iter().chain(&leases).filter(|o| is_election(o));
        let all = published.iter().filter(is_ours).chain(elections);
        Ok(all.filter_map(deletion).collect())
    }

    /// A leaver forgets the mesh; the others forget the leaver, and prove themselves again when
    /// they next join, since what was proved covered it.
    pub(super) async fn forget_member(&self, name: &ClusterName, leaver: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        // A run that died between a reader's account and the rights they share left these.
        self.drop_roles(cluster).await?;
        let place = self.in_istio(&Kind::CONFIG_MAP, RECORD);
        let found = cluster.find(&place).await?;
        let known = found.as_ref().and_then(record);
        match known.filter(|_| name != leaver) {
            None => {
                let stays = self.remove(cluster, &place).await?;
                seen(stays.unwrap_or_else(|| format!("{place} is gone")))
            }
            Some(mut record) => {
                record.members.remove(leaver);
                record.peers = record
                    .peers
                    .map(|peers| peers.without(|name| name == leaver));
                record.proof.clear();
                self.write_record(cluster, &record).await?;
                seen(format!("{place} no longer names {leaver}"))
            }
        }
    }

    /// The namespaces meshlink made, unless somebody has put something there meanwhile. With that of the claim the claim
    /// goes, and last of all: by it the next leave knows that it may go on.
    pub(super) async fn remove_namespaces(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let owner = self.owner(cluster)?;
        let mut evidence = vec![];
        for planned in self.planned(&Step::RemoveNamespaces(name.clone())) {
            let place = &planned.object;
            let live = cluster.find(place).await?;
            let Some(live) = live.filter(|o| o["metadata"]["uid"] == *planned.uid) else {
                continue;
            };
            if place.kind == Kind::NAMESPACE {
                let found = strangers(cluster, &place.name, owner, &[]).await?;
                if let Some(first) = found.first() {
                    evidence.push(format!("{place} stays: it holds {first}"));
                    continue;
                }
            }
            if let Some(whose) = owner.whose(&live) {
                evidence.push(format!("{place} stays: it is not meshlink's ({whose})"));
                continue;
            }
            // The Lease goes with its namespace: this is the last that is done here.
            if place.kind == Kind::NAMESPACE
                && place.name == self.istio()
                && let Some(fence) = cluster.fence()
            {
                fence.leave(name);
            }
            self.delete_all(cluster, vec![planned.clone()]).await?;
            evidence.push(format!("{place} is gone"));
        }
        Ok(evidence)
    }
}

/// No Service any more; until then, who holds it and by what.
fn released(service: Option<&Value>) -> Progress<()> {
    let held: Vec<_> = service.map(keepers).into_iter().flatten().collect();
    match wait::gone(service) {
        Progress::NotYet(_) if !held.is_empty() => {
            let each =
                |k: &Keeper| format!("{} to remove the load balancer ({})", k.who, k.finalizer);
            let all: Vec<_> = held.iter().map(each).collect();
            Progress::NotYet(format!("waiting for {}", all.join(" and for ")).into())
        }
        progress => progress,
    }
}

/// AWS was not asked about the load balancer: that its Service is gone is all that is known.
fn unseen(error: &call::Error) -> String {
    format!("the gateway is gone; its load balancer was not looked for: {error}")
}
