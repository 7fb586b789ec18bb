//! The session while the link is up: what its events mean for the agent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Agent;
use super::capacity::Capacity;
use super::connect::{Cause, Connection};
use super::proxied::LogId;
use crate::config::{AgentConfig, Config};
use crate::frame::ErrorCode;
use crate::log_format::{self, SessionState};
use crate::message::ProxyHeader;
use crate::mux::{self, Key};
use crate::net::link::{Link, LinkEnd};
use crate::session::EndpointSpec;
use crate::session::agent::{CALL_DEADLINE, Command, End, Event, OWN_STREAMS, Settings};
use crate::tls;

/// A link and what the agent notes about it.
pub(super) struct Linked {
    pub(super) link: Link,
    number: u64,
    address: SocketAddr,
    /// Until the gateway has accepted the log-in.
    login_deadline: Option<Instant>,
    connected_at: Instant,
    up_at: Option<Instant>,
    /// For how long the gateway was asked in vain when the session ended for that.
    unanswered: Duration,
    /// The gateway knows that all endpoints are gone.
    pub(super) unbound: bool,
    /// The link can do more without another event.
    pub(super) again: bool,
    /// What the memory budget had cost when it was last looked at.
    shortage: mux::Shortage,
}

impl Linked {
    pub(super) fn new(link: Link, number: u64, address: SocketAddr, deadline: Instant, now: Instant) -> Self {
        Self {
            link,
            number,
            address,
            login_deadline: Some(deadline),
            connected_at: now,
            up_at: None,
            unanswered: Duration::ZERO,
            unbound: false,
            again: false,
            shortage: mux::Shortage::default(),
        }
    }

    /// The gateway's address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The gateway has accepted the log-in.
    pub(super) fn is_up(&self) -> bool {
        self.up_at.is_some()
    }

    /// Nothing waits to be written, or could be.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.again && self.link.is_flushed()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.login_deadline.into_iter().chain(self.link.session.poll_timeout()).min()
    }
}

/// What ends a session, for the wait until the next one and for the log.
enum Over {
    Failed(Cause, String),
    Restart,
    Stop,
}

impl Agent {
    /// One turn of the link: read, let the upstreams work, write.
    pub(super) fn drive_link(&mut self) {
        let over = match self.turn_link() {
            Ok(None) => return,
            Ok(Some(over)) => over,
            Err(end) => Over::Failed(cause(&end), self.describe(&end)),
        };
        self.leave(&over);
    }

    fn turn_link(&mut self) -> Result<Option<Over>, LinkEnd> {
        let now = self.now;
        let Connection::Linked(linked) = &mut self.connection else { return Ok(None) };
        self.streams.begin_turn(now);
        let filled = linked.link.fill(&mut self.streams, now);
        if filled.is_ok() {
            linked.link.session.handle_timeout(now);
            if linked.login_deadline.is_some_and(|at| now >= at) {
                return Ok(Some(Over::Failed(Cause::Network, linked.silence())));
            }
        }
        // Also when the link has ended: its last words say why.
        while let Some(event) = self.next_event() {
            if let Some(over) = self.on_event(event) {
                return Ok(Some(over));
            }
        }
        let more_to_read = filled?;
        let Connection::Linked(linked) = &mut self.connection else { return Ok(None) };
        self.streams.run(&mut linked.link.session, &mut self.resolver, self.poll.registry(), now);
        let more_to_write = linked.link.flush(&mut self.streams)?;
        linked.again = more_to_read || more_to_write;
        linked.report_shortage();
        Ok(None)
    }

    fn next_event(&mut self) -> Option<Event> {
        let Connection::Linked(linked) = &mut self.connection else { return None };
        linked.link.session.poll_event()
    }

