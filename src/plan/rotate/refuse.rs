//! What stands against a rotation. Everything is looked at before anything is written.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Rotate, stage};
use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{Observed, Proxy, Seen, Succession},
    pki::{Algorithm, CertFacts, short},
    plan::{Refusal, ownership, refresh, signer},
    spec::Mesh,
    verify::rotation::Stage,
    versions::About,
};

/// A root with less than this left is not begun with.
const LEAST_LEFT: i64 = 30 * 24 * 3600;
/// The kinds of objects whose pods can be made anew by a rollout.
const RESTARTABLE: [&str; 3] = ["ReplicaSet", "StatefulSet", "DaemonSet"];
/// How many are named; the others are counted.
const SHOWN: usize = 8;

/// Every reason against the rotation.
pub(super) fn refusals(
    mesh: &Mesh,
    observed: &Observed,
    how: &Rotate,
    now: Timestamp,
) -> Vec<Refusal> {
    let strangers = ownership::strangers(mesh, observed);
    if !strangers.is_empty() {
        return strangers;
    }
    let mut refusals: Vec<_> = keys(mesh, observed, how).into_iter().collect();
    refusals.extend(over(observed, now));
    let asked = Asked {
        mesh,
        observed,
        how,
    };
    for member in &mesh.clusters {
        if let Some(seen) = observed.clusters.get(&member.name) {
            refusals.extend(asked.member(&member.name, seen));
            // Nothing is gained by staying midway.
            if !how.accept_gap && observed.succession().is_none() {
                let member = (&member.name, &seen.istiod.versions);
                let again = ["rotate", "root"];
                refusals.extend(refresh::refusal(
                    &mesh.istio.known,
                    member,
                    About::Cacerts,
                    &again,
                ));
            }
        }
    }
    let given = how.given.iter().map(|root| root.facts());
    let named = observed.vault.named.iter().map(|named| &named.root);
    let coming = given.chain(named.filter(|_| !how.abort));
    refusals.extend(coming.filter_map(|root| unfit(root, observed, now)));
    refusals
}

/// The proxies of a member that cannot follow a change of root.
pub(super) fn slow(seen: &Seen) -> Vec<&Proxy> {
    let proxies = seen.trust.iter().flat_map(|trust| &trust.proxies);
    proxies.filter(|proxy| !proxy.follows).collect()
}

/// Whether a rollout makes a proxy's pod anew.
pub(crate) fn is_restartable(proxy: &Proxy) -> bool {
    let owner = proxy.owner.as_ref();
    owner.is_some_and(|owner| RESTARTABLE.contains(&owner.kind.kind.as_ref()))
}

/// Pods by name, as many as can be read at a glance.
pub(super) fn list(proxies: &[&Proxy]) -> String {
    let names = proxies.iter().take(SHOWN).map(|proxy| proxy.name());
    let names = names.collect::<Vec<_>>().join(", ");
    match proxies.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{names} and {more} more"),
        None => names,
    }
}

fn of_mesh(reason: String, hints: Vec<Hint>) -> Refusal {
    Refusal {
        cluster: None,
        reason,
        hints,
    }
}

/// Under a root that has ended, no proxy accepts another: there is nothing to be kept going, and no phase could be.
fn over(observed: &Observed, now: Timestamp) -> Option<Refusal> {
    let root = observed.vault.certificate.as_ref()?;
    if root.not_after > now || observed.succession().is_some() {
        return None;
    }
    let reason = format!(
        "the root of the mesh ended on {}, and nothing under it is accepted any more: it cannot be changed in phases",
        root.not_after.strftime("%Y-%m-%d")
    );
    let first = observed.clusters.keys().next()?;
    let leave = Hint::meshlink(["leave", first.as_str(), "--uninstall"]);
    let hints = vec![
        leave.remark("and the others likewise; then join them under another mesh name, and restart the workloads"),
    ];
    Some(of_mesh(reason, hints))
}

/// The keys that are needed and not in this vault.
fn keys(mesh: &Mesh, observed: &Observed, how: &Rotate) -> Option<Refusal> {
    let held = |root: &str| observed.vault.can_sign(root);
    let copy =
        || Hint::note("run meshlink where that root was made, or copy that machine's vault here");
    let from = observed.root(&mesh.id)?;
    let change = observed.succession();
    if !held(from) && needs_old_key(observed, how, from) {
        let reason = format!(
            "the vault on this machine does not hold {}, the root of the mesh",
            short(from)
        );
        return Some(of_mesh(reason, vec![copy()]));
    }
    if let Some(refusal) = others_root(observed, how) {
        return Some(refusal);
    }
    let Succession { to, .. } = change.filter(|_| !how.abort)?;
    let given = how.given.as_ref().map(|root| &root.facts().spki_sha256);
    let back = Hint::meshlink(["rotate", "root", "--abort"]).remark("goes back to the old root");
    if given.is_some_and(|given| given != to) || how.fresh {
        let reason = format!(
            "the root is being changed to {} already, and not to another",
            short(to)
        );
        let on = Hint::meshlink(["rotate", "root"]).remark("finishes that");
        return Some(of_mesh(reason, vec![on, back]));
    }
    (!held(to)).then(|| {
        let reason = format!(
            "somebody has begun to change the root to {}, which the vault on this machine does not hold",
            short(to)
        );
        of_mesh(reason, vec![copy(), back])
    })
}

