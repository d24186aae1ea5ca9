//! A lock file: which charts were used, written at first use and checked ever after.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;

/// The charts that were used, each with the digest of its archive.
///
/// Given to [`fetch`](crate::fetch()) as [`FetchOptions::lock`](crate::FetchOptions), it makes a chart of the same
/// version with other bytes an error. Adding what was fetched is the caller's to do.
///
/// ```
/// use helm_engine::lock::{Entry, Lock};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("charts.lock");
/// let mut lock = Lock::read(&path)?; // there is none yet: it is empty
/// lock.put(Entry {
///     chart: "shop".into(),
///     version: "1.2.3".into(),
///     sha256: "0".repeat(64),
///     source: "https://charts.example".into(),
///     images: vec![],
/// });
/// lock.write(&path)?;
/// let lock = Lock::read(&path)?;
/// assert!(lock.find("shop", "1.2.3").is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// Where it was read from, for errors.
    pub path: PathBuf,
    /// Sorted by chart and version.
    pub charts: Vec<Entry>,
}

/// A chart that was used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The chart's name.
    pub chart: String,
    /// Its version.
    pub version: String,
    /// The digest of its archive, in hexadecimal.
    pub sha256: String,
    /// Where it came from.
    pub source: String,
    /// The images it runs, for mirrors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    charts: Vec<Entry>,
}

impl Lock {
    /// Reads a lock file; one that is not there is empty.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, [`Error::Lock`] if it cannot be understood.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    path: path.to_owned(),
                    charts: Vec::new(),
                });
            }
            Err(source) => {
                return Err(Error::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let refused = |reason: String| Error::Lock {
            path: path.to_owned(),
            reason,
        };
        let document: Document =
            serde_saphyr::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if document.version != 1 {
            return Err(refused(format!(
                "version {} is not known",
                document.version
            )));
        }
        let bad = document.charts.iter().find(|entry| {
            entry.sha256.len() != 64 || !entry.sha256.bytes().all(|c| c.is_ascii_hexdigit())
        });
        match bad {
            Some(entry) => Err(refused(format!(
                "the digest of {} {} is not a sha256",
                entry.chart, entry.version
            ))),
            None => Ok(Self {
                path: path.to_owned(),
                charts: document.charts,
            }),
        }
    }

    /// The entry of a chart, if there is one.
    pub fn find(&self, chart: &str, version: &str) -> Option<&Entry> {
        self.charts
            .iter()
            .find(|entry| entry.chart == chart && entry.version == version)
    }

    /// The newest version of a chart that there is an entry of.
    pub fn newest(&self, chart: &str) -> Option<&str> {
        let entries = self.charts.iter().filter(|entry| entry.chart == chart);
        let versions = entries.filter_map(|entry| {
            let version = entry.version.parse::<semver::Version>().ok()?;
            Some((version, entry.version.as_str()))
        });
        versions.max().map(|(_, text)| text)
    }

    /// Checks that a chart is the one that was locked; one that was never locked passes.
    pub(crate) fn check(
        &self,
        chart: &str,
        version: &str,
        origin: &str,
        sha256: &str,
    ) -> Result<(), Error> {
        match self.find(chart, version) {
            Some(entry) if !entry.sha256.eq_ignore_ascii_case(sha256) => Err(Error::Locked {
                name: chart.to_owned(),
                version: version.to_owned(),
                origin: origin.to_owned(),
                path: self.path.clone(),
                locked: entry.sha256.clone(),
                actual: sha256.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Adds an entry, or replaces the one of the same chart and version; whether anything changed.
    pub fn put(&mut self, entry: Entry) -> bool {
        if self.charts.contains(&entry) {
            return false;
        }
        self.charts
            .retain(|other| (&other.chart, &other.version) != (&entry.chart, &entry.version));
        self.charts.push(entry);
        self.charts
            .sort_by(|a, b| (&a.chart, &a.version).cmp(&(&b.chart, &b.version)));
        true
    }

    /// The file's text.
    fn text(&self) -> Result<String, Error> {
        let document = Document {
            version: 1,
            charts: self.charts.clone(),
        };
        let yaml = serde_saphyr::to_string(&document).map_err(|error| Error::Lock {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok(format!(
            "# Charts by digest: one that differs from what is written here is refused. Keep this file under version control.\n{yaml}"
        ))
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        super::write_whole(path, self.text()?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: &str, digit: &str) -> Entry {
        Entry {
            chart: "istiod".into(),
            version: version.into(),
            sha256: digit.repeat(64),
            source: "https://charts.example".into(),
            images: vec!["a:1".into()],
        }
    }

    #[test]
    fn a_lock_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("charts.lock");
        let mut lock = Lock::read(&path).unwrap();
        assert!(
            lock.put(entry("1.31.0", "a"))
                && lock.put(entry("1.30.0", "b"))
                && !lock.put(entry("1.30.0", "b"))
        );
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(lock.charts[0].version, "1.30.0");
    }

    #[test]
    fn another_digest_is_refused_and_an_unknown_chart_is_not() {
        let mut lock = Lock::default();
        lock.put(entry("1.31.0", "a"));
        lock.check("istiod", "1.31.0", "here", &"A".repeat(64))
            .unwrap();
        lock.check("istiod", "1.32.0", "here", &"b".repeat(64))
            .unwrap();
        let error = lock
            .check("istiod", "1.31.0", "here", &"b".repeat(64))
            .unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
    }

    #[test]
    fn a_broken_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("charts.lock");
        for text in [
            "version: 2\ncharts: []\n",
            "charts: 1\n",
            "version: 1\ncharts: [{chart: a, version: '1', sha256: xyz, source: s}]\n",
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(Lock::read(&path), Err(Error::Lock { .. })),
                "{text}"
            );
        }
    }
}
