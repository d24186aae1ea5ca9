//! The sample apps of a cluster.

use super::{Error, Evidence, StepContext, seen};
use crate::{engine::sample::Sample, name::ClusterName};

impl StepContext<'_> {
    fn sample(&self, c: &ClusterName) -> Result<&Sample, Error> {
        self.run.sample.as_ref().ok_or_else(|| Error::Missing {
            cluster: c.clone(),
            what: "no sample was asked for".into(),
        })
    }

    pub(super) async fn install_sample(&self, c: &ClusterName) -> Evidence {
        let members = &self.run.mesh.clusters;
        let place = members.iter().position(|m| m.name == *c);
        // Every member serves a version of its own, so that an answer says where it came from.
        let version = format!("v{}", place.map_or(0, |at| at + 1));
        let (sample, texts) = (self.sample(c)?, &self.run.texts);
        let cluster = self.cluster(c)?;
        sample
            .up(
                cluster,
                self.owner(cluster)?,
                texts,
                &version,
                self.deadline,
            )
            .await
            .map_err(Box::new)?;
        seen(format!("helloworld {version} and its client are available"))
    }

    pub(super) async fn remove_sample(&self, c: &ClusterName) -> Evidence {
        let sample = self.sample(c)?;
        let cluster = self.cluster(c)?;
        let left = sample
            .down(cluster, self.owner(cluster)?, self.deadline)
            .await;
        let namespace = &sample.namespace;
        match left.map_err(Box::new)? {
            None => seen(format!("namespace {namespace} is gone")),
            Some(left) => seen(format!("namespace {namespace} stays, for it holds {left}")),
        }
    }
}
