//! The least IAM policy meshlink works with.

use serde_json::{Value, json};

use super::{arn::Partition, env::Service};

/// What an action is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The service.
    pub service: Service,
    /// The action.
    pub action: &'static str,
    /// What for.
    pub purpose: &'static str,
}

const fn needed(service: Service, action: &'static str, purpose: &'static str) -> Needed {
    Needed {
        service,
        action,
        purpose,
    }
}

/// Every action meshlink may call, but for those that need no grant.
pub(crate) const ACTIONS: [Needed; 16] = [
    needed(Service::Eks, "DescribeCluster", "join"),
    needed(
        Service::Eks,
        "ListCertificateAuthorities",
        "renew, ca status",
    ),
    needed(
        Service::Eks,
        "DescribeCertificateAuthority",
        "renew, ca status",
    ),
    needed(Service::Eks, "ListClusters", "names"),
    needed(Service::Elb, "DescribeLoadBalancers", "await-nlb"),
    needed(Service::Elb, "DescribeListeners", "await-nlb"),
    needed(Service::Elb, "DescribeTargetHealth", "await-nlb"),
    needed(Service::Elb, "DescribeLoadBalancerAttributes", "await-nlb"),
    needed(Service::Elb, "DescribeTags", "await-nlb"),
    needed(Service::Ec2, "DescribeSubnets", "exposure"),
    needed(Service::Ec2, "DescribeRouteTables", "exposure"),
    needed(Service::Ec2, "DescribeNatGateways", "exposure"),
    needed(Service::Ec2, "DescribeVpcPeeringConnections", "exposure"),
    needed(
        Service::Ec2,
        "DescribeTransitGatewayVpcAttachments",
        "exposure",
    ),
    needed(Service::Ec2, "DescribeSecurityGroups", "preflight"),
    needed(
        Service::Ec2,
        "DescribeNetworkInterfaces",
        "preflight, leave",
    ),
];

/// The policy, ready for `aws iam create-policy`. Describe actions of load balancers and networks know no resources.
pub(crate) fn minimal(partition: Partition) -> Value {
    let names = |service: Service| -> Vec<String> {
        let mine = ACTIONS.iter().filter(|n| n.service == service);
        mine.map(|n| format!("{}:{}", service.prefix(), n.action))
            .collect()
    };
    let cluster = format!("arn:{}:eks:*:*:cluster/*", partition.id);
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "Clusters", "Effect": "Allow", "Action": [
                "eks:DescribeCluster",
                "eks:ListCertificateAuthorities",
                "eks:DescribeCertificateAuthority",
            ], "Resource": cluster},
            {"Sid": "Names", "Effect": "Allow", "Action": ["eks:ListClusters"], "Resource": "*"},
            {"Sid": "LoadBalancers", "Effect": "Allow", "Action": names(Service::Elb), "Resource": "*"},
            {"Sid": "Network", "Effect": "Allow", "Action": names(Service::Ec2), "Resource": "*"},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_reads() {
        let policy = minimal(Partition::of_region("cn-north-1"));
        let statements = policy["Statement"].as_array().unwrap();
        let actions = statements
            .iter()
            .flat_map(|s| s["Action"].as_array().unwrap());
        for action in actions {
            let (_, verb) = action.as_str().unwrap().split_once(':').unwrap();
            assert!(
                verb.starts_with("Describe") || verb.starts_with("List"),
                "{action}"
            );
        }
        assert_eq!(statements[0]["Resource"], "arn:aws-cn:eks:*:*:cluster/*");
    }
}
