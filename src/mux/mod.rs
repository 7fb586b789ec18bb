//! The stream multiplexer: many byte streams inside one link, in muxado's framing, sans-IO.
//!
//! Bytes from the link go in through [`Mux::recv`], which takes everything, always: a stream's window and the memory
//! budget bound what is held, so one stream that nobody drains never stops the others. Bytes for the link come out
//! through [`Mux::poll_transmit`] (resets, credit, calls) and, when that has nothing more, through
//! [`Mux::poll_grant`]: the permission to put bytes of one stream into the link now. A grant is filled straight from
//! the source, so the multiplexer holds no proxied byte on its way out.
//!
//! After any call poll [`Mux::poll_event`] until it is empty, then write what the two others give.

mod audit;
mod error;
mod growth;
pub mod limits;
mod receive;
mod store;
mod stream;
mod transmit;
mod turns;
mod window;

use std::collections::VecDeque;

pub use audit::StreamAudit;
pub use error::{LinkError, OpenError, SendError};
pub use limits::Limits;
pub use store::Key;

use self::growth::Growth;
use self::receive::{Body, Recent};
use self::store::Store;
use self::stream::Stream;
use self::transmit::{GoAway, PendingReset};
use self::turns::Turns;
use crate::frame::{Decoder, ErrorCode, STREAM_ID_MAX};
use crate::pool::{BlockQueue, Pool};

/// Which end of the link this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// muxado's client: opens streams with odd ids, from 3.
    Agent,
    /// muxado's server: opens streams with even ids, from 2.
    Gateway,
}

/// How an abort looks on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStyle {
    /// A bare RST.
    Reset,
    /// Empty DATA with FIN (if not sent yet), RST, WNDINC of 1: the official Rust family wakes neither a reader nor a
    /// blocked writer for a RST alone.
    WakeThenReset,
}

/// Takes payload while it is being parsed, before it would be queued. `()` takes nothing.
pub trait Sink {
    /// Takes bytes off the front of `bytes`, which continue what the stream delivered so far, and returns how many.
    /// Called only for streams with [`Mux::set_direct`] whose queue is empty; the rest is queued.
    fn take(&mut self, key: Key, bytes: &[u8]) -> usize;

    /// The same for several pieces that follow each other, between one and [`limits::RUN_MAX`]: what came in frames
    /// behind one another can be passed on in one system call.
    fn take_run(&mut self, key: Key, pieces: &[&[u8]]) -> usize {
        let mut taken: usize = 0;
        for piece in pieces {
            let len = self.take(key, piece);
            taken = taken.saturating_add(len);
            if len < piece.len() {
                break;
            }
        }
        taken
    }
}

impl Sink for () {
    fn take(&mut self, _: Key, _: &[u8]) -> usize {
        0
    }
}

/// Something the user has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream.
    Opened(Key),
    /// The stream's queue is no longer empty.
    Readable(Key),
    /// The peer sends no more; everything it sent was announced by [`Event::Readable`].
    Finished(Key),
    /// The stream was aborted, by the peer or by us because of what the peer did. What was unread is gone and the key
    /// is stale from now on. Also comes after [`Event::Finished`]: an abort is never a clean end. If all that the peer
    /// says after its end is that it takes no more ([`ErrorCode::STREAM_CLOSED`]), this comes once everything was
    /// consumed.
    Reset(Key, ErrorCode),
    /// The peer ends the session; nothing follows. The text is what came along in the same piece, for the log.
    GoAway(ErrorCode, String),
}

/// Permission to put up to `max` bytes of one stream into the link. Hand it back with [`Mux::commit`] or
/// [`Mux::release`].
#[derive(Debug)]
#[must_use = "a stream whose grant is lost never gets another turn"]
pub struct Grant {
    /// The stream.
    pub key: Key,
    /// Most bytes in one frame, at least one.
    pub max: usize,
    /// Most bytes in several frames: not more than `max` for a light stream while others wait for their turn. Who has room for
    /// less says so here before it is filled.
    pub burst: usize,
}

