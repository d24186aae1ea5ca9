//! Where events go: the journal first, then everybody who listens.

use std::sync::{Arc, Mutex};

use super::{
    Clock,
    error::causes,
    event::{Event, Kind},
    journal::Journal,
};

use crate::mutex;

/// Somebody who wants to know what happens, as it happens.
pub trait Sink: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Sink for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// Writes events down and hands them on.
pub(crate) struct Recorder {
    journal: Mutex<Option<Journal>>,
    /// Why the journal is not whole.
    trouble: Mutex<Option<String>>,
    sinks: Vec<Arc<dyn Sink>>,
    clock: Clock,
    run: String,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder for one run. Without a journal, nothing outlives the process.
    pub(crate) fn new(
        run: String,
        clock: Clock,
        journal: Option<Journal>,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> Self {
        Self {
            journal: Mutex::new(journal),
            trouble: Mutex::default(),
            sinks,
            clock,
            run,
        }
    }

    /// Records an event. What lasts is written down before anybody hears of it. A journal that cannot be written is
    /// given up: nothing is decided from it, and what a run has begun it must be able to end.
    pub(crate) fn record(&self, kind: Kind) {
        let event = Event {
            at: (self.clock)(),
            run: self.run.clone(),
            kind,
        };
        if event.kind.is_lasting() {
            let mut journal = mutex::lock(&self.journal);
            if let Some(Err(error)) = journal.as_mut().map(|journal| journal.append(&event)) {
                *journal = None;
                *mutex::lock(&self.trouble) = Some(causes(&error).join(": "));
            }
        }
        self.sinks.iter().for_each(|sink| sink.event(&event));
    }

    /// Why the journal does not hold all of it.
    pub(crate) fn trouble(&self) -> Option<String> {
        mutex::lock(&self.trouble).clone()
    }
}
