//! Where charts come from, as people write it.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{Chart, Error, Source};

impl Source {
    /// Where a chart is and what it is called, as one names it to Helm: `oci://host/path/NAME`, a folder or an archive
    /// that is there, or the name of a chart in `repository` (which may be any source: a URL, a folder of charts).
    ///
    /// # Errors
    /// [`Error::Source`] if `repository` is needed and is no source; what [`Chart::from_path`] says of a chart on disk.
    ///
    /// ```
    /// use helm_engine::Source;
    /// let (source, name) = Source::of_chart("oci://registry.example/charts/shop", "")?;
    /// assert_eq!((source.to_string().as_str(), name.as_str()), ("oci://registry.example/charts", "shop"));
    ///
    /// let (source, name) = Source::of_chart("shop", "https://charts.example")?;
    /// assert_eq!((source.to_string().as_str(), name.as_str()), ("https://charts.example", "shop"));
    /// # Ok::<(), helm_engine::Error>(())
    /// ```
    pub fn of_chart(chart: &str, repository: &str) -> Result<(Self, String), Error> {
        let registry = chart.strip_prefix("oci://");
        if let Some((base, name)) = registry.and_then(|rest| rest.rsplit_once('/')) {
            return Ok((format!("oci://{base}").parse()?, name.to_owned()));
        }
        let path = Path::new(chart);
        let source = match () {
            () if path.join("Chart.yaml").is_file() => Self::Folder(path.to_owned()),
            () if path.is_file() => Self::Archive(path.to_owned()),
            () if repository.is_empty() => {
                return Err(Error::Source {
                    text: chart.to_owned(),
                    reason: "it is no folder or archive that is there, and no repository was named"
                        .to_owned(),
                });
            }
            () => return Ok((repository.parse()?, chart.to_owned())),
        };
        Ok((source, Chart::from_path(path)?.metadata.name))
    }
}

impl FromStr for Source {
    type Err = Error;

    /// `oci://…` is a registry, `http(s)://…` a repository, `….tgz` an archive, anything else a folder.
    ///
    /// # Errors
    /// [`Error::Source`] if it is empty, has no host, holds a login, or is a URL of another scheme.
    ///
    /// ```
    /// use helm_engine::Source;
    /// assert!(matches!("oci://registry.example/charts".parse()?, Source::Oci(_)));
    /// assert!(matches!("https://charts.example".parse()?, Source::Repository(_)));
    /// assert!(matches!("./charts".parse()?, Source::Folder(_)));
    /// assert!("ftp://charts.example".parse::<Source>().is_err());
    /// # Ok::<(), helm_engine::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |reason: &str| Error::Source {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        if text.trim().is_empty() {
            return Err(refused("it is empty"));
        }
        if let Some(rest) = text.strip_prefix("oci://") {
            return if rest.is_empty() || rest.starts_with('/') {
                Err(refused("it has no host"))
            } else {
                Ok(Self::Oci(text.trim_end_matches('/').to_owned()))
            };
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let uri = text
                .parse::<http::Uri>()
                .map_err(|error| refused(&error.to_string()))?;
            return match uri.authority() {
                Some(authority) if authority.as_str().contains('@') => Err(refused(
                    "credentials belong in the registry configuration, not in the URL",
                )),
                Some(_) => Ok(Self::Repository(text.trim_end_matches('/').to_owned())),
                None => Err(refused("it has no host")),
            };
        }
        if text.contains("://") {
            return Err(refused("the scheme must be https, http or oci"));
        }
        let path = PathBuf::from(text);
        Ok(if text.ends_with(".tgz") || text.ends_with(".tar.gz") {
            Self::Archive(path)
        } else {
            Self::Folder(path)
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(url) | Self::Oci(url) => f.write_str(url),
            Self::Folder(path) | Self::Archive(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_source_is_told_apart_and_printed_back() {
        for (text, expected) in [
            (
                "https://charts.example/istio",
                Source::Repository("https://charts.example/istio".into()),
            ),
            (
                "oci://registry.example/charts",
                Source::Oci("oci://registry.example/charts".into()),
            ),
            ("./charts/istiod", Source::Folder("./charts/istiod".into())),
            (
                "istiod-1.31.0.tgz",
                Source::Archive("istiod-1.31.0.tgz".into()),
            ),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source, expected);
            assert_eq!(source.to_string(), text);
        }
    }

    #[test]
    fn a_chart_on_disk_is_meant_before_one_of_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("Chart.yaml"),
            "name: shop\nversion: 1.0.0\n",
        )
        .unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(
            Source::of_chart(path, "https://charts.example").unwrap(),
            (Source::Folder(folder.path().into()), "shop".to_owned())
        );
        let error = Source::of_chart("shop", "").unwrap_err().to_string();
        assert!(error.contains("no repository was named"), "{error}");
    }

    #[test]
    fn what_cannot_be_fetched_is_refused() {
        for text in [
            "",
            "  ",
            "oci://",
            "oci:///x",
            "https://",
            "ftp://host/x",
            "https://user:secret@host/x",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
