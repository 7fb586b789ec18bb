//! The agent's side of a session: logs in, brings the endpoints online, takes proxied streams, answers commands.
//!
//! A proxied stream names an endpoint's id and nothing else decides where it leads: the driver gets the place of that
//! endpoint in its own configuration. Addresses in the header are for logs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::binds::{Binds, EndpointSpec, Resumption};
use super::heartbeat::{Requester, Responder};
use super::incoming::{JsonText, TypePrefix};
use super::random::Random;
use super::table::Table;
use crate::frame::{ErrorCode, HEADER_LEN};
use crate::message::{
    AditExtra, AuthExtra, AuthReply, AuthRequest, BindReply, CommandReply, EXTRA_VERSION, EmptyRequest, ProxyHeader,
    ProxyHeaderReader, Secret, StopTunnel, StreamType, UnbindRequest, WireError,
};
use crate::mux::{self, Grant, Key, LinkError, Mux, Side, Sink};
use crate::pool::BlockQueue;

/// What an agent says of itself and wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The credential.
    pub authtoken: Secret,
    /// Free text shown with the session.
    pub metadata: String,
    /// This program's version.
    pub version: String,
    /// Operating system, as Rust names it.
    pub os: String,
    /// Architecture, as Rust names it.
    pub arch: String,
    /// How often a beat is sent.
    pub heartbeat_interval: Duration,
    /// How long beyond the interval a beat may stay unanswered.
    pub heartbeat_tolerance: Duration,
    /// Whether the gateway may stop and restart us.
    pub remote_management: bool,
    /// The endpoints; events name them by their place here.
    pub endpoints: Vec<EndpointSpec>,
    /// Bounds of the multiplexer.
    pub limits: mux::Limits,
}

