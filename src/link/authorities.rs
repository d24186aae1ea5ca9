//! What EKS says of the CAs of the members' API servers, where it may be asked.

use futures::future;

use super::Meshlink;
use crate::{
    aws::eks,
    observe::{Observed, SuccessorSeen, authorities},
};

impl Meshlink {
    /// Adds the CAs that take the place of the present ones, to members that are known to be EKS's. Who may not ask sees none.
    pub(super) async fn look_at_successors(&self, observed: &mut Observed) {
        let Some(members) = self.asked_aws() else {
            return;
        };
        let members = &members;
        let now = observed.now;
        let asked = observed.clusters.iter_mut().map(|(name, seen)| async move {
            let (Some(place), who) = members.of(name) else {
                return;
            };
            let found = eks::successor(members.aws(), &who, &place).await;
            seen.successor = found.ok().flatten().map(|found| SuccessorSeen {
                authorities: authorities([found.pem.as_slice()], now),
                first: found.first,
                last: found.last,
            });
        });
        future::join_all(asked).await;
    }
}
