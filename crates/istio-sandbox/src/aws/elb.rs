//! Elastic Load Balancing, version 2: the seven reads meshlink makes.

use super::{
    ask::{Answer, Ask, Refusal},
    balancer::{Balancer, Health, Listener, Target, TargetGroup, Zone},
    state::State,
    xml::Xml,
};

pub(super) const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

pub(super) fn answer(state: &State, ask: &Ask) -> Answer<Xml> {
    match ask.action.as_str() {
        "DescribeLoadBalancers" => load_balancers(state, ask),
        "DescribeListeners" => listeners(state, ask),
        "DescribeTargetGroups" => target_groups(state, ask),
        "DescribeTargetHealth" => target_health(state, ask),
        "DescribeTags" => tags(state, ask),
        "DescribeLoadBalancerAttributes" => {
            let balancer = balancer(state, ask, ask.text("LoadBalancerArn").unwrap_or_default())?;
            Ok(attributes(&balancer.attributes))
        }
        "DescribeTargetGroupAttributes" => {
            let group = group(state, ask, ask.text("TargetGroupArn").unwrap_or_default())?;
            Ok(attributes(&group.attributes))
        }
        other => Err(Refusal(
            400,
            "InvalidAction",
            format!("Could not find operation {other}"),
        )),
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal(400, "ValidationError", message.into())
}

fn balancer<'a>(state: &'a State, ask: &Ask, arn: &str) -> Answer<&'a Balancer> {
    let found = state
        .balancers
        .iter()
        .find(|b| b.arn == arn && ask.sees(&b.arn));
    found.ok_or_else(|| {
        Refusal(
            400,
            "LoadBalancerNotFound",
            format!("Load balancer '{arn}' not found"),
        )
    })
}

fn group<'a>(state: &'a State, ask: &Ask, arn: &str) -> Answer<&'a TargetGroup> {
    let found = state
        .groups
        .iter()
        .find(|g| g.arn == arn && ask.sees(&g.arn));
    found.ok_or_else(|| {
        Refusal(
            400,
            "TargetGroupNotFound",
            format!("Target groups '{arn}' not found"),
        )
    })
}

fn paged(name: &str, rows: Vec<Xml>, ask: &Ask) -> Answer<Xml> {
    let (rows, next) = ask.page(rows, "Marker", "PageSize", 400)?;
    Ok(Xml::new()
        .list(name, "member", rows)
        .maybe("NextMarker", next))
}

fn load_balancers(state: &State, ask: &Ask) -> Answer<Xml> {
    let (arns, names) = (ask.list("LoadBalancerArns"), ask.list("Names"));
    if !arns.is_empty() && !names.is_empty() {
        return Err(invalid(
            "Load balancer names and load balancer ARNs cannot be specified at the same time",
        ));
    }
    if arns.len() > 20 || names.len() > 20 {
        return Err(invalid(
            "Up to 20 load balancers can be described in a single call",
        ));
    }
    let mine = state.balancers.iter().filter(|b| ask.sees(&b.arn));
    let rows: Vec<&Balancer> = mine
        .filter(|b| arns.is_empty() || arns.contains(&b.arn.as_str()))
        .filter(|b| names.is_empty() || names.contains(&b.name.as_str()))
        .collect();
    if rows.len() < arns.len().max(names.len()) {
        return Err(Refusal(
            400,
            "LoadBalancerNotFound",
            "One or more load balancers not found".into(),
        ));
    }
    paged(
        "LoadBalancers",
        rows.into_iter().map(|b| load_balancer(state, b)).collect(),
        ask,
    )
}

fn load_balancer(state: &State, balancer: &Balancer) -> Xml {
    let (code, reason) = state.balancer_state(balancer);
    Xml::new()
        .text("LoadBalancerArn", &balancer.arn)
        .text("DNSName", &balancer.dns_name)
        .text("CanonicalHostedZoneId", "Z2IFOLAFXWLO4F")
        .maybe("CreatedTime", jiff::Timestamp::try_from(balancer.made).ok())
        .text("LoadBalancerName", &balancer.name)
        .text("Scheme", &balancer.scheme)
        .text("VpcId", &balancer.vpc)
        .nest(
            "State",
            Xml::new().text("Code", code).maybe("Reason", reason),
        )
        .text("Type", &balancer.kind)
        .list(
            "AvailabilityZones",
            "member",
            balancer.zones.iter().map(zone),
        )
        .list("SecurityGroups", "member", Vec::new())
        .text("IpAddressType", "ipv4")
}

fn zone(zone: &Zone) -> Xml {
    let address = zone
        .address
        .iter()
        .map(|ip| Xml::new().text("IpAddress", ip));
    Xml::new()
        .text("ZoneName", &zone.name)
        .text("SubnetId", &zone.subnet)
        .list("LoadBalancerAddresses", "member", address)
}

fn listeners(state: &State, ask: &Ask) -> Answer<Xml> {
    let arn = ask
        .text("LoadBalancerArn")
        .ok_or_else(|| invalid("You must specify a load balancer or listeners"))?;
    let balancer = balancer(state, ask, arn)?;
    paged(
        "Listeners",
        balancer
            .listeners
            .iter()
            .map(|l| listener(arn, l))
            .collect(),
        ask,
    )
}

fn listener(balancer: &str, listener: &Listener) -> Xml {
    Xml::new()
        .text("ListenerArn", &listener.arn)
        .text("LoadBalancerArn", balancer)
        .text("Port", listener.port)
        .text("Protocol", "TCP")
        .list("DefaultActions", "member", [forward(&listener.forward)])
}

