"""The same questions to our AWS emulator and to moto; the shapes of the answers side by side.

Every difference must stand in differences.md with its reason, and everything that stands there must still be one.
"""

import json
import os
import pathlib
import sys
from fnmatch import fnmatchcase

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

HERE = pathlib.Path(__file__).parent
REGION = os.environ["AWS_REGION"]
SERVICES = ["elbv2", "eks", "sts", "ec2"]


def clients(url, key, secret):
    config = Config(retries={"max_attempts": 1}, read_timeout=20)
    who = {"region_name": REGION, "aws_access_key_id": key, "aws_secret_access_key": secret}
    return {name: boto3.client(name, endpoint_url=url, config=config, **who) for name in SERVICES}


def furnish(c):
    """What the emulator has, in moto."""
    ec2, elb = c["ec2"], c["elbv2"]
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    other = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]["SubnetId"]
        for n, zone in enumerate("ab")
    ]
    ec2.create_tags(Resources=subnets, Tags=[{"Key": "kubernetes.io/role/elb", "Value": "1"}])
    group = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 15017, "ToPort": 15017,
                        "IpRanges": [{"CidrIp": "10.0.0.0/16"}], "UserIdGroupPairs": [{"GroupId": group}]}],
    )
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=subnets[0], AllocationId=address)["NatGateway"]["NatGatewayId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnets[0])
    peering = ec2.create_vpc_peering_connection(VpcId=vpc, PeerVpcId=other)
    peering = peering["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=peering)
    transit = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    ec2.create_transit_gateway_vpc_attachment(TransitGatewayId=transit, VpcId=vpc, SubnetIds=subnets)
    ec2.create_network_interface(SubnetId=subnets[0], Groups=[group], Description="node")
    for name in ["first", "second"]:
        lb = elb.create_load_balancer(Name=name, Type="network", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
        elb.add_tags(ResourceArns=[lb], Tags=[{"Key": "service.k8s.aws/stack", "Value": "ns/svc"}])
        target = elb.create_target_group(Name=name, Protocol="TCP", Port=15443, VpcId=vpc, TargetType="ip")
        target = target["TargetGroups"][0]["TargetGroupArn"]
        elb.create_listener(LoadBalancerArn=lb, Protocol="TCP", Port=15443,
                            DefaultActions=[{"Type": "forward", "TargetGroupArn": target}])
        elb.register_targets(TargetGroupArn=target, Targets=[{"Id": "10.0.0.7", "Port": 15443}])
    for name in ["eks-1", "eks-2"]:
        c["eks"].create_cluster(name=name, roleArn="arn:aws:iam::123456789012:role/eks",
                                resourcesVpcConfig={"subnetIds": subnets, "securityGroupIds": [group]})


def known(c, role):
    """What the questions are about, on one side."""
    lb = c["elbv2"].describe_load_balancers()["LoadBalancers"]
    groups = c["elbv2"].describe_target_groups()["TargetGroups"]
    home = lb[0]["LoadBalancerArn"].rsplit("loadbalancer/", 1)[0]
    return {
        "lb": lb[0]["LoadBalancerArn"], "name": lb[0]["LoadBalancerName"], "group": groups[0]["TargetGroupArn"],
        "vpc": c["ec2"].describe_nat_gateways()["NatGateways"][0]["VpcId"], "role": role,
        "no_lb": f"{home}loadbalancer/net/none/0000000000000000",
        "no_group": f"{home}targetgroup/none/0000000000000000",
    }


def of_vpc(k):
    return [{"Name": "vpc-id", "Values": [k["vpc"]]}]


# Name, service, and the question.
QUESTIONS = [
    ("DescribeLoadBalancers", "elbv2", lambda c, k: c.describe_load_balancers()),
    ("DescribeLoadBalancers by ARN", "elbv2", lambda c, k: c.describe_load_balancers(LoadBalancerArns=[k["lb"]])),
    ("DescribeLoadBalancers by name", "elbv2", lambda c, k: c.describe_load_balancers(Names=[k["name"]])),
    ("DescribeLoadBalancers, first page", "elbv2", lambda c, k: c.describe_load_balancers(PageSize=1)),
    ("DescribeLoadBalancers, last page", "elbv2", lambda c, k: c.describe_load_balancers(
        PageSize=1, Marker=c.describe_load_balancers(PageSize=1)["NextMarker"])),
    ("DescribeLoadBalancers, none", "elbv2", lambda c, k: c.describe_load_balancers(LoadBalancerArns=[k["no_lb"]])),
    ("DescribeLoadBalancers, no such name", "elbv2", lambda c, k: c.describe_load_balancers(Names=["none"])),
    ("DescribeLoadBalancers, bad marker", "elbv2", lambda c, k: c.describe_load_balancers(Marker="nonsense")),
    ("DescribeListeners", "elbv2", lambda c, k: c.describe_listeners(LoadBalancerArn=k["lb"])),
    ("DescribeListeners, none", "elbv2", lambda c, k: c.describe_listeners(LoadBalancerArn=k["no_lb"])),
    ("DescribeTargetGroups", "elbv2", lambda c, k: c.describe_target_groups()),
    ("DescribeTargetGroups of one", "elbv2", lambda c, k: c.describe_target_groups(LoadBalancerArn=k["lb"])),
    ("DescribeTargetGroups, none", "elbv2", lambda c, k: c.describe_target_groups(TargetGroupArns=[k["no_group"]])),
    ("DescribeTargetHealth", "elbv2", lambda c, k: c.describe_target_health(TargetGroupArn=k["group"])),
    ("DescribeTargetHealth, none", "elbv2", lambda c, k: c.describe_target_health(TargetGroupArn=k["no_group"])),
    ("DescribeTags", "elbv2", lambda c, k: c.describe_tags(ResourceArns=[k["lb"]])),
    ("DescribeTags, none", "elbv2", lambda c, k: c.describe_tags(ResourceArns=[k["no_lb"]])),
    ("DescribeLoadBalancerAttributes", "elbv2",
     lambda c, k: c.describe_load_balancer_attributes(LoadBalancerArn=k["lb"])),
    ("DescribeTargetGroupAttributes", "elbv2",
     lambda c, k: c.describe_target_group_attributes(TargetGroupArn=k["group"])),
    ("DescribeCluster", "eks", lambda c, k: c.describe_cluster(name="eks-1")),
    ("DescribeCluster, none", "eks", lambda c, k: c.describe_cluster(name="none")),
    ("ListClusters", "eks", lambda c, k: c.list_clusters()),
    ("ListClusters, first page", "eks", lambda c, k: c.list_clusters(maxResults=1)),
    ("ListClusters, last page", "eks", lambda c, k: c.list_clusters(
        maxResults=1, nextToken=c.list_clusters(maxResults=1)["nextToken"])),
    ("GetCallerIdentity", "sts", lambda c, k: c.get_caller_identity()),
    ("AssumeRole", "sts", lambda c, k: c.assume_role(RoleArn=k["role"], RoleSessionName="one")),
    ("DescribeSubnets", "ec2", lambda c, k: c.describe_subnets(Filters=of_vpc(k))),
    ("DescribeSubnets, none", "ec2", lambda c, k: c.describe_subnets(SubnetIds=["subnet-0123456789abcdef0"])),
    ("DescribeSecurityGroups", "ec2", lambda c, k: c.describe_security_groups(Filters=of_vpc(k))),
    ("DescribeSecurityGroups, none", "ec2", lambda c, k: c.describe_security_groups(GroupIds=["sg-0123456789abcdef0"])),
    ("DescribeRouteTables", "ec2", lambda c, k: c.describe_route_tables(Filters=of_vpc(k))),
    ("DescribeNatGateways", "ec2", lambda c, k: c.describe_nat_gateways(Filters=of_vpc(k))),
    ("DescribeVpcPeeringConnections", "ec2", lambda c, k: c.describe_vpc_peering_connections(
        Filters=[{"Name": "status-code", "Values": ["active"]}])),
    ("DescribeTransitGatewayVpcAttachments", "ec2",
     lambda c, k: c.describe_transit_gateway_vpc_attachments(Filters=of_vpc(k))),
    ("DescribeNetworkInterfaces", "ec2", lambda c, k: c.describe_network_interfaces(
        Filters=[{"Name": "description", "Values": ["nod*"]}])),
    ("DescribeNetworkInterfaces, bad filter", "ec2", lambda c, k: c.describe_network_interfaces(
        Filters=[{"Name": "no-such-filter", "Values": ["x"]}])),
]


def shape(value, path=""):
    """Every path in an answer with the kind of what is there."""
    if isinstance(value, dict):
        inside = [shape(v, f"{path}.{k}" if path else k) for k, v in value.items() if k != "ResponseMetadata"]
    elif isinstance(value, list):
        inside = [shape(v, f"{path}[]") for v in value]
    else:
        return {path: "time" if hasattr(value, "isoformat") else type(value).__name__}
    all_of = {path: "empty"} if path and not inside else {}
    for one in inside:
        all_of.update(one)
    return all_of


def ask(client, question, k):
    try:
        return shape(question(client, k))
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"error": f"{status} {error.response['Error']['Code']}"}
    except (ValueError, KeyError, NotImplementedError) as error:
        return {"error": f"moto fails with {type(error).__name__}"}


def differences(ours, theirs):
    """Where one side says something the other does not; a list without rows says nothing of its rows."""
    for side, a, b in [("ours", ours, theirs), ("moto", theirs, ours)]:
        empty = tuple(path for path, kind in b.items() if kind == "empty")
        for path, kind in sorted(a.items()):
            inside = any(path.startswith((e + "[", e + ".")) for e in empty)
            if path not in b and not (inside or (kind == "empty" and any(p.startswith(path) for p in b))):
                yield side, path
            elif side == "ours" and path in b and b[path] != kind and "empty" not in (kind, b[path]):
                yield "both", f"{path}: {kind} / {b[path]}"


def table():
    rows = {}
    for line in (HERE / "differences.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 4 and cells[1] in ("ours", "moto", "both"):
            rows[(cells[0], cells[1], cells[2].strip("`"))] = cells[3]
    return rows


def answers(c):
    role = os.environ.get("COMPARE_ROLE", "arn:aws:iam::111122223333:role/mesh")
    k = known(c, role)
    return {name: ask(c[service], question, k) for name, service, question in QUESTIONS}


def main():
    env = os.environ
    url = env.pop("AWS_ENDPOINT_URL")
    ours = answers(clients(url, env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]))
    with mock_aws():
        moto = clients(None, "AKID", "secret")
        furnish(moto)
        theirs = answers(moto)
    found = {(name, side, path) for name in ours for side, path in differences(ours[name], theirs[name])}
    listed = table()
    # In the table, * stands for anything; brackets are brackets.
    fits = lambda row, one: all(fnmatchcase(a, b.replace("[", "[[]")) for a, b in zip(one, row))
    new = sorted(one for one in found if not any(fits(row, one) for row in listed))
    old = sorted(row for row in listed if not any(fits(row, one) for one in found))
    for row in new:
        print("not listed: | " + " | ".join([row[0], row[1], f"`{row[2]}`"]) + " | ? |")
    for row in old:
        print("no longer so: " + " | ".join(row))
    print(json.dumps({"questions": len(QUESTIONS), "differences": len(found), "listed": len(listed)}))
    sys.exit(1 if new or old else 0)


main()
