//! Who may do what: roles and bindings as they are in the store.

use serde_json::{Value, json};

use super::{hooks::UserInfo, state::State, status::Failure};

/// What somebody wants to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ask {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// With the subresource: `pods/log`.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// A path that is no resource; then the rest is empty.
    pub(crate) path: String,
}

const ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const CLUSTER: &str = "clusterrolebindings.rbac.authorization.k8s.io";
const LOCAL: &str = "rolebindings.rbac.authorization.k8s.io";
const LOCAL_ROLES: &str = "roles.rbac.authorization.k8s.io";

/// A rule that holds for somebody, and through which binding.
struct Grant<'a> {
    rule: &'a Value,
    binding: &'a Value,
    subject: &'a Value,
}

impl State {
    pub(crate) fn may(&self, user: &UserInfo, ask: &Ask) -> bool {
        self.why(user, ask).is_some()
    }

    /// Why somebody may do something; nothing if they may not.
    pub(crate) fn why(&self, user: &UserInfo, ask: &Ask) -> Option<String> {
        if masters(user) {
            return Some(String::new());
        }
        let grants = self.grants(user, &ask.namespace);
        grants
            .iter()
            .find(|grant| allows(grant.rule, ask))
            .map(Grant::reason)
    }

    pub(crate) fn authorize(&self, user: &UserInfo, ask: &Ask) -> Result<(), Failure> {
        if self.may(user, ask) {
            Ok(())
        } else {
            Err(refusal(user, ask))
        }
    }

    /// The rules that hold for a user, cluster-wide and in a namespace.
    pub(crate) fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<&Value> {
        self.grants(user, namespace)
            .into_iter()
            .map(|grant| grant.rule)
            .collect()
    }

    fn grants<'a>(&'a self, user: &UserInfo, namespace: &str) -> Vec<Grant<'a>> {
        let cluster = self
            .objects
            .list(CLUSTER, None)
            .map(|binding| (binding, ""));
        let local = self
            .objects
            .list(LOCAL, Some(namespace))
            .filter(|_| !namespace.is_empty());
        let mut grants = Vec::new();
        for (binding, namespace) in cluster.chain(local.map(|binding| (binding, namespace))) {
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            let Some(subject) = subjects.into_iter().find(|s| is(s, user, namespace)) else {
                continue;
            };
            let rules = self.rules_of(binding, namespace).iter();
            grants.extend(rules.map(|rule| Grant {
                rule,
                binding,
                subject,
            }));
        }
        grants
    }

    fn rules_of(&self, binding: &Value, namespace: &str) -> &[Value] {
        let name = binding["roleRef"]["name"].as_str().unwrap_or_default();
        let role = match binding["roleRef"]["kind"].as_str() {
            Some("Role") => self.objects.get(LOCAL_ROLES, namespace, name),
            _ => self.objects.get(ROLES, "", name),
        };
        role.and_then(|r| r["rules"].as_array())
            .map_or(&[], Vec::as_slice)
    }
}

impl Grant<'_> {
    /// As the real server says it in reviews.
    fn reason(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (role, subject) = (&self.binding["roleRef"], self.subject);
        let (name, namespace) = (
            &self.binding["metadata"]["name"],
            &self.binding["metadata"]["namespace"],
        );
        let binding = match namespace.as_str() {
            Some(namespace) => format!("RoleBinding \"{}/{namespace}\"", text(name)),
            None => format!("ClusterRoleBinding {name}"),
        };
        let who = match subject["namespace"].as_str() {
            Some(namespace) => format!(
                "{} \"{}/{namespace}\"",
                text(&subject["kind"]),
                text(&subject["name"])
            ),
            None => format!("{} {}", text(&subject["kind"]), subject["name"]),
        };
        format!(
            "RBAC: allowed by {binding} of {} {} to {who}",
            text(&role["kind"]),
            role["name"]
        )
    }
}

/// Whether somebody is above all rules.
pub(crate) fn masters(user: &UserInfo) -> bool {
    user.groups.iter().any(|g| g == "system:masters")
}

