//! Waiting for what an object becomes: by a watch, never a poll.
//!
//! A wait can always be dropped and begun again: it reads the object first, and only then watches.

use std::{future::ready, time::Duration};

use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::time::{Instant, interval_at};

use super::{Cluster, Error, Ref};
use crate::wait::{self, Deadline, On, Progress, Reason, Unmet};

mod condition;
mod watch;
mod why;

pub(crate) use condition::{
    Address, crd_established, deployment_available, gone, secret_has_token, service_has_address,
    webhook_has_ca,
};
pub(crate) use why::why;

/// How often a stuck Deployment is asked why.
const ASK: Duration = Duration::from_secs(2);

/// Waits until `condition` holds for an object, which need not be there yet. `say` hears every new
/// reason why it does not.
pub(crate) async fn until<T>(
    cluster: &Cluster,
    r: &Ref,
    deadline: Deadline,
    condition: impl Fn(Option<&Value>) -> Progress<T>,
    say: impl FnMut(&str),
) -> Result<T, Error> {
    let ask = |state: Result<Option<Value>, Error>| {
        ready(match state {
            Ok(object) => judged(cluster, r, condition(object.as_ref())),
            Err(error) => Progress::Never(error),
        })
    };
    let states = On(watch::states(cluster, r));
    let result = wait::until(ask, states, deadline, say).await;
    result.map_err(|unmet| failed(cluster, r, deadline, unmet))
}

/// What is heard of a Deployment.
enum News {
    /// Another state of it.
    State(Result<Option<Value>, Error>),
    /// What its pods and events say.
    Cause(Option<String>),
}

/// Waits for a Deployment to be available, and asks its pods and events why while it is not.
pub(crate) async fn available(
    cluster: &Cluster,
    r: &Ref,
    deadline: Deadline,
    say: impl FnMut(&str),
) -> Result<(), Error> {
    let states = watch::states(cluster, r).map(News::State);
    let clock = interval_at(Instant::now() + ASK, ASK);
    let causes = stream::unfold(clock, |mut clock| async move {
        clock.tick().await;
        let cause = why(cluster, r).await.unwrap_or_default();
        Some((News::Cause(cause), clock))
    })
    .boxed();
    let (mut reason, mut cause) = (Reason::from("not looked at yet"), None);
    let ask = |news| {
        match news {
            News::State(Err(error)) => return ready(Progress::Never(error)),
            News::State(Ok(object)) => match deployment_available(object.as_ref()) {
                Progress::NotYet(same) if same == reason => {}
                Progress::NotYet(other) => (reason, cause) = (other, None),
                settled => return ready(judged(cluster, r, settled)),
            },
            News::Cause(None) => {}
            News::Cause(found) => cause = found,
        }
        ready(Progress::NotYet(match &cause {
            Some(cause) => format!("{reason}: {cause}").into(),
            None => reason.clone(),
        }))
    };
    let news = On(stream::select(states, causes));
    let result = wait::until(ask, news, deadline, say).await;
    result.map_err(|unmet| failed(cluster, r, deadline, unmet))
}

/// A condition that cannot hold any more, as an error.
fn judged<T>(cluster: &Cluster, r: &Ref, progress: Progress<T>) -> Progress<T, Error> {
    match progress {
        Progress::Done(value) => Progress::Done(value),
        Progress::NotYet(reason) => Progress::NotYet(reason),
        Progress::Never(reason) => Progress::Never(Error::NeverReady {
            cluster: cluster.name().clone(),
            object: Box::new(r.clone()),
            reason,
        }),
    }
}

