//! What the server says it serves: `/api`, `/apis`, `/version` and their like.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{
    kind::Kind,
    reply::{Reply, json_reply, text, typed},
    state::State,
    status::Failure,
};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Kinds that are only ever created, to ask something.
pub(crate) const REVIEWS: [(&str, &str, &str); 6] = [
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    (
        "authentication.k8s.io",
        "selfsubjectreviews",
        "SelfSubjectReview",
    ),
    (
        "authorization.k8s.io",
        "subjectaccessreviews",
        "SubjectAccessReview",
    ),
    (
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
    ),
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
    ),
    (
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
    ),
];

/// Whether a resource is only asked, not kept.
pub(crate) fn is_review(group: &str, plural: &str) -> bool {
    REVIEWS.iter().any(|(g, p, _)| *g == group && *p == plural)
}

type Groups = BTreeMap<String, BTreeMap<String, Vec<Entry>>>;

/// A resource as discovery lists it.
struct Entry {
    kind: Arc<Kind>,
    review: bool,
}

impl Entry {
    fn verbs(&self) -> Vec<&'static str> {
        if self.review {
            vec!["create"]
        } else {
            VERBS.to_vec()
        }
    }

    /// Subresources: name, kind, its group and version if not the resource's, verbs.
    fn subresources(
        &self,
    ) -> Vec<(
        &'static str,
        &str,
        &'static str,
        &'static str,
        Vec<&'static str>,
    )> {
        let kind = &self.kind;
        let mut parts = Vec::new();
        if kind.status {
            parts.push((
                "status",
                kind.kind.as_str(),
                "",
                "",
                vec!["get", "patch", "update"],
            ));
        }
        if kind.scale {
            parts.push((
                "scale",
                "Scale",
                "autoscaling",
                "v1",
                vec!["get", "patch", "update"],
            ));
        }
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("", "Pod") => {
                parts.push(("log", "Pod", "", "", vec!["get"]));
                parts.push((
                    "portforward",
                    "PodPortForwardOptions",
                    "",
                    "",
                    vec!["create", "get"],
                ));
            }
            ("", "ServiceAccount") => {
                parts.push((
                    "token",
                    "TokenRequest",
                    "authentication.k8s.io",
                    "v1",
                    vec!["create"],
                ));
            }
            _ => {}
        }
        parts
    }
}

fn reviews() -> impl Iterator<Item = Entry> {
    REVIEWS.iter().map(|(group, plural, name)| {
        let kind = Kind {
            group: (*group).into(),
            version: "v1".into(),
            plural: (*plural).into(),
            singular: name.to_lowercase(),
            kind: (*name).into(),
            short: Vec::new(),
            categories: Vec::new(),
            namespaced: *name == "LocalSubjectAccessReview",
            status: false,
            scale: false,
            crd: None,
        };
        Entry {
            kind: Arc::new(kind),
            review: true,
        }
    })
}

impl State {
    fn groups(&self) -> Groups {
        let mut groups = Groups::new();
        let stored = self.kinds.all().map(|kind| Entry {
            kind: kind.clone(),
            review: false,
        });
        for entry in stored.chain(reviews()) {
            let versions = groups.entry(entry.kind.group.clone()).or_default();
            versions
                .entry(entry.kind.version.clone())
                .or_default()
                .push(entry);
        }
        groups
    }

    /// Answers a path that is no resource.
    pub(crate) fn discover(
        &self,
        path: &str,
        headers: &HeaderMap,
        version: &str,
    ) -> Result<Reply, Failure> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|a| a.to_str().ok())
            .unwrap_or_default();
        let aggregated = accept.contains("APIGroupDiscoveryList") && accept.contains("v=v2");
        let groups = self.groups();
        match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Ok(text(200, "ok")),
            ["version"] => Ok(json_reply(200, &version_info(version))),
            ["api"] if aggregated => Ok(typed(
                200,
                AGGREGATED,
                &aggregate(&groups, |g| g.is_empty()),
            )),
            ["apis"] if aggregated => Ok(typed(
                200,
                AGGREGATED,
                &aggregate(&groups, |g| !g.is_empty()),
            )),
            ["api"] => Ok(json_reply(
                200,
                &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
            )),
            ["apis"] => {
                let list: Vec<_> = groups
                    .iter()
                    .filter(|(g, _)| !g.is_empty())
                    .map(|(g, v)| group(g, v))
                    .collect();
                Ok(json_reply(
                    200,
                    &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}),
                ))
            }
            ["api", version] => resources(&groups, "", version),
            ["apis", name] => match groups.get(*name) {
                Some(versions) => {
                    let mut body = group(name, versions);
                    body["kind"] = "APIGroup".into();
                    body["apiVersion"] = "v1".into();
                    Ok(json_reply(200, &body))
                }
                None => Err(Failure::no_page()),
            },
            ["apis", name, version] => resources(&groups, name, version),
            ["openapi", ..] => super::openapi::answer(&parts, &groups_and_kinds(&groups)),
            [] => Ok(json_reply(
                200,
                &json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/readyz", "/openapi/v3", "/version"]}),
            )),
            _ => Err(Failure::no_page()),
        }
    }
}

