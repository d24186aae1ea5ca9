//! From a mesh and what was observed to the steps that are missing. Pure.
//!
//! [`desire`] says what every member should hold, [`join`] and [`leave`] compare that with what
//! was observed and keep the steps whose effect is not there yet. A plan carries no secret: where
//! one would show in a change, its fingerprint stands for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{Ref, subset::Change},
    hint::Hint,
    name::{ClusterName, MeshId},
    observe::Held,
    spec::Mesh,
};

pub(crate) mod adopt;
pub(crate) mod desire;
mod exposure;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod mend;
pub(crate) mod ownership;
pub(crate) mod readers;
mod refresh;
pub(crate) mod renew;
pub(crate) mod rollout;
pub(crate) mod rotate;
mod signer;
pub(crate) mod step;
pub(crate) mod upgrade;
pub(crate) mod version;

pub(crate) use adopt::Taken;
pub(crate) use desire::{Desired, Wanted};
pub(crate) use step::Step;

/// What is to be done, in an order that respects every need.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Planned>,
    /// What a person should know though nothing is to be done about it.
    pub notes: Vec<Note>,
    /// The steps that were added, to find one of many.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) held: HashSet<Step>,
}

/// Something to know though a plan does nothing about it. In JSON it is text: the commands stand on lines of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", from = "String")]
#[schemars(inline)]
pub struct Note {
    /// What there is to know.
    pub text: String,
    /// What could be done about it.
    pub hints: Vec<Hint>,
}

impl Note {
    /// With what could be done about it.
    pub fn with(text: impl Into<String>, hints: Vec<Hint>) -> Self {
        Self {
            text: text.into(),
            hints,
        }
    }
}

impl From<String> for Note {
    fn from(text: String) -> Self {
        Self::with(text, vec![])
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        let hints = note.hints.iter().map(|hint| format!("\n{hint}"));
        note.text + &hints.collect::<Self>()
    }
}

/// One step of a plan.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Planned {
    /// What to do.
    #[schemars(with = "String")]
    pub step: Step,
    /// The steps of this plan that must be done before.
    #[schemars(with = "Vec<String>")]
    pub needs: Vec<Step>,
    /// What it does, for people.
    pub describe: String,
    /// Why it is missing.
    pub why: String,
    /// Field by field, where objects differ from what they should be.
    pub changes: Vec<ObjectChange>,
    /// The objects it deletes, as far as they can be told before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(crate) deletes: Vec<Deletion>,
    /// The objects of somebody else's that it hands over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(crate) takes: Vec<Taken>,
}

/// An object that a step deletes, and no other of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// Which.
    pub object: Ref,
    /// Its UID.
    pub uid: String,
}

impl Serialize for Deletion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.object)
    }
}

impl From<&Held> for Deletion {
    fn from(held: &Held) -> Self {
        Self {
            object: held.reference.clone(),
            uid: held.uid.clone(),
        }
    }
}

/// An object that is not as it should be.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ObjectChange {
    /// `Deployment istio-system/istiod`.
    pub object: String,
    /// It does not exist.
    pub missing: bool,
    /// The fields that differ.
    pub fields: Vec<Change>,
}

/// A reason to change nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{reason}", cluster.as_ref().map(|c| format!("cluster {c}: ")).unwrap_or_default())]
pub(crate) struct Refusal {
    /// The cluster that stands against it, if it is one.
    pub cluster: Option<ClusterName>,
    /// What is in the way.
    pub reason: String,
    /// Ways on.
    pub hints: Vec<Hint>,
}

impl Refusal {
    /// A refusal by what was seen in a cluster.
    fn by(cluster: &ClusterName, reason: impl Into<String>, hints: Vec<Hint>) -> Self {
        Self {
            cluster: Some(cluster.clone()),
            reason: reason.into(),
            hints,
        }
    }

    /// By a cluster that says it is in another mesh.
    pub(crate) fn of_another_mesh(cluster: &ClusterName, says: &str, mesh: &MeshId) -> Self {
        let reason = format!("belongs to mesh {says}, not to mesh {mesh}");
        // Who wrote it there is not known: only a name of a mesh is handed on.
        let hint = says.parse::<MeshId>().ok();
        let hint = hint.map(|id| Hint::other_mesh(["status", "--mesh", id.as_str()]));
        Self::by(cluster, reason, hint.into_iter().collect())
    }
}

