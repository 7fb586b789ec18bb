//! The way to the gateway: look-up, dial, link, and the waits in between. Each step has a deadline.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::control::Order;
use super::link::Linked;
use super::upstreams::look_up;
use super::{Agent, Flow, LINK, clock};
use crate::config::HostPort;
use crate::log_format::{self, SessionState};
use crate::net::dial::{Dial, Progress};
use crate::net::link::Link;
use crate::net::ready::Ready;
use crate::net::resolve::{Lookup, LookupId, Purpose, ResolveError};
use crate::net::socket_options;
use crate::net::tunnel::{Passage, Tunnel};
use crate::proxy_handshake::Handshake;
use crate::session::AgentSession;
use crate::tls;

/// Where the agent stands.
pub(super) enum Connection {
    /// Not connected, until the next attempt.
    Waiting {
        until: Instant,
    },
    Resolving {
        id: LookupId,
        /// When it is given up: earlier than the attempt, if there are addresses to fall back on.
        until: Instant,
        deadline: Instant,
    },
    Dialing {
        dial: Dial,
        deadline: Instant,
    },
    /// Connected to the proxy.
    Tunnelling {
        tunnel: Box<Tunnel>,
        address: SocketAddr,
        deadline: Instant,
    },
    Linked(Box<Linked>),
    /// Drained: the goodbye is on its way.
    Closing {
        link: Box<Link>,
        until: Instant,
    },
    /// Stopped by the gateway, until a signal.
    Stopped,
}

impl Connection {
    pub(super) fn note(&mut self, event: &mio::event::Event) {
        match self {
            Self::Linked(linked) => linked.link.ready.add(event),
            Self::Closing { link, .. } => link.ready.add(event),
            Self::Tunnelling { tunnel, .. } => tunnel.ready.add(event),
            // The dial is looked at in every turn.
            Self::Dialing { .. } | Self::Waiting { .. } | Self::Resolving { .. } | Self::Stopped => {}
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Waiting { until } => Some(*until),
            Self::Resolving { until, .. } => Some(*until),
            Self::Dialing { dial, deadline } => dial.next_deadline().into_iter().chain([*deadline]).min(),
            Self::Tunnelling { deadline, .. } => Some(*deadline),
            Self::Linked(linked) => linked.deadline(),
            Self::Closing { until, .. } => Some(*until),
            Self::Stopped => None,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        match self {
            Self::Linked(linked) => linked.again,
            // The goodbye reads a bounded amount at a time.
            Self::Closing { link, .. } => link.ready.readable,
            Self::Waiting { .. }
            | Self::Resolving { .. }
            | Self::Dialing { .. }
            | Self::Tunnelling { .. }
            | Self::Stopped => false,
        }
    }
}

/// Why there is no session, for the length of the wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Network,
    Refusal,
    /// The gateway's certificate is not valid at this time.
    Clock,
    /// The gateway has said how long to stay away.
    Told(Duration),
}

impl Agent {
    pub(super) fn obey(&mut self) -> Flow {
        while let Some(order) = self.control.take() {
            match order {
                Order::Quit => return Flow::Exit,
                Order::Drain => self.drain(),
                // It ends soon anyway; what still lives gets the time that it was promised.
                Order::Reconnect if self.drain_until.is_some() => log::info!("told to reconnect; draining goes on"),
                Order::Reconnect => {
                    log::info!("told to reconnect");
                    self.hang_up("the agent reconnects");
                    // Who says so knows that something has changed: earlier failures say nothing about it.
                    self.backoff.reset();
                    self.connection = Connection::Waiting { until: self.now };
                }
                Order::Reload => self.begin_reload(),
            }
        }
        Flow::Continue
    }

    fn drain(&mut self) {
        log::info!("draining: endpoints go offline, {} streams may end", self.streams.len());
        self.drain_until = Some(self.now + self.config.agent.drain_timeout);
        match &mut self.connection {
            Connection::Linked(linked) => linked.link.session.drain(self.now),
            Connection::Closing { .. } => {}
            other => *other = Connection::Stopped,
        }
    }

    /// Whether a drain has come to its end.
    pub(super) fn end_drain(&mut self) -> Flow {
        let Some(until) = self.drain_until else { return Flow::Continue };
        match &mut self.connection {
            Connection::Linked(linked) => {
                let quiet = linked.unbound && self.streams.len() == 0 && linked.is_at_rest();
                if !quiet && self.now < until {
                    return Flow::Continue;
                }
            }
            Connection::Closing { link, until } => {
                let over = link.say_goodbye() || self.now >= *until;
                return if over { Flow::Exit } else { Flow::Continue };
            }
            Connection::Waiting { .. }
            | Connection::Resolving { .. }
            | Connection::Dialing { .. }
            | Connection::Tunnelling { .. }
            | Connection::Stopped => {}
        }
        log::info!("drained: {} streams left, {} served", self.streams.len(), self.streams.opened());
        self.begin_goodbye()
    }

