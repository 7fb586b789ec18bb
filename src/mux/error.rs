//! What can go wrong, by scope: the link, or the opening of one stream.

use std::fmt;

use crate::frame::{DecodeError, ErrorCode};

/// The peer broke the protocol in a way that ends the link. A GOAWAY that says so is ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// A frame that cannot be right.
    Frame(DecodeError),
    /// A new stream with an id that belongs to our side.
    PeerWrongParity {
        /// The id.
        id: u32,
    },
    /// A new stream whose id is not above all earlier ones.
    PeerIdReused {
        /// The id.
        id: u32,
    },
    /// The peer made us owe more RST frames than [`super::limits::RESETS_MAX`] allows without reading them.
    LimitResets,
}

impl LinkError {
    /// The code for the GOAWAY.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.code(),
            Self::PeerWrongParity { .. } | Self::PeerIdReused { .. } => ErrorCode::PROTOCOL_ERROR,
            Self::LimitResets => ErrorCode::ENHANCE_YOUR_CALM,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::PeerWrongParity { id } => write!(f, "the peer opened stream {id}, an id of our side"),
            Self::PeerIdReused { id } => write!(f, "the peer opened stream {id} again or out of order"),
            Self::LimitResets => write!(f, "the peer causes resets faster than it reads them"),
        }
    }
}

impl std::error::Error for LinkError {}

/// Why no stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// As many streams as allowed are live.
    Limit,
    /// The link is ending.
    GoingAway,
    /// All 31-bit ids are used up: the session has to be renewed.
    IdsExhausted,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit => "as many streams as allowed are open",
            Self::GoingAway => "the session is ending",
            Self::IdsExhausted => "the session has used up its stream ids",
        })
    }
}

impl std::error::Error for OpenError {}

/// The outbox of the stream cannot hold the bytes, or the stream is gone or finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError;

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream takes no more bytes")
    }
}

impl std::error::Error for SendError {}
