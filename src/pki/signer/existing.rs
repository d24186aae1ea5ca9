//! A root or an intermediate that a company has already, in files: certificates, and the key beside them.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use futures::future::BoxFuture;
use zeroize::Zeroizing;

use super::{Authority, Error, Request};
use crate::pki::{Cert, Key, Root, chain::leads, pem::MAX_BYTES, read::bundle};

/// An authority in files. The key is read when something is signed, and kept nowhere else.
#[derive(Debug)]
pub(crate) struct Existing {
    file: PathBuf,
    key: PathBuf,
    /// What signs, and after it those between it and the root, which comes last.
    chain: Vec<Cert>,
    root: Cert,
}

impl Existing {
    /// From the file of the certificates and that of the key. `others` may hold what is missing between it and its root, and
    /// the root; the reason why not is the rest of a sentence.
    pub(crate) fn read(
        file: &Path,
        key: &Path,
        others: &[&Path],
        now: jiff::Timestamp,
    ) -> Result<Self, String> {
        let mut all = certs(file)?;
        for other in others {
            all.extend(certs(other)?);
        }
        let shown = file.display();
        let first = all.first().cloned();
        let signer = first.ok_or_else(|| format!("{shown} holds no certificate"))?;
        let is_root = |cert: &&Cert| cert.facts().self_issued() && cert.signed_by(cert);
        let mut roots = all.iter().filter(is_root);
        let Some(root) = roots.find(|root| leads(&signer, &all, root)).cloned() else {
            let facts = signer.facts();
            return Err(format!(
                "{shown}: {:?} leads to no root: its issuer {:?} is to stand in the same file after it, and so on up to the root",
                facts.subject, facts.issuer
            ));
        };
        let way = crate::pki::chain::lead(&signer, &all, std::slice::from_ref(&root), now);
        let chain = way.map_err(|broken| format!("{shown}: {broken}"))?;
        let upper = chain.iter().filter(|cert| **cert != root).chain([&root]);
        for (above, cert) in upper.enumerate() {
            let facts = cert.facts();
            if facts
                .path_length
                .is_some_and(|room| (room as usize) <= above)
            {
                return Err(format!(
                    "{shown}: {:?} allows no further intermediate below {:?} (path length {})",
                    facts.subject,
                    signer.facts().subject,
                    facts.path_length.unwrap_or_default()
                ));
            }
        }
        Ok(Self {
            file: file.into(),
            key: key.into(),
            chain,
            root,
        })
    }

    /// With the key, which is not kept.
    fn signer(&self) -> Result<Root, String> {
        let shown = self.key.display();
        let text = secret(&self.key)?;
        let key = Key::from_pem(&text).map_err(|error| format!("cannot use {shown}: {error}"))?;
        let cert = self.chain.first().unwrap_or(&self.root).clone();
        Root::of(cert, key).map_err(|error| format!("cannot use {shown}: {error}"))
    }

    fn signed(&self, request: &Request<'_>) -> Result<Vec<u8>, Error> {
        let unasked = |reason| Error::Unasked {
            who: self.who(),
            reason,
        };
        let signer = self.signer().map_err(unasked)?;
        let made = signer.certify(&request.public, request.new, self.root.facts().embedded);
        let made = made.map_err(|source| Error::Request {
            cluster: request.new.cluster.clone(),
            source,
        })?;
        let above = self.chain.iter().filter(|cert| **cert != self.root);
        Ok(bundle([&made].into_iter().chain(above)).into_bytes())
    }
}

impl Authority for Existing {
    fn kind(&self) -> &'static str {
        "existing"
    }

    fn who(&self) -> String {
        format!("the authority in {}", self.file.display())
    }

    fn root(&self) -> &Cert {
        &self.root
    }

    fn sign<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(std::future::ready(self.signed(request)))
    }

    fn silent(&self) -> Option<String> {
        self.signer().err()
    }
}

/// The certificates of a file.
pub(crate) fn certs(path: &Path) -> Result<Vec<Cert>, String> {
    let (text, _) = read(path)?;
    Cert::from_pem(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What stands in a file that others may not read.
fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let (text, mode) = read(path)?;
    match mode & 0o007 {
        0 => Ok(text),
        _ => Err(format!(
            "does not use {}, which is open to everybody (mode {:04o}): run `chmod o= {}` if nobody has read it",
            path.display(),
            mode & 0o7777,
            path.display()
        )),
    }
}

fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), String> {
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.mode();
    // Sized once: growing would leave copies of a key behind that nobody wipes.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 2));
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(fail)?;
    Ok((text, mode))
}
