//! What the peer's frames do.

use super::limits::{GO_AWAY_TEXT_KEPT, RECENT_MAX, REFUSE_PERCENT, RUN_MAX};
use super::stream::Stream;
use super::transmit::GoAway;
use super::{Event, Key, LinkError, Mux, Side, Sink};
use crate::frame::{ErrorCode, Item};

/// Where the payload of the DATA frame being received goes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Body {
    /// `None`: to nobody.
    key: Option<Key>,
    fin: bool,
}

/// Payload of one stream in frames that follow each other.
#[derive(Debug, Default)]
struct Run<'a> {
    key: Option<Key>,
    pieces: [&'a [u8]; RUN_MAX],
    /// Invariant: at most [`RUN_MAX`].
    count: usize,
}

impl<'a> Run<'a> {
    /// There has to be room.
    fn push(&mut self, piece: &'a [u8]) {
        if let Some(place) = self.pieces.get_mut(self.count) {
            *place = piece;
            self.count += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.count == RUN_MAX
    }
}

/// The last ids that we reset, at most [`RECENT_MAX`].
#[derive(Debug, Default)]
pub(super) struct Recent {
    ids: Vec<u32>,
    oldest: usize,
}

impl Recent {
    pub(super) fn add(&mut self, id: u32) {
        if self.ids.len() < RECENT_MAX {
            self.ids.push(id);
        } else if let Some(oldest) = self.ids.get_mut(self.oldest) {
            *oldest = id;
            self.oldest = (self.oldest + 1) % RECENT_MAX;
        }
    }

    fn has(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }
}

impl Mux {
    /// Takes decrypted bytes off the link: all of them, whatever the streams' users do.
    ///
    /// # Errors
    /// [`LinkError`]: the link has to end. The next [`Mux::poll_transmit`] writes the GOAWAY that says why; further
    /// input is ignored.
    pub fn recv(&mut self, mut input: &[u8], sink: &mut impl Sink) -> Result<(), LinkError> {
        if !matches!(self.go_away, GoAway::None) {
            return Ok(());
        }
        self.turn = self.turn.wrapping_add(1);
        let result = self.recv_items(&mut input, sink);
        self.shrink_if_short();
        if let Err(error) = result {
            self.go_away(error.code(), &error.to_string());
        }
        result
    }

    fn recv_items(&mut self, input: &mut &[u8], sink: &mut impl Sink) -> Result<(), LinkError> {
        let mut run = Run::default();
        let result = self.recv_run(input, &mut run, sink);
        self.deliver_run(&mut run, sink);
        result
    }

    /// What belongs to one stream and follows itself is gathered in `run`, and delivered before anything else is looked
    /// at that could concern it.
    fn recv_run<'a>(&mut self, input: &mut &'a [u8], run: &mut Run<'a>, sink: &mut impl Sink) -> Result<(), LinkError> {
        while let Some(item) = self.decoder.next(input).map_err(LinkError::Frame)? {
            if !matches!(item, Item::Data { syn: false, .. } | Item::Payload { .. }) {
                self.deliver_run(run, sink);
            }
            match item {
                Item::Data { id, len, syn, fin } => {
                    let key = if syn { self.on_open(id, len)? } else { self.on_data(id, len, fin) };
                    if key != run.key || len == 0 {
                        self.deliver_run(run, sink);
                    }
                    self.body = Body { key, fin };
                    if len == 0 {
                        self.on_body_end();
                    }
                }
                Item::Payload { bytes, last } => {
                    if let Some(key) = self.body.key {
                        run.key = Some(key);
                        run.push(bytes);
                        if run.is_full() || (last && self.body.fin) {
                            self.deliver_run(run, sink);
                        }
                    }
                    if last {
                        self.on_body_end();
                    }
                }
                Item::Reset { id, code } => self.on_reset(id, code),
                Item::Credit { id, increment } => self.on_credit(id, increment),
                Item::GoAway { code, .. } => {
                    self.peer_gone = Some(Event::GoAway(code, printable(input)));
                    *input = &[];
                }
            }
            if self.resets_overflowed {
                return Err(LinkError::LimitResets);
            }
        }
        Ok(())
    }

    pub(super) fn decoder_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// A SYN frame with `len` payload bytes. `None`: the stream is refused, its payload goes to nobody.
    fn on_open(&mut self, id: u32, len: u32) -> Result<Option<Key>, LinkError> {
        if self.is_local(id) {
            return Err(LinkError::PeerWrongParity { id });
        }
        if id <= self.last_remote_id {
            return Err(LinkError::PeerIdReused { id });
        }
        self.last_remote_id = id;
        let is_short = self.pool.used_percent() >= REFUSE_PERCENT;
        if self.store.len() >= self.limits.streams_max || is_short {
            self.shortage.refused = self.shortage.refused.wrapping_add(u32::from(is_short));
            self.queue_refusal(id, ErrorCode::STREAM_REFUSED);
            return Ok(None);
        }
        let mut stream = Stream::new(id, false, self.windows(self.side == Side::Agent));
        if !stream.recv.charge(len) {
            self.queue_refusal(id, ErrorCode::FLOW_CONTROL_ERROR);
            return Ok(None);
        }
        stream.pending.opened = true;
        let key = self.store.insert(stream);
        self.queue_event(key);
        Ok(Some(key))
    }

