//! Release records, readable and writable by Helm too.
//!
//! A record is a Secret named `sh.helm.release.v1.NAME.vREVISION`. Creating one is the lock: only one can win, and while the
//! newest is pending nobody else goes on. This module only turns records into Secrets and back.

use std::io::{Read, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Map, Value, json};

use super::{
    Chart, Error, File, Hook, Manifest, Metadata, Rendered, json, manifest, template::memo::Memo,
};

/// The type of Secrets that hold records.
const SECRET_TYPE: &str = "helm.sh/release.v1";
/// Selects every record.
pub const SELECTOR: &str = "owner=helm";
/// How many records Helm keeps of one release.
pub const HISTORY: usize = 10;
/// The most a record may unpack to.
const LARGEST: u64 = 64 << 20;

/// Where a release stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is what runs.
    Deployed,
    /// A later revision took its place.
    Superseded,
    /// It could not be applied.
    Failed,
    /// It is being removed.
    Uninstalling,
    /// It was removed, its record kept.
    Uninstalled,
    /// Its first revision is being applied.
    PendingInstall,
    /// A later revision is being applied.
    PendingUpgrade,
    /// An earlier revision is being applied again.
    PendingRollback,
    /// Anything else.
    Unknown,
}

const STATUSES: [(Status, &str); 9] = [
    (Status::Deployed, "deployed"),
    (Status::Superseded, "superseded"),
    (Status::Failed, "failed"),
    (Status::Uninstalling, "uninstalling"),
    (Status::Uninstalled, "uninstalled"),
    (Status::PendingInstall, "pending-install"),
    (Status::PendingUpgrade, "pending-upgrade"),
    (Status::PendingRollback, "pending-rollback"),
    (Status::Unknown, "unknown"),
];

impl Status {
    /// Its name in records and labels.
    pub fn as_str(self) -> &'static str {
        STATUSES
            .iter()
            .find(|(status, _)| *status == self)
            .map_or("unknown", |(_, name)| name)
    }

    fn read(text: &str) -> Self {
        STATUSES
            .iter()
            .find(|(_, name)| *name == text)
            .map_or(Self::Unknown, |(status, _)| *status)
    }

    /// Whether someone is at work on the release, or was when they died.
    pub fn is_pending(self) -> bool {
        matches!(
            self,
            Self::PendingInstall | Self::PendingUpgrade | Self::PendingRollback
        )
    }
}

/// One revision of a release.
///
/// ```
/// use helm_engine::{Capabilities, Chart, File, Release, release::{Record, Status}, render};
/// let chart = Chart::from_files(
///     vec![
///         File::new("Chart.yaml", "name: shop\nversion: 1.0.0\n"),
///         File::new("templates/a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"),
///     ],
///     "an example",
/// )?;
/// let release = Release::install("shop", "default");
/// let values = serde_json::Map::new();
/// let rendered = render(&chart, &values.clone().into(), &release, &Capabilities::default())?;
///
/// // Create this Secret first: it is the lock. Then apply the objects, and update it.
/// let mut record = Record::new(&release, &chart, &values, &rendered, "2026-01-02T03:04:05Z", None);
/// let secret = record.to_secret(Some(1_767_323_045), None)?;
/// assert_eq!(secret["metadata"]["name"], "sh.helm.release.v1.shop.v1");
/// record.deployed();
///
/// let read = Record::from_secret(&record.to_secret(None, Some(1_767_323_050))?)?;
/// assert_eq!((read.status, read.manifests()?.len()), (Status::Deployed, 1));
/// # Ok::<(), helm_engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The release's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The revision, from 1.
    pub revision: u32,
    /// Where it stands.
    pub status: Status,
    /// One line on how it got there.
    pub description: String,
    /// When revision 1 was made, as RFC 3339.
    pub first_deployed: String,
    /// When this revision was made, as RFC 3339.
    pub last_deployed: String,
    /// The user's values.
    pub config: Map<String, Value>,
    /// All objects as one text.
    pub manifest: String,
    /// `NOTES.txt`.
    pub notes: String,
    /// The chart's metadata.
    pub chart: Metadata,
    /// User labels of the Secret.
    pub labels: Map<String, Value>,
    /// The whole record, so that what we do not know is kept.
    document: Map<String, Value>,
}

