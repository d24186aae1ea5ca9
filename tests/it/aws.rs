//! Clusters known by their EKS names alone: an AWS, no kubeconfig, no other program.

#[cfg(feature = "crashpoints")]
mod gate;

use meshlink::sandbox::{
    Fault, Options,
    aws::{Fault as AwsFault, FaultKind, Ingress, Role, Side, State, Thing, ThingKind},
    world::Home,
};
use serde_json::json;

use crate::kit::{Answer, World, in_ci, repository};

const JOIN: &str = "join eks-1 eks-2 --yes";
const LEAVE: &str = "leave eks-1 eks-2 --uninstall --crds --yes";
const GATEWAY: &str = "/api/v1/namespaces/istio-ingress/services/istio-eastwestgateway";

/// Runs a command that must leave both clusters without a mesh.
#[track_caller]
fn changes_nothing(world: &World, args: &str, code: i32) -> Answer {
    let answer = world.by_names(args).ends(code);
    for cluster in ["eks-1", "eks-2"] {
        let istio = world.find(cluster, "/api/v1/namespaces/istio-system");
        assert!(istio.is_none(), "{cluster} is changed: {answer}");
    }
    answer
}

#[test]
fn names_and_aws_are_enough_to_join_and_to_leave() {
    let world = World::new(2);
    let before = world.aws().network.things.len();
    let joined = world.by_names(JOIN).ends(0);
    joined
        .says("2 of 2 pairs proved")
        .says("targets healthy on 15443");
    {
        let aws = world.aws();
        assert_eq!(aws.balancers.len(), 2);
        for service in ["eks", "elasticloadbalancing", "ec2"] {
            assert!(aws.count(service, 200) > 0, "{service} was not asked");
        }
        assert_eq!(aws.count("", 403), 0);
    }
    let gateway = world.get("eks-1", GATEWAY);
    assert_eq!(
        gateway["spec"]["loadBalancerSourceRanges"][0],
        "203.0.113.1/32"
    );
    world.by_names(JOIN).ends(0).says("nothing to do");
    let waited = world
        .by_names("wait nlb eks-1 eks-2 -o json")
        .ends(0)
        .json();
    assert_eq!(waited["ready"], true);
    assert_eq!(waited["balancers"][0]["balancer"]["found_by"], "arn");
    world.by_names("status eks-1 eks-2").ends(0);

    let left = world.by_names(&format!("{LEAVE} -v")).ends(0);
    left.says(
        "the gateway is gone, and so are its load balancer, interfaces and security groups in AWS",
    );
    let aws = world.aws();
    assert_eq!(aws.balancers.len(), 0);
    assert_eq!(aws.network.things.len(), before);
}

#[test]
fn a_gateway_whose_targets_fail_is_not_ready_whatever_its_cluster_says() {
    let world = World::new(2);
    world.by_names(JOIN).ends(0);
    let gateway = || {
        let answer = world.by_names("status eks-1 eks-2 -o json");
        let checks = answer.json()["checks"].as_array().unwrap().clone();
        let is = |c: &&serde_json::Value| c["id"] == "gateway-ready" && c["from"] == "eks-2";
        let found = checks.iter().find(is).unwrap().clone();
        let code = if found["outcome"] == "failed" { 7 } else { 0 };
        assert_eq!(answer.code, Some(code), "{answer}");
        found
    };
    let before = gateway();
    assert_eq!(before["outcome"], "ok", "{before}");
    assert!(
        before["evidence"]
            .as_str()
            .unwrap()
            .ends_with("1 of 1 targets healthy"),
        "{before}"
    );
    world.fault("eks-2", Fault::TargetsNeverHealthy);
    let after = world
        .wait(|| Some(gateway()).filter(|c| c["outcome"] == "failed"))
        .unwrap();
    let evidence = after["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("1 unhealthy: Target.FailedHealthChecks"),
        "{evidence}"
    );
    assert_eq!(after["hints"][0], "meshlink wait nlb eks-2 --sandbox");
    world.clear("eks-2", Fault::TargetsNeverHealthy);
    world
        .aws()
        .denied
        .insert("elasticloadbalancing:DescribeTargetHealth".into());
    let blind = gateway();
    let evidence = blind["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("target health not looked at: elasticloadbalancing:DescribeTargetHealth"),
        "{evidence}"
    );
    assert_eq!(blind["outcome"], "ok");
}