    fn begin_goodbye(&mut self) -> Flow {
        let Connection::Linked(linked) = std::mem::replace(&mut self.connection, Connection::Stopped) else {
            return Flow::Exit;
        };
        if !linked.is_up() {
            return Flow::Exit;
        }
        let mut link = Box::new(linked.link);
        link.session.go_away(crate::frame::ErrorCode::NO_ERROR, "no error");
        self.streams.abort_all();
        if link.say_goodbye() {
            return Flow::Exit;
        }
        let until = self.now + GOODBYE_TIMEOUT;
        // The time of the drain may be over, and a deadline in the past would keep the loop awake.
        self.drain_until = Some(until);
        self.connection = Connection::Closing { link, until };
        Flow::Continue
    }

    /// Says goodbye to the gateway, if there is a link, and forgets all streams.
    pub(super) fn hang_up(&mut self, text: &str) {
        match std::mem::replace(&mut self.connection, Connection::Stopped) {
            Connection::Linked(mut linked) => {
                log_format::note_session(SessionState::Down);
                linked.link.session.go_away(crate::frame::ErrorCode::NO_ERROR, text);
                self.resumption = linked.link.close().into_resumption();
            }
            Connection::Resolving { id, .. } => self.resolver.abandon(id),
            Connection::Waiting { .. }
            | Connection::Dialing { .. }
            | Connection::Tunnelling { .. }
            | Connection::Closing { .. }
            | Connection::Stopped => {}
        }
        self.streams.abort_all();
    }

    /// The result of a look-up, if it is ours.
    pub(super) fn on_resolved(&mut self, id: LookupId, result: &Result<Vec<SocketAddr>, ResolveError>) -> bool {
        let Connection::Resolving { id: ours, deadline, .. } = self.connection else { return false };
        if id != ours {
            return false;
        }
        match result {
            Ok(addresses) => self.dial(addresses.clone(), deadline),
            Err(error) => self.unresolved(&error.to_string(), deadline),
        }
        true
    }

    /// Moves the connection as far as it goes now.
    pub(super) fn drive_connection(&mut self) {
        match &mut self.connection {
            Connection::Waiting { until } if self.now >= *until => self.attempt(),
            Connection::Resolving { id, until, deadline } if self.now >= *until => {
                let deadline = *deadline;
                self.resolver.cancel(*id);
                self.unresolved("no answer in time: is the DNS server up?", deadline);
            }
            Connection::Dialing { .. } => self.drive_dial(),
            Connection::Tunnelling { .. } => self.drive_tunnel(),
            Connection::Linked(_) => self.drive_link(),
            Connection::Waiting { .. }
            | Connection::Resolving { .. }
            | Connection::Closing { .. }
            | Connection::Stopped => {}
        }
    }

    fn attempt(&mut self) {
        let timeout = self.config.agent.connect_timeout;
        let deadline = self.now + timeout;
        let place = self.first_hop().clone();
        self.addresses.begin(&place);
        match look_up(&mut self.resolver, &place, Purpose::Connect, self.now) {
            Lookup::Ready(addresses) => self.dial(addresses, deadline),
            Lookup::Pending(id) => {
                // A second half is for the addresses to fall back on.
                let share = if self.addresses.last_good().is_empty() { timeout } else { timeout / 2 };
                self.connection = Connection::Resolving { id, until: self.now + share, deadline };
            }
            Lookup::Refused(error) => self.unresolved(&error.to_string(), deadline),
        }
    }

    /// What is dialled: the gateway, or the proxy in front of it.
    fn first_hop(&self) -> &HostPort {
        let agent = &self.config.agent;
        agent.egress.proxy.as_ref().map_or(&agent.connect, |proxy| &proxy.address)
    }

    /// Nobody knows the name now: goes where it led the last time, if there was one.
    fn unresolved(&mut self, error: &str, deadline: Instant) {
        let host = self.first_hop().host();
        let last_good = self.addresses.last_good();
        if last_good.is_empty() || self.now >= deadline {
            let reason = format!("cannot look {host} up: {error}");
            return self.failed(Cause::Network, &reason);
        }
        let listed: Vec<String> = last_good.iter().map(SocketAddr::to_string).collect();
        log::warn!("cannot look {host} up: {error}; trying where it was the last time: {}", listed.join(", "));
        self.dial(last_good.to_vec(), deadline);
    }

    fn dial(&mut self, addresses: Vec<SocketAddr>, deadline: Instant) {
        let addresses = self.addresses.arrange(addresses);
        let dial = Dial::through(self.outgoing.clone(), addresses, deadline);
        self.connection = Connection::Dialing { dial, deadline };
        self.drive_dial();
    }

