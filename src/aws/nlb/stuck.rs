//! What cannot heal by waiting, and what to type about it.

use std::fmt;

use super::ServiceName;
use crate::hint::Hint;

/// A cause that waiting does not mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// Nobody here makes network load balancers.
    NoController,
    /// The AWS Load Balancer Controller is installed, but none of it runs.
    ControllerDown,
    /// The Service became a Classic load balancer.
    Classic(String),
    /// The Service does not ask for a load balancer, or is gone.
    NoService,
    /// The controller reported that it cannot make it: reason and message of its event.
    Refused(String, String),
    /// AWS says the load balancer failed.
    Failed(String),
    /// The load balancer was deleted while its Service is still there.
    Deleted(String),
    /// Nothing listens on the port, though the load balancer is active.
    NoListener(u16),
    /// The listener sends nothing to any group: all weights are 0.
    NoWeight,
    /// Targets in a zone the load balancer is not enabled in.
    WrongZone(Vec<String>),
    /// Ready pods, but nobody registers them.
    Empty,
    /// No `Gateway` object opens the port, so health checks find it closed.
    NoGateway(u16),
    /// The port is open in the pods, yet health checks fail: something between drops them.
    Unreachable {
        /// A target that fails.
        target: String,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoController => write!(
                f,
                "neither the AWS Load Balancer Controller nor EKS Auto Mode runs here, so it would become a Classic load balancer, whose addresses change"
            ),
            Self::ControllerDown => write!(f, "the AWS Load Balancer Controller has no ready pod"),
            Self::Classic(host) => {
                write!(f, "{host} is a Classic load balancer, not a network one")
            }
            Self::NoService => write!(f, "there is no Service of type LoadBalancer"),
            Self::Refused(reason, message) => write!(f, "its controller says {reason}: {message}"),
            Self::Failed(reason) => write!(f, "AWS says it failed: {reason}"),
            Self::Deleted(host) => {
                write!(f, "{host} was deleted, though its Service is still there")
            }
            Self::NoListener(port) => write!(f, "it is active, but has no listener on {port}"),
            Self::NoWeight => write!(f, "its listener gives every target group the weight 0"),
            Self::WrongZone(zones) => write!(
                f,
                "its targets are in {}, where the load balancer is not enabled",
                zones.join(", ")
            ),
            Self::Empty => write!(
                f,
                "the gateway's pods are ready, but none is registered as a target"
            ),
            Self::NoGateway(port) => write!(
                f,
                "no Gateway object opens {port} on the gateway's pods, so health checks fail"
            ),
            Self::Unreachable { target, port } => write!(
                f,
                "health checks of {target}:{port} fail though the gateway listens there: a security group or network ACL drops them"
            ),
        }
    }
}

impl Stuck {
    /// What shows or mends it, of this Service in this cluster.
    pub(crate) fn hint(&self, cluster: &str, service: &ServiceName) -> Hint {
        let ServiceName { namespace, name } = service;
        let here = |words: &[&str]| {
            let within = ["-n", namespace.as_str()];
            Hint::kubectl(cluster, within.iter().chain(words))
        };
        match self {
            Self::NoController => Hint::to_fill_in(
                "helm install aws-load-balancer-controller eks/aws-load-balancer-controller -n kube-system --set clusterName=CLUSTER",
            ),
            Self::ControllerDown => {
                let words = [
                    "-n",
                    "kube-system",
                    "describe",
                    "deployment",
                    "aws-load-balancer-controller",
                ];
                Hint::kubectl(cluster, words)
            }
            Self::Classic(_) => here(&["delete", "service", name])
                .remark("then run again; the class of a live Service cannot be changed"),
            Self::NoService => here(&["get", "service", name]),
            Self::Refused(..) | Self::Deleted(_) | Self::NoListener(_) => {
                here(&["describe", "service", name])
            }
            Self::Failed(_) => {
                let named = format!("involvedObject.name={name}");
                here(&["get", "events", "--field-selector", &named])
            }
            Self::NoWeight => {
                Hint::to_fill_in("aws elbv2 describe-listeners --load-balancer-arn ARN")
            }
            Self::WrongZone(_) => Hint::to_fill_in(&format!(
                "kubectl -n {namespace} annotate service {name} service.beta.kubernetes.io/aws-load-balancer-subnets=SUBNET_IN_EACH_ZONE"
            )),
            Self::Empty => here(&["describe", "targetgroupbindings"]),
            Self::NoGateway(_) => {
                Hint::kubectl(cluster, ["get", "gateways.networking.istio.io", "-A"])
            }
            Self::Unreachable { port, .. } => Hint::to_fill_in(&format!(
                "aws ec2 authorize-security-group-ingress --group-id NODE_GROUP --protocol tcp --port {port} --source-group LOAD_BALANCER_GROUP"
            )),
        }
    }
}
