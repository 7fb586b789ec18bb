//! The gateway's end of one link: a session, and what arrived in it.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adit::endpoint_url::Scheme;
use adit::frame::ErrorCode;
use adit::message::{
    AditExtra, AuthReply, AuthReplyExtra, AuthRequest, BindReply, BindReplyExtra, BindRequest, CommandReply,
    EmptyReply, PatchRequest, ProxyHeader, Secret, StreamType, WireError,
};
use adit::mux::limits::WINDOW;
use adit::mux::{Key, Limits};
use adit::session::GatewaySession;
use adit::session::gateway::{Event, PeerFacts, Request};
use rustls::{ServerConfig, ServerConnection};

use crate::patience::Watched;

/// How this gateway answers.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// It announces `Extra.Adit`.
    pub(crate) adit: bool,
    /// The window that it grants, if it agrees on windows.
    pub(crate) window: Option<u32>,
    /// It refuses every log-in.
    pub(crate) refuses: Option<WireError>,
    /// It says for how long to stay away when it refuses.
    pub(crate) retry_after: Option<Duration>,
    /// It refuses the endpoint with this name.
    pub(crate) refuses_endpoint: Option<&'static str>,
}

#[derive(Clone)]
pub(crate) struct Peer {
    shared: Arc<Watched<State>>,
}

pub(crate) struct State {
    session: GatewaySession,
    tls: ServerConnection,
    socket: TcpStream,
    script: Script,
    streams: HashMap<Key, Flow>,
    bind_calls: Vec<Key>,
    pub(crate) auth: Option<AuthRequest>,
    pub(crate) binds: Vec<BindRequest>,
    pub(crate) unbinds: Vec<String>,
    pub(crate) patches: Vec<PatchRequest>,
    pub(crate) go_away: Option<(ErrorCode, String)>,
    pub(crate) delivered: usize,
    /// The answers to commands.
    pub(crate) commands: Vec<Option<CommandReply>>,
    pub(crate) closed: bool,
}

/// What is known of one proxied stream.
#[derive(Default)]
struct Flow {
    received: Vec<u8>,
    /// Received bytes are left in the session, so that the agent gets no credit.
    held: bool,
    finished: bool,
    reset: Option<ErrorCode>,
    to_send: Vec<u8>,
    sent: usize,
    ends: bool,
}

/// How the agent's direction of a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset(ErrorCode),
}

/// One proxied stream.
pub(crate) struct Stream {
    shared: Arc<Watched<State>>,
    key: Key,
}

impl Peer {
    /// Serves a connection that was accepted.
    pub(crate) fn serve(socket: TcpStream, config: Arc<ServerConfig>, script: Script) -> Self {
        socket.set_nodelay(true).unwrap();
        let mut tls = ServerConnection::new(config).unwrap();
        tls.set_buffer_limit(None);
        let state = State {
            session: GatewaySession::new(LIMITS, Instant::now()),
            tls,
            socket: socket.try_clone().unwrap(),
            script,
            streams: HashMap::new(),
            bind_calls: Vec::new(),
            auth: None,
            binds: Vec::new(),
            unbinds: Vec::new(),
            patches: Vec::new(),
            go_away: None,
            delivered: 0,
            commands: Vec::new(),
            closed: false,
        };
        let peer = Self { shared: Arc::new(Watched::new(state)) };
        let shared = Arc::clone(&peer.shared);
        thread::spawn(move || read(socket, &shared));
        peer
    }

    /// Waits until `pick` finds something in what the gateway saw.
    pub(crate) fn wait<R>(&self, what: &str, pick: impl FnMut(&mut State) -> Option<R>) -> R {
        self.shared.wait(what, pick)
    }

    /// Waits until the agent has registered this many endpoints.
    pub(crate) fn wait_bound(&self, count: usize) {
        self.wait("the endpoints", |state| (state.delivered == count).then_some(()));
    }

    pub(crate) fn wait_closed(&self) {
        self.wait("the end of the link", |state| state.closed.then_some(()));
    }

    /// A visitor of the endpoint with this name, whose bytes are taken as they come.
    pub(crate) fn visit(&self, endpoint: &str) -> Stream {
        self.open(endpoint, Flow::default())
    }

    /// A visitor that takes nothing until [`Stream::take_all`].
    pub(crate) fn visit_and_hold(&self, endpoint: &str) -> Stream {
        self.open(endpoint, Flow { held: true, ..Flow::default() })
    }

    fn open(&self, endpoint: &str, flow: Flow) -> Stream {
        let header = ProxyHeader::new(bind_id(endpoint), visitor(), Scheme::Tcp, false);
        self.open_with(&header.encode(), flow)
    }

    /// A stream that begins with these bytes, type and header included.
    pub(crate) fn open_stream(&self, first: &[u8]) -> Stream {
        self.open_with(first, Flow::default())
    }

    fn open_with(&self, first: &[u8], flow: Flow) -> Stream {
        let key = self.shared.with(|state| {
            let key = state.session.open_with(first).unwrap();
            state.streams.insert(key, flow);
            state.pump();
            key
        });
        Stream { shared: Arc::clone(&self.shared), key }
    }

