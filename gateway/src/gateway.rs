//! The gateway as one object: its configuration, the sessions of agents, and the way from a name to a stream.

mod agent;
mod arrivals;
mod dismiss;
mod observe;
mod opening;
mod ports;
mod reload;
mod telling;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use adit::endpoint_url::{EndpointUrl, Scheme};
use adit::session::Random;

use crate::access_log::Site;
use crate::acme::Challenges;
use crate::admit::Failures;
use crate::certificates::Certificates;
use crate::config::Config;
use crate::credentials::usage::Usages;
use crate::events::{Events, Moment};
use crate::fleet::Fleet;
use crate::http::reach::{CloudEndpoint, OpenError, PublicEndpoint, Reach, SessionId, Target, Unreachable, Visitor};
use crate::identity::{ClientId, Identity, NoRandomness};
use crate::identity_key::IdentityKey;
use crate::ledger::Ledger;
use crate::login::LogIns;
use crate::login::seal::Keys;
use crate::login::spent::Journal;
use crate::pace::Pace;
use crate::registry::Registry;
use crate::registry::names::Names;
use crate::stream::ProxyStream;
use arrivals::Arrivals;
use ports::Ports;

pub(crate) use agent::Agent;
pub use ports::TcpPorts;
pub(crate) use reload::REVOKED;

/// One gateway.
pub struct Gateway {
    served: ArcSwap<Served>,
    identity: Identity,
    log_ins: Arc<LogIns>,
    ports: Ports,
    challenges: Arc<Challenges>,
    events: Arc<Events>,
    state: Mutex<State>,
    usages: Usages,
    arrivals: Arrivals,
    draining: watch::Sender<bool>,
    ledger: Arc<Ledger>,
    /// What the last scrape got, and when.
    scraped: Arc<tokio::sync::Mutex<Option<(tokio::time::Instant, bytes::Bytes)>>>,
    /// The one place for whoever looks at all sites, sessions, endpoints or streams.
    pub(crate) looks: Arc<Semaphore>,
    /// Set once the sockets are served.
    certificates: OnceLock<Arc<Certificates>>,
}

/// A configuration and what is derived from it.
struct Served {
    config: Arc<Config>,
    cloud: Names<Option<Arc<CloudEndpoint>>>,
}

/// What changes with every session and endpoint. Held for short moments, never while waiting.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) failures: Failures,
    pub(crate) random: Random,
    pub(crate) pace: Pace,
    events: Arc<Events>,
    pub(crate) fleet: Fleet,
    sessions: HashMap<SessionId, Arc<Agent>>,
    agents: HashMap<(ClientId, u32), SessionId>,
    per_account: HashMap<Arc<str>, usize>,
    last_session: u64,
}

