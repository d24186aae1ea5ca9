//! Somebody who cannot be reached from here: requests are carried there, and certificates back.

use futures::future::BoxFuture;

use super::{Authority, Error, Request};
use crate::{hint::Hint, pki::Cert};

/// An authority out of reach.
#[derive(Debug)]
pub(crate) struct Offline {
    root: Cert,
}

/// Why it signs nothing by itself.
const WAITS: &str = "is out of reach: its certificates are carried here";

impl Offline {
    /// By its root.
    pub(crate) fn new(root: Cert) -> Self {
        Self { root }
    }
}

impl Authority for Offline {
    fn kind(&self) -> &'static str {
        "offline"
    }

    fn who(&self) -> String {
        "the offline authority".to_owned()
    }

    fn root(&self) -> &Cert {
        &self.root
    }

    fn sign<'a>(&'a self, _: &'a Request<'a>) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        let who = self.who();
        Box::pin(std::future::ready(Err(Error::Unasked {
            who,
            reason: WAITS.to_owned(),
        })))
    }

    fn silent(&self) -> Option<String> {
        Some(WAITS.to_owned())
    }

    fn hints(&self) -> Vec<Hint> {
        let write = Hint::meshlink(["ca", "csr"]).remark("writes the requests");
        let take = Hint::to_fill_in(
            "meshlink ca import FILE   # takes what was signed; then run this again",
        );
        vec![write, take]
    }
}
