//! Find, list, apply, create, replace, merge, delete.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Cluster, Error, Failure, Ref, Verb, wire::Call};

mod place;
mod read;

/// Whose fields an apply claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    /// Our own objects.
    Meshlink,
    /// Objects rendered from charts, so that a later `helm upgrade` finds its own fields.
    Helm,
}

impl Manager {
    /// The name in `managedFields`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Meshlink => "meshlink",
            Self::Helm => "helm",
        }
    }
}

/// What an apply, replace or merge did.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// The object was not there before.
    pub(crate) created: bool,
    /// The object as it is now.
    pub(crate) object: Value,
}

/// What a create did.
#[derive(Debug, Clone)]
pub(crate) enum Created {
    /// It is there now, because of us.
    Created(Value),
    /// It was there already, like this.
    Exists(Value),
}

/// How to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delete {
    /// Wait for dependents to be deleted first (the object stays until then).
    pub(crate) foreground: bool,
    /// Delete only the object with this UID.
    pub(crate) uid: Option<String>,
    /// Delete only this version of the object.
    pub(crate) resource_version: Option<String>,
}

impl Delete {
    /// The object goes at once, its dependents after it.
    pub(crate) fn background() -> Self {
        Self {
            foreground: false,
            uid: None,
            resource_version: None,
        }
    }

    /// Dependents first.
    pub(crate) fn foreground() -> Self {
        Self {
            foreground: true,
            ..Self::background()
        }
    }

    /// Only if it is still this object.
    #[must_use]
    pub(crate) fn only(mut self, object: &Value) -> Self {
        self.uid = object["metadata"]["uid"].as_str().map(str::to_owned);
        self
    }

    /// Only if nobody has changed it since it was read.
    #[must_use]
    pub(crate) fn exactly(mut self, object: &Value) -> Self {
        let version = object["metadata"]["resourceVersion"].as_str();
        self.resource_version = version.map(str::to_owned);
        self.only(object)
    }

    fn options(&self) -> Value {
        let policy = if self.foreground {
            "Foreground"
        } else {
            "Background"
        };
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        for (key, value) in [
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(value) = value {
                options["preconditions"][key] = json!(value);
            }
        }
        options
    }
}

/// What a delete did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It is gone.
    Gone,
    /// It goes when these have let it go.
    Deleting(Vec<String>),
    /// It was not there, or is another object by now.
    NotFound,
}
impl Cluster {
    /// Server-side apply: the fields of `object` become ours. `force` takes those of others too.
    pub(crate) async fn apply(
        &self,
        object: &Value,
        manager: Manager,
        force: bool,
    ) -> Result<Applied, Error> {
        let (r, path) = self.target(object, Verb::Apply).await?;
        let query = [
            ("fieldManager", manager.as_str()),
            ("force", if force { "true" } else { "false" }),
        ];
        let call = Call {
            query: &query,
            content_type: "application/apply-patch+yaml",
            body: Some(object),
            ..Call::new(Method::PATCH, &path)
        };
        let answer = self
            .call(call)
            .await
            .map_err(|source| self.failed(Verb::Apply, &r, source))?;
        Ok(applied(answer))
    }

    /// Creates an object, or returns the one that is there.
    pub(crate) async fn create(&self, object: &Value) -> Result<Created, Error> {
        let (r, place) = self.placed(object, Verb::Create).await?;
        let path = place.collection(&r.kind, r.namespace.as_deref());
        let query = [("fieldManager", Manager::Meshlink.as_str())];
        let call = Call {
            query: &query,
            body: Some(object),
            ..Call::new(Method::POST, &path)
        };
        match self.call(call).await {
            Ok((_, object)) => Ok(Created::Created(object)),
            Err(failure) if exists(&failure) => match self.find(&r).await? {
                Some(object) => Ok(Created::Exists(object)),
                // Deleted between the two requests: tell the conflict, which is tried again.
                None => Err(self.failed(Verb::Create, &r, failure)),
            },
            Err(source) => Err(self.failed(Verb::Create, &r, source)),
        }
    }

    /// Replaces an object as a whole; its `resourceVersion` guards against others' changes.
    pub(crate) async fn replace(&self, object: &Value) -> Result<Applied, Error> {
        let (r, path) = self.target(object, Verb::Replace).await?;
        let query = [("fieldManager", Manager::Meshlink.as_str())];
        let call = Call {
            query: &query,
            body: Some(object),
            ..Call::new(Method::PUT, &path)
        };
        let answer = self
            .call(call)
            .await
            .map_err(|source| self.failed(Verb::Replace, &r, source))?;
        Ok(applied(answer))
    }

    /// Changes only the fields in `patch` (RFC 7386: null removes).
    pub(crate) async fn merge(&self, r: &Ref, patch: &Value) -> Result<Applied, Error> {
        let path = self.known(r, Verb::Merge).await?;
        let query = [("fieldManager", Manager::Meshlink.as_str())];
        let call = Call {
            query: &query,
            content_type: "application/merge-patch+json",
            body: Some(patch),
            ..Call::new(Method::PATCH, &path)
        };
        let answer = self
            .call(call)
            .await
            .map_err(|source| self.failed(Verb::Merge, r, source))?;
        Ok(applied(answer))
    }

