//! The sample apps: put into the members, asked, and taken out again exactly.
//!
//! Everything is labelled as ours. A namespace that is somebody else's is refused; in one of our
//! own, what others have put there stays, and the namespace with it.

use std::collections::BTreeMap;

use http::{Request, StatusCode};
use http_body_util::Full;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    effect::own::{Unwritten, write},
    event::Severity,
};
use crate::{
    cluster::{self, Cluster, Delete, Kind, Ref, access, object, wait},
    hint::Hint,
    manifest::{self, Texts},
    observe::is_stranger,
    owner::Owner,
    plan::Refusal,
    probe,
    wait::Deadline,
};

/// Where the client takes questions for the server.
const ASK: u16 = 18080;
/// What may stand in a namespace and is looked at before anything is put there or taken away.
const WORKLOADS: [&Kind; 5] = [
    &Kind::DEPLOYMENT,
    &Kind::SERVICE,
    &Kind::POD,
    &Kind::SECRET,
    &Kind::CONFIG_MAP,
];

/// Why a sample could not be put in or taken out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The cluster refused, or could not be reached.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The manifest is no manifest.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// The namespace is somebody else's.
    #[error("cluster {cluster}: namespace {namespace} cannot be used for the sample: {held}")]
    NotOurs {
        /// Where.
        cluster: String,
        /// Which.
        namespace: String,
        /// What shows it.
        held: String,
    },
    /// Something there is somebody else's.
    #[error(transparent)]
    Foreign(#[from] Refusal),
    /// Nothing injects a sidecar there.
    #[error("cluster {cluster}: istiod does not say which proxy image it injects")]
    NoImage {
        /// Where.
        cluster: String,
    },
}

impl From<Unwritten> for Error {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Cluster(error) => Self::Cluster(error),
            Unwritten::Foreign(refusal) => Self::Foreign(refusal),
        }
    }
}

impl Error {
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::NotOurs { .. } | Self::Foreign(_) => Severity::Refused,
            Self::Cluster(cluster::Error::NotInTime { .. }) => Severity::NotInTime,
            _ => Severity::Failed,
        }
    }

    /// What to do about it.
    pub(crate) fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotOurs { .. } => vec![Hint::note("choose another namespace with --namespace")],
            Self::Foreign(refusal) => refusal.hints.clone(),
            Self::NoImage { cluster } => vec![Hint::join_again([cluster])],
            _ => vec![],
        }
    }
}

/// What to put in.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The namespace.
    pub namespace: String,
    /// The server's image; `{version}` in it is replaced. Else the proxy's own.
    pub server: Option<String>,
    /// The client's image. Else the proxy's own, which can be asked from outside.
    pub client: Option<String>,
    /// The control plane's namespace.
    pub istio: String,
}

/// What one cluster has of the sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct State {
    /// The cluster.
    pub(crate) cluster: String,
    /// Its server's version, if it has one.
    pub(crate) version: Option<String>,
    /// Whether server and client are available.
    pub(crate) ready: bool,
}

/// What one cluster's client was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Called {
    /// Where the client is.
    pub(crate) from: String,
    /// How often which version answered.
    pub(crate) answers: BTreeMap<String, usize>,
    /// How often something else came back, and what.
    pub(crate) others: BTreeMap<String, usize>,
}

impl Sample {
    fn ns(&self) -> Ref {
        Ref::cluster(&Kind::NAMESPACE, self.namespace.as_str())
    }

