//! Finds the end of one JSON object in a stream of bytes, and refuses what would cost too much to parse.
//!
//! Agents do not end their half of a call, so the end of the text has to be found in the text itself.

use std::fmt;

/// Watches the bytes of one JSON object go by, in chunks of any size, in constant memory.
///
/// It checks strings, nesting and the limits, not the grammar: the parser does that once the object is complete.
#[derive(Clone, Debug, Default)]
pub struct JsonScan {
    state: State,
    /// Bytes seen so far, white space in front of the object included.
    len: usize,
    /// Containers open at this byte. Invariant: at most `DEPTH_MAX`.
    depth: u32,
    /// One bit per open container, the innermost lowest: 1 for an array.
    arrays: u64,
    /// Upper bound of the number of values seen so far.
    values: u32,
}

impl JsonScan {
    /// Starts in front of an object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes; returns how many of them belong to the object once its end is among them, `None` before.
    ///
    /// After the end it takes nothing more, and after an error it repeats the error.
    ///
    /// # Errors
    ///
    /// Anything but an object (white space in front of it is fine), a bracket that closes nothing, or a limit.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        match self.state {
            State::Failed(error) => return Err(error),
            State::Ended => return Ok(Some(0)),
            State::Before | State::Between | State::Text | State::Escape => {}
        }
        for (at, byte) in bytes.iter().enumerate() {
            match self.step(*byte) {
                Ok(State::Ended) => {
                    self.state = State::Ended;
                    return Ok(Some(at + 1));
                }
                Ok(state) => self.state = state,
                Err(error) => {
                    self.state = State::Failed(error);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<State, ScanError> {
        if self.len >= MESSAGE_BYTES_MAX {
            return Err(ScanError::TooLong);
        }
        self.len += 1;
        match (self.state, byte) {
            (State::Before, b' ' | b'\t' | b'\r' | b'\n') => Ok(State::Before),
            (State::Before, b'{') | (State::Between, b'{' | b'[') => self.open(byte == b'['),
            (State::Before, _) => Err(ScanError::NotObject),
            (State::Between, b'}' | b']') => self.close(byte == b']'),
            (State::Between, b'"') => Ok(State::Text),
            (State::Between, b',') => self.count(),
            (State::Between, _) => Ok(State::Between),
            (State::Text, b'\\') => Ok(State::Escape),
            (State::Text, b'"') => Ok(State::Between),
            (State::Text | State::Escape, _) => Ok(State::Text),
            (State::Ended | State::Failed(_), _) => Ok(self.state),
        }
    }

    fn open(&mut self, array: bool) -> Result<State, ScanError> {
        if self.depth >= DEPTH_MAX {
            return Err(ScanError::TooDeep);
        }
        self.depth += 1;
        self.arrays = self.arrays << 1 | u64::from(array);
        self.count()
    }

    fn close(&mut self, array: bool) -> Result<State, ScanError> {
        if array != (self.arrays & 1 == 1) {
            return Err(ScanError::Mismatch);
        }
        self.arrays >>= 1;
        self.depth = self.depth.saturating_sub(1);
        Ok(if self.depth == 0 { State::Ended } else { State::Between })
    }

    /// A container has one value more than it has commas: counting both kinds of characters bounds the values.
    fn count(&mut self) -> Result<State, ScanError> {
        if self.values >= VALUES_MAX {
            return Err(ScanError::TooMany);
        }
        self.values += 1;
        Ok(State::Between)
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// In front of the object.
    #[default]
    Before,
    /// In the object, outside of strings.
    Between,
    /// In a string.
    Text,
    /// In a string, behind a backslash.
    Escape,
    Ended,
    Failed(ScanError),
}

/// Why a text cannot be a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// It does not begin with `{`.
    NotObject,
    /// A closing bracket is not that of the innermost open one.
    Mismatch,
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    TooLong,
    /// It nests deeper than [`DEPTH_MAX`].
    TooDeep,
    /// It has more than [`VALUES_MAX`] values.
    TooMany,
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotObject => f.write_str("the message must be a JSON object"),
            Self::Mismatch => f.write_str("every bracket of the message must be closed by its own kind"),
            Self::TooLong => write!(f, "the message must not be longer than {MESSAGE_BYTES_MAX} bytes"),
            Self::TooDeep => write!(f, "the message must not nest deeper than {DEPTH_MAX} levels"),
            Self::TooMany => write!(f, "the message must not have more than {VALUES_MAX} values"),
        }
    }
}

impl std::error::Error for ScanError {}

