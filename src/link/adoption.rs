//! Clusters that came with an Istio: which of the members do, and what is read of those that are adopted.

use super::{
    Meshlink,
    failure::Failure,
    look::{Inputs, Look, all_reached, refused},
};
use crate::{
    name::ClusterName,
    plan::{self, adopt::Adopt},
};

impl Meshlink {
    /// The members that have an Istio of somebody else's, which could be adopted.
    pub(crate) async fn adoptable(&self) -> Result<Vec<ClusterName>, Failure> {
        let reading = self.read().await?;
        Ok(plan::adopt::candidates(&self.mesh, &reading.observed))
    }

    /// What stands in the clusters that are adopted, and what every proxy of theirs holds.
    pub(super) async fn look_to_adopt(
        &self,
        how: &Adopt,
        inputs: &Inputs,
    ) -> Result<Look, Failure> {
        let (mut reading, desired) = self.survey(inputs).await?;
        all_reached(&reading.observed)?;
        let (off, known) = self.clocks();
        if !off.is_empty() {
            return Err(refused(off));
        }
        let lens = self.lens();
        let observed = std::mem::take(&mut reading.observed);
        reading.observed = match lens.look_at_proxies(observed).await {
            Ok(observed) => observed,
            Err(unseen) => return Err(self.unread(&unseen).await),
        };
        self.with_unreachable(&lens, &mut reading.observed).await;
        let plan = plan::adopt::adopt(&self.mesh, &desired, &reading.observed, how);
        let mut plan = plan.map_err(refused)?;
        plan.notes.extend(known);
        Ok(Look {
            reading,
            desired,
            plan,
        })
    }
}
