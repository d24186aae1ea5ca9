//! Whether those that are looked at are members of this mesh, and of no other.

use futures::future;

use super::{Meshlink, failure::Failure, look::refused};
use crate::{
    cluster::{Kind, Ref},
    name::ClusterName,
    observe::{CLAIM, Claim, Observed, claim},
    plan::Refusal,
};

impl Meshlink {
    /// Refuses members that say they are in another mesh: what is found of them says nothing of this one.
    pub(super) fn refuse_other_meshes(&self, observed: &Observed) -> Result<(), Failure> {
        let claims = observed.clusters.iter();
        self.refuse_claims(claims.filter_map(|(name, seen)| Some((name, seen.claim.as_ref()?))))
    }

    /// The same, for commands that read nothing else of them. One that does not answer is left to whatever asks it next.
    #[cfg(feature = "cli")]
    pub(crate) async fn ensure_this_mesh(&self) -> Result<(), Failure> {
        let place = Ref::namespaced(&Kind::CONFIG_MAP, self.mesh.istio.namespace.as_str(), CLAIM);
        let place = &place;
        let looks = self.clusters.iter().map(|(name, cluster)| async move {
            let found = cluster.find(place).await.ok().flatten()?;
            Some((name, claim(&found))).filter(|(_, claim)| claim.binds())
        });
        let claims = future::join_all(looks).await;
        let claims = claims.iter().flatten();
        self.refuse_claims(claims.map(|(name, claim)| (*name, claim)))
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
