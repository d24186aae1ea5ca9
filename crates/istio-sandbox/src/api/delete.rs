//! Deletion: preconditions, finalizers, grace, dependents, and what a namespace takes with it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{kind::Kind, state::State, status::Failure, store::key, write::Target};

/// The body of a delete, and its query.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) policy: String,
    pub(crate) grace: Option<i64>,
    pub(crate) dry_run: bool,
}

/// How a delete went.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// The object is gone.
    Gone(Arc<Value>),
    /// It waits for its finalizers, its contents or its grace.
    Waits(Arc<Value>),
}

impl State {
    pub(crate) fn delete(
        &mut self,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted, Failure> {
        let live = self.live(target)?;
        preconditions(&target.kind, &live, options)?;
        if options.dry_run {
            return Ok(Deleted::Gone(live));
        }
        let (namespace, name) = key(&live);
        match options.policy.as_str() {
            "Orphan" => self.orphan(&live),
            "Foreground" => self.collect_dependents(&live),
            _ => {}
        }
        if target.kind.kind == "Namespace" {
            return Ok(self.delete_namespace(&target.kind, &live));
        }
        if target.kind.kind == "CustomResourceDefinition" {
            self.delete_custom_objects(&live);
        }
        let grace = self.grace(&live, options);
        if grace > 0 || !finalizers(&live).is_empty() {
            return Ok(Deleted::Waits(self.mark(&target.kind, &live, grace)));
        }
        let gone = self.remove(&target.kind, &namespace, &name).unwrap_or(live);
        Ok(Deleted::Gone(gone))
    }

    /// Seconds a pod may take to stop; only where somebody plays the kubelet.
    fn grace(&self, live: &Value, options: &DeleteOptions) -> i64 {
        if !self.kubelet || live["kind"] != "Pod" || live["spec"].get("nodeName").is_none() {
            return 0;
        }
        let own = live["spec"]["terminationGracePeriodSeconds"].as_i64();
        options.grace.or(own).unwrap_or(30)
    }

    /// Marks an object as being deleted.
    fn mark(&mut self, kind: &Kind, live: &Arc<Value>, grace: i64) -> Arc<Value> {
        if live["metadata"].get("deletionTimestamp").is_some() {
            return live.clone();
        }
        let mut object = (**live).clone();
        object["metadata"]["deletionTimestamp"] = self.now().into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if let Some(generation) = object["metadata"]["generation"].as_i64() {
            object["metadata"]["generation"] = (generation + 1).into();
        }
        self.objects.put(&kind.resource(), object)
    }

    /// Takes an object out for good, and after it what cannot be without it.
    pub(crate) fn remove(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let gone = self.objects.remove(&kind.resource(), namespace, name)?;
        self.after_remove(kind, &gone);
        self.collect_dependents(&gone);
        self.finish_namespace(namespace);
        Some(gone)
    }

    /// Objects whose only owner is `owner`.
    fn dependents(&self, owner: &Value) -> Vec<(Arc<Kind>, Arc<Value>)> {
        let uid = &owner["metadata"]["uid"];
        let owned = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.into_iter().flatten().any(|o| o["uid"] == *uid)
        };
        let mut found = Vec::new();
        for resource in self.objects.resources() {
            let Some(kind) = self.kinds.by_resource(&resource) else {
                continue;
            };
            let objects = self.objects.list(&resource, None).filter(|o| owned(o));
            found.extend(objects.map(|o| (kind.clone(), o.clone())));
        }
        found
    }

    fn collect_dependents(&mut self, owner: &Value) {
        for (kind, object) in self.dependents(owner) {
            let others = object["metadata"]["ownerReferences"]
                .as_array()
                .map_or(0, Vec::len);
            if others > 1 {
                self.disown(&kind, &object, owner);
                continue;
            }
            let (namespace, name) = key(&object);
            // An object that went with another of its owners is as gone as it should be.
            let _ = self.delete(
                &Target::object(&kind, &namespace, &name),
                &DeleteOptions::default(),
            );
        }
    }

    fn orphan(&mut self, owner: &Value) {
        for (kind, object) in self.dependents(owner) {
            self.disown(&kind, &object, owner);
        }
    }

