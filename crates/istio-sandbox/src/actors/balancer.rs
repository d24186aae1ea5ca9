//! The cloud's side of a Service of type LoadBalancer.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Actor, Clock, Cluster, Read,
    endpoints::{is_ready, target_port, zone_of},
    proxy::listens,
};
use crate::{
    BalancerStatus,
    faults::Fault,
    world::{Health, Listener, LoadBalancer, Scheme, State, Target},
};

/// The class of Services that the AWS Load Balancer Controller takes; all others are EKS Auto Mode's.
const CONTROLLED: &str = "service.k8s.aws/nlb";

/// Keeps the Service until the load balancer is gone.
fn finalizer(service: &Value) -> &'static str {
    match service["spec"]["loadBalancerClass"] == CONTROLLED {
        true => "service.k8s.aws/resources",
        false => "service.eks.amazonaws.com/resources",
    }
}

/// Whether whoever takes this Service is at work: Auto Mode always is, the controller is a Deployment.
fn attended(cluster: &Cluster, service: &Value) -> bool {
    let controller = |d: &Value| {
        d.label("app.kubernetes.io/name") == Some("aws-load-balancer-controller")
            && d["status"]["readyReplicas"].as_u64() > Some(0)
    };
    service["spec"]["loadBalancerClass"] != CONTROLLED
        || cluster
            .objects
            .list("deployments.apps", None)
            .iter()
            .any(|d| controller(d))
}

/// The load-balancer controller and the cloud behind it.
#[derive(Default)]
pub(crate) struct Balancers {
    clock: Clock,
    made: usize,
}

impl Actor for Balancers {
    async fn step(&mut self, cluster: &Arc<Cluster>) -> Option<Duration> {
        let mut services = cluster.objects.list("services", None);
        services.retain(|service| attended(cluster, service));
        for service in services {
            let wanted = service["spec"]["type"] == "LoadBalancer" && !service.deleting();
            match self.find(cluster, &service) {
                None if wanted => self.make(cluster, &service).await,
                Some(lb) if wanted => self.serve(cluster, &service, &lb).await,
                Some(lb) => self.release(cluster, &service, &lb).await,
                None => free(cluster, &service).await,
            }
        }
        self.clock.due()
    }
}

impl Balancers {
    fn find(&self, cluster: &Cluster, service: &Value) -> Option<LoadBalancer> {
        // By its uid, as it is named: one that was let go of stays in the cloud, and is not taken up again.
        let (place, at) = ((cluster.name.as_str(), 0), (service.ns(), service.name()));
        let name = LoadBalancer::new(place, at, service.uid(), 0).name;
        let all = cluster.world.balancers.list();
        all.into_iter().find(|lb| lb.name == name)
    }

    async fn make(&mut self, cluster: &Cluster, service: &Value) {
        let objects = cluster.objects.as_manager("controller");
        let mut finalizers = service.items("/metadata/finalizers").to_vec();
        if !finalizers.iter().any(|f| f == finalizer(service)) {
            finalizers.push(finalizer(service).into());
            let patch = json!({"metadata": {"finalizers": finalizers}});
            if objects.patch("services", service, &patch).await.is_err() {
                return;
            }
        }
        let place = (cluster.name.as_str(), cluster.index);
        let mut lb = LoadBalancer::new(
            place,
            (service.ns(), service.name()),
            service.uid(),
            self.made,
        )
        .within(&cluster.world.home(&cluster.name).region);
        if service.annotation("service.beta.kubernetes.io/aws-load-balancer-scheme")
            == Some("internal")
        {
            lb.scheme = Scheme::Internal;
        }
        self.made += 1;
        cluster.world.balancers.put(lb);
    }

