//! Which version of Istio each member is given: the one that was asked for, or else the one it has.
//!
//! A program that is newer than the mesh is no reason to change a control plane that runs.

use std::collections::BTreeMap;

use semver::Version;

use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{Observed, Seen},
    plan::{Note, upgrade::Upgrade},
    spec::{Mesh, OLDEST_ISTIO},
};

/// What a member is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// The control plane and the gateway.
    pub(crate) istio: String,
    /// The CRDs, which never go back.
    pub(crate) crds: String,
}

/// By member that was read. `locked` is the newest version of istiod in `meshlink.lock`; who is upgraded is given the
/// version of the upgrade, while everybody else keeps what they have.
pub(crate) fn versions(
    mesh: &Mesh,
    observed: &Observed,
    locked: Option<&str>,
    upgrade: Option<&Upgrade>,
) -> BTreeMap<ClusterName, Given> {
    let asked = Some(&mesh.istio.version).filter(|v| !v.is_empty() && upgrade.is_none());
    let asked = asked.and_then(|version| version.parse().ok());
    let seen = |name: &ClusterName| observed.clusters.get(name);
    let members = mesh.clusters.iter().map(|member| &member.name);
    let newest = members.clone().filter_map(|name| installed(seen(name)?));
    let locked = || locked.and_then(|version| version.parse().ok());
    let other = newest.max().or_else(locked);
    let other = other.unwrap_or_else(|| mesh.istio.known.default().clone());
    let given = |name: &ClusterName| {
        let raised = upgrade.filter(|u| u.member == *name).map(|u| u.to.clone());
        let kept = || seen(name).and_then(installed).unwrap_or(other.clone());
        let istio = raised.or_else(|| asked.clone()).unwrap_or_else(kept);
        let crds = seen(name).and_then(|seen| released(seen, "istio-base"));
        Given {
            crds: crds
                .max(Some(istio.clone()))
                .map_or_else(String::new, |v| v.to_string()),
            istio: istio.to_string(),
        }
    };
    let read = members.filter(|name| !observed.unreachable.contains_key(*name));
    read.map(|name| (name.clone(), given(name))).collect()
}

/// The version of a member's control plane, as its release says; without one, as what runs says.
pub(super) fn installed(seen: &Seen) -> Option<Version> {
    // One that no release holds is brought from its chart, and not from one that is refused anyway.
    let oldest = Version::parse(OLDEST_ISTIO).ok();
    let runs = || {
        let newest = seen.istiod.versions.iter().max();
        let newest = newest.filter(|version| Some(*version) >= oldest.as_ref());
        newest.filter(|_| seen.istiod.values.is_some()).cloned()
    };
    released(seen, "istiod")
        .or_else(runs)
        .or_else(|| released(seen, "istio-base"))
}

fn released(seen: &Seen, name: &str) -> Option<Version> {
    let chart = name.strip_prefix("istio-").unwrap_or(name);
    seen.release(name, chart)?.1.version.parse().ok()
}

/// Says where a member keeps what is older than what a new mesh would be given.
pub(super) fn notes(mesh: &Mesh, observed: &Observed) -> Option<Note> {
    let default = mesh.istio.known.default();
    let mut kept: BTreeMap<Version, Vec<&str>> = BTreeMap::new();
    if mesh.istio.version.is_empty() {
        for (name, seen) in &observed.clusters {
            if let Some(version) = installed(seen).filter(|version| version < default) {
                kept.entry(version).or_default().push(name.as_str());
            }
        }
    }
    let runs = kept.iter();
    let runs: Vec<_> = runs
        .map(|(version, names)| format!("{version} in {}", names.join(", ")))
        .collect();
    let hint = || Hint::meshlink(["upgrade", "--to", &default.to_string()]);
    (!runs.is_empty()).then(|| {
        let text = format!(
            "Istio {} is kept; {default} is what a new mesh would be given",
            runs.join(", and ")
        );
        Note::with(text, vec![hint()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::ReleaseSeen;

    fn mesh() -> Mesh {
        let text = "clusters: [{name: a}, {name: b}, {name: c}]";
        Mesh::read(text, std::path::Path::new("mesh.yaml")).unwrap()
    }

    fn holding(releases: &[(&str, &str, &str)]) -> Observed {
        let mut observed = Observed::default();
        for (member, release, version) in releases {
            let seen: &mut Seen = observed
                .clusters
                .entry(member.parse().unwrap())
                .or_default();
            let made = ReleaseSeen {
                version: (*version).to_owned(),
                ..ReleaseSeen::default()
            };
            seen.releases.insert((*release).to_owned(), made);
        }
        observed
    }

    fn given(mesh: &Mesh, observed: &Observed, locked: Option<&str>) -> Vec<String> {
        let all = versions(mesh, observed, locked, None).into_values();
        all.map(|given| match given.istio == given.crds {
            true => given.istio,
            false => format!("{} with CRDs of {}", given.istio, given.crds),
        })
        .collect()
    }

    #[test]
    fn a_member_keeps_its_version_and_a_new_one_is_given_the_newest_of_the_others() {
        let mut mesh = mesh();
        let observed = holding(&[
            ("a", "istiod", "1.29.6"),
            ("b", "istiod", "1.30.4"),
            ("b", "istio-base", "1.30.5"),
        ]);
        let all = given(&mesh, &observed, Some("1.31.9"));
        assert_eq!(all, ["1.29.6", "1.30.4 with CRDs of 1.30.5", "1.30.4"]);
        assert!(notes(&mesh, &observed).is_some());
        mesh.istio.version = "1.31.3".into();
        assert_eq!(given(&mesh, &observed, None), ["1.31.3"; 3]);
        assert_eq!(notes(&mesh, &observed), None);
    }

    #[test]
    fn an_upgrade_is_of_one_member_whatever_the_mesh_file_says_of_all() {
        let mut mesh = mesh();
        mesh.istio.version = "1.30.5".into();
        let observed = holding(&[("a", "istiod", "1.30.4"), ("b", "istiod", "1.30.4")]);
        let upgrade = Upgrade::of("b".parse().unwrap(), "1.30.5".parse().unwrap());
        let all = versions(&mesh, &observed, None, Some(&upgrade)).into_values();
        let all: Vec<_> = all.map(|given| given.istio).collect();
        assert_eq!(all, ["1.30.4", "1.30.5", "1.30.4"]);
    }

    #[test]
    fn what_nobody_has_is_what_the_lock_says_or_else_the_table() {
        let mesh = mesh();
        let nothing = Observed::default();
        assert_eq!(given(&mesh, &nothing, Some("1.30.4")), ["1.30.4"; 3]);
        let default = mesh.istio.known.default().to_string();
        assert_eq!(given(&mesh, &nothing, None), [default.as_str(); 3]);
        assert_eq!(notes(&mesh, &nothing), None);
        let broken = holding(&[("a", "istiod", "somebody's own")]);
        assert_eq!(given(&mesh, &broken, None)[0], default);
    }
}
