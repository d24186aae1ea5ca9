//! Whether those that are looked at are members of this mesh, and of no other.

use futures::future;

use super::{Meshlink, failure::Failure, look::refused};
use crate::{
    cluster::{Kind, Ref},
    name::ClusterName,
    observe::{CLAIM, Claim, NEXT, Observed, Succession, claim, succession},
    plan::Refusal,
};

impl Meshlink {
    /// Refuses members that say they are in another mesh: what is found of them says nothing of this one.
    pub(super) fn refuse_other_meshes(&self, observed: &Observed) -> Result<(), Failure> {
        let claims = observed.clusters.iter();
        self.refuse_claims(claims.filter_map(|(name, seen)| Some((name, seen.claim.as_ref()?))))
    }

    /// The same, for commands that read nothing else of them. One that does not answer is left to whatever asks it next.
    /// Returns the change of root that is under way.
    #[cfg(feature = "cli")]
    pub(crate) async fn ensure_this_mesh(&self) -> Result<Option<Succession>, Failure> {
        let istio = self.mesh.istio.namespace.as_str();
        let place = |name| Ref::namespaced(&Kind::CONFIG_MAP, istio, name);
        let (bound, next) = (&place(CLAIM), &place(NEXT));
        let looks = self.clusters.iter().map(|(name, cluster)| async move {
            let (bound, next) = tokio::join!(cluster.find(bound), cluster.find(next));
            let claim = bound.ok().flatten().map(|map| claim(&map));
            // A ConfigMap of that name that binds to nothing is none.
            let is_claim = |claim: &Claim| !claim.mesh.is_empty() && !claim.root.is_empty();
            (name, claim.filter(is_claim), next.ok().flatten())
        });
        let found = future::join_all(looks).await;
        let claims = found.iter();
        self.refuse_claims(claims.filter_map(|(name, claim, _)| Some((*name, claim.as_ref()?))))?;
        let mut changes = found.iter().filter_map(|(.., next)| next.as_ref());
        let change = changes.find_map(succession);
        let claims = found.iter().filter_map(|(_, claim, _)| claim.as_ref());
        let root = change.as_ref().map(|change| change.from.clone());
        let root = root.or_else(|| { claims }.next().map(|claim| claim.root.clone()));
        if let Some(root) = root {
            self.vault.follow(&root);
        }
        Ok(change)
    }

    fn refuse_claims<'a>(
        &self,
        claims: impl Iterator<Item = (&'a ClusterName, &'a Claim)>,
    ) -> Result<(), Failure> {
        let id = &self.mesh.id;
        let others = claims.filter(|(_, claim)| claim.mesh != id.as_str());
        let refusals: Vec<_> = others
            .map(|(name, claim)| Refusal::of_another_mesh(name, &claim.mesh, id))
            .collect();
        match refusals.is_empty() {
            true => Ok(()),
            false => Err(refused(refusals)),
        }
    }
}
