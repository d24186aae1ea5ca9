//! Who may reach a gateway, derived from the networks of the members; pure.
//!
//! A gateway is internal when every peer has a private way to it: the same VPC, or routes both ways over a peering or a
//! transit gateway. Otherwise it gets public addresses, open only to the addresses by which its peers leave: their NAT
//! gateways. Where those cannot be known, nothing is decided, and the error says how to decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::network::Network;
use crate::hint::Hint;

/// Who may reach a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Private addresses.
    Internal {
        /// By which way each peer gets there.
        ways: BTreeMap<String, Way>,
    },
    /// Public addresses, open to these ranges.
    InternetFacing {
        /// Addresses by which the peers leave.
        sources: Vec<IpNet>,
    },
}

/// A private way between two clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// They share a VPC.
    SameVpc(String),
    /// A VPC peering.
    Peering(String),
    /// A transit gateway.
    Transit(String),
}

/// Nothing was decided, because something is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot tell who may reach the gateway of {gateway}: {reason}")]
pub(crate) struct Undecided {
    /// The cluster whose gateway it is.
    pub gateway: String,
    /// What is not known, of whom.
    pub reason: String,
}

impl Undecided {
    /// The ways to decide.
    pub(crate) fn hint(&self) -> Hint {
        Hint::note(
            "set it in mesh.yaml: `gateway: {exposure: internal}` if there is a private route, or \
         `gateway: {exposure: internet-facing, sourceRanges: [ADDRESS/32]}` with the addresses that the peers' requests come from",
        )
    }
}

/// Decide for every member.
#[cfg(test)]
pub(crate) fn decide(members: &[Network]) -> Result<BTreeMap<String, Exposure>, Undecided> {
    members
        .iter()
        .map(|gateway| Ok((gateway.cluster.clone(), of(gateway, members)?)))
        .collect()
}

/// Decide for one member.
pub(crate) fn of(gateway: &Network, members: &[Network]) -> Result<Exposure, Undecided> {
    let peers: Vec<&Network> = members
        .iter()
        .filter(|m| m.cluster != gateway.cluster)
        .collect();
    let undecided = |reason| Undecided {
        gateway: gateway.cluster.clone(),
        reason,
    };
    let mut ways = BTreeMap::new();
    for peer in &peers {
        if let Some(way) = way(peer, gateway).map_err(undecided)? {
            ways.insert(peer.cluster.clone(), way);
        }
    }
    if ways.len() == peers.len() {
        return Ok(Exposure::Internal { ways });
    }
    facing(gateway, members)
}

/// Public addresses, whatever private ways there are: open to where every peer comes from.
pub(crate) fn facing(gateway: &Network, members: &[Network]) -> Result<Exposure, Undecided> {
    let mut sources = BTreeSet::new();
    for peer in members.iter().filter(|m| m.cluster != gateway.cluster) {
        let undecided = |reason| Undecided {
            gateway: gateway.cluster.clone(),
            reason,
        };
        sources.extend(
            egress(peer)
                .map_err(undecided)?
                .into_iter()
                .map(IpNet::from),
        );
    }
    Ok(Exposure::InternetFacing {
        sources: sources.into_iter().collect(),
    })
}

/// The private way between two clusters, if there is one both ways.
pub(crate) fn way(from: &Network, to: &Network) -> Result<Option<Way>, String> {
    if from.vpc == to.vpc && from.region == to.region {
        return Ok(Some(Way::SameVpc(from.vpc.clone())));
    }
    let (Some(there), Some(back)) = (leads(from, to), leads(to, from)) else {
        return Ok(None);
    };
    let joins = |a: &Network, b: &Network| a.peerings.get(&there) == Some(&b.vpc);
    match (there.split_once('-').map(|p| p.0), there == back) {
        (Some("pcx"), true) if joins(from, to) && joins(to, from) => Ok(Some(Way::Peering(there))),
        (Some("tgw"), true) if from.transits.contains(&there) && to.transits.contains(&there) => {
            Ok(Some(Way::Transit(there)))
        }
        (Some("tgw"), _) => Err(format!(
            "{} and {} route to each other over transit gateways ({there}, {back}), but whether these are joined cannot be seen",
            from.cluster, to.cluster
        )),
        _ => Ok(None),
    }
}

