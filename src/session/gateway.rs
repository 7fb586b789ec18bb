//! The gateway's side of a session: answers calls, opens proxied streams, sends commands.
//!
//! Drives nothing itself: bytes and `now` go in, bytes, events and the next deadline come out. Whoever drives it
//! decides about credentials and endpoints and answers the calls.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::heartbeat::Responder;
use super::incoming::{JsonText, TypePrefix};
use super::table::Table;
use crate::frame::{ErrorCode, HEADER_LEN};
use crate::message::{
    AuthReply, AuthRequest, BindLabeledRequest, BindRequest, CommandReply, EmptyReply, MessageError, PatchRequest,
    ProxyHeader, StreamType, UnbindRequest, WireError, codes,
};
use crate::mux::{self, AbortStyle, Grant, Key, LinkError, Mux, OpenError, Side, Sink};
use crate::pool::BlockQueue;

/// What the driver has to know.
#[derive(Debug)]
pub enum Event {
    /// The agent calls; answer with [`GatewaySession::reply`], or the two `auth` methods for [`Request::Auth`].
    Call {
        /// The call's stream.
        call: Key,
        /// What it asks for.
        request: Request,
    },
    /// The agent consumed the reply (`delivered`), or the call died before that. Only after a delivered reply to a
    /// Bind has the agent registered the endpoint.
    CallDone {
        /// The call's stream; the key is stale from now on.
        call: Key,
        /// Whether the agent read the reply to its end.
        delivered: bool,
    },
    /// A proxied stream has received bytes.
    Readable(Key),
    /// The agent sends no more on a proxied stream.
    Finished(Key),
    /// A proxied stream was aborted; the key is stale from now on.
    Reset(Key, ErrorCode),
    /// A command was answered, or not within [`COMMAND_DEADLINE`] (`None`).
    CommandDone {
        /// The command's stream; the key is stale from now on.
        command: Key,
        /// The agent's answer.
        reply: Option<CommandReply>,
    },
    /// The agent ends the session.
    GoAway(ErrorCode, String),
    /// Nothing arrived for the liveness period: the session is dead.
    Dead,
}

/// A call, with its message.
#[derive(Debug)]
pub enum Request {
    /// The agent logs in. Comes at most once.
    Auth(Box<AuthRequest>),
    /// The agent brings an endpoint online.
    Bind(Box<BindRequest>),
    /// The agent takes an endpoint offline.
    Unbind(UnbindRequest),
    /// The agent brings a tunnel with labels online.
    BindLabeled(BindLabeledRequest),
    /// Who is the gateway; also before logging in.
    SrvInfo,
    /// The agent changes what it said about an endpoint.
    Patch(PatchRequest),
}

/// What is known of the peer once it logged in.
#[derive(Clone, Debug)]
pub struct PeerFacts {
    /// `ClientType` of the Auth request: decides how aborts are written.
    pub client_type: String,
    /// `Extra.Adit.StreamsMax`; `None` for official peers, which get [`OFFICIAL_STREAMS_MAX`].
    pub streams_max: Option<usize>,
    /// The session is dead after this long without any byte.
    pub liveness: Duration,
}

/// One agent's session.
#[derive(Debug)]
pub struct GatewaySession {
    mux: Mux,
    roles: Table<Role>,
    events: VecDeque<Event>,
    stage: Stage,
    call_bytes: usize,
    liveness: Option<Duration>,
    last_heard: Instant,
    dead: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Anonymous,
    Judging,
    Open,
    Refused,
}

#[derive(Debug)]
enum Role {
    Start(TypePrefix),
    Echo(Responder),
    Call { kind: StreamType, text: JsonText },
    Answering { peer_finished: bool },
    Answered,
    Command { text: JsonText, deadline: Option<Instant> },
    Proxy,
    Discard,
}

impl GatewaySession {
    /// A fresh link. `limits.streams_max` and `limits.open_max` hold once the agent logged in and are reduced to what
    /// it can take; before that it gets [`ANONYMOUS_STREAMS_MAX`] streams.
    pub fn new(limits: mux::Limits, now: Instant) -> Self {
        let mut mux = Mux::new(Side::Gateway, limits);
        mux.set_streams(0, ANONYMOUS_STREAMS_MAX);
        Self {
            mux,
            roles: Table::default(),
            events: VecDeque::new(),
            stage: Stage::Anonymous,
            call_bytes: 0,
            liveness: None,
            last_heard: now,
            dead: false,
        }
    }

    /// Takes decrypted bytes off the link: all of them.
    ///
    /// # Errors
    /// [`LinkError`]: write what [`Self::poll_transmit`] gives (the GOAWAY), then close the connection.
    pub fn recv(&mut self, input: &[u8], sink: &mut impl Sink, now: Instant) -> Result<(), LinkError> {
        self.last_heard = now;
        let result = self.mux.recv(input, sink);
        self.translate();
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
        let dead_at = self.dead_at().filter(|_| !self.dead);
        let commands = self.roles.iter().filter_map(|(_, role)| match role {
            Role::Command { deadline, .. } => *deadline,
            _ => None,
        });
        commands.chain(dead_at).min()
    }

