//! What every member should hold, as objects: rendered from charts and from our own texts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{
    chart::{self, Capabilities, Fetched, Rendered},
    cluster::{Kind, Ref, access, lease},
    digest::sha256_hex,
    manifest::{self, Texts},
    mutex,
    name::ClusterName,
    observe::{CLAIM, Layout, Observed, RECORD, RENEWER, Seen, label_digest},
    plan::{exposure, readers},
    probe,
    spec::{GATEWAY_PORT, Member, Mesh},
};

/// The three charts of a join.
#[derive(Debug, Clone)]
pub(crate) struct Charts {
    /// CRDs.
    pub base: Arc<Fetched>,
    /// The control plane.
    pub istiod: Arc<Fetched>,
    /// The east-west gateway.
    pub gateway: Arc<Fetched>,
    /// What they have been rendered to.
    pub rendered: Renders,
}

/// What charts have been rendered to, by all that bears on it: the second look at a mesh asks for the same as the first,
/// and members differ in few of their releases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Renders(Arc<Mutex<HashMap<String, Arc<Rendered>>>>);

impl Renders {
    fn of(
        &self,
        chart: &Fetched,
        values: &Value,
        release: &chart::Release<'_>,
        capabilities: &Capabilities,
    ) -> Result<Arc<Rendered>, chart::Error> {
        let key = format!("{}\n{release:?}\n{capabilities:?}\n{values}", chart.sha256);
        let known = || mutex::lock(&self.0);
        let key = sha256_hex(key.as_bytes());
        if let Some(rendered) = known().get(&key) {
            return Ok(rendered.clone());
        }
        let rendered = chart::render(&chart.chart, values, release, capabilities)?;
        let rendered = Arc::new(rendered);
        known().insert(key, rendered.clone());
        Ok(rendered)
    }
}

/// What the owner and the cloud add to the charts' values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Additions {
    /// For istiod, in every member.
    pub istiod: Value,
    /// For the gateway, in every member.
    pub gateway: Value,
    /// For one member's gateway Service: class and annotations the cloud asks for.
    pub exposure: BTreeMap<ClusterName, Value>,
}

/// What every member should hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desired {
    /// By member.
    pub clusters: BTreeMap<ClusterName, Wanted>,
}

/// What one member should hold.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Namespaces of the control plane and the gateway.
    pub namespaces: Vec<Value>,
    /// The base release.
    pub base: Release,
    /// The istiod release.
    pub istiod: Release,
    /// The gateway release.
    pub gateway: Release,
    /// Why its load balancer would not be as the mesh file asks for.
    pub unexposed: Option<String>,
    /// What opens 15443.
    pub expose: Vec<Value>,
    /// Reader accounts, by the peer that uses them.
    pub readers: BTreeMap<ClusterName, Vec<Value>>,
    /// What renews here what this member uses; empty where nothing does.
    pub renewer: Vec<Value>,
    /// Everything that a join or a proof makes here under names of its own.
    pub own: Vec<Ref>,
}

/// A Helm release as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The chart it is made from.
    pub chart: Arc<Fetched>,
    /// The values it is made with.
    pub values: Value,
    /// What the chart renders to, in Helm's order.
    pub rendered: Arc<Rendered>,
    /// Digest of chart and values: equal digests render equal manifests. None where somebody else gave it
    /// values: they are theirs to keep, so they are read and compared every time.
    pub digest: Option<String>,
}

/// What kept the desired state from being worked out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A chart did not render.
    #[error("cluster {cluster}: chart {chart} does not render")]
    Render {
        /// The member.
        cluster: ClusterName,
        /// The chart.
        chart: String,
        /// Why not.
        #[source]
        source: Box<chart::Error>,
    },
    /// One of our own texts did not render.
    #[error("cluster {cluster}: meshlink's own objects do not render")]
    Text {
        /// The member.
        cluster: ClusterName,
        /// Why not.
        #[source]
        source: manifest::Error,
    },
}

impl Release {
    /// The rendered objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Value> {
        self.rendered.manifests.iter().map(|m| &m.object)
    }

    /// The one Service of the release.
    pub(crate) fn service(&self) -> Option<&Value> {
        self.objects().find(|o| o["kind"] == "Service")
    }
}

