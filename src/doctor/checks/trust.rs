//! What members trust, and what ends.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::super::{
    Found, Level, Source,
    view::{At, View, text},
};
use crate::{
    ends::{Row, State, What},
    hint::Hint,
    observe::Seen,
    pki::{self, Life},
};

fn list<'a>(roots: impl IntoIterator<Item = &'a str>) -> String {
    let roots: Vec<_> = roots.into_iter().map(pki::short).collect();
    match roots.is_empty() {
        true => "none".into(),
        false => roots.join(", "),
    }
}

fn restart(view: &View<'_>, at: &At<'_>) -> Hint {
    let istio = view.mesh().istio.namespace.as_str();
    Hint::kubectl(
        at.name,
        ["-n", istio, "rollout", "restart", "deploy/istiod"],
    )
}

/// The root of the mesh, as its members are bound to it, else as most of them publish it.
fn root(view: &View<'_>) -> Option<String> {
    let observed = &view.reading.observed;
    if let Some(root) = observed.root(&view.mesh().id) {
        return Some(root.to_owned());
    }
    let seen: Vec<_> = view.members().filter_map(|at| at.seen()).collect();
    let all: Vec<&String> = seen.iter().flat_map(|s| &s.published_roots).collect();
    let count = |root: &String| all.iter().filter(|r| **r == root).count();
    let most = all.iter().rev().max_by_key(|root| count(root));
    most.map(|root| (*root).clone())
}

/// The roots that belong here: that of the mesh, and while it is changed, the one that takes its place.
fn expected(view: &View<'_>) -> BTreeSet<String> {
    let change = view.reading.observed.succession();
    let change = change.map(|c| [c.from.clone(), c.to.clone(), c.spare.clone()]);
    change.into_iter().flatten().chain(root(view)).collect()
}

/// What stands in `cacerts`, and is not what istiod runs with.
fn is_unloaded(seen: &Seen) -> bool {
    let held = seen.cacerts.as_ref().filter(|c| !c.roots.is_empty());
    held.is_some_and(|held| {
        let mut published = seen.published_roots.iter();
        !seen.published_roots.is_empty() && !published.any(|root| held.roots.contains(root))
    })
}

/// Takes a `cacerts` away under which a join would not begin: it replaces no root that is not the mesh's.
fn delete(view: &View<'_>, at: &At<'_>) -> Hint {
    let istio = view.mesh().istio.namespace.as_str();
    Hint::kubectl(at.name, ["-n", istio, "delete", "secret", "cacerts"])
        .remark("only if nobody needs its root; then join again, which makes the mesh's own")
}

/// istiod runs with other roots than `cacerts` holds.
pub(in super::super) fn cacerts_not_loaded(view: &View<'_>) -> Vec<Found> {
    let expected = expected(view);
    let all = view.members().filter_map(|at| Some((at, at.seen()?)));
    all.filter(|(_, seen)| is_unloaded(seen))
        .map(|(at, seen)| {
            let held = seen.cacerts.iter().flat_map(|c| &c.roots);
            let evidence = format!(
                "Secret cacerts of {} holds root {}, and istiod publishes {} in ConfigMap istio-ca-root-cert",
                at.name,
                list(held.clone().map(String::as_str)),
                list(seen.published_roots.iter().map(String::as_str))
            );
            if held.clone().any(|root| expected.contains(root)) {
                let fix = restart(view, &at).remark("then everything that has a proxy");
                return Found::of(at.name, evidence, fix);
            }
            let cause = "Secret cacerts was replaced when istiod ran already; istiod goes on with the mesh's root, \
                         and at its next start takes the other one, which nobody else trusts";
            Found::of(at.name, evidence, delete(view, &at)).because(cause)
        })
        .collect()
}

