//! Frames as bytes. A DATA frame carries one flag at most: SYN together with FIN mutes some peers' writers.

use super::{
    BODY_LEN_MAX, ErrorCode, FLAG_FIN, FLAG_SYN, HEADER_LEN, INCREMENT_MAX, STREAM_ID_MAX, TYPE_DATA, TYPE_GOAWAY,
    TYPE_RST, TYPE_WNDINC,
};

/// What a DATA frame says besides its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFlag {
    /// Nothing.
    None,
    /// The first frame of a stream.
    Syn,
    /// The last frame in this direction.
    Fin,
}

/// The header of a DATA frame whose `len` payload bytes follow. `len` beyond 24 bits is cut to the largest length.
pub fn data_header(stream_id: u32, len: usize, flag: DataFlag) -> [u8; HEADER_LEN] {
    let flags = match flag {
        DataFlag::None => 0,
        DataFlag::Syn => FLAG_SYN,
        DataFlag::Fin => FLAG_FIN,
    };
    let len = u32::try_from(len).unwrap_or(BODY_LEN_MAX).min(BODY_LEN_MAX);
    header(len, TYPE_DATA, flags, stream_id)
}

/// A whole RST frame.
pub fn reset(stream_id: u32, code: ErrorCode) -> [u8; HEADER_LEN + 4] {
    with_word(TYPE_RST, stream_id, code.0)
}

/// A whole WNDINC frame; the increment is cut to 31 bits.
pub fn credit(stream_id: u32, increment: u32) -> [u8; HEADER_LEN + 4] {
    with_word(TYPE_WNDINC, stream_id, increment.min(INCREMENT_MAX))
}

/// A whole GOAWAY frame. `text` is cut to `GO_AWAY_TEXT_MAX` bytes.
pub fn go_away(last_stream_id: u32, code: ErrorCode, text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(GO_AWAY_TEXT_MAX)];
    let mut frame = Vec::with_capacity(HEADER_LEN + 8 + text.len());
    let len = u32::try_from(8 + text.len()).unwrap_or(BODY_LEN_MAX);
    frame.extend_from_slice(&header(len, TYPE_GOAWAY, 0, 0));
    frame.extend_from_slice(&(last_stream_id & STREAM_ID_MAX).to_be_bytes());
    frame.extend_from_slice(&code.0.to_be_bytes());
    frame.extend_from_slice(text);
    frame
}

fn header(len: u32, kind: u8, flags: u8, stream_id: u32) -> [u8; HEADER_LEN] {
    let first = (len << 8) | (u32::from(kind) << 4) | u32::from(flags);
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&first.to_be_bytes());
    bytes[4..].copy_from_slice(&(stream_id & STREAM_ID_MAX).to_be_bytes());
    bytes
}

fn with_word(kind: u8, stream_id: u32, word: u32) -> [u8; HEADER_LEN + 4] {
    let mut bytes = [0; HEADER_LEN + 4];
    bytes[..HEADER_LEN].copy_from_slice(&header(4, kind, 0, stream_id));
    bytes[HEADER_LEN..].copy_from_slice(&word.to_be_bytes());
    bytes
}

/// Longest text of a GOAWAY frame that we send, in bytes: enough for a sentence in the peer's log.
pub(super) const GO_AWAY_TEXT_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    // F1 to F5 of the protocol's test table.
    #[test]
    fn frames_have_the_specified_bytes() {
        let mut open = data_header(3, 4, DataFlag::Syn).to_vec();
        open.extend_from_slice(&[0xff; 4]);
        assert_eq!(open, [0, 0, 4, 0x12, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(data_header(5, 0, DataFlag::Fin), [0, 0, 0, 0x11, 0, 0, 0, 5]);
        assert_eq!(credit(3, 8), [0, 0, 4, 0x20, 0, 0, 0, 3, 0, 0, 0, 8]);
        assert_eq!(reset(4, ErrorCode::STREAM_CANCELLED), [0, 0, 4, 0, 0, 0, 0, 4, 0, 0, 0, 6]);
        let mut bye = vec![0, 0, 0x10, 0x30, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
        bye.extend_from_slice(b"no error");
        assert_eq!(go_away(2, ErrorCode::NO_ERROR, "no error"), bye);
    }

    #[test]
    fn lengths_and_increments_beyond_their_field_are_cut() {
        assert_eq!(data_header(1, usize::MAX, DataFlag::None)[..3], [0xff, 0xff, 0xff]);
        assert_eq!(credit(2, u32::MAX)[8..], [0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(go_away(0, ErrorCode::NO_ERROR, &"x".repeat(9999)).len(), 16 + GO_AWAY_TEXT_MAX);
    }

    proptest::proptest! {
        // F19: SYN and FIN never meet, and only DATA carries flags.
        #[test]
        fn flags_are_at_most_one_and_only_on_data(id in 1u32..=STREAM_ID_MAX, len in 0usize..100_000, word: u32, pick in 0u8..3) {
            let flag = [DataFlag::None, DataFlag::Syn, DataFlag::Fin][usize::from(pick)];
            let bytes = data_header(id, len, flag);
            proptest::prop_assert_ne!(bytes[3] & 0x0f, FLAG_FIN | FLAG_SYN);
            proptest::prop_assert_eq!(reset(id, ErrorCode(word))[3] & 0x0f, 0);
            proptest::prop_assert_eq!(credit(id, word)[3] & 0x0f, 0);
            proptest::prop_assert_eq!(go_away(id, ErrorCode(word), "text")[3] & 0x0f, 0);
        }
    }
}
