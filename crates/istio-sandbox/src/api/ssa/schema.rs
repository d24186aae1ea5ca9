//! Which lists merge by key and which maps are one value, for built-in kinds and for those of CRDs.

use serde_json::Value;

use crate::api::kind::Kind;

/// How a list merges.
#[derive(Debug, PartialEq)]
pub(crate) enum List<'a> {
    /// As one value.
    Atomic,
    /// By value.
    Set,
    /// By these keys of its items.
    Keyed(Vec<&'a str>),
}

/// A place in an object: its name and the way up, or the CRD's schema of it.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    name: &'a str,
    up: Option<&'a Cursor<'a>>,
    kind: &'a str,
    declared: Option<&'a Value>,
    custom: bool,
}

/// Lists of built-in kinds that merge by key: the list's field, the field above it (`*` is any), the keys.
const KEYED: &[(&str, &str, &[&str])] = &[
    ("containers", "*", &["name"]),
    ("initContainers", "*", &["name"]),
    ("ephemeralContainers", "*", &["name"]),
    ("volumes", "spec", &["name"]),
    ("imagePullSecrets", "spec", &["name"]),
    ("hostAliases", "spec", &["ip"]),
    ("resourceClaims", "spec", &["name"]),
    (
        "topologySpreadConstraints",
        "spec",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("env", "*", &["name"]),
    ("volumeMounts", "*", &["mountPath"]),
    ("volumeDevices", "*", &["devicePath"]),
    ("claims", "resources", &["name"]),
    ("conditions", "status", &["type"]),
    ("addresses", "status", &["type"]),
    ("podIPs", "status", &["ip"]),
    ("hostIPs", "status", &["ip"]),
    ("ownerReferences", "metadata", &["uid"]),
    ("webhooks", "*", &["name"]),
    ("secrets", "", &["name"]),
];

/// Maps of built-in kinds that are one value, with the field above them.
const ATOMIC: &[(&str, &str)] = &[
    ("selector", "spec"),
    ("nodeSelector", "spec"),
    ("fieldRef", "*"),
    ("resourceFieldRef", "*"),
    ("configMapKeyRef", "*"),
    ("secretKeyRef", "*"),
    ("roleRef", ""),
    ("involvedObject", ""),
    ("labelSelector", "*"),
    ("podSelector", "*"),
    ("namespaceSelector", "*"),
    ("objectSelector", "*"),
    ("targetRef", "*"),
    ("scaleTargetRef", "none"),
];

impl<'a> Cursor<'a> {
    pub(crate) fn root(kind: &'a Kind) -> Self {
        let declared = kind.schema();
        Self {
            name: "",
            up: None,
            kind: &kind.kind,
            declared,
            custom: kind.crd.is_some(),
        }
    }

    pub(crate) fn field<'b>(&'b self, name: &'b str) -> Cursor<'b>
    where
        'a: 'b,
    {
        let meta = self.up.is_none() && name == "metadata";
        let declared = self.declared.and_then(|d| d.get("properties")?.get(name));
        let declared = declared.or_else(|| self.declared?.get("additionalProperties"));
        Cursor {
            name,
            up: Some(self),
            kind: self.kind,
            declared,
            custom: self.custom && !meta,
        }
    }

    pub(crate) fn item(&self) -> Cursor<'a> {
        Cursor {
            declared: self.declared.and_then(|d| d.get("items")),
            ..*self
        }
    }

    fn above(&self) -> &str {
        self.up.map_or("", |up| up.name)
    }

    fn matches(&self, above: &str) -> bool {
        above == "*" || above == self.above()
    }

    /// How the list at this place merges.
    pub(crate) fn list(&self) -> List<'a> {
        if self.custom {
            return self.declared_list();
        }
        let by_key = KEYED
            .iter()
            .find(|(name, above, _)| *name == self.name && self.matches(above));
        match (self.name, self.above()) {
            ("finalizers", "metadata" | "spec") | ("podCIDRs", _) => List::Set,
            ("ports", "spec") if self.kind == "Service" => List::Keyed(vec!["port", "protocol"]),
            ("ports", "containers" | "initContainers") => {
                List::Keyed(vec!["containerPort", "protocol"])
            }
            ("conditions", _) => List::Keyed(vec!["type"]),
            _ => by_key.map_or(List::Atomic, |(_, _, keys)| List::Keyed(keys.to_vec())),
        }
    }

    fn declared_list(&self) -> List<'a> {
        let Some(declared) = self.declared else {
            return List::Atomic;
        };
        match declared["x-kubernetes-list-type"].as_str() {
            Some("set") => List::Set,
            Some("map") => {
                let keys = declared["x-kubernetes-list-map-keys"].as_array();
                List::Keyed(
                    keys.into_iter()
                        .flatten()
                        .filter_map(Value::as_str)
                        .collect(),
                )
            }
            _ => List::Atomic,
        }
    }

    /// Whether the map at this place is one value.
    pub(crate) fn atomic_map(&self) -> bool {
        if self.custom {
            return self
                .declared
                .is_some_and(|d| d["x-kubernetes-map-type"] == "atomic");
        }
        ATOMIC
            .iter()
            .any(|(name, above)| *name == self.name && self.matches(above))
    }

    /// What a key of a list item is when it is not written.
    pub(crate) fn default_key(&self, key: &str) -> Option<Value> {
        if self.custom {
            return self
                .declared?
                .pointer("/items/properties")?
                .get(key)?
                .get("default")
                .cloned();
        }
        (key == "protocol").then(|| "TCP".into())
    }

    /// Parts that every object of a kind has even when empty, so that nobody owns them as such.
    pub(crate) fn always_there(&self) -> bool {
        matches!(
            self.name,
            "" | "metadata"
                | "spec"
                | "status"
                | "template"
                | "strategy"
                | "updateStrategy"
                | "containers"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kinds;
    use serde_json::json;

    fn kind(resource: &str) -> std::sync::Arc<Kind> {
        Kinds::new().by_resource(resource).unwrap()
    }

    #[test]
    fn ports_differ_between_services_and_containers() {
        let (service, deployment) = (kind("services"), kind("deployments.apps"));
        let root = Cursor::root(&service);
        let spec = root.field("spec");
        assert_eq!(
            spec.field("ports").list(),
            List::Keyed(vec!["port", "protocol"])
        );
        let root = Cursor::root(&deployment);
        let spec = root.field("spec");
        let containers = spec.field("containers");
        let item = containers.item();
        assert_eq!(
            item.field("ports").list(),
            List::Keyed(vec!["containerPort", "protocol"])
        );
        assert_eq!(item.field("env").list(), List::Keyed(vec!["name"]));
        assert_eq!(item.field("args").list(), List::Atomic);
    }

    #[test]
    fn a_crd_says_how_its_lists_merge() {
        let crd = json!({"spec": {"group": "g", "names": {"plural": "ts", "kind": "T"}, "versions": [{"name": "v1",
            "served": true, "schema": {"openAPIV3Schema": {"properties": {"spec": {"properties": {
                "servers": {"type": "array"},
                "routes": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]}}}}}}}]}});
        let mut kinds = Kinds::new();
        kinds.serve_crd(&crd);
        let kind = kinds.by_resource("ts.g").unwrap();
        let root = Cursor::root(&kind);
        let spec = root.field("spec");
        assert_eq!(spec.field("servers").list(), List::Atomic);
        assert_eq!(spec.field("routes").list(), List::Keyed(vec!["id"]));
        assert_eq!(root.field("metadata").field("finalizers").list(), List::Set);
    }
}
