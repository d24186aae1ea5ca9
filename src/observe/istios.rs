//! Every control plane of Istio in a cluster, whoever installed it and wherever it is: what it is, by what it leaves there.
//!
//! An istiod is found by its Deployment's label, and by the webhooks through which it puts proxies into pods: one that a cloud
//! runs outside of the cluster has nothing else here.

use std::{collections::BTreeMap, fmt, sync::Arc};

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Lens, ReleaseSeen, Seen, facts};
use crate::{
    cluster::{self, Cluster, Kind, Ref},
    owner, pki,
};

/// The label of every istiod, by charts, istioctl and operators alike.
const ISTIOD: &str = "app=istiod";
/// What the names of the webhooks end with that put proxies into pods.
const INJECTOR: &str = "sidecar-injector.istio.io";
/// The labels by which a control plane and a tag for it are told apart.
const REVISION: &str = "istio.io/rev";
const TAG: &str = "istio.io/tag";
/// What a control plane without a revision is called.
pub(crate) const DEFAULT: &str = "default";

/// One control plane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct IstioSeen {
    /// What it was found by: its Deployment, else a webhook configuration.
    pub object: Option<Ref>,
    /// The namespace it is in; empty for one that is not in the cluster.
    pub namespace: String,
    /// Its revision, `default` without one.
    pub revision: String,
    /// The tags that lead to it.
    pub tags: Vec<String>,
    /// What runs.
    pub version: Option<Version>,
    /// What it calls its mesh.
    pub mesh: Option<String>,
    /// What it calls its cluster.
    pub cluster: Option<String>,
    /// What it calls the network of its pods.
    pub network: Option<String>,
    /// What its certificates name.
    pub trust_domain: Option<String>,
    /// The roots that it hands out, by their public keys.
    pub roots: Vec<String>,
    /// Who manages it, in words.
    pub manager: String,
    /// That one keeps it as it says, whatever somebody else changes.
    pub is_kept: bool,
}

impl fmt::Display for IstioSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object.as_ref().map(ToString::to_string);
        write!(f, "{}", object.unwrap_or_default())?;
        let version = self.version.as_ref().map(|v| format!("istiod {v}"));
        let named =
            |what: &str, text: &Option<String>| text.as_ref().map(|text| format!("{what} {text}"));
        let roots: Vec<_> = self.roots.iter().map(|root| pki::short(root)).collect();
        let facts = [
            version,
            (self.revision != DEFAULT).then(|| format!("revision {}", self.revision)),
            (!self.tags.is_empty()).then(|| format!("tags {}", self.tags.join(", "))),
            named("mesh", &self.mesh),
            named("cluster", &self.cluster),
            named("network", &self.network),
            named("trust domain", &self.trust_domain),
            (!roots.is_empty()).then(|| format!("root {}", roots.join(", "))),
            Some(format!("managed by {}", self.manager)),
        ];
        let facts: Vec<_> = facts.into_iter().flatten().collect();
        write!(f, " ({})", facts.join("; "))
    }
}

impl IstioSeen {
    /// Whether it is the one that a member of the mesh would have in this namespace, or what is left of it.
    pub(crate) fn is_main(&self, istio: &str) -> bool {
        let object = self.object.as_ref();
        let is_another = object.is_some_and(|o| self.is_deployed() && o.name != "istiod");
        self.namespace == istio && self.revision == DEFAULT && !is_another
    }

    /// Whether its Deployment is in the cluster.
    pub(crate) fn is_deployed(&self) -> bool {
        let object = self.object.as_ref();
        object.is_some_and(|o| o.kind == Kind::DEPLOYMENT)
    }
}

impl Seen {
    /// The control planes besides the one that a member has, whose namespace this is.
    pub(crate) fn other_istios(&self, istio: &str) -> impl Iterator<Item = &IstioSeen> {
        let all = self.istios.iter();
        all.filter(move |other| !other.is_main(istio))
    }

    /// The release of a chart in the control plane's namespace: under the name that a join gives it, else as somebody else
    /// has called it.
    pub(crate) fn release(&self, usual: &str, chart: &str) -> Option<(&str, &ReleaseSeen)> {
        let named = self.releases.get_key_value(usual);
        let theirs = || self.releases.iter().find(|(_, r)| r.chart == chart);
        let found = named.or_else(theirs);
        found.map(|(name, release)| (name.as_str(), release))
    }