    fn on_event(&mut self, event: Event) -> Option<Over> {
        let now = self.now;
        let Connection::Linked(linked) = &mut self.connection else { return None };
        let number = linked.number;
        match event {
            Event::Up(reply) => {
                linked.login_deadline = None;
                linked.up_at = Some(now);
                log_format::note_session(SessionState::Up);
                self.observed.on_up(&reply, linked.link.tls_facts());
                self.addresses.on_session(linked.address);
                let proxy = self.config.agent.egress.proxy.as_ref();
                let through = proxy.map_or(String::new(), |proxy| format!(" through the proxy {proxy}"));
                log::info!(
                    "session={number} took={}ms up at {}{through} ({}), account={:?} region={:?} version={:?}",
                    log_format::milliseconds(now.saturating_duration_since(linked.connected_at)),
                    linked.address,
                    linked.link.tls_facts(),
                    reply.extra.account_name,
                    reply.extra.region,
                    reply.extra.version,
                );
            }
            Event::AuthRefused { error, retry_after } => {
                let cause = retry_after.map_or(Cause::Refusal, Cause::Told);
                return Some(Over::Failed(cause, format!("the gateway refuses the log-in: {error}")));
            }
            Event::Bound { endpoint, url } => {
                self.observed.on_bound(endpoint, &url, now);
                let (name, upstream) = self.names(endpoint);
                log::info!("session={number} endpoint={name} online at {url} upstream={upstream}");
            }
            Event::BindRefused { endpoint, error, .. } => {
                self.observed.on_refused(endpoint, &error.to_string(), now);
                let (name, _) = self.names(endpoint);
                log::warn!("session={number} endpoint={name} refused: {error}; asked again within a minute");
            }
            Event::EndpointStopped { endpoint, error } => {
                self.observed.on_stopped(endpoint, &error.to_string(), now);
                let (name, _) = self.names(endpoint);
                log::warn!("session={number} endpoint={name} stopped by the gateway until the next session: {error}");
            }
            Event::Changed { endpoint } => {
                let (name, _) = self.names(endpoint);
                log::info!("session={number} endpoint={name} changed at the gateway");
            }
            Event::ChangeRefused { endpoint, error } => {
                self.observed.on_refused(endpoint, &error.to_string(), now);
                let (name, _) = self.names(endpoint);
                log::warn!("session={number} endpoint={name} offline, the gateway refuses the change: {error}");
            }
            Event::Proxy { stream, endpoint, header } => self.take_visitor(stream, endpoint, &header),
            Event::ProxyRefused(reason) => log::warn!("session={number} turned a stream of the gateway away: {reason}"),
            Event::Readable(stream) | Event::Finished(stream) => self.streams.wake(stream),
            Event::Reset(stream, code) => self.streams.on_reset(stream, &format!("aborted by the gateway: {code}")),
            Event::Beat(took) => {
                self.observed.on_beat(took, now);
                let (ms, usage) = (log_format::round_trip(took), linked.link.session.usage());
                log::debug!(
                    "session={number} took={ms}ms heartbeat came back; streams {} of {}, buffers {} of {} bytes, \
                     windows grown by {} bytes",
                    self.streams.len(),
                    self.capacity.streams,
                    usage.memory,
                    usage.memory_max,
                    usage.windows_grown,
                );
            }
            Event::Command { command, allowed: false } => {
                log::warn!("session={number} the gateway asked for {command:?}; refused");
            }
            Event::Command { command, allowed: true } => {
                log::warn!("session={number} the gateway asked for {command:?}; obeyed");
                return Some(if command == Command::Stop { Over::Stop } else { Over::Restart });
            }
            Event::Unbound => linked.unbound = true,
            Event::Ended(end) => {
                let cause = if let End::GoAway(_, _, Some(away)) = end { Cause::Told(away) } else { Cause::Network };
                linked.unanswered = unanswered(&end, &self.config.agent);
                return Some(Over::Failed(cause, end.to_string()));
            }
        }
        None
    }

    /// Begins to connect a visitor with its upstream, if there is a place.
    fn take_visitor(&mut self, stream: Key, endpoint: usize, header: &ProxyHeader) {
        let Connection::Linked(linked) = &mut self.connection else { return };
        let (number, id) = (linked.number, linked.link.session.stream_id(stream));
        let id = LogId { stream: id, connection: header.connection };
        if self.streams.len() >= self.capacity.streams {
            linked.link.session.refuse(stream);
            log::warn!(
                "session={number} stream={id} a visitor was refused: there are {} already, as many as \
                 agent.streams_max and the limit of descriptors allow",
                self.capacity.streams
            );
            return;
        }
        let Some(route) = self.streams.upstreams.route(endpoint).cloned() else {
            // It was removed between the gateway's word and this turn.
            linked.link.session.reset(stream);
            return;
        };
        let name = route.name();
        log::debug!("session={number} stream={id} endpoint={name} opened for visitor {:?}", header.client_addr);
        self.streams.open(stream, endpoint, route, id, header.visitor(), &mut self.resolver, self.now);
    }

    fn names(&self, endpoint: usize) -> (&str, String) {
        let route = self.streams.upstreams.route(endpoint);
        route.map_or(("?", String::new()), |route| (route.name(), route.upstream().to_string()))
    }

    /// Closes the link and decides what comes next.
    fn leave(&mut self, over: &Over) {
        let now = self.now;
        let Connection::Linked(linked) = std::mem::replace(&mut self.connection, Connection::Stopped) else { return };
        let mut linked = *linked;
        log_format::note_session(SessionState::Down);
        if !matches!(over, Over::Failed(..)) {
            // The answer to the command goes first: nothing follows a GOAWAY.
            linked.link.send_control();
            linked.link.session.go_away(ErrorCode::NO_ERROR, "told to by the gateway");
        }
        let lasted = linked.up_at.map(|at| now.saturating_duration_since(at));
        if lasted.is_none() && matches!(over, Over::Failed(Cause::Network, _)) {
            self.addresses.on_mute(linked.address);
        }
        let answered = lasted.map(|lasted| lasted.saturating_sub(linked.unanswered));
        self.resumption = linked.link.close().into_resumption();
        if answered.is_some_and(|answered| answered >= STABLE) {
            self.backoff.reset();
        }
        match over {
            Over::Failed(cause, reason) => self.failed(*cause, &with_duration(reason, lasted)),
            Over::Restart => {
                self.streams.abort_all();
                // Spread like any other return: a gateway that restarts all its agents must not get them back at once,
                // and one that says it at every log-in not keep both of us busy with it.
                let wait = self.backoff.next(self.random.next());
                self.connection = Connection::Waiting { until: now + wait };
            }
            Over::Stop => {
                self.streams.abort_all();
                log::warn!("stopped by the gateway: send SIGUSR1 or start again to reconnect");
            }
        }
    }

