//! What a session's driver and its proxy streams share: the protocol state and one short queue per stream.
//!
//! Lock order: the gateway's own state before a link, never the other way round. Nothing waits while holding a link.

mod look;
mod user;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};
use std::{fmt, io};

use bytes::{Buf, BytesMut};

use adit::frame::{ErrorCode, HEADER_LEN};
use adit::message::ProxyHeader;
use adit::mux::limits::{BATCH_MAX, BATCH_REST, BURST_MAX, FRAME_DATA_MAX, payload_in};
use adit::mux::{Key, LinkError, OpenError};
use adit::session::gateway::{Event, GatewaySession, Request};

use crate::fleet::Traffic;

use super::batch::Batch;
use super::failure::Failure;
use super::probe::{Asked, Probe};
use super::spares::Spares;
pub(crate) use look::StreamFacts;

/// One link to an agent, shared by all that use it.
pub(crate) struct Link {
    state: Mutex<State>,
    push: OnceLock<Weak<dyn Push>>,
}

/// Writes what the session has at once, in the task of a visitor who brings much.
pub(super) trait Push: Send + Sync {
    /// Does so, takes what it can of what is brought, and sees to it that what is left has somebody who goes on. How many
    /// bytes it took; `None`: it did nothing.
    fn push(&self, brought: Brought<'_>) -> Option<usize>;
}

/// Bytes of a stream that are not in its queue: they go into a batch without it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brought<'a> {
    /// `None`: there are none.
    pub(super) stream: Option<Key>,
    pub(super) bytes: &'a [u8],
}

/// What the driver has to do something about.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The agent calls and waits for a reply.
    Call(Key, Request),
    /// A call is over: the agent has confirmed the reply (`true`) or given up.
    CallDone(Key, bool),
    /// The agent ends the session.
    GoAway(ErrorCode, String),
    /// Nothing came from the agent for too long.
    Dead,
}

/// What a look at a new stream shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The agent has sent something, or the stream broke.
    Alive,
    /// The agent ended it without a byte.
    EmptyEnd,
}

struct State {
    session: GatewaySession,
    streams: HashMap<Key, Stream>,
    driver: Option<Waker>,
    /// Set once, by whoever ends the session first.
    ending: Option<Arc<str>>,
    /// Nobody drives the session any more.
    closed: bool,
    last_heard: Instant,
    /// Longest silence of the agent. `None` before it has logged in.
    liveness: Option<Duration>,
    /// Unanswered so far.
    probe: Option<Probe>,
    traffic: Traffic,
    spares: Spares,
}

/// One proxy stream, as long as somebody uses it.
#[derive(Default)]
struct Stream {
    /// Written by the user and not yet granted a place in the link; at most [`OUTGOING_MAX`] bytes.
    outgoing: BytesMut,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The agent sends no more, once what was received is read.
    ended: bool,
    failure: Option<Failure>,
    close: Close,
    /// Keep our end open until the agent's is over.
    withhold: bool,
    /// The agent has sent something.
    answered: bool,
    facts: Option<StreamFacts>,
    traffic: Traffic,
}

/// How far our end of a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Close {
    #[default]
    Open,
    /// The user has finished; its last bytes wait for the link.
    Draining,
    /// Everything is sent but the end, which this agent would misunderstand before its own.
    Withheld,
    Sent,
}

/// The side of the driver.
impl Link {
    pub(crate) fn new(session: GatewaySession, now: Instant) -> Self {
        let state = State {
            session,
            streams: HashMap::new(),
            driver: None,
            ending: None,
            closed: false,
            last_heard: now,
            liveness: None,
            probe: None,
            traffic: Traffic::default(),
            spares: Spares::default(),
        };
        Self { state: Mutex::new(state), push: OnceLock::new() }
    }

    /// Who writes for visitors' tasks; the first one stays.
    pub(super) fn set_push(&self, push: Weak<dyn Push>) {
        let _ = self.push.set(push);
    }

    /// Takes bytes from the link and adds what there is to do to `notices`.
    pub(crate) fn recv(&self, bytes: &[u8], now: Instant, notices: &mut Vec<Notice>) -> Result<(), LinkError> {
        let mut state = self.lock();
        state.last_heard = now;
        let result = state.session.recv(bytes, &mut (), now);
        state.dispatch(notices);
        result
    }

    /// Does what is due by the clock.
    pub(crate) fn handle_timeout(&self, now: Instant, notices: &mut Vec<Notice>) {
        let mut state = self.lock();
        state.session.handle_timeout(now);
        state.dispatch(notices);
    }

