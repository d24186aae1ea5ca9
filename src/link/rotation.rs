//! How far a change of root has come, for whoever looks.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Meshlink, failure::Failure};
use crate::{
    name::ClusterName,
    observe::{Seen, Succession, Unreachable},
    plan::rotate::PROJECTED,
    verify::rotation::{Aim, Phase, Stage},
};

/// A change of root, as it is seen now.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RotationSeen {
    /// The root the members are bound to, by its public key.
    pub root: Option<String>,
    /// What it is being changed to; none where it is not.
    pub change: Option<Succession>,
    /// How far all members have come; none where one of them could not be read.
    pub phase: Option<Phase>,
    /// The members that could be read.
    pub members: Vec<MemberTurned>,
    /// Those that could not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<Unreachable>,
}

/// How far one member has come.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MemberTurned {
    /// The member.
    pub cluster: ClusterName,
    /// Its phase; none where its `cacerts` is nothing that a change of root writes.
    pub phase: Option<Phase>,
    /// How many proxies it has.
    pub proxies: usize,
    /// How many of them have what this phase brings.
    pub ready: usize,
    /// What is waited for, a line each.
    pub waits: Vec<String>,
}

impl Meshlink {
    /// Looks at every proxy of every member. Nothing is changed. `projected` is how long kubelets take at most, if
    /// it is not what was said when the change was begun.
    pub(crate) async fn rotation(
        &self,
        projected: Option<Duration>,
    ) -> Result<RotationSeen, Failure> {
        let mut observed = self.read().await?.observed;
        let change = observed.succession().cloned();
        if change.is_some() {
            let lens = self.lens();
            observed = match lens.look_at_proxies(observed).await {
                Ok(observed) => observed,
                Err(unseen) => return Err(self.unread(&unseen).await),
            };
            self.with_unreachable(&lens, &mut observed).await;
        }
        let projected = projected.or_else(|| observed.projected());
        let projected = projected.unwrap_or(PROJECTED);
        let members = change.iter().flat_map(|change| {
            let seen = observed.clusters.iter();
            seen.map(|(name, seen)| self.turned(name, seen, change, projected))
        });
        let members: Vec<_> = members.collect();
        let phases = members.iter().map(|member| member.phase);
        let least: Option<Vec<_>> = phases.collect();
        let least = least.and_then(|phases| phases.into_iter().min());
        Ok(RotationSeen {
            root: observed.root(&self.mesh.id).map(str::to_owned),
            phase: least.filter(|_| observed.unreachable.is_empty()),
            change,
            members,
            unreachable: observed.unreachable.into_values().collect(),
        })
    }

    fn turned(
        &self,
        name: &ClusterName,
        seen: &Seen,
        change: &Succession,
        projected: Duration,
    ) -> MemberTurned {
        let stage = seen.cacerts.as_ref();
        let stage = stage.and_then(|cacerts| Stage::of(cacerts, change));
        let trust = seen.trust.clone().unwrap_or_default();
        let held = trust.proxies.iter().filter_map(|p| p.held.as_ref().ok());
        let mut roots = held.flat_map(|held| &held.roots);
        let to = roots.find(|root| root.facts().spki_sha256 == change.to);
        let now = (self.environment.clock)();
        let standing =
            stage.map(|stage| Aim::forth(stage, change, to, projected).judge(&trust, now));
        let standing = standing.unwrap_or_default();
        MemberTurned {
            cluster: name.clone(),
            phase: stage.map(|stage| Phase::of(stage, standing.is_met())),
            proxies: standing.proxies,
            ready: standing.ready,
            waits: standing.waits,
        }
    }
}
