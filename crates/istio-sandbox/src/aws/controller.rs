//! The side of a load-balancer controller that is seen in the cluster: bindings, readiness gates, finalizer, events.
//!
//! It plays the AWS Load Balancer Controller for Services of its class: a `TargetGroupBinding` for each port, a
//! condition on every pod that has a gate for it, a finalizer until the load balancer is gone, and a
//! `FailedBuildModel` event where it cannot make one. What the load balancers do is the [`State`]'s affair.

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{Health, Shared, State, TargetGroup, ThingKind};

/// Held on a Service until its load balancer is gone.
pub const FINALIZER: &str = "service.k8s.aws/resources";
/// The class this controller serves.
pub const CLASS: &str = "service.k8s.aws/nlb";
/// Before the name of an annotation it reads.
const ANNOTATION: &str = "service.beta.kubernetes.io/aws-load-balancer-";
/// Names a binding's Service.
const STACK_NAME: &str = "service.k8s.aws/stack-name";
/// Before the name of the binding a pod's gate is about.
const GATE: &str = "target-health.elbv2.k8s.aws/";

/// The controller of one cluster.
#[derive(Clone)]
pub struct Controller {
    client: Client,
    state: Shared,
    /// Region, account and VPC of the cluster.
    home: (String, String, String),
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// For a cluster in a region, an account and a VPC.
    pub fn new(client: Client, state: Shared, home: (&str, &str, &str)) -> Self {
        let home = (home.0.into(), home.1.into(), home.2.into());
        Self {
            client,
            state,
            home,
        }
    }

    /// What the controller's chart brings: the kind of its bindings.
    pub async fn install(&self) -> Result<(), kube::Error> {
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "targetgroupbindings.elbv2.k8s.aws"},
            "spec": {
                "group": "elbv2.k8s.aws",
                "scope": "Namespaced",
                "names": {"kind": "TargetGroupBinding", "plural": "targetgroupbindings", "singular": "targetgroupbinding"},
                "versions": [{"name": "v1beta1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        });
        self.apply(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            None,
            &crd,
        )
        .await
    }

    /// Do once what is to be done now.
    pub async fn step(&self) -> Result<(), kube::Error> {
        let services: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &resource("v1", "Service"));
        for service in services.list(&ListParams::default()).await? {
            let service = serde_json::to_value(service).unwrap_or_default();
            if is_ours(&service) {
                self.tend(&service).await?;
            }
        }
        Ok(())
    }

    /// Do for one Service what is to be done now.
    pub(super) async fn tend(&self, service: &Value) -> Result<(), kube::Error> {
        if !service["metadata"]["deletionTimestamp"].is_null() {
            return self.release(service).await;
        }
        let why = problem(service, &self.state.lock(), &self.home);
        if let Some(why) = why {
            return self.complain(service, &why).await;
        }
        self.hold(service, true).await?;
        let groups = groups(service, &self.state.lock());
        self.bind(service, &groups).await?;
        let pods: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            namespace(service),
            &resource("v1", "Pod"),
        );
        for pod in pods
            .list(&ListParams::default().labels(&selector(service)))
            .await?
        {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let pod = serde_json::to_value(pod).unwrap_or_default();
            let conditions: Vec<Value> = groups
                .iter()
                .filter_map(|(_, g)| gate(&pod, g, &self.state.lock()))
                .collect();
            if !conditions.is_empty() {
                let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
                pods.patch_status(&name, &PatchParams::default(), &patch)
                    .await?;
            }
        }
        Ok(())
    }

