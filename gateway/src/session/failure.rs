//! Why a proxy stream broke.

use std::{fmt, io};

use adit::frame::ErrorCode;

/// Why a stream broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The agent aborted it.
    Reset(ErrorCode),
    /// The agent could not reach its upstream.
    UpstreamUnreachable,
    /// The session ended.
    SessionLost,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure {
            Failure::Reset(_) | Failure::SessionLost => io::ErrorKind::ConnectionReset,
            Failure::UpstreamUnreachable => io::ErrorKind::ConnectionRefused,
        };
        Self::new(kind, failure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the agent aborted the stream: {code}"),
            Self::UpstreamUnreachable => f.write_str("the agent could not reach its upstream"),
            Self::SessionLost => f.write_str("the session of the agent ended"),
        }
    }
}

impl std::error::Error for Failure {}
