//! Kinds, references to objects, and the URL paths they live at.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{hint::Hint, name::ClusterName};

/// An object's type: `apiVersion` and `kind` as manifests write them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Kind {
    /// Group and version, or only `v1`.
    pub(crate) api_version: Cow<'static, str>,
    /// The name in the singular.
    pub(crate) kind: Cow<'static, str>,
}

/// Where a kind lives: its plural, and whether namespaces hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path segment.
    pub(crate) plural: Cow<'static, str>,
    /// Held by namespaces, or by the cluster as a whole.
    pub(crate) namespaced: bool,
}

/// One object, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ref {
    /// Its type.
    pub(crate) kind: Kind,
    /// Its namespace; none for objects of the whole cluster.
    pub(crate) namespace: Option<String>,
    /// Its name.
    pub(crate) name: String,
}

macro_rules! kinds {
    ($($constant:ident $api:literal $kind:literal $plural:literal $namespaced:literal;)*) => {
        #[allow(dead_code, reason = "a table: not every kind is asked for by name")]
        impl Kind {
            $(
                #[doc = concat!("`", $kind, "` of `", $api, "`.")]
                pub(crate) const $constant: Self = Self { api_version: Cow::Borrowed($api), kind: Cow::Borrowed($kind) };
            )*
        }

        /// Everything that we and Istio's charts use, so that no discovery is needed.
        const TABLE: &[(&str, &str, &str, bool)] = &[$(($api, $kind, $plural, $namespaced)),*];
    };
}

kinds! {
    NAMESPACE "v1" "Namespace" "namespaces" false;
    NODE "v1" "Node" "nodes" false;
    POD "v1" "Pod" "pods" true;
    SERVICE "v1" "Service" "services" true;
    SERVICE_ACCOUNT "v1" "ServiceAccount" "serviceaccounts" true;
    SECRET "v1" "Secret" "secrets" true;
    CONFIG_MAP "v1" "ConfigMap" "configmaps" true;
    EVENT "v1" "Event" "events" true;
    ENDPOINTS "v1" "Endpoints" "endpoints" true;
    RESOURCE_QUOTA "v1" "ResourceQuota" "resourcequotas" true;
    LIMIT_RANGE "v1" "LimitRange" "limitranges" true;
    ENDPOINT_SLICE "discovery.k8s.io/v1" "EndpointSlice" "endpointslices" true;
    DEPLOYMENT "apps/v1" "Deployment" "deployments" true;
    REPLICA_SET "apps/v1" "ReplicaSet" "replicasets" true;
    DAEMON_SET "apps/v1" "DaemonSet" "daemonsets" true;
    STATEFUL_SET "apps/v1" "StatefulSet" "statefulsets" true;
    JOB "batch/v1" "Job" "jobs" true;
    CRON_JOB "batch/v1" "CronJob" "cronjobs" true;
    HORIZONTAL_POD_AUTOSCALER "autoscaling/v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" true;
    POD_DISRUPTION_BUDGET "policy/v1" "PodDisruptionBudget" "poddisruptionbudgets" true;
    NETWORK_POLICY "networking.k8s.io/v1" "NetworkPolicy" "networkpolicies" true;
    CLUSTER_ROLE "rbac.authorization.k8s.io/v1" "ClusterRole" "clusterroles" false;
    CLUSTER_ROLE_BINDING "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" "clusterrolebindings" false;
    ROLE "rbac.authorization.k8s.io/v1" "Role" "roles" true;
    ROLE_BINDING "rbac.authorization.k8s.io/v1" "RoleBinding" "rolebindings" true;
    LEASE "coordination.k8s.io/v1" "Lease" "leases" true;
    CUSTOM_RESOURCE_DEFINITION "apiextensions.k8s.io/v1" "CustomResourceDefinition" "customresourcedefinitions" false;
    MUTATING_WEBHOOK_CONFIGURATION "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "mutatingwebhookconfigurations" false;
    VALIDATING_WEBHOOK_CONFIGURATION "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "validatingwebhookconfigurations" false;
    VALIDATING_ADMISSION_POLICY "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicy" "validatingadmissionpolicies" false;
    VALIDATING_ADMISSION_POLICY_BINDING "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicyBinding" "validatingadmissionpolicybindings" false;
    GATEWAY "networking.istio.io/v1" "Gateway" "gateways" true;
    VIRTUAL_SERVICE "networking.istio.io/v1" "VirtualService" "virtualservices" true;
    DESTINATION_RULE "networking.istio.io/v1" "DestinationRule" "destinationrules" true;
    SERVICE_ENTRY "networking.istio.io/v1" "ServiceEntry" "serviceentries" true;
    SIDECAR "networking.istio.io/v1" "Sidecar" "sidecars" true;
    WORKLOAD_ENTRY "networking.istio.io/v1" "WorkloadEntry" "workloadentries" true;
    WORKLOAD_GROUP "networking.istio.io/v1" "WorkloadGroup" "workloadgroups" true;
    PROXY_CONFIG "networking.istio.io/v1beta1" "ProxyConfig" "proxyconfigs" true;
    ENVOY_FILTER "networking.istio.io/v1alpha3" "EnvoyFilter" "envoyfilters" true;
    PEER_AUTHENTICATION "security.istio.io/v1" "PeerAuthentication" "peerauthentications" true;
    REQUEST_AUTHENTICATION "security.istio.io/v1" "RequestAuthentication" "requestauthentications" true;
    AUTHORIZATION_POLICY "security.istio.io/v1" "AuthorizationPolicy" "authorizationpolicies" true;
    TELEMETRY "telemetry.istio.io/v1" "Telemetry" "telemetries" true;
    WASM_PLUGIN "extensions.istio.io/v1alpha1" "WasmPlugin" "wasmplugins" true;
    K8S_GATEWAY "gateway.networking.k8s.io/v1" "Gateway" "gateways" true;
    K8S_GATEWAY_CLASS "gateway.networking.k8s.io/v1" "GatewayClass" "gatewayclasses" false;
}

