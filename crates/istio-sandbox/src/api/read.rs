//! Reads: one object, or a list in pages.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    kind::Kind,
    reply::{Items, Reply, Shape, json_reply, metadata_only},
    request::Query,
    select::Selector,
    state::State,
    status::Failure,
    store::key,
    table,
    write::Target,
};

#[derive(Serialize)]
struct List<'a> {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
    metadata: Map<String, Value>,
    items: Items<'a>,
}

/// Whole objects as a list of their kind.
pub(crate) fn whole_list(
    kind: &Kind,
    metadata: Map<String, Value>,
    objects: &[Arc<Value>],
) -> Reply {
    json_reply(
        200,
        &List {
            kind: format!("{}List", kind.kind),
            version: kind.api_version(),
            metadata,
            items: Items {
                objects,
                bare: kind.crd.is_none(),
            },
        },
    )
}

/// An object as its resource's version writes it: CRDs may serve several.
pub(crate) fn in_version(kind: &Kind, object: &Arc<Value>) -> Arc<Value> {
    if object["apiVersion"] == kind.api_version() {
        return object.clone();
    }
    let mut object = (**object).clone();
    object["apiVersion"] = kind.api_version().into();
    Arc::new(object)
}

impl State {
    pub(crate) fn read(&self, target: &Target, shape: Shape) -> Result<Reply, Failure> {
        let object = in_version(&target.kind, &self.live(target)?);
        let object = self.view(target, &object);
        Ok(json_reply(
            200,
            &*shape.one(&target.kind, &object, (self.clock)()),
        ))
    }

    /// Objects of a kind that a selector lets through.
    pub(crate) fn selected(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
    ) -> Vec<Arc<Value>> {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let all = self.objects.list(&kind.resource(), namespace);
        all.filter(|o| selector.matches(o))
            .map(|o| in_version(kind, o))
            .collect()
    }

    pub(crate) fn list(
        &self,
        kind: &Kind,
        namespace: &str,
        query: &Query,
        shape: Shape,
    ) -> Result<Reply, Failure> {
        let selector = Selector::parse(query.text("labelSelector"), query.text("fieldSelector"))?;
        let mut objects = self.selected(kind, namespace, &selector);
        let mut metadata = Map::new();
        metadata.insert(
            "resourceVersion".into(),
            self.objects.version().to_string().into(),
        );
        page(&mut objects, query, &mut metadata)?;
        Ok(match shape {
            Shape::Table => {
                let mut table = table::table(kind, &objects, &Value::Null, (self.clock)());
                table["metadata"] = Value::Object(metadata);
                json_reply(200, &table)
            }
            Shape::Metadata => {
                let items: Vec<_> = objects.iter().map(|o| metadata_only(o)).collect();
                let kind = "PartialObjectMetadataList";
                json_reply(
                    200,
                    &json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items}),
                )
            }
            Shape::Whole => whole_list(kind, metadata, &objects),
        })
    }
}

/// Cuts a list to the page asked for; the token names the last object of the page before.
fn page(
    objects: &mut Vec<Arc<Value>>,
    query: &Query,
    metadata: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let token = query.text("continue");
    if !token.is_empty() {
        let after =
            read_token(token).ok_or_else(|| Failure::bad_request("continue key is not valid"))?;
        objects.retain(|o| key(o) > after);
    }
    let limit = query
        .number("limit")
        .and_then(|l| usize::try_from(l).ok())
        .filter(|l| *l > 0);
    let Some(limit) = limit.filter(|l| *l < objects.len()) else {
        return Ok(());
    };
    metadata.insert("remainingItemCount".into(), (objects.len() - limit).into());
    objects.truncate(limit);
    if let Some(last) = objects.last() {
        let (namespace, name) = key(last);
        let token = URL_SAFE_NO_PAD.encode(format!("{namespace}/{name}"));
        metadata.insert("continue".into(), token.into());
    }
    Ok(())
}

fn read_token(token: &str) -> Option<(String, String)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (namespace, name) = text.split_once('/')?;
    Some((namespace.to_owned(), name.to_owned()))
}
