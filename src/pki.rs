//! Keys, certificates and the vault they rest in.
//!
//! One [`Root`] per mesh, one [`Intermediate`] per cluster, made by rcgen on aws-lc after the
//! profiles under `certs/`, and read back by another parser. [`check_cacerts`] says what istiod or
//! the proxies would choke on before they do; [`Vault`] keeps keys on this machine and refuses
//! to read what others could have read or written; [`status`] lays out who trusts whom.
//!
//! Keys have no `Serialize`, their `Debug` is `Key(..)`, and they are wiped when dropped.
//! The time is always passed in.

mod authority;
mod bundle;
pub(crate) mod chain;
mod check;
mod key;
pub(crate) mod life;
mod pem;
mod profile;
mod protect;
mod read;
pub(crate) mod renewal;
pub(crate) mod signer;
mod status;
mod throwaway;
pub(crate) mod vault;

use jiff::Timestamp;

pub(crate) use self::{authority::random_id, chain::leads};
pub(crate) use self::{
    authority::{Cacerts, Intermediate, NewIntermediate, NewRoot, Root},
    bundle::{Anchor, anchors, pem_of},
    check::{Files, Problem, Severity, check_cacerts, secret_files},
    key::Key,
    life::Life,
    profile::Profile,
    read::{Algorithm, Cert, CertFacts, roots, short},
    status::{Row, Status, status},
    throwaway::{is_throw_away, throw_away},
    vault::Vault,
};

/// What went wrong with a key or a certificate. The vault has its own [`vault::Error`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A certificate profile is not as it must be.
    #[error("cannot read the certificate profile {file}")]
    Profile {
        /// The profile.
        file: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A profile's backdating is no length of time.
    #[error(
        "cannot read the certificate profile {file}: backdate {text:?} is not a duration; write \"1h\""
    )]
    Backdate {
        /// The profile.
        file: String,
        /// What stands there.
        text: String,
    },
    /// The machine gave no randomness.
    #[error("cannot generate a key ({algorithm})")]
    Generate {
        /// What was to be made.
        algorithm: String,
    },
    /// Signing failed.
    #[error("cannot sign the certificate of {subject}")]
    Sign {
        /// Whose certificate.
        subject: String,
        /// What rcgen says.
        source: rcgen::Error,
    },
    /// A key that cannot be used.
    #[error("the private key {reason}")]
    ReadKey {
        /// Why; never what stands in it.
        reason: String,
    },
    /// A certificate that cannot be used.
    #[error("the certificate {reason}")]
    ReadCertificate {
        /// Why.
        reason: String,
    },
    /// A key of another certificate.
    #[error("the private key is not the key of {subject:?}")]
    Mismatch {
        /// The certificate.
        subject: String,
    },
    /// A certificate that may not sign.
    #[error("{subject:?} is not a certificate authority")]
    NotAnAuthority {
        /// The certificate.
        subject: String,
    },
    /// An intermediate of another root.
    #[error("none of the given roots has signed {subject:?}")]
    OtherRoot {
        /// The intermediate.
        subject: String,
    },
    /// A name no certificate can be constrained to.
    #[error("{name:?} is not a DNS name: write letters, digits, '-' and dots, without '*'")]
    Name {
        /// The name.
        name: String,
    },
    /// A root too old, or too young, to sign.
    #[error(
        "the root {subject:?} is not valid now (it ends on {until}): check this machine's clock"
    )]
    RootNotValid {
        /// The root.
        subject: String,
        /// The end of its life.
        until: Timestamp,
    },
    /// A lifetime beyond the calendar of X.509.
    #[error(
        "a certificate would expire after the year 9999 (second {seconds} since 1970): shorten its lifetime"
    )]
    Lifetime {
        /// The end, in seconds since 1970.
        seconds: i64,
    },
}

#[cfg(test)]
mod tests;
