//! Where the records of a TLS connection end, followed in what is read: tells whether one is incomplete.

use std::io::{self, Read};

/// Follows the records of one direction.
#[derive(Debug, Default)]
pub(super) struct Records {
    header: [u8; HEADER_LEN],
    header_len: usize,
    body_left: usize,
}

impl Records {
    /// Reads through this from `source`.
    pub(super) fn follow<'a, R: Read>(&'a mut self, source: &'a mut R) -> impl Read + 'a {
        Followed { records: self, source }
    }

    /// A record has begun and not ended.
    pub(super) fn is_incomplete(&self) -> bool {
        self.header_len > 0 || self.body_left > 0
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.body_left));
            self.body_left -= now.len();
            bytes = later;
            let (now, later) = bytes.split_at(bytes.len().min(HEADER_LEN - self.header_len));
            self.header[self.header_len..self.header_len + now.len()].copy_from_slice(now);
            self.header_len += now.len();
            bytes = later;
            if let (HEADER_LEN, [_, _, _, high, low]) = (self.header_len, self.header) {
                self.header_len = 0;
                self.body_left = usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

struct Followed<'a, R> {
    records: &'a mut Records,
    source: &'a mut R,
}

impl<R: Read> Read for Followed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buffer)?;
        self.records.push(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}

/// Type, version, length of the rest.
const HEADER_LEN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_incomplete_from_its_first_to_before_its_last_byte() {
        let wire = [[23, 3, 3, 0, 2, 9, 9].as_slice(), &[23, 3, 3, 0, 0], &[23, 3, 3, 1, 0], &[7; 256]].concat();
        let ends = [7, 12, 12 + 5 + 256];
        for chunk in [1, 2, 3, 5, 7, 100, wire.len()] {
            let (mut records, mut at) = (Records::default(), 0);
            for piece in wire.chunks(chunk) {
                let mut read = vec![0; piece.len()];
                records.follow(&mut &*piece).read_exact(&mut read).unwrap();
                at += piece.len();
                assert_eq!(records.is_incomplete(), !ends.contains(&at), "{chunk}: {at}");
            }
        }
    }
}
