//! New intermediates in the place of old ones, member after member, with no request lost.
//!
//! A proxy keeps its certificate until half of its life is over, whatever istiod signs with, unless the set of roots
//! changes. So the new intermediate comes with a throw-away root beside the mesh's, and when every proxy that follows has
//! a certificate of the new intermediate, that root is taken away again. The mesh's roots stay as they are throughout.

use crate::{
    ends::{Row, Signing, What},
    hint::Hint,
    name::ClusterName,
    observe::{CacertsSeen, Observed, Seen},
    pki::{self, CertFacts, NewIntermediate, Profile, life::State, renewal::outdated},
    plan::{Note, Plan, Refusal, Step, signer},
    spec::Mesh,
};

/// What is to be done about the intermediate of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    /// A new one, for this reason.
    Renewal(String),
    /// The end of a renewal that was interrupted: `cacerts` is as the vault has it, and a throw-away root is in it.
    Reissue(String),
    /// istiod does not sign with what is in `cacerts`.
    Reload(String),
}

/// What intermediates are renewed by.
#[derive(Clone, Copy)]
pub(in crate::plan) struct Intermediates<'a> {
    pub(in crate::plan) mesh: &'a Mesh,
    pub(in crate::plan) observed: &'a Observed,
    /// What istiods say of themselves, as far as they were asked.
    pub(in crate::plan) signing: &'a Signing,
}

/// Whether the plan renews what a row of the table is about.
pub(super) fn renews(plan: &Plan, row: &Row) -> bool {
    let about = matches!(
        row.what,
        What::Intermediate | What::Signing | What::ThrowAwayRoot
    );
    let member = |name: &String| {
        let name = name.parse().ok();
        name.is_some_and(|name: ClusterName| {
            plan.holds(&Step::SettleCacerts(name.clone()))
                || plan.holds(&Step::InstallCacerts(name))
        })
    };
    about && row.members.iter().all(member)
}

impl<'a> Intermediates<'a> {
    /// Adds the steps, one member after the other.
    pub(in crate::plan) fn plan(&self, plan: &mut Plan) {
        let mut before = None;
        for (name, seen) in self.members() {
            let Some((due, cacerts)) = self.due(name, seen) else {
                continue;
            };
            if let Due::Renewal(why) = &due
                && let Some(note) = self.impossible(name, why)
            {
                plan.notes.push(note);
                continue;
            }
            self.renew(plan, name, seen, cacerts, due, before.take());
            before = Some(name.clone());
        }
    }

    /// Why nothing can be renewed although something is to be. A join goes on without.
    pub(in crate::plan) fn refusals(&self) -> Vec<Refusal> {
        let members = self.members();
        let against = members.filter_map(|(name, seen)| {
            let (due, _) = self.due(name, seen)?;
            let Due::Renewal(why) = due else { return None };
            let Note { text, hints } = self.impossible(name, &why)?;
            Some(Refusal {
                cluster: None,
                reason: text,
                hints,
            })
        });
        against.collect()
    }

    /// Whether something is to be done in a member that holds a `cacerts` of ours.
    pub(in crate::plan) fn is_due(&self, name: &ClusterName) -> bool {
        let seen = self.observed.clusters.get(name);
        seen.is_some_and(|seen| self.due(name, seen).is_some())
    }

