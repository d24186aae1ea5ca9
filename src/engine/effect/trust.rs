//! The root, who is bound to it, and the certificates istiod signs with.

use serde_json::{Map, Value, json};

use super::{Evidence, StepContext, seen};
use crate::{
    cluster::{Cluster, Created, Kind, Ref, wait},
    engine::Error,
    hint::Hint,
    name::ClusterName,
    observe::{CLAIM, Claim, claim},
    pki::{self, Cacerts, NewIntermediate, NewRoot, Profile},
    plan::Refusal,
};

impl StepContext<'_> {
    pub(super) fn create_root(&self) -> Evidence {
        let profile = Profile::root()?;
        let root = match self.run.vault.root()? {
            // Another run, or this one before it died, has made it meanwhile.
            Some(root) => root,
            None => {
                let made = self.run.vault.create_root(&self.new_root(&profile))?;
                made.cert().clone()
            }
        };
        let facts = root.facts();
        let until = facts.not_after.strftime("%Y-%m-%d");
        seen(format!(
            "root {}, valid until {until}",
            pki::short(&facts.spki_sha256)
        ))
    }

    pub(super) fn new_root<'a>(&'a self, profile: &'a Profile) -> NewRoot<'a> {
        let (mesh, trust) = (&self.run.mesh.id, &self.run.mesh.trust);
        NewRoot {
            mesh,
            key: trust.key,
            lifetime: trust.root_lifetime,
            embedded: self.run.embedded,
            profile,
            now: self.run.now(),
        }
    }

    /// Creating is the vote: whoever comes second finds the first one's root and must agree.
    pub(super) async fn claim_root(&self, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let root = self.root_hash(name)?;
        let mine = Claim {
            mesh: self.run.mesh.id.to_string(),
            root,
        };
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": CLAIM, "namespace": self.istio()},
            "immutable": true,
            "data": {"mesh": mine.mesh, "root": mine.root},
        });
        let map = self.owner(cluster)?.stamped(&map, None);
        let there = match cluster.create(&map).await? {
            Created::Created(map) | Created::Exists(map) => claim(&map),
        };
        if there != mine {
            let reason = format!(
                "somebody else has bound it to root {} of mesh {} in the meantime",
                pki::short(&there.root),
                there.mesh
            );
            let hints = vec![Hint::other_mesh(["status", "--mesh", &there.mesh])];
            return Err(Refusal {
                cluster: Some(name.clone()),
                reason,
                hints,
            }
            .into());
        }
        seen(format!("bound to root {}", pki::short(&mine.root)))
    }

    fn root_hash(&self, name: &ClusterName) -> Result<String, Error> {
        let root = self.run.vault.root()?;
        let root = root.ok_or_else(|| Error::Missing {
            cluster: name.clone(),
            what: "the vault has lost the mesh's root".into(),
        })?;
        Ok(root.facts().spki_sha256.clone())
    }

    pub(super) async fn issue_intermediate(&self, name: &ClusterName) -> Evidence {
        let profile = Profile::intermediate()?;
        let new = self.new_intermediate(name, &profile);
        let held = self.run.vault.issue_intermediate(&new).await?;
        let facts = held.facts();
        let until = facts.not_after.strftime("%Y-%m-%d");
        seen(format!(
            "intermediate {}, valid until {until}",
            pki::short(&facts.spki_sha256)
        ))
    }

    pub(super) fn new_intermediate<'a>(
        &'a self,
        name: &'a ClusterName,
        profile: &'a Profile,
    ) -> NewIntermediate<'a> {
        NewIntermediate::of(&self.run.mesh, name, profile, self.run.now())
    }

    /// All keys of the Secret in one write: the kubelet swaps them as one.
    pub(super) async fn install_cacerts(&self, name: &ClusterName) -> Evidence {
        let held = self
            .run
            .vault
            .intermediate(name)?
            .ok_or_else(|| Error::Missing {
                cluster: name.clone(),
                what: "the vault has lost its intermediate".into(),
            })?;
        self.write_cacerts(name, &held.cacerts()?).await?;
        let signer = pki::short(&held.facts().spki_sha256);
        seen(format!(
            "Secret {}/cacerts signs with {signer}",
            self.istio()
        ))
    }

    pub(super) async fn write_cacerts(
        &self,
        name: &ClusterName,
        cacerts: &Cacerts,
    ) -> Result<(), Error> {
        self.write_cacerts_data(name, cacerts.data()).await
    }

    pub(super) async fn write_cacerts_data(
        &self,
        name: &ClusterName,
        data: Map<String, Value>,
    ) -> Result<(), Error> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "cacerts", "namespace": self.istio()},
            "data": data,
        });
        self.write(self.cluster(name)?, &secret).await?;
        Ok(())
    }

    /// Pods are deleted one by one by the workload's own rollout.
    pub(super) async fn restart(&self, cluster: &Cluster, workload: &Ref) -> Result<(), Error> {
        let at = self.run.now().to_string();
        let patch = json!({"spec": {"template": {"metadata": {"annotations":
            {"meshlink/restarted-at": at}}}}});
        Ok(cluster.merge(workload, &patch).await.map(drop)?)
    }

    pub(super) async fn restart_istiod(&self, name: &ClusterName) -> Evidence {
        let deployment = self.in_istio(&Kind::DEPLOYMENT, "istiod");
        self.restart(self.cluster(name)?, &deployment).await?;
        seen(format!("Deployment {}/istiod restarts", self.istio()))
    }

    /// What a changed remote secret has broken in an istiod, a new process reads afresh.
    pub(super) async fn refresh_istiod(&self, name: &ClusterName) -> Evidence {
        self.restart_istiod(name).await?;
        let deployment = self.in_istio(&Kind::DEPLOYMENT, "istiod");
        wait::available(self.cluster(name)?, &deployment, self.deadline, self.say).await?;
        seen(format!("Deployment {}/istiod was restarted", self.istio()))
    }
}
