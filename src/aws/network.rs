//! The network around a cluster, as EC2 tells it: where its nodes are, what they can reach, and by which addresses they
//! leave. Read-only, a handful of signed calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::SystemTime,
};

use ipnet::IpNet;

use super::{
    call::{Cause, Error},
    eks::Facts,
    query::ec2,
    xml::Element,
};

/// The network around one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    /// The cluster.
    pub cluster: String,
    /// Its region.
    pub region: String,
    /// Its VPC.
    pub vpc: String,
    /// All subnets of the VPC.
    pub subnets: Vec<Subnet>,
    /// Subnets its nodes are in; the cluster's own where no node was named.
    pub nodes: BTreeSet<String>,
    /// Routes, by subnet; those of the main table under the empty name.
    pub routes: BTreeMap<String, Vec<Route>>,
    /// Public addresses of NAT gateways, by id.
    pub nats: BTreeMap<String, Vec<IpAddr>>,
    /// The VPC at the other end of each active peering, by id.
    pub peerings: BTreeMap<String, String>,
    /// Transit gateways the VPC is attached to.
    pub transits: BTreeSet<String>,
    /// Security groups of the VPC.
    pub groups: Vec<Group>,
    /// Security groups on the nodes' interfaces.
    pub node_groups: BTreeSet<String>,
    /// Actions we were not allowed: what they would have told is unknown.
    pub blind: Vec<&'static str>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subnet {
    /// `subnet-…`.
    pub id: String,
    /// Its addresses.
    pub cidr: IpNet,
    /// Its zone.
    pub zone: String,
    /// Tagged for public load balancers.
    pub elb: bool,
    /// Tagged for internal load balancers.
    pub internal_elb: bool,
}

/// A route that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where to.
    pub to: IpNet,
    /// `nat-…`, `igw-…`, `pcx-…`, `tgw-…`, `local`, …
    pub via: String,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// `sg-…`.
    pub id: String,
    /// What it lets in.
    pub ingress: Vec<Rule>,
}

/// A rule that lets something in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// First and last port; all of them for every protocol.
    pub ports: (u16, u16),
    /// Ranges let in.
    pub cidrs: Vec<IpNet>,
    /// Groups let in.
    pub groups: Vec<String>,
    /// Prefix lists let in too, whose addresses are not known.
    pub lists: bool,
}

impl Rule {
    /// Whether it opens a port.
    pub(crate) fn opens(&self, port: u16) -> bool {
        (self.ports.0..=self.ports.1).contains(&port)
    }
}

impl Network {
    /// The routes of a subnet, or the main ones.
    pub(crate) fn routes_of(&self, subnet: &str) -> &[Route] {
        let own = self.routes.get(subnet).or_else(|| self.routes.get(""));
        own.map(Vec::as_slice).unwrap_or_default()
    }

    /// Where a subnet's packets to a range go: the narrowest route that covers it.
    pub(crate) fn toward(&self, subnet: &str, to: &IpNet) -> Option<&str> {
        let fits = self.routes_of(subnet).iter().filter(|r| r.to.contains(to));
        let narrowest = fits.reduce(|best, r| if best.to.contains(&r.to) { r } else { best });
        narrowest.map(|r| r.via.as_str())
    }
}

/// Read the network around a cluster. `nodes` are the addresses of its nodes, where they are known.
pub(crate) async fn read(
    facts: &Facts,
    nodes: &[IpAddr],
    now: impl Fn() -> SystemTime,
) -> Result<Network, Error> {
    let vpc = facts.vpc.clone().unwrap_or_default();
    let mut network = Network {
        cluster: facts.name.clone(),
        region: facts.region.clone(),
        vpc,
        ..Network::default()
    };
    let vpc = network.vpc.clone();
    for action in [
        "DescribeSubnets",
        "DescribeRouteTables",
        "DescribeNatGateways",
        "DescribeSecurityGroups",
    ] {
        let pages = ask(
            facts,
            action,
            "vpc-id",
            std::slice::from_ref(&vpc),
            &mut network.blind,
            &now,
        )
        .await?;
        pages.iter().for_each(|page| network.take(action, page));
    }
    network.place(facts, nodes);
    let action = "DescribeTransitGatewayVpcAttachments";
    for page in ask(
        facts,
        action,
        "vpc-id",
        std::slice::from_ref(&vpc),
        &mut network.blind,
        &now,
    )
    .await?
    {
        network.take(action, &page);
    }
    let action = "DescribeVpcPeeringConnections";
    for page in ask(
        facts,
        action,
        "status-code",
        &["active".into()],
        &mut network.blind,
        &now,
    )
    .await?
    {
        network.take(action, &page);
    }
    let addresses: Vec<String> = nodes.iter().take(50).map(ToString::to_string).collect();
    if !addresses.is_empty() {
        let action = "DescribeNetworkInterfaces";
        let filter = "addresses.private-ip-address";
        for page in ask(facts, action, filter, &addresses, &mut network.blind, &now).await? {
            network.take(action, &page);
        }
    }
    Ok(network)
}

