//! Helm releases: what a chart renders to, applied and written down as Helm would.
//!
//! A pending record is the lock: creating it can succeed only once. A record that stayed pending is
//! what a run leaves that died; it is closed as failed, and the next revision does the work again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Evidence, StepContext, seen};
use crate::{
    chart::{
        self, Manifest,
        release::{HISTORY, Record, SELECTOR, Status, outdated},
    },
    cluster::{Cluster, Created, Delete, Kind, Manager, Ref, wait},
    engine::Error,
    hint::Hint,
    name::ClusterName,
    observe::{DIGEST_LABEL, REVISION_LABEL, VERSION_LABEL},
    plan::{
        Refusal,
        desire::{Release, is_crd, reference},
    },
    wait::Progress,
};

impl StepContext<'_> {
    /// Brings a release to what it should be.
    pub(super) async fn install(&self, name: &ClusterName, release: &Release) -> Evidence {
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
        if let Some(before) = newest {
            ledger.prune(before, &release.rendered.manifests).await?;
        }
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

    async fn apply_together(
        &self,
        cluster: &Cluster,
        release: &Release,
        objects: &[&Value],
    ) -> Result<(), Error> {
        let applied = objects.iter().map(|object| {
            let object = (*object).clone();
            self.apply_one(cluster, release, object)
        });
        futures::future::try_join_all(applied.collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// As field manager `helm`, so that a later `helm upgrade` finds its own fields. What istiod
    /// writes into webhooks is never touched once they are there.
    async fn apply_one(
        &self,
        cluster: &Cluster,
        release: &Release,
        mut object: Value,
    ) -> Result<(), Error> {
        chart::apply::prepare(&mut object);
        chart::apply::own(&mut object, &release.name, &release.namespace);
        let webhook = object["kind"]
            .as_str()
            .is_some_and(|k| k.ends_with("WebhookConfiguration"));
        let there = match reference(&object, &release.namespace) {
            Some(reference) if webhook => cluster.find(&reference).await?.is_some(),
            _ => false,
        };
        if there {
            chart::apply::strip_for_reapply(&mut object);
        }
        if object["metadata"]["namespace"].is_null()
            && let Some(Ref {
                namespace: Some(namespace),
                ..
            }) = reference(&object, &release.namespace)
        {
            object["metadata"]["namespace"] = namespace.into();
        }
        cluster.apply(&object, Manager::Helm, true).await?;
        Ok(())
    }

    /// Takes a release away: what its newest record lists, last kinds first, then its records.
    pub(super) async fn uninstall(
        &self,
        name: &ClusterName,
        release: &str,
        namespace: &str,
    ) -> Result<usize, Error> {
        let cluster = self.cluster(name)?;
        let ledger = Ledger {
            context: *self,
            cluster,
            name: release,
            namespace,
        };
        let records = ledger.records().await?;
        let mut objects: Vec<Ref> = vec![];
        // A revision that died half-way may have made objects the one before did not have.
        for record in records.values().rev() {
            for manifest in record
                .manifests()
                .map_err(|e| ledger.failed(e))?
                .iter()
                .rev()
            {
                let kept = chart::apply::is_kept(&manifest.object);
                if let Some(reference) = reference(&manifest.object, namespace).filter(|_| !kept)
                    && !objects.contains(&reference)
                {
                    objects.push(reference);
                }
            }
        }
        for kind in objects.chunk_by(|a, b| a.kind == b.kind) {
            self.delete_all(cluster, kind.to_vec()).await?;
        }
        let secrets = records
            .values()
            .map(|r| Ref::namespaced(&Kind::SECRET, namespace, r.secret_name()));
        self.delete_all(cluster, secrets.collect()).await?;
        Ok(objects.len())
    }
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

    /// Deletes what the release no longer has and is not to be kept.
    async fn prune(&self, before: &Record, after: &[Manifest]) -> Result<(), Error> {
        let old = before.manifests().map_err(|e| self.failed(e))?;
        for manifest in chart::apply::removed(&old, after, self.namespace) {
            if let Some(reference) = reference(&manifest.object, self.namespace) {
                self.cluster
                    .delete(&reference, &Delete::background())
                    .await?;
            }
        }
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
