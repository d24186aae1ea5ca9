//! Networks read from an emulated EC2, and what follows from them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;

use super::*;
use crate::{
    aws::tests::kit::served,
    aws::{
        Aws, Identity,
        eks::{Place, describe},
        exposure::{self, Exposure},
        preflight::{self, Level, Member},
    },
    hint::Hint,
    sandbox::aws::{
        Cluster, Fault, FaultKind, Ingress, Route as ARoute, Side, State, Thing, ThingKind,
        testing::{ACCOUNT, REGION, now, state},
    },
};

/// A VPC as people make them: a public and a private subnet, a NAT gateway, nodes in the private one.
fn vpc(state: &mut State, n: u8, extra: &[(&str, &str)]) {
    let id = |kind: &str| format!("{kind}-{n}");
    let vpc = id("vpc");
    let mut add = |id: String, kind| {
        let mut thing = Thing::new(ACCOUNT, REGION, &id, &vpc, kind);
        if id.ends_with("-public") {
            thing
                .tags
                .insert("kubernetes.io/role/elb".into(), "1".into());
        }
        state.network.things.push(thing);
    };
    let subnet = |third: u8, zone: &str| ThingKind::Subnet {
        cidr: format!("10.{n}.{third}.0/24"),
        zone: format!("{REGION}{zone}"),
    };
    add(format!("subnet-{n}-public"), subnet(0, "a"));
    add(format!("subnet-{n}-private"), subnet(1, "a"));
    add(
        id("nat"),
        ThingKind::Nat {
            public: vec![format!("203.0.113.{n}")],
        },
    );
    let routes = |default: &str| {
        let all = [("0.0.0.0/0", default)]
            .into_iter()
            .chain(extra.iter().copied());
        all.map(|(to, via)| ARoute {
            to: to.into(),
            via: via.into(),
            blackhole: false,
        })
        .collect()
    };
    let table = |subnets, default: &str| ThingKind::Routes {
        subnets,
        routes: routes(default),
    };
    add(format!("rtb-{n}-main"), table(Vec::new(), &id("igw")));
    add(
        format!("rtb-{n}-private"),
        table(vec![format!("subnet-{n}-private")], &id("nat")),
    );
    let plane = Ingress {
        protocol: "-1".into(),
        groups: vec![id("sg")],
        ..Ingress::default()
    };
    add(
        id("sg"),
        ThingKind::SecurityGroup {
            ingress: vec![plane],
        },
    );
    let interface = ThingKind::Interface {
        description: "node".into(),
        address: format!("10.{n}.1.7"),
        groups: vec![id("sg")],
    };
    add(id("eni"), interface);
}

fn world() -> State {
    let mut state = state();
    state.clusters.clear();
    for n in [1, 2] {
        let arn = format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/eks-{n}");
        let mut cluster = Cluster::new(&arn, "https://api.test", "Q0E=");
        cluster.vpc = format!("vpc-{n}");
        cluster.subnets = vec![format!("subnet-{n}-private")];
        cluster.cluster_security_group = format!("sg-{n}");
        cluster.public = Some(vec!["203.0.113.0/24".into()]);
        state.clusters.push(cluster);
    }
    state
}

async fn facts(aws: &Aws, n: u8) -> Facts {
    let place = Place {
        name: format!("eks-{n}"),
        region: REGION.into(),
        account: None,
    };
    describe(aws, &Identity::default(), &place).await.unwrap()
}

/// Both clusters' facts and networks.
async fn members(aws: &Aws) -> Vec<(Facts, Network)> {
    let mut members = Vec::new();
    for n in [1, 2] {
        let facts = facts(aws, n).await;
        let network = read(&facts, &[IpAddr::from([10, n, 1, 7])], now)
            .await
            .unwrap();
        members.push((facts, network));
    }
    members
}

/// Who may reach the gateways, and what was found before the first write.
fn judged(members: &[(Facts, Network)]) -> (BTreeMap<String, Exposure>, Vec<preflight::Finding>) {
    let networks: Vec<Network> = members.iter().map(|m| m.1.clone()).collect();
    let exposure = exposure::decide(&networks).unwrap();
    let members: Vec<Member<'_>> = members
        .iter()
        .map(|(facts, network)| Member {
            facts,
            network,
            class: Some("eks.amazonaws.com/nlb"),
            placed: false,
            denied: &[],
        })
        .collect();
    let findings = preflight::check(&members, &exposure, |a, b| a != b);
    (exposure, findings)
}

async fn findings(state: State) -> Vec<preflight::Finding> {
    let (_shared, _server, aws) = served(state).await;
    judged(&members(&aws).await).1
}

fn bad(findings: &[preflight::Finding]) -> Vec<(&str, &str, Level)> {
    let bad = findings.iter().filter(|f| f.level != Level::Pass);
    bad.map(|f| (f.check, f.cluster.as_str(), f.level))
        .collect()
}

#[tokio::test]
async fn separate_vpcs_open_to_each_others_nat_and_pass_preflight() {
    let mut state = world();
    vpc(&mut state, 1, &[]);
    vpc(&mut state, 2, &[]);
    let (_shared, _server, aws) = served(state).await;
    let members = members(&aws).await;
    assert_eq!(members[0].1.nodes, ["subnet-1-private".to_owned()].into());
    let (exposure, findings) = judged(&members);
    let sources = vec!["203.0.113.2/32".parse().unwrap()];
    assert_eq!(exposure["eks-1"], Exposure::InternetFacing { sources });
    assert_eq!(bad(&findings), []);
}