    fn drive_dial(&mut self) {
        let Connection::Dialing { dial, deadline } = &mut self.connection else { return };
        let deadline = *deadline;
        match dial.poll(self.poll.registry(), LINK, self.now) {
            Progress::Dialing => {}
            Progress::Failed(error) => {
                let reason = match &self.config.agent.egress.proxy {
                    Some(proxy) => format!("the proxy {proxy} cannot be reached: {error}"),
                    None => error.to_string(),
                };
                self.failed(Cause::Network, &reason);
            }
            Progress::Connected(socket, address) => self.on_connected(socket, address, deadline),
        }
    }

    fn on_connected(&mut self, socket: mio::net::TcpStream, address: SocketAddr, deadline: Instant) {
        let agent = &self.config.agent;
        let patience = agent.heartbeat_interval + agent.heartbeat_tolerance;
        socket_options::prepare_link(&socket, patience);
        // Taken as ready until the socket says otherwise.
        let ready = Ready { readable: true, writable: true, read_closed: false };
        let Some(proxy) = &agent.egress.proxy else { return self.link_up(socket, ready, address, deadline) };
        log::debug!("connected to the proxy {proxy} at {address}, asking for {}", agent.connect);
        let handshake = Handshake::new(proxy, &agent.connect);
        let tunnel = Box::new(Tunnel::new(socket, ready, handshake));
        self.connection = Connection::Tunnelling { tunnel, address, deadline };
        self.drive_tunnel();
    }

    fn drive_tunnel(&mut self) {
        let connection = std::mem::replace(&mut self.connection, Connection::Stopped);
        let Connection::Tunnelling { tunnel, address, deadline } = connection else {
            self.connection = connection;
            return;
        };
        let reason = match tunnel.drive() {
            Passage::Open(socket, ready) => return self.link_up(socket, ready, address, deadline),
            Passage::Waiting(tunnel) if self.now < deadline => {
                self.connection = Connection::Tunnelling { tunnel, address, deadline };
                return;
            }
            Passage::Waiting(_) => "the proxy took the connection, but gave no answer in time".to_owned(),
            Passage::Closed(error) => error.to_string(),
        };
        self.addresses.on_mute(address);
        let through = self.config.agent.egress.proxy.as_ref().map(ToString::to_string).unwrap_or_default();
        self.failed(Cause::Network, &format!("{reason} (proxy {through} at {address})"));
    }

    fn link_up(&mut self, socket: mio::net::TcpStream, ready: Ready, address: SocketAddr, deadline: Instant) {
        self.session_number += 1;
        let number = self.session_number;
        log::debug!("session={number} connected to {address}, TLS handshake begins");
        let name = match tls::server_name(self.config.agent.connect.host()) {
            Ok(name) => name,
            Err(error) => return self.failed(Cause::Network, &error.to_string()),
        };
        let agent = &self.config.agent;
        self.instance.warn_without(agent);
        let endpoints = self.streams.upstreams.specs();
        let settings = super::link::settings(&self.config, &self.capacity, self.instance.name(agent), endpoints);
        let resumption = std::mem::take(&mut self.resumption);
        let session = AgentSession::new(settings, resumption, self.random.next(), self.now);
        match Link::new(socket, ready, self.connect_tls.clone(), name, session) {
            Ok(link) => {
                self.streams.start_session(number);
                self.connection = Connection::Linked(Box::new(Linked::new(link, number, address, deadline, self.now)));
                self.drive_link();
            }
            Err(error) => self.failed(Cause::Network, &format!("TLS cannot begin: {error}")),
        }
    }

    /// An attempt or a session is over: says why, and when the next one is.
    pub(super) fn failed(&mut self, cause: Cause, reason: &str) {
        let random = self.random.next();
        let wait = match cause {
            Cause::Network => self.backoff.next(random),
            Cause::Refusal => self.backoff.refused(random),
            Cause::Clock => self.backoff.clock(random),
            Cause::Told(away) => self.backoff.told(away, random),
        };
        self.observed.on_failed(reason, self.now);
        let number = self.session_number;
        let place = &self.config.agent.connect;
        let within = match cause {
            Cause::Network => "20 s",
            Cause::Refusal | Cause::Told(_) => "a minute",
            Cause::Clock => "5 s, by the clock as it is then",
        };
        log::warn!("session={number} no session with {place}: {reason}; the next attempt follows within {within}");
        log::debug!("session={number} the next attempt follows in {} ms", log_format::milliseconds(wait));
        self.streams.abort_all();
        self.connection = if self.drain_until.is_some() {
            Connection::Stopped
        } else {
            Connection::Waiting { until: clock() + wait }
        };
    }
}

/// How long what lies in the socket's buffer may take to the gateway before the process ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
