//! Visitors' connections: one stream of the link and one socket of an upstream each.

mod opening;

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::FIRST_STREAM;
use super::handshakes::Handshakes;
use super::proxied::{Proxied, State, Step};
use super::upstreams::Upstreams;
use crate::log_format::milliseconds;
use crate::mux::{Key, Sink};
use crate::net::link::{LINK_HELD, Source, Supply};
use crate::net::resolve::{LookupId, Resolver};
use crate::net::upstream::TLS_HELD;
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
    idle_timeout: Option<Duration>,
    /// Bytes that the connections hold in this process, beside what the session knows.
    held: usize,
    handshakes: Handshakes,
    /// Look-ups of connections that are gone: their places are for others.
    abandoned: Vec<LookupId>,
    session: u64,
    opened: u64,
    unreachable: u64,
    /// Bytes to and from upstreams, of connections that are over.
    moved: (u64, u64),
    now: Instant,
}

impl Streams {
    pub(super) fn new(upstreams: Upstreams, idle_timeout: Option<Duration>, now: Instant) -> Self {
        Self {
            upstreams,
            slots: Vec::new(),
            free: Vec::new(),
            by_stream: Table::default(),
            queue: VecDeque::new(),
            next_deadline: None,
            idle_timeout,
            held: 0,
            handshakes: Handshakes::default(),
            abandoned: Vec::new(),
            session: 0,
            opened: 0,
            unreachable: 0,
            moved: (0, 0),
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

    /// A turn of the loop begins: what moves in it, moves at this time.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
    }

    /// For the connections that come from now on.
    pub(super) fn set_idle_timeout(&mut self, idle_timeout: Option<Duration>) {
        self.idle_timeout = idle_timeout;
    }

    /// Those of them whose upstream could not be reached.
    pub(super) fn unreachable(&self) -> u64 {
        self.unreachable
    }

    /// Bytes to and from upstreams since the process began.
    pub(super) fn moved(&self) -> (u64, u64) {
        let live = self.slots.iter().flatten();
        live.fold(self.moved, |(to, from), proxied| (to + proxied.to_upstream, from + proxied.from_upstream))
    }

    /// The link is gone, and with it every stream: upstreams see an abort.
    pub(super) fn abort_all(&mut self) {
        for slot in 0..self.slots.len() {
            self.remove(slot, Close::Abort, "the link to the gateway is gone");
        }
        // Work that nobody does before the next session would keep the loop awake.
        self.queue.clear();
        self.next_deadline = None;
    }

    pub(super) fn start_session(&mut self, session: u64) {
        self.session = session;
    }

    pub(super) fn note(&mut self, slot: usize, event: &mio::event::Event) {
        let Some(Some(proxied)) = self.slots.get_mut(slot) else { return };
        match &mut proxied.state {
            State::Handshaking(io) | State::Open(io) => io.ready.add(event),
            State::Dialing(_, ready) => ready.add(event),
            State::Greeting | State::Rejecting(_) | State::Resolving(_) | State::Failed => {}
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

    /// Endpoints that the configuration does not have any more: what is not connected yet ends at `now`, the rest at
    /// `until`.
    pub(super) fn retire(&mut self, endpoints: &[usize], until: Instant, now: Instant) {
        for slot in 0..self.slots.len() {
            let Some(Some(proxied)) = self.slots.get_mut(slot) else { continue };
            if endpoints.contains(&proxied.endpoint) {
                let end_at = if matches!(proxied.state, State::Open(_)) { until } else { now };
                proxied.end_at = Some(end_at);
                self.wake_at(end_at);
                self.enqueue(slot);
            }
        }
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
    pub(super) fn run(
        &mut self,
        session: &mut AgentSession,
        resolver: &mut Resolver,
        registry: &Registry,
        now: Instant,
    ) {
        self.now = now;
        self.handshakes.begin_turn();
        for id in self.abandoned.drain(..) {
            resolver.cancel(id);
        }
        // Streams that were reset since then have no turn of their own.
        session.set_held(LINK_HELD + self.held);
        for _ in 0..self.queue.len() {
            let Some(slot) = self.queue.pop_front() else { return };
            let Some(Some(proxied)) = self.slots.get_mut(slot) else { continue };
            proxied.queued = false;
            match proxied.run(session, &mut self.handshakes, registry, token(slot), now) {
                Step::Wait => {}
                Step::Again => self.enqueue(slot),
                Step::WaitUntil(at) => {
                    let at = proxied.end_at.map_or(at, |end| end.min(at));
                    self.wake_at(at);
                }
                Step::Dial => {
                    self.dial(slot, resolver, now);
                    self.enqueue(slot);
                }
                Step::Reject(reason) => self.reject(slot, session, &reason),
                Step::Unreachable(reason) => self.refuse(slot, session, &reason),
                Step::Abort(reason) => {
                    session.reset(proxied.stream);
                    self.remove(slot, Close::Abort, &reason);
                }
                Step::TurnAway(reason) => {
                    session.turn_away(proxied.stream);
                    self.remove(slot, Close::Clean, &reason);
                }
                Step::Done => self.remove(slot, Close::Clean, "done"),
            }
            self.settle(slot);
            self.keep_budget(session);
        }
    }

    /// Notes what a connection holds after it did something.
    fn settle(&mut self, slot: usize) {
        let Some(Some(proxied)) = self.slots.get_mut(slot) else { return };
        let held = match &proxied.state {
            State::Handshaking(io) | State::Open(io) => io.held(),
            State::Greeting | State::Rejecting(_) | State::Resolving(_) | State::Dialing(..) | State::Failed => 0,
        };
        let held = held + proxied.visitor.as_ref().map_or(0, |visitor| visitor.held());
        self.held = (self.held + held).saturating_sub(std::mem::replace(&mut proxied.held, held));
    }

    /// Tells the session what is held, and aborts connections that hold something while that is too much: first those
    /// that hold bytes, and the one on which nothing moved for the longest time.
    fn keep_budget(&mut self, session: &mut AgentSession) {
        session.set_held(LINK_HELD + self.held);
        while session.is_over_budget() {
            let holders = self.slots.iter().enumerate().filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)));
            let holders = holders.filter(|(_, proxied)| proxied.held > 0);
            let stalest = holders.min_by_key(|(_, proxied)| (proxied.held <= TLS_HELD, proxied.moved_at));
            let Some((slot, proxied)) = stalest else { return };
            log::warn!(
                "session={} stream={} a visitor was aborted: buffers are full of TLS to upstreams; agent.memory_max sets \
                 how much that may be",
                self.session,
                proxied.id,
            );
            session.reset(proxied.stream);
            self.remove(slot, Close::Abort, "the memory budget is used up");
            session.set_held(LINK_HELD + self.held);
        }
    }

    /// One line for the log, one answer for the visitor.
    fn refuse(&mut self, slot: usize, session: &mut AgentSession, reason: &str) {
        self.unreachable += 1;
        let Some(Some(proxied)) = self.slots.get(slot) else { return };
        let route = &proxied.route;
        let ms = milliseconds(self.now.saturating_duration_since(proxied.opened_at));
        log::warn!(
            "session={} stream={} took={ms}ms endpoint={} upstream={} is unreachable: {reason}",
            self.session,
            proxied.id,
            route.name(),
            route.upstream(),
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

    /// The visitor's own fault: one line for the log.
    fn reject(&mut self, slot: usize, session: &mut AgentSession, reason: &str) {
        let Some(Some(proxied)) = self.slots.get(slot) else { return };
        log::warn!(
            "session={} stream={} took={}ms endpoint={} a visitor is turned away: {reason}",
            self.session,
            proxied.id,
            milliseconds(self.now.saturating_duration_since(proxied.opened_at)),
            proxied.route.name(),
        );
        session.reset(proxied.stream);
        self.remove(slot, Close::Abort, "turned away");
    }

    fn remove(&mut self, slot: usize, close: Close, reason: &str) {
        let Some(proxied) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.by_stream.take(proxied.stream);
        self.held = self.held.saturating_sub(proxied.held);
        self.free.push(slot);
        self.moved = (self.moved.0 + proxied.to_upstream, self.moved.1 + proxied.from_upstream);
        // Before the line that says so.
        match (close, proxied.state) {
            (Close::Abort, State::Open(io) | State::Handshaking(io)) => io.abort(),
            (_, State::Resolving(id)) => self.abandoned.push(id),
            (_, state) => drop(state),
        }
        log::debug!(
            "session={} stream={} took={}ms endpoint={} closed ({reason}): {} bytes to the upstream, {} from it",
            self.session,
            proxied.id,
            milliseconds(self.now.saturating_duration_since(proxied.opened_at)),
            proxied.route.name(),
            proxied.to_upstream,
            proxied.from_upstream,
        );
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

impl Sink for Streams {
    /// Writes straight to the upstream when it has room: most bytes are never queued.
    fn take(&mut self, stream: Key, bytes: &[u8]) -> usize {
        self.take_run(stream, &[bytes])
    }

    fn take_run(&mut self, stream: Key, pieces: &[&[u8]]) -> usize {
        let now = self.now;
        let whole = pieces.iter().map(|piece| piece.len()).sum();
        let Some((slot, proxied)) = self.open_io(stream) else { return 0 };
        if proxied.visitor.is_some() {
            return 0;
        }
        let State::Open(io) = &mut proxied.state else { return 0 };
        if proxied.write_ended {
            return whole;
        }
        match io.write(pieces.iter().copied()) {
            Ok(len) => {
                proxied.to_upstream += len as u64;
                proxied.moved_at = now;
                self.settle(slot);
                len
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                proxied.on_write_error(error);
                self.enqueue(slot);
                whole
            }
        }
    }
}

impl Source for Streams {
    fn read(&mut self, stream: Key, buffers: &mut [IoSliceMut<'_>]) -> Supply {
        let now = self.now;
        let Some((slot, proxied)) = self.open_io(stream) else { return Supply::Nothing };
        if proxied.read_ended {
            return Supply::Nothing;
        }
        let Some(first) = buffers.first_mut() else { return Supply::Nothing };
        if let Some(supply) = proxied.supply_encrypted(first, now) {
            if proxied.read_ended || proxied.failure.is_some() {
                self.enqueue(slot);
            }
            self.settle(slot);
            return supply;
        }
        let State::Open(io) = &mut proxied.state else { return Supply::Nothing };
        match io.read_into(buffers) {
            Ok(0) => {
                proxied.read_ended = true;
                proxied.moved_at = now;
                self.enqueue(slot);
                Supply::End
            }
            Ok(len) => {
                proxied.from_upstream += len as u64;
                proxied.sent_at = now;
                proxied.moved_at = now;
                self.settle(slot);
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

#[cfg(test)]
mod tests;
