//! What a proxy holds of a Service, by the answer of Envoy's `/clusters?format=json`. Pure.

use serde_json::Value;

use super::Endpoint;
use crate::verify::service::Name;

/// The page that says it.
pub(crate) const PAGE: &str = "/clusters?format=json";
/// What Envoy can have against an endpoint, and in words.
const AGAINST: [(&str, &str); 7] = [
    ("failed_outlier_check", "ejected"),
    ("failed_active_health_check", "failed health check"),
    ("failed_active_degraded_check", "degraded"),
    ("pending_dynamic_removal", "being removed"),
    ("pending_active_hc", "not checked yet"),
    ("excluded_via_immediate_hc_fail", "failed at once"),
    ("active_hc_timeout", "health check timed out"),
];

/// Everything that is held of a Service, port by port.
pub(crate) fn of(body: &[u8], service: &Name) -> Result<Vec<Endpoint>, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|e| format!("no JSON: {e}"))?;
    let Some(clusters) = answer["cluster_statuses"].as_array() else {
        return Err("its answer has no cluster_statuses".into());
    };
    let host = format!("{}.{}.svc.", service.name, service.namespace);
    let mut all = vec![];
    for cluster in clusters {
        let name = cluster["name"].as_str().unwrap_or_default();
        let mut parts = name.splitn(4, '|');
        let (direction, port) = (parts.next(), parts.next());
        let (subset, to) = (parts.next(), parts.next());
        if direction != Some("outbound") || !to.is_some_and(|to| to.starts_with(&host)) {
            continue;
        }
        let Some(port) = port.and_then(|p| p.parse().ok()) else {
            continue;
        };
        let subset = subset.filter(|s| !s.is_empty());
        let hosts = cluster["host_statuses"].as_array().into_iter().flatten();
        all.extend(hosts.filter_map(|host| endpoint(host, port, subset)));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn endpoint(host: &Value, service_port: u16, subset: Option<&str>) -> Option<Endpoint> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let socket = &host["address"]["socket_address"];
    let health = &host["health_status"];
    let said = AGAINST.iter().filter(|(key, _)| health[*key] == true);
    let mut against: Vec<String> = said.map(|(_, words)| (*words).to_owned()).collect();
    let by_istiod = health["eds_health_status"].as_str().unwrap_or("HEALTHY");
    // A degraded one is used where there is no other.
    let is_used = ["HEALTHY", "UNKNOWN", "DEGRADED"].contains(&by_istiod);
    if !is_used {
        against.push(format!("{} by istiod", by_istiod.to_lowercase()));
    }
    let harmless = ["degraded", "not checked yet"];
    Some(Endpoint {
        service_port,
        subset: subset.map(str::to_owned),
        address: socket["address"].as_str()?.to_owned(),
        port: u16::try_from(socket["port_value"].as_u64()?).ok()?,
        of: None,
        healthy: against.iter().all(|a| harmless.contains(&a.as_str())),
        ejected: health["failed_outlier_check"] == true,
        against,
        region: text(&host["locality"]["region"]),
        zone: text(&host["locality"]["zone"]),
        weight: host["weight"].as_u64().unwrap_or(1),
        priority: host["priority"].as_u64().unwrap_or(0),
    })
}
