//! Namespaces, CRDs and istiod.

use serde_json::Value;

use super::{Evidence, StepContext, seen};
use crate::{
    cluster::{Kind, Manager, Ref, wait},
    engine::Error,
    name::ClusterName,
    observe::{ROOTS, published_roots, throw_aways},
    plan::{Step, desire::reference},
    wait::Progress,
};

impl StepContext<'_> {
    /// Namespaces we make are marked, so that a later leave takes away those and no others. In one of somebody else's,
    /// only our label is added.
    pub(super) async fn prepare_namespaces(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let mut evidence = vec![];
        for namespace in &self.run.wanted(name)?.namespaces {
            let there = match Ref::of(namespace) {
                Some(place) => cluster.find(&place).await?,
                None => None,
            };
            let owner = self.owner(cluster)?;
            let verb = match there.as_ref() {
                Some(live) if !owner.has_made(live) => {
                    cluster.apply(namespace, Manager::Meshlink, false).await?;
                    "is there"
                }
                there => {
                    self.write(cluster, namespace).await?;
                    there.map_or("created", |_| "is there")
                }
            };
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            evidence.push(format!("namespace {name} {verb}"));
        }
        Ok(evidence)
    }

    pub(super) async fn install_base(&self, name: &ClusterName) -> Evidence {
        let step = Step::InstallBase(name.clone());
        self.install(name, &self.run.wanted(name)?.base, &step)
            .await
    }

    pub(super) async fn install_istiod(&self, name: &ClusterName) -> Evidence {
        let step = Step::InstallIstiod(name.clone());
        self.install(name, &self.run.wanted(name)?.istiod, &step)
            .await
    }

    /// istiod is ready when its pods are, and its webhooks when istiod has written its CA into
    /// them: a gateway pod made earlier would keep the image `auto` for ever.
    pub(super) async fn await_istiod(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let deadline = self.deadline;
        let deployment = self.in_istio(&Kind::DEPLOYMENT, "istiod");
        wait::available(cluster, &deployment, deadline, self.say).await?;
        for webhook in self.webhooks(name)? {
            wait::until(cluster, &webhook, deadline, wait::webhook_has_ca, self.say).await?;
        }
        // A cluster that is adopted goes on under its own root for a while.
        if self.run.adoption.is_none() {
            self.await_published_root(name).await?;
        }
        seen("istiod is available and its webhooks serve")
    }

    fn webhooks(&self, name: &ClusterName) -> Result<Vec<Ref>, Error> {
        let istiod = &self.run.wanted(name)?.istiod;
        let hooks = istiod
            .objects()
            .filter(|o| o["kind"] == "MutatingWebhookConfiguration");
        Ok(hooks
            .filter_map(|o| reference(o, &istiod.namespace))
            .collect())
    }

    /// What istiod publishes is what it signs under: until that is our root, it is not our istiod.
    async fn await_published_root(&self, name: &ClusterName) -> Result<(), Error> {
        let Some(root) = self.run.vault.root()? else {
            return Ok(());
        };
        let want = root.facts().spki_sha256.clone();
        let map = self.in_istio(&Kind::CONFIG_MAP, ROOTS);
        let publishes = |map: Option<&Value>| {
            let mut roots = map.map(published_roots).unwrap_or_default();
            let renewing = map.map(throw_aways).unwrap_or_default();
            roots.retain(|root| !renewing.contains(root));
            match roots.as_slice() {
                [root] if *root == want => Progress::Done(()),
                [] => Progress::NotYet("istiod has not published its root yet".into()),
                _ => Progress::NotYet("istiod still publishes another root".into()),
            }
        };
        wait::until(
            self.cluster(name)?,
            &map,
            self.deadline,
            publishes,
            self.say,
        )
        .await?;
        Ok(())
    }
}
