//! Where objects live: their paths, from what they call themselves and what the server serves.

use serde_json::Value;

use super::super::{Cluster, Error, Kind, Ref, Verb, kind::Place, wire::Call};

use crate::mutex;

impl Cluster {
    /// The path of an object; `None` where its kind is not served.
    pub(super) async fn path(&self, r: &Ref, verb: Verb) -> Result<Option<String>, Error> {
        let Some(place) = self.place(&r.kind).await? else {
            return Ok(None);
        };
        if place.namespaced && r.namespace.is_none() {
            return Err(Error::Malformed {
                cluster: self.name().clone(),
                verb,
                missing: "metadata.namespace",
            });
        }
        Ok(Some(format!(
            "{}/{}",
            place.collection(&r.kind, r.namespace.as_deref()),
            r.name
        )))
    }

    pub(super) async fn known(&self, r: &Ref, verb: Verb) -> Result<String, Error> {
        let unknown = || Error::UnknownKind {
            cluster: self.name().clone(),
            kind: r.kind.clone(),
        };
        self.path(r, verb).await?.ok_or_else(unknown)
    }

    pub(super) async fn target(&self, object: &Value, verb: Verb) -> Result<(Ref, String), Error> {
        let (r, place) = self.placed(object, verb).await?;
        let path = format!(
            "{}/{}",
            place.collection(&r.kind, r.namespace.as_deref()),
            r.name
        );
        Ok((r, path))
    }

    /// What an object calls itself, and where that lives.
    pub(super) async fn placed(&self, object: &Value, verb: Verb) -> Result<(Ref, Place), Error> {
        let missing = |missing| Error::Malformed {
            cluster: self.name().clone(),
            verb,
            missing,
        };
        let mut r = Ref::of(object).ok_or_else(|| missing("apiVersion, kind or metadata.name"))?;
        let unknown = || Error::UnknownKind {
            cluster: self.name().clone(),
            kind: r.kind.clone(),
        };
        let place = self.place(&r.kind).await?.ok_or_else(unknown)?;
        match place.namespaced {
            true if r.namespace.is_none() => Err(missing("metadata.namespace")),
            // Charts put a namespace on cluster-wide objects too; the API server ignores it.
            false => {
                r.namespace = None;
                Ok((r, place))
            }
            true => Ok((r, place)),
        }
    }

    /// Every kind that namespaces hold and that can be listed, in the version the API server prefers.
    pub(crate) async fn kinds(&self) -> Result<Vec<Kind>, Error> {
        let groups = match self.call(Call::get("/apis")).await {
            Ok((_, groups)) => groups,
            Err(source) => return Err(self.failed(Verb::Discover, "the API groups", source)),
        };
        let groups = groups["groups"].as_array().into_iter().flatten();
        let preferred = groups.filter_map(|g| g["preferredVersion"]["groupVersion"].as_str());
        let mut kinds = vec![];
        for version in std::iter::once("v1").chain(preferred) {
            let root = Kind::new(version, "").root();
            match self.call(Call::get(&root)).await {
                Ok((_, list)) => kinds.extend(listed(version, &list)),
                // An extension that does not answer: what it would hold is Kubernetes' to wait for.
                Err(failure) if matches!(failure.code(), Some(404 | 503)) => {}
                Err(source) => return Err(self.failed(Verb::Discover, version, source)),
            }
        }
        Ok(kinds)
    }

    /// Where a kind lives: from the table, else by discovery, once.
    pub(crate) async fn place(&self, kind: &Kind) -> Result<Option<Place>, Error> {
        if let Some(place) = kind
            .place()
            .or_else(|| mutex::lock(&self.0.kinds).get(kind).cloned())
        {
            return Ok(Some(place));
        }
        let resources = match self.call(Call::get(&kind.root())).await {
            Ok((_, resources)) => resources,
            Err(failure) if failure.code() == Some(404) => return Ok(None),
            Err(source) => return Err(self.failed(Verb::Discover, kind, source)),
        };
        let found = resources["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|resource| {
                let plural = resource["name"]
                    .as_str()
                    .filter(|name| !name.contains('/'))?;
                (resource["kind"] == *kind.kind).then(|| Place {
                    plural: plural.to_owned().into(),
                    namespaced: resource["namespaced"].as_bool().unwrap_or(true),
                })
            });
        if let Some(place) = &found {
            mutex::lock(&self.0.kinds).insert(kind.clone(), place.clone());
        }
        Ok(found)
    }
}

/// The kinds of one version that namespaces hold and that can be listed.
fn listed(version: &str, resources: &Value) -> Vec<Kind> {
    let all = resources["resources"].as_array().into_iter().flatten();
    let fits = |r: &&Value| {
        let verbs = r["verbs"].as_array();
        let lists = verbs.is_some_and(|v| v.iter().any(|verb| verb == "list"));
        r["namespaced"] == true && lists
    };
    let kinds = all.filter(fits).filter_map(|r| r["kind"].as_str());
    kinds.map(|kind| Kind::new(version, kind)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            super::testing::{Reply, cluster},
            Manager,
        },
        *,
    };

    #[tokio::test]
    async fn objects_must_say_where_they_belong() {
        let (cluster, log) = cluster(|_| Reply::json(201, json!({})));
        let no_namespace = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
        let error = cluster
            .apply(&no_namespace, Manager::Meshlink, false)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("metadata.namespace"), "{error}");
        let wide = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "a", "namespace": "istio-system"}});
        assert!(
            cluster
                .apply(&wide, Manager::Helm, false)
                .await
                .unwrap()
                .created
        );
        assert!(
            log.lock().unwrap()[0]
                .uri
                .starts_with("/apis/rbac.authorization.k8s.io/v1/clusterroles/a?")
        );
    }
    #[tokio::test]
    async fn an_unknown_kind_is_discovered_once() {
        let (cluster, log) = cluster(|seen| match seen.uri.as_str() {
            "/apis/example.com/v1" => Reply::json(
                200,
                json!({"resources": [
                    {"name": "things/status", "kind": "Thing", "namespaced": true},
                    {"name": "things", "kind": "Thing", "namespaced": false},
                ]}),
            ),
            _ => Reply::json(200, json!({"metadata": {"name": "b"}})),
        });
        let thing = Ref::cluster(&Kind::new("example.com/v1", "Thing"), "b");
        cluster.find(&thing).await.unwrap();
        cluster.find(&thing).await.unwrap();
        let uris: Vec<_> = log
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.uri.clone())
            .collect();
        assert_eq!(
            uris,
            [
                "/apis/example.com/v1",
                "/apis/example.com/v1/things/b",
                "/apis/example.com/v1/things/b"
            ]
        );
    }
}
