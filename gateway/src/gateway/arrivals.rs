//! Visitors that come before the agents do: for a while after the start of the process, endpoints may be on their way.
//!
//! A gateway that takes the place of another one has its sockets at once, and its agents one after the other.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use adit::endpoint_url::EndpointUrl;

use super::Gateway;
use crate::http::reach::Reach;

/// Who waits for an endpoint, and until when.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Set once, at the start of a process whose agents have been elsewhere.
    until: OnceLock<Instant>,
    came: Notify,
    places: Semaphore,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { until: OnceLock::new(), came: Notify::new(), places: Semaphore::new(WAITING_MAX) }
    }
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
    pub(crate) fn tell_arrival(&self) {
        self.arrivals.came.notify_waiters();
    }

    /// Waits for an endpoint that may be on its way; at once where none is expected any more.
    pub(super) async fn arrival_of(&self, account: &str, url: &EndpointUrl) {
        let Some(until) = self.arrivals.until.get() else { return };
        if Instant::now() >= *until || self.is_draining() {
            return;
        }
        let Ok(_place) = self.arrivals.places.try_acquire() else { return };
        loop {
            // Before the look, so that what happens between look and wait is not missed.
            let mut came = std::pin::pin!(self.arrivals.came.notified());
            came.as_mut().enable();
            if self.internal(account, url).is_ok() || timeout_at(*until, came).await.is_err() {
                return;
            }
        }
    }
}

/// Visitors who wait at a time: each arrival looks for all of them. Those beyond are told at once that the endpoint is
/// offline.
const WAITING_MAX: usize = 5_000;
