//! Deadlines of many slots, the nearest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Wakes slots at their deadlines. A slot asks again what is due: an entry that is out of date costs one look.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    /// Wakes `slot` at `at`.
    pub(crate) fn add(&mut self, at: Instant, slot: usize) {
        self.heap.push(Reverse((at, slot)));
    }

    /// The nearest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A slot whose deadline has come, until there is none.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let Reverse((at, slot)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn slots_come_in_the_order_of_their_deadlines() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        timers.add(now + Duration::from_secs(2), 7);
        timers.add(now + Duration::from_secs(1), 8);
        assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
        assert_eq!(timers.pop_due(now), None);
        let later = now + Duration::from_secs(3);
        assert_eq!([timers.pop_due(later), timers.pop_due(later), timers.pop_due(later)], [Some(8), Some(7), None]);
    }
}
