//! The renewer: what a cluster uses to read its peers, renewed from within it, by nothing but what it finds there.
//!
//! With the token in a remote secret it asks the peer's API server for the next one, tries that, and patches the secret in
//! place. The old token stays valid until its end, so that an istiod that is late loses nothing. What it cannot renew is
//! said as loudly as what failed: a root and an intermediate need a key that is in no cluster.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Kind};
use crate::{
    causes,
    cluster::{
        self, Bound, Cluster, ConnectOptions, Kind as ObjectKind, Ref, Token,
        access::{self, ISTIO_SYSTEM, Link, Trial},
        connect,
        lease::{Identity, Terms},
    },
    ends::State,
    engine::{self, Clock, Patience},
    machine::{self, Process},
    name::{ClusterName, MeshId},
    observe::{Observed, ROOTS, Seen, root_ca},
    owner::Owner,
    pki::{self, Cert, CertFacts},
    plan::readers::{BOUND_LIFE, is_due},
    spec::Mesh,
};

mod signer;

/// What a renewer is given: by its CronJob, and by the service account it runs as.
pub(crate) struct Within {
    /// The mesh.
    pub(crate) mesh: MeshId,
    /// The member it runs in.
    pub(crate) member: ClusterName,
    /// UID of the member's kube-system namespace; none where files were rendered without looking at it.
    pub(crate) cluster: Option<String>,
    /// The remote secrets it may read and change.
    pub(crate) secrets: Vec<String>,
    /// Its API server.
    pub(crate) server: String,
    /// The authorities of that.
    pub(crate) ca: Vec<u8>,
    /// Where its istiod is to be asked what it signs with, `HOST:PORT`.
    pub(crate) istiod: Option<String>,
    /// Its own token.
    pub(crate) token: Token,
    /// How API servers are spoken to.
    pub(crate) connect: ConnectOptions,
    /// The time.
    pub(crate) clock: Clock,
    /// Who it says it is.
    pub(crate) operator: String,
    /// How long it waits for another run.
    pub(crate) wait_lock: Duration,
    /// Ends it.
    pub(crate) cancel: CancellationToken,
}

impl fmt::Debug for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within")
            .field("mesh", &self.mesh)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// What became of one thing that a member uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Nothing is due.
    Fine,
    /// It was renewed.
    Renewed,
    /// It is not for a renewer to renew, and somebody has to.
    Left,
    /// It could not be renewed.
    Failed,
}

/// Something that a member uses.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Used {
    /// `token/eks-1/eks-2`, as `meshlink ca status` has it.
    pub(crate) id: String,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Until when it is valid now, if it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) until: Option<Timestamp>,
    /// In words.
    pub(crate) text: String,
}

/// What a renewer did.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Renewed {
    /// The mesh.
    pub(crate) mesh: String,
    /// The member it runs in.
    pub(crate) member: String,
    /// What this member uses.
    pub(crate) used: Vec<Used>,
}

/// An entry of a remote secret that is to be renewed.
struct Due {
    place: Ref,
    /// Of the entry as it was read: another has been written by somebody else.
    entry: Value,
    link: Link,
    why: String,
    bundle: Vec<u8>,
    /// The UID that its token is bound to, if the token is due.
    bound: Option<String>,
}

impl Renewed {
    /// Whether nothing is left to anybody else.
    pub(crate) fn is_well(&self) -> bool {
        self.used.iter().all(|u| u.outcome < Outcome::Left)
    }

    /// As Prometheus reads it.
    pub(crate) fn metrics(&self, now: Timestamp) -> String {
        let mut text = String::new();
        let labels = |id: &str| {
            let (mesh, member) = (&self.mesh, &self.member);
            format!("{{mesh=\"{mesh}\",member=\"{member}\",id=\"{id}\"}}")
        };
        let family =
            |name: &str, help: &str| format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        let name = "meshlink_renewer_end_timestamp_seconds";
        text += &family(name, "Until when what this member uses is valid.");
        for used in &self.used {
            if let Some(until) = used.until {
                text += &format!("{name}{} {}\n", labels(&used.id), until.as_second());
            }
        }
        let name = "meshlink_renewer_outcome";
        text += &family(name, "0 fine, 1 renewed, 2 left to somebody, 3 failed.");
        for used in &self.used {
            text += &format!("{name}{} {}\n", labels(&used.id), used.outcome as u8);
        }
        let name = "meshlink_renewer_run_timestamp_seconds";
        text += &family(name, "When the renewer last came to its end.");
        text += &format!("{name}{} {}\n", labels("run"), now.as_second());
        text
    }
}

