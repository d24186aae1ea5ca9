//! A cluster of the laboratory as EKS has it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use super::{
    super::{Shared, controller::Controller, embed::eks, network::Kind as Thing},
    Error, told,
};
use crate::world::{ACCOUNT, Home, REGION};

/// A cluster that was taken in.
pub(super) struct Member {
    client: Client,
    pub(super) controller: Controller,
    pub(super) nodes: Vec<Node>,
    pub(super) vpc: String,
}

/// A node, as far as load balancers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// What EC2 calls it.
    pub(super) instance: String,
    pub(super) zone: String,
    pub(super) address: String,
}

impl Member {
    /// Make an EKS cluster of it, the `number`th in AWS.
    pub(super) async fn enter(
        told: &told::Member,
        number: usize,
        state: &Shared,
    ) -> Result<Self, Error> {
        let read = |source: kube::Error| Error::Read {
            cluster: told.name.clone(),
            source: Box::new(source),
        };
        let not_yet = |what| Error::NotYet {
            cluster: told.name.clone(),
            what,
        };
        let kubeconfig = Kubeconfig::read_from(&told.kubeconfig)
            .map_err(|_| not_yet("has no kubeconfig that can be read"))?;
        let ca = authority(&kubeconfig, &told.name)
            .ok_or_else(|| not_yet("names no authority of its own"))?;
        let options = KubeConfigOptions {
            context: Some(told.name.clone()),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|_| not_yet("has no context of its name"))?;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(read)?;
        let nodes = list(&client, &resource("", "Node"), None, &ListParams::default())
            .await
            .map_err(read)?;
        let nodes: Vec<Node> = nodes.iter().filter_map(node).collect();
        if nodes.is_empty() {
            return Err(not_yet("has no node that is an instance"));
        }
        let (mut eks, mut things) = eks(
            &told.name,
            server.trim_end_matches('/'),
            &ca,
            number,
            &told.node,
            &Home::default(),
        );
        // Its nodes say where its subnets are.
        let nets = things.iter_mut().filter_map(|t| match &mut t.kind {
            Thing::Subnet { cidr, zone } => Some((cidr, zone)),
            _ => None,
        });
        for (n, (cidr, zone)) in nets.enumerate() {
            let here = nodes.iter().find(|n| n.zone == *zone);
            *cidr = match here.and_then(|n| n.address.rsplit_once('.')) {
                Some((net, _)) => format!("{net}.0/24"),
                None => format!("10.0.{}.0/24", 101 + n),
            };
        }
        let vpc = eks.vpc.clone();
        let home = (REGION, ACCOUNT, vpc.as_str());
        let controller = Controller::new(client.clone(), state.clone(), home);
        controller
            .install()
            .await
            .map_err(|source| Error::Install {
                cluster: told.name.clone(),
                source: Box::new(source),
            })?;
        eks.version = "1.36".into();
        let mut state = state.lock();
        state.clusters.push(eks);
        state.network.things.extend(things);
        drop(state);
        Ok(Self {
            client,
            controller,
            nodes,
            vpc,
        })
    }

    /// Whether a pod of the load-balancer controller is ready: without one, nobody serves its class.
    pub(super) async fn is_served(&self) -> bool {
        let deployments: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            "kube-system",
            &resource("apps", "Deployment"),
        );
        let found = deployments.get_opt("aws-load-balancer-controller").await;
        let found = found.ok().flatten();
        found.is_some_and(|d| d.data["status"]["readyReplicas"].as_u64().unwrap_or(0) > 0)
    }

    /// The pods that a selector finds; none if the cluster does not answer.
    pub(super) async fn pods(&self, namespace: Option<&str>, selector: &str) -> Vec<Value> {
        let params = ListParams::default().labels(selector);
        let pods = list(&self.client, &resource("", "Pod"), namespace, &params).await;
        pods.unwrap_or_default()
    }
}

fn resource(group: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
}

async fn list(
    client: &Client,
    of: &ApiResource,
    namespace: Option<&str>,
    params: &ListParams,
) -> Result<Vec<Value>, kube::Error> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, of),
        None => Api::all_with(client.clone(), of),
    };
    let found = api.list(params).await?;
    let plain = |object| serde_json::to_value(object).map_err(kube::Error::SerdeError);
    found.items.into_iter().map(plain).collect()
}

/// The authority of a context's cluster, coded as a kubeconfig holds it.
fn authority(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let named = kubeconfig.contexts.iter().find(|c| c.name == context)?;
    let cluster = &named.context.as_ref()?.cluster;
    let named = kubeconfig.clusters.iter().find(|c| c.name == *cluster)?;
    let cluster = named.cluster.as_ref()?;
    match (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    ) {
        (Some(data), _) => Some(data.clone()),
        (None, Some(path)) => Some(STANDARD.encode(std::fs::read(path).ok()?)),
        (None, None) => None,
    }
}

fn node(node: &Value) -> Option<Node> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let instance = node["spec"]["providerID"]
        .as_str()?
        .strip_prefix("aws://")?
        .rsplit('/')
        .next()?;
    let addresses = node["status"]["addresses"].as_array()?;
    Some(Node {
        name: text(&node["metadata"]["name"])?,
        instance: instance.into(),
        zone: text(&node["metadata"]["labels"]["topology.kubernetes.io/zone"])?,
        address: addresses
            .iter()
            .find(|a| a["type"] == "InternalIP")
            .and_then(|a| text(&a["address"]))?,
    })
}
