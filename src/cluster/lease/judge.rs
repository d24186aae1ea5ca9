//! Whose a Lease is. Others' clocks are not believed: a Lease is free when it stood still for its whole duration while this
//! machine looked on, by a clock of its own that nobody sets, or when the process that holds it has ended here.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DURATION;
use crate::machine::Process;

/// The annotation that says which process holds the Lease.
const PROCESS: &str = "meshlink/process";
/// So much of a name that others wrote is shown.
const SHOWN: usize = 120;

/// Who takes a Lease: another one in every run, whatever the host is called and the process is numbered.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Who it is for people, such as `ann@laptop (process 7)`.
    who: String,
    run: String,
    process: Option<Process>,
}

/// What the annotation says; it counts for the run that it names alone.
#[derive(Serialize, Deserialize)]
struct Mark {
    run: String,
    process: Process,
}

impl Identity {
    /// Of a run with a random id, in this process if it is known.
    pub(crate) fn new(who: impl Into<String>, run: String, process: Option<Process>) -> Self {
        let who = who.into();
        Self { who, run, process }
    }

    /// As the Lease names it.
    fn text(&self) -> String {
        format!("{} {}", self.who, self.run)
    }

    /// Whether a Lease is this run's.
    pub(super) fn holds(&self, lease: &Value) -> bool {
        lease["spec"]["holderIdentity"].as_str() == Some(&self.text())
    }

    /// Writes this run into a Lease.
    pub(super) fn sign(&self, lease: &mut Value) {
        below(lease, "spec")["holderIdentity"] = json!(self.text());
        erase(lease);
        if let Some(process) = self.process.clone() {
            let run = self.run.clone();
            let mark = json!(Mark { run, process }).to_string();
            below(below(lease, "metadata"), "annotations")[PROCESS] = json!(mark);
        }
    }
}

/// A Lease that is nobody's.
pub(super) fn unsign(lease: &mut Value) {
    below(lease, "spec")["holderIdentity"] = json!("");
    erase(lease);
}

/// A part of an object to write to, whatever an API server has put in its place.
pub(super) fn below<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    let part = &mut value[key];
    if !part.is_object() {
        *part = json!({});
    }
    part
}

fn erase(lease: &mut Value) {
    let annotations = lease.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.remove(PROCESS);
    }
}

/// Who has a Lease. Printed, it is a name that a terminal can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// As the Lease names it.
    pub(crate) identity: String,
    /// Where it is known.
    process: Option<Process>,
    /// Its own id, if it named one.
    run: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.run.as_deref().unwrap_or_default();
        let who = self.identity.strip_suffix(run).unwrap_or(&self.identity);
        let shown: String = who.trim().chars().take(SHOWN).collect();
        f.write_str(&shown)
    }
}

/// Who a Lease names, if anybody.
pub(crate) fn holder(lease: &Value) -> Option<Holder> {
    let identity = lease["spec"]["holderIdentity"].as_str();
    let identity = identity.filter(|text| !text.is_empty())?.to_owned();
    let mark = lease["metadata"]["annotations"][PROCESS].as_str();
    let mark: Option<Mark> = mark.and_then(|text| serde_json::from_str(text).ok());
    let mark = mark.filter(|mark| identity.split(' ').next_back() == Some(&mark.run));
    let (process, run) = mark.map(|mark| (mark.process, mark.run)).unzip();
    Some(Holder {
        identity,
        process,
        run,
    })
}

/// The time, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// How long this machine has been up.
    pub(crate) uptime: Duration,
    /// The time of day. Nothing is decided by it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what a test's wrong rule goes by")
    )]
    pub(crate) wall: Timestamp,
}

/// Somebody's Lease, and since when it has stood still before our eyes.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) holder: Holder,
    /// Changes with every renewal, whatever that writes.
    version: String,
    /// How long it lasts without one.
    pub(crate) duration: Duration,
    /// When it was renewed, by its holder's clock.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what a test's wrong rule goes by")
    )]
    pub(crate) renewed: Option<Timestamp>,
    since: Duration,
}

impl Sighting {
    /// How long it still lasts, if it is not renewed.
    pub(crate) fn left(&self, now: Now) -> Duration {
        let stood = now.uptime.saturating_sub(self.since);
        self.duration.saturating_sub(stood)
    }

    /// It has stood still for as long as it lasts.
    pub(crate) fn ran_out(&self, now: Now) -> bool {
        self.left(now).is_zero()
    }
}

/// The rule by which another's Lease is free.
pub(crate) type Rule = fn(&Sighting, Now) -> bool;

/// What was seen of one Lease so far.
#[derive(Debug, Default)]
pub(crate) struct Watch(Option<Sighting>);

