//! Whether an intermediate is still what would be made now. Pure: the vault and the plan ask the same.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Algorithm, CertFacts, NewIntermediate, life::State};

/// What may differ between a lifetime as it was asked for and as it stands in a certificate, besides the backdating.
const SLACK: i64 = 60;
/// How far back somebody else who signs may date what is signed.
const BACKDATED: i64 = 25 * 3600;

impl NewIntermediate<'_> {
    /// The longest life that counts as the one that is asked for, in seconds.
    pub(super) fn longest(&self) -> i64 {
        let asked = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        let more = match self.is_exact {
            true => self.profile.backdate_seconds().unwrap_or_default() + SLACK,
            false => BACKDATED,
        };
        asked.saturating_add(more)
    }
}

/// Why an intermediate below a root is no longer what would be made now; none where it is. What a new one could not
/// change, such as an end that is the root's own, is no reason.
pub(crate) fn outdated(
    found: &CertFacts,
    root: &CertFacts,
    new: &NewIntermediate<'_>,
) -> Option<String> {
    let wanted = Algorithm::from(new.key);
    if found.algorithm != wanted {
        return Some(format!(
            "trust.key asks for {wanted}, and it has {}",
            found.algorithm
        ));
    }
    let permitted = found.name_constraints.iter().flat_map(|n| &n.permitted);
    let permitted: BTreeSet<_> = permitted
        .filter(|n| n.starts_with("DNS:"))
        .cloned()
        .collect();
    let names = new.permitted();
    let names: BTreeSet<_> = names.iter().map(|n| format!("DNS:{n}")).collect();
    if names != permitted {
        return Some("trust.dnsNames changed since it was made".into());
    }
    aged(found, root, new.now).or_else(|| relived(found, root, new))
}

/// Why it is to be renewed by its age.
fn aged(found: &CertFacts, root: &CertFacts, now: Timestamp) -> Option<String> {
    if now < found.not_before {
        return Some(format!("it is not valid before {}", date(found.not_before)));
    }
    // One that ends with the root cannot be made to last longer.
    let ended = found.life().state(now) == State::Ended;
    if found.not_after >= root.not_after && !ended {
        return None;
    }
    let until = date(found.not_after);
    match found.life().state(now) {
        State::Fine => None,
        State::Ended => Some(format!("it ended on {until}")),
        _ => Some(format!(
            "it ends on {until}, and is renewed when a third of its life is left"
        )),
    }
}

/// Why it is to be renewed by the lifetime that is asked for now.
fn relived(found: &CertFacts, root: &CertFacts, new: &NewIntermediate<'_>) -> Option<String> {
    let length = found.not_after.as_second() - found.not_before.as_second();
    let asked = i64::try_from(new.lifetime.as_secs()).unwrap_or(i64::MAX);
    let capped = found.not_after >= root.not_after;
    // Somebody else who signs may give less.
    let is_short = new.is_exact && length < asked - SLACK && !capped;
    let changed = length > new.longest() || is_short;
    changed.then(|| "trust.intermediateLifetime changed since it was made".into())
}

/// A day, as texts say it.
pub(crate) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        pki::{NewRoot, Profile, Root},
        spec::KeyType,
    };

    const DAY: u64 = 24 * 3600;

    #[test]
    fn it_is_renewed_for_its_age_and_for_what_is_asked_for_now_and_for_nothing_else() {
        let start: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let at = |days: u64| start + Duration::from_secs(days * DAY);
        let (mesh, cluster) = ("shop".parse().unwrap(), "eks-1".parse().unwrap());
        let root = Root::create(&NewRoot {
            mesh: &mesh,
            key: KeyType::P256,
            lifetime: Duration::from_secs(3650 * DAY),
            embedded: false,
            profile: &Profile::root().unwrap(),
            now: start,
        })
        .unwrap();
        let profile = Profile::intermediate().unwrap();
        let names = ["istiod.example".to_owned()];
        let new = NewIntermediate {
            mesh: &mesh,
            cluster: &cluster,
            namespace: "istio-system",
            names: &[],
            key: KeyType::P256,
            lifetime: Duration::from_secs(365 * DAY),
            is_exact: true,
            trust_domain: "cluster.local",
            profile: &profile,
            now: start,
        };
        let made = root.issue(&new).unwrap();
        let why = |new: &NewIntermediate<'_>| outdated(made.facts(), root.facts(), new);
        let later = |days| NewIntermediate {
            now: at(days),
            ..new.clone()
        };
        for days in [0, 100, 243] {
            assert_eq!(why(&later(days)), None, "day {days}");
        }
        for (days, says) in [(244, "ends on"), (340, "ends on"), (366, "ended on")] {
            assert!(why(&later(days)).unwrap().contains(says), "day {days}");
        }
        let lifetime = |days: u64| Duration::from_secs(days * DAY);
        for (changed, says) in [
            (
                NewIntermediate {
                    key: KeyType::P384,
                    ..new.clone()
                },
                "trust.key asks for P-384",
            ),
            (
                NewIntermediate {
                    names: &names,
                    ..new.clone()
                },
                "trust.dnsNames",
            ),
            (
                NewIntermediate {
                    lifetime: lifetime(30),
                    ..new.clone()
                },
                "trust.intermediateLifetime",
            ),
            (
                NewIntermediate {
                    lifetime: lifetime(730),
                    ..new.clone()
                },
                "trust.intermediateLifetime",
            ),
        ] {
            let text = why(&changed).unwrap();
            assert!(text.contains(says), "{text}");
        }
        // Near the root's end, a new one would end no later.
        let late = NewIntermediate {
            now: at(3500),
            ..new.clone()
        };
        let last = root.issue(&late).unwrap();
        let of_last = |days| outdated(last.facts(), root.facts(), &later(days));
        assert_eq!(last.facts().not_after, root.facts().not_after);
        assert_eq!(of_last(3500), None);
        assert_eq!(of_last(3640), None);
        assert!(of_last(3651).unwrap().contains("ended on"));
    }
}