/// What the driver has to know.
#[derive(Debug)]
pub enum Event {
    /// Logged in.
    Up(Box<AuthReply>),
    /// The gateway refuses to log us in. Close the connection.
    AuthRefused(WireError),
    /// An endpoint is online.
    Bound {
        /// Its place in the settings.
        endpoint: usize,
        /// Its address.
        url: String,
    },
    /// The gateway refuses an endpoint; it is tried again alone.
    BindRefused {
        /// Its place in the settings.
        endpoint: usize,
        /// Why.
        error: WireError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The gateway ended one endpoint for the rest of the session.
    EndpointStopped {
        /// Its place in the settings.
        endpoint: usize,
        /// Why.
        error: WireError,
    },
    /// A visitor's connection: connect it to the endpoint's upstream.
    Proxy {
        /// The stream; bytes may be waiting on it already.
        stream: Key,
        /// The endpoint's place in the settings.
        endpoint: usize,
        /// What the gateway says about the visitor.
        header: Box<ProxyHeader>,
    },
    /// A proxied stream was turned away: it named no endpoint of ours, or its header was broken.
    ProxyRefused(&'static str),
    /// A proxied stream has received bytes.
    Readable(Key),
    /// The gateway sends no more on a proxied stream.
    Finished(Key),
    /// A proxied stream was aborted; the key is stale from now on.
    Reset(Key, ErrorCode),
    /// A beat came back after this time.
    Beat(Duration),
    /// A command; `allowed` says whether it may be obeyed. It was answered already.
    Command {
        /// Which.
        command: Command,
        /// Whether `remote_management` allows it.
        allowed: bool,
    },
    /// After [`AgentSession::drain`]: the gateway knows that all endpoints are gone.
    Unbound,
    /// The session is over: close the connection.
    Ended(End),
}

/// What the gateway asks of the whole agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Disconnect until a signal or a new start.
    Stop,
    /// Reconnect.
    Restart,
    /// Update: always refused.
    Update,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The gateway said so.
    GoAway(ErrorCode, String),
    /// No beat came back within interval and tolerance.
    Silence,
    /// A call was not answered within [`CALL_DEADLINE`].
    CallTimeout(&'static str),
    /// An answer that is none.
    BadReply(&'static str, String),
}

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
    stage: Stage,
    /// The peer announced `Extra.Adit`: it knows what is ours alone.
    peer_is_adit: bool,
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
    Call { call: Call, text: JsonText, deadline: Option<Instant> },
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
    Bind(usize),
    Unbind,
}

impl AgentSession {
    /// Starts on a fresh link: heartbeat and log-in are the first bytes. `resumption` is that of the session before,
    /// or the default.
    pub fn new(settings: Settings, resumption: Resumption, seed: u64, now: Instant) -> Self {
        let mut mux = Mux::new(Side::Agent, settings.limits);
        let mut roles = Table::default();
        // Only limits below two streams leave a fresh link without a heartbeat.
        let heartbeat = mux.open(&StreamType::Heartbeat.to_bytes()).ok().map(|key| {
            roles.put(key, Role::Beats);
            Requester::new(key, settings.heartbeat_interval, settings.heartbeat_tolerance, now)
        });
        let binds = Binds::new(settings.endpoints.clone(), now);
        let mut session = Self {
            mux,
            settings,
            resumption,
            binds,
            roles,
            events: VecDeque::new(),
            heartbeat,
            random: Random::new(seed),
            stage: Stage::LoggingIn,
            peer_is_adit: false,
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

    /// See [`Mux::release`].
    pub fn release(&mut self, grant: Grant) {
        self.mux.release(grant);
    }

    /// When to call [`Self::handle_timeout`], at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stage == Stage::Ended {
            return None;
        }
        let calls = self.roles.iter().filter_map(|(_, role)| match role {
            Role::Call { deadline, .. } => *deadline,
            _ => None,
        });
        let binds = if self.stage == Stage::Up { self.binds.timeout() } else { None };
        calls.chain(binds).chain(self.heartbeat.as_ref().and_then(Requester::timeout)).min()
    }

    /// Does what is due. May be called early or twice.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stage == Stage::Ended {
            return;
        }
        if self.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.is_dead(now)) {
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
        self.bind_due(now);
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
        for endpoint in self.binds.end_all() {
            if let Some(Some(bound)) = self.resumption.bound.get(endpoint) {
                let request = UnbindRequest { id: bound.id.clone() }.to_json();
                self.call(Call::Unbind, StreamType::Unbind, &request, now);
            }
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

    /// Received bytes held now.
    pub fn memory_used(&self) -> usize {
        self.mux.memory_used()
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
                    version: EXTRA_VERSION,
                    streams_max: u32::try_from(settings.limits.streams_max.saturating_sub(OWN_STREAMS)).ok(),
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
        let deadline = now.checked_add(CALL_DEADLINE);
        self.roles.put(key, Role::Call { call, text: JsonText::default(), deadline });
    }

    fn beat(&mut self, now: Instant) {
        let Some(heartbeat) = &mut self.heartbeat else { return };
        if let Some(beat) = heartbeat.poll(&mut self.random, now) {
            // A full outbox means that nothing flows: the deadline decides.
            let _ = self.mux.send(heartbeat.key, &beat);
        }
    }

    fn bind_due(&mut self, now: Instant) {
        while self.stage == Stage::Up {
            let Some(endpoint) = self.binds.next_due(now) else { return };
            let Some(request) = self.binds.request(endpoint, &self.resumption) else { return };
            self.call(Call::Bind(endpoint), StreamType::Bind, &request.to_json(), now);
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

    fn translate(&mut self, now: Instant) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                mux::Event::Opened(key) => self.roles.put(key, Role::Start(TypePrefix::default())),
                mux::Event::Readable(key) => self.on_readable(key, now),
                mux::Event::Finished(key) => self.on_finished(key),
                mux::Event::Reset(key, code) => self.on_reset(key, code),
                mux::Event::GoAway(code, text) => self.end(End::GoAway(code, text)),
            }
        }
    }

    /// Feeds the stream's bytes to its role until they are used up or belong to the driver.
    fn on_readable(&mut self, key: Key, now: Instant) {
        loop {
            let chunk = self.mux.chunk(key);
            let Some(role) = self.roles.at(key).filter(|_| !chunk.is_empty()) else { return };
            match role {
                Role::Proxy => {
                    self.events.push_back(Event::Readable(key));
                    return;
                }
                Role::Beats => {
                    let Some(heartbeat) = &mut self.heartbeat else { return };
                    let (used, round_trip) = heartbeat.on_reply(chunk, now);
                    self.mux.consume(key, used);
                    self.events.extend(round_trip.map(Event::Beat));
                }
                Role::Start(prefix) => {
                    let (used, number) = prefix.push(chunk);
                    self.mux.consume(key, used);
                    if let Some(number) = number {
                        self.on_type(key, number);
                    }
                }
                Role::Echo(responder) => {
                    let (used, beat) = responder.push(chunk);
                    self.mux.consume(key, used);
                    if let Some(beat) = beat
                        && self.mux.send(key, &beat).is_err()
                    {
                        self.abort(key, ErrorCode::ENHANCE_YOUR_CALM);
                    }
                }
                Role::Header(_) => self.on_header_bytes(key),
                Role::Call { .. } => self.on_reply_bytes(key, now),
                Role::Command { .. } => self.on_command_bytes(key),
                Role::Discard => self.discard(key),
            }
        }
    }

    fn on_type(&mut self, key: Key, number: u32) {
        use StreamType as T;
        let role = match T::from_u32(number) {
            Some(T::Proxy) => Role::Header(ProxyHeaderReader::new()),
            Some(T::Heartbeat) => Role::Echo(Responder::default()),
            Some(kind @ (T::Restart | T::Stop | T::Update | T::StopTunnel)) => {
                Role::Command { kind, text: JsonText::default() }
            }
            Some(T::Auth | T::Bind | T::Unbind | T::BindLabeled | T::SrvInfo | T::PatchTunnelState) | None => {
                self.abort(key, ErrorCode::STREAM_REFUSED);
                return;
            }
        };
        self.roles.put(key, role);
    }

    fn on_header_bytes(&mut self, key: Key) {
        let chunk = self.mux.chunk(key);
        let Some(Role::Header(reader)) = self.roles.at(key) else { return };
        match reader.push(chunk) {
            Ok(None) => {
                let used = chunk.len();
                self.mux.consume(key, used);
            }
            Ok(Some((header, used))) => {
                self.mux.consume(key, used);
                self.on_proxy(key, header);
            }
            Err(_) => {
                self.abort(key, ErrorCode::PROTOCOL_ERROR);
                self.events.push_back(Event::ProxyRefused("its header is broken"));
            }
        }
    }

    fn on_proxy(&mut self, key: Key, header: ProxyHeader) {
        let Some(endpoint) = self.binds.find(&header.id, &self.resumption) else {
            self.abort(key, ErrorCode::STREAM_REFUSED);
            self.events.push_back(Event::ProxyRefused("it names no endpoint of this agent"));
            return;
        };
        self.roles.put(key, Role::Proxy);
        self.mux.set_direct(key);
        self.events.push_back(Event::Proxy { stream: key, endpoint, header: Box::new(header) });
    }

    fn on_reply_bytes(&mut self, key: Key, now: Instant) {
        let chunk = self.mux.chunk(key);
        let Some(Role::Call { call, text, .. }) = self.roles.at(key) else { return };
        let (call, used) = (*call, chunk.len());
        let step = text.push(chunk);
        let reply = matches!(step, Ok(true)).then(|| text.take());
        self.mux.consume(key, used);
        match (step, reply) {
            (Ok(_), Some(reply)) => {
                self.roles.put(key, Role::Discard);
                self.on_reply(call, &reply, now);
                // The FIN says that the reply was consumed, and the endpoint registered: it comes after both.
                self.mux.finish(key);
            }
            (Ok(_), None) => {}
            (Err(error), _) => self.end(End::BadReply(call.name(), error.to_string())),
        }
    }

    fn on_reply(&mut self, call: Call, reply: &[u8], now: Instant) {
        match call {
            Call::Auth => self.on_auth_reply(reply, now),
            Call::Bind(endpoint) => self.on_bind_reply(endpoint, reply, now),
            Call::Unbind => self.check_unbound(),
        }
    }

    fn on_auth_reply(&mut self, reply: &[u8], now: Instant) {
        let reply = match AuthReply::parse(reply) {
            Ok(reply) => reply,
            Err(error) => return self.end(End::BadReply(Call::Auth.name(), error.to_string())),
        };
        if let Some(error) = reply.error {
            self.stage = Stage::Ended;
            self.events.push_back(Event::AuthRefused(error));
            return;
        }
        self.peer_is_adit = reply.extra.adit.is_some();
        self.resumption.client_id.clone_from(&reply.client_id);
        self.resumption.cookie = reply.extra.cookie.clone();
        self.events.push_back(Event::Up(Box::new(reply)));
        if self.stage == Stage::LoggingIn {
            self.stage = Stage::Up;
            self.bind_due(now);
        }
    }

    fn on_bind_reply(&mut self, endpoint: usize, reply: &[u8], now: Instant) {
        let reply = match BindReply::parse(reply) {
            Ok(reply) => reply,
            Err(error) => return self.end(End::BadReply(Call::Bind(endpoint).name(), error.to_string())),
        };
        if self.stage != Stage::Up {
            return;
        }
        if let Some(error) = reply.error {
            let retry_in = self.binds.refuse(endpoint, &error, &mut self.resumption, &mut self.random, now);
            self.events.push_back(Event::BindRefused { endpoint, error, retry_in });
        } else {
            let url = self.binds.accept(endpoint, reply, &mut self.resumption);
            self.events.push_back(Event::Bound { endpoint, url });
        }
        self.bind_due(now);
    }

    fn check_unbound(&mut self) {
        let waiting = |role: &Role| matches!(role, Role::Call { call: Call::Unbind, .. });
        if self.stage == Stage::Draining && !self.roles.iter().any(|(_, role)| waiting(role)) {
            self.events.push_back(Event::Unbound);
        }
    }

    fn on_command_bytes(&mut self, key: Key) {
        let chunk = self.mux.chunk(key);
        let Some(Role::Command { kind, text }) = self.roles.at(key) else { return };
        let (kind, used) = (*kind, chunk.len());
        let step = text.push(chunk);
        let json = matches!(step, Ok(true)).then(|| text.take());
        self.mux.consume(key, used);
        match (step, json) {
            (Ok(_), Some(json)) => self.on_command(key, kind, &json),
            (Ok(_), None) => {}
            (Err(_), _) => self.abort(key, ErrorCode::PROTOCOL_ERROR),
        }
    }

    fn on_command(&mut self, key: Key, kind: StreamType, json: &[u8]) {
        self.roles.put(key, Role::Discard);
        let command = match kind {
            StreamType::StopTunnel => {
                self.on_stop_tunnel(json);
                self.mux.finish(key);
                return;
            }
            StreamType::Stop => Command::Stop,
            StreamType::Restart => Command::Restart,
            _ => Command::Update,
        };
        let well_formed = command == Command::Update || EmptyRequest::parse(json).is_ok();
        let allowed = command != Command::Update && self.settings.remote_management && well_formed;
        let refusal = match command {
            Command::Update => UPDATE_UNSUPPORTED,
            Command::Stop | Command::Restart => "remote management is off in the agent's file",
        };
        let error = (!allowed).then(|| WireError { code: None, message: refusal.to_owned() });
        if self.mux.send(key, &CommandReply { error }.to_json()).is_ok() {
            self.mux.finish(key);
        }
        self.events.push_back(Event::Command { command, allowed });
    }

    fn on_stop_tunnel(&mut self, json: &[u8]) {
        let Ok(stop) = StopTunnel::parse(json) else { return };
        let Some(endpoint) = self.binds.find(&stop.id, &self.resumption) else { return };
        self.binds.end(endpoint);
        let code = stop.error_code.as_deref().and_then(WireError::parse).and_then(|error| error.code);
        let error = WireError { code, message: stop.message };
        self.events.push_back(Event::EndpointStopped { endpoint, error });
    }

    fn on_finished(&mut self, key: Key) {
        match self.roles.at(key) {
            None => {}
            Some(Role::Proxy) => self.events.push_back(Event::Finished(key)),
            Some(Role::Call { call, .. }) => {
                let call = call.name();
                self.end(End::BadReply(call, "the reply ends in the middle".to_owned()));
            }
            Some(Role::Start(_) | Role::Header(_) | Role::Command { .. }) => {
                self.abort(key, ErrorCode::PROTOCOL_ERROR);
            }
            Some(Role::Echo(_)) => {
                self.roles.take(key);
                self.mux.finish(key);
            }
            // A heartbeat that the gateway ends brings no more replies: the deadline decides.
            Some(Role::Beats | Role::Discard) => {}
        }
    }

    fn on_reset(&mut self, key: Key, code: ErrorCode) {
        match self.roles.take(key) {
            Some(Role::Proxy) => self.events.push_back(Event::Reset(key, code)),
            Some(Role::Call { call, .. }) => {
                self.end(End::BadReply(call.name(), format!("the gateway aborted the call: {code}")));
            }
            Some(
                Role::Beats | Role::Start(_) | Role::Header(_) | Role::Echo(_) | Role::Command { .. } | Role::Discard,
            )
            | None => {}
        }
    }

    fn discard(&mut self, key: Key) {
        self.mux.consume(key, usize::MAX);
    }
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "Auth",
            Self::Bind(_) => "Bind",
            Self::Unbind => "Unbind",
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

const UPDATE_UNSUPPORTED: &str = "this agent is part of its box's firmware and is updated with it";
