//! Who has followed a change of certificates, and who has not yet. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    cluster::Ref,
    hint::Hint,
    name::ClusterName,
    observe::{Proxy, TrustSeen},
    pki::{Cert, renewal::date},
};

/// What everything in a member is to hold.
pub(super) struct Wanted<'a> {
    /// What istiod is to sign with, and proxies to have their certificates from.
    pub(super) signer: &'a Cert,
    /// The roots that are to be trusted, by their public keys.
    pub(super) roots: &'a BTreeSet<String>,
}

/// How far a member is.
pub(super) struct Followed {
    /// How many proxies run.
    pub(super) all: usize,
    /// Replicas of istiod that do not sign with it.
    pub(super) unloaded: Vec<String>,
    /// Proxies that do not hold it.
    pub(super) behind: Vec<Behind>,
}

/// A proxy that does not hold what it should.
pub(super) struct Behind {
    /// `namespace/name` of its pod.
    name: String,
    /// What made its pod.
    owner: Option<Ref>,
    namespace: String,
    /// It takes such changes from istiod as they come, so that waiting helps.
    pub(super) follows: bool,
    /// What it holds is valid no longer, or cannot be read: nobody knows that it is well without.
    pub(super) is_cut: bool,
    /// What it holds, in words.
    text: String,
}

/// How far a member is with it.
pub(super) fn followed(seen: &TrustSeen, wanted: &Wanted<'_>, now: Timestamp) -> Followed {
    let end = wanted.signer.facts().not_after.as_second();
    let unloaded = seen.replicas.iter().filter(|replica| {
        // A replica that does not say is judged by what it publishes.
        let said = replica.ends.map(|ends| ends.chain);
        said.is_some_and(|said| (said - end).abs() > 1)
    });
    Followed {
        all: seen.proxies.len(),
        unloaded: unloaded.map(|replica| replica.pod.clone()).collect(),
        behind: seen
            .proxies
            .iter()
            .filter_map(|p| behind(p, wanted, now))
            .collect(),
    }
}

fn behind(proxy: &Proxy, wanted: &Wanted<'_>, now: Timestamp) -> Option<Behind> {
    let of = |is_cut, text| Behind {
        name: proxy.name(),
        owner: proxy.owner.clone(),
        namespace: proxy.namespace().to_owned(),
        follows: proxy.follows,
        is_cut,
        text,
    };
    let held = match &proxy.held {
        Ok(held) => held,
        Err(why) => return Some(of(false, format!("cannot be read: {why}"))),
    };
    let issuer = held.leaf.issuer.as_ref();
    if issuer != Some(wanted.signer) {
        // Its certificate is worth nothing without the intermediate that signed it.
        let ends = issuer.map(|issuer| issuer.facts().not_after);
        let until = ends.map_or(held.leaf.until, |end| end.min(held.leaf.until));
        let verb = if until <= now { "ended" } else { "ends" };
        let text = format!(
            "has a certificate of another intermediate, which {verb} {}",
            minute(until)
        );
        return Some(of(until <= now, text));
    }
    let trusts: BTreeSet<_> = held.trusts().into_iter().map(str::to_owned).collect();
    (trusts != *wanted.roots).then(|| of(false, "does not trust what is in cacerts yet".into()))
}

fn minute(at: Timestamp) -> String {
    format!("on {} at {}", date(at), at.strftime("%H:%M UTC"))
}

impl Followed {
    /// Whether nothing is to be waited for any more: those that are left do not follow, or had their time, and go on well
    /// as they are.
    pub(super) fn is_enough(&self, is_late: bool) -> bool {
        let waits = |b: &Behind| b.is_cut || (b.follows && !is_late);
        self.unloaded.is_empty() && !self.behind.iter().any(waits)
    }

    /// How far it is, in a line.
    pub(super) fn line(&self, name: &ClusterName) -> String {
        if let Some(pod) = self.unloaded.first() {
            return format!(
                "istiod replica {pod} in {name} does not sign with what is in cacerts yet"
            );
        }
        let (all, well) = (self.all, self.all - self.behind.len());
        let text = format!("{well} of {all} proxies in {name} hold what is in cacerts");
        match self.behind.first() {
            Some(first) => format!("{text}; {} {}", first.name, first.text),
            None => text,
        }
    }

    /// Those that do not hold it, a line each.
    pub(super) fn rest(&self) -> Vec<String> {
        let line = |b: &Behind| {
            let why = match (b.follows, b.is_cut) {
                (_, true) => "it is cut off until its pod is restarted",
                (true, _) => "it has not followed",
                (false, _) => "it does not follow, and renews it by itself before that",
            };
            format!("{} {}: {why}", b.name, b.text)
        };
        self.behind.iter().map(line).collect()
    }

