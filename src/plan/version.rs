//! Which version of Istio each member is given: the one that was asked for, or else the one it has.
//!
//! A program that is newer than the mesh is no reason to change a control plane that runs.

use std::collections::BTreeMap;

use semver::Version;

use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{Observed, Seen},
    plan::Note,
    spec::Mesh,
};

/// By member that was read. `locked` is the newest version of istiod in `meshlink.lock`.
pub(crate) fn versions(
    mesh: &Mesh,
    observed: &Observed,
    locked: Option<&str>,
) -> BTreeMap<ClusterName, String> {
    let names = mesh.clusters.iter().map(|member| &member.name);
    let names = names.filter(|name| !observed.unreachable.contains_key(*name));
    let asked = Some(&mesh.istio.version).filter(|version| !version.is_empty());
    if let Some(asked) = asked {
        return names.map(|name| (name.clone(), asked.clone())).collect();
    }
    let has = |name: &ClusterName| installed(mesh, observed.clusters.get(name)?);
    let newest = mesh.clusters.iter().filter_map(|m| has(&m.name)).max();
    let locked = || locked.and_then(|version| version.parse().ok());
    let other = newest.or_else(locked);
    let other = other.unwrap_or_else(|| mesh.istio.known.default().clone());
    names
        .map(|name| {
            let version = has(name).unwrap_or_else(|| other.clone());
            (name.clone(), version.to_string())
        })
        .collect()
}

/// The newest of a member's releases: an upgrade that began goes on, and no CRD goes back.
fn installed(mesh: &Mesh, seen: &Seen) -> Option<Version> {
    let names = ["istio-base", "istiod", mesh.gateway.name.as_str()];
    let releases = names.iter().filter_map(|name| seen.releases.get(*name));
    releases.filter_map(|r| r.version.parse().ok()).max()
}

/// Says where a member keeps what is older than what a new mesh would be given.
pub(super) fn notes(mesh: &Mesh, observed: &Observed) -> Option<Note> {
    let default = mesh.istio.known.default();
    let mut kept: BTreeMap<Version, Vec<&str>> = BTreeMap::new();
    if mesh.istio.version.is_empty() {
        for (name, seen) in &observed.clusters {
            if let Some(version) = installed(mesh, seen).filter(|version| version < default) {
                kept.entry(version).or_default().push(name.as_str());
            }
        }
    }
    let runs = kept.iter();
    let runs: Vec<_> = runs
        .map(|(version, names)| format!("{version} in {}", names.join(", ")))
        .collect();
    let names = || mesh.clusters.iter().map(|member| &member.name);
    let hint = || Hint::join_again(names()).flag("--istio-version", default);
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
        versions(mesh, observed, locked).into_values().collect()
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
        assert_eq!(all, ["1.29.6", "1.30.5", "1.30.5"]);
        assert!(notes(&mesh, &observed).is_some());
        mesh.istio.version = "1.31.3".into();
        assert_eq!(given(&mesh, &observed, None), ["1.31.3"; 3]);
        assert_eq!(notes(&mesh, &observed), None);
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
