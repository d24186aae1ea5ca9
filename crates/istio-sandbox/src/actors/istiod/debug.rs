//! istiod's debug pages, in the exact shapes of the real ones.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Istiod, view::View};
use crate::actors::{Cluster, process::Page};

/// The page behind a path of istiod's ports 8080 and 15014.
pub(crate) fn page(cluster: &Cluster, istiod: &Istiod, path: &str) -> Page {
    let view = istiod.view();
    match path {
        "/ready" if istiod.ready() => Page::text(StatusCode::OK, ""),
        "/ready" => Page::text(StatusCode::SERVICE_UNAVAILABLE, ""),
        "/version" => Page::text(
            StatusCode::OK,
            &format!("{}-embedded-Clean", istiod.version),
        ),
        "/debug/clusterz" => Page::json(&istiod.clusters()),
        "/debug/networkz" => Page::json(&networks(&view)),
        "/debug/syncz" => Page::json(&syncs(cluster, istiod)),
        "/debug/endpointShardz" => Page::json(&shards(&view)),
        "/metrics" => Page::text(StatusCode::OK, &metrics(istiod)),
        _ => Page::text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// Of the many that there are, those that somebody reads.
fn metrics(istiod: &Istiod) -> String {
    let (root, chain) = istiod.authority().ends();
    let gauge = |name: &str, value: Option<i64>| {
        let value = value.map(|seconds| format!("citadel_server_{name} {seconds:e}\n"));
        value.unwrap_or_default()
    };
    format!(
        "# TYPE citadel_server_root_cert_expiry_timestamp gauge\n{}\
         # TYPE citadel_server_cert_chain_expiry_timestamp gauge\n{}",
        gauge("root_cert_expiry_timestamp", root),
        gauge("cert_chain_expiry_timestamp", chain)
    )
}

fn networks(view: &View) -> Value {
    let entry = |g: &super::view::Gateway| {
        json!({"Network": g.network, "Cluster": g.cluster, "Addr": g.address, "Port": g.port, "HBONEPort": 0,
            "ServiceAccount": {"Namespace": "", "Name": ""}})
    };
    view.gateways.iter().map(entry).collect()
}

fn syncs(cluster: &Cluster, istiod: &Istiod) -> Value {
    let mut all = cluster.processes.proxies();
    all.retain(|p| p.ready());
    // Its proxies read its view itself, so that they have always taken what it last sent.
    let nonce = format!("{}/embedded", istiod.version);
    all.iter()
        .map(|p| {
            json!({"cluster_id": istiod.id, "proxy": format!("{}.{}", p.pod, p.namespace),
                "proxy_type": if p.gateway { "router" } else { "sidecar" }, "istio_version": istiod.version,
                "endpoint_sent": nonce, "endpoint_acked": nonce})
        })
        .collect()
}

fn shards(view: &View) -> Value {
    let mut services = json!({});
    for ((namespace, service, port), endpoints) in &*view.endpoints {
        let host = format!("{service}.{namespace}.svc.cluster.local");
        for e in endpoints {
            let shard =
                &mut services[&host][namespace]["Shards"][format!("Kubernetes/{}", e.cluster)];
            let entry = json!({"Addresses": [e.address], "EndpointPort": e.port, "ServicePortName": port.to_string(),
                "Network": e.network, "TLSMode": if e.mtls { "istio" } else { "disabled" }});
            match shard.as_array_mut() {
                Some(list) => list.push(entry),
                None => *shard = json!([entry]),
            }
        }
    }
    services
}
