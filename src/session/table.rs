//! What a session knows about each stream, beside the multiplexer's own table.

use crate::mux::Key;

/// One value for each live stream. As long as the multiplexer's table of streams, which is bounded.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Option<(Key, T)>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Puts a value in the stream's place; an earlier stream's value in that place is dropped.
    pub(crate) fn put(&mut self, key: Key, value: T) {
        while self.entries.len() <= key.index() {
            self.entries.push(None);
        }
        self.entries[key.index()] = Some((key, value));
    }

    pub(crate) fn at(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index()) {
            Some(Some((owner, value))) if *owner == key => Some(value),
            _ => None,
        }
    }

    pub(crate) fn take(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.index())?;
        entry.take_if(|(owner, _)| *owner == key).map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().flatten().map(|(key, value)| (*key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{Limits, Mux, Side};

    #[test]
    fn value_belongs_to_its_stream_alone() {
        let mut mux = Mux::new(Side::Agent, Limits::default());
        let mut table = Table::default();
        let old = mux.open(b"type").unwrap();
        table.put(old, 'a');
        mux.reset(old, crate::frame::ErrorCode::STREAM_CANCELLED);
        let new = mux.open(b"type").unwrap();
        assert_eq!(old.index(), new.index());
        assert_eq!(table.at(new), None);
        assert_eq!(table.take(new), None);
        table.put(new, 'b');
        assert_eq!(table.at(old), None);
        assert_eq!(table.take(new), Some('b'));
        assert_eq!(table.iter().count(), 0);
    }
}