impl Record {
    /// A new revision, pending, of what was rendered. `now` is RFC 3339; `before` is the newest earlier revision.
    pub fn new(
        release: &super::Release<'_>,
        chart: &Chart,
        config: &Map<String, Value>,
        rendered: &Rendered,
        now: &str,
        before: Option<&Self>,
    ) -> Self {
        let hooks: Vec<Value> = rendered.hooks.iter().map(hook).collect();
        let mut document = Map::new();
        document.insert("chart".to_owned(), chart_document(chart));
        document.insert("hooks".to_owned(), Value::Array(hooks));
        document.insert("apply_method".to_owned(), "ssa".into());
        let (status, description) = match before {
            None => (Status::PendingInstall, "Initial install underway"),
            Some(_) => (Status::PendingUpgrade, "Preparing upgrade"),
        };
        Self {
            name: release.name.to_owned(),
            namespace: release.namespace.to_owned(),
            revision: release.revision,
            status,
            description: description.to_owned(),
            first_deployed: before
                .map_or(now, |before| &before.first_deployed)
                .to_owned(),
            last_deployed: now.to_owned(),
            config: config.clone(),
            manifest: rendered.text().into_owned(),
            notes: rendered.notes.clone(),
            chart: chart.metadata.clone(),
            labels: before
                .map(|before| before.labels.clone())
                .unwrap_or_default(),
            document,
        }
    }

    /// The Secret's name.
    pub fn secret_name(&self) -> String {
        format!("sh.helm.release.v1.{}.v{}", self.name, self.revision)
    }

    /// Marks the revision as what runs.
    pub fn deployed(&mut self) {
        self.status = Status::Deployed;
        self.description = if self.revision == 1 {
            "Install complete"
        } else {
            "Upgrade complete"
        }
        .to_owned();
    }

    /// Marks the revision as replaced by a later one.
    pub fn superseded(&mut self) {
        self.status = Status::Superseded;
    }

    /// Marks the revision as failed.
    pub fn failed(&mut self, reason: &str) {
        self.status = Status::Failed;
        self.description = format!(
            "{} {:?} failed: {reason}",
            if self.revision == 1 {
                "Release"
            } else {
                "Upgrade"
            },
            self.name
        );
    }

    /// The objects of the record, for finding out what a later revision no longer has.
    ///
    /// # Errors
    /// [`Error::Document`] if its text is not what a chart renders to.
    pub fn manifests(&self) -> Result<Vec<Manifest>, Error> {
        manifest::collect(
            &[(self.secret_name(), self.manifest.clone())],
            &mut Memo::default(),
        )
        .map(|collected| collected.manifests)
    }

