//! What the vault on this machine holds for the mesh, and who signs in its place.

use std::collections::{BTreeMap, BTreeSet};

use super::Lens;
use crate::{
    observe::{NamedSeen, VaultSeen},
    pki::{Cert, signer::Authority, vault},
};

impl VaultSeen {
    /// Whether something can be signed under the root of this public key.
    pub(crate) fn can_sign(&self, root: &str) -> bool {
        let is = |other: &String| other == root;
        self.roots.iter().any(is) && !self.elsewhere.iter().any(is)
    }
}

impl Lens<'_> {
    pub(super) fn vault(&self) -> Result<VaultSeen, vault::Error> {
        let root = self.vault.root()?;
        let mut intermediates = BTreeMap::new();
        for member in &self.mesh.clusters {
            if let Some(held) = self.vault.usable_intermediate(&member.name)? {
                intermediates.insert(member.name.clone(), held.facts().clone());
            }
        }
        let embedded = root.as_ref().is_some_and(|r| r.facts().embedded);
        let key = |cert: &Cert| cert.facts().spki_sha256.clone();
        let roots = self.vault.roots()?;
        let mut roots: Vec<_> = roots.iter().map(|(_, root)| key(root)).collect();
        let named = self
            .vault
            .named()
            .map(|named| self.named(named))
            .transpose()?;
        let theirs = named.iter().map(|named| &named.root.spki_sha256);
        let theirs: Vec<_> = theirs
            .filter(|root| !roots.contains(root))
            .cloned()
            .collect();
        roots.extend(theirs);
        let mut elsewhere = vec![];
        for root in &roots {
            if !self.vault.can_sign(root)? {
                elsewhere.push(root.clone());
            }
        }
        Ok(VaultSeen {
            roots,
            elsewhere,
            named,
            next: self.vault.next_root()?.map(|root| key(&root)),
            root: root.as_ref().map(key),
            certificate: root.as_ref().map(|root| root.facts().clone()),
            intermediates,
            embedded,
        })
    }

    /// Who signs in the place of the vault.
    fn named(&self, named: &dyn Authority) -> Result<NamedSeen, vault::Error> {
        let (mut held, mut requested) = (BTreeSet::new(), BTreeSet::new());
        for member in &self.mesh.clusters {
            if self.vault.held_under(&member.name, named.root())?.is_some() {
                held.insert(member.name.clone());
            }
            if self.vault.requested(&member.name)? {
                requested.insert(member.name.clone());
            }
        }
        Ok(NamedSeen {
            who: named.who(),
            root: named.root().facts().clone(),
            silent: named.silent().map(|why| (why, named.hints())),
            held,
            requested,
        })
    }
}
