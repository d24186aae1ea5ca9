//! The room as a whole, against the emulated AWS.

mod cloud;
mod controller;
mod embedded;
pub(super) mod kit;
mod token;
