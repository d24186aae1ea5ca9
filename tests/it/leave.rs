//! What a join brought, a leave takes away.

use std::{fs, time::Duration};

use meshlink::sandbox::api::{Fault, Strike};
use serde_json::{Value, json};

use crate::kit::{Inventory, World, istio, join};

/// What an object is, without what changes by itself.
fn settled(inventory: Inventory) -> Inventory {
    let strip = |(path, mut object): (String, Value)| {
        let metadata = object["metadata"].as_object_mut().unwrap();
        for key in ["resourceVersion", "managedFields", "generation"] {
            metadata.remove(key);
        }
        (path, object)
    };
    inventory.into_iter().map(strip).collect()
}

#[test]
fn the_leaver_is_as_it_was_and_the_others_go_on() {
    let world = World::new(3);
    let before = settled(world.inventory("eks-3"));
    world.run(&join(3)).ends(0);
    let token = world.get("eks-3", &istio("secrets", "meshlink-reader-eks-1-token"));
    assert_ne!(before, settled(world.inventory("eks-3")));
    assert!(token["data"]["token"].is_string());

    let left = world.run("leave eks-3 --uninstall --crds").ends(0);
    left.says("eks-3's intermediate stays trusted by the others until")
        .says("2 of 2 pairs proved");
    let after = settled(world.inventory("eks-3"));
    let paths = |i: &Inventory| i.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&before), paths(&after));
    assert_eq!(before, after);

    for (path, object) in world.inventory("eks-1") {
        // What eks-1 says of the world's pods and nodes is its own; nothing of it is about eks-3.
        assert!(
            !path.contains("eks-3") && !object.to_string().contains("eks-3"),
            "{path}"
        );
    }
    // Those who stay were proved again: nothing is left to be done.
    world.run("status").ends(0).says("2 of 2 pairs proved");
    world.run(&join(2)).ends(0).says("nothing to do");
    world
        .run("verify --traffic")
        .ends(0)
        .says("2 of 2 pairs proved");
}

/// Nothing in the others is about it any more, and they are proved without it.
fn eks_3_is_forgotten(world: &World) {
    for cluster in ["eks-1", "eks-2"] {
        for (path, object) in world.inventory(cluster) {
            let about = path.contains("eks-3") || object.to_string().contains("eks-3");
            assert!(!about, "{cluster}: {path}");
        }
    }
    world.run("status").ends(0).says("2 of 2 pairs proved");
    world.run(&join(2)).ends(0).says("nothing to do");
}

#[test]
fn a_dead_cluster_is_struck_and_nothing_is_asked_of_it() {
    let world = World::joined(3);
    world
        .run("leave eks-3 --dead")
        .ends(5)
        .says("so it is not dead")
        .says("meshlink leave eks-3");
    let held = world.get("eks-3", &istio("secrets", "istio-remote-secret-eks-1"));
    world.api("eks-3").faults().unreachable(true);
    world.run("leave eks-3").ends(1).says("eks-3");
    let left = world.run("leave eks-3 --dead").ends(0);
    left.says("eks-3 was not contacted")
        .says("the credentials it holds for eks-1 and eks-2")
        .says("eks-3's intermediate stays trusted by the others until")
        .says("2 of 2 pairs proved");
    for other in ["eks-1", "eks-2"] {
        let refused = format!("revoke-reader/{other}/eks-3");
        let journal = world.journal();
        let line = journal
            .lines()
            .find(|l| l.contains("step-finished") && l.contains(&refused));
        assert!(
            line.unwrap_or_default().contains("its token answers 401"),
            "{journal}"
        );
    }
    eks_3_is_forgotten(&world);
    world
        .run("leave eks-3 --dead")
        .ends(2)
        .says("is recorded on this machine");
    world.api("eks-3").faults().clear();
    assert_eq!(
        held,
        world.get("eks-3", &istio("secrets", "istio-remote-secret-eks-1"))
    );
}

#[test]
fn a_cluster_that_swallows_what_it_is_sent_is_soon_taken_for_dead() {
    let world = World::joined(3);
    let late = Fault::Delay(Duration::from_secs(2));
    let api = world.api("eks-3");
    api.faults().add(Strike::next("/version", late));
    world
        .run("leave eks-3 --dead")
        .ends(5)
        .says("pending: eks-3: no answer yet; giving up after 10 s")
        .says("so it is not dead");
    let silent = Strike::next("", Fault::Stall);
    api.faults().add(silent.times(u64::MAX));
    world
        .run("leave eks-3 --dead")
        .ends(0)
        .says("eks-3: no answer within 10 s, so it is treated as dead")
        .says("2 of 2 pairs proved");
    eks_3_is_forgotten(&world);
}

