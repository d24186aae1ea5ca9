//! What is to be renewed, by the table of ends and by what the mesh file asks for now.
//!
//! | part | what it plans |
//! | --- | --- |
//! | `intermediates` | new intermediates, in place; a join plans the same |

use super::{Note, Plan, Refusal};
use crate::{
    ends::{Ends, Signing},
    observe::Observed,
    spec::Mesh,
};

pub(super) mod intermediates;

use intermediates::Intermediates;

/// What a renewal is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// Everything that can be renewed.
    #[default]
    All,
    /// The intermediates that istiods sign with.
    Intermediates,
    /// The tokens in remote secrets.
    Tokens,
    /// The CAs of API servers in remote secrets.
    ApiCas,
}

/// A renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renew {
    /// What it is about.
    pub what: What,
}

impl Renew {
    /// A renewal of these.
    pub(crate) fn of(what: What) -> Self {
        Self { what }
    }

    /// Whether it is about these.
    pub(crate) fn is_about(&self, what: What) -> bool {
        self.what == What::All || self.what == what
    }
}

/// The steps of a renewal, or every reason against it at once.
pub(crate) fn renew(
    mesh: &Mesh,
    observed: &Observed,
    signing: &Signing,
    renew: &Renew,
) -> Result<Plan, Vec<Refusal>> {
    let (mut plan, mut refusals) = (Plan::default(), vec![]);
    if renew.is_about(What::Intermediates) {
        let intermediates = Intermediates {
            mesh,
            observed,
            signing,
        };
        refusals.extend(intermediates.refusals());
        intermediates.plan(&mut plan);
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = plan.finished();
    plan.notes.extend(pressing(observed, signing, &plan));
    Ok(plan)
}

/// What presses and no step of the plan renews.
pub(super) fn pressing(observed: &Observed, signing: &Signing, plan: &Plan) -> Vec<Note> {
    let ends = Ends::of(observed, signing);
    let rest = ends.pressing().filter(|row| !is_renewed(row, plan));
    rest.map(|row| Note::with(row.sentence(), row.hints.clone()))
        .collect()
}

fn is_renewed(row: &crate::ends::Row, plan: &Plan) -> bool {
    intermediates::renews(plan, row)
}
