//! The checks, by what they look at: each a pure function over a view.

pub(super) mod before;
pub(super) mod control;
pub(super) mod exposure;
pub(super) mod gateway;
pub(super) mod identity;
pub(super) mod network;
pub(super) mod policy;
pub(super) mod remote;
pub(super) mod services;
pub(super) mod trust;
pub(super) mod workloads;

/// The first few of many, and how many more there are.
fn some<T: AsRef<str>>(all: &[T]) -> String {
    const FEW: usize = 3;
    let shown = all.iter().take(FEW).map(AsRef::as_ref);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
