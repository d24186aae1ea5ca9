//! Where charts come from, as people write it.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{Error, Source};

impl FromStr for Source {
    type Err = Error;

    /// `oci://…` is a registry, `http(s)://…` a repository, `….tgz` an archive, anything else a folder.
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
