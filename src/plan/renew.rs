//! What is to be renewed, by the table of ends and by what the mesh file asks for now.
//!
//! | part | what it plans |
//! | --- | --- |
//! | `intermediates` | new intermediates, in place; a join plans the same |
//! | `plan::readers` | tokens, and the authorities of API servers; a join plans the same |

use super::{
    Note, Plan, Refusal, Step,
    readers::{self, ReaderPlanner},
    refresh,
};
use crate::{
    ends::{Ends, Signing},
    name::ClusterName,
    observe::{Observed, Seen},
    spec::Mesh,
    versions::About,
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
    /// Go on where the version of an istiod loses requests by it.
    pub accept_gap: bool,
}

impl Renew {
    /// A renewal of these.
    pub(crate) fn of(what: What) -> Self {
        Self {
            what,
            accept_gap: false,
        }
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
    let about = [What::Tokens, What::ApiCas].map(|what| renew.is_about(what));
    readers(mesh, observed, &mut plan, about.into());
    let refusals = match renew.accept_gap {
        true => vec![],
        false => losses(mesh, observed, &plan),
    };
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut plan = plan.finished();
    plan.notes.extend(pressing(observed, signing, &plan));
    Ok(plan)
}

/// Where the plan would lose requests, by what is known of the versions that run.
fn losses(mesh: &Mesh, observed: &Observed, plan: &Plan) -> Vec<Refusal> {
    let lost = |(name, seen): (&ClusterName, &Seen)| {
        let signs = plan.holds(&Step::RenewCacerts(name.clone()));
        let reads = refresh::changes_in_place(plan, name, seen);
        let about = [(signs, About::Cacerts), (reads, About::RemoteSecrets)];
        let about = about.into_iter().filter(|(is_so, _)| *is_so);
        let member = (name, &seen.istiod.versions);
        let one = |(_, about)| refresh::refusal(&mesh.istio.known, member, about, &["renew"]);
        about.filter_map(one).collect::<Vec<_>>()
    };
    observed.clusters.iter().flat_map(lost).collect()
}

/// What presses and no step of the plan renews.
pub(super) fn pressing(observed: &Observed, signing: &Signing, plan: &Plan) -> Vec<Note> {
    let ends = Ends::of(observed, signing);
    let rest = ends.pressing().filter(|row| !is_renewed(row, plan));
    rest.map(|row| Note::with(row.sentence(), row.hints.clone()))
        .collect()
}

fn is_renewed(row: &crate::ends::Row, plan: &Plan) -> bool {
    intermediates::renews(plan, row) || readers::renews(plan, row)
}

/// What the members' istiods read each other with; a join plans the same.
fn readers(mesh: &Mesh, observed: &Observed, plan: &mut Plan, about: (bool, bool)) {
    let planner = ReaderPlanner { mesh, observed };
    let names = || mesh.clusters.iter().map(|m| &m.name);
    for from in names() {
        for to in names().filter(|to| *to != from) {
            planner.renew(plan, (from, to), about);
        }
    }
    for name in names() {
        planner.refresh(plan, name);
    }
    if about.0 {
        planner.tell(plan);
    }
}
