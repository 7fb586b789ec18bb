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
}
