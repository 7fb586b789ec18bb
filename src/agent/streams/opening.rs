//! How a visitor's connection begins, as far as the first packet to its upstream.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Streams;
use crate::agent::proxied::{LogId, Proxied, State};
use crate::agent::upstreams::{Route, look_up};
use crate::mux::Key;
use crate::net::dial::Dial;
use crate::net::ready::Ready;
use crate::net::resolve::{Lookup, LookupId, Purpose, ResolveError, Resolver};
use crate::net::visitor_tls::VisitorTls;
use crate::proxy_protocol::ProxyProtocol;

impl Streams {
    /// A visitor of the endpoint with this number: begins to connect its upstream, or to listen to what the visitor has
    /// to say before that.
    #[expect(clippy::too_many_arguments, reason = "each is another thing that a visitor comes with")]
    pub(in crate::agent) fn open(
        &mut self,
        stream: Key,
        endpoint: usize,
        route: Arc<Route>,
        id: LogId,
        visitor: Option<SocketAddr>,
        resolver: &mut Resolver,
        now: Instant,
    ) {
        let deadline = now + GREETING_TIMEOUT;
        let mut state = State::Greeting;
        let mut tls = None;
        if let Some(config) = route.termination() {
            match VisitorTls::new(Arc::clone(config)) {
                _ if !self.handshakes.admit(visitor.map(|visitor| visitor.ip()), now) => {
                    state = State::Rejecting("too many TLS handshakes from its address".to_owned());
                }
                Ok(fresh) => tls = Some(Box::new(fresh)),
                Err(error) => state = State::Rejecting(error.to_string()),
            }
        }
        let header_due = route.header_to_lift();
        let has_to_greet = tls.is_some() || header_due != ProxyProtocol::None || matches!(state, State::Rejecting(_));
        let deadline = if matches!(state, State::Rejecting(_)) { now } else { deadline };
        let proxied = Proxied {
            stream,
            endpoint,
            route,
            id,
            state,
            queued: false,
            opened_at: now,
            deadline: Some(deadline),
            end_at: None,
            read_ended: false,
            write_ended: false,
            failure: None,
            write_error: None,
            flush_until: None,
            to_upstream: 0,
            from_upstream: 0,
            sent_at: now,
            moved_at: now,
            idle_timeout: self.idle_timeout,
            held: 0,
            visitor: tls,
            header_due,
            header: Vec::new(),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(proxied);
        self.by_stream.put(stream, slot);
        self.opened += 1;
        if !has_to_greet {
            self.dial(slot, resolver, now);
        }
        self.wake_at(deadline);
        self.enqueue(slot);
    }

    /// Begins to connect the upstream.
    pub(super) fn dial(&mut self, slot: usize, resolver: &mut Resolver, now: Instant) {
        let Some(Some(proxied)) = self.slots.get_mut(slot) else { return };
        let deadline = now + UPSTREAM_CONNECT_TIMEOUT;
        proxied.deadline = Some(deadline);
        proxied.state = match look_up(resolver, &proxied.route.upstream().address, Purpose::Upstream, now) {
            Lookup::Ready(addresses) => State::Dialing(Dial::new(addresses, deadline), Ready::default()),
            Lookup::Pending(id) => State::Resolving(id),
            Lookup::Refused(error) => {
                proxied.failure = Some(io::Error::other(error));
                State::Failed
            }
        };
        self.wake_at(deadline);
    }

    pub(in crate::agent) fn on_resolved(&mut self, id: LookupId, result: Result<Vec<SocketAddr>, ResolveError>) {
        let waits = |entry: &Option<Proxied>| {
            entry.as_ref().is_some_and(|proxied| matches!(proxied.state, State::Resolving(other) if other == id))
        };
        let Some(slot) = self.slots.iter().position(waits) else { return };
        let Some(Some(proxied)) = self.slots.get_mut(slot) else { return };
        match result {
            Ok(addresses) => {
                let deadline = proxied.deadline.unwrap_or(proxied.opened_at);
                proxied.state = State::Dialing(Dial::new(addresses, deadline), Ready::default());
            }
            Err(error) => {
                proxied.failure = Some(io::Error::other(error));
                proxied.state = State::Failed;
            }
        }
        self.enqueue(slot);
    }
}

/// Name look-up, connection and TLS handshake together. A visitor waits for it, so it is short; a service on the same
/// network answers within milliseconds.
const UPSTREAM_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The visitor's part before its upstream is connected: a PROXY header, a TLS handshake.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