/// The longest message, in bytes. A bind request carries a Traffic Policy, which may have several hundred KiB.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The deepest nesting. The protocol needs 5; it is also what one `u64` can keep the kinds of.
pub const DEPTH_MAX: u32 = u64::BITS;

/// The most values in one message. A parsed value takes up to some hundred bytes where its text takes two, so without this
/// limit 1 MiB of text could cost 50 MiB of memory. Real messages have about 50, with long lists of addresses some thousand.
pub const VALUES_MAX: u32 = 16_384;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        JsonScan::new().push(bytes)
    }

    #[test]
    fn end_of_the_object_is_found() {
        let cases: [(&str, Option<usize>); 9] = [
            ("{}", Some(2)),
            (" \r\n\t{} {}", Some(6)),
            (r#"{"a":"}\"}"}}"#, Some(12)),
            (r#"{"a\\":[{},[]]}x"#, Some(15)),
            (r#"{"a":"\\"}"#, Some(10)),
            ("", None),
            (" ", None),
            ("{", None),
            (r#"{"a":"}"#, None),
        ];
        for (text, end) in cases {
            assert_eq!(scan(text.as_bytes()), Ok(end), "{text}");
        }
    }

    #[test]
    fn anything_but_an_object_is_refused_at_its_first_byte() {
        for text in ["[]", "1", "\"a\"", "null", "}", "\u{feff}{}", "\0"] {
            assert_eq!(scan(text.as_bytes()), Err(ScanError::NotObject), "{text}");
        }
        for text in ["{]", r#"{"a":[}"#] {
            assert_eq!(scan(text.as_bytes()), Err(ScanError::Mismatch), "{text}");
        }
    }

    #[test]
    fn length_limit_holds_at_its_bound() {
        let object = |len: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(len - 8));
        assert_eq!(scan(object(MESSAGE_BYTES_MAX).as_bytes()), Ok(Some(MESSAGE_BYTES_MAX)));
        assert_eq!(scan(object(MESSAGE_BYTES_MAX + 1).as_bytes()), Err(ScanError::TooLong));
        let mut scan = JsonScan::new();
        assert_eq!(scan.push(&vec![b' '; MESSAGE_BYTES_MAX]), Ok(None));
        assert_eq!(scan.push(b"{"), Err(ScanError::TooLong));
        assert_eq!(scan.push(b""), Err(ScanError::TooLong));
    }

    #[test]
    fn depth_limit_holds_at_its_bound() {
        let nested = |depth: usize| {
            let inner = depth - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
        };
        let deepest = nested(DEPTH_MAX as usize);
        assert_eq!(scan(deepest.as_bytes()), Ok(Some(deepest.len())));
        assert_eq!(scan(nested(DEPTH_MAX as usize + 1).as_bytes()), Err(ScanError::TooDeep));
    }

    #[test]
    fn value_limit_holds_at_its_bound() {
        // The object and its array count as one each, the elements as one per comma.
        let list = |len: usize| format!("{{\"a\":[0{}]}}", ",0".repeat(len - 1));
        let longest = list(VALUES_MAX as usize - 1);
        assert_eq!(scan(longest.as_bytes()), Ok(Some(longest.len())));
        assert_eq!(scan(list(VALUES_MAX as usize).as_bytes()), Err(ScanError::TooMany));
    }

    #[test]
    fn ended_scan_takes_nothing_more() {
        let mut scan = JsonScan::new();
        assert_eq!(scan.push(b"{}"), Ok(Some(2)));
        assert_eq!(scan.push(b"{}"), Ok(Some(0)));
    }

    fn in_chunks(bytes: &[u8], chunk_len: usize) -> Result<Option<usize>, ScanError> {
        let mut scan = JsonScan::new();
        let mut before = 0;
        for chunk in bytes.chunks(chunk_len) {
            if let Some(used) = scan.push(chunk)? {
                return Ok(Some(before + used));
            }
            before += chunk.len();
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn chunking_does_not_matter(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\"\\,:a0 \n\xff"[..]), 0..64), chunk_len in 1usize..8) {
            prop_assert_eq!(in_chunks(&bytes, chunk_len), scan(&bytes));
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(Some(end)) = scan(&bytes) {
                prop_assert!(end <= bytes.len());
            }
        }

        #[test]
        fn end_is_that_of_the_parser(text in r#"\{("[a-z\\\\"{}]{0,6}":(\[\]|\{\}|1|"[a-z{}\]\[]{0,6}"),?){0,4}\}"#, tail in "[a-z{} ]{0,4}") {
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                let both = format!("{text}{tail}");
                prop_assert_eq!(scan(both.as_bytes()), Ok(Some(text.len())));
            }
        }
    }
}
