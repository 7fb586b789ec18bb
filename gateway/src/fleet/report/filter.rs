//! Which sites a question is about.

use crate::events::Site as SiteKey;
use crate::http::reach::SessionId;

/// Which sites or sessions are meant. What is not given fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The account's name.
    pub account: Option<String>,
    /// The credential's id.
    pub credential: Option<String>,
    /// The instance that the agent says it is.
    pub instance: Option<String>,
    /// The session's number.
    pub session: Option<u64>,
}

impl Filter {
    /// Whether it names nothing, so that everything is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn fits(&self, site: &SiteKey) -> bool {
        fits(self.account.as_deref(), &site.account)
            && fits(self.credential.as_deref(), &site.credential)
            && self.instance.as_deref().is_none_or(|wanted| site.instance.as_deref() == Some(wanted))
    }

    pub(crate) fn fits_session(&self, session: SessionId) -> bool {
        self.session.is_none_or(|wanted| session.0 == wanted)
    }

    /// Whether it can only be about what is there now, or about a credential that never came.
    pub(crate) fn names_a_session(&self) -> bool {
        self.session.is_some() || self.instance.is_some()
    }
}

fn fits(wanted: Option<&str>, value: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == value)
}
