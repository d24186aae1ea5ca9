//! The same clusters through the library: what is seen, wanted and planned.

use std::{collections::BTreeMap, sync::Arc};

use meshlink::{
    chart::{self, FetchOptions},
    cluster::{Cluster, ConnectOptions, connect},
    engine,
    manifest::Texts,
    name::ClusterName,
    observe::{Lens, Observed},
    pki::Vault,
    plan::{
        self, Desired, Plan,
        desire::{Additions, Charts},
    },
    spec::Mesh,
};

use super::World;

/// Everything a survey of the first two clusters needs.
pub(crate) struct Library {
    mesh: Mesh,
    clusters: BTreeMap<ClusterName, Cluster>,
    vault: Vault,
    charts: Charts,
}

impl Library {
    /// Connects to the first two clusters.
    pub(crate) fn new(world: &World) -> Self {
        let names = ["eks-1", "eks-2"];
        let mesh = Mesh::named(&names.map(String::from)).unwrap();
        let at = world.endpoints();
        let options = ConnectOptions {
            kubeconfig: vec![at.kubeconfig.clone()],
            ..ConnectOptions::default()
        };
        let kubeconfig = connect::Kubeconfig::read(&options.kubeconfig).unwrap();
        let source = at.charts.parse().unwrap();
        let (version, fetch) = (mesh.istio.version.as_str(), FetchOptions::default());
        let one =
            async |name| Arc::new(chart::fetch(&source, name, version, &fetch).await.unwrap());
        let all = async {
            let mut clusters = BTreeMap::new();
            for name in names {
                let cluster: ClusterName = name.parse().unwrap();
                let connected = connect::connect(&cluster, name, &kubeconfig, &options)
                    .await
                    .unwrap();
                clusters.insert(cluster, connected);
            }
            let (base, istiod, gateway) =
                (one("base").await, one("istiod").await, one("gateway").await);
            (
                clusters,
                Charts {
                    base,
                    istiod,
                    gateway,
                },
            )
        };
        let (clusters, charts) = world.block_on(all);
        Self {
            vault: Vault::open(world.vault()).unwrap(),
            mesh,
            clusters,
            charts,
        }
    }

    /// What is there, and what should be.
    pub(crate) fn survey(&self, world: &World) -> (Observed, Desired) {
        let (additions, texts) = (Additions::default(), Texts::default());
        let now = crate::kit::now();
        let lens = Lens::new(&self.mesh, &self.vault, &self.clusters, true, now);
        let survey = engine::survey(&lens, &self.charts, &additions, &texts);
        world.block_on(survey).unwrap()
    }

    /// What a join would do.
    pub(crate) fn plan(&self, world: &World) -> Plan {
        let (observed, desired) = self.survey(world);
        plan::join::join(&self.mesh, &desired, &observed).unwrap()
    }
}