#[test]
fn what_an_earlier_leave_left_is_taken_later_and_the_others_stay_known() {
    let world = World::new(3);
    let before = settled(world.inventory("eks-3"));
    world.run(&join(3)).ends(0);
    world
        .run("leave eks-3")
        .ends(0)
        .says("istiod, its cacerts, Istio's CRDs, the root claim were kept in eks-3")
        .says("meshlink leave eks-3 --uninstall --crds");
    world
        .run("leave eks-3 --uninstall")
        .ends(0)
        .says("Istio's CRDs stay in eks-3");
    assert_ne!(before, settled(world.inventory("eks-3")));
    world.run("leave eks-3 --uninstall --crds").ends(0);
    assert_eq!(before, settled(world.inventory("eks-3")));
    eks_3_is_forgotten(&world);
}

const CONTROLLERS: &str = "/apis/apps/v1/namespaces/kube-system/deployments";

/// Clusters whose load balancers are the controller's, in a mesh.
fn controlled(file: &str) -> World {
    let world = World::new(2);
    let label = json!({"app.kubernetes.io/name": "aws-load-balancer-controller"});
    let pod = json!({"metadata": {"labels": label}, "spec": {"containers": [{"name": "controller", "image": "controller:1"}]}});
    let controller = json!({"metadata": {"name": "aws-load-balancer-controller", "labels": label},
        "spec": {"replicas": 1, "selector": {"matchLabels": label}, "template": pod}});
    for cluster in ["eks-1", "eks-2"] {
        world.create(cluster, CONTROLLERS, &controller);
    }
    let text = "mesh: mesh\ngateway:\n  values: {service: {loadBalancerClass: service.k8s.aws/nlb}}\n\
                clusters:\n  - {name: eks-1, network: one}\n  - {name: eks-2, network: two}\n";
    fs::write(world.user.here().join(file), text).unwrap();
    world.run(&format!("join -f {file}")).ends(0);
    world
}

#[test]
fn a_load_balancer_is_not_left_behind_unless_told() {
    let world = controlled("mesh.yaml");
    let service = "/api/v1/namespaces/istio-ingress/services/istio-eastwestgateway";
    let held = world.get("eks-2", service);
    assert_eq!(
        held["metadata"]["finalizers"],
        json!(["service.k8s.aws/resources"])
    );
    let controller = format!("{CONTROLLERS}/aws-load-balancer-controller");
    world.merge("eks-2", &controller, &json!({"spec": {"replicas": 0}}));
    let down = || {
        world.get("eks-2", &controller)["status"]["readyReplicas"]
            .as_u64()
            .unwrap_or(0)
            == 0
    };
    assert!(world.wait(|| down().then_some(())).is_some());

    let before = world.inventory("eks-2");
    world
        .run("leave eks-2 --uninstall --crds")
        .ends(5)
        .says("the AWS Load Balancer Controller must remove, and none of it runs")
        .says("--abandon-load-balancer");
    assert_eq!(before, world.inventory("eks-2"));
    world
        .run("leave eks-2 --uninstall --crds --abandon-load-balancer")
        .ends(0)
        .says("stays in the cloud");
    assert_eq!(world.find("eks-2", service), None);

    // One that somebody else holds is waited for, and let go of only when told.
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    world.merge("eks-1", service, &held);
    let late = world.run("leave eks-1 --timeout 8s").ends(4);
    late.says("waiting for somebody to remove the load balancer (example.com/held)")
        .says("meshlink leave eks-1 --abandon-load-balancer");
    assert!(world.find("eks-1", service).is_some());
    world.run("leave eks-1 --abandon-load-balancer").ends(0);
    assert_eq!(world.find("eks-1", service), None);
}

#[test]
fn who_left_can_come_back() {
    let world = World::joined(2);
    let keys = world.keys();
    world.run("leave eks-2 --uninstall --crds").ends(0);
    world
        .run("leave eks-2 --uninstall --crds")
        .ends(0)
        .says("nothing to do");
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
    assert_eq!(keys, world.keys());
}

