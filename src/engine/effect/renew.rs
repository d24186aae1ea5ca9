//! New certificates in the place of old ones, under istiod as it runs.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Evidence, StepContext, seen};
use crate::{
    cluster::{Kind, wait},
    engine::Error,
    name::ClusterName,
    observe::{ROOTS, TrustSeen, published_roots},
    pki::{self, Cert, Intermediate},
    wait::{Progress, Reason},
};

mod follow;

use follow::{Wanted, followed};

/// How long a proxy may take that follows. One that takes longer is named, and not waited for: it goes on with what it has.
const LINGER: Duration = Duration::from_secs(60);
/// The roots in `cacerts`.
pub(super) const ROOT: &str = "root-cert.pem";

impl StepContext<'_> {
    /// The set of roots has to grow, whatever of earlier runs is in it: istiod takes only what holds all that it has, or
    /// nothing that it has not.
    pub(super) async fn renew_cacerts(&self, name: &ClusterName) -> Evidence {
        let held = self.held(name)?;
        let live = self.live_cacerts(name).await?;
        let mut roots = live.roots;
        if !roots.contains(held.root()) {
            roots.push(held.root().clone());
        }
        let signs = live.signer.as_ref() == Some(held.cert());
        let waits = roots.iter().any(|root| pki::is_throw_away(root.facts()));
        // A run that died after this write is not done again: its throw-away root is still to be seen by the proxies.
        if !(signs && waits) {
            let mesh = &self.run.mesh.id;
            roots.push(pki::throw_away(mesh, self.run.embedded, self.run.now())?);
            let cacerts = held.cacerts_trusting(&roots)?;
            self.write_cacerts(name, &cacerts).await?;
        }
        self.nudge(self.cluster(name)?).await?;
        let signer = pki::short(&held.facts().spki_sha256);
        seen(format!(
            "Secret {}/cacerts signs with {signer}, beside a throw-away root",
            self.istio()
        ))
    }

    /// Until istiod runs with what is in `cacerts`, and so do those whom it serves.
    pub(super) async fn await_reissue(&self, name: &ClusterName) -> Evidence {
        let deployment = self.in_istio(&Kind::DEPLOYMENT, "istiod");
        wait::available(self.cluster(name)?, &deployment, self.deadline, self.say).await?;
        self.nudge(self.cluster(name)?).await?;
        self.until_followed(name).await
    }

    /// The roots of the mesh alone again: less than istiod has, so that it takes them, and another set than before, so
    /// that proxies follow. What istiod signs with stays as it is, whoever made it.
    pub(super) async fn settle_cacerts(&self, name: &ClusterName) -> Evidence {
        let mut live = self.live_cacerts(name).await?;
        let keep = live.roots.iter();
        let keep: Vec<_> = keep
            .filter(|root| !pki::is_throw_away(root.facts()))
            .collect();
        if keep.len() < live.roots.len() {
            let bundle: String = keep.into_iter().map(Cert::to_pem).collect();
            live.data
                .insert(ROOT.to_owned(), STANDARD.encode(bundle).into());
            self.write_cacerts_data(name, live.data).await?;
        }
        self.nudge(self.cluster(name)?).await?;
        self.until_followed(name).await
    }

    fn held(&self, name: &ClusterName) -> Result<Intermediate, Error> {
        let held = self.run.vault.intermediate(name)?;
        held.ok_or_else(|| Error::Missing {
            cluster: name.clone(),
            what: "the vault has lost its intermediate".into(),
        })
    }

    pub(super) async fn live_cacerts(&self, name: &ClusterName) -> Result<Live, Error> {
        let place = self.in_istio(&Kind::SECRET, "cacerts");
        let found = self.cluster(name)?.find(&place).await?;
        let missing = |what: &str| Error::Missing {
            cluster: name.clone(),
            what: format!("{place} {what}"),
        };
        let mut secret = found.ok_or_else(|| missing("is gone"))?;
        let files = pki::secret_files(&secret["data"])?;
        let read = |file: &str| match files.get(file) {
            Some(pem) => Cert::from_pem(pem),
            None => Ok(vec![]),
        };
        let roots = read(ROOT)?;
        let signer = read("ca-cert.pem")?.into_iter().next();
        match secret["data"].take() {
            Value::Object(data) => Ok(Live {
                data,
                roots,
                signer,
            }),
            _ => Err(missing("is empty")),
        }
    }

    /// Until istiod publishes the roots that are in `cacerts`, which it does when it has taken all of that, and until every
    /// proxy that follows holds what comes of it.
    async fn until_followed(&self, name: &ClusterName) -> Evidence {
        let live = self.live_cacerts(name).await?;
        let keys = live
            .roots
            .iter()
            .map(|root| root.facts().spki_sha256.clone());
        let want: BTreeSet<_> = keys.collect();
        self.until_published(name, &want).await?;
        let Some(signer) = &live.signer else {
            return seen(format!("istiod in {name} runs with what is in cacerts"));
        };
        let wanted = &Wanted {
            signer,
            roots: &want,
        };
        let begun = Instant::now();
        let what = format!("the proxies in {name} hold what is in cacerts");
        let followed = self.until(&what, || async move {
            let seen = TrustSeen::read(self.cluster(name)?, self.istio()).await?;
            let followed = followed(&seen, wanted, self.run.now());
            if followed.is_enough(begun.elapsed() > LINGER) {
                return Ok(Progress::Done(followed));
            }
            let reason = Reason::from(followed.line(name));
            Ok(Progress::NotYet(reason.with(followed.restarts(name))))
        });
        let followed = followed.await?;
        let rest = followed.rest();
        Ok([vec![followed.line(name)], rest].concat())
    }

    async fn until_published(
        &self,
        name: &ClusterName,
        want: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let publishes = |map: Option<&Value>| {
            let roots = map.map(published_roots).unwrap_or_default();
            match roots.into_iter().collect::<BTreeSet<_>>() == *want {
                true => Progress::Done(()),
                false => Progress::NotYet("istiod has not loaded what is in cacerts".into()),
            }
        };
        let map = self.in_istio(&Kind::CONFIG_MAP, ROOTS);
        let cluster = self.cluster(name)?;
        Ok(wait::until(cluster, &map, self.deadline, publishes, self.say).await?)
    }
}

/// A Secret `cacerts` as it is.
pub(super) struct Live {
    /// Its data, with the key: not for logs.
    pub(super) data: Map<String, Value>,
    pub(super) roots: Vec<Cert>,
    pub(super) signer: Option<Cert>,
}