    /// When [`Link::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.lock().session.poll_timeout()
    }

    /// Puts what is to be written next in place of what was written: control first, then streams in turn, about `len` bytes
    /// of them. The bytes of one call are on their way to the socket before the next one is made, so that nothing urgent
    /// waits behind more than [`BATCH_MAX`] bytes. With `lends`, what is brought is not copied.
    pub(super) fn fill(&self, batch: &mut Batch, len: usize, brought: &mut Brought<'_>, lends: bool) {
        let mut state = self.lock();
        if let Some(key) = brought.stream
            && !brought.bytes.is_empty()
        {
            state.session.want_send(key);
        }
        batch.clear().for_each(|bytes| state.spares.put(bytes));
        state.session.poll_transmit(batch.own(), BATCH_MAX);
        while !is_full(batch.len(), len) {
            if !state.grant_one(batch, len - batch.len(), brought, lends) {
                if batch.is_empty() {
                    // An idle session holds no buffers.
                    state.spares.clear();
                }
                return;
            }
        }
    }

    /// Who to wake when there is something to write, or the session is to end.
    pub(crate) fn set_driver(&self, waker: &Waker) {
        let mut state = self.lock();
        if !state.driver.as_ref().is_some_and(|driver| driver.will_wake(waker)) {
            state.driver = Some(waker.clone());
        }
    }

    /// Why the session is to end, once it is.
    pub(crate) fn ending(&self) -> Option<Arc<str>> {
        self.lock().ending.clone()
    }

    /// Gives access to the protocol state, for calls that concern no proxy stream. Wakes the driver afterwards.
    pub(crate) fn with_session<R>(&self, call: impl FnOnce(&mut GatewaySession) -> R) -> R {
        let mut state = self.lock();
        let result = call(&mut state.session);
        state.wake_driver();
        result
    }

    /// From now on, so much silence means death.
    pub(crate) fn set_liveness(&self, liveness: Duration) {
        self.lock().liveness = Some(liveness);
    }

    /// The link is gone: every stream breaks, and there will be no more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.probe = None;
        state.spares.clear();
        state.session.trim();
        state.fail_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock leaves half-done work behind when it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of the gateway.
impl Link {
    /// Ends the session at once: every stream breaks, the agent gets a GOAWAY, then the link is closed.
    pub(crate) fn end(&self, code: ErrorCode, text: &str) {
        let mut state = self.lock();
        if state.ending.is_some() {
            return;
        }
        state.ending = Some(text.into());
        state.session.go_away(code, text);
        state.probe = None;
        state.fail_all();
        state.wake_driver();
    }

    /// Asks the agent whether it still answers, with a beat that it cannot know. A question that stands already counts
    /// for all who ask meanwhile.
    pub(crate) fn probe(&self, beat: [u8; 4], now: Instant) -> Asked {
        let mut state = self.lock();
        if state.closed || state.ending.is_some() {
            return Asked::Gone;
        }
        if state.probe.is_none() {
            match state.session.probe(beat) {
                Ok(key) => state.probe = Some(Probe::new(key, now)),
                Err(OpenError::GoingAway) => return Asked::Gone,
                Err(OpenError::Limit | OpenError::IdsExhausted) => return Asked::Busy,
            }
            state.wake_driver();
        }
        state.probe.as_mut().map_or(Asked::Gone, Probe::join)
    }

    /// Opens a proxy stream. With `withhold` its end is not sent before the agent's has come.
    pub(crate) fn open(&self, header: &ProxyHeader, withhold: bool, facts: StreamFacts) -> Result<Key, OpenError> {
        let mut state = self.lock();
        if state.closed {
            return Err(OpenError::GoingAway);
        }
        let key = state.session.open_proxy(header)?;
        state.streams.insert(key, Stream { withhold, facts: Some(facts), ..Stream::default() });
        state.traffic.streams = state.traffic.streams.saturating_add(1);
        state.wake_driver();
        Ok(key)
    }
}

