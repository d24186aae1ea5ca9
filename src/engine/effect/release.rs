//! Helm releases: what a chart renders to, applied and written down as Helm would.
//!
//! A pending record is the lock: creating it can succeed only once. A record that stayed pending is
//! what a run leaves that died; it is closed as failed, and the next revision does the work again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Evidence, StepContext, own::foreign, seen};
use crate::{
    chart::{
        self,
        release::{HISTORY, Record, SELECTOR, Status, outdated},
    },
    cluster::{Cluster, Created, Delete, Kind, Manager, Ref, wait},
    engine::Error,
    hint::Hint,
    name::ClusterName,
    observe::{DIGEST_LABEL, MADE_LABEL, REVISION_LABEL, VERSION_LABEL},
    plan::{
        Deletion, Refusal, Step,
        desire::{Release, is_crd, reference},
        ownership::foreign_to,
    },
    wait::Progress,
};

impl StepContext<'_> {
    /// Brings a release to what it should be. What it loses is deleted as the plan of the step says.
    pub(super) async fn install(
        &self,
        name: &ClusterName,
        release: &Release,
        step: &Step,
    ) -> Evidence {
        let cluster = self.cluster(name)?;
        let ledger = Ledger {
            context: *self,
            cluster,
            name: &release.name,
            namespace: &release.namespace,
        };
        let before = ledger.records().await?;
        let newest = before.last_key_value().map(|(_, record)| record);
        if let Some(record) = newest.filter(|r| r.status.is_pending()) {
            ledger.close(record).await?;
        }
        let mut record = self.record(release, newest);
        let created = self.run.now().as_second();
        let secret = record
            .to_secret(Some(created), None)
            .map_err(|e| ledger.failed(e))?;
        if let Created::Exists(_) = cluster.create(&secret).await? {
            return Err(ledger.busy(&record));
        }
        self.apply(cluster, release).await?;
        self.delete_planned(cluster, (&release.name, &release.namespace), step)
            .await?;
        record.deployed();
        ledger.put(&record, created).await?;
        let mut records: Vec<Record> = before.into_values().collect();
        for old in records.iter_mut().filter(|r| r.status == Status::Deployed) {
            old.superseded();
            ledger.put(old, created).await?;
        }
        records.push(record.clone());
        ledger.forget_oldest(&records).await?;
        let (chart, version) = (&record.chart.name, &record.chart.version);
        let objects = release.rendered.manifests.len();
        seen(format!(
            "release {} revision {}: {chart} {version}, {objects} objects",
            record.name, record.revision
        ))
    }

    fn record(&self, release: &Release, before: Option<&Record>) -> Record {
        let revision = before.map_or(1, |r| r.revision + 1);
        let (name, namespace) = (release.name.as_str(), release.namespace.as_str());
        let is_upgrade = before.is_some();
        let asked = chart::Release {
            name,
            namespace,
            revision,
            is_upgrade,
        };
        let config = release.values.as_object().cloned().unwrap_or_default();
        let now = self.run.now().to_string();
        let chart = &release.chart.chart;
        let mut record = Record::new(&asked, chart, &config, &release.rendered, &now, before);
        // What was there before meshlink came is nobody's to uninstall.
        if before.is_none() && self.run.adoption.is_none() {
            let made_for = self.run.mesh.id.as_str().into();
            record.labels.insert(MADE_LABEL.into(), made_for);
        }
        let ours = [
            (VERSION_LABEL, chart.metadata.version.clone()),
            (REVISION_LABEL, revision.to_string()),
        ];
        let digest = release.digest.clone().map(|d| (DIGEST_LABEL, d));
        // Labels are handed on from the revision before.
        record.labels.remove(DIGEST_LABEL);
        let labels = ours.into_iter().chain(digest);
        record
            .labels
            .extend(labels.map(|(key, value)| (key.to_owned(), Value::from(value))));
        record
    }

    /// CRDs first and awaited, then the rest in Helm's order, kind by kind.
    async fn apply(&self, cluster: &Cluster, release: &Release) -> Result<(), Error> {
        let (crds, rest): (Vec<_>, Vec<_>) = release.objects().partition(|o| is_crd(o));
        self.apply_together(cluster, release, &crds).await?;
        self.await_served(cluster, &crds).await?;
        for kind in rest.chunk_by(|a, b| a["kind"] == b["kind"]) {
            self.apply_together(cluster, release, kind).await?;
        }
        Ok(())
    }

    /// Most are served at once, which one list shows; the others are waited for.
    async fn await_served(&self, cluster: &Cluster, crds: &[&Value]) -> Result<(), Error> {
        if crds.is_empty() {
            return Ok(());
        }
        let (kind, label) = (&Kind::CUSTOM_RESOURCE_DEFINITION, Some(chart::apply::OWNED));
        let list = cluster.list(kind, None, label).await?;
        let is_served =
            |crd: &&Value| matches!(wait::crd_established(Some(crd)), Progress::Done(()));
        let served: BTreeSet<_> = list.iter().filter(is_served).filter_map(Ref::of).collect();
        let rest = crds.iter().filter_map(|crd| Ref::of(crd));
        let rest = rest.filter(|crd| !served.contains(crd));
        let waits = rest.map(|crd| async move {
            let established = wait::crd_established;
            wait::until(cluster, &crd, self.deadline, established, self.say).await
        });
        futures::future::try_join_all(waits).await?;
        Ok(())
    }

    /// Objects of a release, each of them only if it is not there or is the release's by Helm's own rule.
    pub(super) async fn apply_together(
        &self,
        cluster: &Cluster,
        release: &Release,
        objects: &[&Value],
    ) -> Result<(), Error> {
        let refs = objects.iter().map(|o| reference(o, &release.namespace));
        let refs: Vec<_> = refs.flatten().collect();
        let live = self.live(cluster, &refs).await?;
        let applied = objects.iter().map(|object| {
            let there = reference(object, &release.namespace).and_then(|r| live.get(&r).cloned());
            self.apply_one(cluster, release, (*object).clone(), there)
        });
        futures::future::try_join_all(applied.collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// What is there of these, without its content: a list for each kind and namespace.
    async fn live(&self, cluster: &Cluster, refs: &[Ref]) -> Result<BTreeMap<Ref, Value>, Error> {
        let places: BTreeSet<_> = refs.iter().map(|r| (&r.kind, &r.namespace)).collect();
        let mut live = BTreeMap::new();
        for (kind, namespace) in places {
            let list = cluster.names(kind, namespace.as_deref(), None).await?;
            live.extend(list.into_iter().filter_map(|o| Some((Ref::of(&o)?, o))));
        }
        Ok(live)
    }

    /// As field manager `helm`, so that a later `helm upgrade` finds its own fields. What istiod
    /// writes into webhooks is never touched once they are there.
    async fn apply_one(
        &self,
        cluster: &Cluster,
        release: &Release,
        mut object: Value,
        live: Option<Value>,
    ) -> Result<(), Error> {
        let at = (release.name.as_str(), release.namespace.as_str());
        let owner = self.owner(cluster)?;
        chart::apply::prepare(&mut object);
        chart::apply::own(&mut object, at.0, at.1);
        if object["metadata"]["namespace"].is_null()
            && let Some(Ref {
                namespace: Some(namespace),
                ..
            }) = reference(&object, at.1)
        {
            object["metadata"]["namespace"] = namespace.into();
        }
        // A CRD outlives its release, and with it every object of its kind goes: only one we made ourselves may be deleted.
        if is_crd(&object) && live.as_ref().is_none_or(|live| owner.has_made(live)) {
            let mark = owner.stamped(&object, None)["metadata"]["annotations"].take();
            object["metadata"]["annotations"] = mark;
        }
        let Some(live) = live else {
            let applied = cluster.apply(&object, Manager::Helm, false).await?;
            return match applied.created {
                true => Ok(()),
                false => Err(foreign(cluster, &object, "made by somebody else meanwhile").into()),
            };
        };
        if let Some(whose) = foreign_to(at, &live, owner) {
            return Err(foreign(cluster, &object, &whose).into());
        }
        if object["kind"]
            .as_str()
            .is_some_and(|k| k.ends_with("WebhookConfiguration"))
        {
            chart::apply::strip_for_reapply(&mut object);
        }
        object["metadata"]["uid"] = live["metadata"]["uid"].clone();
        cluster.apply(&object, Manager::Helm, true).await?;
        Ok(())
    }

    /// Deletes what the plan of a step says and is still the release's by Helm's own rule, kind by kind.
    pub(super) async fn delete_planned(
        &self,
        cluster: &Cluster,
        release: (&str, &str),
        step: &Step,
    ) -> Result<usize, Error> {
        let planned = self.planned(step);
        let mut count = 0;
        for kind in planned.chunk_by(|a, b| a.object.kind == b.object.kind) {
            let refs: Vec<_> = kind.iter().map(|d| d.object.clone()).collect();
            let live = self.live(cluster, &refs).await?;
            let still = kind.iter().filter(|d| {
                let live = live.get(&d.object);
                live.is_some_and(|o| {
                    o["metadata"]["uid"] == *d.uid
                        && chart::apply::is_owned(o, release.0, release.1)
                })
            });
            count += self.delete_all(cluster, still.cloned().collect()).await?;
        }
        Ok(count)
    }

    /// Takes a release away that a join has made: what the plan says of it, then its records.
    pub(super) async fn uninstall(
        &self,
        name: &ClusterName,
        (release, namespace): (&str, &str),
        step: &Step,
    ) -> Result<usize, Error> {
        let cluster = self.cluster(name)?;
        let count = self
            .delete_planned(cluster, (release, namespace), step)
            .await?;
        let label = format!("{SELECTOR},name={release}");
        let records = cluster
            .names(&Kind::SECRET, Some(namespace), Some(&label))
            .await?;
        let mesh = self.owner(cluster)?.mesh.as_str();
        let newest = records.iter().max_by_key(|r| {
            let version = r["metadata"]["labels"]["version"].as_str();
            version.and_then(|v| v.parse::<u32>().ok())
        });
        if newest.is_some_and(|r| r["metadata"]["labels"][MADE_LABEL] == mesh) {
            let records = records.iter().filter_map(deletion);
            self.delete_all(cluster, records.collect()).await?;
        }
        Ok(count)
    }
}

/// The deletion of an object as it is.
pub(super) fn deletion(live: &Value) -> Option<Deletion> {
    Some(Deletion {
        object: Ref::of(live)?,
        uid: live["metadata"]["uid"].as_str()?.to_owned(),
    })
}

/// The records of one release.
struct Ledger<'a> {
    context: StepContext<'a>,
    cluster: &'a Cluster,
    name: &'a str,
    namespace: &'a str,
}