/// The one peering or transit gateway by which all of a cluster's nodes reach all subnets of another.
fn leads(from: &Network, to: &Network) -> Option<String> {
    // Ranges lie in each other or apart.
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    let overlap = from
        .subnets
        .iter()
        .any(|a| to.subnets.iter().any(|b| overlaps(&a.cidr, &b.cidr)));
    let targets = to.subnets.iter().map(|s| &s.cidr);
    let hops: BTreeSet<Option<&str>> = targets
        .flat_map(|cidr| from.nodes.iter().map(move |node| from.toward(node, cidr)))
        .collect();
    let mut hops = hops.into_iter();
    match (hops.next(), hops.next(), overlap) {
        (Some(Some(hop)), None, false) if hop.starts_with("pcx-") || hop.starts_with("tgw-") => {
            Some(hop.into())
        }
        _ => None,
    }
}

/// The public addresses by which a cluster's pods leave.
pub(crate) fn egress(network: &Network) -> Result<Vec<IpAddr>, String> {
    let everything = IpNet::from(IpAddr::from([1, 1, 1, 1]));
    let cluster = &network.cluster;
    if let Some(action) = network
        .blind
        .iter()
        .find(|a| matches!(**a, "DescribeRouteTables" | "DescribeNatGateways"))
    {
        return Err(format!(
            "how {cluster}'s requests leave its VPC is unknown, because ec2:{action} is not allowed"
        ));
    }
    if network.nodes.is_empty() {
        return Err(format!("the subnets of {cluster} are unknown"));
    }
    let mut addresses = BTreeSet::new();
    for node in &network.nodes {
        let hop = network.toward(node, &everything).unwrap_or("nowhere");
        let nat = network.nats.get(hop).filter(|ips| !ips.is_empty());
        let why = match hop.split_once('-').map_or(hop, |p| p.0) {
            "igw" => "its nodes have public addresses of their own, which change",
            "tgw" => "its requests leave through a transit gateway",
            "nowhere" => "it has no route to the internet",
            _ => "its requests do not leave through a NAT gateway of its VPC",
        };
        let unknown = || {
            format!(
                "the addresses that {cluster}'s requests come from are unknown: {why} (subnet {node})"
            )
        };
        addresses.extend(nat.ok_or_else(unknown)?);
    }
    Ok(addresses.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::{
        super::network::{Route, Subnet},
        *,
    };

    fn network(n: u8, routes: &[(&str, &str)]) -> Network {
        let (subnet, nat) = (format!("subnet-{n}"), format!("nat-{n}"));
        let mut all = vec![Route {
            to: "0.0.0.0/0".parse().unwrap(),
            via: nat.clone(),
        }];
        all.extend(routes.iter().map(|(to, via)| Route {
            to: to.parse().unwrap(),
            via: (*via).into(),
        }));
        let cidr = format!("10.{n}.0.0/16").parse().unwrap();
        Network {
            cluster: format!("eks-{n}"),
            region: "eu-west-1".into(),
            vpc: format!("vpc-{n}"),
            subnets: vec![Subnet {
                id: subnet.clone(),
                cidr,
                zone: "a".into(),
                elb: true,
                internal_elb: true,
            }],
            nodes: [subnet].into(),
            routes: [(String::new(), all)].into(),
            nats: [(nat, vec![IpAddr::from([203, 0, 113, n])])].into(),
            ..Network::default()
        }
    }

    fn internal(members: &[Network]) -> Option<Way> {
        match decide(members).unwrap().remove("eks-1")? {
            Exposure::Internal { ways } => ways.get("eks-2").cloned(),
            Exposure::InternetFacing { .. } => None,
        }
    }

    #[test]
    fn unconnected_clusters_open_only_to_each_others_nat_addresses() {
        let decided = decide(&[network(1, &[]), network(2, &[]), network(3, &[])]).unwrap();
        let sources = ["203.0.113.2/32", "203.0.113.3/32"]
            .map(|s| s.parse().unwrap())
            .to_vec();
        assert_eq!(decided["eks-1"], Exposure::InternetFacing { sources });
    }

    #[test]
    fn one_vpc_is_internal() {
        let second = Network {
            cluster: "eks-2".into(),
            ..network(1, &[])
        };
        assert_eq!(
            internal(&[network(1, &[]), second]),
            Some(Way::SameVpc("vpc-1".into()))
        );
    }

    #[test]
    fn a_peering_counts_only_with_routes_both_ways() {
        let peered = |n: u8, other: u8, routes: &[(&str, &str)]| Network {
            peerings: [("pcx-1".to_owned(), format!("vpc-{other}"))].into(),
            ..network(n, routes)
        };
        let there = [("10.2.0.0/16", "pcx-1")];
        let back = [("10.0.0.0/8", "pcx-1"), ("10.2.0.0/16", "local")];
        assert_eq!(
            internal(&[peered(1, 2, &there), peered(2, 1, &back)]),
            Some(Way::Peering("pcx-1".into()))
        );
        assert_eq!(
            internal(&[peered(1, 2, &there), peered(2, 1, &[])]),
            None,
            "no way back"
        );
        let elsewhere = peered(1, 9, &there);
        assert_eq!(
            internal(&[elsewhere, peered(2, 1, &back)]),
            None,
            "another VPC at the end"
        );
        let mut overlapping = peered(2, 1, &back);
        overlapping.subnets[0].cidr = "10.1.128.0/20".parse().unwrap();
        assert_eq!(
            internal(&[peered(1, 2, &there), overlapping]),
            None,
            "the same addresses twice"
        );
    }

    #[test]
    fn a_transit_gateway_must_hold_both() {
        let attached = |n: u8, to: &str, tgw: &str| Network {
            transits: [tgw.to_owned()].into(),
            ..network(n, &[(to, tgw)])
        };
        let one = attached(1, "10.2.0.0/16", "tgw-1");
        assert_eq!(
            internal(&[one.clone(), attached(2, "10.1.0.0/16", "tgw-1")]),
            Some(Way::Transit("tgw-1".into()))
        );
        let error = decide(&[one, attached(2, "10.1.0.0/16", "tgw-2")]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("whether these are joined cannot be seen"),
            "{error}"
        );
    }

    #[test]
    fn unknown_ways_out_are_refused_with_the_choices() {
        let mut public = network(2, &[]);
        public.routes.get_mut("").unwrap()[0].via = "igw-1".into();
        let error = decide(&[network(1, &[]), public]).unwrap_err();
        assert_eq!(error.gateway, "eks-1");
        assert!(
            error.reason.contains("public addresses of their own"),
            "{error}"
        );
        assert!(
            error.hint().to_string().contains("exposure: internal")
                && error.hint().to_string().contains("internet-facing")
        );
        let blind = Network {
            blind: vec!["DescribeNatGateways"],
            ..network(2, &[])
        };
        let error = decide(&[network(1, &[]), blind]).unwrap_err();
        assert!(
            error
                .reason
                .contains("ec2:DescribeNatGateways is not allowed"),
            "{error}"
        );
        let mut centre = network(2, &[]);
        centre.routes.get_mut("").unwrap()[0].via = "tgw-9".into();
        assert!(
            decide(&[network(1, &[]), centre])
                .unwrap_err()
                .reason
                .contains("transit gateway")
        );
    }
}