    /// What is known of the control plane that a member has, whose namespace this is.
    pub(crate) fn main_istio(&self, istio: &str) -> Option<&IstioSeen> {
        let mut all = self.istios.iter();
        all.find(|main| main.is_main(istio) && main.is_deployed())
    }
}

/// Reads all there are. Who may not look is told of none: a join asks for these rights first.
pub(super) async fn read(
    lens: &Lens<'_>,
    cluster: &Cluster,
) -> Result<Vec<IstioSeen>, cluster::Error> {
    let hooks = lens.all(cluster, &Kind::MUTATING_WEBHOOK_CONFIGURATION, None);
    let deployments = lens.listed(cluster, &Kind::DEPLOYMENT, None, Some(ISTIOD));
    let (hooks, deployments) = tokio::join!(hooks, deployments);
    let (hooks, deployments) = (allowed(hooks)?, allowed(deployments)?);
    let mut all = found(&deployments, &hooks);
    for istio in &mut all {
        // What stands behind a webhook that nobody took away is nothing.
        if !istio.namespace.is_empty() {
            let maps = lens.all(cluster, &Kind::CONFIG_MAP, Some(&istio.namespace));
            istio.learn(&allowed(maps.await)?);
        }
    }
    let mut there = vec![];
    for istio in all {
        if istio.is_served(cluster, &hooks).await? {
            there.push(istio);
        }
    }
    Ok(there)
}

fn allowed(
    list: Result<Arc<Vec<Value>>, cluster::Error>,
) -> Result<Arc<Vec<Value>>, cluster::Error> {
    match list {
        Err(error) if error.code() == Some(403) => Ok(Arc::default()),
        list => list,
    }
}

/// By Deployments, and by the webhooks that lead to none of them.
fn found(deployments: &[Value], hooks: &[Value]) -> Vec<IstioSeen> {
    let mut all: Vec<_> = deployments.iter().filter_map(by_deployment).collect();
    // A configuration of a tag leads to what another one leads to.
    let (tags, own): (Vec<_>, Vec<_>) = hooks
        .iter()
        .filter(|hooks| injects(hooks).next().is_some())
        .partition(|hooks| !hooks["metadata"]["labels"][TAG].is_null());
    for hooks in own.iter().chain(&tags) {
        let Some(client) = injects(hooks).next() else {
            continue;
        };
        let namespace = client["service"]["namespace"].as_str().unwrap_or_default();
        let labels = &hooks["metadata"]["labels"];
        let revision = labels[REVISION].as_str().unwrap_or(DEFAULT);
        let mut same = all.iter_mut();
        let same = same.find(|i| i.namespace == namespace && i.revision == revision);
        let istio = match same {
            Some(istio) => istio,
            None => {
                all.push(by_webhook(hooks, namespace, revision));
                match all.last_mut() {
                    Some(istio) => istio,
                    None => continue,
                }
            }
        };
        istio.tags.extend(labels[TAG].as_str().map(str::to_owned));
    }
    for istio in &mut all {
        istio.tags.sort();
        istio.tags.dedup();
    }
    all
}

/// Where the webhooks lead that put proxies into pods.
fn injects(hooks: &Value) -> impl Iterator<Item = &Value> {
    let all = hooks["webhooks"].as_array().into_iter().flatten();
    let named = |hook: &&Value| hook["name"].as_str().is_some_and(|n| n.ends_with(INJECTOR));
    all.filter(named).map(|hook| &hook["clientConfig"])
}

fn by_deployment(deployment: &Value) -> Option<IstioSeen> {
    let metadata = &deployment["metadata"];
    let template = &deployment["spec"]["template"];
    let revision = metadata["labels"][REVISION].as_str();
    let mut object = Ref::of(deployment);
    if object.is_none() {
        // Items of a list may not say what they are.
        let name = metadata["name"].as_str()?;
        object = Some(Ref::namespaced(
            &Kind::DEPLOYMENT,
            metadata["namespace"].as_str()?,
            name,
        ));
    }
    Some(IstioSeen {
        object,
        namespace: metadata["namespace"].as_str()?.to_owned(),
        revision: revision.unwrap_or(DEFAULT).to_owned(),
        version: facts::istio_version(template),
        cluster: facts::variable(template, None, "CLUSTER_ID").map(str::to_owned),
        manager: manager(deployment),
        is_kept: is_kept(deployment),
        ..IstioSeen::default()
    })
}

