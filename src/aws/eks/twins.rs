//! Two names for one cluster are found out as soon as both are known, before anything is read.
//!
//! What looks like two clusters all the same (another address of one API server) is told by the UID of its
//! `kube-system` namespace, which every plan compares.

use super::Error;
use crate::cluster::Cluster;

/// Refuse members that are one cluster: the same server with the same authority.
pub(crate) fn twins<'a>(members: impl IntoIterator<Item = &'a Cluster>) -> Result<(), Error> {
    let members: Vec<&Cluster> = members.into_iter().collect();
    for (at, second) in members.iter().enumerate() {
        if let Some(first) = members[..at].iter().find(|first| same(first, second)) {
            return Err(Error::Twins {
                first: first.name().to_string(),
                second: second.name().to_string(),
                server: second.server().to_owned(),
            });
        }
    }
    Ok(())
}

fn same(a: &Cluster, b: &Cluster) -> bool {
    let plain = |server: &str| server.trim_end_matches('/').to_ascii_lowercase();
    plain(a.server()) == plain(b.server()) && a.ca() == b.ca()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ConnectOptions, Token, connect};

    fn cluster(name: &str, server: &str) -> Cluster {
        let token = connect::fixed(Token::new("t".into()));
        let options = ConnectOptions::default();
        connect::from_parts(&name.parse().unwrap(), server, None, None, token, &options).unwrap()
    }

    #[tokio::test]
    async fn one_server_is_one_cluster_however_its_address_is_written() {
        let (a, b) = (
            cluster("a", "https://one.test"),
            cluster("b", "https://ONE.test/"),
        );
        let error = twins([&a, &b]).unwrap_err();
        let want = "a and b are one and the same cluster (both are https://ONE.test/)";
        assert_eq!(error.to_string(), want);
        twins([&a, &cluster("c", "https://two.test")]).unwrap();
    }
}
