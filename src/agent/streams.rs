//! Visitors' connections: one stream of the link and one socket of an upstream each.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::FIRST_STREAM;
use super::upstreams::{Upstreams, look_up};
use crate::mux::{Key, Sink};
use crate::net::dial::{Dial, Progress};
use crate::net::link::{Source, Supply};
use crate::net::ready::Ready;
use crate::net::resolve::{Lookup, LookupId, Purpose, ResolveError, Resolver};
use crate::net::upstream::UpstreamIo;
use crate::session::{AgentSession, Table};

/// All connections of the present session.
pub(super) struct Streams {
    pub(super) upstreams: Upstreams,
    slots: Vec<Option<Proxied>>,
    free: Vec<usize>,
    by_stream: Table<usize>,
    /// Slots that can do something, each at most once.
    queue: VecDeque<usize>,
    /// Not later than the nearest deadline of a slot; looking at all of them is rarer than keeping them sorted.
    next_deadline: Option<Instant>,
    session: u64,
    opened: u64,
    now: Instant,
}

struct Proxied {
    stream: Key,
    endpoint: usize,
    /// For the log: the stream's id on the wire.
    id: u32,
    state: State,
    queued: bool,
    opened_at: Instant,
    deadline: Option<Instant>,
    /// The upstream sends no more, and the gateway was told.
    read_ended: bool,
    /// Our direction towards the upstream is over, in good order or because the upstream takes no more.
    write_ended: bool,
    failure: Option<io::Error>,
    to_upstream: u64,
    from_upstream: u64,
    sent_at: Instant,
}

enum State {
    Resolving(LookupId),
    Dialing(Dial),
    Handshaking(UpstreamIo),
    Open(UpstreamIo),
    /// The upstream failed; the stream is aborted at the deadline.
    Failed,
}

impl Streams {
    pub(super) fn new(upstreams: Upstreams, now: Instant) -> Self {
        Self {
            upstreams,
            slots: Vec::new(),
            free: Vec::new(),
            by_stream: Table::default(),
            queue: VecDeque::new(),
            next_deadline: None,
            session: 0,
            opened: 0,
            now,
        }
    }

    /// Connections that live.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Connections since the process began.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// The link is gone, and with it every stream: upstreams see an abort.
    pub(super) fn abort_all(&mut self) {
        for slot in 0..self.slots.len() {
            self.remove(slot, Close::Abort, "the link to the gateway is gone");
        }
        self.next_deadline = None;
    }

    pub(super) fn start_session(&mut self, session: u64) {
        self.session = session;
    }

