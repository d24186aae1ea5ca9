//! What is read of a member: lists, each with a deadline, and then every proxy that runs, some at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use semver::Version;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Endpoint, Istiod, Member, Pod, Unread, held, ingress,
    injection::Injection,
    judge::{Context, lives},
};
use crate::{
    causes,
    cluster::{Cluster, Kind, Ref},
    observe::{Lens, ROOTS, istio_version, proxies},
    pki::Cert,
    spec::GATEWAY_PORT,
    verify::service::Name,
};

/// With what members are read.
pub(crate) struct Looking<'a> {
    /// The lists that were taken already are not taken again.
    pub(crate) lens: &'a Lens<'a>,
    /// The namespaces that are looked at; all where none is named.
    pub(crate) namespaces: &'a [String],
    /// The Service that proxies are asked about.
    pub(crate) service: Option<&'a Name>,
    /// Whose gateway an address is.
    pub(crate) gateways: &'a BTreeMap<String, String>,
    /// How long each list may take, and all proxies of a member together.
    pub(crate) limit: Duration,
    /// What time it is.
    pub(crate) now: Timestamp,
}

type List = Arc<Vec<Value>>;

/// What was read of a member before any proxy is asked.
#[derive(Default)]
pub(crate) struct Lists {
    /// Pods that live, of all namespaces or of those that were named.
    pub(crate) pods: Vec<Value>,
    /// By what they are judged.
    pub(crate) context: Context,
    /// What could not be read.
    pub(crate) unread: Vec<Unread>,
    /// Pods everywhere were read.
    everywhere: bool,
}

