//! Where AWS cannot be asked: what a gateway's Service must say for its load balancer to be as the mesh file asks for, or why
//! that cannot be promised. Pure.

use serde_json::{Value, json};

use crate::{
    observe::Seen,
    spec::{Exposure, Gateway},
};

/// What makes a load balancer internal, by whose cluster it is: as each documents it.
const GKE: (&str, &str) = ("networking.gke.io/load-balancer-type", "Internal");
const AKS: (&str, &str) = (
    "service.beta.kubernetes.io/azure-load-balancer-internal",
    "true",
);

/// Annotations for the Service, in the values of the gateway's chart.
pub(super) fn values(gateway: &Gateway, seen: &Seen) -> Result<Value, String> {
    let is_told = !gateway.annotations.is_empty();
    match gateway.exposure {
        Exposure::Auto => Ok(Value::Null),
        Exposure::Internal => match internal(seen) {
            Some((key, value)) => Ok(json!({"service": {"annotations": {key: value}}})),
            None if is_told => Ok(Value::Null),
            None => Err(format!(
                "is to have an internal gateway, and what makes a load balancer internal is known of EKS, GKE and AKS, \
                 not of {}: write gateway.annotations",
                of(seen)
            )),
        },
        Exposure::InternetFacing if gateway.source_ranges.is_empty() => Err(
            "is to have a gateway on the internet for its peers alone, and whom that is can be derived on EKS only: write \
             gateway.sourceRanges, with the addresses that the peers' requests come from"
                .to_owned(),
        ),
        Exposure::InternetFacing => Ok(Value::Null),
    }
}

fn internal(seen: &Seen) -> Option<(&'static str, &'static str)> {
    match () {
        () if seen.vendor.contains("-gke.") => Some(GKE),
        () if is_aks(&seen.server) => Some(AKS),
        () => None,
    }
}

fn is_aks(server: &str) -> bool {
    let host = server.split("://").last().unwrap_or(server);
    let host = host.split(['/', ':']).next().unwrap_or(host);
    host.ends_with(".azmk8s.io")
}

fn of(seen: &Seen) -> String {
    match seen.vendor.contains("-eks-") {
        true => "an EKS cluster that is named by a context which tells no AWS account".into(),
        false => format!("Kubernetes {}", seen.vendor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        let seen = |vendor: &str, server: &str| Seen {
            vendor: vendor.into(),
            server: server.into(),
            ..Seen::default()
        };
        let gke = seen("v1.33.4-gke.1000", "https://203.0.113.7");
        let aks = seen("v1.33.4", "https://x-y.hcp.westeurope.azmk8s.io:443");
        let other = seen("v1.33.4+k3s1", "https://10.0.0.1:6443");
        let mut gateway = Gateway::default();
        for seen in [&gke, &aks, &other] {
            assert_eq!(values(&gateway, seen), Ok(Value::Null));
        }
        gateway.exposure = Exposure::Internal;
        let annotations =
            |seen: &Seen| values(&gateway, seen).unwrap()["service"]["annotations"].clone();
        assert_eq!(annotations(&gke), json!({GKE.0: "Internal"}));
        assert_eq!(annotations(&aks), json!({AKS.0: "true"}));
        assert!(
            values(&gateway, &other)
                .unwrap_err()
                .contains("1.33.4+k3s1")
        );
        let mut told = gateway.clone();
        told.annotations.insert("x".into(), "y".into());
        assert_eq!(values(&told, &other), Ok(Value::Null));
        gateway.exposure = Exposure::InternetFacing;
        assert!(values(&gateway, &gke).unwrap_err().contains("sourceRanges"));
        gateway.source_ranges = vec!["198.51.100.0/24".into()];
        assert_eq!(values(&gateway, &gke), Ok(Value::Null));
    }
}
