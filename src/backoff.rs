//! How long to wait before connecting again: pure arithmetic, with the randomness passed in.

use std::time::Duration;

/// The delays between attempts that fail one after another.
///
/// Each delay is drawn anew from zero to a ceiling that doubles, so that agents which lost the same gateway at the same
/// moment do not all come back at the same moment.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    /// Attempts that failed since the last success.
    failures: u32,
    /// How often the gateway said since then when to come back.
    told: u32,
}

impl Backoff {
    /// Starts as after a success.
    pub fn new() -> Self {
        Self::default()
    }

    /// The delay after an attempt that failed on its way: at most 1 s after the first failure, 20 s after many.
    ///
    /// `random` has to be uniform over all of `u64`; so then is the delay.
    pub fn next(&mut self, random: u64) -> Duration {
        self.draw(DELAY_MAX, random)
    }

    /// The delay after an attempt that the gateway refused: like [`Backoff::next`], but up to 60 s after many failures.
    pub fn refused(&mut self, random: u64) -> Duration {
        self.draw(REFUSED_DELAY_MAX, random)
    }

    /// The delay after a certificate that was not valid at this time, and right otherwise: from half of 5 s to the whole,
    /// and never more. A clock that was set is noticed soon, and nothing tells when that happens. It is no failure of the
    /// way there, and makes later delays no longer.
    pub fn clock(&self, random: u64) -> Duration {
        let half = CLOCK_DELAY_MAX / 2;
        half + scale(half, random)
    }

    /// The delay when the gateway has said how long to stay away: that long, as far as it is within
    /// [`RETRY_AFTER_MAX`], and a delay like that of [`Backoff::next`] on top. So a gateway that says the same to all does
    /// not get them all back at the same moment, and one that says it all the time is asked ever less often. It is no
    /// failure: what went wrong before does not make this delay longer.
    pub fn told(&mut self, retry_after: Duration, random: u64) -> Duration {
        let ceiling = doubled(self.told).min(DELAY_MAX);
        self.told = self.told.saturating_add(1);
        retry_after.min(RETRY_AFTER_MAX) + scale(ceiling, random)
    }

    /// Forgets all failures, after a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn draw(&mut self, delay_max: Duration, random: u64) -> Duration {
        let ceiling = doubled(self.failures).min(delay_max);
        self.failures = self.failures.saturating_add(1);
        scale(ceiling, random)
    }
}

fn doubled(times: u32) -> Duration {
    DELAY_FIRST.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX))
}

/// The part of `ceiling`, ends included, that `random` is of all of `u64`.
fn scale(ceiling: Duration, random: u64) -> Duration {
    let values = ceiling.as_nanos().saturating_add(1);
    let nanoseconds = values.saturating_mul(u128::from(random)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// The ceiling of the first delay: a gateway that restarts is back within about a second.
const DELAY_FIRST: Duration = Duration::from_secs(1);

/// The ceiling when the network is at fault: after it has come back nobody should have to wait longer than this.
const DELAY_MAX: Duration = Duration::from_secs(20);

/// The ceiling when the gateway has refused: what it refuses, such as a revoked token, a person has to mend.
const REFUSED_DELAY_MAX: Duration = Duration::from_secs(60);

/// How long a wrong clock, once set right, keeps the agent waiting.
pub const CLOCK_DELAY_MAX: Duration = Duration::from_secs(5);

/// The longest time that a gateway can send an agent away for: with the delay on top no more than after a refusal.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(40);

const _: () = assert!(RETRY_AFTER_MAX.as_secs() + DELAY_MAX.as_secs() <= REFUSED_DELAY_MAX.as_secs());

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ceilings(draw: impl Fn(&mut Backoff) -> Duration) -> Vec<u64> {
        let mut backoff = Backoff::new();
        (0..8).map(|_| draw(&mut backoff).as_secs()).collect()
    }

    #[test]
    fn ceiling_doubles_up_to_its_maximum() {
        assert_eq!(ceilings(|backoff| backoff.next(u64::MAX)), [1, 2, 4, 8, 16, 20, 20, 20]);
        assert_eq!(ceilings(|backoff| backoff.refused(u64::MAX)), [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn delay_is_spread_evenly_from_zero_to_the_ceiling() {
        let quarter = 1 << 62;
        let delays = [0, quarter, 2 * quarter, 3 * quarter, u64::MAX].map(|random| Backoff::new().next(random));
        assert_eq!(delays.map(|delay| delay.as_millis()), [0, 250, 500, 750, 1000]);
    }

    #[test]
    fn success_starts_again() {
        let mut backoff = Backoff::new();
        for _ in 0..5 {
            backoff.next(0);
        }
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX), DELAY_FIRST);
    }

    #[test]
    fn refusal_and_failure_count_together() {
        let mut backoff = Backoff::new();
        backoff.next(0);
        assert_eq!(backoff.refused(u64::MAX), 2 * DELAY_FIRST);
        assert_eq!(backoff.next(u64::MAX), 4 * DELAY_FIRST);
    }

    #[test]
    fn delay_for_a_wrong_clock_stays_short_and_lengthens_no_other() {
        let mut backoff = Backoff::new();
        for _ in 0..20 {
            assert_eq!(backoff.clock(0), CLOCK_DELAY_MAX / 2);
            assert_eq!(backoff.clock(u64::MAX), CLOCK_DELAY_MAX);
        }
        assert_eq!(backoff.next(u64::MAX), DELAY_FIRST);
    }

    #[test]
    fn gateway_says_how_long_within_bounds() {
        let told = |seconds| Backoff::new().told(Duration::from_secs(seconds), u64::MAX).as_secs();
        assert_eq!([told(0), told(7), told(40), told(41), told(u64::MAX)], [1, 8, 41, 41, 41]);
        assert_eq!(ceilings(|backoff| backoff.told(Duration::MAX, u64::MAX)), [41, 42, 44, 48, 56, 60, 60, 60]);
        assert_eq!(Backoff::new().told(Duration::from_secs(7), 0), Duration::from_secs(7));
        let mut backoff = Backoff::new();
        backoff.told(Duration::ZERO, 0);
        assert_eq!(backoff.next(u64::MAX), DELAY_FIRST, "having been told is no failure");
    }

    #[test]
    fn endless_failures_do_not_overflow() {
        let mut backoff = Backoff { failures: u32::MAX - 1, told: u32::MAX };
        for _ in 0..3 {
            assert_eq!(backoff.next(u64::MAX), DELAY_MAX);
            assert_eq!(backoff.told(Duration::MAX, u64::MAX), RETRY_AFTER_MAX + DELAY_MAX);
        }
        for failures in 0..=70 {
            assert!(Backoff { failures, told: 0 }.next(u64::MAX) >= DELAY_FIRST, "{failures}");
        }
    }

    proptest! {
        #[test]
        fn delay_stays_below_its_ceiling(failures: u32, random: u64) {
            let backoff = Backoff { failures, told: failures };
            prop_assert!(backoff.clone().next(random) <= DELAY_MAX);
            prop_assert!(backoff.clone().refused(random) <= REFUSED_DELAY_MAX);
        }
    }
}
