//! Reader accounts, their tokens, and the remote secrets made from them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::time::Instant;

use super::{Evidence, StepContext, seen};
use crate::{
    causes,
    cluster::{
        self, Bound, Cluster, Delete, Kind, Ref, Token,
        access::{self, ISTIO_SYSTEM, Link, Trial},
        connect, object, wait,
    },
    engine::Error,
    mutex,
    name::ClusterName,
    observe::{Layout, root_ca},
    pki,
    plan::{Step, readers},
    verify::{Outcome, istiod},
    wait::Progress,
};

/// How long every replica must go on saying that it is synced after a remote secret has changed. It does not say with
/// which token: a real istiod has replaced the old one some 40 ms after the write.
const SETTLED: Duration = Duration::from_secs(1);

impl StepContext<'_> {
    pub(super) async fn grant_reader(&self, name: &ClusterName, peer: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let objects = self.run.readers.get(name).and_then(|all| all.get(peer));
        let all = objects.into_iter().flatten();
        let (shared, own): (Vec<_>, Vec<_>) =
            all.partition(|o| o["metadata"]["labels"][access::PEER_LABEL].is_null());
        let roles = async {
            for role in shared {
                self.write(cluster, role).await?;
            }
            Ok(())
        };
        self.run.readings.roles.of(name, roles).await?;
        for object in own {
            self.write(cluster, object).await?;
        }
        match self.is_bound(name, peer) {
            true => seen(format!(
                "ServiceAccount for {peer}'s istiod; its tokens end, and hang on Secret {}",
                access::anchor(peer).name
            )),
            false => {
                let filled = objects.into_iter().flatten();
                let mut filled = filled.filter(|o| o["type"] == access::TOKEN_SECRET);
                self.until_filled(cluster, filled.find_map(Ref::of)).await?;
                seen(format!(
                    "ServiceAccount for {peer}'s istiod, its token does not expire"
                ))
            }
        }
    }

    /// Whether the account of a peer has tokens that end.
    fn is_bound(&self, name: &ClusterName, peer: &ClusterName) -> bool {
        let objects = self.run.readers.get(name).and_then(|all| all.get(peer));
        let mut names = objects.into_iter().flatten().filter_map(Ref::of);
        names.any(|name| name == access::anchor(peer))
    }

    async fn until_filled(&self, cluster: &Cluster, secret: Option<Ref>) -> Result<(), Error> {
        if let Some(secret) = secret {
            let (filled, deadline) = (wait::secret_has_token, self.deadline);
            wait::until(cluster, &secret, deadline, filled, self.say).await?;
        }
        Ok(())
    }

    /// The next token Secret, beside what the account has.
    pub(super) async fn make_token(&self, name: &ClusterName, peer: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let numbers = self.token_secrets(cluster, peer).await?;
        let step = Step::RetireToken {
            cluster: name.clone(),
            peer: peer.clone(),
        };
        // A step that is done again after dying goes on with what it has made.
        let old = |name: &str| self.planned(&step).iter().any(|d| d.object.name == name);
        let begun = numbers.iter().map(|(number, secret)| {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            (*number, old(name))
        });
        let next = match begun.max() {
            Some((number, false)) => number,
            Some((number, true)) => number + 1,
            None => 1,
        };
        let secret = access::token_object(peer, next);
        self.write(cluster, &secret).await?;
        self.until_filled(cluster, Ref::of(&secret)).await?;
        seen(format!(
            "Secret {} holds a new token",
            access::token_secret(peer, next).name
        ))
    }

    /// The token Secrets of a peer's account that are ours, by their numbers.
    pub(super) async fn token_secrets(
        &self,
        cluster: &Cluster,
        peer: &ClusterName,
    ) -> Result<Vec<(u32, Value)>, Error> {
        let label = format!("{}={peer}", access::PEER_LABEL);
        let found = cluster.list(&Kind::SECRET, Some(ISTIO_SYSTEM), Some(&label));
        let owner = self.owner(cluster)?;
        let number = |secret: Value| {
            let name = secret["metadata"]["name"].as_str()?;
            let number = access::token_number(peer.as_str(), name)?;
            owner.whose(&secret).is_none().then_some((number, secret))
        };
        let mut found: Vec<_> = found.await?.into_iter().filter_map(number).collect();
        found.sort_by_key(|(number, _)| *number);
        Ok(found)
    }

    /// Tried with exactly what is to be written, from here and from the cluster that will use it:
    /// an istiod that ever saw a secret fail keeps its endpoints for good.
    pub(super) async fn share_secret(&self, from: &ClusterName, to: &ClusterName) -> Evidence {
        let (link, until) = self.link(from, to).await?;
        let secrets = readers::reads_secrets(&self.run.mesh);
        let trial = Trial::Reads { secrets };
        let (there, found) = (self.cluster(from)?, self.run.readings.found(from));
        access::try_kubeconfig_at(there, &link, trial, &self.run.connect, &found)
            .await
            .map_err(|source| Error::Untrusted {
                from: from.clone(),
                to: to.clone(),
                source: Box::new(source),
            })?;
        let cluster = self.cluster(to)?;
        let place = match self.run.layout {
            Layout::PerPeer => {
                self.write(cluster, &access::remote_secret(&link)).await?;
                access::remote_name(from)
            }
            Layout::Packed => {
                let (shards, owner) = (self.run.readings.shards(to), self.owner(cluster)?);
                match shards.pack(cluster, owner, &link).await? {
                    access::Packed::In(place) => place,
                    access::Packed::Foreign { secret, whose } => {
                        return Err(super::own::foreign(cluster, &secret, &whose).into());
                    }
                }
            }
        };
        let mut evidence = format!("{place} opens {}", link.server);
        if let Some(until) = until {
            // What was granted, which may be less than was asked for.
            evidence += &format!(", with a token until {until}");
        }
        seen(evidence)
    }

    /// What `to`'s istiod needs to read `from`, and until when, if it ends.
    async fn link(
        &self,
        from: &ClusterName,
        to: &ClusterName,
    ) -> Result<(Link, Option<jiff::Timestamp>), Error> {
        let cluster = self.cluster(from)?;
        let (token, until) = match self.is_bound(from, to) {
            true => {
                let (token, until) = self.bound_token(cluster, to).await?;
                (token, Some(until))
            }
            false => (self.newest_token(cluster, to).await?, None),
        };
        let link = Link {
            cluster: from.clone(),
            server: self.server(from)?.to_owned(),
            ca: self.authorities(cluster).await?,
            token,
            tls_server_name: None,
        };
        Ok((link, until))
    }

    /// The token in the last of an account's token Secrets.
    async fn newest_token(&self, cluster: &Cluster, peer: &ClusterName) -> Result<Token, Error> {
        let missing = |what: String| Error::Missing {
            cluster: cluster.name().clone(),
            what,
        };
        let newest = self.token_secrets(cluster, peer).await?.pop();
        let gone = || missing(format!("{} is gone", access::token_secret(peer, 1)));
        let (number, secret) = newest.ok_or_else(gone)?;
        token_in(&secret).ok_or_else(|| {
            let place = access::token_secret(peer, number);
            missing(format!("{place} holds no token"))
        })
    }

    /// A token with an end, for as long as an account with an API server as EKS has it gets one.
    async fn bound_token(
        &self,
        cluster: &Cluster,
        peer: &ClusterName,
    ) -> Result<(Token, jiff::Timestamp), Error> {
        let anchor = access::anchor(peer);
        let live = cluster.find(&anchor).await?;
        let uid = live.as_ref().and_then(|a| a["metadata"]["uid"].as_str());
        let uid = uid.ok_or_else(|| Error::Missing {
            cluster: cluster.name().clone(),
            what: format!("{anchor} is gone"),
        })?;
        let bound = Bound {
            secret: &anchor.name,
            uid,
        };
        let life = Duration::from_secs(readers::BOUND_LIFE.unsigned_abs());
        let account = access::account_name(peer);
        let asked = cluster.token(ISTIO_SYSTEM, &account, life, Some(&bound));
        Ok(asked.await?)
    }

    /// The authorities that the API server of a cluster is to be known by.
    async fn authorities(&self, cluster: &Cluster) -> Result<Vec<u8>, Error> {
        let read = async {
            let map = Ref::namespaced(&Kind::CONFIG_MAP, ISTIO_SYSTEM, access::ROOT_CA);
            let map = cluster.find(&map).await?;
            let bundles = map.as_ref().map(root_ca).into_iter().chain(cluster.ca());
            let anchors = pki::anchors(bundles, self.run.now());
            Ok(pki::pem_of(&anchors).into_bytes())
        };
        let known = &self.run.readings.authorities;
        known.of(cluster.name(), read).await
    }

    /// Until no replica says anything but synced of a peer whose remote secret has changed, and goes on saying so.
    pub(super) async fn await_synced(&self, name: &ClusterName, peer: &ClusterName) -> Evidence {
        let since = &std::sync::Mutex::new(None::<Instant>);
        let what = format!("every istiod replica in {name} has synced with {peer}");
        self.until(&what, || async move {
            let replicas = self.replicas(name).await?;
            let mut since = mutex::lock(since);
            let replicas = match replicas {
                Ok(replicas) => replicas,
                Err(unasked) => {
                    *since = None;
                    return Ok(Progress::NotYet(causes::line(&unasked).into()));
                }
            };
            let check = istiod::synced(name, peer, &replicas);
            if check.outcome != Outcome::Ok {
                *since = None;
                return Ok(Progress::NotYet(check.evidence.into()));
            }
            let begun = *since.get_or_insert_with(Instant::now);
            Ok(match begun.elapsed() >= SETTLED {
                true => Progress::Done(vec![check.evidence]),
                false => Progress::NotYet("it may still be changing over".into()),
            })
        })
        .await
    }

    /// What each replica says; or that one could not be asked, such as one that has just gone.
    async fn replicas(
        &self,
        name: &ClusterName,
    ) -> Result<Result<Vec<istiod::Replica>, cluster::Error>, Error> {
        let cluster = self.cluster(name)?;
        let label = Some("app=istiod");
        let pods = cluster.list(&Kind::POD, Some(self.istio()), label).await?;
        let mut replicas = vec![];
        for pod in object::running(&pods) {
            match istiod::ask(cluster, self.istio(), &pod, false).await {
                Ok(replica) => replicas.push(replica),
                Err(unasked) => return Ok(Err(unasked)),
            }
        }
        Ok(Ok(replicas))
    }

    /// Deletes what tokens came from before, and sees a token of each refused.
    pub(super) async fn retire_token(&self, name: &ClusterName, peer: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let step = Step::RetireToken {
            cluster: name.clone(),
            peer: peer.clone(),
        };
        let mut evidence = vec![];
        for planned in self.planned(&step) {
            let Some(live) = cluster.find(&planned.object).await? else {
                continue;
            };
            if live["metadata"]["uid"] != planned.uid.as_str() {
                evidence.push(format!("{} stays: it was made anew", planned.object));
                continue;
            }
            let token = match planned.object == access::anchor(peer) {
                // Those that were handed out are nowhere any more; one of its own shows that none is accepted.
                true => Some(self.bound_token(cluster, peer).await?.0),
                false => token_in(&live),
            };
            let how = Delete::background().only(&live);
            cluster.delete(&planned.object, &how).await?;
            match token {
                Some(token) => {
                    self.until_refused(cluster, token).await?;
                    let line = format!("{} is gone and its token answers 401", planned.object);
                    evidence.push(line);
                }
                None => evidence.push(format!("{} is gone", planned.object)),
            }
        }
        Ok(evidence)
    }

    /// Until a token is not accepted any more.
    pub(super) async fn until_refused(&self, cluster: &Cluster, token: Token) -> Result<(), Error> {
        let ca = cluster.ca().map(<[u8]>::to_vec);
        let with_it = connect::from_parts(
            cluster.name(),
            cluster.server(),
            ca.as_deref(),
            None,
            connect::fixed(token),
            &self.run.connect,
        )?;
        let with_it = &with_it;
        self.until("the deleted token is refused", || async move {
            let code = |e: &cluster::Error| e.code();
            match with_it.identity().await {
                Err(error) if code(&error) == Some(401) => Ok(Progress::Done(())),
                Err(error) if code(&error) != Some(403) => Err(error.into()),
                _ => Ok(Progress::NotYet(
                    "the API server still accepts the token".into(),
                )),
            }
        })
        .await
    }

    pub(super) async fn install_renewer(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        for object in &self.run.wanted(name)?.renewer {
            self.write(cluster, object).await?;
        }
        let image = self.run.mesh.renewer.as_ref().map(|r| r.image.as_str());
        seen(format!(
            "the renewer runs every half hour, from {}",
            image.unwrap_or_default()
        ))
    }

    pub(super) async fn remove_renewer(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let mut stays = vec![];
        for object in readers::renewer_names() {
            stays.extend(self.remove(cluster, &object).await?);
        }
        match stays.is_empty() {
            true => seen("the renewer is gone"),
            false => Ok(stays),
        }
    }
}

/// The token in a token Secret, once there is one.
pub(super) fn token_in(secret: &Value) -> Option<Token> {
    let bytes = STANDARD.decode(secret["data"]["token"].as_str()?).ok()?;
    let token = String::from_utf8(bytes).ok()?;
    (!token.is_empty()).then(|| Token::new(token))
}

/// Which of an account's tokens are deleted with it: those it has now, whatever they come from.
pub(super) fn names(peer: &ClusterName, numbers: &[(u32, Value)]) -> Vec<Ref> {
    let mut names = access::account_names(peer);
    let more = numbers.iter().map(|(n, _)| access::token_secret(peer, *n));
    names.extend(more.filter(|name| !access::account_names(peer).contains(name)));
    names
}
