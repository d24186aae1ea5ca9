//! Envoy's admin pages, as far as anybody reads them.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Proxy, ServicePort};
use crate::actors::{istiod::Der, process::Page};

/// The page behind a path of port 15000.
pub(crate) fn page(proxy: &Proxy, uri: &Uri) -> Page {
    let query = uri.query().unwrap_or_default();
    match uri.path() {
        "/clusters" if query.contains("format=json") => Page::json(&clusters(proxy)),
        "/clusters" => Page::text(StatusCode::OK, &clusters_text(proxy)),
        "/config_dump" if query.contains("resource=dynamic_active_secrets") => {
            Page::json(&json!({ "configs": secrets(proxy) }))
        }
        "/config_dump" => Page::json(&dump(proxy, query.contains("include_eds"))),
        "/certs" => Page::json(&certs(proxy)),
        "/server_info" => Page::json(&server_info(proxy)),
        "/ready" if proxy.ready() => Page::text(StatusCode::OK, "LIVE\n"),
        "/ready" => Page::text(StatusCode::SERVICE_UNAVAILABLE, "PRE_INITIALIZING\n"),
        _ => Page::text(StatusCode::NOT_FOUND, "invalid path. admin commands are:\n"),
    }
}

/// Envoy's name for a service port.
pub(crate) fn cluster_name((namespace, service, port): &ServicePort) -> String {
    format!("outbound|{port}||{service}.{namespace}.svc.cluster.local")
}

fn clusters(proxy: &Proxy) -> Value {
    let view = proxy.held();
    let statuses: Vec<Value> = view
        .endpoints
        .keys()
        .map(|port| {
            let hosts: Vec<Value> = proxy
                .hosts(&view, port)
                .into_iter()
                .map(|((address, port), behind)| {
                    json!({"address": {"socket_address": {"address": address, "port_value": port}},
                        "health_status": {"eds_health_status": "HEALTHY"}, "weight": behind.weight,
                        "locality": locality(&behind.zone)})
                })
                .collect();
            let name = cluster_name(port);
            let mut status = json!({"name": name, "added_via_api": true, "observability_name": name, "eds_service_name": name});
            if !hosts.is_empty() {
                status["host_statuses"] = hosts.into();
            }
            status
        })
        .collect();
    json!({ "cluster_statuses": statuses })
}

/// A zone, and the region it is in.
fn locality(zone: &str) -> Value {
    let region = zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
    match zone.is_empty() {
        true => json!({}),
        false => json!({"region": region, "zone": zone}),
    }
}

fn clusters_text(proxy: &Proxy) -> String {
    let view = proxy.held();
    let mut text = String::new();
    for port in view.endpoints.keys() {
        for ((address, number), behind) in proxy.hosts(&view, port) {
            let weight = behind.weight;
            let name = cluster_name(port);
            text += &format!(
                "{name}::{address}:{number}::health_flags::healthy\n{name}::{address}:{number}::weight::{weight}\n"
            );
        }
    }
    text
}

fn dump(proxy: &Proxy, endpoints: bool) -> Value {
    let mut configs = vec![
        json!({"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", "dynamic_active_secrets": secrets(proxy)}),
    ];
    if endpoints {
        let view = proxy.held();
        let all: Vec<Value> = view
            .endpoints
            .keys()
            .map(|port| endpoint_config(proxy, port))
            .collect();
        configs.push(json!({"@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": all}));
    }
    json!({ "configs": configs })
}

fn endpoint_config(proxy: &Proxy, port: &ServicePort) -> Value {
    let hosts: Vec<Value> = proxy
        .hosts(&proxy.held(), port)
        .into_iter()
        .map(|((address, port), behind)| {
            let weight = behind.weight;
            json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}},
                "health_status": "HEALTHY", "load_balancing_weight": weight})
        })
        .collect();
    json!({"endpoint_config": {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster_name(port), "endpoints": [{"locality": {}, "lb_endpoints": hosts}]}})
}

fn secrets(proxy: &Proxy) -> Value {
    let kind = "type.googleapis.com/envoy.admin.v3.SecretsConfigDump.DynamicSecret";
    let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let mut all = Vec::new();
    if let Some(leaf) = proxy.leaf() {
        let chain = STANDARD.encode(pem(&leaf.chain));
        all.push(
            json!({"@type": kind, "name": "default", "secret": {"@type": secret, "name": "default",
            "tls_certificate": {"certificate_chain": {"inline_bytes": chain},
                "private_key": {"inline_bytes": STANDARD.encode("[redacted]")}}}}),
        );
        let roots: Vec<Der> = proxy.roots().into_iter().collect();
        all.push(
            json!({"@type": kind, "name": "ROOTCA", "secret": {"@type": secret, "name": "ROOTCA",
            "validation_context": {"trusted_ca": {"inline_bytes": STANDARD.encode(pem(&roots))}}}}),
        );
    }
    all.into()
}

fn pem(certificates: &[Der]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text += "-----BEGIN CERTIFICATE-----\n";
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text += &String::from_utf8_lossy(line);
            text.push('\n');
        }
        text += "-----END CERTIFICATE-----\n";
    }
    text
}

fn certs(proxy: &Proxy) -> Value {
    let roots: Vec<Value> = proxy.roots().iter().filter_map(|c| cert(c)).collect();
    let chain: Vec<Value> = proxy
        .leaf()
        .iter()
        .flat_map(|l| &l.chain)
        .filter_map(|c| cert(c))
        .collect();
    json!({"certificates": [{"ca_cert": roots, "cert_chain": chain}]})
}

fn cert(der: &[u8]) -> Option<Value> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let names = cert.subject_alternative_name().ok().flatten();
    let names: Vec<Value> = names
        .iter()
        .flat_map(|n| &n.value.general_names)
        .filter_map(|n| match n {
            x509_parser::extensions::GeneralName::URI(uri) => Some(json!({ "uri": uri })),
            x509_parser::extensions::GeneralName::DNSName(name) => Some(json!({ "dns": name })),
            _ => None,
        })
        .collect();
    let time = |t: x509_parser::time::ASN1Time| {
        jiff::Timestamp::from_second(t.timestamp())
            .map(|t| t.to_string())
            .unwrap_or_default()
    };
    let left = cert
        .validity()
        .time_to_expiration()
        .map_or(0, |d| d.whole_days());
    Some(
        json!({"path": "<inline>", "serial_number": cert.raw_serial_as_string().replace(':', ""),
        "subject_alt_names": names, "days_until_expiration": left.to_string(),
        "valid_from": time(cert.validity().not_before), "expiration_time": time(cert.validity().not_after)}),
    )
}

fn server_info(proxy: &Proxy) -> Value {
    let kind = if proxy.gateway { "router" } else { "sidecar" };
    json!({"version": format!("embedded/{}", proxy.version), "state": if proxy.ready() { "LIVE" } else { "PRE_INITIALIZING" },
        "node": {"id": format!("{kind}~{}~{}.{}~{}.svc.cluster.local", proxy.address, proxy.pod, proxy.namespace, proxy.namespace)}})
}
