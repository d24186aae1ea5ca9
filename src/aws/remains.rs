//! What is left of a load balancer after its Service is gone: what stays holds subnets and VPCs back.

use std::time::{Duration, SystemTime};

use super::{
    Aws, Identity, Session,
    call::{Cause, Error},
    eks::{Place, caller},
    env::Service,
    nlb::Host,
    query::ec2,
};
use crate::{
    hint::Hint,
    wait::{self, Deadline, Every, Progress, Unmet},
};

/// When to look again.
const PACE: Every = Every::growing(Duration::from_secs(2), Duration::from_secs(10));

/// A load balancer that was, to be looked for.
#[derive(Debug, Clone)]
pub(crate) struct Former {
    session: Session,
    host: Host,
    arn: Option<String>,
    /// What its controller tags what it makes with: the Service and the cluster.
    tags: [(&'static str, String); 2],
}

impl Former {
    /// What a Service's load balancer is known by; `None` where it has none of AWS's.
    pub(crate) async fn of(
        aws: &Aws,
        who: &Identity,
        place: Option<&Place>,
        service: &serde_json::Value,
    ) -> Result<Option<Self>, Error> {
        let host = service["status"]["loadBalancer"]["ingress"][0]["hostname"].as_str();
        let Some(host) = host.and_then(Host::read) else {
            return Ok(None);
        };
        let Some(session) = aws.session(who, Some(&host.region)).await else {
            return Ok(None);
        };
        let account = match place.and_then(|p| p.account.clone()) {
            Some(account) => account,
            None => caller(&session).await?.account,
        };
        let text = |key: &str| service["metadata"][key].as_str().unwrap_or_default();
        let stack = format!("{}/{}", text("namespace"), text("name"));
        let cluster = place.map(|p| p.name.clone()).unwrap_or_default();
        let auto = service["spec"]["loadBalancerClass"] == "eks.amazonaws.com/nlb";
        let keys = match auto {
            true => ["service.eks.amazonaws.com/stack", "eks:eks-cluster-name"],
            false => ["service.k8s.aws/stack", "elbv2.k8s.aws/cluster"],
        };
        Ok(Some(Self {
            session: session.for_account(&account),
            arn: host.arn(&account),
            host,
            tags: [(keys[0], stack), (keys[1], cluster)],
        }))
    }

    /// What is still there of it, each with its kind.
    pub(crate) async fn remains(&self, now: impl Fn() -> SystemTime) -> Result<Vec<String>, Error> {
        let mut left: Vec<String> = self.balancer().await?.into_iter().collect();
        let named = format!("ELB net/*/{}", self.host.id);
        let filter = [("description".to_owned(), named)];
        left.extend(self.ids("DescribeNetworkInterfaces", &filter, &now).await?);
        let tags = self.tags.clone().map(|(k, v)| (format!("tag:{k}"), v));
        left.extend(self.ids("DescribeSecurityGroups", &tags, &now).await?);
        Ok(left)
    }

    async fn balancer(&self) -> Result<Option<String>, Error> {
        let Some(arn) = &self.arn else {
            return Ok(None);
        };
        let elb = self.session.elb();
        let asked = self
            .session
            .call(Service::Elb, "DescribeLoadBalancers", || {
                elb.describe_load_balancers().load_balancer_arns(arn).send()
            });
        match asked.await {
            Ok(_) => Ok(Some(format!("load balancer {arn}"))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ids(
        &self,
        action: &'static str,
        filters: &[(String, String)],
        now: &impl Fn() -> SystemTime,
    ) -> Result<Vec<String>, Error> {
        let (list, id, kind) = match action {
            "DescribeNetworkInterfaces" => {
                ("networkInterfaceSet", "networkInterfaceId", "interface")
            }
            _ => ("securityGroupInfo", "groupId", "security group"),
        };
        let mut parameters = Vec::new();
        for (n, (name, value)) in (1..).zip(filters) {
            parameters.push((format!("Filter.{n}.Name"), name.clone()));
            parameters.push((format!("Filter.{n}.Value.1"), value.clone()));
        }
        let pages = ec2(&self.session, action, &parameters, now).await?;
        let rows = pages.iter().flat_map(|page| page.items(list));
        Ok(rows
            .map(|row| format!("{kind} {}", row.string(&[id])))
            .collect())
    }

    /// The command that shows what holds a subnet or a VPC back.
    pub(crate) fn hint(&self) -> Hint {
        let Host { id, region, .. } = &self.host;
        let filter = format!("Name=description,Values=ELB net/*/{id}");
        let words = [
            "aws",
            "ec2",
            "describe-network-interfaces",
            "--region",
            region,
        ];
        Hint::command(words.into_iter().chain(["--filters", &filter]))
    }

    /// The command that deletes what nobody else will.
    pub(crate) fn delete(&self) -> Option<Hint> {
        let delete = ["aws", "elbv2", "delete-load-balancer"];
        self.arn.as_ref().map(|arn| {
            let of = ["--region", &self.host.region, "--load-balancer-arn", arn];
            Hint::command(delete.into_iter().chain(of))
        })
    }

    /// Look until nothing is left; where that does not come about in time, the reason is what is left.
    pub(crate) async fn gone(
        &self,
        deadline: Deadline,
        now: impl Fn() -> SystemTime,
        say: impl Fn(&str),
    ) -> Result<(), Unmet<Error>> {
        let now = &now;
        let ask = |()| async move {
            match self.remains(now).await {
                Ok(left) if left.is_empty() => Progress::Done(()),
                Ok(left) => Progress::NotYet(left.join(", ").into()),
                Err(error) if error.cause == Cause::Throttled => {
                    Progress::NotYet("throttled".into())
                }
                Err(error) => Progress::Never(error),
            }
        };
        let say = |left: &str| say(&format!("still in AWS: {left}"));
        wait::until(ask, PACE, deadline, say).await
    }
}
