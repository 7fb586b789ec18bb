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
pub mod term;
pub mod tokens;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hand_over::CallbackHost;
use seal::Keys;
use session::Session;
#[cfg(test)]
use store::Unlisted;
use store::{LEEWAY_SECS, Noted, SpendError, Store, ended};
use tokens::TokenStore;
use tokio::sync::Semaphore;

/// What all log-ins of a gateway share.
#[derive(Debug)]
pub struct LogIns {
    /// Seals cookies.
    pub keys: Keys,
    /// Where providers send people back to; `None`: to each endpoint's own host.
    pub callback_host: Option<CallbackHost>,
    store: Arc<dyn Store>,
    /// What is being written.
    writes: Arc<Semaphore>,
    tokens: Mutex<TokenStore>,
}

impl LogIns {
    /// Log-ins that are sealed with these keys and remembered there.
    #[must_use]
    pub fn new(keys: Keys, store: Arc<dyn Store>) -> Self {
        let writes = Arc::new(Semaphore::new(WRITES_MAX));
        Self { keys, callback_host: None, store, writes, tokens: Mutex::default() }
    }

    /// The same, with providers that send people back to this host; `None`: to each endpoint's own.
    #[must_use]
    pub fn with_callback_host(self, callback_host: Option<CallbackHost>) -> Self {
        Self { callback_host, ..self }
    }

    /// As [`Store::spend`], away from the tasks that carry traffic, and within [`WRITE_TIME`].
    ///
    /// # Errors
    ///
    /// [`SpendError`]
    pub async fn spend(&self, account: &str, what: String, until: i64, now: i64) -> Result<bool, SpendError> {
        let (store, account) = (Arc::clone(&self.store), account.to_owned());
        let spent = self.write(move || store.spend(&account, &what, until, now)).await;
        spent.unwrap_or_else(|error| Err(SpendError::Write(error)))
    }

    /// Ends a session of an account, which would have ended by itself at a time: its cookie, wherever there is a copy of it,
    /// counts no more. It may be ended twice.
    ///
    /// # Errors
    ///
    /// [`SpendError`]: it goes on.
    pub async fn end(&self, account: &str, id: &str, ends: i64, now: i64) -> Result<(), SpendError> {
        self.spend(account, ended(id), ends.saturating_add(LEEWAY_SECS), now).await?;
        self.tokens().remove(id);
        Ok(())
    }

    /// As [`Store::note`], away from the tasks that carry traffic, and within [`WRITE_TIME`].
    ///
    /// # Errors
    ///
    /// It cannot be written down.
    pub async fn note(&self, session: Noted, now: i64) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        self.write(move || store.note(session, now)).await?
    }

    /// The sessions of a person that have begun here and go on, away from the tasks that carry traffic.
    ///
    /// # Errors
    ///
    /// It takes too long.
    pub async fn sessions_of(&self, person: String, now: i64) -> io::Result<Vec<Noted>> {
        let store = Arc::clone(&self.store);
        self.write(move || store.sessions(now).into_iter().filter(|noted| noted.person == person).collect()).await
    }

    /// Writes beside the tasks that carry traffic. A disk that does not answer takes [`WRITES_MAX`] threads and no more, and
    /// nobody waits for it without end.
    async fn write<T: Send + 'static>(&self, write: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let writing = async {
            let permit = Arc::clone(&self.writes).acquire_owned().await.map_err(io::Error::other)?;
            let task = tokio::task::spawn_blocking(move || {
                let written = write();
                // Kept until here, also when nobody waits any more.
                drop(permit);
                written
            });
            task.await.map_err(io::Error::other)
        };
        let in_time = tokio::time::timeout(WRITE_TIME, writing).await;
        in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
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
/// What is written at the same time, of all accounts. One disk does not do more at once, and the runtime has some hundred
/// threads for everything that blocks.
pub const WRITES_MAX: usize = 16;
/// How long a log-in or a log-out waits for the disk, its turn included.
pub const WRITE_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::session::{Identity, Lifetime};
    use super::spent::Journal;
    use super::*;

    /// A disk that does not answer until it is told to.
    #[derive(Debug, Default)]
    struct Stuck {
        answers: Mutex<bool>,
        told: Condvar,
        begun: AtomicUsize,
    }

    impl Store for Stuck {
        fn spend(&self, _: &str, _: &str, _: i64, _: i64) -> Result<bool, SpendError> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            let mut answers = self.answers.lock().unwrap();
            while !*answers {
                answers = self.told.wait(answers).unwrap();
            }
            Ok(true)
        }

        fn is_spent(&self, _: &str) -> bool {
            false
        }

        fn note(&self, _: Noted, _: i64) -> io::Result<()> {
            Ok(())
        }

        fn sessions(&self, _: i64) -> Vec<Noted> {
            Vec::new()
        }

        fn unlisted(&self, _: i64) -> Vec<Unlisted> {
            Vec::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn disk_that_does_not_answer_takes_so_many_threads_and_nobody_waits_for_ever() {
        let stuck = Arc::new(Stuck::default());
        let log_ins = Arc::new(LogIns::new(Keys::derive([&b"k"[..]]), Arc::clone(&stuck) as Arc<dyn Store>));
        let spend = |index: usize| {
            let log_ins = Arc::clone(&log_ins);
            tokio::spawn(async move { log_ins.spend("main", index.to_string(), 1, 0).await })
        };
        let waiting: Vec<_> = (0..2 * WRITES_MAX).map(spend).collect();
        while stuck.begun.load(Ordering::SeqCst) < WRITES_MAX {
            tokio::task::yield_now().await;
        }
        // Threads that block keep the clock of the test from going on by itself.
        tokio::time::advance(WRITE_TIME + Duration::from_millis(1)).await;
        for spent in waiting {
            let spent = spent.await.unwrap();
            assert!(matches!(&spent, Err(SpendError::Write(error)) if error.kind() == io::ErrorKind::TimedOut));
        }
        assert_eq!(stuck.begun.load(Ordering::SeqCst), WRITES_MAX);
        *stuck.answers.lock().unwrap() = true;
        stuck.told.notify_all();
        assert!(spend(0).await.unwrap().unwrap(), "it goes on when the disk does");
    }

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
