//! The agent's side of a session: logs in, brings the endpoints online, takes proxied streams, answers commands.
//!
//! A proxied stream names an endpoint's id and nothing else decides where it leads: the driver gets the place of that
//! endpoint in its own configuration. Addresses in the header are for logs.

mod events;
mod streams;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use self::events::{Command, End, Event, Settings, Usage};
use super::binds::{Action, Binds, EndpointSpec, Resumption};
use super::heartbeat::{Requester, Responder};
use super::incoming::{JsonText, TypePrefix};
use super::random::Random;
use super::round_trip::RoundTrip;
use super::table::Table;
use crate::frame::{ErrorCode, HEADER_LEN};
use crate::message::{AditExtra, AuthExtra, AuthRequest, ProxyHeaderReader, StreamType, UnbindRequest};
use crate::mux::{Grant, Key, LinkError, Mux, Side, Sink};
use crate::pool::BlockQueue;

/// One session with a gateway.
#[derive(Debug)]
pub struct AgentSession {
    mux: Mux,
    settings: Settings,
    resumption: Resumption,
    binds: Binds,
    roles: Table<Role>,
    events: VecDeque<Event>,
    heartbeat: Option<Requester>,
    random: Random,
    round_trip: RoundTrip,
    stage: Stage,
    /// The peer announced `Extra.Adit`: it knows what is ours alone.
    peer_is_adit: bool,
    /// The latest time that a caller gave.
    now: Instant,
    /// Bytes that the driver holds.
    held: usize,
    /// Bytes of answers, commands and headers that were incomplete when they were last counted.
    unfinished: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    LoggingIn,
    Up,
    Draining,
    Ended,
}

#[derive(Debug)]
enum Role {
    Beats,
    Call { call: Call, text: JsonText, asked_at: Instant, deadline: Option<Instant> },
    Start(TypePrefix),
    Header(ProxyHeaderReader),
    Proxy,
    Echo(Responder),
    Command { kind: StreamType, text: JsonText },
    Discard,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Auth,
    /// Of the endpoint with this number.
    Bind(usize),
    Unbind,
    /// Of the endpoint with this number.
    Patch(usize),
}

impl AgentSession {
    /// Starts on a fresh link: heartbeat and log-in are the first bytes. `resumption` is that of the session before,
    /// or the default. How long the log-in may take, TLS handshake included, is the driver's to decide: until
    /// [`Event::Up`] there is no deadline here.
    pub fn new(mut settings: Settings, mut resumption: Resumption, seed: u64, now: Instant) -> Self {
        let mut mux = Mux::new(Side::Agent, settings.limits);
        let mut roles = Table::default();
        // Only limits below two streams leave a fresh link without a heartbeat.
        let heartbeat = mux.open(&StreamType::Heartbeat.to_bytes()).ok().map(|key| {
            roles.put(key, Role::Beats);
            Requester::new(key, settings.heartbeat_interval, settings.heartbeat_tolerance, now)
        });
        let binds = Binds::new(std::mem::take(&mut settings.endpoints), &mut resumption, now);
        let mut session = Self {
            mux,
            settings,
            resumption,
            binds,
            roles,
            events: VecDeque::new(),
            heartbeat,
            random: Random::new(seed),
            round_trip: RoundTrip::default(),
            stage: Stage::LoggingIn,
            peer_is_adit: false,
            now,
            held: 0,
            unfinished: 0,
        };
        let auth = session.auth_request().to_json();
        session.call(Call::Auth, StreamType::Auth, &auth, now);
        session.beat(now);
        session
    }

    /// What the next session needs to take this one's place.
    pub fn into_resumption(self) -> Resumption {
        self.resumption
    }

    /// Takes decrypted bytes off the link: all of them.
    ///
    /// # Errors
    /// [`LinkError`]: write what [`Self::poll_transmit`] gives (the GOAWAY), then close the connection.
    pub fn recv(&mut self, input: &[u8], sink: &mut impl Sink, now: Instant) -> Result<(), LinkError> {
        self.now = now;
        self.mux.set_now(now);
        let result = self.mux.recv(input, sink);
        self.translate(now);
        result
    }

