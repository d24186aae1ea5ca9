//! What is said of pods: by tables, and over generated ones against the rules as Istio's pages tell them.

use std::slice::from_ref;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    held, ingress,
    injection::{Fate, Injection},
    judge::Context,
    *,
};
use crate::{observe::proxies::Held, pki::Cert};

/// The injector's webhooks, as the chart of istiod has them: of the default revision, or of a named one.
fn hooks(revision: &str) -> Value {
    let hook = |namespaces: Value, objects: Value| {
        json!({"rules": [{"resources": ["pods"]}],
            "namespaceSelector": {"matchExpressions": namespaces},
            "objectSelector": {"matchExpressions": objects}})
    };
    let has = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    let not = |key: &str, value: &str| json!({"key": key, "operator": "NotIn", "values": [value]});
    let lacks = |key: &str| json!({"key": key, "operator": "DoesNotExist"});
    let (rev, old, asks) = ("istio.io/rev", "istio-injection", "sidecar.istio.io/inject");
    let mut all = vec![
        hook(
            json!([has(rev, revision), lacks(old)]),
            json!([not(asks, "false")]),
        ),
        hook(
            json!([lacks(rev), lacks(old)]),
            json!([not(asks, "false"), has(rev, revision)]),
        ),
    ];
    if revision == "default" {
        all.push(hook(
            json!([has(old, "enabled")]),
            json!([not(asks, "false")]),
        ));
        all.push(hook(
            json!([lacks(old), lacks(rev)]),
            json!([has(asks, "true"), lacks(rev)]),
        ));
    }
    json!({"metadata": {"name": "h", "labels": {"istio.io/rev": revision}}, "webhooks": all})
}

const VALUES: &str = r#"{"global": {"network": "net-1", "meshID": "mesh", "multiCluster": {"clusterName": "eks-1"}}}"#;
const MESH: &str = "trustDomain: td\ntrustDomainAliases: [old-td]\ndefaultConfig:\n  proxyMetadata:\n    PROXY_CONFIG_XDS_AGENT: 'true'\n";

fn maps() -> Vec<Value> {
    let config = "policy: enabled\nneverInjectSelector:\n- matchLabels: {batch: 'yes'}\nalwaysInjectSelector: []\n";
    vec![
        json!({"metadata": {"name": "istio-sidecar-injector"}, "data": {"values": VALUES, "config": config}}),
        json!({"metadata": {"name": "istio"}, "data": {"mesh": MESH}}),
    ]
}

fn context() -> Context {
    let space = |name: &str, labels: Value| {
        (
            name.to_owned(),
            json!({"metadata": {"name": name, "labels": labels}}),
        )
    };
    Context {
        namespaces: [
            space("shop", json!({"istio-injection": "enabled"})),
            space("plain", json!({})),
        ]
        .into(),
        injection: Injection::of(&[hooks("default")], &maps()),
        istiods: [("default".to_owned(), vec!["1.31.0".parse().unwrap()])].into(),
        roots: vec![],
        now: "2026-06-01T00:00:00Z".parse().unwrap(),
    }
}

/// A pod with a sidecar as the injector makes it now, and with what is changed about it.
fn injected(change: impl FnOnce(&mut Value)) -> Value {
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut pod = json!({
        "metadata": {"name": "cart-7c9-x", "namespace": "shop", "labels": {"pod-template-hash": "7c9"},
            "annotations": {"sidecar.istio.io/status": r#"{"revision":"default"}"#},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7c9", "controller": true}]},
        "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy", "image": "r/proxyv2:1.31.0",
            "args": ["proxy", "sidecar"], "env": [
                env("ISTIO_META_CLUSTER_ID", "eks-1"), env("ISTIO_META_NETWORK", "net-1"),
                env("ISTIO_META_MESH_ID", "mesh"), env("TRUST_DOMAIN", "td"),
                env("PROXY_CONFIG_XDS_AGENT", "true")]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
            {"name": "istio-proxy", "ready": true, "state": {"running": {"startedAt": "2026-05-01T00:00:00Z"}}}]},
    });
    change(&mut pod);
    pod
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Value) {
    move |pod| {
        let env = pod["spec"]["containers"][1]["env"].as_array_mut().unwrap();
        env.retain(|e| e["name"] != name);
        if !value.is_empty() {
            env.push(json!({"name": name, "value": value}));
        }
    }
}