    /// Lets name, state and targets become what they should be, each in its time.
    async fn serve(&mut self, cluster: &Cluster, service: &Value, lb: &LoadBalancer) {
        let time = &cluster.timeline;
        let mut new = lb.clone();
        if self
            .clock
            .passed(format!("{}/active", lb.name), time.balancer)
        {
            new.state = State::Active;
        }
        let named = self.clock.passed(format!("{}/name", lb.name), time.name);
        new.resolves = named && !cluster.has(Fault::BalancerNameMissing);
        new.listeners = self.listeners(cluster, service, &new);
        cluster.world.balancers.put(new);
        let ingress: Value = match cluster.world.status {
            BalancerStatus::Hostname => json!([{"hostname": lb.dns_name}]),
            BalancerStatus::Address => lb
                .addresses
                .iter()
                .take(1)
                .map(|a| json!({"ip": a, "ipMode": "VIP"}))
                .collect(),
        };
        let status = json!({"loadBalancer": {"ingress": ingress}});
        let _ = cluster
            .objects
            .as_manager("controller")
            .status("services", service, status)
            .await;
    }

    fn listeners(
        &mut self,
        cluster: &Cluster,
        service: &Value,
        lb: &LoadBalancer,
    ) -> Vec<Listener> {
        let mut pods = cluster.objects.list("pods", Some(service.ns()));
        pods.retain(|p| p.matches(&service["spec"]["selector"]) && is_ready(p) && !p.deleting());
        let mut all = Vec::new();
        for port in service.items("/spec/ports") {
            let number = port["port"]
                .as_u64()
                .and_then(|n| u16::try_from(n).ok())
                .unwrap_or(0);
            let targets = pods
                .iter()
                .map(|p| self.target(cluster, p, port, lb))
                .collect();
            all.push(Listener {
                port: number,
                name: port.text("/name").into(),
                targets,
            });
        }
        all
    }

    fn target(
        &mut self,
        cluster: &Cluster,
        pod: &Value,
        port: &Value,
        lb: &LoadBalancer,
    ) -> Target {
        let port = target_port(port, Some(pod));
        let mut before = lb.listeners.iter().flat_map(|l| &l.targets);
        let before = before
            .find(|t| t.pod == pod.name() && t.port == port)
            .map(|t| t.health);
        Target {
            address: pod.text("/status/podIP").into(),
            pod: pod.name().into(),
            port,
            zone: zone_of(cluster, pod),
            health: self.health(cluster, pod, port, lb, before),
        }
    }

    fn health(
        &mut self,
        cluster: &Cluster,
        pod: &Value,
        port: u16,
        lb: &LoadBalancer,
        before: Option<Health>,
    ) -> Health {
        let key = format!("{}/{}/{port}", lb.name, pod.uid());
        let answers = listens(cluster, pod, port) && !cluster.has(Fault::TargetsNeverHealthy);
        // Going from bad to good and back takes the same number of checks.
        self.clock.restart(&format!("{key}/{}", !answers));
        let checked = self
            .clock
            .passed(format!("{key}/{answers}"), cluster.timeline.health);
        let registered = self
            .clock
            .passed(format!("{key}/in"), cluster.timeline.register);
        match (lb.state == State::Active && registered, checked) {
            (false, _) => Health::Registering,
            (true, true) if answers => Health::Healthy,
            (true, true) => Health::Unhealthy,
            (true, false) => before
                .filter(|h| *h != Health::Registering)
                .unwrap_or(Health::Checking),
        }
    }

    /// Takes the load balancer away, and then lets the Service go.
    async fn release(&mut self, cluster: &Cluster, service: &Value, lb: &LoadBalancer) {
        cluster
            .world
            .balancers
            .edit(&lb.name, |lb| lb.state = State::Deleting);
        if self
            .clock
            .passed(format!("{}/gone", lb.name), cluster.timeline.release)
        {
            cluster.world.balancers.remove(&lb.name);
            let prefix = format!("{}/", lb.name);
            self.clock.keep(|key| !key.starts_with(&prefix));
            free(cluster, service).await;
        }
    }
}

async fn free(cluster: &Cluster, service: &Value) {
    let mut finalizers = service.items("/metadata/finalizers").to_vec();
    let before = finalizers.len();
    finalizers.retain(|f| f != finalizer(service));
    if finalizers.len() < before {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        let _ = cluster
            .objects
            .as_manager("controller")
            .patch("services", service, &patch)
            .await;
    }
}
