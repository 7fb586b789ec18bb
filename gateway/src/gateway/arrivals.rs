//! Visitors that come before the agents do: for a while after the start of the process, endpoints may be on their way.
//!
//! A gateway that takes the place of another one has its sockets at once, and its agents one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use adit::endpoint_url::EndpointUrl;

use super::Gateway;
use crate::http::reach::Reach;
use crate::registry::EndpointKey;
use crate::registry::names::covers;

/// Who waits for an endpoint, and until when.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Set once, at the start of a process whose agents have been elsewhere.
    until: OnceLock<Instant>,
    waiting: Mutex<Waiting>,
}

/// Those who wait. Invariant: each count is the number of places below it, and nothing is kept for zero.
#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    accounts: HashMap<Box<str>, Account>,
}

#[derive(Debug, Default)]
struct Account {
    count: usize,
    urls: HashMap<EndpointUrl, Awaited>,
}

/// One address that is waited for.
#[derive(Debug, Default)]
struct Awaited {
    count: usize,
    came: Arc<Notify>,
}

/// The place of one who waits, which is free again when it is dropped.
#[derive(Debug)]
struct Place<'a> {
    arrivals: &'a Arrivals,
    account: &'a str,
    url: &'a EndpointUrl,
    came: Arc<Notify>,
}

impl Gateway {
    /// From now on, and for so long, visitors of internal endpoints that are offline wait for them: agents are expected to
    /// come from another gateway, or from before a restart. Only the first call has an effect.
    pub fn expect_agents(&self, time: Duration) {
        // Whatever time is too long for the clock is no wait at all.
        if let Some(until) = Instant::now().checked_add(time) {
            let _ = self.arrivals.until.set(until);
        }
    }

    /// An endpoint has come.
    pub(crate) fn tell_arrival(&self, key: &EndpointKey) {
        self.arrivals.tell(key);
    }

    /// Waits for an endpoint that may be on its way; at once where none is expected any more.
    pub(super) async fn arrival_of(&self, account: &str, url: &EndpointUrl) {
        let Some(until) = self.arrivals.until.get() else { return };
        if Instant::now() >= *until || self.is_draining() {
            return;
        }
        let Some(place) = self.arrivals.enter(account, url) else { return };
        loop {
            // Before the look, so that what happens between look and wait is not missed.
            let mut came = std::pin::pin!(place.came.notified());
            came.as_mut().enable();
            if self.internal(account, url).is_ok() || timeout_at(*until, came).await.is_err() {
                return;
            }
        }
    }
}

impl Arrivals {
    /// Takes a place. `None`: the account, or all of them together, have as many as there are.
    fn enter<'a>(&'a self, account: &'a str, url: &'a EndpointUrl) -> Option<Place<'a>> {
        let mut waiting = self.lock();
        let of_account = waiting.accounts.get(account).map_or(0, |account| account.count);
        if waiting.count >= WAITING_MAX || of_account >= WAITING_OF_ACCOUNT_MAX {
            return None;
        }
        waiting.count += 1;
        let of_account = waiting.accounts.entry(account.into()).or_default();
        of_account.count += 1;
        let awaited = of_account.urls.entry(url.clone()).or_default();
        awaited.count += 1;
        let came = Arc::clone(&awaited.came);
        drop(waiting);
        Some(Place { arrivals: self, account, url, came })
    }

    fn leave(&self, account: &str, url: &EndpointUrl) {
        let mut waiting = self.lock();
        waiting.count = waiting.count.saturating_sub(1);
        let Some(of_account) = waiting.accounts.get_mut(account) else { return };
        of_account.count = of_account.count.saturating_sub(1);
        if let Some(awaited) = of_account.urls.get_mut(url) {
            awaited.count = awaited.count.saturating_sub(1);
            if awaited.count == 0 {
                of_account.urls.remove(url);
            }
        }
        if of_account.count == 0 {
            waiting.accounts.remove(account);
        }
    }

    /// Wakes those whom an endpoint of this address would serve, and nobody else: each looks for its own in the registry.
    fn tell(&self, key: &EndpointKey) {
        let waiting = self.lock();
        let Some(account) = waiting.accounts.get(&*key.account) else { return };
        if let Some(awaited) = account.urls.get(&key.url) {
            awaited.came.notify_waiters();
        }
        if key.url.is_wildcard() {
            let below = account.urls.iter().filter(|(url, _)| covers(&key.url, url));
            below.for_each(|(_, awaited)| awaited.came.notify_waiters());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.arrivals.leave(self.account, self.url);
    }
}

/// Visitors who wait at a time. Those beyond are told at once that the endpoint is offline.
const WAITING_MAX: usize = 5_000;
/// Those of one account, so that its visitors leave places to those of the others.
const WAITING_OF_ACCOUNT_MAX: usize = WAITING_MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap()
    }

    #[test]
    fn arrival_wakes_those_whom_it_serves_and_nobody_else() {
        let arrivals = Arrivals::default();
        let (app, other) = (url("https://app.site1.internal"), url("https://other.internal"));
        let told = |account: &str, address: &str| {
            let places = [("a", &app), ("a", &other), ("b", &app)];
            let places = places.map(|(account, url)| arrivals.enter(account, url).unwrap());
            let mut waits: Vec<_> = places.iter().map(|place| Box::pin(place.came.notified())).collect();
            waits.iter_mut().for_each(|wait| assert!(!wait.as_mut().enable()));
            arrivals.tell(&EndpointKey { account: account.into(), url: url(address) });
            waits.iter_mut().map(|wait| wait.as_mut().enable()).collect::<Vec<_>>()
        };
        assert_eq!(told("a", "https://app.site1.internal"), [true, false, false]);
        assert_eq!(told("b", "https://app.site1.internal"), [false, false, true]);
        assert_eq!(told("a", "https://*.site1.internal"), [true, false, false]);
        assert_eq!(told("a", "https://*.internal"), [true, true, false]);
        for (account, address) in [
            ("c", "https://app.site1.internal"),
            ("a", "http://app.site1.internal"),
            ("a", "https://app.site1.internal:444"),
            ("a", "https://*.app.site1.internal"),
            ("a", "http://*.internal"),
        ] {
            assert_eq!(told(account, address), [false; 3], "{account} {address}");
        }
    }

    #[test]
    fn account_has_half_of_the_places() {
        let arrivals = Arrivals::default();
        let app = url("https://app.internal");
        let enter = |account| arrivals.enter(account, &app);
        let of_a: Vec<_> = (0..WAITING_OF_ACCOUNT_MAX).map(|_| enter("a").unwrap()).collect();
        assert!(enter("a").is_none());
        let mut of_b: Vec<_> = (0..WAITING_OF_ACCOUNT_MAX).map(|_| enter("b").unwrap()).collect();
        assert!(enter("c").is_none(), "all places are taken");
        of_b.pop();
        assert!(enter("a").is_none());
        let of_c = enter("c").unwrap();
        assert!(enter("b").is_none());
        drop((of_a, of_b, of_c));
        assert!(arrivals.lock().accounts.is_empty() && arrivals.lock().count == 0);
    }
}
