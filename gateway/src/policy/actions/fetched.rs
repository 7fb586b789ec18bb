//! A document of somebody else's that is fetched when it is needed and kept for a while, however many ask for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A document, or why there is none. While it cannot be fetched anew, the one that was fetched last stays.
#[derive(Debug)]
pub(super) struct Fetched<T, E> {
    times: Times,
    state: Mutex<State<T, E>>,
    /// Held by the one that fetches.
    fetching: tokio::sync::Mutex<()>,
}

/// When a document is fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long it is good for.
    pub(super) fresh: Duration,
    /// Between two attempts: nobody can make the gateway ask more often than this.
    pub(super) retry: Duration,
}

/// What is there at a moment.
#[derive(Debug)]
pub(super) struct Known<T> {
    pub(super) found: Option<Arc<T>>,
    pub(super) is_fresh: bool,
    pub(super) may_try: bool,
}

#[derive(Debug)]
struct State<T, E> {
    found: Option<Arc<T>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failure: Option<E>,
}

impl<T, E: Clone> Fetched<T, E> {
    pub(super) fn new(times: Times) -> Self {
        let state = State { found: None, fetched: None, tried: None, failure: None };
        Self { times, state: Mutex::new(state), fetching: tokio::sync::Mutex::default() }
    }

    pub(super) fn known(&self) -> Known<T> {
        self.state().known(self.times)
    }

    /// What there is after an attempt. `Err`: why there is none, if it was tried.
    pub(super) fn outcome(&self) -> Result<Arc<T>, Option<E>> {
        let state = self.state();
        state.found.clone().ok_or_else(|| state.failure.clone())
    }

    /// Fetches, unless somebody else has just tried, or it is not wanted any more once it is this one's turn.
    pub(super) async fn refresh(
        &self,
        is_wanted: impl FnOnce(&Known<T>) -> bool,
        fetch: impl Future<Output = Result<T, E>>,
    ) {
        let _one_at_a_time = self.fetching.lock().await;
        {
            let mut state = self.state();
            let known = state.known(self.times);
            if !known.may_try || !is_wanted(&known) {
                return;
            }
            state.tried = Some(Instant::now());
        }
        match fetch.await {
            Ok(found) => self.state().put(found),
            Err(failure) => self.state().failure = Some(failure),
        }
    }

    /// A document as if it had just been fetched.
    #[cfg(test)]
    pub(super) fn put(&self, found: T) {
        self.state().put(found);
    }

    /// Makes the document old.
    #[cfg(test)]
    pub(super) fn age(&self) {
        self.state().fetched = None;
    }

    fn state(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E> State<T, E> {
    fn known(&self, times: Times) -> Known<T> {
        let now = Instant::now();
        let since = |then: Instant| now.saturating_duration_since(then);
        Known {
            found: self.found.clone(),
            is_fresh: self.fetched.is_some_and(|fetched| since(fetched) < times.fresh),
            may_try: self.tried.is_none_or(|tried| since(tried) >= times.retry),
        }
    }

    fn put(&mut self, found: T) {
        self.found = Some(Arc::new(found));
        self.fetched = Some(Instant::now());
        self.failure = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::advance;

    use super::*;

    const TIMES: Times = Times { fresh: Duration::from_secs(900), retry: Duration::from_secs(10) };

    /// A document that says how often it was fetched.
    struct Source {
        fetched: Fetched<u32, &'static str>,
        fetches: AtomicU32,
    }

    impl Source {
        fn new() -> Self {
            Self { fetched: Fetched::new(TIMES), fetches: AtomicU32::new(0) }
        }

        async fn refresh(&self, failure: Option<&'static str>) {
            let fetch = async {
                tokio::task::yield_now().await;
                let count = self.fetches.fetch_add(1, Ordering::SeqCst) + 1;
                failure.map_or(Ok(count), Err)
            };
            self.fetched.refresh(|known| !known.is_fresh, fetch).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn document_is_fetched_once_for_many_and_again_when_it_is_old() {
        let source = Source::new();
        assert_eq!(source.fetched.outcome(), Err(None));
        tokio::join!(source.refresh(None), source.refresh(None), source.refresh(None));
        assert_eq!(source.fetched.outcome(), Ok(Arc::new(1)));
        advance(TIMES.fresh - Duration::from_millis(1)).await;
        source.refresh(None).await;
        assert_eq!(source.fetched.outcome(), Ok(Arc::new(1)));
        advance(Duration::from_millis(1)).await;
        source.refresh(None).await;
        assert_eq!(source.fetched.outcome(), Ok(Arc::new(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_makes_it_be_fetched_more_often_and_the_last_one_stays() {
        let source = Source::new();
        for _ in 0..3 {
            source.refresh(Some("down")).await;
        }
        assert_eq!((source.fetched.outcome(), source.fetches.load(Ordering::SeqCst)), (Err(Some("down")), 1));
        advance(TIMES.retry).await;
        source.refresh(None).await;
        advance(TIMES.fresh).await;
        source.refresh(Some("down")).await;
        assert_eq!((source.fetched.outcome(), source.fetches.load(Ordering::SeqCst)), (Ok(Arc::new(2)), 3));
        assert!(!source.fetched.known().is_fresh && !source.fetched.known().may_try);
    }
}