impl Wanted {
    /// References to every object, to read them as they are.
    pub(crate) fn refs(&self) -> Vec<Ref> {
        let releases = [&self.base, &self.istiod, &self.gateway];
        let rendered = releases.into_iter().flat_map(|r| {
            r.objects()
                .filter_map(|object| reference(object, &r.namespace))
        });
        let own = self
            .namespaces
            .iter()
            .chain(&self.expose)
            .chain(self.readers.values().flatten())
            .chain(&self.renewer);
        let own = own.filter_map(Ref::of).chain(self.own.iter().cloned());
        let mut all: Vec<_> = rendered.chain(own).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// An object's reference; namespaced kinds that name none live in the release's namespace.
pub(crate) fn reference(object: &Value, namespace: &str) -> Option<Ref> {
    let mut reference = Ref::of(object)?;
    if reference.namespace.is_none() && reference.kind.place().is_none_or(|p| p.namespaced) {
        reference.namespace = Some(namespace.to_owned());
    }
    Some(reference)
}

/// Works out what every member should hold.
pub(crate) fn desire(
    mesh: &Mesh,
    charts: &BTreeMap<ClusterName, Charts>,
    additions: &Additions,
    texts: &Texts,
    observed: &Observed,
) -> Result<Desired, Error> {
    let mut desired = Desired::default();
    for member in &mesh.clusters {
        // What a member should hold hangs on what it is: there are charts for those that were read.
        let Some(charts) = charts.get(&member.name) else {
            continue;
        };
        let seen = observed
            .clusters
            .get(&member.name)
            .cloned()
            .unwrap_or_default();
        let wanted = Renderer {
            mesh,
            charts,
            additions,
            texts,
            member,
            seen: &seen,
            observed,
        }
        .wanted()?;
        desired.clusters.insert(member.name.clone(), wanted);
    }
    Ok(desired)
}

/// Everything that bears on one member.
struct Renderer<'a> {
    mesh: &'a Mesh,
    charts: &'a Charts,
    additions: &'a Additions,
    texts: &'a Texts,
    member: &'a Member,
    seen: &'a Seen,
    observed: &'a Observed,
}

impl Renderer<'_> {
    fn wanted(&self) -> Result<Wanted, Error> {
        let istio = &self.mesh.istio.namespace;
        let gateway = &self.mesh.gateway;
        let mut wanted = Wanted {
            namespaces: self.text(
                "namespaces",
                &json!({"istio_namespace": istio, "gateway_namespace": gateway.namespace,
                    "network": self.member.network}),
            )?,
            base: self.release(
                self.release_name("istio-base", "base"),
                istio,
                &self.charts.base,
                json!({}),
            )?,
            istiod: self.release(
                self.release_name("istiod", "istiod"),
                istio,
                &self.charts.istiod,
                self.istiod_values(),
            )?,
            gateway: self.release(
                &gateway.name,
                &gateway.namespace,
                &self.charts.gateway,
                self.gateway_values(),
            )?,
            unexposed: self.off_aws().err(),
            expose: self.text(
                "expose",
                &json!({"gateway_namespace": gateway.namespace, "hosts": gateway.hosts,
                    "gateway_selector": self.selector()}),
            )?,
            readers: readers::wanted(self.mesh, self.observed, &self.member.name),
            renewer: self.renewer()?,
            own: vec![],
        };
        let made = wanted
            .expose
            .iter()
            .chain(wanted.readers.values().flatten())
            .chain(&wanted.renewer);
        wanted.own = made.filter_map(Ref::of).chain(self.named()).collect();
        wanted.own.sort();
        wanted.own.dedup();
        Ok(wanted)
    }

    /// What is made on the way, by its name.
    fn named(&self) -> Vec<Ref> {
        let istio = self.mesh.istio.namespace.as_str();
        let peers = self.mesh.peers_of(&self.member.name);
        let record = self.seen.record.as_ref().map(|r| r.layout);
        let layout = record.unwrap_or_else(|| Layout::for_size(self.mesh.clusters.len()));
        let mut named = match layout {
            Layout::PerPeer => peers.map(access::remote_name).collect(),
            Layout::Packed => vec![access::packed_name(0)],
        };
        named.extend([CLAIM, RECORD].map(|map| Ref::namespaced(&Kind::CONFIG_MAP, istio, map)));
        named.push(Ref::cluster(&Kind::NAMESPACE, probe::NAMESPACE));
        // What there may be of another mesh file, and is taken away then.
        let peers = self.mesh.clusters.iter().map(|m| &m.name);
        let peers = peers.filter(|name| **name != self.member.name);
        named.extend(peers.flat_map(access::renewal_names));
        let mesh = self.mesh;
        let former = self
            .seen
            .readers
            .keys()
            .filter_map(|name| name.parse().ok());
        let former = former.filter(|name| !mesh.are_peers(&self.member.name, name));
        named.extend(former.flat_map(|name: ClusterName| access::account_names(&name)));
        let renewer = readers::renewer_names().into_iter();
        named.extend(renewer.filter(|name| name.kind != Kind::CRON_JOB));
        named
    }

