//! What the gateway shows of itself: what is counted, what is now, and whether it is ready for traffic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Gateway;
use crate::certificates::Certificates;
use crate::events::Losses;
use crate::http::reach::OpenError;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, Moment, OpenFailure, Untold};

impl Gateway {
    /// What is counted and written down.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What is counted and measured.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.ledger.metrics()
    }

    /// All metrics in Prometheus' text format. It looks at each session and at `/proc`: for a scrape, not for each request.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let Losses { dropped, webhook, followers } = self.events().losses();
        let lost = [(Untold::Anybody, dropped), (Untold::Webhook, webhook), (Untold::Followers, followers)];
        lost.into_iter().for_each(|(to, total)| self.metrics().events_lost.reach(to, total));
        self.metrics().text(&self.moment())
    }

    /// The same, for those who ask over the network: one look at a time, off the threads of the traffic, and what it shows is given
    /// to everybody who asks within [`SCRAPE_PAUSE`].
    pub(crate) async fn scrape(self: &Arc<Self>) -> Bytes {
        let mut last = Arc::clone(&self.scraped).lock_owned().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < SCRAPE_PAUSE
        {
            return text.clone();
        }
        // What was begun is kept for the next one also when this one goes away.
        let looking = self.look(move |gateway| {
            let text = Bytes::from(gateway.metrics_text());
            *last = Some((Instant::now(), text.clone()));
            text
        });
        looking.await.unwrap_or_default()
    }

    /// Looks at all of the gateway, as one who asks for a document of the admin listener does: one look at a time, off the threads of
    /// the traffic. A look that nobody waits for any more keeps the place until it is over, so that whoever asks and goes away
    /// in a loop gets no more of the machine. `None`: the look could not be finished.
    pub(crate) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let place = Arc::clone(&self.looks).acquire_owned().await.ok()?;
        let gateway = Arc::clone(self);
        let looking = tokio::task::spawn_blocking(move || {
            let seen = look(&gateway);
            drop(place);
            seen
        });
        looking.await.ok()
    }

    /// Why the gateway is not ready for new traffic; nothing when it is.
    #[must_use]
    pub fn obstacles(&self) -> Vec<&'static str> {
        let served = self.certificates.get();
        let is_bare = served.is_some_and(|certificates| certificates.find(None).is_none());
        let needs_certificates = {
            let listeners = &self.config().listeners;
            [&listeners.agents, &listeners.https].iter().any(|list| !list.is_empty())
        };
        let obstacles = [
            (served.is_none(), "the sockets are not served yet"),
            (needs_certificates && is_bare, "there is no certificate yet"),
            (self.is_draining(), "the gateway is draining"),
        ];
        obstacles.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| why).collect()
    }

    /// From now on the sockets are served, with these certificates.
    pub(crate) fn set_served(&self, certificates: &Arc<Certificates>) {
        // Sockets are served once in a process.
        let _ = self.certificates.set(Arc::clone(certificates));
    }

    fn moment(&self) -> Moment {
        let limits = &self.config().limits;
        let (endpoints, agents) = {
            let state = self.state();
            (state.registry.bound_count(), state.all_sessions().cloned().collect::<Vec<_>>())
        };
        Moment {
            sessions: agents.len(),
            sessions_max: limits.sessions_max,
            endpoints,
            streams: agents.iter().map(|agent| agent.link.stream_count()).sum(),
            visitors_max: limits.connections_max,
            is_draining: self.is_draining(),
        }
    }

    /// Counts how opening a stream went.
    pub(super) fn count_opening<T>(&self, opened: &Result<T, OpenError>) {
        let metrics = self.metrics();
        match opened {
            Ok(_) => metrics.streams_opened.inc(),
            Err(OpenError::Offline) => metrics.streams_refused.one(OpenFailure::Offline),
            Err(OpenError::Busy) => metrics.streams_refused.one(OpenFailure::Busy),
            Err(OpenError::Limited) => metrics.streams_refused.one(OpenFailure::Limited),
            Err(OpenError::Lost) => metrics.streams_refused.one(OpenFailure::Lost),
        }
    }
}

/// Nobody scrapes as often; whoever asks in a loop gets what there is.
const SCRAPE_PAUSE: Duration = Duration::from_secs(1);