    /// The commands that restart those that are cut off.
    pub(super) fn restarts(&self, cluster: &ClusterName) -> Vec<Hint> {
        let cut = self.behind.iter().filter(|b| b.is_cut);
        let hints: BTreeSet<_> = cut.map(|b| b.restart(cluster)).collect();
        hints.into_iter().collect()
    }
}

impl Behind {
    fn restart(&self, cluster: &ClusterName) -> Hint {
        let space = self.namespace.as_str();
        let what = match &self.owner {
            // A ReplicaSet is restarted by its Deployment, which is called the same without the last part.
            Some(owner) if owner.kind.kind == "ReplicaSet" => {
                let name = owner
                    .name
                    .rsplit_once('-')
                    .map_or(owner.name.as_str(), |(n, _)| n);
                Some(format!("deployment/{name}"))
            }
            Some(owner) if ["StatefulSet", "DaemonSet"].contains(&owner.kind.kind.as_ref()) => {
                Some(format!("{}/{}", owner.kind.kind.to_lowercase(), owner.name))
            }
            _ => None,
        };
        match what {
            Some(what) => Hint::kubectl(cluster, ["-n", space, "rollout", "restart", &what]),
            None => {
                let pod = self.name.rsplit('/').next().unwrap_or_default();
                Hint::kubectl(cluster, ["-n", space, "delete", "pod", pod])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cluster::Kind,
        observe::{Leaf, ProxyHeld},
        pki::{self, NewIntermediate, NewRoot, Profile, Root},
        spec::Mesh,
    };

    fn start() -> Timestamp {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    fn hours(hours: u64) -> Timestamp {
        start() + Duration::from_secs(hours * 3600)
    }

    fn proxy(follows: bool, held: Result<(&Cert, u64), &str>, roots: &[&Cert]) -> Proxy {
        let held = held
            .map_err(str::to_owned)
            .map(|(issuer, until)| ProxyHeld {
                leaf: Leaf {
                    serial: "1".into(),
                    until: hours(until),
                    issuer: Some(issuer.clone()),
                    between: vec![],
                },
                roots: roots.iter().map(|root| (*root).clone()).collect(),
            });
        let kind = Kind::new("apps/v1", "ReplicaSet");
        Proxy {
            pod: Ref::namespaced(&Kind::POD, "shop", "cart-5d9-x"),
            uid: "1".into(),
            owner: Some(Ref::namespaced(&kind, "shop", "cart-5d9")),
            is_gateway: false,
            started: None,
            follows,
            place: crate::observe::PlaceSeen::default(),
            held,
        }
    }

    #[test]
    fn who_is_waited_for_and_who_is_only_named() {
        let mesh = Mesh::named(&["a".into(), "b".into()]).unwrap();
        let new_root = NewRoot {
            mesh: &mesh.id,
            key: mesh.trust.key,
            lifetime: mesh.trust.root_lifetime,
            embedded: false,
            profile: &Profile::root().unwrap(),
            now: start(),
        };
        let root = Root::create(&new_root).unwrap();
        let profile = Profile::intermediate().unwrap();
        let new = NewIntermediate::of(&mesh, &mesh.clusters[0].name, &profile, start());
        let (old, fresh) = (root.issue(&new).unwrap(), root.issue(&new).unwrap());
        let spare = pki::throw_away(&mesh.id, false, start()).unwrap();
        let (old, fresh, root) = (old.cert(), fresh.cert(), root.cert());
        let keys = [root, &spare].map(|c| c.facts().spki_sha256.clone());
        let (both, alone) = ([root, &spare], [root]);
        let wanted = Wanted {
            signer: fresh,
            roots: &keys.into(),
        };
        let year = 366 * 24;
        // The proxy, the time, whether it is waited for at first, and later.
        for (proxy, at, first, late) in [
            (proxy(true, Ok((fresh, 24)), &both), 1, false, false),
            (proxy(true, Ok((fresh, 24)), &alone), 1, true, false),
            (proxy(true, Ok((old, 24)), &alone), 1, true, false),
            (proxy(true, Err("no answer"), &[]), 1, true, false),
            (proxy(false, Ok((old, 24)), &alone), 1, false, false),
            (proxy(false, Ok((old, 24)), &alone), 25, true, true),
            (proxy(false, Ok((old, year + 24)), &alone), year, true, true),
        ] {
            let name = format!("{proxy:?}");
            let seen = TrustSeen {
                proxies: vec![proxy],
                ..TrustSeen::default()
            };
            let followed = followed(&seen, &wanted, hours(at));
            assert_eq!(!followed.is_enough(false), first, "{name}");
            assert_eq!(!followed.is_enough(true), late, "{name}");
            let restarts = followed.restarts(&mesh.clusters[0].name);
            assert_eq!(!restarts.is_empty(), late, "{name}");
            if let Some(hint) = restarts.first() {
                assert!(
                    hint.to_string()
                        .contains("-n shop rollout restart deployment/cart")
                );
            }
        }
    }
}
