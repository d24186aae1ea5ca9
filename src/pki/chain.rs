//! The way from a signing certificate to a root, walked as Go walks it for istiod and as Envoy will.

use jiff::Timestamp;

use super::{Cert, CertFacts};

/// Longest way from a signing certificate to its root, both counted.
const MAX_LENGTH: usize = 8;
/// Signature checks one search may spend, so that a hostile bundle cannot keep us busy.
const MAX_CHECKS: usize = 256;

/// Why no way leads to a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// No certificate at hand signed this one.
    #[error(
        "no certificate here signed {subject:?}: its issuer {issuer:?} is missing, or is another one of the same name"
    )]
    NoIssuer {
        /// The certificate where the way ends.
        subject: String,
        /// Who should have signed it.
        issuer: String,
    },
    /// The way exists, and a certificate on it cannot be used.
    #[error("{subject:?} {why}")]
    Unfit {
        /// The certificate that stands in the way.
        subject: String,
        /// Why it cannot be used.
        why: Unfit,
    },
    /// Too many certificates that might have signed one another.
    #[error("the bundle holds too many certificates of the same names")]
    Tangled,
}

/// Why a certificate cannot stand on the way to a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// Its time is over.
    #[error("expired on {0}")]
    Expired(Timestamp),
    /// Its time has not come.
    #[error("is not valid before {0}")]
    NotYetValid(Timestamp),
    /// It is a leaf.
    #[error("is not an authority (basicConstraints CA is not set)")]
    NotAnAuthority,
    /// Its key usage forbids it.
    #[error("may not sign certificates (key usage lacks keyCertSign)")]
    NoKeyCertSign,
    /// Too many authorities below it.
    #[error("allows {allowed} authorities below it, and there are {below}")]
    PathLength {
        /// What it allows.
        allowed: u32,
        /// What there is.
        below: usize,
    },
    /// Go asks every certificate of the chain for serverAuth unless told otherwise, and istiod does not tell it.
    #[error("has an extended key usage without serverAuth")]
    ExtendedKeyUsage,
}

/// Finds the way from `cert` over `between` to one of `roots`, first and last included.
pub(crate) fn lead(
    cert: &Cert,
    between: &[Cert],
    roots: &[Cert],
    now: Timestamp,
) -> Result<Vec<Cert>, Broken> {
    let mut search = Search {
        between,
        roots,
        now,
        checks: 0,
        broken: None,
    };
    let mut way = vec![cert.clone()];
    if search.on(&mut way) {
        return Ok(way);
    }
    Err(search.broken.unwrap_or_else(|| no_issuer(cert)))
}

/// Whether a certificate is this root, or leads to it by signatures alone: which of two roots of one name it is under, and
/// not whether anybody would accept it now.
pub(crate) fn leads(cert: &Cert, between: &[Cert], root: &Cert) -> bool {
    let mut last = cert;
    for _ in 0..MAX_LENGTH {
        if last == root || last.signed_by(root) {
            return true;
        }
        let mut next = between.iter().filter(|next| *next != last);
        match next.find(|next| last.signed_by(next)) {
            Some(next) => last = next,
            None => return false,
        }
    }
    false
}

fn no_issuer(cert: &Cert) -> Broken {
    let facts = cert.facts();
    Broken::NoIssuer {
        subject: facts.subject.clone(),
        issuer: facts.issuer.clone(),
    }
}

struct Search<'a> {
    between: &'a [Cert],
    roots: &'a [Cert],
    now: Timestamp,
    checks: usize,
    /// The deepest reason met, which says more than "no way".
    broken: Option<Broken>,
}

impl Search<'_> {
    fn on(&mut self, way: &mut Vec<Cert>) -> bool {
        let Some(last) = way.last().cloned() else {
            return false;
        };
        if let Some(why) = unfit(last.facts(), way.len() - 1, self.now) {
            let subject = last.facts().subject.clone();
            self.broken.get_or_insert(Broken::Unfit { subject, why });
            return false;
        }
        if self.roots.contains(&last) {
            return true;
        }
        if way.len() == MAX_LENGTH {
            return false;
        }
        let (roots, between) = (self.roots, self.between);
        for issuer in roots.iter().chain(between) {
            if way.contains(issuer) || issuer.facts().subject != last.facts().issuer {
                continue;
            }
            self.checks += 1;
            if self.checks > MAX_CHECKS {
                self.broken = Some(Broken::Tangled);
                return false;
            }
            if !last.signed_by(issuer) {
                continue;
            }
            way.push(issuer.clone());
            if self.on(way) {
                return true;
            }
            way.pop();
        }
        if way.len() > 1 {
            self.broken.get_or_insert(no_issuer(&last));
        }
        false
    }
}

/// Looks at one certificate, with `below` authorities between it and the leaves.
fn unfit(facts: &CertFacts, below: usize, now: Timestamp) -> Option<Unfit> {
    if now > facts.not_after {
        return Some(Unfit::Expired(facts.not_after));
    }
    if now < facts.not_before {
        return Some(Unfit::NotYetValid(facts.not_before));
    }
    if !facts.is_ca {
        return Some(Unfit::NotAnAuthority);
    }
    if !facts.may("keyCertSign") {
        return Some(Unfit::NoKeyCertSign);
    }
    if let Some(allowed) = facts
        .path_length
        .filter(|&allowed| below > allowed as usize)
    {
        return Some(Unfit::PathLength { allowed, below });
    }
    let usages = facts.extended_key_usage.as_ref()?;
    let serves = usages
        .iter()
        .any(|usage| usage == "serverAuth" || usage == "any");
    (!serves).then_some(Unfit::ExtendedKeyUsage)
}
