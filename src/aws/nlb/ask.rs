//! From a Service to its targets' health, the cheapest way that works.

use aws_sdk_elasticloadbalancingv2::types::{
    Listener, LoadBalancer, LoadBalancerTypeEnum, TargetHealthDescription,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Group, Host, Readiness, Seen, ServiceName, Target};
use crate::aws::{
    Aws, Identity, Session,
    call::{Cause, Error},
    eks::caller,
    env::Service,
};

/// How a load balancer was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FoundBy {
    /// The ARN its host name lets one guess.
    #[default]
    Arn,
    /// The name in its host name.
    Name,
    /// All load balancers, page by page, by DNS name.
    Paging,
    /// The tags its controller gave it.
    Tags,
}

/// Where to ask.
#[derive(Debug)]
enum Source {
    Open(Box<Session>, String),
    Later(Aws, Identity, Option<String>),
}

/// Looks at one load balancer again and again, and asks each time only what may have changed.
#[derive(Debug)]
pub(crate) struct Watch {
    source: Source,
    service: ServiceName,
    port: u16,
    found: Option<Readiness>,
    /// The binding's group turned out to be on no listener: ask for listeners instead.
    astray: bool,
}

impl Watch {
    /// Look at the load balancer of a Service, given as (namespace, name), in an account.
    #[cfg(any(test, feature = "measure"))]
    pub(crate) fn new(session: Session, account: &str, service: (&str, &str), port: u16) -> Self {
        Self::of(
            Source::Open(Box::new(session), account.into()),
            service,
            port,
        )
    }

    /// As [`new`](Self::new), where only the host name will tell the region, and STS the account.
    pub(crate) fn later(
        aws: Aws,
        who: Identity,
        account: Option<String>,
        service: (&str, &str),
        port: u16,
    ) -> Self {
        Self::of(Source::Later(aws, who, account), service, port)
    }

    fn of(source: Source, service: (&str, &str), port: u16) -> Self {
        let service = ServiceName {
            namespace: service.0.into(),
            name: service.1.into(),
        };
        Self {
            source,
            service,
            port,
            found: None,
            astray: false,
        }
    }

    /// Where to ask, once the host name has told the region.
    async fn open(&mut self, host: &str) -> Result<(), Error> {
        let Source::Later(aws, who, account) = &self.source else {
            return Ok(());
        };
        let region = Host::read(host).map(|h| h.region);
        let nowhere = |cause| Error {
            service: Service::Elb,
            action: "DescribeLoadBalancers",
            region: region.clone().unwrap_or_default(),
            cause,
        };
        let session = aws.session(who, region.as_deref()).await;
        let session =
            session.ok_or_else(|| nowhere(Cause::NoCredentials("no region is known".into())))?;
        let account = match account {
            Some(account) => account.clone(),
            None => caller(&session).await?.account,
        };
        self.source = Source::Open(Box::new(session.for_account(&account)), account);
        Ok(())
    }

    /// The session and the account; there are none before the first look.
    fn opened(&self) -> Result<(&Session, &str), Error> {
        match &self.source {
            Source::Open(session, account) => Ok((session, account)),
            Source::Later(..) => Err(Error {
                service: Service::Elb,
                action: "DescribeLoadBalancers",
                region: String::new(),
                cause: Cause::NoCredentials("not asked yet".into()),
            }),
        }
    }

    /// Namespace and name of the Service.
    pub(crate) fn service(&self) -> ServiceName {
        self.service.clone()
    }

    /// What AWS says now; `None` while there is no such load balancer.
    ///
    /// Where the controller's bindings name the target group, the first look costs two calls and the next ones one;
    /// else two more.
    pub(crate) async fn look(&mut self, seen: &Seen) -> Result<Option<Readiness>, Error> {
        let Some(host) = &seen.hostname else {
            return Ok(None);
        };
        self.open(host).await?;
        let known = self
            .found
            .take()
            .filter(|lb| lb.hostname.eq_ignore_ascii_case(host));
        let settled = known.filter(|lb| lb.listener && lb.state == "active");
        let lb = match settled {
            Some(lb) => Some(lb),
            None => self.find_whole(host, seen).await?,
        };
        let Some(mut lb) = lb else { return Ok(None) };
        match self.refresh(&mut lb, seen).await {
            Ok(()) => {}
            // Deleted under us: the next look starts from the name again.
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => {
                self.found = Some(lb);
                return Err(error);
            }
        }
        let unused = !lb.targets.is_empty() && lb.targets.iter().all(|t| t.state == "unused");
        self.astray |= unused;
        self.found = Some(lb.clone()).filter(|_| !unused);
        Ok(Some(lb))
    }