#[test]
fn without_uninstall_istio_stays_and_only_the_links_go() {
    let world = World::joined(2);
    world.run("leave eks-2").ends(0);
    assert!(
        world
            .find("eks-2", &istio("deployments", "istiod"))
            .is_some()
    );
    for (cluster, other) in [("eks-1", "eks-2"), ("eks-2", "eks-1")] {
        let secret = istio("secrets", &format!("istio-remote-secret-{other}"));
        assert_eq!(world.find(cluster, &secret), None, "{cluster}");
        let account = istio("serviceaccounts", &format!("meshlink-reader-{other}"));
        assert_eq!(world.find(cluster, &account), None, "{cluster}");
    }
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
}

#[test]
fn pods_with_a_sidecar_stand_against_an_uninstallation() {
    let world = World::joined(2);
    let labels = serde_json::json!({"istio-injection": "enabled"});
    let space = serde_json::json!({"metadata": {"name": "shop", "labels": labels}});
    world.create("eks-2", "/api/v1/namespaces", &space);
    let pod = serde_json::json!({"metadata": {"name": "till"}, "spec": {"containers": [{"name": "till", "image": "till"}]}});
    world.create("eks-2", "/api/v1/namespaces/shop/pods", &pod);
    let before = world.inventory("eks-2");
    world
        .run("leave eks-2 --uninstall")
        .ends(5)
        .says("shop/till");
    assert_eq!(before, world.inventory("eks-2"));
}

#[test]
fn a_mesh_that_was_made_packed_stays_packed() {
    let world = World::joined(3);
    let record = istio("configmaps", "meshlink");
    let secrets = |cluster: &str| {
        let all = world.get(
            cluster,
            "/api/v1/namespaces/istio-system/secrets?labelSelector=istio%2FmultiCluster%3Dtrue",
        );
        let names = all["items"].as_array().unwrap().iter();
        names
            .map(|s| {
                let mut keys: Vec<_> = s["data"].as_object().unwrap().keys().cloned().collect();
                keys.sort();
                (
                    s["metadata"]["name"].as_str().unwrap().to_owned(),
                    keys.join(" "),
                )
            })
            .collect::<Vec<_>>()
    };
    for name in ["eks-1", "eks-2", "eks-3"] {
        let text = world.get(name, &record)["data"]["record"]
            .as_str()
            .unwrap()
            .to_owned();
        let packed = text.replace("per-peer", "packed");
        assert_ne!(packed, text);
        world.merge(name, &record, &json!({"data": {"record": packed}}));
        for (secret, _) in secrets(name) {
            world.delete(name, &istio("secrets", &secret));
        }
    }
    world.run(&join(3)).ends(0).says("6 of 6 pairs proved");
    let one = |peers: &str| vec![("istio-remote-secrets-0".to_owned(), peers.to_owned())];
    assert_eq!(secrets("eks-1"), one("eks-2 eks-3"));
    assert_eq!(secrets("eks-3"), one("eks-1 eks-2"));
    world.run("plan eks-1 eks-2 eks-3").ends(0);
    world.run("leave eks-3").ends(0);
    assert_eq!((secrets("eks-1"), secrets("eks-3")), (one("eks-2"), vec![]));
    world
        .run("verify --traffic")
        .ends(0)
        .says("2 of 2 pairs proved");
}

const RECORDS: &str = "/api/v1/namespaces/istio-system/secrets/sh.helm.release.v1.istiod.v1";

#[test]
fn a_damaged_release_record_holds_up_no_leave() {
    let world = World::joined(2);
    let garbage = json!({"data": {"release": "Z2FyYmFnZQ=="}});
    world.merge("eks-2", RECORDS, &garbage);
    world.run("leave eks-2 --uninstall").ends(0);
    assert_eq!(world.find("eks-2", &istio("deployments", "istiod")), None);
    assert_eq!(world.find("eks-2", RECORDS), None);
}

#[test]
fn a_release_record_that_is_gone_holds_up_no_leave() {
    let world = World::joined(2);
    world.delete("eks-2", RECORDS);
    world.run("leave eks-2 --uninstall").ends(0);
}

#[test]
fn a_leave_can_be_looked_at_first() {
    let world = World::joined(2);
    let plan = world.run("plan leave eks-2 --uninstall").ends(10);
    let plan = plan
        .says("uninstall-istiod/eks-2")
        .says("nothing was changed");
    assert!(!plan.stdout.contains("prove/eks-1"), "{plan}");
    world.run("status").ends(0).says("2 of 2 pairs proved");
}
