//! Network load balancers, their target groups, and how targets become healthy.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::state::State;

/// A load balancer.
#[derive(Debug, Clone)]
pub struct Balancer {
    /// Full ARN; account and region are in it.
    pub arn: String,
    /// Name.
    pub name: String,
    /// DNS name, with the capitals of the name kept.
    pub dns_name: String,
    /// `internal` or `internet-facing`.
    pub scheme: String,
    /// `network` or `application`.
    pub kind: String,
    /// VPC.
    pub vpc: String,
    /// Zones it is enabled in.
    pub zones: Vec<Zone>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// When it was made.
    pub made: SystemTime,
    /// How long it is `provisioning`.
    pub provisioning: Duration,
    /// A state that holds whatever the time: `failed`, `active_impaired`.
    pub state: Option<(String, String)>,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A zone a load balancer is enabled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// `eu-west-1a`.
    pub name: String,
    /// Subnet there.
    pub subnet: String,
    /// Its address there, if it is told.
    pub address: Option<String>,
}

/// A listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Full ARN.
    pub arn: String,
    /// Port.
    pub port: u16,
    /// Target groups with weights; more than one is a weighted forward.
    pub forward: Vec<(String, u32)>,
}

/// A target group.
#[derive(Debug, Clone)]
pub struct TargetGroup {
    /// Full ARN; account and region are in it.
    pub arn: String,
    /// Name.
    pub name: String,
    /// Port targets listen on, unless they say otherwise.
    pub port: u16,
    /// `ip` or `instance`.
    pub target_type: String,
    /// VPC.
    pub vpc: String,
    /// Health check: protocol, port, interval in seconds, healthy and unhealthy threshold.
    pub check: (String, String, u32, u32, u32),
    /// Targets.
    pub targets: Vec<Target>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A target.
#[derive(Debug, Clone)]
pub struct Target {
    /// IP address or instance id.
    pub id: String,
    /// Port.
    pub port: u16,
    /// Zone it is in.
    pub zone: String,
    /// When it was registered.
    pub registered: SystemTime,
    /// Its health, by age since registration; the last one that is due holds.
    pub story: Vec<(Duration, Health)>,
}

/// State, reason and description of a target, as ELB tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `initial`, `healthy`, `unhealthy`, …
    pub state: &'static str,
    /// `Elb.…` or `Target.…`; none when healthy.
    pub reason: Option<&'static str>,
    /// For people.
    pub description: Option<&'static str>,
}

impl Health {
    const fn new(state: &'static str, reason: &'static str, description: &'static str) -> Self {
        Self {
            state,
            reason: Some(reason),
            description: Some(description),
        }
    }

    /// Passes its checks.
    pub const HEALTHY: Self = Self {
        state: "healthy",
        reason: None,
        description: None,
    };
    /// Being registered.
    pub(crate) const REGISTERING: Self = Self::new(
        "initial",
        "Elb.RegistrationInProgress",
        "Target registration is in progress",
    );
    /// Being checked for the first time.
    pub const CHECKING: Self = Self::new(
        "initial",
        "Elb.InitialHealthChecking",
        "Initial health checks in progress",
    );
    /// Fails its checks.
    pub const FAILING: Self = Self::new(
        "unhealthy",
        "Target.FailedHealthChecks",
        "Health checks failed",
    );
    /// On no listener, or in a zone that is not enabled.
    pub(crate) const NOT_IN_USE: Self = Self::new(
        "unused",
        "Target.NotInUse",
        "Target group is not configured to receive traffic from the load balancer",
    );
    /// In a zone that is not enabled.
    pub(crate) const WRONG_ZONE: Self = Self::new(
        "unused",
        "Target.NotInUse",
        "Target is in an Availability Zone that is not enabled for the load balancer",
    );
    /// Not a target of the group.
    pub(crate) const NOT_REGISTERED: Self = Self::new(
        "unused",
        "Target.NotRegistered",
        "Target is not registered to the target group",
    );
    /// Being taken out.
    pub(crate) const DRAINING: Self = Self::new(
        "draining",
        "Target.DeregistrationInProgress",
        "Target deregistration is in progress",
    );
    /// The service does not know.
    pub(crate) const INTERNAL: Self = Self::new(
        "unavailable",
        "Elb.InternalError",
        "An internal error occurred",
    );
}

