//! How far a change of root has come in a member: by the Secret its istiod reads, and by what its proxies, ConfigMaps,
//! webhooks and istiods hold. Pure.

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    observe::{CacertsSeen, Proxy, ROOTS, Succession, TrustSeen},
    pki::{Cert, short},
};

/// What a member's `cacerts` says, in the order of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It signs under the old root, and trusts it alone.
    Old,
    /// It signs under the old root, and trusts both.
    Both,
    /// It signs under the new root, and trusts both and the root that makes proxies ask for new certificates.
    Signing,
    /// It signs under the new root, and trusts it alone.
    New,
}

impl Stage {
    /// By the Secret; none where it is nothing that a rotation writes.
    pub(crate) fn of(cacerts: &CacertsSeen, change: &Succession) -> Option<Self> {
        let Succession {
            from, to, spare, ..
        } = change;
        let roots: BTreeSet<&str> = cacerts.roots.iter().map(String::as_str).collect();
        let is = |wanted: &[&String]| roots == wanted.iter().map(|r| r.as_str()).collect();
        let under = cacerts.under.as_ref()?;
        match () {
            () if under == from && is(&[from]) => Some(Self::Old),
            () if under == from && is(&[from, to]) => Some(Self::Both),
            () if under == to && is(&[from, to, spare]) => Some(Self::Signing),
            () if under == to && is(&[to]) => Some(Self::New),
            () => None,
        }
    }
}

/// A phase of a rotation, by what is seen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// The new root is named, and nothing trusts it yet.
    Named,
    /// istiod has been given both roots.
    Prepared,
    /// Everything trusts both.
    Distributed,
    /// istiod has been given an intermediate of the new root.
    Signing,
    /// No proxy shows a certificate of the old root.
    Switched,
    /// Nothing trusts the old root.
    Retired,
}

impl Phase {
    /// By the Secret, and by whether everything has what the Secret says.
    pub(crate) fn of(stage: Stage, is_everywhere: bool) -> Self {
        match (stage, is_everywhere) {
            (Stage::Old, _) => Self::Named,
            (Stage::Both, false) => Self::Prepared,
            (Stage::Both, true) => Self::Distributed,
            (Stage::Signing, false) => Self::Signing,
            (Stage::Signing, true) | (Stage::New, false) => Self::Switched,
            (Stage::New, true) => Self::Retired,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Named => "named",
            Self::Prepared => "prepared",
            Self::Distributed => "distributed",
            Self::Signing => "signing",
            Self::Switched => "switched",
            Self::Retired => "retired",
        })
    }
}

/// What everything in a member must have before a rotation goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aim<'a> {
    /// The roots that must be trusted, by their public keys.
    pub trusts: Vec<&'a str>,
    /// And no other.
    pub only: bool,
    /// The root that every proxy's certificate must be under.
    pub under: Option<&'a Cert>,
    /// When the certificates end that istiod must sign with, in seconds.
    pub ends: Option<i64>,
    /// How long kubelets take at most to bring a changed ConfigMap into a pod that runs, where that matters.
    pub projected: Option<Duration>,
}

/// How much of it is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How many proxies there are.
    pub proxies: usize,
    /// How many of them are as they must be.
    pub ready: usize,
    /// Everything that is not, a line each.
    pub waits: Vec<String>,
}

impl Standing {
    /// Whether nothing is missing.
    pub(crate) fn is_met(&self) -> bool {
        self.waits.is_empty()
    }
}

impl<'a> Aim<'a> {
    /// What must be everywhere in a member that is brought forward to a stage.
    pub(crate) fn forth(
        stage: Stage,
        change: &'a Succession,
        to: Option<&'a Cert>,
        projected: Duration,
    ) -> Self {
        let both = vec![change.from.as_str(), change.to.as_str()];
        match stage {
            Stage::Old => Self::default(),
            Stage::Both => Self {
                trusts: both,
                projected: Some(projected),
                ..Self::default()
            },
            Stage::Signing => Self {
                trusts: both,
                under: to,
                ..Self::default()
            },
            Stage::New => Self {
                trusts: vec![&change.to],
                only: true,
                under: to,
                ..Self::default()
            },
        }
    }

    /// What must be everywhere in one that is taken back to a stage.
    pub(crate) fn back(stage: Stage, change: &'a Succession, from: &'a Cert) -> Self {
        Self {
            trusts: vec![&change.from],
            only: stage == Stage::Old,
            under: Some(from),
            ..Self::default()
        }
    }
}

