//! Why a session ended.

use std::sync::Arc;

use crate::admit::shown;

/// Why a session ended, for scripts and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) cause: Cause,
    /// In words.
    pub(crate) text: Arc<str>,
}

impl Ending {
    /// What is quoted of strangers is cut, and can talk to no terminal. What follows the first line is for programs.
    pub(crate) fn new(cause: Cause, text: &str) -> Self {
        Self { cause, text: shown(text.lines().next().unwrap_or_default()).into() }
    }
}

/// Who or what ended a session. The words for it in JSON stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The gateway: a newer connection, a revoked token, a drain, an operator.
    Gateway,
    /// The agent took its leave.
    Agent,
    /// Nothing was heard of it for too long.
    Silent,
    /// It closed the connection without a word.
    Closed,
    /// The connection broke.
    Broken,
    /// It broke the protocol.
    Protocol,
}

impl Cause {
    /// The word for it, as in JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Agent => "agent",
            Self::Silent => "silent",
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Protocol => "protocol",
        }
    }
}
