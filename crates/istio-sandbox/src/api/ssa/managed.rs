//! `metadata.managedFields`: one entry per manager, operation, version and subresource.

use serde_json::{Value, json};

use super::{Writer, fields::Fields};
use crate::api::{kind::Kind, status::Failure};

/// What tells entries apart, and when the entry last changed.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    manager: String,
    operation: String,
    version: String,
    subresource: String,
    time: String,
}

impl Entry {
    fn new(operation: &str, kind: &Kind, writer: &Writer<'_>) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation: operation.to_owned(),
            version: kind.api_version(),
            subresource: writer.subresource.to_owned(),
            time: writer.time.clone(),
        }
    }

    pub(super) fn apply(kind: &Kind, writer: &Writer<'_>) -> Self {
        Self::new("Apply", kind, writer)
    }

    pub(super) fn update(kind: &Kind, writer: &Writer<'_>) -> Self {
        Self::new("Update", kind, writer)
    }

    /// An applier that applied the same again keeps its time.
    pub(super) fn since(mut self, time: String) -> Self {
        self.time = time;
        self
    }

    fn order(&self) -> (&str, &str, &str, &str, &str) {
        (
            &self.operation,
            &self.time,
            &self.manager,
            &self.version,
            &self.subresource,
        )
    }

    fn same(&self, other: &Self) -> bool {
        let version = self.operation == "Apply" || self.version == other.version;
        version
            && (&self.manager, &self.operation, &self.subresource)
                == (&other.manager, &other.operation, &other.subresource)
    }

    fn shown(&self, kind: &Kind) -> String {
        let mut who = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            who += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == "Update" || self.version != kind.api_version() {
            who += &format!(" using {}", self.version);
        }
        who
    }

    fn read(value: &Value) -> (Self, Fields) {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let entry = Self {
            manager: text("manager"),
            operation: text("operation"),
            version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
        };
        (entry, Fields::from_json(&value["fieldsV1"]))
    }

    fn write(&self, fields: &Fields) -> Value {
        let mut value = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": fields.to_json(),
        });
        if !self.subresource.is_empty() {
            value["subresource"] = self.subresource.as_str().into();
        }
        value
    }
}

/// All entries of an object.
#[derive(Debug, Default)]
pub(super) struct Managers {
    entries: Vec<(Entry, Fields)>,
}

impl Managers {
    pub(super) fn read(object: &Value) -> Self {
        let list = object["metadata"]["managedFields"].as_array();
        Self {
            entries: list.into_iter().flatten().map(Entry::read).collect(),
        }
    }

    /// Takes an entry out, with the time it last changed.
    pub(super) fn take(&mut self, entry: &Entry) -> Option<(Fields, String)> {
        let at = self.entries.iter().position(|(e, _)| e.same(entry))?;
        let (old, fields) = self.entries.remove(at);
        Some((fields, old.time))
    }

    pub(super) fn put(&mut self, entry: Entry, fields: Fields) {
        if !fields.is_empty() {
            self.entries.push((entry, fields));
        }
    }

    pub(super) fn union(&self) -> Fields {
        let mut all = Fields::default();
        self.entries.iter().for_each(|(_, fields)| all.add(fields));
        all
    }

    pub(super) fn overlap(&self, changed: &Fields) -> Vec<(&Entry, Vec<String>)> {
        let found = self
            .entries
            .iter()
            .map(|(entry, fields)| (entry, fields.and(changed).paths()));
        found.filter(|(_, paths)| !paths.is_empty()).collect()
    }

    pub(super) fn disown(&mut self, changed: &Fields) {
        self.entries
            .iter_mut()
            .for_each(|(_, fields)| *fields = fields.minus(changed));
        self.entries.retain(|(_, fields)| !fields.is_empty());
    }

    /// Forgets fields the object no longer has.
    pub(super) fn retain_present(&mut self, present: &Fields) {
        self.entries
            .iter_mut()
            .for_each(|(_, fields)| *fields = fields.and(present));
        self.entries.retain(|(_, fields)| !fields.is_empty());
    }

    pub(super) fn write(mut self, object: &mut Value) {
        self.entries
            .sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
        let list: Vec<_> = self
            .entries
            .iter()
            .map(|(entry, fields)| entry.write(fields))
            .collect();
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.shift_remove("managedFields");
            if !list.is_empty() {
                meta.insert("managedFields".into(), list.into());
            }
        }
    }
}

/// The 409 that lists each field and its owner.
pub(super) fn conflict(kind: &Kind, found: &[(&Entry, Vec<String>)]) -> Failure {
    let mut causes = Vec::new();
    let mut text = String::new();
    for (entry, paths) in found {
        let who = entry.shown(kind);
        text += &format!("conflicts with {who}:");
        for path in paths {
            causes.push(json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path}));
            text += &format!("\n- {path}");
        }
        text.push('\n');
    }
    let message = match (causes.as_slice(), found) {
        ([_], [(entry, paths), ..]) => {
            format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                entry.shown(kind),
                paths.join("")
            )
        }
        _ => format!(
            "Apply failed with {} conflicts: {}",
            causes.len(),
            text.trim_end()
        ),
    };
    Failure::new(409, "Conflict", message).causes(causes)
}
