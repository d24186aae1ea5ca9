//! Charts in registries.

use http::header;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Credential,
    cache::Cache,
    http::{Answer, Ask, Http},
    repository::{ARCHIVE, check, choose, newest},
};
use crate::Error;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// Docker Hub, whose token service is on a host of its own.
const HUB: [&str; 3] = ["registry-1.docker.io", "docker.io", "index.docker.io"];
/// The largest manifest or list of tags.
const DOCUMENT: usize = 4 << 20;

/// A chart's archive and the version it turned out to be. `base` is `oci://host/path`.
pub(super) async fn pull(
    http: &Http,
    base: &str,
    name: &str,
    version: &str,
    cache: Option<&Cache>,
) -> Result<(String, Vec<u8>), Error> {
    let registry = Registry::new(http, base, name);
    let version = if version.is_empty() {
        registry.newest(base, name).await?
    } else {
        version.to_owned()
    };
    // Tags cannot hold a plus sign.
    let url = registry.url(&format!("manifests/{}", version.replace('+', "_")));
    let answer = registry.ask(&url, Some(MANIFEST), DOCUMENT).await?;
    if answer.status == 404 {
        let available = registry.tags().await.map(newest).unwrap_or_default();
        return Err(Error::NotFound {
            name: name.to_owned(),
            version,
            origin: base.to_owned(),
            available,
        });
    }
    let manifest = json(&url, &answer)?;
    let layers = manifest
        .get("layers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let layer = layers
        .filter(|layer| layer.get("mediaType").and_then(Value::as_str) == Some(CHART))
        .find_map(|layer| layer.get("digest")?.as_str());
    let digest = layer.ok_or_else(|| Error::Index {
        url: url.clone(),
        reason: "it holds no chart".to_owned(),
    })?;
    let hex = digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64)
        .ok_or_else(|| Error::Index {
            url: url.clone(),
            reason: format!("{digest} is not a sha256"),
        })?;
    if let Some(archive) = cache.and_then(|cache| cache.archive(hex)) {
        return Ok((version, archive));
    }
    let blob = registry.url(&format!("blobs/{digest}"));
    let answer = registry.ask(&blob, None, ARCHIVE).await?;
    if answer.status != 200 {
        return Err(Error::Status {
            url: blob,
            status: answer.status,
        });
    }
    check(&answer.body, hex, name, &version, base)?;
    Ok((version, answer.body))
}

struct Registry<'h> {
    http: &'h Http,
    root: String,
    host: String,
}