/// How long each stage takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A new load balancer is `provisioning`.
    pub provisioning: Duration,
    /// A new target is being registered.
    pub registration: Duration,
    /// A registered target is checked until it counts.
    pub checks: Duration,
    /// A removed target is draining.
    pub draining: Duration,
}

impl Pace {
    /// As seen on AWS, in the middle of what people report.
    pub(crate) const REAL: Self = Self {
        provisioning: Duration::from_secs(120),
        registration: Duration::from_secs(120),
        checks: Duration::from_secs(20),
        draining: Duration::from_secs(300),
    };

    /// This share of the time: 1 as it is, 0 none.
    #[must_use]
    pub(crate) fn scaled(self, share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        Self {
            provisioning: self.provisioning.mul_f64(share),
            registration: self.registration.mul_f64(share),
            checks: self.checks.mul_f64(share),
            draining: self.draining.mul_f64(share),
        }
    }

    /// What share of the real time things take.
    pub(super) fn share(self) -> f64 {
        self.checks.div_duration_f64(Self::REAL.checks)
    }

    /// The story of a target that answers its checks.
    pub fn healthy(self) -> Vec<(Duration, Health)> {
        self.ending_in(Health::HEALTHY)
    }

    /// The story of a target whose first checks end in some state.
    pub fn ending_in(self, end: Health) -> Vec<(Duration, Health)> {
        let checked = self.registration + self.checks;
        vec![
            (Duration::ZERO, Health::REGISTERING),
            (self.registration, Health::CHECKING),
            (checked, end),
        ]
    }
}

