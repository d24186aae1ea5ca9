//! What is read for a renewal, the safe part of a join, and the table of what ends.

use super::{
    Meshlink,
    failure::Failure,
    look::{Inputs, Look, Reading, passed_over, refused},
};
use crate::{
    ends::Ends,
    plan::{self, Desired, Plan, renew::Renew},
};

impl Meshlink {
    /// What of a join is safe to do for whoever wants to be rid of a finding.
    pub(super) async fn look_to_mend(&self, inputs: &Inputs) -> Result<Look, Failure> {
        let look = self.look_to_join(inputs).await?;
        // Who is to be written to must say itself that it is a member.
        self.refuse_strangers(&look.reading)?;
        Ok(Look {
            plan: plan::mend::mend(look.plan),
            ..look
        })
    }

    pub(super) async fn look_to_renew(&self, renew: &Renew) -> Result<Look, Failure> {
        let mut reading = self.read().await?;
        self.refuse_strangers(&reading)?;
        self.look_at_successors(&mut reading.observed).await;
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
        let mut observed = reading.observed.clone();
        self.look_at_successors(&mut observed).await;
        Ends::of(&observed, &self.verifier(reading).signing().await)
    }
}
