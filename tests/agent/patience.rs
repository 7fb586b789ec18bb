//! State that threads change and tests wait for: until a condition holds, and never for ever.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A value and the news that it changed.
#[derive(Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    /// Changes the value, or only looks at it.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
        result
    }

    /// Waits until `pick` finds something.
    pub(crate) fn wait<R>(&self, what: &str, pick: impl FnMut(&mut T) -> Option<R>) -> R {
        self.wait_within(PATIENCE, pick).unwrap_or_else(|| panic!("waited in vain for {what}"))
    }

    /// Waits until `pick` finds something, or the time is over.
    pub(crate) fn wait_within<R>(&self, time: Duration, mut pick: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + time;
        let mut value: MutexGuard<'_, T> = self.value.lock().unwrap();
        loop {
            if let Some(found) = pick(&mut value) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            value = self.changed.wait_timeout(value, left).unwrap().0;
        }
    }
}

/// Longer than any wait that ends well, on a machine that is busy with other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
