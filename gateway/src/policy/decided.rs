//! What rules decided, for those who keep count.

use std::sync::Arc;

use super::Verdict;

/// That a rule ended the run of a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The phase's key in a document.
    pub phase: &'static str,
    /// The rule's place in the phase, from 0.
    pub place: usize,
    /// The label that the document gives it.
    pub name: Option<Arc<str>>,
    /// What it decided, in a word.
    pub verdict: &'static str,
}

impl Decided {
    /// The rule's name in at most 64 characters, or its place.
    #[must_use]
    pub fn rule(&self) -> String {
        match &self.name {
            Some(name) => name.chars().take(NAME_CHARS_MAX).collect(),
            None => self.place.to_string(),
        }
    }
}

impl Verdict {
    /// The verdict in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Forward { .. } => "forward",
            Self::Deny { .. } => "deny",
            Self::Refuse(_) => "refuse",
            Self::Respond(_) => "respond",
            Self::Close => "close",
            Self::TerminateTls { .. } => "terminate_tls",
        }
    }
}

/// Of a name that somebody has written; enough to find it.
const NAME_CHARS_MAX: usize = 64;