/// Reads a member.
pub(crate) async fn look(looking: &Looking<'_>, cluster: &Cluster) -> Member {
    let lists = looking.lists(cluster).await;
    let named = |pod: &&Value| looking.is_named(pod["metadata"]["namespace"].as_str());
    let seen: Vec<_> = lists.pods.iter().filter(named).collect();
    let end = Instant::now() + looking.limit;
    let asked = stream::iter(seen)
        .map(|raw| looking.pod(cluster, &lists, raw, end))
        .buffer_unordered(proxies::ABREAST);
    let (mut pods, gateways) = futures::join!(asked.collect::<Vec<_>>(), async {
        match lists.everywhere {
            true => looking.ingress(cluster, &lists.pods).await,
            false => Ok(vec![]),
        }
    });
    pods.sort_by(|a: &Pod, b: &Pod| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut member = Member {
        cluster: cluster.name().to_string(),
        istiods: istiods(&lists.context.istiods),
        pods,
        namespaces: lists.context.namespaces.keys().cloned().collect(),
        unread: lists.unread,
        ..Member::default()
    };
    match gateways {
        Ok(gateways) => member.gateways = gateways,
        Err(unread) => member.unread.push(unread),
    }
    if let Some(service) = looking.service {
        match looking.has(cluster, service).await {
            Ok(has) => member.has_service = has,
            Err(unread) => member.unread.push(unread),
        }
    }
    member
}

fn istiods(all: &BTreeMap<String, Vec<Version>>) -> Vec<Istiod> {
    let one = |(revision, versions): (&String, &Vec<Version>)| Istiod {
        revision: revision.clone(),
        versions: versions.iter().map(ToString::to_string).collect(),
    };
    all.iter().map(one).collect()
}

impl Looking<'_> {
    fn is_named(&self, namespace: Option<&str>) -> bool {
        self.namespaces.is_empty()
            || self
                .namespaces
                .iter()
                .any(|n| Some(n.as_str()) == namespace)
    }

    pub(crate) async fn list(
        &self,
        cluster: &Cluster,
        kind: &Kind,
        namespace: Option<&str>,
    ) -> Result<List, Unread> {
        let list = self.lens.all(cluster, kind, namespace);
        let place = namespace.map(|n| format!(" in {n}")).unwrap_or_default();
        self.in_time(format!("{}s{place}", kind.kind), list).await
    }

    async fn in_time<T>(
        &self,
        what: String,
        read: impl Future<Output = Result<T, crate::cluster::Error>>,
    ) -> Result<T, Unread> {
        match timeout(self.limit, read).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(Unread {
                what,
                why: causes::line(&error),
            }),
            Err(_) => Err(Unread {
                what,
                why: format!("no answer within {} s", self.limit.as_secs()),
            }),
        }
    }

    /// The pods of a member, and by what they are judged.
    pub(crate) async fn lists(&self, cluster: &Cluster) -> Lists {
        let istio = self.lens.mesh().istio.namespace.as_str();
        let (pods, spaces, hooks, maps) = futures::join!(
            self.list(cluster, &Kind::POD, None),
            self.list(cluster, &Kind::NAMESPACE, None),
            self.list(cluster, &Kind::MUTATING_WEBHOOK_CONFIGURATION, None),
            self.list(cluster, &Kind::CONFIG_MAP, Some(istio)),
        );
        let everywhere = pods.is_ok();
        let mut lists = Lists {
            everywhere,
            ..Lists::default()
        };
        let mut or_none = |list: Result<List, Unread>| match list {
            Ok(list) => list,
            Err(unread) => {
                lists.unread.push(unread);
                Arc::default()
            }
        };
        let pods = match pods {
            Err(_) if !self.namespaces.is_empty() => {
                let mut some = vec![];
                // Who may not list all may list some.
                for namespace in self.namespaces.iter().map(String::as_str).chain([istio]) {
                    let listed = self.list(cluster, &Kind::POD, Some(namespace)).await;
                    some.extend(or_none(listed).iter().cloned());
                }
                some
            }
            pods => or_none(pods).to_vec(),
        };
        let (spaces, hooks, maps) = (or_none(spaces), or_none(hooks), or_none(maps));
        let named = spaces
            .iter()
            .filter_map(|ns| Some((ns["metadata"]["name"].as_str()?.to_owned(), ns.clone())));
        lists.context = Context {
            namespaces: named.collect(),
            injection: Injection::of(&hooks, &maps),
            istiods: versions(&pods, istio),
            roots: published(&maps),
            now: self.now,
        };
        lists.pods = pods;
        lists.pods.retain(lives);
        lists
    }

    /// One pod; its proxy is asked if it runs.
    async fn pod(&self, cluster: &Cluster, lists: &Lists, raw: &Value, end: Instant) -> Pod {
        let mut pod = lists.context.pod(raw);
        if pod.proxy.is_none() || !proxies::runs(raw) {
            return pod;
        }
        let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
        let late = |_| Err("there was no time left to ask it".to_owned());
        let holding = proxies::holding(cluster, &namespace, &name);
        let held = timeout_at(end, holding).await.unwrap_or_else(late);
        lists.context.told(&mut pod, held);
        if let Some(service) = self.service {
            let page = proxies::page(cluster, &namespace, &name, held::PAGE);
            let page = timeout_at(end, page).await;
            let page = page.unwrap_or_else(|_| Err("there was no time left to ask it".into()));
            match page.and_then(|body| held::of(&body, service)) {
                Ok(mut endpoints) => {
                    for endpoint in &mut endpoints {
                        endpoint.of = self.whose(cluster, &lists.pods, endpoint);
                    }
                    pod.holds = Some(endpoints);
                }
                Err(why) => pod.unread = Some(why),
            }
        }
        pod
    }

    /// The member an endpoint leads to: by its gateway's address, or because the pod is here.
    fn whose(&self, cluster: &Cluster, pods: &[Value], endpoint: &Endpoint) -> Option<String> {
        let by_gateway = self.gateways.get(&endpoint.address);
        let by_gateway = by_gateway.filter(|_| endpoint.port == GATEWAY_PORT);
        let is_here = || {
            pods.iter()
                .any(|p| p["status"]["podIP"] == endpoint.address)
        };
        by_gateway
            .cloned()
            .or_else(|| is_here().then(|| cluster.name().to_string()))
    }

    async fn ingress(
        &self,
        cluster: &Cluster,
        pods: &[Value],
    ) -> Result<Vec<ingress::Gateway>, Unread> {
        let (istio, api, classes, services) = futures::try_join!(
            self.list(cluster, &Kind::GATEWAY, None),
            self.list(cluster, &Kind::K8S_GATEWAY, None),
            self.list(cluster, &Kind::K8S_GATEWAY_CLASS, None),
            self.list(cluster, &Kind::SERVICE, None),
        )?;
        let mut all = ingress::gateways(&ingress::Objects {
            istio: &istio,
            api: &api,
            classes: &classes,
            services: &services,
            pods,
        });
        all.retain(|gateway| self.is_named(Some(&gateway.namespace)));
        Ok(all)
    }

    async fn has(&self, cluster: &Cluster, service: &Name) -> Result<bool, Unread> {
        let place = Ref::namespaced(&Kind::SERVICE, &service.namespace, &service.name);
        let found = self.in_time(place.to_string(), cluster.find(&place));
        Ok(found.await?.is_some())
    }
}

/// The versions of the istiods among these pods, by revision.
fn versions(pods: &[Value], istio: &str) -> BTreeMap<String, Vec<Version>> {
    let mut all: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for pod in pods.iter().filter(|p| lives(p)) {
        let (metadata, labels) = (&pod["metadata"], &pod["metadata"]["labels"]);
        if metadata["namespace"] != istio || labels["app"] != "istiod" {
            continue;
        }
        if let Some(version) = istio_version(pod) {
            let revision = labels["istio.io/rev"].as_str().unwrap_or("default");
            all.entry(revision.to_owned()).or_default().push(version);
        }
    }
    for versions in all.values_mut() {
        versions.sort();
        versions.dedup();
    }
    all
}

/// The roots that istiod hands to everybody.
fn published(maps: &[Value]) -> Vec<Cert> {
    let map = maps.iter().find(|m| m["metadata"]["name"] == ROOTS);
    let pem = map.and_then(|m| m["data"]["root-cert.pem"].as_str());
    Cert::from_pem(pem.unwrap_or_default().as_bytes()).unwrap_or_default()
}
