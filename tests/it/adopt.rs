//! Clusters that come with an Istio: it is seen, told and never overlooked; and one that is handed over becomes a member's.

use helm_engine::{
    Capabilities, Chart, Release as Named, apply,
    release::{Record, Status},
    render,
};
use serde_json::{Map, Value, json};

use crate::{
    guide::blocks,
    kit::{World, foreign_cacerts, istio, join, repository},
    rotate::while_all_trust_each_other as while_all_trust,
};

/// How somebody has installed an Istio.
struct Made<'a> {
    /// As what releases of Helm; by istioctl without.
    releases: Option<[&'a str; 2]>,
    namespace: &'a str,
    /// The name of istiod's Deployment, where it is not `istiod`.
    named: Option<&'a str>,
    values: Value,
}

/// Where an object is created.
fn collection(world: &World, cluster: &str, object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap();
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("-");
    let name = metadata["name"].as_str().unwrap();
    let path = world.path_of(cluster, &format!("{kind} {namespace}/{name}"));
    path.unwrap().rsplit_once('/').unwrap().0.to_owned()
}

impl Made<'_> {
    const HELM: Self = Made {
        releases: Some(["base", "pilot"]),
        namespace: "istio-system",
        named: None,
        values: Value::Null,
    };

    fn install(&self, world: &World, cluster: &str) {
        let spaces = "/api/v1/namespaces";
        if world
            .find(cluster, &format!("{spaces}/{}", self.namespace))
            .is_none()
        {
            let space = json!({"metadata": {"name": self.namespace}});
            world.create(cluster, spaces, &space);
        }
        for (i, chart) in ["base", "istiod"].into_iter().enumerate() {
            let values = match chart {
                "istiod" => self.values.clone(),
                _ => Value::Null,
            };
            self.chart(world, cluster, chart, self.releases.map(|r| r[i]), &values);
        }
        let ready = world.wait(|| {
            let name = self.named.unwrap_or("istiod");
            let path = format!(
                "/apis/apps/v1/namespaces/{}/deployments/{name}",
                self.namespace
            );
            let deployment = world.get(cluster, &path);
            (deployment["status"]["availableReplicas"] == 1).then_some(())
        });
        assert!(ready.is_some(), "{cluster}: the istiod does not come up");
    }

    fn chart(
        &self,
        world: &World,
        cluster: &str,
        name: &str,
        release: Option<&str>,
        values: &Value,
    ) {
        let folder = format!(
            "{}/crates/istio-sandbox/charts/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        let chart = Chart::from_path(folder.as_ref()).unwrap();
        let named = Named {
            name: release.unwrap_or("istio"),
            namespace: self.namespace,
            revision: 1,
            is_upgrade: false,
        };
        let mut over = json!({"global": {"istioNamespace": self.namespace}});
        for (key, value) in values.as_object().into_iter().flatten() {
            match over[key].is_object() {
                true => value
                    .as_object()
                    .unwrap()
                    .iter()
                    .for_each(|(k, v)| over[key][k] = v.clone()),
                false => over[key] = value.clone(),
            }
        }
        let rendered = render(&chart, &over, &named, &Capabilities::default()).unwrap();
        for manifest in &rendered.manifests {
            let mut object = manifest.object.clone();
            apply::prepare(&mut object);
            match release {
                Some(release) => apply::own(&mut object, release, self.namespace),
                None => {
                    object["metadata"]["labels"]["install.operator.istio.io/owning-resource"] =
                        json!("unknown")
                }
            }
            if let (Some(named), "Deployment") = (self.named, object["kind"].as_str().unwrap()) {
                object["metadata"]["name"] = json!(named);
                object["metadata"]["labels"]["istio.io/rev"] = json!("canary");
            }
            world.create(cluster, &collection(world, cluster, &object), &object);
        }
        if let Some(release) = release {
            let config = over.as_object().cloned().unwrap_or_else(Map::new);
            let named = Named {
                name: release,
                ..named
            };
            let mut record = Record::new(
                &named,
                &chart,
                &config,
                &rendered,
                "2026-01-01T00:00:00Z",
                None,
            );
            record.status = Status::Deployed;
            let secret = record.to_secret(None, None).unwrap();
            let path = format!("/api/v1/namespaces/{}/secrets", self.namespace);
            world.create(cluster, &path, &secret);
        }
    }
}