impl Within {
    /// Looks at everything this member uses, and renews what is due.
    pub(crate) async fn renew(&self) -> Result<Renewed, Failure> {
        let own = self.own()?;
        let (mut used, due) = self.look(&own).await?;
        let now = self.now(&own);
        if !due.is_empty() {
            let lock = self.lock(&own).await?;
            let fenced = own.fenced(lock.fence());
            for due in due {
                used.push(self.write(&fenced, due).await);
            }
            lock.release(false).await;
        }
        let roots = self.roots(&own).await;
        used.extend(self.root(&roots, now));
        used.push(self.signer(&roots, now).await);
        used.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Renewed {
            mesh: self.mesh.to_string(),
            member: self.member.to_string(),
            used,
        })
    }

    fn own(&self) -> Result<Cluster, Failure> {
        let token = connect::fixed(self.token.clone());
        let (name, server) = (&self.member, self.server.as_str());
        connect::from_parts(name, server, Some(&self.ca), None, token, &self.connect)
            .map_err(|e| Failure::failed(&e))
    }

    /// What time it is, by the API server that was read: tokens end by such a clock, and not by a node's.
    fn now(&self, own: &Cluster) -> Timestamp {
        own.server_time().unwrap_or_else(|| (self.clock)())
    }

    fn id(&self, what: &str, peer: &ClusterName) -> String {
        format!("{what}/{}/{peer}", self.member)
    }

    /// Whose a remote secret is, where it is not this member's.
    fn whose(&self, secret: &Value) -> Option<String> {
        let owner = Owner {
            mesh: self.mesh.clone(),
            member: self.member.clone(),
            cluster: self.cluster.clone()?,
        };
        owner.whose(secret)
    }

    /// What is not due, and what is.
    async fn look(&self, own: &Cluster) -> Result<(Vec<Used>, Vec<Due>), Failure> {
        let (mut used, mut due) = (vec![], vec![]);
        for name in &self.secrets {
            let place = Ref::namespaced(&ObjectKind::SECRET, ISTIO_SYSTEM, name.as_str());
            let secret = own.find(&place).await.map_err(|e| Failure::failed(&e))?;
            let Some(secret) = secret else { continue };
            if let Some(whose) = self.whose(&secret) {
                let why = format!("{place} is not meshlink's ({whose}), so it is not changed");
                return Err(Failure::from_causes(Kind::Refused, vec![why]));
            }
            for link in access::links(&secret) {
                let entry = secret["data"][link.cluster.as_str()].clone();
                match self.judge(place.clone(), entry, link, self.now(own)).await {
                    Ok(found) => due.push(*found),
                    Err(found) => used.push(*found),
                }
            }
        }
        Ok((used, due))
    }

    /// Whether an entry of a remote secret is due.
    async fn judge(
        &self,
        place: Ref,
        entry: Value,
        link: Link,
        now: Timestamp,
    ) -> Result<Box<Due>, Box<Used>> {
        let facts = access::token_facts(link.token.expose());
        let at = |seconds: Option<i64>| seconds.and_then(|s| Timestamp::from_second(s).ok());
        let until = at(facts.expires);
        let used = |outcome, text: String| {
            Box::new(Used {
                id: self.id("token", &link.cluster),
                outcome,
                until,
                text,
            })
        };
        let account = format!(
            "system:serviceaccount:{ISTIO_SYSTEM}:{}",
            access::account_name(&self.member)
        );
        let is_ours = facts.subject.as_deref() == Some(account.as_str());
        if let Some(end) = until.filter(|_| !is_ours || facts.bound.is_none()) {
            let text = format!("its token ends at {end}, and is not one that meshlink has made");
            return Err(used(Outcome::Left, text));
        }
        // Tried also with a token that never ends: none is given an end before a run from here has reached every peer.
        let bundle = match self.bundle(&link, now).await {
            Ok(bundle) => bundle,
            Err(error) => return Err(used(Outcome::Failed, causes::line(&error))),
        };
        let is_due = until.is_some_and(|end| is_due(at(facts.issued), end, now));
        let why = match (until.filter(|_| is_due), &bundle) {
            (Some(end), _) => format!("its token ends at {end}"),
            (None, Some(_)) => "the API server's CA changed".into(),
            (None, None) => {
                let never =
                    "its token never ends by itself: meshlink renew replaces it by its age".into();
                let text = until.map_or(never, |end| format!("valid until {end}"));
                return Err(used(Outcome::Fine, text));
            }
        };
        Ok(Box::new(Due {
            place,
            entry,
            bundle: bundle.unwrap_or_else(|| link.ca.clone()),
            bound: facts.bound.filter(|_| is_due),
            link,
            why,
        }))
    }

    /// The authorities of a peer's API server, where they are not those that its remote secret holds. None is taken out
    /// but those that have ended: of what an admin's kubeconfig adds, nothing is known here.
    async fn bundle(&self, link: &Link, now: Timestamp) -> Result<Option<Vec<u8>>, cluster::Error> {
        let peer = self.peer(link)?;
        let map = Ref::namespaced(&ObjectKind::CONFIG_MAP, ISTIO_SYSTEM, access::ROOT_CA);
        let map = match peer.find(&map).await {
            Ok(map) => map,
            Err(error) if error.code() == Some(403) => None,
            Err(error) => return Err(error),
        };
        let held = link.ca.as_slice();
        let told = map.as_ref().map(root_ca).into_iter();
        let wanted = pki::anchors(told.chain([held]), now);
        let set = |all: &[pki::Anchor]| {
            let all = all.iter().map(|a| (a.sha256.clone(), ()));
            all.collect::<BTreeMap<_, _>>()
        };
        let same = set(&wanted) == set(&pki::anchors([held], Timestamp::MIN));
        Ok((!same).then(|| pki::pem_of(&wanted).into_bytes()))
    }

    /// A peer's API server, as istiod reaches it.
    fn peer(&self, link: &Link) -> Result<Cluster, cluster::Error> {
        let (name, token) = (link.tls_server_name.as_deref(), link.token.clone());
        connect::from_parts(
            &link.cluster,
            &link.server,
            Some(&link.ca),
            name,
            connect::fixed(token),
            &self.connect,
        )
    }

    /// This member's Lease: nobody else changes it meanwhile.
    async fn lock(&self, own: &Cluster) -> Result<engine::Lock, Failure> {
        let run = pki::random_id().map_err(|e| Failure::failed(&e))?;
        let identity = Identity::new(&self.operator, run, Process::this());
        let terms = Terms::new(identity, self.clock.clone(), Arc::new(machine::uptime));
        let seen = Seen {
            uid: self.cluster.clone().unwrap_or_default(),
            ..Seen::default()
        };
        let observed = Observed {
            clusters: [(self.member.clone(), seen)].into(),
            ..Observed::default()
        };
        let mesh = Mesh::named(&[self.member.to_string()]).map_err(|e| Failure::failed(&e))?;
        let mesh = Mesh {
            id: self.mesh.clone(),
            ..mesh
        };
        let patience = Patience {
            wait: self.wait_lock,
            going: Duration::ZERO,
            cancel: &self.cancel,
            say: &|_| (),
        };
        let clusters = [(self.member.clone(), own.clone())].into();
        let terms = Arc::new(terms);
        let lock = engine::lock(&clusters, &observed, &mesh, &terms, &patience);
        lock.await.map_err(|error| match error {
            engine::Error::Busy(busy) => Failure::new(Kind::Busy, &busy),
            engine::Error::Interrupted => Failure::from_causes(
                Kind::Interrupted,
                vec!["interrupted; nothing was changed".into()],
            ),
            error => Failure::failed(&error),
        })
    }

    async fn write(&self, own: &Cluster, due: Due) -> Used {
        let (id, why) = (self.id("token", &due.link.cluster), due.why.clone());
        let facts = access::token_facts(due.link.token.expose());
        let old = facts.expires.and_then(|s| Timestamp::from_second(s).ok());
        match self.renewed(own, due).await {
            Ok(until) => Used {
                id,
                outcome: Outcome::Renewed,
                until: until.or(old),
                text: match until.or(old) {
                    Some(until) => format!("renewed: valid until {until}"),
                    None => "renewed".into(),
                },
            },
            Err(error) => Used {
                id,
                outcome: Outcome::Failed,
                until: old,
                text: format!("{why}, and it is not renewed: {error}"),
            },
        }
    }

    /// The next token and the authorities of now, tried and written; until when the token is valid, where it is another.
    async fn renewed(&self, own: &Cluster, due: Due) -> Result<Option<Timestamp>, String> {
        let line = |error: cluster::Error| causes::line(&error);
        let known = Link {
            ca: due.bundle,
            ..due.link
        };
        let peer = self.peer(&known).map_err(line)?;
        let (token, until) = match &due.bound {
            None => (known.token.clone(), None),
            Some(uid) => {
                let bound = Bound {
                    secret: &access::anchor(&self.member).name,
                    uid,
                };
                let life = Duration::from_secs(BOUND_LIFE.unsigned_abs());
                let account = access::account_name(&self.member);
                let asked = peer.token(ISTIO_SYSTEM, &account, life, Some(&bound)).await;
                let (token, until) = asked.map_err(line)?;
                (token, Some(until))
            }
        };
        let next = Link { token, ..known };
        access::try_kubeconfig(&next, Trial::Opens, &self.connect)
            .await
            .map_err(|error| causes::line(&error))?;
        self.patch(own, &due.place, &due.entry, &next).await?;
        Ok(until)
    }

    /// Writes one entry into the Secret it was read from, unless somebody else has changed it since.
    async fn patch(
        &self,
        own: &Cluster,
        place: &Ref,
        entry: &Value,
        next: &Link,
    ) -> Result<(), String> {
        let line = |error: cluster::Error| causes::line(&error);
        let live = own.find(place).await.map_err(line)?.unwrap_or_default();
        if live["data"][next.cluster.as_str()] != *entry || self.whose(&live).is_some() {
            return Err(format!("{place} was changed by somebody else meanwhile"));
        }
        let mut patch = access::packed_patch(&next.cluster, Some(next));
        for key in ["uid", "resourceVersion"] {
            patch["metadata"][key] = json!(live["metadata"][key]);
        }
        own.merge(place, &patch).await.map_err(line).map(drop)
    }

    /// The roots that this member's istiod hands out; none where it has not yet.
    async fn roots(&self, own: &Cluster) -> Vec<Cert> {
        let map = Ref::namespaced(&ObjectKind::CONFIG_MAP, ISTIO_SYSTEM, ROOTS);
        let map = own.find(&map).await.ok().flatten().unwrap_or_default();
        let pem = map["data"]["root-cert.pem"].as_str().unwrap_or_default();
        Cert::from_pem(pem.as_bytes()).unwrap_or_default()
    }

    /// The root, if somebody has to know of it.
    fn root(&self, roots: &[Cert], now: Timestamp) -> Option<Used> {
        let last = roots.iter().map(Cert::facts).max_by_key(|c| c.not_after)?;
        let id = format!("root/{}", pki::short(&last.spki_sha256));
        Some(left(id, last, now, "meshlink rotate root"))
    }

    /// What istiod signs with. It stands in `cacerts`, which is not for a renewer to read; istiod shows it.
    async fn signer(&self, roots: &[Cert], now: Timestamp) -> Used {
        let id = format!("intermediate/{}", self.member);
        let shown = match &self.istiod {
            Some(address) => signer::shown(address, roots).await,
            None => Err("no --istiod was given".to_owned()),
        };
        match shown {
            Ok(cert) => left(id, cert.facts(), now, "meshlink renew"),
            Err(why) => Used {
                id,
                outcome: Outcome::Fine,
                until: None,
                text: format!("not seen from here ({why}): meshlink ca status says when it ends"),
            },
        }
    }
}

/// What only somebody with the root's key can renew.
fn left(id: String, facts: &CertFacts, now: Timestamp, command: &str) -> Used {
    let until = facts.not_after;
    let is_pressing = facts.life().state(now) >= State::Warning;
    Used {
        id,
        outcome: match is_pressing {
            true => Outcome::Left,
            false => Outcome::Fine,
        },
        until: Some(until),
        text: match is_pressing {
            true => {
                format!("ends at {until}: no renewer has the root's key, and {command} needs it")
            }
            false => format!("valid until {until}"),
        },
    }
}