    pub(super) fn note(&mut self, slot: usize, event: &mio::event::Event) {
        let Some(Some(proxied)) = self.slots.get_mut(slot) else { return };
        if let State::Handshaking(io) | State::Open(io) = &mut proxied.state {
            io.ready.add(event);
        }
        self.enqueue(slot);
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Queues the slots whose deadline has come.
    pub(super) fn fire_timers(&mut self, now: Instant) {
        self.now = now;
        if self.next_deadline.is_none_or(|at| now < at) {
            return;
        }
        self.next_deadline = None;
        for slot in 0..self.slots.len() {
            match self.slots.get(slot).and_then(Option::as_ref).and_then(Proxied::deadline) {
                Some(at) if at <= now => self.enqueue(slot),
                Some(at) => self.wake_at(at),
                None => {}
            }
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.next_deadline = Some(self.next_deadline.map_or(at, |next| next.min(at)));
    }

    /// A visitor: begins to connect the upstream of `endpoint`.
    pub(super) fn open(&mut self, stream: Key, endpoint: usize, id: u32, resolver: &mut Resolver, now: Instant) {
        let Some(route) = self.upstreams.route(endpoint) else { return };
        let deadline = now + UPSTREAM_CONNECT_TIMEOUT;
        let lookup = look_up(resolver, &route.upstream.address, Purpose::Upstream, now);
        let mut failure = None;
        let state = match lookup {
            Lookup::Ready(addresses) => State::Dialing(Dial::new(addresses, deadline)),
            Lookup::Pending(id) => State::Resolving(id),
            Lookup::Refused(error) => {
                failure = Some(io::Error::other(error));
                State::Failed
            }
        };
        let proxied = Proxied {
            stream,
            endpoint,
            id,
            state,
            queued: false,
            opened_at: now,
            deadline: Some(deadline),
            read_ended: false,
            write_ended: false,
            failure,
            to_upstream: 0,
            from_upstream: 0,
            sent_at: now,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(proxied);
        self.by_stream.put(stream, slot);
        self.opened += 1;
        self.wake_at(deadline);
        self.enqueue(slot);
    }

    pub(super) fn on_resolved(&mut self, id: LookupId, result: Result<Vec<SocketAddr>, ResolveError>) {
        let waits = |entry: &Option<Proxied>| {
            entry.as_ref().is_some_and(|proxied| matches!(proxied.state, State::Resolving(other) if other == id))
        };
        let Some(slot) = self.slots.iter().position(waits) else { return };
        let Some(Some(proxied)) = self.slots.get_mut(slot) else { return };
        match result {
            Ok(addresses) => {
                let deadline = proxied.deadline.unwrap_or(proxied.opened_at);
                proxied.state = State::Dialing(Dial::new(addresses, deadline));
            }
            Err(error) => {
                proxied.failure = Some(io::Error::other(error));
                proxied.state = State::Failed;
            }
        }
        self.enqueue(slot);
    }

    /// The stream has something for its upstream: bytes, or its end.
    pub(super) fn wake(&mut self, stream: Key) {
        if let Some(&mut slot) = self.by_stream.at(stream) {
            self.enqueue(slot);
        }
    }

    /// The gateway aborted the stream: the upstream sees an abort too.
    pub(super) fn on_reset(&mut self, stream: Key, reason: &str) {
        if let Some(&mut slot) = self.by_stream.at(stream) {
            self.remove(slot, Close::Abort, reason);
        }
    }

    /// Lets every slot that was queued do what it can. Those that can do more are queued again.
    pub(super) fn run(&mut self, session: &mut AgentSession, registry: &Registry, now: Instant) {
        self.now = now;
        for _ in 0..self.queue.len() {
            let Some(slot) = self.queue.pop_front() else { return };
            let Some(Some(proxied)) = self.slots.get_mut(slot) else { continue };
            proxied.queued = false;
            match proxied.run(&self.upstreams, session, registry, token(slot), now) {
                Step::Wait => {}
                Step::Again => self.enqueue(slot),
                Step::WaitUntil(at) => self.wake_at(at),
                Step::Unreachable(reason) => self.refuse(slot, session, &reason),
                Step::Abort(reason) => {
                    session.reset(proxied.stream);
                    self.remove(slot, Close::Abort, &reason);
                }
                Step::Done => self.remove(slot, Close::Clean, "done"),
            }
        }
    }

    /// One line for the log, one answer for the visitor.
    fn refuse(&mut self, slot: usize, session: &mut AgentSession, reason: &str) {
        let Some(Some(proxied)) = self.slots.get(slot) else { return };
        let Some(route) = self.upstreams.route(proxied.endpoint) else { return };
        let ms = self.now.saturating_duration_since(proxied.opened_at).as_millis();
        log::warn!(
            "session={} stream={} took={ms}ms endpoint={} upstream={} is unreachable: {reason}",
            self.session,
            proxied.id,
            route.name,
            route.upstream,
        );
        let text = format!(
            "502 Bad Gateway: the agent for {} is online, but it cannot reach the service behind it ({reason}).\n\
             Whoever runs that service, or the agent's configuration, can mend this.\n\nERR_NGROK_{}\n",
            route.url,
            crate::message::codes::UPSTREAM_UNREACHABLE,
        );
        session.refuse_unreachable(proxied.stream, proxied.endpoint, &text);
        self.remove(slot, Close::Clean, "unreachable");
    }

    fn remove(&mut self, slot: usize, close: Close, reason: &str) {
        let Some(proxied) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.by_stream.take(proxied.stream);
        self.free.push(slot);
        log::debug!(
            "session={} stream={} took={}ms endpoint={} closed ({reason}): {} bytes to the upstream, {} from it",
            self.session,
            proxied.id,
            self.now.saturating_duration_since(proxied.opened_at).as_millis(),
            self.upstreams.route(proxied.endpoint).map_or("?", |route| &route.name),
            proxied.to_upstream,
            proxied.from_upstream,
        );
        if let (Close::Abort, State::Open(io) | State::Handshaking(io)) = (close, proxied.state) {
            io.abort();
        }
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(Some(proxied)) = self.slots.get_mut(slot)
            && !std::mem::replace(&mut proxied.queued, true)
        {
            self.queue.push_back(slot);
        }
    }

    fn open_io(&mut self, stream: Key) -> Option<(usize, &mut Proxied)> {
        let slot = *self.by_stream.at(stream)?;
        let proxied = self.slots.get_mut(slot)?.as_mut()?;
        Some((slot, proxied))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Clean,
    Abort,
}

/// What a slot's turn came to.
enum Step {
    Wait,
    Again,
    WaitUntil(Instant),
    Unreachable(String),
    Abort(String),
    Done,
}

impl Proxied {
    fn run(
        &mut self,
        upstreams: &Upstreams,
        session: &mut AgentSession,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> Step {
        if let State::Dialing(dial) = &mut self.state {
            match dial.poll(registry, token, now) {
                Progress::Dialing => return dial.next_deadline().map_or(Step::Wait, Step::WaitUntil),
                Progress::Failed(error) => return Step::Unreachable(error.to_string()),
                Progress::Connected(socket, _) => {
                    // Taken as ready until the socket says otherwise.
                    let ready = Ready { readable: true, writable: true, read_closed: false };
                    let Some(route) = upstreams.route(self.endpoint) else { return Step::Abort("no route".into()) };
                    self.state = match upstreams.tls(route) {
                        None => State::Open(UpstreamIo::plain(socket, ready)),
                        Some((config, name)) => match UpstreamIo::tls(socket, ready, config, name) {
                            Ok(io) => State::Handshaking(io),
                            Err(error) => return Step::Unreachable(format!("TLS: {error}")),
                        },
                    };
                }
            }
        }
        if let State::Handshaking(io) = &mut self.state {
            match io.handshake() {
                Ok(false) if self.is_late(now) => return Step::Unreachable("TLS handshake timed out".to_owned()),
                Ok(false) => return Step::Wait,
                Err(error) => return Step::Unreachable(format!("TLS: {error}")),
                Ok(true) => {}
            }
            let State::Handshaking(io) = std::mem::replace(&mut self.state, State::Failed) else { return Step::Wait };
            self.state = State::Open(io);
        }
        match &self.state {
            State::Open(_) => self.pump(session, now),
            State::Resolving(_) if self.is_late(now) => Step::Unreachable("the name look-up timed out".to_owned()),
            State::Failed if self.from_upstream == 0 && self.to_upstream == 0 && !self.read_ended => {
                Step::Unreachable(self.failure.as_ref().map(ToString::to_string).unwrap_or_default())
            }
            State::Failed if self.is_late(now) => self.abort(),
            State::Resolving(_) | State::Failed | State::Dialing(_) | State::Handshaking(_) => Step::Wait,
        }
    }

    fn pump(&mut self, session: &mut AgentSession, now: Instant) -> Step {
        self.deadline = None;
        let again = self.write_queue(session);
        if let Some(error) = &self.failure {
            let text = error.to_string();
            return self.fail(text, now);
        }
        if self.read_ended && self.write_ended {
            return Step::Done;
        }
        let State::Open(io) = &self.state else { return Step::Wait };
        if !self.read_ended && io.may_read() {
            session.want_send(self.stream);
        }
        if again { Step::Again } else { Step::Wait }
    }

    /// Moves what the stream has received to the upstream, at most [`WRITE_MAX`] bytes. True when there is more, and
    /// room for it.
    fn write_queue(&mut self, session: &mut AgentSession) -> bool {
        let State::Open(io) = &mut self.state else { return false };
        if let Err(error) = io.flush() {
            self.failure = Some(error);
            return false;
        }
        let mut left = WRITE_MAX;
        let mut broken = None;
        while !self.write_ended && broken.is_none() {
            let Some(queue) = session.queue(self.stream).filter(|queue| !queue.is_empty()) else { break };
            if left == 0 {
                return true;
            }
            match io.write(queue.chunks()) {
                Ok(len) => {
                    session.consume(self.stream, len);
                    self.to_upstream += len as u64;
                    left = left.saturating_sub(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => broken = Some(error),
            }
        }
        if broken.is_none() && !self.write_ended && session.is_finished(self.stream) {
            self.write_ended = true;
            broken = io.shutdown_write().err().filter(|error| error.kind() != io::ErrorKind::NotConnected);
        }
        if let Some(error) = broken {
            self.on_write_error(error);
        }
        if self.write_ended {
            // The upstream takes no more; what still comes for it is dropped, so that the visitor is not stalled.
            session.consume(self.stream, usize::MAX);
        }
        false
    }

    /// The upstream takes no more bytes. What it said before that still has to reach the visitor: an early answer to
    /// a long upload ends like this.
    fn on_write_error(&mut self, error: io::Error) {
        self.write_ended = true;
        if self.read_ended {
            self.failure = Some(error);
        }
    }

    /// The upstream failed. An abort overtakes data on its way to the visitor, so it waits a moment if there was some.
    fn fail(&mut self, text: String, now: Instant) -> Step {
        let settled = self.sent_at + ABORT_DELAY;
        if self.from_upstream == 0 || now >= settled {
            return Step::Abort(text);
        }
        if let State::Open(io) = std::mem::replace(&mut self.state, State::Failed) {
            io.abort();
        }
        self.deadline = Some(settled);
        Step::WaitUntil(settled)
    }

    /// When the slot has something to do without an event.
    fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Dialing(dial) => dial.next_deadline().into_iter().chain(self.deadline).min(),
            State::Resolving(_) | State::Handshaking(_) | State::Open(_) | State::Failed => self.deadline,
        }
    }

    fn abort(&self) -> Step {
        Step::Abort(self.failure.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| now >= at)
    }
}

impl Sink for Streams {
    /// Writes straight to the upstream when it has room: most bytes are never queued.
    fn take(&mut self, stream: Key, bytes: &[u8]) -> usize {
        let Some((slot, proxied)) = self.open_io(stream) else { return 0 };
        let State::Open(io) = &mut proxied.state else { return 0 };
        if proxied.write_ended {
            return bytes.len();
        }
        match io.write(std::iter::once(bytes)) {
            Ok(len) => {
                proxied.to_upstream += len as u64;
                len
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                proxied.on_write_error(error);
                self.enqueue(slot);
                bytes.len()
            }
        }
    }
}

impl Source for Streams {
    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Supply {
        let now = self.now;
        let Some((slot, proxied)) = self.open_io(stream) else { return Supply::Nothing };
        let State::Open(io) = &mut proxied.state else { return Supply::Nothing };
        if proxied.read_ended {
            return Supply::Nothing;
        }
        match io.read(buffer) {
            Ok(0) => {
                proxied.read_ended = true;
                self.enqueue(slot);
                Supply::End
            }
            Ok(len) => {
                proxied.from_upstream += len as u64;
                proxied.sent_at = now;
                Supply::Bytes(len)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Supply::Nothing,
            Err(error) => {
                proxied.failure = Some(error);
                self.enqueue(slot);
                Supply::Nothing
            }
        }
    }
}

fn token(slot: usize) -> Token {
    Token(FIRST_STREAM.0 + slot)
}

/// Name look-up, connection and TLS handshake together. A visitor waits for it, so it is short; a service on the same
/// network answers within milliseconds.
const UPSTREAM_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes moved to one upstream in one turn of the loop, so that the others get theirs.
const WRITE_MAX: usize = 64 * 1024;

/// How long an abort stays behind the last data sent: enough for the gateway to hand that data on.
const ABORT_DELAY: Duration = Duration::from_millis(200);
