//! How long things take in the embedded clusters.
//!
//! Every actor asks the [`Timeline`] before it lets something become true, so one set of actors
//! serves both quick tests (everything at once, still in the right order) and a believable try-out.

use std::time::Duration;

/// How long each step of the embedded world takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// From a pod's creation to its node and address.
    pub schedule: Duration,
    /// Pulling images and starting the containers.
    pub start: Duration,
    /// From istiod's start to its `/ready`.
    pub istiod: Duration,
    /// How many periods of its readiness probe a pod misses before it is seen to be ready.
    pub missed_probes: u32,
    /// From a load balancer's creation to `active`.
    pub balancer: Duration,
    /// From a load balancer's creation to its name resolving.
    pub name: Duration,
    /// From a target's registration to its first health check.
    pub register: Duration,
    /// Health checks in a row before a target counts as healthy or not.
    pub health: Duration,
    /// From a Service's deletion to the end of its load balancer.
    pub release: Duration,
    /// How late the kubelet projects a changed Secret or ConfigMap into running pods.
    pub projection: Duration,
    /// From a change istiod has seen to the proxies holding it.
    pub push: Duration,
    /// How long istiod waits for a remote cluster before it says `timeout`.
    pub remote_timeout: Duration,
    /// Between istiod's tries to list in a remote cluster.
    pub remote_retry: Duration,
    /// How long a watch lives before it is opened again; only then is a dead token noticed.
    pub watch: Duration,
    /// Before istiod asks again for a gateway name it could not resolve.
    pub resolve_retry: Duration,
    /// Until a connection to an address where nothing answers is given up.
    pub connect: Duration,
}

impl Timeline {
    /// Everything at once, in the right order. Only what is a time-out by nature still takes time.
    pub fn instant() -> Self {
        let zero = Duration::ZERO;
        Self {
            schedule: zero,
            start: zero,
            istiod: zero,
            missed_probes: 0,
            balancer: zero,
            name: zero,
            register: zero,
            health: zero,
            release: zero,
            projection: zero,
            push: zero,
            remote_timeout: Duration::from_secs(2),
            remote_retry: Duration::from_millis(200),
            watch: Duration::from_secs(20),
            resolve_retry: Duration::from_millis(100),
            connect: Duration::from_millis(300),
        }
    }

    /// What was measured on real clusters, with the load balancer's minutes as its makers give them.
    pub fn realistic() -> Self {
        let seconds = Duration::from_secs;
        Self {
            schedule: Duration::from_millis(200),
            start: seconds(4),
            istiod: seconds(4),
            missed_probes: 1,
            balancer: seconds(120),
            name: seconds(45),
            register: seconds(100),
            health: seconds(30),
            release: seconds(15),
            projection: seconds(60),
            push: Duration::from_millis(200),
            remote_timeout: seconds(30),
            remote_retry: seconds(2),
            watch: seconds(290),
            resolve_retry: seconds(30),
            connect: seconds(5),
        }
    }

    /// The same order at another speed: `0.1` is ten times as fast.
    #[cfg(test)]
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        let s = |d: Duration| d.mul_f64(factor.max(0.0));
        Self {
            schedule: s(self.schedule),
            start: s(self.start),
            istiod: s(self.istiod),
            missed_probes: self.missed_probes,
            balancer: s(self.balancer),
            name: s(self.name),
            register: s(self.register),
            health: s(self.health),
            release: s(self.release),
            projection: s(self.projection),
            push: s(self.push),
            remote_timeout: s(self.remote_timeout),
            remote_retry: s(self.remote_retry),
            watch: s(self.watch),
            resolve_retry: s(self.resolve_retry),
            connect: s(self.connect),
        }
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::instant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_keeps_the_order() {
        let slow = Timeline::realistic();
        let fast = slow.scaled(0.01);
        assert!(fast.name < fast.balancer && fast.balancer < slow.balancer);
        assert_eq!(slow.scaled(1.0), slow);
    }
}
