//! Frames from bytes, in any chunking. Keeps a header and at most eight body bytes; payload is lent, never copied.

use super::{
    ErrorCode, FLAG_FIN, FLAG_SYN, HEADER_LEN, INCREMENT_MAX, STREAM_ID_MAX, TYPE_DATA, TYPE_GOAWAY, TYPE_RST,
    TYPE_WNDINC,
};

/// One step of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A DATA frame begins; `len` bytes follow as [`Item::Payload`] pieces (none when `len` is zero).
    Data {
        /// The stream, never zero.
        id: u32,
        /// Payload bytes that follow, up to 24 bits: judge it before storing anything.
        len: u32,
        /// The stream begins here.
        syn: bool,
        /// The direction ends after this frame's payload.
        fin: bool,
    },
    /// A piece of the current DATA frame's payload, never empty.
    Payload {
        /// The bytes, lent from the input.
        bytes: &'a [u8],
        /// Nothing of this frame follows.
        last: bool,
    },
    /// RST.
    Reset {
        /// The stream, never zero.
        id: u32,
        /// Why.
        code: ErrorCode,
    },
    /// WNDINC.
    Credit {
        /// The stream, never zero.
        id: u32,
        /// Bytes that may be sent in addition, never zero.
        increment: u32,
    },
    /// GOAWAY. What follows must not be parsed: one family of peers announces a wrong length.
    GoAway {
        /// The last stream that the peer processed.
        last_id: u32,
        /// Why.
        code: ErrorCode,
    },
}

/// A frame that breaks the protocol for the whole session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A frame that belongs to a stream names stream zero.
    StreamZero,
    /// A WNDINC that grants nothing.
    IncrementZero,
    /// A RST or WNDINC whose body is not four bytes long.
    FrameSize {
        /// The announced length.
        len: u32,
    },
}

impl DecodeError {
    /// The code for the GOAWAY that answers it.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::StreamZero | Self::IncrementZero => ErrorCode::PROTOCOL_ERROR,
            Self::FrameSize { .. } => ErrorCode::FRAME_SIZE_ERROR,
        }
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StreamZero => write!(f, "a frame of a stream names stream 0"),
            Self::IncrementZero => write!(f, "a WNDINC frame grants 0 bytes"),
            Self::FrameSize { len } => write!(f, "a RST or WNDINC frame has {len} bytes instead of 4"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Splits a byte stream into [`Item`]s.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Header bytes, then the body of a small frame. Invariant: `kept_len <= kept.len()`.
    kept: [u8; KEPT_LEN],
    kept_len: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Header,
    Payload {
        left: u32,
    },
    Skip {
        left: u32,
    },
    Word {
        kind: u8,
        id: u32,
    },
    GoAway,
    Ended,
}

impl Decoder {
    /// Takes bytes off the front of `input` and returns the next item, or `None` when more input is needed. After a
    /// GOAWAY or an error it takes nothing more.
    ///
    /// # Errors
    /// [`DecodeError`]: the session has to end.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, DecodeError> {
        let result = self.step(input);
        if result.is_err() {
            self.state = State::Ended;
        }
        result
    }

    /// Whether a GOAWAY or an error ended the input.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, DecodeError> {
        loop {
            match self.state {
                State::Ended => return Ok(None),
                State::Header => {
                    let Some(header) = self.keep::<HEADER_LEN>(input) else { return Ok(None) };
                    if let Some(item) = self.on_header(header)? {
                        return Ok(Some(item));
                    }
                }
                State::Payload { left } => {
                    let bytes = take(input, left);
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let left = left.saturating_sub(len_u32(bytes));
                    self.state = if left == 0 { State::Header } else { State::Payload { left } };
                    return Ok(Some(Item::Payload { bytes, last: left == 0 }));
                }
                State::Skip { left } => {
                    let left = left.saturating_sub(len_u32(take(input, left)));
                    if left > 0 {
                        self.state = State::Skip { left };
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::Word { kind, id } => {
                    let Some(body) = self.keep::<4>(input) else { return Ok(None) };
                    self.state = State::Header;
                    return on_word(kind, id, u32::from_be_bytes(body)).map(Some);
                }
                State::GoAway => {
                    let Some(body) = self.keep::<8>(input) else { return Ok(None) };
                    self.state = State::Ended;
                    let [a, b, c, d, e, f, g, h] = body;
                    let last_id = u32::from_be_bytes([a, b, c, d]) & STREAM_ID_MAX;
                    let code = ErrorCode(u32::from_be_bytes([e, f, g, h]));
                    return Ok(Some(Item::GoAway { last_id, code }));
                }
            }
        }
    }

    fn on_header(&mut self, header: [u8; HEADER_LEN]) -> Result<Option<Item<'static>>, DecodeError> {
        let [l2, l1, l0, kind_and_flags, i3, i2, i1, i0] = header;
        let len = u32::from_be_bytes([0, l2, l1, l0]);
        let id = u32::from_be_bytes([i3, i2, i1, i0]) & STREAM_ID_MAX;
        let kind = kind_and_flags >> 4;
        match kind {
            TYPE_DATA if id == 0 => Err(DecodeError::StreamZero),
            TYPE_DATA => {
                self.state = if len == 0 { State::Header } else { State::Payload { left: len } };
                let (syn, fin) = (kind_and_flags & FLAG_SYN != 0, kind_and_flags & FLAG_FIN != 0);
                Ok(Some(Item::Data { id, len, syn, fin }))
            }
            TYPE_RST | TYPE_WNDINC if len != 4 => Err(DecodeError::FrameSize { len }),
            TYPE_RST | TYPE_WNDINC if id == 0 => Err(DecodeError::StreamZero),
            TYPE_RST | TYPE_WNDINC => {
                self.state = State::Word { kind, id };
                Ok(None)
            }
            TYPE_GOAWAY => {
                self.state = State::GoAway;
                Ok(None)
            }
            // Unknown types are skipped, as one of the two official families does.
            _ => {
                self.state = State::Skip { left: len };
                Ok(None)
            }
        }
    }

    /// Collects `N` bytes over as many calls as it takes.
    fn keep<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        if self.kept_len == 0
            && let Some((whole, rest)) = input.split_first_chunk::<N>()
        {
            *input = rest;
            return Some(*whole);
        }
        while self.kept_len < N {
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            self.kept[self.kept_len] = byte;
            self.kept_len += 1;
        }
        self.kept_len = 0;
        self.kept.first_chunk::<N>().copied()
    }
}