    /// The load balancer with its groups, without their targets.
    async fn find_whole(&self, host: &str, seen: &Seen) -> Result<Option<Readiness>, Error> {
        let Some((balancer, found_by)) = self.find(host).await? else {
            return Ok(None);
        };
        let mut lb = facts(&balancer, found_by);
        if !lb.state.starts_with("active") {
            return Ok(Some(lb));
        }
        if let Some(binding) = seen.binding(self.port).filter(|_| !self.astray) {
            lb.listener = true;
            lb.groups = vec![Group {
                arn: binding.group.clone(),
                weight: 1,
            }];
            return Ok(Some(lb));
        }
        let listeners = self.listeners(&lb.arn).await?;
        let here = listeners
            .iter()
            .find(|l| l.port == Some(i32::from(self.port)));
        lb.listener = here.is_some();
        lb.groups = here.map(forwarded).unwrap_or_default();
        Ok(Some(lb))
    }

    /// The targets as they are now, and cross-zone balancing where it makes a difference.
    async fn refresh(&self, lb: &mut Readiness, seen: &Seen) -> Result<(), Error> {
        let mut targets = Vec::new();
        for group in lb.groups.iter().filter(|g| g.weight > 0) {
            targets.extend(
                self.targets(&group.arn)
                    .await?
                    .into_iter()
                    .map(|t| target(t, seen)),
            );
        }
        lb.targets = targets;
        let healthy = lb.targets.iter().filter(|t| t.is_healthy()).count();
        if healthy > 0 && healthy < lb.targets.len() && !lb.cross_zone {
            lb.cross_zone = self.cross_zone(&lb.arn).await?;
        }
        Ok(())
    }

    async fn find(&self, host: &str) -> Result<Option<(LoadBalancer, FoundBy)>, Error> {
        let (_, account) = self.opened()?;
        let same = |lb: &LoadBalancer| {
            lb.dns_name()
                .is_some_and(|dns| dns.eq_ignore_ascii_case(host))
        };
        let read = Host::read(host);
        if let Some(arn) = read.as_ref().and_then(|h| h.arn(account))
            && let Some(lb) = self.named(Some(arn), None).await?.into_iter().find(same)
        {
            return Ok(Some((lb, FoundBy::Arn)));
        }
        if let Some(name) = read.map(|h| h.name)
            && let Some(lb) = self.named(None, Some(name)).await?.into_iter().find(same)
        {
            return Ok(Some((lb, FoundBy::Name)));
        }
        let all = self.all().await?;
        if let Some(lb) = all.iter().find(|lb| same(lb)) {
            return Ok(Some((lb.clone(), FoundBy::Paging)));
        }
        let tagged = self.tagged(&all).await?;
        Ok(tagged.map(|lb| (lb, FoundBy::Tags)))
    }

