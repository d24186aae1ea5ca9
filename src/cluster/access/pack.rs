//! Packed remote secrets of one cluster, written by several at once.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    ISTIO_SYSTEM, Link, REMOTE, SHARD,
    secret::{Shard, packed_name, packed_patch, packed_secret, shard_for},
};
use crate::{
    cluster::{Cluster, Created, Error, Kind, Ref},
    mutex,
    name::ClusterName,
    owner::Owner,
};

/// Whoever writes the same Secrets beside this run is met with this often: it may fill a whole one first.
const TRIES: usize = 2 * SHARD;

/// The packed Secrets of one cluster as they were last seen. One at a time writes them, and takes along what others wait
/// to write.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    seen: Mutex<Option<Seen>>,
    waiting: std::sync::Mutex<BTreeMap<ClusterName, Link>>,
    written: std::sync::Mutex<BTreeMap<ClusterName, Ref>>,
}

/// An entry that waits; no more if whoever wants it written has gone.
struct Waiting<'a>(&'a Shards, &'a ClusterName);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        mutex::lock(&self.0.waiting).remove(self.1);
        mutex::lock(&self.0.written).remove(self.1);
    }
}

/// Where an entry was put.
#[derive(Debug)]
pub(crate) enum Packed {
    /// Into this Secret.
    In(Ref),
    /// Nowhere: the Secret that it belongs in is somebody else's.
    Foreign {
        /// The Secret, without what would have been put into it.
        secret: Value,
        /// Whose it is.
        whose: String,
    },
}

/// By number; nothing before they are read.
type Seen = BTreeMap<usize, Shard>;

impl Shards {
    /// Adds one entry to a shard with room; the others in it are not touched. A shard that somebody else has changed
    /// meanwhile is looked at again: it may be full by now.
    pub(crate) async fn pack(
        &self,
        cluster: &Cluster,
        owner: &Owner,
        link: &Link,
    ) -> Result<Packed, Error> {
        mutex::lock(&self.waiting).insert(link.cluster.clone(), link.clone());
        let _waiting = Waiting(self, &link.cluster);
        let mut seen = self.seen.lock().await;
        if let Some(place) = mutex::lock(&self.written).remove(&link.cluster) {
            return Ok(Packed::In(place));
        }
        let mut tries = 1;
        loop {
            let mut placed = match seen.take() {
                Some(placed) => placed,
                None => read(cluster, owner).await?,
            };
            let number = shard_for(link, &placed);
            let place = packed_name(number);
            let together = self.together(link, number, &placed);
            let written = match placed.get(&number) {
                Some(Shard {
                    whose: Some(whose), ..
                }) => {
                    return Ok(Packed::Foreign {
                        secret: packed_secret(number, &[]),
                        whose: whose.clone(),
                    });
                }
                Some(shard) => {
                    let mut patch = json!({"data": {}});
                    for link in &together {
                        let one = packed_patch(&link.cluster, Some(link));
                        patch["data"][link.cluster.as_str()] =
                            one["data"][link.cluster.as_str()].clone();
                    }
                    patch["metadata"]["resourceVersion"] = json!(shard.version);
                    cluster
                        .merge(&place, &patch)
                        .await
                        .map(|done| Some(done.object))
                }
                None => {
                    let secret = packed_secret(number, &together);
                    let made = cluster.create(&owner.stamped(&secret, None)).await;
                    made.map(|done| match done {
                        Created::Created(object) => Some(object),
                        Created::Exists(_) => None,
                    })
                }
            };
            match written {
                Ok(Some(object)) => {
                    placed.insert(number, Shard::of(&object, owner));
                    *seen = Some(placed);
                    let others = together.into_iter().filter(|l| l.cluster != link.cluster);
                    let others = others.map(|other| (other.cluster, place.clone()));
                    mutex::lock(&self.written).extend(others);
                    return Ok(Packed::In(place));
                }
                Err(error) if tries == TRIES || !is_other_by_now(&error) => return Err(error),
                _ => tries += 1,
            }
        }
    }
}

impl Shards {
    /// This entry, and those that wait and have room beside it in the same Secret.
    fn together(&self, link: &Link, number: usize, placed: &Seen) -> Vec<Link> {
        let (mut all, mut placed) = (vec![link.clone()], placed.clone());
        placed.entry(number).or_default().add(link);
        let written = mutex::lock(&self.written);
        let waiting = mutex::lock(&self.waiting);
        let waiting = waiting.values();
        for other in
            waiting.filter(|l| l.cluster != link.cluster && !written.contains_key(&l.cluster))
        {
            if shard_for(other, &placed) == number {
                placed.entry(number).or_default().add(other);
                all.push(other.clone());
            }
        }
        all
    }
}

/// Changed or deleted since it was read.
fn is_other_by_now(error: &Error) -> bool {
    let code = error.code();
    matches!(code, Some(404 | 409))
}

/// What each packed Secret holds.
async fn read(cluster: &Cluster, owner: &Owner) -> Result<Seen, Error> {
    let secrets = cluster
        .list(&Kind::SECRET, Some(ISTIO_SYSTEM), Some(REMOTE))
        .await?;
    let shard = |secret: &Value| {
        let name = secret["metadata"]["name"].as_str()?;
        let number = name.strip_prefix("istio-remote-secrets-")?.parse().ok()?;
        Some((number, Shard::of(secret, owner)))
    };
    Ok(secrets.iter().filter_map(shard).collect())
}

#[cfg(feature = "sandbox")]
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::{
        cluster::{Manager, Token, connect},
        sandbox::api::{Api, ApiOptions},
    };

    /// So many peers share with one cluster at once, in two runs and each with a CA of this size; how many entries each
    /// Secret holds.
    async fn shared(peers: usize, ca: usize) -> Vec<usize> {
        let api = Api::new(ApiOptions::new("eks-1", Arc::new(istio_sandbox::now))).unwrap();
        let name = "eks-1".parse().unwrap();
        let cluster = connect::from_client(&name, api.client(), "https://embedded", None);
        let space =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ISTIO_SYSTEM}});
        cluster
            .apply(&space, Manager::Meshlink, false)
            .await
            .unwrap();
        let owner = Owner {
            mesh: "mesh".parse().unwrap(),
            member: name.clone(),
            cluster: "uid".into(),
        };
        let runs = [Shards::default(), Shards::default()];
        let share = |n: usize| {
            let (cluster, ca, run) = (cluster.clone(), vec![b'x'; ca], &runs[n % 2]);
            let owner = &owner;
            async move {
                let link = Link {
                    cluster: format!("c{n}").parse().unwrap(),
                    server: "https://example.com".into(),
                    ca,
                    token: Token::new("t".into()),
                    tls_server_name: None,
                };
                run.pack(&cluster, owner, &link).await.unwrap();
            }
        };
        join_all((0..peers).map(share)).await;
        let placed = read(&cluster, &owner).await.unwrap();
        let counts: Vec<_> = placed.values().map(|shard| shard.entries.len()).collect();
        assert_eq!(counts.iter().sum::<usize>(), peers, "{counts:?}");
        counts
    }

    #[tokio::test]
    async fn peers_that_share_at_once_keep_to_the_bound_of_a_secret() {
        assert_eq!(shared(80, 10).await, [64, 16]);
    }

    #[tokio::test]
    async fn entries_that_are_large_are_fewer() {
        let counts = shared(20, 100_000).await;
        assert!(counts.iter().all(|entries| *entries <= 7), "{counts:?}");
    }
}