    /// A binding for each port; those that are right already are left alone.
    async fn bind(
        &self,
        service: &Value,
        groups: &[(Value, TargetGroup)],
    ) -> Result<(), kube::Error> {
        let kind = resource("elbv2.k8s.aws/v1beta1", "TargetGroupBinding");
        let all: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace(service), &kind);
        let of_service = format!("{STACK_NAME}={}", name(service));
        let there = all.list(&ListParams::default().labels(&of_service)).await?;
        let wanted = groups
            .iter()
            .map(|(port, group)| binding(service, port, group));
        let wanted: Vec<_> = wanted.collect();
        // What the Service was before it was changed has no binding any more.
        for old in there.iter().filter_map(|b| b.metadata.name.as_deref()) {
            if !wanted.iter().any(|binding| name(binding) == old) {
                let deleted = all.delete(old, &DeleteParams::default()).await;
                gone(deleted.map(|_| ()))?;
            }
        }
        for binding in wanted {
            let same = |b: &DynamicObject| {
                b.metadata.name.as_deref() == Some(name(&binding))
                    && b.data["spec"] == binding["spec"]
            };
            if !there.iter().any(same) {
                self.apply(
                    "elbv2.k8s.aws/v1beta1",
                    "TargetGroupBinding",
                    Some(namespace(service)),
                    &binding,
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Bindings first, then the load balancer; the Service may go when both are gone.
    async fn release(&self, service: &Value) -> Result<(), kube::Error> {
        let kind = resource("elbv2.k8s.aws/v1beta1", "TargetGroupBinding");
        let bindings: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace(service), &kind);
        let of_service = format!("{STACK_NAME}={}", name(service));
        let all = ListParams::default().labels(&of_service);
        for binding in bindings.list(&all).await? {
            let name = binding.metadata.name.unwrap_or_default();
            let deleted = bindings.delete(&name, &DeleteParams::default()).await;
            gone(deleted.map(|_| ()))?;
        }
        let arn = balancer_arn(service, &self.state.lock());
        if let Some(arn) = arn {
            self.state.lock().delete_balancer(&arn);
        }
        self.hold(service, false).await
    }

    async fn hold(&self, service: &Value, hold: bool) -> Result<(), kube::Error> {
        let all = service["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let held = all.iter().any(|f| f == FINALIZER);
        if held == hold {
            return Ok(());
        }
        let mut all: Vec<Value> = all.into_iter().filter(|f| f != FINALIZER).collect();
        all.extend(hold.then(|| FINALIZER.into()));
        let services: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            namespace(service),
            &resource("v1", "Service"),
        );
        let patch = Patch::Merge(json!({"metadata": {"finalizers": all}}));
        let patched = services
            .patch(name(service), &PatchParams::default(), &patch)
            .await;
        gone(patched.map(|_| ()))
    }

    async fn complain(&self, service: &Value, why: &str) -> Result<(), kube::Error> {
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": format!("{}.failed-build-model", name(service)), "namespace": namespace(service)},
            "involvedObject": {"apiVersion": "v1", "kind": "Service", "name": name(service),
                "namespace": namespace(service), "uid": service["metadata"]["uid"]},
            "type": "Warning",
            "reason": "FailedBuildModel",
            "message": format!("Failed build model due to {why}"),
            "source": {"component": "service"},
        });
        let events: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            namespace(service),
            &resource("v1", "Event"),
        );
        let event: DynamicObject =
            serde_json::from_value(event).map_err(kube::Error::SerdeError)?;
        match events.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn apply(
        &self,
        api: &str,
        kind: &str,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<(), kube::Error> {
        let resource = resource(api, kind);
        let objects: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let params = PatchParams::apply("aws-load-balancer-controller").force();
        objects
            .patch(name(object), &params, &Patch::Apply(object))
            .await
            .map(|_| ())
    }
}

fn resource(api: &str, kind: &str) -> ApiResource {
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

fn annotation<'a>(service: &'a Value, name: &str) -> Option<&'a str> {
    service["metadata"]["annotations"][format!("{ANNOTATION}{name}")].as_str()
}

fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

/// By class, or by the annotations that did the same before there were classes.
pub(super) fn is_ours(service: &Value) -> bool {
    let by_annotation = matches!(annotation(service, "type"), Some("external" | "nlb-ip"));
    let class = service["spec"]["loadBalancerClass"].as_str();
    service["spec"]["type"] == "LoadBalancer"
        && (class == Some(CLASS) || (class.is_none() && by_annotation))
}

pub(super) fn selector(service: &Value) -> String {
    let pairs = service["spec"]["selector"]
        .as_object()
        .into_iter()
        .flatten();
    let pairs: Vec<String> = pairs
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}

