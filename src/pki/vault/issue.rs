//! The intermediates in the vault: the one that serves, or a new one, signed here or by whoever is named.

use crate::{
    name::ClusterName,
    pki::{
        Cert, Intermediate, Key, NewIntermediate,
        renewal::outdated,
        signer::{self, Authority, Request, accept},
    },
};

use super::{CERT, Error, KEY, Vault, files};

impl Vault {
    /// The clusters that have an intermediate here, by name.
    pub(crate) fn clusters(&self) -> Result<Vec<ClusterName>, Error> {
        let dir = self.dir.join("clusters");
        if !(files::folder(&self.dir)? && files::folder(&dir)?) {
            return Ok(Vec::new());
        }
        let mut names: Vec<ClusterName> = files::names(&dir)?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// What a cluster signs with, if that is here: where the members say which root they are bound to, under that one.
    pub(crate) fn intermediate(
        &self,
        cluster: &ClusterName,
    ) -> Result<Option<Intermediate>, Error> {
        let named = || self.named().map(|named| named.root().clone());
        let root = self.followed()?.or_else(named);
        self.intermediate_under(cluster, root.as_ref())
    }

    /// The newest intermediate of a cluster under a root.
    fn intermediate_under(
        &self,
        cluster: &ClusterName,
        root: Option<&Cert>,
    ) -> Result<Option<Intermediate>, Error> {
        let folder = self.cluster_dir(cluster);
        let mut roots: Vec<_> = self.roots()?.into_iter().map(|(_, root)| root).collect();
        roots.extend(self.named().map(|named| named.root().clone()));
        roots.dedup();
        for number in self.checked(&folder)?.into_iter().rev() {
            let dir = folder.join(number.to_string());
            let (cert, key) = (files::need(&dir.join(CERT))?, files::need(&dir.join(KEY))?);
            let held = Intermediate::from_pem(&cert, &key, &roots)
                .map_err(|source| Error::Damaged { path: dir, source })?;
            if root.is_none_or(|root| held.root() == root) {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// The same, where one that is damaged counts as none: it can be made again, unlike the root.
    pub(crate) fn usable_intermediate(
        &self,
        cluster: &ClusterName,
    ) -> Result<Option<Intermediate>, Error> {
        self.usable(cluster, self.intermediate(cluster))
    }

    /// The newest of a cluster under a root, if it is not damaged.
    pub(crate) fn held_under(
        &self,
        cluster: &ClusterName,
        root: &Cert,
    ) -> Result<Option<Intermediate>, Error> {
        self.usable(cluster, self.intermediate_under(cluster, Some(root)))
    }

    fn usable(
        &self,
        cluster: &ClusterName,
        found: Result<Option<Intermediate>, Error>,
    ) -> Result<Option<Intermediate>, Error> {
        let folder = self.cluster_dir(cluster);
        match found {
            Err(Error::Damaged { path, .. } | Error::Missing { path })
                if path.starts_with(&folder) =>
            {
                tracing::debug!("{} is damaged, and is made again", path.display());
                Ok(None)
            }
            other => other,
        }
    }

    /// What a cluster shall sign with: the one that is here if it still serves, else a new one
    /// under the root of the mesh. Those before it stay.
    pub(crate) async fn issue_intermediate(
        &self,
        new: &NewIntermediate<'_>,
    ) -> Result<Intermediate, Error> {
        self.write_lock()?;
        let Some(root) = self.root()? else {
            return Err(Error::NoRoot {
                path: self.dir.clone(),
            });
        };
        self.issue_under(new, &root).await
    }

    /// The same under another root.
    pub(crate) async fn issue_under(
        &self,
        new: &NewIntermediate<'_>,
        root: &Cert,
    ) -> Result<Intermediate, Error> {
        self.write_lock()?;
        if let Some(found) = self.serving(new, root)? {
            return Ok(found);
        }
        let made = match self.named_under(&root.facts().spki_sha256) {
            Some(named) => {
                let made = asked(named, new).await?;
                self.remember(named)?;
                made
            }
            None => self.made(new, root)?,
        };
        self.keep(new.cluster, &made)?;
        Ok(made)
    }

    /// The one that is here under a root, if it is still what would be asked for now.
    pub(super) fn serving(
        &self,
        new: &NewIntermediate<'_>,
        root: &Cert,
    ) -> Result<Option<Intermediate>, Error> {
        let found = self.held_under(new.cluster, root)?;
        Ok(found.filter(|found| serves(found, root, new)))
    }

    pub(super) fn keep(&self, cluster: &ClusterName, made: &Intermediate) -> Result<(), Error> {
        self.write_lock()?;
        let dir = self.cluster_dir(cluster);
        let key = made.key().to_pem();
        let key = key.map_err(|source| Error::Make {
            path: dir.clone(),
            source,
        })?;
        let chain = made.chain();
        // The key first: a certificate without its key would be worth nothing.
        self.put(&dir, &[(KEY, key.as_bytes()), (CERT, chain.as_bytes())])
    }

    /// A new one, signed with the key that is here.
    fn made(&self, new: &NewIntermediate<'_>, root: &Cert) -> Result<Intermediate, Error> {
        let held = self.root_of(&root.facts().spki_sha256)?;
        let held = held.ok_or_else(|| Error::NoRoot {
            path: self.dir.clone(),
        })?;
        held.issue(new).map_err(|source| Error::Make {
            path: self.cluster_dir(new.cluster),
            source,
        })
    }
}

/// A new one, signed by somebody else: the key stays here, and what comes back is looked at.
async fn asked(
    named: &dyn Authority,
    new: &NewIntermediate<'_>,
) -> Result<Intermediate, signer::Error> {
    let fail = |source| signer::Error::Request {
        cluster: new.cluster.clone(),
        source,
    };
    let root = named.root();
    let key = Key::generate(new.key).map_err(fail)?;
    let request = Request::of(&key, new, root.facts().embedded).map_err(fail)?;
    let given = named.sign(&request).await?;
    let refused = |reason| signer::Error::Refused {
        who: named.who(),
        cluster: new.cluster.clone(),
        reason,
    };
    let chain = signer::read(&given).and_then(|given| accept(&given, &request, root));
    let chain = chain.map_err(refused)?;
    Intermediate::of(chain, key, std::slice::from_ref(root)).map_err(fail)
}

/// Whether an intermediate is still what would be asked for now.
fn serves(found: &Intermediate, root: &Cert, new: &NewIntermediate<'_>) -> bool {
    found.root() == root && outdated(found.facts(), root.facts(), new).is_none()
}
