//! Where events go: the journal first, then everybody who listens.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Clock,
    event::{Event, Kind},
    journal::{self, Journal},
};

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
    journal: Option<Mutex<Journal>>,
    sinks: Vec<Arc<dyn Sink>>,
    seen: Mutex<Vec<Event>>,
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
            journal: journal.map(Mutex::new),
            sinks,
            seen: Mutex::default(),
            clock,
            run,
        }
    }

    /// Records an event. What lasts rests on the disk before anybody hears of it.
    pub(crate) fn record(&self, kind: Kind) -> Result<(), journal::Error> {
        let event = Event {
            at: (self.clock)(),
            run: self.run.clone(),
            kind,
        };
        if let Some(journal) = self.journal.as_ref().filter(|_| event.kind.is_lasting()) {
            journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&event)?;
        }
        self.sinks.iter().for_each(|sink| sink.event(&event));
        if event.kind.is_lasting() {
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(event);
        }
        Ok(())
    }

    /// What lasts of this run so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