    /// A DATA frame without SYN. `None`: its payload goes to nobody.
    fn on_data(&mut self, id: u32, len: u32, fin: bool) -> Option<Key> {
        let Some(key) = self.store.find(id, self.is_local(id)) else {
            let ignored = (len == 0 && fin) || self.recent.has(id);
            if !ignored {
                self.queue_bare_reset(id, ErrorCode::STREAM_CLOSED);
            }
            return None;
        };
        let stream = self.store.at(key)?;
        if stream.pending.reset.is_some() {
            return None;
        }
        if stream.fin_received {
            if len > 0 {
                self.abort(key, ErrorCode::STREAM_CLOSED);
            }
            return None;
        }
        // Judged when the header arrives: a frame that announces too much is never buffered.
        if !stream.recv.charge(len) {
            self.abort(key, ErrorCode::FLOW_CONTROL_ERROR);
            return None;
        }
        self.grow_window(key);
        Some(key)
    }

    fn on_body_end(&mut self) {
        let Body { key: Some(key), fin: true } = std::mem::take(&mut self.body) else { return };
        let Some(stream) = self.store.at(key) else { return };
        if stream.pending.reset.is_none() {
            stream.fin_received = true;
            stream.pending.finished = true;
            self.queue_event(key);
        }
    }

    fn on_reset(&mut self, id: u32, code: ErrorCode) {
        let Some(key) = self.store.find(id, self.is_local(id)) else { return };
        let Some(stream) = self.store.at(key).filter(|stream| stream.pending.reset.is_none()) else { return };
        // Official peers forget a stream with their FIN and answer what still arrives with this code: that says
        // nothing against what they sent before it. Any other code is an abort, also right after a FIN.
        if code != ErrorCode::STREAM_CLOSED || !stream.fin_received {
            self.fail_stream(key, code);
        } else if !stream.fin_sent {
            self.pool.release(std::mem::take(&mut stream.outbox).len());
            stream.outbox_sent = 0;
            stream.refused.get_or_insert(code);
            self.queue_refused(key);
        }
    }

    fn on_credit(&mut self, id: u32, increment: u32) {
        let Some(key) = self.store.find(id, self.is_local(id)) else { return };
        if let Some(stream) = self.store.at(key) {
            stream.send.grant(increment);
            self.queue_urgent(key);
            self.queue_turn(key);
        }
    }

    fn deliver_run(&mut self, run: &mut Run<'_>, sink: &mut impl Sink) {
        let Run { key: Some(key), pieces, count } = std::mem::take(run) else { return };
        let Some(stream) = self.store.at(key).filter(|stream| stream.pending.reset.is_none()) else { return };
        let pieces = pieces.get(..count).unwrap_or_default();
        let mut taken = 0;
        if stream.direct && stream.queue.is_empty() {
            let len = pieces.iter().map(|piece| piece.len()).sum();
            taken = sink.take_run(key, pieces).min(len);
            stream.recv.consumed(taken);
            if taken > 0 {
                self.queue_credit(key);
            }
        }
        for piece in pieces {
            let passed = taken.min(piece.len());
            taken -= passed;
            self.keep(key, &piece[passed..]);
        }
    }

    /// Queues what the sink did not take.
    fn keep(&mut self, key: Key, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(stream) = self.store.at(key).filter(|stream| stream.pending.reset.is_none()) else { return };
            if stream.queue.is_empty() {
                stream.drained_at = self.turn;
                stream.pending.readable = true;
            }
            let pushed = stream.queue.push(&mut self.pool, bytes);
            bytes = &bytes[pushed..];
            self.queue_event(key);
            if !bytes.is_empty() && !self.relieve() {
                // Everything is held elsewhere.
                self.shortage.aborted = self.shortage.aborted.wrapping_add(1);
                self.abort(key, ErrorCode::ENHANCE_YOUR_CALM);
            }
        }
    }

    /// The memory budget is used up: aborts the stream that was not drained for the longest time. False when none holds
    /// anything.
    pub(super) fn relieve(&mut self) -> bool {
        let stalest = self
            .store
            .iter()
            .filter(|(_, stream)| !stream.queue.is_empty())
            .min_by_key(|(_, stream)| stream.drained_at)
            .map(|(key, _)| key);
        let Some(key) = stalest else { return false };
        self.shortage.aborted = self.shortage.aborted.wrapping_add(1);
        self.abort(key, ErrorCode::ENHANCE_YOUR_CALM);
        true
    }

    /// Aborts a stream because of what the peer did: RST to the peer, an event to the user.
    fn abort(&mut self, key: Key, code: ErrorCode) {
        self.queue_reset(key, code);
        self.fail_stream(key, code);
    }

    /// The stream is dead: drops what it holds and tells the user, who forgets it with the event.
    fn fail_stream(&mut self, key: Key, code: ErrorCode) {
        let Some(stream) = self.store.at(key) else { return };
        if stream.pending.opened {
            // The user never heard of it.
            self.remove(key);
            return;
        }
        stream.queue.clear(&mut self.pool);
        self.pool.release(std::mem::take(&mut stream.outbox).len());
        stream.outbox_sent = 0;
        stream.pending.readable = false;
        stream.pending.finished = false;
        stream.refused = None;
        stream.pending.reset.get_or_insert(code);
        self.queue_event(key);
    }

    pub(super) fn is_local(&self, id: u32) -> bool {
        let odd = id % 2 == 1;
        match self.side {
            Side::Agent => odd,
            Side::Gateway => !odd,
        }
    }
}

/// A peer's text for one line of a log.
fn printable(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(GO_AWAY_TEXT_KEPT)];
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
