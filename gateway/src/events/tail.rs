//! Following along: a reader gets every event from now on, or is told how many it was too slow for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::TAIL_MAX;
use super::event::Event;

/// One reader. It costs the others nothing however slow it is.
#[derive(Debug)]
pub struct Tail {
    receiver: Receiver<Arc<Event>>,
    missed: Arc<AtomicU64>,
    place: Place,
}

/// Kept by whoever has not brought everything to its reader yet: the gateway waits for that a moment at its end.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whether there are no more events.
    ended: watch::Receiver<bool>,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tailed {
    /// An event.
    Event(Arc<Event>),
    /// So many were lost, because the reader was behind by more than [`TAIL_MAX`](super::TAIL_MAX).
    Missed(u64),
}

impl Drop for Tail {
    /// What it has lost and does not live to be told counts, too. What it could still have had does not: it has gone.
    fn drop(&mut self) {
        let lost = self.receiver.len().saturating_sub(TAIL_MAX);
        self.missed.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

impl Tail {
    /// Counts in `missed` what it is too slow for, and ends when `ended` says so.
    pub(super) fn new(receiver: Receiver<Arc<Event>>, missed: Arc<AtomicU64>, ended: watch::Receiver<bool>) -> Self {
        Self { receiver, missed, place: Place { ended } }
    }

    /// Its place, for whoever passes on what comes out of it.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// The next one; `None` when there are no more, because the gateway ends. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Tailed> {
        let received = tokio::select! {
            // What was published before the end is told.
            biased;
            received = self.receiver.recv() => received,
            _ = self.place.ended.wait_for(|ended| *ended) => return None,
        };
        match received {
            Ok(event) => Some(Tailed::Event(event)),
            Err(RecvError::Lagged(count)) => {
                self.missed.fetch_add(count, Ordering::Relaxed);
                Some(Tailed::Missed(count))
            }
            Err(RecvError::Closed) => None,
        }
    }
}
