//! What one rendering may use.
//!
//! Whatever takes longer the larger a value is pays for its size here, before it is done: a small template can make
//! large values, and hold them in each other so often that no memory would hold what they look like spelled out.

use std::cell::Cell;

/// The most steps a rendering may take. Fewer where that is tried, so that what pays too little shows as slow.
const STEPS: u64 = if cfg!(any(test, fuzzing)) {
    1_000_000
} else {
    20_000_000
};
/// The most bytes it may produce, intermediate text and values included.
const BYTES: u64 = 1 << if cfg!(any(test, fuzzing)) { 28 } else { 30 };
/// How deep templates, blocks and parentheses may nest.
const CALLS: usize = 6_000;
/// What a value costs in bytes, beside the text in it.
const VALUE: usize = 64;
/// How many bytes are looked at, and how many values are copied, in the time of a step.
const BYTES_A_STEP: usize = 64;
const VALUES_A_STEP: usize = 8;

/// Counts what a rendering uses, so that every template comes to an end.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    calls: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            steps: Cell::new(STEPS),
            bytes: Cell::new(BYTES),
            calls: Cell::new(0),
        }
    }
}

impl Budget {
    pub(crate) fn step(&self, steps: usize) -> Result<(), String> {
        self.steps
            .set(self.steps.get().saturating_sub(steps as u64));
        if self.steps.get() == 0 {
            Err(format!("the chart takes more than {STEPS} steps"))
        } else {
            Ok(())
        }
    }

    pub(crate) fn produce(&self, bytes: usize) -> Result<(), String> {
        self.bytes
            .set(self.bytes.get().saturating_sub(bytes as u64));
        if self.bytes.get() == 0 {
            Err(format!("the chart produces more than {BYTES} bytes"))
        } else {
            Ok(())
        }
    }

    /// Text of so many bytes is looked at.
    pub(crate) fn scan(&self, bytes: usize) -> Result<(), String> {
        self.step(bytes / BYTES_A_STEP)
    }

    /// So many values of a list or a map are looked at, or handed on.
    pub(crate) fn pass(&self, values: usize) -> Result<(), String> {
        self.step(values / VALUES_A_STEP)
    }

    /// So many values are made.
    pub(crate) fn make(&self, values: usize) -> Result<(), String> {
        self.pass(values)?;
        self.produce(values.saturating_mul(VALUE))
    }

    /// A value is met on a walk through all that is in another: its text is copied, and at most written so far in.
    pub(crate) fn visit(&self, text: usize, depth: usize) -> Result<(), String> {
        self.step(1)?;
        self.produce(text.saturating_add(VALUE + 2 * depth))
    }

    pub(super) fn enter(&self) -> Result<(), String> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() > CALLS {
            Err(format!(
                "templates call each other more than {CALLS} levels deep"
            ))
        } else {
            Ok(())
        }
    }

    pub(super) fn leave(&self) {
        self.calls.set(self.calls.get().saturating_sub(1));
    }
}
