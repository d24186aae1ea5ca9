//! The east-west gateway: its load balancer first, its pods when istiod can inject them.

use super::{Evidence, StepContext, seen};
use crate::{
    aws::{Members, nlb},
    cluster::{Kind, Ref, wait},
    engine::{Error, error::causes},
    name::ClusterName,
    plan::Step,
    spec::{GATEWAY_PORT, OPENER},
};

impl StepContext<'_> {
    /// Only the Service, marked as the release's own so that the release takes it over.
    pub(super) async fn open_gateway(&self, name: &ClusterName) -> Evidence {
        let release = &self.run.wanted(name)?.gateway;
        let service = release.service().ok_or_else(|| Error::Missing {
            cluster: name.clone(),
            what: format!(
                "chart {} renders no Service",
                release.chart.chart.metadata.name
            ),
        })?;
        self.apply_together(self.cluster(name)?, release, &[service])
            .await?;
        seen(format!(
            "Service {}/{} asks for a load balancer",
            release.namespace, release.name
        ))
    }

    pub(super) async fn install_gateway(&self, name: &ClusterName) -> Evidence {
        let step = Step::InstallGateway(name.clone());
        self.install(name, &self.run.wanted(name)?.gateway, &step)
            .await
    }

    pub(super) async fn expose_services(&self, name: &ClusterName) -> Evidence {
        for object in &self.run.wanted(name)?.expose {
            self.write(self.cluster(name)?, object).await?;
        }
        seen(format!("Gateway {OPENER} opens {GATEWAY_PORT}"))
    }

    /// The Service has an address, and the gateway's pods are ready: on EKS, only ready pods are
    /// registered as targets.
    pub(super) async fn await_nlb(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let gateway = &self.run.mesh.gateway;
        let at =
            |kind: &Kind| Ref::namespaced(kind, gateway.namespace.as_str(), gateway.name.as_str());
        let deadline = self.deadline;
        let service = at(&Kind::SERVICE);
        let addresses = wait::until(
            cluster,
            &service,
            deadline,
            wait::service_has_address,
            self.say,
        );
        let deployment = at(&Kind::DEPLOYMENT);
        let available = wait::available(cluster, &deployment, deadline, self.say);
        let (addresses, ()) = tokio::try_join!(addresses, available)?;
        let list: Vec<_> = addresses.iter().map(wait::Address::as_str).collect();
        let mut lines = vec![format!("gateway is available at {}", list.join(", "))];
        let on_aws = |host: &&str| nlb::Host::read(host).is_some();
        if let (Some(members), Some(_)) = (&self.run.aws, list.iter().find(|h| on_aws(h))) {
            lines.push(self.await_targets(name, members).await?);
        }
        Ok(lines)
    }

    /// The load balancer's own word for it. Who may not ask AWS goes on: whether the gateway is reached is proved later.
    async fn await_targets(&self, name: &ClusterName, members: &Members) -> Result<String, Error> {
        let cluster = self.cluster(name)?;
        let gateway = &self.run.mesh.gateway;
        let (namespace, service) = (gateway.namespace.as_str(), gateway.name.as_str());
        let policy = nlb::Policy::default();
        let mut watch = members.watch(name, (namespace, service), policy.port);
        let see = || nlb::see(cluster, namespace, service, policy.port);
        let (of, deadline) = (name.as_str(), self.run.deadline);
        match nlb::wait(of, &mut watch, see, &policy, deadline, nlb::PACE, self.say).await {
            Ok(lb) => {
                let healthy = lb.targets.iter().filter(|t| t.is_healthy()).count();
                Ok(format!(
                    "{healthy} of {} targets healthy on {}",
                    lb.targets.len(),
                    policy.port
                ))
            }
            Err(error) if error.is_blind() => Ok(format!(
                "target health not looked at: {}",
                causes(&error).join(": ")
            )),
            Err(error) => Err(Box::new(error).into()),
        }
    }
}