#[test]
fn an_istiod_in_another_namespace_is_not_overlooked() {
    let world = World::new(2);
    let made = Made {
        namespace: "istio-control",
        ..Made::HELM
    };
    made.install(&world, "eks-1");
    let before = world.inventory("eks-2");
    for command in [join(2), "plan eks-1 eks-2".into()] {
        let refused = world.run(&command).ends(5);
        refused
            .says("a second control plane beside it: Deployment istio-control/istiod")
            .says("istiod 1.31.4")
            .says("cluster Kubernetes")
            .says("trust domain cluster.local")
            .says("managed by Helm as release pilot");
    }
    assert_eq!(before, world.inventory("eks-2"));
    world
        .run("doctor --before-join eks-1 eks-2")
        .ends(7)
        .says("other-istio/eks-1");
    world
        .run("status eks-1 eks-2")
        .ends(7)
        .says("one-istio/eks-1")
        .says("Deployment istio-control/istiod");
}

#[test]
fn an_istiod_under_another_name_is_not_overlooked() {
    let world = World::new(2);
    let made = Made {
        releases: None,
        named: Some("istiod-canary"),
        ..Made::HELM
    };
    made.install(&world, "eks-2");
    world
        .run(&join(2))
        .ends(5)
        .says("Deployment istio-system/istiod-canary")
        .says("revision canary")
        .says("managed by istioctl");
    assert!(
        world
            .find("eks-1", &istio("deployments", "istiod"))
            .is_none()
    );
}

/// A workload with a sidecar, which runs.
fn workload(world: &World, cluster: &str) {
    let labels = json!({"istio-injection": "enabled"});
    let space = json!({"metadata": {"name": "shop", "labels": labels}});
    world.create(cluster, "/api/v1/namespaces", &space);
    let labels = json!({"app": "cart"});
    let pod = json!({"containers": [{"name": "app", "image": "registry.example/app:1"}]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod}}});
    let path = "/apis/apps/v1/namespaces/shop/deployments";
    world.create(cluster, path, &deployment);
    let ready = world.wait(|| {
        let found = world.get(cluster, &format!("{path}/cart"));
        (found["status"]["availableReplicas"] == 2).then_some(())
    });
    assert!(ready.is_some(), "{cluster}: the workload does not come up");
}

/// What the proxies of the workload were told: cluster, network.
fn told(world: &World, cluster: &str) -> Vec<(String, String)> {
    let pods = world.get(cluster, "/api/v1/namespaces/shop/pods");
    let pods = pods["items"].as_array().unwrap().iter();
    let live = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let told = live.map(|pod| {
        let containers = pod["spec"]["containers"].as_array().unwrap();
        let proxy = containers
            .iter()
            .find(|c| c["name"] == "istio-proxy")
            .unwrap();
        let env = |name: &str| {
            let mut all = proxy["env"].as_array().unwrap().iter();
            let found = all.find(|e| e["name"] == name).unwrap();
            found["value"].as_str().unwrap_or_default().to_owned()
        };
        (env("ISTIO_META_CLUSTER_ID"), env("ISTIO_META_NETWORK"))
    });
    told.collect()
}

/// The newest record of a release.
fn record(world: &World, cluster: &str, release: &str) -> Record {
    let path = "/api/v1/namespaces/istio-system/secrets";
    let list = world.get(
        cluster,
        &format!("{path}?labelSelector=owner%3Dhelm,name%3D{release}"),
    );
    let all = list["items"].as_array().unwrap().iter();
    let records = all.map(|secret| Record::from_secret(secret).unwrap());
    records.max_by_key(|record| record.revision).unwrap()
}

