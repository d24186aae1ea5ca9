//! Everything that is tested through the binary, and what is asked of the repository itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests and what they are made with may stop at anything odd"
)]

#[cfg(test)]
#[cfg(feature = "sandbox")]
mod adopt;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod again;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod authority;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod aws;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod bundle;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod caution;
#[cfg(test)]
mod chart;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod chart_lock;
#[cfg(test)]
mod cli;
#[cfg(test)]
#[cfg(all(feature = "sandbox", feature = "crashpoints"))]
mod crash;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod dead;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod doctor;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod embedded;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod ends;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod faults;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod green;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod guide;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod hostile;
#[cfg(test)]
mod house;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod interrupt;
#[cfg(test)]
mod join;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod json;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod kubeconfig;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod lease;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod leave;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod one_root;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod ownership;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod ownership_matrix;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod peers;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod plan;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod readers;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod render;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod rotate;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod secrets;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod service;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod shown;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod silent;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod terminal;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod traffic;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod update;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod verbose;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod verify;
mod workloads;
