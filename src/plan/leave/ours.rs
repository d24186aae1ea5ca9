//! What of a leaver is meshlink's to take away, object by object; and who is not to be touched at all.

use std::collections::BTreeMap;

use super::{Leave, LeavePlanner};
use crate::{
    cluster::{Kind, Ref, access},
    name::ClusterName,
    observe::{CLAIM, Observed, RECORD, Seen},
    plan::{Deletion, ownership, readers},
    probe,
    spec::{Mesh, OPENER},
};

/// What a leave looks at by name in every member, besides what every look reads.
pub(crate) fn refs(mesh: &Mesh) -> BTreeMap<ClusterName, Vec<Ref>> {
    let (istio, ingress) = (
        mesh.istio.namespace.as_str(),
        mesh.gateway.namespace.as_str(),
    );
    let one = |name: &ClusterName| {
        let mut refs: Vec<_> = [istio, ingress, probe::NAMESPACE]
            .map(|n| Ref::cluster(&Kind::NAMESPACE, n))
            .into();
        refs.extend([CLAIM, RECORD].map(|map| Ref::namespaced(&Kind::CONFIG_MAP, istio, map)));
        refs.push(Ref::namespaced(&Kind::GATEWAY, ingress, OPENER));
        refs.push(Ref::namespaced(&Kind::SECRET, istio, "cacerts"));
        let peers = mesh.clusters.iter().map(|m| &m.name).filter(|n| *n != name);
        refs.extend(peers.flat_map(access::account_names));
        let renewer = readers::renewer_names().into_iter();
        refs.extend(renewer.filter(|name| name.kind != Kind::CRON_JOB));
        refs
    };
    let names = mesh.clusters.iter().map(|m| &m.name);
    names.map(|name| (name.clone(), one(name))).collect()
}

/// Members that stay and do not say themselves that they are members: nothing is done there. With why.
pub(crate) fn bystanders(
    mesh: &Mesh,
    observed: &Observed,
    how: &Leave,
) -> BTreeMap<ClusterName, String> {
    let names = mesh.clusters.iter().map(|m| &m.name);
    let stay = names.filter(|n| !how.leavers.contains(n));
    let one = |name: &ClusterName| {
        let why = ownership::unbound(mesh, observed, name)?;
        (!is_linked(observed, name)).then(|| (name.clone(), why))
    };
    stay.filter_map(one).collect()
}

/// Whether a member holds remote secrets of this mesh, whatever became of its claim.
pub(super) fn is_linked(observed: &Observed, name: &ClusterName) -> bool {
    let seen = observed.clusters.get(name);
    seen.is_some_and(|s| s.remote_secrets.values().any(|r| r.foreign.is_none()))
}

/// What a release of ours holds and is to go with it.
pub(super) fn held<'s>(seen: &'s Seen, release: &str) -> impl Iterator<Item = Deletion> + use<'s> {
    let held = seen.releases.get(release).into_iter().flat_map(|r| &r.held);
    let goes = held.filter(|h| h.foreign.is_none() && !h.kept);
    goes.map(Deletion::from)
}