impl Ledger<'_> {
    fn failed(&self, source: chart::Error) -> Error {
        let (cluster, release) = (self.cluster.name().clone(), self.name.to_owned());
        Error::Release {
            cluster,
            release,
            namespace: self.namespace.to_owned(),
            source: Box::new(source),
        }
    }

    /// Every revision there is, oldest first.
    async fn records(&self) -> Result<BTreeMap<u32, Record>, Error> {
        let label = format!("{SELECTOR},name={}", self.name);
        let secrets = self
            .cluster
            .list(&Kind::SECRET, Some(self.namespace), Some(&label))
            .await?;
        let read = |secret: &Value| {
            let record = Record::from_secret(secret).map_err(|e| self.failed(e))?;
            Ok((record.revision, record))
        };
        secrets.iter().map(read).collect()
    }

    /// Ends a revision that stayed pending. Ours are ours to end, since the Lease is; another
    /// tool's are not.
    async fn close(&self, record: &Record) -> Result<(), Error> {
        let revision = record.labels.get(REVISION_LABEL).and_then(Value::as_str);
        if revision != Some(record.revision.to_string().as_str()) {
            return Err(self.busy(record));
        }
        let mut record = record.clone();
        record.failed("the run that made it died");
        self.put(&record, self.context.run.now().as_second()).await
    }

    fn busy(&self, record: &Record) -> Error {
        let cluster = self.cluster.name().clone();
        let (name, namespace) = (self.name, self.namespace);
        Refusal {
            reason: format!(
                "release {name} is {}: Helm or another tool is changing it, or stopped halfway",
                record.status.as_str()
            ),
            hints: vec![
                Hint::helm(&cluster, ["-n", namespace, "history", name]),
                Hint::helm(&cluster, ["-n", namespace, "rollback", name]),
            ],
            cluster: Some(cluster),
        }
        .into()
    }

    async fn put(&self, record: &Record, created: i64) -> Result<(), Error> {
        let now = self.context.run.now().as_second();
        let secret = record
            .to_secret(Some(created), Some(now))
            .map_err(|e| self.failed(e))?;
        let place = Ref::namespaced(&Kind::SECRET, self.namespace, record.secret_name());
        let patch = serde_json::json!({"metadata": {"labels": secret["metadata"]["labels"]}, "data": secret["data"]});
        self.cluster.merge(&place, &patch).await?;
        Ok(())
    }

    async fn forget_oldest(&self, records: &[Record]) -> Result<(), Error> {
        for record in outdated(records, HISTORY) {
            let place = Ref::namespaced(&Kind::SECRET, self.namespace, record.secret_name());
            self.cluster.delete(&place, &Delete::background()).await?;
        }
        Ok(())
    }
}
