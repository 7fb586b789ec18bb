//! One end: a multiplexer, and a user who opens, writes, reads and aborts streams as chance has it.

use std::collections::BTreeMap;

use adit::frame::ErrorCode;
use adit::mux::limits::{FRAME_DATA_MAX, OUTBOX_MAX};
use adit::mux::{AbortStyle, Event, Grant, Key, Limits, Mux, Side, Sink, StreamAudit};

use super::fairness::Fairness;
use super::pattern::{self, TAG_LEN};
use super::pipe::Pipe;
use super::random::Random;
use super::world::Tally;

/// What both ends intend with one stream and how far it got; the tag is its place in the list of all.
pub(crate) struct Talk {
    /// The opener's direction, then the other.
    pub(crate) flows: [Flow; 2],
    /// A user reset it.
    pub(crate) aborted: bool,
    /// The abort begins with an end: some peers need that to wake up.
    pub(crate) end_before_reset: bool,
}

#[derive(Default)]
pub(crate) struct Flow {
    /// Bytes that its sender is going to send.
    pub(crate) plan: usize,
    /// Bytes that the multiplexer took.
    pub(crate) sent: usize,
    /// The sender ended it.
    pub(crate) finished: bool,
    /// Bytes that the receiver got.
    pub(crate) delivered: usize,
    /// The receiver was told that it ended.
    pub(crate) ended: bool,
}

/// This end's view of a stream.
struct Local {
    opener: bool,
    /// Known to the opener at once, to the other end after [`TAG_LEN`] bytes.
    tag: Option<usize>,
    head: Vec<u8>,
    /// Announced by an event and not found empty since.
    readable: bool,
    ended: bool,
    /// The user does not read for now.
    pub(crate) stalled: bool,
}

/// What chance decided for the whole run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) limits: Limits,
    pub(crate) abort_style: AbortStyle,
    /// Resets may happen that no user asked for: memory or streams are scarce, at either end.
    pub(crate) scarce: bool,
    /// The peer's aborts begin with an end, to wake some kinds of readers; the reset behind it tells.
    pub(crate) peer_wakes: bool,
}

pub(crate) struct End {
    pub(crate) mux: Mux,
    pub(crate) habits: Habits,
    pub(crate) audit: Vec<StreamAudit>,
    pub(crate) gone_away: bool,
    fairness: Fairness,
    streams: BTreeMap<Key, Local>,
    held: Option<Grant>,
    pub(crate) forget_want: bool,
    pub(crate) end_early: bool,
}

impl End {
    pub(crate) fn new(side: Side, habits: Habits) -> Self {
        let mut mux = Mux::new(side, habits.limits);
        mux.set_abort_style(habits.abort_style);
        Self {
            mux,
            habits,
            audit: Vec::new(),
            gone_away: false,
            fairness: Fairness::default(),
            streams: BTreeMap::new(),
            held: None,
            forget_want: false,
            end_early: false,
        }
    }

