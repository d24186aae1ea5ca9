//! `/openapi`: for each kind just enough of a schema that clients take the server's word for the rest.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    kind::Kind,
    reply::{Reply, json_reply},
    status::Failure,
};

pub(crate) fn answer(parts: &[&str], kinds: &[Arc<Kind>]) -> Result<Reply, Failure> {
    match parts {
        ["openapi", "v3"] => Ok(json_reply(200, &index(kinds))),
        ["openapi", "v3", "api", version] => document(kinds, "", version),
        ["openapi", "v3", "apis", group, version] => document(kinds, group, version),
        _ => Err(Failure::no_page()),
    }
}

fn index(kinds: &[Arc<Kind>]) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        let path = root(kind).trim_start_matches('/').to_owned();
        paths.insert(
            path.clone(),
            json!({"serverRelativeURL": format!("/openapi/v3/{path}")}),
        );
    }
    json!({"paths": paths})
}

fn root(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    }
}

fn document(kinds: &[Arc<Kind>], group: &str, version: &str) -> Result<Reply, Failure> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for kind in kinds
        .iter()
        .filter(|k| k.group == group && k.version == version)
    {
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let parameters = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}));
        let place = if kind.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let path = format!("{}{place}/{}/{{name}}", root(kind), kind.plural);
        paths.insert(
            path,
            json!({"patch": {
                "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk,
                "parameters": parameters,
            }}),
        );
        let name = format!(
            "{}.{}.{}",
            if group.is_empty() { "core" } else { group },
            version,
            kind.kind
        );
        schemas.insert(name, json!({
            "type": "object", "x-kubernetes-group-version-kind": [gvk], "x-kubernetes-preserve-unknown-fields": true,
        }));
    }
    if paths.is_empty() {
        return Err(Failure::no_page());
    }
    Ok(json_reply(
        200,
        &json!({
            "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": version}, "paths": paths,
            "components": {"schemas": schemas},
        }),
    ))
}