    async fn named(
        &self,
        arn: Option<String>,
        name: Option<String>,
    ) -> Result<Vec<LoadBalancer>, Error> {
        let (session, _) = self.opened()?;
        let request = || {
            let request = session.elb().describe_load_balancers();
            request
                .set_load_balancer_arns(arn.clone().map(|a| vec![a]))
                .set_names(name.clone().map(|n| vec![n]))
                .send()
        };
        match session
            .call(Service::Elb, "DescribeLoadBalancers", request)
            .await
        {
            Ok(answer) => Ok(answer.load_balancers.unwrap_or_default()),
            // Capitals of a name are lost in the host name, and the ARN is a guess: neither is an error.
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// All network load balancers of the region.
    async fn all(&self) -> Result<Vec<LoadBalancer>, Error> {
        let (session, _) = self.opened()?;
        let (mut all, mut marker) = (Vec::new(), None::<String>);
        loop {
            let request = || {
                session
                    .elb()
                    .describe_load_balancers()
                    .set_marker(marker.clone())
                    .send()
            };
            let page = session
                .call(Service::Elb, "DescribeLoadBalancers", request)
                .await?;
            let network = |lb: &LoadBalancer| lb.r#type == Some(LoadBalancerTypeEnum::Network);
            all.extend(
                page.load_balancers
                    .unwrap_or_default()
                    .into_iter()
                    .filter(network),
            );
            marker = page.next_marker;
            if marker.is_none() {
                return Ok(all);
            }
        }
    }

    /// The one a controller made for this Service, by its tags; only where there is exactly one.
    async fn tagged(&self, all: &[LoadBalancer]) -> Result<Option<LoadBalancer>, Error> {
        let (session, _) = self.opened()?;
        let ServiceName { namespace, name } = &self.service;
        let stack = format!("{namespace}/{name}");
        let mut hits = Vec::new();
        for some in all.chunks(20) {
            let arns: Vec<String> = some
                .iter()
                .filter_map(|lb| lb.load_balancer_arn.clone())
                .collect();
            let request = || {
                session
                    .elb()
                    .describe_tags()
                    .set_resource_arns(Some(arns.clone()))
                    .send()
            };
            let answer = session.call(Service::Elb, "DescribeTags", request).await?;
            for description in answer.tag_descriptions.unwrap_or_default() {
                let ours = |key: &str| {
                    matches!(
                        key,
                        "service.k8s.aws/stack"
                            | "service.eks.amazonaws.com/stack"
                            | "kubernetes.io/service-name"
                    )
                };
                let tags = description.tags();
                if tags
                    .iter()
                    .any(|t| t.key().is_some_and(ours) && t.value() == Some(&stack))
                {
                    hits.extend(
                        some.iter()
                            .find(|lb| lb.load_balancer_arn == description.resource_arn)
                            .cloned(),
                    );
                }
            }
        }
        // Two clusters of one account may have a Service of that name: then the tags do not tell.
        Ok(<[LoadBalancer; 1]>::try_from(hits).ok().map(|[one]| one))
    }

    async fn listeners(&self, arn: &str) -> Result<Vec<Listener>, Error> {
        let (session, _) = self.opened()?;
        let (mut all, mut marker) = (Vec::new(), None::<String>);
        loop {
            let request = || {
                session
                    .elb()
                    .describe_listeners()
                    .load_balancer_arn(arn)
                    .set_marker(marker.clone())
                    .send()
            };
            let page = session
                .call(Service::Elb, "DescribeListeners", request)
                .await?;
            all.extend(page.listeners.unwrap_or_default());
            marker = page.next_marker;
            if marker.is_none() {
                return Ok(all);
            }
        }
    }

    /// Cross-zone balancing; where we may not ask, off, which is the stricter reading and the default.
    async fn cross_zone(&self, arn: &str) -> Result<bool, Error> {
        let (session, _) = self.opened()?;
        let request = || {
            session
                .elb()
                .describe_load_balancer_attributes()
                .load_balancer_arn(arn)
                .send()
        };
        match session
            .call(Service::Elb, "DescribeLoadBalancerAttributes", request)
            .await
        {
            Ok(answer) => Ok(answer.attributes().iter().any(|a| {
                a.key() == Some("load_balancing.cross_zone.enabled") && a.value() == Some("true")
            })),
            Err(error) if matches!(error.cause, Cause::Denied(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn targets(&self, group: &str) -> Result<Vec<TargetHealthDescription>, Error> {
        let (session, _) = self.opened()?;
        let request = || {
            session
                .elb()
                .describe_target_health()
                .target_group_arn(group)
                .send()
        };
        let answer = session
            .call(Service::Elb, "DescribeTargetHealth", request)
            .await?;
        Ok(answer.target_health_descriptions.unwrap_or_default())
    }
}

fn facts(lb: &LoadBalancer, found_by: FoundBy) -> Readiness {
    let state = lb.state.as_ref();
    Readiness {
        hostname: lb.dns_name.clone().unwrap_or_default(),
        arn: lb.load_balancer_arn.clone().unwrap_or_default(),
        state: state
            .and_then(|s| s.code.as_ref())
            .map_or("", |c| c.as_str())
            .to_owned(),
        state_reason: state.and_then(|s| s.reason.clone()),
        scheme: lb.scheme.as_ref().map_or("", |s| s.as_str()).to_owned(),
        zones: lb
            .availability_zones()
            .iter()
            .filter_map(|z| z.zone_name.clone())
            .collect(),
        found_by,
        ..Readiness::default()
    }
}

/// The groups a listener forwards to: a plain forward names one, a weighted one only its configuration.
fn forwarded(listener: &Listener) -> Vec<Group> {
    let Some(action) = listener.default_actions().first() else {
        return Vec::new();
    };
    let weighted = action
        .forward_config
        .as_ref()
        .map(|f| f.target_groups())
        .unwrap_or_default();
    let mut groups: Vec<Group> = weighted
        .iter()
        .filter_map(|g| {
            Some(Group {
                arn: g.target_group_arn.clone()?,
                weight: g.weight.unwrap_or(1),
            })
        })
        .collect();
    if groups.is_empty() {
        groups.extend(
            action
                .target_group_arn
                .clone()
                .map(|arn| Group { arn, weight: 1 }),
        );
    }
    groups
}

fn target(description: TargetHealthDescription, seen: &Seen) -> Target {
    let who = description.target.as_ref();
    let how = description.target_health.as_ref();
    let id = who.and_then(|t| t.id.clone()).unwrap_or_default();
    let zone = who
        .and_then(|t| t.availability_zone.clone())
        .filter(|z| z != "all");
    Target {
        zone: zone.or_else(|| seen.zone_of(&id)).unwrap_or_default(),
        port: who.and_then(|t| t.port).unwrap_or_default(),
        state: how
            .and_then(|h| h.state.as_ref())
            .map_or("", |s| s.as_str())
            .to_owned(),
        reason: how
            .and_then(|h| h.reason.as_ref())
            .map(|r| r.as_str().to_owned()),
        description: how.and_then(|h| h.description.clone()),
        id,
    }
}
