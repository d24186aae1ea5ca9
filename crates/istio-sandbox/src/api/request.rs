//! What a request asks for: the path and the query, taken apart.

use std::collections::BTreeMap;

use http::request::Parts;

/// A query, decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self(pairs.collect())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The same query, limited to objects with this field as well.
    pub(crate) fn with_field(&self, field: &str, value: &str) -> Self {
        let mut query = self.clone();
        let selector = query.0.entry("fieldSelector".into()).or_default();
        let comma = if selector.is_empty() { "" } else { "," };
        *selector += &format!("{comma}{field}={value}");
        query
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), "true" | "1" | "True")
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let value = hex(rest.next())
                    .zip(hex(rest.next()))
                    .map_or(u32::from(b'?'), |(a, b)| a * 16 + b);
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Route {
    /// A resource, an object of it, or a part of an object.
    Resource(ResourcePath),
    /// Anything else: discovery, health, version.
    Other,
}

/// A path such as `/apis/apps/v1/namespaces/default/deployments/web/status`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) plural: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Self {
        let parts: Vec<String> = path
            .split('/')
            .filter(|p| !p.is_empty())
            .map(|p| decoded(&p.replace('+', "%2B")))
            .collect();
        let words: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match words.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Self::Other,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, inner, ..] if !matches!(*inner, "status" | "finalize") => {
                (*namespace, &rest[2..])
            }
            _ => ("", rest),
        };
        let word = |at: usize| rest.get(at).map_or_else(String::new, |w| (*w).to_owned());
        Self::Resource(ResourcePath {
            group: group.into(),
            version: version.into(),
            namespace: namespace.into(),
            plural: word(0),
            name: word(1),
            subresource: word(2),
        })
    }
}

impl ResourcePath {
    /// The API verb of a request, as RBAC and the counters name it.
    pub(crate) fn verb(&self, parts: &Parts, query: &Query) -> &'static str {
        let named = !self.name.is_empty();
        match parts.method.as_str() {
            "GET" | "HEAD" if query.flag("watch") => "watch",
            "GET" | "HEAD" if named => "get",
            "GET" | "HEAD" => "list",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if named => "delete",
            "DELETE" => "deletecollection",
            _ => "unknown",
        }
    }

    /// Resource and subresource as rules name them.
    pub(crate) fn ruled(&self) -> String {
        if self.subresource.is_empty() {
            self.plural.clone()
        } else {
            format!("{}/{}", self.plural, self.subresource)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> (String, String, String, String, String, String) {
        match Route::parse(path) {
            Route::Resource(r) => (
                r.group,
                r.version,
                r.namespace,
                r.plural,
                r.name,
                r.subresource,
            ),
            Route::Other => panic!("{path} is no resource"),
        }
    }

    fn own(parts: [&str; 6]) -> (String, String, String, String, String, String) {
        let [a, b, c, d, e, f] = parts.map(str::to_owned);
        (a, b, c, d, e, f)
    }

    #[test]
    fn paths_as_a_table() {
        assert_eq!(
            resource("/api/v1/pods"),
            own(["", "v1", "", "pods", "", ""])
        );
        assert_eq!(
            resource("/api/v1/namespaces"),
            own(["", "v1", "", "namespaces", "", ""])
        );
        assert_eq!(
            resource("/api/v1/namespaces/a"),
            own(["", "v1", "", "namespaces", "a", ""])
        );
        assert_eq!(
            resource("/api/v1/namespaces/a/status"),
            own(["", "v1", "", "namespaces", "a", "status"])
        );
        assert_eq!(
            resource("/api/v1/namespaces/a/pods/p/log"),
            own(["", "v1", "a", "pods", "p", "log"])
        );
        assert_eq!(
            resource("/apis/apps/v1/namespaces/a/deployments"),
            own(["apps", "v1", "a", "deployments", "", ""])
        );
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/openapi/v3/api/v1",
        ] {
            assert_eq!(Route::parse(path), Route::Other, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch=true&limit=5");
        assert_eq!(query.text("labelSelector"), "app=web,tier in (a)");
        assert!(query.flag("watch"));
        assert_eq!(query.number("limit"), Some(5));
        assert_eq!(query.text("gone"), "");
    }
}
