//! Faults: each looks to the client as it would from a real server.

use std::time::Duration;

use futures::StreamExt;
use kube::api::WatchParams;

use super::*;

#[tokio::test]
async fn statuses_strike_once_and_say_when_to_come_back() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    for status in [409, 429, 500, 503, 504] {
        api.faults().add(Strike::next(
            "/api/v1/namespaces/default/configmaps",
            Fault::Status(status, Some(2)),
        ));
        let error = maps.get("kube-root-ca.crt").await.unwrap_err();
        let kube::Error::Api(body) = error else {
            panic!("{error:?}")
        };
        assert_eq!(
            (body.code, body.details.unwrap().retry_after_seconds),
            (status, 2)
        );
        maps.get("kube-root-ca.crt").await.unwrap();
    }
}

#[tokio::test]
async fn connections_break_before_and_after_the_work() {
    let api = api();
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for (client, name) in [(api.client(), "a"), (over_tls(&api, &served).await, "b")] {
        let maps: kube::Api<ConfigMap> = spaced(&client, "default");
        let map: ConfigMap = of(json!({"metadata": {"name": name}}));
        let there = || api.store().get("configmaps", "default", name).is_some();
        api.faults()
            .add(Strike::next("", Fault::Reset).verb("create"));
        assert!(!matches!(
            maps.create(&PostParams::default(), &map).await,
            Ok(_) | Err(kube::Error::Api(_))
        ));
        assert!(!there());
        api.faults()
            .add(Strike::next("", Fault::ResetAfter).verb("create"));
        assert!(!matches!(
            maps.create(&PostParams::default(), &map).await,
            Ok(_) | Err(kube::Error::Api(_))
        ));
        assert!(there());
        api.faults()
            .add(Strike::next("", Fault::Truncate(20)).verb("get"));
        assert!(!matches!(
            maps.get(name).await,
            Ok(_) | Err(kube::Error::Api(_))
        ));
        api.faults().add(Strike::next("", Fault::Stall).verb("get"));
        let struck = async {
            while api.faults().pending() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = maps.get(name) => panic!("a stalled request has an answer: {answer:?}"),
            () = struck => {}
        }
        api.faults()
            .add(Strike::next("", Fault::Delay(Duration::from_millis(5))).verb("get"));
        maps.get(name).await.unwrap();
    }
}

#[tokio::test]
async fn an_unreachable_server_drops_its_watches_and_comes_back() {
    let api = api();
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let maps: kube::Api<ConfigMap> = spaced(&over_tls(&api, &served).await, "default");
    let watch = maps
        .watch(&WatchParams::default(), &api.store().version().to_string())
        .await
        .unwrap();
    api.faults().unreachable(true);
    assert_eq!(watch.count().await, 0);
    assert!(!matches!(
        maps.get("kube-root-ca.crt").await,
        Ok(_) | Err(kube::Error::Api(_))
    ));
    let backstage: kube::Api<ConfigMap> = spaced(&api.backstage(), "default");
    backstage.get("kube-root-ca.crt").await.unwrap();
    api.faults().clear();
    maps.get("kube-root-ca.crt").await.unwrap();
}

#[tokio::test]
async fn clients_are_counted_and_actors_are_not() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    maps.list(&ListParams::default()).await.unwrap();
    maps.get("kube-root-ca.crt").await.unwrap();
    spaced::<ConfigMap>(&api.backstage(), "default")
        .list(&ListParams::default())
        .await
        .unwrap();
    let counts = api.counters();
    assert_eq!(
        (
            counts.of("list", "configmaps"),
            counts.reads(),
            counts.total()
        ),
        (1, 2, 2)
    );
}