/// What the memory budget has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Streams of the peer that were refused.
    pub refused: u32,
    /// Streams that were aborted because nobody drained them.
    pub aborted: u32,
}

/// One end of a link.
#[derive(Debug)]
pub struct Mux {
    side: Side,
    limits: Limits,
    abort_style: AbortStyle,
    growth: Growth,
    store: Store,
    pool: Pool,

    decoder: Decoder,
    body: Body,
    last_remote_id: u32,
    recent: Recent,
    peer_gone: Option<Event>,

    next_local_id: u32,
    events: VecDeque<Key>,
    urgent: VecDeque<Key>,
    turns: Turns,
    credits: VecDeque<Key>,
    resets: VecDeque<PendingReset>,
    resets_overflowed: bool,
    go_away: GoAway,
    /// Counts calls of `recv`: the age of what a stream holds.
    turn: u64,
    /// Bytes that the user holds.
    held: usize,
    shortage: Shortage,
}

impl Mux {
    /// A fresh link.
    pub fn new(side: Side, limits: Limits) -> Self {
        let next_local_id = match side {
            Side::Agent => 3,
            Side::Gateway => 2,
        };
        Self {
            side,
            limits,
            abort_style: AbortStyle::Reset,
            growth: Growth::default(),
            store: Store::default(),
            pool: Pool::new(limits.memory_max),
            decoder: Decoder::default(),
            body: Body::default(),
            last_remote_id: 0,
            recent: Recent::default(),
            peer_gone: None,
            next_local_id,
            events: VecDeque::new(),
            urgent: VecDeque::new(),
            turns: Turns::default(),
            credits: VecDeque::new(),
            resets: VecDeque::new(),
            resets_overflowed: false,
            go_away: GoAway::None,
            turn: 0,
            held: 0,
            shortage: Shortage::default(),
        }
    }

    /// Sets how many streams may live, once the peer said what it can take: see [`Limits`].
    pub fn set_streams(&mut self, open_max: usize, streams_max: usize) {
        self.limits.open_max = open_max;
        self.limits.streams_max = streams_max;
    }

    /// Sets how aborts are written, once the peer said what it is.
    pub fn set_abort_style(&mut self, style: AbortStyle) {
        self.abort_style = style;
    }

    /// Opens a stream whose first frame carries `first` whole: the stream's type and, for a proxied one, its header.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was opened. `first` longer than a frame counts as [`OpenError::Limit`].
    pub fn open(&mut self, first: &[u8]) -> Result<Key, OpenError> {
        if self.is_ending() {
            return Err(OpenError::GoingAway);
        }
        if self.store.len() >= self.limits.open_max || first.is_empty() || first.len() > limits::FRAME_DATA_MAX {
            return Err(OpenError::Limit);
        }
        if self.next_local_id > STREAM_ID_MAX - ID_RESERVE {
            return Err(OpenError::IdsExhausted);
        }
        if !self.make_room(first.len()) {
            return Err(OpenError::Limit);
        }
        let mut stream = Stream::new(0, true, self.windows(self.side == Side::Gateway));
        stream.outbox.extend_from_slice(first);
        stream.first_len = first.len();
        self.pool.charge(first.len());
        let key = self.store.insert(stream);
        self.queue_urgent(key);
        Ok(key)
    }

    /// Queues bytes of our own (a call, a beat) that go out before proxied data, credit allowing.
    ///
    /// # Errors
    /// [`SendError`] when the outbox, or all of them together, have no room for all of `bytes` or the direction is over;
    /// nothing was queued.
    pub fn send(&mut self, key: Key, bytes: &[u8]) -> Result<(), SendError> {
        let most = limits::outboxes_max(self.limits.memory_max);
        let most = if bytes.len() > limits::OUTBOX_FREE { most } else { 2 * most };
        if self.outboxes().saturating_add(bytes.len()) > most || !self.make_room(bytes.len()) {
            return Err(SendError);
        }
        let stream = self.store.at(key).ok_or(SendError)?;
        let before = stream.outbox.len();
        if !stream.fill_outbox(bytes) {
            return Err(SendError);
        }
        let after = stream.outbox.len();
        self.pool.release(before);
        self.pool.charge(after);
        self.queue_urgent(key);
        Ok(())
    }

