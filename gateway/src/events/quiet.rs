//! What happens all the time is told now and then, with how often it happened in between.

use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::bounded::Bounded;

/// Lets each key through once in a while, and of all keys together only so many.
#[derive(Debug)]
pub(super) struct Quiet<K> {
    keys: Bounded<K, Told>,
    since: Option<Instant>,
    count: usize,
    /// How many of all keys were not told since the last one that was.
    untold: u64,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
}

impl<K: Clone + Eq + Hash> Quiet<K> {
    pub(super) fn new() -> Self {
        Self { keys: Bounded::new(KEYS_MAX), since: None, count: 0, untold: 0 }
    }

    /// Whether it is told this time, and then of how many it was not since the last one that was told.
    pub(super) fn hear(&mut self, key: K, now: Instant) -> Option<u64> {
        let is_over = |since: Option<Instant>, time| since.is_none_or(|at| now.saturating_duration_since(at) >= time);
        if is_over(self.since, PERIOD) {
            (self.since, self.count) = (Some(now), 0);
        }
        // A key that is not told leaves no trace: strangers with many addresses must not push out those that count.
        let is_due = self.keys.find(&key).is_none_or(|told| is_over(told.at, KEY_PERIOD));
        if !is_due || self.count >= PERIOD_MAX {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.count += 1;
        self.keys.remove(&key);
        self.keys.entry(key).at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// Some addresses of an attack, or all the sites of a fleet with a wrong token.
const KEYS_MAX: usize = 1024;
/// The same is worth telling again after so long.
const KEY_PERIOD: Duration = Duration::from_secs(600);
/// Of all keys together at most so many in [`PERIOD`]: people read this.
const PERIOD_MAX: usize = 20;
const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_key_is_told_again_after_a_while_with_the_count() {
        let (mut quiet, start) = (Quiet::new(), Instant::now());
        assert_eq!(quiet.hear("a", start), Some(0));
        assert_eq!(quiet.hear("a", start + KEY_PERIOD - Duration::from_nanos(1)), None);
        assert_eq!(quiet.hear("a", start + KEY_PERIOD), Some(1));
        assert_eq!(quiet.hear("b", start + KEY_PERIOD), Some(0));
    }

    #[test]
    fn many_keys_are_told_up_to_the_bound() {
        let (mut quiet, start) = (Quiet::new(), Instant::now());
        let told = (0..100).filter(|key| quiet.hear(*key, start).is_some()).count();
        assert_eq!(told, PERIOD_MAX);
        assert_eq!(quiet.hear(99, start + PERIOD), Some(80));
        for minute in 0..100 {
            let now = start + PERIOD * (minute + 2);
            (0..20).for_each(|key| _ = quiet.hear(1000 + minute * 20 + key, now));
        }
        assert_eq!(quiet.keys.len(), KEYS_MAX);
    }
}
