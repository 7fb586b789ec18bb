//! Opening a stream to an agent, once it is ready for that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::time::{sleep_until, timeout_at};
use tracing::debug;

use adit::endpoint_url::Scheme;
use adit::message::ProxyHeader;
use adit::proxy_protocol::ProxyProtocol;

use super::Gateway;
use crate::credentials::usage::LimitReached;
use crate::events::Hit;
use crate::http::reach::{OpenError, Target, Visitor};
use crate::identity::BindId;
use crate::session::link::{Sign, StreamFacts};
use crate::stream::ProxyStream;

impl Gateway {
    /// Waits until the agent of an endpoint that was bound just now is ready for visitors.
    async fn routable(&self, target: &Target) -> Result<(), OpenError> {
        let bind = BindId::parse(&target.location.bind).ok_or(OpenError::Offline)?;
        let session = target.location.session;
        let agent = Arc::clone(self.state().sessions.get(&session).ok_or(OpenError::Offline)?);
        let deadline = tokio::time::Instant::now() + CONFIRM_WAIT;
        let mut place = None;
        loop {
            // Before the look, so that what happens between look and wait is not missed.
            let confirmed = agent.confirmed.notified();
            let at = {
                let state = self.state();
                state.registry.endpoint(session, &bind).ok_or(OpenError::Offline)?;
                state.registry.routable_at(session, &bind)
            };
            if let Some(at) = at {
                sleep_until(at.into()).await;
                return Ok(());
            }
            if place.is_none() {
                place = Some(agent.waiting.try_acquire().map_err(|_| OpenError::Busy)?);
            }
            timeout_at(deadline, confirmed).await.map_err(|_| OpenError::Offline)?;
        }
    }

    /// Opens a stream to an agent that is ready for it.
    pub(super) async fn open_ready(
        &self,
        target: &Target,
        visitor: &Visitor,
        is_opened: bool,
    ) -> Result<ProxyStream, OpenError> {
        self.routable(target).await?;
        let mut opened = self.open_stream(target, visitor, is_opened, Attempt::First)?;
        if opened.is_premature().await {
            debug!(session = %target.location.session, endpoint = %target.url, "the agent was not ready: once again");
            // Before the next one: of its credential's streams, this visitor is one.
            drop(opened);
            opened = self.open_stream(target, visitor, is_opened, Attempt::Again)?;
        }
        let header = opened.proxy_protocol.encode(visitor.peer, visitor.local);
        if !header.is_empty() && opened.stream.write_all(&header).await.is_err() {
            return Err(OpenError::Lost);
        }
        Ok(opened.stream)
    }

    fn open_stream(
        &self,
        target: &Target,
        visitor: &Visitor,
        is_opened: bool,
        attempt: Attempt,
    ) -> Result<Opened, OpenError> {
        let bind = BindId::parse(&target.location.bind).ok_or(OpenError::Offline)?;
        let state = self.state();
        let session = target.location.session;
        let agent = Arc::clone(state.sessions.get(&session).ok_or(OpenError::Offline)?);
        let endpoint = state.registry.endpoint(session, &bind).ok_or(OpenError::Offline)?;
        let (scheme, proxy_protocol) = (endpoint.url.scheme(), endpoint.proxy_protocol);
        let opened = tokio::time::Instant::now().into_std();
        let facts = StreamFacts { endpoint: Arc::clone(endpoint), visitor: visitor.peer, opened };
        let routable_at = state.registry.routable_at(session, &bind);
        drop(state);
        let header = ProxyHeader::new(bind.as_str(), visitor.peer, scheme, scheme == Scheme::Tls && !is_opened);
        let place = match attempt {
            Attempt::First => agent.usage.enter(opened),
            Attempt::Again => agent.usage.enter_again(opened),
        };
        let place = place.map_err(|LimitReached(limit)| {
            self.events.limit_hit(limit, &Hit::Site(agent.site()));
            OpenError::Limited
        })?;
        // Only for those who know it: the official readers ignore what they do not know, but need not.
        let header = if agent.is_adit { header.numbered(visitor.number) } else { header };
        let is_go = *agent.client_type == *CLIENT_TYPE_GO;
        let key = agent.link.open(&header, is_go, facts).map_err(|error| match error {
            adit::mux::OpenError::Limit => {
                self.events.limit_hit("limits.streams_per_session_max", &Hit::Site(agent.site()));
                OpenError::Busy
            }
            adit::mux::OpenError::GoingAway | adit::mux::OpenError::IdsExhausted => OpenError::Lost,
        })?;
        debug!(%session, connection = visitor.number, endpoint = %target.url, visitor = %visitor.peer, "stream opened");
        let fresh_until = routable_at.and_then(|at| at.checked_add(FRESH));
        Ok(Opened { stream: ProxyStream::new(Arc::clone(&agent.link), key, place), proxy_protocol, fresh_until })
    }
}

/// How often a stream is opened for a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    First,
    /// In place of one that the agent was not ready for: it is no other visitor.
    Again,
}

/// A proxy stream and what is to be done before its user gets it.
struct Opened {
    stream: ProxyStream,
    proxy_protocol: ProxyProtocol,
    /// Until then the agent may not know the endpoint yet.
    fresh_until: Option<Instant>,
}

impl Opened {
    /// Tells whether the agent ended the stream at once, as those do that do not know the endpoint yet.
    async fn is_premature(&self) -> bool {
        let Some(until) = self.fresh_until.map(tokio::time::Instant::from_std) else { return false };
        if tokio::time::Instant::now() >= until {
            return false;
        }
        timeout_at(until, self.stream.sign()).await == Ok(Sign::EmptyEnd)
    }
}

/// Agents that take the end of the request for the end of everything (wire document, rule 19).
const CLIENT_TYPE_GO: &str = "ngrok-go";
/// How long a visitor waits for the agent's confirmation of a Bind that was answered: several round trips.
const CONFIRM_WAIT: Duration = Duration::from_secs(1);
/// How long after its Bind an agent may still answer that it does not know the endpoint (wire document 4.6).
const FRESH: Duration = Duration::from_millis(100);