/// A plain forward names its group twice; a weighted one only in the configuration.
fn forward(groups: &[(String, u32)]) -> Xml {
    let one = match groups {
        [(group, _)] => Some(group),
        _ => None,
    };
    let weights = groups
        .iter()
        .map(|(g, w)| Xml::new().text("TargetGroupArn", g).text("Weight", w));
    Xml::new()
        .text("Type", "forward")
        .maybe("TargetGroupArn", one)
        .nest(
            "ForwardConfig",
            Xml::new().list("TargetGroups", "member", weights),
        )
}

fn target_groups(state: &State, ask: &Ask) -> Answer<Xml> {
    let (arns, names) = (ask.list("TargetGroupArns"), ask.list("Names"));
    let users = |g: &TargetGroup| {
        let uses = |b: &&Balancer| {
            b.listeners
                .iter()
                .any(|l| l.forward.iter().any(|(arn, _)| *arn == g.arn))
        };
        state
            .balancers
            .iter()
            .filter(uses)
            .map(|b| b.arn.clone())
            .collect::<Vec<_>>()
    };
    if let Some(arn) = ask.text("LoadBalancerArn") {
        balancer(state, ask, arn)?;
    }
    let mine = state.groups.iter().filter(|g| ask.sees(&g.arn));
    let rows: Vec<Xml> = mine
        .filter(|g| arns.is_empty() || arns.contains(&g.arn.as_str()))
        .filter(|g| names.is_empty() || names.contains(&g.name.as_str()))
        .map(|g| (g, users(g)))
        .filter(|(_, users)| {
            ask.text("LoadBalancerArn")
                .is_none_or(|arn| users.iter().any(|u| u == arn))
        })
        .map(|(g, users)| target_group(g, &users))
        .collect();
    if rows.len() < arns.len().max(names.len()) {
        return Err(Refusal(
            400,
            "TargetGroupNotFound",
            "One or more target groups not found".into(),
        ));
    }
    paged("TargetGroups", rows, ask)
}

fn target_group(group: &TargetGroup, users: &[String]) -> Xml {
    let (protocol, port, interval, healthy, unhealthy) = &group.check;
    Xml::new()
        .text("TargetGroupArn", &group.arn)
        .text("TargetGroupName", &group.name)
        .text("Protocol", "TCP")
        .text("Port", group.port)
        .text("VpcId", &group.vpc)
        .text("HealthCheckProtocol", protocol)
        .text("HealthCheckPort", port)
        .text("HealthCheckEnabled", true)
        .text("HealthCheckIntervalSeconds", interval)
        .text("HealthCheckTimeoutSeconds", 10)
        .text("HealthyThresholdCount", healthy)
        .text("UnhealthyThresholdCount", unhealthy)
        .nest(
            "LoadBalancerArns",
            users
                .iter()
                .fold(Xml::new(), |all, arn| all.text("member", arn)),
        )
        .text("TargetType", &group.target_type)
        .text("IpAddressType", "ipv4")
}

fn target_health(state: &State, ask: &Ask) -> Answer<Xml> {
    let arn = ask
        .text("TargetGroupArn")
        .ok_or_else(|| invalid("A target group ARN must be specified"))?;
    let group = group(state, ask, arn)?;
    let asked: Vec<&str> = (1..)
        .map_while(|n| ask.text(&format!("Targets.member.{n}.Id")))
        .collect();
    let here = group
        .targets
        .iter()
        .filter(|t| asked.is_empty() || asked.contains(&t.id.as_str()));
    let mut rows: Vec<Xml> = here
        .map(|t| target(group, t, &state.health(group, t)))
        .collect();
    for id in asked
        .iter()
        .filter(|id| !group.targets.iter().any(|t| t.id == **id))
    {
        let gone = Target {
            id: (*id).into(),
            port: group.port,
            zone: String::new(),
            registered: state.clock.now(),
            story: Vec::new(),
        };
        rows.push(target(group, &gone, &Health::NOT_REGISTERED));
    }
    Ok(Xml::new().list("TargetHealthDescriptions", "member", rows))
}

fn target(group: &TargetGroup, target: &Target, health: &Health) -> Xml {
    let check = if group.check.1 == "traffic-port" {
        target.port.to_string()
    } else {
        group.check.1.clone()
    };
    let zone = Some(&target.zone).filter(|z| !z.is_empty());
    let who = Xml::new()
        .text("Id", &target.id)
        .text("Port", target.port)
        .maybe("AvailabilityZone", zone);
    let how = Xml::new()
        .text("State", health.state)
        .maybe("Reason", health.reason)
        .maybe("Description", health.description);
    Xml::new()
        .nest("Target", who)
        .text("HealthCheckPort", check)
        .nest("TargetHealth", how)
}

fn tags(state: &State, ask: &Ask) -> Answer<Xml> {
    let arns = ask.list("ResourceArns");
    if arns.is_empty() || arns.len() > 20 {
        return Err(invalid(
            "Between 1 and 20 resources can be described in a single call",
        ));
    }
    let row = |arn: &&str| {
        let tags = match arn.contains(":loadbalancer/") {
            true => &balancer(state, ask, arn)?.tags,
            false => &group(state, ask, arn)?.tags,
        };
        let tags = tags
            .iter()
            .map(|(k, v)| Xml::new().text("Key", k).text("Value", v));
        Ok(Xml::new()
            .text("ResourceArn", arn)
            .list("Tags", "member", tags))
    };
    let rows = arns.iter().map(row).collect::<Answer<Vec<Xml>>>()?;
    Ok(Xml::new().list("TagDescriptions", "member", rows))
}

fn attributes(attributes: &std::collections::BTreeMap<String, String>) -> Xml {
    let rows = attributes
        .iter()
        .map(|(k, v)| Xml::new().text("Key", k).text("Value", v));
    Xml::new().list("Attributes", "member", rows)
}