fn by_webhook(hooks: &Value, namespace: &str, revision: &str) -> IstioSeen {
    let name = hooks["metadata"]["name"].as_str().unwrap_or_default();
    let url = injects(hooks).find_map(|client| client["url"].as_str());
    IstioSeen {
        object: Some(Ref::cluster(&Kind::MUTATING_WEBHOOK_CONFIGURATION, name)),
        namespace: namespace.to_owned(),
        revision: revision.to_owned(),
        manager: match url {
            Some(url) if url.contains(".googleapis.com") => "Google's Cloud Service Mesh".into(),
            Some(_) => "somebody outside of the cluster".into(),
            None => manager(hooks),
        },
        ..IstioSeen::default()
    }
}

/// Whether a tool or a cloud would undo what somebody else changes.
fn is_kept(object: &Value) -> bool {
    let by_tool = owner::tool(object).is_some_and(|tool| tool != "istioctl");
    let clouds = [
        "the Istio add-on of AKS",
        "the operator of OpenShift Service Mesh 2",
        "an EKS add-on",
    ];
    by_tool || clouds.contains(&manager(object).as_str())
}

/// Who manages an istiod, by the marks that such tools leave and by the namespaces of clouds.
fn manager(object: &Value) -> String {
    let metadata = &object["metadata"];
    let fields = metadata["managedFields"].as_array().into_iter().flatten();
    let mut managers = fields.filter_map(|f| f["manager"].as_str());
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let kinds: Vec<_> = owners.filter_map(|o| o["kind"].as_str()).collect();
    let release = metadata["annotations"]["meta.helm.sh/release-name"].as_str();
    match metadata["namespace"].as_str() {
        Some("aks-istio-system") => return "the Istio add-on of AKS".into(),
        _ if kinds.contains(&"ServiceMeshControlPlane") => {
            return "the operator of OpenShift Service Mesh 2".into();
        }
        _ if managers.any(|m| m == "eks") => return "an EKS add-on".into(),
        _ => {}
    }
    let tool = owner::tool(object).map(str::to_owned);
    tool.or_else(|| release.map(|release| format!("Helm as release {release}")))
        .unwrap_or_else(|| owner::maker(object))
}

impl IstioSeen {
    /// What its ConfigMaps say.
    fn learn(&mut self, maps: &[Value]) {
        let of = |name: &str| {
            let suffix = match self.revision.as_str() {
                DEFAULT => String::new(),
                revision => format!("-{revision}"),
            };
            facts::named(maps, &format!("{name}{suffix}"))
        };
        let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let mesh = of("istio").and_then(|map| map["data"]["mesh"].as_str());
        let mesh: Value = mesh
            .and_then(|text| serde_saphyr::from_str(text).ok())
            .unwrap_or_default();
        let values = of("istio-sidecar-injector").and_then(|map| map["data"]["values"].as_str());
        let values: Value = values
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let global = &values["global"];
        self.trust_domain = text(&mesh["trustDomain"]);
        self.mesh = text(&global["meshID"]).or_else(|| text(&mesh["defaultConfig"]["meshId"]));
        self.network = text(&global["network"]);
        let named = text(&global["multiCluster"]["clusterName"]);
        self.cluster = self.cluster.take().filter(|c| !c.is_empty()).or(named);
        let roots = facts::named(maps, facts::ROOTS);
        self.roots = roots.map(facts::published_roots).unwrap_or_default();
    }

