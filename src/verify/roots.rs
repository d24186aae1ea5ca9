//! Whether a member trusts the root of the mesh, and no other beside it.

use super::{Check, Claim, Outcome};
use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{Seen, Succession},
    pki::short,
};

/// By what its istiod publishes, and by the Secret its istiod reads. `mesh` is the root of the mesh; while it is changed,
/// the other is trusted too.
pub(super) fn judge(
    name: &ClusterName,
    seen: &Seen,
    mesh: Option<&str>,
    change: Option<&Succession>,
) -> Check {
    let published = &seen.published_roots;
    let is_expected = |root: &&String| change.is_some_and(|change| change.names(root));
    let is_mesh = |root: &&String| Some(root.as_str()) == mesh || is_expected(root);
    if published.is_empty() {
        return failed(name, format!("istiod in {name} publishes no root"));
    }
    if let (Some(mesh), None) = (mesh, published.iter().find(is_mesh)) {
        let all = list(published);
        let text = format!(
            "{name} publishes root {all}, and the root of the mesh is {}",
            short(mesh)
        );
        return failed(name, text);
    }
    let held = seen.cacerts.iter().flat_map(|c| &c.roots);
    let others = |roots: Vec<&'_ String>| -> Vec<String> {
        let roots = others(roots, mesh).into_iter();
        roots.filter(|root| !is_expected(root)).cloned().collect()
    };
    let places = [
        (
            "ConfigMap istio-ca-root-cert",
            others(published.iter().collect()),
        ),
        ("Secret cacerts", others(held.collect())),
    ];
    let others: Vec<_> = places
        .iter()
        .filter(|(_, others)| !others.is_empty())
        .map(|(place, others)| format!("{} ({place})", list(others)))
        .collect();
    match others.is_empty() {
        true => Check {
            id: Claim::SameRoot,
            from: name.to_string(),
            to: None,
            // Whoever has not begun it should look.
            outcome: match change {
                None => Outcome::Ok,
                Some(_) => Outcome::Warning,
            },
            evidence: match change {
                None => format!("{name} publishes root {}", list(published)),
                Some(change) => format!(
                    "{name} publishes root {} while the root is changed from {} to {}",
                    list(published),
                    short(&change.from),
                    short(&change.to)
                ),
            },
            hints: match change {
                None => vec![],
                Some(_) => vec![Hint::meshlink(["rotate", "root", "--status"])],
            },
        },
        false => failed(name, beside(name, &others.join(" and "), mesh)),
    }
}

/// By the roots its probe's proxy trusts; nothing where these are as they should be.
pub(super) fn judge_proxy(
    name: &ClusterName,
    held: &[String],
    mesh: &str,
    change: Option<&Succession>,
) -> Option<Check> {
    let is_expected = |root: &&String| change.is_some_and(|change| change.names(root));
    if held.is_empty() || change.is_some() && held.iter().all(|root| is_expected(&root)) {
        return None;
    }
    if !held.iter().any(|root| root == mesh) {
        let (held, mesh) = (list(held), short(mesh));
        let text =
            format!("a proxy in {name} trusts root {held}, and the root of the mesh is {mesh}");
        return Some(failed(name, text));
    }
    let others = others(held, Some(mesh));
    let text = beside(name, &format!("{} (a proxy)", list(&others)), Some(mesh));
    (!others.is_empty()).then(|| failed(name, text))
}

fn others<'a>(roots: impl IntoIterator<Item = &'a String>, mesh: Option<&str>) -> Vec<&'a String> {
    let roots = roots.into_iter();
    roots.filter(|root| Some(root.as_str()) != mesh).collect()
}

fn beside(name: &ClusterName, others: &str, mesh: Option<&str>) -> String {
    let mesh = mesh.map_or("none", short);
    format!(
        "{name} trusts root {others} beside {mesh}, the root of the mesh: what it signs is accepted"
    )
}

fn list(roots: &[impl AsRef<str>]) -> String {
    let roots = roots.iter().map(|root| short(root.as_ref()));
    roots.collect::<Vec<_>>().join(", ")
}

fn failed(name: &ClusterName, evidence: String) -> Check {
    Check {
        id: Claim::SameRoot,
        from: name.to_string(),
        to: None,
        outcome: Outcome::Failed,
        evidence,
        hints: vec![Hint::meshlink(["ca", "status"])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::CacertsSeen;

    #[test]
    fn a_second_root_is_named_wherever_it_is() {
        let name: ClusterName = "a".parse().unwrap();
        let (ours, evil) = ("5".repeat(64), "e".repeat(64));
        let seen = |published: &[&String], held: &[&String]| Seen {
            published_roots: published.iter().map(|r| (*r).clone()).collect(),
            cacerts: Some(CacertsSeen {
                roots: held.iter().map(|r| (*r).clone()).collect(),
                ..CacertsSeen::default()
            }),
            ..Seen::default()
        };
        let judge = |seen: Seen| judge(&name, &seen, Some(&ours), None);
        assert_eq!(judge(seen(&[&ours], &[&ours])).outcome, Outcome::Ok);
        for (bad, place) in [
            (
                seen(&[&ours], &[&ours, &evil]),
                "eeeeeeeeeeee (Secret cacerts)",
            ),
            (
                seen(&[&evil, &ours], &[&ours]),
                "eeeeeeeeeeee (ConfigMap istio-ca-root-cert)",
            ),
            (seen(&[&evil], &[&ours]), "publishes root eeeeeeeeeeee"),
            (seen(&[], &[&ours]), "publishes no root"),
        ] {
            let check = judge(bad);
            assert_eq!(check.outcome, Outcome::Failed);
            assert!(check.evidence.contains(place), "{}", check.evidence);
        }
        let proxy = |held: &[&String]| {
            let held: Vec<_> = held.iter().map(|r| (*r).clone()).collect();
            judge_proxy(&name, &held, &ours, None).map(|check| check.evidence)
        };
        assert_eq!(proxy(&[&ours]), None);
        assert!(
            proxy(&[&ours, &evil])
                .unwrap()
                .contains("eeeeeeeeeeee (a proxy)")
        );
        assert!(
            proxy(&[&evil])
                .unwrap()
                .contains("trusts root eeeeeeeeeeee")
        );
    }

    #[test]
    fn while_the_root_is_changed_both_are_expected_and_no_other() {
        let name: ClusterName = "a".parse().unwrap();
        let [old, new, spare, evil] = ["5", "6", "7", "e"].map(|root| root.repeat(64));
        let change = Succession {
            mesh: "mesh".into(),
            from: old.clone(),
            to: new.clone(),
            spare: spare.clone(),
        };
        let judge = |roots: &[&String]| {
            let roots: Vec<_> = roots.iter().map(|r| (*r).clone()).collect();
            let seen = Seen {
                published_roots: roots.clone(),
                ..Seen::default()
            };
            let proxy = judge_proxy(&name, &roots, &old, Some(&change)).is_none();
            let check = judge(&name, &seen, Some(&old), Some(&change));
            (check.outcome == Outcome::Warning, proxy)
        };
        for good in [&[&old][..], &[&old, &new], &[&old, &new, &spare], &[&new]] {
            assert_eq!(judge(good), (true, true), "{good:?}");
        }
        assert_eq!(judge(&[&old, &new, &evil]), (false, false));
        assert_eq!(judge(&[&evil]), (false, false));
    }
}