    /// The Secret to create or update. `created` and `modified` are seconds since 1970, for Helm's labels.
    ///
    /// A cluster takes no Secret of more than 1 MiB; that is not checked here.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn to_secret(&self, created: Option<i64>, modified: Option<i64>) -> Result<Value, Error> {
        let mut labels = self.labels.clone();
        let own = [
            ("name", self.name.clone()),
            ("owner", "helm".to_owned()),
            ("status", self.status.as_str().to_owned()),
            ("version", self.revision.to_string()),
        ];
        let times = [("createdAt", created), ("modifiedAt", modified)]
            .into_iter()
            .filter_map(|(key, time)| Some((key, time?.to_string())));
        labels.extend(
            own.into_iter()
                .chain(times)
                .map(|(key, value)| (key.to_owned(), Value::String(value))),
        );
        let data = STANDARD.encode(self.encode().map_err(|error| self.refused(&error))?);
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self.secret_name(), "namespace": self.namespace, "labels": labels},
            "type": SECRET_TYPE,
            "data": {"release": data},
        }))
    }

    /// The record as text: base64 of gzipped JSON.
    fn encode(&self) -> std::io::Result<String> {
        let mut document = self.document.clone();
        let mut info = document
            .get("info")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        for (key, value) in [
            ("first_deployed", &self.first_deployed),
            ("last_deployed", &self.last_deployed),
            ("description", &self.description),
            ("notes", &self.notes),
        ] {
            info.insert(key.to_owned(), value.as_str().into());
        }
        info.insert("status".to_owned(), self.status.as_str().into());
        info.retain(|_, value| value.as_str() != Some(""));
        let fields = [
            ("name", self.name.as_str().into()),
            ("namespace", self.namespace.as_str().into()),
            ("version", self.revision.into()),
            ("info", Value::Object(info)),
            ("config", Value::Object(self.config.clone())),
            ("manifest", self.manifest.as_str().into()),
        ];
        document.extend(fields.map(|(key, value)| (key.to_owned(), value)));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder
            .write_all(json::write(&Value::Object(document), json::Style::default()).as_bytes())?;
        Ok(STANDARD.encode(encoder.finish()?))
    }

    /// Reads a record from its Secret. What is in it beyond the fields here is kept, and written again.
    ///
    /// # Errors
    /// [`Error::Record`] if it is none.
    pub fn from_secret(secret: &Value) -> Result<Self, Error> {
        let text = |path: &str| {
            secret
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let name = text("/metadata/name").to_owned();
        let refused = |reason: &str| Error::Record {
            name: name.clone(),
            reason: reason.to_owned(),
        };
        let packed = STANDARD
            .decode(text("/data/release"))
            .map_err(|_| refused("data.release is not valid base64"))?;
        let document = decode(&packed).map_err(|reason| refused(&reason))?;
        let labels = secret
            .pointer("/metadata/labels")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        Self::read(document, labels, text("/metadata/namespace"))
            .ok_or_else(|| refused("it lacks name, version or info"))
    }

    fn read(
        document: Map<String, Value>,
        mut labels: Map<String, Value>,
        namespace: &str,
    ) -> Option<Self> {
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let info = document.get("info")?.as_object()?;
        let field = |name: &str| text(info.get(name));
        for key in [
            "name",
            "owner",
            "status",
            "version",
            "createdAt",
            "modifiedAt",
        ] {
            labels.remove(key);
        }
        let object = |value: Option<&Value>| {
            value
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default()
        };
        let own_namespace = text(document.get("namespace"));
        Some(Self {
            name: document.get("name")?.as_str()?.to_owned(),
            namespace: if own_namespace.is_empty() {
                namespace.to_owned()
            } else {
                own_namespace
            },
            revision: u32::try_from(document.get("version")?.as_u64()?).ok()?,
            status: Status::read(&field("status")),
            description: field("description"),
            first_deployed: field("first_deployed"),
            last_deployed: field("last_deployed"),
            notes: field("notes"),
            config: object(document.get("config")),
            manifest: text(document.get("manifest")),
            chart: Metadata::from_document(object(
                document
                    .get("chart")
                    .and_then(|chart| chart.get("metadata")),
            )),
            labels,
            document,
        })
    }

    fn refused(&self, reason: &std::io::Error) -> Error {
        Error::Record {
            name: self.secret_name(),
            reason: reason.to_string(),
        }
    }
}

/// Records beyond the number Helm keeps, oldest first; what is deployed is never among them.
pub fn outdated(records: &[Record], keep: usize) -> Vec<&Record> {
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| record.revision);
    let excess = sorted.len().saturating_sub(keep);
    sorted
        .into_iter()
        .filter(|record| record.status != Status::Deployed)
        .take(excess)
        .collect()
}