#[track_caller]
fn is(pod: &Value, state: State, causes: &[CauseId]) {
    let said = context().pod(pod);
    let ids: Vec<_> = said.why.iter().map(|c| c.id).collect();
    assert_eq!((said.state, ids.as_slice()), (state, causes), "{said:#?}");
}

#[test]
fn a_proxy_as_it_would_be_made_now_is_in_the_mesh() {
    let pod = injected(|_| {});
    is(&pod, State::InMesh, &[]);
    let said = context().pod(&pod);
    assert_eq!(said.workload.as_deref(), Some("Deployment shop/cart"));
    let proxy = said.proxy.unwrap();
    assert_eq!(
        (proxy.kind, proxy.istiod),
        (ProxyKind::Container, vec!["1.31.0".to_owned()])
    );
    let native = injected(|p| {
        let proxy = p["spec"]["containers"].as_array_mut().unwrap().remove(1);
        p["spec"]["initContainers"] = json!([proxy]);
    });
    let kind = context().pod(&native).proxy.unwrap().kind;
    assert_eq!(kind, ProxyKind::NativeSidecar);
}

#[test]
fn what_a_proxy_was_born_with_otherwise_is_said() {
    use CauseId as C;
    let rows: [(&str, &str, State, CauseId); 8] = [
        (
            "ISTIO_META_CLUSTER_ID",
            "Kubernetes",
            State::MustRestart,
            C::ClusterId,
        ),
        (
            "ISTIO_META_NETWORK",
            "net-9",
            State::MustRestart,
            C::Network,
        ),
        ("ISTIO_META_NETWORK", "", State::MustRestart, C::Network),
        (
            "TRUST_DOMAIN",
            "elsewhere",
            State::MustRestart,
            C::TrustDomain,
        ),
        (
            "ISTIO_META_MESH_ID",
            "other",
            State::ShouldRestart,
            C::MeshId,
        ),
        (
            "PROXY_CONFIG_XDS_AGENT",
            "",
            State::ShouldRestart,
            C::FollowsNoRoot,
        ),
        (
            "PROXY_CONFIG_XDS_AGENT",
            "false",
            State::ShouldRestart,
            C::FollowsNoRoot,
        ),
        (
            "ISTIO_META_CLUSTER_ID",
            "",
            State::MustRestart,
            C::ClusterId,
        ),
    ];
    for (name, value, state, cause) in rows {
        is(&injected(set(name, value)), state, &[cause]);
    }
    // A trust domain that istiod knows by another name too.
    is(&injected(set("TRUST_DOMAIN", "old-td")), State::InMesh, &[]);
    let image =
        |image: &'static str| injected(move |p| p["spec"]["containers"][1]["image"] = image.into());
    for (tag, is_supported) in [
        ("r/p:1.30.2", true),
        ("r/p:1.29.0-distroless", false),
        ("r/p:1.31.1", true),
        ("r/p:1.32.0", false),
    ] {
        is(&image(tag), State::ShouldRestart, &[C::Version]);
        let text = context().pod(&image(tag)).why[0].text.clone();
        assert_eq!(!text.contains("does not support"), is_supported, "{text}");
    }
    is(&image("r/p@sha256:00"), State::InMesh, &[]);
    let canary = injected(|p| {
        p["metadata"]["annotations"]["sidecar.istio.io/status"] = r#"{"revision":"canary"}"#.into();
    });
    is(&canary, State::ShouldRestart, &[C::Revision]);
    // Its namespace does not ask for it any more.
    let left = injected(|p| p["metadata"]["namespace"] = "plain".into());
    is(&left, State::InMesh, &[C::NotInjectedNow]);
}

