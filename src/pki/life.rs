//! How far something that ends is through its life.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAY: i64 = 24 * 3600;
/// What is assumed of something whose beginning is not known.
const YEAR: i64 = 365 * DAY;

/// From when until when something is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Its first second, where that is known.
    pub since: Option<Timestamp>,
    /// Its last second.
    pub until: Timestamp,
}

/// How far something is through its life, by what is left of it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// More than a third is left.
    #[default]
    Fine,
    /// A third is left, or less: whatever can renew it plans to.
    Due,
    /// 30 days are left, or a sixth where that is less: somebody has to know.
    Warning,
    /// 7 days are left, or a twenty-fourth where that is less.
    Failing,
    /// It has ended.
    Ended,
}

impl State {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Due => "due",
            Self::Warning => "warning",
            Self::Failing => "failing",
            Self::Ended => "ended",
        }
    }
}

impl Life {
    /// Of which the beginning is known.
    pub(crate) fn new(since: Timestamp, until: Timestamp) -> Self {
        Self {
            since: Some(since),
            until,
        }
    }

    /// How long it lasts as a whole, in seconds.
    fn length(&self) -> i64 {
        let known = self.since.map(|s| self.until.as_second() - s.as_second());
        known.unwrap_or(YEAR).max(0)
    }

    /// What is left of it; negative once it has ended.
    pub(crate) fn left(&self, now: Timestamp) -> SignedDuration {
        SignedDuration::from_secs(self.until.as_second() - now.as_second())
    }

    /// How far it is.
    pub(crate) fn state(&self, now: Timestamp) -> State {
        let (left, whole) = (self.left(now).as_secs(), self.length());
        match () {
            () if left <= 0 => State::Ended,
            () if left <= (whole / 24).min(7 * DAY) => State::Failing,
            () if left <= (whole / 6).min(30 * DAY) => State::Warning,
            () if left <= whole / 3 => State::Due,
            () => State::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: the length of a life, and what is left of it in its last second of each state.
    #[test]
    fn every_state_ends_where_the_next_begins() {
        const HOUR: i64 = 3600;
        for (length, due, warning, failing) in [
            (3650 * DAY, 3650 * DAY / 3, 30 * DAY, 7 * DAY),
            (365 * DAY, 365 * DAY / 3, 30 * DAY, 7 * DAY),
            (180 * DAY, 60 * DAY, 30 * DAY, 7 * DAY),
            (168 * DAY, 56 * DAY, 28 * DAY, 7 * DAY),
            (90 * DAY, 30 * DAY, 15 * DAY, 90 * DAY / 24),
            (24 * HOUR, 8 * HOUR, 4 * HOUR, HOUR),
            (24 * 60, 8 * 60, 4 * 60, 60),
        ] {
            let since = Timestamp::from_second(1_700_000_000).unwrap();
            let until = Timestamp::from_second(since.as_second() + length).unwrap();
            let life = Life::new(since, until);
            let state = |left: i64| {
                let now = Timestamp::from_second(until.as_second() - left).unwrap();
                life.state(now)
            };
            for (left, before, from) in [
                (due, State::Fine, State::Due),
                (warning, State::Due, State::Warning),
                (failing, State::Warning, State::Failing),
                (0, State::Failing, State::Ended),
            ] {
                assert_eq!(state(left + 1), before, "{length}: {left} and a second");
                assert_eq!(state(left), from, "{length}: {left}");
            }
            assert_eq!(state(-10_000 * DAY), State::Ended);
            // Before it has begun nothing of it is used up.
            assert_eq!(state(length + DAY), State::Fine);
        }
    }

    #[test]
    fn of_unknown_beginning_it_counts_as_a_year() {
        let until = Timestamp::from_second(1_700_000_000).unwrap();
        let life = Life { since: None, until };
        let state = |left: i64| {
            let now = Timestamp::from_second(until.as_second() - left).unwrap();
            life.state(now)
        };
        assert_eq!(state(YEAR / 3 + 1), State::Fine);
        assert_eq!(state(YEAR / 3), State::Due);
        assert_eq!(state(30 * DAY), State::Warning);
        assert_eq!(state(7 * DAY), State::Failing);
        assert_eq!(state(0), State::Ended);
    }
}
