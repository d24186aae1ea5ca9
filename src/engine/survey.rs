//! Reading the members and working out what they should hold, in one go.

use std::collections::BTreeMap;

use super::Error;
use crate::{
    chart::{Manifest, apply, release::Status},
    cluster::{Kind, Ref},
    manifest::Texts,
    name::ClusterName,
    observe::{Held, Lens, Observed, Unseen, held},
    plan::{
        Desired,
        desire::{Additions, Charts, desire, reference},
        join::is_remade,
    },
};

/// Why a survey failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The members could not be read.
    #[error(transparent)]
    Unseen(#[from] Unseen),
    /// What they should hold could not be worked out.
    #[error(transparent)]
    Undesired(#[from] Error),
}

/// What is there besides, and what should be. The lens goes on to answer from what it has read.
pub(crate) async fn survey(
    lens: &Lens<'_>,
    observed: Observed,
    charts: &BTreeMap<ClusterName, Charts>,
    additions: &Additions,
    texts: &Texts,
) -> Result<(Observed, Desired), Failed> {
    let desired = desire(lens.mesh(), charts, additions, texts, &observed).map_err(Error::from)?;
    let refs = desired
        .clusters
        .iter()
        .map(|(name, wanted)| (name.clone(), wanted.refs()));
    let mut observed = lens.look_at(observed, &refs.collect()).await?;
    look_for_what_is_lost(lens, &mut observed, &desired).await?;
    Ok((observed, desired))
}

/// Adds what a release loses that will be made from another chart or other values.
async fn look_for_what_is_lost(
    lens: &Lens<'_>,
    observed: &mut Observed,
    desired: &Desired,
) -> Result<(), Unseen> {
    for (name, wanted) in &desired.clusters {
        for release in [&wanted.base, &wanted.istiod, &wanted.gateway] {
            let seen = observed.clusters.get_mut(name);
            let Some(seen) = seen.and_then(|s| s.releases.get_mut(&release.name)) else {
                continue;
            };
            if is_remade(release, seen) {
                let after = Some(release.rendered.manifests.as_slice());
                seen.held = records(lens, name, (&release.name, &release.namespace), after).await?;
            }
        }
    }
    Ok(())
}

/// Adds what the leavers' releases of these names hold; of releases that this mesh made alone.
pub(crate) async fn look_into_releases(
    lens: &Lens<'_>,
    observed: &mut Observed,
    leavers: &[ClusterName],
    releases: &[(&str, &str)],
) -> Result<(), Unseen> {
    let mut found: BTreeMap<(&ClusterName, &str), Vec<Held>> = BTreeMap::new();
    for name in leavers {
        for &(release, namespace) in releases {
            let seen = observed.clusters.get(name);
            let seen = seen.and_then(|s| s.releases.get(release));
            if seen.is_some_and(|r| r.made_for == lens.mesh().id.as_str()) {
                let held = records(lens, name, (release, namespace), None).await?;
                found.insert((name, release), held);
            }
        }
    }
    for ((name, release), held) in found {
        let seen = observed.clusters.get_mut(name);
        if let Some(seen) = seen.and_then(|s| s.releases.get_mut(release)) {
            seen.held = held;
        }
    }
    Ok(())
}

/// What the records of a release name and is there, last kinds first. With `after`, only what an upgrade to that loses:
/// then what was made since the last revision that came to its end counts.
async fn records(
    lens: &Lens<'_>,
    name: &ClusterName,
    (release, namespace): (&str, &str),
    after: Option<&[Manifest]>,
) -> Result<Vec<Held>, Unseen> {
    let (records, is_damaged) = lens.records(name, release, namespace).await?;
    let deployed = |r: &crate::chart::release::Record| r.status == Status::Deployed;
    let first = match after {
        Some(_) => records.iter().rposition(deployed).unwrap_or(0),
        None => 0,
    };
    let mut refs: Vec<Ref> = vec![];
    for record in records.iter().skip(first).rev() {
        let Ok(before) = record.manifests() else {
            continue;
        };
        let lost = apply::removed(&before, after.unwrap_or_default(), namespace);
        for manifest in lost.iter().rev() {
            // No release of ours makes a namespace, and with one goes all that is in it.
            let found = reference(&manifest.object, namespace);
            if let Some(found) = found.filter(|r| r.kind != Kind::NAMESPACE)
                && !refs.contains(&found)
            {
                refs.push(found);
            }
        }
    }
    // A leave needs no record that is damaged: Helm's own annotations say what is the release's.
    if is_damaged && after.is_none() {
        let owned = lens.annotated(name, release, namespace).await?;
        for found in owned.iter().filter_map(Ref::of) {
            if !refs.contains(&found) {
                refs.push(found);
            }
        }
    }
    let live = lens.names(name, &refs).await?;
    let held = live.iter().filter_map(|o| held(o, release, namespace));
    Ok(held.collect())
}
