//! Healthy meshes, each another by its seed.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::super::{Member, Reading, Source, Tried, reading::Replica};
use crate::{
    ends::Ends,
    observe::{CacertsSeen, Claim, GatewaySeen, IstiodSeen, Observed, RemoteSecretSeen, Seen},
    pki,
    spec::Mesh,
    verify::{
        Verdict,
        istiod::{self, KnownCluster, KnownGateway},
    },
};

/// Numbers that look random and are the same for the same seed.
pub(super) struct Random {
    state: u64,
    members: Option<usize>,
}

impl Random {
    pub(super) fn of(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            members: None,
        }
    }

    pub(super) fn with(members: usize, seed: u64) -> Self {
        Self {
            members: Some(members),
            ..Self::of(seed)
        }
    }

    fn below(&mut self, most: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 16).unwrap() % most
    }

    fn or_not(&mut self) -> bool {
        self.below(2) == 0
    }
}

pub(super) fn list(all: impl IntoIterator<Item = Value>) -> Arc<Vec<Value>> {
    Arc::new(all.into_iter().collect())
}

/// Changes one object of a list.
pub(super) fn change(member: &mut Member, source: Source, name: &str, at: &str, new: Value) {
    let all = Arc::make_mut(member.lists.get_mut(&source).unwrap());
    let object = all
        .iter_mut()
        .find(|o| o["metadata"]["name"] == name)
        .unwrap();
    let (parent, key) = at.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = new;
}

/// The certificate of a root, and what it is known by.
fn root() -> (String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    static MADE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let pem = MADE.get_or_init(|| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    });
    let [key] = pki::roots(pem.as_bytes()).try_into().unwrap();
    (pem.clone(), key)
}

