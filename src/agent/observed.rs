//! What the loop notes for those who ask how it is, and the report that is made of it.

use std::time::{Duration, Instant};

use super::Agent;
use super::connect::Connection;
use crate::by_number::ByNumber;
use crate::log_format::milliseconds;
use crate::message::AuthReply;
use crate::status::{
    Bytes, Endpoint, EndpointState, Heartbeat, LastError, Memory, Report, Session, SessionState, Streams,
};

/// Notes, each with its time.
pub(super) struct Observed {
    began: Instant,
    /// When the state of the session changed.
    state: (SessionState, Instant),
    /// Of the session that is up.
    facts: Option<Facts>,
    /// When the last beat came back, and how long it took.
    beat: Option<(Instant, Duration)>,
    /// By number; those that are not in it are offline.
    endpoints: ByNumber<Noted>,
    sessions: u64,
    last_error: Option<(String, Instant)>,
}

struct Facts {
    tls: String,
    account: String,
    region: String,
    version: String,
}

struct Noted {
    state: EndpointState,
    since: Instant,
    /// The address that the gateway gave.
    url: Option<String>,
    reason: Option<String>,
}

impl Observed {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            state: (SessionState::Waiting, now),
            facts: None,
            beat: None,
            endpoints: ByNumber::new(),
            sessions: 0,
            last_error: None,
        }
    }

    /// Logged in. The answer to the log-in is the first sign of life.
    pub(super) fn on_up(&mut self, reply: &AuthReply, tls: String) {
        let extra = &reply.extra;
        self.sessions += 1;
        self.facts = Some(Facts {
            tls,
            account: bounded(&extra.account_name),
            region: bounded(&extra.region),
            version: bounded(&extra.version),
        });
    }

    pub(super) fn on_beat(&mut self, round_trip: Duration, now: Instant) {
        self.beat = Some((now, round_trip));
    }

    pub(super) fn on_bound(&mut self, number: usize, url: &str, now: Instant) {
        self.note(number, EndpointState::Online, Some(bounded(url)), None, now);
    }

    pub(super) fn on_refused(&mut self, number: usize, reason: &str, now: Instant) {
        self.note(number, EndpointState::Refused, None, Some(bounded(reason)), now);
    }

    pub(super) fn on_stopped(&mut self, number: usize, reason: &str, now: Instant) {
        self.note(number, EndpointState::Stopped, None, Some(bounded(reason)), now);
    }

    /// Endpoints that are no more, or that begin anew under their number.
    pub(super) fn forget(&mut self, numbers: &[usize]) {
        self.endpoints.retain(|number, _| !numbers.contains(&number));
    }

    /// An attempt or a session failed.
    pub(super) fn on_failed(&mut self, reason: &str, now: Instant) {
        self.last_error = Some((bounded(reason), now));
    }

    /// Keeps the time of the last change of state; a session that is gone takes what was known of it along.
    fn look(&mut self, state: SessionState, now: Instant) {
        if self.state.0 == state {
            return;
        }
        self.state = (state, now);
        if !matches!(state, SessionState::Up | SessionState::Draining) {
            (self.facts, self.beat) = (None, None);
            self.endpoints.clear();
        }
    }

    fn note(&mut self, number: usize, state: EndpointState, url: Option<String>, reason: Option<String>, now: Instant) {
        let same = self.endpoints.get(number).filter(|noted| noted.state == state);
        let since = same.map_or(now, |noted| noted.since);
        self.endpoints.insert(number, Noted { state, since, url, reason });
    }
}

impl Agent {
    /// Notes where the session stands: once a turn, so that times are right.
    pub(super) fn observe(&mut self) {
        let state = match &self.connection {
            Connection::Linked(linked) if !linked.is_up() => SessionState::Connecting,
            Connection::Linked(_) | Connection::Closing { .. } if self.drain_until.is_some() => SessionState::Draining,
            Connection::Linked(_) => SessionState::Up,
            Connection::Waiting { .. } => SessionState::Waiting,
            Connection::Resolving { .. } | Connection::Dialing { .. } | Connection::Tunnelling { .. } => {
                SessionState::Connecting
            }
            Connection::Closing { .. } | Connection::Stopped => SessionState::Stopped,
        };
        self.observed.look(state, self.now);
    }

