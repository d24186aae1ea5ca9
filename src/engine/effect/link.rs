//! Reader accounts and remote secrets.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Act, Evidence, prove::Answer, seen};
use crate::{
    cluster::{
        Cluster, Kind, Manager, Ref, Token,
        access::{self, Link},
        wait,
    },
    engine::Error,
    name::ClusterName,
    observe::Layout,
    probe::{Dialed, Witness},
};

impl Act<'_> {
    pub(super) async fn grant_reader(&self, name: &ClusterName, peer: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let objects = self
            .shop
            .wanted(name)?
            .readers
            .get(peer)
            .map(Vec::as_slice)
            .unwrap_or_default();
        for object in objects {
            cluster.apply(object, Manager::Meshlink, true).await?;
        }
        let secret = access::token_secret(peer);
        wait::until(
            cluster,
            &secret,
            self.deadline,
            wait::secret_has_token,
            self.say,
        )
        .await?;
        seen(format!(
            "ServiceAccount for {peer}'s istiod, its token does not expire"
        ))
    }

    /// Tried with exactly what is to be written, from here and from the cluster that will use it:
    /// an istiod that ever saw a secret fail keeps its endpoints for good.
    pub(super) async fn share_secret(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let link = self.link(from, to).await?;
        let gateway_api = self.serves_gateway_api(self.cluster(from)?).await?;
        access::try_kubeconfig(&link, gateway_api, &self.shop.connect)
            .await
            .map_err(|source| Error::Untrusted {
                from: from.clone(),
                to: to.clone(),
                source: Box::new(source),
            })?;
        let cluster = self.cluster(to)?;
        let place = match self.shop.layout {
            Layout::PerPeer => {
                cluster
                    .apply(&access::remote_secret(&link), Manager::Meshlink, true)
                    .await?;
                access::remote_name(from)
            }
            Layout::Packed => self.pack(cluster, from, &link).await?,
        };
        seen(format!("{place} opens {}", link.server))
    }

    /// Adds one entry to a shard; the others in it are not touched.
    async fn pack(&self, cluster: &Cluster, from: &ClusterName, link: &Link) -> Result<Ref, Error> {
        let placed = shards(cluster, self.istio()).await?;
        let shard = access::shard_for(from, &placed);
        let place = access::packed_name(shard);
        if placed.contains_key(&shard) {
            cluster
                .merge(&place, &access::packed_patch(from, Some(link)))
                .await?;
        } else if let crate::cluster::Created::Exists(_) = cluster
            .create(&access::packed_secret(shard, std::slice::from_ref(link)))
            .await?
        {
            cluster
                .merge(&place, &access::packed_patch(from, Some(link)))
                .await?;
        }
        Ok(place)
    }

    /// What `to`'s istiod needs to read `from`.
    pub(super) async fn link(&self, from: &ClusterName, to: &ClusterName) -> Result<Link, Error> {
        let cluster = self.cluster(from)?;
        let place = access::token_secret(to);
        let secret = cluster.find(&place).await?.ok_or_else(|| Error::Missing {
            cluster: from.clone(),
            what: format!("{place} is gone"),
        })?;
        let read = |key: &str| {
            let bytes = secret["data"][key]
                .as_str()
                .and_then(|data| STANDARD.decode(data).ok());
            bytes.ok_or_else(|| Error::Missing {
                cluster: from.clone(),
                what: format!("{place} has no {key}"),
            })
        };
        let token = String::from_utf8(read("token")?).map_err(|_| Error::Missing {
            cluster: from.clone(),
            what: format!("{place} holds no token"),
        })?;
        Ok(Link {
            cluster: from.clone(),
            server: self.server(from)?.to_owned(),
            ca: read("ca.crt")?,
            token: Token::new(token),
            tls_server_name: None,
        })
    }

    /// The API server's address as the peers must use it.
    pub(super) fn server(&self, name: &ClusterName) -> Result<&str, Error> {
        match &self.shop.member(name)?.peer_server {
            Some(server) => Ok(server),
            None => Ok(self.cluster(name)?.server()),
        }
    }

    async fn serves_gateway_api(&self, cluster: &Cluster) -> Result<bool, Error> {
        let crd = Ref::cluster(
            &Kind::CUSTOM_RESOURCE_DEFINITION,
            "gateways.gateway.networking.k8s.io",
        );
        Ok(cluster.find(&crd).await?.is_some())
    }

    /// Until `from`'s witness reaches what `to` offers: an address counts where it will be used.
    pub(super) async fn reach(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let there = self.cluster(to)?;
        let gateway = &self.shop.mesh.gateway;
        let service = Ref::namespaced(
            &Kind::SERVICE,
            gateway.namespace.as_str(),
            gateway.name.as_str(),
        );
        let addresses = wait::until(
            there,
            &service,
            self.deadline,
            wait::service_has_address,
            self.say,
        )
        .await?;
        let mut targets: Vec<(String, u16)> = addresses
            .iter()
            .map(|a| (a.as_str().to_owned(), 15443))
            .collect();
        if !self.shop.embedded {
            targets.extend(host_and_port(self.server(to)?));
        }
        let mut evidence = vec![];
        for (host, port) in targets {
            self.until_reached(from, &host, port).await?;
            evidence.push(format!("{host}:{port} was reached from {from}"));
        }
        Ok(evidence)
    }

    async fn until_reached(&self, from: &ClusterName, host: &str, port: u16) -> Result<(), Error> {
        let cluster = self.cluster(from)?;
        self.until(
            &format!("{host}:{port} reached from {from}"),
            || async move {
                let Some(witness) = Witness::find(cluster).await? else {
                    return Ok(Answer::No(format!("no witness runs in {from}"), vec![]));
                };
                Ok(match witness.dial(host, port).await? {
                    Dialed::Reached => Answer::Yes(()),
                    other => {
                        let reason = format!("{host}:{port} {} from {from}", other.as_str());
                        Answer::No(reason, vec![])
                    }
                })
            },
        )
        .await
    }
}

/// Which clusters each packed Secret holds.
pub(super) async fn shards(
    cluster: &Cluster,
    namespace: &str,
) -> Result<BTreeMap<usize, Vec<ClusterName>>, Error> {
    let secrets = cluster
        .list(
            &Kind::SECRET,
            Some(namespace),
            Some("istio/multiCluster=true"),
        )
        .await?;
    let shard = |secret: &Value| {
        let name = secret["metadata"]["name"].as_str()?;
        let number = name.strip_prefix("istio-remote-secrets-")?.parse().ok()?;
        let keys = secret["data"].as_object().into_iter().flatten();
        Some((
            number,
            keys.filter_map(|(key, _)| key.parse().ok()).collect(),
        ))
    };
    Ok(secrets.iter().filter_map(shard).collect())
}

/// Host and port of an API server's URL.
pub(super) fn host_and_port(server: &str) -> Option<(String, u16)> {
    let uri: http::Uri = server.parse().ok()?;
    let port = uri.port_u16().unwrap_or(443);
    Some((uri.host()?.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_without_a_port_are_on_443() {
        let eks = host_and_port("https://ABC.gr7.us-west-2.eks.amazonaws.com").unwrap();
        assert_eq!(eks, ("ABC.gr7.us-west-2.eks.amazonaws.com".into(), 443));
        assert_eq!(
            host_and_port("https://[fd00::1]:6443").unwrap(),
            ("fd00::1".into(), 6443)
        );
    }
}
