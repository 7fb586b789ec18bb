//! The bookkeeping made visible, and its invariants checked: for tests.

use super::stream::Stream;
use super::{Key, Mux};
use crate::pool::BLOCK_LEN;

/// What the bookkeeping says about one stream.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct StreamAudit {
    /// The stream.
    pub key: Key,
    /// Its id; zero before its first frame was written.
    pub id: u32,
    /// Bytes that we may send.
    pub credit: usize,
    /// Bytes that the peer may send.
    pub allowance: usize,
    /// Bytes received and not consumed.
    pub unread: usize,
    /// Bytes consumed and not yet granted again.
    pub due: usize,
    /// What the peer may have sent and not got back.
    pub window: usize,
    /// What the window has grown by.
    pub growth: usize,
    /// Everything that the peer was granted, that is unread and that is due: the window, and more while it shrinks.
    pub promised: usize,
    /// Whether a grant would be right now.
    pub may_take_turn: bool,
    /// Its last turn carried a full frame: it stands in the line of transfers.
    pub is_heavy: bool,
    /// Whether the stream died and its user was not told yet.
    pub is_dead: bool,
}

impl Mux {
    /// Checks every invariant that holds between two calls and says what is known about each live stream.
    ///
    /// # Errors
    /// A sentence that names the broken invariant.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<Vec<StreamAudit>, String> {
        let blocks: usize = self.store.iter().map(|(_, stream)| stream.queue.blocks()).sum();
        if blocks != self.pool.blocks_used() {
            return Err(format!("streams hold {blocks} blocks, the pool counts {}", self.pool.blocks_used()));
        }
        let held = self.pool.used_bytes() + self.pool.spare_bytes();
        if held > self.limits.memory_max.max(BLOCK_LEN) && self.pool.spare_bytes() > 0 {
            return Err(format!("{held} bytes are held, spare ones among them, of {}", self.limits.memory_max));
        }
        let outboxes: usize = self.store.iter().map(|(_, stream)| stream.outbox.len()).sum();
        if outboxes != self.outboxes() {
            return Err(format!("outboxes hold {outboxes} bytes, the pool counts {}", self.outboxes()));
        }
        let grown: usize = self.store.iter().map(|(_, stream)| stream.recv.growth() as usize).sum();
        if grown != self.windows_grown() || grown > self.limits.memory_max {
            return Err(format!("windows have grown by {grown} bytes, {} are counted", self.windows_grown()));
        }
        let [light, heavy] = self.turns.lines();
        for (name, queue) in [
            ("events", &self.events),
            ("urgent", &self.urgent),
            ("credits", &self.credits),
            ("light turns", light),
            ("heavy turns", heavy),
        ] {
            for (at, key) in queue.iter().enumerate() {
                if self.store.peek(*key).is_none() {
                    return Err(format!("{name} holds {key:?}, which is stale"));
                }
                if queue.iter().take(at).any(|other| other == key) {
                    return Err(format!("{name} holds {key:?} twice"));
                }
            }
        }
        self.store.iter().map(|(key, stream)| self.audit_stream(key, stream)).collect()
    }

    fn audit_stream(&self, key: Key, stream: &Stream) -> Result<StreamAudit, String> {
        let queued = stream.queued;
        let stands = self.turns.lines().iter().filter(|line| line.contains(&key)).count();
        let pending = stream.pending;
        let has_event = pending.opened || pending.readable || pending.finished || pending.reset.is_some();
        let owes = pending.reset.is_none() && stream.recv.is_due(self.limits.credit_min);
        let rules = [
            ("is marked as queued for events, and is not", queued.event == self.events.contains(&key)),
            ("is marked as queued to send, and is not", queued.urgent == self.urgent.contains(&key)),
            ("is marked as queued for a turn, and is not", usize::from(queued.turn) == stands),
            ("is marked as queued for credit, and is not", queued.credit == self.credits.contains(&key)),
            ("has an event and is not queued", !has_event || queued.event),
            ("could send and is not queued", !stream.can_send_own() || queued.urgent),
            ("could take a turn and is not queued", !stream.can_take_turn() || queued.turn),
            ("owes credit and is not queued", !owes || queued.credit),
            ("is over and still there", !stream.is_over() || queued.event),
            ("is dead and holds bytes", pending.reset.is_none() || stream.queue.is_empty()),
            ("holds bytes and no block, or the reverse", stream.queue.is_empty() == (stream.queue.blocks() == 0)),
        ];
        if let Some((rule, _)) = rules.iter().find(|(_, holds)| !holds) {
            return Err(format!("stream {} {rule}: {stream:?}", stream.id));
        }
        Ok(StreamAudit {
            key,
            id: stream.id,
            credit: stream.send.credit(),
            allowance: usize::try_from(stream.recv.allowance()).unwrap_or(usize::MAX),
            unread: stream.queue.len(),
            due: usize::try_from(stream.recv.due()).unwrap_or(usize::MAX),
            window: usize::try_from(stream.recv.window()).unwrap_or(usize::MAX),
            growth: usize::try_from(stream.recv.growth()).unwrap_or(usize::MAX),
            promised: usize::try_from(stream.recv.promised()).unwrap_or(usize::MAX),
            may_take_turn: stream.can_take_turn(),
            is_heavy: stream.is_heavy,
            is_dead: pending.reset.is_some(),
        })
    }
}