#[test]
fn a_proxy_that_does_not_run_is_told_from_one_that_begins() {
    let state = |state: Value, ready: bool| {
        injected(move |p| {
            p["status"]["containerStatuses"] =
                json!([{"name": "istio-proxy", "ready": ready, "state": state}]);
        })
    };
    let waiting = |reason: &str| state(json!({"waiting": {"reason": reason}}), false);
    is(&waiting("PodInitializing"), State::InMesh, &[]);
    is(
        &waiting("CrashLoopBackOff"),
        State::ProxyDown,
        &[CauseId::Down],
    );
    let since = |at: &str| state(json!({"running": {"startedAt": at}}), false);
    is(&since("2026-05-31T23:59:30Z"), State::InMesh, &[]);
    is(
        &since("2026-05-31T23:00:00Z"),
        State::ProxyDown,
        &[CauseId::Down],
    );
    let ended = state(json!({"terminated": {"reason": "Error"}}), false);
    is(&ended, State::ProxyDown, &[CauseId::Down]);
}

#[test]
fn a_pod_without_a_proxy_says_why() {
    use CauseId as C;
    let bare = |namespace: &str, change: &dyn Fn(&mut Value)| {
        let mut pod = json!({"metadata": {"name": "p", "namespace": namespace, "labels": {}},
            "spec": {"containers": [{"name": "app"}]}, "status": {"phase": "Running"}});
        change(&mut pod);
        pod
    };
    let label = |key: &'static str, value: &'static str| {
        move |p: &mut Value| p["metadata"]["labels"][key] = value.into()
    };
    let rows: [(Value, State, CauseId); 8] = [
        (bare("shop", &|_| {}), State::NoProxy, C::MadeBefore),
        (bare("plain", &|_| {}), State::Outside, C::NotAsked),
        (
            bare("shop", &label("sidecar.istio.io/inject", "false")),
            State::Outside,
            C::OptedOut,
        ),
        (
            bare("shop", &|p| {
                p["metadata"]["annotations"]["sidecar.istio.io/inject"] = "no".into()
            }),
            State::Outside,
            C::OptedOut,
        ),
        (
            bare("shop", &label("batch", "yes")),
            State::Outside,
            C::OptedOut,
        ),
        (
            bare("shop", &|p| p["spec"]["hostNetwork"] = true.into()),
            State::Outside,
            C::HostNetwork,
        ),
        (
            bare("plain", &label("istio.io/rev", "canary")),
            State::NoProxy,
            C::NoInjector,
        ),
        (
            bare("plain", &label("sidecar.istio.io/inject", "true")),
            State::NoProxy,
            C::MadeBefore,
        ),
    ];
    for (pod, state, cause) in rows {
        is(&pod, state, &[cause]);
    }
    is(
        &bare("plain", &label("istio.io/dataplane-mode", "ambient")),
        State::Ambient,
        &[],
    );
    // The nodes' proxies of the ambient mesh are no sidecars.
    let ztunnel = bare("plain", &|p| {
        p["spec"]["containers"] = json!([{"name": "istio-proxy", "args": ["proxy", "ztunnel"]}]);
    });
    is(&ztunnel, State::Outside, &[C::NotAsked]);
}

/// Whether a pod is injected, by the table of Istio's pages: the default revision alone is there.
fn told(old: Option<&str>, space: Option<&str>, asks: Option<&str>, pod: Option<&str>) -> bool {
    if asks == Some("false") {
        return false;
    }
    match (old, space) {
        (Some(old), _) => old == "enabled",
        (None, Some(space)) => space == "default",
        (None, None) => match pod {
            Some(pod) => pod == "default",
            None => asks == Some("true"),
        },
    }
}

