//! What all connections share.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::gate::{Gate, Pass};
use crate::certificates::Certificates;
use crate::events::Hit;
use crate::gateway::Gateway;
use crate::metrics::{Closed, Label};

/// The gateway, its certificates, and how many connections there are of each kind.
pub(super) struct House {
    pub(super) gateway: Arc<Gateway>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) agents_tls: Arc<ServerConfig>,
    pub(super) https_tls: Arc<ServerConfig>,
    /// Those that have not said yet what they want.
    pub(super) pending: Gate,
    visitors: Gate,
    agents: Gate,
    /// Visitors of `tls` and `tcp` endpoints whose TLS is about to end here.
    handshakes: Gate,
    /// When it was said last that there are too many.
    complained: Complaint,
    /// When it was said last that a trusted proxy sends no header.
    told_of_proxies: Complaint,
}

impl House {
    pub(super) fn new(gateway: Arc<Gateway>, certificates: Arc<Certificates>) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self {
            gateway,
            agents_tls: certificates.agents_tls()?,
            https_tls: certificates.https_tls()?,
            certificates,
            pending: Gate::default(),
            visitors: Gate::default(),
            agents: Gate::default(),
            handshakes: Gate::default(),
            complained: Complaint::default(),
            told_of_proxies: Complaint::default(),
        }))
    }

    /// Waits while too many connections have not said yet what they want.
    pub(super) async fn room(&self) {
        self.pending.room(|| self.gateway.config().limits.pending_max).await;
    }

    /// A place for a visitor, if there is one.
    pub(super) fn admit_visitor(&self) -> Option<Pass> {
        let pass = self.visitors.try_enter(self.gateway.config().limits.connections_max);
        if pass.is_none() {
            self.complain(Closed::Visitors);
        }
        pass
    }

    /// A place for a handshake of a visitor that an endpoint has asked for, if there is one: as many as connections that
    /// have not said yet what they want.
    pub(super) fn admit_handshake(&self) -> Option<Pass> {
        let pass = self.handshakes.try_enter(self.gateway.config().limits.pending_max);
        if pass.is_none() {
            self.complain(Closed::Pending);
        }
        pass
    }

    /// A place for a connection of an agent, if there is one: besides those that are logged in, as many may be about to.
    pub(super) fn admit_agent(&self) -> Option<Pass> {
        let limits = &self.gateway.config().limits;
        let pass = self.agents.try_enter(limits.sessions_max.saturating_add(limits.pending_max));
        if pass.is_none() {
            self.complain(Closed::Agents);
        }
        pass
    }

    /// Waits until no connection is left that is, or may become, one of a visitor.
    pub(super) async fn no_visitors(&self) {
        self.pending.empty().await;
        self.visitors.empty().await;
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        self.pending.empty().await;
        self.visitors.empty().await;
        self.agents.empty().await;
    }

    /// Tells whether a line about trusted proxies is due.
    pub(super) fn may_tell_of_proxies(&self) -> bool {
        self.told_of_proxies.is_due()
    }

    fn complain(&self, reason: Closed) {
        self.gateway.metrics().closed.one(reason);
        if self.complained.is_due() {
            let limit = format!("limits.{}", reason.as_str());
            self.gateway.events().limit_hit(&limit, &Hit::Everybody);
            tracing::warn!(limit, "connections are closed unserved: there are as many as the limit allows");
        }
    }
}

/// When a line was written last that would otherwise be written for every connection.
#[derive(Debug, Default)]
struct Complaint(Mutex<Option<Instant>>);

impl Complaint {
    /// True when it is time for the line; then it counts as written.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = last.is_some_and(|at| now.saturating_duration_since(at) < COMPLAINT_PAUSE);
        if !is_recent {
            *last = Some(now);
        }
        !is_recent
    }
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// One line tells it; a line for each connection would make it worse.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
