//! What is written to a link at a time: bytes of its own, and between them some that stay where they are, because to copy them
//! first would cost as much as to encrypt them.

use std::io::IoSlice;

use bytes::Bytes;

/// Bytes taken from a session, in their order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    own: Vec<u8>,
    /// What is not its own, and behind how many of its own bytes it belongs. Not more than the frames of a batch.
    others: Vec<(usize, Piece)>,
    others_len: usize,
    is_lent: bool,
}

/// Bytes that were not copied.
#[derive(Debug)]
enum Piece {
    /// The next ones of those that somebody has brought and takes away again.
    Lent(usize),
    /// Those of a stream's queue.
    Given(Bytes),
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.own.len() + self.others_len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether some of it is only lent.
    pub(super) fn is_lent(&self) -> bool {
        self.is_lent
    }

    /// Where frames of the protocol are appended.
    pub(super) fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    /// Appends the next `len` bytes of those that were brought.
    pub(super) fn lend(&mut self, len: usize) {
        self.is_lent = true;
        self.insert(len, Piece::Lent(len));
    }

    /// Appends bytes that are in nobody else's way.
    pub(super) fn give(&mut self, bytes: Bytes) {
        self.insert(bytes.len(), Piece::Given(bytes));
    }

    fn insert(&mut self, len: usize, piece: Piece) {
        self.others.push((self.own.len(), piece));
        self.others_len += len;
    }

    /// Its bytes from `start` on; `brought` is where what was lent begins.
    pub(super) fn slices<'a>(&'a self, start: usize, mut brought: &'a [u8]) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(2 * self.others.len() + 1);
        let mut skipped = start;
        let mut add = |bytes: &'a [u8]| {
            let skip = skipped.min(bytes.len());
            skipped -= skip;
            slices.extend(bytes.get(skip..).filter(|rest| !rest.is_empty()).map(IoSlice::new));
        };
        let mut own = 0;
        for (behind, piece) in &self.others {
            add(self.own.get(own..*behind).unwrap_or_default());
            own = *behind;
            match piece {
                Piece::Lent(len) => {
                    let (lent, rest) = brought.split_at((*len).min(brought.len()));
                    add(lent);
                    brought = rest;
                }
                Piece::Given(bytes) => add(bytes),
            }
        }
        add(self.own.get(own..).unwrap_or_default());
        slices
    }

    /// Its bytes in one piece, from `start` on; `brought` is where what was lent begins.
    pub(super) fn in_one(&mut self, start: usize, brought: &[u8]) -> &[u8] {
        if !self.others.is_empty() {
            let mut whole = Vec::with_capacity(self.len());
            self.slices(0, brought).iter().for_each(|slice| whole.extend_from_slice(slice));
            self.own = whole;
            self.let_go();
        }
        self.own.get(start..).unwrap_or_default()
    }

    /// Empties it, and gives back what was given to it.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.own.clear();
        self.let_go().into_iter().filter_map(|(_, piece)| match piece {
            Piece::Given(bytes) => Some(bytes),
            Piece::Lent(_) => None,
        })
    }

    fn let_go(&mut self) -> Vec<(usize, Piece)> {
        (self.others_len, self.is_lent) = (0, false);
        std::mem::take(&mut self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(slices: &[IoSlice<'_>]) -> Vec<u8> {
        slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    const BROUGHT: &[u8] = b"0123456789";
    const WHOLE: &[u8] = b"ab0123cXYZ456789de";

    fn batch() -> Batch {
        let mut batch = Batch::default();
        batch.push(b"ab");
        batch.lend(4);
        batch.push(b"c");
        batch.give(Bytes::from_static(b"XYZ"));
        batch.lend(6);
        batch.push(b"d");
        batch.push(b"e");
        batch
    }

    #[test]
    fn everything_stands_where_it_belongs_from_any_byte_on() {
        for start in 0..=WHOLE.len() {
            let batch = batch();
            let slices = batch.slices(start, BROUGHT);
            assert_eq!(joined(&slices), &WHOLE[start..]);
            assert!(slices.iter().all(|slice| !slice.is_empty()));
            assert_eq!((batch.len(), batch.is_lent(), batch.is_empty()), (WHOLE.len(), true, false));
        }
    }

    #[test]
    fn in_one_piece_it_is_all_its_own() {
        for start in 0..=WHOLE.len() {
            let mut batch = batch();
            assert_eq!(batch.in_one(start, BROUGHT), &WHOLE[start..]);
            assert_eq!((batch.len(), batch.is_lent()), (WHOLE.len(), false));
            assert_eq!(batch.in_one(start, b""), &WHOLE[start..]);
        }
    }

    #[test]
    fn what_was_given_is_given_back_and_nothing_is_left() {
        let mut batch = batch();
        assert_eq!(batch.clear().collect::<Vec<_>>(), [&b"XYZ"[..]]);
        assert!(batch.is_empty() && !batch.is_lent());
        batch.push(b"next");
        assert_eq!((joined(&batch.slices(0, b"")), batch.in_one(1, b"")), (b"next".to_vec(), &b"ext"[..]));
    }
}
