//! One root in the place of another: what is written in each phase, and what is waited for until the next may begin.

use std::{sync::Mutex, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Evidence, StepContext, own::foreign, renew::ROOT, seen};
use crate::{
    causes,
    cluster::{Cluster, Created, Delete, Kind, Recover, object},
    engine::{Error, Rotation},
    mutex,
    name::ClusterName,
    observe::{
        CLAIM, CacertsSeen, Claim, NEXT, PROJECTED, REPLACES, Succession, TrustSeen, cacerts,
        claim, succession,
    },
    pki::{Cert, Profile, secret_files, short},
    plan::{Refusal, Step, rotate},
    verify::rotation::{Aim, Stage},
    wait::{self, Every, Progress, Reason, Unmet},
};

mod restart;

/// How often everything in a member is looked at.
const LOOK: Every = Every::growing(Duration::from_millis(250), Duration::from_secs(2));
/// How often the kubelet of an istiod is made to look for a changed Secret, until it has found it.
const NUDGE: Duration = Duration::from_secs(10);
/// How many of those that are late are named.
const NAMED: usize = 5;

/// What a phase writes, if it is not written yet, and what must be so in the end.
struct Turn<'a> {
    /// What a member is at before.
    before: Stage,
    /// What it is at afterwards. One that has come further is not taken back.
    after: Stage,
    /// Under which root istiod signs; as before where there is none here.
    signer: Option<&'a Cert>,
    /// Who is trusted.
    roots: Vec<&'a Cert>,
    /// What must be so in the end.
    aim: Aim<'a>,
}

/// The certificates that a change of root has to do with.
struct Parties {
    from: Cert,
    to: Cert,
    spare: Cert,
}