fn is_bound(world: &World, cluster: &str) -> bool {
    world
        .find(cluster, &istio("configmaps", "meshlink-root"))
        .is_some()
}

/// One root, and that of the mesh.
fn has_root_of_mesh(world: &World, cluster: &str) {
    let map = world.get(cluster, &istio("configmaps", "istio-ca-root-cert"));
    let pem = map["data"]["root-cert.pem"].as_str().unwrap();
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 1, "{cluster}");
    world.run("ca status").ends(0);
}

const ADOPT: &str = "--projected-within 0s";

#[test]
fn an_istio_of_helm_with_a_root_of_its_own_becomes_a_members() {
    let world = World::new(2);
    let made = Made {
        values: json!({"resources": {"requests": {"cpu": "123m", "memory": "1Gi"}}}),
        ..Made::HELM
    };
    made.install(&world, "eks-1");
    workload(&world, "eks-1");
    assert_eq!(
        told(&world, "eks-1"),
        vec![("Kubernetes".into(), String::new()); 2]
    );
    // It is refused as it is, with what would lead on.
    let refused = world.run(&join(2)).ends(5);
    refused
        .says("meshlink adopt eks-1")
        .says("managed by Helm as release pilot");
    let planned = world.run("plan adopt eks-1 -v").ends(10);
    planned
        .says("trust-root/eks-1")
        .says("install-istiod/eks-1")
        .says("--clusterAliases=Kubernetes=eks-1")
        .says("restart what runs in namespace shop")
        .says("they call the cluster Kubernetes");
    // The first run does what needs no restart, and nobody's trust is lost.
    let first = while_all_trust(&world, || world.run(&format!("adopt eks-1 {ADOPT}")));
    first.ends(0).says("-n shop rollout restart deployment");
    assert!(!is_bound(&world, "eks-1"));
    let made_by_helm = record(&world, "eks-1", "pilot");
    assert_eq!(made_by_helm.revision, 2);
    assert_eq!(made_by_helm.config["resources"]["requests"]["cpu"], "123m");
    assert_eq!(
        made_by_helm.config["global"]["multiCluster"]["clusterName"],
        "eks-1"
    );
    world.run(&join(2)).ends(5).says("is being adopted");
    let second = while_all_trust(&world, || {
        world.run(&format!("adopt eks-1 {ADOPT} --restart-workloads"))
    });
    drop(second.ends(0));
    assert_eq!(
        told(&world, "eks-1"),
        vec![("eks-1".into(), "eks-1".into()); 2]
    );
    assert!(is_bound(&world, "eks-1"));
    world
        .run(&format!("adopt eks-1 {ADOPT}"))
        .ends(0)
        .says("nothing to do");
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
    has_root_of_mesh(&world, "eks-1");
    world.run("status").ends(0);
    // What was there before is not taken away.
    world.run("leave eks-1").ends(0);
    assert!(
        world
            .find("eks-1", &istio("deployments", "istiod"))
            .is_some()
    );
    assert_eq!(record(&world, "eks-1", "pilot").revision, 2);
}

#[test]
fn an_istio_of_istioctl_joins_in_one_command() {
    let world = World::new(2);
    let made = Made {
        releases: None,
        values: json!({"resources": {"requests": {"cpu": "321m", "memory": "1Gi"}}}),
        ..Made::HELM
    };
    made.install(&world, "eks-2");
    workload(&world, "eks-2");
    let planned = world.run("plan adopt eks-2").ends(10);
    planned
        .says("hand-over/eks-2")
        .says("> Deployment istio-system/istiod  to release istiod");
    let joined = while_all_trust(&world, || {
        world.run(&format!("{} --adopt --restart-workloads {ADOPT}", join(2)))
    });
    joined.ends(0).says("2 of 2 pairs proved");
    assert_eq!(
        record(&world, "eks-2", "istiod").config["resources"]["requests"]["cpu"],
        "321m"
    );
    has_root_of_mesh(&world, "eks-2");
    world.run(&join(2)).ends(0).says("nothing to do");
    // It was there before: a leave takes nothing of it away, asked or not.
    world.run("leave eks-2").ends(0);
    assert!(
        world
            .find("eks-2", &istio("deployments", "istiod"))
            .is_some()
    );
}

