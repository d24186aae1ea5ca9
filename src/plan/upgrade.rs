//! One member at a time from one version of Istio to another. Which member is next, and what stands against it.
//!
//! How far an upgrade has come is told by the members' releases and by nothing else, so anybody can go on with it.

use std::collections::BTreeMap;

use semver::Version;

use super::version::installed;
use crate::{
    hint::Hint, name::ClusterName, observe::Observed, plan::Refusal, spec::Mesh, versions::Effect,
};

/// One member's upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Whose control plane and gateway are replaced.
    pub member: ClusterName,
    /// By this version.
    pub to: Version,
    /// It may be older than what runs.
    pub back: bool,
    /// What is known to be wrong with the version is accepted.
    pub accept_faults: bool,
}

impl Upgrade {
    /// Of this member to this version, if it is newer and nothing is known against it.
    pub fn of(member: ClusterName, to: Version) -> Self {
        Self {
            member,
            to,
            back: false,
            accept_faults: false,
        }
    }
}

/// The members that do not have the version yet, in the mesh's order.
pub(crate) fn pending(mesh: &Mesh, observed: &Observed, to: &Version) -> Vec<ClusterName> {
    let names = mesh.clusters.iter().map(|member| &member.name);
    let has = |name: &&ClusterName| {
        let seen = observed.clusters.get(*name);
        seen.and_then(installed).as_ref() == Some(to)
    };
    names.filter(|name| !has(name)).cloned().collect()
}

/// What stands against a join that asks for a version: the same, though a join changes all members at once.
pub(crate) fn refused_to_a_join(mesh: &Mesh, observed: &Observed) -> Vec<Refusal> {
    let Ok(to) = mesh.istio.version.parse::<Version>() else {
        return vec![];
    };
    let members = observed.clusters.iter();
    let refused = members.filter_map(|(name, seen)| {
        let from = installed(seen)?;
        let upgrade = Upgrade::of(name.clone(), to.clone());
        let (reason, hints) = against(mesh, &from, &upgrade)?;
        Some(Refusal::by(
            name,
            format!("runs Istio {from}, and {to} is asked for: {reason}"),
            hints,
        ))
    });
    refused.collect()
}

/// Everything that stands against it, of all members: between two versions of a mesh there is at most one minor version,
/// while it is upgraded too.
pub(crate) fn refusals(mesh: &Mesh, observed: &Observed, upgrade: &Upgrade) -> Vec<Refusal> {
    let to = &upgrade.to;
    let mut refusals = vec![];
    let asked = &mesh.istio.version;
    if !asked.is_empty() && *asked != to.to_string() {
        refusals.push(Refusal {
            cluster: None,
            reason: format!("the mesh is to run Istio {asked}, and the upgrade is to {to}"),
            hints: vec![Hint::note(format!(
                "write istio.version: {to} into the mesh file, or leave the key out"
            ))],
        });
    }
    if !upgrade.accept_faults {
        refusals.extend(known_bad(mesh, to));
    }
    let mut runs: BTreeMap<Version, Vec<&str>> = BTreeMap::new();
    for (name, seen) in &observed.clusters {
        match installed(seen) {
            Some(version) => runs.entry(version).or_default().push(name.as_str()),
            None => refusals.push(Refusal::by(
                name,
                "has no Istio that a release says the version of",
                vec![Hint::meshlink(["status"])],
            )),
        }
    }
    for (from, names) in &runs {
        if let Some((reason, hints)) = against(mesh, from, upgrade) {
            let reason = format!("{} run Istio {from}: {reason}", names.join(", "));
            refusals.push(Refusal {
                cluster: None,
                reason,
                hints,
            });
        }
    }
    refusals
}

/// Why it must not be installed, if it does not survive what a join and a renewal do.
fn known_bad(mesh: &Mesh, to: &Version) -> Option<Refusal> {
    let mut faults = mesh.istio.known.faults(to);
    let fault = faults.find(|f| f.effect == Effect::Restart)?;
    let default = mesh.istio.known.default().to_string();
    Some(Refusal {
        cluster: None,
        reason: format!("Istio {to}: {fault}"),
        hints: vec![
            Hint::meshlink(["upgrade", "--to", &default]),
            Hint::meshlink(["upgrade", "--to", &to.to_string(), "--accept-known-faults"])
                .remark("in spite of it"),
        ],
    })
}

