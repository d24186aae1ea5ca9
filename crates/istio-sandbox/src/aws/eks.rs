//! Elastic Kubernetes Service: clusters and who may enter them.

use serde_json::{Value, json};

use super::{
    ask::{Answer, Ask, Refusal},
    state::{Cluster, State},
};

/// The action behind a REST path.
pub(super) fn action(method: &str, path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["clusters"]) => Some("ListClusters"),
        ("GET", ["clusters", _]) => Some("DescribeCluster"),
        ("GET", ["clusters", _, "access-entries"]) => Some("ListAccessEntries"),
        ("GET", ["clusters", _, "addons"]) => Some("ListAddons"),
        ("GET", ["clusters", _, "certificate-authorities"]) => Some("ListCertificateAuthorities"),
        ("GET", ["clusters", _, "certificate-authorities", _]) => {
            Some("DescribeCertificateAuthority")
        }
        _ => None,
    }
}

pub(super) fn answer(state: &State, ask: &Ask) -> Answer<Value> {
    let mine: Vec<&Cluster> = state.clusters.iter().filter(|c| ask.sees(&c.arn)).collect();
    if ask.action == "ListClusters" {
        let names = mine.into_iter().map(Cluster::name).collect();
        let (names, next) = ask.page(names, "nextToken", "maxResults", 100)?;
        return Ok(json!({ "clusters": names, "nextToken": next }));
    }
    let name = ask
        .path
        .trim_matches('/')
        .split('/')
        .nth(1)
        .unwrap_or_default();
    let missing = || {
        Refusal(
            404,
            "ResourceNotFoundException",
            format!("No cluster found for name: {name}."),
        )
    };
    let cluster = mine
        .into_iter()
        .find(|c| c.name() == name)
        .ok_or_else(missing)?;
    match ask.action.as_str() {
        "DescribeCluster" => Ok(json!({ "cluster": describe(cluster) })),
        "ListAccessEntries" if cluster.auth_mode == "CONFIG_MAP" => Err(Refusal(
            400,
            "InvalidRequestException",
            "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation.".into(),
        )),
        "ListAccessEntries" => {
            let (entries, next) = ask.page(cluster.entries.clone(), "nextToken", "maxResults", 100)?;
            Ok(json!({ "accessEntries": entries, "nextToken": next }))
        }
        "ListCertificateAuthorities" => {
            let all = authorities(cluster).into_iter().map(summary).collect();
            let (all, next) = ask.page(all, "nextToken", "maxResults", 100)?;
            Ok(json!({ "certificateAuthorities": all, "nextToken": next }))
        }
        "DescribeCertificateAuthority" => {
            let id = ask.path.trim_matches('/').rsplit('/').next();
            let id = id.unwrap_or_default();
            let found = authorities(cluster).into_iter().find(|ca| ca["id"] == id);
            let missing = format!("No certificate authority found for id: {id}.");
            let missing = || Refusal(404, "ResourceNotFoundException", missing);
            Ok(json!({ "certificateAuthority": found.ok_or_else(missing)? }))
        }
        "ListAddons" => Ok(json!({ "addons": ["coredns", "kube-proxy", "vpc-cni"] })),
        other => Err(Refusal(404, "UnknownOperationException", other.into())),
    }
}

/// The authorities of a cluster: those it was given, or the one it was born with.
fn authorities(cluster: &Cluster) -> Vec<Value> {
    if !cluster.authorities.is_empty() {
        return cluster.authorities.clone();
    }
    vec![json!({
        "id": "ca-1",
        "createdAt": 1_767_225_600.0,
        "createdBy": "EKS",
        "activatedAt": 1_767_225_600.0,
        "activatedBy": "EKS",
        "signingStatus": "IN_USE",
        "distributionStatus": "COMPLETE",
        "validity": { "notBefore": 1_767_225_600.0, "notAfter": 2_082_758_400.0 },
        "rollbackAvailable": false,
        "data": cluster.ca,
    })]
}

/// What a list says of an authority.
fn summary(mut authority: Value) -> Value {
    if let Some(all) = authority.as_object_mut() {
        for key in ["validity", "scheduledEvents", "rollbackAvailable", "data"] {
            all.remove(key);
        }
    }
    authority
}

fn describe(cluster: &Cluster) -> Value {
    json!({
        "name": cluster.name(),
        "arn": cluster.arn,
        "createdAt": 1_767_225_600.0,
        "version": cluster.version,
        "endpoint": cluster.endpoint,
        "certificateAuthority": { "data": cluster.ca },
        "status": cluster.status,
        "platformVersion": "eks.1",
        "resourcesVpcConfig": {
            "subnetIds": cluster.subnets,
            "securityGroupIds": cluster.security_groups,
            "clusterSecurityGroupId": cluster.cluster_security_group,
            "vpcId": cluster.vpc,
            "endpointPublicAccess": cluster.public.is_some(),
            "endpointPrivateAccess": cluster.private,
            "publicAccessCidrs": cluster.public.clone().unwrap_or_default(),
        },
        "accessConfig": { "authenticationMode": cluster.auth_mode },
        "computeConfig": { "enabled": cluster.auto_mode },
        "kubernetesNetworkConfig": { "ipFamily": "ipv4", "serviceIpv4Cidr": "172.20.0.0/16" },
        "tags": {},
    })
}
