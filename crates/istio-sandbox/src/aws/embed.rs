//! The AWS around embedded clusters: each is an EKS cluster, and the load balancers between them are described by ELB.

use std::{collections::BTreeMap, io, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    Balancer, Clock, Cluster, Health, Listener, Server, Shared, State, Target, TargetGroup, Zone,
    network::{Kind, Route, Thing},
    serve,
    sign::hash,
};
use crate::{
    api::{Api, UserInfo},
    world::{self, Home, LoadBalancer, LoadBalancers, World, ZONES},
};

/// The emulated AWS of embedded clusters.
#[derive(Debug)]
pub struct Embedded {
    /// Everything there is in it.
    pub state: Shared,
    server: Server,
    key: (String, String),
}

impl Embedded {
    /// The environment to use it with, as `NAME=value` lines; holds the secret of its one access key.
    pub fn environment(&self) -> String {
        let ((id, secret), region) = (&self.key, world::REGION);
        format!(
            "AWS_ENDPOINT_URL={}\nAWS_REGION={region}\nAWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n\
             AWS_EC2_METADATA_DISABLED=true\n",
            self.server.url()
        )
    }
}

/// Raise it for clusters, given with the URLs of their servers.
pub async fn raise<'a>(
    clusters: impl IntoIterator<Item = (&'a Api, &'a str)>,
    world: &World,
    tasks: &mut JoinSet<()>,
) -> io::Result<Embedded> {
    let mut state = State::new(Clock::new(|| crate::now().into()));
    let key = (format!("AKIA{}", random()?.to_uppercase()), random()?);
    state.admit(
        &key.0,
        &key.1,
        &format!("arn:aws:iam::{}:user/embedded", world::ACCOUNT),
    );
    let clusters: Vec<(&Api, &str)> = clusters.into_iter().collect();
    for (number, (api, url)) in clusters.iter().enumerate() {
        let ca = STANDARD.encode(api.ca_pem());
        let egress = format!("203.0.113.{}", number % 256);
        let home = world.home(api.name());
        let (mut cluster, network) = eks(api.name(), url, &ca, number, &egress, &home);
        // Nothing in an embedded cluster makes load balancers but the cloud itself.
        cluster.auto_mode = true;
        state.clusters.push(cluster);
        state.network.things.extend(network);
    }
    let state = Shared::new(state);
    for (api, _) in clusters {
        let (state, name) = (state.clone(), api.name().to_owned());
        api.on_token(std::sync::Arc::new(move |token| {
            let state = state.lock();
            let speaker = state.speaker(token, &name).ok()?;
            let admins = state.clusters.iter().any(|c| c.name() == name && c.admins);
            Some(UserInfo {
                name: speaker.arn,
                uid: speaker.account,
                groups: admins
                    .then(|| "system:masters".into())
                    .into_iter()
                    .collect(),
            })
        }));
    }
    let server = serve(TcpListener::bind("127.0.0.1:0").await?, state.clone())?;
    tasks.spawn(follow(world.balancers.clone(), state.clone()));
    Ok(Embedded { state, server, key })
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(hex::encode(bytes))
}

/// A cluster in a VPC of its own: nodes in private subnets, leaving by a NAT gateway.
pub(super) fn eks(
    name: &str,
    url: &str,
    ca: &str,
    number: usize,
    egress: &str,
    home: &Home,
) -> (Cluster, Vec<Thing>) {
    let Home { account, region } = home;
    let arn = format!("arn:aws:eks:{region}:{account}:cluster/{name}");
    let mut cluster = Cluster::new(&arn, url, ca);
    let id = |kind: &str| format!("{kind}-0{number:016x}");
    let vpc = id("vpc");
    let thing = |id: String, kind| Thing::new(account, region, &id, &vpc, kind);
    let mut things = Vec::new();
    for (n, zone) in ZONES.iter().enumerate() {
        let kind = Kind::Subnet {
            cidr: format!("10.{number}.{n}.0/24"),
            zone: (*zone).into(),
        };
        let mut subnet = thing(format!("{}{n}", id("subnet")), kind);
        for role in ["elb", "internal-elb"] {
            subnet
                .tags
                .insert(format!("kubernetes.io/role/{role}"), "1".into());
        }
        cluster.subnets.push(subnet.id.clone());
        things.push(subnet);
    }
    let route = Route {
        to: "0.0.0.0/0".into(),
        via: id("nat"),
        blackhole: false,
    };
    things.push(thing(
        id("nat"),
        Kind::Nat {
            public: vec![egress.into()],
        },
    ));
    things.push(thing(
        id("rtb"),
        Kind::Routes {
            subnets: Vec::new(),
            routes: vec![route],
        },
    ));
    cluster.vpc = vpc;
    (cluster, things)
}

