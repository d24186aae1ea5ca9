//! Reading the members and working out what they should hold, in one go.

use super::Error;
use crate::{
    manifest::Texts,
    observe::{Lens, Observed, Unseen},
    plan::{
        Desired,
        desire::{Additions, Charts, desire},
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

/// What is there, and what should be. The lens goes on to answer from what it has read.
pub(crate) async fn survey(
    lens: &Lens<'_>,
    charts: &Charts,
    additions: &Additions,
    texts: &Texts,
) -> Result<(Observed, Desired), Failed> {
    let mut observed = lens.look().await?;
    let desired = desire(lens.mesh(), charts, additions, texts, &observed).map_err(Error::from)?;
    let refs = desired
        .clusters
        .iter()
        .map(|(name, wanted)| (name.clone(), wanted.refs()));
    lens.look_at(&mut observed, &refs.collect()).await?;
    Ok((observed, desired))
}