    /// Bytes of [`Mux::send`] that have not left yet; zero for a stream that is gone.
    pub fn unsent(&self, key: Key) -> usize {
        self.store.peek(key).map_or(0, Stream::outbox_left)
    }

    /// The stream's source has bytes: it gets turns until [`Mux::release`].
    pub fn want_send(&mut self, key: Key) {
        if let Some(stream) = self.store.at(key) {
            stream.wants_send = true;
            self.queue_turn(key);
        }
    }

    /// We send no more on this stream: what was queued goes out, then a FIN.
    pub fn finish(&mut self, key: Key) {
        let Some(stream) = self.store.at(key) else { return };
        if stream.fin_due || stream.fin_sent {
            return;
        }
        stream.fin_due = true;
        self.queue_urgent(key);
    }

    /// Aborts the stream. The key is stale from now on and no event follows.
    pub fn reset(&mut self, key: Key, code: ErrorCode) {
        self.queue_reset(key, code);
        self.remove(key);
    }

    /// Ends our direction with a FIN (if not sent yet), then aborts the stream: for peers that would keep it open.
    pub fn finish_and_reset(&mut self, key: Key, code: ErrorCode) {
        self.queue_reset_after_fin(key, code);
        self.remove(key);
    }

    /// Ends the link: the next [`Mux::poll_transmit`] writes a GOAWAY and nothing comes after it.
    pub fn go_away(&mut self, code: ErrorCode, text: &str) {
        if matches!(self.go_away, GoAway::None) {
            self.go_away = GoAway::Due { code, text: text.to_owned() };
        }
    }

    /// Whether a GOAWAY was sent, is about to be, or was received.
    pub fn is_ending(&self) -> bool {
        !matches!(self.go_away, GoAway::None) || self.decoder_ended()
    }