    /// Puts server and client into a cluster, and waits until both are available.
    pub(crate) async fn up(
        &self,
        cluster: &Cluster,
        owner: &Owner,
        texts: &Texts,
        version: &str,
        deadline: Deadline,
    ) -> Result<(), Error> {
        self.refuse_strangers(cluster, owner).await?;
        let server = self
            .server
            .as_ref()
            .map(|i| i.replace("{version}", version));
        let image = match (&server, &self.client) {
            (Some(_), Some(_)) => String::new(),
            _ => self.proxy_image(cluster).await?,
        };
        let facts = json!({"namespace": self.namespace, "version": version, "image": image,
            "cluster": cluster.name(), "server_image": server.unwrap_or_default(),
            "client_image": self.client.clone().unwrap_or_default()});
        for object in texts.render("sample", &facts)? {
            write(cluster, owner, &object).await?;
        }
        for name in [format!("helloworld-{version}"), "sleep".to_owned()] {
            let deployment = Ref::namespaced(&Kind::DEPLOYMENT, self.namespace.as_str(), name);
            wait::available(cluster, &deployment, deadline, |_: &str| ()).await?;
        }
        Ok(())
    }

    async fn proxy_image(&self, cluster: &Cluster) -> Result<String, Error> {
        let maps = cluster
            .list(&Kind::CONFIG_MAP, Some(&self.istio), Some("release=istio"))
            .await?;
        let place = Ref::namespaced(
            &Kind::CONFIG_MAP,
            self.istio.as_str(),
            "istio-sidecar-injector",
        );
        let named = cluster.find(&place).await?;
        let all = named.iter().chain(&maps);
        let all: Vec<_> = all
            .map(|map| json!({"kind": "ConfigMap", "data": map["data"]}))
            .collect();
        probe::proxy_image(all.iter()).ok_or_else(|| Error::NoImage {
            cluster: cluster.name().to_string(),
        })
    }

    /// A namespace that is not ours, or holds what is not ours, is left alone.
    pub(crate) async fn refuse_strangers(
        &self,
        cluster: &Cluster,
        owner: &Owner,
    ) -> Result<(), Error> {
        let Some(found) = cluster.find(&self.ns()).await? else {
            return Ok(());
        };
        let held = match owner.has_made(&found) {
            false => Some("meshlink did not make it".to_owned()),
            true => self
                .strangers(cluster, owner)
                .await?
                .first()
                .map(|first| format!("it holds {first}")),
        };
        match held {
            None => Ok(()),
            Some(held) => Err(Error::NotOurs {
                cluster: cluster.name().to_string(),
                namespace: self.namespace.clone(),
                held,
            }),
        }
    }

    /// What somebody else has put there, as far as it would be missed. Pods count by who made them.
    async fn strangers(&self, cluster: &Cluster, owner: &Owner) -> Result<Vec<String>, Error> {
        let mut all = vec![];
        for kind in WORKLOADS {
            let list = cluster.names(kind, Some(&self.namespace), None).await?;
            let foreign = list.iter().filter(|o| is_stranger(o, owner, &[]));
            all.extend(foreign.map(|o| {
                let name = o["metadata"]["name"].as_str().unwrap_or_default();
                format!("{} {name}", kind.kind)
            }));
        }
        Ok(all)
    }

    /// Takes out what `up` put in; says what of others' stays, and the namespace with it.
    pub(crate) async fn down(
        &self,
        cluster: &Cluster,
        owner: &Owner,
        deadline: Deadline,
    ) -> Result<Option<String>, Error> {
        let namespace = self.ns();
        let Some(found) = cluster.find(&namespace).await? else {
            return Ok(None);
        };
        let strangers = match owner.has_made(&found) {
            true => self.strangers(cluster, owner).await?,
            false => vec!["what meshlink did not make".into()],
        };
        if strangers.is_empty() {
            cluster
                .delete(&namespace, &Delete::background().only(&found))
                .await?;
            wait::until(cluster, &namespace, deadline, wait::gone, |_: &str| ()).await?;
            return Ok(None);
        }
        let (key, value) = access::MANAGED_BY;
        let label = format!("{key}={value}");
        for kind in [&Kind::DEPLOYMENT, &Kind::SERVICE, &Kind::CONFIG_MAP] {
            let ours = cluster
                .names(kind, Some(&self.namespace), Some(&label))
                .await?;
            for object in ours.iter().filter(|o| owner.whose(o).is_none()) {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let place = Ref::namespaced(kind, self.namespace.as_str(), name);
                cluster
                    .delete(&place, &Delete::background().only(object))
                    .await?;
            }
        }
        Ok(Some(strangers.join(", ")))
    }

