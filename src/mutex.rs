//! What a mutex holds, whoever panicked while holding it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Nothing here leaves what it holds half changed, so what is there is as good as it was.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
