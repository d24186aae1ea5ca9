//! Waiting for a condition: a watch with a deadline and a reason, never a poll.
//!
//! A wait can always be dropped and begun again: it reads the object first, and only then watches.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{Cluster, Error, Ref};

mod condition;
mod watch;
mod why;

pub use condition::{
    Address, crd_established, deployment_available, gone, secret_has_token, service_has_address,
    webhook_has_ca,
};
pub use why::why;

/// How often a stuck Deployment is asked why.
const ASK: Duration = Duration::from_secs(2);

/// When to give up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    end: Instant,
}

impl Deadline {
    /// This long from now.
    pub fn after(limit: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            end: start + limit,
        }
    }

    /// When it ends.
    pub fn end(self) -> Instant {
        self.end
    }

    /// How much is left.
    pub fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    fn limit(self) -> Duration {
        self.end - self.start
    }
}

/// What a condition says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It holds; this is what was waited for.
    Done(T),
    /// Not yet, for this reason.
    NotYet(String),
    /// It cannot hold any more, for this reason.
    Never(String),
}

/// Waits until `condition` holds for an object, which need not be there yet. `on_reason` hears
/// every new reason why it does not.
pub async fn until<T>(
    cluster: &Cluster,
    r: &Ref,
    deadline: Deadline,
    condition: impl Fn(Option<&Value>) -> Verdict<T>,
    mut on_reason: impl FnMut(&str),
) -> Result<T, Error> {
    let mut reason = "not looked at yet".to_owned();
    let mut judge = |object: Option<&Value>| match condition(object) {
        Verdict::Done(value) => Some(Ok(value)),
        Verdict::Never(reason) => Some(Err(Error::NeverReady {
            cluster: cluster.name().clone(),
            object: r.to_string(),
            reason,
        })),
        Verdict::NotYet(why) => {
            if why != reason {
                on_reason(&why);
                reason = why;
            }
            None
        }
    };
    let result = timeout_at(deadline.end, watch::follow(cluster, r, &mut judge)).await;
    result.unwrap_or_else(|_| Err(late(cluster, r, deadline, reason)))
}

/// Waits for a Deployment to be available, and asks its pods and events why while it is not.
pub async fn available(
    cluster: &Cluster,
    r: &Ref,
    deadline: Deadline,
    mut on_reason: impl FnMut(&str),
) -> Result<(), Error> {
    let (said, mut hear) = tokio::sync::mpsc::unbounded_channel::<String>();
    let ready = until(cluster, r, deadline, deployment_available, |reason| {
        _ = said.send(reason.to_owned())
    });
    tokio::pin!(ready);
    let mut ticks = tokio::time::interval_at(Instant::now() + ASK, ASK);
    let (mut plain, mut last) = (String::new(), String::new());
    loop {
        let reason = tokio::select! {
            done = &mut ready => return done.map_err(|error| enrich(error, &last)),
            Some(reason) = hear.recv() => { plain = reason; plain.clone() }
            _ = ticks.tick() => match why(cluster, r).await {
                Ok(Some(cause)) => format!("{plain}: {cause}"),
                _ => continue,
            },
        };
        if reason != last {
            on_reason(&reason);
            last = reason;
        }
    }
}

fn enrich(error: Error, last: &str) -> Error {
    match error {
        Error::NotInTime {
            cluster,
            object,
            waited,
            reason,
        } if last.starts_with(&reason) => Error::NotInTime {
            cluster,
            object,
            waited,
            reason: last.to_owned(),
        },
        other => other,
    }
}

fn late(cluster: &Cluster, r: &Ref, deadline: Deadline, reason: String) -> Error {
    let (cluster, object) = (cluster.name().clone(), r.to_string());
    Error::NotInTime {
        cluster,
        object,
        waited: deadline.limit(),
        reason,
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
            "cluster eks-1: Secret a/reader not ready after 90 s: no token in it yet"
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
