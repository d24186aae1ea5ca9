//! The catalogue of the checks, as `docs/checks.md` has it.