/// What to make a load balancer of.
#[derive(Debug, Clone, Default)]
pub struct NewBalancer {
    /// Partition, as it stands in ARNs.
    pub partition: String,
    /// Account.
    pub account: String,
    /// Region.
    pub region: String,
    /// Name.
    pub name: String,
    /// `internal` or `internet-facing`.
    pub scheme: String,
    /// VPC.
    pub vpc: String,
    /// Zones to enable.
    pub zones: Vec<Zone>,
    /// How long it is `provisioning`.
    pub provisioning: Duration,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl State {
    /// Make a network load balancer; the ARN is returned.
    pub fn make_balancer(&mut self, new: NewBalancer) -> String {
        let id = self.serial(&new.name);
        let NewBalancer {
            partition,
            account,
            region,
            name,
            ..
        } = &new;
        let suffix = suffix(partition);
        let arn = format!(
            "arn:{partition}:elasticloadbalancing:{region}:{account}:loadbalancer/net/{name}/{id}"
        );
        let attributes = [
            ("load_balancing.cross_zone.enabled", "false"),
            ("deletion_protection.enabled", "false"),
            ("access_logs.s3.enabled", "false"),
        ];
        self.balancers.push(Balancer {
            dns_name: format!("{name}-{id}.elb.{region}.{suffix}"),
            arn: arn.clone(),
            name: new.name,
            scheme: new.scheme,
            kind: "network".into(),
            vpc: new.vpc,
            zones: new.zones,
            security_groups: Vec::new(),
            made: self.clock.now(),
            provisioning: new.provisioning,
            state: None,
            listeners: Vec::new(),
            tags: new.tags,
            attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        });
        arn
    }

    /// Make a target group beside a load balancer and a listener that forwards to it; the group's ARN is returned.
    pub fn make_group(
        &mut self,
        balancer: &str,
        name: &str,
        port: u16,
        target_port: u16,
        target_type: &str,
    ) -> String {
        let (group_id, listener_id) = (self.serial(name), self.serial(name));
        let home = balancer
            .split(":loadbalancer/")
            .next()
            .unwrap_or_default()
            .to_owned();
        let arn = format!("{home}:targetgroup/{name}/{group_id}");
        let listener = balancer.replacen(":loadbalancer/", ":listener/", 1);
        let mut vpc = String::new();
        if let Some(balancer) = self.balancers.iter_mut().find(|b| b.arn == balancer) {
            vpc.clone_from(&balancer.vpc);
            let arn = arn.clone();
            balancer.listeners.push(Listener {
                arn: format!("{listener}/{listener_id}"),
                port,
                forward: vec![(arn, 1)],
            });
        }
        self.groups.push(TargetGroup {
            arn: arn.clone(),
            name: name.into(),
            port: target_port,
            target_type: target_type.into(),
            vpc,
            check: ("TCP".into(), "traffic-port".into(), 10, 2, 2),
            targets: Vec::new(),
            tags: BTreeMap::new(),
            attributes: BTreeMap::from([
                ("deregistration_delay.timeout_seconds".into(), "300".into()),
                (
                    "load_balancing.cross_zone.enabled".into(),
                    "use_load_balancer_configuration".into(),
                ),
                ("proxy_protocol_v2.enabled".into(), "false".into()),
            ]),
        });
        arn
    }

    /// Register a target; one that is there already keeps its story.
    pub fn register(
        &mut self,
        group: &str,
        id: &str,
        port: u16,
        zone: &str,
        story: Vec<(Duration, Health)>,
    ) {
        let registered = self.clock.now();
        let Some(group) = self.groups.iter_mut().find(|g| g.arn == group) else {
            return;
        };
        if group.targets.iter().any(|t| t.id == id && t.port == port) {
            return;
        }
        group.targets.push(Target {
            id: id.into(),
            port,
            zone: zone.into(),
            registered,
            story,
        });
    }

    /// From now on, a target has this health.
    pub fn set_health(&mut self, group: &str, id: &str, health: Health) {
        let now = self.clock.now();
        let groups = self.groups.iter_mut().filter(|g| g.arn == group);
        for target in groups
            .flat_map(|g| g.targets.iter_mut())
            .filter(|t| t.id == id)
        {
            let age = now.duration_since(target.registered).unwrap_or_default();
            target.story.retain(|(due, _)| *due <= age);
            target.story.push((age, health.clone()));
        }
    }

    /// Delete a load balancer and the groups only it used.
    pub fn delete_balancer(&mut self, arn: &str) {
        let Some(at) = self.balancers.iter().position(|b| b.arn == arn) else {
            return;
        };
        let gone = self.balancers.remove(at);
        let groups: Vec<String> = gone
            .listeners
            .into_iter()
            .flat_map(|l| l.forward)
            .map(|(group, _)| group)
            .collect();
        self.groups.retain(|g| !groups.contains(&g.arn));
    }

    /// State code and reason of a load balancer.
    pub(super) fn balancer_state(&self, balancer: &Balancer) -> (String, Option<String>) {
        match &balancer.state {
            Some((code, reason)) => (code.clone(), Some(reason.clone())),
            None if self.age(balancer.made) < balancer.provisioning => {
                ("provisioning".into(), None)
            }
            None => ("active".into(), None),
        }
    }

    /// The health of a target now.
    pub(crate) fn health(&self, group: &TargetGroup, target: &Target) -> Health {
        let users = |b: &&Balancer| {
            b.listeners
                .iter()
                .any(|l| l.forward.iter().any(|(arn, _)| *arn == group.arn))
        };
        let Some(balancer) = self.balancers.iter().find(users) else {
            return Health::NOT_IN_USE;
        };
        if !target.zone.is_empty() && !balancer.zones.iter().any(|z| z.name == target.zone) {
            return Health::WRONG_ZONE;
        }
        let age = self.age(target.registered);
        let due = target.story.iter().rfind(|(due, _)| *due <= age);
        due.map_or(Health::REGISTERING, |(_, health)| health.clone())
    }
}

fn suffix(partition: &str) -> &'static str {
    match partition {
        "aws-cn" => "amazonaws.com.cn",
        "aws-eusc" => "amazonaws.eu",
        "aws-iso" => "c2s.ic.gov",
        "aws-iso-b" => "sc2s.sgov.gov",
        "aws-iso-e" => "cloud.adc-e.uk",
        "aws-iso-f" => "csp.hci.ic.gov",
        _ => "amazonaws.com",
    }
}