proptest! {
    #[test]
    fn injection_is_as_it_is_told(
        old in prop::option::of(prop::sample::select(vec!["enabled", "disabled"])),
        space in prop::option::of(prop::sample::select(vec!["default", "canary"])),
        asks in prop::option::of(prop::sample::select(vec!["true", "false"])),
        pod in prop::option::of(prop::sample::select(vec!["default", "canary"])),
        host in any::<bool>(),
    ) {
        let labels = |all: &[(&str, Option<&str>)]| {
            let mut labels = json!({"app": "a"});
            for (key, value) in all {
                if let Some(value) = value {
                    labels[*key] = (*value).into();
                }
            }
            labels
        };
        let namespace = json!({"metadata": {"name": "n",
            "labels": labels(&[("istio-injection", old), ("istio.io/rev", space)])}});
        let object = json!({"metadata": {"namespace": "n",
            "labels": labels(&[("sidecar.istio.io/inject", asks), ("istio.io/rev", pod)])},
            "spec": {"hostNetwork": host}});
        let injection = Injection::of(&[hooks("default")], &maps());
        let fate = injection.fate(&namespace, &object);
        let want = told(old, space, asks, pod) && !host;
        prop_assert_eq!(matches!(fate, Fate::Injected(_)), want, "{:?}", fate);
        // Whoever is left out is told why.
        if let Fate::Left(cause) = fate {
            prop_assert!(!cause.text.is_empty());
        }
    }

    #[test]
    fn of_a_fresh_pod_nothing_is_said(
        namespaces in prop::sample::select(vec!["shop"]),
        replicas in 1usize..4,
        app in "[a-z]{1,8}",
    ) {
        for n in 0..replicas {
            let pod = injected(|p| {
                p["metadata"]["name"] = format!("{app}-{n}").into();
                p["metadata"]["namespace"] = namespaces.into();
            });
            let said = context().pod(&pod);
            prop_assert!(said.why.is_empty() && said.state == State::InMesh);
        }
    }
}

/// A root, and a leaf of it that is valid until then.
fn issued(until: i32) -> (Cert, Cert) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    root.distinguished_name
        .push(rcgen::DnType::CommonName, "a root");
    let pem = root.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(root, key);
    let mut leaf = rcgen::CertificateParams::default();
    leaf.not_after = rcgen::date_time_ymd(until, 1, 1);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap().pem();
    let read = |pem: &str| Cert::from_pem(pem.as_bytes()).unwrap().remove(0);
    (read(&pem), read(&leaf))
}

fn holding(root: &Cert, leaf: &Cert) -> Held {
    Held {
        leaf: crate::observe::Leaf {
            serial: leaf.facts().serial.clone(),
            until: leaf.facts().not_after,
            issuer: Some(root.clone()),
            between: vec![],
        },
        roots: vec![root.clone()],
    }
}

#[test]
fn what_a_proxy_shows_and_trusts_is_judged() {
    let ((root, leaf), (_, old), (other, _)) = (issued(2027), issued(2026), issued(2027));
    let say = |roots: &[&Cert], held: Held, follows: bool| {
        let context = Context {
            roots: roots.iter().map(|r| (*r).clone()).collect(),
            ..context()
        };
        let mut pod = context.pod(&injected(|_| {}));
        pod.proxy.as_mut().unwrap().follows_roots = follows;
        context.told(&mut pod, Ok(held));
        let ids: Vec<_> = pod.why.iter().map(|c| c.id).collect();
        (pod.state, ids)
    };
    assert_eq!(
        say(&[&root], holding(&root, &leaf), true),
        (State::InMesh, vec![])
    );
    let ended = say(&[&root], holding(&root, &old), true);
    assert_eq!(ended, (State::MustRestart, vec![CauseId::CertificateEnded]));
    let (state, ids) = say(&[&other], holding(&root, &leaf), true);
    assert_eq!((state, ids), (State::MustRestart, vec![CauseId::OtherRoot]));
    // Two roots are published: whoever follows is about to have both.
    let both = [&root, &other];
    assert_eq!(say(&both, holding(&root, &leaf), true).0, State::InMesh);
    let (state, ids) = say(&both, holding(&root, &leaf), false);
    assert_eq!(
        (state, ids),
        (State::ShouldRestart, vec![CauseId::RootMissing])
    );
    let mut pod = context().pod(&injected(|_| {}));
    context().told(&mut pod, Err("no".into()));
    assert_eq!(
        (pod.unread.as_deref(), pod.state),
        (Some("no"), State::InMesh)
    );
}

