//! The reading as it is written down, to be diagnosed again elsewhere. The lists of objects are written beside it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Member, Reading};
use crate::{
    aws::preflight,
    ends::Ends,
    hint::{Exact, Hint},
    name::ClusterName,
    observe::Observed,
    spec::{Mesh, Values},
    verify::Verdict,
    versions::Versions,
};

/// What of a reading is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The mesh file, without values of charts.
    mesh: String,
    /// What is known of Istio's versions.
    versions: Versions,
    observed: Observed,
    /// The members of which nobody answered.
    silent: BTreeSet<ClusterName>,
    ends: Ends,
    /// The hints of each row of it.
    renewals: Vec<Vec<Exact>>,
    members: BTreeMap<ClusterName, Member>,
    aws: Vec<Said>,
    balancers: Verdict,
    /// The hints of each claim of it.
    remedies: Vec<Vec<Exact>>,
}

/// What AWS said.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    check: String,
    cluster: String,
    level: preflight::Level,
    text: String,
    fix: Vec<Exact>,
}

fn exact(hints: &[Hint]) -> Vec<Exact> {
    hints.iter().map(Exact::from).collect()
}

fn hints(exact: Vec<Exact>) -> Vec<Hint> {
    exact.into_iter().map(Hint::from).collect()
}

impl Record {
    /// Writes a reading down.
    ///
    /// # Errors
    ///
    /// That the mesh cannot be written as a file; a mistake in meshlink.
    pub(crate) fn of(reading: &Reading) -> Result<Self, String> {
        let mut mesh = reading.mesh.clone();
        for values in [&mut mesh.istio.values, &mut mesh.gateway.values] {
            *values = Values::default();
        }
        mesh.istio.versions = None;
        mesh.gateway.annotations.clear();
        let mut observed = reading.observed.clone();
        for seen in observed.clusters.values_mut() {
            // The certificates that this is told by are not written down.
            let also: Vec<_> = seen
                .cacerts
                .iter()
                .flat_map(|c| c.throw_aways())
                .map(str::to_owned)
                .collect();
            seen.throw_aways.extend(also);
        }
        let unreachable = observed.unreachable.iter();
        let silent = unreachable.filter(|(_, u)| u.silent);
        let said = |finding: &preflight::Finding| Said {
            check: finding.check.to_owned(),
            cluster: finding.cluster.clone(),
            level: finding.level,
            text: finding.text.clone(),
            fix: exact(&finding.fix),
        };
        Ok(Self {
            mesh: mesh.to_yaml().map_err(|e| e.to_string())?,
            versions: mesh.istio.known.clone(),
            silent: silent.map(|(name, _)| name.clone()).collect(),
            renewals: reading.ends.rows.iter().map(|r| exact(&r.hints)).collect(),
            ends: reading.ends.clone(),
            members: reading.members.clone(),
            aws: reading.aws.iter().map(said).collect(),
            remedies: reading
                .balancers
                .checks
                .iter()
                .map(|c| exact(&c.hints))
                .collect(),
            balancers: reading.balancers.clone(),
            observed,
        })
    }

    /// The members whose objects are beside it.
    pub(crate) fn members(&mut self) -> &mut BTreeMap<ClusterName, Member> {
        &mut self.members
    }

    /// The reading again.
    ///
    /// # Errors
    ///
    /// What is wrong with the mesh in it.
    pub(crate) fn into_reading(self) -> Result<Reading, String> {
        let mesh = Mesh::read(&self.mesh, "the bundle's mesh".as_ref());
        let mut mesh = mesh.map_err(|problems| problems.to_string())?;
        mesh.istio.go_by(self.versions);
        let mut observed = self.observed;
        for (name, unreachable) in &mut observed.unreachable {
            unreachable.silent = self.silent.contains(name);
        }
        let mut ends = self.ends;
        for (row, renewals) in ends.rows.iter_mut().zip(self.renewals) {
            row.hints = hints(renewals);
        }
        let mut balancers = self.balancers;
        for (check, remedies) in balancers.checks.iter_mut().zip(self.remedies) {
            check.hints = hints(remedies);
        }
        let said = |said: Said| {
            let mut known = preflight::CHECKS.into_iter();
            Some(preflight::Finding {
                check: known.find(|check| *check == said.check)?,
                cluster: said.cluster,
                level: said.level,
                text: said.text,
                fix: hints(said.fix),
            })
        };
        Ok(Reading {
            mesh,
            observed,
            ends,
            members: self.members,
            aws: self.aws.into_iter().filter_map(said).collect(),
            balancers,
        })
    }
}