fn failed(cluster: &Cluster, r: &Ref, deadline: Deadline, unmet: Unmet<Error>) -> Error {
    match unmet {
        Unmet::Never(error) => error,
        Unmet::Late { reason, .. } => Error::NotInTime {
            cluster: cluster.name().clone(),
            object: Box::new(r.clone()),
            waited: deadline.limit(),
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use serde_json::json;

    use super::{
        super::{
            Kind,
            testing::{Reply, cluster},
        },
        *,
    };

    fn list(version: u64, items: Value) -> Reply {
        Reply::json(
            200,
            json!({"metadata": {"resourceVersion": version.to_string()}, "items": items}),
        )
    }

    fn event(kind: &str, version: u64, token: Option<&str>) -> Value {
        let metadata =
            json!({"name": "reader", "namespace": "a", "resourceVersion": version.to_string()});
        let data = token.map(|token| json!({"token": token, "ca.crt": token}));
        json!({"type": kind, "object": {"metadata": metadata, "data": data}})
    }

    fn reader() -> Ref {
        Ref::namespaced(&Kind::SECRET, "a", "reader")
    }

    /// Answers lists and watches in turn from two scripts, and says what was asked.
    async fn run<const L: usize, const W: usize>(
        lists: [fn() -> Reply; L],
        watches: [fn() -> Reply; W],
        limit: Duration,
    ) -> (Result<(), Error>, Vec<String>, Vec<String>) {
        let (listed, watched) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (cluster, log) = cluster(move |seen| {
            let (turn, script) = match seen.uri.contains("watch=1") {
                true => (&watched, &watches[..]),
                false => (&listed, &lists[..]),
            };
            script[turn.fetch_add(1, Relaxed).min(script.len() - 1)]()
        });
        let mut reasons = Vec::new();
        let deadline = Deadline::after(limit);
        let result = until(&cluster, &reader(), deadline, secret_has_token, |reason| {
            reasons.push(reason.to_owned())
        })
        .await;
        let uris = log
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.uri.clone())
            .collect();
        (result, reasons, uris)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn nothing() -> Reply {
        list(5, json!([]))
    }

    #[tokio::test(start_paused = true)]
    async fn what_holds_already_needs_one_request() {
        let there = || list(5, json!([{"data": {"token": "eA==", "ca.crt": "eA=="}}]));
        let (result, reasons, uris) = run([there], [nothing], MINUTE).await;
        result.unwrap();
        assert_eq!((reasons.len(), uris.len()), (0, 1));
        assert_eq!(
            uris[0],
            "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Dreader"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn every_new_reason_is_told_once_until_it_holds() {
        let watch = || {
            let bookmark = event("BOOKMARK", 8, None);
            Reply::events(
                &[
                    event("ADDED", 6, None),
                    event("MODIFIED", 7, None),
                    bookmark,
                    event("MODIFIED", 9, Some("eA==")),
                ],
                true,
            )
        };
        let (result, reasons, uris) = run([nothing], [watch], MINUTE).await;
        result.unwrap();
        assert_eq!(reasons, ["not created yet", "no token in it yet"]);
        assert!(uris[1].contains("resourceVersion=5&"), "{uris:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_watch_goes_on_where_it_was() {
        let (first, second) = (
            || Reply::events(&[event("BOOKMARK", 8, None)], false),
            || Reply::events(&[event("ADDED", 9, Some("x"))], true),
        );
        let (result, _, uris) = run([nothing], [first, second], MINUTE).await;
        result.unwrap();
        assert_eq!(uris.len(), 3, "one list, two watches: {uris:?}");
        assert!(uris[2].contains("resourceVersion=8&"), "{uris:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_or_broken_is_listed_again() {
        let gone = || {
            Reply::events(
                &[json!({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}})],
                false,
            )
        };
        let refused = || Reply::status(410, "Expired");
        let busy = || Reply::status(503, "ServiceUnavailable");
        let good = || Reply::events(&[event("ADDED", 9, Some("x"))], true);
        let (result, _, uris) = run([nothing], [gone, refused, busy, good], MINUTE).await;
        result.unwrap();
        let lists = uris.iter().filter(|uri| !uri.contains("watch")).count();
        assert_eq!((lists, uris.len()), (4, 8), "{uris:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_cut_in_two_is_one_event() {
        let cut = || {
            let mut reply = Reply::events(&[event("ADDED", 9, Some("x"))], true);
            let tail = reply.body[0].split_off(20);
            reply.body.push(tail);
            reply
        };
        run([nothing], [cut], MINUTE).await.0.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_tells_the_last_reason() {
        let silent = || Reply::events(&[event("ADDED", 6, None)], true);
        let (result, ..) = run([nothing], [silent], Duration::from_secs(90)).await;
        let text = result.unwrap_err().to_string();
        assert_eq!(
            text,
            "cluster eks-1: timed out after 90 s waiting for Secret a/reader: no token in it yet"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fell_silent_is_opened_again() {
        let silent = || Reply::events(&[], true);
        let good = || Reply::events(&[event("ADDED", 9, Some("x"))], true);
        let (result, _, uris) = run([nothing], [silent, good], Duration::from_secs(300)).await;
        result.unwrap();
        assert_eq!(uris.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_the_wait() {
        let forbidden = || Reply::status(403, "Forbidden");
        let (result, _, uris) = run([forbidden], [nothing], MINUTE).await;
        assert_eq!(
            result.unwrap_err().to_string(),
            "cluster eks-1: cannot watch Secret a/reader"
        );
        assert_eq!(uris.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_not_served_yet_is_looked_for() {
        let unserved = || Reply::status(404, "NotFound");
        let there = || list(5, json!([{"data": {"token": "eA==", "ca.crt": "eA=="}}]));
        let (result, reasons, _) = run([unserved, unserved, there], [nothing], MINUTE).await;
        result.unwrap();
        assert_eq!(reasons, ["not created yet"]);
    }

    #[tokio::test]
    async fn waits_can_be_spawned() {
        fn sendable<T: Send>(_: T) {}
        let (cluster, _) = cluster(|_| nothing());
        let deadline = || Deadline::after(MINUTE);
        sendable(until(&cluster, &reader(), deadline(), gone, |_| {}));
        sendable(available(&cluster, &reader(), deadline(), |_| {}));
        sendable(cluster.open_port("a", "b", 1));
        sendable(cluster.get("a", "b", 1, "/"));
    }
}