#[test]
fn what_is_held_of_a_service_is_read_with_its_health() {
    let service = "shop/cart".parse().unwrap();
    let host = |address: &str, health: Value| {
        json!({"address": {"socket_address": {"address": address, "port_value": 8080}},
            "health_status": health, "weight": 3, "locality": {"region": "r", "zone": "z"}})
    };
    let name = "outbound|80||cart.shop.svc.cluster.local";
    let page = json!({"cluster_statuses": [
        {"name": name, "host_statuses": [
            host("10.0.0.2", json!({"eds_health_status": "HEALTHY"})),
            host("10.0.0.3", json!({"eds_health_status": "HEALTHY", "failed_outlier_check": true})),
            host("10.0.0.4", json!({"eds_health_status": "DRAINING"})),
            host("10.0.0.5", json!({}))]},
        {"name": "outbound|80|v1|cart.shop.svc.cluster.local",
            "host_statuses": [host("10.0.0.2", json!({"eds_health_status": "DEGRADED"}))]},
        {"name": "outbound|80||cart2.shop.svc.cluster.local",
            "host_statuses": [host("10.0.0.9", json!({}))]},
        {"name": "inbound|80||", "host_statuses": [host("10.0.0.9", json!({}))]},
    ]});
    let held = held::of(page.to_string().as_bytes(), &service).unwrap();
    let short: Vec<_> = held
        .iter()
        .map(|e| {
            (
                e.address.as_str(),
                e.subset.as_deref(),
                e.healthy,
                e.ejected,
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            ("10.0.0.2", None, true, false),
            ("10.0.0.3", None, false, true),
            ("10.0.0.4", None, false, false),
            ("10.0.0.5", None, true, false),
            ("10.0.0.2", Some("v1"), true, false),
        ]
    );
    assert_eq!(held[2].against, ["draining by istiod"]);
    assert_eq!((held[0].weight, held[0].zone.as_str()), (3, "z"));
    // What is no page of Envoy's is no Service without endpoints.
    for wrong in ["", "<html>", "{}"] {
        assert!(held::of(wrong.as_bytes(), &service).is_err(), "{wrong}");
    }
}

#[test]
fn gateways_say_what_is_wrong_with_them() {
    let pod = json!({"metadata": {"namespace": "in", "name": "p", "labels": {"istio": "ingress"}}});
    let service = |ports: Value, ingress: Value| {
        json!({"metadata": {"namespace": "in", "name": "s"},
            "spec": {"type": "LoadBalancer", "selector": {"istio": "ingress"}, "ports": ports},
            "status": {"loadBalancer": {"ingress": ingress}}})
    };
    let gateway = json!({"metadata": {"namespace": "shop", "name": "g"}, "spec": {
        "selector": {"istio": "ingress"}, "servers": [
            {"port": {"number": 8443, "protocol": "HTTPS"}, "tls": {"mode": "SIMPLE"}, "hosts": ["a.example"]}]}});
    let one = |services: &[Value], pods: &[Value]| {
        let objects = ingress::Objects {
            istio: from_ref(&gateway),
            services,
            pods,
            ..ingress::Objects::default()
        };
        ingress::gateways(&objects).remove(0)
    };
    let ports = json!([{"port": 443, "targetPort": 8443}]);
    let fine = service(ports.clone(), json!([{"hostname": "lb.example"}]));
    let found = one(from_ref(&fine), from_ref(&pod));
    let (at, against) = (&found.addresses[0], &found.against);
    assert_eq!(
        (at.host.as_str(), at.port, against.len()),
        ("lb.example", 443, 0)
    );
    let none = one(&[fine], &[]);
    assert_eq!(none.against, ["no pod has the labels of its selector"]);
    let waits = one(&[service(ports, json!([]))], from_ref(&pod));
    assert_eq!(waits.against, ["Service in/s has no address"]);
    let other = service(json!([{"port": 80}]), json!([{"ip": "192.0.2.1"}]));
    assert_eq!(
        one(&[other], &[pod]).against,
        ["no Service leads to its port 8443"]
    );

    let class = json!({"metadata": {"name": "istio"}, "spec": {"controllerName": "istio.io/gateway-controller"}});
    let api = |class: &str| {
        json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"gatewayClassName": class,
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
            "status": {"addresses": [{"value": "192.0.2.7"}],
                "conditions": [{"type": "Programmed", "status": "False", "message": "no address"}]}})
    };
    let all = [api("istio"), api("nginx")];
    let objects = ingress::Objects {
        api: &all,
        classes: from_ref(&class),
        ..ingress::Objects::default()
    };
    let found = ingress::gateways(&objects);
    assert_eq!(found.len(), 1, "another controller's is not Istio's");
    assert_eq!(found[0].against, ["Programmed: no address"]);
    assert_eq!(found[0].addresses[0].port, 80);
}
