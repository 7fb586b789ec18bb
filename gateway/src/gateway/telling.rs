//! What of log-ins, sessions and endpoints becomes lines of the log and events.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{debug, warn};

use adit::message::{AuthRequest, WireError, codes};

use super::{Agent, Gateway, State};
use crate::admit::shown;
use crate::events::{Events, Refusal, Site};
use crate::http::reach::SessionId;
use crate::registry::EndpointKey;
use crate::token::Token;

impl Gateway {
    /// What an operator may be told of.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Tells of a log-in that was refused.
    pub(crate) fn tell_refusal(
        &self,
        session: SessionId,
        request: &AuthRequest,
        peer: SocketAddr,
        refusal: &WireError,
    ) {
        // Whoever fails all the time has been told of, and does not fill the log.
        if refusal.code == Some(codes::SESSIONS_TOO_FAST) {
            debug!(%session, address = %peer, "log-in refused: {}", refusal.message);
            return;
        }
        warn!(
            %session, address = %peer, code = refusal.code, agent = %shown(&request.extra.user_agent),
            "log-in refused: {}", refusal.message
        );
        // These are no fault of the credential.
        if matches!(refusal.code, Some(codes::DRAINING | codes::SESSIONS_TOO_MANY)) {
            return;
        }
        let token = Token::parse(request.extra.authtoken.expose());
        let credential: Option<Arc<str>> = token.ok().map(|token| token.credential_id().into());
        let is_known = credential.as_deref().is_some_and(|name| self.config().accounts.credential(name).is_some());
        self.events.refused(&Refusal { address: peer.ip(), credential, is_known, reason: refusal.message.clone() });
    }
}

impl State {
    /// Tells of addresses that may be served or not served any more. Under the lock that the change was made under, so that
    /// what is told last is what holds.
    pub(crate) fn tell_endpoints(&self, keys: &[EndpointKey]) {
        for key in keys {
            self.events.endpoint(&key.account, &key.url.to_string(), self.registry.is_served(key));
        }
    }
}

impl Agent {
    /// The site that it is at.
    pub(crate) fn site(&self) -> Site {
        let owner = &self.owner;
        Site {
            account: Arc::clone(&owner.account),
            credential: Arc::clone(&owner.credential),
            instance: self.instance.clone(),
        }
    }
}
