//! Find and list.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde_json::{Value, json};

use super::super::{Cluster, Error, Failure, Kind, Ref, Verb, wire::Call};

const PAGE: &str = "500";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

impl Cluster {
    /// Reads one object; `None` where there is none.
    pub(crate) async fn find(&self, r: &Ref) -> Result<Option<Value>, Error> {
        let Some(path) = self.path(r, Verb::Read).await? else {
            return Ok(None);
        };
        match self.call(Call::get(&path)).await {
            Ok((_, object)) if object["metadata"]["name"] == r.name.as_str() => Ok(Some(object)),
            Ok(_) => {
                let why = Failure::Answer("it is not the object that was asked for".into());
                Err(self.failed(Verb::Read, r, why))
            }
            Err(failure) if failure.code() == Some(404) => Ok(None),
            Err(source) => Err(self.failed(Verb::Read, r, source)),
        }
    }

    /// Every object of a kind, in one namespace or all. A kind that is not served has none.
    pub(crate) async fn list(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: Option<&str>,
    ) -> Result<Vec<Value>, Error> {
        let mut items = self
            .pages(kind, namespace, labels, "application/json")
            .await?;
        for item in &mut items {
            // Items of a typed list carry no type of their own.
            item["apiVersion"] = json!(kind.api_version);
            item["kind"] = json!(kind.kind);
        }
        Ok(items)
    }

    /// Only the metadata of every object, without managed fields: names, labels, UIDs.
    pub(crate) async fn names(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: Option<&str>,
    ) -> Result<Vec<Value>, Error> {
        let mut items = self.pages(kind, namespace, labels, METADATA_LIST).await?;
        Ok(items
            .iter_mut()
            .map(|item| {
                let metadata = item.get_mut("metadata").map(Value::take);
                let mut metadata = metadata.unwrap_or_default();
                if let Some(fields) = metadata.as_object_mut() {
                    fields.remove("managedFields");
                }
                json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata})
            })
            .collect())
    }

    async fn pages(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: Option<&str>,
        accept: &'static str,
    ) -> Result<Vec<Value>, Error> {
        let Some(place) = self.place(kind).await? else {
            return Ok(Vec::new());
        };
        let path = place.collection(kind, namespace);
        let what = || match namespace {
            Some(namespace) => format!("{} in {namespace}", place.plural),
            None => place.plural.to_string(),
        };
        let failed = |source| self.failed(Verb::List, what(), source);
        let (spent, mut walk) = (AtomicU64::new(0), Walk::default());
        let (mut items, mut token) = (Vec::new(), String::new());
        loop {
            let mut query = vec![("limit", PAGE)];
            query.extend(labels.map(|labels| ("labelSelector", labels)));
            query.extend((!token.is_empty()).then_some(("continue", token.as_str())));
            let page = self.call(Call {
                query: &query,
                accept,
                spent: Some(&spent),
                ..Call::get(&path)
            });
            match page.await {
                Ok((_, mut page)) => {
                    let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) else {
                        return Ok(items);
                    };
                    items.extend(more);
                    token = page["metadata"]["continue"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    if token.is_empty() {
                        return Ok(items);
                    }
                    walk.on(&token, spent.load(Relaxed)).map_err(failed)?;
                }
                Err(failure) if failure.code() == Some(404) => return Ok(Vec::new()),
                // The snapshot expired between two pages: start again.
                Err(failure) if failure.code() == Some(410) && !token.is_empty() => {
                    walk.again().map_err(failed)?;
                    items.clear();
                    token.clear();
                }
                Err(source) => return Err(failed(source)),
            }
        }
    }
}

/// The most pages of a list, bytes of all of them, and times that it is begun again.
const PAGES: usize = 10_000;
const BYTES: u64 = 256 << 20;
const AGAIN: u32 = 5;

/// The way through the pages of a list: it ends, whatever the server says.
#[derive(Default)]
struct Walk {
    tokens: HashSet<String>,
    begun: u32,
}

impl Walk {
    /// To the page of this token.
    fn on(&mut self, token: &str, spent: u64) -> Result<(), Failure> {
        let why = match () {
            () if !self.tokens.insert(token.to_owned()) => "its pages go round in a circle",
            () if self.tokens.len() >= PAGES => "it has more than 10000 pages",
            () if spent > BYTES => "its pages are larger than 256 MiB",
            () => return Ok(()),
        };
        Err(Failure::Answer(why.into()))
    }

    /// From the beginning.
    fn again(&mut self) -> Result<(), Failure> {
        self.tokens.clear();
        self.begun += 1;
        match self.begun <= AGAIN {
            true => Ok(()),
            false => Err(Failure::Answer("its pages always expire".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::{
        super::{
            super::testing::{Reply, cluster},
            Delete, Deleted, Manager,
        },
        *,
    };

    fn cacerts() -> Ref {
        Ref::namespaced(&Kind::SECRET, "istio-system", "cacerts")
    }

    #[tokio::test]
    async fn what_is_not_there_is_none_and_no_error() {
        let (cluster, log) = cluster(|_| Reply::status(404, "NotFound"));
        assert_eq!(cluster.find(&cacerts()).await.unwrap(), None);
        assert!(
            cluster
                .list(&Kind::GATEWAY, None, None)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            cluster
                .delete(&cacerts(), &Delete::background())
                .await
                .unwrap(),
            Deleted::NotFound
        );
        let unknown = Ref::namespaced(&Kind::new("example.com/v1", "Thing"), "a", "b");
        assert_eq!(cluster.find(&unknown).await.unwrap(), None);
        assert_eq!(
            log.lock().unwrap()[0].uri,
            "/api/v1/namespaces/istio-system/secrets/cacerts"
        );
        let error = cluster
            .apply(
                &json!({"apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"name": "b"}}),
                Manager::Helm,
                false,
            )
            .await
            .unwrap_err();
        assert!(matches!(error, Error::UnknownKind { .. }), "{error}");
    }
    #[tokio::test]
    async fn lists_come_in_pages_and_start_again_when_they_expire() {
        let page = AtomicUsize::new(0);
        let (cluster, log) = cluster(move |_| match page.fetch_add(1, Relaxed) {
            0 | 2 => Reply::json(
                200,
                json!({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}),
            ),
            1 => Reply::status(410, "Expired"),
            _ => Reply::json(
                200,
                json!({"metadata": {}, "items": [{"metadata": {"name": "b"}}]}),
            ),
        });
        let items = cluster
            .list(&Kind::SECRET, Some("x"), Some("istio/multiCluster=true"))
            .await
            .unwrap();
        let names: Vec<_> = items
            .iter()
            .map(|item| Ref::of(item).unwrap().name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        let log = log.lock().unwrap();
        let first =
            "/api/v1/namespaces/x/secrets?limit=500&labelSelector=istio%2FmultiCluster%3Dtrue";
        assert_eq!(log[0].uri, first);
        assert_eq!(log[3].uri, format!("{first}&continue=more"));
    }
    #[tokio::test]
    async fn names_leave_out_all_but_the_metadata() {
        let (cluster, log) = cluster(|_| {
            let metadata = json!({"name": "a", "managedFields": []});
            Reply::json(
                200,
                json!({"items": [{"metadata": metadata, "data": {"k": "canary"}}]}),
            )
        });
        let items = cluster.names(&Kind::SECRET, None, None).await.unwrap();
        assert_eq!(
            items,
            [json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})]
        );
        assert!(
            log.lock().unwrap()[0].headers["accept"]
                .to_str()
                .unwrap()
                .contains("as=PartialObjectMetadataList")
        );
    }
}
