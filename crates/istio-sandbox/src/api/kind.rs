//! The kinds the server knows: a table of built-ins, and those that applied CRDs add.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::status::Failure;

/// One resource in one version.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    /// API group, empty for the core.
    pub(crate) group: String,
    /// Version in the group.
    pub(crate) version: String,
    /// Plural name, as in paths.
    pub(crate) plural: String,
    /// Singular name.
    pub(crate) singular: String,
    /// Kind, as in objects.
    pub(crate) kind: String,
    /// Short names kubectl takes.
    pub(crate) short: Vec<String>,
    /// Categories such as `all`.
    pub(crate) categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub(crate) namespaced: bool,
    /// Whether there is a `/status`.
    pub(crate) status: bool,
    /// Whether there is a `/scale`.
    pub(crate) scale: bool,
    /// The version of a CRD that declares this kind; built-ins have none.
    pub(crate) crd: Option<Arc<Value>>,
}

impl Kind {
    /// Group and resource as in messages and table names: `deployments.apps`, `pods`.
    pub(crate) fn resource(&self) -> String {
        dotted(&self.plural, &self.group)
    }

    /// Kind and group as validation messages name them: `Deployment.apps`, `Pod`.
    pub(crate) fn qualified(&self) -> String {
        dotted(&self.kind, &self.group)
    }

    /// `group/version`, or the bare version in the core.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The schema a CRD gives for objects of this kind.
    pub(crate) fn schema(&self) -> Option<&Value> {
        self.crd.as_deref()?.pointer("/schema/openAPIV3Schema")
    }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// `group version plural Kind shortnames flags`, flags: `n`amespaced, `s`tatus, s`c`ale, `a`ll.
const BUILT_IN: &str = "
- v1 bindings Binding - n
- v1 configmaps ConfigMap cm n
- v1 endpoints Endpoints ep n
- v1 events Event ev n
- v1 limitranges LimitRange limits n
- v1 namespaces Namespace ns s
- v1 nodes Node no s
- v1 persistentvolumeclaims PersistentVolumeClaim pvc ns
- v1 persistentvolumes PersistentVolume pv s
- v1 pods Pod po nsa
- v1 replicationcontrollers ReplicationController rc nsca
- v1 resourcequotas ResourceQuota quota ns
- v1 secrets Secret - n
- v1 serviceaccounts ServiceAccount sa n
- v1 services Service svc nsa
admissionregistration.k8s.io v1 mutatingwebhookconfigurations MutatingWebhookConfiguration - -
admissionregistration.k8s.io v1 validatingadmissionpolicies ValidatingAdmissionPolicy - s
admissionregistration.k8s.io v1 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding - -
admissionregistration.k8s.io v1 validatingwebhookconfigurations ValidatingWebhookConfiguration - -
apiextensions.k8s.io v1 customresourcedefinitions CustomResourceDefinition crd,crds s
apps v1 daemonsets DaemonSet ds nsa
apps v1 deployments Deployment deploy nsca
apps v1 replicasets ReplicaSet rs nsca
apps v1 statefulsets StatefulSet sts nsca
autoscaling v2 horizontalpodautoscalers HorizontalPodAutoscaler hpa nsa
batch v1 cronjobs CronJob cj nsa
batch v1 jobs Job - nsa
certificates.k8s.io v1 certificatesigningrequests CertificateSigningRequest csr s
coordination.k8s.io v1 leases Lease - n
discovery.k8s.io v1 endpointslices EndpointSlice - n
events.k8s.io v1 events Event ev n
networking.k8s.io v1 ingressclasses IngressClass - -
networking.k8s.io v1 ingresses Ingress ing ns
networking.k8s.io v1 networkpolicies NetworkPolicy netpol n
policy v1 poddisruptionbudgets PodDisruptionBudget pdb ns
rbac.authorization.k8s.io v1 clusterrolebindings ClusterRoleBinding - -
rbac.authorization.k8s.io v1 clusterroles ClusterRole - -
rbac.authorization.k8s.io v1 rolebindings RoleBinding - n
rbac.authorization.k8s.io v1 roles Role - n
scheduling.k8s.io v1 priorityclasses PriorityClass pc -
storage.k8s.io v1 storageclasses StorageClass sc -
";

fn built_in(line: &str) -> Option<Kind> {
    let mut words = line.split_whitespace();
    let mut word = || words.next().map(|w| if w == "-" { "" } else { w });
    let (group, version, plural, kind, short, flags) =
        (word()?, word()?, word()?, word()?, word()?, word()?);
    Some(Kind {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        singular: kind.to_lowercase(),
        kind: kind.into(),
        short: short
            .split(',')
            .filter(|s| !s.is_empty())
            .map(Into::into)
            .collect(),
        categories: if flags.contains('a') {
            vec!["all".into()]
        } else {
            Vec::new()
        },
        namespaced: flags.contains('n'),
        status: flags.contains('s'),
        scale: flags.contains('c'),
        crd: None,
    })
}

/// Every kind served at the moment, by `(group, version, plural)`.
#[derive(Debug)]
pub(crate) struct Kinds {
    by_path: BTreeMap<(String, String, String), Arc<Kind>>,
}

impl Kinds {
    pub(crate) fn new() -> Self {
        let mut kinds = Self {
            by_path: BTreeMap::new(),
        };
        BUILT_IN
            .lines()
            .filter_map(built_in)
            .for_each(|kind| kinds.add(kind));
        kinds
    }