impl Gateway {
    /// A gateway without any listener, whose log-ins are forgotten when it ends. Agents' connections go to [`serve_agent`](crate::session::serve_agent), visitors
    /// come through [`Reach`].
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]: without it, no agent could get an identity.
    pub fn new(config: Config, key: &IdentityKey) -> Result<Arc<Self>, NoRandomness> {
        let keys = Keys::derive([&key.expose()[..]]);
        Self::with_log_ins(config, key, LogIns::new(keys, Arc::new(Journal::in_memory())))
    }

    /// As [`Gateway::new`], with log-ins that are kept elsewhere.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]
    pub fn with_log_ins(config: Config, key: &IdentityKey, log_ins: LogIns) -> Result<Arc<Self>, NoRandomness> {
        let identity = Identity::new(key.expose());
        let events = Events::new(&config.events, u64::from_ne_bytes(identity.random()?));
        let state = State {
            registry: Registry::new(),
            failures: Failures::new(config.limits.login_sources_max),
            random: Random::new(u64::from_ne_bytes(identity.random()?)),
            pace: Pace::default(),
            events: Arc::clone(&events),
            fleet: Fleet::new(Moment::now()),
            sessions: HashMap::new(),
            agents: HashMap::new(),
            per_account: HashMap::new(),
            last_session: 0,
        };
        Ok(Arc::new(Self {
            served: ArcSwap::from_pointee(Served::new(config)),
            identity,
            log_ins: Arc::new(log_ins),
            ports: Ports::default(),
            challenges: Arc::default(),
            events,
            state: Mutex::new(state),
            usages: Usages::default(),
            arrivals: Arrivals::default(),
            draining: watch::Sender::new(false),
            ledger: Arc::default(),
            scraped: Arc::default(),
            looks: Arc::new(Semaphore::new(1)),
            certificates: OnceLock::new(),
        }))
    }

    /// The configuration that is in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.served.load().config)
    }

    /// How many agents are logged in.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.state().sessions.len()
    }

    /// What all log-ins share.
    #[must_use]
    pub fn log_ins(&self) -> &Arc<LogIns> {
        &self.log_ins
    }

    /// What authorities are answered that look whether a name is this gateway's.
    #[must_use]
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn usages(&self) -> &Usages {
        &self.usages
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves half-done work behind when it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for a connection of an agent, for the log and for locations.
    pub(crate) fn new_session(&self) -> SessionId {
        let mut state = self.state();
        state.last_session += 1;
        SessionId(state.last_session)
    }

    /// Forgets a session whose link is gone. Its addresses are kept for a while.
    pub(crate) fn leave(self: &Arc<Self>, session: SessionId, why: &str, now: Instant) {
        let hold = self.config().limits.address_hold;
        self.state().leave(session, why, now, hold);
        self.close_ports_after(hold);
    }

    /// Ends sessions that stand in the way of a newer one.
    pub(crate) fn evict(&self, sessions: &[SessionId], now: Instant) {
        let hold = self.config().limits.address_hold;
        for session in sessions {
            let agent = self.state().leave(*session, TAKEN_OVER, now, hold);
            if let Some(agent) = agent {
                agent.end(TAKEN_OVER);
            }
        }
    }
}

impl Reach for Gateway {
    type Stream = ProxyStream;

    fn public(&self, scheme: Scheme, host: &str, port: u16) -> Result<PublicEndpoint, Unreachable> {
        let served = self.served.load();
        let cloud = served.cloud.public(scheme, host, port, Clone::clone);
        let now = tokio::time::Instant::now().into_std();
        let mut state = self.state();
        let random = state.random.next();
        let agent = state.registry.public(scheme, host, port, now, random);
        match (cloud, agent) {
            (Some((specificity, cloud)), Some(agent)) if specificity >= agent.specificity => {
                Ok(PublicEndpoint::Cloud(cloud))
            }
            (_, Some(agent)) => Ok(PublicEndpoint::Agent(agent.endpoint.target())),
            (Some((_, cloud)), None) => Ok(PublicEndpoint::Cloud(cloud)),
            (None, None) => Err(Unreachable::Offline),
        }
    }

    fn ledger(&self) -> Option<Arc<Ledger>> {
        Some(Arc::clone(&self.ledger))
    }

    fn site(&self, session: SessionId) -> Option<Site> {
        let state = self.state();
        let agent = state.session(session)?;
        Some(Site { credential: Arc::clone(&agent.owner.credential), instance: agent.instance.clone() })
    }

    fn may_go_outside(&self) -> bool {
        self.config().policies.outside_requests
    }

    fn internal(&self, account: &str, url: &EndpointUrl) -> Result<Target, Unreachable> {
        let now = tokio::time::Instant::now().into_std();
        let mut state = self.state();
        let random = state.random.next();
        let found = state.registry.internal(account, url, now, random);
        found.map(|found| found.endpoint.target()).ok_or(Unreachable::Offline)
    }

    async fn arrival(&self, account: &str, url: &EndpointUrl) {
        self.arrival_of(account, url).await;
    }

    fn log_ins(&self) -> Option<Arc<LogIns>> {
        Some(Arc::clone(&self.log_ins))
    }