    /// The end of a link in words that say who can mend it.
    fn describe(&self, end: &LinkEnd) -> String {
        let advice = match end {
            LinkEnd::Tls(error) => tls_advice(error),
            LinkEnd::Closed if self.is_handshaking() => {
                " before TLS was up: is this the gateway's address and port, or does a firewall cut it?"
            }
            LinkEnd::Closed | LinkEnd::Socket(_) | LinkEnd::Protocol(_) => "",
        };
        format!("{end}{advice}")
    }

    fn is_handshaking(&self) -> bool {
        matches!(&self.connection, Connection::Linked(linked) if linked.link.is_handshaking())
    }
}

impl Linked {
    /// Says that the memory budget is used up, once for all that come again.
    fn report_shortage(&mut self) {
        let shortage = self.link.session.usage().shortage;
        let before = std::mem::replace(&mut self.shortage, shortage);
        let number = self.number;
        if shortage.aborted != before.aborted {
            log::warn!(
                "session={number} a visitor was aborted: buffers are full, of what upstreams do not read or of TLS to \
                 them; agent.memory_max sets how much that may be"
            );
        }
        if shortage.refused != before.refused {
            log::warn!(
                "session={number} a visitor was refused: buffers are nearly full, of what upstreams do not read or of \
                 TLS to them; agent.memory_max sets how much that may be"
            );
        }
    }

    fn silence(&self) -> String {
        let step = if self.link.is_handshaking() { "TLS handshake" } else { "log-in" };
        format!("{} took the connection, but the {step} got no answer in time", self.address)
    }
}

/// What the agent says of itself and wants from the gateway.
pub(super) fn settings(
    config: &Config,
    capacity: &Capacity,
    instance: Option<String>,
    endpoints: Vec<EndpointSpec>,
) -> Settings {
    let agent = &config.agent;
    let streams_max = capacity.streams + OWN_STREAMS;
    Settings {
        authtoken: agent.authtoken.clone(),
        instance,
        metadata: agent.metadata.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        heartbeat_interval: agent.heartbeat_interval,
        heartbeat_tolerance: agent.heartbeat_tolerance,
        remote_management: agent.remote_management,
        endpoints,
        limits: mux::Limits {
            streams_max,
            open_max: streams_max,
            memory_max: agent.resources.memory_max,
            window: capacity.window(),
            ..mux::Limits::default()
        },
    }
}

/// For how long the gateway had been asked in vain when the session ended. A session that only waited for that proves
/// nothing.
fn unanswered(end: &End, agent: &AgentConfig) -> Duration {
    match end {
        End::CallTimeout(_) => CALL_DEADLINE,
        End::Silence => agent.heartbeat_interval + agent.heartbeat_tolerance,
        End::GoAway(..) | End::BadReply(..) => Duration::ZERO,
    }
}

fn cause(end: &LinkEnd) -> Cause {
    match end {
        LinkEnd::Tls(error) if tls::is_about_time(error) => Cause::Clock,
        LinkEnd::Tls(_) | LinkEnd::Closed | LinkEnd::Socket(_) | LinkEnd::Protocol(_) => Cause::Network,
    }
}

fn with_duration(reason: &str, lasted: Option<Duration>) -> String {
    match lasted {
        Some(lasted) => format!("{reason}, after {} s", lasted.as_secs()),
        None => reason.to_owned(),
    }
}

fn tls_advice(error: &rustls::Error) -> &'static str {
    use rustls::{CertificateError as C, Error};
    match error {
        // A bad signature is what an authority looks like that was made anew under its old name.
        Error::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => {
            " (the certificate comes from an authority that agent.connect_cas does not name, or something on the way \
             inspects TLS)"
        }
        Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            " (the certificate is for another name than agent.connect_url)"
        }
        Error::InvalidMessage(_) => " (what answers there does not speak TLS)",
        _ => "",
    }
}

/// A session in which the gateway answered for this long proves that the way to it works: the next failure is a first
/// one.
const STABLE: Duration = Duration::from_secs(10);

const _: () = assert!(crate::net::resolve::UPSTREAM_WAITERS_MAX >= crate::config::STREAMS_MAX);

#[cfg(test)]
mod tests;
