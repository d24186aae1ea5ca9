//! A chart in memory: its files sorted by what they are for.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Map, Value};

use super::{
    Error,
    archive::{self, Room},
    values, yaml,
};

mod dependencies;
mod metadata;

pub(crate) use dependencies::enabled;

/// A chart: metadata, templates, default values and the charts inside it.
///
/// ```
/// use helm_engine::{Chart, File};
/// let chart = Chart::from_files(
///     vec![
///         File::new("Chart.yaml", "name: shop\nversion: 1.2.3\n"),
///         File::new("values.yaml", "replicas: 2\n"),
///         File::new("templates/web.yaml", "kind: Service\n"),
///         File::new("charts/db/Chart.yaml", "name: db\nversion: 0.1.0\n"),
///     ],
///     "an example",
/// )?;
/// assert_eq!((chart.name(), chart.metadata.version.as_str()), ("shop", "1.2.3"));
/// assert_eq!(chart.values["replicas"], 2.0);
/// assert_eq!(chart.dependencies[0].name(), "db");
/// # Ok::<(), helm_engine::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// What `Chart.yaml` says.
    pub metadata: Metadata,
    /// Default values.
    pub values: Map<String, Value>,
    /// `values.yaml` as it was written, comments and all.
    pub values_text: String,
    /// Files below `templates/`.
    pub templates: Vec<File>,
    /// All other files: read by templates, or holding the resource definitions of `crds/`.
    pub files: Vec<File>,
    /// The JSON schema for values, if there is one.
    pub schema: Option<Vec<u8>>,
    /// `Chart.lock`, as Helm records it.
    pub lock: Option<Value>,
    /// Charts inside this one.
    pub dependencies: Vec<Chart>,
}

/// A file of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path inside the chart, with `/`.
    pub name: String,
    /// Its contents.
    pub data: Vec<u8>,
}

impl File {
    /// A file by its path inside the chart, with `/`.
    pub fn new(name: &str, data: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            data: data.into(),
        }
    }
}

/// What `Chart.yaml` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The chart's name.
    pub name: String,
    /// The chart's version.
    pub version: String,
    /// The version of what it installs.
    pub app_version: String,
    /// One sentence about it.
    pub description: String,
    /// `application`, `library` or empty.
    pub kind: String,
    /// Which Kubernetes versions it is for.
    pub kube_version: String,
    /// `v1` or `v2`.
    pub api_version: String,
    /// Whether its authors gave it up.
    pub deprecated: bool,
    /// The whole file.
    pub document: Map<String, Value>,
}

impl Chart {
    /// A chart from a gzipped tar archive.
    ///
    /// # Errors
    /// [`Error::Unpack`] if it is no such archive, holds links, tries to reach outside itself, or is larger than
    /// 16 MiB in a file, 100 MiB in all or 10,000 files; [`Error::Package`] if a file of the chart is broken.
    ///
    /// ```
    /// let error = helm_engine::Chart::from_archive(b"no archive").unwrap_err();
    /// assert!(matches!(error, helm_engine::Error::Unpack { .. }));
    /// ```
    pub fn from_archive(bytes: &[u8]) -> Result<Self, Error> {
        from_archive(bytes, "the archive")
    }