    /// Everything that is known now.
    pub(super) fn report(&self) -> Report {
        let (now, observed) = (self.now, &self.observed);
        let (streams, bytes) = self.streams.counts();
        Report {
            schema: Report::SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running_ms: ms_since(observed.began, now),
            session: self.session_report(),
            heartbeat: self.heartbeat_report(),
            endpoints: self.endpoint_reports(),
            endpoints_omitted: 0,
            streams,
            bytes,
            memory: self.memory_report(),
            reconnects: observed.sessions.saturating_sub(1),
            last_error: observed
                .last_error
                .as_ref()
                .map(|(text, at)| LastError { text: text.clone(), since_ms: ms_since(*at, now) }),
        }
    }

    fn session_report(&self) -> Session {
        let (state, since) = self.observed.state;
        let address = match &self.connection {
            Connection::Linked(linked) => Some(linked.address().to_string()),
            _ => None,
        };
        let fact = |pick: fn(&Facts) -> &String| {
            self.observed.facts.as_ref().map(pick).filter(|text| !text.is_empty()).cloned()
        };
        Session {
            state,
            since_ms: ms_since(since, self.now),
            number: self.session_number,
            gateway: self.config.agent.connect.to_string(),
            address,
            tls: fact(|facts| &facts.tls),
            account: fact(|facts| &facts.account),
            region: fact(|facts| &facts.region),
            gateway_version: fact(|facts| &facts.version),
        }
    }

    fn heartbeat_report(&self) -> Heartbeat {
        let agent = &self.config.agent;
        let deadline = agent.heartbeat_interval + agent.heartbeat_tolerance;
        let (state, since) = self.observed.state;
        let is_up = matches!(state, SessionState::Up | SessionState::Draining);
        let heard = self.observed.beat.map_or(since, |(at, _)| at);
        Heartbeat {
            answered: is_up && self.now.saturating_duration_since(heard) <= deadline,
            round_trip_us: self.observed.beat.map(|(_, took)| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            since_ms: self.observed.beat.map(|(at, _)| ms_since(at, self.now)),
            deadline_ms: milliseconds(deadline),
        }
    }

    fn endpoint_reports(&self) -> Vec<Endpoint> {
        let report = |(number, route): (usize, &super::upstreams::Route)| {
            let noted = self.observed.endpoints.get(number);
            Endpoint {
                name: route.name().to_owned(),
                url: noted.and_then(|noted| noted.url.clone()).unwrap_or_else(|| route.url.clone()),
                upstream: route.upstream().to_string(),
                state: noted.map_or(EndpointState::Offline, |noted| noted.state),
                since_ms: ms_since(noted.map_or(self.observed.state.1, |noted| noted.since), self.now),
                reason: noted.and_then(|noted| noted.reason.clone()),
            }
        };
        self.streams.upstreams.routes().map(report).collect()
    }

    fn memory_report(&self) -> Memory {
        let (used, max) = match &self.connection {
            Connection::Linked(linked) => {
                let usage = linked.link.session.usage();
                (usage.memory, usage.memory_max)
            }
            _ => (0, self.config.agent.resources.memory_max),
        };
        Memory { used: used as u64, max: max as u64 }
    }
}

impl super::streams::Streams {
    /// Connections and bytes since the process began.
    pub(super) fn counts(&self) -> (Streams, Bytes) {
        let (to_upstreams, from_upstreams) = self.moved();
        let streams = Streams { open: self.len() as u64, total: self.opened(), unreachable: self.unreachable() };
        (streams, Bytes { to_upstreams, from_upstreams })
    }
}

fn ms_since(at: Instant, now: Instant) -> u64 {
    milliseconds(now.saturating_duration_since(at))
}

/// Words from the network, as far as a report repeats them.
fn bounded(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// Enough for any message that a person reads.
const TEXT_CHARS_MAX: usize = 300;
