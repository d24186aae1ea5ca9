//! Logins for private repositories, from Docker's and Helm's configuration files.

use std::{fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{Error, yaml};

/// A login for one host. It never shows its password, and is sent to no other host, not even by a redirect.
#[derive(Clone)]
pub struct Credential {
    host: String,
    username: String,
    password: Zeroizing<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("host", &self.host)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// A login for a host, which may have a port.
    pub fn new(host: &str, username: &str, password: &str) -> Self {
        Self {
            host: plain_host(host),
            username: username.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        }
    }

    /// Logins from a file in the format of Docker's `config.json`, which Helm's `registry/config.json` shares.
    /// Hosts whose login lies in a helper program are left out.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Credentials`] if it cannot be understood; neither shows what is in the file.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("config.json");
    /// std::fs::write(&path, r#"{"auths": {"registry.example": {"username": "jo", "password": "p"}}}"#)?;
    /// assert_eq!(helm_engine::Credential::from_docker(&path)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_docker(path: &Path) -> Result<Vec<Self>, Error> {
        let refused = |reason: &str| Error::Credentials {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let bytes = Zeroizing::new(std::fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?);
        let document: Value =
            serde_json::from_slice(&bytes).map_err(|_| refused("it is not valid JSON"))?;
        let mut all = Vec::new();
        for (host, entry) in document
            .get("auths")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let text = |key: &str| {
                entry
                    .get(key)
                    .and_then(Value::as_str)
                    .filter(|text| !text.is_empty())
            };
            if let (Some(username), Some(password)) = (text("username"), text("password")) {
                all.push(Self::new(host, username, password));
            } else if let Some(auth) = text("auth") {
                let bytes = Zeroizing::new(
                    STANDARD
                        .decode(auth)
                        .map_err(|_| refused("a login is not valid base64"))?,
                );
                let pair = std::str::from_utf8(&bytes)
                    .ok()
                    .and_then(|text| text.trim_end_matches('\0').split_once(':'));
                let (username, password) =
                    pair.ok_or_else(|| refused("a login is not of the form `user:password`"))?;
                all.push(Self::new(host, username, password));
            }
        }
        Ok(all)
    }

    /// Logins from Helm's `repositories.yaml`.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Credentials`] if it is no YAML; neither shows what is in the file.
    pub fn from_helm(path: &Path) -> Result<Vec<Self>, Error> {
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?);
        let document = yaml::document(&text).map_err(|_| Error::Credentials {
            path: path.to_owned(),
            reason: "it is not valid YAML".to_owned(),
        })?;
        let entries = document
            .get("repositories")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let logins = entries.filter_map(|entry| {
            let text = |key: &str| {
                entry
                    .get(key)
                    .and_then(Value::as_str)
                    .filter(|text| !text.is_empty())
            };
            Some(Self::new(
                text("url")?,
                text("username")?,
                text("password")?,
            ))
        });
        Ok(logins.collect())
    }

    /// The value of an `Authorization` header for a host, if there is a login for it.
    pub(super) fn basic(all: &[Self], host: &str) -> Option<Zeroizing<String>> {
        let wanted = plain_host(host);
        let found = all.iter().find(|credential| credential.host == wanted)?;
        let pair = Zeroizing::new(format!("{}:{}", found.username, *found.password));
        Some(Zeroizing::new(format!(
            "Basic {}",
            STANDARD.encode(pair.as_bytes())
        )))
    }
}

/// Hosts are written as URLs too, and Docker's own registry has two names.
fn plain_host(host: &str) -> String {
    let host = host.split_once("://").map_or(host, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host).to_ascii_lowercase();
    if host == "index.docker.io" || host == "docker.io" {
        "registry-1.docker.io".to_owned()
    } else {
        host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_by_host_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let auth = STANDARD.encode("jo:s3cret");
        std::fs::write(&path, format!(r#"{{"auths": {{"https://Reg.example:5000/v2/": {{"auth": "{auth}"}}, "other": {{}}}}, "credsStore": "x"}}"#)).unwrap();
        let all = Credential::from_docker(&path).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(
            *Credential::basic(&all, "reg.example:5000").unwrap(),
            format!("Basic {auth}")
        );
        assert!(Credential::basic(&all, "reg.example").is_none());
        assert!(!format!("{all:?}").contains("s3cret") && !format!("{all:?}").contains(&auth));
    }

    #[test]
    fn helms_repositories_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repositories.yaml");
        std::fs::write(&path, "repositories:\n- {name: a, url: https://charts.example/x, username: jo, password: p}\n- {name: b, url: https://open.example}\n").unwrap();
        let all = Credential::from_helm(&path).unwrap();
        assert_eq!(all.len(), 1);
        assert!(Credential::basic(&all, "charts.example").is_some());
    }

    #[test]
    fn a_broken_file_is_refused_without_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in [
            "s3cret",
            r#"{"auths": {"h": {"auth": "s3cret!"}}}"#,
            r#"{"auths": {"h": {"auth": "czNjcmV0"}}}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Credential::from_docker(&path).unwrap_err();
            assert!(
                matches!(error, Error::Credentials { .. })
                    && !format!("{error:?}").contains("s3cret"),
                "{error:?}"
            );
        }
    }
}
