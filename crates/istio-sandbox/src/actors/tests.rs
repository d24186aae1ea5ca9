//! The embedded mesh against what was measured on a real one.

mod faults;
mod kit;
mod mesh;
mod remotes;
mod trust;