impl Watch {
    /// Looks at the Lease as it is now: whose it is, if it is not free.
    pub(super) fn look(&mut self, lease: &Value, now: Now, rule: Rule) -> Option<Sighting> {
        let Some(holder) = holder(lease) else {
            self.0 = None;
            return None;
        };
        let version = lease["metadata"]["resourceVersion"].as_str();
        let version = version.unwrap_or_default().to_owned();
        let spec = &lease["spec"];
        let seconds = spec["leaseDurationSeconds"].as_u64().filter(|s| *s > 0);
        let renewed = spec["renewTime"].as_str().and_then(|t| t.parse().ok());
        let new = Sighting {
            holder,
            version,
            duration: seconds.map_or(DURATION, Duration::from_secs),
            renewed,
            since: now.uptime,
        };
        let known = self.0.take().filter(|known| known.version == new.version);
        let seen = known.unwrap_or(new);
        self.0 = Some(seen.clone());
        let process = seen.holder.process.as_ref();
        let ended = process.is_some_and(Process::has_ended);
        (!ended && !rule(&seen, now)).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(who: &str, version: u32, renewed: &str) -> Value {
        json!({"metadata": {"resourceVersion": version.to_string()}, "spec":
            {"holderIdentity": who, "leaseDurationSeconds": 30, "renewTime": renewed}})
    }

    fn now(seconds: u64) -> Now {
        Now {
            uptime: Duration::from_secs(seconds),
            wall: Timestamp::UNIX_EPOCH,
        }
    }

    /// For how many seconds more it is another's.
    fn left(watch: &mut Watch, lease: &Value, seconds: u64) -> Option<u64> {
        let seen = watch.look(lease, now(seconds), Sighting::ran_out)?;
        Some(seen.left(now(seconds)).as_secs())
    }

    #[test]
    fn a_lease_is_free_after_it_stood_still_before_our_eyes() {
        let mut watch = Watch::default();
        // Whatever its clock says: it was renewed long ago, or will be in a long time, or that is no time at all.
        for (n, renewed) in [
            "2020-01-01T00:00:00Z",
            "2099-01-01T00:00:00Z",
            "yesterday",
            "",
        ]
        .into_iter()
        .enumerate()
        {
            let (version, t) = (u32::try_from(n).unwrap() + 1, 100 * n as u64);
            let theirs = lease("them", version, renewed);
            assert_eq!(left(&mut watch, &theirs, t), Some(30), "{renewed}");
            assert_eq!(left(&mut watch, &theirs, t + 29), Some(1));
            assert_eq!(left(&mut watch, &theirs, t + 30), None);
        }
        assert_eq!(left(&mut watch, &lease("", 9, ""), 500), None);
        // A renewal begins the wait anew, also by somebody else.
        assert_eq!(left(&mut watch, &lease("them", 10, ""), 600), Some(30));
        assert_eq!(left(&mut watch, &lease("them", 11, ""), 629), Some(30));
        assert_eq!(left(&mut watch, &lease("him", 12, ""), 650), Some(30));
        let mut endless = lease("him", 12, "");
        endless["spec"]["leaseDurationSeconds"] = json!(-5);
        assert_eq!(left(&mut Watch::default(), &endless, 0), Some(30));
    }

    #[test]
    fn a_process_of_this_machine_that_has_ended_holds_nothing() {
        let this = Process::this().unwrap();
        let mut ended = json!(this);
        ended["start"] = json!(1);
        let ended: Process = serde_json::from_value(ended).unwrap();
        for (process, free) in [(Some(this), false), (Some(ended), true), (None, false)] {
            let identity = Identity::new("ann@laptop (process 7)", "5f3a".into(), process);
            let mut lease = lease("", 1, "");
            identity.sign(&mut lease);
            assert_eq!(left(&mut Watch::default(), &lease, 0).is_none(), free);
            // What is written of one run does not count for another.
            lease["spec"]["holderIdentity"] = json!("bob@tower (process 7) 77aa");
            assert_eq!(left(&mut Watch::default(), &lease, 0), Some(30));
        }
    }

    #[test]
    fn people_see_who_it_is() {
        let identity = Identity::new("ann@laptop (process 7)", "5f3a".into(), Process::this());
        let mut lease = lease("", 1, "");
        identity.sign(&mut lease);
        assert_eq!(
            lease["spec"]["holderIdentity"],
            "ann@laptop (process 7) 5f3a"
        );
        assert_eq!(
            holder(&lease).unwrap().to_string(),
            "ann@laptop (process 7)"
        );
        unsign(&mut lease);
        assert!(holder(&lease).is_none() && lease["metadata"]["annotations"] == json!({}));
        lease["spec"]["holderIdentity"] = json!(format!("{}\n", "x".repeat(4000)));
        assert_eq!(holder(&lease).unwrap().to_string(), "x".repeat(SHOWN));
    }
}