impl StepContext<'_> {
    fn rotation(&self, name: &ClusterName) -> Result<&Rotation, Error> {
        let rotation = self.run.rotation.as_ref();
        rotation.ok_or_else(|| missing(name, "the run is no change of root"))
    }

    fn projected(&self, name: &ClusterName) -> Result<Duration, Error> {
        let told = self.rotation(name)?.how.projected;
        Ok(told.unwrap_or(rotate::PROJECTED))
    }

    /// One that was made before and has not been used yet serves, unless another was asked for.
    pub(super) fn create_next_root(&self) -> Evidence {
        if let Some(named) = self.run.vault.named() {
            let profile = Profile::root()?;
            if self.run.vault.next_root()?.is_none() {
                self.run.vault.add_named(&self.new_root(&profile), named)?;
            }
            let key = short(&named.root().facts().spki_sha256);
            return seen(format!("root {key}, under which {} signs", named.who()));
        }
        let how = self.run.rotation.as_ref().map(|rotation| &rotation.how);
        let given = how.and_then(|how| how.given.as_deref());
        let is_fresh = how.is_some_and(|how| how.fresh);
        let next = self.run.vault.next_root()?.filter(|next| match given {
            Some(given) => given.facts() == next.facts(),
            None => !is_fresh,
        });
        let root = match next {
            Some(next) => next,
            None => {
                let profile = Profile::root()?;
                let made = self.run.vault.add_root(&self.new_root(&profile), given)?;
                made.cert().clone()
            }
        };
        let facts = root.facts();
        let until = facts.not_after.strftime("%Y-%m-%d");
        let key = short(&facts.spki_sha256);
        seen(format!("root {key}, valid until {until}"))
    }

    /// What is changed into what: as the members say, else by the vault; the same for all of a run.
    fn change(&self, name: &ClusterName) -> Result<Succession, Error> {
        let rotation = self.rotation(name)?;
        if let Some(change) = rotation.change.get() {
            return Ok(change.clone());
        }
        let next = self.run.vault.next_root()?;
        let next = next.ok_or_else(|| missing(name, "the vault has lost the new root"))?;
        let to = next.facts().spki_sha256.clone();
        let spare = self.run.vault.spare(&to)?;
        let spare = spare.ok_or_else(|| missing(name, "the vault has lost the spare root"))?;
        let change = Succession {
            mesh: self.run.mesh.id.to_string(),
            from: rotation.from.clone(),
            to,
            spare: spare.facts().spki_sha256.clone(),
        };
        Ok(rotation.change.get_or_init(|| change).clone())
    }

    /// Creating is the vote, as with the claim: whoever comes second finds the first one's change and must agree.
    pub(super) async fn announce_root(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let change = self.change(name)?;
        let projected = self.projected(name)?.as_secs().to_string();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NEXT, "namespace": self.istio()},
            "immutable": true,
            "data": {"mesh": change.mesh, "from": change.from, "to": change.to, "spare": change.spare, PROJECTED: projected},
        });
        let map = self.owner(cluster)?.stamped(&map, None);
        let there = match cluster.create(&map).await? {
            Created::Created(map) | Created::Exists(map) => map,
        };
        if let Some(whose) = self.owner(cluster)?.whose(&there) {
            return Err(foreign(cluster, &there, &whose).into());
        }
        if succession(&there).as_ref() != Some(&change) {
            let reason = "somebody else has begun another change of root in the meantime";
            return Err(refused(name, reason.to_owned()).into());
        }
        let (from, to) = (short(&change.from), short(&change.to));
        seen(format!("ConfigMap {}/{NEXT}: {from} to {to}", self.istio()))
    }

    /// A phase: what it writes, and until everything has it.
    pub(super) async fn turn(&self, step: &Step, name: &ClusterName) -> Evidence {
        let change = self.change(name)?;
        let (live, files) = self.cacerts_of(name).await?;
        let parties = self.parties(name, &change, &files)?;
        let can_sign = self.run.vault.can_sign(&change.to)?;
        let to_key = || match can_sign {
            true => Ok(Some(&parties.to)),
            false => Err(missing(name, "the vault has lost the new root")),
        };
        let (from, to, spare) = (&parties.from, &parties.to, &parties.spare);
        let limit = self.projected(name)?;
        let forth = |stage| Aim::forth(stage, &change, Some(to), limit);
        let back = |stage| Aim::back(stage, &change, from);
        let turn = |before, after, signer, roots, aim| Turn {
            before,
            after,
            signer,
            roots,
            aim,
        };
        let (old, both, signing, new) = (Stage::Old, Stage::Both, Stage::Signing, Stage::New);
        let turn = match step {
            Step::DistributeRoot(_) => turn(old, both, None, vec![from, to], forth(both)),
            Step::SwitchIssuer(_) => turn(
                both,
                signing,
                to_key()?,
                vec![from, to, spare],
                forth(signing),
            ),
            Step::RetireRoot(_) => turn(signing, new, to_key()?, vec![to], forth(new)),
            Step::RestoreIssuer(_) => turn(signing, both, Some(from), vec![from, to], back(both)),
            _ => turn(both, old, None, vec![from], back(old)),
        };
        self.bring(step, name, &change, (&live, &files), turn).await
    }

    /// The Secret as it is.
    async fn cacerts_of(
        &self,
        name: &ClusterName,
    ) -> Result<(CacertsSeen, crate::pki::Files), Error> {
        let cluster = self.cluster(name)?;
        let place = self.in_istio(&Kind::SECRET, "cacerts");
        let read = || async {
            let live = cluster.find(&place).await?;
            Ok(match live {
                Some(live) => Progress::Done(live),
                None => Progress::Never(missing(name, "it has lost its Secret cacerts")),
            })
        };
        let live = self.until("Secret cacerts is read", read).await?;
        let owner = self.owner(cluster)?;
        let files = secret_files(&live["data"])?;
        Ok((cacerts(&live, self.run.now(), owner), files))
    }

    /// The certificates of both roots: from the vault; where that does not hold one, as it stands in the Secret already.
    fn parties(
        &self,
        name: &ClusterName,
        change: &Succession,
        files: &crate::pki::Files,
    ) -> Result<Parties, Error> {
        let vault = &self.run.vault;
        let bundle = files.get("root-cert.pem");
        let bundle = bundle.and_then(|pem| Cert::from_pem(pem).ok());
        let mut known: Vec<Cert> = vault.roots()?.into_iter().map(|(_, root)| root).collect();
        known.extend(vault.spare(&change.to)?);
        known.extend(bundle.into_iter().flatten());
        let find = |key: &str| {
            let mut known = known.iter();
            known.find(|cert| cert.facts().spki_sha256 == key).cloned()
        };
        let from = find(&change.from);
        let to = find(&change.to);
        Ok(Parties {
            from: from.ok_or_else(|| missing(name, "the vault has lost the mesh's root"))?,
            // Who has neither has not to do with them: where nothing signs under it, going back needs no more.
            spare: find(&change.spare)
                .or_else(|| to.clone())
                .ok_or_else(|| missing(name, "the new root is neither in the vault nor in it"))?,
            to: to
                .ok_or_else(|| missing(name, "the new root is neither in the vault nor in it"))?,
        })
    }

    /// Writes what a phase writes, if that is not there yet, and waits until everything has it.
    async fn bring(
        &self,
        step: &Step,
        name: &ClusterName,
        change: &Succession,
        (live, files): (&CacertsSeen, &crate::pki::Files),
        turn: Turn<'_>,
    ) -> Evidence {
        let at = Stage::of(live, change);
        let at = at.ok_or_else(|| {
            refused(
                name,
                "somebody has changed Secret cacerts in the meantime".into(),
            )
        })?;
        let mut until = live.signer.as_ref().map(|signer| signer.not_after);
        if at == turn.before {
            let data = match turn.signer {
                // The key of that root may be with somebody who is not asked any more.
                None => kept(files, &turn.roots),
                Some(root) => {
                    let profile = Profile::intermediate()?;
                    let new = self.new_intermediate(name, &profile);
                    let signer = self.run.vault.issue_under(&new, root).await?;
                    until = Some(signer.facts().not_after);
                    let cacerts = signer.cacerts_trusting(turn.roots.iter().copied())?;
                    cacerts.data()
                }
            };
            self.give(name, data).await?;
            self.run.crash.pass(&step.to_string(), "written").await;
        } else if (turn.after > turn.before && at < turn.before)
            || (turn.after < turn.before && at > turn.before)
        {
            let reason = "its Secret cacerts is not that of the phase before";
            return Err(refused(name, reason.into()).into());
        }
        let aim = Aim {
            ends: until.map(|until| until.as_second()),
            ..turn.aim
        };
        self.everywhere(name, &aim).await
    }

    async fn give(&self, name: &ClusterName, data: Map<String, Value>) -> Result<(), Error> {
        // A member may be away for a while; who writes first is told when it is back.
        let write = || async {
            self.write_cacerts_data(name, data.clone()).await?;
            Ok(Progress::Done(()))
        };
        self.until("Secret cacerts is written", write).await
    }

    /// Until everything in a member is as it must be.
    pub(super) async fn everywhere(&self, name: &ClusterName, aim: &Aim<'_>) -> Evidence {
        let cluster = self.cluster(name)?;
        let nudged = &Mutex::new(None::<Instant>);
        let ask = |()| async move {
            let looked = self.look_everywhere(cluster, aim, nudged).await;
            match looked {
                Ok(progress) => progress,
                Err(error) if error.recover() == Recover::Never => Progress::Never(error),
                Err(error) => Progress::NotYet(causes::line(&error).into()),
            }
        };
        let say = |reason: &str| (self.say)(reason.lines().next().unwrap_or_default());
        let met = wait::until(ask, LOOK, self.deadline, say).await;
        met.map_err(|unmet| match unmet {
            Unmet::Never(error) => error,
            Unmet::Late { waited, reason } => Error::NotInTime {
                what: "every proxy has followed".into(),
                waited,
                reason,
            },
        })
    }

    async fn look_everywhere(
        &self,
        cluster: &Cluster,
        aim: &Aim<'_>,
        nudged: &Mutex<Option<Instant>>,
    ) -> Result<Progress<Vec<String>, Error>, Error> {
        let trust = TrustSeen::read(cluster, self.istio()).await?;
        let standing = aim.judge(&trust, self.run.now());
        if standing.is_met() {
            let (proxies, maps) = (standing.proxies, trust.published.len());
            let hooks = trust.webhooks.len();
            return Ok(Progress::Done(vec![format!(
                "{proxies} proxies, {maps} ConfigMaps and {hooks} webhook configurations were looked at"
            )]));
        }
        let is_due = {
            let mut last = mutex::lock(nudged);
            let is_due = last.is_none_or(|last| last.elapsed() >= NUDGE);
            if is_due {
                *last = Some(Instant::now());
            }
            is_due
        };
        if is_due {
            self.nudge(cluster).await?;
        }
        let (late, all) = (standing.waits.len(), &standing.waits);
        let mut lines = vec![format!(
            "{} of {} proxies have followed: {}",
            standing.ready, standing.proxies, all[0]
        )];
        lines.extend(all.iter().skip(1).take(NAMED).cloned());
        if late > NAMED + 1 {
            lines.push(format!("and {} more", late - NAMED - 1));
        }
        Ok(Progress::NotYet(Reason::from(lines.join("\n"))))
    }

    /// A changed annotation makes the kubelet bring a pod's Secrets up to date at once.
    pub(super) async fn nudge(&self, cluster: &Cluster) -> Result<(), Error> {
        let pods = cluster.list(&Kind::POD, Some(self.istio()), Some("app=istiod"));
        let at = self.run.now().to_string();
        let patch = json!({"metadata": {"annotations": {"meshlink/nudged-at": at}}});
        for pod in object::running(&pods.await?) {
            match cluster
                .merge(&self.in_istio(&Kind::POD, &pod), &patch)
                .await
            {
                // One that has gone meanwhile has nothing to look at.
                Err(error) if error.code() == Some(404) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// The claim cannot be changed, so it is made anew. In between the announcement says to which root the cluster is bound.
    pub(super) async fn rebind_root(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let change = self.change(name)?;
        let mine = Claim {
            mesh: change.mesh.clone(),
            root: change.to.clone(),
        };
        let place = self.in_istio(&Kind::CONFIG_MAP, CLAIM);
        if let Some(live) = cluster.find(&place).await? {
            if let Some(whose) = self.owner(cluster)?.whose(&live) {
                return Err(foreign(cluster, &live, &whose).into());
            }
            if claim(&live).root == change.from {
                let only = Delete::background().only(&live);
                cluster.delete(&place, &only).await?;
            }
        }
        self.run
            .crash
            .pass(&format!("rebind-root/{name}"), "unbound")
            .await;
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": CLAIM, "namespace": self.istio()},
            "immutable": true,
            "data": {"mesh": mine.mesh, "root": mine.root, REPLACES: change.from},
        });
        let map = self.owner(cluster)?.stamped(&map, None);
        let there = match cluster.create(&map).await? {
            Created::Created(map) | Created::Exists(map) => claim(&map),
        };
        if there != mine {
            let reason = format!(
                "it is bound to root {} of mesh {}",
                short(&there.root),
                there.mesh
            );
            return Err(refused(name, reason).into());
        }
        seen(format!("bound to root {}", short(&mine.root)))
    }

    pub(super) async fn close_rotation(&self, name: &ClusterName) -> Evidence {
        let place = self.in_istio(&Kind::CONFIG_MAP, NEXT);
        let stays = self.remove(self.cluster(name)?, &place).await?;
        seen(stays.unwrap_or_else(|| format!("{place} is gone")))
    }
}

/// What is in a Secret, with these roots in the place of its own: not for logs.
fn kept(files: &crate::pki::Files, roots: &[&Cert]) -> Map<String, Value> {
    let roots: String = roots.iter().map(|root| root.to_pem()).collect();
    let all = files.iter().map(|(file, bytes)| {
        let bytes: &[u8] = match file.as_str() {
            ROOT => roots.as_bytes(),
            _ => bytes,
        };
        (file.clone(), STANDARD.encode(bytes).into())
    });
    all.collect()
}

fn missing(name: &ClusterName, what: &str) -> Error {
    Error::Missing {
        cluster: name.clone(),
        what: what.into(),
    }
}

fn refused(name: &ClusterName, reason: String) -> Refusal {
    let hint = crate::hint::Hint::meshlink(["rotate", "root", "--status"]);
    Refusal {
        cluster: Some(name.clone()),
        reason,
        hints: vec![hint],
    }
}
