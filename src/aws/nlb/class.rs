//! Who makes load balancers in a cluster, and which class a Service must name to get a network one.

use super::Stuck;

/// Who could make a load balancer, as far as it was observed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    /// EKS Auto Mode is on.
    pub auto_mode: bool,
    /// Ready replicas of the AWS Load Balancer Controller; `None` if it is not installed.
    pub controller: Option<u64>,
    /// Nodes are EC2 instances; elsewhere none of this applies.
    pub on_aws: bool,
}

/// What a Service must say to get a network load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// EKS Auto Mode makes it.
    AutoMode,
    /// The AWS Load Balancer Controller makes it.
    Controller,
    /// Not AWS: whatever the cluster has.
    Other,
}

impl Class {
    /// The `loadBalancerClass`.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::AutoMode => Some("eks.amazonaws.com/nlb"),
            Self::Controller => Some("service.k8s.aws/nlb"),
            Self::Other => None,
        }
    }
}

/// Choose from what runs. A controller that was installed on purpose goes before the built-in one. Without either,
/// Kubernetes itself would make a Classic load balancer, whose addresses change: that is refused.
pub(crate) fn choose(running: &Controllers) -> Result<Class, Stuck> {
    match running {
        Controllers {
            on_aws: false,
            controller: None,
            auto_mode: false,
        } => Ok(Class::Other),
        Controllers {
            controller: Some(1..),
            ..
        } => Ok(Class::Controller),
        Controllers {
            auto_mode: true, ..
        } => Ok(Class::AutoMode),
        Controllers {
            controller: Some(0),
            ..
        } => Err(Stuck::ControllerDown),
        _ => Err(Stuck::NoController),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_decides() {
        let running = |auto_mode, controller, on_aws| Controllers {
            auto_mode,
            controller,
            on_aws,
        };
        for (have, want) in [
            (running(true, None, true), Ok(Class::AutoMode)),
            (running(true, Some(2), true), Ok(Class::Controller)),
            (running(true, Some(0), true), Ok(Class::AutoMode)),
            (running(false, Some(1), true), Ok(Class::Controller)),
            (running(false, Some(0), true), Err(Stuck::ControllerDown)),
            (running(false, None, true), Err(Stuck::NoController)),
            (running(false, None, false), Ok(Class::Other)),
        ] {
            assert_eq!(choose(&have), want, "{have:?}");
        }
    }
}