    /// A chart from a folder or an archive on disk. In a folder, `.helmignore` is respected.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read; [`Error::Unpack`] if it is no chart, or a link in it leads outside;
    /// [`Error::Package`] if a file of the chart is broken.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("Chart.yaml"), "name: shop\nversion: 1.2.3\n")?;
    /// assert_eq!(helm_engine::Chart::from_path(folder.path())?.name(), "shop");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        Ok(from_path(path)?.0)
    }

    /// A chart from its files, by name inside the chart; `origin` names it in errors. See [`Chart`].
    ///
    /// # Errors
    /// [`Error::Unpack`] without a `Chart.yaml` or with charts more than ten levels deep; [`Error::Package`] if a file
    /// of the chart is broken.
    pub fn from_files(files: Vec<File>, origin: &str) -> Result<Self, Error> {
        build(files, origin, 0, &mut Room::default())
    }

    /// The chart's name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Whether it only lends templates to others.
    pub(crate) fn is_library(&self) -> bool {
        self.metadata.kind.eq_ignore_ascii_case("library")
    }

    /// Resource definitions of `crds/`, this chart's first; Helm installs them before everything else and never updates them.
    ///
    /// They are no templates, and [`render`](crate::render()) leaves them out, as `helm template` does.
    ///
    /// ```
    /// use helm_engine::{Chart, File};
    /// let head = File::new("Chart.yaml", "name: shop\nversion: 1.2.3\n");
    /// let chart = Chart::from_files(vec![head, File::new("crds/order.yaml", "kind: CustomResourceDefinition\n")], "x")?;
    /// assert_eq!(chart.crds()[0].name, "crds/order.yaml");
    /// # Ok::<(), helm_engine::Error>(())
    /// ```
    pub fn crds(&self) -> Vec<&File> {
        let own = self.files.iter().filter(|file| {
            file.name.starts_with("crds/") && !file.name.ends_with('/') && is_manifest(&file.name)
        });
        own.chain(self.dependencies.iter().flat_map(Self::crds))
            .collect()
    }
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Reads a chart from its archive; those inside it take from the same room.
pub(crate) fn from_archive(bytes: &[u8], origin: &str) -> Result<Chart, Error> {
    let mut room = Room::default();
    let files = archive::unpack(bytes, origin, &mut room)?;
    build(files, origin, 0, &mut room)
}

fn build(files: Vec<File>, origin: &str, depth: usize, room: &mut Room) -> Result<Chart, Error> {
    if depth > 10 {
        return Err(Error::Unpack {
            origin: origin.to_owned(),
            reason: "charts inside charts, more than 10 levels deep".to_owned(),
        });
    }
    let Some(head) = files.iter().find(|file| file.name == "Chart.yaml") else {
        return Err(Error::Unpack {
            origin: origin.to_owned(),
            reason: "Chart.yaml is missing".to_owned(),
        });
    };
    let mut chart = Chart {
        metadata: Metadata::read(head, origin)?,
        ..Chart::default()
    };
    let mut inner: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for file in files {
        match file.name.as_str() {
            "Chart.yaml" => {}
            "Chart.lock" | "requirements.lock" => chart.lock = Some(chart.parse(&file)?),
            "values.yaml" => chart.take_values(&file)?,
            "values.schema.json" => chart.schema = Some(file.data),
            "requirements.yaml" => chart.take_requirements(&file)?,
            name if name.starts_with("templates/") => chart.templates.push(file),
            name if name.starts_with("charts/") && !name.ends_with(".prov") => {
                let rest = name["charts/".len()..].to_owned();
                let group = rest.split('/').next().unwrap_or_default().to_owned();
                inner.entry(group).or_default().push(File {
                    name: rest,
                    data: file.data,
                });
            }
            _ => chart.files.push(file),
        }
    }
    for (group, files) in inner
        .into_iter()
        .filter(|(group, _)| !group.starts_with(['_', '.']))
    {
        if let Some(inner) = build_inner(&group, files, origin, depth, room)? {
            chart.dependencies.push(inner);
        }
    }
    Ok(chart)
}

fn build_inner(
    group: &str,
    files: Vec<File>,
    origin: &str,
    depth: usize,
    room: &mut Room,
) -> Result<Option<Chart>, Error> {
    let origin = format!("{origin}/charts/{group}");
    let files = match files.as_slice() {
        [file] if file.name == group && group.ends_with(".tgz") => {
            archive::unpack(&file.data, &origin, room)?
        }
        _ => files
            .into_iter()
            .filter_map(|file| {
                Some(File {
                    name: file.name.split_once('/')?.1.to_owned(),
                    data: file.data,
                })
            })
            .collect(),
    };
    if files.is_empty() {
        Ok(None)
    } else {
        build(files, &origin, depth + 1, room).map(Some)
    }
}