    /// The next event, until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(key) = self.events.pop_front() {
            let Some(stream) = self.store.at(key) else { continue };
            stream.queued.event = false;
            let pending = &mut stream.pending;
            let event = if pending.opened {
                pending.opened = false;
                Event::Opened(key)
            } else if pending.readable {
                pending.readable = false;
                Event::Readable(key)
            } else if pending.finished {
                pending.finished = false;
                Event::Finished(key)
            } else if let Some(code) = pending.reset {
                self.remove(key);
                return Some(Event::Reset(key, code));
            } else {
                continue;
            };
            if pending.readable || pending.finished || pending.reset.is_some() {
                stream.queued.event = true;
                self.events.push_front(key);
            } else {
                self.queue_refused(key);
                self.remove_if_over(key);
            }
            return Some(event);
        }
        self.peer_gone.take()
    }

    /// Whether [`Mux::poll_event`] may have something: also [`Mux::consume`] can lead to an event.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Received bytes of the stream that lie in one piece; empty when there are none.
    pub fn chunk(&self, key: Key) -> &[u8] {
        self.queue(key).map_or(&[], BlockQueue::chunk)
    }

    /// Everything received on the stream and not yet consumed.
    pub fn queue(&self, key: Key) -> Option<&BlockQueue> {
        self.store.peek(key).map(|stream| &stream.queue)
    }

    /// Drops `len` received bytes and owes the peer their credit.
    pub fn consume(&mut self, key: Key, len: usize) {
        let turn = self.turn;
        let Some(stream) = self.store.at(key) else { return };
        let len = len.min(stream.queue.len());
        if len == 0 {
            return;
        }
        stream.queue.consume(&mut self.pool, len);
        stream.recv.consumed(len);
        stream.drained_at = turn;
        self.queue_credit(key);
        self.queue_refused(key);
        self.remove_if_over(key);
    }

    /// Whether the peer ended its direction and everything it sent was consumed. True for a stream that is gone.
    pub fn is_finished(&self, key: Key) -> bool {
        self.store.peek(key).is_none_or(Stream::is_finished)
    }

    /// From now on payload of this stream is offered to the [`Sink`] of [`Mux::recv`] first.
    pub fn set_direct(&mut self, key: Key) {
        if let Some(stream) = self.store.at(key) {
            stream.direct = true;
        }
    }

    /// The stream's id on the wire; zero before its first frame is written and when it is gone.
    pub fn stream_id(&self, key: Key) -> u32 {
        self.store.peek(key).map_or(0, |stream| stream.id)
    }

    /// Streams that live now, both sides' together.
    pub fn streams(&self) -> usize {
        self.store.len()
    }

    /// Streams that could be opened now.
    pub fn free_streams(&self) -> usize {
        if self.is_ending() { 0 } else { self.limits.open_max.saturating_sub(self.store.len()) }
    }

    /// Bytes of the memory budget in use: received ones in whole blocks, outboxes, and what [`Mux::set_held`] said.
    pub fn memory_used(&self) -> usize {
        self.pool.used_bytes()
    }

    /// What the memory budget has cost so far.
    pub fn shortage(&self) -> Shortage {
        self.shortage
    }

    /// Whether more is in use than the budget allows: only what was said in [`Mux::set_held`] can lead to it.
    pub fn is_over_budget(&self) -> bool {
        !self.pool.has_room(0)
    }

    /// Bytes that the user holds for its streams elsewhere: they count against the budget. Where they leave too little
    /// for what was received, the streams longest undrained are aborted.
    pub fn set_held(&mut self, bytes: usize) {
        self.pool.release(std::mem::replace(&mut self.held, bytes));
        let _ = self.make_room(bytes);
        self.pool.charge(bytes);
    }

    /// Bytes that the outboxes hold.
    fn outboxes(&self) -> usize {
        self.pool.charged().saturating_sub(self.held)
    }

    /// Whether the budget has room for bytes that are not in blocks, once blocks have made what they can.
    fn make_room(&mut self, bytes: usize) -> bool {
        while !self.pool.has_room(bytes) {
            if !self.relieve() {
                return false;
            }
        }
        true
    }

    fn remove(&mut self, key: Key) {
        let Some(mut stream) = self.store.remove(key) else { return };
        stream.queue.clear(&mut self.pool);
        self.pool.release(stream.outbox.len());
        self.forget_growth(&stream.recv);
        // A queue never holds a stale key, so none is longer than the table of streams.
        for (queued, queue) in [
            (stream.queued.event, &mut self.events),
            (stream.queued.urgent, &mut self.urgent),
            (stream.queued.credit, &mut self.credits),
        ] {
            if queued {
                queue.retain(|&other| other != key);
            }
        }
        if stream.queued.turn {
            self.turns.remove(key);
        }
    }

    fn remove_if_over(&mut self, key: Key) {
        if self.store.peek(key).is_some_and(|stream| stream.is_over() && !stream.queued.event) {
            self.remove(key);
        }
    }

    /// Everything that the peer sent was delivered: now the user may learn that it takes no more of ours.
    fn queue_refused(&mut self, key: Key) {
        let Some(stream) = self.store.at(key) else { return };
        if stream.refused.is_some() && stream.queue.is_empty() && !stream.queued.event {
            stream.pending.reset = stream.refused;
            self.queue_event(key);
        }
    }

    fn queue_event(&mut self, key: Key) {
        if let Some(stream) = self.store.at(key)
            && !std::mem::replace(&mut stream.queued.event, true)
        {
            self.events.push_back(key);
        }
    }
}

/// Ids kept back so that streams which are open but not yet announced always get one.
const ID_RESERVE: u32 = 1 << 20;

#[cfg(test)]
mod tests;
