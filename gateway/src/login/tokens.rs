//! The provider's tokens of the sessions that are in use. They are too many bytes for a cookie and the visitor's browser
//! has no business with them; a session goes on without them, but cannot be refreshed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::session::{COOKIE_BYTES_MAX, Identity};
use super::store::has_share;

/// What a provider gave with a log-in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// For the provider's other services.
    pub access: String,
    /// To get new ones; empty if there is none.
    pub refresh: String,
    /// The ID token as it came; empty with OAuth alone.
    pub identity: String,
    /// When the access token expires, in seconds since 1970, if the provider said so.
    pub expires: Option<i64>,
}

/// What is kept of one session. Whoever refreshes it holds the lock while the provider is asked, so that of many requests
/// at once one does.
#[derive(Debug, Default)]
pub struct Kept {
    /// The tokens that came last.
    pub tokens: Tokens,
    /// Who it was when the provider was asked last, and when that was.
    pub refreshed: Option<(Identity, i64)>,
}

/// The tokens of many sessions. An account that has its share loses its own oldest ones.
#[derive(Default)]
pub struct TokenStore {
    entries: HashMap<Box<str>, Entry>,
    accounts: HashMap<Arc<str>, Account>,
    bytes: usize,
}

struct Entry {
    account: Arc<str>,
    len: usize,
    kept: Arc<tokio::sync::Mutex<Kept>>,
}

#[derive(Default)]
struct Account {
    order: VecDeque<Box<str>>,
    bytes: usize,
}

impl Tokens {
    /// The bytes that it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.access.len() + self.refresh.len() + self.identity.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TokenStore {
    /// Keeps the tokens of a session that begins; those of the account's oldest ones go when it has no room.
    pub fn put(&mut self, account: &Arc<str>, session: &str, tokens: Tokens) {
        self.remove(session);
        // With a refresh they may become as large as they can be.
        let is_refreshable = !tokens.refresh.is_empty() && tokens.len() <= TOKENS_BYTES_MAX;
        let len = ENTRY_BYTES + if is_refreshable { TOKENS_BYTES_MAX } else { tokens.len().min(TOKENS_BYTES_MAX) };
        let tokens = if tokens.len() > TOKENS_BYTES_MAX { Tokens::default() } else { tokens };
        while !self.has_room(account, len) {
            let oldest = self.accounts.get(account).and_then(|account| account.order.front().cloned());
            match oldest {
                Some(oldest) => self.remove(&oldest),
                // Others have all of it: the session goes on without.
                None => return,
            }
        }
        let kept = Arc::new(tokio::sync::Mutex::new(Kept { tokens, refreshed: None }));
        self.entries.insert(session.into(), Entry { account: Arc::clone(account), len, kept });
        let own = self.accounts.entry(Arc::clone(account)).or_default();
        own.order.push_back(session.into());
        own.bytes += len;
        self.bytes += len;
    }

    /// What is kept of a session.
    #[must_use]
    pub fn find(&self, session: &str) -> Option<Arc<tokio::sync::Mutex<Kept>>> {
        self.entries.get(session).map(|entry| Arc::clone(&entry.kept))
    }

    /// Forgets a session.
    pub fn remove(&mut self, session: &str) {
        let Some(Entry { account, len, .. }) = self.entries.remove(session) else { return };
        self.bytes = self.bytes.saturating_sub(len);
        let Some(own) = self.accounts.get_mut(&account) else { return };
        own.bytes = own.bytes.saturating_sub(len);
        match own.order.front() {
            Some(oldest) if **oldest == *session => drop(own.order.pop_front()),
            _ => own.order.retain(|other| **other != *session),
        }
        if own.order.is_empty() {
            self.accounts.remove(&account);
        }
    }

    fn has_room(&self, account: &str, len: usize) -> bool {
        let own = self.accounts.get(account).map_or(0, |account| account.bytes);
        has_share(own + len, self.bytes + len, STORE_BYTES_MAX)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("bytes", &self.len()).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore").field("sessions", &self.entries.len()).field("bytes", &self.bytes).finish()
    }
}

/// Tokens of one session; with many groups in them they have some 8 KiB. Larger ones are not kept.
pub const TOKENS_BYTES_MAX: usize = 32 * 1024;
/// Of all sessions together, of which an account alone has half: tens of thousands with tokens of the usual size.
const STORE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What an entry takes beside its tokens: its place, and who it was when the provider was asked last, which is kept only if
/// it fits into a cookie.
const ENTRY_BYTES: usize = 512 + 2 * COOKIE_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(len: usize) -> Tokens {
        Tokens { access: "x".repeat(len), ..Tokens::default() }
    }

    fn account(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn oldest_sessions_of_an_account_lose_their_tokens_when_it_has_its_share() {
        let mut store = TokenStore::default();
        let room = STORE_BYTES_MAX / 2 / (ENTRY_BYTES + TOKENS_BYTES_MAX);
        store.put(&account("other"), "theirs", tokens(TOKENS_BYTES_MAX));
        for index in 0..=room {
            store.put(&account("main"), &index.to_string(), tokens(TOKENS_BYTES_MAX));
            assert!(store.bytes <= STORE_BYTES_MAX);
        }
        assert!(store.find("0").is_none() && store.find(&room.to_string()).is_some());
        assert!(store.find("theirs").is_some(), "another account's are not touched");
        store.put(&account("other"), "more", tokens(TOKENS_BYTES_MAX));
        assert!(store.find("theirs").is_some() && store.find("more").is_some(), "and there is room for them");
        let listed: usize = store.accounts.values().map(|account| account.order.len()).sum();
        assert_eq!(listed, store.entries.len());
    }

    #[tokio::test]
    async fn tokens_that_are_too_large_are_not_kept() {
        let mut store = TokenStore::default();
        store.put(&account("main"), "a", tokens(TOKENS_BYTES_MAX + 1));
        assert!(store.find("a").unwrap().lock().await.tokens.is_empty());
    }

    #[test]
    fn tokens_that_can_be_refreshed_count_as_the_largest() {
        let mut store = TokenStore::default();
        store.put(&account("main"), "a", Tokens { refresh: "r".into(), ..tokens(10) });
        assert_eq!(store.bytes, ENTRY_BYTES + TOKENS_BYTES_MAX);
    }

    #[test]
    fn session_that_ends_gives_its_room_back() {
        let mut store = TokenStore::default();
        store.put(&account("main"), "a", tokens(10));
        store.put(&account("main"), "a", tokens(20));
        assert_eq!((store.bytes, store.entries.len()), (ENTRY_BYTES + 20, 1));
        store.remove("a");
        store.remove("a");
        assert_eq!((store.bytes, store.accounts.len()), (0, 0));
        assert_eq!(format!("{:?}", tokens(3)), "Tokens { bytes: 3, expires: None, .. }");
    }
}
