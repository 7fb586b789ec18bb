//! The agent: one event loop that keeps the link to the gateway and connects visitors to upstreams.
//!
//! Each turn of the loop reads the clock once, notes which sockets are ready, takes what the link has, lets the
//! upstreams that can do something do it, writes the link, and fires what is due. Nothing in it blocks.

mod addresses;
mod capacity;
mod connect;
mod control;
mod handshakes;
mod instance;
mod link;
mod load;
mod observed;
mod proxied;
mod reload;
mod status_socket;
mod streams;
mod terminated;
mod upstreams;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

pub use control::Handle;
pub use load::Loaded;

use self::addresses::Addresses;
use self::capacity::Capacity;
use self::connect::Connection;
use self::control::Control;
use self::instance::Instance;
use self::observed::Observed;
use self::reload::Reloader;
use self::status_socket::{StatusSocket, Tokens};
use self::streams::Streams;
use self::upstreams::Upstreams;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::net::outgoing::Outgoing;
use crate::net::resolve::{NameServers, Resolver};
use crate::session::agent::Settings;
use crate::session::{Random, Resumption};
use crate::tls::{self, TlsError};

/// Why the agent cannot run. Nothing that the network does is among it.
#[derive(Debug)]
pub enum RunError {
    /// The system refuses what the loop needs: an epoll instance, a pipe.
    System(io::Error),
    /// The certificates to trust cannot be used.
    Tls(TlsError),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(error) => write!(f, "the system refuses what the event loop needs: {error}"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

/// One agent.
pub struct Agent {
    config: Config,
    capacity: Capacity,
    poll: Poll,
    control: Control,
    reloader: Option<Reloader>,
    resolver: Resolver,
    /// How the connection to the gateway leaves the machine.
    outgoing: Outgoing,
    addresses: Addresses,
    connect_tls: Arc<rustls::ClientConfig>,
    connection: Connection,
    resumption: Resumption,
    instance: Instance,
    backoff: Backoff,
    random: Random,
    streams: Streams,
    observed: Observed,
    status: StatusSocket,
    session_number: u64,
    /// Set once by a signal: the agent ends when its streams have, or at this time.
    drain_until: Option<Instant>,
    now: Instant,
}

#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Exit,
}

impl Agent {
    /// An agent that does nothing yet.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn new(config: Config) -> Result<Self, RunError> {
        Self::with(Loaded::new(config).map_err(RunError::Tls)?)
    }

    /// An agent with a configuration whose files were read.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn with(loaded: Loaded) -> Result<Self, RunError> {
        let poll = Poll::new().map_err(RunError::System)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(RunError::System)?);
        let Loaded { config, connect_tls, endpoints_tls, .. } = loaded;
        log::info!("TLS offers {}", tls::describe_order(config.agent.tls_ciphers));
        if let Some(warning) = tls::clock_warning() {
            log::warn!("{warning}");
        }
        let outgoing = Outgoing::of(&config.agent.egress);
        let servers = NameServers::of(&config.agent.egress);
        let capacity = Capacity::new(&config.agent.resources);
        let upstreams = Upstreams::new(&config.endpoints, endpoints_tls);
        let now = clock();
        Ok(Self {
            poll,
            capacity,
            resolver: Resolver::new(Arc::clone(&waker), servers),
            outgoing,
            addresses: Addresses::default(),
            control: Control::new(waker),
            reloader: None,
            connect_tls,
            connection: Connection::Waiting { until: now },
            resumption: Resumption::default(),
            instance: Instance::of_this_box(),
            backoff: Backoff::new(),
            random: Random::new(seed()),
            streams: Streams::new(upstreams, config.agent.resources.idle_timeout, now),
            observed: Observed::new(now),
            status: StatusSocket::new(config.agent.status_socket.clone(), now),
            session_number: 0,
            drain_until: None,
            now,
            config,
        })
    }

    /// Tells the agent from another thread to end or to reconnect.
    pub fn handle(&self) -> Handle {
        self.control.handle()
    }

    /// From now on SIGHUP reads this file again.
    pub fn reload_from(&mut self, path: PathBuf) {
        self.reloader = Some(Reloader::new(path, self.control.waker()));
    }

    /// From now on SIGTERM and SIGINT drain, SIGUSR1 reconnects, SIGHUP reloads. For the program's main thread.
    ///
    /// # Errors
    /// [`RunError::System`].
    pub fn watch_signals(&mut self) -> Result<(), RunError> {
        self.control.watch_signals(self.poll.registry(), SIGNALS).map_err(RunError::System)
    }

    /// Runs until a signal or a handle has ended it and its streams have drained.
    ///
    /// # Errors
    /// [`RunError::System`] when the loop itself cannot go on. Never because of the network or a refusal.
    pub fn run(mut self) -> Result<(), RunError> {
        self.capacity.log();
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(RunError::System(error)),
            }
            self.now = clock();
            for event in &events {
                self.note(event);
            }
            if self.turn() == Flow::Exit {
                return Ok(());
            }
        }
    }

    /// Notes readiness and nothing else, so that no event of a batch can meet a slot that another one changed.
    fn note(&mut self, event: &mio::event::Event) {
        match event.token() {
            WAKER => {}
            SIGNALS => self.control.clear_signals(),
            LINK => self.connection.note(event),
            STATUS | STATUS_CLIENTS => self.status.note(),
            Token(number) => self.streams.note(number.saturating_sub(FIRST_STREAM.0), event),
        }
    }

    fn turn(&mut self) -> Flow {
        if self.obey() == Flow::Exit {
            return Flow::Exit;
        }
        while let Some((id, result)) = self.resolver.poll(self.now) {
            if !self.on_resolved(id, &result) {
                self.streams.on_resolved(id, result);
            }
        }
        self.drive_reload();
        self.drive_connection();
        self.streams.fire_timers(self.now);
        let flow = self.end_drain();
        self.observe();
        self.answer_status();
        flow
    }

    /// Serves those who ask how the agent is.
    fn answer_status(&mut self) {
        let mut status = std::mem::replace(&mut self.status, StatusSocket::new(None, self.now));
        let tokens = Tokens { listener: STATUS, clients: STATUS_CLIENTS };
        status.drive(self.poll.registry(), tokens, self.now, || self.report());
        self.status = status;
    }

    fn timeout(&self) -> Option<Duration> {
        if self.streams.has_work() || self.connection.has_work() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.connection.deadline(),
            self.streams.deadline(),
            self.resolver.next_deadline(),
            self.drain_until,
            self.status.deadline(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(clock()))
    }
}

/// What an agent says of itself that offers nothing.
pub(crate) fn settings_without_endpoints(config: &Config) -> Settings {
    link::settings(config, &Capacity::new(&config.agent.resources), None, Vec::new())
}

/// The one place where the agent reads the clock.
fn clock() -> Instant {
    Instant::now()
}

/// A seed for jitter and beats: differs between boxes of one image that boot at the same moment.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library keys its hasher from the system's random source.
    std::hash::RandomState::new().build_hasher().finish()
}

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const LINK: Token = Token(2);
const STATUS: Token = Token(3);
const STATUS_CLIENTS: Token = Token(4);
const FIRST_STREAM: Token = Token(8);

/// Readiness taken from the kernel at one time; what does not fit comes with the next turn.
const EVENTS_PER_TURN: usize = 256;
