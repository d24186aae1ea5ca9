//! A cluster of the laboratory as EKS has it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    super::{Shared, controller::Controller, embed::eks, network::Kind as Thing},
    Error, told,
};
use crate::{
    cluster::{Cluster, ConnectOptions, Kind, Ref, connect},
    sandbox::world::{ACCOUNT, Home, REGION},
};

/// A cluster that was taken in.
pub(super) struct Member {
    pub(super) cluster: Cluster,
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
        let read = |source| Error::Read {
            cluster: told.name.clone(),
            source: Box::new(source),
        };
        let not_yet = |what| Error::NotYet {
            cluster: told.name.clone(),
            what,
        };
        let options = ConnectOptions {
            kubeconfig: vec![told.kubeconfig.clone()],
            ..ConnectOptions::default()
        };
        let name = told
            .name
            .parse()
            .map_err(|_| not_yet("has no cluster's name"))?;
        let cluster = connect::connect(&name, &told.name, &options)
            .await
            .map_err(read)?;
        let nodes = cluster.list(&Kind::NODE, None, None).await.map_err(read)?;
        let nodes: Vec<Node> = nodes.iter().filter_map(node).collect();
        if nodes.is_empty() {
            return Err(not_yet("has no node that is an instance"));
        }
        let ca = cluster
            .ca()
            .ok_or_else(|| not_yet("names no authority of its own"))?;
        let (mut eks, mut things) = eks(
            &told.name,
            cluster.server(),
            &STANDARD.encode(ca),
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
        let controller = Controller::new(cluster.client().clone(), state.clone(), home);
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
            cluster,
            controller,
            nodes,
            vpc,
        })
    }

    /// Whether a pod of the load-balancer controller is ready: without one, nobody serves its class.
    pub(super) async fn is_served(&self) -> bool {
        let at = Ref::namespaced(
            &Kind::DEPLOYMENT,
            "kube-system",
            "aws-load-balancer-controller",
        );
        let found = self.cluster.find(&at).await.ok().flatten();
        found.is_some_and(|d| d["status"]["readyReplicas"].as_u64().unwrap_or(0) > 0)
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
