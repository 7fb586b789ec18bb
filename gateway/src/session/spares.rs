//! Buffers that streams of a link have filled and the link has written: for the next ones, still in the processor's cache.

use bytes::{Bytes, BytesMut};

use super::link::OUTGOING_MAX;

/// A few buffers of [`OUTGOING_MAX`] bytes, while the link is busy.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<BytesMut>);

impl Spares {
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Option<BytesMut> {
        self.0.pop()
    }

    /// Takes back the memory of bytes that nobody needs any more.
    pub(super) fn put(&mut self, bytes: Bytes) {
        if self.0.len() >= SPARES_MAX {
            return;
        }
        // Others that have a part of it still need it.
        let Ok(mut buffer) = bytes.try_into_mut() else { return };
        buffer.clear();
        if buffer.try_reclaim(OUTGOING_MAX) {
            self.0.push(buffer);
        }
    }

    /// The link has nothing to write.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

/// As many as visitors' tasks that work at the same time, about.
const SPARES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> BytesMut {
        BytesMut::from(&*vec![7; OUTGOING_MAX])
    }

    #[test]
    fn buffer_comes_back_whole_once_all_of_it_was_written() {
        let mut spares = Spares::default();
        let mut outgoing = full();
        let (first, second) = (outgoing.split_to(1000).freeze(), outgoing.split_to(2000).freeze());
        spares.put(first);
        assert!(spares.take().is_none(), "the rest is still to be written");
        spares.put(second);
        assert!(spares.take().is_none(), "the rest is still to be written");
        spares.put(outgoing.freeze());
        let buffer = spares.take().unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= OUTGOING_MAX);
    }

    #[test]
    fn there_are_few_and_none_that_is_small() {
        let mut spares = Spares::default();
        spares.put(Bytes::from_static(b"constant"));
        spares.put(BytesMut::from(&b"small"[..]).freeze());
        assert!(spares.take().is_none());
        (0..=SPARES_MAX).for_each(|_| spares.put(full().freeze()));
        assert_eq!(spares.0.len(), SPARES_MAX);
        spares.clear();
        assert!(spares.take().is_none());
    }
}
