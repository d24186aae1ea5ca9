//! Everything the server keeps, under its one lock, and the small things every write needs.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Clock,
    hooks::Hooks,
    kind::{Kind, Kinds},
    status::Failure,
    store::Objects,
    write::Target,
};

/// Work that the real server's controllers do a moment later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Later {
    /// Serve what a CRD declares.
    Establish(String),
    /// Put a token into an account's Secret.
    Token { namespace: String, name: String },
}

pub(super) struct State {
    pub(crate) kinds: Kinds,
    pub(crate) objects: Objects,
    pub(crate) random: Random,
    pub(crate) clock: Clock,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) later: Vec<Later>,
    pub(crate) ca_pem: String,
    pub(crate) kubelet: bool,
    pub(crate) keys: super::token::Keys,
}

impl State {
    /// Now, as objects write it.
    pub(crate) fn now(&self) -> String {
        stamp((self.clock)())
    }

    /// Now, as answers write it.
    pub(crate) fn date(&self) -> String {
        let now = (self.clock)();
        now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Gives a Service its address and node ports.
    pub(crate) fn allocate(&mut self, kind: &Kind, live: Option<&Value>, new: &mut Value) {
        if kind.kind != "Service" || new["spec"]["type"] == "ExternalName" {
            return;
        }
        if let Some(live) = live {
            keep_allocated(&live["spec"], &mut new["spec"]);
        }
        if new["spec"].get("clusterIP").is_none() {
            new["spec"]["clusterIP"] = self.free_address().into();
        }
        families(&mut new["spec"]);
        let outward = matches!(
            new["spec"]["type"].as_str(),
            Some("NodePort" | "LoadBalancer")
        );
        let wanted = outward && new["spec"]["allocateLoadBalancerNodePorts"] != false;
        let mut taken = self.node_ports();
        for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if wanted && port.get("nodePort").is_none() {
                let free = (30_000..32_768)
                    .find(|p| !taken.contains(p))
                    .unwrap_or(32_767);
                taken.insert(free);
                port["nodePort"] = free.into();
            }
        }
    }

    fn free_address(&self) -> String {
        let services = self.objects.list("services", None);
        let taken: BTreeSet<_> = services
            .filter_map(|s| s["spec"]["clusterIP"].as_str())
            .collect();
        let address = |n: u32| format!("10.96.{}.{}", n / 256, n % 256);
        (1..65_534)
            .map(address)
            .find(|a| !taken.contains(a.as_str()))
            .unwrap_or_default()
    }

    fn node_ports(&self) -> BTreeSet<u64> {
        let services = self.objects.list("services", None);
        let ports = services.flat_map(|s| s["spec"]["ports"].as_array().into_iter().flatten());
        ports.filter_map(|p| p["nodePort"].as_u64()).collect()
    }

    /// What admission says to a new object; it may change it.
    pub(crate) fn admit(&self, target: &Target, new: &mut Value) -> Result<(), Failure> {
        if target.kind.kind != "Pod" {
            return Ok(());
        }
        let Some(namespace) = self.objects.get("namespaces", "", &target.namespace) else {
            return Ok(());
        };
        self.account_for(target, new)?;
        schedulable(&mut new["spec"]);
        self.hooks.create_pod(new, namespace)?;
        super::podsecurity::check(&target.kind, namespace, new)
    }

    /// Every pod runs as a service account that exists.
    fn account_for(&self, target: &Target, pod: &mut Value) -> Result<(), Failure> {
        let account = pod["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default")
            .to_owned();
        if self
            .objects
            .get("serviceaccounts", &target.namespace, &account)
            .is_none()
        {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!(
                "error looking up service account {}/{account}: serviceaccount \"{account}\" not found",
                target.namespace
            );
            return Err(Failure::forbidden(&target.kind, name, &why));
        }
        pod["spec"]["serviceAccountName"] = account.as_str().into();
        pod["spec"]["serviceAccount"] = account.into();
        Ok(())
    }
}

/// One family of addresses; a Service without address or selector may have any.
fn families(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else {
        return;
    };
    let any = spec.get("clusterIP").is_some_and(|a| a == "None") && !spec.contains_key("selector");
    let (families, policy) = if any {
        (json!(["IPv4", "IPv6"]), "RequireDualStack")
    } else {
        (json!(["IPv4"]), "SingleStack")
    };
    let address = spec.get("clusterIP").cloned().unwrap_or_default();
    spec.insert("clusterIPs".into(), json!([address]));
    spec.entry("ipFamilies").or_insert(families);
    spec.entry("ipFamilyPolicy")
        .or_insert_with(|| policy.into());
}

/// What admission adds for the scheduler.
fn schedulable(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else {
        return;
    };
    spec.entry("priority").or_insert_with(|| 0.into());
    spec.entry("preemptionPolicy")
        .or_insert_with(|| "PreemptLowerPriority".into());
    let tolerated = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    spec.entry("tolerations")
        .or_insert_with(|| json!([tolerated("not-ready"), tolerated("unreachable")]));
}

/// An update that does not repeat what was allocated keeps it.
fn keep_allocated(live: &Value, new: &mut Value) {
    for field in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "healthCheckNodePort",
    ] {
        if let (Some(value), None) = (live.get(field), new.get(field)) {
            new[field] = value.clone();
        }
    }
    let before = live["ports"].as_array().cloned().unwrap_or_default();
    for port in new["ports"].as_array_mut().into_iter().flatten() {
        let same = before
            .iter()
            .find(|p| p["port"] == port["port"] && p["protocol"] == port["protocol"]);
        if let (Some(node_port), None) =
            (same.and_then(|p| p.get("nodePort")), port.get("nodePort"))
        {
            port["nodePort"] = node_port.clone();
        }
    }
}

/// A time as objects write it: whole seconds.
pub(crate) fn stamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Names and uids: a stream of bytes that a seed determines, so that runs can be repeated.
#[derive(Debug)]
pub(crate) struct Random {
    seed: String,
    drawn: u64,
}

const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Random {
    pub(crate) fn new(seed: &str) -> Self {
        Self {
            seed: seed.to_owned(),
            drawn: 0,
        }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.drawn += 1;
        Sha256::digest(format!("{}/{}", self.seed, self.drawn)).into()
    }

    /// Five letters, as generated names end in.
    pub(crate) fn suffix(&mut self) -> String {
        self.bytes()
            .iter()
            .take(5)
            .map(|b| char::from(SUFFIX[usize::from(*b) % SUFFIX.len()]))
            .collect()
    }

    pub(crate) fn uid(&mut self) -> String {
        let b = self.bytes();
        let variant = [(b[8] & 0x3f) | 0x80, b[9]];
        let version = [(b[6] & 0x0f) | 0x40, b[7]];
        format!(
            "{}-{}-{}-{}-{}",
            hex::encode(&b[..4]),
            hex::encode(&b[4..6]),
            hex::encode(version),
            hex::encode(variant),
            hex::encode(&b[10..16])
        )
    }
}
