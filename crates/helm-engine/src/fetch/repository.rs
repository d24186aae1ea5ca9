//! Chart repositories: an `index.yaml` and archives beside it.

use serde_json::Value;

use super::{
    cache::Cache,
    http::{Http, join},
    same_version,
};
use crate::{Error, archive, template::semver, yaml};

/// The largest index, and the largest archive.
const INDEX: usize = 64 << 20;
pub(super) const ARCHIVE: usize = 32 << 20;

/// A chart's archive and the version it turned out to be.
pub(super) async fn pull(
    http: &Http,
    base: &str,
    name: &str,
    version: &str,
    cache: Option<&Cache>,
) -> Result<(String, Vec<u8>), Error> {
    let url = format!("{base}/index.yaml");
    let body = http.get(&url, INDEX).await?;
    let text = String::from_utf8(body).map_err(|error| Error::Index {
        url: url.clone(),
        reason: error.to_string(),
    })?;
    let index = yaml::document(&text).map_err(|reason| Error::Index {
        url: url.clone(),
        reason,
    })?;
    let entry = find(&index, name, version, base)?;
    let field = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let digest = field("digest")
        .trim_start_matches("sha256:")
        .to_ascii_lowercase();
    let found = field("version");
    if let Some(archive) = cache.and_then(|cache| cache.archive(&digest)) {
        return Ok((found, archive));
    }
    let location = entry
        .get("urls")
        .and_then(Value::as_array)
        .and_then(|urls| urls.first()?.as_str());
    let location = location.ok_or_else(|| Error::Index {
        url: url.clone(),
        reason: format!("{name} {found} has no URL"),
    })?;
    let archive = http.get(&join(&url, location), ARCHIVE).await?;
    check(&archive, &digest, name, &found, base)?;
    Ok((found, archive))
}

/// Compares an archive with the digest that was promised, if one was.
pub(super) fn check(
    bytes: &[u8],
    promised: &str,
    name: &str,
    version: &str,
    origin: &str,
) -> Result<(), Error> {
    let actual = archive::hex(archive::sha256(bytes));
    if promised.is_empty() || promised == actual {
        return Ok(());
    }
    Err(Error::Digest {
        name: name.to_owned(),
        version: version.to_owned(),
        origin: origin.to_owned(),
        expected: promised.to_owned(),
        actual,
    })
}

fn find<'i>(index: &'i Value, name: &str, version: &str, origin: &str) -> Result<&'i Value, Error> {
    let entries: Vec<&Value> = index
        .get("entries")
        .and_then(|entries| entries.get(name))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    let versions: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.get("version")?.as_str().map(str::to_owned))
        .collect();
    let wanted = choose(&versions, version);
    let found = wanted.and_then(|wanted| {
        entries
            .into_iter()
            .find(|entry| entry.get("version").and_then(Value::as_str) == Some(wanted))
    });
    found.ok_or_else(|| Error::NotFound {
        name: name.to_owned(),
        version: version.to_owned(),
        origin: origin.to_owned(),
        available: newest(versions),
    })
}

/// The version asked for, or the newest release if none was.
pub(super) fn choose<'v>(versions: &'v [String], wanted: &str) -> Option<&'v str> {
    if wanted.is_empty() {
        let releases = versions
            .iter()
            .filter(|version| semver::parse(version).is_ok_and(|version| version.pre.is_empty()));
        let newest = sorted(releases.cloned().collect()).pop()?;
        return versions
            .iter()
            .find(|version| **version == newest)
            .map(String::as_str);
    }
    versions
        .iter()
        .find(|version| same_version(version, wanted))
        .map(String::as_str)
}

/// A few of the newest versions, for telling what there is.
pub(super) fn newest(versions: Vec<String>) -> Vec<String> {
    sorted(versions).into_iter().rev().take(5).collect()
}

/// Versions, oldest first; what is no version is left out.
pub(super) fn sorted(versions: Vec<String>) -> Vec<String> {
    let mut parsed: Vec<_> = versions
        .into_iter()
        .filter_map(|text| Some((semver::parse(&text).ok()?, text)))
        .collect();
    parsed.sort_by(|a, b| a.0.order(&b.0));
    parsed.into_iter().map(|(_, text)| text).collect()
}
