//! Credit in both directions, with arithmetic that a peer cannot overflow.

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
/// Invariant: `allowance + unread + due` is the window, where `unread` is what the stream's queue holds.
#[derive(Debug, Default)]
pub(super) struct RecvWindow {
    allowance: u32,
    due: u32,
}

impl RecvWindow {
    pub(super) fn new(allowance: u32) -> Self {
        Self { allowance, due: 0 }
    }

    /// Charges `len` bytes announced by the peer; false when they are more than it was granted.
    #[must_use]
    pub(super) fn charge(&mut self, len: u32) -> bool {
        let Some(left) = self.allowance.checked_sub(len) else { return false };
        self.allowance = left;
        true
    }

    /// Bytes that the user consumed, to be granted again.
    pub(super) fn consumed(&mut self, len: usize) {
        self.due = self.due.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Bytes owed to the peer.
    pub(super) fn due(&self) -> u32 {
        self.due
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
}

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
        let mut window = RecvWindow::new(10);
        assert!(window.charge(10));
        assert!(!window.charge(1));
        window.consumed(4);
        assert_eq!(window.grant_due(), 4);
        assert_eq!((window.allowance(), window.due()), (4, 0));
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
        fn receive_window_conserves_credit(steps in proptest::collection::vec((0u8..3, 0u32..200_000), 0..100)) {
            const WINDOW: u32 = 262_144;
            let mut window = RecvWindow::new(WINDOW);
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
                    _ => {
                        let due = window.due();
                        prop_assert_eq!(window.grant_due(), due);
                        prop_assert_eq!(window.due(), 0);
                    }
                }
                prop_assert_eq!(window.allowance() + window.due() + unread, WINDOW);
            }
        }

        #[test]
        fn no_number_overflows_a_receive_window(steps in proptest::collection::vec((0u8..3, any::<u32>()), 0..100)) {
            let mut window = RecvWindow::new(u32::MAX);
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
