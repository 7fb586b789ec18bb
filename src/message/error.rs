//! Errors: those that peers tell each other, and those of reading a message.

use std::fmt;

use super::codes;
use super::json_scan::ScanError;

/// A refusal as it travels in the `Error` member of a reply: words for a person and a number for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The number of an `ERR_NGROK_` code; `None` when the peer gave none.
    pub code: Option<u32>,
    /// What went wrong, in one or more lines.
    pub message: String,
}

impl WireError {
    /// An error with one of the [`codes`].
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code: Some(code), message: message.into() }
    }

    /// The text for the `Error` member: never empty, the code alone on its line, where every agent finds it.
    pub fn to_wire(&self) -> String {
        match self.code {
            Some(code) => format!("{}\n\n{CODE_PREFIX}{code}\n", self.message),
            // An empty text would mean success.
            None if self.message.is_empty() => "unknown error".to_owned(),
            None => self.message.clone(),
        }
    }

    /// Reads an `Error` member; `None` for the empty text, which means success.
    ///
    /// The code is the first one found anywhere; lines that begin with a code, and empty lines, are no part of the message.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let mut code = None;
        let mut message = String::new();
        for line in text.lines() {
            code = code.or_else(|| find_code(line));
            if line.is_empty() || (line.starts_with(CODE_PREFIX) && find_code(line).is_some()) {
                continue;
            }
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(line);
        }
        Some(Self { code, message })
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.message.as_str()) {
            (Some(code), "") => write!(f, "{CODE_PREFIX}{code}"),
            (Some(code), message) => write!(f, "{CODE_PREFIX}{code}: {message}"),
            (None, "") => f.write_str("unknown error"),
            (None, message) => f.write_str(message),
        }
    }
}

impl std::error::Error for WireError {}

/// Why a message could not be read. Members are named by their path; their values are never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// It is no object, or exceeds a limit.
    Scan(ScanError),
    /// The object does not end.
    Truncated,
    /// Something follows the object.
    Trailing,
    /// It is not JSON at this place of the text; both count from 1.
    Syntax {
        /// The line.
        line: usize,
        /// The column, in bytes.
        column: usize,
    },
    /// A member that peers rely on is absent.
    Missing {
        /// Its path.
        field: &'static str,
    },
    /// A member has another type than it must have.
    Type {
        /// Its path.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A member has the right type but no value that means something.
    Value {
        /// Its path.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl MessageError {
    /// The code for the mistakes that have one of their own; for the others the call that failed decides.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Value { field: "Proto", .. } => Some(codes::PROTOCOL_UNSUPPORTED),
            Self::Type { field: "Opts.TrafficPolicy", .. } => Some(codes::POLICY_INVALID),
            Self::Scan(_)
            | Self::Truncated
            | Self::Trailing
            | Self::Syntax { .. }
            | Self::Missing { .. }
            | Self::Type { .. }
            | Self::Value { .. } => None,
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scan(error) => error.fmt(f),
            Self::Truncated => f.write_str("the JSON object must be complete"),
            Self::Trailing => f.write_str("nothing may follow the JSON object"),
            Self::Syntax { line, column } => {
                write!(f, "the message must be valid JSON: see line {line}, column {column}")
            }
            Self::Missing { field } => write!(f, "{field} must be present"),
            Self::Type { field, expected } | Self::Value { field, expected } => {
                write!(f, "{field} must be {expected}")
            }
        }
    }
}

impl std::error::Error for MessageError {}

impl From<ScanError> for MessageError {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

/// The number behind the first `ERR_NGROK_` that has one.
fn find_code(line: &str) -> Option<u32> {
    line.match_indices(CODE_PREFIX).find_map(|(at, prefix)| {
        let tail = line.get(at + prefix.len()..)?;
        let end = tail.find(|character: char| !character.is_ascii_digit()).unwrap_or(tail.len());
        tail.get(..end)?.parse().ok()
    })
}

const CODE_PREFIX: &str = "ERR_NGROK_";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wire_text_has_the_code_alone_on_its_line() {
        let error = WireError::new(107, "m");
        assert_eq!(error.to_wire(), "m\n\nERR_NGROK_107\n");
        assert_eq!(error.to_string(), "ERR_NGROK_107: m");
    }

    #[test]
    fn parse_finds_code_and_message_wherever_they_are() {
        let cases = [
            ("m\n\nERR_NGROK_107\n", Some(107), "m"),
            ("a\r\nb\r\n\r\nERR_NGROK_334\r\n", Some(334), "a\nb"),
            ("ERR_NGROK_105", Some(105), ""),
            ("no code", None, "no code"),
            ("failed (ERR_NGROK_9037)", Some(9037), "failed (ERR_NGROK_9037)"),
            ("ERR_NGROK_\nx", None, "ERR_NGROK_\nx"),
            ("ERR_NGROK_99999999999", None, "ERR_NGROK_99999999999"),
            ("ERR_NGROK_x ERR_NGROK_1", Some(1), ""),
            ("a\nERR_NGROK_1\nERR_NGROK_2", Some(1), "a"),
            ("\n", None, ""),
        ];
        for (text, code, message) in cases {
            assert_eq!(WireError::parse(text), Some(WireError { code, message: message.into() }), "{text:?}");
        }
        assert_eq!(WireError::parse(""), None);
    }

    #[test]
    fn error_without_words_is_still_an_error() {
        let error = WireError { code: None, message: String::new() };
        assert!(WireError::parse(&error.to_wire()).is_some());
    }

    proptest! {
        #[test]
        fn wire_error_survives_a_round_trip(code in any::<u32>(), message in "[a-zA-Z0-9 äé.:]{1,40}(\n[a-z ]{1,9}){0,2}") {
            let error = WireError::new(code, message);
            prop_assert_eq!(WireError::parse(&error.to_wire()), Some(error));
        }

        #[test]
        fn any_text_but_the_empty_one_is_an_error(text in "(ERR_NGROK_|[0-9\n\r a-zß]){1,8}") {
            prop_assert!(WireError::parse(&text).is_some());
        }
    }
}