    /// Checks this end's bookkeeping.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.audit = self.mux.audit()?;
        self.audit.sort_by_key(|stream| stream.id);
        self.fairness.observe(&self.audit);
        if self.mux.memory_used() > self.habits.limits.memory_max {
            return Err(format!("{} bytes held", self.mux.memory_used()));
        }
        if self.mux.streams() > self.habits.limits.streams_max {
            return Err(format!("{} streams live", self.mux.streams()));
        }
        Ok(())
    }

    pub(crate) fn open(&mut self, random: &mut Random, talks: &mut Vec<Talk>, tally: &mut Tally) {
        let plan = |random: &mut Random| match random.below(20) {
            0..10 => random.below(100),
            10..16 => random.below(20_000),
            16..19 => random.below(300_000),
            _ => random.below(700_000),
        };
        let first =
            TAG_LEN + if random.chance(10) { random.below(FRAME_DATA_MAX - TAG_LEN + 1) } else { random.below(50) };
        let tag = talks.len();
        let Ok(key) = self.mux.open(&pattern::bytes(tag, true, 0, first)) else {
            tally.opens_refused += 1;
            return;
        };
        let there = Flow { plan: first + plan(random), sent: first, ..Flow::default() };
        let back = Flow { plan: plan(random), ..Flow::default() };
        talks.push(Talk { flows: [there, back], aborted: false, end_before_reset: false });
        self.streams.insert(key, Local::new(true, Some(tag)));
        tally.streams += 1;
    }

    /// One thing that a user does with one of its streams.
    pub(crate) fn act(
        &mut self,
        random: &mut Random,
        talks: &mut [Talk],
        resets: usize,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let keys: Vec<_> = self.streams.keys().copied().collect();
        let Some(key) = random.pick(&keys) else { return Ok(()) };
        let Some(local) = self.streams.get_mut(&key) else { return Ok(()) };
        match random.below(100) {
            0..45 if local.stalled => {}
            0..45 => self.read(key, random.size(200_000), talks)?,
            45..75 => self.write(key, random, talks),
            75..82 => local.stalled = !local.stalled,
            82..88 => self.mux.set_direct(key),
            _ if random.chance(resets) => self.abort(key, random, talks, tally),
            _ => {}
        }
        Ok(())
    }

    fn abort(&mut self, key: Key, random: &mut Random, talks: &mut [Talk], tally: &mut Tally) {
        // Who does not know the tag cannot tell the model.
        let Some(tag) = self.streams.get(&key).and_then(|local| local.tag) else { return };
        let end_first = random.chance(20);
        talks[tag].aborted = true;
        talks[tag].end_before_reset |= end_first || self.habits.abort_style == AbortStyle::WakeThenReset;
        self.streams.remove(&key);
        if end_first {
            self.mux.finish_and_reset(key, ErrorCode::STREAM_CANCELLED);
        } else {
            self.mux.reset(key, ErrorCode::STREAM_CANCELLED);
        }
        tally.resets += 1;
    }

    /// Sends some of what is left, by itself or by asking for turns; ends the direction when nothing is.
    fn write(&mut self, key: Key, random: &mut Random, talks: &mut [Talk]) {
        let Some((flow, tag, opener)) = self.outgoing(key, talks) else { return };
        let left = flow.plan - flow.sent;
        if self.forget_want && left > 0 {
            return;
        }
        if left == 0 || (self.end_early && flow.sent > 0) {
            if self.held.as_ref().is_none_or(|grant| grant.key != key) {
                flow.finished = !self.end_early;
                self.mux.finish(key);
            }
        } else if random.chance(25) && self.held.is_none() {
            let len = left.min(random.size(OUTBOX_MAX));
            if self.mux.send(key, &pattern::bytes(tag, opener, flow.sent, len)).is_ok() {
                flow.sent += len;
            }
        } else {
            self.mux.want_send(key);
        }
    }

    fn outgoing<'a>(&self, key: Key, talks: &'a mut [Talk]) -> Option<(&'a mut Flow, usize, bool)> {
        let local = self.streams.get(&key)?;
        let tag = local.tag?;
        Some((&mut talks[tag].flows[usize::from(!local.opener)], tag, local.opener))
    }

    /// Reads up to `len` bytes of a stream that an event called readable.
    fn read(&mut self, key: Key, len: usize, talks: &mut [Talk]) -> Result<(), String> {
        let Some(local) = self.streams.get_mut(&key).filter(|local| local.readable) else { return Ok(()) };
        let mut left = len;
        while left > 0 {
            let chunk = self.mux.chunk(key);
            if chunk.is_empty() {
                local.readable = false;
                break;
            }
            let n = chunk.len().min(left);
            local.take(&chunk[..n], talks)?;
            self.mux.consume(key, n);
            left -= n;
        }
        Ok(())
    }

    /// Writes to the link what a driver would, within `room` bytes.
    pub(crate) fn transmit(
        &mut self,
        pipe: &mut Pipe,
        random: &mut Random,
        talks: &mut [Talk],
        room: usize,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut out = Vec::new();
        self.mux.poll_transmit(&mut out, room);
        if out.len() > room {
            return Err(format!("{} bytes in a room of {room}", out.len()));
        }
        pipe.write(&out)?;
        self.check()?;
        let mut left = room - out.len();
        if let Some(grant) = self.held.take() {
            self.fill(grant, pipe, random, talks)?;
        }
        while left >= FRAME_DATA_MAX + adit::frame::HEADER_LEN {
            let Some(grant) = self.mux.poll_grant() else { break };
            self.fairness.on_grant(grant.key)?;
            tally.grants += 1;
            if random.chance(3) {
                self.held = Some(grant);
                break;
            }
            left -= self.fill(grant, pipe, random, talks)?;
        }
        Ok(())
    }

    /// Uses a grant, or gives it back if there is nothing to send. Returns the bytes written.
    fn fill(
        &mut self,
        grant: Grant,
        pipe: &mut Pipe,
        random: &mut Random,
        talks: &mut [Talk],
    ) -> Result<usize, String> {
        let key = grant.key;
        let outgoing = self.outgoing(key, talks).filter(|(flow, ..)| flow.plan > flow.sent);
        let Some((flow, tag, opener)) = outgoing else {
            self.mux.release(grant);
            self.check()?;
            return Ok(0);
        };
        let most = grant.max.min(flow.plan - flow.sent);
        let len = if random.chance(50) { most } else { random.size(most).min(most) };
        let mut written = 0;
        if let Some(header) = self.mux.commit(grant, len) {
            let body = pattern::bytes(tag, opener, flow.sent, len);
            flow.sent += len;
            self.fairness.on_sent(len);
            written = header.len() + len;
            pipe.write(&[&header[..], &body].concat())?;
        }
        self.check()?;
        Ok(written)
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], random: &mut Random, talks: &mut [Talk]) -> Result<(), String> {
        let mut sink = Direct { streams: &mut self.streams, talks, random, result: Ok(()) };
        let result = self.mux.recv(bytes, &mut sink);
        sink.result?;
        result.map_err(|error| format!("one end blames the other: {error}"))?;
        self.check()
    }

    pub(crate) fn events(&mut self, talks: &mut [Talk], tally: &mut Tally) -> Result<(), String> {
        while let Some(event) = self.mux.poll_event() {
            if self.gone_away {
                return Err(format!("an event after GOAWAY: {event:?}"));
            }
            match event {
                Event::Opened(key) => {
                    if self.streams.insert(key, Local::new(false, None)).is_some() {
                        return Err(format!("{key:?} opened twice"));
                    }
                }
                Event::Readable(key) => self.local(key)?.readable = true,
                Event::Finished(key) => self.on_finished(key, talks, tally)?,
                Event::Reset(key, code) => self.on_reset(key, code, talks, tally)?,
                Event::GoAway(..) => self.gone_away = true,
            }
        }
        self.forget_over(talks)
    }

    fn local(&mut self, key: Key) -> Result<&mut Local, String> {
        self.streams.get_mut(&key).ok_or_else(|| format!("an event of {key:?}, which its user does not have"))
    }

    fn on_finished(&mut self, key: Key, talks: &mut [Talk], tally: &mut Tally) -> Result<(), String> {
        let unread = self.mux.queue(key).map_or(0, adit::pool::BlockQueue::len);
        let end_may_lie = self.end_may_lie();
        let local = self.local(key)?;
        if std::mem::replace(&mut local.ended, true) {
            return Err(format!("{key:?} ended twice"));
        }
        let Some(tag) = local.tag else {
            // Too few bytes were read to know more.
            return Ok(());
        };
        let talk = &mut talks[tag];
        let flow = &mut talk.flows[usize::from(local.opener)];
        let whole = flow.finished && flow.delivered + unread == flow.sent;
        if !whole && !talk.end_before_reset && !end_may_lie {
            return Err(format!("{key:?} ended without all of its bytes"));
        }
        flow.ended = true;
        tally.ends += 1;
        Ok(())
    }

    fn on_reset(&mut self, key: Key, code: ErrorCode, talks: &mut [Talk], tally: &mut Tally) -> Result<(), String> {
        let Some(local) = self.streams.remove(&key) else {
            return Err(format!("reset of {key:?}, which its user does not have"));
        };
        if self.mux.queue(key).is_some() {
            return Err(format!("{key:?} was reset and is not stale"));
        }
        let aborted = local.tag.is_none_or(|tag| std::mem::replace(&mut talks[tag].aborted, true));
        if aborted && local.ended {
            tally.resets_after_end += 1;
        }
        if !aborted && !self.habits.scarce {
            return Err(format!("{key:?} was reset ({code}) and nobody asked for it"));
        }
        tally.resets_seen += 1;
        Ok(())
    }

    /// Streams leave the multiplexer only when both directions ended and everything was read, or with an event.
    fn forget_over(&mut self, talks: &mut [Talk]) -> Result<(), String> {
        for (key, local) in &self.streams {
            if self.mux.queue(*key).is_some() {
                continue;
            }
            let sent = local.tag.is_some_and(|tag| talks[tag].flows[usize::from(!local.opener)].finished);
            if !(local.ended && sent || self.end_early) {
                return Err(format!("{key:?} vanished"));
            }
        }
        self.streams.retain(|key, _| self.mux.queue(*key).is_some());
        Ok(())
    }

    /// After a cut: whoever was not told of an end must not take the stream for ended.
    pub(crate) fn check_cut(&self, talks: &[Talk]) -> Result<(), String> {
        for (key, local) in &self.streams {
            let Some(tag) = local.tag else { continue };
            let flow = &talks[tag].flows[usize::from(local.opener)];
            let whole = flow.finished && flow.delivered == flow.sent;
            if self.mux.is_finished(*key) && !whole && !talks[tag].end_before_reset && !self.end_may_lie() {
                return Err(format!("the cut made a clean end of {key:?}"));
            }
        }
        Ok(())
    }

    /// Reads everything and ends or sends what is left.
    pub(crate) fn wind_up(&mut self, random: &mut Random, talks: &mut [Talk]) -> Result<(), String> {
        let keys: Vec<_> = self.streams.keys().copied().collect();
        for key in keys {
            self.read(key, usize::MAX, talks)?;
            self.write(key, random, talks);
            self.check()?;
        }
        Ok(())
    }

    /// The peer may abort streams by itself, and its aborts begin with an end.
    pub(crate) fn end_may_lie(&self) -> bool {
        self.habits.scarce && self.habits.peer_wakes
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.mux.streams() == 0
    }
}