    /// The next event, until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// See [`Mux::poll_transmit`].
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, room: usize) {
        self.mux.poll_transmit(out, room);
    }

    /// See [`Mux::poll_grant`].
    pub fn poll_grant(&mut self) -> Option<Grant> {
        self.mux.poll_grant()
    }

    /// See [`Mux::commit`].
    #[must_use]
    pub fn commit(&mut self, grant: Grant, len: usize) -> Option<[u8; HEADER_LEN]> {
        self.mux.commit(grant, len)
    }

    /// See [`Mux::commit_burst`].
    #[must_use]
    pub fn commit_burst(&mut self, grant: Grant, len: usize) -> Option<impl Iterator<Item = [u8; HEADER_LEN]> + use<>> {
        self.mux.commit_burst(grant, len)
    }

    /// See [`Mux::release`].
    pub fn release(&mut self, grant: Grant) {
        self.mux.release(grant);
    }

    /// When to call [`Self::handle_timeout`], at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stage == Stage::Ended {
            return None;
        }
        // The last byte of an aborted stream was consumed.
        if self.mux.has_events() {
            return Some(self.now);
        }
        let calls = self.roles.iter().filter_map(|(_, role)| match role {
            Role::Call { deadline, .. } => *deadline,
            _ => None,
        });
        let binds = if self.stage == Stage::Up { self.binds.timeout() } else { None };
        let heartbeat = self.heartbeat.as_ref().filter(|_| self.stage != Stage::LoggingIn);
        let heartbeat = heartbeat.and_then(Requester::timeout);
        calls.chain(binds).chain(heartbeat).chain(self.mux.sweep_due()).min()
    }

    /// Does what is due. May be called early or twice.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.mux.set_now(now);
        self.translate(now);
        if self.stage == Stage::Ended {
            return;
        }
        if self.stage != Stage::LoggingIn && self.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.is_dead(now)) {
            self.end(End::Silence);
            return;
        }
        let late = self.roles.iter().find_map(|(_, role)| match role {
            Role::Call { call, deadline: Some(at), .. } if now >= *at => Some(*call),
            _ => None,
        });
        if let Some(call) = late {
            self.end(End::CallTimeout(call.name()));
            return;
        }
        self.beat(now);
        self.tell(now);
    }

    /// Another list of endpoints, told apart by their numbers. What is the same in both goes on as it is; what is gone
    /// takes no new proxied stream from now on. Streams that live are not touched.
    pub fn change_endpoints(&mut self, endpoints: Vec<EndpointSpec>, now: Instant) {
        if !matches!(self.stage, Stage::LoggingIn | Stage::Up) {
            return;
        }
        self.binds.change(endpoints, &mut self.resumption, now);
        self.tell(now);
    }

    /// Takes all endpoints offline: no new proxied stream is accepted, those that live go on. [`Event::Unbound`]
    /// follows when the gateway knows.
    pub fn drain(&mut self, now: Instant) {
        if self.stage != Stage::Up {
            self.stage = Stage::Draining;
            self.events.push_back(Event::Unbound);
            return;
        }
        self.stage = Stage::Draining;
        for id in self.binds.end_all(&self.resumption) {
            // Without a free stream the end of the link has to say it; those who live must not suffer for it.
            if self.mux.free_streams() == 0 {
                break;
            }
            self.call(Call::Unbind, StreamType::Unbind, &UnbindRequest { id }.to_json(), now);
        }
        self.check_unbound();
    }

    /// The upstream of a proxied stream cannot be reached: tells the gateway or the visitor, and forgets the stream.
    /// `text` is the body of the answer on HTTP endpoints.
    pub fn refuse_unreachable(&mut self, stream: Key, endpoint: usize, text: &str) {
        if self.peer_is_adit {
            // The gateway makes the page: nothing in the stream's bytes could be told from what an upstream says.
            self.abort(stream, ErrorCode::UPSTREAM_UNREACHABLE);
            return;
        }
        let is_http = self.binds.scheme(endpoint).is_some_and(crate::endpoint_url::Scheme::is_http);
        if is_http && self.mux.send(stream, bad_gateway(text).as_bytes()).is_err() {
            self.abort(stream, ErrorCode::INTERNAL_ERROR);
            return;
        }
        self.mux.finish(stream);
        self.roles.put(stream, Role::Discard);
        self.discard(stream);
    }

    /// There is no place for a proxied stream: tells the gateway, and forgets the stream.
    pub fn refuse(&mut self, stream: Key) {
        self.abort(stream, ErrorCode::STREAM_REFUSED);
    }

    /// See [`Mux::want_send`].
    pub fn want_send(&mut self, stream: Key) {
        self.mux.want_send(stream);
    }

    /// See [`Mux::queue`].
    pub fn queue(&self, stream: Key) -> Option<&BlockQueue> {
        self.mux.queue(stream)
    }

    /// See [`Mux::consume`].
    pub fn consume(&mut self, stream: Key, len: usize) {
        self.mux.consume(stream, len);
    }

    /// See [`Mux::is_finished`].
    pub fn is_finished(&self, stream: Key) -> bool {
        self.mux.is_finished(stream)
    }

    /// The upstream sends no more on this proxied stream.
    pub fn finish(&mut self, stream: Key) {
        self.mux.finish(stream);
    }

    /// The upstream ended its direction and takes no more: tells the gateway, which may stop sending, without a word
    /// against what the upstream sent. No event follows.
    pub fn turn_away(&mut self, stream: Key) {
        self.roles.take(stream);
        self.mux.finish_and_reset(stream, ErrorCode::STREAM_CLOSED);
    }

    /// Aborts a proxied stream: never a clean end for the visitor. No event follows.
    pub fn reset(&mut self, stream: Key) {
        self.abort(stream, ErrorCode::STREAM_CANCELLED);
    }

    /// Ends the session: the next [`Self::poll_transmit`] writes a GOAWAY; write it and close the connection.
    pub fn go_away(&mut self, code: ErrorCode, text: &str) {
        self.mux.go_away(code, text);
    }

    /// The stream's id on the wire, for logs; zero when it is gone.
    pub fn stream_id(&self, stream: Key) -> u32 {
        self.mux.stream_id(stream)
    }

    /// Bytes that the driver holds for the link and its streams: see [`Mux::set_held`].
    pub fn set_held(&mut self, bytes: usize) {
        self.held = bytes;
        self.mux.set_held(self.held + self.unfinished);
    }

    /// See [`Mux::is_over_budget`].
    pub fn is_over_budget(&self) -> bool {
        self.mux.is_over_budget()
    }

    /// What the session holds now.
    pub fn usage(&self) -> Usage {
        Usage {
            streams: self.mux.streams(),
            memory: self.mux.memory_used(),
            memory_max: self.settings.limits.memory_max,
            windows_grown: self.mux.windows_grown(),
            shortage: self.mux.shortage(),
        }
    }

    fn auth_request(&self) -> AuthRequest {
        let settings = &self.settings;
        let management = if settings.remote_management { "" } else { "remote management is off in the agent's file" };
        AuthRequest {
            versions: vec!["3".to_owned(), "2".to_owned()],
            client_id: self.resumption.client_id.clone(),
            extra: AuthExtra {
                os: settings.os.clone(),
                arch: settings.arch.clone(),
                authtoken: settings.authtoken.clone(),
                version: settings.version.clone(),
                hostname: String::new(),
                user_agent: format!("adit/{}", settings.version),
                metadata: settings.metadata.clone(),
                cookie: self.resumption.cookie.clone(),
                heartbeat_interval: settings.heartbeat_interval,
                heartbeat_tolerance: settings.heartbeat_tolerance,
                update_unsupported: Some(UPDATE_UNSUPPORTED.to_owned()),
                stop_unsupported: Some(management.to_owned()),
                restart_unsupported: Some(management.to_owned()),
                client_type: "adit".to_owned(),
                leg_number: 0,
                adit: Some(AditExtra {
                    streams_max: u32::try_from(settings.limits.streams_max.saturating_sub(OWN_STREAMS)).ok(),
                    window: Some(settings.limits.window),
                    instance: settings.instance.clone(),
                    ..AditExtra::default()
                }),
            },
        }
    }

    fn call(&mut self, call: Call, kind: StreamType, json: &[u8], now: Instant) {
        let opened = self.mux.open(&kind.to_bytes());
        let sent = opened.ok().filter(|key| self.mux.send(*key, json).is_ok());
        let Some(key) = sent else {
            self.end(End::BadReply(call.name(), "no stream is free for the call".to_owned()));
            return;
        };
        let deadline = match call {
            // A part of the whole attempt, for which the driver has a deadline.
            Call::Auth => None,
            Call::Bind(_) | Call::Unbind | Call::Patch(_) => now.checked_add(CALL_DEADLINE),
        };
        self.roles.put(key, Role::Call { call, text: JsonText::default(), asked_at: now, deadline });
    }

    /// The gateway has answered something at once, after this time.
    fn on_round_trip(&mut self, sample: Duration) {
        let round_trip = self.round_trip.add(sample);
        self.mux.set_round_trip(round_trip);
    }

    fn beat(&mut self, now: Instant) {
        let Some(heartbeat) = &mut self.heartbeat else { return };
        if let Some(beat) = heartbeat.poll(&mut self.random, now) {
            // A full outbox means that nothing flows: the deadline decides.
            let _ = self.mux.send(heartbeat.key, &beat);
        }
    }

    /// Tells the gateway which endpoints are wanted.
    fn tell(&mut self, now: Instant) {
        while self.stage == Stage::Up {
            let Some(action) = self.binds.next(&mut self.resumption, now) else { return };
            match action {
                Action::Unbind(id) => {
                    self.call(Call::Unbind, StreamType::Unbind, &UnbindRequest { id }.to_json(), now);
                }
                Action::Bind(number, request) => {
                    self.call(Call::Bind(number), StreamType::Bind, &request.to_json(), now);
                }
                Action::Patch(number, request) => {
                    self.call(Call::Patch(number), StreamType::PatchTunnelState, &request.to_json(), now);
                }
            }
        }
    }

    fn end(&mut self, end: End) {
        if self.stage != Stage::Ended {
            self.stage = Stage::Ended;
            self.events.push_back(Event::Ended(end));
        }
    }

    fn abort(&mut self, stream: Key, code: ErrorCode) {
        self.roles.take(stream);
        self.mux.reset(stream, code);
    }
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "Auth",
            Self::Bind(_) => "Bind",
            Self::Unbind => "Unbind",
            Self::Patch(_) => "PatchTunnelState",
        }
    }
}

/// The answer on an HTTP endpoint whose upstream cannot be reached, for gateways that do not make one themselves.
fn bad_gateway(text: &str) -> String {
    let code = crate::message::codes::UPSTREAM_UNREACHABLE;
    format!(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         adit-error-code: ERR_NGROK_{code}\r\nngrok-error-code: ERR_NGROK_{code}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// How long the gateway may take to answer a call.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Streams of our own that fit beside the proxied ones that we announce: the heartbeat, and calls.
pub const OWN_STREAMS: usize = 12;

/// Bytes of unfinished answers, commands and headers that one session may hold: an answer of the longest to each of the
/// binds under way, or a quarter of the memory budget if that is less.
pub const UNFINISHED_BYTES_MAX: usize = 4 * 1024 * 1024;

const UPDATE_UNSUPPORTED: &str = "this agent is part of its box's firmware and is updated with it";