/// istiod publishes some of the roots in `cacerts`, and not all of them, or more.
pub(in super::super) fn bundle_not_loaded(view: &View<'_>) -> Vec<Found> {
    if view.reading.observed.succession().is_some() {
        return vec![];
    }
    let expected = expected(view);
    let all = view.members().filter_map(|at| Some((at, at.seen()?)));
    all.filter_map(|(at, seen)| {
        let held: BTreeSet<_> = seen.cacerts.as_ref()?.roots.iter().collect();
        let published: BTreeSet<_> = seen.published_roots.iter().collect();
        let differs = held != published && !held.is_empty() && !held.is_disjoint(&published);
        differs.then(|| {
            let evidence = format!(
                "Secret cacerts of {} holds roots {}, and istiod publishes {}",
                at.name,
                list(held.iter().map(|r| r.as_str())),
                list(published.iter().map(|r| r.as_str()))
            );
            let is_ours = held.iter().all(|root| expected.contains(*root));
            let fix = match is_ours {
                true => restart(view, &at),
                false => Hint::join_again([at.name]),
            };
            Found::of(at.name, evidence, fix)
        })
    })
    .collect()
}

/// A member trusts none of the mesh's roots.
pub(in super::super) fn no_common_root(view: &View<'_>) -> Vec<Found> {
    let expected = expected(view);
    let all = view.members().filter_map(|at| Some((at, at.seen()?)));
    all.filter(|(_, seen)| !is_unloaded(seen) && !seen.published_roots.is_empty())
        .filter(|(_, seen)| {
            !seen
                .published_roots
                .iter()
                .any(|root| expected.contains(root))
        })
        .map(|(at, seen)| {
            let evidence = format!(
                "istiod of {} publishes root {}, and the root of the mesh is {}",
                at.name,
                list(seen.published_roots.iter().map(String::as_str)),
                list(expected.iter().map(String::as_str))
            );
            let mut held = seen.cacerts.iter().flat_map(|c| &c.roots);
            let fix = match seen.cacerts.is_none() || held.any(|root| expected.contains(root)) {
                true => Hint::join_again([at.name]),
                false => delete(view, &at),
            };
            Found::of(at.name, evidence, fix)
        })
        .collect()
}

/// A member trusts somebody else's root as well.
pub(in super::super) fn second_root(view: &View<'_>) -> Vec<Found> {
    let expected = expected(view);
    let mut found = vec![];
    for (at, seen) in view.members().filter_map(|at| Some((at, at.seen()?))) {
        let held = seen.cacerts.iter().flat_map(|c| &c.roots);
        let throw_aways = seen.cacerts.iter().flat_map(|c| c.throw_aways());
        let throw_aways: BTreeSet<_> = throw_aways
            .chain(seen.throw_aways.iter().map(String::as_str))
            .collect();
        let places = [
            ("Secret cacerts", held.collect::<Vec<_>>()),
            (
                "ConfigMap istio-ca-root-cert",
                seen.published_roots.iter().collect(),
            ),
        ];
        let strange = places.iter().filter_map(|(place, roots)| {
            let has_ours = roots.iter().any(|root| expected.contains(*root));
            let others = roots.iter().map(|root| root.as_str());
            let others = others.filter(|r| !expected.contains(*r) && !throw_aways.contains(r));
            let others: Vec<_> = others.collect();
            (has_ours && !others.is_empty()).then(|| format!("{place} holds {}", list(others)))
        });
        let strange: Vec<_> = strange.collect();
        if !strange.is_empty() {
            let evidence = format!(
                "in {}, {}; the root of the mesh is {}",
                at.name,
                strange.join(", and "),
                list(expected.iter().map(String::as_str))
            );
            let fix = Hint::join_again([at.name]).remark("takes it out; ask first whose it is");
            found.push(Found::of(at.name, evidence, fix));
        }
    }
    found
}

/// A `cacerts` that istiod would not start with.
pub(in super::super) fn cacerts_refused(view: &View<'_>) -> Vec<Found> {
    let all = view
        .members()
        .filter_map(|at| Some((at, at.seen()?.cacerts.as_ref()?)));
    all.filter(|(_, cacerts)| !cacerts.problems.is_empty())
        .map(|(at, cacerts)| {
            let evidence = format!(
                "Secret cacerts of {}: {}",
                at.name,
                cacerts.problems.join("; ")
            );
            Found::of(at.name, evidence, Hint::join_again([at.name]))
        })
        .collect()
}

/// An istiod that has made a root of its own.
pub(in super::super) fn self_signed(view: &View<'_>) -> Vec<Found> {
    let all = view.members().filter_map(|at| Some((at, at.seen()?)));
    all.filter(|(_, seen)| seen.cacerts.is_none() && seen.istiod.present)
        .filter(|(_, seen)| !seen.published_roots.is_empty())
        .map(|(at, seen)| {
            let evidence = format!(
                "{} has no Secret cacerts, and its istiod publishes root {}, which it made itself",
                at.name,
                list(seen.published_roots.iter().map(String::as_str))
            );
            Found::of(at.name, evidence, Hint::join_again([at.name]))
        })
        .collect()
}