/// Forward, what is signed under the old root stays as it is; so that a mesh can go to somebody else who signs, its key may
/// be out of reach. Back, it is signed under it again, unless what was signed before is here.
fn needs_old_key(observed: &Observed, how: &Rotate, from: &str) -> bool {
    match how.abort {
        true => {
            let held = &observed.vault.intermediates;
            !observed.clusters.keys().all(|name| held.contains_key(name))
        }
        false => {
            let vault = &observed.vault;
            vault.named.is_none() && !vault.elsewhere.iter().any(|root| root == from)
        }
    }
}

/// A root that whoever is named does not sign under, or one that they cannot sign under now.
fn others_root(observed: &Observed, how: &Rotate) -> Option<Refusal> {
    let named = observed.vault.named.as_ref().filter(|_| !how.abort)?;
    if how.fresh || how.given.is_some() {
        let reason = format!(
            "trust.authority of the mesh file says that {} signs, so the new root is theirs: leave --to out",
            named.who
        );
        return Some(of_mesh(reason, vec![Hint::meshlink(["rotate", "root"])]));
    }
    // Where a change is gone on with, some may sign under the new root already.
    let members = observed.clusters.keys();
    let without = members.filter(|name| !named.held.contains(*name));
    signer::waiting(named, without)
}

/// What is asked of every member.
struct Asked<'a> {
    mesh: &'a Mesh,
    observed: &'a Observed,
    how: &'a Rotate,
}

impl Asked<'_> {
    fn member(&self, name: &ClusterName, seen: &Seen) -> Vec<Refusal> {
        let found = self
            .left_out(name, seen)
            .or_else(|| self.foreign(name, seen))
            .or_else(|| self.other_change(name, seen))
            .or_else(|| self.odd(name, seen))
            .or_else(|| self.too_late(name, seen));
        let deaf = [self.one_root_only(name, seen), self.slow(name, seen)];
        match found {
            Some(refusal) => vec![refusal],
            None => deaf.into_iter().flatten().collect(),
        }
    }

    fn look_at_cacerts(&self, name: &ClusterName) -> Hint {
        let istio = self.mesh.istio.namespace.as_str();
        Hint::kubectl(name, ["-n", istio, "describe", "secret", "cacerts"])
    }

    /// One that is not taken along would trust nobody at the end, and be trusted by nobody.
    fn left_out(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let record = seen.record.as_ref()?;
        let is_named = |other: &ClusterName| self.mesh.clusters.iter().any(|m| m.name == *other);
        let others: Vec<_> = record.members.keys().filter(|n| !is_named(n)).collect();
        let first = others.first()?;
        let all: Vec<_> = others.iter().map(|name| name.as_str()).collect();
        let reason = format!(
            "says that mesh {} also has {}, which this run knows no way to",
            self.mesh.id,
            all.join(", ")
        );
        let dead = Hint::meshlink(["leave", first.as_str(), "--dead"]);
        let hints = vec![
            Hint::join(record.members.keys()).remark("lets this machine know them all"),
            dead.remark("if it is gone for good"),
        ];
        Some(Refusal::by(name, reason, hints))
    }

    fn foreign(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let cacerts = seen.cacerts.as_ref();
        if cacerts.is_some_and(|cacerts| cacerts.ours) {
            return None;
        }
        let reason = match cacerts {
            None => "has no Secret cacerts",
            Some(_) => {
                "has a Secret cacerts that meshlink did not make: whoever made it changes its root"
            }
        };
        Some(Refusal::by(name, reason, vec![self.look_at_cacerts(name)]))
    }

    fn other_change(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let (ours, first) = (seen.succession.as_ref()?, self.observed.succession()?);
        if ours == first {
            return None;
        }
        let reason = format!(
            "says that root {} takes the place of {}, and another member that {} takes that of {}",
            short(&ours.to),
            short(&ours.from),
            short(&first.to),
            short(&first.from)
        );
        let istio = self.mesh.istio.namespace.as_str();
        let words = [
            "-n",
            istio,
            "get",
            "configmap",
            crate::observe::NEXT,
            "-o",
            "yaml",
        ];
        Some(Refusal::by(name, reason, vec![Hint::kubectl(name, words)]))
    }

    /// What no rotation writes is not gone on from: which step drops nothing cannot be told.
    fn odd(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        if stage(self.mesh, self.observed, seen).is_some() {
            return None;
        }
        let cacerts = seen.cacerts.as_ref()?;
        let roots: Vec<_> = cacerts.roots.iter().map(|root| short(root)).collect();
        let under = cacerts.under.as_deref().map_or("none of them", short);
        let reason = format!(
            "has a Secret cacerts with the roots {} whose signing certificate is under {under}: neither a join nor a \
             change of root has written that",
            roots.join(", ")
        );
        let mut hints = vec![self.look_at_cacerts(name)];
        if self.observed.succession().is_none() {
            let members = self.mesh.clusters.iter().map(|m| &m.name);
            hints.push(Hint::join(members).remark("puts it right"));
        }
        Some(Refusal::by(name, reason, hints))
    }

    fn too_late(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let stage = stage(self.mesh, self.observed, seen)?;
        let change = self.observed.succession();
        if !self.how.abort || stage < Stage::New {
            return None;
        }
        let change = change?;
        let reason = format!(
            "trusts root {} no more: there is no way back to it but another change of root",
            short(&change.from)
        );
        let on = Hint::meshlink(["rotate", "root"]).remark("finishes what was begun");
        Some(Refusal::by(name, reason, vec![on]))
    }

    /// Refused by istiod without a word in any status: the Secret changes, and nothing else does.
    fn one_root_only(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let replicas = seen.trust.iter().flat_map(|trust| &trust.replicas);
        let pods: Vec<_> = replicas
            .filter(|replica| !replica.multiroot)
            .map(|replica| replica.pod.as_str())
            .collect();
        let first = pods.first()?;
        let reason = format!(
            "runs an istiod that takes no second root while it runs (pod {first} has no ISTIO_MULTIROOT_MESH=true)"
        );
        let istio = self.mesh.istio.namespace.as_str();
        let hint = match self.observed.succession() {
            None => Hint::join(self.mesh.clusters.iter().map(|m| &m.name)),
            // Nobody joins meanwhile.
            Some(_) => Hint::kubectl(
                name,
                [
                    "-n",
                    istio,
                    "set",
                    "env",
                    "deploy/istiod",
                    "ISTIO_MULTIROOT_MESH=true",
                ],
            ),
        };
        Some(Refusal::by(name, reason, vec![hint.remark("sets it")]))
    }

    fn slow(&self, name: &ClusterName, seen: &Seen) -> Option<Refusal> {
        let slow = slow(seen);
        if slow.is_empty() {
            return None;
        }
        if self.how.restart_workloads {
            let alone: Vec<_> = slow.into_iter().filter(|p| !is_restartable(p)).collect();
            let first = alone.first()?;
            let reason = format!(
                "runs pods whose proxies cannot follow a change of root, and which no rollout makes anew: {}",
                list(&alone)
            );
            let words = ["-n", first.namespace(), "delete", "pod", &first.pod.name];
            let hint = Hint::kubectl(name, words).remark("and whoever made it makes it anew");
            return Some(Refusal::by(name, reason, vec![hint]));
        }
        // Once it is begun, what cannot follow holds the phase, and is named there.
        if self.observed.succession().is_some() {
            return None;
        }
        let spaces: BTreeSet<_> = slow.iter().map(|proxy| proxy.namespace()).collect();
        let reason = format!(
            "runs proxies that take a changed root only with their next certificate, half a day later \
             (no PROXY_CONFIG_XDS_AGENT=true in them; {} in {} namespaces): {}",
            slow.len(),
            spaces.len(),
            list(&slow)
        );
        let hint = Hint::meshlink(["rotate", "root", "--restart-workloads"]);
        let hint = hint.remark("restarts exactly these, by their rollouts");
        Some(Refusal::by(name, reason, vec![hint]))
    }
}

