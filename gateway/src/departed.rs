//! Those that have gone and are remembered, and which of them is forgotten first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// One of a group that may make up as many as it likes.
pub(crate) trait Grouped: Clone {
    /// Whose it is.
    type Group: Clone + Debug + Ord;

    /// Whose it is.
    fn group(&self) -> Self::Group;
}

/// Those that have gone, in the order in which they went, of each group.
#[derive(Debug)]
pub(crate) struct Departed<K: Grouped> {
    /// By the number of their departure. Invariant: nothing is kept for none.
    groups: BTreeMap<K::Group, BTreeMap<u64, K>>,
    /// The group that has most is the last one; of those that have as many, the one of which one went first.
    /// Invariant: one for each of `groups`.
    ranks: BTreeSet<(usize, Reverse<u64>, K::Group)>,
    count: usize,
    /// The number of the last departure.
    last: u64,
}

impl<K: Grouped> Default for Departed<K> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), ranks: BTreeSet::new(), count: 0, last: 0 }
    }
}

impl<K: Grouped> Departed<K> {
    /// One has gone. Gives the number of its departure.
    pub(crate) fn insert(&mut self, key: K) -> u64 {
        self.last = self.last.saturating_add(1);
        let departure = self.last;
        self.change(&key.group(), |keys| keys.insert(departure, key).is_none());
        self.count += 1;
        departure
    }

    /// It is there again.
    pub(crate) fn remove(&mut self, departure: u64, key: &K) {
        if self.change(&key.group(), |keys| keys.remove(&departure).is_some()) {
            self.count -= 1;
        }
    }

    /// Takes out the one that went first of the group that has most, so that a group that makes up many pushes out only its own.
    pub(crate) fn pop(&mut self) -> Option<K> {
        let (_, Reverse(departure), group) = self.ranks.last()?.clone();
        let mut popped = None;
        self.change(&group, |keys| {
            popped = keys.remove(&departure);
            popped.is_some()
        });
        self.count -= usize::from(popped.is_some());
        popped
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn change(&mut self, group: &K::Group, change: impl FnOnce(&mut BTreeMap<u64, K>) -> bool) -> bool {
        let keys = self.groups.entry(group.clone()).or_default();
        if let Some(rank) = rank::<K>(group, keys) {
            self.ranks.remove(&rank);
        }
        let has_changed = change(keys);
        match rank::<K>(group, keys) {
            Some(rank) => drop(self.ranks.insert(rank)),
            None => drop(self.groups.remove(group)),
        }
        has_changed
    }
}

fn rank<K: Grouped>(group: &K::Group, keys: &BTreeMap<u64, K>) -> Option<(usize, Reverse<u64>, K::Group)> {
    let (first, _) = keys.first_key_value()?;
    Some((keys.len(), Reverse(*first), group.clone()))
}