#[test]
fn two_names_for_one_cluster() {
    let world = World::new(2);
    let arn = "arn:aws:eks:us-west-2:111122223333:cluster/eks-1";
    for other in ["us-west-2/eks-1", arn] {
        let args = format!("join eks-1 other={other} --yes");
        changes_nothing(&world, &args, 5)
            .says("eks-1 and other are one and the same cluster")
            .says("leave other out");
    }
}

#[test]
fn a_kubeconfig_of_the_aws_tools_needs_no_aws_tool() {
    let world = World::new(2);
    let text = std::fs::read_to_string(&world.endpoints().kubeconfig).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for n in [1, 2] {
        let arn = format!("arn:aws:eks:us-west-2:111122223333:cluster/eks-{n}");
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws",
            "args": ["--region", "us-west-2", "eks", "get-token", "--cluster-name", format!("eks-{n}")]});
        config["clusters"][n - 1]["name"] = arn.as_str().into();
        config["users"][n - 1] = json!({"name": arn, "user": {"exec": exec}});
        config["contexts"][n - 1] = json!({"name": arn, "context": {"cluster": arn, "user": arn}});
    }
    std::fs::write(world.user.here().join("config"), config.to_string()).unwrap();
    let plan = "plan eks-1 eks-2 --kubeconfig config";
    world.by_names(plan).ends(10);
    assert_eq!(
        world.aws().count("eks:DescribeCluster", 200),
        2,
        "for the exposure alone"
    );
    // The token is made for one cluster, and nothing else lets us in.
    let wrong = config.to_string().replace("\"eks-2\"", "\"eks-1\"");
    std::fs::write(world.user.here().join("config"), wrong).unwrap();
    world
        .by_names(plan)
        .ends(1)
        .says("cluster eks-2")
        .says("(401)");
    // Without credentials the program is run, which is not here.
    let keyless = [("AWS_EC2_METADATA_DISABLED", "true")];
    let answer = world.user.start_with(plan, &keyless).end().ends(1);
    answer.says("the credential plugin \"aws\" is not installed, or not in PATH");
}

#[test]
fn who_is_not_let_in_is_told_how_to_be() {
    let world = World::new(2);
    let known = |aws: &mut State, entries: &[&str], admins| {
        let cluster = &mut aws.clusters[1];
        cluster.entries = entries.iter().map(|e| (*e).to_owned()).collect();
        cluster.admins = admins;
    };
    known(
        &mut world.aws(),
        &["arn:aws:iam::111122223333:role/other"],
        true,
    );
    // Those that only look tell of the other member too.
    for (command, code) in [
        (JOIN, 1),
        ("plan eks-1 eks-2", 1),
        ("status eks-1 eks-2", 6),
        ("wait nlb eks-1 eks-2 --timeout 20s", 4),
    ] {
        changes_nothing(&world, command, code)
            .says("cluster eks-2")
            .says("does not accept the credentials (401)")
            .says("aws eks create-access-entry --cluster-name eks-2 --region us-west-2 --principal-arn arn:aws:iam::111122223333:user/embedded")
            .says("--policy-arn arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy");
    }
    known(&mut world.aws(), &[], false);
    let answer = changes_nothing(&world, JOIN, 1)
        .says("is forbidden: User \"arn:aws:iam::111122223333:user/embedded\" cannot")
        .says("aws eks associate-access-policy --cluster-name eks-2");
    assert!(!answer.stderr.contains("create-access-entry"), "{answer}");
}