impl<'h> Registry<'h> {
    fn new(http: &'h Http, base: &str, name: &str) -> Self {
        let rest = base.strip_prefix("oci://").unwrap_or(base);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        // Registries on this machine need no TLS, as with Docker.
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        let scheme = if matches!(bare, "localhost" | "127.0.0.1" | "[::1]") {
            "http"
        } else {
            "https"
        };
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}/{name}")
        };
        Self {
            http,
            root: format!("{scheme}://{host}/v2/{path}"),
            host: host.to_owned(),
        }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/{rest}", self.root)
    }

    /// Asks, and if the registry wants to know who asks, asks again with an answer to that.
    async fn ask(&self, url: &str, accept: Option<&str>, limit: usize) -> Result<Answer, Error> {
        let answer = self
            .http
            .ask(
                url,
                &Ask {
                    accept,
                    authorization: None,
                    limit,
                },
            )
            .await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        // Whoever a redirect led to may ask for a login too: it is the registry's, and nobody else's.
        if answer.authority != self.host {
            return Err(Error::Index {
                url: url.to_owned(),
                reason: format!(
                    "it leads to {}, which asks for a login; the login of {} is for that host alone",
                    answer.authority, self.host
                ),
            });
        }
        let challenge = answer
            .headers
            .get(header::WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let login = Credential::basic(&self.http.credentials, &self.host);
        let authorization = match challenge.split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => {
                Some(self.token(rest, login.as_ref()).await?)
            }
            _ => login,
        };
        let Some(authorization) = authorization else {
            return Err(Error::Status {
                url: url.to_owned(),
                status: 401,
            });
        };
        let answer = self
            .http
            .ask(
                url,
                &Ask {
                    accept,
                    authorization: Some(&authorization),
                    limit,
                },
            )
            .await?;
        if answer.status == 401 {
            Err(Error::Status {
                url: url.to_owned(),
                status: 401,
            })
        } else {
            Ok(answer)
        }
    }

    /// A token from the place the registry names; only that place sees the login.
    async fn token(
        &self,
        challenge: &str,
        login: Option<&Zeroizing<String>>,
    ) -> Result<Zeroizing<String>, Error> {
        let field = |name: &str| {
            parameters(challenge)
                .into_iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value)
        };
        let realm = field("realm").unwrap_or_default();
        let refused = |reason: &str| Error::Index {
            url: realm.clone(),
            reason: reason.to_owned(),
        };
        // A login goes in the clear only to this machine.
        if !realm.starts_with("https://") && !self.root.starts_with("http://") {
            return Err(refused("its token service does not use TLS"));
        }
        let login = login.filter(|_| self.trusts(&realm));
        let query: Vec<String> = ["service", "scope"]
            .iter()
            .filter_map(|name| Some(format!("{name}={}", escaped(&field(name)?))))
            .collect();
        let url = format!(
            "{realm}{}{}",
            if realm.contains('?') { '&' } else { '?' },
            query.join("&")
        );
        let answer = self
            .http
            .ask(
                &url,
                &Ask {
                    accept: None,
                    authorization: login.map(|login| login.as_str()),
                    limit: DOCUMENT,
                },
            )
            .await?;
        if answer.status != 200 {
            return Err(Error::Status {
                url: realm,
                status: answer.status,
            });
        }
        let document: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| refused("its answer is not valid JSON"))?;
        let token = ["token", "access_token"]
            .iter()
            .find_map(|key| document.get(key)?.as_str())
            .ok_or_else(|| refused("its answer holds no token"))?;
        Ok(Zeroizing::new(format!("Bearer {token}")))
    }

    /// Whether the login may be shown to a token service: on the registry's own host, Docker Hub's, or one that a
    /// configuration of logins names too.
    fn trusts(&self, realm: &str) -> bool {
        let uri: Option<http::Uri> = realm.parse().ok();
        let authority = uri.as_ref().and_then(http::Uri::authority);
        let Some(authority) = authority.map(http::uri::Authority::as_str) else {
            return false;
        };
        let hub = HUB.contains(&self.host.as_str()) && authority == "auth.docker.io";
        hub || authority == self.host
            || Credential::basic(&self.http.credentials, authority).is_some()
    }

    async fn tags(&self) -> Result<Vec<String>, Error> {
        let url = self.url("tags/list");
        let answer = self.ask(&url, None, DOCUMENT).await?;
        let document = json(&url, &answer)?;
        let tags = document
            .get("tags")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        Ok(tags
            .filter_map(|tag| tag.as_str().map(|tag| tag.replace('_', "+")))
            .collect())
    }

    async fn newest(&self, base: &str, name: &str) -> Result<String, Error> {
        let tags = self.tags().await?;
        let found = choose(&tags, "").map(str::to_owned);
        found.ok_or_else(|| Error::NotFound {
            name: name.to_owned(),
            version: String::new(),
            origin: base.to_owned(),
            available: newest(tags),
        })
    }
}

fn json(url: &str, answer: &Answer) -> Result<Value, Error> {
    if answer.status != 200 {
        return Err(Error::Status {
            url: url.to_owned(),
            status: answer.status,
        });
    }
    serde_json::from_slice(&answer.body).map_err(|error| Error::Index {
        url: url.to_owned(),
        reason: error.to_string(),
    })
}

/// `a="b",c=d` as pairs.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        all.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        rest = next.trim_start_matches([',', ' ']);
    }
    all
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                out.push(char::from(byte))
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let read = parameters(
            r#"realm="https://auth.example/token",service="reg, one",scope=repository:a/b:pull"#,
        );
        let pairs: Vec<_> = read
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("realm", "https://auth.example/token"),
                ("service", "reg, one"),
                ("scope", "repository:a/b:pull")
            ]
        );
        assert!(parameters("").is_empty() && parameters("x").is_empty());
    }
}