impl Aim<'_> {
    /// Looks at everything in a member.
    pub(crate) fn judge(&self, trust: &TrustSeen, now: Timestamp) -> Standing {
        let proxies = trust.proxies.iter().map(|proxy| self.proxy(proxy));
        let late: Vec<_> = proxies.flatten().collect();
        let mut waits = vec![];
        waits.extend(self.published(trust));
        let hooks = trust.webhooks.iter();
        waits.extend(hooks.filter_map(|(name, roots)| {
            let what = self.roots(roots.iter().map(String::as_str))?;
            Some(format!("{name} {what}"))
        }));
        waits.extend(self.replicas(trust));
        let ready = trust.proxies.len() - late.len();
        waits.extend(late);
        // What takes longest is asked for last.
        if waits.is_empty() {
            waits.extend(self.projection(trust, now));
        }
        Standing {
            proxies: trust.proxies.len(),
            ready,
            waits,
        }
    }

    /// What is wrong with a set of roots.
    fn roots<'r>(&self, held: impl Iterator<Item = &'r str>) -> Option<String> {
        let held: BTreeSet<&str> = held.collect();
        let missing = self.trusts.iter().find(|root| !held.contains(*root));
        if let Some(root) = missing {
            return Some(format!("does not hold root {} yet", short(root)));
        }
        let other = held.iter().find(|root| !self.trusts.contains(root));
        let other = other.filter(|_| self.only)?;
        Some(format!("still holds root {}", short(other)))
    }

    fn proxy(&self, proxy: &Proxy) -> Option<String> {
        let name = proxy.name();
        let held = match &proxy.held {
            Ok(held) => held,
            Err(why) => return Some(format!("the proxy of {name} is not read: {why}")),
        };
        let under = || {
            let other = self.under.is_some_and(|root| !held.leaf.is_under(root));
            other.then(|| "still shows a certificate of another root".to_owned())
        };
        let what = self.roots(held.trusts().into_iter()).or_else(under)?;
        let slow = match proxy.follows {
            true => "",
            false => ", and has changed roots only with its next certificate",
        };
        Some(format!("the proxy of {name} {what}{slow}"))
    }

    /// The namespaces that have proxies: what others hold, nobody reads.
    fn published(&self, trust: &TrustSeen) -> Vec<String> {
        let spaces: BTreeSet<_> = trust.proxies.iter().map(Proxy::namespace).collect();
        let one = |space: &str| {
            let place = format!("ConfigMap {space}/{ROOTS}");
            let Some(map) = trust.published.get(space) else {
                return Some(format!("{place} does not exist yet"));
            };
            let what = self.roots(map.roots.iter().map(String::as_str))?;
            Some(format!("{place} {what}"))
        };
        spaces.into_iter().filter_map(one).collect()
    }

    /// A replica that signs with other certificates than another, which has said that it knows the new ones.
    fn replicas(&self, trust: &TrustSeen) -> Vec<String> {
        let Some(wanted) = self.ends else {
            return vec![];
        };
        let chain = |replica: &crate::observe::Replica| Some(replica.ends?.chain);
        // Older istiods say what they started with, and no more.
        if !trust.replicas.iter().any(|r| chain(r) == Some(wanted)) {
            return vec![];
        }
        let late = trust.replicas.iter().filter(|r| chain(r) != Some(wanted));
        late.map(|r| format!("istiod replica {} signs with other certificates", r.pod))
            .collect()
    }

    /// A pod that ran before a ConfigMap changed has it with its kubelet's next sync, which cannot be seen from outside.
    fn projection(&self, trust: &TrustSeen, now: Timestamp) -> Option<String> {
        let limit = self.projected?;
        let left = trust.proxies.iter().filter_map(|proxy| {
            let changed = trust.published.get(proxy.namespace())?.changed?;
            let is_older = proxy.started.is_none_or(|started| started <= changed);
            let since = u64::try_from(now.as_second() - changed.as_second()).unwrap_or(0);
            let left = limit.checked_sub(Duration::from_secs(since))?;
            (is_older && !left.is_zero()).then_some(left)
        });
        let left = left.max()?;
        Some(format!(
            "kubelets bring ConfigMap {ROOTS} into running pods within {} s, of which {} are left",
            limit.as_secs(),
            left.as_secs().max(1)
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        cluster::{Kind, Ref},
        observe::{Ends, Leaf, ProxyHeld, Published, Replica},
    };

    fn change() -> Succession {
        let text = |root: &str| root.repeat(64);
        Succession {
            mesh: "mesh".into(),
            from: text("a"),
            to: text("b"),
            spare: text("c"),
        }
    }

    #[test]
    fn a_stage_is_told_by_the_roots_and_by_who_signed() {
        let change = change();
        let Succession {
            from, to, spare, ..
        } = &change;
        let stage = |under: &String, roots: &[&String]| {
            let cacerts = CacertsSeen {
                roots: roots.iter().map(|r| (*r).clone()).collect(),
                under: Some(under.clone()),
                ..CacertsSeen::default()
            };
            Stage::of(&cacerts, &change)
        };
        assert_eq!(stage(from, &[from]), Some(Stage::Old));
        assert_eq!(stage(from, &[to, from]), Some(Stage::Both));
        assert_eq!(stage(to, &[spare, to, from]), Some(Stage::Signing));
        assert_eq!(stage(to, &[to]), Some(Stage::New));
        // What no rotation writes: from these there is no step that drops nothing.
        assert_eq!(stage(to, &[from, to]), None);
        assert_eq!(stage(from, &[from, to, spare]), None);
        assert_eq!(stage(from, &[from, &"d".repeat(64)]), None);
        assert_eq!(Stage::of(&CacertsSeen::default(), &change), None);
    }

    fn trust() -> TrustSeen {
        let pod = Ref::namespaced(&Kind::POD, "shop", "cart");
        let proxy = Proxy {
            pod,
            uid: "1".into(),
            owner: None,
            is_gateway: false,
            started: Some(Timestamp::UNIX_EPOCH),
            follows: true,
            place: crate::observe::PlaceSeen::default(),
            held: Err("no route".into()),
        };
        let published = Published {
            roots: vec!["a".into(), "b".into()],
            changed: Some(Timestamp::from_second(100).unwrap()),
        };
        TrustSeen {
            proxies: vec![proxy],
            published: BTreeMap::from([("shop".into(), published)]),
            ..TrustSeen::default()
        }
    }

    fn no_roots() -> ProxyHeld {
        ProxyHeld {
            leaf: Leaf {
                serial: "1".into(),
                until: Timestamp::UNIX_EPOCH,
                issuer: None,
                between: vec![],
            },
            roots: vec![],
        }
    }

    fn aim() -> Aim<'static> {
        Aim {
            trusts: vec!["a"],
            ..Aim::default()
        }
    }

    fn waits(aim: &Aim<'_>, trust: &TrustSeen) -> Vec<String> {
        aim.judge(trust, Timestamp::from_second(130).unwrap()).waits
    }

    #[test]
    fn a_proxy_that_is_not_read_is_never_good() {
        let found = aim().judge(&trust(), Timestamp::UNIX_EPOCH);
        assert_eq!((found.proxies, found.ready), (1, 0));
        assert_eq!(
            found.waits,
            ["the proxy of shop/cart is not read: no route"]
        );
    }

    #[test]
    fn what_is_missing_or_left_over_is_named() {
        let mut trust = trust();
        trust.proxies[0].held = Ok(no_roots());
        trust.proxies[0].follows = false;
        let late = waits(&aim(), &trust);
        assert!(
            late[0].ends_with(
                "does not hold root a yet, and has changed roots only with its next certificate"
            ),
            "{late:?}"
        );
        trust.webhooks.insert("Hooks h".into(), vec!["a".into()]);
        let only = Aim {
            only: true,
            ..aim()
        };
        let late = waits(&only, &trust);
        assert_eq!(
            late[0],
            "ConfigMap shop/istio-ca-root-cert still holds root b"
        );
        assert_eq!(late.len(), 2, "the webhook is as it should be: {late:?}");
        trust.published.clear();
        assert!(waits(&aim(), &trust)[0].ends_with("does not exist yet"));
    }

    #[test]
    fn kubelets_are_given_their_time_and_no_more() {
        let mut trust = trust();
        trust.proxies[0].held = Ok(no_roots());
        let within = |seconds| Aim {
            projected: Some(Duration::from_secs(seconds)),
            ..Aim::default()
        };
        let late = waits(&within(90), &trust);
        assert!(
            late[0].ends_with("within 90 s, of which 60 are left"),
            "{late:?}"
        );
        assert!(waits(&within(30), &trust).is_empty());
        // A pod that started after the change has been given the new one.
        trust.proxies[0].started = Some(Timestamp::from_second(101).unwrap());
        assert!(waits(&within(90), &trust).is_empty());
    }

    #[test]
    fn a_replica_that_lags_behind_another_holds_the_phase() {
        let replica = |pod: &str, chain| Replica {
            pod: pod.into(),
            multiroot: true,
            ends: Some(Ends { root: 9, chain }),
        };
        let aim = Aim {
            ends: Some(5),
            ..Aim::default()
        };
        let of = |replicas: Vec<Replica>| {
            let trust = TrustSeen {
                replicas,
                ..TrustSeen::default()
            };
            waits(&aim, &trust)
        };
        assert!(of(vec![replica("p", 5), replica("q", 5)]).is_empty());
        let late = of(vec![replica("p", 5), replica("q", 4)]);
        assert_eq!(late, ["istiod replica q signs with other certificates"]);
        assert!(
            of(vec![replica("p", 4)]).is_empty(),
            "it says what it began with"
        );
    }
}