/// The sample apps of every member, put in or taken out.
pub(crate) fn sample(mesh: &Mesh, install: bool) -> Plan {
    let mut plan = Plan::default();
    for member in &mesh.clusters {
        let name = member.name.clone();
        let step = match install {
            true => Step::InstallSample(name),
            false => Step::RemoveSample(name),
        };
        plan.add(step, vec![], "asked for");
    }
    plan
}

impl Plan {
    /// Nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a step is in the plan.
    pub fn holds(&self, step: &Step) -> bool {
        self.held.contains(step)
    }

    /// Whether all its steps are in another, which somebody has agreed to, and none deletes or hands over what that one did not.
    pub(crate) fn is_within(&self, agreed: &Self) -> bool {
        let agreed = agreed.steps.iter().map(|p| (&p.step, p));
        let agreed: HashMap<_, _> = agreed.collect();
        self.steps.iter().all(|planned| {
            let same = agreed.get(&planned.step);
            same.is_some_and(|same| {
                let deletes = planned.deletes.iter().all(|d| same.deletes.contains(d));
                deletes && planned.takes.iter().all(|t| same.takes.contains(t))
            })
        })
    }

    /// Adds a step; needs outside the plan are dropped when it is finished.
    fn add(&mut self, step: Step, needs: Vec<Step>, why: impl Into<String>) {
        self.add_with(step, needs, why, vec![]);
    }

    fn add_with(
        &mut self,
        step: Step,
        needs: Vec<Step>,
        why: impl Into<String>,
        changes: Vec<ObjectChange>,
    ) {
        let describe = step.describe();
        self.held.insert(step.clone());
        self.steps.push(Planned {
            step,
            needs,
            describe,
            why: why.into(),
            changes,
            deletes: vec![],
            takes: vec![],
        });
    }

    /// Says what the step added last deletes.
    fn deleting(&mut self, deletes: impl IntoIterator<Item = Deletion>) {
        if let Some(planned) = self.steps.last_mut() {
            planned.deletes.extend(deletes);
        }
    }

    /// Says what the step added last hands over.
    fn taking(&mut self, takes: Vec<Taken>) {
        if let Some(planned) = self.steps.last_mut() {
            planned.takes = takes;
        }
    }

    /// Whether it changes what somebody else has installed.
    pub(crate) fn takes_over(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|p| matches!(p.step, Step::HandOver(_) | Step::TrustRoot(_)))
    }

    /// What each step hands over.
    pub(crate) fn takings(&self) -> BTreeMap<Step, Vec<Taken>> {
        let steps = self.steps.iter().filter(|p| !p.takes.is_empty());
        steps.map(|p| (p.step.clone(), p.takes.clone())).collect()
    }

    /// What each step deletes.
    pub(crate) fn deletions(&self) -> BTreeMap<Step, Vec<Deletion>> {
        let steps = self.steps.iter().filter(|p| !p.deletes.is_empty());
        steps.map(|p| (p.step.clone(), p.deletes.clone())).collect()
    }

    /// Keeps only needs that are steps of this plan, and puts every step behind its needs.
    fn finished(mut self) -> Self {
        let all: BTreeSet<Step> = self.steps.iter().map(|p| p.step.clone()).collect();
        for planned in &mut self.steps {
            planned.needs.retain(|need| all.contains(need));
            planned.needs.sort();
            planned.needs.dedup();
        }
        let mut waiting = std::mem::take(&mut self.steps);
        let mut placed = BTreeSet::new();
        while !waiting.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|p| p.needs.iter().all(|n| placed.contains(n)));
            debug_assert!(!ready.is_empty(), "needs run in a circle");
            if ready.is_empty() {
                self.steps.extend(rest);
                break;
            }
            placed.extend(ready.iter().map(|p| p.step.clone()));
            self.steps.extend(ready);
            waiting = rest;
        }
        self
    }
}
