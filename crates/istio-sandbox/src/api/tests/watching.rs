//! Watches: what they tell, from where, and when they refuse.

use futures::{StreamExt, TryStreamExt};
use kube::{
    api::{WatchEvent, WatchParams},
    runtime::watcher,
};

use super::*;

fn word(event: &WatchEvent<ConfigMap>) -> String {
    match event {
        WatchEvent::Added(o) => format!("added {}", o.metadata.name.as_deref().unwrap()),
        WatchEvent::Modified(o) => format!("modified {}", o.metadata.name.as_deref().unwrap()),
        WatchEvent::Deleted(o) => format!("deleted {}", o.metadata.name.as_deref().unwrap()),
        WatchEvent::Bookmark(_) => "bookmark".into(),
        WatchEvent::Error(status) => format!("error {}", status.code),
    }
}

async fn next(
    maps: &kube::Api<ConfigMap>,
    params: &WatchParams,
    from: &str,
    count: usize,
) -> Vec<String> {
    let stream = maps.watch(params, from).await.unwrap();
    stream
        .take(count)
        .map_ok(|e| word(&e))
        .try_collect()
        .await
        .unwrap()
}

fn labelled(name: &str, value: &str) -> ConfigMap {
    of(json!({"metadata": {"name": name, "labels": {"on": value}}}))
}

#[tokio::test]
async fn a_watch_tells_what_its_selector_sees() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    let from = api.store().version().to_string();
    maps.create(&PostParams::default(), &labelled("a", "yes"))
        .await
        .unwrap();
    maps.create(&PostParams::default(), &labelled("b", "no"))
        .await
        .unwrap();
    let relabel = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"on": value}}}));
    maps.patch("b", &PatchParams::default(), &relabel("yes"))
        .await
        .unwrap();
    maps.patch("a", &PatchParams::default(), &relabel("no"))
        .await
        .unwrap();
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    let told = next(&maps, &WatchParams::default().labels("on=yes"), &from, 4).await;
    assert_eq!(told, ["added a", "added b", "deleted a", "deleted b"]);
    let told = next(
        &maps,
        &WatchParams::default().fields("metadata.name=a"),
        &from,
        2,
    )
    .await;
    assert_eq!(told, ["added a", "modified a"]);
}

#[tokio::test]
async fn a_watch_from_before_the_log_is_gone() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    let from = api.store().version().to_string();
    maps.create(&PostParams::default(), &labelled("a", "yes"))
        .await
        .unwrap();
    api.compact();
    assert_eq!(
        next(&maps, &WatchParams::default(), &from, 1).await,
        ["error 410"]
    );
}

#[tokio::test]
async fn a_streaming_list_marks_its_end() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    maps.create(&PostParams::default(), &labelled("a", "yes"))
        .await
        .unwrap();
    let params = WatchParams {
        send_initial_events: true,
        ..WatchParams::default()
    };
    assert_eq!(
        next(&maps, &params, "", 3).await,
        ["added a", "added kube-root-ca.crt", "bookmark"]
    );

    let config = watcher::Config::default().streaming_lists();
    let mut events = watcher(maps, config).boxed();
    loop {
        if let watcher::Event::InitDone = events.try_next().await.unwrap().unwrap() {
            return;
        }
    }
}

#[tokio::test]
async fn a_watch_ends_when_it_should() {
    let api = api();
    let maps: kube::Api<ConfigMap> = spaced(&api.client(), "default");
    let version = api.store().version().to_string();
    let stream = maps
        .watch(&WatchParams::default().timeout(1), &version)
        .await
        .unwrap();
    assert_eq!(stream.count().await, 0);
    let stream = maps.watch(&WatchParams::default(), &version).await.unwrap();
    api.faults().cut_watches();
    assert_eq!(stream.count().await, 0);
}