/// The nodes' interfaces in a group that lets this in.
fn nodes(aws: &mut State, ingress: Vec<Ingress>) {
    let things = &mut aws.network.things;
    let (account, region) = (things[0].account.clone(), things[0].region.clone());
    let vpc = things[0].vpc.clone();
    let mut add = |id: &str, kind| {
        things.retain(|t| t.id != id);
        things.push(Thing::new(&account, &region, id, &vpc, kind));
    };
    add("sg-nodes", ThingKind::SecurityGroup { ingress });
    let interface = ThingKind::Interface {
        description: "node".into(),
        address: "192.168.0.10".into(),
        groups: vec!["sg-nodes".into()],
    };
    add("eni-node", interface);
}

fn from_everywhere(first: u16, last: u16) -> Ingress {
    Ingress {
        protocol: "tcp".into(),
        ports: Some((first, last)),
        cidrs: vec!["0.0.0.0/0".into()],
        ..Ingress::default()
    }
}

#[test]
fn what_aws_would_not_let_through_is_found_before_the_first_write() {
    let world = World::new(2);
    {
        let mut aws = world.aws();
        nodes(&mut aws, vec![from_everywhere(15010, 15014)]);
        aws.clusters[1].public = Some(vec!["198.51.100.0/24".into()]);
        for thing in &mut aws.network.things {
            if thing.vpc == "vpc-00000000000000001" {
                thing.tags.clear();
            }
        }
        aws.denied
            .insert("elasticloadbalancing:DescribeTargetHealth".into());
    }
    for command in [JOIN, "plan eks-1 eks-2"] {
        changes_nothing(&world, command, 5)
            .says("cluster eks-1: the nodes (sg-nodes) do not admit the control plane")
            .says("--port 15017 --source-group")
            .says("cluster eks-2: no subnet of vpc-00000000000000001 is tagged kubernetes.io/role/elb")
            .says("cluster eks-2: the API server does not admit 203.0.113.0/32, which eks-1's requests come from")
            .says("publicAccessCidrs=198.51.100.0/24,203.0.113.0/32")
            .says("--ignore aws-api-endpoint");
    }
    let warned =
        "plan eks-1 eks-2 --ignore aws-webhook --ignore aws-subnets --ignore aws-api-endpoint";
    changes_nothing(&world, warned, 10)
        .says("security group sg-nodes opens 15010, 15014 to everybody")
        .says("not allowed: elasticloadbalancing:DescribeTargetHealth")
        .says("note: eks-2: the API server does not admit");
    nodes(&mut world.aws(), vec![from_everywhere(0, u16::MAX)]);
    changes_nothing(&world, JOIN, 5).says("(aws-subnets)");
}

#[test]
fn three_accounts_and_regions_by_roles_with_external_ids() {
    let home = |account: &str, region: &str| Home {
        account: account.into(),
        region: region.into(),
    };
    let homes = [
        ("eks-2".to_owned(), home("444455556666", "eu-west-1")),
        ("eks-3".to_owned(), home("777788889999", "ap-southeast-2")),
    ];
    let world = World::with(3, |options: &mut Options| options.homes.extend(homes));
    for account in ["444455556666", "777788889999"] {
        let role = Role {
            external_id: Some("shop".into()),
            trusted: vec!["111122223333".into()],
        };
        let arn = format!("arn:aws:iam::{account}:role/mesh");
        world.aws().roles.insert(arn, role);
    }
    let role = |account: &str, id: &str| json!({"roleArn": format!("arn:aws:iam::{account}:role/mesh"), "externalId": id});
    let file = |id: &str| {
        let mut second = role("444455556666", id);
        second["name"] = "eks-2".into();
        second["region"] = "eu-west-1".into();
        let mut third = role("777788889999", "shop");
        third["arn"] = "arn:aws:eks:ap-southeast-2:777788889999:cluster/eks-3".into();
        let clusters = json!([{"name": "eks-1", "eks": {"name": "eks-1", "region": "us-west-2"}},
            {"name": "eks-2", "eks": second}, {"name": "eks-3", "eks": third}]);
        let path = world.user.here().join("mesh.yaml");
        std::fs::write(
            path,
            json!({"mesh": "mesh", "clusters": clusters}).to_string(),
        )
        .unwrap();
    };
    file("guess");
    changes_nothing(&world, "join -f mesh.yaml --yes", 1)
        .says("could not ask AWS about eks-2")
        .says("sts:AssumeRole on resource: arn:aws:iam::444455556666:role/mesh");
    file("shop");
    world
        .by_names("join -f mesh.yaml --yes")
        .ends(0)
        .says("6 of 6 pairs proved");
    let homes: Vec<String> = {
        let aws = world.aws();
        let asked = |c: &&meshlink::sandbox::aws::Call| {
            c.action == "elasticloadbalancing:DescribeTargetHealth" && c.status == 200
        };
        let of = aws.calls.iter().filter(asked);
        of.map(|c| format!("{} {}", c.account, c.region)).collect()
    };
    for home in [
        "111122223333 us-west-2",
        "444455556666 eu-west-1",
        "777788889999 ap-southeast-2",
    ] {
        assert!(homes.iter().any(|h| h == home), "{home}: {homes:?}");
    }
    let leave = "leave eks-1 eks-2 eks-3 -f mesh.yaml --uninstall --yes";
    world.by_names(leave).ends(0);
    assert_eq!(world.aws().balancers.len(), 0);
}

