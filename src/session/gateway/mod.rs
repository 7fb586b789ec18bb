//! The gateway's side of a session: answers calls, opens proxied streams, sends commands.
//!
//! Drives nothing itself: bytes and `now` go in, bytes, events and the next deadline come out. Whoever drives it
//! decides about credentials and endpoints and answers the calls.

mod events;
mod streams;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use self::events::{Event, PeerFacts, Request};
use super::heartbeat::{BEAT_LEN, Responder};
use super::incoming::{JsonText, TypePrefix};
use super::round_trip::RoundTrip;
use super::table::Table;
use crate::frame::{ErrorCode, HEADER_LEN};
use crate::message::{AuthReply, ProxyHeader, StreamType};
use crate::mux::{self, AbortStyle, Grant, Key, LinkError, Mux, OpenError, Side, Sink};
use crate::pool::BlockQueue;

/// One agent's session.
#[derive(Debug)]
pub struct GatewaySession {
    mux: Mux,
    roles: Table<Role>,
    events: VecDeque<Event>,
    stage: Stage,
    call_bytes: usize,
    liveness: Option<Duration>,
    round_trip: RoundTrip,
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
    /// Waits for this beat to come back.
    Probe {
        beat: [u8; BEAT_LEN],
        reply: Responder,
    },
    Call {
        kind: StreamType,
        text: JsonText,
    },
    Answering {
        peer_finished: bool,
    },
    /// Since then the agent can confirm that it has read the reply, which it does at once.
    Answered {
        at: Instant,
    },
    Command {
        text: JsonText,
        deadline: Option<Instant>,
    },
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
            round_trip: RoundTrip::default(),
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
        self.mux.set_now(now);
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

    /// See [`Mux::has_control`].
    pub fn has_control(&self) -> bool {
        self.mux.has_control()
    }

    /// See [`Mux::has_events`].
    pub fn has_events(&self) -> bool {
        self.mux.has_events()
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
        // The last byte of an aborted stream was consumed.
        if self.mux.has_events() {
            return Some(self.last_heard);
        }
        let dead_at = self.dead_at().filter(|_| !self.dead);
        let commands = self.roles.iter().filter_map(|(_, role)| match role {
            Role::Command { deadline, .. } => *deadline,
            _ => None,
        });
        commands.chain(dead_at).chain(self.mux.sweep_due()).min()
    }

    /// See [`Mux::trim`].
    pub fn trim(&mut self) {
        self.mux.trim();
    }

    /// Does what is due. May be called early or twice.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.mux.set_now(now);
        self.translate();
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
        // What the agent's own streams leave of the reserve is for a probe: a full session can be asked, too.
        let streams_max = open_max.saturating_add(PEER_RESERVE);
        self.mux.set_streams(streams_max, streams_max);
        let ours = reply.extra.adit.as_ref().and_then(|adit| adit.window);
        if let Some(window) = facts.window.filter(|_| ours == Some(limits.window)) {
            self.mux.agree_windows(window);
        }
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
        self.roles.put(call, Role::Answered { at: self.last_heard });
        if peer_finished {
            self.end_call(call, true);
        }
    }

    /// Hands a visitor's connection to the agent.
    ///
    /// # Errors
    /// [`OpenError`]; also [`OpenError::Limit`] while no log-in was accepted.
    pub fn open_proxy(&mut self, header: &ProxyHeader) -> Result<Key, OpenError> {
        self.open_with(&header.encode())
    }

    /// Opens a stream as a proxied one whose first bytes, type and header included, are the caller's: also what no
    /// gateway in order sends, to try agents with.
    ///
    /// # Errors
    /// As [`Self::open_proxy`].
    pub fn open_with(&mut self, first: &[u8]) -> Result<Key, OpenError> {
        if self.stage != Stage::Open || self.is_full() {
            return Err(OpenError::Limit);
        }
        let key = self.mux.open(first)?;
        self.roles.put(key, Role::Proxy);
        Ok(key)
    }

    /// Sends a command (Stop, Restart, Update, StopTunnel) with its JSON text, both in one frame.
    ///
    /// # Errors
    /// [`OpenError`]; also [`OpenError::Limit`] while no log-in was accepted or when the text exceeds one frame.
    pub fn command(&mut self, kind: StreamType, json: &[u8], now: Instant) -> Result<Key, OpenError> {
        if self.stage != Stage::Open || self.is_full() {
            return Err(OpenError::Limit);
        }
        let key = self.mux.open(&[&kind.to_bytes(), json].concat())?;
        let deadline = now.checked_add(COMMAND_DEADLINE);
        self.roles.put(key, Role::Command { text: JsonText::default(), deadline });
        Ok(key)
    }

    /// Asks the agent whether it still answers: [`Event::ProbeAnswered`] follows when it has sent back `beat`, which
    /// must be one that it cannot guess. There is room for it beside all proxied streams.
    ///
    /// # Errors
    /// [`OpenError`]; also [`OpenError::Limit`] while no log-in was accepted.
    pub fn probe(&mut self, beat: [u8; BEAT_LEN]) -> Result<Key, OpenError> {
        if self.stage != Stage::Open {
            return Err(OpenError::Limit);
        }
        let key = self.mux.open(&[StreamType::Heartbeat.to_bytes(), beat].concat())?;
        self.roles.put(key, Role::Probe { beat, reply: Responder::default() });
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
        self.mux.free_streams().saturating_sub(PEER_RESERVE)
    }

    fn is_full(&self) -> bool {
        // A link that is going away says so itself.
        !self.mux.is_ending() && self.free_streams() == 0
    }

    /// Streams that live now, calls and heartbeats included.
    pub fn streams(&self) -> usize {
        self.mux.streams()
    }

    /// The stream's id on the wire, for logs; zero before its first frame is written and when it is gone.
    pub fn stream_id(&self, stream: Key) -> u32 {
        self.mux.stream_id(stream)
    }

    /// How long a round trip takes, by the last replies that the agent confirmed; `None` before the first.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.estimate()
    }

    /// What the receive windows of all streams together have grown by, in bytes.
    pub fn windows_grown(&self) -> usize {
        self.mux.windows_grown()
    }

    /// Bytes of the memory budget in use.
    pub fn memory_used(&self) -> usize {
        self.mux.memory_used()
    }

    fn dead_at(&self) -> Option<Instant> {
        self.last_heard.checked_add(self.liveness?)
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

/// The same before it has logged in: anybody gets that far. An Auth has a token, a cookie, and 4 KiB of metadata.
pub const ANONYMOUS_CALL_BYTES_MAX: usize = 128 * 1024;

/// How long an agent may take to answer a command. One official family answers none without a handler.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(5);
