//! Work on a disk, which may not answer.

use std::future::pending;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// At most one piece of work on a thread of its own, for which nobody waits but in a `select`.
#[derive(Debug)]
pub(super) struct Pending<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> Pending<T> {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Begins. Nobody learns any more what comes of a piece of work that is under way.
    pub(super) fn begin(&mut self, work: impl FnOnce() -> T + Send + 'static) {
        self.0 = Some(spawn_blocking(work));
    }

    /// Nobody learns what comes of the work.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// Waits for the end of the work, and for ever when there is none. Nothing is lost when it is dropped before that.
    pub(super) async fn done(&mut self) -> Result<T, JoinError> {
        let Some(work) = &mut self.0 else { return pending().await };
        let done = work.await;
        self.0 = None;
        done
    }
}
