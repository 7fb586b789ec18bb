//! What arrives on each stream, by the role of the stream.

use super::{ANONYMOUS_CALL_BYTES_MAX, CALL_BYTES_MAX, Event, GatewaySession, Request, Role, Stage};
use crate::frame::ErrorCode;
use crate::message::{
    AuthRequest, BindLabeledRequest, BindRequest, CommandReply, EmptyReply, MessageError, PatchRequest, StreamType,
    UnbindRequest, WireError, codes,
};
use crate::mux::{self, Key};
use crate::session::heartbeat::{ECHO_UNSENT_MAX, Responder};
use crate::session::incoming::{JsonText, TypePrefix};

impl GatewaySession {
    pub(super) fn translate(&mut self) {
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
                        && (self.mux.unsent(key) >= ECHO_UNSENT_MAX || self.mux.send(key, &beat).is_err())
                    {
                        self.drop_stream(key, ErrorCode::ENHANCE_YOUR_CALM);
                        return;
                    }
                    used
                }
                Role::Probe { beat, reply } => {
                    let (used, came) = reply.push(chunk);
                    let is_answer = came == Some(*beat);
                    self.mux.consume(key, used);
                    if is_answer {
                        self.events.push_back(Event::ProbeAnswered(key));
                        // Never a FIN: one official family echoes that without end.
                        self.drop_stream(key, ErrorCode::STREAM_CANCELLED);
                        return;
                    }
                    continue;
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
                Role::Answering { .. } | Role::Answered { .. } | Role::Discard | Role::Proxy => chunk.len(),
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
            (Ok(_), None) if self.call_bytes > self.call_bytes_max() => {
                self.drop_stream(key, ErrorCode::ENHANCE_YOUR_CALM)
            }
            (Ok(_), None) => return true,
            (Err(error), _) => {
                self.forget_call_bytes(key);
                self.roles.put(key, Role::Answering { peer_finished: false });
                self.refuse_call(key, kind, &MessageError::from(error));
            }
        }
        true
    }

    fn call_bytes_max(&self) -> usize {
        if self.stage == Stage::Open { CALL_BYTES_MAX } else { ANONYMOUS_CALL_BYTES_MAX }
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
            Some(Role::Answered { at }) => {
                let round_trip = self.round_trip.add(self.last_heard.saturating_duration_since(*at));
                self.mux.set_round_trip(round_trip);
                self.end_call(key, true);
            }
            // A type or a call that ends in the middle.
            Some(Role::Start(_) | Role::Call { .. }) => self.drop_stream(key, ErrorCode::PROTOCOL_ERROR),
            Some(Role::Command { .. }) => self.end_command(key, None),
            Some(Role::Echo(_) | Role::Discard) => {
                self.roles.take(key);
                self.mux.finish(key);
            }
            // The deadline of whoever asked decides.
            Some(Role::Probe { .. }) => self.drop_stream(key, ErrorCode::STREAM_CANCELLED),
        }
    }

    fn on_reset(&mut self, key: Key, code: ErrorCode) {
        match self.roles.at(key) {
            None => {}
            Some(Role::Proxy) => {
                self.roles.take(key);
                self.events.push_back(Event::Reset(key, code));
            }
            Some(Role::Answering { .. } | Role::Answered { .. }) => self.end_call(key, false),
            Some(Role::Command { .. }) => {
                self.roles.take(key);
                self.events.push_back(Event::CommandDone { command: key, reply: None });
            }
            Some(Role::Start(_) | Role::Call { .. } | Role::Echo(_) | Role::Probe { .. } | Role::Discard) => {
                self.forget_call_bytes(key);
                self.roles.take(key);
            }
        }
    }

    pub(super) fn end_call(&mut self, call: Key, delivered: bool) {
        self.roles.take(call);
        self.events.push_back(Event::CallDone { call, delivered });
    }

    /// Official agents never end a command's stream themselves: FIN and RST free it on both sides.
    pub(super) fn end_command(&mut self, command: Key, reply: Option<CommandReply>) {
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
