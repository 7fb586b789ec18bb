//! Credit in both directions, with arithmetic that a peer cannot overflow.

use std::time::{Duration, Instant};

use super::limits::WINDOW;
use crate::frame::INCREMENT_MAX;

/// What we may still send.
#[derive(Debug, Default)]
pub(super) struct SendWindow {
    credit: u32,
}

impl SendWindow {
    pub(super) fn new(credit: u32) -> Self {
        Self { credit }
    }

    /// Bytes that may be sent now.
    pub(super) fn credit(&self) -> usize {
        usize::try_from(self.credit).unwrap_or(usize::MAX)
    }

    /// Adds what the peer granted. Held at 31 bits however often it grants: no honest peer needs more.
    pub(super) fn grant(&mut self, increment: u32) {
        self.credit = self.credit.saturating_add(increment).min(INCREMENT_MAX);
    }

    /// Takes `len` bytes off; `len` is at most [`Self::credit`].
    pub(super) fn spend(&mut self, len: usize) {
        debug_assert!(len <= self.credit());
        self.credit = self.credit.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
    }
}

/// What the peer may still send, and what we owe it.
///
/// A window that shrinks takes nothing back that was granted: so much of what is consumed is not granted again.
///
/// Invariant: `allowance + unread + due` is `window + excess`, where `unread` is what the stream's queue holds.
#[derive(Debug, Default)]
pub(super) struct RecvWindow {
    allowance: u32,
    due: u32,
    window: u32,
    /// Granted beyond the window, and not granted again once consumed.
    excess: u32,
    /// What the window began with, and shrinks to.
    base: u32,
    /// Bytes consumed since `since`.
    moved: u32,
    since: Option<Instant>,
}

impl RecvWindow {
    pub(super) fn new(window: u32, now: Option<Instant>) -> Self {
        Self { allowance: window, window, base: window, since: now, ..Self::default() }
    }

    /// Charges `len` bytes announced by the peer; false when they are more than it was granted.
    #[must_use]
    pub(super) fn charge(&mut self, len: u32) -> bool {
        let Some(left) = self.allowance.checked_sub(len) else { return false };
        self.allowance = left;
        true
    }

    /// Bytes that the user consumed, to be granted again as far as the window allows.
    pub(super) fn consumed(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let kept = len.min(self.excess);
        self.excess -= kept;
        self.due = self.due.saturating_add(len - kept);
        self.moved = self.moved.saturating_add(len);
    }

    /// Bytes owed to the peer.
    pub(super) fn due(&self) -> u32 {
        self.due
    }

    /// Whether so much is owed that it is worth a frame: `least` bytes, but never so much that a small window runs dry,
    /// and more with a large one, which needs no more frames than a small one.
    pub(super) fn is_due(&self, least: u32) -> bool {
        let grown = if self.window > WINDOW { self.window / CREDITS_PER_WINDOW } else { 0 };
        self.due >= least.min(self.window / 2).max(grown).max(1)
    }

    /// Grants everything owed and returns how much that is.
    pub(super) fn grant_due(&mut self) -> u32 {
        let due = std::mem::take(&mut self.due);
        self.allowance = self.allowance.saturating_add(due);
        due
    }

    /// Bytes that the peer may send now.
    pub(super) fn allowance(&self) -> u32 {
        self.allowance
    }

    /// The present window.
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Everything that is granted, held or owed.
    pub(super) fn promised(&self) -> u32 {
        self.window.saturating_add(self.excess)
    }

    /// What the window has grown by.
    pub(super) fn growth(&self) -> u32 {
        self.window - self.base
    }

    /// Whether a whole window was consumed within [`GROW_ROUND_TRIPS`] round trips: then the window is what holds the
    /// peer back. Ask it when bytes arrive, with the time of their arrival.
    pub(super) fn is_too_small(&mut self, now: Instant, round_trip: Duration) -> bool {
        if self.moved < self.window {
            return false;
        }
        self.moved = 0;
        let since = self.since.replace(now);
        since.is_some_and(|since| now.saturating_duration_since(since) <= round_trip.saturating_mul(GROW_ROUND_TRIPS))
    }

    /// Whether not even one window was consumed for so long: a smaller one would do.
    pub(super) fn is_idle(&self, now: Instant, time: Duration) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= time)
    }

    /// Adds to the window.
    pub(super) fn grow(&mut self, by: u32) {
        self.window = self.window.saturating_add(by);
        let kept = by.min(self.excess);
        self.excess -= kept;
        self.due = self.due.saturating_add(by - kept);
    }

    /// Back to the window it began with.
    pub(super) fn shrink(&mut self, now: Option<Instant>) {
        self.excess = self.excess.saturating_add(self.growth());
        self.window = self.base;
        let kept = self.due.min(self.excess);
        self.due -= kept;
        self.excess -= kept;
        (self.moved, self.since) = (0, now);
    }
}

/// A window consumed within so many round trips is too small. In one it is consumed while nothing is lost; where packets are,
/// bytes wait for those before them, and credit does on its way back.
const GROW_ROUND_TRIPS: u32 = 4;

