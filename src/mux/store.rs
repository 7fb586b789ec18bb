//! The table of live streams: by handle in constant time, by id through two short sorted lists.

use super::stream::Stream;

/// A handle of one stream. It never reaches another stream that later takes the same place: calls with a handle whose
/// stream is gone do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The place in the table, below the limit of streams: for tables of the caller that run in parallel.
    pub fn index(self) -> usize {
        usize::try_from(self.index).unwrap_or(usize::MAX)
    }
}

/// Live streams.
#[derive(Debug, Default)]
pub(super) struct Store {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// (id, place), rising ids. Streams we opened, then the peer's.
    local: Vec<(u32, Key)>,
    remote: Vec<(u32, Key)>,
    live: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    stream: Option<Stream>,
}

impl Store {
    /// Live streams of both sides, announced or not.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Adds a stream. One with an id is found by it from now on; its id is above all earlier ones of its side.
    pub(super) fn insert(&mut self, stream: Stream) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        let key = Key { index, generation: slot.generation };
        let (id, local) = (stream.id, stream.local);
        slot.stream = Some(stream);
        self.live += 1;
        if id != 0 {
            self.list(local).push((id, key));
        }
        key
    }

    /// Gives an unannounced local stream its id, above all earlier ones.
    pub(super) fn announce(&mut self, key: Key, id: u32) {
        if let Some(stream) = self.at(key) {
            stream.id = id;
            self.local.push((id, key));
        }
    }

    pub(super) fn at(&mut self, key: Key) -> Option<&mut Stream> {
        self.slots
            .get_mut(key.index())
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.stream.as_mut())
    }

    pub(super) fn peek(&self, key: Key) -> Option<&Stream> {
        self.slots
            .get(key.index())
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.stream.as_ref())
    }

    /// The stream with this id, which belongs to the side that opened it.
    pub(super) fn find(&self, id: u32, local: bool) -> Option<Key> {
        let list = if local { &self.local } else { &self.remote };
        list.binary_search_by_key(&id, |&(id, _)| id).ok().map(|at| list[at].1)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Stream> {
        let slot = self.slots.get_mut(key.index()).filter(|slot| slot.generation == key.generation)?;
        let stream = slot.stream.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.live -= 1;
        let list = self.list(stream.local);
        if let Ok(at) = list.binary_search_by_key(&stream.id, |&(id, _)| id) {
            list.remove(at);
        }
        Some(stream)
    }

    /// All live streams, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Stream)> {
        self.slots.iter().zip(0u32..).filter_map(|(slot, index)| {
            slot.stream.as_ref().map(|stream| (Key { index, generation: slot.generation }, stream))
        })
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().filter_map(|slot| slot.stream.as_mut())
    }

    fn list(&mut self, local: bool) -> &mut Vec<(u32, Key)> {
        if local { &mut self.local } else { &mut self.remote }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn stream(id: u32, local: bool) -> Stream {
        Stream { id, local, ..Stream::default() }
    }

    #[test]
    fn stale_key_never_reaches_a_new_stream() {
        let mut store = Store::default();
        let old = store.insert(stream(2, true));
        assert!(store.remove(old).is_some());
        let new = store.insert(stream(4, true));
        assert_eq!(old.index(), new.index());
        assert!(store.at(old).is_none() && store.peek(old).is_none() && store.remove(old).is_none());
        assert_eq!(store.find(4, true), Some(new));
        assert_eq!((store.find(2, true), store.find(4, false)), (None, None));
    }

    #[test]
    fn unannounced_stream_is_found_by_id_once_announced() {
        let mut store = Store::default();
        let first = store.insert(stream(0, true));
        let second = store.insert(stream(0, true));
        store.announce(second, 2);
        store.announce(first, 4);
        assert_eq!((store.find(2, true), store.find(4, true)), (Some(second), Some(first)));
        assert!(store.remove(second).is_some());
        assert_eq!((store.find(2, true), store.len()), (None, 1));
    }

    proptest! {
        #[test]
        fn store_equals_a_map(steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..200)) {
            let mut store = Store::default();
            // Every key ever given, and the streams that live: by key, their id and side.
            let mut keys: Vec<Key> = Vec::new();
            let mut live: BTreeMap<Key, (u32, bool)> = BTreeMap::new();
            let (mut next_local, mut next_remote) = (2, 3);
            for (step, pick) in steps {
                match step {
                    0 | 1 => {
                        let local = step == 0;
                        let id = if local { 0 } else { next_remote };
                        next_remote += if local { 0 } else { 2 };
                        let key = store.insert(stream(id, local));
                        prop_assert!(!keys.contains(&key), "{:?} was given before", key);
                        keys.push(key);
                        live.insert(key, (id, local));
                    }
                    2 => {
                        let silent: Vec<_> = live.iter().filter(|(_, (id, _))| *id == 0).map(|(key, _)| *key).collect();
                        if !silent.is_empty() {
                            let key = *pick.get(&silent);
                            store.announce(key, next_local);
                            live.insert(key, (next_local, true));
                            next_local += 2;
                        }
                    }
                    _ if keys.is_empty() => {}
                    _ => {
                        let key = *pick.get(&keys);
                        prop_assert_eq!(store.remove(key).is_some(), live.remove(&key).is_some());
                    }
                }
                prop_assert_eq!(store.len(), live.len());
                for key in &keys {
                    let stream = store.peek(*key).map(|stream| (stream.id, stream.local));
                    prop_assert_eq!(stream, live.get(key).copied());
                    prop_assert_eq!(store.at(*key).is_some(), stream.is_some());
                }
                let by_id = |key: &Key| live.get(key).is_some_and(|(id, local)| store.find(*id, *local) == Some(*key));
                prop_assert!(live.iter().all(|(key, (id, _))| *id == 0 || by_id(key)));
                prop_assert_eq!(store.iter().map(|(key, _)| key).collect::<Vec<_>>(), live.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!((store.find(next_local, true), store.find(next_remote, false)), (None, None));
            }
        }
    }
}