impl Kind {
    /// A kind by its two names.
    pub(crate) fn new(api_version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            api_version: api_version.into().into(),
            kind: kind.into().into(),
        }
    }

    /// The kind an object says it is.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        Some(Self::new(
            object["apiVersion"].as_str()?,
            object["kind"].as_str()?,
        ))
    }

    /// Where the kind lives, if it is one of those known from the start.
    pub(crate) fn place(&self) -> Option<Place> {
        TABLE
            .iter()
            .find(|(api, kind, ..)| *api == self.api_version && *kind == self.kind)
            .map(|&(_, _, plural, namespaced)| Place {
                plural: plural.into(),
                namespaced,
            })
    }

    /// The path of the group and version.
    pub(crate) fn root(&self) -> String {
        match self.api_version.contains('/') {
            true => format!("/apis/{}", self.api_version),
            false => format!("/api/{}", self.api_version),
        }
    }
}

impl Place {
    /// The path of the collection.
    pub(crate) fn collection(&self, kind: &Kind, namespace: Option<&str>) -> String {
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{}/namespaces/{namespace}/{}", kind.root(), self.plural),
            None => format!("{}/{}", kind.root(), self.plural),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.api_version)
    }
}

impl Ref {
    /// An object in a namespace.
    pub(crate) fn namespaced(
        kind: &Kind,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            kind: kind.clone(),
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// An object of the whole cluster.
    pub(crate) fn cluster(kind: &Kind, name: impl Into<String>) -> Self {
        Self {
            kind: kind.clone(),
            namespace: None,
            name: name.into(),
        }
    }

    /// The reference of an object, if it says what it is and is called.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        Some(Self {
            kind: Kind::of(object)?,
            namespace: metadata["namespace"].as_str().map(str::to_owned),
            name: metadata["name"].as_str()?.to_owned(),
        })
    }

    /// The object that made another and looks after it, in the same namespace.
    pub(crate) fn controller(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        let mut owners = metadata["ownerReferences"].as_array()?.iter();
        let owner = owners.find(|owner| owner["controller"] == true)?;
        let text = |key: &str| owner[key].as_str();
        let kind = Kind::new(text("apiVersion")?, text("kind")?);
        Some(Self::namespaced(
            &kind,
            metadata["namespace"].as_str()?,
            text("name")?,
        ))
    }

    /// The command that describes it.
    pub(crate) fn describe(&self, cluster: &ClusterName) -> Hint {
        let (kind, name) = (self.kind.kind.to_lowercase(), self.name.as_str());
        match &self.namespace {
            Some(namespace) => Hint::kubectl(cluster, ["-n", namespace, "describe", &kind, name]),
            None => Hint::kubectl(cluster, ["describe", &kind, name]),
        }
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.kind, self.name),
            None => write!(f, "{} {}", self.kind.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        for (kind, namespace, want) in [
            (
                Kind::SECRET,
                Some("istio-system"),
                "/api/v1/namespaces/istio-system/secrets",
            ),
            (Kind::SECRET, None, "/api/v1/secrets"),
            (Kind::NAMESPACE, Some("ignored"), "/api/v1/namespaces"),
            (
                Kind::GATEWAY,
                Some("a"),
                "/apis/networking.istio.io/v1/namespaces/a/gateways",
            ),
        ] {
            assert_eq!(kind.place().unwrap().collection(&kind, namespace), want);
        }
        assert!(Kind::new("example.com/v1", "Thing").place().is_none());
    }

    #[test]
    fn the_table_names_nothing_twice() {
        let mut kinds: Vec<_> = TABLE.iter().map(|(api, kind, ..)| (api, kind)).collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), TABLE.len());
    }

    #[test]
    fn references_print_as_people_say_them() {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "istio-system", "name": "cacerts"}});
        assert_eq!(
            Ref::of(&object).unwrap().to_string(),
            "Secret istio-system/cacerts"
        );
        assert_eq!(
            Ref::cluster(&Kind::NAMESPACE, "x").to_string(),
            "Namespace x"
        );
        assert_eq!(Ref::of(&json!({"kind": "Secret"})), None);
    }
}
