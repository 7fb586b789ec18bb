//! Following along: a reader gets every event from now on, or is told how many it was too slow for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::event::Event;

/// One reader. It costs the others nothing however slow it is.
#[derive(Debug)]
pub struct Tail {
    receiver: Receiver<Arc<Event>>,
    missed: Arc<AtomicU64>,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tailed {
    /// An event.
    Event(Arc<Event>),
    /// So many were lost, because the reader was behind by more than [`TAIL_MAX`](super::TAIL_MAX).
    Missed(u64),
}

impl Tail {
    /// Counts in `missed` what it is too slow for.
    pub(super) fn new(receiver: Receiver<Arc<Event>>, missed: Arc<AtomicU64>) -> Self {
        Self { receiver, missed }
    }

    /// The next one; `None` when there are no more, because the gateway ends. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Tailed> {
        match self.receiver.recv().await {
            Ok(event) => Some(Tailed::Event(event)),
            Err(RecvError::Lagged(count)) => {
                self.missed.fetch_add(count, Ordering::Relaxed);
                Some(Tailed::Missed(count))
            }
            Err(RecvError::Closed) => None,
        }
    }
}
