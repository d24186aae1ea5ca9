//! Places where a test may kill the process or hold it up, around every effect.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// Where the process dies, if anywhere: `install-cacerts/eks-1:before`, `…:after`, `…:journalled`; of several places,
/// with commas between them, at the one that it passes first. `…:before@10` waits there for ten seconds instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Crash(Vec<String>);

impl Crash {
    /// Dies at these places. Does nothing unless built with the `crashpoints` feature.
    pub(crate) fn at(places: Option<String>) -> Self {
        let places = places.filter(|_| cfg!(feature = "crashpoints"));
        let places = places.as_deref().unwrap_or_default().split(',');
        Self(places.map(str::to_owned).collect())
    }

    /// Passes a place. No destructor runs and nothing is flushed if this is where it ends. Dying of a
    /// bug is asked for as `install-cacerts/eks-1:bug`.
    #[expect(clippy::panic, reason = "a test asks for it")]
    #[expect(
        clippy::print_stderr,
        reason = "a test that named several places is told which it was"
    )]
    pub(super) async fn pass(&self, step: &str, moment: &str) {
        let is_wanted = |moment: &str| self.0.contains(&format!("{step}:{moment}"));
        let held = format!("{step}:{moment}@");
        let held = self.0.iter().find_map(|place| place.strip_prefix(&held));
        if let Some(seconds) = held.and_then(|seconds| seconds.parse().ok()) {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        if is_wanted(moment) {
            eprintln!("killed at {step}:{moment}");
            // As a machine that runs out of memory does it; nothing comes after.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
        if moment == "before" && is_wanted("bug") {
            panic!("a bug that a test asked for, with a canary in it");
        }
    }
}
