//! A map that forgets its oldest entries rather than grow.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most `max` entries; a new one beyond that pushes out the oldest.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    max: usize,
    values: HashMap<K, V>,
    /// The keys of `values`, oldest first.
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, values: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn find(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// Gives the value to change, a default one when there was none.
    pub(crate) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.values.contains_key(&key) {
            while self.values.len() >= self.max
                && let Some(oldest) = self.order.pop_front()
            {
                self.values.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.values.entry(key).or_default()
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if self.values.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Removes the oldest entry while its value is over, at most `count` of them, and gives their number.
    pub(crate) fn retire_oldest(&mut self, count: usize, is_over: impl Fn(&V) -> bool) -> usize {
        let before = self.values.len();
        for _ in 0..count {
            let Some(oldest) = self.order.front() else { break };
            if !self.values.get(oldest).is_none_or(&is_over) {
                break;
            }
            self.values.remove(oldest);
            self.order.pop_front();
        }
        before - self.values.len()
    }

    /// Removes those of the `count` oldest whose value is over, and gives their number. The others count as new, so that
    /// the next call looks at the ones behind them.
    pub(crate) fn retire(&mut self, count: usize, is_over: impl Fn(&V) -> bool) -> usize {
        let before = self.values.len();
        for _ in 0..count.min(before) {
            let Some(key) = self.order.pop_front() else { break };
            if self.values.get(&key).is_some_and(&is_over) {
                self.values.remove(&key);
            } else {
                self.order.push_back(key);
            }
        }
        before - self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_entry_goes_when_full() {
        let mut map = Bounded::new(2);
        for key in ["a", "b", "a", "c"] {
            *map.entry(key) += 1;
        }
        assert_eq!((map.find(&"a"), map.find(&"b"), map.find(&"c")), (None, Some(&1), Some(&1)));
        map.remove(&"b");
        map.remove(&"b");
        *map.entry("d") += 1;
        assert_eq!((map.find(&"c"), map.find(&"d")), (Some(&1), Some(&1)));
        assert_eq!(map.order.len(), 2);
    }

    #[test]
    fn entries_that_are_over_are_retired_from_the_oldest_on() {
        let mut map = Bounded::new(9);
        for (key, value) in [("a", 0), ("b", 1), ("c", 0), ("d", 0)] {
            *map.entry(key) = value;
        }
        assert_eq!(map.retire_oldest(9, |value| *value == 1), 0);
        assert_eq!(map.retire(2, |value| *value == 0), 1);
        assert_eq!(map.order, ["c", "d", "b"]);
        assert_eq!(map.retire_oldest(1, |value| *value == 0), 1);
        assert_eq!(map.retire_oldest(9, |value| *value == 0), 1);
        assert_eq!((map.len(), map.order.len()), (1, 1));
        assert_eq!(map.retire(9, |_| true), 1);
        assert_eq!(map.retire(1, |_| true), 0);
    }
}
