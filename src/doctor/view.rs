//! The reading as a check sees it: only those members of which everything that it needs could be read.

use std::vec;

use serde_json::Value;

use super::{Member, Reading, Source};
use crate::{
    name::ClusterName,
    observe::Seen,
    spec::{self, Mesh},
};

/// What a check looks at.
pub(super) struct View<'a> {
    pub(super) reading: &'a Reading,
    needs: &'static [Source],
    /// Its members, in the mesh's order.
    pub(super) names: Vec<&'a ClusterName>,
}

/// A member in a view.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// Its name.
    pub(super) name: &'a ClusterName,
    /// As the mesh has it.
    pub(super) spec: &'a spec::Member,
    reading: &'a Reading,
}

impl<'a> View<'a> {
    pub(super) fn of(reading: &'a Reading, needs: &'static [Source]) -> Self {
        let all = reading.mesh.clusters.iter().map(|m| &m.name);
        let whole = |name: &&ClusterName| needs.iter().all(|s| reading.has(name, *s));
        Self {
            names: all.filter(whole).collect(),
            reading,
            needs,
        }
    }

    /// The members it cannot look at, each with the first thing that is missing. Of one that does not answer at all,
    /// that is said once.
    pub(super) fn missing(&self) -> impl Iterator<Item = (&'a ClusterName, Source)> {
        let (reading, needs) = (self.reading, self.needs);
        let all = reading.mesh.clusters.iter().map(|m| &m.name);
        all.filter_map(move |name| {
            let mut missing = needs.iter().filter(|s| !reading.has(name, **s));
            let first = *missing.next()?;
            let silent = reading.observed.unreachable.get(name);
            let is_silent = silent.is_some_and(|u| u.silent) || !reading.members.contains_key(name);
            Some((name, if is_silent { Source::Basics } else { first }))
        })
    }

    pub(super) fn mesh(&self) -> &'a Mesh {
        &self.reading.mesh
    }

    /// Every member of it.
    pub(super) fn members(&self) -> vec::IntoIter<At<'a>> {
        let reading = self.reading;
        let all = reading.mesh.clusters.iter();
        let mine = all.filter(|m| self.names.contains(&&m.name));
        mine.map(|spec| At {
            name: &spec.name,
            spec,
            reading,
        })
        .collect::<Vec<_>>()
        .into_iter()
    }

    /// Every ordered pair of them.
    pub(super) fn pairs(&self) -> vec::IntoIter<(At<'a>, At<'a>)> {
        let all: Vec<_> = self.members().collect();
        let pairs = all
            .iter()
            .flat_map(|from| all.iter().map(move |to| (*from, *to)));
        pairs
            .filter(|(from, to)| self.mesh().are_peers(from.name, to.name))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl<'a> At<'a> {
    /// What every command reads of it; checks that need no more than lists do not ask for it.
    pub(super) fn seen(&self) -> Option<&'a Seen> {
        self.reading.seen(self.name)
    }

    pub(super) fn member(&self) -> Option<&'a Member> {
        self.reading.members.get(self.name)
    }

    /// The objects of a list.
    pub(super) fn list(&self, source: Source) -> &'a [Value] {
        let list = self.member().and_then(|m| m.lists.get(&source));
        list.map_or(&[], |list| list.as_slice())
    }

    /// The objects of a list that are in a namespace.
    pub(super) fn within(
        &self,
        source: Source,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Value> + use<'a> {
        let list = self.list(source).iter();
        list.filter(move |o| o["metadata"]["namespace"] == namespace)
    }

    /// One object of a list.
    pub(super) fn one(&self, source: Source, namespace: &'a str, name: &str) -> Option<&'a Value> {
        self.within(source, namespace)
            .find(|o| o["metadata"]["name"] == name)
    }

    /// The namespace of the control plane, as an object.
    pub(super) fn istio(&self) -> Option<&'a Value> {
        let istio = self.reading.mesh.istio.namespace.as_str();
        let all = self.list(Source::Namespaces).iter();
        all.into_iter().find(|ns| ns["metadata"]["name"] == istio)
    }

    /// Its istiod's pods, without those that go.
    pub(super) fn istiods(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let istio = self.reading.mesh.istio.namespace.as_str();
        let pods = self.within(Source::Pods, istio);
        pods.filter(|p| p["metadata"]["labels"]["app"] == "istiod" && lives(p))
    }

    /// The pods of its east-west gateway: those that its Service sends to.
    pub(super) fn gateways(&self) -> Vec<&'a Value> {
        let gateway = &self.reading.mesh.gateway;
        let (space, name) = (gateway.namespace.as_str(), gateway.name.as_str());
        let service = self.one(Source::Services, space, name);
        let Some(selector) = service.map(|s| &s["spec"]["selector"]) else {
            return vec![];
        };
        let pods = self.within(Source::Pods, space).filter(|p| lives(p));
        pods.filter(|p| has_labels(p, selector)).collect()
    }

    /// What its injector puts into pods.
    pub(super) fn injected(&self) -> Option<Value> {
        let istio = self.reading.mesh.istio.namespace.as_str();
        let map = self.one(Source::ConfigMaps, istio, "istio-sidecar-injector")?;
        serde_json::from_str(map["data"]["values"].as_str()?).ok()
    }

    /// Its mesh configuration.
    pub(super) fn config(&self) -> Option<Value> {
        let istio = self.reading.mesh.istio.namespace.as_str();
        let map = self.one(Source::ConfigMaps, istio, "istio")?;
        serde_saphyr::from_str(map["data"]["mesh"].as_str()?).ok()
    }
}

/// A pod that runs or is about to, and is not on its way out.
pub(super) fn lives(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    pod["metadata"]["deletionTimestamp"].is_null() && !["Succeeded", "Failed"].contains(&phase)
}

/// Whether an object has all the labels of a map; an empty map is no selector.
pub(super) fn has_labels(object: &Value, wanted: &Value) -> bool {
    let Some(wanted) = wanted.as_object().filter(|w| !w.is_empty()) else {
        return false;
    };
    let labels = &object["metadata"]["labels"];
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// The variable of a pod's containers.
pub(super) fn variable<'v>(pod: &'v Value, name: &str) -> Option<&'v str> {
    let of = |key: &str| pod["spec"][key].as_array().into_iter().flatten();
    let all = of("containers").chain(of("initContainers"));
    let set = all.flat_map(|c| c["env"].as_array().into_iter().flatten());
    // Of one that is set twice, the last counts.
    let mut set = set.filter(|e| e["name"] == name);
    set.next_back()?["value"].as_str()
}

/// A text in an object, by its place; nothing where it is empty.
pub(super) fn text<'v>(object: &'v Value, place: &str) -> Option<&'v str> {
    let text = object.pointer(place)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

/// `namespace/name`.
pub(super) fn path(object: &Value) -> String {
    let metadata = &object["metadata"];
    let of = |key: &str| metadata[key].as_str().unwrap_or_default();
    format!("{}/{}", of("namespace"), of("name"))
}