    /// What a cluster has of it.
    pub(crate) async fn state(&self, cluster: &Cluster) -> Result<State, Error> {
        let (key, value) = access::MANAGED_BY;
        let label = format!("{key}={value}");
        let all = cluster
            .list(&Kind::DEPLOYMENT, Some(&self.namespace), Some(&label))
            .await?;
        let version = all.iter().find_map(|d| {
            d["metadata"]["name"]
                .as_str()?
                .strip_prefix("helloworld-")
                .map(str::to_owned)
        });
        let available = |d: &Value| {
            let conditions = d["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions = conditions.filter(|c| c["type"] == "Available");
            conditions.any(|c| c["status"] == "True")
        };
        Ok(State {
            cluster: cluster.name().to_string(),
            version,
            ready: all.len() == 2 && all.iter().all(available),
        })
    }

    /// Asks the server from a cluster's client so many times.
    pub(crate) async fn call(&self, cluster: &Cluster, times: usize) -> Result<Called, Error> {
        let mut called = Called {
            from: cluster.name().to_string(),
            answers: BTreeMap::new(),
            others: BTreeMap::new(),
        };
        let pods = cluster
            .list(&Kind::POD, Some(&self.namespace), Some("app=sleep"))
            .await?;
        let Some(pod) = object::running(&pods).into_iter().next() else {
            called.others.insert("no client runs there".into(), times);
            return Ok(called);
        };
        let mut port = cluster.open_port(&self.namespace, &pod, ASK).await?;
        for _ in 0..times {
            let answer = port.send(Request::new(Full::default())).await?;
            let body = String::from_utf8_lossy(&answer.body);
            let (of, said) = match version(&body).filter(|_| answer.status == StatusCode::OK) {
                Some(version) => (&mut called.answers, version),
                None => {
                    let said: String = body.trim().chars().take(120).collect();
                    (
                        &mut called.others,
                        format!("{} {said}", answer.status.as_u16()),
                    )
                }
            };
            *of.entry(said).or_default() += 1;
        }
        Ok(called)
    }
}

/// The version in `Hello version: v1, instance: …`.
fn version(body: &str) -> Option<String> {
    let rest = body.trim().strip_prefix("Hello version: ")?;
    rest.split(',').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_greeting() {
        let greeting = "Hello version: v1, instance: eks-1\n";
        assert_eq!(version(greeting).as_deref(), Some("v1"));
        assert_eq!(version("no healthy upstream"), None);
    }

    #[test]
    fn images_are_the_proxys_unless_others_are_named() {
        let of = |server: &str, client: &str| {
            let facts = json!({"namespace": "sample", "version": "v1", "image": "h/p:1",
                "cluster": "eks-1", "server_image": server, "client_image": client});
            let objects = Texts::default().render("sample", &facts).unwrap();
            let kinds: Vec<_> = objects.iter().map(|o| o["kind"].clone()).collect();
            assert_eq!(
                kinds,
                [
                    "Namespace",
                    "Service",
                    "ConfigMap",
                    "Deployment",
                    "Deployment"
                ]
            );
            let (key, value) = access::MANAGED_BY;
            let labelled = |o: &Value| o["metadata"]["labels"][key] == value;
            assert!(objects.iter().all(labelled), "everything is labelled");
            [3, 4].map(|i| {
                let container = &objects[i]["spec"]["template"]["spec"]["containers"][0];
                (container["image"].clone(), container["command"][0].clone())
            })
        };
        let envoy = (json!("h/p:1"), json!("/usr/local/bin/envoy"));
        assert_eq!(of("", ""), [envoy.clone(), envoy.clone()]);
        let others = [
            (json!("r/hello"), Value::Null),
            (json!("r/curl"), json!("sleep")),
        ];
        assert_eq!(of("r/hello", "r/curl"), others);
    }
}