/// Keep ELB's view of the load balancers true, for as long as there are any to look at.
async fn follow(balancers: LoadBalancers, state: Shared) {
    let mut changed = balancers.watch();
    loop {
        reflect(&balancers.list(), &mut state.lock());
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Make ELB tell exactly these, and EC2 their interfaces.
pub(super) fn reflect(all: &[LoadBalancer], state: &mut State) {
    let now = state.clock.now();
    let homes: BTreeMap<String, Home> = state
        .clusters
        .iter()
        .map(|c| (c.name().to_owned(), c.home()))
        .collect();
    let home = |lb: &LoadBalancer| homes.get(&lb.cluster).cloned().unwrap_or_default();
    let grouped = all.iter().flat_map(|lb| groups(lb, &home(lb), now));
    state.groups = grouped.collect();
    state.balancers = all.iter().map(|lb| balancer(lb, &home(lb), now)).collect();
    let stays = |t: &Thing| state.lingering || !t.id.starts_with(INTERFACE);
    state.network.things.retain(stays);
    for thing in all.iter().flat_map(|lb| interfaces(lb, &home(lb))) {
        if !state.network.things.iter().any(|t| t.id == thing.id) {
            state.network.things.push(thing);
        }
    }
}

/// How the interfaces of load balancers are called.
const INTERFACE: &str = "eni-elb-";

/// An interface in every zone, as EC2 describes them.
fn interfaces(lb: &LoadBalancer, home: &Home) -> Vec<Thing> {
    let (name, id) = (&lb.name, id(lb));
    let one = |(n, address): (usize, &std::net::Ipv4Addr)| {
        let kind = Kind::Interface {
            description: format!("ELB net/{name}/{id}"),
            address: address.to_string(),
            groups: Vec::new(),
        };
        let eni = format!("{INTERFACE}{id}-{n}");
        Thing::new(&home.account, &home.region, &eni, "", kind)
    };
    lb.addresses.iter().enumerate().map(one).collect()
}

/// The sixteen digits at the end of the name.
fn id(lb: &LoadBalancer) -> &str {
    let label = lb.dns_name.split('.').next().unwrap_or_default();
    label.rsplit('-').next().unwrap_or_default()
}

fn arn(kind: &str, lb: &LoadBalancer, home: &Home, rest: &str) -> String {
    let (name, id) = (&lb.name, id(lb));
    let Home { account, region } = home;
    format!("arn:aws:elasticloadbalancing:{region}:{account}:{kind}/net/{name}/{id}{rest}")
}

/// As the controller names it: no longer than the 32 characters ELB allows.
fn group_name(lb: &LoadBalancer, port: u16) -> String {
    let stem = lb.name.rsplit_once('-').map_or("k8s", |(stem, _)| stem);
    let digits = hash(format!("{}/{port}", lb.dns_name).as_bytes());
    format!("{stem}-{}", &digits[..10])
}

fn group_arn(lb: &LoadBalancer, home: &Home, port: u16) -> String {
    let (name, id) = (group_name(lb, port), id(lb));
    let Home { account, region } = home;
    format!("arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/{name}/{id}")
}

fn balancer(lb: &LoadBalancer, home: &Home, now: SystemTime) -> Balancer {
    let zone = |(zone, address): (&String, &std::net::Ipv4Addr)| Zone {
        name: zone.clone(),
        address: Some(address.to_string()),
        ..Zone::default()
    };
    let listener = |port: u16| Listener {
        arn: arn("listener", lb, home, &format!("/{port}")),
        port,
        forward: vec![(group_arn(lb, home, port), 1)],
    };
    let stack = format!("{}/{}", lb.namespace, lb.service);
    let active = lb.state == world::State::Active;
    Balancer {
        arn: arn("loadbalancer", lb, home, ""),
        name: lb.name.clone(),
        dns_name: lb.dns_name.clone(),
        scheme: if lb.scheme == world::Scheme::Internal {
            "internal"
        } else {
            "internet-facing"
        }
        .into(),
        kind: "network".into(),
        vpc: String::new(),
        zones: lb.zones.iter().zip(&lb.addresses).map(zone).collect(),
        security_groups: Vec::new(),
        made: now,
        provisioning: std::time::Duration::ZERO,
        state: (!active).then(|| ("provisioning".into(), String::new())),
        listeners: lb.listeners.iter().map(|l| listener(l.port)).collect(),
        tags: [
            ("service.k8s.aws/stack".into(), stack),
            ("elbv2.k8s.aws/cluster".into(), lb.cluster.clone()),
        ]
        .into(),
        attributes: [("load_balancing.cross_zone.enabled".into(), "false".into())].into(),
    }
}

fn groups(lb: &LoadBalancer, home: &Home, now: SystemTime) -> Vec<TargetGroup> {
    let target = |t: &world::Target| Target {
        id: t.address.clone(),
        port: t.port,
        zone: t.zone.clone(),
        registered: now,
        story: vec![(std::time::Duration::ZERO, health(t.health))],
    };
    let group = |l: &world::Listener| TargetGroup {
        arn: group_arn(lb, home, l.port),
        name: group_name(lb, l.port),
        port: l.port,
        target_type: "ip".into(),
        vpc: String::new(),
        check: ("TCP".into(), "traffic-port".into(), 10, 2, 2),
        targets: l.targets.iter().map(target).collect(),
        tags: Default::default(),
        attributes: Default::default(),
    };
    lb.listeners.iter().map(group).collect()
}

fn health(health: world::Health) -> Health {
    match health {
        world::Health::Registering => Health::REGISTERING,
        world::Health::Checking => Health::CHECKING,
        world::Health::Healthy => Health::HEALTHY,
        world::Health::Unhealthy => Health::FAILING,
        world::Health::Draining => Health::DRAINING,
    }
}
