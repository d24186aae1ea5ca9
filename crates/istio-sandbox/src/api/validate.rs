//! What an object must be, in the words of the real validators; only what somebody here may get wrong.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{kind::Kind, status::Failure};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// One thing wrong with one field.
#[derive(Debug)]
pub(crate) struct Problem {
    field: String,
    reason: &'static str,
    message: String,
}

impl Problem {
    fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        let message = format!("Invalid value: {value}: {why}");
        Self {
            field: field.into(),
            reason: "FieldValueInvalid",
            message,
        }
    }

    fn required(field: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueRequired",
            message: "Required value".into(),
        }
    }
}

/// A 422 with everything that is wrong, or nothing.
pub(crate) fn verdict(kind: &Kind, name: &str, problems: &[Problem]) -> Result<(), Failure> {
    let texts: Vec<_> = problems
        .iter()
        .map(|p| format!("{}: {}", p.field, p.message))
        .collect();
    let text = match texts.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let causes = problems
        .iter()
        .map(|p| json!({"reason": p.reason, "message": p.message, "field": p.field}));
    let message = format!("{} \"{name}\" is invalid: {text}", kind.qualified());
    let mut failure = Failure::new(422, "Invalid", message)
        .about(kind, name)
        .causes(causes.collect());
    failure
        .details
        .insert("kind".into(), kind.kind.as_str().into());
    Err(failure)
}

/// What the decoder of the real server would refuse.
pub(crate) fn decodes(kind: &Kind, object: &Value) -> Result<(), Failure> {
    let refused = |why: &str| {
        let (kind, version) = (&kind.kind, &kind.version);
        Failure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    };
    for field in ["labels", "annotations"] {
        let values = object["metadata"][field].as_object().into_iter().flatten();
        if let Some((_, value)) = values.into_iter().find(|(_, value)| !value.is_string()) {
            let found = named_type(value);
            let place = format!("Go struct field ObjectMeta.metadata.{field} of type string");
            return Err(refused(&format!(
                "json: cannot unmarshal {found} into {place}"
            )));
        }
    }
    if kind.kind == "Secret" {
        for (_, value) in object["data"].as_object().into_iter().flatten() {
            if let Err(at) = base64(value.as_str().unwrap_or_default()) {
                return Err(refused(&format!("illegal base64 data at input byte {at}")));
            }
        }
    }
    Ok(())
}

fn named_type(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        _ => "object",
    }
}

/// The place of the first byte that is wrong.
fn base64(text: &str) -> Result<(), usize> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _)) => Err(at),
        Err(_) => Err(text.len()),
    }
}

/// What is wrong with an object by itself.
pub(crate) fn object(kind: &Kind, object: &Value) -> Vec<Problem> {
    let mut problems: Vec<_> = named(kind, object).into_iter().collect();
    match kind.kind.as_str() {
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" if kind.group == "apps" => {
            problems.extend(workload(&object["spec"]));
        }
        "Pod" => problems.extend(containers("spec", &object["spec"])),
        "Service" => problems.extend(service(&object["spec"])),
        "Secret" => {
            problems.extend(secret(object));
            problems.extend(large(object));
        }
        _ => {}
    }
    problems
}

fn named(kind: &Kind, object: &Value) -> Option<Problem> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let label = matches!(kind.kind.as_str(), "Namespace" | "Service");
    let good = |part: &str| {
        let inner = part
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    let valid = match kind.group.as_str() {
        // Names of roles are parts of paths, no more.
        "rbac.authorization.k8s.io" => true,
        _ if label => name.len() <= 63 && good(name),
        _ => name.len() <= 253 && name.split('.').all(good),
    };
    let rule = if label { LABEL } else { SUBDOMAIN };
    (!valid).then(|| Problem::invalid("metadata.name", &name.into(), rule))
}

fn workload(spec: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let selector = spec.get("selector").filter(|s| s.is_object());
    if selector.is_none() {
        problems.push(Problem::required("spec.selector"));
    }
    let labels = spec
        .pointer("/template/metadata/labels")
        .unwrap_or(&Value::Null);
    let none = Map::new();
    let wanted = selector
        .and_then(|s| s["matchLabels"].as_object())
        .unwrap_or(&none);
    if selector.is_none()
        || wanted
            .iter()
            .any(|(key, value)| labels.get(key) != Some(value))
    {
        let why = "`selector` does not match template `labels`";
        problems.push(Problem::invalid(
            "spec.template.metadata.labels",
            labels,
            why,
        ));
    }
    problems.extend(containers("spec.template.spec", &spec["template"]["spec"]));
    problems
}