impl LeavePlanner<'_> {
    /// An object of meshlink's own kind, if it is there and ours.
    fn ours(&self, at: &ClusterName, object: Ref) -> Option<Deletion> {
        let seen = self.seen(at)?;
        let live = seen.live.get(&object)?;
        let whose = seen.owner(&self.mesh.id, at).whose(live);
        let uid = live["metadata"]["uid"].as_str()?.to_owned();
        whose.is_none().then_some(Deletion { object, uid })
    }

    fn in_istio(&self, kind: &Kind, name: &str) -> Ref {
        Ref::namespaced(kind, self.mesh.istio.namespace.as_str(), name)
    }

    /// A release that a join of this mesh has made, and not taken over from somebody.
    pub(super) fn made(&self, seen: &Seen, release: &str) -> bool {
        let made_for = seen.releases.get(release).map(|r| r.made_for.as_str());
        made_for == Some(self.mesh.id.as_str())
    }

    /// The remote secret of `from` in `at`, where it holds nothing else.
    pub(super) fn secret(&self, from: &ClusterName, at: &ClusterName) -> Option<Deletion> {
        let seen = self.seen(at)?;
        let secret = seen.remote_secrets.get(from.as_str())?;
        let place = access::remote_name(from);
        let alone = secret.foreign.is_none() && secret.name() == place.name;
        alone.then_some(Deletion {
            object: place,
            uid: secret.uid.clone(),
        })
    }

    /// The account of `peer` in a member.
    pub(super) fn account(&self, at: &ClusterName, peer: &ClusterName) -> Vec<Deletion> {
        let names = access::account_names(peer).into_iter();
        let mut all: Vec<_> = names.filter_map(|object| self.ours(at, object)).collect();
        let seen = self.seen(at).and_then(|s| s.readers.get(peer.as_str()));
        let tokens = seen.map(|r| r.tokens.as_slice()).unwrap_or_default();
        let tokens = tokens.iter().map(|token| readers::deletion(&token.secret));
        let more: Vec<_> = tokens.filter(|token| !all.contains(token)).collect();
        all.extend(more);
        all
    }

    /// What renews in a member what it uses.
    pub(super) fn renewer(&self, at: &ClusterName) -> Vec<Deletion> {
        let seen = self.seen(at);
        seen.map(|seen| readers::renewer_made(self.mesh, seen, at))
            .unwrap_or_default()
    }

    pub(super) fn record(&self, at: &ClusterName) -> Option<Deletion> {
        self.ours(at, self.in_istio(&Kind::CONFIG_MAP, RECORD))
    }

    pub(super) fn cacerts(&self, at: &ClusterName) -> Option<Deletion> {
        self.ours(at, self.in_istio(&Kind::SECRET, "cacerts"))
    }

    /// What opens the gateway, its Service and the rest of its release.
    pub(super) fn gateway(&self, leaver: &ClusterName, seen: &Seen) -> Vec<Deletion> {
        let gateway = &self.mesh.gateway;
        let opener = Ref::namespaced(&Kind::GATEWAY, gateway.namespace.as_str(), OPENER);
        let mut deletes: Vec<_> = self.ours(leaver, opener).into_iter().collect();
        let made = self.made(seen, &gateway.name);
        // A run that died between the Service and the release's record left one without the other.
        let begun = seen.claim.is_some() && !seen.releases.contains_key(&gateway.name);
        let service = seen.gateway.service.as_ref();
        let service = service.filter(|s| s.foreign.is_none() && (made || begun));
        deletes.extend(service.map(Deletion::from));
        let rest = held(seen, &gateway.name).filter(|_| made);
        for deletion in rest {
            if !deletes.contains(&deletion) {
                deletes.push(deletion);
            }
        }
        deletes
    }

    /// Istio's CRDs, where that was asked for.
    pub(super) fn crds(&self, seen: &Seen) -> Vec<Deletion> {
        let crds = seen.own_crds.iter().filter(|_| self.how.crds);
        crds.map(Deletion::from).collect()
    }

    /// An istiod that meshlink did not install goes on, and needs what it signs with.
    pub(super) fn istiod_stays(&self, seen: &Seen) -> bool {
        let is_istiod =
            |d: Deletion| d.object.kind == Kind::DEPLOYMENT && d.object.name == "istiod";
        let goes = self.made(seen, "istiod") && held(seen, "istiod").any(is_istiod);
        seen.istiod.present && !goes
    }

    /// The namespaces that meshlink made and nobody else uses; the claim by itself, where its namespace stays.
    pub(super) fn namespaces(&self, leaver: &ClusterName, seen: &Seen) -> Vec<Deletion> {
        let (istio, ingress) = (&self.mesh.istio.namespace, &self.mesh.gateway.namespace);
        let mut names = vec![ingress.as_str(), istio.as_str()];
        names.dedup();
        let goes = names.into_iter().filter(|n| {
            let used = seen.strangers.get(*n).is_some_and(|s| !s.is_empty());
            !used && self.made_namespace(leaver, seen, n)
        });
        let mut deletes: Vec<_> = goes
            .filter_map(|n| self.ours(leaver, Ref::cluster(&Kind::NAMESPACE, n)))
            .collect();
        let goes = |d: &Deletion| d.object.name == *istio;
        if !deletes.iter().any(goes) && !self.istiod_stays(seen) {
            let claim = self.in_istio(&Kind::CONFIG_MAP, CLAIM);
            deletes.extend(self.ours(leaver, claim).filter(|_| seen.claim.is_some()));
        }
        deletes
    }

    /// Whether meshlink made a namespace that is there.
    pub(super) fn made_namespace(&self, leaver: &ClusterName, seen: &Seen, name: &str) -> bool {
        let live = seen.live.get(&Ref::cluster(&Kind::NAMESPACE, name));
        let owner = seen.owner(&self.mesh.id, leaver);
        live.is_some_and(|live| owner.has_made(live))
    }
}
