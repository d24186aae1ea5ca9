//! Writing and deleting what is ours, and nothing else: whose an object is, is asked again at the moment of the effect.

use serde_json::{Value, json};

use super::StepContext;
use crate::{
    cluster::{self, Cluster, Created, Delete, Kind, Manager, Ref},
    engine::Error,
    owner::Owner,
    plan::{
        Deletion, Refusal, Step,
        ownership::{Ownership, ownership},
    },
};

/// Why an object was not written.
pub(crate) enum Unwritten {
    /// The API server said no, or nothing.
    Cluster(cluster::Error),
    /// It is somebody else's.
    Foreign(Refusal),
}

impl From<cluster::Error> for Unwritten {
    fn from(error: cluster::Error) -> Self {
        Self::Cluster(error)
    }
}

impl From<Unwritten> for Error {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Cluster(error) => Self::Cluster(error),
            Unwritten::Foreign(refusal) => Self::Refused(refusal),
        }
    }
}

/// Writes an object of meshlink's own: made, or brought to what it should be; one of somebody else's is refused.
pub(crate) async fn write(
    cluster: &Cluster,
    owner: &Owner,
    object: &Value,
) -> Result<Value, Unwritten> {
    let live = match cluster.create(&owner.stamped(object, None)).await? {
        Created::Created(made) => return sealed(cluster, owner, made).await,
        Created::Exists(live) => live,
    };
    match ownership(object, Some(&live), owner) {
        Ownership::Absent | Ownership::Ours => sealed(cluster, owner, live).await,
        Ownership::OursChanged => {
            let mut wanted = owner.stamped(object, Some(&live));
            // Not what somebody has put in its place meanwhile.
            wanted["metadata"]["uid"] = live["metadata"]["uid"].clone();
            let applied = cluster.apply(&wanted, Manager::Meshlink, true).await?;
            Ok(applied.object)
        }
        Ownership::Foreign { whose } => Err(Unwritten::Foreign(foreign(cluster, object, &whose))),
    }
}

/// Writes the UID of a namespace into its mark: a copy of its YAML then does not pass for it.
async fn sealed(cluster: &Cluster, owner: &Owner, live: Value) -> Result<Value, Unwritten> {
    let Some(place) = Ref::of(&live).filter(|r| r.kind == Kind::NAMESPACE) else {
        return Ok(live);
    };
    let uid = &live["metadata"]["uid"];
    let stamped = owner.stamped(&live, Some(&live));
    let annotations = &stamped["metadata"]["annotations"];
    if *annotations == live["metadata"]["annotations"] {
        return Ok(live);
    }
    let patch = json!({"metadata": {"uid": uid, "annotations": annotations}});
    Ok(cluster.merge(&place, &patch).await?.object)
}

/// Somebody else's object is in the way.
pub(super) fn foreign(cluster: &Cluster, object: &Value, whose: &str) -> Refusal {
    let reason = format!(
        "{} is not meshlink's ({whose}), so it is not changed",
        crate::owner::place(object)
    );
    Refusal {
        cluster: Some(cluster.name().clone()),
        reason,
        hints: Ref::of(object)
            .map(|r| r.describe(cluster.name()))
            .into_iter()
            .collect(),
    }
}

impl StepContext<'_> {
    pub(super) fn owner(&self, cluster: &Cluster) -> Result<&Owner, Error> {
        let name = cluster.name();
        self.run.owners.get(name).ok_or_else(|| Error::NotAMember {
            cluster: name.clone(),
        })
    }

    pub(super) async fn write(&self, cluster: &Cluster, object: &Value) -> Result<Value, Error> {
        Ok(write(cluster, self.owner(cluster)?, object).await?)
    }

    /// Deletes an object of meshlink's own; says so where it stays because it is not.
    pub(super) async fn remove(
        &self,
        cluster: &Cluster,
        place: &Ref,
    ) -> Result<Option<String>, Error> {
        let Some(live) = cluster.find(place).await? else {
            return Ok(None);
        };
        if let Some(whose) = self.owner(cluster)?.whose(&live) {
            return Ok(Some(format!(
                "{place} stays: it is not meshlink's ({whose})"
            )));
        }
        let how = Delete::background().only(&live);
        cluster.delete(place, &how).await?;
        Ok(None)
    }

    /// What the plan says that a step deletes.
    pub(super) fn planned(&self, step: &Step) -> &[Deletion] {
        let planned = self.run.deletions.get(step);
        planned.map(Vec::as_slice).unwrap_or_default()
    }
}
