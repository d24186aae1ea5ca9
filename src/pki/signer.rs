//! Who signs the intermediates of a mesh, behind one small trait: the vault on this machine, or whoever the mesh file names
//! in `trust.authority`. It is given a request, never a key, and what it gives back is looked at before it is used.

use futures::future::BoxFuture;
use rcgen::{CertificateParams, CustomExtension, PublicKeyData, SignatureAlgorithm};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, X509Certificate},
};

use super::{Cert, Error as PkiError, Key, NewIntermediate};
use crate::{hint::Hint, name::ClusterName};

mod existing;
mod offline;
mod program;
mod returned;

pub(crate) use existing::{Existing, certs};
pub(crate) use offline::Offline;
pub(crate) use program::Program;
pub(crate) use returned::{accept, read};

/// Why a certificate was not had from who signs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be asked, or gave no answer.
    #[error("{who} {reason}")]
    Unasked {
        /// Who signs.
        who: String,
        /// Why; never what it printed on its standard output.
        reason: String,
    },
    /// What it gave cannot be used.
    #[error("the certificate that {who} gave for {cluster} is refused: it {reason}")]
    Refused {
        /// Who signed.
        who: String,
        /// For whom.
        cluster: ClusterName,
        /// What is wrong with it.
        reason: String,
    },
    /// The request could not be made, or the certificate.
    #[error("cannot make the request for {cluster}")]
    Request {
        /// For whom.
        cluster: ClusterName,
        /// Why.
        source: PkiError,
    },
}

impl Error {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Unasked { .. } | Self::Refused { .. } => {
                Some(Hint::meshlink(["ca", "status"]).remark("says who signs"))
            }
            Self::Request { .. } => None,
        }
    }
}

/// Who signs intermediates.
pub(crate) trait Authority: std::fmt::Debug + Send + Sync {
    /// Its name in the mesh file.
    fn kind(&self) -> &'static str;

    /// What it is, as the subject of a sentence.
    fn who(&self) -> String;

    /// The root that all it signs leads to.
    fn root(&self) -> &Cert;

    /// Signs an intermediate: its certificate first, then those between it and the root, as PEM. It is for the caller to look
    /// at them.
    fn sign<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Vec<u8>, Error>>;

    /// Why it cannot be asked now; none where nothing is known against it.
    fn silent(&self) -> Option<String>;

    /// What to do where it cannot be asked.
    fn hints(&self) -> Vec<Hint> {
        vec![Hint::meshlink(["ca", "status"]).remark("says who signs")]
    }
}

/// What is asked of who signs. It holds no private key.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// What the intermediate shall be.
    pub(crate) new: &'a NewIntermediate<'a>,
    /// Its public key.
    pub(crate) public: Public,
    /// The request as PEM (PKCS#10), with the extensions that the certificate is to have.
    pub(crate) pem: String,
}

/// A public key, and nothing of the private one.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    bytes: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl<'a> Request<'a> {
    /// For a key that was just made.
    pub(crate) fn of(
        key: &Key,
        new: &'a NewIntermediate<'a>,
        embedded: bool,
    ) -> Result<Self, PkiError> {
        let sign = |source| PkiError::Sign {
            subject: new.cluster.to_string(),
            source,
        };
        let params = new.params(key, embedded);
        // A request knows no extensions of its own but those that rcgen can write into it. So the certificate is made once,
        // signed by its own key, and what stands in that is asked for.
        let sample = params.self_signed(key).map_err(sign)?;
        let mut asked = CertificateParams::default();
        asked.distinguished_name = params.distinguished_name.clone();
        asked.custom_extensions = extensions(sample.der());
        let request = asked.serialize_request(key).map_err(sign)?;
        Ok(Self {
            new,
            public: Public {
                bytes: key.der_bytes().to_vec(),
                algorithm: PublicKeyData::algorithm(key),
            },
            pem: request.pem().map_err(sign)?,
        })
    }
}

/// Whether two requests, the second as PEM, are for one key and ask for the same. Their signatures may differ.
pub(crate) fn same_request(first: &str, second: &[u8]) -> bool {
    let asked = |pem: &[u8]| {
        let block = super::pem::blocks(pem).ok()?.into_iter().next()?;
        let (_, parsed) = X509CertificationRequest::from_der(&block.der).ok()?;
        Some(parsed.certification_request_info.raw.to_vec())
    };
    let first = asked(first.as_bytes());
    first.is_some() && first == asked(second)
}

/// What a certificate of an authority says of what it may do: basic constraints, key usage, name constraints.
fn extensions(der: &[u8]) -> Vec<CustomExtension> {
    const ASKED: [(&str, &[u64]); 3] = [
        ("2.5.29.19", &[2, 5, 29, 19]),
        ("2.5.29.15", &[2, 5, 29, 15]),
        ("2.5.29.30", &[2, 5, 29, 30]),
    ];
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return vec![];
    };
    let found = parsed.extensions().iter().filter_map(|extension| {
        let name = extension.oid.to_id_string();
        let (_, oid) = ASKED.iter().find(|(asked, _)| *asked == name)?;
        let mut copy = CustomExtension::from_oid_content(oid, extension.value.to_vec());
        copy.set_criticality(extension.critical);
        Some(copy)
    });
    found.collect()
}

#[cfg(test)]
mod tests;