    /// A webhook whose Service is gone is what an uninstallation left.
    async fn is_served(&self, cluster: &Cluster, hooks: &[Value]) -> Result<bool, cluster::Error> {
        let Some(object) = self.object.as_ref() else {
            return Ok(false);
        };
        if object.kind == Kind::DEPLOYMENT || self.namespace.is_empty() {
            return Ok(true);
        }
        let of = facts::named(hooks, &object.name);
        let service = of.and_then(|hooks| injects(hooks).next());
        let Some(name) = service.and_then(|client| client["service"]["name"].as_str()) else {
            return Ok(true);
        };
        let service = Ref::namespaced(&Kind::SERVICE, self.namespace.as_str(), name);
        match cluster.find(&service).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.code() == Some(403) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Who writes a Secret again when somebody else has changed it.
pub(super) fn keeper(secret: &Value) -> Option<String> {
    let metadata = &secret["metadata"];
    let controller = Ref::controller(secret).map(|owner| owner.to_string());
    let issued = metadata["annotations"]["cert-manager.io/certificate-name"].as_str();
    let issued = issued.map(|name| format!("cert-manager, for Certificate {name}"));
    controller.or(issued)
}

/// The values an istiod was installed with, as its chart writes them down beside it; none where it does not.
pub(super) fn values(maps: &[Value]) -> Option<Value> {
    let map = facts::named(maps, "values")?;
    let values: BTreeMap<String, Value> =
        serde_json::from_str(map["data"]["original-values"].as_str()?).ok()?;
    // Nulls are what nobody set.
    let set = values.into_iter().filter(|(_, value)| !value.is_null());
    Some(Value::Object(set.collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(name: &str, namespace: &str, revision: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace,
                "labels": {"app": "istiod", REVISION: revision}},
            "spec": {"template": {"spec": {"containers": [{"name": "discovery", "image": "x/pilot:1.30.2",
                "env": [{"name": "CLUSTER_ID", "value": "Kubernetes"}]}]}}}})
    }

    fn hooks(name: &str, labels: Value, client: Value) -> Value {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name, "labels": labels},
            "webhooks": [{"name": format!("rev.namespace.{INJECTOR}"), "clientConfig": client}]})
    }

    fn service(namespace: &str) -> Value {
        json!({"service": {"name": "istiod", "namespace": namespace}})
    }

    #[test]
    fn every_control_plane_is_one_whatever_leads_to_it() {
        let mut by_istioctl = deployment("istiod-canary", "istio-system", "canary");
        by_istioctl["metadata"]["labels"]["install.operator.istio.io/owning-resource"] =
            json!("unknown");
        let mut by_helm = deployment("istiod", "istio-control", DEFAULT);
        by_helm["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "pilot"});
        let mut by_sail = deployment("istiod-blue", "sail", "blue");
        by_sail["metadata"]["ownerReferences"] = json!([{"kind": "IstioRevision"}]);
        let mut of_aks = deployment("istiod-asm-1-28", "aks-istio-system", "asm-1-28");
        of_aks["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("Helm");
        let all = found(
            &[by_istioctl, by_helm, by_sail, of_aks],
            &[
                hooks(
                    "x-canary",
                    json!({REVISION: "canary"}),
                    service("istio-system"),
                ),
                hooks(
                    "istio-revision-tag-prod",
                    json!({REVISION: "canary", TAG: "prod"}),
                    service("istio-system"),
                ),
                hooks("x", json!({REVISION: DEFAULT}), service("istio-control")),
                hooks(
                    "managed",
                    json!({REVISION: "asm-managed"}),
                    json!({"url": "https://meshconfig.googleapis.com/x"}),
                ),
                json!({"metadata": {"name": "other"}, "webhooks": [{"name": "pods.example.org"}]}),
            ],
        );
        let told: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "Deployment istio-system/istiod-canary (istiod 1.30.2; revision canary; tags prod; cluster Kubernetes; managed by istioctl)",
                "Deployment istio-control/istiod (istiod 1.30.2; cluster Kubernetes; managed by Helm as release pilot)",
                "Deployment sail/istiod-blue (istiod 1.30.2; revision blue; cluster Kubernetes; managed by the Sail operator)",
                "Deployment aks-istio-system/istiod-asm-1-28 (istiod 1.30.2; revision asm-1-28; cluster Kubernetes; managed by the Istio add-on of AKS)",
                "MutatingWebhookConfiguration managed (revision asm-managed; managed by Google's Cloud Service Mesh)",
            ]
        );
        assert!(all[1].is_main("istio-control") && !all[0].is_main("istio-system"));
    }

    #[test]
    fn what_it_calls_itself_stands_in_its_config_maps() {
        let mut all = found(&[deployment("istiod-b", "n", "b")], &[]);
        let map = |name: &str, data: Value| json!({"metadata": {"name": name}, "data": data});
        all[0].learn(&[
            map("istio", json!({"mesh": "trustDomain: other.example\n"})),
            map(
                "istio-b",
                json!({"mesh": "trustDomain: example.org\ndefaultConfig: {meshId: of-proxies}\n"}),
            ),
            map(
                "istio-sidecar-injector-b",
                json!({"values": r#"{"global": {"network": "n1", "meshID": ""}}"#}),
            ),
        ]);
        let told = all[0].to_string();
        assert!(
            told.contains(
                "mesh of-proxies; cluster Kubernetes; network n1; trust domain example.org"
            ),
            "{told}"
        );
    }
}