    /// What renews in this member what it uses; nothing, unless the mesh asks for it.
    fn renewer(&self) -> Result<Vec<Value>, Error> {
        let Some(renewer) = &self.mesh.renewer else {
            return Ok(vec![]);
        };
        let facts = json!({"name": RENEWER, "namespace": self.mesh.istio.namespace, "image": renewer.image,
            "mesh": self.mesh.id, "member": self.member.name, "cluster": self.seen.uid,
            "lease": lease::NAME, "secrets": self.remote_secrets()});
        self.text("renewer", &facts)
    }

    /// The remote secrets that this member's istiod reads its peers by.
    fn remote_secrets(&self) -> Vec<String> {
        let peers = self.mesh.peers_of(&self.member.name);
        let record = self.seen.record.as_ref().map(|r| r.layout);
        match record.unwrap_or_else(|| Layout::for_size(self.mesh.clusters.len())) {
            Layout::PerPeer => peers.map(|peer| access::remote_name(peer).name).collect(),
            // As many as these peers can need, whatever stands in them.
            Layout::Packed => {
                let shards = 1 + self.mesh.clusters.len() / access::SHARD;
                (0..=shards).map(|n| access::packed_name(n).name).collect()
            }
        }
    }

    fn text(&self, name: &str, facts: &Value) -> Result<Vec<Value>, Error> {
        self.texts
            .render(name, facts)
            .map_err(|source| Error::Text {
                cluster: self.member.name.clone(),
                source,
            })
    }

    /// The gateway chart derives this label from its name.
    fn selector(&self) -> &str {
        let name = self.mesh.gateway.name.as_str();
        name.strip_prefix("istio-").unwrap_or(name)
    }

    /// What a release is called here: as somebody else has called it, where it is theirs.
    fn release_name<'n>(&'n self, usual: &'n str, chart: &str) -> &'n str {
        let found = self.seen.release(usual, chart);
        found.map_or(usual, |(name, _)| name)
    }

    /// Pods that were made when the cluster was called otherwise say so until they are made anew: an istiod that does not
    /// know that name gives them neither configuration nor certificates.
    fn aliased(&self) -> Option<Value> {
        let release = self.seen.release("istiod", "istiod").map(|(_, r)| r);
        let theirs = match release {
            Some(release) if release.digest.is_none() => Some(&release.config),
            Some(_) => None,
            None => self.seen.istiod.values.as_ref(),
        };
        let main = self.seen.main_istio(&self.mesh.istio.namespace)?;
        let called = main.cluster.as_deref()?;
        let name = self.member.name.as_str();
        if called == name {
            return None;
        }
        let all = theirs?["extraContainerArgs"].as_array();
        let mut all = all.cloned().unwrap_or_default();
        all.push(json!(format!("--clusterAliases={called}={name}")));
        Some(json!(all))
    }

    /// What meshlink sets on istiod. The two flags let a later change of root go without a restart.
    fn istiod_values(&self) -> Value {
        let ours = json!({
            "global": {
                "meshID": self.mesh.id,
                "network": self.member.network,
                "multiCluster": {"clusterName": self.member.name},
            },
            "meshConfig": {
                "trustDomain": self.mesh.trust_domain,
                "defaultConfig": {"proxyMetadata": {"PROXY_CONFIG_XDS_AGENT": "true"}},
            },
            "env": {"ISTIO_MULTIROOT_MESH": "true"},
        });
        let alias = self.aliased().unwrap_or_default();
        let ours = merge(ours, json!({"extraContainerArgs": alias}));
        merge(self.additions.istiod.clone(), ours)
    }

    /// What the gateway's Service says where AWS was not asked.
    fn off_aws(&self) -> Result<Value, String> {
        match self.additions.exposure.contains_key(&self.member.name) {
            true => Ok(Value::Null),
            false => exposure::values(&self.mesh.gateway, self.seen),
        }
    }