/// Why a root that somebody else has made cannot be this mesh's.
fn unfit(facts: &CertFacts, observed: &Observed, now: Timestamp) -> Option<Refusal> {
    let named = observed.vault.named.as_ref();
    let is_named = named.is_some_and(|named| named.root == *facts);
    let is_used = !is_named
        && observed.vault.roots.contains(&facts.spki_sha256)
        && observed.vault.next.as_ref() != Some(&facts.spki_sha256)
        && observed.succession().is_none();
    let is_weak = match &facts.algorithm {
        Algorithm::P256 | Algorithm::P384 => false,
        Algorithm::Rsa(bits) => *bits < 2048,
        _ => true,
    };
    let left = facts.not_after.as_second() - now.as_second();
    let all_embedded = observed.clusters.values().all(|seen| seen.embedded);
    let why = match () {
        () if is_used => "has been the root of this mesh before".to_owned(),
        () if !facts.is_ca || !facts.may("keyCertSign") => "may not sign certificates".to_owned(),
        () if facts.path_length == Some(0) => {
            "allows no intermediate below it (path length 0)".to_owned()
        }
        () if is_weak => format!(
            "has a key of type {}, which Envoy does not verify",
            facts.algorithm
        ),
        () if facts.name_constraints.is_some() => {
            "has name constraints, which the names of workloads would not meet".to_owned()
        }
        () if now < facts.not_before => format!("is not valid before {}", facts.not_before),
        () if left < LEAST_LEFT => format!("ends on {}", facts.not_after),
        () if facts.embedded && !all_embedded => "was made for embedded clusters".to_owned(),
        () => return None,
    };
    let reason = format!("the root {:?} {why}", facts.subject);
    let hint = match is_named {
        true => Hint::note("name another authority in trust.authority of the mesh file"),
        false => {
            let hint = Hint::meshlink(["rotate", "root", "--to", "generate"]);
            hint.remark("makes one that fits")
        }
    };
    Some(of_mesh(reason, vec![hint]))
}
