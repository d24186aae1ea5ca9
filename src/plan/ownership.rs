//! Ours or not ours: decided here for everything that a change writes or deletes, before the first write.
//!
//! | object | ours, if |
//! | --- | --- |
//! | what meshlink makes itself | its mark says so: this mesh, this member, this very object |
//! | what a release holds | Helm's own label and annotations name the release |
//! | a namespace | for changing a label: always; for deleting it: its mark says so, with its UID, and nothing foreign is in it |
//! | the claim | its mark says so, and it names this mesh and this root |
//! | `cacerts` | its mark says so; one of somebody else with this mesh's root is used as it is, and never written |
//! | a file that `render` wrote, or what a person has handed over | its annotation names this mesh |
//!
//! What is foreign is neither overwritten nor deleted. The engine asks the same again at the moment of the effect.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Refusal, Wanted,
    desire::{Release, reference},
};
use crate::{
    chart,
    cluster::{Kind, Ref, subset},
    hint::Hint,
    name::ClusterName,
    observe::{CLAIM, Observed, Seen},
    owner::{ADOPT, Owner, RENDERED, maker},
    pki, probe,
    spec::Mesh,
};

/// Whose an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// It is not there.
    Absent,
    /// Ours, and as it should be.
    Ours,
    /// Ours, and not as it should be.
    OursChanged,
    /// Somebody else's.
    Foreign {
        /// Whose, in words.
        whose: String,
    },
}

/// Whose an object of meshlink's own kind is: one it makes itself, and not from a chart.
pub(crate) fn ownership(wanted: &Value, live: Option<&Value>, owner: &Owner) -> Ownership {
    let Some(live) = live else {
        return Ownership::Absent;
    };
    match owner.whose(live) {
        Some(whose) => Ownership::Foreign { whose },
        // What was handed over bears no mark of ours yet.
        None if owner.has_made(live) && subset::drift(wanted, live).is_empty() => Ownership::Ours,
        None => Ownership::OursChanged,
    }
}

/// Whose an object of a release is, where it is not the release's.
pub(crate) fn foreign_to(release: (&str, &str), live: &Value, owner: &Owner) -> Option<String> {
    let (name, namespace) = release;
    let rendered = live["metadata"]["annotations"][RENDERED] == owner.mesh.as_str();
    (!rendered && !chart::apply::is_owned(live, name, namespace)).then(|| maker(live))
}

/// Something in the way.
struct Foreign<'a> {
    object: Ref,
    whose: String,
    release: Option<&'a Release>,
}

/// Why a join may not write into a member, if it may not: everything in the way at once.
pub(super) fn refusal(
    mesh: &Mesh,
    name: &ClusterName,
    wanted: &Wanted,
    seen: &Seen,
) -> Option<Refusal> {
    let owner = seen.owner(&mesh.id, name);
    let mut foreign = labels(wanted, seen, &owner);
    let own = wanted.own.iter().filter(|r| {
        // One that was read as a claim is judged as one.
        r.name != CLAIM || seen.claim.is_none()
    });
    foreign.extend(own.filter_map(|object| {
        let whose = owner.whose(seen.live.get(object)?)?;
        Some(in_the_way(object.clone(), whose, None))
    }));
    for release in [&wanted.base, &wanted.istiod, &wanted.gateway] {
        let refs = release
            .objects()
            .filter_map(|o| reference(o, &release.namespace));
        foreign.extend(refs.filter_map(|object| {
            let at = (release.name.as_str(), release.namespace.as_str());
            let whose = foreign_to(at, seen.live.get(&object)?, &owner)?;
            Some(in_the_way(object, whose, Some(release)))
        }));
    }
    foreign.extend(secrets(mesh, wanted, seen));
    (!foreign.is_empty()).then(|| refuse(mesh, name, "a join would write", &foreign))
}

fn in_the_way(object: Ref, whose: String, release: Option<&Release>) -> Foreign<'_> {
    Foreign {
        object,
        whose,
        release,
    }
}

/// A namespace of somebody else may be used, but what its labels say is not changed.
fn labels<'a>(wanted: &'a Wanted, seen: &Seen, owner: &Owner) -> Vec<Foreign<'a>> {
    let one = |namespace: &Value| {
        let object = Ref::of(namespace)?;
        let live = seen.live.get(&object)?;
        owner.whose(live)?;
        let mut labels = namespace["metadata"]["labels"].as_object()?.iter();
        let other = labels.find_map(|(key, value)| {
            let there = live["metadata"]["labels"][key].as_str()?;
            (value != there).then(|| format!("its label {key} is {there}"))
        })?;
        Some(in_the_way(object, other, None))
    };
    wanted.namespaces.iter().filter_map(one).collect()
}

