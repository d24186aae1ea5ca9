//! Pod Security: what the namespace's `enforce` label lets a pod be.

use serde_json::Value;

use super::{kind::Kind, status::Failure};

const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(crate) fn check(kind: &Kind, namespace: &Value, pod: &Value) -> Result<(), Failure> {
    let labels = &namespace["metadata"]["labels"];
    let level = labels["pod-security.kubernetes.io/enforce"]
        .as_str()
        .unwrap_or("privileged");
    let version = labels["pod-security.kubernetes.io/enforce-version"]
        .as_str()
        .unwrap_or("latest");
    let restricted = level == "restricted";
    if !restricted && level != "baseline" {
        return Ok(());
    }
    // In the order of the real checks.
    let mut wrong: Vec<_> = added(&pod["spec"], false)
        .filter(|_| !restricted)
        .into_iter()
        .collect();
    wrong.extend(host(&pod["spec"], restricted));
    if restricted {
        wrong.extend(restrictions(&pod["spec"]));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!(
        "violates PodSecurity \"{level}:{version}\": {}",
        wrong.join(", ")
    );
    Err(Failure::forbidden(kind, name, &why))
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten())
}

/// `container "a"`, `containers "a", "b"` that break a rule.
fn offenders(spec: &Value, breaks: impl Fn(&Value) -> bool) -> Option<(String, &'static str)> {
    let names: Vec<_> = containers(spec)
        .filter(|c| breaks(c))
        .map(|c| c["name"].to_string())
        .collect();
    match names.as_slice() {
        [] => None,
        [one] => Some((format!("container {one}"), "")),
        many => Some((format!("containers {}", many.join(", ")), "s")),
    }
}

/// Whether there is more than one volume of the host, and their names.
fn host_paths(spec: &Value) -> Option<(&'static str, String)> {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let ours = volumes.filter(|v| v.get("hostPath").is_some());
    let names: Vec<_> = ours.map(|v| v["name"].to_string()).collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    (!names.is_empty()).then(|| (plural, names.join(", ")))
}

fn host(spec: &Value, restricted: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let shared: Vec<_> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|f| spec[*f] == true)
        .collect();
    if !shared.is_empty() {
        let pairs: Vec<_> = shared.iter().map(|f| format!("{f}=true")).collect();
        wrong.push(format!("host namespaces ({})", pairs.join(", ")));
    }
    let volumes = host_paths(spec).filter(|_| !restricted);
    wrong.extend(
        volumes.map(|(plural, names)| format!("hostPath volumes (volume{plural} {names})")),
    );
    if let Some((who, _)) = offenders(spec, |c| c["securityContext"]["privileged"] == true) {
        wrong.push(format!(
            "privileged ({who} must not set securityContext.privileged=true)"
        ));
    }
    wrong
}

fn added(spec: &Value, restricted: bool) -> Option<String> {
    let allowed: &[&str] = if restricted {
        &["NET_BIND_SERVICE"]
    } else {
        &BASELINE_CAPABILITIES
    };
    let extra = |container: &Value| -> Vec<String> {
        let list = container
            .pointer("/securityContext/capabilities/add")
            .and_then(Value::as_array);
        let names = list
            .into_iter()
            .flatten()
            .filter(|c| c.as_str().is_some_and(|c| !allowed.contains(&c)));
        names.map(ToString::to_string).collect()
    };
    let dropped = |c: &Value| {
        c.pointer("/securityContext/capabilities/drop")
            .and_then(Value::as_array)
            .is_some_and(|l| l.iter().any(|d| d == "ALL"))
    };
    let mut parts = Vec::new();
    if let (true, Some((who, _))) = (restricted, offenders(spec, |c| !dropped(c))) {
        parts.push(format!(
            "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    if let Some((who, _)) = offenders(spec, |c| !extra(c).is_empty()) {
        let mut names: Vec<_> = containers(spec).flat_map(extra).collect();
        names.sort();
        names.dedup();
        parts.push(format!(
            "{who} must not include {} in securityContext.capabilities.add",
            names.join(", ")
        ));
    }
    let word = if restricted {
        "unrestricted capabilities"
    } else {
        "non-default capabilities"
    };
    (!parts.is_empty()).then(|| format!("{word} ({})", parts.join("; ")))
}

fn restrictions(spec: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some((who, _)) = offenders(spec, |c| {
        c["securityContext"]["allowPrivilegeEscalation"] != false
    }) {
        wrong.push(format!("allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"));
    }
    wrong.extend(added(spec, true));
    if let Some((plural, names)) = host_paths(spec) {
        let verb = if plural.is_empty() { "uses" } else { "use" };
        wrong.push(format!(
            "restricted volume types (volume{plural} {names} {verb} restricted volume type \"hostPath\")"
        ));
    }
    let pod = &spec["securityContext"];
    let non_root = |c: &Value| match &c["securityContext"]["runAsNonRoot"] {
        Value::Bool(yes) => *yes,
        _ => pod["runAsNonRoot"] == true,
    };
    if let Some((who, _)) = offenders(spec, |c| !non_root(c)) {
        wrong.push(format!(
            "runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"
        ));
    }
    if let Some((who, _)) = offenders(spec, |c| c["securityContext"]["runAsUser"] == 0) {
        wrong.push(format!("runAsUser=0 ({who} must not set runAsUser=0)"));
    }
    let profiled = |c: &Value| {
        let own = c
            .pointer("/securityContext/seccompProfile/type")
            .or_else(|| pod.pointer("/seccompProfile/type"));
        own.is_some_and(|kind| kind == "RuntimeDefault" || kind == "Localhost")
    };
    if let Some((who, _)) = offenders(spec, |c| !profiled(c)) {
        wrong.push(format!("seccompProfile (pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kinds;
    use serde_json::json;

    fn verdict(level: &str, spec: Value) -> Result<(), String> {
        let namespace =
            json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        let kind = Kinds::new().by_resource("pods").unwrap();
        check(
            &kind,
            &namespace,
            &json!({"metadata": {"name": "p"}, "spec": spec}),
        )
        .map_err(|f| f.message)
    }

    #[test]
    fn each_level_refuses_what_it_should() {
        let plain = json!({"containers": [{"name": "a"}]});
        let net = json!({"containers": [{"name": "a", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}}]});
        let good = json!({"containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}}}]});
        assert_eq!(verdict("privileged", net.clone()), Ok(()));
        assert_eq!(verdict("baseline", plain.clone()), Ok(()));
        assert_eq!(verdict("restricted", good), Ok(()));
        let message = verdict("baseline", net).unwrap_err();
        assert_eq!(
            message,
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": non-default capabilities \
            (container \"a\" must not include \"NET_ADMIN\", \"NET_RAW\" in securityContext.capabilities.add)"
        );
        assert!(
            verdict("restricted", plain)
                .unwrap_err()
                .contains("runAsNonRoot != true")
        );
        let host = json!({"hostNetwork": true, "containers": [{"name": "a"}]});
        assert!(
            verdict("baseline", host)
                .unwrap_err()
                .contains("host namespaces (hostNetwork=true)")
        );
    }
}