    pub(crate) fn add(&mut self, kind: Kind) {
        let key = (
            kind.group.clone(),
            kind.version.clone(),
            kind.plural.clone(),
        );
        self.by_path.insert(key, Arc::new(kind));
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.by_path
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// Any served version of a resource named as [`Kind::resource`] does.
    pub(crate) fn by_resource(&self, resource: &str) -> Option<Arc<Kind>> {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        self.all()
            .find(|k| k.group == group && k.plural == plural)
            .cloned()
    }

    /// How the server says that it does not know a resource, in a group it may not know either.
    pub(crate) fn unknown(&self, group: &str) -> Failure {
        if self.all().any(|k| k.group == group) {
            Failure::no_such_path()
        } else {
            Failure::no_page()
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_path.values()
    }

    /// Serves what `crd` declares, in place of what it declared before.
    pub(crate) fn serve_crd(&mut self, crd: &Value) {
        self.forget_crd(crd);
        for version in crd
            .pointer("/spec/versions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if version["served"] == true {
                self.add(declared(crd, version));
            }
        }
    }

    pub(crate) fn forget_crd(&mut self, crd: &Value) {
        let group = text(crd, "/spec/group");
        let plural = text(crd, "/spec/names/plural");
        self.by_path
            .retain(|_, kind| kind.crd.is_none() || kind.group != group || kind.plural != plural);
    }
}

fn declared(crd: &Value, version: &Value) -> Kind {
    let kind = text(crd, "/spec/names/kind");
    let singular = text(crd, "/spec/names/singular");
    Kind {
        group: text(crd, "/spec/group"),
        version: text(version, "/name"),
        plural: text(crd, "/spec/names/plural"),
        singular: if singular.is_empty() {
            kind.to_lowercase()
        } else {
            singular
        },
        kind,
        short: texts(crd, "/spec/names/shortNames"),
        categories: texts(crd, "/spec/names/categories"),
        namespaced: text(crd, "/spec/scope") != "Cluster",
        status: version.pointer("/subresources/status").is_some(),
        scale: version.pointer("/subresources/scale").is_some(),
        crd: Some(Arc::new(version.clone())),
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_line_of_the_table_is_a_kind() {
        let lines = BUILT_IN.lines().filter(|l| !l.is_empty()).count();
        assert_eq!(Kinds::new().all().count(), lines);
    }

    #[test]
    fn names_as_messages_have_them() {
        let kinds = Kinds::new();
        let deployment = kinds.by_resource("deployments.apps").unwrap();
        assert_eq!(deployment.qualified(), "Deployment.apps");
        assert_eq!(deployment.api_version(), "apps/v1");
        assert!(deployment.namespaced && deployment.scale && deployment.status);
        assert_eq!(kinds.by_resource("pods").unwrap().api_version(), "v1");
    }

    #[test]
    fn a_crd_adds_and_removes_its_served_versions() {
        let crd = json!({"spec": {"group": "example.org", "scope": "Cluster",
            "names": {"plural": "tests", "kind": "Test"},
            "versions": [{"name": "v1", "served": true}, {"name": "v2", "served": false}]}});
        let mut kinds = Kinds::new();
        kinds.serve_crd(&crd);
        assert!(!kinds.find("example.org", "v1", "tests").unwrap().namespaced);
        assert!(kinds.find("example.org", "v2", "tests").is_none());
        kinds.forget_crd(&crd);
        assert!(kinds.find("example.org", "v1", "tests").is_none());
    }
}