    fn members(&self) -> impl Iterator<Item = (&'a ClusterName, &'a Seen)> + use<'a> {
        let observed = self.observed;
        let names = self.mesh.clusters.iter().map(|m| &m.name);
        names.filter_map(|name| Some((name, observed.clusters.get(name)?)))
    }

    /// The root that new intermediates are made below, if it is the one this member is bound to.
    fn root(&self, name: &ClusterName) -> Option<&'a CertFacts> {
        let root = self.observed.vault.certificate.as_ref()?;
        let claim = self.observed.clusters.get(name)?.claim.as_ref()?;
        let elsewhere = &self.observed.vault.elsewhere;
        (claim.root == root.spki_sha256 && !elsewhere.contains(&claim.root)).then_some(root)
    }

    /// What is due in a member that has a `cacerts` of ours; one without, a join gives its first. While one root takes the
    /// place of another, new intermediates come with that.
    fn due(&self, name: &ClusterName, seen: &'a Seen) -> Option<(Due, &'a CacertsSeen)> {
        if self.observed.succession().is_some() {
            return None;
        }
        let cacerts = seen.cacerts.as_ref().filter(|c| c.ours)?;
        let signer = cacerts.signer.as_ref()?;
        // Without the vault, its own root tells whether a new one could last longer.
        let held = cacerts.bundle.iter().find(|r| !pki::is_throw_away(r));
        let root = self.root(name).or(held)?;
        let mut left = cacerts
            .throw_aways()
            .chain(seen.throw_aways.iter().map(String::as_str));
        let due = match self.outdated(name, signer, root) {
            Some(why) => Due::Renewal(why),
            None if left.next().is_some() => {
                Due::Reissue("a throw-away root is there: a renewal was interrupted".into())
            }
            None => Due::Reload(self.unloaded(name, signer)?),
        };
        // Where no istiod runs, nothing is to be loaded or followed.
        if !seen.istiod.present && !matches!(due, Due::Renewal(_)) {
            return None;
        }
        Some((due, cacerts))
    }

    /// Why istiod is to be made to load what is in `cacerts`.
    fn unloaded(&self, name: &ClusterName, signer: &CertFacts) -> Option<String> {
        let said = self.signing.get(name)?;
        let other = said
            .iter()
            .find(|(_, until)| (until.as_second() - signer.not_after.as_second()).abs() > 1);
        let (pod, until) = other?;
        Some(format!(
            "istiod replica {pod} signs with a certificate that ends on {}, which is not the one in cacerts",
            pki::renewal::date(*until)
        ))
    }

    fn outdated(&self, name: &ClusterName, found: &CertFacts, root: &CertFacts) -> Option<String> {
        let profile = Profile::intermediate().ok()?;
        let new = NewIntermediate::of(self.mesh, name, &profile, self.observed.now);
        outdated(found, root, &new)
    }

    /// What stands against a renewal: the key of the root is not here, or its time is over.
    fn impossible(&self, name: &ClusterName, why: &str) -> Option<Note> {
        let claim = self.observed.clusters.get(name)?.claim.as_ref();
        let bound = claim.map(|c| pki::short(&c.root)).unwrap_or("none");
        let Some(root) = self.root(name) else {
            let text = format!(
                "{name}'s intermediate is to be renewed ({why}), and that needs the key of root {bound}, \
                 which is not in the vault on this machine"
            );
            let hints = vec![Hint::note(
                "run meshlink renew where the mesh was made, or copy that machine's vault folder here",
            )];
            return Some(Note::with(text, hints));
        };
        let silent = signer::silent(self.observed, name).filter(|_| !self.is_issued(name));
        if let Some((named, hints)) = silent {
            let text = format!("{name}'s intermediate is to be renewed ({why}), and {named}");
            return Some(Note::with(text, hints));
        }
        let ended = root.life().state(self.observed.now) == State::Ended;
        ended.then(|| {
            let text = format!(
                "{name}'s intermediate is to be renewed ({why}), and root {bound} itself ended on {}",
                pki::renewal::date(root.not_after)
            );
            Note::with(text, vec![Hint::meshlink(["rotate", "root"])])
        })
    }

    /// The steps for one member, after those for another.
    fn renew(
        &self,
        plan: &mut Plan,
        name: &ClusterName,
        seen: &Seen,
        cacerts: &CacertsSeen,
        due: Due,
        before: Option<ClusterName>,
    ) {
        let c = || name.clone();
        let mut needs: Vec<_> = before.map(Step::SettleCacerts).into_iter().collect();
        let (broken, why) = match due {
            Due::Renewal(why) => {
                if !self.is_issued(name) {
                    plan.add(Step::IssueIntermediate(c()), vec![], why.clone());
                }
                needs.push(Step::IssueIntermediate(c()));
                if !seen.istiod.present {
                    // Nobody has a certificate of the old one.
                    plan.add(Step::InstallCacerts(c()), needs, why);
                    return;
                }
                plan.add(Step::RenewCacerts(c()), needs.clone(), why.clone());
                needs.push(Step::RenewCacerts(c()));
                // With one that has ended, istiod does not start, and its proxies have lost it.
                (!cacerts.problems.is_empty(), why)
            }
            Due::Reissue(why) => (false, why),
            Due::Reload(why) => (true, why),
        };
        if broken || !seen.istiod.available {
            let why = "istiod does not load them by itself as it is";
            plan.add(Step::RestartIstiod(c()), needs.clone(), why);
            needs.push(Step::RestartIstiod(c()));
        }
        needs.push(Step::AwaitIstiod(c()));
        plan.add(Step::AwaitReissue(c()), needs, why.clone());
        plan.add(Step::SettleCacerts(c()), vec![Step::AwaitReissue(c())], why);
    }

    /// Whether the vault holds one that is as it should be: a run died before it was installed, or the member was one before.
    pub(crate) fn is_issued(&self, name: &ClusterName) -> bool {
        let vault = &self.observed.vault;
        let is_new = || {
            self.observed
                .clusters
                .get(name)
                .is_none_or(|seen| seen.claim.is_none())
        };
        // Of somebody out of reach it is there before the member is bound to their root.
        let coming = vault
            .certificate
            .as_ref()
            .filter(|_| vault.named.is_some() && is_new());
        let both = vault
            .intermediates
            .get(name)
            .zip(self.root(name).or(coming));
        both.is_some_and(|(held, root)| self.outdated(name, held, root).is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        observe::Claim,
        pki::{NewRoot, Root},
    };

    fn day(days: u64) -> Timestamp {
        let start: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        start + Duration::from_secs(days * 24 * 3600)
    }

    /// Two members, with intermediates of day 0, read on another day.
    fn observed(mesh: &Mesh, days: u64) -> Observed {
        let root = Root::create(&NewRoot {
            mesh: &mesh.id,
            key: mesh.trust.key,
            lifetime: mesh.trust.root_lifetime,
            embedded: false,
            profile: &Profile::root().unwrap(),
            now: day(0),
        })
        .unwrap();
        let profile = Profile::intermediate().unwrap();
        let mut observed = Observed {
            now: day(days),
            ..Observed::default()
        };
        for member in &mesh.clusters {
            let new = NewIntermediate::of(mesh, &member.name, &profile, day(0));
            let held = root.issue(&new).unwrap();
            let mut seen = Seen {
                claim: Some(Claim {
                    mesh: mesh.id.to_string(),
                    root: root.facts().spki_sha256.clone(),
                }),
                cacerts: Some(CacertsSeen {
                    bundle: vec![root.facts().clone()],
                    roots: vec![root.facts().spki_sha256.clone()],
                    signer: Some(held.facts().clone()),
                    ours: true,
                    ..CacertsSeen::default()
                }),
                ..Seen::default()
            };
            (seen.istiod.present, seen.istiod.available) = (true, true);
            observed.clusters.insert(member.name.clone(), seen);
        }
        observed.vault.certificate = Some(root.facts().clone());
        observed
    }

    fn steps(mesh: &Mesh, observed: &Observed) -> Vec<String> {
        let signing = Signing::new();
        let mut plan = Plan::default();
        Intermediates {
            mesh,
            observed,
            signing: &signing,
        }
        .plan(&mut plan);
        let steps = plan.finished().steps;
        steps
            .iter()
            .map(|planned| planned.step.to_string())
            .collect()
    }

    #[test]
    fn one_member_comes_after_the_other() {
        let mesh = Mesh::named(&["a".into(), "b".into()]).unwrap();
        assert_eq!(steps(&mesh, &observed(&mesh, 200)), Vec::<String>::new());
        let due = steps(&mesh, &observed(&mesh, 300));
        let at = |step: &str| due.iter().position(|s| s == step).unwrap();
        assert!(at("await-reissue/a") < at("settle-cacerts/a"));
        assert!(at("settle-cacerts/a") < at("renew-cacerts/b"), "{due:?}");
        assert!(!due.iter().any(|s| s.starts_with("restart")), "{due:?}");
    }

    #[test]
    fn what_has_ended_needs_a_restart_and_where_no_istiod_runs_nothing_is_followed() {
        let mesh = Mesh::named(&["a".into(), "b".into()]).unwrap();
        let mut ended = observed(&mesh, 400);
        for seen in ended.clusters.values_mut() {
            seen.cacerts.as_mut().unwrap().problems = vec!["it has expired".into()];
        }
        assert!(steps(&mesh, &ended).contains(&"restart-istiod/a".to_owned()));
        let a: ClusterName = "a".parse().unwrap();
        let bare = ended.clusters.get_mut(&a).unwrap();
        bare.istiod = Default::default();
        let of_a = steps(&mesh, &ended);
        let of_a: Vec<_> = of_a.iter().filter(|s| s.ends_with("/a")).collect();
        assert_eq!(of_a, ["issue-intermediate/a", "install-cacerts/a"]);
    }

    #[test]
    fn without_the_key_nothing_is_planned_and_the_reason_is_told() {
        let mesh = Mesh::named(&["a".into(), "b".into()]).unwrap();
        let mut observed = observed(&mesh, 300);
        observed.vault.certificate = None;
        assert_eq!(steps(&mesh, &observed), Vec::<String>::new());
        let signing = Signing::new();
        let refused = Intermediates {
            mesh: &mesh,
            observed: &observed,
            signing: &signing,
        };
        let refused = refused.refusals();
        assert_eq!(refused.len(), 2);
        assert!(
            refused[0].reason.contains("needs the key of root"),
            "{}",
            refused[0].reason
        );
    }
}
