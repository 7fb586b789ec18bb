//! The question to an agent whether it still answers, and who waits for the answer.

use std::time::Instant;

use tokio::sync::oneshot;

use adit::mux::Key;

/// What to expect of an agent that was asked whether it still answers.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Its link is gone, or about to be.
    Gone,
    /// Told when the answer has come; dropped when the link is gone. The moment is when it was asked first.
    Since(Instant, oneshot::Receiver<()>),
    /// Too many wait for its answer already.
    Busy,
}

/// A question that has not been answered yet. Dropping it tells those who wait that there will be no answer.
pub(super) struct Probe {
    pub(super) key: Key,
    since: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Probe {
    /// The beat on this stream has been sent.
    pub(super) fn new(key: Key, now: Instant) -> Self {
        Self { key, since: now, waiting: Vec::new() }
    }

    /// One more waits for the answer.
    pub(super) fn join(&mut self) -> Asked {
        self.waiting.retain(|waiting| !waiting.is_closed());
        if self.waiting.len() >= WAITING_MAX {
            return Asked::Busy;
        }
        let (answered, answer) = oneshot::channel();
        self.waiting.push(answered);
        Asked::Since(self.since, answer)
    }

    /// The agent has answered.
    pub(super) fn answered(self) {
        for waiting in self.waiting {
            // Whoever has given up waiting need not know.
            let _ = waiting.send(());
        }
    }
}

/// Connections that wait for the answer of one agent: more are no boxes of one image, but somebody who tries.
const WAITING_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use adit::mux::{Limits, Mux, Side};

    #[test]
    fn only_so_many_wait_and_those_who_have_left_make_room() {
        let (key, now) = (Mux::new(Side::Gateway, Limits::default()).open(b"type").unwrap(), Instant::now());
        let mut probe = Probe::new(key, now);
        let mut joined: Vec<_> = (0..WAITING_MAX).map(|_| probe.join()).collect();
        assert!(matches!(probe.join(), Asked::Busy));
        joined.pop();
        let Asked::Since(since, mut answer) = probe.join() else { panic!("busy") };
        assert_eq!(since, now);
        assert!(answer.try_recv().is_err());
        probe.answered();
        assert_eq!(answer.try_recv(), Ok(()));
    }
}