impl Local {
    fn new(opener: bool, tag: Option<usize>) -> Self {
        Self { opener, tag, head: Vec::new(), readable: false, ended: false, stalled: false }
    }

    /// Compares what arrived with what was sent.
    fn take(&mut self, mut bytes: &[u8], talks: &mut [Talk]) -> Result<(), String> {
        if !self.opener && self.head.len() < TAG_LEN {
            let (head, rest) = bytes.split_at(bytes.len().min(TAG_LEN - self.head.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            let Some(head) = self.head.first_chunk() else { return Ok(()) };
            let tag = u32::from_be_bytes(*head) as usize;
            let talk = talks.get_mut(tag).ok_or("a stream carries other bytes than were sent: its tag")?;
            talk.flows[0].delivered = TAG_LEN;
            self.tag = Some(tag);
        }
        let Some(tag) = self.tag else { return Ok(()) };
        let flow = &mut talks[tag].flows[usize::from(self.opener)];
        if flow.delivered + bytes.len() > flow.sent {
            return Err(format!("stream {tag} carries more bytes than were sent"));
        }
        if !pattern::matches(tag, !self.opener, flow.delivered, bytes) {
            return Err(format!("stream {tag} carries other bytes than were sent"));
        }
        flow.delivered += bytes.len();
        Ok(())
    }
}

/// Takes a random part of what is offered past the queue.
struct Direct<'a> {
    streams: &'a mut BTreeMap<Key, Local>,
    talks: &'a mut [Talk],
    random: &'a mut Random,
    result: Result<(), String>,
}

impl Sink for Direct<'_> {
    fn take(&mut self, key: Key, bytes: &[u8]) -> usize {
        let Some(local) = self.streams.get_mut(&key) else { return 0 };
        if local.stalled {
            return 0;
        }
        let n = if self.random.chance(70) { bytes.len() } else { self.random.below(bytes.len() + 1) };
        if self.result.is_ok() {
            self.result = local.take(&bytes[..n], self.talks);
        }
        n
    }
}
