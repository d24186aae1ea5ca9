//! Requests that are carried to somebody who signs out of reach, and what is carried back.
//!
//! ```text
//!   requests/east/1/       key.pem, csr.pem
//! ```
//!
//! A key rests here until its certificate has come. The highest number counts for what is asked; what comes back may answer
//! any of them.

use super::{CERT, Error, KEY, Vault, files};
use crate::{
    name::ClusterName,
    pki::{
        Algorithm, Cert, Intermediate, Key, NewIntermediate,
        signer::{self, Authority, Request, accept},
    },
};

const CSR: &str = "csr.pem";

impl Vault {
    fn requests(&self, cluster: &ClusterName) -> std::path::PathBuf {
        self.dir.join("requests").join(cluster.as_str())
    }

    /// The request of a cluster: the one that is out, if it still asks for what is wanted and has not been answered, else a new one. None where what
    /// is here under the root of who is named serves already.
    pub(crate) fn request(
        &self,
        new: &NewIntermediate<'_>,
        named: &dyn Authority,
    ) -> Result<Option<String>, Error> {
        if self.serving(new, named.root())?.is_some() {
            return Ok(None);
        }
        let folder = self.requests(new.cluster);
        if let Some(dir) = self.newest(&folder)? {
            let key = self.request_key(&dir)?;
            let made = self.asks(&key, new, named)?;
            let out = files::need(&dir.join(CSR))?;
            // ECDSA signs anew each time; what is asked for is the same if the key and the extensions are.
            let is_kind = *Key::algorithm(&key) == Algorithm::from(new.key);
            if is_kind
                && signer::same_request(&made, &out)
                && !self.is_answered(new.cluster, &key)?
            {
                return Ok(Some(String::from_utf8_lossy(&out).into_owned()));
            }
        }
        self.write_lock()?;
        let fail = |source| self.unrequested(new.cluster, source);
        let key = Key::generate(new.key).map_err(fail)?;
        let pem = self.asks(&key, new, named)?;
        let text = key.to_pem().map_err(fail)?;
        let all = [(KEY, text.as_bytes()), (CSR, pem.as_bytes())];
        self.put(&folder, &all)?;
        Ok(Some(pem))
    }

    /// Whether a request is out for a member that has not been answered.
    pub(crate) fn requested(&self, cluster: &ClusterName) -> Result<bool, Error> {
        let Some(dir) = self.newest(&self.requests(cluster))? else {
            return Ok(false);
        };
        Ok(!self.is_answered(cluster, &self.request_key(&dir)?)?)
    }

    /// Takes a certificate in that answers a request of this cluster, with those between it and the root. None where it answers
    /// none of them.
    pub(crate) fn import(
        &self,
        given: &[Cert],
        new: &NewIntermediate<'_>,
        named: &dyn Authority,
    ) -> Result<Option<Intermediate>, Error> {
        let folder = self.requests(new.cluster);
        let fail = |source| self.unrequested(new.cluster, source);
        for number in self.checked(&folder)?.into_iter().rev() {
            let key = self.request_key(&folder.join(number.to_string()))?;
            let is_for = |cert: &Cert| {
                cert.public_key().as_deref() == Some(rcgen::PublicKeyData::der_bytes(&key))
            };
            if !given.iter().any(is_for) {
                continue;
            }
            let root = named.root();
            let request = Request::of(&key, new, root.facts().embedded).map_err(fail)?;
            let chain = accept(given, &request, root).map_err(|reason| signer::Error::Refused {
                who: named.who(),
                cluster: new.cluster.clone(),
                reason,
            })?;
            let made = Intermediate::of(chain, key, std::slice::from_ref(root)).map_err(fail)?;
            // Taken in once more, it is there.
            if !self.is_answered(new.cluster, made.key())? {
                self.keep(new.cluster, &made)?;
            }
            self.remember(named)?;
            return Ok(Some(made));
        }
        Ok(None)
    }

    /// Whether there is a certificate of this key.
    fn is_answered(&self, cluster: &ClusterName, key: &Key) -> Result<bool, Error> {
        let folder = self.cluster_dir(cluster);
        for number in self.checked(&folder)? {
            let pem = files::need(&folder.join(number.to_string()).join(CERT))?;
            let certs = Cert::from_pem(&pem).unwrap_or_default();
            let public = certs.first().and_then(Cert::public_key);
            if public.as_deref() == Some(rcgen::PublicKeyData::der_bytes(key)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn asks(
        &self,
        key: &Key,
        new: &NewIntermediate<'_>,
        named: &dyn Authority,
    ) -> Result<String, Error> {
        let embedded = named.root().facts().embedded;
        let request = Request::of(key, new, embedded);
        let request = request.map_err(|source| self.unrequested(new.cluster, source))?;
        Ok(request.pem)
    }

    fn request_key(&self, dir: &std::path::Path) -> Result<Key, Error> {
        let text = files::need(&dir.join(KEY))?;
        Key::from_pem(&text).map_err(|source| Error::Damaged {
            path: dir.to_owned(),
            source,
        })
    }

    fn unrequested(&self, cluster: &ClusterName, source: crate::pki::Error) -> Error {
        Error::Make {
            path: self.requests(cluster),
            source,
        }
    }
}
