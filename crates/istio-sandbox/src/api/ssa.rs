//! Server-side apply and the tracking of who owns which field.
//!
//! The rules are those of Kubernetes' structured merge: a manager owns the fields it applied; applying a
//! different value to a field of another manager is a conflict unless forced; a field its last owner stops
//! applying goes away. Lists merge by key where the schema says so ([`schema`]), else they are one value.

mod fields;
mod managed;
mod merge;
pub(crate) mod schema;

use serde_json::Value;

use super::{kind::Kind, status::Failure};
use fields::Fields;
use managed::{Entry, Managers};
use schema::Cursor;

/// Who writes, and how.
#[derive(Debug, Clone)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) time: String,
}

/// Applies `config` onto `live` (null if there is none) and returns the new object with its managed fields.
pub(crate) fn apply(
    kind: &Kind,
    live: &Value,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Failure> {
    let root = Cursor::root(kind);
    let wanted = merge::field_set(config, root).map_err(|e| untyped(kind, config, &e))?;
    let mut managers = Managers::read(live);
    let mut entry = Entry::apply(kind, writer);
    let (last, time) = managers.take(&entry).unwrap_or_default();

    let mut merged = merge::merge(live, config, root);
    let changed = merge::changed(live, &merged, root).without_identity();
    conflicts(kind, &mut managers, &changed, force)?;

    let gone = last.minus_kept_by(&wanted, &managers.union());
    merge::remove(&mut merged, &gone, root);
    managers.retain_present(&merge::present(&merged, root));
    let wanted = wanted.without_identity();
    if wanted == last && changed.is_empty() {
        entry = entry.since(time);
    }
    managers.put(entry, wanted);
    managers.write(&mut merged);
    Ok(merged)
}

/// Records a write that is not an apply: the writer now owns what it changed.
pub(crate) fn track(kind: &Kind, live: &Value, new: &mut Value, writer: &Writer<'_>) {
    let root = Cursor::root(kind);
    let changed = merge::changed(live, new, root).without_identity();
    let mut managers = Managers::read(live);
    managers.retain_present(&merge::present(new, root));
    if !changed.is_empty() {
        managers.disown(&changed);
        let entry = Entry::update(kind, writer);
        let (mut owned, _) = managers.take(&entry).unwrap_or_default();
        owned.add(&changed);
        managers.put(entry, owned);
    }
    managers.write(new);
}

fn conflicts(
    kind: &Kind,
    managers: &mut Managers,
    changed: &Fields,
    force: bool,
) -> Result<(), Failure> {
    let found = managers.overlap(changed);
    if found.is_empty() || force {
        managers.disown(changed);
        return Ok(());
    }
    Err(managed::conflict(kind, &found))
}

fn untyped(kind: &Kind, config: &Value, error: &str) -> Failure {
    let (namespace, name) = super::store::key(config);
    let message = format!(
        "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {error}",
        kind.api_version(),
        kind.kind
    );
    Failure::new(500, "", message)
}

#[cfg(test)]
mod tests;
