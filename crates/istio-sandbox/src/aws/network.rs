//! VPCs, as far as anybody asks: subnets, routes, gateways, groups, interfaces.

use std::collections::BTreeMap;

use super::xml::Xml;

/// All networks of all accounts and regions.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Everything there is, in order of making.
    pub things: Vec<Thing>,
}

/// One thing in a network: whose it is, and what EC2 says about it.
#[derive(Debug, Clone)]
pub struct Thing {
    /// Account.
    pub account: String,
    /// Region.
    pub region: String,
    /// `subnet-…`, `sg-…`, …
    pub id: String,
    /// VPC it is in; of a peering, the one that asked for it.
    pub vpc: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// What it is.
    pub kind: Kind,
}

/// What a thing is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A subnet.
    Subnet {
        /// Its addresses.
        cidr: String,
        /// Its zone.
        zone: String,
    },
    /// A security group.
    SecurityGroup {
        /// What it lets in.
        ingress: Vec<Ingress>,
    },
    /// A NAT gateway.
    Nat {
        /// Its public addresses.
        public: Vec<String>,
    },
    /// A route table.
    Routes {
        /// Subnets it is for; none means it is the VPC's main one.
        subnets: Vec<String>,
        /// Its routes.
        routes: Vec<Route>,
    },
    /// A peering of two VPCs.
    Peering {
        /// The side that asked.
        from: Side,
        /// The side that accepted.
        to: Side,
        /// `active`, `pending-acceptance`, …
        status: String,
    },
    /// A VPC on a transit gateway.
    Transit {
        /// The transit gateway.
        gateway: String,
        /// `available`, …
        state: String,
    },
    /// A network interface.
    Interface {
        /// What made it: `ELB net/NAME/ID`, …
        description: String,
        /// Its private address.
        address: String,
        /// Its security groups.
        groups: Vec<String>,
    },
}

/// One side of a peering.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// VPC.
    pub vpc: String,
    /// Its CIDR.
    pub cidr: String,
    /// Its account.
    pub account: String,
    /// Its region.
    pub region: String,
}

/// A rule of a security group.
#[derive(Debug, Clone, Default)]
pub struct Ingress {
    /// `tcp`, or `-1` for all.
    pub protocol: String,
    /// First and last port.
    pub ports: Option<(u16, u16)>,
    /// CIDRs let in.
    pub cidrs: Vec<String>,
    /// Groups let in.
    pub groups: Vec<String>,
}

/// A route.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// Destination CIDR.
    pub to: String,
    /// `igw-…`, `nat-…`, `pcx-…`, `tgw-…` or `local`.
    pub via: String,
    /// Whether its target is gone.
    pub blackhole: bool,
}

impl Thing {
    /// A thing without tags.
    pub fn new(account: &str, region: &str, id: &str, vpc: &str, kind: Kind) -> Self {
        let [account, region, id, vpc] = [account, region, id, vpc].map(str::to_owned);
        Self {
            account,
            region,
            id,
            vpc,
            tags: BTreeMap::new(),
            kind,
        }
    }

