//! A table of endpoints by their numbers.

/// Values by the numbers of their endpoints, in the order of the numbers: a sorted list, because endpoints are few, are
/// looked up far more often than they change, and a list takes a tenth of a tree's code.
#[derive(Debug, Clone)]
pub(crate) struct ByNumber<T> {
    entries: Vec<(usize, T)>,
}

impl<T> ByNumber<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Puts a value in the place of the one that was there.
    pub(crate) fn insert(&mut self, number: usize, value: T) {
        match self.place(number) {
            Ok(index) => self.entries[index].1 = value,
            Err(index) => self.entries.insert(index, (number, value)),
        }
    }

    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.place(number).ok().map(|index| &self.entries[index].1)
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.place(number).ok().map(|index| &mut self.entries[index].1)
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<T> {
        self.place(number).ok().map(|index| self.entries.remove(index).1)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize, &T) -> bool) {
        self.entries.retain(|(number, value)| keep(*number, value));
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.entries.iter().map(|(number, value)| (*number, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.entries.iter_mut().map(|(number, value)| (*number, value))
    }

    /// Where the number is, or where it belongs.
    fn place(&self, number: usize) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&number, |entry| entry.0)
    }
}

impl<T> Default for ByNumber<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> IntoIterator for ByNumber<T> {
    type Item = (usize, T);
    type IntoIter = std::vec::IntoIter<(usize, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn does_what_a_tree_does(steps in prop::collection::vec((0..4_u8, 0..12_usize, any::<u8>()), 0..60)) {
            let (mut list, mut tree) = (ByNumber::new(), BTreeMap::new());
            for (step, number, value) in steps {
                match step {
                    0 | 1 => {
                        list.insert(number, value);
                        tree.insert(number, value);
                    }
                    2 => prop_assert_eq!(list.remove(number), tree.remove(&number)),
                    _ => {
                        list.retain(|number, &other| number % 2 == 0 || other < value);
                        tree.retain(|number, &mut other| number % 2 == 0 || other < value);
                    }
                }
                prop_assert_eq!(list.get(number), tree.get(&number));
                prop_assert_eq!(list.get_mut(number), tree.get_mut(&number));
                prop_assert!(list.iter().eq(tree.iter().map(|(&number, value)| (number, value))));
            }
            prop_assert!(list.into_iter().eq(tree));
        }
    }
}