fn containers(at: &str, spec: &Value) -> Vec<Problem> {
    let list = spec["containers"].as_array().filter(|l| !l.is_empty());
    let Some(list) = list else {
        return vec![Problem::required(format!("{at}.containers"))];
    };
    let mut problems = Vec::new();
    for (i, container) in list.iter().enumerate() {
        let missing = |field: &&str| container[*field].as_str().is_none_or(str::is_empty);
        let fields = ["name", "image"].into_iter().filter(missing);
        problems
            .extend(fields.map(|field| Problem::required(format!("{at}.containers[{i}].{field}"))));
    }
    problems
}

fn service(spec: &Value) -> Option<Problem> {
    let empty = spec["ports"].as_array().is_none_or(Vec::is_empty);
    let needed = spec["type"] != "ExternalName" && spec["clusterIP"] != "None";
    (empty && needed).then(|| Problem::required("spec.ports"))
}

/// So many bytes a Secret may hold.
const SECRET: usize = 1 << 20;

fn large(secret: &Value) -> Option<Problem> {
    let values = secret["data"].as_object().into_iter().flatten();
    let bytes = |value: &Value| STANDARD.decode(value.as_str()?).ok().map(|data| data.len());
    let held: usize = values.filter_map(|(_, value)| bytes(value)).sum();
    (held > SECRET).then(|| Problem {
        field: "data".into(),
        reason: "FieldValueTooLong",
        message: format!("Too long: may not be more than {SECRET} bytes"),
    })
}

fn secret(secret: &Value) -> Option<Problem> {
    let name = "kubernetes.io/service-account.name";
    let account = secret["metadata"]["annotations"][name]
        .as_str()
        .unwrap_or_default();
    let token = secret["type"] == "kubernetes.io/service-account-token";
    (token && account.is_empty())
        .then(|| Problem::required(format!("metadata.annotations[{name}]")))
}

/// Fields that cannot change once set, by kind.
const IMMUTABLE: [(&str, &str); 7] = [
    ("Secret", "/type"),
    ("Deployment", "/spec/selector"),
    ("DaemonSet", "/spec/selector"),
    ("ReplicaSet", "/spec/selector"),
    ("ClusterRoleBinding", "/roleRef"),
    ("RoleBinding", "/roleRef"),
    ("Service", "/spec/clusterIP"),
];

/// What is wrong with a change.
pub(crate) fn change(kind: &Kind, live: &Value, new: &Value) -> Vec<Problem> {
    let moved = |(owner, pointer): &&(&str, &str)| {
        *owner == kind.kind && live.pointer(pointer) != new.pointer(pointer)
    };
    let mut problems: Vec<_> = IMMUTABLE
        .iter()
        .filter(moved)
        .map(|(_, pointer)| fixed(pointer, new))
        .collect();
    match kind.kind.as_str() {
        "Service" => problems.extend(class(live, new)),
        "Secret" | "ConfigMap" if live["immutable"] == true => problems.extend(sealed(live, new)),
        _ => {}
    }
    problems
}

fn fixed(pointer: &str, new: &Value) -> Problem {
    let value = new.pointer(pointer).unwrap_or(&Value::Null);
    match pointer {
        "/spec/clusterIP" => Problem::invalid(
            "spec.clusterIPs[0]",
            &json!([value]),
            "may not change once set",
        ),
        "/roleRef" => {
            let as_go = json!({"APIGroup": value["apiGroup"], "Kind": value["kind"], "Name": value["name"]});
            Problem::invalid("roleRef", &as_go, "cannot change roleRef")
        }
        _ => Problem::invalid(
            pointer.trim_start_matches('/').replace('/', "."),
            value,
            "field is immutable",
        ),
    }
}

fn class(live: &Value, new: &Value) -> Option<Problem> {
    let both = live["spec"]["type"] == "LoadBalancer" && new["spec"]["type"] == "LoadBalancer";
    let class = &new["spec"]["loadBalancerClass"];
    let moved = both && live["spec"]["loadBalancerClass"] != *class;
    moved.then(|| Problem::invalid("spec.loadBalancerClass", class, "may not change once set"))
}

fn sealed(live: &Value, new: &Value) -> Option<Problem> {
    let moved = ["data", "binaryData", "immutable"]
        .into_iter()
        .find(|f| live.get(*f) != new.get(*f));
    moved.map(|field| Problem {
        field: field.into(),
        reason: "FieldValueForbidden",
        message: "Forbidden: field is immutable when `immutable` is set".into(),
    })
}