    /// Deletes an object; not being there is no error.
    pub(crate) async fn delete(&self, r: &Ref, how: &Delete) -> Result<Deleted, Error> {
        let Some(path) = self.path(r, Verb::Delete).await? else {
            return Ok(Deleted::NotFound);
        };
        let options = how.options();
        let call = Call {
            body: Some(&options),
            ..Call::new(Method::DELETE, &path)
        };
        let answer = match self.call(call).await {
            Ok((_, answer)) => answer,
            Err(failure) if failure.code() == Some(404) => return Ok(Deleted::NotFound),
            // The precondition failed: the object with our UID is gone.
            Err(failure)
                if failure.code() == Some(409)
                    && how.uid.is_some()
                    && how.resource_version.is_none() =>
            {
                return Ok(Deleted::NotFound);
            }
            Err(source) => return Err(self.failed(Verb::Delete, r, source)),
        };
        let metadata = &answer["metadata"];
        // A namespace has its finalizers in its spec.
        let lists = [&metadata["finalizers"], &answer["spec"]["finalizers"]];
        let held = lists.into_iter().filter_map(Value::as_array).flatten();
        let held: Vec<String> = held
            .filter_map(|one| Some(one.as_str()?.to_owned()))
            .collect();
        let grace = metadata["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
        match metadata["deletionTimestamp"].is_string() && (grace > 0 || !held.is_empty()) {
            true => Ok(Deleted::Deleting(held)),
            false => Ok(Deleted::Gone),
        }
    }
    pub(crate) fn failed(&self, verb: Verb, object: impl ToString, source: Failure) -> Error {
        Error::Call {
            cluster: self.name().clone(),
            verb,
            object: object.to_string(),
            source: source.into(),
        }
    }
}

fn applied((status, object): (StatusCode, Value)) -> Applied {
    let created = status == StatusCode::CREATED;
    Applied { created, object }
}

fn exists(failure: &Failure) -> bool {
    matches!(failure, Failure::Status { code: 409, reason, .. } if reason == "AlreadyExists")
}

/// Names of the pods that run and are not on their way out.
pub(crate) fn running(pods: &[Value]) -> Vec<String> {
    let running = pods.iter().filter(|p| {
        p["status"]["phase"] == "Running" && p["metadata"]["deletionTimestamp"].is_null()
    });
    running
        .filter_map(|p| p["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Kind,
            testing::{Reply, cluster},
        },
        *,
    };

    fn secret(version: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "istio-system", "name": "cacerts", "resourceVersion": version}})
    }

    fn cacerts() -> Ref {
        Ref::namespaced(&Kind::SECRET, "istio-system", "cacerts")
    }
    #[tokio::test]
    async fn errors_name_cluster_and_object_and_not_the_body() {
        let (cluster, _) = cluster(|_| Reply::status(403, "Forbidden"));
        let mut object = secret("1");
        object["data"] = json!({"ca-key.pem": "canary"});
        let error = cluster
            .apply(&object, Manager::Meshlink, true)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cluster eks-1: cannot apply Secret istio-system/cacerts"
        );
        assert!(!format!("{error:?}").contains("canary"));
        assert_eq!(error.failure().unwrap().code(), Some(403));
    }
    #[tokio::test]
    async fn an_apply_says_who_claims_the_fields_and_whether_it_takes_those_of_others() {
        let (cluster, log) = cluster(|seen| Reply::json(200, seen.body.clone()));
        cluster.find(&cacerts()).await.ok();
        let mut object = secret("1");
        let applied = cluster.apply(&object, Manager::Meshlink, true).await;
        assert!(!applied.unwrap().created);
        object["data"] = json!({"a": "b"});
        cluster.apply(&object, Manager::Helm, false).await.unwrap();
        let log = log.lock().unwrap();
        let path = "/api/v1/namespaces/istio-system/secrets/cacerts";
        assert_eq!(
            log[1].uri,
            format!("{path}?fieldManager=meshlink&force=true")
        );
        assert_eq!(log[2].uri, format!("{path}?fieldManager=helm&force=false"));
        assert_eq!(
            log[2].headers["content-type"],
            "application/apply-patch+yaml"
        );
        assert_eq!(log[2].body, object);
    }
    #[tokio::test]
    async fn a_create_returns_what_was_there_first() {
        let (cluster, _) = cluster(|seen| match seen.method {
            Method::POST => Reply::status(409, "AlreadyExists"),
            _ => Reply::json(200, secret("7")),
        });
        let created = cluster.create(&secret("")).await.unwrap();
        assert!(matches!(created, Created::Exists(object) if object == secret("7")));
    }
    #[tokio::test]
    async fn deletes_say_what_holds_an_object() {
        for (answer, want) in [
            (
                Reply::json(200, json!({"kind": "Status", "status": "Success"})),
                Deleted::Gone,
            ),
            (
                Reply::json(
                    200,
                    json!({"kind": "Service", "metadata": {"deletionTimestamp": "t", "finalizers": ["lb"]}}),
                ),
                Deleted::Deleting(vec!["lb".into()]),
            ),
            (
                Reply::json(
                    200,
                    json!({"metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}}),
                ),
                Deleted::Deleting(vec![]),
            ),
            (
                Reply::json(
                    200,
                    json!({"metadata": {"deletionTimestamp": "t"}, "spec": {"finalizers": ["kubernetes"]}}),
                ),
                Deleted::Deleting(vec!["kubernetes".into()]),
            ),
            (Reply::status(409, "Conflict"), Deleted::NotFound),
        ] {
            let answer = std::sync::Mutex::new(Some(answer));
            let (cluster, log) = cluster(move |_| answer.lock().unwrap().take().unwrap());
            let how = Delete::foreground().only(&json!({"metadata": {"uid": "u"}}));
            assert_eq!(cluster.delete(&cacerts(), &how).await.unwrap(), want);
            let body = &log.lock().unwrap()[0].body;
            assert_eq!(
                (&body["propagationPolicy"], &body["preconditions"]["uid"]),
                (&json!("Foreground"), &json!("u"))
            );
        }
    }
}
