//! The requests of one key.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) capacity: u64,
    pub(super) rate: Duration,
}

/// The requests of one key in a window that slides: those of the current period, and those of the one before it as far as
/// it still overlaps, taken as evenly spread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    begin: Option<Instant>,
    current: u64,
    before: u64,
}

impl Window {
    /// True when it counts nothing any more.
    pub(super) fn is_over(&self, limit: Limit, now: Instant) -> bool {
        self.begin.is_none_or(|begin| now.saturating_duration_since(begin) >= limit.rate.saturating_mul(2))
    }

    /// Counts a request, or says after what time there is room for one.
    pub(super) fn take(&mut self, limit: Limit, now: Instant) -> Result<(), Duration> {
        let begin = *self.begin.get_or_insert(now);
        let passed = now.saturating_duration_since(begin);
        if passed >= limit.rate {
            let periods = passed.as_nanos() / limit.rate.as_nanos().max(1);
            self.before = if periods == 1 { self.current } else { 0 };
            self.current = 0;
            let into =
                Duration::from_nanos(u64::try_from(passed.as_nanos() % limit.rate.as_nanos().max(1)).unwrap_or(0));
            self.begin = now.checked_sub(into).or(Some(now));
        }
        let into = now.saturating_duration_since(self.begin.unwrap_or(now));
        let left = limit.rate.saturating_sub(into);
        let share = |count: u64, part: Duration| {
            u64::try_from(u128::from(count) * part.as_nanos() / limit.rate.as_nanos().max(1)).unwrap_or(u64::MAX)
        };
        if self.current.saturating_add(share(self.before, left)) < limit.capacity {
            self.current += 1;
            return Ok(());
        }
        if self.current >= limit.capacity {
            return Err(left);
        }
        // As the period before slides out, it makes room one by one.
        let excess = self.current.saturating_add(share(self.before, left)).saturating_sub(limit.capacity) + 1;
        let each = limit.rate.as_nanos() / u128::from(self.before.max(1));
        Err(Duration::from_nanos(u64::try_from(each * u128::from(excess)).unwrap_or(u64::MAX)).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { capacity: 10, rate: Duration::from_secs(60) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn capacity_is_taken_at_once_and_comes_back_as_the_window_slides() {
        let (mut window, start) = (Window::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(window.take(LIMIT, start), Ok(()));
        }
        assert_eq!(window.take(LIMIT, start), Err(seconds(60)));
        assert_eq!(window.take(LIMIT, start + seconds(20)), Err(seconds(40)));
        // A quarter into the next period, three quarters of the last one's ten still count.
        for _ in 0..3 {
            assert_eq!(window.take(LIMIT, start + seconds(75)), Ok(()));
        }
        assert_eq!(window.take(LIMIT, start + seconds(75)), Err(seconds(6)));
        for _ in 0..2 {
            assert_eq!(window.take(LIMIT, start + seconds(90)), Ok(()));
        }
        assert!(window.take(LIMIT, start + seconds(90)).is_err());
    }

    #[test]
    fn long_silence_forgets_all() {
        let (mut window, start) = (Window::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(window.take(LIMIT, start), Ok(()));
        }
        for _ in 0..10 {
            assert_eq!(window.take(LIMIT, start + seconds(120)), Ok(()));
        }
        assert!(window.take(LIMIT, start + seconds(120)).is_err());
    }

    #[test]
    fn window_is_over_once_nothing_of_it_counts() {
        let (mut window, start) = (Window::default(), Instant::now());
        assert!(window.is_over(LIMIT, start));
        assert_eq!(window.take(LIMIT, start), Ok(()));
        assert!(!window.is_over(LIMIT, start + seconds(119)));
        assert!(window.is_over(LIMIT, start + seconds(120)));
    }
}