fn is(subject: &Value, user: &UserInfo, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|g| g == name),
        Some("ServiceAccount") => {
            let home = subject["namespace"].as_str().unwrap_or(namespace);
            user.name == format!("system:serviceaccount:{home}:{name}")
        }
        _ => false,
    }
}

fn has(rule: &Value, field: &str, wanted: &str) -> bool {
    rule[field]
        .as_array()
        .into_iter()
        .flatten()
        .any(|v| v == "*" || v == wanted)
}

fn allows(rule: &Value, ask: &Ask) -> bool {
    if !has(rule, "verbs", &ask.verb) {
        return false;
    }
    if !ask.path.is_empty() {
        let urls = rule["nonResourceURLs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        return urls.into_iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => ask.path.starts_with(prefix),
            None => ask.path == url,
        });
    }
    let sub = ask
        .resource
        .split_once('/')
        .map(|(_, sub)| format!("*/{sub}"));
    let resource =
        has(rule, "resources", &ask.resource) || sub.is_some_and(|s| has(rule, "resources", &s));
    let names = rule["resourceNames"].as_array().filter(|n| !n.is_empty());
    let named = names.is_none_or(|names| names.iter().any(|n| *n == ask.name.as_str()));
    has(rule, "apiGroups", &ask.group) && resource && named
}

fn refusal(user: &UserInfo, ask: &Ask) -> Failure {
    if !ask.path.is_empty() {
        let message = format!(
            "forbidden: User \"{}\" cannot {} path \"{}\"",
            user.name, ask.verb, ask.path
        );
        return Failure::new(403, "Forbidden", message);
    }
    let plural = ask.resource.split('/').next().unwrap_or_default();
    let shown = if ask.group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{}", ask.group)
    };
    let what = if ask.name.is_empty() {
        shown
    } else {
        format!("{shown} \"{}\"", ask.name)
    };
    let place = match ask.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let message = format!(
        "{what} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
        user.name, ask.verb, ask.resource, ask.group
    );
    let mut failure = Failure::new(403, "Forbidden", message);
    for (field, value) in [
        ("name", &*ask.name),
        ("group", &*ask.group),
        ("kind", plural),
    ] {
        if !value.is_empty() {
            failure.details.insert(field.into(), value.into());
        }
    }
    failure
}

/// Roles every cluster is born with, as far as somebody asks for them.
pub(crate) fn born_roles() -> Vec<Value> {
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "rules": rules});
    let read = ["get", "list", "watch"];
    let core = [
        "configmaps",
        "endpoints",
        "events",
        "persistentvolumeclaims",
        "pods",
        "pods/log",
        "pods/status",
        "services",
        "serviceaccounts",
        "namespaces",
    ];
    let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let found = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    vec![
        role(
            "cluster-admin",
            json!([
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]),
        ),
        role(
            "view",
            json!([
                {"apiGroups": [""], "resources": core, "verbs": read},
                {"apiGroups": ["apps", "autoscaling", "batch", "policy", "networking.k8s.io", "discovery.k8s.io"], "resources": ["*"], "verbs": read},
            ]),
        ),
        role(
            "system:discovery",
            json!([{"nonResourceURLs": found, "verbs": ["get"]}]),
        ),
        role(
            "system:public-info-viewer",
            json!([{"nonResourceURLs": health, "verbs": ["get"]}]),
        ),
        role(
            "system:basic-user",
            json!([
                {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
                {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
            ]),
        ),
        role(
            "system:auth-delegator",
            json!([
                {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
                {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
            ]),
        ),
    ]
}

/// Bindings every cluster is born with.
pub(crate) fn born_bindings() -> Vec<Value> {
    let binding = |role: &str, groups: &[&str]| {
        let subjects: Vec<_> = groups
            .iter()
            .map(|g| json!({"kind": "Group", "name": g}))
            .collect();
        json!({"metadata": {"name": role}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects})
    };
    vec![
        binding("cluster-admin", &["system:masters"]),
        binding("system:discovery", &["system:authenticated"]),
        binding("system:basic-user", &["system:authenticated"]),
        binding(
            "system:public-info-viewer",
            &["system:authenticated", "system:unauthenticated"],
        ),
    ]
}
