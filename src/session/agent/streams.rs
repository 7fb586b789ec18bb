//! What arrives on each stream, by the role of the stream.

use std::time::Instant;

use super::{AgentSession, Call, Command, End, Event, Role, Stage, UNFINISHED_BYTES_MAX, UPDATE_UNSUPPORTED};
use crate::frame::ErrorCode;
use crate::message::{
    AditExtra, AuthReply, BindReply, CommandReply, EmptyReply, EmptyRequest, ProxyHeader, ProxyHeaderReader,
    StopTunnel, StreamType, UnbindRequest, WireError,
};
use crate::mux::{self, Key};
use crate::session::heartbeat::{ECHO_UNSENT_MAX, Responder};
use crate::session::incoming::{JsonText, TypePrefix};

impl AgentSession {
    pub(super) fn translate(&mut self, now: Instant) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                mux::Event::Opened(key) => self.roles.put(key, Role::Start(TypePrefix::default())),
                mux::Event::Readable(key) => self.on_readable(key, now),
                mux::Event::Finished(key) => self.on_finished(key),
                mux::Event::Reset(key, code) => self.on_reset(key, code, now),
                mux::Event::GoAway(code, text) => self.on_go_away(code, text),
            }
        }
        if self.unfinished > 0 {
            self.count_unfinished();
        }
    }

    fn on_go_away(&mut self, code: ErrorCode, text: String) {
        let told = AditExtra::from_go_away(&text);
        let end = match told {
            (words, Some(adit)) if self.peer_is_adit => End::GoAway(code, words.to_owned(), adit.retry_after),
            _ => End::GoAway(code, text, None),
        };
        self.end(end);
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
                    // The first beat is written before the TLS handshake is done: it says nothing about the path.
                    if let Some(round_trip) = round_trip.filter(|_| self.stage != Stage::LoggingIn) {
                        self.on_round_trip(round_trip);
                    }
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
                        && (self.mux.unsent(key) >= ECHO_UNSENT_MAX || self.mux.send(key, &beat).is_err())
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

    /// Counts again what is unfinished, against the budget too. True when it is too much.
    fn count_unfinished(&mut self) -> bool {
        self.unfinished = self.unfinished_bytes();
        self.mux.set_held(self.held + self.unfinished);
        self.unfinished > UNFINISHED_BYTES_MAX.min(self.settings.limits.memory_max / 4)
    }

    /// What answers, commands and headers hold that are not complete yet.
    pub(in crate::session) fn unfinished_bytes(&self) -> usize {
        let held = self.roles.iter().map(|(_, role)| match role {
            Role::Call { text, .. } | Role::Command { text, .. } => text.len(),
            Role::Header(reader) => reader.held(),
            Role::Beats | Role::Start(_) | Role::Proxy | Role::Echo(_) | Role::Discard => 0,
        });
        held.sum()
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
                if self.count_unfinished() {
                    self.abort(key, ErrorCode::ENHANCE_YOUR_CALM);
                }
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
        let Some(Role::Call { call, text, asked_at, .. }) = self.roles.at(key) else { return };
        let (call, asked_at, used) = (*call, *asked_at, chunk.len());
        let step = text.push(chunk);
        let reply = matches!(step, Ok(true)).then(|| text.take());
        self.mux.consume(key, used);
        match (step, reply) {
            (Ok(_), Some(reply)) => {
                self.roles.put(key, Role::Discard);
                if matches!(call, Call::Bind(_)) {
                    self.on_round_trip(now.saturating_duration_since(asked_at));
                }
                self.on_reply(call, &reply, now);
                // The FIN says that the reply was consumed, and the endpoint registered: it comes after both.
                self.mux.finish(key);
            }
            (Ok(_), None) if self.count_unfinished() => {
                self.end(End::BadReply(call.name(), "too many long answers at once".to_owned()));
            }
            (Ok(_), None) => {}
            (Err(error), _) => self.end(End::BadReply(call.name(), error.to_string())),
        }
    }

    fn on_reply(&mut self, call: Call, reply: &[u8], now: Instant) {
        match call {
            Call::Auth => self.on_auth_reply(reply, now),
            Call::Bind(endpoint) => self.on_bind_reply(endpoint, reply, now),
            Call::Unbind => {
                // An id that the gateway does not know any more is offline, too.
                self.binds.unbound();
                self.tell(now);
                self.check_unbound();
            }
            Call::Patch(endpoint) => self.on_patch_reply(endpoint, reply, now),
        }
    }

    fn on_patch_reply(&mut self, endpoint: usize, reply: &[u8], now: Instant) {
        match EmptyReply::parse(reply) {
            Ok(EmptyReply { error }) => self.on_patched(endpoint, error, now),
            Err(error) => self.end(End::BadReply(Call::Patch(endpoint).name(), error.to_string())),
        }
    }

    fn on_patched(&mut self, endpoint: usize, refusal: Option<WireError>, now: Instant) {
        self.binds.answered();
        match refusal {
            None if self.binds.patched(endpoint, &mut self.resumption) => {
                self.events.push_back(Event::Changed { endpoint });
            }
            Some(error) if self.binds.refuse_patch(endpoint, &mut self.resumption, now) => {
                self.events.push_back(Event::ChangeRefused { endpoint, error });
            }
            // It was removed, stopped or drained meanwhile.
            None | Some(_) => {}
        }
        self.tell(now);
        self.check_unbound();
    }

    fn on_auth_reply(&mut self, reply: &[u8], now: Instant) {
        let reply = match AuthReply::parse(reply) {
            Ok(reply) => reply,
            Err(error) => return self.end(End::BadReply(Call::Auth.name(), error.to_string())),
        };
        if let Some(error) = reply.error {
            self.stage = Stage::Ended;
            let retry_after = reply.extra.adit.and_then(|adit| adit.retry_after);
            self.events.push_back(Event::AuthRefused { error, retry_after });
            return;
        }
        self.peer_is_adit = reply.extra.adit.is_some();
        if let Some(window) = reply.extra.adit.as_ref().and_then(|adit| adit.window) {
            self.mux.agree_windows(window);
        }
        self.resumption.client_id.clone_from(&reply.client_id);
        self.resumption.cookie = reply.extra.cookie.clone();
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.heard(now);
        }
        self.events.push_back(Event::Up(Box::new(reply)));
        if self.stage == Stage::LoggingIn {
            self.stage = Stage::Up;
            self.tell(now);
        }
    }

    fn on_bind_reply(&mut self, endpoint: usize, reply: &[u8], now: Instant) {
        let reply = match BindReply::parse(reply) {
            Ok(reply) => reply,
            Err(error) => return self.end(End::BadReply(Call::Bind(endpoint).name(), error.to_string())),
        };
        self.binds.answered();
        if self.stage == Stage::Draining && reply.error.is_none() {
            // It came online after the others were taken offline.
            let request = UnbindRequest { id: reply.id.clone() }.to_json();
            self.call(Call::Unbind, StreamType::Unbind, &request, now);
        }
        if self.stage != Stage::Up {
            return self.check_unbound();
        }
        if let Some(error) = reply.error {
            let retry_in = self.binds.refuse(endpoint, &error, &mut self.resumption, &mut self.random, now);
            self.events.extend(retry_in.map(|retry_in| Event::BindRefused { endpoint, error, retry_in }));
        } else {
            let url = self.binds.accept(endpoint, reply, &mut self.resumption, now);
            self.events.extend(url.map(|url| Event::Bound { endpoint, url }));
        }
        self.tell(now);
    }

    pub(super) fn check_unbound(&mut self) {
        let waiting =
            |role: &Role| matches!(role, Role::Call { call: Call::Bind(_) | Call::Unbind | Call::Patch(_), .. });
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
            (Ok(_), None) if self.count_unfinished() => {
                self.abort(key, ErrorCode::ENHANCE_YOUR_CALM);
            }
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

    fn on_reset(&mut self, key: Key, code: ErrorCode, now: Instant) {
        match self.roles.take(key) {
            Some(Role::Proxy) => self.events.push_back(Event::Reset(key, code)),
            // A gateway that does not know this call: without it the change still works, with a gap.
            Some(Role::Call { call: Call::Patch(endpoint), .. }) => {
                let error = WireError { code: None, message: format!("the gateway aborted the call: {code}") };
                self.on_patched(endpoint, Some(error), now);
            }
            Some(Role::Call { call, .. }) => {
                self.end(End::BadReply(call.name(), format!("the gateway aborted the call: {code}")));
            }
            Some(
                Role::Beats | Role::Start(_) | Role::Header(_) | Role::Echo(_) | Role::Command { .. } | Role::Discard,
            )
            | None => {}
        }
    }

    pub(super) fn discard(&mut self, key: Key) {
        self.mux.consume(key, usize::MAX);
    }
}