/// Why no load balancer can be made, as the controller finds it out.
fn problem(
    service: &Value,
    state: &State,
    (region, account, vpc): &(String, String, String),
) -> Option<String> {
    let scheme = annotation(service, "scheme").unwrap_or("internal");
    let role = match scheme {
        "internal" => "kubernetes.io/role/internal-elb",
        "internet-facing" => "kubernetes.io/role/elb",
        other => return Some(format!("unknown scheme: {other}")),
    };
    match annotation(service, "nlb-target-type").unwrap_or("instance") {
        "ip" | "instance" => {}
        other => return Some(format!("unsupported target type: {other}")),
    }
    let mine = state
        .network
        .things
        .iter()
        .filter(|t| t.region == *region && t.account == *account && t.vpc == *vpc);
    let mut subnets = mine.filter(|t| matches!(t.kind, ThingKind::Subnet { .. }));
    match annotation(service, "subnets") {
        Some(named) => {
            let known: Vec<&str> = subnets.map(|t| t.id.as_str()).collect();
            let missing = named
                .split(',')
                .map(str::trim)
                .find(|id| !known.contains(id))?;
            Some(format!("couldn't find all subnets, want: [{missing}]"))
        }
        None if subnets.any(|t| t.tags.contains_key(role)) => None,
        None => Some(format!(
            "unable to resolve at least one subnet: none of {vpc} is tagged {role}"
        )),
    }
}

/// The ARN of the load balancer this Service has.
fn balancer_arn(service: &Value, state: &State) -> Option<String> {
    let stack = format!("{}/{}", namespace(service), name(service));
    let host = service["status"]["loadBalancer"]["ingress"][0]["hostname"].as_str();
    let ours = |b: &&super::Balancer| {
        host.is_some_and(|h| b.dns_name.eq_ignore_ascii_case(h))
            || (host.is_none() && b.tags.get("service.k8s.aws/stack") == Some(&stack))
    };
    state.balancers.iter().find(ours).map(|b| b.arn.clone())
}

/// Each port of the Service with the group behind its listener.
fn groups(service: &Value, state: &State) -> Vec<(Value, TargetGroup)> {
    let Some(arn) = balancer_arn(service, state) else {
        return Vec::new();
    };
    let balancer = state.balancers.iter().find(|b| b.arn == arn);
    let listeners = balancer.map(|b| b.listeners.clone()).unwrap_or_default();
    let ports = service["spec"]["ports"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ports
        .into_iter()
        .filter_map(|port| {
            let listener = listeners.iter().find(|l| port["port"] == l.port)?;
            let (group, _) = listener.forward.first()?;
            Some((port, state.groups.iter().find(|g| g.arn == *group)?.clone()))
        })
        .collect()
}

fn binding(service: &Value, port: &Value, group: &TargetGroup) -> Value {
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": {
            "name": group.name,
            "namespace": namespace(service),
            "labels": {
                "service.k8s.aws/stack-namespace": namespace(service),
                STACK_NAME: name(service),
            },
        },
        "spec": {
            "serviceRef": {"name": name(service), "port": port["port"]},
            "targetGroupARN": group.arn,
            "targetType": group.target_type,
            "ipAddressType": "ipv4",
        },
    })
}

/// The condition of a pod's gate, if it has one for this group.
fn gate(pod: &Value, group: &TargetGroup, state: &State) -> Option<Value> {
    let kind = format!("{GATE}{}", group.name);
    let gates = pod["spec"]["readinessGates"].as_array()?;
    gates.iter().find(|g| g["conditionType"] == kind)?;
    let is = pod["status"]["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|c| c["type"] == kind));
    let target = group
        .targets
        .iter()
        .find(|t| pod["status"]["podIP"] == t.id);
    let health = target.map_or(Health::NOT_REGISTERED, |t| state.health(group, t));
    let status = if health == Health::HEALTHY {
        "True"
    } else {
        "False"
    };
    let condition = json!({
        "type": kind,
        "status": status,
        "reason": health.reason.unwrap_or_default(),
        "message": health.description.unwrap_or_default(),
    });
    let told = |is: &Value| is["status"] == status && is["reason"] == condition["reason"];
    (!is.is_some_and(told)).then_some(condition)
}
