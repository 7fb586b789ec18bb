//! What streams carry: every byte says which stream, direction and offset it belongs to.

use std::sync::LazyLock;

/// Bytes of a direction repeat after this many: a prime, so that no frame or block length divides it.
const PERIOD: usize = 65_521;
/// Longest piece that is looked at.
const PIECE_MAX: usize = 32 * 1024;

static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = super::random::Random::new(1);
    let mut table: Vec<u8> = (0..PERIOD).map(|_| random.next().to_be_bytes()[0]).collect();
    table.extend_from_within(..PIECE_MAX);
    table
});

/// Bytes of the tag with which the opener's direction begins.
pub(crate) const TAG_LEN: usize = 4;

/// The bytes from `offset` on, at most `len` of them, of one direction of the stream with this tag.
pub(crate) fn bytes(tag: usize, opener: bool, offset: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend_from_slice(piece(tag, opener, offset + bytes.len(), len - bytes.len()));
    }
    if opener {
        let tag = u32::try_from(tag).unwrap_or(u32::MAX).to_be_bytes();
        for (byte, tag_byte) in bytes.iter_mut().zip(tag.iter().skip(offset)) {
            *byte = *tag_byte;
        }
    }
    bytes
}

/// Whether `seen` is what belongs at `offset`, which is behind the tag.
pub(crate) fn matches(tag: usize, opener: bool, mut offset: usize, mut seen: &[u8]) -> bool {
    while !seen.is_empty() {
        let expected = piece(tag, opener, offset, seen.len());
        let (now, later) = seen.split_at(expected.len());
        if now != expected {
            return false;
        }
        offset += now.len();
        seen = later;
    }
    true
}

fn piece(tag: usize, opener: bool, offset: usize, len: usize) -> &'static [u8] {
    let from = (tag * 7919 + usize::from(opener) * 20_011 + offset) % PERIOD;
    &TABLE[from..from + len.min(PIECE_MAX)]
}