    fn listens_on(&self, scheme: Scheme, port: u16) -> bool {
        let served = self.served.load();
        let listeners = &served.config.listeners;
        let addresses = match scheme {
            Scheme::Http => &listeners.http,
            Scheme::Https => &listeners.https,
            Scheme::Tls => &listeners.tls,
            Scheme::Tcp => return false,
        };
        addresses.iter().any(|address| address.port() == port)
    }

    async fn open(&self, target: &Target, visitor: &Visitor, is_opened: bool) -> Result<ProxyStream, OpenError> {
        let opened = self.open_ready(target, visitor, is_opened).await;
        self.count_opening(&opened);
        opened
    }

    fn proof(&self, host: &str, path: &str) -> Option<String> {
        self.challenges.http(host, path)
    }

    async fn draining(&self) {
        // The sender lives as long as the gateway.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }
}

impl Served {
    fn new(config: Config) -> Self {
        let mut cloud = Names::default();
        for endpoint in &config.cloud_endpoints {
            *cloud.entry(&endpoint.url) = Some(Arc::clone(endpoint));
        }
        Self { config: Arc::new(config), cloud }
    }
}

impl State {
    /// Registers a session.
    pub(crate) fn enter(&mut self, agent: Arc<Agent>) {
        *self.per_account.entry(agent.owner.account.clone()).or_default() += 1;
        self.events.session_up(&agent.site());
        self.agents.insert((agent.client.clone(), agent.leg), agent.session);
        self.fleet.arrived(&agent);
        self.sessions.insert(agent.session, agent);
    }

    /// Takes a session out for the reason `why`, keeping its addresses for `hold`. The caller ends its link if that is still up.
    pub(crate) fn leave(&mut self, session: SessionId, why: &str, now: Instant, hold: Duration) -> Option<Arc<Agent>> {
        let agent = self.sessions.remove(&session)?;
        self.events.session_down(&agent.site(), why);
        let key = (agent.client.clone(), agent.leg);
        if self.agents.get(&key) == Some(&session) {
            self.agents.remove(&key);
        }
        if let Some(count) = self.per_account.get_mut(&agent.owner.account) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_account.remove(&agent.owner.account);
            }
        }
        let bound: Vec<_> = self.registry.endpoints(session).map(|endpoint| endpoint.key()).collect();
        self.fleet.left(&agent.site(), session, why, agent.link.traffic(), Moment::now());
        self.registry.lost(session, now, hold);
        self.tell_endpoints(&bound);
        agent.confirmed.notify_waiters();
        Some(agent)
    }

    /// The session that an agent has on one of its legs.
    pub(crate) fn session_of(&self, client: &ClientId, leg: u32) -> Option<SessionId> {
        self.agents.get(&(client.clone(), leg)).copied()
    }

    pub(crate) fn session(&self, session: SessionId) -> Option<&Arc<Agent>> {
        self.sessions.get(&session)
    }

    pub(crate) fn all_sessions(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.sessions.values()
    }

    /// How many sessions there are, and how many of them an account has.
    pub(crate) fn session_counts(&self, account: &str) -> (usize, usize) {
        (self.sessions.len(), self.per_account.get(account).copied().unwrap_or_default())
    }

    /// The registry, and who is past the liveness deadline.
    pub(crate) fn registry_with_deaths(&mut self, now: Instant) -> (&mut Registry, impl Fn(SessionId) -> bool) {
        let Self { registry, sessions, .. } = self;
        (registry, move |session| sessions.get(&session).is_none_or(|agent| agent.link.is_dead(now)))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.config().file).field("sessions", &self.sessions()).finish()
    }
}

/// What a session is told that has to give up an endpoint.
const TAKEN_OVER: &str = "a newer connection has taken over an endpoint of this one";
/// Visitors of one session who wait for that at a time: as many as an agent has streams. Each confirmation wakes them all,
/// so that more would be a way to keep the gateway busy.
pub(crate) const WAITING_MAX: usize = 500;