    /// Sends a command with its JSON text.
    pub(crate) fn command(&self, kind: StreamType, json: &[u8]) {
        self.shared.with(|state| {
            state.session.command(kind, json, Instant::now()).unwrap();
            state.pump();
        });
    }

    /// Writes bytes of the test's own making in place of frames.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        self.shared.with(|state| {
            state.tls.writer().write_all(bytes).unwrap();
            state.pump();
        });
    }

    /// Ends the session in good order, and the connection.
    pub(crate) fn go_away(&self, code: ErrorCode, text: &str) {
        self.shared.with(|state| {
            state.session.go_away(code, text);
            state.pump();
            let _ = state.socket.shutdown(Shutdown::Both);
        });
    }

    /// Takes nothing off the link while `meanwhile` runs.
    pub(crate) fn pause<R>(&self, meanwhile: impl FnOnce() -> R) -> R {
        self.shared.with(|_| meanwhile())
    }

    /// Cuts the connection without a word.
    pub(crate) fn cut(&self) {
        let _ = self.shared.with(|state| state.socket.shutdown(Shutdown::Both));
    }
}

impl Stream {
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.change(|flow| flow.to_send.extend_from_slice(bytes));
    }

    /// Ends our direction, after what was sent.
    pub(crate) fn finish(&self) {
        self.change(|flow| flow.ends = true);
    }

    pub(crate) fn reset(&self) {
        self.shared.with(|state| {
            state.session.reset(self.key);
            state.pump();
        });
    }

    /// Takes what was held back, and from now on everything.
    pub(crate) fn take_all(&self) {
        self.change(|flow| flow.held = false);
    }

    /// Bytes that lie in the session because they are held back.
    pub(crate) fn wait_held(&self, len: usize) {
        self.shared.wait("bytes that are held back", |state| {
            let held = state.session.queue(self.key).map_or(0, adit::pool::BlockQueue::len);
            (held >= len).then_some(())
        });
    }

    pub(crate) fn wait_received(&self, len: usize) -> Vec<u8> {
        self.wait(&format!("{len} bytes"), |flow| (flow.received.len() >= len).then(|| flow.received.clone()))
    }

    /// Waits for the first byte; `None` when the stream ends or is aborted without one.
    pub(crate) fn wait_first(&self) -> Option<u8> {
        self.wait("a byte or the end", |flow| match flow.received.first() {
            Some(byte) => Some(Some(*byte)),
            None => (flow.finished || flow.reset.is_some()).then_some(None),
        })
    }

    /// Waits for the end of the agent's direction: everything received, and how it ended.
    pub(crate) fn wait_end(&self) -> (Vec<u8>, End) {
        self.wait("the end of the stream", |flow| {
            let end = flow.reset.map(End::Reset).or(flow.finished.then_some(End::Fin))?;
            Some((flow.received.clone(), end))
        })
    }

    /// Waits for an abort, also one after a FIN.
    pub(crate) fn wait_reset(&self) -> ErrorCode {
        self.wait("an abort", |flow| flow.reset)
    }

    /// Bytes given to the link so far.
    pub(crate) fn sent(&self) -> usize {
        self.shared.with(|state| state.streams[&self.key].sent)
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        self.shared.with(|state| {
            change(state.streams.get_mut(&self.key).unwrap());
            state.session.want_send(self.key);
            state.take(self.key);
            state.end_if_sent(self.key);
            state.pump();
        });
    }

    fn wait<R>(&self, what: &str, mut pick: impl FnMut(&Flow) -> Option<R>) -> R {
        self.shared.wait(what, |state| pick(&state.streams[&self.key]))
    }
}

/// Reads the link to its end.
fn read(mut socket: TcpStream, shared: &Watched<State>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = socket.read(&mut buffer).unwrap_or(0);
        let goes_on = len > 0 && shared.with(|state| state.receive(&buffer[..len]).is_ok());
        if !goes_on {
            shared.with(|state| state.closed = true);
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
    }
}

