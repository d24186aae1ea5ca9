//! Whether a pod would be given a proxy if it were made now, of which revision, and why not. Pure: the webhooks' selectors decide
//! as in the API server, what the injector says to that as in istiod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Cause, CauseId};

/// What a pod says for or against a proxy.
const ASKS: &str = "sidecar.istio.io/inject";
/// What asks for the proxies of a revision.
const REVISION: &str = "istio.io/rev";
/// What asks for the proxies of the default revision.
const OLD: &str = "istio-injection";
/// What asks for the ambient mesh.
const AMBIENT: &str = "istio.io/dataplane-mode";
/// The namespaces that istiod injects nothing into.
const SYSTEM: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// What becomes of a pod that is made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is given a proxy of this revision.
    Injected(String),
    /// It is in the ambient mesh.
    Ambient,
    /// It is given none.
    Left(Cause),
}

/// What decides on injection in a member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Injection {
    hooks: Vec<Hook>,
    injectors: BTreeMap<String, Injector>,
}

/// One webhook of an injector.
#[derive(Debug, Clone)]
struct Hook {
    revision: String,
    tag: Option<String>,
    namespaces: Value,
    objects: Value,
}

/// What the injector of a revision puts into pods.
#[derive(Debug, Clone, Default)]
pub(crate) struct Injector {
    /// Its values.
    pub(crate) values: Value,
    /// Its rules: `policy`, `neverInjectSelector`, `alwaysInjectSelector`.
    rules: Value,
    /// The mesh configuration of its istiod.
    pub(crate) mesh: Value,
}

fn label<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object["metadata"]["labels"][key].as_str()
}

fn left(id: CauseId, text: impl Into<String>) -> Fate {
    let text = text.into();
    Fate::Left(Cause { id, text })
}

impl Injection {
    /// From the mutating webhooks of a member and the ConfigMaps of its control plane.
    pub(crate) fn of(configurations: &[Value], maps: &[Value]) -> Self {
        Self {
            hooks: configurations.iter().flat_map(hooks).collect(),
            injectors: injectors(maps),
        }
    }

    /// The injector of a revision, where it can be known.
    pub(crate) fn injector(&self, revision: &str) -> Option<&Injector> {
        self.injectors.get(revision)
    }

    /// The revisions and tags that can be asked for.
    pub(crate) fn revisions(&self) -> BTreeSet<&str> {
        let all = self.hooks.iter();
        let all = all.flat_map(|h| [Some(h.revision.as_str()), h.tag.as_deref()]);
        all.flatten().collect()
    }

    /// What would become of a pod in this namespace.
    pub(crate) fn fate(&self, namespace: &Value, pod: &Value) -> Fate {
        let chosen = self.hooks.iter().find(|hook| {
            selects(&hook.namespaces, &namespace["metadata"]["labels"])
                && selects(&hook.objects, &pod["metadata"]["labels"])
        });
        match chosen {
            Some(hook) => match self.refused(&hook.revision, namespace, pod) {
                Some(cause) => Fate::Left(cause),
                None => Fate::Injected(hook.revision.clone()),
            },
            None => self.unchosen(namespace, pod),
        }
    }

    /// Why the injector leaves a pod as it is that a webhook was called for.
    fn refused(&self, revision: &str, namespace: &Value, pod: &Value) -> Option<Cause> {
        let cause = |id, text: &str| {
            let text = text.to_owned();
            Some(Cause { id, text })
        };
        if pod["spec"]["hostNetwork"] == true {
            return cause(
                CauseId::HostNetwork,
                "the pod is on the network of its node",
            );
        }
        if is_system(namespace) {
            return system(namespace);
        }
        let annotation = pod["metadata"]["annotations"][ASKS].as_str();
        let said = label(pod, ASKS).or(annotation).unwrap_or_default();
        let is_yes = ["y", "yes", "true", "on"].contains(&said.to_lowercase().as_str());
        if !said.is_empty() {
            return match is_yes {
                true => None,
                false => Some(opted_out("the pod", ASKS, said)),
            };
        }
        let rules = self.injector(revision).map(|i| &i.rules);
        let matched = |key: &str| {
            let all = rules.and_then(|r| r[key].as_array()).into_iter().flatten();
            let labels = &pod["metadata"]["labels"];
            all.into_iter().any(|s| !is_empty(s) && selects(s, labels))
        };
        if matched("neverInjectSelector") {
            let text = "the injector's neverInjectSelector selects the pod";
            return cause(CauseId::OptedOut, text);
        }
        let is_off = rules.is_some_and(|r| r["policy"] == "disabled");
        match is_off && !matched("alwaysInjectSelector") {
            true => cause(CauseId::NotAsked, "the injector's policy is disabled"),
            false => None,
        }
    }

