//! What changing or removing a remote secret does to a running istiod, by its version.

use semver::Version;

/// What an istiod does when a remote secret it reads is changed or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// The new connection is made before the old one ends.
    Clean,
    /// The old connection ends first: the peer's endpoints are away for a moment.
    Gap,
    /// Known to lose endpoints or gateways, or to hang, until it is restarted.
    Broken(&'static str),
}

/// What an istiod of this version does. From Istio's release notes and issues: the swap in place
/// came with 1.30.0, with three faults that were mended in 1.30.3 (istio#60612) and 1.30.4
/// (istio#60920, istio#61043), and on the way to 1.31.0 in its second alpha.
pub(crate) fn update(istio: &Version) -> Update {
    let at = |text: &str| Version::parse(text).is_ok_and(|from| *istio >= from);
    if !at("1.30.0-alpha.0") {
        Update::Gap
    } else if !at("1.30.3") {
        Update::Broken("a changed remote secret is ignored, and may hang istiod (istio#60612)")
    } else if !at("1.30.4") || at("1.31.0-alpha.0") && !at("1.31.0-alpha.2") {
        Update::Broken("other peers' gateways and endpoints may be lost (istio#60920, istio#61043)")
    } else {
        Update::Clean
    }
}

/// Whether an istiod of this version must be able to read the Secrets of the clusters it knows. Its credentials controller
/// for remote clusters can be switched off (`PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER`, istio#59874), but no version is
/// known that does not panic then as soon as there is a remote secret.
pub(crate) fn reads_secrets(_istio: &Version) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, want) in [
            ("1.28.6", Some("gap")),
            ("1.29.7", Some("gap")),
            ("1.30.0-rc.1", Some("60612")),
            ("1.30.2", Some("60612")),
            ("1.30.3", Some("61043")),
            ("1.30.4", None),
            ("1.31.0-alpha.1", Some("61043")),
            ("1.31.0-alpha.2", None),
            ("1.31.0", None),
            ("1.32.1", None),
        ] {
            let told = match update(&version.parse().unwrap()) {
                Update::Clean => None,
                Update::Gap => Some("gap"),
                Update::Broken(why) => Some(why),
            };
            assert_eq!(told.is_some(), want.is_some(), "{version}: {told:?}");
            assert!(
                want.is_none_or(|want| told.unwrap().contains(want)),
                "{version}: {told:?}"
            );
        }
    }
}