fn decode(packed: &[u8]) -> Result<Map<String, Value>, String> {
    let mut bytes = STANDARD
        .decode(packed)
        .map_err(|_| "it is not valid base64")?;
    if bytes.starts_with(&[0x1f, 0x8b, 0x08]) {
        let mut plain = Vec::new();
        GzDecoder::new(bytes.as_slice())
            .take(LARGEST)
            .read_to_end(&mut plain)
            .map_err(|error| error.to_string())?;
        bytes = plain;
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn hook(hook: &Hook) -> Value {
    let object = &hook.manifest.object;
    json!({
        "name": object.pointer("/metadata/name").cloned().unwrap_or_default(),
        "kind": manifest::kind(object),
        "path": hook.manifest.source,
        "manifest": hook.manifest.text,
        "events": hook.events,
        "weight": hook.weight,
        "delete_policies": hook.delete_policies,
        "last_run": {"phase": ""},
    })
}

fn chart_document(chart: &Chart) -> Value {
    let files = |files: &[File]| -> Value {
        files.iter().map(|file| json!({"name": file.name, "modtime": "0001-01-01T00:00:00Z", "data": STANDARD.encode(&file.data)})).collect()
    };
    json!({
        "metadata": chart.metadata.document,
        "lock": chart.lock,
        "templates": files(&chart.templates),
        "values": chart.values,
        "schema": chart.schema.as_ref().map(|schema| STANDARD.encode(schema)),
        "schemamodtime": "0001-01-01T00:00:00Z",
        "files": files(&chart.files),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Release;

    fn record() -> Record {
        let chart = Chart::from_files(
            vec![
                File {
                    name: "Chart.yaml".into(),
                    data: b"name: app\nversion: 1.0.0\nappVersion: '2'\napiVersion: v2\n".to_vec(),
                },
                File {
                    name: "templates/x.yaml".into(),
                    data: b"x".to_vec(),
                },
            ],
            "test",
        )
        .unwrap();
        let release = Release {
            name: "app",
            namespace: "ns",
            revision: 1,
            is_upgrade: false,
        };
        let manifest = Manifest {
            source: "app/templates/x.yaml".into(),
            text: "kind: Service\n".into(),
            object: json!({"kind": "Service"}),
        };
        let config = json!({"replicas": 2.0, "name": "<x>"})
            .as_object()
            .cloned()
            .unwrap();
        Record::new(
            &release,
            &chart,
            &config,
            &Rendered {
                manifests: vec![manifest],
                notes: "hi".into(),
                ..Rendered::default()
            },
            "2026-01-02T03:04:05Z",
            None,
        )
    }

    #[test]
    fn a_record_survives_its_secret() {
        let mut record = record();
        record.labels.insert("team".into(), "mesh".into());
        record.deployed();
        let secret = record.to_secret(Some(7), None).unwrap();
        assert_eq!(secret["metadata"]["name"], "sh.helm.release.v1.app.v1");
        assert_eq!(
            secret["metadata"]["labels"],
            json!({"team": "mesh", "name": "app", "owner": "helm", "status": "deployed", "version": "1", "createdAt": "7"})
        );
        let back = Record::from_secret(&secret).unwrap();
        assert_eq!(
            (back.status, back.description.as_str(), back.notes.as_str()),
            (Status::Deployed, "Install complete", "hi")
        );
        assert_eq!(
            (back.chart.name.as_str(), back.chart.app_version.as_str()),
            ("app", "2")
        );
        assert_eq!(
            back.manifest,
            "---\n# Source: app/templates/x.yaml\nkind: Service\n\n"
        );
        assert_eq!(back.manifests().unwrap()[0].object["kind"], "Service");
        assert_eq!(back.config["name"], "<x>");
        assert_eq!(back.labels, record.labels);
    }

    #[test]
    fn numbers_are_written_as_helm_writes_them() {
        let text = decode(record().encode().unwrap().as_bytes()).unwrap();
        assert_eq!(text["config"]["replicas"], json!(2));
    }

    #[test]
    fn what_helm_wrote_is_kept() {
        let document = json!({"name": "a", "version": 3, "info": {"status": "pending-upgrade", "deleted": "", "extra": 1}, "chart": {"metadata": {"name": "c", "version": "1"}}, "future": true});
        let plain = STANDARD.encode(document.to_string());
        let mut record = Record::from_secret(&json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"release": STANDARD.encode(plain)}})).unwrap();
        assert!(record.status.is_pending() && record.namespace == "ns");
        record.failed("no answer");
        let again = decode(record.encode().unwrap().as_bytes()).unwrap();
        assert_eq!(
            (
                again["future"].clone(),
                again["info"]["extra"].clone(),
                again["info"]["status"].clone()
            ),
            (true.into(), 1.into(), "failed".into())
        );
    }

    #[test]
    fn broken_records_are_refused_by_name() {
        for data in ["", "!", "aGVsbG8="] {
            let error = Record::from_secret(
                &json!({"metadata": {"name": "s.v1"}, "data": {"release": data}}),
            )
            .unwrap_err()
            .to_string();
            assert!(error.contains("s.v1"), "{error}");
        }
    }

    #[test]
    fn old_records_go_and_the_deployed_one_stays() {
        let records: Vec<Record> = (1..=4)
            .map(|revision| Record {
                revision,
                status: if revision == 1 {
                    Status::Deployed
                } else {
                    Status::Superseded
                },
                ..record()
            })
            .collect();
        assert_eq!(
            outdated(&records, 2)
                .iter()
                .map(|record| record.revision)
                .collect::<Vec<_>>(),
            [2, 3]
        );
    }
}
