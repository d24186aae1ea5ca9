//! What users and others put into a mesh, and what a join makes, made otherwise.

use serde_json::{Value, json};

use super::{Do, GATEWAY, ISTIO, MUTATING, OPENER, SECURITY, SHOP, object, service};
use crate::kit::istio;

/// What users put into a mesh.
pub(super) fn rules() -> (Vec<Do>, Vec<&'static str>) {
    let (security, network) = ("security.istio.io/v1", "networking.istio.io/v1");
    let policies = "/apis/networking.k8s.io/v1/namespaces";
    let within = |api: &'static str, space: &str, plural: &str| -> &'static str {
        Box::leak(format!("{api}/{space}/{plural}").into_boxed_str())
    };
    let netpol = |spec: Value| object("NetworkPolicy", "networking.k8s.io/v1", "closed", spec);
    let opener = json!({"selector": {"istio": "eastwestgateway"}, "servers": [{"port": {"number": 15443, "name": "tls",
        "protocol": "TLS"}, "tls": {"mode": "SIMPLE", "credentialName": "x"}, "hosts": ["*"]}]});
    let what = vec![
        Do::Create(
            "eks-1",
            within(SECURITY, "shop", "peerauthentications"),
            object(
                "PeerAuthentication",
                security,
                "plain",
                json!({"mtls": {"mode": "DISABLE"}}),
            ),
        ),
        Do::Create(
            "eks-1",
            within(ISTIO, "shop", "destinationrules"),
            object(
                "DestinationRule",
                network,
                "plain",
                json!({"host": "web", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
            ),
        ),
        Do::Create(
            "eks-1",
            within(SECURITY, "istio-ingress", "authorizationpolicies"),
            object("AuthorizationPolicy", security, "nobody", json!({})),
        ),
        Do::Create(
            "eks-2",
            within(ISTIO, "shop", "sidecars"),
            object(
                "Sidecar",
                network,
                "default",
                json!({"egress": [{"hosts": ["istio-system/*"]}]}),
            ),
        ),
        Do::Create(
            "eks-2",
            within(policies, "istio-ingress", "networkpolicies"),
            netpol(json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
        ),
        Do::Create(
            "eks-2",
            within(policies, "istio-system", "networkpolicies"),
            netpol(json!({"podSelector": {"matchLabels": {"app": "istiod"}},
                "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 15012}]}]})),
        ),
        Do::Create(
            "eks-3",
            within(ISTIO, "shop", "gateways"),
            object("Gateway", network, "mine", opener),
        ),
        Do::Create(
            "eks-3",
            "/api/v1/namespaces",
            json!({"metadata": {"name": "canary", "labels": {"istio.io/rev": "canary"}}}),
        ),
        Do::Merge(
            "eks-3",
            "/api/v1/namespaces/shop".into(),
            json!({"metadata": {"labels": {"istio.io/rev": "default"}}}),
        ),
        Do::Create(
            "eks-1",
            SHOP,
            service(
                "old",
                json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}),
            ),
        ),
        Do::Create("eks-1", SHOP, service("db", json!({}))),
        Do::Create("eks-2", SHOP, service("db", json!({"clusterIP": "None"}))),
        Do::Create(
            "eks-1",
            SHOP,
            service("peers", json!({"clusterIP": "None"})),
        ),
        Do::Create(
            "eks-3",
            SHOP,
            service("peers", json!({"clusterIP": "None"})),
        ),
        Do::Delete("eks-3", format!("{SHOP}/web")),
        Do::Merge(
            "eks-2",
            format!("{SHOP}/api"),
            json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 8080}]}}),
        ),
    ];
    let want = vec![
        "mtls-disabled/eks-1",
        "rule-without-mtls/eks-1",
        "gateway-denied/eks-1",
        "sidecar-scope/eks-2",
        "policy-closes-gateway/eks-2",
        "policy-closes-istiod/eks-2",
        "gateway-conflict/eks-3",
        "revision-unknown/eks-3",
        "injection-conflict/eks-3",
        "external-name-alias/eks-1",
        "service-kind-differs/eks-2/eks-1",
        "service-missing/eks-2/eks-1",
        "service-missing/eks-3/eks-1",
        "headless-shared/eks-1/eks-3",
        "service-ports-differ/eks-2/eks-1",
    ];
    (what, want)
}