    /// Why no webhook is called for a pod.
    fn unchosen(&self, namespace: &Value, pod: &Value) -> Fate {
        let mode = label(pod, AMBIENT).or_else(|| label(namespace, AMBIENT));
        if mode == Some("ambient") {
            return Fate::Ambient;
        }
        if is_system(namespace) {
            return system(namespace).map_or(Fate::Ambient, Fate::Left);
        }
        let said = label(pod, ASKS).unwrap_or_default();
        if !said.is_empty() && said != "true" {
            return Fate::Left(opted_out("the pod", ASKS, said));
        }
        let old = label(namespace, OLD);
        if let Some(old) = old.filter(|old| *old != "enabled") {
            return Fate::Left(opted_out("the namespace", OLD, old));
        }
        let asked = label(pod, REVISION).or_else(|| label(namespace, REVISION));
        let asked = asked.filter(|_| old.is_none()).or(old.map(|_| "default"));
        let known = self.revisions();
        match asked.or((said == "true").then_some("default")) {
            Some(revision) if known.is_empty() => left(
                CauseId::NoInjector,
                format!("revision {revision} is asked for, and the cluster has no injector"),
            ),
            Some(revision) if !known.contains(revision) => {
                let known: Vec<_> = known.into_iter().collect();
                left(
                    CauseId::NoInjector,
                    format!(
                        "revision {revision} is asked for, and there are injectors for {}",
                        known.join(", ")
                    ),
                )
            }
            // A webhook with selectors of somebody's own.
            Some(revision) => left(
                CauseId::OptedOut,
                format!("the selectors of revision {revision}'s webhook leave it out"),
            ),
            None => left(
                CauseId::NotAsked,
                "neither its namespace nor the pod has a label for injection",
            ),
        }
    }
}

fn opted_out(who: &str, key: &str, said: &str) -> Cause {
    Cause {
        id: CauseId::OptedOut,
        text: format!("{who} says {key}={said}"),
    }
}

/// Whether Istio leaves a namespace alone.
pub(crate) fn is_system(namespace: &Value) -> bool {
    let name = namespace["metadata"]["name"].as_str();
    name.is_some_and(|name| SYSTEM.contains(&name))
}

fn system(namespace: &Value) -> Option<Cause> {
    Some(Cause {
        id: CauseId::SystemNamespace,
        text: format!(
            "Istio injects nothing into {}",
            namespace["metadata"]["name"].as_str()?
        ),
    })
}

/// The webhooks of a configuration of an injector's: those that are called for new pods.
fn hooks(configuration: &Value) -> Vec<Hook> {
    let Some(revision) = label(configuration, REVISION) else {
        return vec![];
    };
    let is_for_pods = |hook: &&Value| {
        let rules = hook["rules"].as_array().into_iter().flatten();
        let mut resources = rules.flat_map(|r| r["resources"].as_array().into_iter().flatten());
        resources.any(|r| r == "pods" || r == "*")
    };
    let all = configuration["webhooks"].as_array().into_iter().flatten();
    let hook = |hook: &Value| Hook {
        revision: revision.to_owned(),
        tag: label(configuration, "istio.io/tag").map(str::to_owned),
        namespaces: hook["namespaceSelector"].clone(),
        objects: hook["objectSelector"].clone(),
    };
    all.filter(is_for_pods).map(hook).collect()
}

/// What each revision's ConfigMaps say.
fn injectors(maps: &[Value]) -> BTreeMap<String, Injector> {
    let named = |name: &str| maps.iter().find(|m| m["metadata"]["name"] == name);
    let mut all = BTreeMap::new();
    for map in maps {
        let name = map["metadata"]["name"].as_str().unwrap_or_default();
        let Some(rest) = name.strip_prefix("istio-sidecar-injector") else {
            continue;
        };
        let Some(revision) = rest
            .strip_prefix('-')
            .or(rest.is_empty().then_some("default"))
        else {
            continue;
        };
        let text = |key: &str| map["data"][key].as_str().unwrap_or_default();
        let mesh = named(&format!("istio-{revision}")).or_else(|| named("istio"));
        let mesh = mesh.and_then(|m| m["data"]["mesh"].as_str());
        let injector = Injector {
            values: serde_json::from_str(text("values")).unwrap_or_default(),
            rules: serde_saphyr::from_str(text("config")).unwrap_or_default(),
            mesh: mesh
                .and_then(|text| serde_saphyr::from_str(text).ok())
                .unwrap_or_default(),
        };
        all.insert(revision.to_owned(), injector);
    }
    all
}

fn is_empty(selector: &Value) -> bool {
    let none = |key: &str| {
        selector[key].is_null() || selector[key] == json!({}) || selector[key] == json!([])
    };
    none("matchLabels") && none("matchExpressions")
}

/// Whether a label selector of Kubernetes' selects labels; one that says nothing selects all.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten();
    pairs
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|e| {
            let found = e["key"].as_str().and_then(|key| labels.get(key));
            let is_listed = found.is_some_and(|value| {
                e["values"]
                    .as_array()
                    .is_some_and(|all| all.contains(value))
            });
            match e["operator"].as_str().unwrap_or_default() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}