/// A remote secret for a member under another name: istiod takes only one of two.
fn secrets(mesh: &Mesh, wanted: &Wanted, seen: &Seen) -> Vec<Foreign<'static>> {
    let members = mesh.clusters.iter().map(|m| m.name.as_str());
    let mut names = BTreeSet::new();
    let found = members.filter_map(|name| seen.remote_secrets.get(name));
    let found = found.filter_map(|s| Some((s, s.foreign.clone()?)));
    let found = found.filter(|(s, _)| names.insert(s.name().to_owned()));
    let istio = mesh.istio.namespace.as_str();
    found
        .filter(|(s, _)| !wanted.own.iter().any(|r| r.name == s.name()))
        .map(|(s, whose)| {
            let object = Ref::namespaced(&Kind::SECRET, istio, s.name());
            in_the_way(object, whose, None)
        })
        .collect()
}

fn refuse(mesh: &Mesh, name: &ClusterName, who: &str, foreign: &[Foreign<'_>]) -> Refusal {
    let shown = foreign.iter().take(20);
    let mut list: Vec<_> = shown
        .map(|f| format!("{} ({})", f.object, f.whose))
        .collect();
    if foreign.len() > list.len() {
        list.push(format!("{} more", foreign.len() - list.len()));
    }
    let reason = format!(
        "holds what {who} and is not meshlink's: {}",
        list.join(", ")
    );
    let mut hints: Vec<_> = foreign
        .iter()
        .take(3)
        .flat_map(|f| adopt(mesh, name, f))
        .collect();
    hints.push(Hint::note(
        "what is handed over is changed by a join and may be deleted by a leave; to keep it, move it out of the way",
    ));
    Refusal::by(name, reason, hints)
}

/// The commands that hand an object over.
fn adopt(mesh: &Mesh, name: &ClusterName, foreign: &Foreign<'_>) -> Vec<Hint> {
    let object = &foreign.object;
    let kind = object.kind.kind.to_lowercase();
    let namespace = object.namespace.as_deref();
    let words = |verb: &str, more: &[String]| {
        let at = namespace.map(|n| vec!["-n".to_owned(), n.to_owned()]);
        let what = [verb, "--overwrite", &kind, &object.name].map(str::to_owned);
        Hint::kubectl(
            name,
            [at.unwrap_or_default(), what.into(), more.to_vec()].concat(),
        )
    };
    match foreign.release {
        None => vec![words("annotate", &[format!("{ADOPT}={}", mesh.id)])],
        Some(release) => {
            let (release, space) = (&release.name, &release.namespace);
            let annotations = [
                format!("meta.helm.sh/release-name={release}"),
                format!("meta.helm.sh/release-namespace={space}"),
            ];
            let label = ["app.kubernetes.io/managed-by=Helm".to_owned()];
            vec![words("annotate", &annotations), words("label", &label)]
        }
    }
}

/// The root that members must be bound to: what the vault holds; without one, what the first of them says.
fn root(mesh: &Mesh, observed: &Observed) -> Option<String> {
    let claimed = |name| {
        let claim = observed.clusters.get(name)?.claim.as_ref()?;
        (claim.mesh == mesh.id.as_str()).then(|| claim.root.clone())
    };
    let vault = observed.vault.root.clone();
    vault.or_else(|| mesh.clusters.iter().find_map(|m| claimed(&m.name)))
}

/// Why a member is not believed to be one, by its own claim; none where it is.
pub(crate) fn unbound(mesh: &Mesh, observed: &Observed, name: &ClusterName) -> Option<String> {
    let seen = observed.clusters.get(name)?;
    let Some(claim) = &seen.claim else {
        return Some(format!(
            "is not bound to mesh {}: it has no ConfigMap {}/{CLAIM} of it",
            mesh.id, mesh.istio.namespace
        ));
    };
    if claim.mesh != mesh.id.as_str() {
        return Some(format!(
            "belongs to mesh {}, not to {}",
            claim.mesh, mesh.id
        ));
    }
    let change = observed.succession();
    if change.is_some_and(|change| [&change.from, &change.to].contains(&&claim.root)) {
        return None;
    }
    let root = root(mesh, observed).filter(|root| *root != claim.root)?;
    Some(format!(
        "is bound to root {}, and mesh {} has {}",
        pki::short(&claim.root),
        mesh.id,
        pki::short(&root)
    ))
}

/// Why a proof cannot bring its probe to a member: its namespace is somebody else's.
pub(crate) fn probe_in_the_way(
    mesh: &Mesh,
    observed: &Observed,
    name: &ClusterName,
) -> Option<Refusal> {
    let seen = observed.clusters.get(name)?;
    let object = Ref::cluster(&Kind::NAMESPACE, probe::NAMESPACE);
    let whose = seen.owner(&mesh.id, name).whose(seen.live.get(&object)?)?;
    let foreign = in_the_way(object, whose, None);
    Some(refuse(mesh, name, "a proof would write", &[foreign]))
}

/// Every member that a command would write to and that does not say itself that it is one.
pub(crate) fn strangers(mesh: &Mesh, observed: &Observed) -> Vec<Refusal> {
    let names = mesh.clusters.iter().map(|m| &m.name);
    let one = |name: &ClusterName| {
        let reason = unbound(mesh, observed, name)?;
        let members = mesh.clusters.iter().map(|m| &m.name);
        Some(Refusal::by(name, reason, vec![Hint::join(members)]))
    };
    names.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observe::{Claim, VaultSeen};

    fn mesh() -> Mesh {
        Mesh::named(&["a".into(), "b".into()]).unwrap()
    }

    #[test]
    fn every_state_of_an_object_has_its_name() {
        let owner = Seen {
            uid: "uid-a".into(),
            ..Seen::default()
        }
        .owner(&"mesh".parse().unwrap(), &"a".parse().unwrap());
        let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
            "metadata": {"name": "meshlink", "namespace": "istio-system"}});
        let made = owner.stamped(&wanted, None);
        let with = |change: &dyn Fn(&mut Value)| {
            let mut live = made.clone();
            change(&mut live);
            ownership(&wanted, Some(&live), &owner)
        };
        let foreign = |state| matches!(state, Ownership::Foreign { .. });
        assert_eq!(ownership(&wanted, None, &owner), Ownership::Absent);
        assert_eq!(with(&|_| ()), Ownership::Ours);
        let changed = with(&|live| live["data"]["k"] = json!("w"));
        assert_eq!(changed, Ownership::OursChanged);
        let adopted = with(&|live| live["metadata"]["annotations"] = json!({ADOPT: "mesh"}));
        assert_eq!(adopted, Ownership::OursChanged, "the mark is missing");
        assert!(foreign(with(
            &|live| live["metadata"]["annotations"] = json!({})
        )));
        assert!(foreign(with(
            &|live| live["metadata"]["name"] = json!("copy")
        )));
        let other = |live: &mut Value| {
            let mark = live["metadata"]["annotations"]["meshlink/owner"].clone();
            let mark = mark
                .as_str()
                .unwrap()
                .replace(r#""mesh":"mesh""#, r#""mesh":"other""#);
            live["metadata"]["annotations"]["meshlink/owner"] = json!(mark);
        };
        assert!(foreign(with(&other)));
    }

    #[test]
    fn a_member_is_one_by_its_own_claim_of_this_mesh_and_root() {
        let (mesh, name) = (mesh(), "a".parse().unwrap());
        let why = |claim: Option<(&str, &str)>, vault: Option<&str>| {
            let claim = claim.map(|(mesh, root)| Claim {
                mesh: mesh.into(),
                root: root.into(),
            });
            let seen = Seen {
                claim,
                ..Seen::default()
            };
            let vault = VaultSeen {
                root: vault.map(str::to_owned),
                ..VaultSeen::default()
            };
            let clusters = [("a".parse().unwrap(), seen)].into();
            unbound(
                &mesh,
                &Observed {
                    vault,
                    clusters,
                    ..Observed::default()
                },
                &name,
            )
            .unwrap_or_default()
        };
        assert_eq!(why(Some(("mesh", "r")), Some("r")), "");
        assert_eq!(
            why(Some(("mesh", "r")), None),
            "",
            "who lost the key can leave"
        );
        assert!(why(None, Some("r")).contains("is not bound to mesh mesh"));
        assert!(why(Some(("other", "r")), Some("r")).contains("belongs to mesh other"));
        assert!(why(Some(("mesh", "of-another-one")), Some("r")).contains("is bound to root"));
    }
}