fn on_word(kind: u8, id: u32, word: u32) -> Result<Item<'static>, DecodeError> {
    if kind == TYPE_RST {
        return Ok(Item::Reset { id, code: ErrorCode(word) });
    }
    match word & INCREMENT_MAX {
        0 => Err(DecodeError::IncrementZero),
        increment => Ok(Item::Credit { id, increment }),
    }
}

fn take<'a>(input: &mut &'a [u8], at_most: u32) -> &'a [u8] {
    let at_most = usize::try_from(at_most).unwrap_or(usize::MAX);
    let (taken, rest) = input.split_at(input.len().min(at_most));
    *input = rest;
    taken
}

fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

const KEPT_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{DataFlag, credit, data_header, go_away, reset};

    /// Decodes all of `bytes` in pieces of `chunk`, joining payload pieces so that chunking does not show.
    fn decode(bytes: &[u8], chunk: usize) -> Result<Vec<String>, DecodeError> {
        let mut decoder = Decoder::default();
        let (mut out, mut payload) = (Vec::new(), Vec::new());
        for mut piece in bytes.chunks(chunk.max(1)) {
            while let Some(item) = decoder.next(&mut piece)? {
                match item {
                    Item::Payload { bytes, last } => {
                        payload.extend_from_slice(bytes);
                        if last {
                            out.push(format!("{:?}", std::mem::take(&mut payload)));
                        }
                    }
                    other => out.push(format!("{other:?}")),
                }
            }
        }
        Ok(out)
    }

    #[test]
    fn session_level_violations_have_their_codes() {
        let cases: [(&[u8], ErrorCode); 5] = [
            (&[0, 0, 1, 0x10, 0, 0, 0, 0], ErrorCode::PROTOCOL_ERROR),
            (&[0, 0, 4, 0x20, 0, 0, 0, 0], ErrorCode::PROTOCOL_ERROR),
            (&[0, 0, 4, 0x20, 0, 0, 0, 3, 0x80, 0, 0, 0], ErrorCode::PROTOCOL_ERROR),
            (&[0, 0, 5, 0x00, 0, 0, 0, 3], ErrorCode::FRAME_SIZE_ERROR),
            (&[0, 0, 0, 0x20, 0, 0, 0, 3], ErrorCode::FRAME_SIZE_ERROR),
        ];
        for (bytes, code) in cases {
            assert_eq!(decode(bytes, 3).unwrap_err().code(), code, "{bytes:?}");
        }
    }

    // F11.
    #[test]
    fn unknown_types_are_skipped() {
        let mut bytes = vec![0, 0, 3, 0x90, 0, 0, 0, 7, 1, 2, 3];
        bytes.extend_from_slice(&credit(3, 9));
        assert_eq!(decode(&bytes, 2).unwrap(), ["Credit { id: 3, increment: 9 }"]);
    }

    // F7: the announced length is not believed and nothing behind it is parsed.
    #[test]
    fn nothing_is_parsed_after_go_away() {
        let mut bytes = go_away(2, ErrorCode::NO_ERROR, "shutting down");
        bytes[2] = 13;
        bytes.extend_from_slice(&reset(2, ErrorCode::STREAM_CLOSED));
        assert_eq!(decode(&bytes, 5).unwrap(), ["GoAway { last_id: 2, code: no error (0x0) }"]);
    }

    #[test]
    fn an_error_ends_the_input() {
        let mut decoder = Decoder::default();
        let mut input: &[u8] = &[0, 0, 1, 0x10, 0, 0, 0, 0];
        assert!(decoder.next(&mut input).is_err());
        let good = credit(3, 1);
        assert_eq!(decoder.next(&mut &good[..]), Ok(None));
    }

    fn any_frames() -> impl Strategy<Value = Vec<u8>> {
        let id = 1u32..=STREAM_ID_MAX;
        let frame = prop_oneof![
            (id.clone(), proptest::collection::vec(any::<u8>(), 0..300), 0u8..3).prop_map(|(id, body, pick)| {
                let flag = [DataFlag::None, DataFlag::Syn, DataFlag::Fin][usize::from(pick)];
                [data_header(id, body.len(), flag).to_vec(), body].concat()
            }),
            (id.clone(), any::<u32>()).prop_map(|(id, code)| reset(id, ErrorCode(code)).to_vec()),
            (id, 1u32..).prop_map(|(id, n)| credit(id, n).to_vec()),
        ];
        proptest::collection::vec(frame, 0..20).prop_map(|frames| frames.concat())
    }

    proptest! {
        #[test]
        fn chunking_does_not_matter(bytes in any_frames(), chunk in 1usize..64) {
            prop_assert_eq!(decode(&bytes, chunk), decode(&bytes, usize::MAX));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), chunk in 1usize..64) {
            prop_assert_eq!(decode(&bytes, chunk), decode(&bytes, usize::MAX));
        }
    }
}
