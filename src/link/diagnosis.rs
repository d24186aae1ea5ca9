//! What the doctor looks at: one reading of the members, and what AWS says of them.

use std::{collections::BTreeSet, time::Duration};

use super::{Meshlink, failure::Failure};
use crate::{
    doctor::{self, Diagnosis, Looking, Reading, Scope, Source},
    ends::Ends,
    verify::{Check, Claim, Outcome, Verdict},
};

/// How long one read of a member may take, unless less was asked for.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Everything there is to say of a mesh, by one reading.
pub(crate) struct Examination {
    /// What was read for the checks.
    pub(crate) reading: Reading,
    /// What stands, claim by claim.
    pub(crate) verdict: Verdict,
}

impl Meshlink {
    /// Looks for named causes of what goes wrong. Nothing is changed.
    ///
    /// # Errors
    ///
    /// That no member can be read at all. What of one could not be is in the answer.
    pub(crate) async fn diagnose(&self, scope: &Scope) -> Result<Diagnosis, Failure> {
        let (_, reading) = self.look_closer(scope).await?;
        Ok(doctor::diagnose(&reading, scope))
    }

    /// Reads what all checks need, and judges what stands by the same reading.
    ///
    /// # Errors
    ///
    /// That no member can be read at all.
    pub(crate) async fn examine(&self) -> Result<Examination, Failure> {
        let (read, reading) = self.look_closer(&Scope::default()).await?;
        let verdict = self.judge(&read).await;
        Ok(Examination { reading, verdict })
    }

    async fn look_closer(&self, scope: &Scope) -> Result<(super::look::Reading, Reading), Failure> {
        let sources = scope.sources();
        let limit = self.environment.timeout.min(PATIENCE);
        let lens = self.lens().within(limit);
        let read = self.read_with(&lens).await?;
        let looking = Looking {
            lens: &lens,
            observed: &read.observed,
            clusters: &self.clusters,
            connect: &self.environment.connect,
            limit,
        };
        let balancers = async {
            match sources.contains(&Source::Aws) && !scope.before_join {
                true => self.balancers(&read).await,
                false => Verdict::default(),
            }
        };
        let (members, signing, balancers, aws) = futures::join!(
            doctor::look(&looking, &sources),
            self.signing(&read, &sources),
            balancers,
            self.said_by_aws(&sources)
        );
        let mut observed = read.observed.clone();
        if sources.contains(&Source::Basics) {
            self.look_at_successors(&mut observed).await;
        }
        let mut reading = Reading {
            mesh: self.mesh.clone(),
            ends: Ends::of(&observed, &signing),
            observed,
            members,
            aws: vec![],
            balancers,
        };
        match aws {
            Ok(found) => reading.aws = found,
            Err(why) => {
                for member in reading.members.values_mut() {
                    member.unread.insert(Source::Aws, why.clone());
                }
            }
        }
        Ok((read, reading))
    }

    /// Until when what istiods sign with is valid, as they say; where that is looked at.
    async fn signing(
        &self,
        read: &super::look::Reading,
        sources: &BTreeSet<Source>,
    ) -> crate::ends::Signing {
        match sources.contains(&Source::Istiods) {
            true => self.verifier(read).signing().await,
            false => crate::ends::Signing::new(),
        }
    }

    /// What AWS says of the gateways' load balancers, where it may be asked.
    async fn balancers(&self, read: &super::look::Reading) -> Verdict {
        let with_address = read.observed.clusters.iter();
        let with_address = with_address.filter(|(_, seen)| !seen.gateway.addresses.is_empty());
        let ready = with_address.map(|(name, _)| Check {
            id: Claim::GatewayReady,
            from: name.to_string(),
            to: None,
            outcome: Outcome::Ok,
            evidence: format!("{name}'s gateway has an address"),
            hints: vec![],
        });
        let verdict = Verdict {
            checks: ready.collect(),
            ..Verdict::default()
        };
        self.with_balancers(verdict).await
    }

    /// What AWS says of the networks; nothing where no member is on it.
    async fn said_by_aws(
        &self,
        sources: &BTreeSet<Source>,
    ) -> Result<Vec<crate::aws::preflight::Finding>, String> {
        if !sources.contains(&Source::Aws) {
            return Ok(vec![]);
        }
        let exposure = self.exposure().await;
        exposure.map(|e| e.findings).map_err(|failure| {
            let causes = failure.errors.iter().filter_map(|e| e.causes.first());
            causes.cloned().collect::<Vec<_>>().join("; ")
        })
    }
}
