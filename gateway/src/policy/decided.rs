//! What rules decided, for those who keep count.

use std::borrow::Cow;
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
    pub fn rule(&self) -> Cow<'_, str> {
        match &self.name {
            Some(name) => {
                let end = name.char_indices().nth(NAME_CHARS_MAX).map_or(name.len(), |(end, _)| end);
                Cow::Borrowed(name.get(..end).unwrap_or_default())
            }
            None => Cow::Owned(self.place.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_name_is_cut_between_characters() {
        let decided = |name: Option<&str>| Decided {
            phase: "on_http_request",
            place: 12,
            name: name.map(Into::into),
            verdict: "deny",
        };
        assert_eq!(decided(None).rule(), "12");
        assert_eq!(decided(Some("short")).rule(), "short");
        assert_eq!(decided(Some(&"ü".repeat(64))).rule(), "ü".repeat(64));
        assert_eq!(decided(Some(&"ü".repeat(65))).rule(), "ü".repeat(64));
    }
}
