//! What happens all the time is told now and then, with how often it happened in between.

use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::bounded::Bounded;

/// Lets each key through once in a while, and of all keys together only so many.
#[derive(Debug)]
pub(crate) struct Quiet<K> {
    keys: Bounded<K, Told>,
    since: Option<Instant>,
    count: usize,
    /// How many were not told whose key has no place.
    others: u64,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    untold: u64,
}

/// What was not told since the last one that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Untold {
    /// Of the same key.
    pub(crate) same: u64,
    /// Of keys that were never told.
    pub(crate) others: u64,
}

impl Untold {
    /// In words that follow a sentence.
    pub(crate) fn shown(self) -> String {
        match (self.same, self.others) {
            (0, 0) => String::new(),
            (same, 0) => format!(" ({same} more times since it was told last)"),
            (0, others) => format!(" ({others} times by others that were not told)"),
            (same, others) => {
                format!(" ({same} more times since it was told last, {others} by others that were not told)")
            }
        }
    }
}

impl<K: Clone + Eq + Hash> Quiet<K> {
    pub(crate) fn new() -> Self {
        Self { keys: Bounded::new(KEYS_MAX), since: None, count: 0, others: 0 }
    }

    /// Whether it is told this time, and then what was not.
    pub(crate) fn hear(&mut self, key: K, now: Instant) -> Option<Untold> {
        let is_over = |since: Option<Instant>, time| since.is_none_or(|at| now.saturating_duration_since(at) >= time);
        if is_over(self.since, PERIOD) {
            (self.since, self.count) = (Some(now), 0);
        }
        // A key that is not told leaves no trace: strangers with many addresses must not push out those that count.
        let is_due = self.keys.find(&key).is_none_or(|told| is_over(told.at, KEY_PERIOD));
        if !is_due || self.count >= PERIOD_MAX {
            if self.keys.find(&key).is_some() {
                let told = self.keys.entry(key);
                told.untold = told.untold.saturating_add(1);
            } else {
                self.others = self.others.saturating_add(1);
            }
            return None;
        }
        self.count += 1;
        let same = self.keys.find(&key).map_or(0, |told| told.untold);
        self.keys.remove(&key);
        *self.keys.entry(key) = Told { at: Some(now), untold: 0 };
        Some(Untold { same, others: std::mem::take(&mut self.others) })
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
        let untold = |same, others| Some(Untold { same, others });
        assert_eq!(quiet.hear("a", start), untold(0, 0));
        assert_eq!(quiet.hear("a", start + KEY_PERIOD - Duration::from_nanos(1)), None);
        assert_eq!(quiet.hear("a", start + KEY_PERIOD), untold(1, 0));
        assert_eq!(quiet.hear("b", start + KEY_PERIOD), untold(0, 0));
    }

    #[test]
    fn many_keys_are_told_up_to_the_bound() {
        let (mut quiet, start) = (Quiet::new(), Instant::now());
        let told = (0..100).filter(|key| quiet.hear(*key, start).is_some()).count();
        assert_eq!(told, PERIOD_MAX);
        assert_eq!(quiet.hear(99, start + PERIOD), Some(Untold { same: 0, others: 80 }));
        for minute in 0..100 {
            let now = start + PERIOD * (minute + 2);
            (0..20).for_each(|key| _ = quiet.hear(1000 + minute * 20 + key, now));
        }
        assert_eq!(quiet.keys.len(), KEYS_MAX);
    }
}
