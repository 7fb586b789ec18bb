//! How long what a session was let through may go on: a WebSocket, or a response without an end, is judged once, when it
//! begins, and has to end with the session all the same.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::LogIns;
use super::session::{Lifetime, Session};
use super::store::ended;

/// What a log-in has decided on the way of one request, however many endpoints that has.
#[derive(Debug, Default)]
pub struct Passage {
    is_judged: AtomicBool,
    term: OnceLock<Term>,
}

impl Passage {
    /// True for the first log-in on the way: there is one at most.
    pub fn judge(&self) -> bool {
        !self.is_judged.swap(true, Ordering::Relaxed)
    }

    /// Lets the request through, as long as its session goes on.
    pub fn admit(&self, term: Term) {
        // There is one log-in, so nobody else has.
        let _ = self.term.set(term);
    }

    /// Completes when what was let through has to end: at most [`LOOK`] after the session was ended, when its time is over,
    /// or when no byte has moved for its idle time. `quiet` says for how long none has. Never, where no session let it
    /// through.
    pub async fn over(&self, quiet: impl Fn() -> Duration) {
        match self.term.get() {
            Some(term) => term.over(quiet).await,
            None => std::future::pending().await,
        }
    }

    /// Whether a session has let the request through.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.term.get().is_some()
    }
}

/// The time of one session.
pub struct Term {
    log_ins: Arc<LogIns>,
    session: String,
    ends: Instant,
    idle: Duration,
}

impl Term {
    /// The time that a session has left; `ends` is its end in seconds since 1970, by the gateway's clock of `now`.
    #[must_use]
    pub fn new(log_ins: &Arc<LogIns>, session: &Session, lifetime: Lifetime, (ends, now): (i64, i64)) -> Self {
        let left = Duration::from_secs(u64::try_from(ends.saturating_sub(now)).unwrap_or_default());
        let begin = Instant::now();
        let ends = begin.checked_add(left).unwrap_or(begin);
        let idle = lifetime.idle.try_into().unwrap_or_default();
        Self { log_ins: Arc::clone(log_ins), session: ended(&session.id), ends, idle }
    }

    async fn over(&self, quiet: impl Fn() -> Duration) {
        loop {
            let now = Instant::now();
            if now >= self.ends || quiet() >= self.idle || self.log_ins.is_spent(&self.session) {
                return;
            }
            sleep_until(self.ends.min(now + LOOK)).await;
        }
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// How often it is looked whether a session was ended. It costs one look into a table for each connection that goes on.
pub const LOOK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::super::seal::Keys;
    use super::super::session::Identity;
    use super::super::spent::Journal;
    use super::*;

    const LIFETIME: Lifetime = Lifetime { idle: time::Duration::hours(2), max: time::Duration::hours(8) };
    const HOUR: Duration = Duration::from_secs(3600);

    fn passage() -> (Arc<LogIns>, Session, Passage) {
        let log_ins = Arc::new(LogIns::new(Keys::derive([&b"k"[..]]), Arc::new(Journal::in_memory())));
        let session = Session::begin(Identity::default(), LIFETIME, 1000).unwrap();
        let passage = Passage::default();
        passage.admit(Term::new(&log_ins, &session, LIFETIME, (session.ends, 1000)));
        (log_ins, session, passage)
    }

    async fn is_over_within(passage: &Passage, time: Duration, quiet: Duration) -> bool {
        timeout(time, passage.over(|| quiet)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn term_ends_soon_after_its_session_was_ended() {
        let (log_ins, session, passage) = passage();
        assert!(!is_over_within(&passage, HOUR, Duration::ZERO).await);
        log_ins.store().spend("main", &ended(&session.id), i64::MAX, 0).unwrap();
        assert!(is_over_within(&passage, LOOK, Duration::ZERO).await);
    }

    #[tokio::test(start_paused = true)]
    async fn term_ends_while_it_is_waited_for() {
        let (log_ins, session, passage) = passage();
        let begin = Instant::now();
        let end = async {
            tokio::time::sleep(HOUR + Duration::from_millis(1)).await;
            log_ins.store().spend("main", &ended(&session.id), i64::MAX, 0).unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! { () = passage.over(|| Duration::ZERO) => {} () = end => {} }
        assert!((HOUR..=HOUR + LOOK).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn term_ends_with_the_longest_time_and_when_nothing_moves() {
        let (_, _, passage) = passage();
        assert!(!is_over_within(&passage, 8 * HOUR - Duration::from_secs(1), Duration::ZERO).await);
        assert!(is_over_within(&passage, Duration::from_secs(2), Duration::ZERO).await);
        let (_, _, passage) = self::passage();
        assert!(!is_over_within(&passage, LOOK * 2, 2 * HOUR - Duration::from_secs(1)).await);
        assert!(is_over_within(&passage, LOOK, 2 * HOUR).await);
    }

    #[tokio::test(start_paused = true)]
    async fn way_without_a_log_in_has_no_end_and_takes_one() {
        let passage = Passage::default();
        assert!(!passage.is_limited() && !is_over_within(&passage, 9000 * HOUR, 9000 * HOUR).await);
        assert!(passage.judge() && !passage.judge());
    }
}