impl State {
    fn receive(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            loop {
                let mut reader = self.tls.reader();
                let taken = match reader.fill_buf() {
                    Ok(plaintext) if !plaintext.is_empty() => {
                        self.session.recv(plaintext, &mut (), Instant::now()).map_err(io::Error::other)?;
                        plaintext.len()
                    }
                    _ => break,
                };
                reader.consume(taken);
                self.pump();
            }
        }
        self.pump();
        Ok(())
    }

    /// Answers events and writes, until nothing is left to do.
    fn pump(&mut self) {
        loop {
            let mut moved = false;
            while let Some(event) = self.session.poll_event() {
                self.on_event(event);
                moved = true;
            }
            let mut out = Vec::new();
            self.session.poll_transmit(&mut out, 64 * 1024);
            if out.is_empty() {
                moved |= self.produce(&mut out);
            }
            moved |= !out.is_empty();
            self.tls.writer().write_all(&out).unwrap();
            while self.tls.wants_write() {
                if self.tls.write_tls(&mut self.socket).is_err() {
                    return;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// One DATA frame.
    fn produce(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(grant) = self.session.poll_grant() else { return false };
        let (key, max) = (grant.key, grant.max);
        let Some(flow) = self.streams.get_mut(&key).filter(|flow| flow.sent < flow.to_send.len()) else {
            self.session.release(grant);
            return true;
        };
        let len = max.min(flow.to_send.len() - flow.sent);
        if let Some(header) = self.session.commit(grant, len) {
            out.extend_from_slice(&header);
            out.extend_from_slice(&flow.to_send[flow.sent..flow.sent + len]);
            flow.sent += len;
        }
        self.end_if_sent(key);
        true
    }

    fn end_if_sent(&mut self, key: Key) {
        if self.streams.get(&key).is_some_and(|flow| flow.ends && flow.sent == flow.to_send.len()) {
            self.session.finish(key);
        }
    }

    fn take(&mut self, key: Key) {
        let Some(flow) = self.streams.get_mut(&key).filter(|flow| !flow.held) else { return };
        loop {
            let chunk = self.session.chunk(key);
            if chunk.is_empty() {
                return;
            }
            flow.received.extend_from_slice(chunk);
            let len = chunk.len();
            self.session.consume(key, len);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Call { call, request } => self.on_call(call, request),
            Event::CallDone { call, delivered } => {
                self.delivered += usize::from(delivered && self.bind_calls.contains(&call));
                self.bind_calls.retain(|&other| other != call);
            }
            Event::Readable(key) => self.take(key),
            Event::Finished(key) => self.streams.get_mut(&key).unwrap().finished = true,
            Event::Reset(key, code) => self.streams.get_mut(&key).unwrap().reset = Some(code),
            Event::GoAway(code, text) => self.go_away = Some((code, text)),
            Event::CommandDone { reply, .. } => self.commands.push(reply),
            Event::ProbeAnswered(_) | Event::Dead => {}
        }
    }

    fn on_call(&mut self, call: Key, request: Request) {
        match request {
            Request::Auth(request) => {
                self.answer_auth(call, &request);
                self.auth = Some(*request);
            }
            Request::Bind(request) => {
                let is_refused = self.script.refuses_endpoint == Some(request.extra.name.as_str());
                let refusal = || BindReply::refused(WireError::new(308, "another account has it"));
                let reply = if is_refused { refusal() } else { bind_reply(&request) };
                self.binds.push(*request);
                self.bind_calls.push(call);
                self.session.reply(call, &reply.to_json());
            }
            Request::Unbind(request) => {
                self.unbinds.push(request.id);
                self.session.reply(call, &EmptyReply { error: None }.to_json());
            }
            Request::Patch(request) => {
                self.patches.push(request);
                self.session.reply(call, &EmptyReply { error: None }.to_json());
            }
            other => panic!("the agent does not call this: {other:?}"),
        }
    }

    fn answer_auth(&mut self, call: Key, request: &AuthRequest) {
        if let Some(error) = &self.script.refuses {
            let mut reply = AuthReply::refused(error.clone());
            let retry_after = self.script.retry_after;
            reply.extra.adit = retry_after.map(|_| AditExtra { retry_after, ..AditExtra::default() });
            self.session.refuse_auth(call, &reply);
            return;
        }
        let extra = AuthReplyExtra {
            account_name: "main".to_owned(),
            cookie: Secret::new(COOKIE.to_owned()),
            adit: self.script.adit.then(|| AditExtra { window: self.script.window, ..AditExtra::default() }),
            ..AuthReplyExtra::default()
        };
        let client_id = if request.client_id.is_empty() { CLIENT_ID.to_owned() } else { request.client_id.clone() };
        let reply = AuthReply { version: "3".to_owned(), client_id, error: None, extra };
        let theirs = request.extra.adit.as_ref().filter(|_| self.script.adit);
        let streams_max = theirs.and_then(|adit| adit.streams_max);
        let facts = PeerFacts {
            client_type: request.extra.client_type.clone(),
            streams_max: streams_max.map(|max| usize::try_from(max).unwrap()),
            window: theirs.and_then(|adit| adit.window),
            liveness: Duration::from_secs(60),
        };
        self.session.accept_auth(call, &reply, &facts, LIMITS);
    }
}

fn bind_reply(request: &BindRequest) -> BindReply {
    let id = if request.id.is_empty() { bind_id(&request.extra.name) } else { request.id.clone() };
    BindReply {
        url: format!("tcp://{}.internal:1", request.extra.name),
        proto: request.proto,
        opts: request.opts.clone(),
        error: None,
        extra: BindReplyExtra { token: Secret::new(format!("token-of-{id}")), tunnel_id: id.clone() },
        id,
    }
}

pub(crate) fn bind_id(name: &str) -> String {
    format!("ep_{name}")
}

fn visitor() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 4711))
}

pub(crate) const CLIENT_ID: &str = "client-1";
pub(crate) const COOKIE: &str = "cookie-1";

/// More than any test opens, and memory for what they hold back.
const LIMITS: Limits =
    Limits { streams_max: 4096, open_max: 4096, memory_max: 64 * 1024 * 1024, credit_min: 32 * 1024, window: WINDOW };
