//! The AWS of embedded clusters, as the client side sees it.

use std::time::SystemTime;

use tokio::task::JoinSet;

use istio_sandbox::{
    Options, Sandbox,
    aws::raise,
    world::{self, LoadBalancer, World, ZONES},
};

use crate::{
    aws::{
        Aws, Env, Identity,
        eks::{Facts, Resolved, enter, resolve},
        exposure, network, nlb,
    },
    cluster::{ConnectOptions, Kind},
};

fn now() -> SystemTime {
    istio_sandbox::now().into()
}

/// Only what the file of the sandbox says: no kubeconfig, no other program.
fn client(text: &str) -> Aws {
    let lines = text.lines().filter_map(|l| l.split_once('='));
    Aws::new(Env::from_vars(
        lines.map(|(k, v)| (k.to_owned(), v.to_owned())),
    ))
}

async fn facts(aws: &Aws, name: &str) -> Facts {
    match resolve(aws, &Identity::default(), name, &Default::default(), &[])
        .await
        .unwrap()
    {
        Resolved::Eks(facts) => *facts,
        Resolved::Context(name) => panic!("a context: {name}"),
    }
}

#[tokio::test]
async fn embedded_clusters_are_eks_clusters_and_take_our_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(Options::count(2, folder.path()))
        .await
        .unwrap();
    let text = std::fs::read_to_string(&sandbox.endpoints().aws).unwrap();
    let aws = client(&text);
    let mut networks = Vec::new();
    for name in ["eks-1", "eks-2"] {
        let facts = facts(&aws, name).await;
        let cluster = enter(
            &facts,
            &name.parse().unwrap(),
            &ConnectOptions::default(),
            now,
        )
        .unwrap();
        assert!(
            !cluster
                .names(&Kind::NAMESPACE, None, None)
                .await
                .unwrap()
                .is_empty()
        );
        networks.push(network::read(&facts, &[], now).await.unwrap());
    }
    let decided = exposure::decide(&networks).unwrap();
    let sources = vec!["203.0.113.1/32".parse().unwrap()];
    assert_eq!(
        decided["eks-1"],
        exposure::Exposure::InternetFacing { sources }
    );
    let wrong = Facts {
        token_id: "eks-2".into(),
        ..facts(&aws, "eks-1").await
    };
    let refused = enter(
        &wrong,
        &"eks-1".parse().unwrap(),
        &ConnectOptions::default(),
        now,
    )
    .unwrap();
    let error = refused
        .names(&Kind::NAMESPACE, None, None)
        .await
        .unwrap_err();
    assert!(
        error.failure().is_some_and(|f| f.code() == Some(401)),
        "{error}"
    );
}

#[tokio::test]
async fn elb_tells_the_load_balancers_of_the_embedded_world() {
    let (world, mut tasks) = (World::default(), JoinSet::new());
    let embedded = raise([], &world, &mut tasks).await.unwrap();
    let balancers = world.balancers.clone();
    let target = world::Target {
        address: "10.0.0.7".into(),
        pod: "gw".into(),
        port: 15443,
        zone: ZONES[0].into(),
        health: world::Health::Checking,
    };
    let lb = LoadBalancer {
        state: world::State::Active,
        listeners: vec![world::Listener {
            port: 15443,
            name: "tls".into(),
            targets: vec![target],
        }],
        ..LoadBalancer::new(("eks-1", 0), ("istio-system", "eastwest"), "uid", 0)
    };
    balancers.put(lb.clone());
    let session = client(&embedded.environment())
        .session(&Identity::default(), None)
        .await
        .unwrap();
    let mut watch = nlb::Watch::new(session, world::ACCOUNT, ("istio-system", "eastwest"), 15443);
    let name = lb.name.clone();
    let mut looks = 0;
    let see = || {
        looks += 1;
        if looks == 2 {
            let healthy =
                |lb: &mut LoadBalancer| lb.listeners[0].targets[0].health = world::Health::Healthy;
            balancers.edit(&name, healthy);
        }
        let hostname = Some(lb.dns_name.clone());
        async {
            Ok(nlb::Seen {
                service: true,
                hostname,
                ..Default::default()
            })
        }
    };
    let pause = std::time::Duration::from_millis(20);
    let deadline = crate::wait::Deadline::after(pause * 500);
    let pace = crate::wait::Every::fixed(pause);
    let policy = nlb::Policy::default();
    let ready = nlb::wait("eks-1", &mut watch, see, &policy, deadline, pace, |_| {})
        .await
        .unwrap();
    assert_eq!(ready.zones, ZONES);
    assert_eq!(ready.found_by, nlb::FoundBy::Arn);
}