/// WNDINC frames for each window consumed, once it has grown beyond the protocol's.
const CREDITS_PER_WINDOW: u32 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // F14.
    #[test]
    fn credit_beyond_31_bits_is_capped() {
        let mut window = SendWindow::new(5);
        window.grant(INCREMENT_MAX);
        window.grant(INCREMENT_MAX);
        window.grant(INCREMENT_MAX);
        assert_eq!(window.credit(), INCREMENT_MAX as usize);
        window.spend(3);
        assert_eq!(window.credit(), INCREMENT_MAX as usize - 3);
    }

    #[test]
    fn charge_beyond_the_allowance_is_refused_and_changes_nothing() {
        let mut window = RecvWindow::new(10, None);
        assert!(window.charge(10));
        assert!(!window.charge(1));
        window.consumed(4);
        assert_eq!(window.grant_due(), 4);
        assert_eq!((window.allowance(), window.due()), (4, 0));
    }

    #[test]
    fn window_is_too_small_when_all_of_it_was_consumed_within_four_round_trips() {
        let (start, round_trip) = (Instant::now(), Duration::from_millis(100));
        let mut window = RecvWindow::new(1000, Some(start));
        window.consumed(999);
        assert!(!window.is_too_small(start, round_trip), "less than a window");
        window.consumed(1);
        assert!(window.is_too_small(start + 4 * round_trip, round_trip));
        assert!(!window.is_too_small(start + 4 * round_trip, round_trip), "counted from there");
        window.consumed(1000);
        assert!(!window.is_too_small(start + 8 * round_trip + Duration::from_millis(1), round_trip), "too slow");
    }

    #[test]
    fn shrunk_window_grants_nothing_until_what_was_granted_has_come_down_to_it() {
        let mut window = RecvWindow::new(1000, None);
        window.grow(3000);
        assert_eq!((window.grant_due(), window.allowance(), window.growth()), (3000, 4000, 3000));
        window.shrink(None);
        assert_eq!((window.window(), window.promised()), (1000, 4000));
        assert!(window.charge(4000), "what was granted holds");
        window.consumed(3000);
        assert_eq!((window.due(), window.promised()), (0, 1000));
        window.consumed(1000);
        assert_eq!((window.grant_due(), window.allowance()), (1000, 1000));
    }

    #[test]
    fn large_window_is_credited_in_eighths_and_a_small_one_in_halves() {
        let is_due = |window: u32, due: usize| {
            let mut window = RecvWindow::new(window, None);
            window.consumed(due);
            window.is_due(32 * 1024)
        };
        for (window, least) in [(16 << 10, 8 << 10), (64 << 10, 32 << 10), (WINDOW, 32 << 10), (4 << 20, 512 << 10)] {
            assert!(is_due(window, least) && !is_due(window, least - 1), "{window}");
        }
    }

    proptest! {
        #[test]
        fn send_window_is_a_sum_cut_at_31_bits(start: u32, steps in proptest::collection::vec((any::<bool>(), any::<u32>()), 0..50)) {
            let mut window = SendWindow::new(start.min(INCREMENT_MAX));
            let mut sum = u64::from(start.min(INCREMENT_MAX));
            for (grant, n) in steps {
                if grant {
                    window.grant(n);
                    sum = (sum + u64::from(n)).min(u64::from(INCREMENT_MAX));
                } else {
                    let len = window.credit().min(n as usize);
                    window.spend(len);
                    sum -= u64::try_from(len).unwrap();
                }
                prop_assert_eq!(u64::try_from(window.credit()).unwrap(), sum);
            }
        }

        #[test]
        fn receive_window_conserves_credit(base in 1u32..=WINDOW, steps in proptest::collection::vec((0u8..5, 0u32..200_000), 0..100)) {
            let mut window = RecvWindow::new(base, None);
            let mut unread = 0u32;
            for (step, n) in steps {
                match step {
                    0 => {
                        let fits = n <= window.allowance();
                        prop_assert_eq!(window.charge(n), fits);
                        unread += if fits { n } else { 0 };
                    }
                    1 => {
                        let n = n.min(unread);
                        window.consumed(n as usize);
                        unread -= n;
                    }
                    2 => {
                        let due = window.due();
                        prop_assert_eq!(window.grant_due(), due);
                        prop_assert_eq!(window.due(), 0);
                    }
                    3 => window.grow(n),
                    _ => {
                        window.shrink(None);
                        prop_assert_eq!((window.window(), window.growth()), (base, 0));
                    }
                }
                prop_assert_eq!(window.allowance() + window.due() + unread, window.promised());
                // A sender that has used up everything, with nothing left to consume, gets a frame.
                prop_assert!(window.allowance() > 0 || unread > 0 || window.is_due(32 * 1024));
            }
        }

        #[test]
        fn no_number_overflows_a_receive_window(steps in proptest::collection::vec((0u8..3, any::<u32>()), 0..100)) {
            let mut window = RecvWindow::new(u32::MAX, None);
            for (step, n) in steps {
                match step {
                    0 => assert!(window.charge(n.min(window.allowance()))),
                    1 => window.consumed(usize::try_from(n).unwrap().saturating_mul(3)),
                    _ => assert_eq!((window.grant_due(), window.due()).1, 0),
                }
            }
        }
    }
}