/// Webhooks of a member's istiod by their bundles.
fn bundles<'v>(
    view: &View<'_>,
    at: &At<'v>,
) -> impl Iterator<Item = (&'v str, &'v Value)> + use<'v> {
    let istio = view.mesh().istio.namespace.clone();
    let sources = [Source::MutatingWebhooks, Source::ValidatingWebhooks];
    let at = *at;
    let all = sources.into_iter().flat_map(move |source| at.list(source));
    let hooks = all.flat_map(|config| {
        let name = config["metadata"]["name"].as_str().unwrap_or_default();
        let hooks = config["webhooks"].as_array().into_iter().flatten();
        hooks.map(move |hook| (name, hook))
    });
    hooks.filter(move |(_, hook)| {
        let service = &hook["clientConfig"]["service"];
        let name = service["name"].as_str().unwrap_or_default();
        service["namespace"] == istio.as_str() && name.starts_with("istiod")
    })
}

/// The API server judges istiod's webhooks by another root than istiod's.
pub(in super::super) fn webhook_bundle(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for (at, seen) in view.members().filter_map(|at| Some((at, at.seen()?))) {
        let mut told = BTreeSet::new();
        for (name, hook) in bundles(view, &at) {
            let bundle = text(hook, "/clientConfig/caBundle").unwrap_or_default();
            let pem = STANDARD.decode(bundle).unwrap_or_default();
            let roots = pki::roots(&pem);
            let knows = seen.published_roots.iter().any(|root| roots.contains(root));
            if knows || seen.published_roots.is_empty() || !told.insert(name) {
                continue;
            }
            let evidence = format!(
                "webhook {name} of {} is judged by root {}, and istiod's is {}",
                at.name,
                list(roots.iter().map(String::as_str)),
                list(seen.published_roots.iter().map(String::as_str))
            );
            found.push(Found::of(at.name, evidence, restart(view, &at)));
        }
    }
    found
}

/// istiod signs with another intermediate than the one in `cacerts`, under the same root.
pub(in super::super) fn intermediate_not_loaded(view: &View<'_>) -> Vec<Found> {
    let loaded = view.members().filter(|at| {
        let seen = at.seen();
        seen.is_some_and(|seen| seen.cacerts.is_some() && !is_unloaded(seen))
    });
    let loaded: BTreeSet<_> = loaded.map(|at| at.name.as_str()).collect();
    let rows = view.reading.ends.rows.iter();
    let rows = rows.filter(|row| row.what == What::Signing);
    let of_loaded = rows.filter(|row| row.members.iter().any(|m| loaded.contains(m.as_str())));
    of_loaded.filter_map(of_row).collect()
}

fn of_row(row: &Row) -> Option<Found> {
    let fix = row.hints.first().cloned()?;
    let cluster = row.members.first()?;
    Some(Found {
        cluster: cluster.clone(),
        peer: row.peer.clone(),
        evidence: row.sentence(),
        fix,
        level: None,
        cause: None,
    })
}

/// What has ended.
pub(in super::super) fn ended(view: &View<'_>) -> Vec<Found> {
    let rows = view.reading.ends.rows.iter();
    let ended = rows.filter(|row| row.state == State::Ended && row.what != What::ThrowAwayRoot);
    ended.filter_map(of_row).collect()
}

/// What is about to end.
pub(in super::super) fn ends_soon(view: &View<'_>) -> Vec<Found> {
    let rows = view.reading.ends.rows.iter();
    let soon = rows.filter_map(|row| {
        // That something else is in `cacerts` is told by itself.
        let state = match row.what {
            What::Signing => Life {
                since: None,
                until: row.until,
            }
            .state(view.reading.ends.now),
            _ => row.state,
        };
        let level = match state {
            State::Warning => Level::Warning,
            State::Failing => Level::Error,
            State::Fine | State::Due | State::Ended => return None,
        };
        Some(of_row(row)?.at(level))
    });
    soon.collect()
}
