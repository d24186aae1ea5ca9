//! What can be done to a mesh, and who must agree to it first.

use std::sync::OnceLock;

use super::failure::{Failure, Kind};
use crate::{
    cluster::preflight::Purpose,
    engine::{Rotation, sample::Sample},
    name::MeshId,
    observe::Observed,
    plan::{
        Plan, Planned, Step, adopt::Adopt, leave::Leave, renew::Renew, rollout::Rollout,
        rotate::Rotate, upgrade::Upgrade,
    },
};

/// Something to do to a mesh.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// Make all members one mesh, and prove it.
    Join,
    /// Make clusters that came with an Istio fit for the mesh, with no request lost.
    Adopt(Adopt),
    /// Let another version of Istio take the place of the present one in one member, and prove the mesh.
    Upgrade(Upgrade),
    /// Take members out.
    Leave(Leave),
    /// Put new ones in the place of what ends, before it does.
    Renew(Renew),
    /// Ask from every member to every other, through their proxies. Brings a probe to each and takes it away again.
    Verify,
    /// Let one root take the place of another in every member, with no request lost.
    Rotate(Rotate),
    /// Put the sample apps into every member.
    SampleUp(Sample),
    /// Take the sample apps out again.
    SampleDown(Sample),
    /// What of a join needs no key, no chart and no restart, and the proof of it.
    Mend,
    /// Roll workloads, and have their namespace's pods given proxies or none.
    Rollout(Rollout),
}

impl Change {
    /// The rights it needs, where it comes to this plan.
    pub(super) fn purposes(&self, plan: &Plan) -> Vec<Purpose> {
        let own = match self {
            Self::Join | Self::Upgrade(_) | Self::Adopt(_) | Self::Mend => Purpose::Join,
            Self::Leave(_) => Purpose::Leave,
            Self::Renew(_) => Purpose::Renew,
            Self::Verify => Purpose::Verify,
            Self::Rotate(_) => Purpose::Rotate,
            Self::SampleUp(_) | Self::SampleDown(_) => Purpose::Sample,
            Self::Rollout(_) => Purpose::Rollout,
        };
        let renews = |p: &Planned| matches!(p.step, Step::SettleCacerts(_));
        if let Self::Adopt(_) = self {
            return vec![own, Purpose::Rotate];
        }
        match own {
            // A join renews what is due.
            Purpose::Join if plan.steps.iter().any(renews) => vec![own, Purpose::Renew],
            _ => vec![own],
        }
    }

    /// The sample apps it is about, if it is about them.
    pub(super) fn sample(&self) -> Option<Sample> {
        match self {
            Self::SampleUp(sample) | Self::SampleDown(sample) => Some(sample.clone()),
            _ => None,
        }
    }

    /// How workloads are rolled, if they are.
    pub(super) fn rollout(&self) -> Option<Rollout> {
        match self {
            Self::Rollout(how) => Some(how.clone()),
            _ => None,
        }
    }

    /// The change of root, if it is one.
    pub(super) fn rotation(&self, observed: &Observed, mesh: &MeshId) -> Option<Rotation> {
        let Self::Rotate(how) = self else {
            return None;
        };
        Some(Rotation {
            from: observed.root(mesh)?.to_owned(),
            change: observed
                .succession()
                .cloned()
                .map_or_else(OnceLock::new, OnceLock::from),
            how: Rotate {
                projected: how.projected.or_else(|| observed.projected()),
                ..how.clone()
            },
        })
    }

    /// How clusters are adopted, if it does that.
    pub(super) fn adoption(&self) -> Option<Adopt> {
        match self {
            Self::Adopt(how) => Some(how.clone()),
            _ => None,
        }
    }

    /// Who leaves; nobody, unless it is a leave.
    pub(super) fn leave(&self) -> Leave {
        match self {
            Self::Leave(leave) => leave.clone(),
            _ => Leave::default(),
        }
    }
}

/// What somebody has to agree to before anything is written.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The mesh that is changed.
    pub mesh: &'a MeshId,
    /// Its members.
    pub members: &'a [Affected],
    /// Everything that will be done.
    pub plan: &'a Plan,
    /// It was agreed to another plan before, and the clusters have changed since.
    pub again: bool,
    /// A member, and the run whose Lease of it would be taken away.
    pub breaks: Option<(&'a str, &'a str)>,
}

/// A member, and what a plan does to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// What the mesh calls it.
    pub name: String,
    /// The server that answers for it.
    pub server: String,
    /// Its AWS account, if it is an EKS cluster whose account is known.
    pub account: Option<String>,
    /// How many steps change it.
    pub changes: usize,
    /// How many of these delete something that a user may miss.
    pub deletions: usize,
}

/// Whoever has to agree before the first write.
pub trait Consent: Sync {
    /// Whether this may be done. A failure, such as nobody to ask, ends the run as a no does.
    fn ask(&self, question: &Question<'_>) -> Result<bool, Failure>;
}

/// Agrees to everything: whoever uses it has made sure of that by other means.
#[derive(Debug, Clone, Copy)]
pub struct Agreed;

impl Consent for Agreed {
    fn ask(&self, _: &Question<'_>) -> Result<bool, Failure> {
        Ok(true)
    }
}

impl<F: Fn(&Question<'_>) -> Result<bool, Failure> + Sync> Consent for F {
    fn ask(&self, question: &Question<'_>) -> Result<bool, Failure> {
        self(question)
    }
}

/// Nobody agreed.
pub(super) fn declined() -> Failure {
    Failure::from_causes(Kind::Declined, vec!["nothing was changed".into()])
}
