//! How often the server was asked, and for what.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

const FORWARD: &str = "pods/portforward";

/// Requests by client, verb and resource since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    by: BTreeMap<(String, String, String), u64>,
}

impl Counts {
    fn sum(&self, wanted: impl Fn(&str, &str) -> bool) -> u64 {
        self.by
            .iter()
            .filter(|((_, verb, resource), _)| wanted(verb, resource))
            .map(|(_, n)| n)
            .sum()
    }

    /// Requests with a verb on a resource such as `pods`, `serviceaccounts/token` or `deployments.apps`.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn of(&self, verb: &str, resource: &str) -> u64 {
        self.sum(|v, r| v == verb && r == resource)
    }

    /// Only what clients asked that call themselves so, such as `meshlink/`.
    #[must_use]
    pub fn of_agent(&self, prefix: &str) -> Self {
        let theirs = self
            .by
            .iter()
            .filter(|((agent, ..), _)| agent.starts_with(prefix));
        Self {
            by: theirs.map(|(asked, n)| (asked.clone(), *n)).collect(),
        }
    }

    /// What was asked since an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let new = |(asked, n): (&(String, String, String), &u64)| {
            let more = n - earlier.by.get(asked).copied().unwrap_or(0).min(*n);
            (more > 0).then(|| (asked.clone(), more))
        };
        Self {
            by: self.by.iter().filter_map(new).collect(),
        }
    }

    /// Every request.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.sum(|_, _| true)
    }

    /// Gets and lists; a port that is forwarded is no read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.sum(|verb, resource| matches!(verb, "get" | "list") && resource != FORWARD)
    }

    /// Ports forwarded, however they were asked for.
    #[must_use]
    pub fn forwards(&self) -> u64 {
        self.sum(|_, resource| resource == FORWARD)
    }

    /// Writes of objects; neither reviews nor requests for tokens.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.sum(|verb, resource| changes(verb) && !asks(resource))
    }

    /// Reviews of access and of tokens.
    #[must_use]
    pub fn reviews(&self) -> u64 {
        self.sum(|_, resource| resource.contains("reviews."))
    }

    /// Requests for tokens.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn token_requests(&self) -> u64 {
        self.of("create", "serviceaccounts/token")
    }

    /// Watches begun.
    #[must_use]
    pub fn watches(&self) -> u64 {
        self.sum(|verb, _| verb == "watch")
    }

    /// Every verb and resource asked for, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.by
            .iter()
            .map(|((_, verb, resource), n)| (verb.as_str(), resource.as_str(), *n))
    }
}

fn changes(verb: &str) -> bool {
    matches!(
        verb,
        "create" | "update" | "patch" | "delete" | "deletecollection"
    )
}

fn asks(resource: &str) -> bool {
    resource.contains("reviews.") || resource == "serviceaccounts/token" || resource == FORWARD
}

#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Counts>);

impl Counters {
    pub(crate) fn count(&self, agent: &str, verb: &str, resource: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts
            .by
            .entry((agent.to_owned(), verb.to_owned(), resource.to_owned()))
            .or_default() += 1;
    }

    pub(crate) fn now(&self) -> Counts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Counts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_and_tokens_are_no_writes() {
        let counters = Counters::default();
        counters.count(
            "a/1",
            "create",
            "selfsubjectaccessreviews.authorization.k8s.io",
        );
        counters.count("a/1", "create", "serviceaccounts/token");
        counters.count("a/1", "patch", "secrets");
        counters.count("a/1", "list", "pods");
        counters.count("a/1", "watch", "pods");
        let counts = counters.now();
        assert_eq!(
            (counts.writes(), counts.reviews(), counts.token_requests()),
            (1, 1, 1)
        );
        assert_eq!(
            (counts.reads(), counts.watches(), counts.total()),
            (1, 1, 5)
        );
        counters.count("b/1", "get", "pods/portforward");
        let (now, earlier) = (counters.now(), counts);
        assert_eq!(
            (now.of_agent("b/").total(), now.of_agent("a/").total()),
            (1, 5)
        );
        let new = now.since(&earlier);
        assert_eq!((new.total(), new.reads(), new.forwards()), (1, 0, 1));
        counters.reset();
        assert_eq!(counters.now().total(), 0);
    }
}
