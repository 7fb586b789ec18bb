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
use store::{Noted, SpendError, Store};
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