    /// Does what is due. May be called early or twice.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.dead && self.dead_at().is_some_and(|at| now >= at) {
            self.dead = true;
            self.events.push_back(Event::Dead);
        }
        let late = |role: &Role| matches!(role, Role::Command { deadline: Some(at), .. } if now >= *at);
        let expired: Vec<Key> = self.roles.iter().filter(|(_, role)| late(role)).map(|(key, _)| key).collect();
        for key in expired {
            self.end_command(key, None);
        }
    }

    /// Accepts the log-in: answers, and opens the session for the other calls and for proxied streams. The limits are
    /// those of [`Self::new`], reduced to what the peer can take.
    pub fn accept_auth(&mut self, call: Key, reply: &AuthReply, facts: &PeerFacts, limits: mux::Limits) {
        self.stage = Stage::Open;
        self.liveness = Some(facts.liveness);
        let peer_max = facts.streams_max.unwrap_or(OFFICIAL_STREAMS_MAX);
        let open_max = limits.open_max.min(peer_max);
        self.mux.set_streams(open_max, open_max.saturating_add(PEER_RESERVE));
        if RUST_FAMILY.contains(&facts.client_type.as_str()) {
            self.mux.set_abort_style(AbortStyle::WakeThenReset);
        }
        self.reply(call, &reply.to_json());
    }

    /// Refuses the log-in. Keep the connection for a second so that the reply is read, then close it.
    pub fn refuse_auth(&mut self, call: Key, reply: &AuthReply) {
        self.stage = Stage::Refused;
        self.reply(call, &reply.to_json());
    }

    /// Answers a call and ends our half of it.
    pub fn reply(&mut self, call: Key, json: &[u8]) {
        let Some(Role::Answering { peer_finished }) = self.roles.at(call) else { return };
        let peer_finished = *peer_finished;
        if self.mux.send(call, json).is_err() {
            self.mux.reset(call, ErrorCode::INTERNAL_ERROR);
            self.end_call(call, false);
            return;
        }
        self.mux.finish(call);
        self.roles.put(call, Role::Answered);
        if peer_finished {
            self.end_call(call, true);
        }
    }

    /// Hands a visitor's connection to the agent.
    ///
    /// # Errors
    /// [`OpenError`]; also [`OpenError::Limit`] while no log-in was accepted.
    pub fn open_proxy(&mut self, header: &ProxyHeader) -> Result<Key, OpenError> {
        if self.stage != Stage::Open {
            return Err(OpenError::Limit);
        }
        let first = header.encode();
        let key = self.mux.open(&first)?;
        self.roles.put(key, Role::Proxy);
        Ok(key)
    }

    /// Sends a command (Stop, Restart, Update, StopTunnel) with its JSON text, both in one frame.
    ///
    /// # Errors
    /// [`OpenError`]; also [`OpenError::Limit`] while no log-in was accepted or when the text exceeds one frame.
    pub fn command(&mut self, kind: StreamType, json: &[u8], now: Instant) -> Result<Key, OpenError> {
        if self.stage != Stage::Open {
            return Err(OpenError::Limit);
        }
        let key = self.mux.open(&[&kind.to_bytes(), json].concat())?;
        let deadline = now.checked_add(COMMAND_DEADLINE);
        self.roles.put(key, Role::Command { text: JsonText::default(), deadline });
        Ok(key)
    }

    /// See [`Mux::want_send`].
    pub fn want_send(&mut self, stream: Key) {
        self.mux.want_send(stream);
    }

    /// See [`Mux::chunk`].
    pub fn chunk(&self, stream: Key) -> &[u8] {
        self.mux.chunk(stream)
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

    /// We send no more on this proxied stream.
    pub fn finish(&mut self, stream: Key) {
        self.mux.finish(stream);
    }

    /// Aborts a proxied stream, in the way that the peer's family notices. No event follows.
    pub fn reset(&mut self, stream: Key) {
        self.roles.take(stream);
        self.mux.reset(stream, ErrorCode::STREAM_CANCELLED);
    }

    /// Ends the session: the next [`Self::poll_transmit`] writes a GOAWAY; write it and close the connection at once.
    pub fn go_away(&mut self, code: ErrorCode, text: &str) {
        self.mux.go_away(code, text);
    }

    /// Proxied streams that could be opened now.
    pub fn free_streams(&self) -> usize {
        self.mux.free_streams()
    }

    /// Streams that live now, calls and heartbeats included.
    pub fn streams(&self) -> usize {
        self.mux.streams()
    }

    /// The stream's id on the wire, for logs; zero before its first frame is written and when it is gone.
    pub fn stream_id(&self, stream: Key) -> u32 {
        self.mux.stream_id(stream)
    }

    /// Received bytes held now.
    pub fn memory_used(&self) -> usize {
        self.mux.memory_used()
    }

    fn dead_at(&self) -> Option<Instant> {
        self.last_heard.checked_add(self.liveness?)
    }

    fn translate(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                mux::Event::Opened(key) => self.roles.put(key, Role::Start(TypePrefix::default())),
                mux::Event::Readable(key) => self.on_readable(key),
                mux::Event::Finished(key) => self.on_finished(key),
                mux::Event::Reset(key, code) => self.on_reset(key, code),
                mux::Event::GoAway(code, text) => self.events.push_back(Event::GoAway(code, text)),
            }
        }
    }

    fn on_readable(&mut self, key: Key) {
        loop {
            let Some(role) = self.roles.at(key) else { return };
            if matches!(role, Role::Proxy) {
                self.events.push_back(Event::Readable(key));
                return;
            }
            let chunk = self.mux.chunk(key);
            if chunk.is_empty() {
                return;
            }
            let used = match role {
                Role::Start(prefix) => {
                    let (used, number) = prefix.push(chunk);
                    self.mux.consume(key, used);
                    if let Some(number) = number {
                        self.on_type(key, number);
                    }
                    continue;
                }
                Role::Echo(responder) => {
                    let (used, beat) = responder.push(chunk);
                    if let Some(beat) = beat
                        && self.mux.send(key, &beat).is_err()
                    {
                        self.drop_stream(key, ErrorCode::ENHANCE_YOUR_CALM);
                        return;
                    }
                    used
                }
                Role::Call { .. } => {
                    if !self.on_call_bytes(key) {
                        return;
                    }
                    continue;
                }
                Role::Command { text, .. } => {
                    let used = chunk.len();
                    match text.push(chunk) {
                        Ok(false) => {}
                        Ok(true) => {
                            let reply = CommandReply::parse(&text.take()).ok();
                            self.end_command(key, reply);
                            return;
                        }
                        Err(_) => {
                            self.end_command(key, None);
                            return;
                        }
                    }
                    used
                }
                Role::Answering { .. } | Role::Answered | Role::Discard | Role::Proxy => chunk.len(),
            };
            self.mux.consume(key, used);
        }
    }

    fn on_type(&mut self, key: Key, number: u32) {
        use StreamType as T;
        let role = match T::from_u32(number) {
            Some(T::Heartbeat) => Role::Echo(Responder::default()),
            Some(kind @ (T::Auth | T::Bind | T::Unbind | T::BindLabeled | T::SrvInfo | T::PatchTunnelState)) => {
                Role::Call { kind, text: JsonText::default() }
            }
            Some(T::Proxy | T::Restart | T::Stop | T::Update | T::StopTunnel) | None => {
                let error =
                    WireError::new(codes::PROTOCOL_UNSUPPORTED, format!("stream type {number} is not known here"));
                let sent = self.mux.send(key, &EmptyReply { error: Some(error) }.to_json());
                debug_assert!(sent.is_ok());
                self.mux.finish(key);
                Role::Discard
            }
        };
        self.roles.put(key, role);
    }

    /// Feeds a call; false when the stream needs no more attention now.
    fn on_call_bytes(&mut self, key: Key) -> bool {
        let Some(Role::Call { kind, text }) = self.roles.at(key) else { return false };
        let (kind, chunk) = (*kind, self.mux.chunk(key));
        let (used, before) = (chunk.len(), text.len());
        let step = text.push(chunk);
        self.call_bytes += text.len() - before;
        let bytes = matches!(step, Ok(true)).then(|| text.take());
        self.mux.consume(key, used);
        match (step, bytes) {
            (Ok(_), Some(bytes)) => {
                self.call_bytes = self.call_bytes.saturating_sub(bytes.len());
                self.roles.put(key, Role::Answering { peer_finished: false });
                self.on_request(key, kind, &bytes);
            }
            (Ok(_), None) if self.call_bytes > CALL_BYTES_MAX => self.drop_stream(key, ErrorCode::ENHANCE_YOUR_CALM),
            (Ok(_), None) => return true,
            (Err(error), _) => {
                self.forget_call_bytes(key);
                self.roles.put(key, Role::Answering { peer_finished: false });
                self.refuse_call(key, kind, &MessageError::from(error));
            }
        }
        true
    }

    fn on_request(&mut self, call: Key, kind: StreamType, bytes: &[u8]) {
        let request = match kind {
            StreamType::SrvInfo => Ok(Request::SrvInfo),
            StreamType::Auth if self.stage == Stage::Anonymous => {
                AuthRequest::parse(bytes).map(|message| Request::Auth(Box::new(message)))
            }
            _ if kind == StreamType::Auth || self.stage != Stage::Open => {
                let error = WireError::new(codes::AUTH_MALFORMED, out_of_turn(kind));
                self.reply(call, &EmptyReply { error: Some(error) }.to_json());
                return;
            }
            StreamType::Bind => BindRequest::parse(bytes).map(|message| Request::Bind(Box::new(message))),
            StreamType::Unbind => UnbindRequest::parse(bytes).map(Request::Unbind),
            StreamType::BindLabeled => BindLabeledRequest::parse(bytes).map(Request::BindLabeled),
            _ => PatchRequest::parse(bytes).map(Request::Patch),
        };
        match request {
            Ok(request) => {
                if matches!(request, Request::Auth(_)) {
                    self.stage = Stage::Judging;
                }
                self.events.push_back(Event::Call { call, request });
            }
            Err(error) => self.refuse_call(call, kind, &error),
        }
    }

    fn refuse_call(&mut self, call: Key, kind: StreamType, error: &MessageError) {
        let code = error.code().unwrap_or(match kind {
            StreamType::Auth => codes::AUTH_MALFORMED,
            _ => codes::BIND_MALFORMED,
        });
        let error = WireError::new(code, error.to_string());
        self.reply(call, &EmptyReply { error: Some(error) }.to_json());
    }

    fn on_finished(&mut self, key: Key) {
        match self.roles.at(key) {
            None => {}
            Some(Role::Proxy) => self.events.push_back(Event::Finished(key)),
            Some(Role::Answering { peer_finished }) => *peer_finished = true,
            Some(Role::Answered) => self.end_call(key, true),
            // A type or a call that ends in the middle.
            Some(Role::Start(_) | Role::Call { .. }) => self.drop_stream(key, ErrorCode::PROTOCOL_ERROR),
            Some(Role::Command { .. }) => self.end_command(key, None),
            Some(Role::Echo(_) | Role::Discard) => {
                self.roles.take(key);
                self.mux.finish(key);
            }
        }
    }

    fn on_reset(&mut self, key: Key, code: ErrorCode) {
        match self.roles.at(key) {
            None => {}
            Some(Role::Proxy) => {
                self.roles.take(key);
                self.events.push_back(Event::Reset(key, code));
            }
            Some(Role::Answering { .. } | Role::Answered) => self.end_call(key, false),
            Some(Role::Command { .. }) => {
                self.roles.take(key);
                self.events.push_back(Event::CommandDone { command: key, reply: None });
            }
            Some(Role::Start(_) | Role::Call { .. } | Role::Echo(_) | Role::Discard) => {
                self.forget_call_bytes(key);
                self.roles.take(key);
            }
        }
    }

    fn end_call(&mut self, call: Key, delivered: bool) {
        self.roles.take(call);
        self.events.push_back(Event::CallDone { call, delivered });
    }

    /// Official agents never end a command's stream themselves: FIN and RST free it on both sides.
    fn end_command(&mut self, command: Key, reply: Option<CommandReply>) {
        self.roles.take(command);
        self.mux.finish_and_reset(command, ErrorCode::STREAM_CANCELLED);
        self.events.push_back(Event::CommandDone { command, reply });
    }

    fn drop_stream(&mut self, key: Key, code: ErrorCode) {
        self.forget_call_bytes(key);
        self.roles.take(key);
        self.mux.reset(key, code);
    }

    fn forget_call_bytes(&mut self, key: Key) {
        if let Some(Role::Call { text, .. }) = self.roles.at(key) {
            let held = text.take().len();
            self.call_bytes = self.call_bytes.saturating_sub(held);
        }
    }
}

fn out_of_turn(kind: StreamType) -> String {
    match kind {
        StreamType::Auth => "this session has logged in already: log in once per connection".to_owned(),
        _ => format!("{kind:?} needs a session that has logged in: send Auth first and wait for its reply"),
    }
}

/// Client types of the official Rust SDK and its bindings, which wake for no bare RST.
const RUST_FAMILY: [&str; 3] = ["ngrok-rust", "ngrok-python", "ngrok-javascript"];

/// Live streams at which we open no more towards an official agent: its 512th, counting both directions and its
/// heartbeat, ends the session without a word.
pub const OFFICIAL_STREAMS_MAX: usize = 500;

/// Streams that an agent may have open before it logged in: its heartbeat, Auth, SrvInfo and some slack.
pub const ANONYMOUS_STREAMS_MAX: usize = 8;

/// Streams of the agent (heartbeats, calls) that fit beside the proxied ones: 512 in all for official agents.
const PEER_RESERVE: usize = 12;

/// Bytes of unfinished calls that one session may hold: four of the longest.
pub const CALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an agent may take to answer a command. One official family answers none without a handler.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(5);
