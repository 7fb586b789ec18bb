//! What goes out, and in which order: resets, credit, frames of our own, then grants in turn.

use super::limits::{FRAME_DATA_MAX, RESETS_MAX, WITHHOLD_PERCENT};
use super::turns::Turn;
use super::{AbortStyle, Grant, Key, Mux};
use crate::frame::{self, DataFlag, ErrorCode, HEADER_LEN};

/// A reset that waits for room in the link.
#[derive(Debug)]
pub(super) struct PendingReset {
    id: u32,
    code: ErrorCode,
    fin_first: bool,
    wake: bool,
}

impl PendingReset {
    fn wire_len(&self) -> usize {
        let fin = if self.fin_first { HEADER_LEN } else { 0 };
        let wake = if self.wake { WORD_FRAME_LEN } else { 0 };
        fin + WORD_FRAME_LEN + wake
    }
}

/// Our GOAWAY.
#[derive(Debug)]
pub(super) enum GoAway {
    None,
    Due { code: ErrorCode, text: String },
    Sent,
}

impl Mux {
    /// Appends whole frames to `out`, at most `room` bytes: resets, credit, then calls and beats in turn. Poll it
    /// again after any other call. A `room` of two frames ([`FRAME_DATA_MAX`]) or more lets everything through.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, room: usize) {
        let end = out.len().saturating_add(room);
        match &self.go_away {
            GoAway::None => {}
            GoAway::Sent => return,
            GoAway::Due { code, text } => {
                let frame = frame::go_away(self.last_remote_id, *code, text);
                if frame.len() <= room {
                    out.extend_from_slice(&frame);
                    self.go_away = GoAway::Sent;
                }
                return;
            }
        }
        self.write_resets(out, end);
        self.write_credits(out, end);
        self.write_own(out, end);
    }

    /// Whether [`Mux::poll_transmit`] may have something to write.
    pub fn has_control(&self) -> bool {
        let is_going_away = matches!(self.go_away, GoAway::Due { .. });
        is_going_away || !(self.resets.is_empty() && self.credits.is_empty() && self.urgent.is_empty())
    }

    /// Whose turn it is, if anybody's. Ask only after [`Mux::poll_transmit`] had room for everything, so that control
    /// goes before data.
    pub fn poll_grant(&mut self) -> Option<Grant> {
        if self.is_ending() {
            return None;
        }
        while let Some(Turn { key, burst }) = self.turns.pop() {
            let Some(stream) = self.store.at(key) else { continue };
            stream.queued.turn = false;
            if stream.can_take_turn() {
                stream.granted = true;
                let credit = stream.send.credit();
                return Some(Grant { key, max: credit.min(FRAME_DATA_MAX), burst: credit.min(burst) });
            }
        }
        None
    }

    /// The header of the DATA frame that carries the `len` bytes (at least one, at most `grant.max`) read under this
    /// grant. The stream stands at the end of its line again. `None` if the stream or the link died meanwhile, or the
    /// credit went to bytes that were queued in between: drop the bytes.
    #[must_use]
    pub fn commit(&mut self, grant: Grant, len: usize) -> Option<[u8; HEADER_LEN]> {
        debug_assert!(len > 0 && len <= grant.max);
        let id = self.spend(&grant, len)?;
        Some(frame::data_header(id, len, DataFlag::None))
    }

    /// The same for up to `grant.burst` bytes: the headers of the frames that carry them, all but the last with
    /// [`FRAME_DATA_MAX`] bytes.
    #[must_use]
    pub fn commit_burst(&mut self, grant: Grant, len: usize) -> Option<impl Iterator<Item = [u8; HEADER_LEN]> + use<>> {
        debug_assert!(len > 0 && len <= grant.burst);
        let id = self.spend(&grant, len)?;
        let starts = (0..len).step_by(FRAME_DATA_MAX);
        Some(starts.map(move |start| frame::data_header(id, (len - start).min(FRAME_DATA_MAX), DataFlag::None)))
    }

    /// Takes `len` bytes off the stream's credit; its id, if they may be sent.
    fn spend(&mut self, grant: &Grant, len: usize) -> Option<u32> {
        let ending = self.is_ending();
        let stream = self.store.at(grant.key)?;
        stream.granted = false;
        let allowed = !ending && stream.may_send() && len <= stream.send.credit();
        let id = allowed.then(|| {
            stream.send.spend(len);
            let was_heavy = stream.is_heavy;
            // A turn that was cut short by credit or room says nothing of what there was.
            let was_cut = len == grant.burst && (was_heavy || len >= FRAME_DATA_MAX / 2);
            stream.is_heavy = len >= FRAME_DATA_MAX || was_cut;
            self.turns.sent(was_heavy, len);
            stream.id
        });
        self.queue_turn(grant.key);
        id
    }

    /// The source had nothing: the stream gets no turn until [`Mux::want_send`].
    pub fn release(&mut self, grant: Grant) {
        if let Some(stream) = self.store.at(grant.key) {
            stream.granted = false;
            stream.wants_send = false;
        }
    }

    fn write_resets(&mut self, out: &mut Vec<u8>, end: usize) {
        while let Some(reset) = self.resets.front() {
            if out.len() + reset.wire_len() > end {
                return;
            }
            if reset.fin_first {
                out.extend_from_slice(&frame::data_header(reset.id, 0, DataFlag::Fin));
            }
            out.extend_from_slice(&frame::reset(reset.id, reset.code));
            if reset.wake {
                out.extend_from_slice(&frame::credit(reset.id, 1));
            }
            self.resets.pop_front();
        }
    }

    /// While memory is short, a stream that holds bytes waits with its credit. One that holds none gets it: streams
    /// that nobody drains must not stop those that flow.
    fn write_credits(&mut self, out: &mut Vec<u8>, end: usize) {
        let short = self.pool.used_percent() >= WITHHOLD_PERCENT;
        for _ in 0..self.credits.len() {
            if out.len() + WORD_FRAME_LEN > end {
                return;
            }
            let Some(key) = self.credits.pop_front() else { return };
            let Some(stream) = self.store.at(key) else { continue };
            if short && !stream.queue.is_empty() {
                self.credits.push_back(key);
                continue;
            }
            stream.queued.credit = false;
            if stream.pending.reset.is_none() && stream.recv.due() > 0 {
                out.extend_from_slice(&frame::credit(stream.id, stream.recv.grant_due()));
            }
        }
    }

    fn write_own(&mut self, out: &mut Vec<u8>, end: usize) {
        while let Some(key) = self.urgent.pop_front() {
            let room = end.saturating_sub(out.len());
            if !self.write_own_frame(key, out, room) {
                self.urgent.push_front(key);
                return;
            }
            let Some(stream) = self.store.at(key) else { continue };
            stream.queued.urgent = false;
            self.queue_urgent(key);
            self.queue_turn(key);
            self.remove_if_over(key);
        }
    }

    /// Writes one frame of the stream's own bytes; false when `room` is too small for one.
    fn write_own_frame(&mut self, key: Key, out: &mut Vec<u8>, room: usize) -> bool {
        let next_id = self.next_local_id;
        let Some(stream) = self.store.at(key).filter(|stream| stream.can_send_own()) else { return true };
        let announced = stream.is_announced();
        let wanted = if announced { stream.outbox_left() } else { stream.first_len };
        let len = wanted.min(stream.send.credit()).min(FRAME_DATA_MAX).min(room.saturating_sub(HEADER_LEN));
        if room < HEADER_LEN || (len == 0 && wanted > 0) || (!announced && len < wanted) {
            return false;
        }
        if !announced {
            self.store.announce(key, next_id);
            self.next_local_id = next_id.saturating_add(2);
        }
        let Some(stream) = self.store.at(key) else { return true };
        let last = announced && stream.fin_due && len == stream.outbox_left();
        let flag = match (announced, last) {
            (false, _) => DataFlag::Syn,
            (true, true) => DataFlag::Fin,
            (true, false) => DataFlag::None,
        };
        let from = stream.outbox_sent;
        out.extend_from_slice(&frame::data_header(stream.id, len, flag));
        out.extend_from_slice(&stream.outbox[from..from + len]);
        stream.send.spend(len);
        stream.outbox_sent += len;
        stream.fin_sent |= last;
        if stream.outbox_left() == 0 {
            self.pool.release(std::mem::take(&mut stream.outbox).len());
            stream.outbox_sent = 0;
        }
        true
    }

    pub(super) fn queue_urgent(&mut self, key: Key) {
        let Some(stream) = self.store.at(key) else { return };
        if stream.can_send_own() && !std::mem::replace(&mut stream.queued.urgent, true) {
            self.urgent.push_back(key);
        }
    }

    pub(super) fn queue_turn(&mut self, key: Key) {
        let Some(stream) = self.store.at(key) else { return };
        if stream.can_take_turn() && !std::mem::replace(&mut stream.queued.turn, true) {
            self.turns.push(key, stream.is_heavy);
        }
    }

    pub(super) fn queue_credit(&mut self, key: Key) {
        let credit_min = self.limits.credit_min;
        let Some(stream) = self.store.at(key) else { return };
        if stream.recv.is_due(credit_min) && !std::mem::replace(&mut stream.queued.credit, true) {
            self.credits.push_back(key);
        }
    }

    /// Queues the frames that abort a live stream. One that was never announced, or is over in both directions, needs
    /// none.
    pub(super) fn queue_reset(&mut self, key: Key, code: ErrorCode) {
        let wake = self.abort_style == AbortStyle::WakeThenReset;
        self.queue_abort(key, code, wake, wake);
    }

    /// Queues the frames that end our direction and then abort the stream.
    pub(super) fn queue_reset_after_fin(&mut self, key: Key, code: ErrorCode) {
        self.queue_abort(key, code, true, self.abort_style == AbortStyle::WakeThenReset);
    }

    fn queue_abort(&mut self, key: Key, code: ErrorCode, fin: bool, wake: bool) {
        let Some(stream) = self.store.at(key) else { return };
        let over = stream.fin_received && (stream.fin_sent || stream.refused.is_some());
        if !stream.is_announced() || over || stream.pending.reset.is_some() {
            return;
        }
        let reset = PendingReset { id: stream.id, code, fin_first: fin && !stream.fin_sent, wake };
        self.push_reset(reset);
    }

    /// Queues the frames that refuse a stream the peer has just opened.
    pub(super) fn queue_refusal(&mut self, id: u32, code: ErrorCode) {
        let wake = self.abort_style == AbortStyle::WakeThenReset;
        self.push_reset(PendingReset { id, code, fin_first: wake, wake });
    }

    /// Queues a RST for an id that has no live stream.
    pub(super) fn queue_bare_reset(&mut self, id: u32, code: ErrorCode) {
        self.push_reset(PendingReset { id, code, fin_first: false, wake: false });
    }

    fn push_reset(&mut self, reset: PendingReset) {
        self.recent.add(reset.id);
        if self.resets.len() >= self.limits.streams_max.saturating_add(RESETS_MAX) {
            self.resets_overflowed = true;
            return;
        }
        self.resets.push_back(reset);
    }
}

/// Length of a whole RST or WNDINC frame in bytes.
const WORD_FRAME_LEN: usize = HEADER_LEN + 4;