    /// What meshlink sets on the gateway. The chart's `networkGateway` would also open istiod's
    /// ports 15012 and 15017 to the world, so the same is said here with 15443 alone; and its
    /// readiness is asked for every second, where the injected default is every fifteen.
    fn gateway_values(&self) -> Value {
        let gateway = &self.mesh.gateway;
        let mut ours = json!({
            "name": gateway.name,
            "labels": {
                "app": gateway.name,
                "istio": self.selector(),
                "topology.istio.io/network": self.member.network,
            },
            "env": {"ISTIO_META_REQUESTED_NETWORK_VIEW": self.member.network},
            "service": {
                "type": "LoadBalancer",
                "annotations": gateway.annotations,
                "ports": [{"name": "tls", "port": GATEWAY_PORT, "targetPort": GATEWAY_PORT}],
            },
            "readinessProbe": {
                "httpGet": {"path": "/healthz/ready", "port": 15021, "scheme": "HTTP"},
                "initialDelaySeconds": 0, "periodSeconds": 1, "timeoutSeconds": 3,
                "successThreshold": 1, "failureThreshold": 30,
            },
        });
        let cloud = self.additions.exposure.get(&self.member.name);
        // On AWS they are in what was derived, where they apply.
        if cloud.is_none() && !gateway.source_ranges.is_empty() {
            ours["service"]["loadBalancerSourceRanges"] = json!(gateway.source_ranges);
        }
        let elsewhere = || self.off_aws().unwrap_or_default();
        let cloud = cloud.cloned().unwrap_or_else(elsewhere);
        merge(merge(cloud, self.additions.gateway.clone()), ours)
    }

    fn release(
        &self,
        name: &str,
        namespace: &str,
        chart: &Arc<Fetched>,
        ours: Value,
    ) -> Result<Release, Error> {
        let before = self.seen.releases.get(name);
        // A release somebody else made keeps the values they gave it, except where ours must hold.
        let theirs = before
            .filter(|r| r.digest.is_none())
            .map(|r| r.config.clone());
        // So does an istiod that no release holds, as far as it says what it was given.
        let unreleased = || {
            let found = self.seen.istiod.values.clone();
            found.filter(|_| before.is_none() && name == "istiod")
        };
        let theirs = theirs.or_else(unreleased);
        let is_ours = theirs.is_none();
        let values = merge(theirs.unwrap_or_default(), ours);
        let is_upgrade = before.is_some_and(|r| r.revision > 1 || r.is_deployed());
        let release = chart::Release {
            name,
            namespace,
            revision: 1,
            is_upgrade,
        };
        let capabilities = Capabilities {
            kube_version: self.seen.kubernetes.clone(),
            ..Capabilities::default()
        };
        let renders = &self.charts.rendered;
        let rendered = renders
            .of(chart, &values, &release, &capabilities)
            .map_err(|e| {
                let chart = chart.chart.metadata.name.clone();
                Error::Render {
                    cluster: self.member.name.clone(),
                    chart,
                    source: Box::new(e),
                }
            })?;
        Ok(Release {
            name: name.into(),
            namespace: namespace.into(),
            digest: is_ours.then(|| {
                let made_from = format!("{}\n{values}", chart.sha256);
                label_digest(&sha256_hex(made_from.as_bytes()))
            }),
            chart: chart.clone(),
            values,
            rendered,
        })
    }
}

/// `over` on top of `under`: objects by key, everything else replaced.
pub(crate) fn merge(under: Value, over: Value) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) => {
            for (key, value) in over {
                let below = under.remove(&key).unwrap_or_default();
                under.insert(key, merge(below, value));
            }
            Value::Object(under)
        }
        (under, Value::Null) => under,
        (_, over) => over,
    }
}

/// The kinds whose objects `meshlink` never takes away unless asked: they hold users' data.
pub(crate) fn is_crd(object: &Value) -> bool {
    Kind::of(object).is_some_and(|k| k == Kind::CUSTOM_RESOURCE_DEFINITION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_wins_and_what_we_do_not_set_is_kept() {
        let users = json!({"global": {"hub": "h", "network": "theirs"}, "replicaCount": 3});
        let ours = json!({"global": {"network": "ours"}});
        let want = json!({"global": {"hub": "h", "network": "ours"}, "replicaCount": 3});
        assert_eq!(merge(users, ours), want);
        assert_eq!(merge(Value::Null, json!({"a": 1})), json!({"a": 1}));
    }

    #[test]
    fn namespaced_objects_without_a_namespace_live_in_the_release() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "x"}});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
        assert_eq!(reference(&role, "ns").unwrap().namespace, None);
        assert_eq!(
            reference(&service, "ns").unwrap().namespace.as_deref(),
            Some("ns")
        );
    }
}