impl State {
    /// Hands the session's events to the streams they are for; the rest goes to `notices`.
    fn dispatch(&mut self, notices: &mut Vec<Notice>) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Call { call, request } => notices.push(Notice::Call(call, request)),
                Event::CallDone { call, delivered } => notices.push(Notice::CallDone(call, delivered)),
                // Commands are sent without waiting for what the agent makes of them.
                Event::CommandDone { .. } => {}
                Event::Readable(stream) => {
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.answered = true;
                        wake(&mut stream.reader);
                    }
                }
                Event::Finished(stream) => self.on_finished(stream),
                Event::Reset(stream, code) => {
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        let refused = code == ErrorCode::UPSTREAM_UNREACHABLE && !stream.answered;
                        stream.fail(if refused { Failure::UpstreamUnreachable } else { Failure::Reset(code) });
                    }
                }
                Event::ProbeAnswered(key) => {
                    if let Some(probe) = self.probe.take_if(|probe| probe.key == key) {
                        probe.answered();
                    }
                }
                Event::GoAway(code, text) => notices.push(Notice::GoAway(code, text)),
                Event::Dead => notices.push(Notice::Dead),
            }
        }
    }

    fn on_finished(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.ended = true;
        wake(&mut stream.reader);
        if stream.close == Close::Withheld {
            stream.close = Close::Sent;
            self.session.finish(key);
        }
    }

    /// Puts frames of the stream whose turn it is into `batch`, as many as fit into `room` bytes; false when there is none.
    fn grant_one(&mut self, batch: &mut Batch, room: usize, brought: &mut Brought<'_>, lends: bool) -> bool {
        let Some(mut grant) = self.session.poll_grant() else { return false };
        let key = grant.key;
        let Some(stream) = self.streams.get_mut(&key) else {
            self.session.release(grant);
            return true;
        };
        let is_brought = stream.outgoing.is_empty() && brought.stream == Some(key) && stream.may_write().is_ok();
        grant.burst = grant.burst.min(payload_in(room));
        let len = if is_brought { brought.bytes.len() } else { stream.outgoing.len() }.min(grant.burst);
        if len == 0 {
            self.session.release(grant);
            return true;
        }
        let Some(headers) = self.session.commit_burst(grant, len) else { return true };
        let mut left = len;
        for header in headers {
            let payload = left.min(FRAME_DATA_MAX);
            batch.push(&header);
            if is_brought {
                let (bytes, rest) = brought.bytes.split_at(payload);
                if lends {
                    batch.lend(payload)
                } else {
                    batch.push(bytes)
                }
                brought.bytes = rest;
            } else if payload >= GIVEN_MIN {
                batch.give(stream.outgoing.split_to(payload).freeze());
            } else {
                batch.push(stream.outgoing.get(..payload).unwrap_or_default());
                stream.outgoing.advance(payload);
            }
            left -= payload;
        }
        stream.traffic.add_to_agent(len);
        self.traffic.add_to_agent(len);
        if stream.outgoing.is_empty() {
            // An idle stream holds no buffer.
            stream.outgoing = BytesMut::new();
        }
        if stream.outgoing.len() <= OUTGOING_MAX / 2 {
            wake(&mut stream.writer);
        }
        self.close_if_drained(key);
        true
    }

    fn close_if_drained(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.close != Close::Draining || !stream.outgoing.is_empty() {
            return;
        }
        wake(&mut stream.writer);
        if stream.withhold && !stream.ended {
            stream.close = Close::Withheld;
            return;
        }
        stream.close = Close::Sent;
        self.session.finish(key);
        self.wake_driver();
    }

    fn fail_all(&mut self) {
        for stream in self.streams.values_mut() {
            stream.fail(Failure::SessionLost);
        }
    }

    fn wake_driver(&mut self) {
        wake(&mut self.driver);
    }
}

impl Stream {
    /// What the agent had to say is complete, and what still comes for it has no taker: an early answer, and no abort.
    fn takes_no_more(&self) -> bool {
        self.ended && self.failure == Some(Failure::Reset(ErrorCode::STREAM_CLOSED))
    }

    /// Whether bytes can be given to it.
    fn may_write(&self) -> io::Result<()> {
        if self.takes_no_more() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(failure) = self.failure {
            return Err(failure.into());
        }
        if self.close != Close::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.outgoing = BytesMut::new();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Whether a batch of about `batch` bytes takes no more frames behind the `len` bytes that it has.
pub(super) fn is_full(len: usize, batch: usize) -> bool {
    len + BATCH_REST > batch
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn set_waker(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// Bytes that a stream's user may be ahead of the link: what fills one batch. With 500 streams that all stand still it is
/// 32 MiB for a session, and as much again of what was read of visitors to come next.
pub(crate) const OUTGOING_MAX: usize = BURST_MAX;
/// Payload that is not copied from a stream's queue into a batch: for less, the copy is cheaper than what it takes to do without.
const GIVEN_MIN: usize = 4 * 1024;
/// A DATA frame at its largest.
pub(super) const FRAME_MAX: usize = FRAME_DATA_MAX + HEADER_LEN;
