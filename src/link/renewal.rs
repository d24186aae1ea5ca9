//! What is read for a renewal, and the table of what ends.

use super::{
    Meshlink,
    failure::Failure,
    look::{Look, Reading, passed_over, refused},
};
use crate::{
    ends::Ends,
    plan::{self, Desired, Plan, renew::Renew},
};

impl Meshlink {
    pub(super) async fn look_to_renew(&self, renew: &Renew) -> Result<Look, Failure> {
        let reading = self.read().await?;
        self.refuse_strangers(&reading)?;
        let unread = reading.observed.unreachable.values().map(passed_over);
        let unread: Vec<_> = unread.collect();
        let signing = self.verifier(&reading).signing().await;
        let plan = plan::renew::renew(&self.mesh, &reading.observed, &signing, renew);
        let (against, notes) = self.clocks();
        let plan = match plan {
            Ok(plan) if plan.is_empty() || against.is_empty() => plan,
            Ok(_) => return Err(refused(against)),
            Err(refusals) => return Err(refused([refusals, against].concat())),
        };
        Ok(Look {
            reading,
            desired: Desired::default(),
            plan: Plan {
                notes: [unread, plan.notes, notes].concat(),
                ..plan
            },
        })
    }

    /// The table of everything that ends.
    pub(crate) async fn ends(&self, reading: &Reading) -> Ends {
        Ends::of(&reading.observed, &self.verifier(reading).signing().await)
    }
}