async fn ask(
    facts: &Facts,
    action: &'static str,
    filter: &str,
    values: &[String],
    blind: &mut Vec<&'static str>,
    now: &impl Fn() -> SystemTime,
) -> Result<Vec<Element>, Error> {
    let mut parameters = vec![("Filter.1.Name".to_owned(), filter.to_owned())];
    parameters.extend(
        values
            .iter()
            .zip(1..)
            .map(|(v, n)| (format!("Filter.1.Value.{n}"), v.clone())),
    );
    match ec2(&facts.session, action, &parameters, now).await {
        Err(Error {
            cause: Cause::Denied(_),
            ..
        }) => {
            blind.push(action);
            Ok(Vec::new())
        }
        other => other,
    }
}

impl Network {
    fn take(&mut self, action: &str, page: &Element) {
        match action {
            "DescribeSubnets" => self
                .subnets
                .extend(page.items("subnetSet").filter_map(subnet)),
            "DescribeSecurityGroups" => self
                .groups
                .extend(page.items("securityGroupInfo").map(group)),
            "DescribeRouteTables" => page
                .items("routeTableSet")
                .for_each(|t| self.take_routes(t)),
            "DescribeNatGateways" => self
                .nats
                .extend(page.items("natGatewaySet").filter_map(nat)),
            "DescribeTransitGatewayVpcAttachments" => {
                let available = page.items("transitGatewayVpcAttachments");
                let available = available.filter(|a| a.text(&["state"]) == Some("available"));
                self.transits
                    .extend(available.map(|a| a.string(&["transitGatewayId"])));
            }
            "DescribeVpcPeeringConnections" => {
                for peering in page.items("vpcPeeringConnectionSet") {
                    let ends = ["requesterVpcInfo", "accepterVpcInfo"]
                        .map(|e| peering.string(&[e, "vpcId"]));
                    if let Some(other) = ends
                        .iter()
                        .find(|e| **e != self.vpc)
                        .filter(|_| ends.contains(&self.vpc))
                    {
                        self.peerings
                            .insert(peering.string(&["vpcPeeringConnectionId"]), other.clone());
                    }
                }
            }
            _ => {
                let groups = page
                    .items("networkInterfaceSet")
                    .flat_map(|i| i.items("groupSet"));
                self.node_groups
                    .extend(groups.map(|g| g.string(&["groupId"])));
            }
        }
    }

    fn take_routes(&mut self, table: &Element) {
        let routes: Vec<Route> = table.items("routeSet").filter_map(route).collect();
        for association in table.items("associationSet") {
            self.routes
                .insert(association.string(&["subnetId"]), routes.clone());
        }
    }

    /// Find the subnets the nodes are in.
    fn place(&mut self, facts: &Facts, nodes: &[IpAddr]) {
        let home = |ip: &IpAddr| {
            self.subnets
                .iter()
                .find(|s| s.cidr.contains(ip))
                .map(|s| s.id.clone())
        };
        self.nodes = nodes.iter().filter_map(home).collect();
        if self.nodes.is_empty() {
            self.nodes = facts.subnets.iter().cloned().collect();
        }
    }
}

fn subnet(item: &Element) -> Option<Subnet> {
    let tagged = |key: &str| {
        item.items("tagSet")
            .any(|t| t.text(&["key"]) == Some(key) && t.text(&["value"]) != Some("0"))
    };
    Some(Subnet {
        id: item.string(&["subnetId"]),
        cidr: item.text(&["cidrBlock"])?.parse().ok()?,
        zone: item.string(&["availabilityZone"]),
        elb: tagged("kubernetes.io/role/elb"),
        internal_elb: tagged("kubernetes.io/role/internal-elb"),
    })
}

fn nat(item: &Element) -> Option<(String, Vec<IpAddr>)> {
    let available = item.text(&["state"]) == Some("available");
    let addresses = item
        .items("natGatewayAddressSet")
        .filter_map(|a| a.text(&["publicIp"])?.parse().ok());
    available.then(|| (item.string(&["natGatewayId"]), addresses.collect()))
}

fn route(item: &Element) -> Option<Route> {
    let to = item
        .text(&["destinationCidrBlock"])
        .or_else(|| item.text(&["destinationIpv6CidrBlock"]))?;
    let targets = [
        "natGatewayId",
        "vpcPeeringConnectionId",
        "transitGatewayId",
        "gatewayId",
        "networkInterfaceId",
    ];
    let via = targets.iter().find_map(|t| item.text(&[t]))?;
    let works = item.text(&["state"]) != Some("blackhole");
    works
        .then(|| {
            Some(Route {
                to: to.parse().ok()?,
                via: via.into(),
            })
        })
        .flatten()
}

fn group(item: &Element) -> Group {
    Group {
        id: item.string(&["groupId"]),
        ingress: item.items("ipPermissions").map(rule).collect(),
    }
}

fn rule(item: &Element) -> Rule {
    let port = |name: &str, or: u16| {
        item.text(&[name])
            .and_then(|p| p.parse().ok())
            .unwrap_or(or)
    };
    let ranges = |list: &str, key: &'static str| {
        let rows = item.items(list);
        rows.filter_map(|r| r.text(&[key])?.parse().ok())
            .collect::<Vec<IpNet>>()
    };
    let mut cidrs = ranges("ipRanges", "cidrIp");
    cidrs.extend(ranges("ipv6Ranges", "cidrIpv6"));
    Rule {
        lists: item.items("prefixListIds").next().is_some(),
        ports: (port("fromPort", 0), port("toPort", u16::MAX)),
        cidrs,
        groups: item
            .items("groups")
            .map(|g| g.string(&["groupId"]))
            .collect(),
    }
}

#[cfg(all(test, feature = "sandbox"))]
mod tests;
