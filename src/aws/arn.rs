//! Amazon Resource Names and the partitions they live in.

use std::{fmt, str::FromStr};

/// `arn:partition:service:region:account:resource`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Arn {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: String,
    /// `eks`, `elasticloadbalancing`, …
    pub service: String,
    /// Region; empty for global services.
    pub region: String,
    /// Twelve digits; empty where the service leaves it out.
    pub account: String,
    /// All the rest, for example `cluster/eks-1`.
    pub resource: String,
}

/// A text that is not an ARN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ARN: write arn:aws:eks:REGION:ACCOUNT:cluster/NAME")]
pub(crate) struct NotAnArn(pub String);

impl FromStr for Arn {
    type Err = NotAnArn;

    fn from_str(text: &str) -> Result<Self, NotAnArn> {
        let mut parts = text.splitn(6, ':');
        let mut next = || {
            parts
                .next()
                .map(str::to_owned)
                .ok_or_else(|| NotAnArn(text.into()))
        };
        if next()? != "arn" {
            return Err(NotAnArn(text.into()));
        }
        let arn = Self {
            partition: next()?,
            service: next()?,
            region: next()?,
            account: next()?,
            resource: next()?,
        };
        let whole =
            !arn.partition.is_empty() && !arn.service.is_empty() && !arn.resource.is_empty();
        if whole {
            Ok(arn)
        } else {
            Err(NotAnArn(text.into()))
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            service,
            region,
            account,
            resource,
        } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

impl Arn {
    /// The cluster's name, if this is an EKS cluster with region and account.
    pub(crate) fn eks_cluster(&self) -> Option<&str> {
        let whole = self.service == "eks" && !self.region.is_empty() && !self.account.is_empty();
        self.resource
            .strip_prefix("cluster/")
            .filter(|name| whole && !name.is_empty())
    }
}

/// A separate AWS: its own names, its own DNS suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    /// As it stands in ARNs.
    pub id: &'static str,
    /// What every host name of its services ends in.
    pub suffix: &'static str,
    /// What its regions begin with; empty for the commercial one.
    prefix: &'static str,
}

/// All partitions; the commercial one last, because its regions have no prefix of their own.
pub(crate) const PARTITIONS: [Partition; 8] = [
    Partition {
        id: "aws-cn",
        suffix: "amazonaws.com.cn",
        prefix: "cn-",
    },
    Partition {
        id: "aws-us-gov",
        suffix: "amazonaws.com",
        prefix: "us-gov-",
    },
    Partition {
        id: "aws-eusc",
        suffix: "amazonaws.eu",
        prefix: "eusc-",
    },
    Partition {
        id: "aws-iso",
        suffix: "c2s.ic.gov",
        prefix: "us-iso-",
    },
    Partition {
        id: "aws-iso-b",
        suffix: "sc2s.sgov.gov",
        prefix: "us-isob-",
    },
    Partition {
        id: "aws-iso-e",
        suffix: "cloud.adc-e.uk",
        prefix: "eu-isoe-",
    },
    Partition {
        id: "aws-iso-f",
        suffix: "csp.hci.ic.gov",
        prefix: "us-isof-",
    },
    Partition {
        id: "aws",
        suffix: "amazonaws.com",
        prefix: "",
    },
];

impl Partition {
    /// The partition a region belongs to.
    pub(crate) fn of_region(region: &str) -> Self {
        let [.., commercial] = PARTITIONS;
        PARTITIONS
            .into_iter()
            .find(|p| region.starts_with(p.prefix))
            .unwrap_or(commercial)
    }
}

/// Whether a text has the shape of a region: `eu-west-1`, `us-gov-east-1`.
pub(crate) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = parts
        .last()
        .is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let words = parts
        .iter()
        .rev()
        .skip(1)
        .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()));
    parts.len() >= 3 && number && words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_prints_as_it_was_read() {
        for text in [
            "arn:aws:eks:eu-west-1:111122223333:cluster/eks-1",
            "arn:aws-cn:elasticloadbalancing:cn-north-1:1:loadbalancer/net/a/50dc6c495c0c9188",
            "arn:aws:iam::111122223333:role/path/with:colon",
        ] {
            assert_eq!(text.parse::<Arn>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "eks-1",
            "arn:aws:eks",
            "arn::eks:r:a:cluster/x",
            "urn:aws:eks:r:a:c",
        ] {
            assert!(bad.parse::<Arn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_whole_cluster_arns_name_a_cluster() {
        let name = |text: &str| {
            text.parse::<Arn>()
                .unwrap()
                .eks_cluster()
                .map(str::to_owned)
        };
        assert_eq!(
            name("arn:aws:eks:eu-west-1:1:cluster/eks-1").as_deref(),
            Some("eks-1")
        );
        assert_eq!(name("arn:aws:eks:eu-west-1:1:nodegroup/eks-1"), None);
        assert_eq!(name("arn:aws:eks::1:cluster/eks-1"), None);
    }

    #[test]
    fn a_region_tells_its_partition() {
        for (region, id) in [
            ("eu-west-1", "aws"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("cn-northwest-1", "aws-cn"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            assert_eq!(Partition::of_region(region).id, id, "{region}");
            assert!(is_region(region), "{region}");
        }
        assert!(!is_region("eks-1") && !is_region("eu-west") && !is_region("EU-west-1"));
    }
}
