//! What can go wrong with a call.

use std::time::{Duration, SystemTime};

/// A fault, for the calls it is meant for.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The calls: a prefix of `service:Action`; empty means all.
    pub action: String,
    /// What happens.
    pub kind: Kind,
    /// How often still; `None` is always.
    pub times: Option<u32>,
    /// Until when; `None` is for ever.
    pub until: Option<SystemTime>,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// The answer comes this much later.
    Slow(Duration),
    /// The connection closes in the middle of the answer.
    Cut,
    /// The answer ends in the middle, though the connection says it is whole.
    Garbled,
    /// Throttled, whatever the bucket holds.
    Throttled,
    /// An error: status, code, message.
    Error(u16, &'static str, &'static str),
}

impl Fault {
    /// A fault for as long as the emulator runs.
    pub(crate) fn always(action: &str, kind: Kind) -> Self {
        Self {
            action: action.into(),
            kind,
            times: None,
            until: None,
        }
    }

    /// A fault for the next calls.
    pub fn times(action: &str, kind: Kind, times: u32) -> Self {
        Self {
            times: Some(times),
            ..Self::always(action, kind)
        }
    }

    /// A fault until a time.
    pub fn until(action: &str, kind: Kind, until: SystemTime) -> Self {
        Self {
            until: Some(until),
            ..Self::always(action, kind)
        }
    }
}

/// Take the first fault that is due for a call.
pub(super) fn due(faults: &mut Vec<Fault>, action: &str, now: SystemTime) -> Option<Kind> {
    faults.retain(|f| f.times != Some(0) && f.until.is_none_or(|until| now < until));
    let fault = faults.iter_mut().find(|f| action.starts_with(&f.action))?;
    fault.times = fault.times.map(|left| left - 1);
    Some(fault.kind.clone())
}