#[test]
fn credentials_that_are_missing_or_past_their_time() {
    let world = World::new(2);
    let text = std::fs::read_to_string(&world.endpoints().aws).unwrap();
    let all: Vec<(&str, &str)> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let keyless = all.iter().copied().filter(|(k, _)| !k.contains("KEY"));
    let mut vars: Vec<_> = keyless.collect();
    let run = |vars: &[(&str, &str)]| world.user.start_with(JOIN, vars).end().ends(1);
    run(&vars)
        .says("no AWS credentials")
        .says("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");

    // A session of SSO that has ended, as the AWS tools leave it behind.
    let folder = world.user.home().join(".aws");
    std::fs::create_dir_all(folder.join("sso/cache")).unwrap();
    let config = "[profile work]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Admin\n\
        region = us-west-2\n[sso-session corp]\nsso_region = us-west-2\nsso_start_url = https://corp.test/start\n";
    std::fs::write(folder.join("config"), config).unwrap();
    // Named by the SHA-1 of the session's name.
    let cached = folder.join("sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json");
    let token = json!({"accessToken": "gone", "expiresAt": "2020-01-01T00:00:00Z", "region": "us-west-2",
        "startUrl": "https://corp.test/start"});
    std::fs::write(cached, token.to_string()).unwrap();
    vars.push(("AWS_PROFILE", "work"));
    run(&vars).says("aws sso login --profile work");

    world
        .aws()
        .keys
        .values_mut()
        .for_each(|k| k.expires = Some(std::time::UNIX_EPOCH));
    world
        .by_names(JOIN)
        .ends(1)
        .says("the credentials have expired")
        .says("hint: aws sso login");
}

#[test]
fn clusters_that_are_elsewhere_not_ready_or_behind_a_private_endpoint() {
    let world = World::new(2);
    changes_nothing(&world, "join eks-1 eu-west-1/eks-2 --yes", 1)
        .says("there is no EKS cluster eks-2 in eu-west-1")
        .says("aws eks list-clusters --region REGION");
    world.aws().clusters[1].status = "CREATING".into();
    changes_nothing(&world, JOIN, 1)
        .says("EKS cluster eks-2 in us-west-2 is CREATING, not ACTIVE")
        .says("aws eks wait cluster-active --name eks-2 --region us-west-2");
    world.aws().clusters[1].status = "ACTIVE".into();
    world.aws().clusters[1].public = None;
    world.api("eks-2").faults().unreachable(true);
    changes_nothing(&world, JOIN, 1)
        .says("cluster eks-2")
        .says("its endpoint is private: or run where its VPC can be reached");
}

