//! Which reads of load balancers we are not allowed, found out before they are needed.

use super::{
    call::{Cause, Error},
    eks::Facts,
    env::Service,
};

/// Actions of Elastic Load Balancing that are refused to whoever described the cluster. Each is asked about a load
/// balancer that does not exist: AWS looks at rights first. What cannot be told now counts as allowed.
pub(super) async fn denied(facts: &Facts) -> Vec<&'static str> {
    let (elb, session) = (facts.session.elb(), &facts.session);
    let (partition, region, account) = (&facts.partition, &facts.region, &facts.account);
    let home = format!("arn:{partition}:elasticloadbalancing:{region}:{account}");
    let arn = &format!("{home}:loadbalancer/net/meshlink/0000000000000000");
    let group = &format!("{home}:targetgroup/meshlink/0000000000000000");
    let balancers = session.call(Service::Elb, "DescribeLoadBalancers", || {
        elb.describe_load_balancers().load_balancer_arns(arn).send()
    });
    let listeners = session.call(Service::Elb, "DescribeListeners", || {
        elb.describe_listeners().load_balancer_arn(arn).send()
    });
    let health = session.call(Service::Elb, "DescribeTargetHealth", || {
        elb.describe_target_health().target_group_arn(group).send()
    });
    let (balancers, listeners, health) = tokio::join!(balancers, listeners, health);
    let refused = |error: Option<Error>| {
        let error = error.filter(|e| matches!(e.cause, Cause::Denied(_)))?;
        Some(error.action)
    };
    [balancers.err(), listeners.err(), health.err()]
        .into_iter()
        .filter_map(refused)
        .collect()
}
