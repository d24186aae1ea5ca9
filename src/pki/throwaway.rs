//! Roots that sign nothing.
//!
//! Proxies ask for a new certificate only when the set of roots they are to trust changes. So one more root is put beside
//! those of the mesh, and taken away again. Nobody has its key: it is dropped before the certificate is shown to anybody.

use std::time::Duration;

use jiff::Timestamp;

use super::{Cert, CertFacts, Error, NewRoot, Profile, Root};
use crate::{name::MeshId, spec::KeyType};

/// How the common name of one begins; `certs/throw-away.toml` says it.
const NAME: &str = "CN=throw-away ";
/// It is needed for minutes, or until the next run goes on where one died.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// A new one, without its key.
pub(crate) fn throw_away(mesh: &MeshId, embedded: bool, now: Timestamp) -> Result<Cert, Error> {
    let profile = Profile::throw_away()?;
    let root = Root::create(&NewRoot {
        mesh,
        key: KeyType::P256,
        lifetime: LIFETIME,
        embedded,
        profile: &profile,
        now,
    })?;
    Ok(root.cert().clone())
}

/// Whether a certificate is one.
pub(crate) fn is_throw_away(facts: &CertFacts) -> bool {
    facts.self_issued() && facts.subject.split(", ").any(|part| part.starts_with(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_its_name_and_no_other_root_is_taken_for_one() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let mesh = "shop".parse().unwrap();
        let one = throw_away(&mesh, false, now).unwrap();
        assert!(is_throw_away(one.facts()), "{}", one.facts().subject);
        assert_ne!(one, throw_away(&mesh, false, now).unwrap());
        let root = Root::create(&NewRoot {
            mesh: &mesh,
            key: KeyType::P256,
            lifetime: LIFETIME,
            embedded: false,
            profile: &Profile::root().unwrap(),
            now,
        });
        assert!(!is_throw_away(root.unwrap().facts()));
    }
}