/// Lets so many pods of the AWS Load Balancer Controller run.
fn run_controller(world: &World, cluster: &str, pods: u32) {
    let name = "aws-load-balancer-controller";
    let path = "/apis/apps/v1/namespaces/kube-system/deployments";
    let one = format!("{path}/{name}");
    if world.find(cluster, &one).is_none() {
        let labels = json!({"app.kubernetes.io/name": name});
        let template = json!({"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "controller", "image": "controller:1"}]}});
        let spec =
            json!({"replicas": pods, "selector": {"matchLabels": labels}, "template": template});
        let deployment = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
        world.create(cluster, path, &deployment);
    }
    world.merge(cluster, &one, &json!({"spec": {"replicas": pods}}));
    let ready = || {
        let ready = world.get(cluster, &one)["status"]["readyReplicas"].as_u64();
        (ready.unwrap_or(0) == u64::from(pods)).then_some(())
    };
    assert!(world.wait(ready).is_some(), "{cluster}: not {pods} ready");
}

#[test]
fn a_load_balancer_nobody_would_delete_is_not_left_behind_unasked() {
    let world = World::new(2);
    run_controller(&world, "eks-2", 1);
    world.by_names(JOIN).ends(0);
    let class = |cluster| world.get(cluster, GATEWAY)["spec"]["loadBalancerClass"].clone();
    assert_eq!(class("eks-1"), "eks.amazonaws.com/nlb");
    assert_eq!(class("eks-2"), "service.k8s.aws/nlb");
    run_controller(&world, "eks-2", 0);
    let releases = || world.inventory("eks-2").len();
    let before = releases();
    let leave = "leave eks-2 --uninstall --yes";
    world
        .by_names(leave)
        .ends(5)
        .says("cluster eks-2: has a load balancer that the AWS Load Balancer Controller must remove, and none of it runs")
        .says("meshlink leave eks-2 --abandon-load-balancer");
    assert_eq!(before, releases(), "changed all the same");
    world
        .by_names(&format!("{leave} --abandon-load-balancer -v"))
        .ends(0)
        .says("aws elbv2 delete-load-balancer --region us-west-2 --load-balancer-arn arn:aws:elasticloadbalancing:us-west-2:111122223333:loadbalancer/net/");
    assert!(world.find("eks-2", GATEWAY).is_none());
}

#[test]
fn a_leave_waits_until_aws_has_let_go() {
    let world = World::new(2);
    world.by_names(JOIN).ends(0);
    world.aws().lingering = true;
    world
        .by_names("leave eks-2 --yes --timeout 4s")
        .ends(4)
        .says("close-gateway/eks-2: timed out after ")
        .says(" s waiting until eks-2's load balancer is gone from AWS: ")
        .says("interface eni-elb-")
        .says("aws ec2 describe-network-interfaces --region us-west-2 --filters");
    world.aws().lingering = false;
    world.by_names("leave eks-2 --yes").ends(0);

    // Somebody deletes the other one by hand; its Service and its controller do not know.
    world
        .aws()
        .denied
        .insert("ec2:DescribeNetworkInterfaces".into());
    world.aws().balancers.clear();
    world
        .by_names("leave eks-1 --uninstall --yes -v")
        .ends(0)
        .says("its load balancer was not looked for: ec2:DescribeNetworkInterfaces in us-west-2: not allowed");
}

#[test]
fn a_gateway_is_open_to_whom_the_owner_says() {
    let world = World::new(2);
    for thing in &mut world.aws().network.things {
        if let ThingKind::Nat { public } = &mut thing.kind {
            public.clear();
        }
    }
    changes_nothing(&world, JOIN, 5)
        .says("cannot tell who may reach the gateway of eks-1")
        .says("cannot tell who may reach the gateway of eks-2")
        .says("sourceRanges: [ADDRESS/32]");
    let file = json!({"mesh": "mesh", "gateway": {"sourceRanges": ["198.51.100.0/24"]},
        "clusters": [{"name": "eks-1"}, {"name": "eks-2"}]});
    std::fs::write(world.user.here().join("mesh.yaml"), file.to_string()).unwrap();
    world.by_names("join -f mesh.yaml --yes").ends(0);
    // And the same where there is no AWS.
    let plain = World::new(2);
    std::fs::write(plain.user.here().join("mesh.yaml"), file.to_string()).unwrap();
    plain.run("join -f mesh.yaml").ends(0);
    for (world, cluster) in [(&world, "eks-1"), (&world, "eks-2"), (&plain, "eks-1")] {
        let spec = &world.get(cluster, GATEWAY)["spec"];
        assert_eq!(spec["loadBalancerSourceRanges"], json!(["198.51.100.0/24"]));
    }
}

/// Everything the emulator can describe, so that nothing is left out of a comparison.
fn furnish(aws: &mut State) {
    nodes(aws, vec![from_everywhere(15017, 15017)]);
    let role = Role {
        external_id: None,
        trusted: vec!["111122223333".into()],
    };
    aws.roles
        .insert("arn:aws:iam::111122223333:role/mesh".into(), role);
    let first = aws.network.things[0].clone();
    let side = |vpc: &str| Side {
        vpc: vpc.into(),
        cidr: "10.0.0.0/16".into(),
        account: first.account.clone(),
        region: first.region.clone(),
    };
    let peering = ThingKind::Peering {
        from: side(&first.vpc),
        to: side("vpc-other"),
        status: "active".into(),
    };
    let transit = ThingKind::Transit {
        gateway: "tgw-0123".into(),
        state: "available".into(),
    };
    for (id, kind) in [("pcx-0123", peering), ("tgw-attach-0123", transit)] {
        let thing = Thing::new(&first.account, &first.region, id, &first.vpc, kind);
        aws.network.things.push(thing);
    }
    if let ThingKind::SecurityGroup { ingress } = &mut aws
        .network
        .things
        .iter_mut()
        .find(|t| t.id == "sg-nodes")
        .unwrap()
        .kind
    {
        ingress[0].groups.push("sg-nodes".into());
    }
}

#[test]
fn the_emulator_answers_in_the_shapes_of_an_independent_one() {
    let world = World::new(2);
    world.by_names(JOIN).ends(0);
    furnish(&mut world.aws());
    let text = std::fs::read_to_string(&world.endpoints().aws).unwrap();
    // Outside CI a test fetches nothing.
    let offline = (!in_ci()).then_some("--offline");
    let output = std::process::Command::new(repository().join("tests/aws/compare"))
        .args(offline)
        .envs(text.lines().filter_map(|l| l.split_once('=')))
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    match output.status.code() {
        Some(0) => print!("{out}"),
        Some(77) => println!("skipped: {err}"),
        code => panic!("{code:?}: {out}{err}"),
    }
}

#[test]
fn a_start_that_is_throttled_is_told() {
    let world = World::new(2);
    let throttle = |action: &str| {
        // Both members ask at once, and one turn is nothing to speak of.
        let times = if action.starts_with("eks:") { 4 } else { 2 };
        let fault = AwsFault::times(action, FaultKind::Throttled, times);
        world.aws().faults.push(fault);
    };
    let eks = "pending: eks:DescribeCluster in us-west-2: throttled; retrying, ";
    throttle("eks:DescribeCluster");
    world.by_names(JOIN).ends(0).says(eks);
    throttle("eks:DescribeCluster");
    throttle("elasticloadbalancing:DescribeLoadBalancers");
    let told = world.by_names("status eks-1 eks-2 -o json").ends(0);
    told.says(eks)
        .says(": elasticloadbalancing:DescribeLoadBalancers in us-west-2: throttled; retrying, ")
        .says(" s so far, for at most 10 s")
        .says("1 of 1 targets healthy");
    throttle("eks:DescribeCluster");
    throttle("elasticloadbalancing:DescribeLoadBalancers");
    let told = world.by_names("wait nlb eks-1 eks-2").ends(0);
    told.says(eks).says(
        "pending: elasticloadbalancing:DescribeLoadBalancers in us-west-2: throttled; retrying (",
    );
}