impl Chart {
    fn refused(&self, file: &str, reason: impl ToString) -> Error {
        Error::Package {
            chart: self.metadata.name.clone(),
            file: file.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn parse(&self, file: &File) -> Result<Value, Error> {
        let text =
            std::str::from_utf8(&file.data).map_err(|error| self.refused(&file.name, error))?;
        yaml::document(text).map_err(|error| self.refused(&file.name, error))
    }

    fn take_values(&mut self, file: &File) -> Result<(), Error> {
        let text = String::from_utf8(file.data.clone())
            .map_err(|error| self.refused(&file.name, error))?;
        for document in yaml::documents(&text).map_err(|error| self.refused(&file.name, error))? {
            match document {
                Value::Null => {}
                Value::Object(map) => values::overlay(&mut self.values, map),
                _ => return Err(self.refused(&file.name, "it is not a map")),
            }
        }
        self.values_text = text;
        Ok(())
    }

    fn take_requirements(&mut self, file: &File) -> Result<(), Error> {
        if let Value::Object(map) = self.parse(file)? {
            self.metadata.document.extend(map);
        }
        if self.metadata.api_version == "v1" {
            self.files.push(file.clone());
        }
        Ok(())
    }
}

/// Reads a chart from a folder or an archive on disk, with its digest.
pub(crate) fn from_path(path: &Path) -> Result<(Chart, Vec<u8>), Error> {
    let origin = path.display().to_string();
    if path.is_dir() {
        let files = archive::walk(path)?;
        let digest = archive::fingerprint(&files);
        return Ok((Chart::from_files(files, &origin)?, digest));
    }
    let bytes = fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok((from_archive(&bytes, &origin)?, archive::sha256(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn file(name: &str, text: &str) -> File {
        File::new(name, text)
    }

    #[test]
    fn files_find_their_place() {
        let chart = Chart::from_files(
            vec![
                file("Chart.yaml", "name: app\nversion: 1.0.0\nappVersion: 2\n"),
                file("values.yaml", "a: 1\n---\na: 2\nb: {c: 3}\n"),
                file("templates/x.yaml", "x"),
                file("crds/c.yaml", "c"),
                file("README.md", "r"),
                file("charts/sub/Chart.yaml", "name: sub\nversion: 0.1.0\n"),
                file("charts/_ignored/Chart.yaml", "broken"),
                file("charts/README", "r"),
            ],
            "test",
        )
        .unwrap();
        assert_eq!(
            (
                chart.name(),
                chart.metadata.app_version.as_str(),
                chart.metadata.api_version.as_str()
            ),
            ("app", "2", "v1")
        );
        assert_eq!(
            Value::Object(chart.values.clone()),
            serde_json::json!({"a": 2.0, "b": {"c": 3.0}})
        );
        assert_eq!(chart.templates.len(), 1);
        assert_eq!(chart.crds().len(), 1);
        assert_eq!(
            chart
                .dependencies
                .iter()
                .map(Chart::name)
                .collect::<Vec<_>>(),
            ["sub"]
        );
    }

    #[test]
    fn what_is_no_chart_is_refused_by_file() {
        for (files, expected) in [
            (vec![], "Chart.yaml is missing"),
            (vec![file("Chart.yaml", "name: [")], "Chart.yaml is invalid"),
            (
                vec![file("Chart.yaml", "name: a\nversion: x\n")],
                "not a semantic version",
            ),
            (
                vec![file("Chart.yaml", "name: a/b\nversion: 1.0.0\n")],
                "is not a valid chart name",
            ),
            (
                vec![file("Chart.yaml", "name: a\nversion: 1.0.0\ntype: odd\n")],
                "type must be",
            ),
            (
                vec![
                    file("Chart.yaml", "name: a\nversion: 1.0.0\n"),
                    file("values.yaml", "- 1"),
                ],
                "values.yaml is invalid",
            ),
        ] {
            let error = Chart::from_files(files, "test").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
