//! What all connections share.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::TlsAcceptor;

use super::gate::{Gate, Pass};
use crate::certificates::Certificates;
use crate::gateway::Gateway;

/// The gateway, its certificates, and how many connections there are of each kind.
pub(super) struct House {
    pub(super) gateway: Arc<Gateway>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) agents_tls: TlsAcceptor,
    pub(super) https_tls: TlsAcceptor,
    /// Those that have not said yet what they want.
    pub(super) pending: Gate,
    visitors: Gate,
    agents: Gate,
    /// When it was said last that there are too many.
    complained: Mutex<Option<Instant>>,
}

impl House {
    pub(super) fn new(gateway: Arc<Gateway>, certificates: Arc<Certificates>) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self {
            gateway,
            agents_tls: certificates.agents_tls()?.into(),
            https_tls: certificates.https_tls()?.into(),
            certificates,
            pending: Gate::default(),
            visitors: Gate::default(),
            agents: Gate::default(),
            complained: Mutex::new(None),
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
            self.complain("limits.connections_max");
        }
        pass
    }

    /// A place for a connection of an agent, if there is one: besides those that are logged in, as many may be about to.
    pub(super) fn admit_agent(&self) -> Option<Pass> {
        let limits = &self.gateway.config().limits;
        let pass = self.agents.try_enter(limits.sessions_max.saturating_add(limits.pending_max));
        if pass.is_none() {
            self.complain("limits.sessions_max");
        }
        pass
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        self.pending.empty().await;
        self.visitors.empty().await;
        self.agents.empty().await;
    }

    fn complain(&self, limit: &str) {
        let now = Instant::now();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = complained.is_some_and(|at| now.saturating_duration_since(at) < COMPLAINT_PAUSE);
        if !is_recent {
            *complained = Some(now);
            tracing::warn!(limit, "connections are closed unserved: there are as many as the limit allows");
        }
    }
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// One line tells it; a line for each connection would make it worse.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
