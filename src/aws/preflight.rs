//! What would fail later, found before anything is written; pure, over what EKS and EC2 said.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    eks::Facts,
    exposure::{self, Exposure},
    network::{Network, Rule},
};
use crate::hint::Hint;

/// Ports of the control plane that the API server calls on nodes: webhooks, and what serves them.
const CONTROL: [u16; 2] = [15017, 15012];
/// Ports that show a mesh's inside, and should not face everybody.
const INSIDE: [u16; 5] = [15010, 15014, 15017, 20001, 9090];

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Pass,
    /// May hurt.
    Warn,
    /// Will fail.
    Fail,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Which check: `aws-subnets`, …
    pub check: &'static str,
    /// The cluster.
    pub cluster: String,
    /// How bad.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// The commands that mend it.
    pub fix: Vec<Hint>,
}

/// A cluster, as EKS and EC2 tell it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    /// What EKS said.
    pub facts: &'a Facts,
    /// What EC2 said.
    pub network: &'a Network,
    /// The class its gateway's Service has or will have.
    pub class: Option<&'a str>,
    /// That Service has its load balancer already.
    pub placed: bool,
    /// Actions of Elastic Load Balancing that are refused to us.
    pub denied: &'a [&'static str],
}

/// The names of all checks.
pub(crate) const CHECKS: [&str; 5] = [
    "aws-rights",
    "aws-subnets",
    "aws-webhook",
    "aws-open-ports",
    "aws-api-endpoint",
];

/// Look at everything.
pub(crate) fn check(
    members: &[Member<'_>],
    exposure: &BTreeMap<String, Exposure>,
    are_peers: impl Fn(&str, &str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members {
        let scheme = exposure.get(&member.network.cluster);
        findings.push(rights(member));
        findings.extend(scheme.map(|scheme| subnets(member, scheme)));
        findings.extend(control_plane(member));
        findings.extend(inside(member));
        let name = member.network.cluster.as_str();
        let is_peer = |p: &&Member<'_>| {
            p.facts.arn != member.facts.arn && are_peers(name, &p.network.cluster)
        };
        findings.extend(members.iter().filter(is_peer).map(|peer| api(member, peer)));
    }
    findings
}

fn finding(
    check: &'static str,
    member: &Member<'_>,
    level: Level,
    text: String,
    fix: Option<Hint>,
) -> Finding {
    Finding {
        check,
        cluster: member.network.cluster.clone(),
        level,
        text,
        fix: fix.into_iter().collect(),
    }
}

fn rights(member: &Member<'_>) -> Finding {
    let ec2 = member.network.blind.iter().map(|a| format!("ec2:{a}"));
    let elb = member.denied.iter();
    let elb = elb.map(|a| format!("elasticloadbalancing:{a}"));
    let blind: Vec<String> = ec2.chain(elb).collect();
    if blind.is_empty() {
        return finding(
            "aws-rights",
            member,
            Level::Pass,
            "everything could be read".into(),
            None,
        );
    }
    let text = format!(
        "not allowed: {}; what these calls would show is unknown",
        blind.join(", ")
    );
    finding(
        "aws-rights",
        member,
        Level::Warn,
        text,
        Some(Hint::command(["meshlink", "aws", "policy"])),
    )
}

/// Load-balancer controllers find subnets by their tags; newer ones, without any, by their routes.
fn subnets(member: &Member<'_>, exposure: &Exposure) -> Finding {
    let internal = matches!(exposure, Exposure::Internal { .. });
    let (tag, tagged): (&str, Vec<&str>) = match internal {
        true => (
            "kubernetes.io/role/internal-elb",
            ids(member, |s| s.internal_elb),
        ),
        false => ("kubernetes.io/role/elb", ids(member, |s| s.elb)),
    };
    let pass = |text: String| finding("aws-subnets", member, Level::Pass, text, None);
    if member.placed {
        return pass("the load balancer has its subnets".into());
    }
    if !tagged.is_empty() {
        return pass(format!("{} tagged {tag}", tagged.join(", ")));
    }
    let (network, region) = (member.network, &member.facts.region);
    let public = |id: &str| {
        network
            .toward(id, &IpNet::from(IpAddr::from([1, 1, 1, 1])))
            .is_some_and(|v| v.starts_with("igw-"))
    };
    let fit: Vec<&str> = ids(member, |s| public(&s.id) != internal);
    let by_routes = !fit.is_empty() && member.class == Some("service.k8s.aws/nlb");
    let (level, so) = match by_routes {
        true => (
            Level::Warn,
            "controllers before 2.12.1 can place no load balancer",
        ),
        false => (Level::Fail, "no load balancer can be placed"),
    };
    let text = format!("no subnet of {} is tagged {tag}: {so}", network.vpc);
    let create = [
        "aws",
        "ec2",
        "create-tags",
        "--region",
        region,
        "--resources",
    ];
    let tag = format!("Key={tag},Value=1");
    let words = create.into_iter().chain(fit.iter().copied());
    let fix = Hint::command(words.chain(["--tags", &tag]));
    finding(
        "aws-subnets",
        member,
        level,
        text,
        (!fit.is_empty()).then_some(fix),
    )
}

fn ids<'a>(member: &Member<'a>, keep: impl Fn(&super::network::Subnet) -> bool) -> Vec<&'a str> {
    member
        .network
        .subnets
        .iter()
        .filter(|s| keep(s))
        .map(|s| s.id.as_str())
        .collect()
}