    /// The action that lists things of this kind.
    pub(super) fn action(&self) -> &'static str {
        match self.kind {
            Kind::Subnet { .. } => "DescribeSubnets",
            Kind::SecurityGroup { .. } => "DescribeSecurityGroups",
            Kind::Nat { .. } => "DescribeNatGateways",
            Kind::Routes { .. } => "DescribeRouteTables",
            Kind::Peering { .. } => "DescribeVpcPeeringConnections",
            Kind::Transit { .. } => "DescribeTransitGatewayVpcAttachments",
            Kind::Interface { .. } => "DescribeNetworkInterfaces",
        }
    }

    /// What a filter of that name compares with; `None` is a filter the emulator does not know.
    pub(super) fn filterable(&self, filter: &str) -> Option<Vec<&str>> {
        if let Some(key) = filter.strip_prefix("tag:") {
            return Some(self.tags.get(key).map(String::as_str).into_iter().collect());
        }
        match (&self.kind, filter) {
            (Kind::Peering { from, .. }, "requester-vpc-info.vpc-id") => Some(vec![&from.vpc]),
            (Kind::Peering { to, .. }, "accepter-vpc-info.vpc-id") => Some(vec![&to.vpc]),
            (Kind::Peering { status, .. }, "status-code") => Some(vec![status]),
            (Kind::Peering { .. }, _) => None,
            (_, "vpc-id") => Some(vec![&self.vpc]),
            (Kind::Nat { .. }, "state") => Some(vec!["available"]),
            (Kind::Transit { state, .. }, "state") => Some(vec![state]),
            (Kind::Interface { description, .. }, "description") => Some(vec![description]),
            (Kind::Interface { address, .. }, "addresses.private-ip-address") => {
                Some(vec![address])
            }
            (Kind::Interface { groups, .. }, "group-id") => {
                Some(groups.iter().map(String::as_str).collect())
            }
            _ => None,
        }
    }

    /// What EC2 says about it.
    pub(super) fn row(&self) -> Xml {
        let tags = self
            .tags
            .iter()
            .map(|(k, v)| Xml::new().text("key", k).text("value", v));
        self.body().list("tagSet", "item", tags)
    }

    fn body(&self) -> Xml {
        let Self { id, vpc, .. } = self;
        let named = |name: &str| Xml::new().text(name, id).text("vpcId", vpc);
        match &self.kind {
            Kind::Subnet { cidr, zone } => named("subnetId")
                .text("cidrBlock", cidr)
                .text("availabilityZone", zone)
                .text("state", "available"),
            Kind::SecurityGroup { ingress } => named("groupId").text("groupName", id).list(
                "ipPermissions",
                "item",
                ingress.iter().map(rule),
            ),
            Kind::Nat { public } => {
                let addresses = public.iter().map(|ip| Xml::new().text("publicIp", ip));
                named("natGatewayId").text("state", "available").list(
                    "natGatewayAddressSet",
                    "item",
                    addresses,
                )
            }
            Kind::Routes { subnets, routes } => named("routeTableId")
                .list("associationSet", "item", associations(subnets))
                .list("routeSet", "item", routes.iter().map(route)),
            Kind::Peering { from, to, status } => Xml::new()
                .text("vpcPeeringConnectionId", id)
                .nest("requesterVpcInfo", side(from))
                .nest("accepterVpcInfo", side(to))
                .nest("status", Xml::new().text("code", status)),
            Kind::Transit { gateway, state } => named("transitGatewayAttachmentId")
                .text("transitGatewayId", gateway)
                .text("state", state),
            Kind::Interface {
                description,
                address,
                groups,
            } => {
                let groups = groups.iter().map(|g| Xml::new().text("groupId", g));
                named("networkInterfaceId")
                    .text("description", description)
                    .text("privateIpAddress", address)
                    .list("groupSet", "item", groups)
            }
        }
    }
}

fn associations(subnets: &[String]) -> Vec<Xml> {
    if subnets.is_empty() {
        return vec![Xml::new().text("main", true)];
    }
    subnets
        .iter()
        .map(|s| Xml::new().text("subnetId", s).text("main", false))
        .collect()
}

fn rule(rule: &Ingress) -> Xml {
    Xml::new()
        .text("ipProtocol", &rule.protocol)
        .maybe("fromPort", rule.ports.map(|p| p.0))
        .maybe("toPort", rule.ports.map(|p| p.1))
        .list(
            "groups",
            "item",
            rule.groups.iter().map(|g| Xml::new().text("groupId", g)),
        )
        .list(
            "ipRanges",
            "item",
            rule.cidrs.iter().map(|c| Xml::new().text("cidrIp", c)),
        )
}

fn route(route: &Route) -> Xml {
    let target = match route.via.split('-').next() {
        Some("nat") => "natGatewayId",
        Some("pcx") => "vpcPeeringConnectionId",
        Some("tgw") => "transitGatewayId",
        _ => "gatewayId",
    };
    Xml::new()
        .text("destinationCidrBlock", &route.to)
        .text(target, &route.via)
        .text(
            "state",
            if route.blackhole {
                "blackhole"
            } else {
                "active"
            },
        )
}

fn side(side: &Side) -> Xml {
    Xml::new()
        .text("vpcId", &side.vpc)
        .text("cidrBlock", &side.cidr)
        .text("ownerId", &side.account)
        .text("region", &side.region)
}