fn pod(space: &str, name: &str, labels: Value, containers: Value) -> Value {
    json!({"metadata": {"namespace": space, "name": name, "labels": labels},
        "spec": {"containers": containers},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn proxy(cluster: &str, mesh: &str, minor: u64) -> Value {
    let env = json!([
        {"name": "ISTIO_META_CLUSTER_ID", "value": cluster},
        {"name": "ISTIO_META_NETWORK", "value": cluster},
        {"name": "ISTIO_META_MESH_ID", "value": mesh},
    ]);
    json!({"name": "istio-proxy", "image": format!("proxyv2:1.{minor}.1"), "env": env})
}

/// A mesh in which nothing is wrong.
pub(super) fn healthy(random: &mut Random) -> Reading {
    let count = random.members.unwrap_or_else(|| 2 + random.below(5));
    let names: Vec<_> = (1..=count).map(|n| format!("c{n}")).collect();
    let mesh = Mesh::named(&names).unwrap();
    let (pem, key) = root();
    let mut observed = Observed {
        now: "2026-06-01T00:00:00Z".parse().unwrap(),
        ..Observed::default()
    };
    let mut reading = Reading {
        ends: Ends::default(),
        observed: Observed::default(),
        members: [].into(),
        aws: vec![],
        balancers: Verdict::default(),
        mesh,
    };
    for spec in &reading.mesh.clusters {
        let name = spec.name.as_str();
        let by_name = random.or_not();
        let seen = seen(&reading.mesh, name, &names, &key, by_name);
        observed.clusters.insert(spec.name.clone(), seen);
        let member = Made {
            mesh: &reading.mesh,
            name,
            names: &names,
            pem: &pem,
        }
        .member(random);
        reading.members.insert(spec.name.clone(), member);
    }
    reading.observed = observed;
    reading
}

fn seen(mesh: &Mesh, name: &str, names: &[String], root: &str, by_name: bool) -> Seen {
    let secret = |peer: &String| {
        let seen = RemoteSecretSeen {
            secret: format!("istio-system/istio-remote-secret-{peer}"),
            server: format!("https://{peer}.example"),
            ..RemoteSecretSeen::default()
        };
        (peer.clone(), seen)
    };
    let others = names.iter().filter(|n| *n != name);
    Seen {
        uid: format!("uid-{name}"),
        kubernetes: "v1.33.1-eks-99d6cc0".into(),
        claim: Some(Claim {
            mesh: mesh.id.to_string(),
            root: root.into(),
        }),
        cacerts: Some(CacertsSeen {
            roots: vec![root.into()],
            ours: true,
            ..CacertsSeen::default()
        }),
        published_roots: vec![root.into()],
        istiod: IstiodSeen {
            present: true,
            available: true,
            pods: vec!["istiod-1".into()],
            versions: ["1.31.4".parse().unwrap()].into(),
            ..IstiodSeen::default()
        },
        gateway: GatewaySeen {
            present: true,
            available: true,
            opened: true,
            addresses: vec![if by_name {
                "lb.example".into()
            } else {
                "198.18.0.1".into()
            }],
            ..GatewaySeen::default()
        },
        remote_secrets: others.map(secret).collect(),
        ..Seen::default()
    }
}

struct Made<'a> {
    mesh: &'a Mesh,
    name: &'a str,
    names: &'a [String],
    pem: &'a str,
}

impl Made<'_> {
    fn member(&self, random: &mut Random) -> Member {
        let mut member = Member::default();
        let mut put = |source, all: Vec<Value>| drop(member.lists.insert(source, Arc::new(all)));
        put(Source::Namespaces, self.namespaces());
        put(Source::Services, self.services());
        put(Source::Pods, self.pods(random));
        put(Source::ConfigMaps, self.config_maps());
        put(Source::Gateways, self.gateways(random));
        put(Source::MutatingWebhooks, vec![self.webhook("/inject")]);
        put(Source::ValidatingWebhooks, vec![self.webhook("/validate")]);
        put(Source::ServiceExports, vec![]);
        put(Source::Nodes, nodes());
        rules(random, &mut put);
        let others = self.names.iter().filter(|n| *n != self.name);
        for other in others.clone() {
            let opens = Tried::Opens {
                uid: Some(format!("uid-{other}")),
                lacks: vec![],
                writes: vec![],
            };
            member.peers.insert(other.clone(), opens);
        }
        member.replicas = vec![self.replica()];
        member
    }

    fn replica(&self) -> Replica {
        let known = self.names.iter().map(|id| KnownCluster {
            id: id.clone(),
            secret: None,
            status: "synced".into(),
        });
        let gateways = self.names.iter().map(|id| KnownGateway {
            network: id.clone(),
            cluster: id.clone(),
            addr: "198.18.0.1".into(),
            port: 15443,
        });
        Replica {
            said: istiod::Replica {
                pod: "istiod-1".into(),
                clusters: known.collect(),
                gateways: gateways.collect(),
                ..istiod::Replica::default()
            },
            holds: self.names.iter().cloned().collect(),
        }
    }

    fn namespaces(&self) -> Vec<Value> {
        let one = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
        vec![
            one("kube-system", json!({})),
            one(
                "istio-system",
                json!({"topology.istio.io/network": self.name}),
            ),
            one("istio-ingress", json!({})),
            one("shop", json!({"istio-injection": "enabled"})),
            one("canary", json!({"istio.io/rev": "default"})),
            one("legacy", json!({"istio-injection": "disabled"})),
        ]
    }

    fn services(&self) -> Vec<Value> {
        let one = |space: &str, name: &str, spec: Value| json!({"metadata": {"namespace": space, "name": name}, "spec": spec});
        let web = json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "ports": [{"name": "http", "port": 80}]});
        let istiod =
            json!({"ports": [{"name": "https-webhook", "port": 443, "targetPort": 15017}]});
        let mut gateway = one(
            "istio-ingress",
            &self.mesh.gateway.name,
            json!({"type": "LoadBalancer",
            "selector": {"istio": "eastwestgateway"},
            "ports": [{"name": "tls", "port": 15443, "targetPort": 15443}]}),
        );
        gateway["metadata"]["labels"] = json!({"topology.istio.io/network": self.name});
        let own = format!("only-{}", self.name);
        let outside = json!({"type": "ExternalName", "externalName": "db.example.com"});
        vec![
            one("istio-system", "istiod", istiod),
            gateway,
            one("shop", "web", web.clone()),
            one("shop", &own, web),
            one("legacy", &own, outside),
        ]
    }

    fn pods(&self, random: &mut Random) -> Vec<Value> {
        let (cluster, mesh) = (self.name, self.mesh.id.as_str());
        let env = json!([{"name": "CLUSTER_ID", "value": cluster}]);
        let discovery = json!([{"name": "discovery", "image": "pilot:1.31.4", "env": env}]);
        let gateway = json!([proxy(cluster, mesh, 31)]);
        let labels = json!({"istio": "eastwestgateway", "sidecar.istio.io/inject": "true"});
        let mut all = vec![
            pod(
                "istio-system",
                "istiod-1",
                json!({"app": "istiod"}),
                discovery,
            ),
            pod("istio-ingress", "gateway-1", labels, gateway),
            pod(
                "kube-system",
                "coredns",
                json!({"k8s-app": "kube-dns"}),
                json!([]),
            ),
        ];
        for n in 0..random.below(6) {
            let minor = 30 + random.below(2) as u64;
            let web = json!([{"name": "web", "image": "web:1"}, proxy(cluster, mesh, minor)]);
            let space = if random.or_not() { "shop" } else { "canary" };
            all.push(pod(space, &format!("web-{n}"), json!({"app": "web"}), web));
        }
        // None of these is to have a sidecar.
        let bare = json!([{"name": "x", "image": "x:1"}]);
        let mut done = pod("shop", "job-1", json!({}), bare.clone());
        done["status"]["phase"] = "Succeeded".into();
        let mut agent = pod("shop", "agent-1", json!({}), bare.clone());
        agent["spec"]["hostNetwork"] = true.into();
        let out = json!({"sidecar.istio.io/inject": "false"});
        all.extend([
            done,
            agent,
            pod("shop", "batch-1", out, bare.clone()),
            pod("legacy", "old-1", json!({}), bare),
        ]);
        all
    }

    fn config_maps(&self) -> Vec<Value> {
        let one = |name: &str, data: Value| json!({"metadata": {"namespace": "istio-system", "name": name}, "data": data});
        let values = json!({"global": {"network": self.name, "meshID": self.mesh.id,
            "multiCluster": {"clusterName": self.name}}});
        vec![
            one("istio", json!({"mesh": "trustDomain: cluster.local\n"})),
            one(
                "istio-sidecar-injector",
                json!({"values": values.to_string()}),
            ),
        ]
    }

    fn gateways(&self, random: &mut Random) -> Vec<Value> {
        let one = |name: &str, labels: Value, server: Value| {
            json!({"metadata": {"namespace": "istio-ingress", "name": name},
                "spec": {"selector": labels, "servers": [server]}})
        };
        let opener = json!({"port": {"number": 15443}, "tls": {"mode": "AUTO_PASSTHROUGH"}});
        let mut all = vec![one(
            "cross-network-gateway",
            json!({"istio": "eastwestgateway"}),
            opener,
        )];
        if random.or_not() {
            let web = json!({"port": {"number": 443}, "tls": {"mode": "SIMPLE"}});
            all.push(one("web", json!({"istio": "ingressgateway"}), web));
        }
        all
    }

    fn webhook(&self, path: &str) -> Value {
        json!({"metadata": {"name": "istio", "labels": {"istio.io/rev": "default"}}, "webhooks": [
            {"name": "istio.io", "failurePolicy": "Fail", "clientConfig": {"caBundle": STANDARD.encode(self.pem),
                "service": {"namespace": "istio-system", "name": "istiod", "path": path}}},
            {"name": "other.io", "failurePolicy": "Ignore", "clientConfig": {"caBundle": "",
                "service": {"namespace": "elsewhere", "name": "other", "path": "/"}}},
        ]})
    }
}

