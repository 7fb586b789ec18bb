//! Sessions of people who have logged in: sealed cookies, what keeps them from being used again, and the provider's tokens.
//!
//! A session is in the visitor's cookie, so that it survives a restart and holds at every gateway with the same key. The
//! policy actions that send visitors to a provider and take them back are in [`policy`](crate::policy).

pub mod attempt;
pub mod cookies;
pub mod return_path;
pub mod seal;
pub mod session;
pub mod spent;
pub mod tokens;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seal::Keys;
use spent::{SpendError, Spent};
use tokens::TokenStore;

/// What all log-ins of a gateway share.
#[derive(Debug)]
pub struct LogIns {
    /// Seals cookies.
    pub keys: Keys,
    spent: Arc<dyn Spent>,
    tokens: Mutex<TokenStore>,
}

impl LogIns {
    /// Log-ins that are sealed with these keys and remembered there.
    #[must_use]
    pub fn new(keys: Keys, spent: Arc<dyn Spent>) -> Self {
        Self { keys, spent, tokens: Mutex::default() }
    }

    /// As [`Spent::spend`], away from the tasks that carry traffic.
    ///
    /// # Errors
    ///
    /// [`SpendError`]
    pub async fn spend(&self, what: String, until: i64, now: i64) -> Result<bool, SpendError> {
        let spent = Arc::clone(&self.spent);
        let task = tokio::task::spawn_blocking(move || spent.spend(&what, until, now));
        task.await.unwrap_or_else(|error| Err(SpendError::Write(std::io::Error::other(error))))
    }

    /// True when it is spent.
    #[must_use]
    pub fn is_spent(&self, what: &str) -> bool {
        self.spent.is_spent(what)
    }

    /// The tokens of all sessions.
    pub fn tokens(&self) -> MutexGuard<'_, TokenStore> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
