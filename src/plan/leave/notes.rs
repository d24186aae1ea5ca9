//! What a leave does not take away, why, and what would.

use super::LeavePlanner;
use crate::{
    cluster::{Kind, Ref},
    hint::Hint,
    name::ClusterName,
    observe::Seen,
    plan::Note,
};

impl LeavePlanner<'_> {
    /// What a person should know.
    pub(super) fn notes(&self) -> Vec<Note> {
        let one = |leaver: &ClusterName| {
            let stays = match self.seen(leaver) {
                None => Some(self.dead(leaver).into()),
                Some(seen) if !self.how.uninstall => installed(leaver, seen),
                Some(seen) if !self.how.crds => definitions(leaver, seen),
                Some(_) => None,
            };
            let abandoned = self.abandoned(leaver).map(Note::from);
            let mut notes = self.foreign(leaver);
            notes.extend(
                [stays, abandoned, self.trusted(leaver).map(Note::from)]
                    .into_iter()
                    .flatten(),
            );
            notes
        };
        let mut notes: Vec<_> = self.how.leavers.iter().flat_map(one).collect();
        notes.extend(self.never_proved());
        notes
    }

    /// What stays because it is not meshlink's, with whose it is.
    fn foreign(&self, leaver: &ClusterName) -> Vec<Note> {
        let Some(seen) = self.seen(leaver) else {
            return vec![];
        };
        let gateway = &self.mesh.gateway;
        let mut releases = vec![(gateway.name.as_str(), gateway.namespace.as_str())];
        let istio = self.mesh.istio.namespace.as_str();
        if self.how.uninstall {
            releases.extend([("istiod", istio), ("istio-base", istio)]);
        }
        let theirs = adopted(leaver, seen, istio);
        let mut notes: Vec<_> = releases
            .into_iter()
            .flat_map(|release| self.foreign_release(leaver, seen, release))
            .collect();
        notes.extend(theirs);
        if self.how.uninstall {
            notes.extend(self.foreign_namespaces(leaver, seen));
        }
        notes
    }

    fn foreign_release(
        &self,
        leaver: &ClusterName,
        seen: &Seen,
        (release, namespace): (&str, &str),
    ) -> Vec<Note> {
        let Some(found) = seen.releases.get(release) else {
            return vec![];
        };
        if !self.made(seen, release) {
            let text = format!(
                "release {release} stays in {leaver}: meshlink did not make it; to remove it:"
            );
            let hint = Hint::helm(leaver, ["-n", namespace, "uninstall", release]);
            return vec![Note::with(text, vec![hint])];
        }
        let one = |h: &crate::observe::Held| {
            let whose = h.foreign.as_ref()?;
            let object = &h.reference;
            Some(format!(
                "{object} stays in {leaver}: the records of release {release} name it, but it is {whose}"
            ))
        };
        let stay = found.held.iter().filter_map(one);
        stay.map(Note::from).collect()
    }

    fn foreign_namespaces(&self, leaver: &ClusterName, seen: &Seen) -> Vec<Note> {
        let (istio, ingress) = (&self.mesh.istio.namespace, &self.mesh.gateway.namespace);
        let mut names = vec![ingress.as_str(), istio.as_str()];
        names.dedup();
        let one = |name: &str| {
            let there = Ref::cluster(&Kind::NAMESPACE, name);
            let why = match seen.strangers.get(name).map(Vec::as_slice) {
                Some([first, rest @ ..]) => {
                    let more: String = rest.iter().take(4).map(|s| format!(", {s}")).collect();
                    let dots = if rest.len() > 4 { ", …" } else { "" };
                    format!("it holds {first}{more}{dots}")
                }
                _ if self.made_namespace(leaver, seen, name) => return None,
                _ => "meshlink did not make it".to_owned(),
            };
            let is_there = seen.live.contains_key(&there);
            is_there.then(|| format!("{there} stays in {leaver}: {why}").into())
        };
        names.into_iter().filter_map(one).collect()
    }

    /// A leaver keeps a certificate that the survivors' root has signed.
    fn trusted(&self, leaver: &ClusterName) -> Option<String> {
        let cacerts = self.seen(leaver).and_then(|s| s.cacerts.as_ref());
        let until = match cacerts {
            Some(cacerts) => cacerts.signer.as_ref().map(|c| c.not_after),
            None if self.how.dead => {
                let held = self.observed.vault.intermediates.get(leaver);
                held.map(|c| c.not_after)
            }
            None => return None,
        };
        if self.rest().is_empty() {
            return None;
        }
        let Some(until) = until else {
            return self.how.dead.then(|| {
                format!(
                    "{leaver}'s intermediate stays trusted by the others until it expires; \
                     the vault on this machine does not hold it and cannot say when"
                )
            });
        };
        let date = until.strftime("%Y-%m-%d");
        Some(format!(
            "{leaver}'s intermediate stays trusted by the others until {date}: \
             whoever holds its key can sign any identity of the mesh until then"
        ))
    }

    fn dead(&self, leaver: &ClusterName) -> String {
        let held: Vec<_> = self.rest().into_iter().map(ClusterName::as_str).collect();
        let of = match held.as_slice() {
            [] => String::new(),
            names => format!(
                ", with the credentials it holds for {}, which answer 401 from now on",
                names.join(" and ")
            ),
        };
        format!(
            "{leaver} was not contacted: what meshlink made there stays{of}; a load balancer \
             that outlived it has to be deleted in the cloud"
        )
    }

    fn abandoned(&self, leaver: &ClusterName) -> Option<String> {
        let gateway = &self.seen(leaver)?.gateway;
        let gone = gateway.keepers.iter().any(|k| k.runs == Some(false));
        (self.how.abandon && gone).then(|| {
            format!(
                "{leaver}'s load balancer {} stays in the cloud, with its target groups, interfaces \
                 and security groups: delete it there",
                gateway.addresses.join(", ")
            )
        })
    }

    fn never_proved(&self) -> Option<Note> {
        let rest = self.rest();
        let linked = rest.iter().any(|n| {
            let seen = self.seen(n);
            seen.is_some_and(|s| !s.remote_secrets.is_empty())
        });
        (rest.len() > 1 && linked && !self.stands()).then(|| {
            let text = "the remaining clusters were not a proved mesh before this leave, and are not proved now";
            Note::with(text, vec![Hint::join(&rest)])
        })
    }
}

