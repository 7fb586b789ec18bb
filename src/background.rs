//! Threads beside the loop, for what may block, and the way of their results to the loop. Standing here once and without
//! generic closures and channels, they cost a router a few KiB less of code.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Starts a thread.
///
/// # Errors
/// The system refuses to start one.
pub(crate) fn spawn(name: &str, stack_bytes: usize, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(run)
}

/// Takes results from threads to the loop. It holds as many as threads put in: one each.
#[derive(Debug)]
pub(crate) struct Mailbox<T>(Arc<Mutex<VecDeque<T>>>);

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn put(&self, result: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(result);
    }

    /// The oldest result.
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether nobody else can put in anything any more. What was put in is still there.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_of_a_thread_arrives_and_its_end_is_seen() {
        let mailbox = Mailbox::new();
        assert!(mailbox.is_last() && mailbox.take().is_none());
        let other = mailbox.clone();
        assert!(!mailbox.is_last());
        let run = move || (7..9).for_each(|result| other.put(result));
        let thread = spawn("test", 64 * 1024, Box::new(run)).unwrap();
        thread.join().unwrap();
        assert!(mailbox.is_last());
        assert_eq!([mailbox.take(), mailbox.take(), mailbox.take()], [Some(7), Some(8), None]);
    }
}
