//! What a load balancer's host name tells.

use crate::aws::arn::{PARTITIONS, Partition};

/// The kinds of load balancer a host name can have the shape of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A network load balancer.
    Network,
    /// An application or Classic load balancer: they share a shape.
    ApplicationOrClassic,
}

/// A host name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Which kind.
    pub shape: Shape,
    /// Its name, as far as the lower-cased host name keeps it.
    pub name: String,
    /// The digits after the name.
    pub id: String,
    /// Region.
    pub region: String,
    /// Partition.
    pub partition: Partition,
}

impl Host {
    /// Take a host name apart; `None` if no load balancer of AWS is called so.
    pub(crate) fn read(hostname: &str) -> Option<Self> {
        let host = hostname.trim_end_matches('.').to_ascii_lowercase();
        PARTITIONS
            .into_iter()
            .find_map(|partition| Self::within(&host, partition))
    }

    fn within(host: &str, partition: Partition) -> Option<Self> {
        let rest = host.strip_suffix(partition.suffix)?.strip_suffix('.')?;
        let parts: Vec<&str> = rest.split('.').collect();
        let [label, middle, last] = parts.as_slice() else {
            return None;
        };
        let (shape, region) = match (*middle, *last) {
            ("elb", region) => (Shape::Network, region),
            (region, "elb") => (Shape::ApplicationOrClassic, region),
            _ => return None,
        };
        let (name, id) = label.rsplit_once('-')?;
        let known = Partition::of_region(region);
        (known.suffix == partition.suffix).then(|| Self {
            shape,
            name: name.into(),
            id: id.into(),
            region: region.into(),
            partition: known,
        })
    }

    /// The ARN it most likely has. The shape is seen everywhere, but promised nowhere: it must be tried.
    pub(crate) fn arn(&self, account: &str) -> Option<String> {
        let hex = self.id.len() == 16 && self.id.bytes().all(|b| b.is_ascii_hexdigit());
        (self.shape == Shape::Network && hex).then(|| {
            let Self { name, id, region, partition, .. } = self;
            let partition = partition.id;
            format!("arn:{partition}:elasticloadbalancing:{region}:{account}:loadbalancer/net/{name}/{id}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_names_give_their_arn_in_any_partition() {
        for (host, partition) in [
            (
                "k8s-istio-east-0a1b2c3d4e-50dc6c495c0c9188.elb.eu-west-1.amazonaws.com",
                "aws",
            ),
            (
                "K8S-istio-east-0a1b2c3d4e-50dc6c495c0c9188.elb.us-gov-west-1.amazonaws.com.",
                "aws-us-gov",
            ),
            (
                "k8s-istio-east-0a1b2c3d4e-50dc6c495c0c9188.elb.cn-north-1.amazonaws.com.cn",
                "aws-cn",
            ),
            (
                "k8s-istio-east-0a1b2c3d4e-50dc6c495c0c9188.elb.us-iso-east-1.c2s.ic.gov",
                "aws-iso",
            ),
        ] {
            let read = Host::read(host).unwrap();
            let region = &read.region;
            let want = format!(
                "arn:{partition}:elasticloadbalancing:{region}:1:loadbalancer/net/k8s-istio-east-0a1b2c3d4e/50dc6c495c0c9188"
            );
            assert_eq!(read.arn("1").unwrap(), want);
        }
    }

    #[test]
    fn classic_names_are_known_and_others_are_not() {
        for host in [
            "a1b2-1880156565.us-east-1.elb.amazonaws.com",
            "internal-x-1.eu-west-1.elb.amazonaws.com",
        ] {
            let read = Host::read(host).unwrap();
            assert_eq!(
                (read.shape, read.arn("1")),
                (Shape::ApplicationOrClassic, None)
            );
        }
        for host in [
            "",
            "gateway.test",
            "elb.amazonaws.com",
            "a.b.c.d.elb.eu-west-1.amazonaws.com",
            "x.elb.cn-north-1.amazonaws.com",
        ] {
            assert_eq!(Host::read(host), None, "{host}");
        }
    }
}