fn groups_and_kinds(groups: &Groups) -> Vec<Arc<Kind>> {
    let entries = groups.values().flat_map(BTreeMap::values).flatten();
    entries.map(|entry| entry.kind.clone()).collect()
}

fn version_info(version: &str) -> Value {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("1"), numbers.next().unwrap_or("0"));
    json!({
        "major": major, "minor": minor, "gitVersion": version, "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "none",
        "platform": "embedded",
    })
}

fn version_name(group: &str, version: &str) -> Value {
    let both = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    json!({"groupVersion": both, "version": version})
}

fn group(name: &str, versions: &BTreeMap<String, Vec<Entry>>) -> Value {
    let list: Vec<_> = by_preference(versions)
        .into_iter()
        .map(|v| version_name(name, v))
        .collect();
    json!({"name": name, "versions": list, "preferredVersion": list.first()})
}

/// Stable versions first, then betas, then alphas.
fn by_preference(versions: &BTreeMap<String, Vec<Entry>>) -> Vec<&String> {
    let mut names: Vec<_> = versions.keys().collect();
    names.sort_by_key(|v| {
        (
            v.contains("alpha"),
            v.contains("beta"),
            std::cmp::Reverse((*v).clone()),
        )
    });
    names
}

fn resources(groups: &Groups, group: &str, version: &str) -> Result<Reply, Failure> {
    let entries = groups
        .get(group)
        .and_then(|v| v.get(version))
        .ok_or_else(Failure::no_page)?;
    let mut list = Vec::new();
    for entry in entries {
        let kind = &entry.kind;
        list.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": entry.verbs(), "shortNames": kind.short, "categories": kind.categories,
        }));
        for (sub, name, sub_group, sub_version, verbs) in entry.subresources() {
            let mut part = json!({
                "name": format!("{}/{sub}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": name, "verbs": verbs,
            });
            if !sub_group.is_empty() {
                part["group"] = sub_group.into();
                part["version"] = sub_version.into();
            }
            list.push(part);
        }
    }
    let both = version_name(group, version)["groupVersion"].clone();
    Ok(json_reply(
        200,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": both, "resources": list}),
    ))
}

fn aggregate(groups: &Groups, wanted: impl Fn(&str) -> bool) -> Value {
    let items: Vec<_> = groups.iter().filter(|(name, _)| wanted(name)).map(|(name, versions)| {
        let listed = by_preference(versions).into_iter().map(|version| {
            let resources: Vec<_> = versions[version].iter().map(aggregated).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        });
        json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": listed.collect::<Vec<_>>()})
    }).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated(entry: &Entry) -> Value {
    let kind = &entry.kind;
    let own = |name: &str, group: &str, version: &str| json!({"group": group, "version": version, "kind": name});
    let parts: Vec<_> = entry
        .subresources()
        .into_iter()
        .map(|(sub, name, group, version, verbs)| {
            let group = if version.is_empty() {
                kind.group.as_str()
            } else {
                group
            };
            let version = if version.is_empty() {
                kind.version.as_str()
            } else {
                version
            };
            json!({"subresource": sub, "responseKind": own(name, group, version), "verbs": verbs})
        })
        .collect();
    let mut value = json!({
        "resource": kind.plural, "responseKind": own(&kind.kind, &kind.group, &kind.version),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": entry.verbs(),
    });
    for (field, list) in [
        ("shortNames", &kind.short),
        ("categories", &kind.categories),
    ] {
        if !list.is_empty() {
            value[field] = json!(list);
        }
    }
    if !parts.is_empty() {
        value["subresources"] = parts.into();
    }
    value
}
