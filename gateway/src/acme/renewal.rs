//! When a certificate is renewed, and when a try that failed is made again: pure arithmetic, with the randomness passed in.

use std::time::Duration;

/// When a certificate begins and ends, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) begins: u64,
    pub(crate) ends: u64,
}

/// What made a try fail, as far as it decides when the next one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The authority could not be asked, or is not well: it may be back in a moment.
    Authority,
    /// The authority says no: somebody has to mend something, and authorities count such tries.
    Refusal,
}

/// The tries for one name that failed one after another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retries {
    failures: u32,
}

impl Life {
    /// When to renew: `before` the end, a third of the life without it, and up to a sixtieth of the life earlier, so that
    /// certificates that were issued together are not renewed together. Never within the first third.
    ///
    /// `random` has to be uniform over all of `u64`.
    pub(crate) fn renew_at(self, before: Option<Duration>, random: u64) -> u64 {
        let length = self.ends.saturating_sub(self.begins);
        let before = before.map_or(length / 3, |before| before.as_secs());
        let early = scale(Duration::from_secs(length / JITTER_PART), random).as_secs();
        let before = before.saturating_add(early).min(length - length / 3);
        self.ends.saturating_sub(before)
    }

    /// How long it goes on at `now`.
    pub(crate) fn left(self, now: u64) -> Duration {
        Duration::from_secs(self.ends.saturating_sub(now))
    }

    /// Tells whether its end is so near that somebody should look: the last sixth of the life, a week at most. By then
    /// renewal has been failing for as long.
    pub(crate) fn is_near_end(self, now: u64) -> bool {
        now >= self.near_end_at()
    }

    /// When its end is near, in seconds since 1970.
    pub(crate) fn near_end_at(self) -> u64 {
        let sixth = self.ends.saturating_sub(self.begins) / 6;
        self.ends.saturating_sub(sixth.min(NEAR_END_MAX.as_secs()))
    }
}

impl Retries {
    /// How long to wait after another failure: twice as long as after the one before, and up to half of it on top by
    /// chance. `left` is what the present certificate has left, if there is one that still holds: with its end near, no
    /// wait is longer than a quarter of that. What the authority asks for (`retry_after`) is kept, up to
    /// [`RETRY_AFTER_MAX`].
    pub(crate) fn next(
        &mut self,
        cause: Cause,
        retry_after: Option<Duration>,
        left: Option<Duration>,
        random: u64,
    ) -> Duration {
        let first = match cause {
            Cause::Authority => AUTHORITY_FIRST,
            Cause::Refusal => REFUSAL_FIRST,
        };
        let doubled = first.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let most = left.map_or(WAIT_MAX, |left| WAIT_MAX.min(left / 4)).max(first);
        let wait = doubled.min(most);
        let wait = wait + scale(wait / 2, random);
        wait.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }

    /// Forgets all failures, after a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The part of `ceiling`, ends included, that `random` is of all of `u64`.
fn scale(ceiling: Duration, random: u64) -> Duration {
    let values = ceiling.as_nanos().saturating_add(1);
    let nanoseconds = values.saturating_mul(u128::from(random)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// A day and a half of ninety.
const JITTER_PART: u64 = 60;
/// Whoever looks once a week sees it in time.
const NEAR_END_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// An authority that restarts, or a line that was cut, is back soon.
const AUTHORITY_FIRST: Duration = Duration::from_secs(30);
/// Let's Encrypt lets a name fail five times an hour: with this there are four.
const REFUSAL_FIRST: Duration = Duration::from_secs(5 * 60);
/// Four times a day is often enough for what nobody mends, and soon enough for certificates of a day.
const WAIT_MAX: Duration = Duration::from_secs(6 * 3600);
/// What an authority may ask for; one that asks for more is asked again after a day.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    #[test]
    fn renewal_is_at_two_thirds_of_the_life_and_up_to_a_sixtieth_earlier() {
        let life = Life { begins: 1000, ends: 1000 + 90 * DAY };
        assert_eq!(life.renew_at(None, 0), 1000 + 60 * DAY);
        assert_eq!(life.renew_at(None, u64::MAX), 1000 + 60 * DAY - 90 * DAY / 60);
        let week = Some(Duration::from_secs(7 * DAY));
        assert_eq!(life.renew_at(week, 0), 1000 + 83 * DAY);
    }

    #[test]
    fn renewal_is_never_in_the_first_third_whatever_is_configured() {
        let life = Life { begins: 1000, ends: 1300 };
        for before in [300, 301, 1_000_000, u64::MAX] {
            for random in [0, u64::MAX / 2, u64::MAX] {
                assert_eq!(life.renew_at(Some(Duration::from_secs(before)), random), 1100, "{before}");
            }
        }
        // A life that ends before it begins is over.
        assert_eq!(Life { begins: 9, ends: 5 }.renew_at(None, 0), 5);
    }

    #[test]
    fn end_is_near_in_the_last_sixth_or_the_last_week() {
        let short = Life { begins: 0, ends: 6 * DAY };
        assert!(!short.is_near_end(5 * DAY - 1) && short.is_near_end(5 * DAY));
        let long = Life { begins: 0, ends: 90 * DAY };
        assert!(!long.is_near_end(83 * DAY - 1) && long.is_near_end(83 * DAY) && long.is_near_end(100 * DAY));
    }

    #[test]
    fn waits_double_up_to_six_hours() {
        for (cause, first) in [(Cause::Authority, 30), (Cause::Refusal, 300)] {
            let mut retries = Retries::default();
            let mut expected = first;
            for _ in 0..100 {
                let wait = retries.next(cause, None, None, 0);
                assert_eq!(wait.as_secs(), expected);
                expected = (2 * expected).min(6 * 3600);
            }
            retries.reset();
            assert_eq!(retries.next(cause, None, None, u64::MAX).as_secs(), first + first / 2);
        }
    }

    #[test]
    fn fewer_than_five_refusals_fall_into_an_hour() {
        let mut retries = Retries::default();
        let times = (0..10).scan(0, |at, _| {
            let now = *at;
            *at += retries.next(Cause::Refusal, None, None, 0).as_secs();
            Some(now)
        });
        assert_eq!(times.filter(|at| *at < 3600).count(), 4);
    }

    #[test]
    fn waits_shorten_towards_the_end_and_not_below_the_first() {
        let mut retries = Retries { failures: 20 };
        let mut next = |left: u64| retries.next(Cause::Authority, None, Some(Duration::from_secs(left)), 0).as_secs();
        assert_eq!(next(30 * DAY), 6 * 3600);
        assert_eq!(next(4 * 3600), 3600);
        assert_eq!(next(5), 30);
        assert_eq!(next(0), 30);
    }

    #[test]
    fn what_the_authority_asks_for_is_kept_up_to_a_day() {
        let mut retries = Retries::default();
        let mut next = |seconds: u64| {
            retries.reset();
            retries.next(Cause::Refusal, Some(Duration::from_secs(seconds)), None, 0).as_secs()
        };
        assert_eq!((next(1), next(7200), next(DAY), next(DAY + 1), next(u64::MAX)), (300, 7200, DAY, DAY, DAY));
    }
}