/// An Istio that was there before meshlink came: it stays, and how its values of then come back.
fn adopted(leaver: &ClusterName, seen: &Seen, istio: &str) -> Option<Note> {
    let (release, found) = seen.release("istiod", "istiod")?;
    if !found.made_for.is_empty() || !seen.istiod.present {
        return None;
    }
    let text = format!(
        "the Istio of {leaver} was there before it became a member, and stays as it is; the values that it had then are those \
         of an earlier revision of release {release}:"
    );
    let hint = Hint::helm(leaver, ["-n", istio, "history", release]);
    Some(Note::with(text, vec![hint.remark("then helm rollback")]))
}

/// What a leave that does not uninstall leaves where it is.
fn installed(leaver: &ClusterName, seen: &Seen) -> Option<Note> {
    let parts = [
        (seen.istiod.present, "istiod"),
        (seen.cacerts.is_some(), "its cacerts"),
        (!seen.crds.is_empty(), "Istio's CRDs"),
        (seen.claim.is_some(), "the root claim"),
    ];
    let there: Vec<_> = parts
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, p)| *p)
        .collect();
    (!there.is_empty()).then(|| {
        let text = format!(
            "{} were kept in {leaver} so that existing sidecars keep working; to remove them:",
            there.join(", ")
        );
        Note::with(text, vec![uninstall(leaver)])
    })
}

fn definitions(leaver: &ClusterName, seen: &Seen) -> Option<Note> {
    (!seen.crds.is_empty()).then(|| {
        let text = format!(
            "Istio's CRDs stay in {leaver}, because every object of these kinds would go with them; \
             to remove both:"
        );
        Note::with(text, vec![uninstall(leaver)])
    })
}

fn uninstall(leaver: &ClusterName) -> Hint {
    Hint::meshlink(["leave", leaver.as_str(), "--uninstall", "--crds"])
}
