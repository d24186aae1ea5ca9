//! Writes: create, update, patch and apply all end in one commit.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    delete::finalizers,
    kind::Kind,
    patch::{self, Patch},
    prepare,
    ssa::{self, Writer},
    state::State,
    status::Failure,
    store::key,
    validate,
};

/// What a write is about, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Empty, `status` or `scale`.
    pub(crate) subresource: String,
}

/// The options that every write takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteOptions {
    pub(crate) manager: String,
    pub(crate) dry_run: bool,
    pub(crate) strict: bool,
}

impl Target {
    /// The object itself, as the server's own controllers write it.
    pub(crate) fn object(kind: &Arc<Kind>, namespace: &str, name: &str) -> Self {
        Self {
            kind: kind.clone(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: String::new(),
        }
    }
}

impl State {
    pub(crate) fn live(&self, target: &Target) -> Result<Arc<Value>, Failure> {
        let found = self
            .objects
            .get(&target.kind.resource(), &target.namespace, &target.name);
        found
            .cloned()
            .ok_or_else(|| Failure::not_found(&target.kind, &target.name))
    }

    pub(crate) fn create(
        &mut self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Failure> {
        let mut object = prepare::received(target, body, options)?;
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let Some(prefix) = meta["generateName"].as_str() else {
                let field = "metadata.name";
                let message = "Required value: name or generateName is required";
                return Err(Failure::invalid(
                    &target.kind,
                    "",
                    field,
                    "FieldValueRequired",
                    message,
                ));
            };
            meta["name"] = format!("{prefix}{}", self.random.suffix()).into();
        }
        if meta["resourceVersion"]
            .as_str()
            .is_some_and(|v| !v.is_empty())
        {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Failure::new(500, "", message));
        }
        self.commit(target, None, object, options, false)
    }

    pub(crate) fn update(
        &mut self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Failure> {
        let object = prepare::received(target, body, options)?;
        let live = self.live(target)?;
        self.commit(target, Some(live), object, options, false)
    }

    pub(crate) fn patch(
        &mut self,
        target: &Target,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Failure> {
        if let Patch::Apply { config, force } = patch {
            return self.apply(target, config.clone(), *force, options);
        }
        let live = self.live(target)?;
        let view = self.view(target, &live);
        let new = patch::patched(&target.kind, &view, patch)?;
        let new = prepare::received(target, new, options)?;
        self.commit(target, Some(live), new, options, false)
    }

    fn apply(
        &mut self,
        target: &Target,
        config: Value,
        force: bool,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, Failure> {
        prepare::applicable(&target.kind, &config, &options.manager)?;
        let config = prepare::checked(target, config, options)?;
        let live = self.live(target);
        if !target.subresource.is_empty() {
            live.clone()?;
        }
        let live = live.ok();
        if let (None, Some(_)) = (&live, config["metadata"].get("resourceVersion")) {
            return Err(Failure::stale(&target.kind, &target.name));
        }
        let writer = self.writer(target, options);
        let before = live.as_deref().unwrap_or(&Value::Null);
        let new = ssa::apply(&target.kind, before, &config, &writer, force)?;
        let new = prepare::identified(target, new)?;
        self.commit(target, live, new, options, true)
    }

    fn writer<'a>(&self, target: &'a Target, options: &'a WriteOptions) -> Writer<'a> {
        Writer {
            manager: &options.manager,
            subresource: &target.subresource,
            time: self.now(),
        }
    }

    /// The one way into the store.
    fn commit(
        &mut self,
        target: &Target,
        live: Option<Arc<Value>>,
        new: Value,
        options: &WriteOptions,
        applied: bool,
    ) -> Result<Arc<Value>, Failure> {
        let kind = &target.kind;
        let mut new = match &live {
            Some(live) => prepare::for_update(target, live, new)?,
            None => self.for_create(target, new)?,
        };
        prepare::defaults(kind, &mut new);
        let before = live.as_deref().unwrap_or(&Value::Null);
        // A scale is written through another kind, and leaves no trace of its writer.
        if !applied && target.subresource != "scale" {
            ssa::track(kind, before, &mut new, &self.writer(target, options));
        }
        // From here on it is the server that writes, and it owns no fields.
        self.allocate(kind, live.as_deref(), &mut new);
        if live.is_none() {
            prepare::first(kind, &mut new);
            self.admit(target, &mut new)?;
        }
        let mut problems = validate::object(kind, &new);
        if let Some(live) = &live {
            problems.extend(validate::change(kind, live, &new));
        }
        validate::verdict(kind, &key(&new).1, &problems)?;
        prepare::generation(kind, before, &mut new);
        prepare::order(&mut new);
        let live_finalizers = live
            .as_deref()
            .is_some_and(|live| !finalizers(live).is_empty());
        if let Some(live) = live.filter(|live| **live == new) {
            return Ok(live);
        }
        if options.dry_run {
            return Ok(Arc::new(new));
        }
        let freed = live_finalizers
            && finalizers(&new).is_empty()
            && new["metadata"].get("deletionTimestamp").is_some();
        let stored = self.objects.put(&kind.resource(), new);
        if freed {
            let (namespace, name) = key(&stored);
            return Ok(self.remove(kind, &namespace, &name).unwrap_or(stored));
        }
        self.after_write(kind, &stored);
        Ok(stored)
    }

    fn for_create(&mut self, target: &Target, mut new: Value) -> Result<Value, Failure> {
        let kind = &target.kind;
        let (namespace, name) = key(&new);
        if kind.namespaced {
            self.namespace_takes(kind, &namespace, &name)?;
        }
        if self
            .objects
            .get(&kind.resource(), &namespace, &name)
            .is_some()
        {
            return Err(Failure::exists(kind, &name));
        }
        let (uid, now) = (self.random.uid(), self.now());
        let meta = &mut new["metadata"];
        for field in [
            "resourceVersion",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ] {
            meta.as_object_mut().map(|m| m.shift_remove(field));
        }
        meta["uid"] = uid.into();
        meta["creationTimestamp"] = now.into();
        Ok(new)
    }

    fn namespace_takes(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Failure> {
        let Some(found) = self.objects.get("namespaces", "", namespace) else {
            let kinds = self.kinds.by_resource("namespaces");
            return Err(
                kinds.map_or_else(Failure::no_such_path, |k| Failure::not_found(&k, namespace))
            );
        };
        if found["metadata"].get("deletionTimestamp").is_none() {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = json!({
            "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {namespace} is being terminated"),
        });
        Err(Failure::forbidden(kind, name, &why).causes(vec![cause]))
    }

    /// An object as a subresource shows it.
    pub(crate) fn view(&self, target: &Target, object: &Arc<Value>) -> Arc<Value> {
        if target.subresource == "scale" {
            Arc::new(prepare::scale_of(object))
        } else {
            object.clone()
        }
    }
}