#[tokio::test]
async fn a_peering_with_routes_makes_gateways_internal() {
    let mut state = world();
    vpc(&mut state, 1, &[("10.2.0.0/16", "pcx-1")]);
    vpc(&mut state, 2, &[("10.1.0.0/16", "pcx-1")]);
    let side = |n: u8| Side {
        vpc: format!("vpc-{n}"),
        cidr: format!("10.{n}.0.0/16"),
        account: ACCOUNT.into(),
        region: REGION.into(),
    };
    let peering = ThingKind::Peering {
        from: side(1),
        to: side(2),
        status: "active".into(),
    };
    state
        .network
        .things
        .push(Thing::new(ACCOUNT, REGION, "pcx-1", "vpc-1", peering));
    let found = findings(state).await;
    let untagged: Vec<_> = bad(&found);
    assert_eq!(
        untagged,
        [
            ("aws-subnets", "eks-1", Level::Fail),
            ("aws-subnets", "eks-2", Level::Fail)
        ]
    );
    let fix = "aws ec2 create-tags --region eu-west-1 --resources subnet-1-private --tags Key=kubernetes.io/role/internal-elb,Value=1";
    assert_eq!(
        found.iter().find(|f| f.check == "aws-subnets").unwrap().fix,
        [Hint::shell(fix)]
    );
}

#[tokio::test]
async fn what_will_fail_is_found_with_the_command_that_mends_it() {
    let mut state = world();
    vpc(&mut state, 1, &[]);
    vpc(&mut state, 2, &[]);
    state.clusters[0].public = Some(vec!["198.51.100.0/24".into()]);
    state.clusters[1].public = None;
    for thing in &mut state.network.things {
        if let ThingKind::SecurityGroup { ingress } = &mut thing.kind {
            let open = Ingress {
                protocol: "tcp".into(),
                ports: Some((15010, 15014)),
                cidrs: vec!["0.0.0.0/0".into()],
                groups: Vec::new(),
            };
            *ingress = if thing.id == "sg-1" {
                vec![open]
            } else {
                Vec::new()
            };
        }
    }
    let found = findings(state).await;
    assert_eq!(
        bad(&found),
        [
            ("aws-webhook", "eks-1", Level::Fail),
            ("aws-open-ports", "eks-1", Level::Warn),
            ("aws-api-endpoint", "eks-1", Level::Fail),
            ("aws-webhook", "eks-2", Level::Fail),
            ("aws-api-endpoint", "eks-2", Level::Fail),
        ]
    );
    let fixes: Vec<String> = found
        .iter()
        .filter_map(|f| f.fix.first().map(ToString::to_string))
        .collect();
    assert_eq!(
        fixes[0],
        "aws ec2 authorize-security-group-ingress --region eu-west-1 --group-id sg-1 --protocol tcp --port 15017 --source-group sg-1"
    );
    assert!(
        fixes[2].ends_with("publicAccessCidrs=198.51.100.0/24,203.0.113.2/32"),
        "{}",
        fixes[2]
    );
}

#[tokio::test]
async fn what_may_not_be_read_is_reported_and_refused_where_it_matters() {
    let mut state = world();
    vpc(&mut state, 1, &[]);
    vpc(&mut state, 2, &[]);
    state.denied.insert("ec2:DescribeNatGateways".into());
    let (_shared, _server, aws) = served(state).await;
    let networks: Vec<Network> = members(&aws).await.into_iter().map(|m| m.1).collect();
    assert_eq!(networks[0].blind, ["DescribeNatGateways"]);
    let error = exposure::decide(&networks).unwrap_err();
    assert!(
        error
            .reason
            .contains("ec2:DescribeNatGateways is not allowed"),
        "{error}"
    );
}

#[tokio::test]
async fn our_own_calls_are_paged_signed_and_repeated() {
    let mut state = world();
    vpc(&mut state, 1, &[]);
    for n in 0..1500 {
        let kind = ThingKind::SecurityGroup {
            ingress: Vec::new(),
        };
        state.network.things.push(Thing::new(
            ACCOUNT,
            REGION,
            &format!("sg-x{n}"),
            "vpc-1",
            kind,
        ));
    }
    state
        .faults
        .push(Fault::times("ec2:DescribeSubnets", FaultKind::Cut, 1));
    state
        .faults
        .push(Fault::times("ec2:DescribeSubnets", FaultKind::Garbled, 1));
    let (shared, _server, aws) = served(state).await;
    let network = read(&facts(&aws, 1).await, &[], now).await.unwrap();
    assert_eq!(network.groups.len(), 1501);
    assert_eq!(
        network.nodes,
        ["subnet-1-private".to_owned()].into(),
        "the cluster's own subnets stand in"
    );
    assert_eq!(shared.lock().count("ec2:DescribeSecurityGroups", 200), 2);
    assert_eq!(shared.lock().count("ec2:DescribeSubnets", 200), 3);
}
