//! What one rendering may use.

/// The most steps a rendering may take.
const STEPS: u64 = 20_000_000;
/// The most bytes it may produce, intermediate text included.
const BYTES: u64 = 1 << 30;
/// How deep templates, blocks and parentheses may nest.
const CALLS: usize = 6_000;

/// Counts what a rendering uses, so that every template comes to an end.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u64,
    bytes: u64,
    calls: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            steps: STEPS,
            bytes: BYTES,
            calls: 0,
        }
    }
}

impl Budget {
    pub(super) fn step(&mut self, steps: u64) -> Result<(), String> {
        self.steps = self.steps.saturating_sub(steps);
        if self.steps == 0 {
            Err(format!("the chart takes more than {STEPS} steps"))
        } else {
            Ok(())
        }
    }

    pub(super) fn produce(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        if self.bytes == 0 {
            Err(format!("the chart produces more than {BYTES} bytes"))
        } else {
            Ok(())
        }
    }

    pub(super) fn enter(&mut self) -> Result<(), String> {
        self.calls += 1;
        if self.calls > CALLS {
            Err(format!(
                "templates call each other more than {CALLS} levels deep"
            ))
        } else {
            Ok(())
        }
    }

    pub(super) fn leave(&mut self) {
        self.calls -= 1;
    }
}
