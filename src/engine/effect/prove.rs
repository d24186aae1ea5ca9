//! The probe, what it is asked, and what is written down.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use serde_json::json;

use super::{Evidence, StepContext, seen};
use crate::{
    causes,
    cluster::{Cluster, Delete, Kind, Recover, Ref, wait},
    engine::{Error, readings::Reading},
    mutex,
    name::ClusterName,
    observe::{Lens, RECORD, Record, Seen, proof_digest},
    probe::{self, Probe},
    spec::GATEWAY_PORT,
    verify::{Check, Depth, Outcome, Verdict, Verifier},
    wait::{Deadline, Every, Progress, Reason, Unmet},
};

/// What cannot be watched is asked again this often.
const AGAIN: Duration = Duration::from_millis(250);
/// The readings of two members.
type Two = (Arc<Reading>, Arc<Reading>);
/// How long a new probe may be unknown to the proxies of a mesh that stands.
const SETTLE: Duration = Duration::from_secs(10);

impl StepContext<'_> {
    pub(super) async fn start_probe(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        // One that a killed run has left may still be going.
        let namespace = Ref::cluster(&Kind::NAMESPACE, probe::NAMESPACE);
        let left = cluster.find(&namespace).await?;
        if left.is_some_and(|n| !n["metadata"]["deletionTimestamp"].is_null()) {
            wait::until(cluster, &namespace, self.deadline, wait::gone, self.say).await?;
        }
        for object in self.probe(name).await? {
            self.write(cluster, &object).await?;
        }
        wait::available(cluster, &probe::deployment(), self.deadline, self.say).await?;
        seen("the probe is injected and answers")
    }

    async fn probe(&self, name: &ClusterName) -> Result<Vec<serde_json::Value>, Error> {
        let image = match self.run.desired.clusters.get(name) {
            Some(wanted) => probe::proxy_image(wanted.istiod.objects()),
            // A leave wants nothing of those who stay: their istiods are asked what they inject.
            None => {
                let injector = self.in_istio(&Kind::CONFIG_MAP, "istio-sidecar-injector");
                probe::proxy_image(self.cluster(name)?.find(&injector).await?.iter())
            }
        };
        let image = image.ok_or_else(|| Error::Missing {
            cluster: name.clone(),
            what: "istiod does not say which proxy image it injects".into(),
        })?;
        let mesh = &self.run.mesh;
        let all = mesh.clusters.iter().map(|m| &m.name);
        let mine = all.filter(|other| *other == name || mesh.are_peers(name, other));
        let members: Vec<_> = mine.cloned().collect();
        let mut ports = vec![GATEWAY_PORT];
        // A member that could not be read has no server here to be reached.
        let reachable = |m: &&ClusterName| self.run.clusters.contains_key(*m);
        for member in members.iter().filter(reachable) {
            ports.extend(super::link::host_and_port(self.server(member)?).map(|(_, port)| port));
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(probe::objects(
            &self.run.texts,
            &members,
            name,
            &image,
            &ports,
        )?)
    }

    /// The pod goes and is seen gone, then its namespace. Kubernetes lets every namespace stand for five seconds more:
    /// only a leave, which is to end with what was there before, waits for that.
    pub(super) async fn stop_probe(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let namespace = Ref::cluster(&Kind::NAMESPACE, probe::NAMESPACE);
        let Some(found) = cluster.find(&namespace).await? else {
            return seen("there is no probe");
        };
        if !self.owner(cluster)?.has_made(&found) {
            return seen(format!(
                "namespace {namespace} was not made by meshlink and is left alone"
            ));
        }
        let deployment = probe::deployment();
        cluster.delete(&deployment, &Delete::foreground()).await?;
        wait::until(cluster, &deployment, self.deadline, wait::gone, self.say).await?;
        cluster
            .delete(&namespace, &Delete::background().only(&found))
            .await?;
        if self.run.leave.leavers.is_empty() {
            return seen("the probe is gone; its namespace is being deleted");
        }
        wait::until(cluster, &namespace, self.deadline, wait::gone, self.say).await?;
        seen("the probe is gone")
    }

    /// Until everything there is to know of this pair is so, or time is up.
    pub(super) async fn prove(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let (sight, last) = (&Mutex::new(None), &Mutex::new(Verdict::default()));
        // A mesh that was joined long ago has no reason to be late.
        let patience = match self.run.depth {
            Depth::Every => self.deadline.left().min(SETTLE),
            _ => self.deadline.left(),
        };
        let context = StepContext {
            deadline: Deadline::after(patience),
            ..*self
        };
        let what = format!("{from} reaches {to}");
        let found = context.until(&what, || async move {
            let kept = mutex::lock(sight).take();
            let seen = match kept {
                Some(seen) => seen,
                None => self.look(from, to).await?,
            };
            let verdict = self.pair(&seen, from, to).await?;
            if verdict.rests_on_what_was_read() {
                self.run.readings.members.invalidate(from);
                self.run.readings.members.invalidate(to);
            } else {
                *mutex::lock(sight) = Some(seen);
            }
            if !verdict.holds() {
                self.run.readings.probes.invalidate(from);
            }
            let line = |c: &Check| format!("{}: {}", c.path(), c.evidence);
            let bad = verdict
                .checks
                .iter()
                .filter(|c| c.outcome > Outcome::Warning);
            let bad: Vec<_> = bad.collect();
            let progress = match bad.first() {
                None => match self.stale(from).await? {
                    Some(held) => Progress::NotYet(held.into()),
                    None => Progress::Done(verdict.checks.iter().map(line).collect()),
                },
                Some(first) => {
                    let lines: Vec<_> = bad.iter().map(|c| line(c)).collect();
                    // Each on a line of its own: they are told one by one.
                    let reason = Reason::from(format!("\n{}", lines.join("\n")));
                    Progress::NotYet(reason.with(first.hints.clone()))
                }
            };
            *mutex::lock(last) = verdict;
            Ok(progress)
        });
        let found = found.await;
        let verdict = std::mem::take(&mut *mutex::lock(last));
        if !verdict.clusters.is_empty() {
            (self.judged)(verdict);
        }
        found
    }

    /// What the probe's proxy still holds of the gateways of those who left.
    async fn stale(&self, name: &ClusterName) -> Result<Option<String>, Error> {
        let left = &self.run.left;
        if left.is_empty() {
            return Ok(None);
        }
        let Some(probe) = self.asker(name).await? else {
            return Ok(None);
        };
        let held = match probe.held().await {
            Ok(held) => held,
            Err(unasked) => return Ok(Some(causes::line(&*unasked))),
        };
        let first = held.all().find(|e| left.contains(&e.address));
        Ok(first.map(|e| {
            let (address, port) = (&e.address, e.port);
            format!("the proxy in {name} still holds {address}:{port}, a gateway that left")
        }))
    }

    async fn pair(
        &self,
        (here, there): &Two,
        from: &ClusterName,
        to: &ClusterName,
    ) -> Result<Verdict, Error> {
        let verifier = Verifier {
            mesh: &self.run.mesh,
            clusters: &self.run.clusters,
            observed: [Some(&here.observed), Some(&there.observed)],
            tokens: &here.tokens,
            resolver: &self.run.resolver,
            connect: &self.run.connect,
            now: self.run.now(),
        };
        let cluster = self.cluster(from)?;
        let probe = self.asker(from).await.ok().flatten();
        let to = self.run.member(to)?;
        let none = Seen::default();
        let seen = here.observed.clusters.get(from).unwrap_or(&none);
        let replicas = self.run.readings.replicas(from);
        let ask = async { Arc::new(verifier.replicas(cluster, seen, false).await) };
        let replicas = replicas.now(ask).await;
        let (depth, replicas) = (self.run.depth, (*replicas).as_ref());
        let pair = verifier.pair(from, to, depth, probe.as_ref(), replicas);
        Ok(pair.await)
    }

    /// The probe of a cluster, if one is found to run.
    pub(super) async fn asker(&self, name: &ClusterName) -> Result<Option<Probe>, Error> {
        let probes = &self.run.readings.probes;
        let find = async { Ok(Probe::find(self.cluster(name)?).await?) };
        let found = probes.of(name, find).await?;
        if found.is_none() {
            probes.forget(name);
        }
        Ok(found)
    }

    /// These two alone, as this run has read them: what becomes of the others is no matter of theirs.
    async fn look(&self, from: &ClusterName, to: &ClusterName) -> Result<Two, Error> {
        let (here, there) = (self.reading(from, Some(to)), self.reading(to, Some(from)));
        futures::try_join!(here, there)
    }

    /// A member as it is since it last changed in what has to do with a peer; without one, in anything.
    async fn reading(
        &self,
        name: &ClusterName,
        peer: Option<&ClusterName>,
    ) -> Result<Arc<Reading>, Error> {
        let run = self.run;
        let read = async {
            let clusters = BTreeMap::from([(name.clone(), self.cluster(name)?.clone())]);
            let (vault, now) = (&run.vault, run.now());
            let lens = Lens::new(&run.mesh, vault, &clusters, run.embedded, now);
            let observed = lens.look().await?;
            let spaces = Ref::cluster(&Kind::NAMESPACE, self.istio());
            let refs = BTreeMap::from([(name.clone(), vec![spaces])]);
            let observed = lens.look_at(observed, &refs).await?;
            let tokens = lens.tokens(&observed).await;
            Ok(Arc::new(Reading { observed, tokens }))
        };
        let moment = run.readings.changed(name, peer);
        run.readings.members.since(name, moment, read).await
    }

    /// What was proved, with a digest of the facts it covers.
    pub(super) async fn record_proof(&self, name: &ClusterName) -> Evidence {
        let run = self.run;
        let reading = self.reading(name, None).await?;
        let none = Seen::default();
        let found = reading.observed.clusters.get(name).unwrap_or(&none);
        let record = Record {
            mesh: run.mesh.id.clone(),
            members: run.reaches.clone(),
            peers: run.mesh.peers.clone(),
            layout: run.layout,
            proof: proof_digest(&run.mesh, name, found),
            proved_at: run.now(),
        };
        self.write_record(self.cluster(name)?, &record).await?;
        seen(format!(
            "ConfigMap {}/{RECORD} says what was proved",
            self.istio()
        ))
    }

    pub(super) async fn write_record(
        &self,
        cluster: &Cluster,
        record: &Record,
    ) -> Result<(), Error> {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": RECORD, "namespace": self.istio()},
            "data": {"record": json!(record).to_string()},
        });
        self.write(cluster, &map).await?;
        Ok(())
    }

    /// Asks until it is so, telling every new reason why it is not. An error that heals is such a reason.
    pub(super) async fn until<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Progress<T, Error>, Error>> + Send,
    {
        let ask = |()| {
            ask().map(|answer| match answer {
                Ok(progress) => progress,
                Err(error) if error.recover() == Recover::Never => Progress::Never(error),
                Err(error) => Progress::NotYet(causes::line(&error).into()),
            })
        };
        let say = |reason: &str| (self.say)(reason.trim().lines().next().unwrap_or_default());
        let result = crate::wait::until(ask, Every::fixed(AGAIN), self.deadline, say).await;
        result.map_err(|unmet| match unmet {
            Unmet::Never(error) => error,
            Unmet::Late { waited, reason } => Error::NotInTime {
                what: what.to_owned(),
                waited,
                reason,
            },
        })
    }
}