    fn disown(&mut self, kind: &Kind, object: &Value, owner: &Value) {
        let mut object = object.clone();
        let uid = owner["metadata"]["uid"].clone();
        let meta = &mut object["metadata"];
        if let Some(owners) = meta["ownerReferences"].as_array_mut() {
            owners.retain(|o| o["uid"] != uid);
        }
        if meta["ownerReferences"]
            .as_array()
            .is_some_and(Vec::is_empty)
        {
            meta.as_object_mut()
                .map(|m| m.shift_remove("ownerReferences"));
        }
        self.objects.put(&kind.resource(), object);
    }

    fn delete_namespace(&mut self, kind: &Arc<Kind>, live: &Arc<Value>) -> Deleted {
        let (_, name) = key(live);
        if live["metadata"].get("deletionTimestamp").is_none() {
            let mut object = (**live).clone();
            object["metadata"]["deletionTimestamp"] = self.now().into();
            object["status"]["phase"] = "Terminating".into();
            self.objects.put("namespaces", object);
        }
        for resource in self.objects.resources() {
            let Some(inner) = self.kinds.by_resource(&resource) else {
                continue;
            };
            let contents: Vec<_> = self
                .objects
                .list(&resource, Some(&name))
                .map(|o| key(o))
                .collect();
            for (namespace, name) in contents.into_iter().filter(|(n, _)| !n.is_empty()) {
                // Contents may go with one another.
                let _ = self.delete(
                    &Target::object(&inner, &namespace, &name),
                    &DeleteOptions::default(),
                );
            }
        }
        self.finish_namespace(&name);
        let left = self.objects.get("namespaces", "", &name).cloned();
        left.map_or_else(
            || Deleted::Gone(live.clone()),
            |left| {
                debug_assert_eq!(kind.kind, "Namespace");
                Deleted::Waits(left)
            },
        )
    }

    /// A namespace being deleted goes when nothing is left in it.
    fn finish_namespace(&mut self, name: &str) {
        let Some(namespace) = self.objects.get("namespaces", "", name) else {
            return;
        };
        let empty = || {
            self.objects
                .resources()
                .iter()
                .all(|r| self.objects.list(r, Some(name)).next().is_none())
        };
        if namespace["metadata"].get("deletionTimestamp").is_none()
            || !finalizers(namespace).is_empty()
            || !empty()
        {
            return;
        }
        self.objects.remove("namespaces", "", name);
    }

    fn delete_custom_objects(&mut self, crd: &Value) {
        let text = |pointer: &str| {
            crd.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let resource = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
        let Some(kind) = self.kinds.by_resource(&resource) else {
            return;
        };
        let all: Vec<_> = self.objects.list(&resource, None).map(|o| key(o)).collect();
        for (namespace, name) in all {
            self.remove(&kind, &namespace, &name);
        }
    }
}

pub(crate) fn finalizers(object: &Value) -> &[Value] {
    object["metadata"]["finalizers"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

fn preconditions(kind: &Kind, live: &Value, options: &DeleteOptions) -> Result<(), Failure> {
    let (_, name) = key(live);
    let checks = [
        ("UID", "uid", &options.uid, "deleted and then recreated"),
        (
            "ResourceVersion",
            "resourceVersion",
            &options.version,
            "modified",
        ),
    ];
    for (word, field, wanted, fate) in checks {
        let found = live["metadata"][field].as_str().unwrap_or_default();
        if let Some(wanted) = wanted.as_deref().filter(|w| *w != found) {
            let message = format!(
                "Operation cannot be fulfilled on {} \"{name}\": the {word} in the precondition ({wanted}) does not \
                 match the {word} in record ({found}). The object might have been {fate}",
                kind.kind
            );
            let mut failure = Failure::new(409, "Conflict", message).about(kind, &name);
            failure
                .details
                .insert("kind".into(), kind.kind.as_str().into());
            return Err(failure);
        }
    }
    Ok(())
}

impl Deleted {
    /// The answer to the client.
    pub(crate) fn body(&self, kind: &Kind) -> Value {
        let (object, gone) = match self {
            Self::Gone(object) => (object, true),
            Self::Waits(object) => (object, false),
        };
        let returned = matches!(
            kind.kind.as_str(),
            "Pod" | "Service" | "ServiceAccount" | "Namespace"
        );
        if !gone || returned {
            return (**object).clone();
        }
        let mut details = json!({"name": object["metadata"]["name"]});
        if !kind.group.is_empty() {
            details["group"] = kind.group.as_str().into();
        }
        details["kind"] = kind.plural.as_str().into();
        details["uid"] = object["metadata"]["uid"].clone();
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }
}
