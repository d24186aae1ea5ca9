//! Which members of a mesh are EKS clusters, and as whom to ask about each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Aws, Identity, call,
    eks::{Context, Found, Place, find, place_of},
    nlb::Watch,
    remains::Former,
};
use crate::{
    name::ClusterName,
    spec::{Mesh, Reach},
};

/// Every member, as far as AWS goes.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    aws: Aws,
    all: BTreeMap<ClusterName, (Option<Place>, Identity)>,
}

impl Members {
    /// From how each is to be found; nothing is asked.
    pub(crate) fn new(aws: Aws, mesh: &Mesh, contexts: &[Context]) -> Self {
        let region = aws.env().region.clone();
        // A context's own profile is as whom AWS knows its cluster.
        let of_context = |name: &str| {
            let context = contexts.iter().find(|c| c.name == name);
            let profile = context.and_then(|c| c.profile.clone());
            let who = Identity {
                profile,
                ..Identity::default()
            };
            (context.and_then(place_of), who)
        };
        let look = |text: &str| match find(text, &BTreeMap::new(), contexts, region.as_deref()) {
            Ok(Found::Eks(place)) => (Some(place), Identity::default()),
            Ok(Found::Context(name)) => of_context(&name),
            Err(_) => Default::default(),
        };
        let one = |reach: &Reach| match reach {
            Reach::Auto(text) => look(text),
            Reach::Context(name) => of_context(name),
            Reach::Eks(eks) => {
                let text = match (&eks.arn, &eks.region) {
                    (Some(arn), _) => arn.clone(),
                    (None, Some(region)) => format!("{region}/{}", eks.name),
                    (None, None) => eks.name.clone(),
                };
                (
                    find(&text, &BTreeMap::new(), &[], region.as_deref())
                        .ok()
                        .and_then(place),
                    eks.into(),
                )
            }
        };
        let all = mesh
            .clusters
            .iter()
            .map(|m| (m.name.clone(), one(&m.reach)))
            .collect();
        Self { aws, all }
    }

    /// AWS, as the environment describes it.
    pub(crate) fn aws(&self) -> &Aws {
        &self.aws
    }

    /// Where a member is, and as whom to ask; a member that is not EKS's has no place.
    pub(crate) fn of(&self, name: &ClusterName) -> (Option<Place>, Identity) {
        self.all.get(name).cloned().unwrap_or_default()
    }

    /// Whether there is reason to think that AWS may be asked: looking for credentials where there are none takes seconds.
    pub(crate) fn is_configured(&self) -> bool {
        let env = self.aws.env();
        self.any() || env.keys.is_some() || env.profile.is_some()
    }

    /// Whether any member is an EKS cluster.
    pub(crate) fn any(&self) -> bool {
        self.all.values().any(|(place, _)| place.is_some())
    }

    /// What the load balancer of a member's Service is known by, to see it gone.
    pub(crate) async fn former(
        &self,
        name: &ClusterName,
        service: &Value,
    ) -> Result<Option<Former>, call::Error> {
        let (place, who) = self.of(name);
        Former::of(&self.aws, &who, place.as_ref(), service).await
    }

    /// A watch for the load balancer of a member's gateway.
    pub(crate) fn watch(&self, name: &ClusterName, service: (&str, &str), port: u16) -> Watch {
        let (place, who) = self.of(name);
        Watch::later(
            self.aws.clone(),
            who,
            place.and_then(|p| p.account),
            service,
            port,
        )
    }
}

fn place(found: Found) -> Option<Place> {
    match found {
        Found::Eks(place) => Some(place),
        Found::Context(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_that_name_an_eks_cluster_are_eks_clusters() {
        let arn = "arn:aws:eks:eu-west-1:111122223333:cluster/eks-1";
        let context = |name: &str, cluster: &str| Context {
            name: name.into(),
            cluster: cluster.into(),
            profile: Some(format!("of-{name}")),
            ..Context::default()
        };
        let contexts = [
            context("prod", arn),
            context("kind", "kind"),
            context("x", "eks-2.eu-north-1.eksctl.io"),
        ];
        let names = ["prod", "kind", "x", "b=eu-west-2/eks-3"].map(str::to_owned);
        let members = Members::new(Aws::default(), &Mesh::named(&names).unwrap(), &contexts);
        let region = |name: &str| members.of(&name.parse().unwrap()).0.map(|p| p.region);
        assert_eq!(region("prod").as_deref(), Some("eu-west-1"));
        assert_eq!(region("kind"), None);
        assert_eq!(region("x").as_deref(), Some("eu-north-1"));
        assert_eq!(region("b").as_deref(), Some("eu-west-2"));
        assert!(members.any());
        let profile = |name: &str| members.of(&name.parse().unwrap()).1.profile;
        assert_eq!(profile("prod").as_deref(), Some("of-prod"));
        assert_eq!(profile("b"), None);
    }
}
