//! What log-ins have to be remembered: the one thing that gateways with the same key would share.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::spent::SPENT_MAX;

/// Remembers what must not count again, and who is logged in. A store that several gateways share implements this as well.
///
/// Whatever changes something may block for as long as a disk takes. Times are in seconds since 1970.
pub trait Store: fmt::Debug + Send + Sync {
    /// Spends something of an account until a time; it is kept when this returns. `false`: it was spent already.
    ///
    /// # Errors
    ///
    /// [`SpendError`]: nothing was spent.
    fn spend(&self, account: &str, what: &str, until: i64, now: i64) -> Result<bool, SpendError>;

    /// True when it is spent. Every request of a session asks.
    fn is_spent(&self, what: &str) -> bool;

    /// Notes a session that begins, so that it can be listed. An account that has more than its share loses its oldest
    /// notes, which are counted; the sessions go on.
    ///
    /// # Errors
    ///
    /// It cannot be written down.
    fn note(&self, session: Noted, now: i64) -> io::Result<()>;

    /// The sessions that have begun and neither expired nor ended, oldest first.
    fn sessions(&self, now: i64) -> Vec<Noted>;

    /// How many sessions are not listed any more although they may go on, by account.
    fn unlisted(&self, now: i64) -> Vec<Unlisted>;
}

/// What is noted of a session, for whoever runs the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Its id, as policies have it in `identity.current_session_id`. Nobody gets in with it.
    pub id: String,
    /// The account of the endpoint.
    pub account: String,
    /// Where the person logged in.
    pub host: String,
    /// The provider's name for the person.
    pub subject: String,
    /// The address of mail, if there is one that counts.
    pub email: String,
    /// When it began.
    pub begun: i64,
    /// When it ends at the latest.
    pub ends: i64,
    /// Tells the person apart, within the provider, the client and the account.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub person: String,
    /// Tells the session at the provider apart, in the same way; empty if that has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider_session: String,
}

/// Sessions of an account of which there were too many to be listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// The account.
    pub account: String,
    /// How many are not listed. Some may have ended since.
    pub unlisted: u64,
    /// When the last of them ends at the latest.
    pub until: i64,
}

/// Why something cannot be spent.
#[derive(Debug)]
pub enum SpendError {
    /// The account has as many as there is still room for all others together.
    Full,
    /// It cannot be kept.
    Write(io::Error),
}

impl fmt::Display for SpendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(
                f,
                "of the {SPENT_MAX} log-ins and log-outs that can be remembered, this account has its share, and no more fit"
            ),
            Self::Write(error) => write!(f, "it cannot be written down: {error}"),
        }
    }
}

impl std::error::Error for SpendError {}

/// What a log-in that was used is spent as.
#[must_use]
pub fn used(attempt: &str) -> String {
    format!("log-in {attempt}")
}

/// What a session that was ended is spent as.
#[must_use]
pub fn ended(session: &str) -> String {
    format!("session {session}")
}

/// Whether an account may have one more of something that all accounts share: no more than is still free. So one alone
/// gets half of it, and whoever comes later still finds room.
#[must_use]
pub fn has_share(own: usize, all: usize, max: usize) -> bool {
    all < max && own < max.saturating_sub(all)
}

/// Sessions of all accounts that are listed; one account alone may have half of them.
pub const NOTED_MAX: usize = 50_000;
/// How long something spent is kept beyond its time: the clocks of two gateways may be that far apart.
pub const LEEWAY_SECS: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_takes_all_of_what_accounts_share() {
        let fill = |own: &mut usize, all: &mut usize| {
            while has_share(*own, *all, 1000) {
                (*own, *all) = (*own + 1, *all + 1);
            }
        };
        let (mut first, mut second, mut all) = (0, 0, 0);
        fill(&mut first, &mut all);
        assert_eq!(first, 500);
        fill(&mut second, &mut all);
        assert_eq!(second, 250);
        assert!(has_share(0, all, 1000) && !has_share(0, 1000, 1000));
    }
}