/// The API server must reach istiod's webhook on the nodes.
fn control_plane(member: &Member<'_>) -> Vec<Finding> {
    let Some(plane) = &member.facts.cluster_security_group else {
        return Vec::new();
    };
    let nodes = &member.network.node_groups;
    if nodes.is_empty() {
        return Vec::new();
    }
    let admits = |rule: &Rule, port: u16| {
        let by_range = member
            .network
            .subnets
            .iter()
            .any(|s| rule.cidrs.iter().any(|c| c.contains(&s.cidr)));
        rule.opens(port) && (rule.groups.contains(plane) || by_range || rule.lists)
    };
    let groups = || {
        member
            .network
            .groups
            .iter()
            .filter(|g| nodes.contains(&g.id))
    };
    let closed: Vec<u16> = CONTROL
        .into_iter()
        .filter(|port| !groups().any(|g| g.ingress.iter().any(|r| admits(r, *port))))
        .collect();
    if closed.is_empty() {
        let text = "the nodes admit the control plane on 15017 and 15012".into();
        return vec![finding("aws-webhook", member, Level::Pass, text, None)];
    }
    let group = nodes.iter().next().map(String::as_str).unwrap_or_default();
    let ports: Vec<String> = closed.iter().map(u16::to_string).collect();
    let text = format!(
        "the nodes ({group}) do not admit the control plane ({plane}) on {}: sidecar injection will time out",
        ports.join(" and ")
    );
    let region = &member.facts.region;
    let fix = closed.iter().map(|port| {
        Hint::shell(format!(
            "aws ec2 authorize-security-group-ingress --region {region} --group-id {group} --protocol tcp --port {port} --source-group {plane}"
        ))
    });
    let fix = fix.collect();
    let finding = finding("aws-webhook", member, Level::Fail, text, None);
    vec![Finding { fix, ..finding }]
}

/// Ports of the control plane and its dashboards that everybody may reach.
fn inside(member: &Member<'_>) -> Vec<Finding> {
    let open = member
        .network
        .groups
        .iter()
        .flat_map(|g| g.ingress.iter().map(move |r| (g, r)));
    let to_all = open.filter(|(_, r)| r.cidrs.iter().any(|r| r.prefix_len() == 0));
    to_all
        .filter_map(|(group, rule)| {
            let ports: Vec<String> = INSIDE.into_iter().filter(|p| rule.opens(*p)).map(|p| p.to_string()).collect();
            let (id, region) = (&group.id, &member.facts.region);
            let port = if rule.ports.0 == rule.ports.1 { rule.ports.0.to_string() } else { format!("{}-{}", rule.ports.0, rule.ports.1) };
            let text = format!("security group {id} opens {} to everybody", ports.join(", "));
            let fix = Hint::shell(format!(
                "aws ec2 revoke-security-group-ingress --region {region} --group-id {id} --protocol tcp --port {port} --cidr 0.0.0.0/0"
            ));
            (!ports.is_empty()).then(|| finding("aws-open-ports", member, Level::Warn, text, Some(fix)))
        })
        .collect()
}

/// The peer's istiod must reach this API server.
fn api(member: &Member<'_>, peer: &Member<'_>) -> Finding {
    let (facts, from) = (member.facts, &peer.network.cluster);
    let check = "aws-api-endpoint";
    let private =
        facts.private && exposure::way(peer.network, member.network).is_ok_and(|w| w.is_some());
    if private {
        return finding(
            check,
            member,
            Level::Pass,
            format!("{from} reaches the API server by a private route"),
            None,
        );
    }
    if !facts.public {
        let text = format!("the API server is private and {from} has no route to it");
        let fix = Hint::to_fill_in(&format!(
            "aws eks update-cluster-config --name {} --region {} --resources-vpc-config endpointPublicAccess=true,publicAccessCidrs=EGRESS_OF_{from}/32",
            facts.name, facts.region
        ));
        return finding(check, member, Level::Fail, text, Some(fix));
    }
    let ranges: Vec<IpNet> = facts
        .public_cidrs
        .iter()
        .filter_map(|c| c.parse().ok())
        .collect();
    match exposure::egress(peer.network) {
        _ if ranges.iter().any(|r| r.prefix_len() == 0) => finding(
            check,
            member,
            Level::Pass,
            format!("{from} reaches the public API server, as everybody does"),
            None,
        ),
        Err(why) => finding(
            check,
            member,
            Level::Warn,
            format!("whether {from} may reach the API server is unknown: {why}"),
            None,
        ),
        Ok(egress) => {
            let shut: Vec<String> = egress
                .iter()
                .filter(|ip| !ranges.iter().any(|r| r.contains(*ip)))
                .map(|ip| format!("{ip}/32"))
                .collect();
            admitted(member, from, &shut)
        }
    }
}

fn admitted(member: &Member<'_>, from: &str, shut: &[String]) -> Finding {
    let (check, facts) = ("aws-api-endpoint", member.facts);
    if shut.is_empty() {
        return finding(
            check,
            member,
            Level::Pass,
            format!("the API server admits the addresses of {from}"),
            None,
        );
    }
    let all: Vec<String> = facts
        .public_cidrs
        .iter()
        .cloned()
        .chain(shut.iter().cloned())
        .collect();
    let text = format!(
        "the API server does not admit {}, which {from}'s requests come from",
        shut.join(", ")
    );
    let fix = Hint::shell(format!(
        "aws eks update-cluster-config --name {} --region {} --resources-vpc-config endpointPublicAccess=true,publicAccessCidrs={}",
        facts.name,
        facts.region,
        all.join(",")
    ));
    finding(check, member, Level::Fail, text, Some(fix))
}
