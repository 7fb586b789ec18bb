//! Sessions of people who have logged in: sealed cookies, what keeps them from being used again, and the provider's tokens.
//!
//! A session is in the visitor's cookie, so that it survives a restart and holds at every gateway with the same key. The
//! policy actions that send visitors to a provider and take them back are in [`policy`](crate::policy).

pub mod attempt;
pub mod cookies;
pub mod ending;
pub mod hand_over;
mod noted;
pub mod query;
pub mod return_path;
pub mod saml;
pub mod seal;
pub mod session;
pub mod spent;
pub mod store;
pub mod tokens;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hand_over::CallbackHost;
use seal::Keys;
use session::Session;
use store::{Noted, SpendError, Store, ended};
use tokens::TokenStore;

/// What all log-ins of a gateway share.
#[derive(Debug)]
pub struct LogIns {
    /// Seals cookies.
    pub keys: Keys,
    /// Where providers send people back to; `None`: to each endpoint's own host.
    pub callback_host: Option<CallbackHost>,
    store: Arc<dyn Store>,
    tokens: Mutex<TokenStore>,
}

impl LogIns {
    /// Log-ins that are sealed with these keys and remembered there.
    #[must_use]
    pub fn new(keys: Keys, store: Arc<dyn Store>) -> Self {
        Self { keys, callback_host: None, store, tokens: Mutex::default() }
    }

    /// The same, with providers that send people back to this host; `None`: to each endpoint's own.
    #[must_use]
    pub fn with_callback_host(self, callback_host: Option<CallbackHost>) -> Self {
        Self { callback_host, ..self }
    }

    /// As [`Store::spend`], away from the tasks that carry traffic.
    ///
    /// # Errors
    ///
    /// [`SpendError`]
    pub async fn spend(&self, account: &str, what: String, until: i64, now: i64) -> Result<bool, SpendError> {
        let (store, account) = (Arc::clone(&self.store), account.to_owned());
        let task = tokio::task::spawn_blocking(move || store.spend(&account, &what, until, now));
        task.await.unwrap_or_else(|error| Err(SpendError::Write(io::Error::other(error))))
    }

    /// As [`Store::note`], away from the tasks that carry traffic.
    ///
    /// # Errors
    ///
    /// It cannot be written down.
    pub async fn note(&self, session: Noted, now: i64) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let task = tokio::task::spawn_blocking(move || store.note(session, now));
        task.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// The session in the first of these cookies that holds one which was not ended; at most [`COOKIES_MAX`] are looked at.
    /// An ended one may stand before a good one: a name beside this one can set it.
    pub fn session<'t>(&self, cookies: impl Iterator<Item = &'t str>, purpose: &str) -> Option<Session> {
        cookies.take(COOKIES_MAX).find_map(|text| {
            let session = Session::open(&self.keys, purpose, text)?;
            let is_ended = self.is_spent(&ended(&session.id));
            if is_ended {
                tracing::info!("the cookie of an ended session came");
            }
            (!is_ended).then_some(session)
        })
    }

    /// True when it is spent.
    #[must_use]
    pub fn is_spent(&self, what: &str) -> bool {
        self.store.is_spent(what)
    }

    /// What is remembered.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The tokens of all sessions.
    pub fn tokens(&self) -> MutexGuard<'_, TokenStore> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cookies of one name that are looked at.
pub const COOKIES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::session::{Identity, Lifetime};
    use super::spent::Journal;
    use super::*;

    #[test]
    fn ended_session_hides_no_other_one_within_the_bound() {
        let log_ins = LogIns::new(Keys::derive([&b"k"[..]]), Arc::new(Journal::in_memory()));
        let lifetime = Lifetime { idle: time::Duration::hours(1), max: time::Duration::hours(8) };
        let identity = Identity { subject: "ann".into(), ..Identity::default() };
        let begin = || Session::begin(identity.clone(), lifetime, 0).unwrap();
        let (over, good) = (begin(), begin());
        let [over_text, good_text] = [&over, &good].map(|session| session.seal(&log_ins.keys, "p").unwrap());
        let find = |texts: &[&str]| log_ins.session(texts.iter().copied(), "p").map(|session| session.id);
        assert_eq!(find(&[&over_text, &good_text]), Some(over.id.clone()));
        assert!(log_ins.store.spend("main", &ended(&over.id), 1000, 0).unwrap());
        assert_eq!(find(&[&over_text]), None);
        assert_eq!(find(&["x", &over_text, &good_text]), Some(good.id.clone()));
        let mut many = vec!["x"; COOKIES_MAX - 1];
        many.push(&good_text);
        assert_eq!(find(&many), Some(good.id));
        many.insert(0, "x");
        assert_eq!(find(&many), None);
    }
}
