//! Which sites a question is about.

use std::fmt;

use crate::admit::shown;
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

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("all");
        }
        let Self { account, credential, instance, session } = self;
        let session = session.map(|session| session.to_string());
        let named = [("account", account), ("credential", credential), ("instance", instance), ("session", &session)];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", shown(value.as_ref()?))));
        f.write_str(&named.collect::<Vec<_>>().join(", "))
    }
}

fn fits(wanted: Option<&str>, value: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == value)
}
