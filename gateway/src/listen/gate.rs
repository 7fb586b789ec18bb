//! Counts what is inside, so that no more than a limit gets in. The limit is given at each entry, because a reload may
//! change it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts passes.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    inside: AtomicUsize,
    left: Notify,
}

/// One that is inside, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass(Arc<Count>);

impl Gate {
    /// Lets one in, unless `max` are inside.
    pub(super) fn try_enter(&self, max: usize) -> Option<Pass> {
        let pass = self.enter();
        // Itself included. One that has to leave again is gone before anybody was let in for it.
        (self.0.inside.load(Ordering::Acquire) <= max).then_some(pass)
    }

    /// Lets one in, however many there are: what comes from outside has been counted by [`Gate::room`].
    pub(super) fn enter(&self) -> Pass {
        self.0.inside.fetch_add(1, Ordering::AcqRel);
        Pass(Arc::clone(&self.0))
    }

    /// Waits until fewer than `max` are inside.
    pub(super) async fn room(&self, max: impl Fn() -> usize) {
        loop {
            let mut left = pin!(self.0.left.notified());
            // Before the look at the number, so that whoever leaves after it is noticed.
            left.as_mut().enable();
            if self.0.inside.load(Ordering::Acquire) < max() {
                return;
            }
            left.await;
        }
    }

    /// Waits until nobody is inside.
    pub(super) async fn empty(&self) {
        self.room(|| 1).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_gets_in_beyond_the_limit_until_one_has_left() {
        let gate = Gate::default();
        let passes: Vec<_> = (0..3).map(|_| gate.try_enter(3).unwrap()).collect();
        assert!(gate.try_enter(3).is_none());
        assert!(gate.try_enter(4).is_some());
        let mut room = polled_once(gate.room(|| 3)).await;
        drop(passes);
        room.as_mut().await;
        gate.empty().await;
    }

    /// Polls a future once, which must not be ready.
    async fn polled_once<F: Future<Output = ()>>(future: F) -> std::pin::Pin<Box<F>> {
        let mut future = Box::pin(future);
        std::future::poll_fn(|cx| {
            assert!(future.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        future
    }
}
