//! The load-balancer controller that is played, as a waiter reads what it does.

use std::{sync::Arc, time::Duration};

use istio_sandbox::{
    api::{Api as Server, ApiOptions},
    aws::{
        Health, NewBalancer, Shared, Thing, ThingKind, Zone,
        controller::{CLASS, Controller, FINALIZER},
        testing,
    },
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    aws::nlb::{self, Stuck},
    cluster::{Cluster, Delete, Kind, Ref, connect::from_client},
};

/// How the annotations of its Services begin.
const ANNOTATION: &str = "service.beta.kubernetes.io/aws-load-balancer-";
/// How its readiness gates begin.
const GATE: &str = "target-health.elbv2.k8s.aws/";

fn resource(version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", version, kind))
}

struct World {
    state: Shared,
    controller: Controller,
    cluster: Cluster,
    arn: String,
    group: String,
}

/// A cluster with a Service of the controller's class and a pod behind it that has a gate.
async fn world(annotations: Value) -> World {
    let mut state = testing::state();
    let kind = ThingKind::Subnet {
        cidr: "10.0.0.0/24".into(),
        zone: "eu-west-1a".into(),
    };
    let mut subnet = Thing::new(testing::ACCOUNT, testing::REGION, "subnet-1", "vpc-1", kind);
    subnet
        .tags
        .insert("kubernetes.io/role/internal-elb".into(), "1".into());
    state.network.things.push(subnet);
    let arn = state.make_balancer(NewBalancer {
        partition: "aws".into(),
        account: testing::ACCOUNT.into(),
        region: testing::REGION.into(),
        name: "k8s-istio-gw-0a".into(),
        zones: vec![Zone {
            name: "eu-west-1a".into(),
            ..Zone::default()
        }],
        tags: [("service.k8s.aws/stack".to_owned(), "istio/gw".to_owned())].into(),
        ..NewBalancer::default()
    });
    let group = state.make_group(&arn, "k8s-istio-gw-1b", 15443, 15443, "ip");
    state.register(
        &group,
        "10.0.0.7",
        15443,
        "eu-west-1a",
        vec![(Duration::ZERO, Health::CHECKING)],
    );
    let host = state.balancers[0].dns_name.clone();
    let state = Shared::new(state);
    let api = Server::new(ApiOptions::new("eks-1", Arc::new(istio_sandbox::now))).unwrap();
    let client = api.client();
    let cluster = from_client(
        &"eks-1".parse().unwrap(),
        client.clone(),
        "https://eks-1",
        None,
    );
    let home = (testing::REGION, testing::ACCOUNT, "vpc-1");
    let controller = Controller::new(client, state.clone(), home);
    controller.install().await.unwrap();
    let world = World {
        state,
        controller,
        cluster,
        arn,
        group,
    };
    world.create(&annotations, &host).await;
    world
}

impl World {
    async fn create(&self, annotations: &Value, host: &str) {
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio"}}),
            json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "gw", "namespace": "istio", "annotations": annotations},
                "spec": {"type": "LoadBalancer", "loadBalancerClass": CLASS, "selector": {"app": "gw"},
                    "ports": [{"name": "tls", "port": 15443, "targetPort": 15443}]}}),
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "gw-1", "namespace": "istio", "labels": {"app": "gw"}},
                "spec": {"containers": [{"name": "c", "image": "i"}],
                    "readinessGates": [{"conditionType": format!("{GATE}k8s-istio-gw-1b")}]}}),
        ] {
            self.cluster.create(&object).await.unwrap();
        }
        let status = |status: Value| Patch::Merge(json!({ "status": status }));
        let pods: Api<DynamicObject> = Api::namespaced_with(
            self.cluster.client().clone(),
            "istio",
            &resource("v1", "Pod"),
        );
        let pod = status(json!({"podIP": "10.0.0.7", "phase": "Running",
            "conditions": [{"type": "ContainersReady", "status": "True"}]}));
        pods.patch_status("gw-1", &PatchParams::default(), &pod)
            .await
            .unwrap();
        let services: Api<DynamicObject> = Api::namespaced_with(
            self.cluster.client().clone(),
            "istio",
            &resource("v1", "Service"),
        );
        if !host.is_empty() {
            let balancer = status(json!({"loadBalancer": {"ingress": [{"hostname": host}]}}));
            services
                .patch_status("gw", &PatchParams::default(), &balancer)
                .await
                .unwrap();
        }
    }

    async fn see(&self) -> nlb::Seen {
        // The kind of the bindings is served a moment after its definition was made.
        for _ in 0..200 {
            if self.controller.step().await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.controller.step().await.unwrap();
        nlb::see(&self.cluster, "istio", "gw", 15443).await.unwrap()
    }
}

#[tokio::test]
async fn bindings_and_gates_are_what_a_waiter_reads() {
    let world = world(json!({})).await;
    let seen = world.see().await;
    assert_eq!(seen.bindings.len(), 1);
    assert_eq!(seen.bindings[0].group, world.group);
    assert_eq!(seen.gates(15443), Some((0, 1)));
    assert_eq!(seen.pods[0].gates[0].reason, "Elb.InitialHealthChecking");
    world
        .state
        .lock()
        .set_health(&world.group, "10.0.0.7", Health::HEALTHY);
    assert_eq!(world.see().await.gates(15443), Some((1, 1)));
}

#[tokio::test]
async fn the_service_stays_until_its_load_balancer_is_gone() {
    let world = world(json!({})).await;
    world.see().await;
    let service = Ref::namespaced(&Kind::SERVICE, "istio", "gw");
    world
        .cluster
        .delete(&service, &Delete::background())
        .await
        .unwrap();
    let held = world.cluster.find(&service).await.unwrap().unwrap();
    assert_eq!(held["metadata"]["finalizers"], json!([FINALIZER]));
    world.controller.step().await.unwrap();
    assert!(world.cluster.find(&service).await.unwrap().is_none());
    assert!(
        !world
            .state
            .lock()
            .balancers
            .iter()
            .any(|b| b.arn == world.arn)
    );
    let kind = Kind::new("elbv2.k8s.aws/v1beta1", "TargetGroupBinding");
    assert!(
        world
            .cluster
            .list(&kind, Some("istio"), None)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn what_it_cannot_build_is_told_by_an_event_that_ends_a_wait() {
    let scheme = format!("{ANNOTATION}scheme");
    for (annotations, want) in [
        (
            json!({scheme.as_str(): "internet-facing"}),
            "none of vpc-1 is tagged kubernetes.io/role/elb",
        ),
        (json!({scheme.as_str(): "public"}), "unknown scheme: public"),
        (
            json!({format!("{ANNOTATION}nlb-target-type"): "pod"}),
            "unsupported target type: pod",
        ),
        (
            json!({format!("{ANNOTATION}subnets"): "subnet-9"}),
            "couldn't find all subnets",
        ),
    ] {
        let world = world(annotations).await;
        let mut seen = world.see().await;
        seen.hostname = None;
        seen.controllers.controller = Some(1);
        let verdict = nlb::judge(&seen, None, &nlb::Policy::default(), Duration::ZERO);
        let crate::wait::Progress::Never(Stuck::Refused(reason, message)) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(reason, "FailedBuildModel");
        assert!(message.contains(want), "{message}");
    }
}
