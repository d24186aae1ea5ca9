//! The witness, what it is asked, and what is written down.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use super::{Act, Evidence, seen};
use crate::{
    cluster::{
        Cluster, Delete, Kind, Manager, Recover, Ref, access,
        wait::{self, Deadline},
    },
    engine::Error,
    name::ClusterName,
    observe::{Lens, Observed, RECORD, Record, Tokens, proof_digest},
    probe,
    verify::{Check, Depth, Desk, Outcome, Verdict, chain},
};

/// What cannot be watched is asked again this often.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a new witness may be unknown to the proxies of a mesh that stands.
const SETTLE: Duration = Duration::from_secs(10);

/// What came of asking.
pub(super) enum Answer<T> {
    /// It is so.
    Yes(T),
    /// Not yet, for this reason; and what to look at.
    No(String, Vec<String>),
}

impl Act<'_> {
    pub(super) async fn start_witness(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        // One that a killed run has left may still be going.
        let namespace = Ref::cluster(&Kind::NAMESPACE, probe::NAMESPACE);
        let left = cluster.find(&namespace).await?;
        if left.is_some_and(|n| !n["metadata"]["deletionTimestamp"].is_null()) {
            wait::until(cluster, &namespace, self.deadline, wait::gone, self.say).await?;
        }
        for object in self.witness(name).await? {
            cluster.apply(&object, Manager::Meshlink, true).await?;
        }
        wait::available(cluster, &probe::deployment(), self.deadline, self.say).await?;
        seen("the witness is injected and answers")
    }

    async fn witness(&self, name: &ClusterName) -> Result<Vec<serde_json::Value>, Error> {
        let image = match self.shop.desired.clusters.get(name) {
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
        let members: Vec<_> = self
            .shop
            .mesh
            .clusters
            .iter()
            .map(|m| m.name.clone())
            .collect();
        let mut ports = vec![15443];
        for member in &members {
            ports.extend(super::link::host_and_port(self.server(member)?).map(|(_, port)| port));
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(probe::objects(
            &self.shop.texts,
            &members,
            name,
            &image,
            &ports,
        )?)
    }

    /// The pod goes and is seen gone, then its namespace. Kubernetes lets every namespace stand for five seconds more:
    /// only a leave, which is to end with what was there before, waits for that.
    pub(super) async fn stop_witness(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let namespace = Ref::cluster(&Kind::NAMESPACE, probe::NAMESPACE);
        let Some(found) = cluster.find(&namespace).await? else {
            return seen("no witness is there");
        };
        if !crate::observe::is_ours(&found) {
            return seen(format!("{namespace} is not ours and is left alone"));
        }
        let deployment = probe::deployment();
        cluster.delete(&deployment, &Delete::foreground()).await?;
        wait::until(cluster, &deployment, self.deadline, wait::gone, self.say).await?;
        cluster
            .delete(&namespace, &Delete::background().only(&found))
            .await?;
        if self.shop.leave.leavers.is_empty() {
            return seen("the witness is gone; its namespace goes");
        }
        wait::until(cluster, &namespace, self.deadline, wait::gone, self.say).await?;
        seen("the witness is gone")
    }

    /// Until everything there is to know of this pair is so, or time is up.
    pub(super) async fn prove(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let observed = self.look(&[from, to]).await?;
        let (seen, tokens) = &observed;
        let last = &Mutex::new(Verdict::default());
        // A mesh that was joined long ago has no reason to be late.
        let patience = match self.shop.depth {
            Depth::Every => self.deadline.left().min(SETTLE),
            _ => self.deadline.left(),
        };
        let act = Act {
            deadline: Deadline::after(patience),
            ..*self
        };
        let what = format!("{from} reaches {to}");
        let found = act.until(&what, || async move {
            let verdict = self.pair((seen, tokens), from, to).await?;
            let line = |c: &Check| format!("{}: {}", c.path(), c.evidence);
            let bad = verdict
                .checks
                .iter()
                .filter(|c| c.outcome > Outcome::Warning);
            let bad: Vec<_> = bad.collect();
            let answer = match bad.first() {
                None => match self.stale(from).await? {
                    Some(held) => Answer::No(held, vec![]),
                    None => Answer::Yes(verdict.checks.iter().map(line).collect()),
                },
                Some(first) => {
                    let lines: Vec<_> = bad.iter().map(|c| line(c)).collect();
                    // Each on a line of its own: they are told one by one.
                    Answer::No(format!("\n{}", lines.join("\n")), first.hints.clone())
                }
            };
            *last.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
            Ok(answer)
        });
        let found = found.await;
        let verdict = std::mem::take(&mut *last.lock().unwrap_or_else(PoisonError::into_inner));
        (self.judged)(verdict);
        found
    }

    /// What the witness's proxy still holds of the gateways of those who left.
    async fn stale(&self, name: &ClusterName) -> Result<Option<String>, Error> {
        let left = &self.shop.left;
        if left.is_empty() {
            return Ok(None);
        }
        let Some(witness) = probe::Witness::find(self.cluster(name)?).await? else {
            return Ok(None);
        };
        let held = witness.held().await?;
        let first = held.into_iter().find(|e| left.contains(&e.address));
        Ok(first.map(|e| {
            let (address, port) = (e.address, e.port);
            format!("the proxy in {name} still holds {address}:{port}, a gateway that left")
        }))
    }

    async fn pair(
        &self,
        (observed, tokens): (&Observed, &Tokens),
        from: &ClusterName,
        to: &ClusterName,
    ) -> Result<Verdict, Error> {
        let desk = Desk {
            mesh: &self.shop.mesh,
            clusters: &self.shop.clusters,
            observed,
            tokens,
            resolver: &self.shop.resolver,
            connect: &self.shop.connect,
            now: self.shop.now(),
        };
        Ok(desk
            .pair(from, self.shop.member(to)?, self.shop.depth)
            .await)
    }

    /// Reads these members alone: what becomes of the others is no matter of theirs.
    async fn look(&self, names: &[&ClusterName]) -> Result<(Observed, Tokens), Error> {
        let shop = self.shop;
        let mut clusters = BTreeMap::new();
        for name in names {
            clusters.insert((*name).clone(), self.cluster(name)?.clone());
        }
        let (vault, now) = (&shop.vault, shop.now());
        let lens = Lens::new(&shop.mesh, vault, &clusters, shop.embedded, now);
        let observed = lens.look().await?;
        Ok((observed, lens.tokens().await))
    }

    /// What was proved, with a digest of the facts it covers.
    pub(super) async fn record_proof(&self, name: &ClusterName) -> Evidence {
        let shop = self.shop;
        let (observed, _) = self.look(&[name]).await?;
        let fact = observed.clusters.get(name).cloned().unwrap_or_default();
        let record = Record {
            mesh: shop.mesh.id.clone(),
            members: shop.reaches.clone(),
            layout: shop.layout,
            proof: proof_digest(&shop.mesh, name, &fact),
            proved_at: shop.now(),
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
            "metadata": {"name": RECORD, "namespace": self.istio(),
                "labels": {access::MANAGED_BY.0: access::MANAGED_BY.1}},
            "data": {"record": json!(record).to_string()},
        });
        cluster.apply(&map, Manager::Meshlink, true).await?;
        Ok(())
    }

    /// Asks until the answer is yes, telling every new reason why it is not.
    pub(super) async fn until<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Answer<T>, Error>> + Send,
    {
        let begun = Instant::now();
        let mut last = String::new();
        loop {
            let (reason, hints) = match ask().await {
                Ok(Answer::Yes(value)) => return Ok(value),
                Ok(Answer::No(reason, hints)) => (reason, hints),
                Err(error) if matches!(error.recover(), Recover::Never) => return Err(error),
                Err(error) => (chain(&error), vec![]),
            };
            if self.deadline.left() <= AGAIN {
                let waited = begun.elapsed();
                return Err(Error::NotInTime {
                    what: what.to_owned(),
                    waited,
                    reason,
                    hints,
                });
            }
            if reason != last {
                (self.say)(reason.trim().lines().next().unwrap_or_default());
                last = reason;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
