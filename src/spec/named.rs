//! A mesh from names on the command line.

use super::members::MOST;
use super::{Error, Gateway, Istio, Member, Mesh, Reach, Readers, Trust};
use crate::name::{self, ClusterName};

/// The mesh id and the trust domain where nothing else is said.
pub(super) const ID: &str = "mesh";
pub(super) const TRUST_DOMAIN: &str = "cluster.local";

pub(super) fn mesh(names: &[String]) -> Result<Mesh, Error> {
    if names.is_empty() {
        return Err(Error::Empty);
    }
    if names.len() > MOST {
        return Err(Error::Many(names.len()));
    }
    let mut clusters: Vec<(Member, &str)> = Vec::new();
    for given in names {
        let new = member(given)?;
        if let Some((_, first)) = clusters.iter().find(|(have, _)| have.name == new.name) {
            let (first, second) = ((*first).to_owned(), given.clone());
            return Err(Error::SameName {
                name: new.name,
                first,
                second,
            });
        }
        if let Some((have, _)) = clusters.iter().find(|(have, _)| have.reach == new.reach) {
            let text = given
                .split_once('=')
                .map_or(given.as_str(), |(_, text)| text)
                .into();
            return Err(Error::SameCluster {
                text,
                first: have.name.clone(),
                second: new.name,
            });
        }
        clusters.push((new, given));
    }
    Ok(Mesh {
        id: ID.parse()?,
        trust_domain: TRUST_DOMAIN.parse()?,
        istio: Istio::default(),
        gateway: Gateway::default(),
        trust: Trust::default(),
        readers: Readers::default(),
        renewer: None,
        peers: None,
        clusters: clusters.into_iter().map(|(member, _)| member).collect(),
    })
}

fn member(given: &str) -> Result<Member, Error> {
    // Only a valid name before '=' is one; contexts may hold '=' themselves.
    let named = given
        .split_once('=')
        .and_then(|(id, text)| Some((id.parse().ok()?, text)));
    let (name, text): (ClusterName, &str) = match named {
        Some((name, text)) if !text.is_empty() => (name, text),
        _ => {
            let fail = |source| Error::Name {
                text: given.into(),
                source,
            };
            (derive(given).map_err(fail)?, given)
        }
    };
    let network = name.as_str().parse()?;
    Ok(Member {
        name,
        network,
        reach: Reach::Auto(text.into()),
        peer_server: None,
    })
}

/// The name a cluster gets from a text that finds it: the last part of an ARN or a path, the
/// first label of what eksctl calls a context, in lower case.
pub(super) fn derive(text: &str) -> Result<ClusterName, name::Error> {
    let last = text.rsplit('/').next().unwrap_or(text);
    let last = last.rsplit('@').next().unwrap_or(last);
    let name = match last.strip_suffix(".eksctl.io") {
        Some(name) => name.split('.').next().unwrap_or(name),
        None => last,
    };
    name.to_lowercase().parse()
}