fn nodes() -> Vec<Value> {
    let one = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    };
    vec![one("n0"), one("n1")]
}

/// What users say, and what does no harm.
fn rules(random: &mut Random, put: &mut impl FnMut(Source, Vec<Value>)) {
    let one = |space: &str, name: &str, spec: Value| json!({"metadata": {"namespace": space, "name": name}, "spec": spec});
    let mut some = |source, all: Vec<Value>| {
        let kept = all.into_iter().filter(|_| random.or_not()).collect();
        put(source, kept);
    };
    some(
        Source::PeerAuthentications,
        vec![
            one(
                "istio-system",
                "default",
                json!({"mtls": {"mode": "STRICT"}}),
            ),
            one(
                "shop",
                "metrics",
                json!({"portLevelMtls": {"9090": {"mode": "PERMISSIVE"}}}),
            ),
        ],
    );
    some(
        Source::AuthorizationPolicies,
        vec![
            one("shop", "nobody", json!({})),
            one(
                "istio-ingress",
                "web",
                json!({"selector": {"matchLabels": {"istio": "ingressgateway"}}}),
            ),
            one(
                "istio-ingress",
                "port",
                json!({"rules": [{"to": [{"operation": {"ports": ["15443"]}}]}]}),
            ),
            one(
                "istio-ingress",
                "bad",
                json!({"action": "DENY", "rules": [{"from": [{"source": {"ipBlocks": ["203.0.113.0/24"]}}]}]}),
            ),
        ],
    );
    some(
        Source::DestinationRules,
        vec![
            one(
                "shop",
                "out",
                json!({"host": "db.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}),
            ),
            one(
                "shop",
                "web",
                json!({"host": "web", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}),
            ),
        ],
    );
    some(
        Source::Sidecars,
        vec![one(
            "shop",
            "default",
            json!({"egress": [{"hosts": ["./*", "istio-system/*"]}]}),
        )],
    );
    some(
        Source::NetworkPolicies,
        vec![
            one(
                "shop",
                "closed",
                json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
            ),
            one(
                "istio-ingress",
                "gateway",
                json!({"podSelector": {"matchLabels": {"istio": "eastwestgateway"}},
            "ingress": [{"ports": [{"port": 15443, "protocol": "TCP"}]}]}),
            ),
            one(
                "istio-system",
                "istiod",
                json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": 15010, "endPort": 15020}]}]}),
            ),
        ],
    );
}