/// What a join makes, made otherwise.
pub(super) fn installed() -> (Vec<Do>, Vec<&'static str>) {
    let values = |cluster: &str, mesh: &str, network: &str| {
        let values = json!({"global": {"hub": "registry.istio.io/release", "tag": "1.31.4", "meshID": mesh, "network": network,
            "multiCluster": {"clusterName": cluster}, "proxyMetadata": {"PROXY_CONFIG_XDS_AGENT": "true"}}});
        json!({"data": {"values": values.to_string()}})
    };
    let trust =
        json!({"data": {"mesh": "rootNamespace: istio-system\ntrustDomain: other.local\n"}});
    let what = vec![
        Do::Merge(
            "eks-1",
            istio("configmaps", "istio-sidecar-injector"),
            values("eks-1", "other", "net-x"),
        ),
        Do::Merge(
            "eks-2",
            GATEWAY.into(),
            json!({"spec": {"ports": [{"name": "tls", "port": 15443, "targetPort": 8443}]}}),
        ),
        Do::Merge(
            "eks-2",
            istio("services", "istiod"),
            json!({"spec": {"ports": [
            {"name": "grpc-xds", "port": 15010}, {"name": "https-dns", "port": 15012},
            {"name": "https-webhook", "port": 443, "targetPort": 8443}, {"name": "http-monitoring", "port": 15014}]}}),
        ),
        Do::Merge(
            "eks-3",
            OPENER.into(),
            json!({"spec": {"selector": {"istio": "other"}}}),
        ),
        Do::Merge("eks-3", istio("configmaps", "istio"), trust),
        Do::Delete("eks-3", format!("{MUTATING}/istio-sidecar-injector")),
    ];
    let want = vec![
        "network-differs/eks-1",
        "mesh-id-differs/eks-1",
        "proxy-stale/eks-1",
        "gateway-port/eks-2",
        "webhook-unreachable/eks-2",
        "gateway-selector/eks-3",
        "trust-domain-differs/eks-3/eks-1",
        "trust-domain-differs/eks-3/eks-2",
        "no-injector/eks-3",
    ];
    (what, want)
}

/// What the gateway's Service says.
pub(super) fn exposed() -> (Vec<Do>, Vec<&'static str>) {
    let annotations = |all: Value| json!({"metadata": {"annotations": all}});
    let aws = |end: &str| format!("service.beta.kubernetes.io/aws-load-balancer-{end}");
    let what = vec![
        Do::Merge(
            "eks-1",
            GATEWAY.into(),
            annotations(json!({aws("ssl-cert"): "arn:aws:acm:x",
            aws("attributes"): "a=b,dns_record.client_routing_policy=availability_zone_affinity"})),
        ),
        Do::Merge(
            "eks-2",
            GATEWAY.into(),
            annotations(json!({aws("target-group-attributes"): "proxy_protocol_v2.enabled=true"})),
        ),
        Do::Merge(
            "eks-3",
            GATEWAY.into(),
            json!({"spec": {"ports": [{"name": "tls", "port": 15443, "targetPort": 15443},
            {"name": "tls-istiod", "port": 15012, "targetPort": 15012}]}}),
        ),
        Do::Merge(
            "eks-3",
            format!("{MUTATING}/istio-sidecar-injector"),
            json!({"webhooks": null}),
        ),
    ];
    let want = vec![
        "nlb-ends-tls/eks-1",
        "nlb-zone-affinity/eks-1",
        "nlb-proxy-protocol/eks-2",
        "gateway-extra-ports/eks-3",
        "no-injector/eks-3",
    ];
    (what, want)
}
