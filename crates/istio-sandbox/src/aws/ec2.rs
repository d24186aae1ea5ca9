//! Elastic Compute Cloud: reads of the network.

use super::{
    ask::{Answer, Ask, REQUEST_ID, Refusal},
    network::Thing,
    state::State,
    xml::Xml,
};

pub(super) const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// Actions, with the name of their list, the parameter that names things, and the code where there is none.
const LISTS: [(&str, &str, &str, &str); 7] = [
    (
        "DescribeSubnets",
        "subnetSet",
        "SubnetId",
        "InvalidSubnetID.NotFound",
    ),
    (
        "DescribeSecurityGroups",
        "securityGroupInfo",
        "GroupId",
        "InvalidGroup.NotFound",
    ),
    (
        "DescribeNatGateways",
        "natGatewaySet",
        "NatGatewayId",
        "NatGatewayNotFound",
    ),
    (
        "DescribeRouteTables",
        "routeTableSet",
        "RouteTableId",
        "InvalidRouteTableID.NotFound",
    ),
    (
        "DescribeVpcPeeringConnections",
        "vpcPeeringConnectionSet",
        "VpcPeeringConnectionId",
        "InvalidVpcPeeringConnectionID.NotFound",
    ),
    (
        "DescribeTransitGatewayVpcAttachments",
        "transitGatewayVpcAttachments",
        "TransitGatewayAttachmentIds",
        "InvalidTransitGatewayAttachmentID.NotFound",
    ),
    (
        "DescribeNetworkInterfaces",
        "networkInterfaceSet",
        "NetworkInterfaceId",
        "InvalidNetworkInterfaceID.NotFound",
    ),
];

pub(super) fn answer(state: &State, ask: &Ask) -> Answer<Xml> {
    let unknown = || {
        Refusal(
            400,
            "InvalidAction",
            format!(
                "The action {} is not valid for this web service.",
                ask.action
            ),
        )
    };
    let (action, list, parameter, missing) = LISTS
        .into_iter()
        .find(|(a, ..)| *a == ask.action)
        .ok_or_else(unknown)?;
    let ids = ask.list(parameter);
    let mut rows = Vec::new();
    for thing in state.network.things.iter().filter(|t| t.action() == action) {
        let mine = thing.account == ask.account && thing.region == ask.region;
        if mine && (ids.is_empty() || ids.contains(&thing.id.as_str())) && fits(thing, ask)? {
            rows.push(thing.row());
        }
    }
    if rows.len() < ids.len() {
        return Err(Refusal(
            400,
            missing,
            format!("The {parameter} '{}' does not exist", ids.join(", ")),
        ));
    }
    let (rows, next) = ask.page(rows, "NextToken", "MaxResults", 1000)?;
    Ok(Xml::new()
        .text("requestId", REQUEST_ID)
        .list(list, "item", rows)
        .maybe("nextToken", next))
}

fn fits(thing: &Thing, ask: &Ask) -> Answer<bool> {
    for (name, wanted) in ask.filters() {
        let invalid = || {
            Refusal(
                400,
                "InvalidParameterValue",
                format!("The filter '{name}' is invalid"),
            )
        };
        let have = thing.filterable(name).ok_or_else(invalid)?;
        if !have
            .iter()
            .any(|value| wanted.iter().any(|pattern| like(pattern, value)))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// EC2's filters know `*`; here one of them.
fn like(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => value
            .strip_prefix(start)
            .is_some_and(|rest| rest.ends_with(end)),
        None => pattern == value,
    }
}
