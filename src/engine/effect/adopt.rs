//! A cluster that came with an Istio: what was somebody else's is handed over, and its root gives way to the mesh's.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{Evidence, StepContext, own::foreign, seen};
use crate::{
    cluster::Kind,
    engine::Error,
    name::ClusterName,
    owner::ADOPT,
    pki::{self, Cert, Profile},
    plan::{Step, Taken, rotate},
    verify::rotation::Aim,
};

/// The keys of `cacerts`.
const SIGNER: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOTS: &str = "root-cert.pem";
/// Where istiod keeps a root that it has made itself.
const OWN: &str = "istio-ca-secret";

impl StepContext<'_> {
    /// What the plan says, each only as it was seen then.
    pub(super) async fn hand_over(&self, step: &Step, name: &ClusterName) -> Evidence {
        let cluster = self.cluster(name)?;
        let mesh = self.run.mesh.id.as_str();
        let taken = self.run.takings.get(step);
        let taken = taken.map(Vec::as_slice).unwrap_or_default();
        for Taken {
            object,
            uid,
            release,
        } in taken
        {
            let metadata = match release {
                Some((name, namespace)) => json!({"uid": uid,
                    "labels": {"app.kubernetes.io/managed-by": "Helm"},
                    "annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}}),
                None => json!({"uid": uid, "annotations": {ADOPT: mesh}}),
            };
            cluster
                .merge(object, &json!({"metadata": metadata}))
                .await?;
        }
        seen(format!("{} objects were handed over", taken.len()))
    }

    /// Their signer goes on signing. A root of istiod's own, which is in no `cacerts` yet, is written there with its key.
    pub(super) async fn trust_root(&self, name: &ClusterName) -> Evidence {
        let root = self.mesh_root(name)?;
        let mut data = self.their_cacerts(name).await?;
        let held = text(&data, ROOTS).ok_or_else(|| self.lacks(name, ROOTS))?;
        let certs = Cert::from_pem(held.as_bytes())?;
        if !certs.contains(&root) {
            // As it was, and the other behind it: older istiods compare the text.
            let both = format!("{}\n{}", held.trim_end(), root.to_pem());
            data.insert(ROOTS.to_owned(), STANDARD.encode(both).into());
        }
        self.write_cacerts_data(name, data).await?;
        let (own, mesh) = (certs.len(), pki::short(&root.facts().spki_sha256));
        seen(format!(
            "Secret {}/cacerts holds root {mesh} beside {own} of its own",
            self.istio()
        ))
    }

    /// The Secret as it is, or what it would be for the root that istiod has made itself.
    async fn their_cacerts(&self, name: &ClusterName) -> Result<Map<String, Value>, Error> {
        let cluster = self.cluster(name)?;
        let place = self.in_istio(&Kind::SECRET, "cacerts");
        if let Some(mut live) = cluster.find(&place).await? {
            if let Some(whose) = self.owner(cluster)?.whose(&live) {
                return Err(foreign(cluster, &live, &whose).into());
            }
            return match live["data"].take() {
                Value::Object(data) => Ok(data),
                _ => Err(self.lacks(name, SIGNER)),
            };
        }
        let own = cluster.find(&self.in_istio(&Kind::SECRET, OWN)).await?;
        let own = own.ok_or_else(|| Error::Missing {
            cluster: name.clone(),
            what: format!(
                "there is neither a Secret cacerts nor {OWN} in {}: its certificates come from somewhere else",
                self.istio()
            ),
        })?;
        let file = |key: &str| {
            let value = own["data"][key].as_str().filter(|text| !text.is_empty());
            let value = value.ok_or_else(|| self.lacks(name, key))?;
            Ok::<_, Error>(Value::from(value))
        };
        let cert = file(SIGNER)?;
        let files = [
            (SIGNER, cert.clone()),
            (KEY, file(KEY)?),
            (CHAIN, cert.clone()),
            (ROOTS, cert),
        ];
        let files = files.into_iter();
        Ok(files.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn lacks(&self, name: &ClusterName, key: &str) -> Error {
        Error::Missing {
            cluster: name.clone(),
            what: format!("the certificates of its istiod lack {key}"),
        }
    }

    fn mesh_root(&self, name: &ClusterName) -> Result<Cert, Error> {
        let root = self.run.vault.root()?;
        root.ok_or_else(|| Error::Missing {
            cluster: name.clone(),
            what: "the vault has lost the mesh's root".into(),
        })
    }

    /// Until everything trusts the mesh's root beside its own.
    pub(super) async fn spread_root(&self, name: &ClusterName) -> Evidence {
        let root = self.mesh_root(name)?;
        let told = self.run.adoption.as_ref().and_then(|how| how.projected);
        let aim = Aim {
            trusts: vec![&root.facts().spki_sha256],
            projected: Some(told.unwrap_or(rotate::PROJECTED)),
            ..Aim::default()
        };
        self.everywhere(name, &aim).await
    }

    /// Another set of roots, so that proxies ask for new certificates, and a signer that all of them trust.
    pub(super) async fn replace_signer(&self, name: &ClusterName) -> Evidence {
        let root = self.mesh_root(name)?;
        let profile = Profile::intermediate()?;
        let new = self.new_intermediate(name, &profile);
        let held = self.run.vault.issue_intermediate(&new).await?;
        let live = self.live_cacerts(name).await?;
        let waits = live.roots.iter().any(|r| pki::is_throw_away(r.facts()));
        if live.signer.as_ref() != Some(held.cert()) || !waits {
            let mut roots = live.roots;
            roots.push(pki::throw_away(
                &self.run.mesh.id,
                self.run.embedded,
                self.run.now(),
            )?);
            self.write_cacerts(name, &held.cacerts_trusting(&roots)?)
                .await?;
        }
        let aim = Aim {
            trusts: vec![&root.facts().spki_sha256],
            under: Some(&root),
            ends: Some(held.facts().not_after.as_second()),
            ..Aim::default()
        };
        self.everywhere(name, &aim).await
    }

    /// The mesh's root alone.
    pub(super) async fn drop_root(&self, name: &ClusterName) -> Evidence {
        let root = self.mesh_root(name)?;
        let mut live = self.live_cacerts(name).await?;
        if live.roots.len() > 1 {
            let alone = STANDARD.encode(root.to_pem());
            live.data.insert(ROOTS.to_owned(), alone.into());
            self.write_cacerts_data(name, live.data).await?;
        }
        let aim = Aim {
            trusts: vec![&root.facts().spki_sha256],
            only: true,
            under: Some(&root),
            ..Aim::default()
        };
        self.everywhere(name, &aim).await
    }
}

fn text(data: &Map<String, Value>, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(data.get(key)?.as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}