#[test]
fn two_that_have_a_root_in_common_are_led_to_the_meshs_together() {
    let world = World::new(2);
    let data = foreign_cacerts("both", true);
    for cluster in ["eks-1", "eks-2"] {
        world.create(
            cluster,
            "/api/v1/namespaces",
            &json!({"metadata": {"name": "istio-system"}}),
        );
        let secret = json!({"metadata": {"name": "cacerts"}, "type": "Opaque", "data": data});
        world.create(cluster, istio("secrets", "").trim_end_matches('/'), &secret);
        Made::HELM.install(&world, cluster);
        workload(&world, cluster);
    }
    let adopted = while_all_trust(&world, || {
        world.run(&format!("adopt eks-1 eks-2 --restart-workloads {ADOPT}"))
    });
    adopted.ends(0);
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
    has_root_of_mesh(&world, "eks-1");
}

#[test]
fn what_would_be_changed_back_or_lost_is_refused() {
    let world = World::new(2);
    world
        .run("join eks-1 eks-2 --restart-workloads")
        .ends(2)
        .says("add --adopt");
    world
        .run("adopt eks-1")
        .ends(5)
        .says("there is nothing to adopt");
    Made {
        releases: None,
        values: json!({"meshConfig": {"trustDomain": "example.org"}}),
        ..Made::HELM
    }
    .install(&world, "eks-1");
    let before = world.inventory("eks-1");
    world
        .run("adopt eks-1")
        .ends(5)
        .says("has the trust domain example.org");
    let deployment = istio("deployments", "istiod");
    let argo = json!({"metadata": {"labels": {"argocd.argoproj.io/instance": "mesh"}}});
    world.merge("eks-1", &deployment, &argo);
    world
        .run("adopt eks-1")
        .ends(5)
        .says("Argo CD keeps as it says")
        .says("global.multiCluster.clusterName=eks-1");
    let none = json!({"metadata": {"labels": {"argocd.argoproj.io/instance": null}}});
    world.merge("eks-1", &deployment, &none);
    world.delete("eks-1", &istio("configmaps", "values"));
    let domain = world.get("eks-1", &istio("configmaps", "istio"));
    let text = domain["data"]["mesh"]
        .as_str()
        .unwrap()
        .replace("example.org", "cluster.local");
    world.merge(
        "eks-1",
        &istio("configmaps", "istio"),
        &json!({"data": {"mesh": text}}),
    );
    world
        .run("adopt eks-1")
        .ends(5)
        .says("says what it was installed with");
    let names = |all: &crate::kit::Inventory| -> Vec<String> { all.keys().cloned().collect() };
    let gone = "ConfigMap istio-system/values";
    let mut expected = names(&before);
    expected.retain(|name| name != gone && !name.starts_with("Lease "));
    let mut after = names(&world.inventory("eks-1"));
    after.retain(|name| !name.starts_with("Lease "));
    assert_eq!(expected, after, "nothing was written");
}

#[test]
fn the_commands_of_the_page_hold() {
    let page = std::fs::read_to_string(repository().join("docs/migration.md")).unwrap();
    let world = World::new(2);
    Made::HELM.install(&world, "eks-1");
    workload(&world, "eks-1");
    let mut ran = 0;
    for block in blocks(&page).iter().filter(|block| block.kind == "sh") {
        let ends = block
            .word
            .strip_prefix("exit=")
            .unwrap_or("0")
            .parse()
            .unwrap();
        for line in block.text.lines() {
            let words = line.strip_prefix("meshlink ").unwrap();
            let more = match words.starts_with("adopt") {
                true => format!(" {ADOPT}"),
                false => String::new(),
            };
            drop(world.run(&format!("{words}{more}")).ends(ends));
            ran += 1;
        }
    }
    assert!(ran > 3, "the page holds only {ran} commands");
}