/// Why a version must not follow another.
fn against(mesh: &Mesh, from: &Version, upgrade: &Upgrade) -> Option<(String, Vec<Hint>)> {
    let to = &upgrade.to;
    if from.major != to.major {
        return Some((format!("{to} is another major version"), vec![]));
    }
    if to < from && !upgrade.back {
        let hint = Hint::meshlink(["upgrade", "--to", &to.to_string(), "--back"]);
        let text = format!("{to} is older");
        return Some((text, vec![hint.remark("if that is meant")]));
    }
    if from.minor.abs_diff(to.minor) < 2 {
        return None;
    }
    let between = match to > from {
        true => from.minor + 1,
        false => from.minor - 1,
    };
    let step = mesh.istio.known.newest_of(from.major, between);
    let hint = step.map(|step| Hint::meshlink(["upgrade", "--to", &step.to_string()]));
    let text = format!("Istio goes one minor version at a time, so 1.{between} comes before {to}");
    Some((text, hint.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{ReleaseSeen, Seen};

    fn mesh() -> Mesh {
        let text = "clusters: [{name: a}, {name: b}]";
        Mesh::read(text, std::path::Path::new("mesh.yaml")).unwrap()
    }

    fn running(versions: &[(&str, &str)]) -> Observed {
        let mut observed = Observed::default();
        for (name, version) in versions {
            let release = ReleaseSeen {
                version: (*version).to_owned(),
                ..ReleaseSeen::default()
            };
            let seen = Seen {
                releases: [("istiod".to_owned(), release)].into(),
                ..Seen::default()
            };
            observed.clusters.insert(name.parse().unwrap(), seen);
        }
        observed
    }

    fn to(version: &str) -> Upgrade {
        Upgrade::of("a".parse().unwrap(), version.parse().unwrap())
    }

    #[test]
    fn what_an_upgrade_is_refused_for() {
        let back = |version| Upgrade {
            back: true,
            ..to(version)
        };
        let accepted = |version| Upgrade {
            accept_faults: true,
            ..to(version)
        };
        for (runs, upgrade, refused) in [
            (["1.30.4", "1.30.4"], to("1.31.4"), None),
            (["1.31.4", "1.30.4"], to("1.31.4"), None),
            (["1.31.3", "1.31.3"], to("1.31.4"), None),
            (
                ["1.29.7", "1.30.4"],
                to("1.31.4"),
                Some("1.30 comes before"),
            ),
            (["1.31.4", "1.31.3"], to("1.31.3"), Some("is older")),
            (["1.31.4", "1.31.3"], back("1.31.3"), None),
            (["1.31.4", "1.31.4"], back("1.30.4"), None),
            (
                ["1.31.4", "1.31.4"],
                back("1.29.7"),
                Some("1.30 comes before"),
            ),
            (["1.30.1", "1.30.1"], to("1.30.2"), Some("is ignored")),
            (["1.30.1", "1.30.1"], accepted("1.30.2"), None),
            (["1.30.1", "1.30.1"], to("2.0.0"), Some("major")),
        ] {
            let observed = running(&[("a", runs[0]), ("b", runs[1])]);
            let said = refusals(&mesh(), &observed, &upgrade);
            let said: Vec<_> = said.iter().map(|r| r.reason.as_str()).collect();
            let case = format!("{runs:?} {upgrade:?}: {said:?}");
            match refused {
                None => assert!(said.is_empty(), "{case}"),
                Some(word) => assert!(said.len() == 1 && said[0].contains(word), "{case}"),
            }
        }
    }

    #[test]
    fn a_join_goes_neither_back_nor_over_a_minor_version() {
        let observed = running(&[("a", "1.30.4"), ("b", "1.30.4")]);
        for (asked, refused) in [
            ("", None),
            ("1.30.4", None),
            ("1.31.4", None),
            ("1.30.3", Some("1.30.3 is older")),
            ("1.32.1", Some("1.31 comes before 1.32.1")),
        ] {
            let mut mesh = mesh();
            mesh.istio.version = asked.to_owned();
            let said = refused_to_a_join(&mesh, &observed);
            let holds = |word| said.len() == 2 && said.iter().all(|r| r.reason.contains(word));
            let as_it_should = refused.map_or(said.is_empty(), holds);
            assert!(as_it_should, "{asked}: {said:?}");
        }
    }

    #[test]
    fn who_has_the_version_is_done() {
        let observed = running(&[("a", "1.31.4"), ("b", "1.31.3")]);
        let left = |to: &str| pending(&mesh(), &observed, &to.parse().unwrap());
        assert_eq!(left("1.31.4"), ["b".parse().unwrap()]);
        assert_eq!(left("1.31.5").len(), 2);
    }
}
