//! A load balancer of the laboratory in the words of ELB and EC2.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    super::{
        Balancer, Health, Listener, Pace, State, Target, TargetGroup, Zone,
        network::{Kind, Thing},
        sign::hash,
    },
    told,
};
use crate::world::{ACCOUNT, REGION};

/// Before the name of an annotation that shapes a load balancer.
const ANNOTATION: &str = "service.beta.kubernetes.io/aws-load-balancer-";

/// A port of a load balancer with its targets.
pub(super) struct Port {
    pub(super) port: u16,
    pub(super) targets: Vec<(super::targets::Wanted, Health)>,
}

/// A load balancer with all that belongs to it.
pub(super) struct Described {
    balancer: Balancer,
    groups: Vec<TargetGroup>,
    interfaces: Vec<Thing>,
}

/// What an annotation of the Service says.
pub(super) fn annotation<'a>(service: &'a Value, name: &str) -> Option<&'a str> {
    service["metadata"]["annotations"][format!("{ANNOTATION}{name}")].as_str()
}

/// Whether pods are the targets, not nodes.
pub(super) fn by_address(service: &Value) -> bool {
    annotation(service, "nlb-target-type") == Some("ip")
}

/// Describe one.
pub(super) fn describe(
    told: &told::Balancer,
    service: &Value,
    vpc: &str,
    pace: Pace,
    ports: Vec<Port>,
    state: &State,
) -> Described {
    let label = told.name.split('.').next().unwrap_or_default();
    let (name, id) = label.rsplit_once('-').unwrap_or((label, ""));
    let arn = |kind: &str, rest: String| {
        format!("arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:{kind}/{rest}")
    };
    let groups: Vec<TargetGroup> = ports
        .into_iter()
        .map(|p| group(told, service, vpc, p, state))
        .collect();
    let listener = |group: &TargetGroup| Listener {
        arn: arn(
            "listener/net",
            format!("{name}/{id}/{}", digits(&group.name)),
        ),
        port: group.port,
        forward: vec![(group.arn.clone(), 1)],
    };
    let listeners = groups.iter().map(listener).collect();
    let zone = |(zone, address): (&String, &std::net::Ipv4Addr)| Zone {
        name: zone.clone(),
        address: Some(address.to_string()),
        ..Zone::default()
    };
    let interface = |(zone, address): (&String, &std::net::Ipv4Addr)| {
        let kind = Kind::Interface {
            description: format!("ELB net/{name}/{id}"),
            address: address.to_string(),
            groups: Vec::new(),
        };
        let eni = format!("eni-0{}", digits(&format!("{label}/{zone}")));
        Thing::new(ACCOUNT, REGION, &eni, vpc, kind)
    };
    let balancer = Balancer {
        arn: arn("loadbalancer/net", format!("{name}/{id}")),
        name: name.into(),
        dns_name: told.name.clone(),
        scheme: annotation(service, "scheme").unwrap_or("internal").into(),
        kind: "network".into(),
        vpc: vpc.into(),
        zones: told.addresses.iter().map(zone).collect(),
        security_groups: Vec::new(),
        made: told.created.into(),
        provisioning: pace.provisioning,
        state: None,
        listeners,
        tags: tags(told, ""),
        attributes: attributes(service),
    };
    Described {
        balancer,
        groups,
        interfaces: told.addresses.iter().map(interface).collect(),
    }
}

fn group(
    told: &told::Balancer,
    service: &Value,
    vpc: &str,
    port: Port,
    state: &State,
) -> TargetGroup {
    let digits = digits(&format!("{}/{}", told.name, port.port));
    let label = told.name.split('.').next().unwrap_or_default();
    let stem = label.rsplitn(3, '-').nth(2).unwrap_or("k8s");
    let name = format!("{stem}-{}", &digits[..10]);
    let seconds = |name: &str, usual: u32| {
        annotation(service, name)
            .and_then(|v| v.parse().ok())
            .unwrap_or(usual)
    };
    let text = |name: &str, usual: &str| annotation(service, name).unwrap_or(usual).to_owned();
    let target = |(wanted, health): (super::targets::Wanted, Health)| Target {
        id: wanted.id,
        port: wanted.port,
        zone: wanted.zone,
        registered: state.clock.now(),
        story: vec![(Duration::ZERO, health)],
    };
    let by_address = by_address(service);
    TargetGroup {
        arn: format!("arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/{name}/{digits}"),
        name,
        port: port.port,
        target_type: if by_address { "ip" } else { "instance" }.into(),
        vpc: vpc.into(),
        check: (
            text("healthcheck-protocol", "TCP"),
            text("healthcheck-port", "traffic-port"),
            seconds("healthcheck-interval", 10),
            seconds("healthcheck-healthy-threshold", 3),
            seconds("healthcheck-unhealthy-threshold", 3),
        ),
        targets: port.targets.into_iter().map(target).collect(),
        tags: tags(told, &format!(":{}", port.port)),
        attributes: [
            (
                "deregistration_delay.timeout_seconds".to_owned(),
                "300".to_owned(),
            ),
            (
                "preserve_client_ip.enabled".to_owned(),
                (!by_address).to_string(),
            ),
            ("proxy_protocol_v2.enabled".to_owned(), "false".to_owned()),
        ]
        .into(),
    }
}

fn tags(told: &told::Balancer, port: &str) -> BTreeMap<String, String> {
    let stack = format!("{}/{}", told.namespace, told.service);
    [
        (
            "service.k8s.aws/resource".to_owned(),
            if port.is_empty() {
                "LoadBalancer".to_owned()
            } else {
                format!("{stack}{port}")
            },
        ),
        ("service.k8s.aws/stack".to_owned(), stack),
        ("elbv2.k8s.aws/cluster".to_owned(), told.cluster.clone()),
    ]
    .into()
}

/// As the Service asks, over what a new load balancer has.
fn attributes(service: &Value) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = [
        ("load_balancing.cross_zone.enabled", "false"),
        ("deletion_protection.enabled", "false"),
        ("access_logs.s3.enabled", "false"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    let asked = annotation(service, "attributes").unwrap_or_default();
    let pairs = asked.split(',').filter_map(|pair| pair.split_once('='));
    all.extend(pairs.map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())));
    all
}

fn digits(text: &str) -> String {
    let mut digits = hash(text.as_bytes());
    digits.truncate(16);
    digits
}

/// Make ELB and EC2 tell exactly these.
pub(super) fn tell(all: Vec<Described>, state: &mut State) {
    state.balancers.clear();
    state.groups.clear();
    let of_balancer = |thing: &Thing| matches!(&thing.kind, Kind::Interface { description, .. } if description.starts_with("ELB "));
    state.network.things.retain(|thing| !of_balancer(thing));
    for one in all {
        state.balancers.push(one.balancer);
        state.groups.extend(one.groups);
        state.network.things.extend(one.interfaces);
    }
}
